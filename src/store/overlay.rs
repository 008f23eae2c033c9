//! The index with changes on top that it has not got yet.

use std::collections::HashMap;

use bytes::Bytes;

use super::commit::{AppliedWrite, Frame, Sequence};
use super::error::StoreError;
use super::index::{Index, StoredRow};
use super::projection::{Mutation, Rows, project};
use super::table::{Schema, TableId};

/// Rows as they will be once everything noted here is applied. Also keeps what it read, so a
/// precondition and the projection read a row once.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    index: &'a Index,
    rows: HashMap<(TableId, Bytes), Option<StoredRow>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(index: &'a Index) -> Self {
        Self {
            index,
            rows: HashMap::new(),
        }
    }

    /// The row as it will be.
    pub(crate) fn get(
        &mut self,
        table: TableId,
        key: &Bytes,
    ) -> Result<Option<StoredRow>, StoreError> {
        if let Some(row) = self.rows.get(&(table, key.clone())) {
            return Ok(row.clone());
        }
        let row = self.index.row(table, key)?;
        self.rows.insert((table, key.clone()), row.clone());
        Ok(row)
    }

    /// Notes the writes of frame `version`.
    pub(crate) fn note(&mut self, version: Sequence, writes: &[AppliedWrite]) {
        for write in writes {
            let row = write
                .value
                .clone()
                .map(|value| StoredRow { version, value });
            self.rows.insert((write.table, write.key.clone()), row);
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
    }
}

impl Rows for Overlay<'_> {
    fn row(&mut self, table: TableId, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get(table, key)?.map(|row| row.value))
    }
}

/// Applies frames of the ledger to the index, in batches of bounded size (INV-7).
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    index: &'a Index,
    schema: &'a Schema,
    overlay: Overlay<'a>,
    mutations: Vec<Mutation>,
    bytes: usize,
    last: Sequence,
    frames: u64,
}

impl<'a> Applier<'a> {
    const BATCH_MUTATIONS: usize = 8192;
    const BATCH_BYTES: usize = 16 << 20;

    pub(crate) fn new(index: &'a Index, schema: &'a Schema) -> Self {
        Self {
            index,
            schema,
            overlay: Overlay::new(index),
            mutations: Vec::new(),
            bytes: 0,
            last: index.applied(),
            frames: 0,
        }
    }

    /// Adds the next frame.
    pub(crate) fn add(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let made = project(
            self.schema,
            frame.sequence,
            0,
            &frame.writes,
            &mut self.overlay,
        )?;
        self.overlay.note(frame.sequence, &frame.writes);
        self.mutations.extend(made.mutations);
        self.bytes += frame
            .writes
            .iter()
            .map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len))
            .sum::<usize>();
        self.last = frame.sequence;
        self.frames += 1;
        if self.mutations.len() >= Self::BATCH_MUTATIONS || self.bytes >= Self::BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Applies what is left. Returns the number of frames added in all.
    pub(crate) fn finish(mut self) -> Result<u64, StoreError> {
        self.flush()?;
        Ok(self.frames)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.last > self.index.applied() {
            self.index
                .apply(std::mem::take(&mut self.mutations), self.last)?;
        }
        self.overlay.clear();
        self.bytes = 0;
        Ok(())
    }
}
