//! `renkei load`: many records at once, resumable.

mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use self::record::Records;
use super::client::Session;
use super::connection::Connection;
use super::failure::Problem;
use super::output::{Done, Output, note, shows_progress};
use crate::wire::pb::identity::load_patients_request::Part as Asked;
use crate::wire::pb::identity::load_patients_response::Part as Told;
use crate::wire::pb::identity::{
    LoadCounts, LoadPatientsRequest, LoadPatientsResponse, LoadRecord, LoadRejected, LoadStart,
};

/// Records read ahead of the network.
const READ_AHEAD: usize = 512;

/// Load many records at once; a load that broke off goes on where it was
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei load patients --as clinic.toml --authority 1.2.392.1 patients.jsonl\n  \
    zcat records.jsonl.gz | renkei load patients --as clinic.toml --mapping domains.toml --key 2026-04 -")]
pub(crate) struct Load {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

const PATIENTS_HELP: &str = "\
Formats, by the name's ending or --format:
  jsonl  a record a line: as `renkei patient feed` reads, or as the generator of synthetic patients writes
  csv    with a header; --mapping says which column is what

A mapping file:
  [domains]            # what the file calls a domain, and its assigning authority
  R001 = \"1.2.392.1\"
  [columns]            # csv: the keys of `renkei patient feed`, and `domain`
  id = \"患者ID\"
  family = \"姓\"
  birth = \"生年月日\"
  [sex]                # csv: what the file calls male and female
  1 = \"male\"

Records that are refused are named, and the others loaded: exit status 3.
Given the same file (or --key) again, a load goes on behind the last record that is durable.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Load patients of a JSON Lines or CSV file, with matching
    #[command(after_help = PATIENTS_HELP)]
    Patients(Patients),
}

#[derive(Args, Debug)]
struct Patients {
    /// The file; - reads standard input, and needs --key
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// jsonl or csv, if the name does not say
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// What the file calls domains, columns and sexes
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// OID of the assigning authority of records that name none
    #[arg(long, value_name = "OID")]
    authority: Option<String>,
    /// Names the load, so that it can be gone on with [default: from the file's content]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only check; store nothing
    #[arg(long)]
    check: bool,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// JSON Lines.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
}

/// What a file calls things.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mapping {
    /// Its names of domains, and their assigning authorities.
    pub(super) domains: BTreeMap<String, String>,
    /// Our keys, and its columns.
    pub(super) columns: BTreeMap<String, String>,
    /// Its codes of sexes, and ours.
    pub(super) sex: BTreeMap<String, String>,
    /// The assigning authority of records that name no domain.
    #[serde(skip)]
    pub(super) authority: Option<String>,
}

/// A record that was not sent.
#[derive(Debug, Serialize)]
struct Unreadable {
    position: u64,
    reason: &'static str,
    description: String,
}

impl Load {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let session = self.connection.open().await?;
        match self.command {
            Command::Patients(command) => command.run(session, out).await,
        }
    }
}

impl Patients {
    async fn run(self, session: Session, out: Output) -> Result<Done> {
        let mapping = self.read_mapping()?;
        let format = self.format()?;
        let key = self.key()?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let start = LoadStart {
            idempotency_key: key,
            total: 0,
            validate_only: self.check,
        };
        sender.send(asked(Asked::Start(start))).await?;
        let mut client = session.identity();
        let answer = client.load_patients(ReceiverStream::new(receiver)).await?;
        let mut told = answer.into_inner();
        let first = told.next().await.context("the node said nothing")??;
        let durable = match first.part {
            Some(Told::Accepted(accepted)) => accepted.durable_position,
            _ => return Err(Problem::new("the node did not say where to go on").into()),
        };
        if durable > 0 {
            note(&format!("going on behind record {durable}"));
        }
        let file = self.file.clone();
        let (unreadable, mut problems) = mpsc::unbounded_channel();
        let reading = tokio::task::spawn_blocking(move || {
            send(&file, format, &mapping, durable, &sender, &unreadable)
        });
        let mut tally = Tally::new(out);
        while let Some(message) = told.next().await {
            tally.take(message?)?;
            while let Ok(problem) = problems.try_recv() {
                tally.unreadable(&problem)?;
            }
        }
        reading.await??;
        while let Ok(problem) = problems.try_recv() {
            tally.unreadable(&problem)?;
        }
        tally.show()
    }

    fn read_mapping(&self) -> Result<Mapping> {
        let mut mapping = match &self.mapping {
            None => Mapping::default(),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {shown}"))?;
                toml::from_str(&text).with_context(|| format!("{shown} is not a mapping"))?
            }
        };
        mapping.authority.clone_from(&self.authority);
        Ok(mapping)
    }

    fn format(&self) -> Result<Format> {
        let ending = self.file.extension().and_then(|ending| ending.to_str());
        match (self.format, ending) {
            (Some(format), _) => Ok(format),
            (None, Some("csv")) => Ok(Format::Csv),
            (None, Some("jsonl" | "ndjson")) => Ok(Format::Jsonl),
            (None, _) if self.is_standard_input() => Ok(Format::Jsonl),
            _ => Err(Problem::new("the format is not known by the name: give --format").into()),
        }
    }

    fn is_standard_input(&self) -> bool {
        self.file == Path::new("-")
    }

    /// The load's name: the same file again is the same load.
    fn key(&self) -> Result<String> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        if self.is_standard_input() {
            return Err(Problem::new("standard input has no name: give --key").into());
        }
        let shown = self.file.display();
        let mut file = File::open(&self.file).with_context(|| format!("cannot read {shown}"))?;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = file
                .read(&mut buffer)
                .with_context(|| format!("cannot read {shown}"))?;
            if count == 0 {
                break;
            }
            context.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(HEXLOWER.encode(context.finish().as_ref()))
    }
}

fn asked(part: Asked) -> LoadPatientsRequest {
    LoadPatientsRequest { part: Some(part) }
}

/// Sends the records behind `durable`. Ends early without an error if the node has gone: its answer says
/// why.
fn send(
    file: &Path,
    format: Format,
    mapping: &Mapping,
    durable: u64,
    sender: &mpsc::Sender<LoadPatientsRequest>,
    unreadable: &mpsc::UnboundedSender<Unreadable>,
) -> Result<()> {
    let records = Records::open(file, format, mapping)?;
    for (position, patient) in (1..).zip(records) {
        if position <= durable {
            continue;
        }
        match patient {
            Ok(patient) => {
                let record = LoadRecord {
                    position,
                    patient: Some(patient),
                };
                if sender.blocking_send(asked(Asked::Record(record))).is_err() {
                    return Ok(());
                }
            }
            Err(record::Unread::Record(problem)) => {
                let problem = Unreadable {
                    position,
                    reason: "UNREADABLE",
                    description: format!("{problem:#}"),
                };
                if unreadable.send(problem).is_err() {
                    return Ok(());
                }
            }
            Err(record::Unread::File(error)) => return Err(error),
        }
    }
    Ok(())
}

/// What came of a load.
struct Tally {
    out: Output,
    bar: ProgressBar,
    unread: u64,
    counts: LoadCounts,
}

impl Tally {
    fn new(out: Output) -> Self {
        let bar = match shows_progress() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        Self {
            out,
            bar,
            unread: 0,
            counts: LoadCounts::default(),
        }
    }

    fn take(&mut self, message: LoadPatientsResponse) -> Result<()> {
        self.out.json(&message)?;
        match message.part {
            Some(Told::Rejected(rejected)) => self.rejected(&rejected),
            Some(Told::Progress(counts) | Told::Summary(counts)) => {
                self.counts = counts;
                let at = counts.durable_position;
                self.bar.set_message(format!("{at} records are durable"));
                self.bar.tick();
            }
            Some(Told::Accepted(_)) | None => {}
        }
        Ok(())
    }

    fn rejected(&self, rejected: &LoadRejected) {
        let LoadRejected {
            position,
            reason,
            field,
            description,
        } = rejected;
        let line = format!("record {position}: {reason} {field} {description}");
        self.bar.suspend(|| note(&line));
    }

    fn unreadable(&mut self, problem: &Unreadable) -> Result<()> {
        self.unread += 1;
        let line = format!("record {}: {}", problem.position, problem.description);
        self.bar.suspend(|| note(&line));
        self.out.object(problem)
    }

    fn show(&self) -> Result<Done> {
        self.bar.finish_and_clear();
        let counts = self.counts;
        self.out.human(|text| {
            for (name, count) in [
                ("New people", counts.new_persons),
                ("Linked", counts.linked),
                ("For review", counts.review),
                ("Unchanged", counts.unchanged),
                ("Refused", counts.rejected + self.unread),
            ] {
                text.field(name, count.to_string());
            }
        })?;
        Ok(match counts.rejected + self.unread {
            0 => Done::All,
            _ => Done::InPart,
        })
    }
}
