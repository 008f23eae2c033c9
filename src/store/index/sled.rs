//! The index in sled 0.34: one tree, so that a batch is the atom.
//!
//! sled's `flush` is no `fsync`, and corruption shows as a panic as often as an error. So every
//! call is guarded, an index that does not open is set aside, and the file `state` beside sled's
//! folder says whether it may be believed: absent after an orderly close (which syncs sled's file
//! itself); the machine's boot id while in use, so that after a power cut, but not after a mere
//! kill, everything is made again; `damaged` once something did not verify.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::error::{IoContext as _, StoreError};
use super::super::options::RebuildReason;
use super::{Engine, Pairs};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const DAMAGED: &str = "damaged";
/// How often sled writes its buffer out on its own, in milliseconds.
const FLUSH_MS: u64 = 500;

/// sled in `<dir>/sled`, its state in `<dir>/state`.
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
    /// Opens what is in `dir`, or an empty one if that cannot be believed, with the reason.
    pub(super) fn open(
        dir: &Path,
        cache_bytes: u64,
    ) -> Result<(Self, Option<RebuildReason>), StoreError> {
        let reason = match fs::read_to_string(dir.join("state")) {
            Ok(state) if state == DAMAGED => Some(RebuildReason::Damaged),
            Ok(state) if state != boot_id() => Some(RebuildReason::PowerCut),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).during("reading the index state"),
        };
        if let Some(reason) = reason {
            return Ok((Self::open_anew(dir, cache_bytes)?, Some(reason)));
        }
        match Self::open_in(dir, cache_bytes) {
            Ok(engine) => Ok((engine, None)),
            Err(StoreError::Index(_)) => {
                let engine = Self::open_anew(dir, cache_bytes)?;
                Ok((engine, Some(RebuildReason::Damaged)))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets what is in `dir` aside (one generation is kept, for study) and opens an empty one.
    pub(super) fn open_anew(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let aside = dir.with_extension("old");
        for result in [fs::remove_dir_all(&aside), fs::rename(dir, &aside)] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).during("setting the index aside");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Self::open_in(dir, cache_bytes)
    }

    fn open_in(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).during("making the index folder")?;
        write_state(dir, &boot_id()).during("writing the index state")?;
        let db = guard(|| {
            ::sled::Config::new()
                .path(dir.join("sled"))
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

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_else(|_| "unknown".to_owned())
}

fn write_state(dir: &Path, state: &str) -> io::Result<()> {
    let mut file = File::create(dir.join("state"))?;
    file.write_all(state.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
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
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
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

    fn clear(&self) -> Result<(), StoreError> {
        guard(|| self.db.clear())
    }

    fn close(&self) -> Result<(), StoreError> {
        guard(|| self.db.flush())?;
        let file = File::open(self.dir.join("sled").join("db")).during("syncing the index")?;
        file.sync_data().during("syncing the index")?;
        let folder = File::open(self.dir.join("sled")).during("syncing the index")?;
        folder.sync_all().during("syncing the index")?;
        let state = fs::read_to_string(self.dir.join("state")).unwrap_or_default();
        if state != DAMAGED {
            fs::remove_file(self.dir.join("state")).during("writing the index state")?;
        }
        Ok(())
    }

    fn mark_damaged(&self) {
        // If this cannot be written either, the entry still fails to verify the next time.
        let _written = write_state(&self.dir, DAMAGED).is_ok();
    }
}
