//! `renkei patient feed`: records to the node, one or many.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::Status;

use super::record::PatientRecord;
use super::show;
use crate::cli::client::Session;
use crate::cli::failure::{Failure, Problem};
use crate::cli::names::{Named as _, label};
use crate::cli::output::{Done, Output, note, shows_progress};
use crate::wire::pb::identity::{
    FeedEvent, FeedOutcome, FeedPatientRequest, FeedPatientResponse, Patient,
};

/// Longest line read, octets: a record is a few hundred.
const LONGEST_LINE: usize = 64 * 1024;

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
                let lines = read_lines(file)?;
                self.feed_lines(session, lines, out).await
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

    async fn feed_lines(
        &self,
        session: Session,
        lines: Vec<(usize, String)>,
        out: Output,
    ) -> Result<Done> {
        let bar = progress(lines.len());
        let mut running = JoinSet::new();
        let mut tally = Tally::default();
        for (line, text) in lines {
            if running.len() >= usize::from(self.parallel)
                && let Some(done) = running.join_next().await
            {
                tally.take(out, &bar, &done?)?;
            }
            let record = PatientRecord::parse(&text).and_then(|record| identified(&record));
            let (key, mut client) = (self.key(Some(line)), session.identity());
            running.spawn(async move {
                let request = FeedPatientRequest {
                    patient: Some(match record {
                        Ok(patient) => patient,
                        Err(problem) => return LineResult::failed(line, &problem.into()),
                    }),
                    idempotency_key: key,
                    ..FeedPatientRequest::default()
                };
                let answer = client.feed_patient(request).await;
                LineResult::of(line, answer.map(tonic::Response::into_inner))
            });
        }
        while let Some(done) = running.join_next().await {
            tally.take(out, &bar, &done?)?;
        }
        bar.finish_and_clear();
        tally.show(out)
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
        bar.inc(1);
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

fn progress(records: usize) -> ProgressBar {
    if !shows_progress() || records < 20 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(records).unwrap_or(u64::MAX));
    match ProgressStyle::with_template("{bar:30} {pos}/{len} records, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The lines of a file with their numbers from 1, empty ones left out.
fn read_lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("cannot read {}", path.display()))?;
        Box::new(std::io::BufReader::new(file))
    };
    let mut lines = Vec::new();
    for (at, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("line {} of {}", at + 1, path.display()))?;
        if line.len() > LONGEST_LINE {
            return Err(Problem::new(format!("line {}: is longer than 64 KiB", at + 1)).into());
        }
        if !line.trim().is_empty() {
            lines.push((at + 1, line));
        }
    }
    Ok(lines)
}
