//! The index in fjall 3: one keyspace, so that a batch is the atom.
//!
//! Rows are kept apart from their keys, so that merging moves keys only. A batch goes through
//! fjall's journal, which is written to the operating system with each batch: it outlives the
//! process, not the machine, for which the [folder](super::folder) has its rule. A large load is
//! written as sorted files beside the journal and appears with one change of the list of files.
//!
//! `Keyspace::clear` is not used: it stays in the journal, and a later opening would apply it again
//! to what has been loaded since. A new keyspace takes the old one's place instead.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ::fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use bytes::Bytes;

use super::super::error::StoreError;
use super::{Engine, Pairs, start};

/// Values from this size on are kept apart from their keys, in bytes: all but the smallest rows.
const APART: u32 = 128;
/// Where changes are sorted before they become a file, in bytes; up to five of them are held.
const MEMTABLE: u64 = 16 << 20;
/// The least that fjall takes for its journals, in bytes.
const JOURNALS: u64 = 64 << 20;
/// One thread flushes and merges, and waits without cost while there is nothing to do. With more,
/// fjall keeps one of them for flushing, and that one spins while another merges.
const THREADS: usize = 1;

/// How large a load is, in bytes: each becomes files that are merged later, the fewer the better.
/// Two are held at a time.
const LOAD: usize = 64 << 20;

/// fjall and the keyspace in use.
pub(super) struct FjallEngine {
    db: Database,
    /// The keyspace and its number, which is its name.
    space: RwLock<(u64, Keyspace)>,
}

impl std::fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FjallEngine")
    }
}

/// Runs a fjall call; a panic inside becomes an error.
fn guard<T>(call: impl FnOnce() -> ::fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Index(format!("{error:?}"))),
        Err(_) => Err(StoreError::Index("fjall panicked".to_owned())),
    }
}

fn options() -> KeyspaceCreateOptions {
    let apart = KvSeparationOptions::default().separation_threshold(APART);
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE)
        .filter_policy(FilterPolicy::all(filter))
        .with_kv_separation(Some(apart))
}

impl FjallEngine {
    /// Opens what is in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        guard(|| {
            let db = Database::builder(dir)
                .cache_size(cache_bytes)
                .worker_threads(THREADS)
                .max_journaling_size(JOURNALS)
                .open()?;
            // A crash between making a keyspace and removing the one before leaves two.
            let mut numbers: Vec<u64> = db
                .list_keyspace_names()
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect();
            numbers.sort_unstable();
            let newest = numbers.pop().unwrap_or(0);
            let space = db.keyspace(&newest.to_string(), options)?;
            for number in numbers {
                db.delete_keyspace(db.keyspace(&number.to_string(), options)?)?;
            }
            Ok(Self {
                db,
                space: RwLock::new((newest, space)),
            })
        })
    }

    fn space(&self) -> Keyspace {
        let space = self.space.read().unwrap_or_else(PoisonError::into_inner);
        space.1.clone()
    }
}

impl Engine for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(guard(|| self.space().get(key))?.map(Bytes::from))
    }

    fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Pairs, StoreError> {
        let start = start(prefix, after);
        guard(|| {
            let mut pairs = Vec::new();
            let everything: (Bound<&[u8]>, Bound<&[u8]>) = (start, Bound::Unbounded);
            for found in self.space().range::<&[u8], _>(everything).take(limit) {
                let (key, value) = found.into_inner()?;
                if !key.starts_with(prefix) {
                    break;
                }
                pairs.push((key.to_vec(), Bytes::from(value)));
            }
            Ok(pairs)
        })
    }

    fn apply(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let space = self.space();
        guard(|| {
            let mut batch = self.db.batch();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&space, key, value),
                    None => batch.remove(&space, key),
                }
            }
            batch.commit()
        })
    }

    fn load(&self, batch: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        let space = self.space();
        guard(|| {
            let mut files = space.start_ingestion()?;
            for (key, value) in batch {
                match value {
                    Some(value) => files.write(*key, *value)?,
                    None => files.write_tombstone(*key)?,
                }
            }
            files.finish()
        })
    }

    fn load_bytes(&self) -> usize {
        LOAD
    }

    fn clear(&self) -> Result<(), StoreError> {
        let mut space = self.space.write().unwrap_or_else(PoisonError::into_inner);
        let number = space.0 + 1;
        let fresh = guard(|| self.db.keyspace(&number.to_string(), options))?;
        let (_, old) = std::mem::replace(&mut *space, (number, fresh));
        guard(|| self.db.delete_keyspace(old))
    }

    fn close(&self) -> Result<(), StoreError> {
        guard(|| self.db.persist(PersistMode::SyncAll))
    }
}
