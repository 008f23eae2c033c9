//! Appends by so many writers, each waiting for its acknowledgement.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::store::{Commit, IndexKind, Store};

use super::{Figure, LedgerSettings, Room, engine_name, floor, options, rows, schema};

/// The frames' payload in the bars of the suite, in bytes.
const FRAME: usize = 1024;
const LARGE_FRAME: usize = 4096;

/// Runs and floors in turn, since a shared disk is not the same from one second to the next.
const ROUNDS: u32 = 3;

/// What the writers append.
#[derive(Clone, Copy)]
enum Load {
    /// An audit record of so many bytes: the ledger alone.
    Record(usize),
    /// A row: ledger and index.
    Row,
}

impl Load {
    fn commit(self, number: u64) -> Commit {
        match self {
            Self::Record(bytes) => rows::record(number, bytes),
            Self::Row => rows::row(number),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Record(bytes) => format!("append.{bytes}B"),
            Self::Row => "append.row".to_owned(),
        }
    }
}

/// What came of a run.
struct Run {
    rate: f64,
    p50: f64,
    p99: f64,
    n: u64,
    frames_per_batch: f64,
    bytes_per_batch: f64,
}

impl Run {
    /// Appends a second, if there were nothing but the disk.
    fn floor(&self, below: &floor::Syncs) -> f64 {
        below.rate * self.frames_per_batch
    }
}

/// Measures and prints every append case.
pub(super) fn measure(settings: &LedgerSettings) -> Result<()> {
    let engine = *settings.engines.first().context("no engine")?;
    preallocation(settings, 1_155)?;
    preallocation(settings, 64 * 1_155)?;
    let one = case(settings, engine, Load::Record(FRAME), 1, None)?;
    case(settings, engine, Load::Record(FRAME), 16, Some(one))?;
    case(settings, engine, Load::Record(FRAME), 64, Some(one))?;
    let one = case(settings, engine, Load::Record(LARGE_FRAME), 1, None)?;
    case(settings, engine, Load::Record(LARGE_FRAME), 64, Some(one))?;
    for engine in &settings.engines {
        let one = case(settings, *engine, Load::Row, 1, None)?;
        case(settings, *engine, Load::Row, 64, Some(one))?;
    }
    Ok(())
}

/// One case: rounds of appending and of its floor in turn, of which the middle one is printed.
/// Returns the rate reached. `one` is the rate of one writer.
fn case(
    settings: &LedgerSettings,
    engine: IndexKind,
    load: Load,
    writers: usize,
    one: Option<f64>,
) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let room = Room::new(&settings.folder, "append")?;
        let time = settings.time / ROUNDS;
        let run = writers_run(room.path(), engine, load, writers, time)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size"
        )]
        let bytes = run.bytes_per_batch as u64;
        let below = floor::syncs(room.path(), bytes, time / 2, true)?;
        rounds.push((run, below));
    }
    let reached = |(run, below): &(Run, floor::Syncs)| run.rate / run.floor(below);
    rounds.sort_by(|a, b| reached(a).total_cmp(&reached(b)));
    let middle = rounds.len() / 2;
    let (run, below) = rounds.into_iter().nth(middle).context("no round")?;
    let name = match load {
        Load::Record(_) => load.name(),
        Load::Row => format!("{}.{}", load.name(), engine_name(engine)),
    };
    print(settings, &format!("{name}@{writers}"), &run, &below, one);
    Ok(run.rate)
}

fn print(settings: &LedgerSettings, name: &str, run: &Run, below: &floor::Syncs, one: Option<f64>) {
    let config = json!({
        "frames_per_batch": run.frames_per_batch,
        "bytes_per_batch": run.bytes_per_batch,
        "fdatasync_per_second": below.rate,
    });
    let figure = |what: &str, (value, unit), (floor, floor_name), ratio| {
        Figure {
            suite: "ledger",
            case: format!("{name}{what}"),
            value,
            unit,
            floor,
            floor_name,
            ratio,
            n: run.n,
            config: config.clone(),
        }
        .print(settings.json);
    };
    let floor = (
        run.floor(below),
        "fdatasync/s of the same bytes x frames per batch",
    );
    figure("", (run.rate, "appends/s"), floor, run.rate / floor.0);
    let one_sync = (below.p50, "fdatasync p50");
    figure(" p50", (run.p50, "us"), one_sync, below.p50 / run.p50);
    figure(" p99", (run.p99, "us"), one_sync, below.p50 / run.p99);
    if let Some(one) = one {
        let one = (one, "one writer");
        figure(" of one", (run.rate, "appends/s"), one, run.rate / one.0);
    }
}

/// What taking disk space ahead is worth: the same bytes into it, and at the end of a file.
fn preallocation(settings: &LedgerSettings, bytes: u64) -> Result<()> {
    let room = Room::new(&settings.folder, "floor")?;
    let ahead = floor::syncs(room.path(), bytes, settings.time / 2, true)?;
    let end = floor::syncs(room.path(), bytes, settings.time / 2, false)?;
    let figure = Figure {
        suite: "ledger",
        case: format!("fdatasync.{bytes}B into taken space"),
        value: ahead.rate,
        unit: "syncs/s",
        floor: end.rate,
        floor_name: "fdatasync/s at the end of a file",
        ratio: ahead.rate / end.rate,
        n: ahead.n,
        config: json!({ "p50_us": ahead.p50, "floor_p50_us": end.p50 }),
    };
    figure.print(settings.json);
    Ok(())
}

fn writers_run(
    folder: &Path,
    engine: IndexKind,
    load: Load,
    writers: usize,
    time: Duration,
) -> Result<Run> {
    let (store, _) = Store::open(&folder.join("store"), schema(), options(engine))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let numbers = Arc::new(AtomicU64::new(0));
    let run = runtime.block_on(async {
        write(&store, load, writers, time / 4, &numbers).await?;
        let before = store.stats();
        let started = Instant::now();
        let times = write(&store, load, writers, time, &numbers).await?;
        let seconds = started.elapsed().as_secs_f64();
        let after = store.stats();
        store.close().await?;
        #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
        let run = {
            let batches = (after.batches - before.batches).max(1) as f64;
            Run {
                rate: times.len() as f64 / seconds,
                p50: times.value_at_quantile(0.5) as f64,
                p99: times.value_at_quantile(0.99) as f64,
                n: times.len(),
                frames_per_batch: times.len() as f64 / batches,
                bytes_per_batch: (after.ledger_bytes - before.ledger_bytes) as f64 / batches,
            }
        };
        Ok::<_, anyhow::Error>(run)
    })?;
    drop(store);
    std::fs::remove_dir_all(folder.join("store"))?;
    Ok(run)
}

async fn write(
    store: &Arc<Store>,
    load: Load,
    writers: usize,
    time: Duration,
    numbers: &Arc<AtomicU64>,
) -> Result<Histogram<u64>> {
    let end = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let (store, numbers) = (Arc::clone(store), Arc::clone(numbers));
        tasks.spawn(async move {
            let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            while Instant::now() < end {
                let commit = load.commit(numbers.fetch_add(1, Ordering::Relaxed));
                let before = Instant::now();
                let _committed = store.commit(commit).await?;
                times.saturating_record(u64::try_from(before.elapsed().as_micros())?);
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    while let Some(task) = tasks.join_next().await {
        all.add(task.context("a writer panicked")??)?;
    }
    Ok(all)
}
