//! Typed reads. Each row is read at its latest applied state.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::commit::{Frame, Idempotency, Place, Sequence, Versioned, decode};
use super::core::Core;
use super::error::StoreError;
use super::idempotency::IdempotencyRow;
use super::index::StoredRow;
use super::ledger::reader::{FrameIterator, SegmentReader};
use super::table::Row;

/// Rows fetched at once by a walk over a table or an index.
const PAGE_ROWS: usize = 512;

/// Rows in key order, each with its key or cursor.
pub type Page<R> = Vec<(Vec<u8>, Versioned<R>)>;

fn typed<R: Row>(stored: &StoredRow) -> Result<Versioned<R>, StoreError> {
    Ok(Versioned {
        version: stored.version,
        row: decode(&stored.value)?,
    })
}

impl Store {
    /// The row under a primary key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::InvalidRow`], [`StoreError::Index`], or
    /// [`StoreError::Rebuilding`].
    pub fn get<R: Row>(&self, key: &[u8]) -> Result<Option<Versioned<R>>, StoreError> {
        self.core.schema.get(R::TABLE)?;
        self.core
            .readable()?
            .row(R::TABLE, key)?
            .as_ref()
            .map(typed)
            .transpose()
    }

    /// The receipt kept under an idempotency key, if the same request was committed before: for a
    /// change that depends on a state which that first commit has changed. [`Store::commit`] looks
    /// again, so this is never what exactly-once rests on.
    ///
    /// # Errors
    /// [`StoreError::IdempotencyMismatch`] if it was another request; as [`Store::get`].
    pub fn receipt(
        &self,
        idempotency: &Idempotency,
        now_unix_seconds: i64,
    ) -> Result<Option<Bytes>, StoreError> {
        let known = self.get::<IdempotencyRow>(idempotency.key.as_bytes())?;
        let Some(known) = known
            .map(|known| known.row)
            .filter(|row| row.expires_unix_seconds > now_unix_seconds)
        else {
            return Ok(None);
        };
        if known.body_hash != idempotency.body_hash {
            return Err(StoreError::IdempotencyMismatch);
        }
        Ok(Some(known.receipt))
    }

    /// Up to `limit` rows whose primary keys start with `prefix` and come after `after`, in key
    /// order, with their keys. Give the last key as `after` to go on.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn range<R: Row>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<R>, StoreError> {
        self.core.schema.get(R::TABLE)?;
        let rows = self.core.readable()?.rows(R::TABLE, prefix, after, limit)?;
        rows.into_iter()
            .map(|(key, stored)| Ok((key, typed(&stored)?)))
            .collect()
    }

    /// Up to `limit` rows whose keys in the secondary index `index` start with `prefix`, in the
    /// order of index key and then primary key. Each comes with a cursor (the index key followed
    /// by the primary key); give the last one as `after` to go on.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn by_index<R: Row>(
        &self,
        index: u8,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<R>, StoreError> {
        self.core.schema.get(R::TABLE)?;
        let mut found = Vec::new();
        let mut after = after.map(<[u8]>::to_vec);
        while found.len() < limit {
            let wanted = (limit - found.len()).min(PAGE_ROWS);
            let engine = self.core.readable()?;
            let page = engine.entries(R::TABLE, index, prefix, after.as_deref(), wanted)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let complete = page.len() < wanted;
            for (cursor, split) in page {
                let (key, primary) = cursor.split_at_checked(split).unwrap_or((&cursor, &[]));
                if !key.starts_with(prefix) {
                    continue;
                }
                // Gone or changed since the entry was read: the row is not of this key any more.
                let Some(stored) = engine.row(R::TABLE, primary)? else {
                    continue;
                };
                let row = typed::<R>(&stored)?;
                if row
                    .row
                    .index()
                    .iter()
                    .any(|k| k.index == index && k.key == key)
                {
                    found.push((cursor, row));
                }
            }
            if complete {
                break;
            }
        }
        Ok(found)
    }

    /// Calls `visit` for every row of a table, in the order of primary keys.
    ///
    /// # Errors
    /// As [`Store::get`], or what `visit` returns, which ends the walk.
    pub fn scan<R: Row>(
        &self,
        visit: &mut dyn FnMut(Versioned<R>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan_under(&[], visit)
    }

    /// As [`Store::scan`], for the rows whose primary keys start with `prefix`.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub fn scan_under<R: Row>(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(Versioned<R>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.core.schema.get(R::TABLE)?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let index = self.core.readable()?;
            let page = index.rows(R::TABLE, prefix, after.as_deref(), PAGE_ROWS)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            for (_, stored) in page {
                visit(typed(&stored)?)?;
            }
        }
    }

    /// Reads frames here and there.
    pub fn lookup(&self) -> Lookup {
        Lookup {
            core: Arc::clone(&self.core),
            reader: None,
        }
    }

    /// The frames of the ledger from `from` up to the last durable one, verified. Having ended,
    /// the iterator can be asked again and goes on with frames written since.
    pub fn read_frames(
        &self,
        from: Sequence,
    ) -> impl Iterator<Item = Result<Frame, StoreError>> + Send + use<> {
        FrameIterator::new(Arc::clone(&self.core.ledger), from)
    }
}

/// Reads single frames by their places; cheapest in the order of the ledger.
#[derive(Debug)]
pub struct Lookup {
    core: Arc<Core>,
    reader: Option<SegmentReader>,
}

impl Lookup {
    /// The frame numbered `sequence`, which lies at `place`: verified and decrypted.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if what lies there is not that frame; [`StoreError::Io`].
    pub fn frame(&mut self, sequence: Sequence, place: Place) -> Result<Frame, StoreError> {
        let fault = |what| StoreError::corrupt("ledger", place.offset, what);
        let open = self.reader.take();
        let open = open.filter(|open| open.header.number == place.segment);
        let mut reader = if let Some(reader) = open {
            reader
        } else {
            let header = self.core.ledger.segment_of(sequence);
            let header = header.filter(|header| header.number == place.segment);
            let header = header.ok_or_else(|| fault("the frame is in another segment"))?;
            SegmentReader::open(&self.core.ledger, header)?
        };
        let frame = reader.frame_at(place.offset)?;
        self.reader = Some(reader);
        if frame.sequence != sequence {
            return Err(fault("another frame lies here"));
        }
        Ok(frame)
    }
}
