//! One step, in a process of its own: so that its memory and its cold start are its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::store::{IndexKind, Store};

use super::{options, rows, schema};

/// Commits in flight while a ledger is filled.
const IN_FLIGHT: u64 = 512;

/// What a process is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write so many rows into a new store and close it.
    Fill,
    /// Open the store and close it.
    Open,
    /// Write rows until killed.
    Write,
    /// Open the store and hash what the index says.
    Dump,
}

impl Step {
    const ALL: [Self; 4] = [Self::Fill, Self::Open, Self::Write, Self::Dump];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Open => "open",
            Self::Write => "write",
            Self::Dump => "dump",
        }
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == name)
            .ok_or_else(|| format!("no step is called {name}"))
    }
}

/// What a step found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    pub(super) applied: u64,
    pub(super) rebuilt: Option<String>,
    pub(super) peak_mib: f64,
    pub(super) dump: Option<String>,
}

/// Runs a step and prints what it found, as one line of JSON.
///
/// # Errors
/// What the store reports.
pub fn run_step(folder: &Path, step: Step, engine: IndexKind, frames: u64) -> Result<()> {
    let started = Instant::now();
    let (store, opened) = Store::open(&folder.join("store"), schema(), options(engine))?;
    let mut report = Report {
        seconds: started.elapsed().as_secs_f64(),
        applied: opened.applied_frames,
        rebuilt: opened.rebuilt.map(|reason| format!("{reason:?}")),
        ..Report::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match step {
        Step::Open => report.peak_mib = peak_mib()?,
        Step::Dump => {
            let dump = store.dump()?;
            report.dump = Some(data_encoding::HEXLOWER.encode(&dump));
        }
        Step::Fill | Step::Write => {
            let first = store.last_sequence().0;
            let started = Instant::now();
            runtime.block_on(fill(&store, first, frames))?;
            report.seconds = started.elapsed().as_secs_f64();
        }
    }
    runtime.block_on(store.close())?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn fill(store: &Arc<Store>, first: u64, frames: u64) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..IN_FLIGHT {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut number = writer;
            while number < frames {
                let _committed = store.commit(rows::row(first + number)).await?;
                number += IN_FLIGHT;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a writer panicked")??;
    }
    Ok(())
}

/// The most memory this process ever had resident, in MiB.
pub(in super::super) fn peak_mib() -> Result<f64> {
    memory_mib("VmHWM:")
}

/// The memory this process has resident, in MiB.
pub(in super::super) fn resident_mib() -> Result<f64> {
    memory_mib("VmRSS:")
}

fn memory_mib(what: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .context("the kernel does not say")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
