//! `renkei bench`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::output::{Done, Output};
use crate::bench::{
    AuditSettings, DecideSettings, EmergencySettings, FanoutSettings, HandshakeSettings,
    IdentitySettings, LedgerSettings, MatchingSettings, NodeStep, RegistrySettings,
    RetrieveSettings, RpcSettings, Step, audit, decide_bench, emergency, engine, fanout, handshake,
    identity, ledger, matching, node, node_step, registry, retrieve, rpc, run_step, serve_regions,
};

/// Measure, as ratios to a floor taken in the same run
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Unary calls at 1, 16, 64 and 256 in flight, against a constant answer of the same size
    Rpc(Rpc),
    /// Full mutual TLS handshakes of the edge, against rustls alone with the same keys
    Handshake(Handshake),
    /// One decision of the decision point, with the default policies and with a hundred
    Decide(Decide),
    /// Appends by so many writers, opening and making the index again, against the disk alone
    Ledger(Ledger),
    /// The audit log: following, verifying, a report and proofs, against hashing the ledger's bytes
    Audit(AuditLog),
    /// Patient matching against the truth: false links, recall, review, thresholds, speed
    Matching(Matching),
    /// Feeding people to a node in random order, what came of it, and asking who somebody is
    Identity(Identity),
    /// Finding documents in registries of growing size, and registering, against constant answers and
    /// plain commits
    Registry(Registry),
    /// Reading documents, against the same octets through rustls alone
    Retrieve(Retrieve),
    /// A merged query over many regions, against its slowest; with a tenth of them dead; and the
    /// processor time of each region asked, against a bare call
    Fanout(Fanout),
    /// Identifying a patient by four items and getting the summary over ten regions: warm, cold with a
    /// third of them down, and beside ten times as many other calls; against the bars
    Emergency(Emergency),
}

/// Arguments of `bench matching`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  renkei bench matching records.jsonl.gz --truth truth.csv.gz --seed 7"
)]
pub(super) struct Matching {
    /// Records as JSON Lines, plain or gzip
    file: PathBuf,
    /// The truth as CSV with `record_id` and `person_id`, plain or gzip
    #[arg(long)]
    truth: PathBuf,
    /// Seed of the random order in which records are fed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Matching {
    fn run(&self, out: Output) -> Result<Done> {
        let report = matching(&MatchingSettings {
            records: self.file.clone(),
            truth: self.truth.clone(),
            seed: self.seed,
            people: None,
        })?;
        out.object(&report)?;
        out.human(|text| {
            for (label, value) in report.lines() {
                text.field(&label, value);
            }
        })?;
        Ok(Done::All)
    }
}

/// Arguments of `bench identity`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench identity\n  renkei bench identity --quick --json\n  \
                  renkei bench identity records.jsonl.gz --truth truth.csv.gz --feed 20000"
)]
pub(super) struct Identity {
    /// Records as JSON Lines, plain or gzip; without, people of the sample
    #[arg(requires = "truth")]
    file: Option<PathBuf>,
    /// The truth as CSV with `record_id` and `person_id`, plain or gzip
    #[arg(long, requires = "file")]
    truth: Option<PathBuf>,
    /// A smoke run: few people, a fraction of a second for each figure of asking
    #[arg(long)]
    quick: bool,
    /// People of the sample
    #[arg(long, default_value_t = 5_000, conflicts_with = "file")]
    people: u32,
    /// Records fed one by one; those before them are loaded in bulk
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    feed: u32,
    /// Seed of the random order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds for each figure of asking
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Identity {
    fn settings(&self, out: Output) -> IdentitySettings {
        let small = |quick, usual: u32| if self.quick { quick } else { usual as usize };
        IdentitySettings {
            file: self.file.clone().zip(self.truth.clone()),
            people: small(300, self.people),
            feed: small(200, self.feed),
            seed: self.seed,
            time: time(self.quick, self.seconds),
            json: out.is_json(),
        }
    }
}

/// Arguments of `bench registry`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench registry\n  renkei bench registry --quick --json\n  \
                  renkei bench registry --entries 10000,10000000"
)]
pub(super) struct Registry {
    /// A smoke run: 1,000 and 5,000 entries, a fraction of a second each
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Entries in the registry, in growing order
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    entries: Vec<u64>,
}

/// Arguments of `bench retrieve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench retrieve\n  renkei bench retrieve --quick --json"
)]
pub(super) struct Retrieve {
    /// A smoke run: 1 MiB only, a fraction of a second
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Sizes of documents in KiB
    #[arg(long, value_delimiter = ',', default_value = "1024,16384")]
    kib: Vec<usize>,
}

/// Arguments of `bench fanout`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench fanout\n  renkei bench fanout --quick --json\n  \
                        renkei bench fanout --regions 25 --slowest-ms 20"
)]
pub(super) struct Fanout {
    /// A smoke run: 25 regions, a second for each figure
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Regions
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u16).range(10..=1_000))]
    regions: u16,
    /// Milliseconds that the slowest region takes; the others take a fifth of it and more
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=2_000))]
    slowest_ms: u64,
    /// Chooses which region takes how long
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Be regions in this process
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

impl Fanout {
    async fn run(&self, json: bool) -> Result<()> {
        if let Some(orders) = &self.serve {
            return serve_regions(orders).await;
        }
        let (regions, seconds) = match self.quick {
            true => (25, 1),
            false => (self.regions, self.seconds),
        };
        fanout(&FanoutSettings {
            regions: usize::from(regions),
            slowest: Duration::from_millis(self.slowest_ms),
            seed: self.seed,
            time: Duration::from_secs(seconds),
            json,
        })
        .await
    }
}

/// Arguments of `bench emergency`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench emergency\n  renkei bench emergency --quick --json\n  \
                        renkei bench emergency --people 1000000"
)]
pub(super) struct Emergency {
    /// A smoke run: 500 people, 200 emergencies for each figure
    #[arg(long)]
    quick: bool,
    /// People that the hub knows
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    people: u32,
    /// Emergencies for each figure
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=5_000))]
    calls: u32,
}

impl Emergency {
    async fn run(&self, json: bool) -> Result<()> {
        let (people, calls) = match self.quick {
            true => (500, 200),
            false => (self.people, self.calls),
        };
        emergency(&EmergencySettings {
            people: usize::try_from(people)?,
            calls: usize::try_from(calls)?,
            json,
        })
        .await
    }
}

/// Arguments of `bench decide`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  renkei bench decide\n  renkei bench decide --quick --json")]
pub(super) struct Decide {
    /// A smoke run: a fraction of a second each
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// Arguments of `bench ledger`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  renkei bench ledger --folder /var/lib/renkei-bench\n  \
                  renkei bench ledger --quick --json\n  \
                  renkei bench ledger --frames 10000000 --patients 1000000"
)]
pub(super) struct Ledger {
    /// A smoke run: a fraction of a second each, few frames
    #[arg(long)]
    quick: bool,
    /// Seconds for each figure of appending
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Frames in the ledger whose index is made again
    #[arg(long, default_value_t = 200_000)]
    frames: u64,
    /// Patients of the node that is started, each with five document entries
    #[arg(long, default_value_t = 10_000)]
    patients: u64,
    /// Engines of the index
    #[arg(long, value_delimiter = ',', default_value = "fjall,sled")]
    engine: Vec<String>,
    /// A folder on the disk to measure [default: the system's temporary one]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Run one step in this process
    #[arg(long, hide = true)]
    step: Option<Step>,
    /// Run one step with a node in this process
    #[arg(long, hide = true)]
    node_step: Option<NodeStep>,
}

/// Arguments of `bench audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  renkei bench audit --quick\n  \
                        renkei bench audit --entries 10000000 --folder /var/lib/renkei-bench")]
pub(super) struct AuditLog {
    /// A smoke run
    #[arg(long)]
    quick: bool,
    /// Entries in the log
    #[arg(long, default_value_t = 500_000)]
    entries: u64,
    /// Entries about one patient
    #[arg(long, default_value_t = 10_000)]
    of_patient: u64,
    /// A folder on the disk to measure [default: the system's temporary one]
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl AuditLog {
    fn run(&self, json: bool) -> Result<Done> {
        let (entries, of_patient) = match self.quick {
            true => (QUICK, QUICK / 10),
            false => (self.entries, self.of_patient),
        };
        audit(&AuditSettings {
            entries,
            of_patient,
            folder: self.folder.clone().unwrap_or_else(std::env::temp_dir),
            json,
        })?;
        Ok(Done::All)
    }
}

/// Frames and patients of a smoke run.
const QUICK: u64 = 5_000;

impl Ledger {
    fn run(&self, json: bool) -> Result<Done> {
        let engines: Vec<_> = self
            .engine
            .iter()
            .map(|name| engine(name))
            .collect::<Result<_>>()?;
        let first = *engines.first().context("no engine")?;
        let folder = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        if let Some(step) = self.step {
            run_step(&folder, step, first, self.frames)?;
            return Ok(Done::All);
        }
        if let Some(step) = self.node_step {
            node_step(&folder, step, first, self.patients)?;
            return Ok(Done::All);
        }
        let (time, frames, patients) = match self.quick {
            true => (Duration::from_millis(400), QUICK, QUICK),
            false => (
                Duration::from_secs(self.seconds),
                self.frames,
                self.patients,
            ),
        };
        ledger(&LedgerSettings {
            time,
            frames,
            engines: engines.clone(),
            folder: folder.clone(),
            json,
        })?;
        for engine in engines {
            node(&folder, engine, patients, json)?;
        }
        Ok(Done::All)
    }
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
        match self {
            Self::Ledger(args) => return args.run(out.is_json()),
            Self::Matching(args) => return args.run(out),
            Self::Decide(args) => decide_bench(&DecideSettings {
                time: time(args.quick, args.seconds),
                json: out.is_json(),
            })?,
            Self::Audit(args) => return args.run(out.is_json()),
            Self::Fanout(args) => runtime.block_on(args.run(out.is_json()))?,
            Self::Emergency(args) => runtime.block_on(args.run(out.is_json()))?,
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
            Self::Identity(args) => {
                runtime.block_on(identity(&args.settings(out)))?;
            }
            Self::Registry(args) => {
                let settings = RegistrySettings {
                    sizes: if args.quick {
                        vec![1_000, 5_000]
                    } else {
                        args.entries.clone()
                    },
                    time: time(args.quick, args.seconds),
                    json: out.is_json(),
                };
                runtime.block_on(registry(&settings))?;
            }
            Self::Retrieve(args) => {
                let kib = if args.quick { &[1_024][..] } else { &args.kib };
                let settings = RetrieveSettings {
                    sizes: kib.iter().map(|kib| kib * 1_024).collect(),
                    time: time(args.quick, args.seconds),
                    json: out.is_json(),
                };
                runtime.block_on(retrieve(&settings))?;
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

/// Time for a figure.
fn time(quick: bool, seconds: u64) -> Duration {
    match quick {
        true => Duration::from_millis(500),
        false => Duration::from_secs(seconds),
    }
}
