//! How the store keeps up with what is asked of it, for those who decide how much to take on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Store;

/// How the committing thread keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Small commits that its queue has room for.
    pub slots: usize,
    /// Commits that wait for their answer.
    pub waiting: u64,
    /// Commits answered, or given up by who asked, since the store was opened.
    pub answered: u64,
    /// What they waited, all together, from being handed over to the answer.
    pub waited: Duration,
    /// How long the last group took to become durable.
    pub sync: Duration,
}

/// Counts, and times in microseconds.
#[derive(Debug, Default)]
pub(crate) struct LoadCounters {
    handed_over: AtomicU64,
    answered: AtomicU64,
    waited: AtomicU64,
    sync: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl LoadCounters {
    /// A commit is handed over; it waits until what is given here is dropped.
    pub(crate) fn waits(&self) -> Waits<'_> {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
        Waits {
            counters: self,
            since: Instant::now(),
        }
    }

    /// A group became durable within so long.
    pub(crate) fn synced(&self, took: Duration) {
        self.sync.store(micros(took), Ordering::Relaxed);
    }
}

/// A commit that waits.
pub(crate) struct Waits<'c> {
    counters: &'c LoadCounters,
    since: Instant,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waited = micros(self.since.elapsed());
        self.counters.waited.fetch_add(waited, Ordering::Relaxed);
        self.counters.answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// How it keeps up at the moment.
    pub fn load(&self) -> Load {
        let load = &self.core.counters.load;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let answered = read(&load.answered);
        Load {
            slots: self.queue.available_permits(),
            waiting: read(&load.handed_over).saturating_sub(answered),
            answered,
            waited: Duration::from_micros(read(&load.waited)),
            sync: Duration::from_micros(read(&load.sync)),
        }
    }
}
