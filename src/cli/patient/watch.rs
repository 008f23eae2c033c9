//! `renkei patient watch`: changes of identifier sets as they happen.

use anyhow::Result;
use clap::Args;
use tokio_stream::StreamExt as _;

use crate::cli::client::Session;
use crate::cli::names::{cx, join, label, time};
use crate::cli::output::{Done, Output};
use crate::wire::pb::identity::{PersonEventKind, WatchIdentifierChangesRequest};

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Identifiers of this domain; repeat for several [default: those of the own community]
    #[arg(long = "domain", value_name = "OID")]
    domains: Vec<String>,
    /// Go on behind this token, as an earlier watch printed it
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    resume: String,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

impl Watch {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = WatchIdentifierChangesRequest {
            domains: self.domains,
            resume_token: self.resume,
        };
        let answer = session.identity().watch_identifier_changes(request).await?;
        let mut changes = answer.into_inner();
        let mut seen = 0;
        while self.count.is_none_or(|count| seen < count) {
            let Some(message) = changes.next().await.transpose()? else {
                break;
            };
            out.json(&message)?;
            let Some(set) = &message.identifier_set else {
                continue;
            };
            seen += 1;
            out.human(|text| {
                text.field("Linkage id", &set.linkage_id);
                text.field("Identifiers", join(set.identifiers.iter().map(cx), ", "));
                text.field("Because", label::<PersonEventKind>(set.cause));
                text.field("When", time(set.recorded.as_ref()));
                text.field("Formerly", set.former_linkage_ids.join(", "));
                text.field("Resume behind", &message.resume_token);
                text.gap();
            })?;
        }
        Ok(Done::All)
    }
}
