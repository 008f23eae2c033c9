//! Other institutions, which are served while somebody attacks; and how their times are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::{JoinHandle, JoinSet};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::HERE;
use crate::support::{Network, tier};

/// Victims at once, each calling twenty times a second.
const VICTIMS: usize = 8;
const PAUSE: Duration = Duration::from_millis(50);
/// How long the quiet is measured before each part of an attack.
const QUIET: Duration = Duration::from_secs(4);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Times of calls, in microseconds, and how many failed.
pub(super) struct Times {
    pub(super) all: Histogram<u64>,
    pub(super) failed: u64,
}

impl Times {
    pub(super) fn new() -> Self {
        Self {
            all: Histogram::new_with_bounds(1, 60_000_000, 3).unwrap(),
            failed: 0,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.all.add(&other.all).unwrap();
        self.failed += other.failed;
    }

    pub(super) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap();
        self.all.saturating_record(micros);
    }

    pub(super) fn at(&self, quantile: f64) -> u64 {
        self.all.value_at_quantile(quantile)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.at(0.5), self.at(0.99));
        write!(f, "p50 {p50} us, p99 {p99} us of {} calls", self.all.len())
    }
}

/// The victims at work.
pub(super) struct Victims {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    tasks: JoinSet<Times>,
}

impl Victims {
    pub(super) fn start(network: &Network) -> Self {
        let (stop, failed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = JoinSet::new();
        let others = network.sample.regions[0].institutions.len() - 1;
        for number in 0..VICTIMS {
            let one = &network.sample.regions[0].institutions[1 + number % others];
            let caller = network.system(HERE, one);
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            tasks.spawn(async move {
                let mut times = Times::new();
                while !stop.load(Ordering::Relaxed) {
                    let mut client = HealthClient::new(caller.channel.clone());
                    let before = Instant::now();
                    if let Err(status) = client.check(HealthCheckRequest::default()).await {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("  a victim's call failed: {status}");
                    }
                    times.record(before.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                times
            });
        }
        Self {
            stop,
            failed,
            tasks,
        }
    }

    pub(super) async fn end(self) -> Times {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Times::new();
        for times in self.tasks.join_all().await {
            all.add(&times);
        }
        all.failed = self.failed.load(Ordering::Relaxed);
        all
    }
}

/// Watches how much memory the node uses.
pub(super) struct Watch {
    before: u64,
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(network: &Network) -> Self {
        let id = network.process(HERE).id();
        let before = network.process(HERE).memory();
        let most = Arc::new(AtomicU64::new(before));
        let kept = Arc::clone(&most);
        let task = tokio::spawn(async move {
            while let Some(memory) = crate::support::process::memory(id) {
                kept.fetch_max(memory, Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { before, most, task }
    }

    /// Memory before, and at most since, in bytes.
    pub(super) fn end(self) -> (u64, u64) {
        self.task.abort();
        (self.before, self.most.load(Ordering::Relaxed))
    }
}

/// What an attack did to the others.
pub(super) struct Verdict {
    quiet: Times,
    hit: Times,
    seconds: f64,
    /// Memory of the node before, and at most, in bytes.
    pub(super) memory: (u64, u64),
}

impl Verdict {
    /// p99 under attack over p99 without.
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    pub(super) fn ratio(&self) -> f64 {
        self.hit.at(0.99) as f64 / self.quiet.at(0.99) as f64
    }

    /// What the node's memory grew by at most, in bytes.
    pub(super) fn growth(&self) -> u64 {
        self.memory.1.saturating_sub(self.memory.0)
    }

    /// Prints it; fails if a victim's call failed, or, where `RENKEI_JUDGE_TIMES` says that the machine
    /// is quiet enough, if p99 grew by more than `limit` times.
    pub(super) fn told(self, name: &str, limit: f64) -> Self {
        let ratio = self.ratio();
        println!(
            "{name}: {:.1} s of attack; victims {} (quiet: {}); p99 ratio {ratio:.2} (bar {limit}, {}); \
             {} failed; memory {} MiB, + {} KiB at most",
            self.seconds,
            self.hit,
            self.quiet,
            if ratio <= limit { "kept" } else { "EXCEEDED" },
            self.hit.failed,
            self.memory.0 >> 20,
            self.growth() >> 10,
        );
        assert_eq!(self.hit.failed, 0, "{name}: a victim's call failed");
        let judged = tier::variable("RENKEI_JUDGE_TIMES").is_some();
        assert!(!judged || ratio <= limit, "{name}: {ratio:.2}");
        self
    }
}

/// Measures victims in the quiet and under attack, in turns, so that what else the machine does meets
/// both alike; `part` is one of `parts` parts of the attack.
pub(super) async fn against<F>(
    network: &Network,
    parts: usize,
    mut part: impl FnMut(usize) -> F,
) -> Verdict
where
    F: Future<Output = ()>,
{
    let (mut quiet, mut hit) = (Times::new(), Times::new());
    let mut seconds = 0.0;
    // The first part warms everything up: connections, caches, the allocator's pages.
    part(parts).await;
    let watch = Watch::start(network);
    for number in 0..parts {
        let victims = Victims::start(network);
        tokio::time::sleep(QUIET).await;
        quiet.add(&victims.end().await);
        let victims = Victims::start(network);
        let began = Instant::now();
        part(number).await;
        seconds += began.elapsed().as_secs_f64();
        hit.add(&victims.end().await);
    }
    Verdict {
        quiet,
        hit,
        seconds,
        memory: watch.end(),
    }
}
