//! `renkei pki`: the development PKI, and any certificate judged as the gateway would.

mod args;
mod output;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::args::{
    CheckArgs, CorpusArgs, ImportArgs, InitArgs, IssueArgs, RefreshArgs, RevokeArgs, ShowArgs,
};
use self::output::{description_json, description_lines, explanation_json, explanation_lines};
use crate::clock::{Clock, SystemClock};
use crate::pki::dev::corpus::Corpus;
use crate::pki::dev::{DevPki, IssueRequest, Layout};
use crate::pki::{Profiles, TrustOptions, TrustStore, describe, explain, read_certificates};

pub use args::{PkiArgs, PkiCommand};

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
        PkiCommand::ImportCrl(args) => import(&args, json),
        PkiCommand::Check(args) => check(&args, clock.now(), json),
        PkiCommand::Corpus(args) => corpus(&args, clock, json),
    }
}

fn print(json: bool, object: &Value, lines: &[String]) {
    if json {
        println!("{object}");
    } else {
        for line in lines {
            println!("{line}");
        }
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

fn corpus(args: &CorpusArgs, clock: Arc<dyn Clock>, json: bool) -> anyhow::Result<()> {
    let corpus = Corpus::generate(clock)?;
    let written = corpus.write(&args.dir)?;
    let manifest = args.dir.join("manifest.json");
    let rules = corpus.violated().len();
    let object = json!({ "cases": written, "rules": rules, "manifest": manifest });
    let line = format!(
        "wrote {written} cases, {rules} rules by level: {}",
        manifest.display()
    );
    print(json, &object, &[line]);
    Ok(())
}

fn import(args: &ImportArgs, json: bool) -> anyhow::Result<()> {
    let (mut roots, mut authorities) = (args.root.clone(), args.ca.clone());
    if let Some(folder) = &args.trust {
        let layout = Layout::of(folder);
        roots.push(layout.root);
        authorities.push(layout.issuing);
    }
    let profiles = Profiles::embedded(&args.profiles)?;
    let lists: Vec<_> = args
        .into
        .is_dir()
        .then(|| args.into.clone())
        .into_iter()
        .collect();
    let store = TrustStore::load(&roots, &authorities, &[], profiles, TrustOptions::default())?;
    // What is bad in the folder already is the node's to complain of.
    let (store, _) = store.renew(&roots, &authorities, &lists)?;
    let bytes = std::fs::read(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let list = store.import_list(bytes, &args.file, &args.into)?;
    let object = json!({
        "file": list.path, "issuer": list.issuer, "number": list.number,
        "next_update": list.next_update.to_string(), "known": list.known,
    });
    let what = if list.known {
        "was there already"
    } else {
        "imported"
    };
    let line = format!(
        "{what}: list {} of {}, next due {}, in {}",
        list.number,
        list.issuer,
        list.next_update,
        list.path.display()
    );
    print(json, &object, &[line]);
    Ok(())
}

fn trust_store(args: &CheckArgs) -> anyhow::Result<TrustStore> {
    let grace = Duration::from_hours(u64::from(args.grace_hours));
    let options = TrustOptions {
        crl_grace: grace,
        ..TrustOptions::default()
    };
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
