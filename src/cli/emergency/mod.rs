//! `renkei emergency`: for emergency departments and ambulance crews.

mod access;
mod identify;
mod show;
mod summary;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::args::{PATIENT_HELP, PatientArg};
use super::connection::Connection;
use super::output::{Done, Output};
use crate::wire::pb::emergency::PatientRef;
use crate::wire::pb::emergency::patient_ref::Subject;

/// Emergency: identify a patient from little, get the summary, break the glass
#[derive(Args, Debug)]
#[command(after_help = "Examples, in the order of an emergency:\n  \
    renkei emergency identify --as er.toml --name 'ヤマダ タロウ' --sex male --age 70-80 --address 文京区\n  \
    renkei emergency break-glass --as er.toml --candidate REF --reason unconscious \\\n      \
    --text '意識障害のため同意を得られない' --consent-impossible\n  \
    renkei emergency get --as er.toml --candidate REF --grant GRANT")]
pub(crate) struct Emergency {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find the patient: five candidates at most
    #[command(after_help = "Examples:\n  \
        renkei emergency identify --as er.toml --name やまだ --birth 1950-04-01\n  \
        renkei emergency identify --as er.toml --name 'ヤマダ タロウ' --sex male --age 70-80 --address 文京区\n  \
        renkei emergency identify --as er.toml --insured 06139999/東国/12/01 --birth 1950-04-01")]
    Identify(Box<identify::Identify>),
    /// Open access without consent, for a reason and a time; recorded, told and judged
    #[command(after_help = "Example:\n  \
        renkei emergency break-glass --as er.toml --candidate REF --reason unconscious \\\n      \
        --text '意識障害のため同意を得られない' --consent-impossible")]
    BreakGlass(access::BreakGlass),
    /// End such access early
    #[command(after_help = "Example:\n  \
        renkei emergency close --as er.toml GRANT --explanation '本人に説明した' --consent-obtained")]
    Close(access::Close),
    /// Get the summary; exit status 3 if a region is missing
    #[command(after_help = "Examples:\n  \
        renkei emergency get --as er.toml --patient 1.2.392.1:0012\n  \
        renkei emergency get --as er.toml --candidate REF --grant GRANT --section allergy --section medication\n  \
        renkei emergency get --as er.toml --candidate REF --form html -o summary.html")]
    Get(Box<summary::Get>),
    /// List emergency accesses, for the patient or the privacy officer
    #[command(after_help = "Examples:\n  \
        renkei emergency notices --as officer.toml --review pending\n  \
        renkei emergency notices --as officer.toml --patient 1.2.392.1:0012")]
    Notices(access::Notices),
    /// Judge an emergency access
    #[command(after_help = "Example:\n  \
        renkei emergency review --as officer.toml NOTICE questioned --comment '搬送記録が見当たらない'")]
    Review(access::Review),
}

/// Who is meant.
#[derive(Args, Debug)]
pub(crate) struct Who {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP, required_unless_present = "candidate")]
    patient: Option<PatientArg>,
    /// Candidate, as `identify` printed it; good for 15 minutes
    #[arg(long, value_name = "REF", conflicts_with = "patient")]
    candidate: Option<String>,
}

impl Who {
    fn patient(&self) -> PatientRef {
        let subject = match (&self.patient, &self.candidate) {
            (Some(patient), _) => Some(subject(patient)),
            (None, candidate) => candidate.clone().map(Subject::CandidateRef),
        };
        PatientRef { subject }
    }
}

/// Who is meant, if one patient is.
#[derive(Args, Debug)]
pub(crate) struct MaybeWho {
    #[arg(long, value_name = "PATIENT", help = PATIENT_HELP)]
    patient: Option<PatientArg>,
}

impl MaybeWho {
    fn patient(&self) -> Option<PatientRef> {
        self.patient.as_ref().map(|patient| PatientRef {
            subject: Some(subject(patient)),
        })
    }
}

fn subject(patient: &PatientArg) -> Subject {
    match patient {
        PatientArg::Identifier(one) => Subject::PatientId(one.clone()),
        PatientArg::Linkage(id) => Subject::LinkageId(id.clone()),
    }
}

impl Emergency {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::Identify(command) => command.run(session, out).await,
            Command::BreakGlass(command) => command.run(session, out).await,
            Command::Close(command) => command.run(session, out).await,
            Command::Get(command) => command.run(session, out).await,
            Command::Notices(command) => command.run(session, out).await,
            Command::Review(command) => command.run(session, out).await,
        }
    }
}
