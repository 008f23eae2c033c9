//! `renkei document`: documents and their metadata.

mod file;
mod find;
mod kinds;
mod load;
mod metadata;
mod provide;
mod retrieve;
mod show;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::connection::Connection;
use super::output::{Done, Output};

/// Documents: provide, find in this community or in all regions, retrieve
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei document provide --as clinic.toml --patient 1.2.392.1:0012 --kind referral letter.xml\n  \
    renkei document find --as clinic.toml --patient 1.2.392.1:0012 --all-regions")]
pub(crate) struct Document {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

const PROVIDE_HELP: &str = "\
Examples:
  renkei document provide --as clinic.toml --patient 1.2.392.1:0012 --kind referral \\
      --practice '1.2.392.200250.2.2.2|01|内科' --facility '1.2.392.100495.20.3.22|1|医科' \\
      --author-institution 甲病院 --title 紹介状 letter.xml
  renkei document provide --as clinic.toml --patient 1.2.392.1:0012 --kind laboratory report.pdf

What is the same for every document of an institution can stand in the profile:
  [document]
  source_id = \"1.2.392.200119.6.1\"
  author_institution = \"甲病院\"
  facility = \"1.2.392.100495.20.3.22|1|医科\"
  practice = \"1.2.392.200250.2.2.2|01|内科\"";

const LOAD_HELP: &str = "\
Example:
  renkei document load --as clinic.toml archive/manifest.jsonl

The manifest has a JSON object a line: `file`, beside the manifest, and the flags of `document provide`:
  {\"file\": \"0012/letter.xml\", \"patient\": \"1.2.392.1:0012\", \"kind\": \"referral\", \"title\": \"紹介状\"}
Documents that are refused are named, and the others loaded: exit status 3.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Store documents and register them, all or nothing (ITI-41)
    #[command(after_help = PROVIDE_HELP)]
    Provide(Box<provide::Provide>),
    /// Store many documents; a load that broke off goes on where it was
    #[command(after_help = LOAD_HELP)]
    Load(load::Load),
    /// Find a patient's documents, in this community (ITI-18) or in all regions
    #[command(after_help = "Examples:\n  \
        renkei document find --as clinic.toml --patient 1.2.392.1:0012\n  \
        renkei document find --as clinic.toml --patient '0012^^^&1.2.392.1&ISO' --all-regions --from 2025\n  \
        renkei document find --as clinic.toml --patient 1.2.392.1:0012 --json | jq -r '.objects.entries[].unique_id'")]
    Find(Box<find::Find>),
    /// Retrieve a document into a file; its hash is checked
    #[command(after_help = "Examples:\n  \
        renkei document retrieve --as clinic.toml --repository 1.2.3 --unique-id 2.25.77 -o letter.xml\n  \
        renkei document retrieve --as clinic.toml --community urn:oid:1.2.392.9 --repository 1.2.3 \\\n      \
        --unique-id 2.25.77 -o letter.xml")]
    Retrieve(retrieve::Retrieve),
    /// Tell which regions hold anything for a patient
    #[command(after_help = "Example:\n  renkei document locate --as clinic.toml 1.2.392.1:0012")]
    Locate(find::Locate),
}

impl Document {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let profile = self.connection.profile()?.document.unwrap_or_default();
        let session = self.connection.open().await?;
        match self.command {
            Command::Provide(command) => command.run(session, profile, out).await,
            Command::Load(command) => command.run(session, profile, out).await,
            Command::Find(command) => command.run(session, out).await,
            Command::Retrieve(command) => command.run(session, out).await,
            Command::Locate(command) => command.run(session, out).await,
        }
    }
}
