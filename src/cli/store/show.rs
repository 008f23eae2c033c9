//! How `renkei store` tells what it did: a progress line on stderr, then text or one JSON object.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::super::names::octets;
use super::super::output::{Done, Output, Table, Text, shows_progress};
use crate::documents::CodeInUse;
use crate::store::backup::{BackupReport, Progress, RestoreReport};
use crate::store::{Fault, Inspection, Rotation, ScrubReport, Store, SweepReport};

/// Codes of a registry; those that are known to the community last.
pub(super) fn codes(out: Output, codes: &[CodeInUse]) -> Result<Done> {
    for code in codes {
        out.object(code)?;
    }
    out.human(|text| {
        let mut table = Table::new([
            "Attribute",
            "Code",
            "System",
            "Display",
            "Count",
            "Known",
            "Means",
        ]);
        for code in codes {
            table.row([
                code.attribute.to_owned(),
                code.code.clone(),
                code.system.clone(),
                code.display.clone(),
                code.count.to_string(),
                if code.known { "yes" } else { "NO" }.to_owned(),
                code.means.clone().unwrap_or_default(),
            ]);
        }
        text.table(&table);
    })?;
    Ok(Done::All)
}

/// A line that says how far it is, on a terminal only.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        if !shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
        let bar = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub(super) fn say(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }

    pub(super) fn at(&self, now: Progress) {
        let Progress {
            phase,
            bytes,
            frames,
            documents,
        } = now;
        let quick = (frames + documents).is_multiple_of(64);
        if quick && !self.0.is_hidden() {
            let bytes = octets(bytes);
            self.say(&format!(
                "{phase}: {bytes}, {frames} frames, {documents} documents"
            ));
        }
    }

    pub(super) fn scrubbed(&self, report: &ScrubReport) {
        if !self.0.is_hidden() {
            let (bytes, documents) = (octets(report.bytes), report.documents);
            self.say(&format!("{bytes}, {documents} documents"));
        }
    }

    pub(super) fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// All was done, or faults keep it from being so.
fn ended(faults: bool, otherwise: Done) -> Done {
    match faults {
        true => otherwise,
        false => Done::All,
    }
}

fn faults(text: &mut Text, faults: &[Fault]) {
    for fault in faults {
        text.field("Fault", format!("{}: {}", fault.place, fault.what));
    }
}

pub(super) fn inspection(out: Output, found: &Inspection) -> Result<Done> {
    out.object(found)?;
    out.human(|text| {
        text.field(
            "Ledger",
            format!(
                "{} frames in {} segments, last {}, {} decrypted",
                found.frames, found.segments, found.last_sequence, found.decrypted
            ),
        );
        if found.torn_bytes > 0 {
            text.field("Unfinished write", octets(found.torn_bytes));
        }
        text.field(
            "Documents",
            format!(
                "{} whole, {} erased with their keys, {} unreferred, {} in quarantine",
                found.documents, found.erased, found.unreferred, found.quarantined
            ),
        );
        text.field("Index entries", found.index_entries.to_string());
        text.field("Index made anew", &found.index_note);
        for fault in &found.faults {
            let offset = fault.offset.map(|offset| format!(" at {offset}"));
            let offset = offset.unwrap_or_default();
            text.field("Fault", format!("{}{offset}: {}", fault.place, fault.what));
        }
        if found.faults.is_empty() {
            text.line("No faults.");
        }
    })?;
    Ok(ended(!found.faults.is_empty(), Done::Failed))
}

pub(super) fn rebuilt(out: Output, frames: u64) -> Result<Done> {
    out.object(&json!({ "frames": frames }))?;
    out.human(|text| text.field("Index made from", format!("{frames} frames")))?;
    Ok(Done::All)
}

pub(super) fn stats(out: Output, store: &Store) -> Result<Done> {
    let stats = store.stats();
    let rows = store.rows()?;
    let documents = store.blobs().list()?.len();
    let quarantined = store.blobs().quarantined()?.len();
    let scrubbed = store.scrubbed()?;
    let keys = store.keys();
    out.object(&json!({
        "last_sequence": stats.last_sequence.0,
        "segments": stats.segments,
        "documents": documents,
        "quarantined": quarantined,
        "key_epoch": keys.epoch(),
        "rows": rows,
        "scrub": scrubbed,
    }))?;
    out.human(|text| {
        text.field("Last frame", stats.last_sequence.to_string());
        text.field("Segments", stats.segments.to_string());
        text.field("Documents", documents.to_string());
        text.field("In quarantine", quarantined.to_string());
        text.field("Key epoch", keys.epoch().to_string());
        for (table, count) in &rows {
            text.field(table, format!("{count} rows"));
        }
        if let Some(scrub) = &scrubbed {
            let ended = match scrub.finished.as_str() {
                "" => "under way".to_owned(),
                time => format!("ended {time}"),
            };
            let (cycle, documents) = (scrub.cycle, scrub.documents);
            let text_of = format!(
                "cycle {cycle}, {ended}: {documents} documents, {} mended, {} set aside",
                scrub.mended, scrub.quarantined
            );
            text.field("Scrub", text_of);
        }
    })?;
    Ok(Done::All)
}

pub(super) fn scrub(out: Output, report: &ScrubReport) -> Result<Done> {
    out.object(report)?;
    out.human(|text| {
        text.field("Cycle", report.cycle.to_string());
        text.field(
            "Verified",
            format!("{} documents, {}", report.documents, octets(report.bytes)),
        );
        text.field("Mended", report.mended.to_string());
        text.field("Copied again", report.copied_again.to_string());
        text.field("Set aside", report.quarantined.to_string());
        text.field("Gone", report.gone.to_string());
        text.field("Not readable", report.unreadable.to_string());
        faults(text, &report.faults);
    })?;
    Ok(ended(!report.is_well(), Done::Failed))
}

pub(super) fn sweep(out: Output, report: &SweepReport) -> Result<Done> {
    out.object(&json!({
        "examined": report.examined,
        "swept": report.swept,
        "deleted": report.deleted,
    }))?;
    out.human(|text| {
        text.field("Examined", report.examined.to_string());
        text.field("Swept", report.swept.to_string());
        text.field("Deleted", report.deleted.to_string());
    })?;
    Ok(Done::All)
}

pub(super) fn rotation(out: Output, rotation: Rotation) -> Result<Done> {
    out.object(&json!({"epoch": rotation.epoch, "index_pages": rotation.index_pages}))?;
    out.human(|text| text.field("Key epoch", rotation.epoch.to_string()))?;
    Ok(Done::All)
}

pub(super) fn backup(out: Output, report: &BackupReport) -> Result<Done> {
    let manifest = &report.manifest;
    out.object(&json!({
        "generation": manifest.generation,
        "mark": manifest.mark,
        "frames": report.frames,
        "bytes": report.bytes,
        "documents": manifest.documents,
        "verified": report.verified,
        "pruned_key_files": report.pruned_keys,
        "faults": report.faults,
    }))?;
    out.human(|text| {
        text.field("Run", manifest.generation.to_string());
        text.field(
            "Up to frame",
            format!("{} of {}", manifest.mark.sequence, manifest.mark.time),
        );
        text.field("Its hash", &manifest.mark.hash);
        text.field(
            "Copied",
            format!(
                "{} frames, {} documents, {}",
                report.frames,
                manifest.documents.added,
                octets(report.bytes)
            ),
        );
        if !report.verified {
            text.line("Documents were copied unverified: the root key was not at hand.");
        }
        text.line("The root key is not in the backup: keep it elsewhere.");
        faults(text, &report.faults);
    })?;
    Ok(ended(!report.faults.is_empty(), Done::InPart))
}

pub(super) fn restore(out: Output, report: &RestoreReport) -> Result<Done> {
    out.object(&json!({
        "mark": report.mark,
        "backup": report.backup,
        "frames": report.frames,
        "bytes": report.bytes,
        "documents": report.documents,
        "faults": report.faults,
    }))?;
    out.human(|text| {
        let mark = &report.mark;
        text.field("Up to frame", format!("{} of {}", mark.sequence, mark.time));
        text.field("Its hash", &mark.hash);
        let beyond = report.backup.sequence - mark.sequence;
        if beyond > 0 {
            text.field("Left out", format!("{beyond} frames of the backup"));
        }
        text.field(
            "Restored",
            format!(
                "{} frames, {} documents, {}",
                report.frames,
                report.documents,
                octets(report.bytes)
            ),
        );
        text.line("What was acknowledged after that frame is not in this store.");
        faults(text, &report.faults);
    })?;
    Ok(ended(!report.faults.is_empty(), Done::InPart))
}
