//! What readers and the committing thread share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::blobs::Blobs;
use super::commit::{Follower, Sequence};
use super::error::StoreError;
use super::health::Health;
use super::index::Index;
use super::keys::{Keys, Random};
use super::ledger::Shared;
use super::ledger::reader::FrameIterator;
use super::load::LoadCounters;
use super::options::Stats;
use super::replay::replay;
use super::room::Room;
use super::table::Schema;
use crate::clock::Clock;

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) ledger_bytes: AtomicU64,
    pub(crate) mutations: AtomicU64,
    pub(crate) clock_jumps: AtomicU64,
    pub(crate) load: LoadCounters,
}

impl Counters {
    /// Counts one answer.
    pub(crate) fn settled(&self, well: bool) {
        let counter = if well { &self.commits } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The parts of an open store.
pub(crate) struct Core {
    pub(crate) keys: Arc<Keys>,
    pub(crate) schema: Schema,
    pub(crate) index: Index,
    pub(crate) ledger: Arc<Shared>,
    pub(crate) blobs: Blobs,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Counters,
    pub(crate) health: Health,
    pub(crate) room: Arc<Room>,
    pub(crate) live: Live,
}

/// What only an open store has.
#[derive(Default)]
pub(crate) struct Live {
    followers: RwLock<Vec<Arc<dyn Follower>>>,
    rebuilding: AtomicBool,
    deriving: Mutex<()>,
}

impl Live {
    /// Held while a file of what is derived is put into its place, or deleted.
    pub(crate) fn deriving(&self) -> MutexGuard<'_, ()> {
        self.deriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn followers(&self) -> Vec<Arc<dyn Follower>> {
        self.live
            .followers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn follow(&self, follower: Arc<dyn Follower>) {
        self.live
            .followers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(follower);
    }

    /// The index, unless it has gaps at the moment (INV-6).
    pub(crate) fn readable(&self) -> Result<&Index, StoreError> {
        if self.live.rebuilding.load(Ordering::Acquire) {
            return Err(StoreError::Rebuilding);
        }
        Ok(&self.index)
    }

    /// Empties the index and applies the whole ledger. Only the committing thread calls this, so
    /// the ledger stands still. After a failure reads stay refused.
    pub(crate) fn rebuild(&self) -> Result<u64, StoreError> {
        self.live.rebuilding.store(true, Ordering::Release);
        self.index.reset(&self.keys, self.random.as_ref())?;
        let frames = FrameIterator::new(Arc::clone(&self.ledger), Sequence(1));
        let ((), frames) = replay(&self.index, &self.schema, |visit| {
            for frame in frames {
                visit(frame?)?;
            }
            Ok(())
        })?;
        self.live.rebuilding.store(false, Ordering::Release);
        Ok(frames)
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            last_sequence: self.ledger.durable(),
            commits: read(&self.counters.commits),
            batches: read(&self.counters.batches),
            ledger_bytes: read(&self.counters.ledger_bytes),
            segments: self.ledger.segments().len() as u64,
            index_mutations: read(&self.counters.mutations),
            failures: read(&self.counters.failures),
            clock_jumps: read(&self.counters.clock_jumps),
            poisoned: self.health.has_stopped(),
            full: self.room.is_full(),
        }
    }
}
