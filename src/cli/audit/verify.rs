//! `renkei audit verify`: the log checked from its files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use data_encoding::BASE64;

use super::super::failure::Problem;
use super::super::output::{Done, Output};
use crate::audit::Receipt;
use crate::audit::note::{Note, VerifierKey};
use crate::audit::verify::{Verified, VerifyRequest, verify};
use crate::config::Config;
use crate::gateway;
use crate::store::{Options, RootSource};

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The node's configuration: its data folder, root key and signing key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "root_key", "signing_key"], required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// The store's folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The root key's file; `root.key` in the store's folder if not said
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    root_key: Option<PathBuf>,
    /// The log's signing key; `audit/log.key` in the store's folder if not said
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    signing_key: Option<PathBuf>,
    /// The log's public key as you know it, instead of that of its signing key
    #[arg(long, value_name = "KEY")]
    public_key: Option<VerifierKey>,
    /// A checkpoint that was kept elsewhere, a file; repeat for several
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// A receipt, as in the metadata of an answer: "LOG INDEX HASH"; repeat for several
    #[arg(long = "receipt", value_name = "RECEIPT", value_parser = receipt)]
    receipts: Vec<Receipt>,
}

fn receipt(text: &str) -> Result<Receipt, String> {
    let mut words = text.split_whitespace().rev();
    let leaf = words
        .next()
        .and_then(|word| BASE64.decode(word.as_bytes()).ok());
    let leaf = leaf.and_then(|leaf| leaf.try_into().ok());
    let index = words.next().and_then(|word| word.parse().ok());
    match (index, leaf) {
        (Some(index), Some(leaf)) => Ok(Receipt { index, leaf }),
        _ => Err("is not a receipt: LOG INDEX HASH".to_owned()),
    }
}

fn note(path: &Path) -> Result<Note> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the checkpoint {}", path.display()))?;
    Ok(text.parse()?)
}

impl Verify {
    fn request(&self) -> Result<(VerifyRequest, Options)> {
        let notes = self.checkpoints.iter().map(|path| note(path));
        let (data_dir, key_file, options) = if let Some(path) = &self.config {
            let config =
                Config::load(path).with_context(|| format!("configuration {}", path.display()))?;
            let options = gateway::store_options(&config, Options::default());
            (config.node.data_dir, config.audit.key_file, options)
        } else {
            let options = Options {
                root: self.root_key.clone().map(RootSource::File),
                ..Options::default()
            };
            let dir = self.data_dir.clone().unwrap_or_default();
            (dir, self.signing_key.clone(), options)
        };
        let request = VerifyRequest {
            folder: data_dir.join("audit"),
            data_dir,
            key_file,
            verifier: self.public_key.clone(),
            checkpoints: notes.collect::<Result<_>>()?,
            receipts: self.receipts.clone(),
        };
        Ok((request, options))
    }

    pub(super) fn run(&self, out: Output) -> Result<Done> {
        let (request, options) = self.request()?;
        let there = crate::store::is_there(&request.data_dir, &options);
        if !there? {
            let message = format!("there is no store in {}", request.data_dir.display());
            return Err(Problem::new(message).into());
        }
        let found = verify(&request, &options, &mut |_| {})?;
        show(out, &found)
    }
}

fn show(out: Output, found: &Verified) -> Result<Done> {
    out.object(found)?;
    out.human(|text| {
        text.field("Entries", found.entries.to_string());
        text.field("Records", found.records.to_string());
        text.field("Patients", found.patients.to_string());
        text.field("Root", &found.root);
        text.field("Checkpoints", found.checkpoints.to_string());
        text.field("Signed up to", found.signed.to_string());
        text.field("Rate", format!("{:.0} entries a second", found.rate()));
        for limit in &found.limits {
            text.field("Not verified", limit);
        }
        for fault in &found.faults {
            let entry = fault.entry.map(|entry| format!("entry {entry}, "));
            let offset = fault.offset.map(|offset| format!(" at {offset}"));
            let (entry, offset) = (entry.unwrap_or_default(), offset.unwrap_or_default());
            text.field(
                "WRONG",
                format!("{entry}{}{offset}: {}", fault.place, fault.what),
            );
        }
        if found.more_faults > 0 {
            text.field("WRONG", format!("and {} more", found.more_faults));
        }
        text.line(match found.is_fine() {
            true => "Nothing is wrong.",
            false => "The log is not what was recorded.",
        });
    })?;
    Ok(match found.is_fine() {
        true => Done::All,
        false => Done::Failed,
    })
}
