//! `renkei bench`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Done, Output};
use crate::bench::{RpcSettings, rpc};

/// Measure, as ratios to a floor taken in the same run
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Unary calls at 1, 16, 64 and 256 in flight, against a constant answer of the same size
    Rpc(Rpc),
}

/// Arguments of `bench rpc`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  renkei bench rpc\n  renkei bench rpc --quick --json")]
pub(super) struct Rpc {
    /// A smoke run: 64 in flight only, a fraction of a second each
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// People in the store
    #[arg(long, default_value_t = 220, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    patients: u32,
}

impl Bench {
    /// Measures.
    pub(super) fn run(&self, out: Output) -> Result<Done> {
        let Self::Rpc(rpc_args) = self;
        let settings = RpcSettings {
            in_flight: if rpc_args.quick {
                vec![64]
            } else {
                vec![1, 16, 64, 256]
            },
            time: if rpc_args.quick {
                Duration::from_millis(500)
            } else {
                Duration::from_secs(rpc_args.seconds)
            },
            patients: rpc_args.patients as usize,
            json: out.is_json(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(rpc(&settings))?;
        Ok(Done::All)
    }
}
