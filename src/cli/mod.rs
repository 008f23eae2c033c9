//! The command line: one file a command.
//!
//! Exit status: 0 all of what was asked for was done, 1 it was not, 2 the command was not
//! understood, 3 only a part was done (a region did not answer, some of several inputs failed).

mod args;
mod audit;
mod bench;
mod client;
mod completeness;
mod connection;
mod consent;
mod demo;
mod directory;
pub mod directory_file;
mod document;
mod emergency;
mod failure;
mod identity;
mod json;
mod load;
mod names;
mod node;
mod output;
mod patient;
pub mod pki;
mod policy;
mod profile;
mod serve;
mod store;
mod token;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde_json::json;

pub use self::client::{Caller, Service, Session, assertion, connect, connect_at};
pub use self::profile::{ClientProfile, DocumentProfile, PersonProfile};

use self::failure::Failure;
use self::output::{Done, Output, note};

/// Exit status when only a part was done.
const IN_PART: u8 = 3;
/// Exit status when the command was not understood.
const MISUSED: u8 = 2;

/// Renkei (連携): an EHR interconnection gateway, and the tool to run and use it
#[derive(Debug, Parser)]
#[command(
    name = "renkei",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 2 not understood, 3 done in part.\n\n\
        Examples:\n  \
        renkei patient search --as clinic.toml --family 山田 --birth 1950-04-01\n  \
        renkei document find --as clinic.toml --patient 1.2.392.1:0012 --all-regions"
)]
pub struct Cli {
    /// Print JSON: one object, or one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The commands. To add one: a variant here, and a line in [`Command::run`].
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[command(
        subcommand,
        after_help = "Examples:\n  renkei config example hub > hub.toml\n  renkei config check hub.toml"
    )]
    Config(serve::ConfigCommand),
    Demo(demo::Demo),
    /// The development PKI, and any certificate judged as the gateway would
    #[command(after_help = "Examples:\n  \
        renkei pki init\n  \
        renkei pki check card.pem --usage person --trust certs-dev")]
    Pki(pki::PkiArgs),
    Patient(patient::Patient),
    Load(load::Load),
    Document(document::Document),
    Emergency(emergency::Emergency),
    Consent(consent::Consent),
    Audit(audit::Audit),
    Directory(directory::Directory),
    Node(node::Node),
    Token(token::Token),
    #[command(
        subcommand,
        after_help = "Example:\n  renkei identity learn records.jsonl.gz --out learned --model renkei-2"
    )]
    Identity(identity::Identity),
    Store(store::StoreArgs),
    Policy(policy::Policy),
    #[command(subcommand, after_help = "Example:\n  renkei bench rpc --json")]
    Bench(bench::Bench),
}

impl Command {
    fn run(self, out: Output) -> Result<Done> {
        match self {
            Self::Serve(command) => command.run(),
            Self::Config(command) => command.run(out),
            Self::Demo(command) => command.run(out),
            Self::Pki(args) => pki::run(args, out.is_json()).map(|()| Done::All),
            Self::Patient(command) => client(command.run(out)),
            Self::Load(command) => client(command.run(out)),
            Self::Document(command) => client(command.run(out)),
            Self::Emergency(command) => client(command.run(out)),
            Self::Consent(command) => client(command.run(out)),
            Self::Audit(command) => client(command.run(out)),
            Self::Directory(command) => client(command.run(out)),
            Self::Node(command) => client(command.run(out)),
            Self::Token(command) => command.run(out),
            Self::Identity(command) => command.run(out),
            Self::Store(args) => client(args.run(out)),
            Self::Policy(command) => command.run(out),
            Self::Bench(command) => command.run(out),
        }
    }
}

/// Runs a client command.
fn client(command: impl Future<Output = Result<Done>>) -> Result<Done> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(command)
}

/// Reads the arguments, runs one command, and says how the process is to end.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let out = Output::new(cli.json);
    match cli.command.run(out) {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::InPart) => ExitCode::from(IN_PART),
        Ok(Done::Failed) => ExitCode::FAILURE,
        Err(error) => {
            report(&error, out);
            ExitCode::FAILURE
        }
    }
}

/// Help and version are printed and well; anything else is told on stderr, and as JSON if the
/// arguments ask for it, whatever else is wrong with them.
fn misused(error: &clap::Error) -> ExitCode {
    // Nowhere to say that it could not be said.
    drop(error.print());
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let out = Output::new(std::env::args_os().any(|arg| arg == "--json"));
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty());
    let first: Vec<&str> = first.map(str::trim).collect();
    let first = first.join(" ");
    let failure = Failure {
        code: "USAGE".to_owned(),
        message: first.strip_prefix("error: ").unwrap_or(&first).to_owned(),
        ..Failure::default()
    };
    drop(out.object(&json!({ "error": failure })));
    ExitCode::from(MISUSED)
}

fn report(error: &anyhow::Error, out: Output) {
    // Whoever reads us has enough (`| head`).
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(closed) {
        return;
    }
    let failure = Failure::of(error);
    note(&failure.line());
    drop(out.object(&json!({ "error": failure })));
}

/// A fresh idempotency key.
fn idempotency_key() -> String {
    uuid::Uuid::now_v7().to_string()
}
