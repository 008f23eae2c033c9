//! `renkei pki`: the development PKI, and any certificate judged as the gateway would.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::{Clock, SystemClock};
use crate::pki::dev::{DevPki, IssueRequest, KeyAlgorithm, Kind, Layout, Variant};
use crate::pki::{
    Certified, Description, Explanation, Outcome, Profiles, TrustOptions, TrustStore, Usage,
    describe, explain, japanese, read_certificates,
};

const INIT_HELP: &str = "Examples:
  renkei pki init
  renkei pki init --dir /tmp/region-a
  renkei pki init --dir /tmp/stranger --foreign   # for certificates that are to be refused

The keys of both CAs lie in the folder in the clear. DEVELOPMENT ONLY: its certificates carry test
policy OIDs, which the production profiles never accept.";

const ISSUE_HELP: &str = "Examples:
  renkei pki issue --kind gateway --name hub --cn 'Hub' --dns localhost --ip 127.0.0.1
  renkei pki issue --kind institution --name hospital-a --cn 'Hospital A' --code 1312345678 \\
      --org 'Hospital A' --org-ja 甲病院
  renkei pki issue --kind person --name dr-yamada --cn 'Taro Yamada' --cn-ja '山田　太郎' \\
      --role 'Medical Doctor'
  renkei pki issue --kind institution --name bad --cn 'Bad' --variant signing-only";

const CHECK_HELP: &str = "Examples:
  renkei pki check certs-dev/names/hub.cert.pem --usage server --trust certs-dev
  renkei pki check card.pem --usage person --profiles hpki \\
      --root mhlw-root.pem --ca medis-auth.pem --crl sarl.crl --crl crl-auth2.crl

Exit status 0 only if the certificate is accepted.";

/// Arguments of `renkei pki`.
#[derive(Debug, clap::Args)]
pub struct PkiArgs {
    #[command(subcommand)]
    command: PkiCommand,
}

/// What `renkei pki` can do.
#[derive(Debug, clap::Subcommand)]
pub enum PkiCommand {
    /// Make a development PKI: root, issuing CA, revocation lists
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Issue a certificate of the development PKI
    #[command(after_help = ISSUE_HELP)]
    Issue(IssueArgs),
    /// Revoke a certificate of the development PKI and renew its revocation list
    #[command(after_help = "Example:\n  renkei pki revoke hospital-a")]
    Revoke(RevokeArgs),
    /// Renew the revocation lists of the development PKI, which live 96 hours
    #[command(after_help = "Example:\n  renkei pki refresh --dir certs-dev")]
    Refresh(RefreshArgs),
    /// Show what a certificate says: subject, policy, hcRole, pin
    #[command(after_help = "Example:\n  renkei pki show certs-dev/names/hub.cert.pem")]
    Show(ShowArgs),
    /// Judge a certificate as the gateway would, and explain the verdict rule by rule
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
}

/// Arguments of `pki init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    dir: PathBuf,
    /// Give its CAs other names, for certificates that are to be refused
    #[arg(long)]
    foreign: bool,
}

/// Arguments of `pki issue`.
#[derive(Debug, clap::Args)]
pub struct IssueArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    dir: PathBuf,
    /// What the certificate is for
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::NAMES).try_map(|name| name.parse::<Kind>()))]
    kind: Kind,
    /// File name, without ending
    #[arg(long)]
    name: String,
    /// Common name: a system's name, or a person's in romaji
    #[arg(long)]
    cn: String,
    /// A person's name in Japanese
    #[arg(long)]
    cn_ja: Option<String>,
    /// 10-digit institution code (医療機関コード)
    #[arg(long)]
    code: Option<String>,
    /// Institution's name in romaji
    #[arg(long)]
    org: Option<String>,
    /// Institution's name in Japanese
    #[arg(long)]
    org_ja: Option<String>,
    /// DNS name of a gateway; may be repeated
    #[arg(long)]
    dns: Vec<String>,
    /// IP address of a gateway; may be repeated
    #[arg(long)]
    ip: Vec<IpAddr>,
    /// hcRole, such as 'Medical Doctor'
    #[arg(long)]
    role: Option<String>,
    /// Days of validity
    #[arg(long)]
    days: Option<i64>,
    /// What is to be wrong with it
    #[arg(long, default_value = "ok", value_parser = PossibleValuesParser::new(Variant::NAMES).try_map(|name| name.parse::<Variant>()))]
    variant: Variant,
    /// Kind of key
    #[arg(long, default_value = "p256", value_parser = PossibleValuesParser::new(KeyAlgorithm::NAMES).try_map(|name| name.parse::<KeyAlgorithm>()))]
    key: KeyAlgorithm,
}

/// Arguments of `pki revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Name or hexadecimal serial number
    certificate: String,
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    dir: PathBuf,
}

/// Arguments of `pki refresh`.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    /// Folder of the PKI
    #[arg(long, default_value = "certs-dev")]
    dir: PathBuf,
}

/// Arguments of `pki show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Certificate or chain, PEM or DER
    file: PathBuf,
}

/// Arguments of `pki check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Certificate, or chain with it first; PEM or DER
    certificate: PathBuf,
    /// More certificates that the peer would present
    #[arg(long)]
    chain: Vec<PathBuf>,
    /// Revocation list, or folder of them; may be repeated
    #[arg(long)]
    crl: Vec<PathBuf>,
    /// Folder of a development PKI to trust
    #[arg(long, conflicts_with = "root")]
    trust: Option<PathBuf>,
    /// Root certificate to trust; may be repeated
    #[arg(long)]
    root: Vec<PathBuf>,
    /// CA certificate below the root, whose revocation lists are given; may be repeated
    #[arg(long)]
    ca: Vec<PathBuf>,
    /// What the certificate is presented for
    #[arg(long, default_value = "institution", value_parser = PossibleValuesParser::new(["institution", "server", "person"]).map(|name| usage(&name)))]
    usage: Usage,
    /// Set of profiles
    #[arg(long, default_value = "test", value_parser = ["test", "hpki"])]
    profiles: String,
    /// Hours past nextUpdate for which a revocation list still serves
    #[arg(long, default_value_t = 0)]
    grace_hours: u32,
    /// Judge at this time (RFC 3339) instead of now
    #[arg(long)]
    at: Option<Timestamp>,
}

fn usage(name: &str) -> Usage {
    match name {
        "server" => Usage::Server,
        "person" => Usage::Person,
        _ => Usage::Institution,
    }
}

/// Runs `renkei pki`.
///
/// # Errors
/// What went wrong, for the operator; also if `check` refuses the certificate.
pub fn run(args: PkiArgs, json: bool) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match args.command {
        PkiCommand::Init(args) => init(&args, clock, json),
        PkiCommand::Issue(args) => issue(args, clock, json),
        PkiCommand::Revoke(args) => revoke(&args, clock, json),
        PkiCommand::Refresh(args) => refresh(&args, clock, json),
        PkiCommand::Show(args) => show(&args, json),
        PkiCommand::Check(args) => check(&args, clock.now(), json),
    }
}

fn print(json: bool, object: &Value, lines: &[String]) {
    if json {
        println!("{object}");
    } else {
        lines.iter().for_each(|line| println!("{line}"));
    }
}

fn init(args: &InitArgs, clock: Arc<dyn Clock>, json: bool) -> anyhow::Result<()> {
    DevPki::create(&args.dir, clock, args.foreign)?;
    let layout = Layout::of(&args.dir);
    let object = json!({
        "root": layout.root, "issuing": layout.issuing, "crls": layout.crls,
        "names": layout.names, "foreign": args.foreign,
    });
    let lines = [
        format!("made a development PKI in {}", args.dir.display()),
        format!("  root              {}", layout.root.display()),
        format!("  issuing CA        {}", layout.issuing.display()),
        format!("  revocation lists  {}", layout.crls.display()),
        "DEVELOPMENT ONLY: the CA keys lie there in the clear; trust it nowhere else.".to_owned(),
        format!(
            "next: renkei pki issue --dir {} --kind gateway --name hub --cn Hub --dns localhost",
            args.dir.display()
        ),
    ];
    print(json, &object, &lines);
    Ok(())
}

fn issue(args: IssueArgs, clock: Arc<dyn Clock>, json: bool) -> anyhow::Result<()> {
    let mut pki = DevPki::open(&args.dir, clock)?;
    let request = IssueRequest {
        name: args.name,
        kind: args.kind,
        common_name: args.cn,
        common_name_japanese: args.cn_ja,
        institution_code: args.code,
        organisation: args.org,
        organisation_japanese: args.org_ja,
        dns_names: args.dns,
        ips: args.ip,
        role: args.role,
        validity_days: args.days,
        variant: args.variant,
        key: args.key,
    };
    let issued = pki.issue(&request)?;
    let pin = issued.identity()?.pin().to_string();
    let (certificate, key) = issued.files.as_ref().context("the PKI is not on disk")?;
    let object = json!({
        "name": issued.name, "serial": issued.serial, "pin": pin,
        "certificate": certificate, "key": key, "variant": args.variant.name(),
    });
    let lines = [
        format!("issued {} (serial {})", issued.name, issued.serial),
        format!("  certificate  {}", certificate.display()),
        format!("  key          {}", key.display()),
        format!("  pin          {pin}"),
    ];
    print(json, &object, &lines);
    Ok(())
}

fn revoke(args: &RevokeArgs, clock: Arc<dyn Clock>, json: bool) -> anyhow::Result<()> {
    let record = DevPki::open(&args.dir, clock)?.revoke(&args.certificate)?;
    let revoked_at = record.revoked_at.unwrap_or_default();
    let object = json!({
        "name": record.name, "serial": format!("{:02x}", record.serial), "revoked_at": revoked_at,
    });
    let line = format!(
        "revoked {} (serial {:02x}) at {revoked_at}",
        record.name, record.serial
    );
    print(json, &object, &[line]);
    Ok(())
}

fn refresh(args: &RefreshArgs, clock: Arc<dyn Clock>, json: bool) -> anyhow::Result<()> {
    DevPki::open(&args.dir, clock)?.refresh()?;
    let store = Layout::of(&args.dir).trust_store(TrustOptions::default())?;
    let status = store.crl_status();
    let lists: Vec<Value> = status
        .iter()
        .map(|list| {
            json!({
                "issuer": list.issuer, "number": list.number,
                "next_update": list.next_update.to_string(), "revoked": list.revoked,
            })
        })
        .collect();
    let lines: Vec<String> = status
        .iter()
        .map(|list| {
            let (number, next) = (&list.number, list.next_update);
            format!(
                "list {number} of {}: {} revoked, next due {next}",
                list.issuer, list.revoked
            )
        })
        .collect();
    print(json, &json!({ "lists": lists }), &lines);
    Ok(())
}

fn show(args: &ShowArgs, json: bool) -> anyhow::Result<()> {
    let profiles = Profiles::hpki()?;
    let mut objects = Vec::new();
    let mut lines = Vec::new();
    for der in read_certificates(&args.file)? {
        let said = describe(&der, &profiles)
            .with_context(|| format!("{} is not readable", args.file.display()))?;
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(description_lines(&said));
        objects.push(description_json(&said));
    }
    print(json, &json!({ "certificates": objects }), &lines);
    Ok(())
}

fn description_lines(said: &Description) -> Vec<String> {
    let roles = said.roles.iter().map(|(name, japanese)| match japanese {
        Some(japanese) => format!("{name} ({japanese})"),
        None => format!("{name} (not in the role table)"),
    });
    let roles: Vec<String> = roles.chain(said.role_problem.clone()).collect();
    let kind = if said.authority { "CA" } else { "end entity" };
    let rows = [
        ("kind", kind.to_owned()),
        ("subject", said.subject.clone()),
        ("also named", said.directory_names.join("; ")),
        ("issuer", said.issuer.clone()),
        ("serial", said.serial.clone()),
        (
            "valid",
            format!("{} to {}", said.not_before, said.not_after),
        ),
        ("key", said.key.clone()),
        ("signed with", said.signature_algorithm.clone()),
        ("pin", said.pin.to_string()),
        ("fingerprint", said.fingerprint.clone()),
        ("policy", said.policies.join(", ")),
        ("hcRole", roles.join(", ")),
        ("keyUsage", said.key_usage.join(", ")),
        ("extKeyUsage", said.extended_key_usage.join(", ")),
        ("server names", said.server_names.join(", ")),
        ("CRL at", said.distribution_points.join(", ")),
        ("critical", said.critical.join(", ")),
    ];
    let shown = rows.into_iter().filter(|(_, value)| !value.is_empty());
    shown
        .map(|(label, value)| format!("{label:<13} {value}"))
        .collect()
}

fn description_json(said: &Description) -> Value {
    let roles: Vec<Value> = said
        .roles
        .iter()
        .map(|(name, japanese)| json!({ "name": name, "japanese": japanese }))
        .collect();
    json!({
        "subject": said.subject, "directory_names": said.directory_names,
        "issuer": said.issuer, "serial": said.serial,
        "not_before": said.not_before.to_string(), "not_after": said.not_after.to_string(),
        "key": said.key, "signature_algorithm": said.signature_algorithm,
        "pin": said.pin.to_string(), "fingerprint": said.fingerprint,
        "authority": said.authority, "key_usage": said.key_usage,
        "extended_key_usage": said.extended_key_usage, "policies": said.policies,
        "roles": roles, "role_problem": said.role_problem,
        "server_names": said.server_names, "distribution_points": said.distribution_points,
        "critical": said.critical,
    })
}

fn trust_store(args: &CheckArgs) -> anyhow::Result<TrustStore> {
    let grace = Duration::from_hours(u64::from(args.grace_hours));
    let options = TrustOptions { crl_grace: grace };
    let (mut roots, mut authorities, mut lists) =
        (args.root.clone(), args.ca.clone(), args.crl.clone());
    if let Some(folder) = args
        .trust
        .as_deref()
        .or(args.root.is_empty().then_some(Path::new("certs-dev")))
    {
        let layout = Layout::of(folder);
        roots.push(layout.root);
        authorities.push(layout.issuing);
        if lists.is_empty() {
            lists.push(layout.crls);
        }
    }
    let profiles = Profiles::embedded(&args.profiles)?;
    Ok(TrustStore::load(
        &roots,
        &authorities,
        &lists,
        profiles,
        options,
    )?)
}

fn check(args: &CheckArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut chain = read_certificates(&args.certificate)?;
    for file in &args.chain {
        chain.extend(read_certificates(file)?);
    }
    let store = trust_store(args)?;
    let now = args.at.unwrap_or(now);
    let explanation = explain(&chain, &store, args.usage, now);
    print(
        json,
        &explanation_json(&explanation, args.usage, now),
        &explanation_lines(&explanation),
    );
    match explanation.verdict {
        Ok(_) => Ok(()),
        Err(refusal) => bail!("refused as {} ({}): {refusal}", args.usage, refusal.rule()),
    }
}

fn explanation_lines(explanation: &Explanation) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &explanation.steps {
        let mark = match &step.outcome {
            Outcome::Kept => "ok  ",
            Outcome::Violated(_) => "FAIL",
            Outcome::NotReached => "-   ",
        };
        lines.push(format!("{mark}  {:<20} {}", step.name, step.english));
        lines.push(format!("{:26} {}", "", step.japanese));
        if let Outcome::Violated(refusal) = &step.outcome {
            lines.push(format!("{:26} -> {refusal} [{}]", "", refusal.rule()));
            lines.push(format!("{:26} -> {}", "", japanese(refusal)));
        }
    }
    lines.push(String::new());
    match &explanation.verdict {
        Ok(certified) => lines.extend(certified_lines(certified)),
        Err(refusal) => {
            lines.push(format!("REFUSED: {refusal}"));
            lines.push(format!("拒否: {}", japanese(refusal)));
        }
    }
    lines
}

fn certified_lines(certified: &Certified) -> Vec<String> {
    let roles: Vec<String> = certified
        .roles
        .iter()
        .map(|role| format!("{} ({})", role.name(), role.japanese()))
        .collect();
    let mut lines = vec![
        format!(
            "ACCEPTED as {} by profile {}",
            certified.usage, certified.profile
        ),
        format!("受理: {}", certified.subject.text),
        format!("  policy            {}", certified.policy),
        format!(
            "  institution code  {}",
            certified.institution_code().unwrap_or("-")
        ),
        format!("  roles             {}", roles.join(", ")),
        format!("  pin               {}", certified.spki_sha256),
        format!("  verdict holds to  {}", certified.verdict_valid_until),
    ];
    lines.extend(
        certified
            .remarks
            .iter()
            .map(|remark| format!("  note: {remark}")),
    );
    lines
}

fn explanation_json(explanation: &Explanation, usage: Usage, now: Timestamp) -> Value {
    let steps: Vec<Value> = explanation
        .steps
        .iter()
        .map(|step| {
            let (outcome, refusal) = match &step.outcome {
                Outcome::Kept => ("kept", None),
                Outcome::Violated(refusal) => ("violated", Some(refusal)),
                Outcome::NotReached => ("not_reached", None),
            };
            json!({
                "check": step.name, "outcome": outcome,
                "english": step.english, "japanese": step.japanese,
                "rule": refusal.map(|r| r.rule()), "reason": refusal.map(ToString::to_string),
            })
        })
        .collect();
    let certified = explanation.verdict.as_ref().ok();
    let refusal = explanation.verdict.as_ref().err();
    json!({
        "accepted": certified.is_some(), "usage": usage.name(), "at": now.to_string(),
        "rule": refusal.map(|r| r.rule()), "reason": refusal.map(ToString::to_string),
        "reason_japanese": refusal.map(japanese),
        "profile": certified.map(|c| &c.profile), "policy": certified.map(|c| &c.policy),
        "subject": certified.map(|c| &c.subject.text),
        "pin": certified.map(|c| c.spki_sha256.to_string()),
        "roles": certified.map(|c| c.roles.iter().map(|r| r.name()).collect::<Vec<_>>()),
        "remarks": certified.map(|c| c.remarks.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "steps": steps,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Tool {
        #[command(flatten)]
        pki: PkiArgs,
    }

    fn tool(arguments: &[&str]) -> anyhow::Result<()> {
        run(
            Tool::try_parse_from([&["pki"], arguments].concat())?.pki,
            true,
        )
    }

    #[test]
    fn init_issue_check_revoke_refresh_and_show_work_together() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pki");
        let dir = dir.to_str().unwrap();
        tool(&["init", "--dir", dir]).unwrap();
        assert!(tool(&["init", "--dir", dir]).is_err(), "made already");
        let gateway = [
            "issue", "--dir", dir, "--kind", "gateway", "--name", "hub", "--cn", "Hub",
        ];
        assert!(tool(&gateway).is_err(), "a gateway needs a name");
        tool(&[&gateway[..], &["--dns", "localhost"]].concat()).unwrap();
        let certificate = format!("{dir}/names/hub.cert.pem");
        tool(&["show", &certificate]).unwrap();
        let check = |usage: &str| tool(&["check", &certificate, "--trust", dir, "--usage", usage]);
        check("server").unwrap();
        check("institution").unwrap();
        assert!(
            check("person")
                .unwrap_err()
                .to_string()
                .contains("policy-not-accepted")
        );
        tool(&["revoke", "hub", "--dir", dir]).unwrap();
        tool(&["refresh", "--dir", dir]).unwrap();
        assert!(check("server").unwrap_err().to_string().contains("revoked"));
    }

    #[test]
    fn unknown_values_are_refused_with_the_choices() {
        let error = tool(&["issue", "--kind", "wizard", "--name", "a", "--cn", "b"]).unwrap_err();
        assert!(error.to_string().contains("institution"), "{error}");
    }
}
