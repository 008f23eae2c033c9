//! `bench fanout`: a merged query of a hub over many regions, one at a time, against its slowest
//! region; the same with a tenth of the regions dead; and the hub's processor time for each region
//! asked, against tonic's client alone over the same channels.
//!
//! The hub is whole, in this process, and so is the physician who asks it. The regions are processes
//! of their own, so that their processor time is not the hub's, and those that die can be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::pki::dev::Layout;
use crate::pki::{TrustHandle, TrustOptions};
use crate::wire::pb::common::RegionState;

use super::Figure;
use super::regions::{DOCUMENTS, Region, open};
use super::wide::{Hub, Merged, Wide};

/// Merged queries and bare calls are measured so often in turn, so that neither has the quieter
/// machine.
const ROUNDS: u32 = 4;
/// Every tenth region dies.
const DOOMED: usize = 10;
/// What a query may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Queries that may be needed until every connection stands, or every breaker is open.
const SETTLING: usize = 400;
/// A process of regions that does not listen by then has failed to start.
const START: Duration = Duration::from_mins(1);
/// What the issue asks for: this much over the slowest region, in milliseconds; this many times the
/// healthy time; this many times a bare call's processor time.
const P50_OVER: f64 = 15.0;
const P99_OVER: f64 = 40.0;
const WITH_DEAD: f64 = 1.3;
const CPU_TIMES: f64 = 1.5;

/// How to measure.
#[derive(Clone, Debug)]
pub struct FanoutSettings {
    /// Regions, ten at least.
    pub regions: usize,
    /// What the slowest of them takes; the others take between a fifth of it and all of it.
    pub slowest: Duration,
    /// Chooses who takes how long.
    pub seed: u64,
    /// Time for each figure.
    pub time: Duration,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Measures and prints.
///
/// # Errors
/// If a node cannot be set up, or an answer is not what it must be.
pub async fn fanout(settings: &FanoutSettings) -> Result<()> {
    let count = settings.regions;
    ensure!(count >= DOOMED, "{DOOMED} regions at least");
    let wide = Wide::new(count, |number| delay(settings, number))?;
    let doomed = |number: &usize| number % DOOMED == DOOMED - 1;
    let (dying, staying): (Vec<usize>, Vec<usize>) = (0..count).partition(doomed);
    let mut dying = Regions::start(&wide, "dying", &dying).await?;
    let staying = Regions::start(&wide, "staying", &staying).await?;
    let mut addresses: Vec<(usize, SocketAddr)> = dying.addresses().collect();
    addresses.extend(staying.addresses());
    addresses.sort_unstable();
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|(_, at)| at).collect();
    let hub = Arc::new(wide.hub(&addresses).await?);

    let healthy = |merged: &Merged| is_as_it_must_be(merged, count, 0);
    until(&hub, healthy).await.context("a region is missing")?;
    let alone = alone(&hub, settings.time / ROUNDS).await?;
    let (mut whole, mut bare) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        bare.add(waves(&hub, count, settings.time / ROUNDS).await?);
        whole.add(finds(&hub, count, 0, settings.time / ROUNDS).await?);
    }

    dying.kill().await?;
    let dead = dying.numbers.len();
    let opened = |merged: &Merged| {
        is_as_it_must_be(merged, count, dead) && merged.count(RegionState::CircuitOpen) == dead
    };
    until(&hub, opened)
        .await
        .context("a breaker stays closed")?;
    let maimed = finds(&hub, count, dead, settings.time).await?;
    print(settings, &alone, &bare, &whole, &maimed);
    drop(staying);
    Arc::into_inner(hub)
        .context("the hub is asked")?
        .end()
        .await
}

/// What a region takes: the first one longest.
fn delay(settings: &FanoutSettings, number: usize) -> Duration {
    let part = super::ledger::mix(settings.seed ^ number as u64) % 1_000;
    match number {
        0 => settings.slowest,
        _ => {
            settings.slowest / 5
                + settings.slowest * 4 / 5 * u32::try_from(part).unwrap_or(0) / 1_000
        }
    }
}

/// Every region that lives is there with all that it has, no other is, and the answer says so.
fn is_as_it_must_be(merged: &Merged, count: usize, dead: usize) -> bool {
    let good = merged.count(RegionState::Ok);
    good == count - dead
        && merged.completeness.regions.len() == count
        && merged.completeness.complete == (dead == 0)
        && merged.documents.len() == good
        && merged.documents.values().all(|held| *held == DOCUMENTS)
}

/// Asks until an answer is as wanted.
async fn until(hub: &Hub, wanted: impl Fn(&Merged) -> bool) -> Result<()> {
    for _ in 0..SETTLING {
        if wanted(&hub.find(DEADLINE).await?) {
            return Ok(());
        }
    }
    anyhow::bail!("not within {SETTLING} queries")
}

/// Times of one kind of work, and the processor time of this process meanwhile.
#[derive(Debug, Default)]
struct Times {
    took: Vec<Duration>,
    calls: usize,
    cpu: Duration,
}

impl Times {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.calls += other.calls;
        self.cpu += other.cpu;
    }

    /// The time, in milliseconds, that so many percent stayed within.
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        let found = sorted.get(place).copied().unwrap_or_default();
        found.as_secs_f64() * 1e3
    }

    /// Microseconds of processor time for each call of a region.
    fn cpu_per_call(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
        let calls = self.calls as f64;
        self.cpu.as_secs_f64() * 1e6 / calls
    }
}

/// Merged queries, one at a time.
async fn finds(hub: &Hub, count: usize, dead: usize, time: Duration) -> Result<Times> {
    let (mut sample, end, before) = (Times::default(), Instant::now() + time, cpu()?);
    while sample.took.is_empty() || Instant::now() < end {
        let merged = hub.find(DEADLINE).await?;
        ensure!(
            is_as_it_must_be(&merged, count, dead),
            "an answer is not what it must be: {:?}",
            merged.completeness
        );
        sample.took.push(merged.took);
        sample.calls += count - dead;
    }
    sample.cpu = cpu()?.saturating_sub(before);
    Ok(sample)
}

/// Waves of bare calls to all regions at once; each takes as long as its slowest.
async fn waves(hub: &Arc<Hub>, count: usize, time: Duration) -> Result<Times> {
    let (mut sample, end, before) = (Times::default(), Instant::now() + time, cpu()?);
    while sample.took.is_empty() || Instant::now() < end {
        let started = Instant::now();
        let mut wave = JoinSet::new();
        for number in 0..count {
            let hub = Arc::clone(hub);
            wave.spawn(async move { hub.bare(number).await });
        }
        while let Some(call) = wave.join_next().await {
            call.context("a call panicked")??;
        }
        sample.took.push(started.elapsed());
        sample.calls += count;
    }
    sample.cpu = cpu()?.saturating_sub(before);
    Ok(sample)
}

/// Bare calls of the slowest region, when nothing else goes on.
async fn alone(hub: &Hub, time: Duration) -> Result<Times> {
    let (mut sample, end) = (Times::default(), Instant::now() + time);
    while sample.took.is_empty() || Instant::now() < end {
        sample.took.push(hub.bare(0).await?);
        sample.calls += 1;
    }
    Ok(sample)
}

fn print(settings: &FanoutSettings, alone: &Times, bare: &Times, whole: &Times, maimed: &Times) {
    let count = settings.regions;
    let slowest = alone.percentile(50);
    for (percent, bar) in [(50, P50_OVER), (99, P99_OVER)] {
        let (value, below) = (whole.percentile(percent), bare.percentile(percent));
        let over = value - slowest;
        let more = json!({"over_ms": over, "bar_over_ms": bar, "kept": over <= bar});
        let case = format!("find@{count} p{percent}");
        let floor = (slowest, "slowest region alone");
        figure(settings, &case, whole, ("ms", value), floor, more);
        let case = format!("find@{count} p{percent} of bare");
        let floor = (below, "bare calls to all at once");
        let more = json!({"over_ms": value - below});
        figure(settings, &case, whole, ("ms", value), floor, more);
    }
    let (value, floor) = (maimed.percentile(50), whole.percentile(50));
    let kept = value <= floor * WITH_DEAD;
    let more = json!({"dead": count / DOOMED, "bar_times": WITH_DEAD, "kept": kept});
    let case = format!("find@{count} p50, a tenth dead");
    let floor = (floor, "all regions healthy");
    figure(settings, &case, maimed, ("ms", value), floor, more);
    let (value, floor) = (whole.cpu_per_call(), bare.cpu_per_call());
    let kept = value <= floor * CPU_TIMES;
    let more = json!({"bar_times": CPU_TIMES, "kept": kept, "counted": "hub and who asks it"});
    let case = format!("processor time a region@{count}");
    let floor = (floor, "bare call");
    figure(settings, &case, whole, ("us", value), floor, more);
}

fn figure(
    settings: &FanoutSettings,
    case: &str,
    sample: &Times,
    (unit, value): (&'static str, f64),
    (floor, floor_name): (f64, &'static str),
    more: Value,
) {
    let mut config = json!({
        "regions": settings.regions,
        "slowest_ms": settings.slowest.as_secs_f64() * 1e3,
        "seed": settings.seed,
        "in_flight": 1,
        "audit": "durable before the answer",
    });
    if let (Some(all), Value::Object(more)) = (config.as_object_mut(), more) {
        all.extend(more);
    }
    Figure {
        suite: "fanout",
        case: case.to_owned(),
        value,
        unit,
        floor,
        floor_name,
        ratio: floor / value,
        n: sample.took.len() as u64,
        config,
    }
    .print(settings.json);
}

/// Processor time of this process so far.
fn cpu() -> Result<Duration> {
    /// The kernel counts in hundredths of a second (`USER_HZ`).
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").context("no /proc")?;
    // The name before may hold anything, blanks and brackets too.
    let (_, rest) = stat
        .rsplit_once(')')
        .context("no name in /proc/self/stat")?;
    let times: Vec<u32> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(TICK * times.iter().sum::<u32>())
}

/// What a process of regions is told, in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    pki: PathBuf,
    regions: Vec<Region>,
}

/// A process of regions.
struct Regions {
    child: Child,
    numbers: Vec<usize>,
    addresses: Vec<SocketAddr>,
}

impl Regions {
    async fn start(wide: &Wide, name: &str, numbers: &[usize]) -> Result<Self> {
        let regions = numbers
            .iter()
            .filter_map(|number| wide.regions().get(*number));
        let orders = Orders {
            pki: wide.pki(),
            regions: regions.cloned().collect(),
        };
        let file = wide.folder().join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec(&orders)?)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "fanout", "--serve"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the regions")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await;
        let line = line.context("the regions did not start in time")??;
        let line = line.context("the regions did not start")?;
        Ok(Self {
            child,
            numbers: numbers.to_vec(),
            addresses: serde_json::from_str(&line)?,
        })
    }

    fn addresses(&self) -> impl Iterator<Item = (usize, SocketAddr)> {
        self.numbers
            .iter()
            .copied()
            .zip(self.addresses.iter().copied())
    }

    async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the regions")
    }
}

/// Is a process of regions: says where they listen, and answers until its standard input ends.
///
/// # Errors
/// If a region cannot be started.
pub async fn serve_regions(orders: &Path) -> Result<()> {
    let orders: Orders = serde_json::from_slice(&std::fs::read(orders)?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let trust = Layout::of(&orders.pki).trust_store(TrustOptions::default())?;
    let trust = TrustHandle::new(trust);
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let running = open(&orders.regions, &trust, &clock, &stop, &mut tasks).await?;
    let addresses: Vec<SocketAddr> = running.iter().map(|region| region.address).collect();
    println!("{}", serde_json::to_string(&addresses)?);
    let parent_gone = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(parent_gone).await??;
    stop.cancel();
    Ok(())
}
