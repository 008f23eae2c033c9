//! How a store is opened, and what it reports about itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::commit::Sequence;
use super::disk::{Disk, RealDisk};
use super::keys::{Random, RootSource, SystemRandom};
use crate::clock::{Clock, SystemClock};

/// Which engine holds the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexKind {
    /// fjall, in the store's folder.
    #[default]
    Fjall,
    /// sled, in the store's folder.
    Sled,
    /// Memory: rebuilt from the ledger at every open.
    Memory,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file system of ledger, blobs and keys.
    pub disk: Arc<dyn Disk>,
    /// The clock that dates frames.
    pub clock: Arc<dyn Clock>,
    /// The source of keys and file names.
    pub random: Arc<dyn Random>,
    /// The index engine.
    pub index: IndexKind,
    /// Where the root key is; `None` is the file `root.key` in the store's folder.
    pub root: Option<RootSource>,
    /// A folder, on another disk, where every document is written a second time.
    pub second_copy: Option<PathBuf>,
    /// Memory for the engine's cache, in bytes. Beside it fjall takes up to 80 MiB for what is not in
    /// its files yet; sled takes two to three times the cache in all.
    pub index_cache_bytes: u64,
    /// Size of a ledger segment file, in bytes.
    pub segment_bytes: u64,
    /// How far ahead of the ledger's end disk space is taken, in bytes.
    pub preallocate_bytes: u64,
    /// Kept back of the disk for emergencies, in bytes; 0 keeps nothing back.
    pub reserve_bytes: u64,
    /// Most commits in one group.
    pub batch_commits: usize,
    /// Most bytes in one group, before encryption.
    pub batch_bytes: usize,
    /// Longest wait for a group to fill while several callers are active.
    pub batch_wait: Duration,
    /// Most bytes of commits waiting; callers beyond it wait for room (INV-7). A commit counts at
    /// least [`Options::MIN_COMMIT_COST`].
    pub queue_bytes: usize,
    /// Largest single commit, in bytes.
    pub commit_bytes: usize,
    /// How long a request is remembered by its idempotency key.
    pub idempotency_kept: Duration,
}

impl Options {
    /// What the smallest commit takes of [`Options::queue_bytes`].
    pub const MIN_COMMIT_COST: usize = 1024;

    /// Where the root key of the store in `dir` is.
    pub(crate) fn root_of(&self, dir: &Path) -> RootSource {
        let named = self.root.clone();
        named.unwrap_or_else(|| RootSource::File(dir.join("root.key")))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::default()),
            index: IndexKind::default(),
            root: None,
            second_copy: None,
            index_cache_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            preallocate_bytes: 4 << 20,
            reserve_bytes: 0,
            batch_commits: 256,
            batch_bytes: 4 << 20,
            batch_wait: Duration::from_micros(200),
            queue_bytes: 64 << 20,
            commit_bytes: 8 << 20,
            idempotency_kept: Duration::from_hours(72),
        }
    }
}

/// Why an index was thrown away and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildReason {
    /// There was none.
    Missing,
    /// It knew frames the ledger does not have.
    Ahead,
    /// It did not open or did not verify.
    Damaged,
    /// The tables or their indexes have changed, or it belongs to another key epoch.
    Schema,
    /// Another engine made it.
    Engine,
    /// The machine stopped without closing it; engines do not sync by themselves.
    PowerCut,
    /// An operator asked for it.
    Asked,
}

/// What was found and done when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was made now.
    pub created: bool,
    /// The last frame of the ledger.
    pub last_sequence: Sequence,
    /// Bytes of an unfinished, never acknowledged write that were cut off the ledger's end.
    pub torn_bytes: u64,
    /// Whether the ledger ends with the mark of a clean close.
    pub clean: bool,
    /// Frames applied to the index because it was behind.
    pub applied_frames: u64,
    /// Why the index was rebuilt, if it was.
    pub rebuilt: Option<RebuildReason>,
    /// Whether one of the two copies of the key files was damaged, gone or another, and was made
    /// again.
    pub mended_keys: bool,
    /// Unfinished documents that were removed.
    pub removed_temporary_files: u64,
    /// How long it took.
    pub took: Duration,
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last durable frame.
    pub last_sequence: Sequence,
    /// Commits acknowledged.
    pub commits: u64,
    /// Groups written.
    pub batches: u64,
    /// Ledger bytes written.
    pub ledger_bytes: u64,
    /// Ledger segment files.
    pub segments: u64,
    /// Index keys put or deleted.
    pub index_mutations: u64,
    /// Commits refused or failed.
    pub failures: u64,
    /// Times the wall clock was seen to jump by more than two seconds.
    pub clock_jumps: u64,
    /// Whether the store stopped after a failed sync.
    pub poisoned: bool,
    /// Whether the disk is full, so that only emergencies are taken.
    pub full: bool,
}

/// One thing found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The file, by its name inside the store.
    pub place: String,
    /// What is wrong, with the offset if there is one.
    pub what: String,
}

/// The result of walking the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Ledger segments walked.
    pub segments: u64,
    /// Frames verified.
    pub frames: u64,
    /// Documents verified.
    pub blobs: u64,
    /// Documents whose key was destroyed; there is nothing to verify.
    pub erased_blobs: u64,
    /// Index entries verified.
    pub index_entries: u64,
    /// Everything found wrong.
    pub faults: Vec<Fault>,
}
