//! Opening a store, and making its index again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::store::IndexKind;

use super::step::{Report, Step};
use super::{Figure, LedgerSettings, Room, engine_name, floor};

/// The least that is asked of a rebuild where the disk could do more, in frames a second.
const REBUILD_BAR: f64 = 100_000.0;
/// What is asked of the resident memory, in MiB.
const MEMORY_BAR: f64 = 512.0;

/// Measures and prints.
pub(super) fn measure(settings: &LedgerSettings, engine: IndexKind) -> Result<()> {
    let room = Room::new(&settings.folder, "index")?;
    let step = |step, frames| run(room.path(), step, engine, frames);
    let filled = step(Step::Fill, settings.frames)?;
    let clean = step(Step::Open, 0)?;
    ensure!(
        clean.rebuilt.is_none(),
        "opened after a clean stop, the index was rebuilt"
    );
    killed(room.path(), engine)?;
    let after_kill = step(Step::Open, 0)?;
    std::fs::remove_dir_all(room.path().join("store").join("index"))?;
    let (bytes, read) = floor::sequential_read(&room.path().join("store").join("ledger"))?;
    let rebuilt = step(Step::Open, 0)?;
    ensure!(rebuilt.rebuilt.is_some(), "the index was there");
    ensure!(rebuilt.applied >= settings.frames, "frames are missing");
    let dumps = (step(Step::Dump, 0)?.dump, rebuilt.applied);
    print(
        settings,
        engine,
        &Found {
            filled,
            clean,
            after_kill,
            rebuilt,
            bytes,
            read,
            dump: dumps.0,
        },
    );
    Ok(())
}

struct Found {
    filled: Report,
    clean: Report,
    after_kill: Report,
    rebuilt: Report,
    bytes: u64,
    read: f64,
    dump: Option<String>,
}

#[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
fn print(settings: &LedgerSettings, engine: IndexKind, found: &Found) {
    let frames = found.rebuilt.applied;
    let config = json!({
        "frames": frames,
        "ledger_bytes": found.bytes,
        "engine": engine_name(engine),
        "row": "about 1 KiB, random key, one secondary key; every tenth frame an update",
        "dump": found.dump,
    });
    let figure = |what: &str, value, unit, floor, floor_name, ratio| {
        Figure {
            suite: "ledger",
            case: format!("{what}.{}", engine_name(engine)),
            value,
            unit,
            floor,
            floor_name,
            ratio,
            n: frames,
            config: config.clone(),
        }
        .print(settings.json);
    };
    let read = found.read * frames as f64 / found.bytes as f64;
    let rate = frames as f64 / found.rebuilt.seconds;
    figure(
        "rebuild",
        rate,
        "frames/s",
        read,
        "sequential read of the ledger",
        rate / read,
    );
    let bar = REBUILD_BAR.min(read / 2.0);
    figure(
        "rebuild bar",
        rate,
        "frames/s",
        bar,
        "min(100000, read / 2)",
        rate / bar,
    );
    let fill = frames as f64 / found.filled.seconds;
    figure(
        "fill",
        fill,
        "frames/s",
        read,
        "sequential read of the ledger",
        fill / read,
    );
    let memory = found.rebuilt.peak_mib;
    figure(
        "rebuild memory",
        memory,
        "MiB",
        MEMORY_BAR,
        "512 MiB",
        MEMORY_BAR / memory,
    );
    let open = found.clean.seconds;
    figure("open clean", open, "s", 10.0, "10 s", 10.0 / open);
    let open = found.after_kill.seconds;
    figure("open killed", open, "s", 30.0, "30 s", 30.0 / open);
}

/// Runs one step in a process of its own.
fn run(folder: &Path, step: Step, engine: IndexKind, frames: u64) -> Result<Report> {
    let output = command(folder, step, engine, frames)?
        .stdout(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), "the step {} failed", step.name());
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("a step's report")
}

/// A process that writes rows and is killed while it does.
fn killed(folder: &Path, engine: IndexKind) -> Result<()> {
    let mut child = command(folder, Step::Write, engine, u64::MAX)?
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(
        child.try_wait()?.is_none(),
        "the writing process ended by itself"
    );
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn command(folder: &Path, step: Step, engine: IndexKind, frames: u64) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "bench",
            "ledger",
            "--step",
            step.name(),
            "--engine",
            engine_name(engine),
        ])
        .args(["--frames", &frames.to_string(), "--folder"])
        .arg(folder);
    Ok(command)
}
