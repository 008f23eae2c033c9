//! `renkei store`: a node's store seen from its machine, with the node stopped; backups also beside
//! a running one. Purges are asked of a running node.

mod purge;
mod show;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::failure::Problem;
use super::output::{Done, Output};
use crate::config::Config;
use crate::documents::codes_in_use;
use crate::gateway;
use crate::store::backup::{BackupRequest, Cut, RestoreRequest, backup, restore};
use crate::store::{Options, RootSource, ScrubOptions, Sequence, Store, StoreError, inspect};

/// A node's store: check, rebuild, back up, restore, scrub, rotate keys, purge a patient
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    renkei store check --config region.toml\n  \
    renkei store backup --config region.toml --to BACKUP\n  \
    renkei store restore --from BACKUP --to DATA --root-key ROOT_KEY")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: Command,
}

/// Where the store is.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
struct Place {
    /// The node's configuration: its data folder, root key and second copies
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "root_key", "second_copy"])]
    config: Option<PathBuf>,
    /// The store's folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The root key's file; `root.key` in the store's folder if not said
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    root_key: Option<PathBuf>,
    /// The folder of second copies
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    second_copy: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Walk everything and name every fault; exit status 1 if there is one
    #[command(after_help = "Example:\n  renkei store check --data-dir data --json")]
    Check(Place),
    /// Make the index again from the ledger
    #[command(after_help = "Example:\n  renkei store rebuild --config region.toml")]
    Rebuild(Place),
    /// Tell what is in the store
    #[command(after_help = "Example:\n  renkei store stats --config region.toml --json")]
    Stats(Place),
    /// List the codes of the registry's metadata, those outside of the community's sets first
    #[command(after_help = "Example:\n  renkei store codes --config region.toml")]
    Codes {
        #[command(flatten)]
        place: Place,
        /// The community's profile, if the configuration does not name it (docs/profile.md)
        #[arg(long, value_name = "FILE")]
        profile: Option<PathBuf>,
    },
    /// Verify every document, mend from second copies, set aside what is damaged
    #[command(after_help = "Example:\n  renkei store scrub --config region.toml")]
    Scrub {
        #[command(flatten)]
        place: Place,
        /// Most MiB read in a second
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
        /// Begin a new cycle instead of going on with one that was broken off
        #[arg(long)]
        anew: bool,
    },
    /// Move documents that nothing refers to into quarantine
    #[command(after_help = "Example:\n  renkei store sweep --config region.toml")]
    Sweep {
        #[command(flatten)]
        place: Place,
        /// Delete from quarantine what was swept so many days ago
        #[arg(long, value_name = "DAYS", default_value_t = 35)]
        kept_days: u32,
    },
    /// Begin a new key epoch; goes on where it was broken off
    #[command(after_help = "Example:\n  renkei store rotate-keys --config region.toml")]
    RotateKeys(Place),
    Purge(Box<purge::PurgeArgs>),
    /// Back the store up, whether its node runs or not; only what is new is copied
    ///
    /// The backup is ciphertext. The root key is not in it: keep it elsewhere. Copies of the key
    /// table that were superseded are removed after 35 days, so that purged keys do not outlive
    /// their time; run backups at least that often.
    #[command(after_help = "Example:\n  renkei store backup --config region.toml --to BACKUP")]
    Backup {
        #[command(flatten)]
        place: Place,
        /// The backup's folder
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Keep superseded copies of the key table for so many days
        #[arg(long, value_name = "DAYS", default_value_t = 35)]
        prune_keys: u32,
    },
    /// Make a store from a backup, in an empty folder
    ///
    /// What was acknowledged after the frame it ends with is not in it.
    #[command(after_help = "Examples:\n  \
        renkei store restore --from BACKUP --to DATA --root-key ROOT_KEY\n  \
        renkei store restore --from BACKUP --to DATA --root-key ROOT_KEY --time 2026-04-01T09:00:00+09:00")]
    Restore(Restore),
}

#[derive(Args, Debug)]
struct Restore {
    /// The backup's folder
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The folder to make, or an empty one
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The root key's file
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    root_key: Option<PathBuf>,
    /// Take the root key from where this configuration says
    #[arg(long, value_name = "FILE", conflicts_with = "root_key")]
    config: Option<PathBuf>,
    /// Up to this frame
    #[arg(long, value_name = "N", conflicts_with = "time")]
    sequence: Option<u64>,
    /// Up to the last frame dated at or before this time
    #[arg(long, value_parser = super::args::time)]
    time: Option<prost_types::Timestamp>,
}

const DAY_HOURS: u64 = 24;

fn days(days: u32) -> std::time::Duration {
    std::time::Duration::from_hours(u64::from(days) * DAY_HOURS)
}

/// The store's folder, and how to open it.
struct Opening {
    dir: PathBuf,
    options: Options,
}

fn load(path: &std::path::Path) -> Result<Config> {
    Config::load(path).with_context(|| format!("configuration {}", path.display()))
}

impl Place {
    fn opening(&self) -> Result<Opening> {
        if let Some(path) = &self.config {
            let config = load(path)?;
            let options = gateway::store_options(&config, Options::default());
            return Ok(Opening {
                dir: config.node.data_dir,
                options,
            });
        }
        let dir = self.data_dir.clone().unwrap_or_default();
        let options = Options {
            root: self.root_key.clone().map(RootSource::File),
            second_copy: self.second_copy.clone(),
            ..Options::default()
        };
        Ok(Opening { dir, options })
    }

    /// Opens the store as a node would; never makes one.
    fn open(&self) -> Result<std::sync::Arc<Store>> {
        let Opening { dir, options } = self.opening()?;
        if !crate::store::is_there(&dir, &options).map_err(told)? {
            let message = format!("there is no store in {}", dir.display());
            return Err(Problem::new(message).into());
        }
        Ok(Store::open(&dir, gateway::schema(), options)
            .map_err(told)?
            .0)
    }
}

/// What to do about a failure, where that is known.
fn told(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Locked => Problem::new("the store is in use")
            .hint("a node runs on it, or another command; stop the node, then try again")
            .into(),
        StoreError::NotEmpty => Problem::new("the folder to restore into is not empty")
            .hint("name one that does not exist yet")
            .into(),
        other => other.into(),
    }
}

impl StoreArgs {
    pub(crate) async fn run(self, out: Output) -> Result<Done> {
        let bar = show::Bar::new();
        match self.command {
            Command::Check(place) => {
                let Opening { dir, options } = place.opening()?;
                let found = inspect(&dir, &gateway::schema(), &options, &mut |now| bar.at(now));
                bar.done();
                show::inspection(out, &found.map_err(told)?)
            }
            Command::Rebuild(place) => rebuild(&place, &bar, out).await,
            Command::Stats(place) => {
                let store = place.open()?;
                let shown = show::stats(out, &store)?;
                store.close().await.map_err(told)?;
                Ok(shown)
            }
            Command::Codes { place, profile } => codes(&place, profile, out).await,
            Command::Scrub { place, rate, anew } => {
                let store = place.open()?;
                let options = ScrubOptions {
                    bytes_per_second: rate.map(|rate| rate << 20),
                    anew,
                };
                let report = store.scrub(options, &|| false, &mut |report| bar.scrubbed(report));
                store.close().await.map_err(told)?;
                bar.done();
                show::scrub(out, &report.map_err(told)?)
            }
            Command::Sweep { place, kept_days } => {
                let store = place.open()?;
                let report = store.sweep(days(kept_days)).await.map_err(told)?;
                store.close().await.map_err(told)?;
                show::sweep(out, &report)
            }
            Command::RotateKeys(place) => {
                let store = place.open()?;
                let rotation = store.rotate_keys(&mut |page| bar.say(&format!("page {page}")));
                store.close().await.map_err(told)?;
                bar.done();
                show::rotation(out, rotation.map_err(told)?)
            }
            Command::Purge(command) => command.run(out).await,
            Command::Backup {
                place,
                to,
                prune_keys,
            } => {
                let Opening { dir, options } = place.opening()?;
                let request = BackupRequest {
                    from: dir,
                    to,
                    options,
                    keys_kept: days(prune_keys),
                };
                let report = backup(&request, &mut |now| bar.at(now));
                bar.done();
                show::backup(out, &report.map_err(told)?)
            }
            Command::Restore(args) => {
                let request = args.request()?;
                let report = restore(request, &mut |now| bar.at(now));
                bar.done();
                show::restore(out, &report.map_err(told)?)
            }
        }
    }
}

async fn codes(place: &Place, profile: Option<PathBuf>, out: Output) -> Result<Done> {
    let named = match (&profile, &place.config) {
        (None, Some(config)) => load(config)?.documents.profile,
        _ => profile,
    };
    let store = place.open()?;
    let codes = codes_in_use(&store, named.as_deref());
    store.close().await.map_err(told)?;
    show::codes(out, &codes?)
}

async fn rebuild(place: &Place, bar: &show::Bar, out: Output) -> Result<Done> {
    let store = place.open()?;
    bar.say("making the index again");
    let frames = store.rebuild().await.map_err(told)?;
    store.close().await.map_err(told)?;
    bar.done();
    show::rebuilt(out, frames)
}

impl Restore {
    fn request(self) -> Result<RestoreRequest> {
        let root = match (&self.config, self.root_key) {
            (Some(path), _) => Some(gateway::root_key(&load(path)?)),
            (None, file) => file.map(RootSource::File),
        };
        let cut = match (self.sequence, self.time) {
            (Some(sequence), _) => Cut::Sequence(Sequence(sequence)),
            (None, Some(time)) => Cut::Time(jiff::Timestamp::new(time.seconds, time.nanos)?),
            (None, None) => Cut::End,
        };
        Ok(RestoreRequest {
            from: self.from,
            to: self.to,
            cut,
            options: Options {
                root,
                ..Options::default()
            },
            schema: gateway::schema(),
        })
    }
}
