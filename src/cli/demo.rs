//! `renkei demo`.

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::output::{Done, Output};
use crate::demo::{Settings, run};

/// The main job in one command: a hub and regions as processes of their own, joined
///
/// Makes a development PKI, starts the nodes on loopback with their own data folders, loads sample
/// patients and documents, runs every step of the main job including refusals, checks each, and
/// keeps serving until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  renkei demo\n  renkei demo --once --json")]
pub(super) struct Demo {
    /// Regions beside the hub
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=32))]
    regions: u16,
    /// People in the sample
    #[arg(long, default_value_t = 220, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    patients: u32,
    /// Exit when done
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Runs the demo.
    pub(super) fn run(&self, out: Output) -> Result<Done> {
        let settings = Settings {
            regions: usize::from(self.regions),
            patients: self.patients as usize,
            once: self.once,
            json: out.is_json(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        if runtime.block_on(run(&settings))? {
            Ok(Done::All)
        } else {
            bail!("a step of the demo failed")
        }
    }
}
