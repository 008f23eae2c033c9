//! Scrubbing: every document is read and verified once in a cycle, so that silent corruption is
//! found while there still is a second copy, not when the document is needed.
//!
//! `scrub.json` beside the ledger keeps the report of the cycle under way (or last finished) and how
//! far it is, so that a cycle goes on after a restart. Names in it are keyed hashes (INV-8).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Store;
use super::blobs::BlobId;
use super::blobs::mend::Verdict;
use super::core::Core;
use super::disk::{Disk, read_small, write_small};
use super::error::{IoContext as _, StoreError};
use super::options::Fault;
use super::table::BLOB_INDEX;

/// Documents after which the state is written.
const NOTE_EVERY: u64 = 256;
/// Faults listed one by one; more are counted.
const MAX_FAULTS: usize = 1_000;
/// Largest state file, bytes.
const MAX_STATE: usize = 4 << 20;
/// Longest time a paced scrub does not look whether it shall stop.
const NAP: Duration = Duration::from_millis(200);
/// Entries of the index read at once.
const PAGE: usize = 512;

/// How to scrub.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubOptions {
    /// Most document bytes read in a second; `None` is as fast as the disk gives them.
    pub bytes_per_second: Option<u64>,
    /// Begin a new cycle instead of going on with one that was broken off.
    pub anew: bool,
}

/// What a cycle has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubReport {
    /// Counted from 1.
    pub cycle: u64,
    /// When it began (RFC 3339).
    pub started: String,
    /// When it ended; empty while it is under way.
    pub finished: String,
    /// Documents verified.
    pub documents: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Documents that were damaged or gone and are whole again from their second copy.
    pub mended: u64,
    /// Second copies that were missing or damaged and were made again.
    pub copied_again: u64,
    /// Documents moved into quarantine.
    pub quarantined: u64,
    /// Documents that rows refer to and that are nowhere.
    pub gone: u64,
    /// Documents whose keys were destroyed.
    pub erased: u64,
    /// Documents that could not be judged.
    pub unreadable: u64,
    /// What was found wrong, at most 1,000 of them.
    pub faults: Vec<Fault>,
    /// The last document of the part that is done.
    cursor: String,
}

impl ScrubReport {
    /// Whether every document is whole now.
    pub const fn is_well(&self) -> bool {
        self.quarantined == 0 && self.gone == 0 && self.unreadable == 0
    }

    fn take(&mut self, id: &BlobId, verdict: Verdict) {
        self.documents += 1;
        self.cursor = id.to_string();
        let what = match verdict {
            Verdict::Good(size) => {
                self.bytes += size;
                return;
            }
            Verdict::CopiedAgain(size) => {
                self.bytes += size;
                self.copied_again += 1;
                return;
            }
            Verdict::Erased => {
                self.erased += 1;
                return;
            }
            Verdict::Mended(error) => {
                self.mended += 1;
                format!("{error}; restored from the second copy")
            }
            Verdict::Condemned(error) => {
                self.quarantined += 1;
                format!("{error}; moved into quarantine")
            }
            Verdict::Gone => {
                self.gone += 1;
                "is referred to and is not there".to_owned()
            }
            Verdict::Unreadable(error) => {
                self.unreadable += 1;
                error.to_string()
            }
        };
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                place: format!("blobs/{id}"),
                what,
            });
        }
    }
}

impl Core {
    /// The documents whose names begin with this byte and that rows refer to.
    pub(crate) fn referred_to(&self, folder: u8) -> Result<BTreeSet<BlobId>, StoreError> {
        let mut ids = BTreeSet::new();
        for (table, _) in self.schema.tables() {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let index = self.readable()?;
                let page = index.entries(table, BLOB_INDEX, &[folder], after.as_deref(), PAGE)?;
                let found = page
                    .iter()
                    .filter_map(|(cursor, split)| cursor.get(..*split));
                ids.extend(found.filter_map(BlobId::from_slice));
                match page.into_iter().last() {
                    Some((last, _)) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(ids)
    }

    fn scrub_file(&self) -> PathBuf {
        self.ledger.dir.with_file_name("scrub.json")
    }

    /// The report of the cycle under way, or of the last one.
    pub(crate) fn scrubbed(&self) -> Result<Option<ScrubReport>, StoreError> {
        let disk = self.ledger.disk.as_ref();
        match read_small(disk, &self.scrub_file(), MAX_STATE) {
            // A state that does not parse is none: the cycle begins anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("reading the scrub's state"),
        }
    }

    fn note_scrub(&self, report: &ScrubReport) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(report).unwrap_or_default();
        let disk: &dyn Disk = self.ledger.disk.as_ref();
        write_small(disk, &self.scrub_file(), &bytes).during("writing the scrub's state")
    }
}

impl Store {
    /// The report of the scrub cycle under way, or of the last one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn scrubbed(&self) -> Result<Option<ScrubReport>, StoreError> {
        self.core.scrubbed()
    }

    /// Verifies every document on disk and every one that rows refer to, with its second copy;
    /// mends what can be mended, and moves the rest of what does not verify into quarantine. Goes on
    /// with a cycle that was broken off. Stops early when `stop` says so; the report then has no end.
    /// Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Index`] or [`StoreError::Rebuilding`]. What a document's
    /// own bytes do is in the report.
    pub fn scrub(
        &self,
        options: ScrubOptions,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(&ScrubReport),
    ) -> Result<ScrubReport, StoreError> {
        let core = &self.core;
        let before = core.scrubbed()?.unwrap_or_default();
        let mut report = if before.cycle > 0 && before.finished.is_empty() && !options.anew {
            before
        } else {
            ScrubReport {
                cycle: before.cycle + 1,
                started: core.clock.now().to_string(),
                ..ScrubReport::default()
            }
        };
        let mut pace = Pace::new(options.bytes_per_second, report.bytes);
        for folder in 0..=u8::MAX {
            let name = format!("{folder:02x}");
            if report.cursor.get(..2).is_some_and(|done| *name < *done) {
                continue;
            }
            let mut ids = core.blobs.list_folder(folder)?;
            ids.extend(core.referred_to(folder)?);
            for id in ids {
                if !report.cursor.is_empty() && id.to_string() <= report.cursor {
                    continue;
                }
                if stop() || pace.wait(report.bytes, stop) {
                    core.note_scrub(&report)?;
                    return Ok(report);
                }
                let verdict = core.blobs.scrub_one(&id)?;
                // Swept between listing and looking.
                if matches!(verdict, Verdict::Gone) && !core.is_referred_to(&id)? {
                    continue;
                }
                report.take(&id, verdict);
                progress(&report);
                if report.documents.is_multiple_of(NOTE_EVERY) {
                    core.note_scrub(&report)?;
                }
            }
        }
        report.cursor.clear();
        report.finished = core.clock.now().to_string();
        core.note_scrub(&report)?;
        Ok(report)
    }
}

/// Keeps to a number of bytes in a second.
struct Pace {
    rate: Option<u64>,
    started: Instant,
    from: u64,
}

impl Pace {
    fn new(rate: Option<u64>, from: u64) -> Self {
        Self {
            rate,
            started: Instant::now(),
            from,
        }
    }

    /// Waits until `bytes` may have been read; whether it was told to stop meanwhile.
    fn wait(&mut self, bytes: u64, stop: &dyn Fn() -> bool) -> bool {
        let Some(rate) = self.rate else {
            return false;
        };
        let micros = u128::from(bytes - self.from) * 1_000_000 / u128::from(rate.max(1));
        let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        while let Some(left) = due.checked_sub(self.started.elapsed()) {
            if stop() {
                return true;
            }
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(NAP));
        }
        false
    }
}
