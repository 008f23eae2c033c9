//! `renkei bench`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Done, Output};
use crate::bench::{HandshakeSettings, RpcSettings, handshake, rpc};

/// Measure, as ratios to a floor taken in the same run
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Unary calls at 1, 16, 64 and 256 in flight, against a constant answer of the same size
    Rpc(Rpc),
    /// Full mutual TLS handshakes of the edge, against rustls alone with the same keys
    Handshake(Handshake),
}

/// Arguments of `bench handshake`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench handshake\n  renkei bench handshake --quick --json"
)]
pub(super) struct Handshake {
    /// A smoke run: 8 clients only, a fraction of a second each
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        let time = |quick, seconds| {
            if quick {
                Duration::from_millis(500)
            } else {
                Duration::from_secs(seconds)
            }
        };
        match self {
            Self::Rpc(args) => {
                let settings = RpcSettings {
                    in_flight: if args.quick {
                        vec![64]
                    } else {
                        vec![1, 16, 64, 256]
                    },
                    time: time(args.quick, args.seconds),
                    patients: args.patients as usize,
                    json: out.is_json(),
                };
                runtime.block_on(rpc(&settings))?;
            }
            Self::Handshake(args) => {
                let settings = HandshakeSettings {
                    in_flight: if args.quick { vec![8] } else { vec![1, 8, 32] },
                    time: time(args.quick, args.seconds),
                    json: out.is_json(),
                };
                runtime.block_on(handshake(&settings))?;
            }
        }
        Ok(Done::All)
    }
}
