//! `renkei policy`: the policies of the decision point, tried out and explained.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Done, Output, Table};
use crate::access::matrix;
use crate::access::{Case, Cases, Explanation, Policies, Scenario, ScenarioDocument};

/// Policies: check a folder of them, explain a decision, test cases, print the matrix
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei policy check /etc/renkei/policies\n  \
    renkei policy explain --role Pharmacist --action ReadDocument --class notes\n  \
    renkei policy test policies/cases.toml\n  \
    renkei policy matrix > docs/authorization-matrix.md")]
pub(super) struct Policy {
    /// Policies in this folder, not the default set
    #[arg(long, global = true, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a set: parsed, validated against the schema, every name known
    #[command(after_help = "Example:\n  renkei policy check /etc/renkei/policies")]
    Check {
        /// The folder [default: the default set]
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Say what would be decided, and which policies decide it
    Explain(Box<Explain>),
    /// Ask a file of cases, and compare with what is expected
    #[command(after_help = "Example:\n  renkei policy test policies/cases.toml")]
    Test {
        /// The cases, TOML
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the authorization matrix, Markdown
    #[command(after_help = "Example:\n  renkei policy matrix > docs/authorization-matrix.md")]
    Matrix,
}

/// A question.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei policy explain --role 'Medical Doctor' --action FindDocuments --other-community\n  \
    renkei policy explain --role 'General Nurse' --action ReadDocument --class psychiatry --level R")]
#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
struct Explain {
    /// Role of the person, by its code
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// What is asked for
    #[arg(long, value_name = "ACTION")]
    action: String,
    /// Purpose of use
    #[arg(long, value_name = "PURPOSE", default_value = "TREAT")]
    purpose: String,
    /// Relation to the patient
    #[arg(long, value_name = "RELATION", default_value = "treating")]
    relation: String,
    /// What the patient said: permitted, silent, emergency-only, denied, denied-always
    #[arg(long, value_name = "STATE", default_value = "silent")]
    consent: String,
    /// Break-glass grant: none, in-force, void
    #[arg(long, value_name = "STATE", default_value = "none")]
    grant: String,
    /// Kind of institution
    #[arg(long, value_name = "KIND", default_value = "hospital")]
    kind: String,
    /// The institution is of another community
    #[arg(long)]
    other_community: bool,
    /// It does not receive emergency patients
    #[arg(long)]
    no_emergencies: bool,
    /// The network is opt-out
    #[arg(long)]
    opt_out: bool,
    /// A declared disaster covers the institution
    #[arg(long)]
    disaster: bool,
    /// The institution has no record of the patient
    #[arg(long)]
    stranger: bool,
    /// Data class of the document; repeat for several
    #[arg(long = "class", value_name = "CLASS")]
    classes: Vec<String>,
    /// Confidentiality of the document: N, R, V
    #[arg(long, value_name = "LEVEL", default_value = "N", requires = "classes")]
    level: String,
    /// A consent names the document's class or level
    #[arg(long, requires = "classes")]
    named: bool,
    /// The institution wrote the document
    #[arg(long, requires = "classes")]
    own: bool,
}

fn load(folder: Option<&Path>) -> Result<Policies> {
    match folder {
        Some(folder) => Ok(Policies::from_folder(folder)?),
        None => Ok(Policies::built_in()?),
    }
}

impl Policy {
    pub(super) fn run(self, out: Output) -> Result<Done> {
        let folder = self.policies.as_deref();
        match self.command {
            Command::Check { folder: named } => check(named.as_deref().or(folder), out),
            Command::Explain(question) => question.run(&load(folder)?, out),
            Command::Test { file } => test(&load(folder)?, &file, out),
            Command::Matrix => {
                let text = matrix::document(&load(folder)?);
                out.human(|page| text.lines().for_each(|line| page.line(line)))?;
                out.object(&json!({ "matrix": text }))?;
                Ok(Done::All)
            }
        }
    }
}

fn check(folder: Option<&Path>, out: Output) -> Result<Done> {
    let policies = load(folder)?;
    let all: Vec<_> = policies.policies().collect();
    let forbids = all.iter().filter(|policy| policy.forbids).count();
    out.object(&json!({
        "version": policies.version().as_str(),
        "policies": all.len(),
        "forbid": forbids,
    }))?;
    out.human(|text| {
        text.field("Version", policies.version().as_str());
        text.field("Policies", all.len().to_string());
        text.field("Forbid", forbids.to_string());
    })?;
    Ok(Done::All)
}

fn shown(explained: &Explanation) -> String {
    explained.denial.map_or_else(
        || "permit".to_owned(),
        |denial| format!("deny: {}", denial.name()),
    )
}

impl Explain {
    fn run(self, policies: &Policies, out: Output) -> Result<Done> {
        let document = (!self.classes.is_empty()).then_some(ScenarioDocument {
            classes: self.classes,
            level: self.level,
            named: self.named,
            undelivered: false,
            uninformed: false,
            own: self.own,
        });
        let system = self.role == "System";
        let scenario = Scenario {
            role: self.role,
            action: self.action,
            purpose: self.purpose,
            relation: self.relation,
            consent: self.consent,
            grant: self.grant,
            kind: self.kind,
            own_community: !self.other_community,
            emergency_institution: !self.no_emergencies,
            role_registered: true,
            purpose_registered: true,
            hub: true,
            through_hub: true,
            gateway_itself: system,
            linked_gateway: system,
            relaying: false,
            enrolment_is_consent: self.opt_out,
            disaster: self.disaster,
            related: !self.stranger,
            document,
        };
        let explained = scenario.explain(policies).map_err(|error| anyhow!(error))?;
        let because: Vec<_> = explained
            .because
            .iter()
            .map(|policy| json!({ "policy": policy.id, "file": policy.file, "says": policy.doc }))
            .collect();
        out.object(&json!({
            "permitted": explained.denial.is_none(),
            "reason": explained.denial.map(crate::access::Denial::name),
            "obligations": explained
                .obligations
                .iter()
                .map(|one| format!("{one:?}"))
                .collect::<Vec<_>>(),
            "because": because,
            "version": policies.version().as_str(),
        }))?;
        out.human(|text| {
            text.field("Decision", shown(&explained));
            for obligation in &explained.obligations {
                text.field("Obliges", format!("{obligation:?}"));
            }
            let mut table = Table::new(["Policy", "File", "Says"]);
            for policy in &explained.because {
                table.row([policy.id.clone(), policy.file.clone(), policy.doc.clone()]);
            }
            match explained.because.is_empty() {
                true => text.line("no policy permits it"),
                false => text.table(&table),
            }
        })?;
        Ok(Done::All)
    }
}

fn test(policies: &Policies, file: &Path, out: Output) -> Result<Done> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let cases: Cases = toml::from_str(&text)
        .with_context(|| format!("{} is not a file of cases", file.display()))?;
    let mut failed = 0;
    for case in &cases.case {
        let got = result(case, policies)?;
        failed += usize::from(got.is_some());
        out.object(&json!({
            "case": case.name,
            "expected": case.expect,
            "got": got.as_deref().unwrap_or(&case.expect),
            "ok": got.is_none(),
        }))?;
        if let Some(got) = got {
            out.human(|text| {
                text.line(format!(
                    "FAIL {}: expected {}, got {got}",
                    case.name, case.expect
                ));
            })?;
        }
    }
    out.human(|text| text.line(format!("{} cases, {failed} failed", cases.case.len())))?;
    Ok(if failed == 0 { Done::All } else { Done::Failed })
}

fn result(case: &Case, policies: &Policies) -> Result<Option<String>> {
    case.check(policies)
        .map_err(|error| anyhow!("{}: {error}", case.name))
}
