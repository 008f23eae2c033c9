//! `renkei node`: what a node is and how it is.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::connection::Connection;
use super::names::{elapsed, label, labels, octets, time};
use super::output::{Done, Output, Table};
use crate::wire::pb::admin::{
    GetNodeInfoRequest, GetStatusRequest, GetStatusResponse, NodeRole, ReloadConfigurationRequest,
    Severity,
};

/// What a node is and how it is; for its operators
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei node info --as operator.toml\n  \
    renkei node status --as operator.toml --json")]
pub(crate) struct Node {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what the node is: community, roles, version, certificate
    #[command(after_help = "Example:\n  renkei node info --as operator.toml")]
    Info,
    /// Tell how the node is: alarms, ledger, store, load; exit status 3 if it does not take calls and writes
    #[command(after_help = "Example:\n  renkei node status --as operator.toml --json | jq .alarms")]
    Status,
    /// Make the node read its certificate, authorities and revocation lists again; exit status 3 if
    /// something was wrong and changed nothing
    #[command(after_help = "Examples:\n  \
        renkei node reload --as operator.toml --check\n  \
        renkei node reload --as operator.toml")]
    Reload {
        /// Only say what would change
        #[arg(long)]
        check: bool,
    },
}

impl Node {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        let mut admin = session.admin();
        match self.command {
            Command::Info => {
                let info = admin.get_node_info(GetNodeInfoRequest {}).await?;
                let info = info.into_inner();
                out.answer(&info, |text| {
                    text.field("Community", &info.home_community_id);
                    text.field("Name", &info.name);
                    text.field("Roles", labels::<NodeRole>(&info.roles));
                    text.field("Version", &info.version);
                    text.field("Started", time(info.started.as_ref()));
                    text.field("Up for", elapsed(info.uptime.as_ref()));
                    text.field("Ledger", info.ledger_sequence.to_string());
                    text.field("Parent", &info.parent_home_community_id);
                    text.field("Directory", format!("version {}", info.directory_version));
                    text.field("Policies", &info.policy_version);
                    text.field("Certificate to", time(info.certificate_expires.as_ref()));
                })?;
                Ok(Done::All)
            }
            Command::Status => {
                let status = admin.get_status(GetStatusRequest {}).await?.into_inner();
                show_status(out, &status)?;
                Ok(match status.serving && status.writable {
                    true => Done::All,
                    false => Done::InPart,
                })
            }
            Command::Reload { check } => {
                let request = ReloadConfigurationRequest {
                    validate_only: check,
                    idempotency_key: super::idempotency_key(),
                };
                let answer = admin.reload_configuration(request).await?.into_inner();
                out.answer(&answer, |text| {
                    for change in &answer.changes {
                        text.field("Changed", change);
                    }
                    for problem in &answer.problems {
                        text.field("Wrong", problem);
                    }
                    for change in &answer.needs_restart {
                        text.field("Needs a restart", change);
                    }
                    if answer.changes.is_empty() && answer.problems.is_empty() {
                        text.line("Nothing changed.");
                    }
                })?;
                Ok(match answer.problems.is_empty() {
                    true => Done::All,
                    false => Done::InPart,
                })
            }
        }
    }
}

fn show_status(out: Output, status: &GetStatusResponse) -> Result<()> {
    let yes = |yes: bool| if yes { "yes" } else { "NO" };
    out.answer(status, |text| {
        text.field("Takes calls", yes(status.serving));
        text.field("Takes writes", yes(status.writable));
        text.field("Ledger", status.ledger_sequence.to_string());
        text.field("Index", status.index_sequence.to_string());
        text.field(
            "Store",
            format!(
                "{}, {} free",
                octets(status.store_bytes),
                octets(status.free_bytes)
            ),
        );
        text.field("Memory", octets(status.resident_bytes));
        text.field("Calls running", status.calls_in_flight.to_string());
        text.field("Connections", status.connections.to_string());
        text.field("Notices waiting", status.queued_notices.to_string());
        let mut counts: Vec<_> = status.counts.iter().collect();
        counts.sort();
        for (name, count) in counts {
            text.field(name, count.to_string());
        }
        let mut lists = Table::new([
            "Revocation list of",
            "Number",
            "Issued",
            "Next due",
            "Revoked",
        ]);
        for list in &status.revocation_lists {
            lists.row([
                list.issuer.clone(),
                list.number.clone(),
                time(list.this_update.as_ref()),
                time(list.next_update.as_ref()),
                list.revoked.to_string(),
            ]);
        }
        text.gap();
        text.table(&lists);
        let mut alarms = Table::new(["Alarm", "Severity", "Since", "What"]);
        for alarm in &status.alarms {
            alarms.row([
                alarm.code.clone(),
                label::<Severity>(alarm.severity),
                time(alarm.since.as_ref()),
                alarm.message.clone(),
            ]);
        }
        text.gap();
        text.table(&alarms);
    })
}
