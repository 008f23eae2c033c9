//! `renkei patient check`: is the person there already?

use anyhow::Result;
use clap::Args;

use super::record::PatientRecord;
use super::show;
use crate::cli::client::Session;
use crate::cli::names::label;
use crate::cli::output::{Done, Output};
use crate::wire::pb::identity::{CheckDuplicatesRequest, FeedOutcome};

#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    record: PatientRecord,
}

impl Check {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = CheckDuplicatesRequest {
            patient: Some(self.record.patient()?),
        };
        let answer = session
            .identity()
            .check_duplicates(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field(
                "Feeding would give",
                label::<FeedOutcome>(answer.expected_outcome),
            );
            for (title, found) in [
                ("Here already:", &answer.same_domain),
                ("Elsewhere:", &answer.elsewhere),
            ] {
                if !found.is_empty() {
                    text.gap();
                    text.line(title);
                    text.table(&show::candidates(found));
                }
            }
        })?;
        Ok(Done::All)
    }
}
