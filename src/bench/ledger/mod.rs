//! `bench ledger`: appends by so many writers, opening, and making the index again, against what
//! the disk does: fdatasync of the same bytes, and reading the ledger from end to end.
//!
//! It knows nothing of calls or patients: frames carry either one audit record (the ledger alone)
//! or one row of a table with a secondary key (ledger and index). Everything that is measured cold
//! or by its memory runs in a process of its own.

mod append;
mod floor;
mod index;
mod rows;
mod step;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::store::{IndexKind, Options, Schema};

pub(super) use rows::{mix, sixteen};
pub use step::{Step, run_step};
pub(super) use step::{peak_mib, resident_mib};

use super::Figure;

/// How to measure.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Time for each figure of the append cases.
    pub time: Duration,
    /// Frames in the ledger that is opened and whose index is made again.
    pub frames: u64,
    /// The engines to measure.
    pub engines: Vec<IndexKind>,
    /// On which disk: a folder that exists.
    pub folder: PathBuf,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Measures and prints.
///
/// # Errors
/// If the disk refuses, or a step fails.
pub fn ledger(settings: &LedgerSettings) -> Result<()> {
    append::measure(settings)?;
    for engine in &settings.engines {
        index::measure(settings, *engine)?;
    }
    Ok(())
}

fn options(index: IndexKind) -> Options {
    Options {
        index,
        ..Options::default()
    }
}

fn schema() -> Schema {
    Schema::new().table::<rows::BenchRow>()
}

/// The engine of this name.
///
/// # Errors
/// If there is none.
pub fn engine(name: &str) -> Result<IndexKind> {
    match name {
        "fjall" => Ok(IndexKind::Fjall),
        "sled" => Ok(IndexKind::Sled),
        "memory" => Ok(IndexKind::Memory),
        _ => bail!("no engine is called {name}"),
    }
}

pub(super) fn engine_name(index: IndexKind) -> &'static str {
    match index {
        IndexKind::Fjall => "fjall",
        IndexKind::Sled => "sled",
        IndexKind::Memory => "memory",
    }
}

/// A folder inside `parent`, removed when dropped.
pub(super) struct Room(PathBuf);

impl Room {
    pub(super) fn new(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!("renkei-bench-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
