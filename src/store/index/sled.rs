//! The index in sled 0.34: one tree, so that a batch is the atom.
//!
//! sled's `flush` is no `fsync`, and corruption shows as a panic as often as an error. So every
//! call is guarded, closing syncs sled's file itself, and the [folder](super::folder) says whether
//! what is there may be believed.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::error::{IoContext as _, StoreError};
use super::{Engine, Pairs, start};

/// How often sled writes its buffer out on its own, in milliseconds.
const FLUSH_MS: u64 = 500;

/// How large a load is, in bytes: sled holds all pages of a batch until it is done.
const LOAD: usize = 4 << 20;

/// sled and where its files are.
#[derive(Debug)]
pub(super) struct SledEngine {
    db: ::sled::Db,
    dir: PathBuf,
}

/// Runs a sled call; a panic inside becomes an error.
fn guard<T>(call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Index(error.to_string())),
        Err(_) => Err(StoreError::Index("sled panicked".to_owned())),
    }
}

impl SledEngine {
    /// Opens what is in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let db = guard(|| {
            ::sled::Config::new()
                .path(dir)
                .cache_capacity(cache_bytes)
                .flush_every_ms(Some(FLUSH_MS))
                .open()
        })?;
        Ok(Self {
            db,
            dir: dir.to_path_buf(),
        })
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(guard(|| self.db.get(key))?.map(|value| Bytes::copy_from_slice(&value)))
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
            for pair in self.db.range::<&[u8], _>(everything).take(limit) {
                let (key, value) = pair?;
                if !key.starts_with(prefix) {
                    break;
                }
                pairs.push((key.to_vec(), Bytes::copy_from_slice(&value)));
            }
            Ok(pairs)
        })
    }

    fn apply(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        guard(|| self.db.apply_batch(batch))
    }

    fn load(&self, batch: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        let mut changes = ::sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(*key, *value),
                None => changes.remove(*key),
            }
        }
        guard(|| self.db.apply_batch(changes))
    }

    fn load_bytes(&self) -> usize {
        LOAD
    }

    fn clear(&self) -> Result<(), StoreError> {
        guard(|| self.db.clear())
    }

    fn close(&self) -> Result<(), StoreError> {
        guard(|| self.db.flush())?;
        let file = File::open(self.dir.join("db")).during("syncing the index")?;
        file.sync_data().during("syncing the index")?;
        let folder = File::open(&self.dir).during("syncing the index")?;
        folder.sync_all().during("syncing the index")
    }
}
