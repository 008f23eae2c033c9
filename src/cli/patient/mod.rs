//! `renkei patient`: patient identities.

mod check;
mod discover;
mod feed;
mod find;
mod links;
pub(super) mod record;
mod reviews;
mod show;
mod watch;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::connection::Connection;
use super::output::{Done, Output};

/// Patient identities: feed, find, link, review
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei patient feed --as clinic.toml patients.jsonl\n  \
    renkei patient query --as clinic.toml '0012^^^&1.2.392.1&ISO'\n  \
    renkei patient search --as clinic.toml --family 山田 --birth 1950-04-01")]
pub(crate) struct Patient {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

const FEED_HELP: &str = "\
Examples:
  renkei patient feed --as clinic.toml patients.jsonl
  zcat patients.jsonl.gz | renkei patient feed --as clinic.toml --idempotency-key 2026-04-01 -
  renkei patient feed --as clinic.toml --authority 1.2.392.1 --id 0012 --family 山田 --given 太郎 \\
      --kana-family ヤマダ --kana-given タロウ --birth 1950-04-01 --sex male

A line of the file (keys are the flags with _ for -, values are strings, unknown keys are refused):
  {\"authority\":\"1.2.392.1\",\"id\":\"0012\",\"family\":\"山田\",\"given\":\"太郎\",\"kana_family\":\"ヤマダ\",
   \"kana_given\":\"タロウ\",\"birth\":\"1950-04-01\",\"sex\":\"male\",\"address\":\"東京都文京区本郷7-3-1\",
   \"phone\":\"03-0000-0000\",\"insurer\":\"06139999\",\"insured_number\":\"12\",\"insured_branch\":\"01\"}

Exit status 3 if some lines were refused; each is named on stderr, and the others are fed.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Add or revise records, and link them: of a JSON Lines file, or one by flags
    #[command(after_help = FEED_HELP)]
    Feed(Box<feed::Feed>),
    /// Resolve an identifier into those of other domains (PIX)
    #[command(after_help = "Examples:\n  \
        renkei patient query --as clinic.toml '0012^^^&1.2.392.1&ISO'\n  \
        renkei patient query --as clinic.toml 1.2.392.1:0012 --domain 1.2.392.2")]
    Query(find::Query),
    /// Find people by what is known of them (PDQ); all that is given must hold
    #[command(after_help = "Examples:\n  \
        renkei patient search --as clinic.toml --family やまだ --birth 1950-04\n  \
        renkei patient search --as clinic.toml --name 山田太郎 --compare similar --limit 20")]
    Search(Box<find::Search>),
    /// Rank the people that a description may mean; nothing is stored
    #[command(after_help = "Example:\n  \
        renkei patient match --as clinic.toml --family 斎藤 --given 花子 --birth 1950-04-01 --sex female")]
    Match(Box<find::Match>),
    /// Before a registration: tell whether the person is there already; nothing is stored
    #[command(after_help = "Example:\n  \
        renkei patient check --as clinic.toml --family 斎藤 --given 花子 --birth 1950-04-01 --sex female")]
    Check(Box<check::Check>),
    /// Ask regions that do not feed the hub whether they know the patient
    #[command(after_help = "Examples:\n  \
        renkei patient discover --as clinic.toml 1.2.392.1:0012 --region urn:oid:2.999.1.7\n  \
        renkei patient discover --as emergency.toml 1.2.392.1:0012 --broadcast")]
    Discover(discover::Discover),
    /// Show a person with the records of every source
    #[command(after_help = "Example:\n  renkei patient show --as clinic.toml 1.2.392.1:0012")]
    Show(find::Show),
    /// Tell what was linked, when, by whom and why
    #[command(after_help = "Example:\n  \
        renkei patient history --as steward.toml 1.2.392.1:0012 --as-of 2026-04-01")]
    History(find::History),
    /// Link records of different domains as one person
    #[command(after_help = "Examples:\n  \
        renkei patient link --as steward.toml 1.2.392.1:0012 1.2.392.2:998 --reason 'same card' --preview\n  \
        renkei patient link --as steward.toml 1.2.392.1:0012 1.2.392.2:998 --reason 'same card'")]
    Link(links::Link),
    /// Take a record out of a person
    #[command(after_help = "Example:\n  \
        renkei patient unlink --as steward.toml 1.2.392.1:0012 1.2.392.2:998 --reason 'father and son'")]
    Unlink(links::Unlink),
    /// Merge two identifiers of one domain
    #[command(after_help = "Example:\n  \
        renkei patient merge --as clinic.toml 1.2.392.1:0012 1.2.392.1:0345 --reason 'registered twice'")]
    Merge(links::Merge),
    /// Take a merge back
    #[command(after_help = "Example:\n  \
        renkei patient unmerge --as clinic.toml --subsumed 1.2.392.1:0345 --reason 'two people'")]
    Unmerge(links::Unmerge),
    /// Propose to split a person; another steward must approve
    #[command(after_help = "Example:\n  \
        renkei patient split --as steward.toml LINKAGE --group 1.2.392.1:0012 \\\n      \
        --group 1.2.392.2:998,1.2.392.3:7 --reason 'mother and daughter'")]
    Split(links::Split),
    /// Follow changes of identifier sets
    #[command(
        after_help = "Example:\n  renkei patient watch --as clinic.toml --resume 1f.1 --json"
    )]
    Watch(watch::Watch),
    /// List what waits for a data steward
    #[command(
        after_help = "Example:\n  renkei patient reviews --as steward.toml --min-priority 50"
    )]
    Reviews(reviews::Reviews),
    /// Show a task of a data steward, side by side
    #[command(after_help = "Example:\n  renkei patient review --as steward.toml TASK")]
    Review(reviews::Review),
    /// Decide a task
    #[command(after_help = "Examples:\n  \
        renkei patient decide --as steward.toml TASK same_person --version 1 --preview\n  \
        renkei patient decide --as steward.toml TASK different_persons --version 1 --reason twins")]
    Decide(reviews::Decide),
    /// Give a task to a steward, or back to all
    #[command(after_help = "Example:\n  renkei patient assign --as steward.toml TASK --to S-4001")]
    Assign(reviews::Assign),
    /// Take a decision back
    #[command(after_help = "Example:\n  \
        renkei patient undo --as steward.toml DECISION --reason 'wrong card'")]
    Undo(reviews::Undo),
}

impl Patient {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::Feed(command) => command.run(session, out).await,
            Command::Query(command) => command.run(session, out).await,
            Command::Search(command) => command.run(session, out).await,
            Command::Match(command) => command.run(session, out).await,
            Command::Discover(command) => command.run(session, out).await,
            Command::Show(command) => command.run(session, out).await,
            Command::History(command) => command.run(session, out).await,
            Command::Link(command) => command.run(session, out).await,
            Command::Unlink(command) => command.run(session, out).await,
            Command::Merge(command) => command.run(session, out).await,
            Command::Unmerge(command) => command.run(session, out).await,
            Command::Reviews(command) => command.run(session, out).await,
            Command::Review(command) => command.run(session, out).await,
            Command::Decide(command) => command.run(session, out).await,
            Command::Check(command) => command.run(session, out).await,
            Command::Split(command) => command.run(session, out).await,
            Command::Watch(command) => command.run(session, out).await,
            Command::Assign(command) => command.run(session, out).await,
            Command::Undo(command) => command.run(session, out).await,
        }
    }
}
