//! The index with changes on top that it has not got yet.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::commit::{AppliedWrite, Sequence};
use super::error::StoreError;
use super::index::{Index, StoredRow};
use super::projection::Rows;
use super::table::TableId;

/// Rows as some frames leave them; `None` is deleted.
pub(crate) type Written = HashMap<(TableId, Bytes), Option<StoredRow>>;

/// What is durable but not in the index yet, group by group.
#[derive(Debug, Default)]
pub(crate) struct InFlight(VecDeque<(Sequence, Written)>);

impl InFlight {
    /// Adds what a group wrote, whose last frame is `last`.
    pub(crate) fn add(&mut self, last: Sequence, written: Written) {
        self.0.push_back((last, written));
    }

    /// Forgets what the index has got by now.
    pub(crate) fn forget(&mut self, applied: Sequence) {
        while self.0.front().is_some_and(|(last, _)| *last <= applied) {
            self.0.pop_front();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn get(&self, key: &(TableId, Bytes)) -> Option<&Option<StoredRow>> {
        self.0
            .iter()
            .rev()
            .find_map(|(_, written)| written.get(key))
    }
}

/// Rows as they will be once everything noted here is applied. Also keeps what it read, so a
/// precondition and the projection read a row once.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    index: &'a Index,
    in_flight: &'a InFlight,
    written: Written,
    read: Written,
}

impl<'a> Overlay<'a> {
    /// The index with `in_flight` on top.
    pub(crate) fn over(index: &'a Index, in_flight: &'a InFlight) -> Self {
        Self {
            index,
            in_flight,
            written: HashMap::new(),
            read: HashMap::new(),
        }
    }

    /// The row as it will be.
    pub(crate) fn get(
        &mut self,
        table: TableId,
        key: &Bytes,
    ) -> Result<Option<StoredRow>, StoreError> {
        let place = (table, key.clone());
        let known = self
            .written
            .get(&place)
            .or_else(|| self.in_flight.get(&place))
            .or_else(|| self.read.get(&place));
        if let Some(row) = known {
            return Ok(row.clone());
        }
        let row = self.index.row(table, key)?;
        self.read.insert(place, row.clone());
        Ok(row)
    }

    /// Notes the writes of frame `version`.
    pub(crate) fn note(&mut self, version: Sequence, writes: &[AppliedWrite]) {
        for write in writes {
            let row = write
                .value
                .clone()
                .map(|value| StoredRow { version, value });
            self.written.insert((write.table, write.key.clone()), row);
        }
    }

    /// What was noted.
    pub(crate) fn written(self) -> Written {
        self.written
    }
}

impl Rows for Overlay<'_> {
    fn row(&mut self, table: TableId, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get(table, key)?.map(|row| row.value))
    }
}
