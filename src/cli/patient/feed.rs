//! `renkei patient feed`: records to the node, one or many.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

use super::record::PatientRecord;
use super::show;
use crate::cli::client::Session;
use crate::cli::failure::{Failure, Problem};
use crate::cli::names::{Named as _, cx, label};
use crate::cli::output::{Done, Output, note, shows_progress};
use crate::wire::pb::identity::{
    FeedEvent, FeedOutcome, FeedPatientRequest, FeedPatientResponse, Patient,
};

/// Longest line read, octets: a record is a few hundred.
const LONGEST_LINE: usize = 64 * 1024;

/// Lines read ahead of the network.
const READ_AHEAD: usize = 64;

/// From this size on a progress bar is worth it, octets.
const WORTH_A_BAR: u64 = 16 * 1024;

#[derive(Args, Debug)]
pub(crate) struct Feed {
    /// JSON Lines, one record a line; - reads standard input. Without it the flags are one record
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    record: PatientRecord,
    /// Withdraw the record; --authority and --id suffice
    #[arg(long, conflicts_with = "file")]
    withdraw: bool,
    /// Feed only if the record's version is still this
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    expected_version: u64,
    /// Names this feed, so that it can be repeated safely; of a file, with the line number added
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Records under way at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

/// What became of one line of a file.
#[derive(Debug, Serialize)]
struct LineResult {
    line: usize,
    outcome: Option<&'static str>,
    linkage_id: Option<String>,
    version: Option<u64>,
    review_task_ids: Vec<String>,
    warnings: Vec<String>,
    error: Option<Failure>,
}

impl Feed {
    pub(crate) async fn run(self, session: Session, out: Output) -> Result<Done> {
        match &self.file {
            Some(_) if self.record != PatientRecord::default() => {
                Err(Problem::new("FILE: give a file or the flags of one record, not both").into())
            }
            Some(file) => {
                let (lines, bar) = open(file)?;
                self.feed_lines(session, lines, bar, out).await
            }
            None => self.feed_one(session, out).await,
        }
    }

    async fn feed_one(&self, session: Session, out: Output) -> Result<Done> {
        let event = match self.withdraw {
            true => FeedEvent::Withdraw,
            false => FeedEvent::Unspecified,
        };
        let request = FeedPatientRequest {
            patient: Some(identified(&self.record)?),
            event: event.into(),
            expected_version: self.expected_version,
            idempotency_key: self.key(None),
            ..FeedPatientRequest::default()
        };
        let answer = session.identity().feed_patient(request).await?.into_inner();
        out.answer(&answer, |text| show::fed(text, &answer))?;
        Ok(Done::All)
    }

    fn key(&self, line: Option<usize>) -> String {
        match (&self.idempotency_key, line) {
            (Some(key), Some(line)) => format!("{key}-{line}"),
            (Some(key), None) => key.clone(),
            (None, _) => crate::cli::idempotency_key(),
        }
    }

    /// Feeds the lines as they are read, some at a time: memory does not grow with the file.
    async fn feed_lines(
        &self,
        session: Session,
        mut lines: mpsc::Receiver<Result<Line>>,
        bar: ProgressBar,
        out: Output,
    ) -> Result<Done> {
        let mut feeder = Feeder {
            running: JoinSet::new(),
            patients: HashSet::new(),
            tally: Tally::default(),
            bar,
            out,
        };
        while let Some(line) = lines.recv().await {
            let line = line?;
            feeder.bar.inc(line.octets);
            let record = PatientRecord::parse(&line.text).and_then(|record| identified(&record));
            let patient = record
                .as_ref()
                .ok()
                .and_then(|one| one.identifier.as_ref().map(cx));
            feeder
                .room(usize::from(self.parallel), patient.as_ref())
                .await?;
            let (key, mut client) = (self.key(Some(line.number)), session.identity());
            let done = patient.clone();
            feeder.patients.extend(patient);
            feeder.running.spawn(async move {
                let request = FeedPatientRequest {
                    patient: Some(match record {
                        Ok(patient) => patient,
                        Err(problem) => {
                            return (done, LineResult::failed(line.number, &problem.into()));
                        }
                    }),
                    idempotency_key: key,
                    ..FeedPatientRequest::default()
                };
                let answer = client.feed_patient(request).await;
                let result = LineResult::of(line.number, answer.map(tonic::Response::into_inner));
                (done, result)
            });
        }
        feeder.room(0, None).await?;
        feeder.bar.finish_and_clear();
        feeder.tally.show(out)
    }
}

/// Records under way, each with its patient.
struct Feeder {
    running: JoinSet<(Option<String>, LineResult)>,
    patients: HashSet<String>,
    tally: Tally,
    bar: ProgressBar,
    out: Output,
}

impl Feeder {
    /// Waits until fewer than `most` records are under way (none for 0), and none of `patient`:
    /// two lines about one patient are fed in their order.
    async fn room(&mut self, most: usize, patient: Option<&String>) -> Result<()> {
        while self.running.len() >= most.max(1)
            || patient.is_some_and(|patient| self.patients.contains(patient))
        {
            let Some(done) = self.running.join_next().await else {
                return Ok(());
            };
            let (patient, result) = done?;
            if let Some(patient) = patient {
                self.patients.remove(&patient);
            }
            self.tally.take(self.out, &self.bar, &result)?;
        }
        Ok(())
    }
}

impl LineResult {
    fn of(line: usize, answer: Result<FeedPatientResponse, Status>) -> Self {
        match answer {
            Ok(answer) => Self {
                line,
                outcome: Some(answer.outcome().as_str_name()),
                linkage_id: Some(answer.linkage_id),
                version: Some(answer.version),
                review_task_ids: answer.review_task_ids,
                warnings: answer.warnings,
                error: None,
            },
            Err(status) => Self::failed(line, &status.into()),
        }
    }

    fn failed(line: usize, error: &anyhow::Error) -> Self {
        Self {
            line,
            outcome: None,
            linkage_id: None,
            version: None,
            review_task_ids: Vec::new(),
            warnings: Vec::new(),
            error: Some(Failure::of(error)),
        }
    }
}

/// What came of many records.
#[derive(Debug, Default)]
struct Tally {
    fed: usize,
    failed: usize,
    outcomes: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn take(&mut self, out: Output, bar: &ProgressBar, result: &LineResult) -> Result<()> {
        if let Some(failure) = &result.error {
            self.failed += 1;
            bar.suspend(|| note(&format!("line {}: {}", result.line, failure.line())));
        } else {
            self.fed += 1;
            let outcome = result.outcome.unwrap_or_default();
            *self.outcomes.entry(outcome).or_default() += 1;
        }
        out.object(result)
    }

    fn show(&self, out: Output) -> Result<Done> {
        out.human(|text| {
            text.field("Fed", self.fed.to_string());
            for (outcome, count) in &self.outcomes {
                let all = FeedOutcome::all().find(|one| one.as_str_name() == *outcome);
                let name = all.map_or_else(String::new, |one| label::<FeedOutcome>(one.into()));
                text.field(&format!("  {name}"), count.to_string());
            }
            text.field("Refused", self.failed.to_string());
        })?;
        match (self.fed, self.failed) {
            (_, 0) => Ok(Done::All),
            (0, _) => Err(Problem::new("no record was taken").into()),
            _ => Ok(Done::InPart),
        }
    }
}

/// The record, which must have an identifier.
fn identified(record: &PatientRecord) -> Result<Patient, Problem> {
    let patient = record.patient()?;
    match patient.identifier {
        Some(_) => Ok(patient),
        None => Err(Problem::new("authority and id: are required")),
    }
}

/// A line of a file that is not empty.
#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    /// Octets up to here since the line before.
    octets: u64,
}

/// Starts reading a file's lines, or standard input's, with a bar that shows how far it is.
fn open(path: &Path) -> Result<(mpsc::Receiver<Result<Line>>, ProgressBar)> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    if path == Path::new("-") {
        tokio::task::spawn_blocking(move || read(std::io::stdin().lock(), &sender));
        return Ok((receiver, ProgressBar::hidden()));
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let size = file.metadata().with_context(cannot)?.len();
    tokio::task::spawn_blocking(move || read(BufReader::new(file), &sender));
    Ok((receiver, progress(size)))
}

/// Reads until the end, an error, or nobody listens any more.
fn read(mut reader: impl BufRead, sender: &mpsc::Sender<Result<Line>>) {
    let mut octets = 0;
    for number in 1.. {
        let line = match next_line(&mut reader) {
            Ok(None) => return,
            Ok(Some(text)) => {
                octets += u64::try_from(text.len()).unwrap_or_default();
                if text.trim().is_empty() {
                    continue;
                }
                Ok(Line {
                    number,
                    text,
                    octets: std::mem::take(&mut octets),
                })
            }
            Err(error) => Err(error.context(format!("line {number}"))),
        };
        let last = line.is_err();
        if sender.blocking_send(line).is_err() || last {
            return;
        }
    }
}

/// The next line with its end, of at most [`LONGEST_LINE`].
fn next_line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut text = String::new();
    let limit = u64::try_from(LONGEST_LINE + 1).unwrap_or(u64::MAX);
    reader.take(limit).read_line(&mut text)?;
    match text.len() {
        0 => Ok(None),
        length if length > LONGEST_LINE => Err(Problem::new("is longer than 64 KiB").into()),
        _ => Ok(Some(text)),
    }
}

fn progress(size: u64) -> ProgressBar {
    if !shows_progress() || size < WORTH_A_BAR {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    match ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes} fed, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static [u8]) -> Vec<Result<Line>> {
        let (sender, mut receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || read(text, &sender));
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_keep_their_numbers() {
        let found = lines(b"a\n\n  \nb").await;
        let numbers: Vec<usize> = found
            .iter()
            .map(|line| line.as_ref().unwrap().number)
            .collect();
        assert_eq!(numbers, [1, 4]);
        let octets: u64 = found.iter().map(|line| line.as_ref().unwrap().octets).sum();
        assert_eq!(octets, 7, "empty lines count for the bar");
    }

    #[tokio::test]
    async fn what_cannot_be_read_ends_it() {
        let found = lines(b"a\n\xff\nb\n").await;
        assert_eq!(found.len(), 2);
        assert!(format!("{:#}", found[1].as_ref().unwrap_err()).starts_with("line 2: "));
        let long: &'static [u8] = Box::leak(vec![b'x'; LONGEST_LINE + 1].into());
        let error = lines(long).await.remove(0).unwrap_err();
        assert!(format!("{error:#}").contains("longer than 64 KiB"));
    }
}
