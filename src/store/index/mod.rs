//! The index: what queries read. Derived from the ledger, sealed, and thrown away when it is
//! missing, damaged, ahead, or made for other tables (INV-9).
//!
//! ```text
//! key                                            value
//! 0                                              version 2 · fingerprint 32 · applied 8 · keys
//! 1 · table 2 · primary key                      key number 1 · opening 8 · row version 8 · ordinal 4 ·
//!                                                sealed row
//! 2 · table 2 · index 1 · index key · primary    length of the index key 4
//! ```
//!
//! [`sealing`] says how rows are sealed, and how that outlives epochs and copies of the folder.

pub(crate) mod compare;
mod fjall;
mod folder;
mod memory;
mod sealing;
mod sled;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Bound;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::digest;
use bytes::Bytes;

use super::commit::Sequence;
use super::crypto::to_array;
use super::error::StoreError;
use super::keys::{Keys, Random};
use super::options::{IndexKind, RebuildReason};
use super::projection::Mutation;
use super::table::TableId;
use crate::planted::planted;
use fjall::FjallEngine;
use folder::Folder;
use memory::MemoryEngine;
use sealing::{Meta, NumberedKey, RowHeader, State, seal, unseal};
use sled::SledEngine;

const META_KEY: &[u8] = &[0];
const ROWS: u8 = 1;
const ENTRIES: u8 = 2;
/// About what the table of gathered changes takes for one, in bytes.
const ENTRY_COST: usize = 96;
/// How many entries a walk over everything holds at once.
const PAGE: usize = 1024;

/// Keys and values in key order.
pub(crate) type Pairs = Vec<(Vec<u8>, Bytes)>;

/// An ordered map from bytes to bytes with atomic batches.
pub(crate) trait Engine: Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` pairs whose keys start with `prefix` and come after `after`.
    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize)
    -> Result<Pairs, StoreError>;

    /// Applies puts (`Some`) and deletes (`None`), all or none; of two for one key the last holds.
    fn apply(&self, batch: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError>;

    /// Applies a large batch, all or none: keys ascending, each once. Engines that can write it
    /// without their log and their sorting do.
    fn load(&self, batch: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError>;

    /// How large a load should be, in bytes.
    fn load_bytes(&self) -> usize;

    /// Removes everything.
    fn clear(&self) -> Result<(), StoreError>;

    /// Makes everything durable, so that it can be believed at the next opening.
    fn close(&self) -> Result<(), StoreError>;
}

/// Where a walk over the keys with `prefix` begins, behind `after`.
fn start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    }
}

/// A row as the index holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) version: Sequence,
    pub(crate) value: Bytes,
}

/// Changes of many frames, sealed, the last of each key.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    entries: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// The last frame they come from.
    pub(crate) last: Sequence,
    /// About how much memory they take.
    pub(crate) bytes: usize,
}

impl Gathered {
    /// Nothing, after the frame `last`.
    pub(crate) fn after(last: Sequence) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// Whether the row under a whole key is changed.
    pub(crate) fn touches(&self, full: &[u8]) -> bool {
        self.entries.contains_key(full)
    }
}

/// Opens the engine, or an empty one if what is in its folder cannot be believed.
fn open_engine(
    kind: IndexKind,
    dir: &Path,
    cache_bytes: u64,
) -> Result<(Box<dyn Engine>, Option<RebuildReason>), StoreError> {
    let folder = Folder::new(dir);
    Ok(match kind {
        IndexKind::Memory => (Box::new(MemoryEngine::default()), None),
        IndexKind::Sled => {
            let (engine, reason) = folder.open("sled", |dir| SledEngine::open(dir, cache_bytes))?;
            (Box::new(engine), reason)
        }
        IndexKind::Fjall => {
            let (engine, reason) =
                folder.open("fjall", |dir| FjallEngine::open(dir, cache_bytes))?;
            (Box::new(engine), reason)
        }
    })
}

/// The index of a store.
#[derive(Debug)]
pub(crate) struct Index {
    engine: Box<dyn Engine>,
    /// Absent if the engine keeps no files.
    folder: Option<Folder>,
    state: RwLock<State>,
}

impl Index {
    /// Opens the index in `dir`. If what is there cannot be used, an empty one takes its place and
    /// the reason is returned; the ledger then has to be applied from the start.
    pub(crate) fn open(
        kind: IndexKind,
        dir: &Path,
        cache_bytes: u64,
        fingerprint: [u8; 32],
        keys: &Keys,
        random: &dyn Random,
    ) -> Result<(Self, Option<RebuildReason>), StoreError> {
        let folder = (kind != IndexKind::Memory).then(|| Folder::new(dir));
        let (mut engine, mut reason) = open_engine(kind, dir, cache_bytes)?;
        match engine.get(META_KEY)?.map(|bytes| Meta::decode(&bytes)) {
            Some(Some(meta)) if meta.fingerprint == fingerprint => {
                if let Some(state) = State::open(meta, keys, random)? {
                    let state = RwLock::new(state);
                    let index = Self {
                        engine,
                        folder,
                        state,
                    };
                    return Ok((index, reason));
                }
                // Its key's epoch is gone, as after a rotation that this index had no part in.
                reason = Some(RebuildReason::Schema);
            }
            Some(_) => reason = Some(RebuildReason::Schema),
            // What is left of an index whose clearing was cut off.
            None if !engine.range(&[], None, 1)?.is_empty() => {
                reason = Some(RebuildReason::Schema);
            }
            None => reason = reason.or(Some(RebuildReason::Missing)),
        }
        if reason == Some(RebuildReason::Schema)
            && let Some(folder) = &folder
        {
            drop(engine);
            folder.set_aside()?;
            engine = open_engine(kind, dir, cache_bytes)?.0;
        }
        let state = State::fresh(0, fingerprint, keys, random)?;
        engine.apply(vec![(META_KEY.to_vec(), Some(state.meta.encode()))])?;
        Ok((
            Self {
                engine,
                folder,
                state: RwLock::new(state),
            },
            reason,
        ))
    }

    /// Empties the index and gives it a new key.
    pub(crate) fn reset(&self, keys: &Keys, random: &dyn Random) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.engine.clear()?;
        let number = state.meta.key.number.wrapping_add(1);
        let fresh = State::fresh(number, state.meta.fingerprint, keys, random)?;
        // A reader may hold values that it fetched before.
        let before = std::mem::replace(&mut *state, fresh);
        state.previous = Some(before.key);
        self.engine
            .apply(vec![(META_KEY.to_vec(), Some(state.meta.encode()))])
    }

    /// The last frame that was applied and noted in the index.
    pub(crate) fn applied(&self) -> Sequence {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .meta
            .applied
    }

    /// Whether all rows are sealed under a key of the current epoch.
    pub(crate) fn is_of_epoch(&self, epoch: u32) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.meta.key.epoch == epoch && state.meta.previous.is_none()
    }

    /// Takes a new key of the current epoch into use; the rows there are stay under the one before
    /// until [`Index::reseal`] has come to its end. Does nothing if that was done already.
    pub(crate) fn begin_reseal(&self, keys: &Keys, random: &dyn Random) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.meta.key.epoch == keys.epoch() {
            return Ok(());
        }
        if state.meta.previous.is_some() {
            return Err(StoreError::Index(
                "two epochs are being replaced".to_owned(),
            ));
        }
        let number = state.meta.key.number.wrapping_add(1);
        let (wrapped, key) = State::new_key(number, keys, random)?;
        let meta = Meta {
            previous: Some(state.meta.key.clone()),
            key: wrapped,
            ..state.meta.clone()
        };
        self.engine
            .apply(vec![(META_KEY.to_vec(), Some(meta.encode()))])?;
        state.previous = Some(std::mem::replace(&mut state.key, key));
        state.meta = meta;
        Ok(())
    }

    /// Seals up to `limit` rows after `after` under the newest key. Returns where to go on, or
    /// `None` at the end, after which the key before is forgotten. What was done already is passed
    /// over, so it may start again from the beginning. Only the committing thread calls it.
    pub(crate) fn reseal(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let page = self.engine.range(&[ROWS], after, limit)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some((last, _)) = page.last() else {
            if state.meta.previous.is_some() {
                let meta = Meta {
                    previous: None,
                    ..state.meta.clone()
                };
                self.engine
                    .apply(vec![(META_KEY.to_vec(), Some(meta.encode()))])?;
                // The key stays in memory: a reader may hold values that it fetched before.
                state.meta = meta;
            }
            return Ok(None);
        };
        let last = last.clone();
        let mut batch = Vec::new();
        for (key, value) in page {
            if value.first() == Some(&state.key.number) || planted("index not sealed anew") {
                continue;
            }
            let Some((header, row)) = unseal(&state, &key, &value) else {
                drop(state);
                return Err(self.damaged());
            };
            let sealed = seal(&state.key, &key, header, &row)?;
            batch.push((key, Some(sealed)));
        }
        if !batch.is_empty() {
            self.engine.apply(batch)?;
        }
        Ok(Some(last))
    }

    /// Applies changes and notes the last frame they came from, atomically. One thread at a time
    /// applies or loads.
    pub(crate) fn apply(
        &self,
        mutations: Vec<Mutation>,
        applied: Sequence,
    ) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(mutations.len() + 1);
        for mutation in mutations {
            batch.push(self.encode(mutation)?);
        }
        let meta = self.meta(applied);
        batch.push((META_KEY.to_vec(), Some(meta.encode())));
        self.engine.apply(batch)?;
        self.set_meta(meta);
        Ok(())
    }

    /// Applies what a replay has gathered, as [`Index::apply`] does.
    pub(crate) fn load(&self, gathered: &Gathered) -> Result<(), StoreError> {
        let meta = self.meta(gathered.last);
        let encoded = meta.encode();
        let mut batch: Vec<(&[u8], Option<&[u8]>)> = gathered
            .entries
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
            .collect();
        batch.push((META_KEY, Some(&encoded)));
        batch.sort_unstable_by_key(|(key, _)| *key);
        self.engine.load(&batch)?;
        self.set_meta(meta);
        Ok(())
    }

    /// How much to gather before loading it, in bytes.
    pub(crate) fn load_bytes(&self) -> usize {
        self.engine.load_bytes()
    }

    /// Seals a change as the engine will hold it, and adds it to what was gathered before.
    pub(crate) fn gather(
        &self,
        mutation: Mutation,
        gathered: &mut Gathered,
    ) -> Result<(), StoreError> {
        let (key, value) = self.encode(mutation)?;
        gathered.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + ENTRY_COST;
        gathered.entries.insert(key, value);
        Ok(())
    }

    /// The row under a whole key as gathered changes leave it.
    pub(crate) fn gathered_row(
        &self,
        gathered: &Gathered,
        full: &[u8],
    ) -> Result<Option<StoredRow>, StoreError> {
        let value = gathered.entries.get(full).and_then(Option::as_ref);
        value.map(|value| self.unseal(full, value)).transpose()
    }

    /// What the index says about itself once `applied` is applied.
    fn meta(&self, applied: Sequence) -> Meta {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Meta {
            applied,
            ..state.meta.clone()
        }
    }

    fn set_meta(&self, meta: Meta) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.meta = meta;
    }

    fn encode(&self, mutation: Mutation) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        encode(&state.key, mutation)
    }

    /// The row under a primary key.
    pub(crate) fn row(&self, table: TableId, key: &[u8]) -> Result<Option<StoredRow>, StoreError> {
        let full = row_key(table, key);
        self.engine
            .get(&full)?
            .map(|value| self.unseal(&full, &value))
            .transpose()
    }

    /// Rows of a table by primary key.
    pub(crate) fn rows(
        &self,
        table: TableId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, StoredRow)>, StoreError> {
        let full = row_key(table, prefix);
        let after = after.map(|after| row_key(table, after));
        let skip = row_key(table, &[]).len();
        let mut rows = Vec::new();
        for (key, value) in self.engine.range(&full, after.as_deref(), limit)? {
            let row = self.unseal(&key, &value)?;
            rows.push((key.get(skip..).unwrap_or_default().to_vec(), row));
        }
        Ok(rows)
    }

    /// Entries of a secondary index: index key with primary key appended, and where the latter
    /// starts.
    pub(crate) fn entries(
        &self,
        table: TableId,
        index: u8,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, usize)>, StoreError> {
        let full = entry_key(table, index, prefix, &[]);
        let after = after.map(|after| entry_key(table, index, after, &[]));
        let skip = entry_key(table, index, &[], &[]).len();
        let mut entries = Vec::new();
        for (key, value) in self.engine.range(&full, after.as_deref(), limit)? {
            let split = u32::from_be_bytes(to_array(&value)) as usize;
            let key = key.get(skip..).unwrap_or_default().to_vec();
            if value.len() != 4 || split > key.len() {
                return Err(self.damaged());
            }
            entries.push((key, split));
        }
        Ok(entries)
    }

    /// SHA-256 over everything the index says, in order and in clear: equal for equal content,
    /// whatever the engine and however it was made. Also returns the number of entries.
    pub(crate) fn dump(&self) -> Result<([u8; 32], u64), StoreError> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut count = 0;
        for space in [ROWS, ENTRIES] {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self.engine.range(&[space], after.as_deref(), PAGE)?;
                for (key, value) in &page {
                    let (version, plain) = if space == ROWS {
                        let row = self.unseal(key, value)?;
                        (row.version, row.value)
                    } else {
                        (Sequence(0), value.clone())
                    };
                    for part in [key.as_slice(), &version.0.to_be_bytes(), &plain] {
                        context.update(&(part.len() as u64).to_be_bytes());
                        context.update(part);
                    }
                    count += 1;
                }
                match page.into_iter().last() {
                    Some((key, _)) => after = Some(key),
                    None => break,
                }
            }
        }
        Ok((to_array(context.finish().as_ref()), count))
    }

    /// Makes the index durable; it can be used at once at the next opening.
    pub(crate) fn close(&self, applied: Sequence) -> Result<(), StoreError> {
        if applied > self.applied() {
            self.apply(Vec::new(), applied)?;
        }
        self.engine.close()?;
        self.folder.as_ref().map_or(Ok(()), Folder::closed)
    }

    fn unseal(&self, key: &[u8], value: &[u8]) -> Result<StoredRow, StoreError> {
        let opened = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            unseal(&state, key, value)
        };
        match opened {
            Some((header, row)) => Ok(StoredRow {
                version: header.version,
                value: Bytes::from(row),
            }),
            None => Err(self.damaged()),
        }
    }

    fn damaged(&self) -> StoreError {
        if let Some(folder) = &self.folder {
            folder.damaged();
        }
        StoreError::corrupt("index", 0, "an entry does not verify")
    }
}

pub(crate) fn row_key(table: TableId, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(3 + key.len());
    full.push(ROWS);
    full.extend_from_slice(&table.0.to_be_bytes());
    full.extend_from_slice(key);
    full
}

fn entry_key(table: TableId, index: u8, key: &[u8], primary: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(4 + key.len() + primary.len());
    full.push(ENTRIES);
    full.extend_from_slice(&table.0.to_be_bytes());
    full.push(index);
    full.extend_from_slice(key);
    full.extend_from_slice(primary);
    full
}

fn encode(
    sealing: &NumberedKey,
    mutation: Mutation,
) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    Ok(match mutation {
        Mutation::PutRow {
            table,
            key,
            version,
            ordinal,
            value,
        } => {
            let full = row_key(table, &key);
            let header = RowHeader { version, ordinal };
            let sealed = seal(sealing, &full, header, &value)?;
            (full, Some(sealed))
        }
        Mutation::DeleteRow { table, key } => (row_key(table, &key), None),
        Mutation::PutEntry {
            table,
            key,
            primary,
        } => {
            let length = u32::try_from(key.key.len()).unwrap_or(u32::MAX);
            let full = entry_key(table, key.index, &key.key, &primary);
            (full, Some(length.to_be_bytes().to_vec()))
        }
        Mutation::DeleteEntry {
            table,
            key,
            primary,
        } => (entry_key(table, key.index, &key.key, &primary), None),
    })
}
