//! `renkei patient link`, `unlink`, `merge`, `unmerge`, `split`: changing who is whom.

use anyhow::Result;
use clap::Args;

use super::show;
use crate::cli::args::{self, IDENTIFIER_HELP};
use crate::cli::client::Session;
use crate::cli::failure::Problem;
use crate::cli::idempotency_key;
use crate::cli::output::{Done, Output};
use crate::wire::pb::common::Identifier;
use crate::wire::pb::identity::{
    IdentifierGroup, LinkPatientsRequest, MergePatientsRequest, SplitPersonRequest,
    UnlinkPatientsRequest, UnmergePatientsRequest,
};

/// What every change of links has.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only tell what would happen
    #[arg(long)]
    preview: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Link {
    #[arg(value_name = "FIRST", value_parser = args::identifier, help = IDENTIFIER_HELP)]
    first: Identifier,
    #[arg(value_name = "SECOND", value_parser = args::identifier, help = IDENTIFIER_HELP)]
    second: Identifier,
    #[command(flatten)]
    change: Change,
}

impl Link {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = LinkPatientsRequest {
            first: Some(self.first),
            second: Some(self.second),
            reason: self.change.reason,
            preview_only: self.change.preview,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .identity()
            .link_patients(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Linkage id", &answer.linkage_id);
            text.field("Waits for approval", &answer.approval_task_id);
            show::effects(text, answer.effects.as_ref());
            show::parent(text, answer.parent.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Unlink {
    #[arg(value_name = "FIRST", value_parser = args::identifier, help = IDENTIFIER_HELP)]
    first: Identifier,
    #[arg(value_name = "SECOND", value_parser = args::identifier, help = "The identifier to take out, as FIRST")]
    second: Identifier,
    #[command(flatten)]
    change: Change,
    /// Let the matcher link the two again
    #[arg(long)]
    allow_relink: bool,
}

impl Unlink {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = UnlinkPatientsRequest {
            first: Some(self.first),
            second: Some(self.second),
            reason: self.change.reason,
            allow_relink: self.allow_relink,
            preview_only: self.change.preview,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .identity()
            .unlink_patients(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("First", &answer.first_linkage_id);
            text.field("Second", &answer.second_linkage_id);
            text.field("Waits for approval", &answer.approval_task_id);
            show::effects(text, answer.effects.as_ref());
            show::parent(text, answer.parent.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Merge {
    #[arg(value_name = "SURVIVOR", value_parser = args::identifier, help = "The identifier that stays: ID^^^&OID&ISO or OID:ID")]
    survivor: Identifier,
    #[arg(value_name = "SUBSUMED", value_parser = args::identifier, help = "The identifier that goes; of the same domain")]
    subsumed: Identifier,
    #[command(flatten)]
    change: Change,
}

impl Merge {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = MergePatientsRequest {
            survivor: Some(self.survivor),
            subsumed: Some(self.subsumed),
            reason: self.change.reason,
            preview_only: self.change.preview,
            idempotency_key: idempotency_key(),
            ..MergePatientsRequest::default()
        };
        let answer = session
            .identity()
            .merge_patients(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Merge", &answer.merge_id);
            text.field("Linkage id", &answer.linkage_id);
            show::effects(text, answer.effects.as_ref());
            show::parent(text, answer.parent.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Unmerge {
    /// Id of the merge, as `merge` printed it
    #[arg(value_name = "MERGE", conflicts_with = "subsumed")]
    merge_id: Option<String>,
    /// The identifier that was merged away, if the merge's id is not known
    #[arg(long, value_name = "CX", value_parser = args::identifier)]
    subsumed: Option<Identifier>,
    #[command(flatten)]
    change: Change,
}

impl Unmerge {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        if self.merge_id.is_none() && self.subsumed.is_none() {
            return Err(Problem::new("give MERGE or --subsumed").into());
        }
        let request = UnmergePatientsRequest {
            merge_id: self.merge_id.unwrap_or_default(),
            subsumed: self.subsumed,
            reason: self.change.reason,
            preview_only: self.change.preview,
            idempotency_key: idempotency_key(),
        };
        let answer = session
            .identity()
            .unmerge_patients(request)
            .await?
            .into_inner();
        out.answer(&answer, |text| {
            text.field("Survivor", &answer.survivor_linkage_id);
            text.field("Restored", &answer.restored_linkage_id);
            show::effects(text, answer.effects.as_ref());
            show::parent(text, answer.parent.as_ref());
        })?;
        Ok(Done::All)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Split {
    /// Linkage id of the person
    #[arg(value_name = "LINKAGE")]
    linkage_id: String,
    /// Identifiers of one person, separated by commas; repeat for each. The first keeps the linkage id
    #[arg(long = "group", value_name = "CX,…", required = true, value_parser = group)]
    groups: Vec<IdentifierGroup>,
    #[command(flatten)]
    change: Change,
}

fn group(text: &str) -> Result<IdentifierGroup, String> {
    let identifiers = text.split(',').map(|one| args::identifier(one.trim()));
    Ok(IdentifierGroup {
        identifiers: identifiers.collect::<Result<_, _>>()?,
    })
}

impl Split {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        let request = SplitPersonRequest {
            linkage_id: self.linkage_id,
            groups: self.groups,
            reason: self.change.reason,
            preview_only: self.change.preview,
            idempotency_key: idempotency_key(),
        };
        let answer = session.identity().split_person(request).await?.into_inner();
        out.answer(&answer, |text| {
            text.field("Waits for approval", &answer.approval_task_id);
            show::effects(text, answer.effects.as_ref());
        })?;
        Ok(Done::All)
    }
}
