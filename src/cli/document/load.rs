//! `renkei document load`: many documents at once, from a manifest or a folder; a load that broke off
//! goes on where it was.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{self, SHA256};
use clap::{Args, Parser};
use data_encoding::HEXLOWER;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::metadata::{Known, Metadata};
use super::{file, provide};
use crate::cli::client::Session;
use crate::cli::failure::{Failure, Problem};
use crate::cli::output::{Done, Output, note, shows_progress};
use crate::cli::profile::DocumentProfile;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::pb::documents::ProvideStart;

/// Octets of a line of a manifest.
const MAX_LINE: usize = 1 << 20;

#[derive(Args, Debug)]
pub(crate) struct Load {
    /// The manifest, JSON Lines; or a folder with `manifest.jsonl` in it
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Where is kept what was loaded [default: beside the manifest, ending in .loaded]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

/// A line of a manifest, read as the flags of `document provide`.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Flags {
    #[command(flatten)]
    metadata: Metadata,
}

/// A document of a manifest.
struct Item {
    /// The line's number, from 1.
    number: usize,
    /// SHA-256 of the line: what the journal keeps, and the idempotency key.
    hash: String,
    path: PathBuf,
    metadata: Metadata,
}

impl Load {
    pub(crate) async fn run(
        self,
        session: Session,
        profile: DocumentProfile,
        out: Output,
    ) -> Result<Done> {
        let manifest = if self.path.is_dir() {
            self.path.join("manifest.jsonl")
        } else {
            self.path.clone()
        };
        let journal = self
            .journal
            .unwrap_or_else(|| manifest.with_extension("loaded"));
        let loaded = read_journal(&journal)?;
        let mut writing = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&journal)
            .with_context(|| format!("cannot write {}", journal.display()))?;
        let lines = lines(&manifest)?;
        let bar = if shows_progress() {
            ProgressBar::new(lines.len() as u64)
        } else {
            ProgressBar::hidden()
        };
        let (mut done, mut before, mut failed) = (0_u64, 0_u64, 0_u64);
        for (number, line) in lines {
            bar.inc(1);
            let hash = HEXLOWER.encode(digest::digest(&SHA256, line.as_bytes()).as_ref());
            if loaded.contains(&hash) {
                before += 1;
                continue;
            }
            let item = item(number, hash, &line, &manifest);
            let sent = match item {
                Ok(item) => send(&session, &profile, &item).await.map(|()| item.hash),
                Err(error) => Err(error),
            };
            match sent {
                // Durable at the node; a line that is lost here is sent again, which changes nothing.
                Ok(hash) => {
                    writeln!(writing, "{hash}").context("cannot write the journal")?;
                    done += 1;
                }
                Err(error) => {
                    failed += 1;
                    let failure = Failure::of(&error);
                    note(&format!("line {number}: {}", failure.line()));
                    out.object(&json!({ "line": number, "error": failure }))?;
                }
            }
        }
        bar.finish_and_clear();
        let counts = json!({ "loaded": done, "loaded_before": before, "failed": failed });
        out.object(&counts)?;
        out.human(|text| {
            text.field("Loaded", done.to_string());
            text.field("Loaded before", before.to_string());
            text.field("Failed", failed.to_string());
        })?;
        Ok(match (failed, done + before) {
            (0, _) => Done::All,
            (_, 0) => Done::Failed,
            _ => Done::InPart,
        })
    }
}

fn read_journal(path: &Path) -> Result<BTreeSet<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The lines of a manifest with their numbers, without empty ones.
fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.with_context(cannot)?;
        if line.len() > MAX_LINE {
            return Err(Problem::new(format!("line {number} is longer than 1 MiB")).into());
        }
        if !line.trim().is_empty() {
            found.push((number, line));
        }
    }
    Ok(found)
}

fn item(number: usize, hash: String, line: &str, manifest: &Path) -> Result<Item> {
    let object: Map<String, Value> = serde_json::from_str(line).context("is no JSON object")?;
    let (path, flags) = flags(&object)?;
    let metadata = Flags::try_parse_from(flags)
        .map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            Problem::new(first.trim_start_matches("error: ").to_owned())
        })?
        .metadata;
    let folder = manifest.parent().unwrap_or(Path::new(""));
    Ok(Item {
        number,
        hash,
        path: folder.join(path),
        metadata,
    })
}

/// `{"file": …, "patient": …, "service_start": …}`: the keys are the flags of `document provide`.
fn flags(object: &Map<String, Value>) -> Result<(String, Vec<String>)> {
    let mut path = None;
    let mut flags = Vec::new();
    for (key, value) in object {
        let flag = format!("--{}", key.replace('_', "-"));
        match value {
            Value::String(text) if key == "file" => path = Some(text.clone()),
            Value::String(text) => flags.push(format!("{flag}={text}")),
            Value::Bool(true) => flags.push(flag),
            Value::Bool(false) | Value::Null => {}
            _ => return Err(Problem::new(format!("`{key}` is neither text nor true")).into()),
        }
    }
    let path = path.ok_or_else(|| Problem::new("`file` is missing"))?;
    Ok((path, flags))
}

async fn send(session: &Session, profile: &DocumentProfile, item: &Item) -> Result<()> {
    let path = item.path.clone();
    let id = format!("document{}", item.number);
    let prepared = tokio::task::spawn_blocking(move || file::prepare(&path, id)).await??;
    let known = Known {
        profile,
        institution: session.statement().map(|one| one.institution.as_str()),
        now: SystemClock.now(),
    };
    let files = vec![prepared];
    let mut submission = item.metadata.submission(&files, &known)?;
    // The same line is the same submission of the same document, whenever it is sent again.
    let of = |what: &str| oid_of(&format!("{what}\0{}", item.hash));
    if let Some(set) = &mut submission.submission_set {
        set.unique_id = of("set");
        set.submission_time.clone_from(&files_time(&files));
    }
    if let [entry] = submission.entries.as_mut_slice()
        && !item.metadata.has_unique_id()
    {
        entry.unique_id = of("document");
    }
    let start = ProvideStart {
        submission: Some(submission),
        idempotency_key: item.hash.clone(),
        validate_only: false,
    };
    provide::stream(session, start, files, ProgressBar::hidden()).await?;
    Ok(())
}

fn files_time(files: &[file::Prepared]) -> String {
    files
        .first()
        .map_or_else(String::new, |file| super::metadata::dtm_of(file.modified))
}

/// An OID that a text always gives: 128 bits of its hash under 2.25.
fn oid_of(text: &str) -> String {
    let hash = digest::digest(&SHA256, text.as_bytes());
    let bytes = hash
        .as_ref()
        .get(..16)
        .and_then(|bytes| bytes.try_into().ok());
    format!("2.25.{}", u128::from_be_bytes(bytes.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Item> {
        item(7, "aa".into(), line, Path::new("/in/manifest.jsonl"))
    }

    #[test]
    fn the_keys_of_a_line_are_the_flags_of_provide() {
        let line = r#"{"file": "a/b.pdf", "patient": "1.2.3:007", "kind": "laboratory",
                       "service_start": "20240101", "uninformed": true, "title": "-x 検査"}"#;
        let read = read(&line.replace('\n', " ")).unwrap();
        assert_eq!(read.path, Path::new("/in/a/b.pdf"));
        assert_eq!(read.metadata.patient.value, "007");
        assert!(!read.metadata.has_unique_id());
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, why) in [
            ("[]", "no JSON object"),
            (r#"{"patient": "1.2.3:007"}"#, "`file` is missing"),
            (r#"{"file": "a"}"#, "required"),
            (
                r#"{"file": "a", "patient": "1.2.3:007", "no_such": "x"}"#,
                "--no-such",
            ),
            (r#"{"file": "a", "patient": 7}"#, "`patient`"),
        ] {
            let error = format!("{:#}", read(line).err().unwrap());
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn a_text_always_gives_the_same_oid() {
        assert_eq!(oid_of("a"), oid_of("a"));
        assert_ne!(oid_of("a"), oid_of("b"));
        assert!(oid_of("a").parse::<crate::types::Oid>().is_ok());
    }
}
