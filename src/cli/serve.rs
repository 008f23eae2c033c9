//! `renkei serve` and `renkei config`: running a node.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Done, Output};
use crate::config::{Config, ExampleRole, example};
use crate::wire::pb::directory::ApplyDirectoryRequest;

/// Run a node
///
/// Prints one JSON line `{"event":"ready","address":…}` when it serves. SIGTERM and SIGINT let calls
/// under way end, within `listen.drain_timeout_ms`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    renkei config example region > region.toml\n  \
    renkei serve --config region.toml\n  \
    RENKEI__LISTEN__ADDRESS=127.0.0.1:0 renkei serve --config region.toml")]
pub(super) struct Serve {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Serve {
    /// Serves until told to stop.
    pub(super) fn run(&self) -> Result<Done> {
        let config = Config::load(&self.config)
            .with_context(|| format!("configuration {}", self.config.display()))?;
        crate::server::log(&config.log);
        let directory = config.directory.file.as_deref().map(read_directory);
        let directory = directory.transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(crate::server::serve(config, directory))?;
        Ok(Done::All)
    }
}

/// The directory that a configuration names.
fn read_directory(path: &Path) -> Result<ApplyDirectoryRequest> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the directory {}", path.display()))?;
    super::directory_file::parse(&text).with_context(|| format!("directory {}", path.display()))
}

/// Examples of configurations, and checking one
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print a commented example for a role
    #[command(after_help = "Example:\n  renkei config example hub > hub.toml")]
    Example {
        /// The role
        role: ExampleRole,
    },
    /// Check a configuration: form, values, environment overrides
    #[command(after_help = "Example:\n  renkei config check hub.toml")]
    Check {
        /// The configuration file (TOML)
        file: PathBuf,
    },
}

impl ConfigCommand {
    /// Prints an example, or what is wrong with a file.
    pub(super) fn run(&self, out: Output) -> Result<Done> {
        match self {
            Self::Example { role } => print!("{}", example(*role)),
            Self::Check { file } => {
                let config = Config::load(file)
                    .with_context(|| format!("configuration {}", file.display()))?;
                if out.is_json() {
                    let home = config.node.home_community_id;
                    println!("{}", json!({"ok": true, "home_community_id": home}));
                } else {
                    println!("{}: ok ({})", file.display(), config.node.name);
                }
            }
        }
        Ok(Done::All)
    }
}
