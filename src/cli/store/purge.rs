//! `renkei store purge`: destroying a patient's keys at a running node, by two people's word.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cli::args::{self, IDENTIFIER_HELP, Limit};
use crate::cli::client::Session;
use crate::cli::connection::Connection;
use crate::cli::idempotency_key;
use crate::cli::names::{self, cx_or_none, join, label, time};
use crate::cli::output::{Done, Output, Table};
use crate::wire::pb::admin::{
    ApprovePurgeRequest, ListPurgesRequest, ProposePurgeRequest, Purge, PurgeReason, PurgeState,
    WithdrawPurgeRequest,
};
use crate::wire::pb::common::Identifier;

/// Destroy a patient's keys at a running node: one operator proposes, another agrees
///
/// Nobody can read afterwards what the node keeps under the identifier: rows, documents, copies. What the
/// same person has under another identifier, or at another node, is not touched.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei store purge propose --as operator-1.toml --patient 1.2.392.1:0012 \\\n      \
    --reason patient_request --decision 'resolution 12 of 2026'\n  \
    renkei store purge list --as operator-2.toml --state proposed\n  \
    renkei store purge approve --as operator-2.toml PURGE --patient 1.2.392.1:0012")]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Propose it; another operator has a day to agree
    #[command(after_help = "Example:\n  \
        renkei store purge propose --as operator-1.toml --patient 1.2.392.1:0012 \\\n      \
        --reason patient_request --decision 'resolution 12 of 2026'")]
    Propose(Propose),
    /// Agree to what another operator proposed; exit status 3 if it is not done yet
    #[command(after_help = "Example:\n  \
        renkei store purge approve --as operator-2.toml PURGE --patient 1.2.392.1:0012")]
    Approve(Approve),
    /// Take back a proposal that nobody has agreed to
    #[command(after_help = "Example:\n  renkei store purge withdraw --as operator-1.toml PURGE")]
    Withdraw {
        /// Id of the proposal, as `propose` printed it
        #[arg(value_name = "PURGE")]
        purge_id: String,
    },
    /// List what was proposed, and what became of it
    #[command(after_help = "Example:\n  \
        renkei store purge list --as operator-2.toml --state proposed")]
    List(List),
}

#[derive(Args, Debug)]
struct Propose {
    #[arg(long, value_name = "PATIENT", help = IDENTIFIER_HELP, value_parser = args::identifier)]
    patient: Identifier,
    /// Why
    #[arg(long, value_name = "REASON", ignore_case = true, value_parser = args::one_of::<PurgeReason>())]
    reason: PurgeReason,
    /// The decision it rests on, such as the number of a resolution; no patient data
    #[arg(long, value_name = "TEXT")]
    decision: String,
}

#[derive(Args, Debug)]
struct Approve {
    /// Id of the proposal, as `propose` printed it
    #[arg(value_name = "PURGE")]
    purge_id: String,
    #[arg(long, value_name = "PATIENT", help = IDENTIFIER_HELP, value_parser = args::identifier)]
    patient: Identifier,
}

#[derive(Args, Debug)]
struct List {
    /// Only in this state; repeat for several
    #[arg(long = "state", value_name = "STATE", ignore_case = true, value_parser = args::one_of::<PurgeState>())]
    states: Vec<PurgeState>,
    #[command(flatten)]
    limit: Limit,
}

impl PurgeArgs {
    pub(super) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::Propose(command) => command.run(&session, out).await,
            Command::Approve(command) => command.run(&session, out).await,
            Command::Withdraw { purge_id } => {
                let request = WithdrawPurgeRequest {
                    purge_id,
                    idempotency_key: idempotency_key(),
                };
                let answer = session.admin().withdraw_purge(request).await?;
                let purge = answer.into_inner().purge.unwrap_or_default();
                show(out, &purge)?;
                Ok(Done::All)
            }
            Command::List(command) => command.run(&session, out).await,
        }
    }
}

impl Propose {
    async fn run(self, session: &Session, out: Output) -> Result<Done> {
        let request = ProposePurgeRequest {
            patient_id: Some(self.patient),
            reason: self.reason.into(),
            decision: self.decision,
            idempotency_key: idempotency_key(),
        };
        let answer = session.admin().propose_purge(request).await?;
        show(out, &answer.into_inner().purge.unwrap_or_default())?;
        Ok(Done::All)
    }
}

impl Approve {
    async fn run(self, session: &Session, out: Output) -> Result<Done> {
        let request = ApprovePurgeRequest {
            purge_id: self.purge_id,
            patient_id: Some(self.patient),
            idempotency_key: idempotency_key(),
        };
        let answer = session.admin().approve_purge(request).await?;
        let purge = answer.into_inner().purge.unwrap_or_default();
        show(out, &purge)?;
        Ok(match purge.state() == PurgeState::Done {
            true => Done::All,
            false => Done::InPart,
        })
    }
}

impl List {
    async fn run(self, session: &Session, out: Output) -> Result<Done> {
        let mut client = session.admin();
        let mut pages = self.limit.pages();
        let mut table = Table::new([
            "Purge", "State", "Patient", "Reason", "Decision", "By", "Proposed", "Ends", "Done",
        ]);
        loop {
            let request = ListPurgesRequest {
                states: self.states.iter().map(|&one| one.into()).collect(),
                page_size: pages.size,
                page_token: pages.token.clone(),
            };
            let page = client.list_purges(request).await?.into_inner();
            out.json(&page)?;
            let more = pages.turn(&page.next_page_token, page.purges.len());
            page.purges.iter().for_each(|purge| add(&mut table, purge));
            if !more {
                break;
            }
        }
        out.human(|text| {
            text.table(&table);
            text.line(format!("{} proposals", table.len()));
        })?;
        pages.tell();
        Ok(Done::All)
    }
}

fn approvers(purge: &Purge) -> String {
    let people = purge.approvers.iter();
    join(people.map(|one| names::person(Some(one))), ", ")
}

fn add(table: &mut Table, purge: &Purge) {
    table.row([
        purge.purge_id.clone(),
        label::<PurgeState>(purge.state),
        cx_or_none(purge.patient_id.as_ref()),
        label::<PurgeReason>(purge.reason),
        purge.decision.clone(),
        approvers(purge),
        time(purge.proposed.as_ref()),
        time(purge.expires.as_ref()),
        time(purge.done.as_ref()),
    ]);
}

fn show(out: Output, purge: &Purge) -> Result<()> {
    out.answer(purge, |text| {
        text.field("Purge", &purge.purge_id);
        text.field("State", label::<PurgeState>(purge.state));
        text.field("Patient", cx_or_none(purge.patient_id.as_ref()));
        text.field("By", approvers(purge));
        match purge.state() {
            PurgeState::Proposed => {
                text.field("Ends", time(purge.expires.as_ref()));
                text.line("Another operator has to agree: `renkei store purge approve`.");
            }
            PurgeState::Approved => {
                text.line(
                    "It is being carried out; `renkei store purge list` tells when it is done.",
                );
            }
            PurgeState::Done => text.field("Rows deleted", purge.rows.to_string()),
            PurgeState::Withdrawn | PurgeState::Expired | PurgeState::Unspecified => {}
        }
    })
}
