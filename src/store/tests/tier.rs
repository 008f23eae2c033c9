//! How much is tried. `RENKEI_TIER=quick|full|soak` chooses the counts of the security bars (quick
//! if unset), `RENKEI_SEED=n` tries that one seed again.

use std::ops::{Add, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// An environment variable of the test run.
fn variable(name: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

/// The count for the tier that was chosen.
pub(super) fn count(quick: u64, full: u64, soak: u64) -> u64 {
    match variable("RENKEI_TIER").as_deref() {
        None | Some("quick") => quick,
        Some("full") => full,
        Some("soak") => soak,
        Some(other) => panic!("RENKEI_TIER={other}: quick, full or soak"),
    }
}

/// The one seed that was asked for.
pub(super) fn one_seed() -> Option<u64> {
    let seed = variable("RENKEI_SEED")?.parse();
    Some(seed.expect("RENKEI_SEED is a number"))
}

/// The one seed that was asked for, or as many as the tier has.
fn seeds(quick: u64, full: u64, soak: u64) -> Range<u64> {
    match one_seed() {
        Some(seed) => seed..seed + 1,
        None => 0..count(quick, full, soak),
    }
}

/// What was tried, and how much of it was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) cases: u64,
    pub(super) acknowledged: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            acknowledged: self.acknowledged + other.acknowledged,
        }
    }
}

/// Tries every seed, on all cores, and prints the sum as a line of the summary. A failure names its
/// seed.
pub(super) fn each_seed(
    bars: &str,
    (quick, full, soak): (u64, u64, u64),
    run: impl Fn(u64) -> Tally + Sync,
) -> Tally {
    let seeds = seeds(quick, full, soak);
    let count = seeds.end - seeds.start;
    let tally = on_all_cores(seeds, run);
    summary(
        bars,
        &format!(
            "{count} seeds, {} cases, {} acknowledged, 0 lost",
            tally.cases, tally.acknowledged
        ),
    );
    tally
}

/// Tries every seed, on all cores. A failure names its seed.
pub(super) fn on_all_cores(seeds: Range<u64>, run: impl Fn(u64) -> Tally + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return tally;
            }
            let guard = Named(seed);
            tally = tally + run(seed);
            std::mem::forget(guard);
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("the seed is named above"))
            .fold(Tally::default(), Add::add)
    })
}

/// A line of the summary that the full tier shows.
pub(super) fn summary(bars: &str, text: &str) {
    println!("bar {bars}: {text}");
}

/// Names the seed if its run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("failed with RENKEI_SEED={}", self.0);
    }
}

/// Small numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5EED_5EED_5EED_5EED)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn size_below(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("below a usize")
    }
}

/// Drives a future to its end on this thread.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
