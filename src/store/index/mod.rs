//! The index: what queries read. Derived from the ledger, sealed, and thrown away when it is
//! missing, damaged, ahead, or made for other tables (INV-9).
//!
//! ```text
//! key                                            value
//! 0                                              version 2 · epoch 4 · id 16 · fingerprint 32 · applied 8
//! 1 · table 2 · primary key                      row version 8 · ordinal 4 · sealed row
//! 2 · table 2 · index 1 · index key · primary    length of the index key 4
//! ```
//!
//! A row is sealed with AES-256-GCM under a key made for this one making of the index; the nonce
//! is version and ordinal, the associated data the whole key. One frame always gives the same
//! plaintext under the same nonce, so applying it again after a crash repeats nothing else.

mod memory;
mod sled;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::digest;
use bytes::Bytes;

use super::commit::Sequence;
use super::crypto::{SealKey, counter_nonce, to_array};
use super::error::StoreError;
use super::keys::{Keys, Random};
use super::options::{IndexKind, RebuildReason};
use super::projection::Mutation;
use super::table::TableId;
use memory::MemoryEngine;
use sled::SledEngine;

const VERSION: u16 = 1;
const META_KEY: &[u8] = &[0];
const ROWS: u8 = 1;
const ENTRIES: u8 = 2;
/// Row version and ordinal before the sealed row.
const ROW_HEADER_BYTES: usize = 12;
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

    /// Removes everything.
    fn clear(&self) -> Result<(), StoreError>;

    /// Makes everything durable and notes that the engine was closed in order.
    fn close(&self) -> Result<(), StoreError>;

    /// Notes that something did not verify, so that the next opening starts anew.
    fn mark_damaged(&self);
}

/// What the index says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meta {
    epoch: u32,
    id: [u8; 16],
    fingerprint: [u8; 32],
    applied: Sequence,
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(62);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&self.applied.0.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 62 || bytes.get(..2)? != VERSION.to_be_bytes() {
            return None;
        }
        Some(Self {
            epoch: u32::from_be_bytes(to_array(bytes.get(2..6)?)),
            id: to_array(bytes.get(6..22)?),
            fingerprint: to_array(bytes.get(22..54)?),
            applied: Sequence(u64::from_be_bytes(to_array(bytes.get(54..62)?))),
        })
    }
}

#[derive(Debug)]
struct State {
    meta: Meta,
    key: SealKey,
}

/// A row as the index holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) version: Sequence,
    pub(crate) value: Bytes,
}

/// The index of a store.
#[derive(Debug)]
pub(crate) struct Index {
    engine: Box<dyn Engine>,
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
        let (mut engine, mut reason): (Box<dyn Engine>, _) = match kind {
            IndexKind::Memory => (Box::new(MemoryEngine::default()), None),
            IndexKind::Sled => {
                let (engine, reason) = SledEngine::open(dir, cache_bytes)?;
                (Box::new(engine), reason)
            }
        };
        match engine.get(META_KEY)?.map(|bytes| Meta::decode(&bytes)) {
            Some(Some(meta)) if meta.fingerprint == fingerprint => {
                let key = keys.index_key(meta.epoch, &meta.id)?;
                return Ok((
                    Self {
                        engine,
                        state: RwLock::new(State { meta, key }),
                    },
                    reason,
                ));
            }
            Some(_) => {
                reason = Some(RebuildReason::Schema);
                if kind == IndexKind::Sled {
                    drop(engine);
                    engine = Box::new(SledEngine::open_anew(dir, cache_bytes)?);
                }
            }
            None => reason = reason.or(Some(RebuildReason::Missing)),
        }
        let state = Self::fresh_state(fingerprint, keys, random)?;
        engine.apply(vec![(META_KEY.to_vec(), Some(state.meta.encode()))])?;
        Ok((
            Self {
                engine,
                state: RwLock::new(state),
            },
            reason,
        ))
    }

    fn fresh_state(
        fingerprint: [u8; 32],
        keys: &Keys,
        random: &dyn Random,
    ) -> Result<State, StoreError> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        let meta = Meta {
            epoch: keys.epoch(),
            id,
            fingerprint,
            applied: Sequence(0),
        };
        let key = keys.index_key(meta.epoch, &meta.id)?;
        Ok(State { meta, key })
    }

    /// Empties the index and gives it a new key.
    pub(crate) fn reset(&self, keys: &Keys, random: &dyn Random) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.engine.clear()?;
        *state = Self::fresh_state(state.meta.fingerprint, keys, random)?;
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

    /// Applies changes and notes the last frame they came from, atomically.
    pub(crate) fn apply(
        &self,
        mutations: Vec<Mutation>,
        applied: Sequence,
    ) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(mutations.len() + 1);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for mutation in mutations {
            batch.push(encode(&state.key, mutation)?);
        }
        let meta = Meta {
            applied,
            ..state.meta.clone()
        };
        batch.push((META_KEY.to_vec(), Some(meta.encode())));
        self.engine.apply(batch)?;
        state.meta = meta;
        Ok(())
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
        self.engine.close()
    }

    fn unseal(&self, key: &[u8], value: &[u8]) -> Result<StoredRow, StoreError> {
        let (header, sealed) = value
            .split_at_checked(ROW_HEADER_BYTES)
            .unwrap_or((value, &[]));
        let version = u64::from_be_bytes(to_array(header));
        let ordinal = u32::from_be_bytes(to_array(header.get(8..).unwrap_or_default()));
        let mut data = sealed.to_vec();
        let opened = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state
                .key
                .open(counter_nonce(version, ordinal), key, &mut data)
        };
        match opened {
            Some(()) => Ok(StoredRow {
                version: Sequence(version),
                value: Bytes::from(data),
            }),
            None => Err(self.damaged()),
        }
    }

    fn damaged(&self) -> StoreError {
        self.engine.mark_damaged();
        StoreError::corrupt("index", 0, "an entry does not verify")
    }
}

fn row_key(table: TableId, key: &[u8]) -> Vec<u8> {
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

fn encode(sealing: &SealKey, mutation: Mutation) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    Ok(match mutation {
        Mutation::PutRow {
            table,
            key,
            version,
            ordinal,
            value,
        } => {
            let full = row_key(table, &key);
            let mut sealed = Vec::with_capacity(ROW_HEADER_BYTES + value.len() + 16);
            sealed.extend_from_slice(&version.0.to_be_bytes());
            sealed.extend_from_slice(&ordinal.to_be_bytes());
            sealed.extend_from_slice(&value);
            let nonce = counter_nonce(version.0, ordinal);
            sealing.seal_tail(nonce, &full, &mut sealed, ROW_HEADER_BYTES)?;
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
