//! Checking the whole store, comparing indexes, and forgetting what has expired.

use super::Store;
use super::commit::{Commit, Expect, Outcome, Write};
use super::error::StoreError;
use super::idempotency::{BY_EXPIRY, IdempotencyRow};
use super::index::Index;
use super::ledger::format::SegmentHeader;
use super::ledger::reader::{SegmentReader, Step};
use super::ledger::segment_name;
use super::options::{CheckReport, Fault};
use super::table::Row as _;

/// Frames between two reports of progress.
const REPORT_EVERY: u64 = 10_000;

impl Store {
    /// Walks the ledger, every document and the index, verifies every byte, and lists each fault
    /// found; none of them ends the walk. `progress` is called now and then. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folders cannot be listed.
    pub fn check(&self, progress: &mut dyn FnMut(&CheckReport)) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        let segments = self.core.ledger.segments();
        let mut before: Option<SegmentReader> = None;
        for (place, header) in segments.iter().enumerate() {
            before = self.check_segment(
                header,
                segments.get(place + 1),
                before,
                &mut report,
                progress,
            );
        }
        for id in self.core.blobs.list()? {
            report.blobs += 1;
            match self.core.blobs.verify(&id) {
                Ok(_) => {}
                Err(StoreError::KeyDestroyed) => report.erased_blobs += 1,
                Err(error) => fault(&mut report, format!("blobs/{id}"), &error),
            }
            progress(&report);
        }
        match self.core.readable().and_then(Index::dump) {
            Ok((_, entries)) => report.index_entries = entries,
            Err(error) => fault(&mut report, "index".to_owned(), &error),
        }
        progress(&report);
        Ok(report)
    }

    /// Returns the reader at its end if the segment has no fault.
    fn check_segment(
        &self,
        header: &SegmentHeader,
        next: Option<&SegmentHeader>,
        before: Option<SegmentReader>,
        report: &mut CheckReport,
        progress: &mut dyn FnMut(&CheckReport),
    ) -> Option<SegmentReader> {
        report.segments += 1;
        let place = segment_name(header.number);
        let mut reader = match SegmentReader::open(&self.core.ledger, header.clone()) {
            Ok(reader) => reader,
            Err(error) => {
                fault(report, place, &error);
                return None;
            }
        };
        if before.is_some_and(|b| b.expected != reader.expected || b.chain != reader.chain) {
            let error = reader.broken("the segment does not continue the one before");
            fault(report, place.clone(), &error);
        }
        let limit = next.map_or(self.core.ledger.durable().next(), |next| {
            next.first_sequence
        });
        while reader.expected < limit {
            let checked = match reader.step() {
                Ok(Step::Frame(frame)) => reader.decode(&frame).map(|_| ()),
                Ok(Step::End(what)) => Err(reader.broken(what)),
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                fault(report, place, &error);
                return None;
            }
            report.frames += 1;
            if report.frames.is_multiple_of(REPORT_EVERY) {
                progress(report);
            }
        }
        Some(reader)
    }

    /// SHA-256 over the whole content of the index, in order: equal for equal content, however
    /// the index was made. Blocks.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn dump(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.core.readable()?.dump()?.0)
    }

    /// How many rows each table has. Reads them all; blocks.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn rows(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        const PAGE_ROWS: usize = 1024;
        let index = self.core.readable()?;
        let mut tables = Vec::new();
        for (id, table) in self.core.schema.tables() {
            let (mut count, mut after) = (0, None::<Vec<u8>>);
            loop {
                let page = index.rows(id, &[], after.as_deref(), PAGE_ROWS)?;
                count += page.len() as u64;
                match page.into_iter().last() {
                    Some((key, _)) => after = Some(key),
                    None => break,
                }
            }
            tables.push((table.name, count));
        }
        Ok(tables)
    }

    /// Forgets up to `limit` idempotency keys whose time has passed. Returns how many.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.core.clock.now().as_second();
        let rows = self.by_index::<IdempotencyRow>(BY_EXPIRY, &[], None, limit)?;
        let writes: Vec<Write> = rows
            .into_iter()
            .filter(|(_, found)| found.row.expires_unix_seconds <= now)
            .map(|(_, found)| {
                Write::delete::<IdempotencyRow>(found.row.key())
                    .expecting(Expect::Version(found.version))
            })
            .collect();
        let count = writes.len();
        if count == 0 {
            return Ok(0);
        }
        match self
            .commit(Commit {
                writes,
                ..Commit::default()
            })
            .await
        {
            Ok(Outcome::Committed { .. } | Outcome::Replayed { .. }) => Ok(count),
            // A key came into use again meanwhile; the others wait for the next time.
            Err(StoreError::Conflict) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn fault(report: &mut CheckReport, place: String, error: &StoreError) {
    report.faults.push(Fault {
        place,
        what: error.to_string(),
    });
}
