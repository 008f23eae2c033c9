//! `renkei identity`: the matching model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::bench::learning_set;
use crate::identity::matching::learn::learn;
use crate::identity::matching::model::Model;

use super::output::{Done, Output, note};

/// The model by which patients are matched
#[derive(Debug, Subcommand)]
pub(super) enum Identity {
    /// Learn weights and name frequencies from records, without knowing who is who
    Learn(Learn),
}

/// Arguments of `identity learn`.
#[derive(Debug, Args)]
#[command(
    after_help = "Pairs are sought within each file. The two files replace those in \
                  src/identity/matching/data.\n\n\
                  Example:\n  renkei identity learn a/records.jsonl b/records.jsonl --out learned --model renkei-2"
)]
pub(super) struct Learn {
    /// Records as JSON Lines, plain or gzip
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder for weights.txt and frequencies.txt
    #[arg(long)]
    out: PathBuf,
    /// Name of the model, kept with every link it will make
    #[arg(long)]
    model: String,
}

impl Identity {
    /// Does it.
    pub(super) fn run(&self, out: Output) -> Result<Done> {
        match self {
            Self::Learn(args) => args.run(out),
        }
    }
}

impl Learn {
    fn run(&self, out: Output) -> Result<Done> {
        let sets = self.files.iter().map(|file| learning_set(file));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        let records: usize = sets.iter().map(Vec::len).sum();
        note(&format!("learning from {records} records"));
        let learned = learn(&sets, Model::shipped(), &self.model);
        // What cannot be read back must not replace what can.
        Model::parse(&learned.weights, &learned.frequencies)
            .context("the learned model is not one")?;
        std::fs::create_dir_all(&self.out)?;
        write(&self.out.join("weights.txt"), &learned.weights)?;
        write(&self.out.join("frequencies.txt"), &learned.frequencies)?;
        out.object(&serde_json::json!({ "model": self.model, "records": records }))?;
        Ok(Done::All)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
