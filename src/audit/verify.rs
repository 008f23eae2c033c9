//! Verifying an audit log from files alone: nothing of what a running node says is believed. The
//! ledger is walked from its first frame, the tree and the map of patients are made again, and both
//! are compared with what was signed: the node's own last checkpoint, and those that others kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, Reason, Result};
use crate::store::disk::{exists, read_small};
use crate::store::{Keys, Options, Sealed, Walked, open_keys_of, walk};

use super::derived::Readers;
use super::leaf::{Receipt, index_of};
use super::merkle::{Hash, Hashes, root_of};
use super::note::{Checkpoint, KeyKind, Note, SigningKey, VerifierKey};
use super::state::State;

/// Frames handed from the reading thread to the verifying one at once, and how often ahead.
const CHUNK: usize = 512;
const CHUNKS: usize = 4;
/// Faults listed one by one; more are counted.
const MAX_LISTED: usize = 1_000;
/// Bytes of a file with a checkpoint or a key.
const MAX_FILE: usize = 64 << 10;

/// What is verified, and against what.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// The store's folder.
    pub data_dir: PathBuf,
    /// The folder of the audit log's own files.
    pub folder: PathBuf,
    /// The log's signing key, to know its public key; absent: `log.key` in `folder`.
    pub key_file: Option<PathBuf>,
    /// The log's public key, from somewhere else.
    pub verifier: Option<VerifierKey>,
    /// Checkpoints that others kept.
    pub checkpoints: Vec<Note>,
    /// Receipts that others kept.
    pub receipts: Vec<Receipt>,
}

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// The entry of the log, by its place from 0, if it can be said.
    pub entry: Option<u64>,
    /// The file, by its name inside the store.
    pub place: String,
    /// Where in it, in bytes, if that can be said.
    pub offset: Option<u64>,
    /// What.
    pub what: String,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Entries whose hash and place in the chain are right.
    pub entries: u64,
    /// Audit records in them.
    pub records: u64,
    /// Patients with events.
    pub patients: u64,
    /// The root of the tree over all entries, base64; empty if it could not be made.
    pub root: String,
    /// Checkpoints whose signature, tree and map were compared.
    pub checkpoints: u64,
    /// Receipts that were compared.
    pub receipts: u64,
    /// Up to this entry a signature covers what is there.
    pub signed: u64,
    /// Bytes of an unfinished, never acknowledged write at the end: no fault.
    pub torn_bytes: u64,
    /// Not everything could be verified: why.
    pub limits: Vec<String>,
    /// Everything found wrong.
    pub faults: Vec<Wrong>,
    /// Faults that are not listed.
    pub more_faults: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// Verifies the audit log of a store. Blocks. `progress` is told how many entries are done.
///
/// # Errors
/// If there is no store, or a file that was named cannot be read. What is wrong with the log is no
/// error but what was found.
pub fn verify(
    request: &VerifyRequest,
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified> {
    let started = Instant::now();
    let keys = open_keys_of(&request.data_dir, options)?;
    let mut work = Work {
        state: State::default(),
        keys: keys.clone(),
        whole: keys.is_some(),
        found: Verified::default(),
        wanted: Vec::new(),
        receipts: request.receipts.clone(),
    };
    if keys.is_none() {
        let what = "no root key: hashes and chain were verified, nothing was decrypted";
        work.found.limits.push(what.to_owned());
    }
    work.signed(request, options)?;
    let (sender, receiver) = mpsc::sync_channel(CHUNKS);
    let dir = &request.data_dir;
    let torn = std::thread::scope(|scope| {
        let keys = keys.as_ref();
        let reader = scope.spawn(move || read(dir, options, keys, &sender));
        work.take(&receiver, progress);
        drop(receiver);
        reader
            .join()
            .map_err(|_| Error::internal("the reading thread panicked"))?
    })?;
    work.found.torn_bytes = torn;
    work.finish(request, options);
    work.found.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(work.found)
}

/// What the reading thread sends.
type Chunk = Vec<Walked>;

fn read(
    dir: &Path,
    options: &Options,
    keys: Option<&Arc<Keys>>,
    sender: &SyncSender<Chunk>,
) -> Result<u64> {
    let gone = || Error::internal("the verifying thread ended early");
    let mut chunk = Vec::with_capacity(CHUNK);
    let torn = walk(dir, options, keys, &mut |walked| {
        chunk.push(walked);
        if chunk.len() < CHUNK {
            return Ok(());
        }
        let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
        sender.send(full).map_err(|_| gone())
    })?;
    sender.send(chunk).map_err(|_| gone())?;
    Ok(torn)
}

struct Work {
    state: State,
    keys: Option<Arc<Keys>>,
    /// No entry is missing so far, so that the tree is that of the log.
    whole: bool,
    found: Verified,
    /// Checkpoints to compare, largest first, each with where it is from.
    wanted: Vec<(Checkpoint, String)>,
    receipts: Vec<Receipt>,
}

impl Work {
    fn wrong(&mut self, entry: Option<u64>, place: &str, offset: Option<u64>, what: String) {
        if self.found.faults.len() >= MAX_LISTED {
            self.found.more_faults += 1;
            return;
        }
        self.found.faults.push(Wrong {
            entry,
            place: place.to_owned(),
            offset,
            what,
        });
    }

    /// Gathers the checkpoints that the log must have led to, as far as their signatures are right.
    fn signed(&mut self, request: &VerifyRequest, options: &Options) -> Result<()> {
        let disk = options.disk.as_ref();
        let file = request.folder.join("checkpoint");
        let mut notes: Vec<(Option<Note>, String)> = Vec::new();
        if exists(disk, &file).map_err(Error::internal)? {
            let text = read_small(disk, &file, MAX_FILE).map_err(Error::internal)?;
            let note = String::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok());
            notes.push((note, "audit/checkpoint".to_owned()));
        } else {
            let limit = "there is no checkpoint: a cut end would not show";
            self.found.limits.push(limit.to_owned());
        }
        let others = request.checkpoints.iter().cloned().map(Some);
        notes.extend(others.zip((1..).map(|number| format!("checkpoint {number}"))));
        let verifier = self.verifier(request, options, &notes)?;
        for (note, from) in notes {
            let checkpoint = note.as_ref().map(Note::checkpoint);
            let (Some(note), Some(Ok(checkpoint))) = (note, checkpoint) else {
                self.wrong(None, &from, None, "is not a checkpoint".to_owned());
                continue;
            };
            match &verifier {
                Some(key) if !note.is_signed_by(key) => {
                    self.wrong(
                        None,
                        &from,
                        None,
                        "is not signed by the log's key".to_owned(),
                    );
                }
                _ => self.wanted.push((checkpoint, from)),
            }
        }
        self.wanted
            .sort_by_key(|(checkpoint, _)| std::cmp::Reverse(checkpoint.size));
        Ok(())
    }

    /// The log's public key: the one given, or of the signing key.
    fn verifier(
        &mut self,
        request: &VerifyRequest,
        options: &Options,
        notes: &[(Option<Note>, String)],
    ) -> Result<Option<VerifierKey>> {
        if request.verifier.is_some() {
            return Ok(request.verifier.clone());
        }
        let disk = options.disk.as_ref();
        let file = request.key_file.clone();
        let file = file.unwrap_or_else(|| request.folder.join("log.key"));
        let origin = notes
            .iter()
            .find_map(|(note, _)| note.as_ref()?.checkpoint().ok());
        let (Some(origin), true) = (origin, exists(disk, &file).map_err(Error::internal)?) else {
            let limit = "the log's public key is not known: no signature was verified";
            self.found.limits.push(limit.to_owned());
            return Ok(None);
        };
        let seed = zeroize::Zeroizing::new(read_small(disk, &file, 4096).map_err(Error::internal)?);
        Ok(Some(
            SigningKey::new(&origin.origin, &seed)?.verifier(KeyKind::Log),
        ))
    }

    fn take(&mut self, chunks: &Receiver<Chunk>, progress: &mut dyn FnMut(u64)) {
        self.compare();
        for walked in chunks.iter().flatten() {
            match walked {
                Walked::Frame(sealed) => self.frame(&sealed),
                Walked::Fault(sequence, found) => {
                    self.whole = false;
                    let entry = Some(index_of(sequence));
                    self.wrong(entry, &found.place, found.offset, found.what);
                }
            }
            if self.found.entries.is_multiple_of(4_096) {
                progress(self.found.entries);
            }
        }
    }

    fn frame(&mut self, sealed: &Sealed) {
        self.found.entries += 1;
        let Some(keys) = self.keys.clone() else {
            return;
        };
        let index = index_of(sealed.sequence);
        let place = format!("ledger/{:010}.seg", sealed.place.segment);
        let offset = Some(sealed.place.offset);
        let frame = match sealed.open() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.whole = false;
                return;
            }
            Err(error) => {
                self.whole = false;
                return self.wrong(Some(index), &place, offset, error.to_string());
            }
        };
        self.found.records += frame.audit.len() as u64;
        if !self.whole {
            return;
        }
        if index != self.state.size() {
            self.whole = false;
            return self.wrong(
                Some(index),
                &place,
                offset,
                "entries are missing".to_owned(),
            );
        }
        let added = match self.state.add(&frame, &keys) {
            Ok(added) => added,
            Err(error) => {
                self.whole = false;
                return self.wrong(Some(index), &place, offset, error.to_string());
            }
        };
        self.receipts(index, &added.leaf, &place, offset);
        self.compare();
    }

    fn receipts(&mut self, index: u64, leaf: &Hash, place: &str, offset: Option<u64>) {
        if !self.receipts.iter().any(|receipt| receipt.index == index) {
            return;
        }
        let (of_this, others) = self.receipts.drain(..).partition(|one| one.index == index);
        self.receipts = others;
        let of_this: Vec<Receipt> = of_this;
        for receipt in of_this {
            self.found.receipts += 1;
            if receipt.leaf != *leaf {
                let what = "a receipt says that another entry was here";
                self.wrong(Some(index), place, offset, what.to_owned());
            }
        }
    }

    /// Compares the checkpoints of this size.
    fn compare(&mut self) {
        let size = self.state.size();
        while self
            .wanted
            .last()
            .is_some_and(|(checkpoint, _)| checkpoint.size == size)
        {
            let Some((checkpoint, from)) = self.wanted.pop() else {
                return;
            };
            self.found.checkpoints += 1;
            let map = Some(self.state.map_root());
            if checkpoint.root != self.state.tree.root() {
                let what = format!("the entries before {size} are not those that were signed");
                self.wrong(None, &from, None, what);
                self.wanted.push((checkpoint, from));
                self.whole = false;
                return;
            }
            if checkpoint.patients.is_some() && checkpoint.patients != map {
                let what = format!("the map of patients at {size} is not that of the entries");
                self.wrong(None, &from, None, what);
            }
            self.found.signed = self.found.signed.max(size);
        }
    }

    fn finish(&mut self, request: &VerifyRequest, options: &Options) {
        let size = self.state.size();
        self.found.patients = self.state.patients.len() as u64;
        if self.whole {
            self.found.root = data_encoding::BASE64.encode(&self.state.tree.root());
        }
        for (checkpoint, from) in std::mem::take(&mut self.wanted) {
            if self.keys.is_none() {
                if checkpoint.size > self.found.entries {
                    self.missing(checkpoint.size, self.found.entries, &from);
                }
            } else if self.whole {
                self.missing(checkpoint.size, size, &from);
            } else {
                self.name_first(&checkpoint, request, options, &from);
            }
        }
        for receipt in std::mem::take(&mut self.receipts) {
            if self.whole && receipt.index >= size {
                let what = "a receipt says that there was an entry here".to_owned();
                self.wrong(Some(receipt.index), "ledger", None, what);
            }
        }
    }

    fn missing(&mut self, signed: u64, there: u64, from: &str) {
        let what = format!(
            "{} entries that were signed are not there",
            signed.saturating_sub(there)
        );
        self.wrong(Some(there), from, None, what);
    }

    /// Names the first entry that is not the one that was signed, if the kept tree still knows.
    fn name_first(
        &mut self,
        checkpoint: &Checkpoint,
        request: &VerifyRequest,
        options: &Options,
        from: &str,
    ) {
        let Ok(kept) = Readers::open(options.disk.as_ref(), &request.folder) else {
            return;
        };
        let right = root_of(&kept, checkpoint.size).is_ok_and(|root| root == checkpoint.root);
        if !right {
            let limit =
                format!("{from} could not be compared entry by entry: the kept tree is not its");
            self.found.limits.push(limit);
            return;
        }
        match self.first_other(&kept, checkpoint.size, request, options) {
            Ok(Some((index, place, offset))) => {
                let what = "is not the entry that was signed".to_owned();
                self.wrong(Some(index), &place, Some(offset), what);
            }
            Ok(None) => {}
            Err(error) => self.found.limits.push(error.to_string()),
        }
    }

    /// Walks once more, and compares leaf by leaf.
    fn first_other(
        &self,
        kept: &Readers,
        size: u64,
        request: &VerifyRequest,
        options: &Options,
    ) -> Result<Option<(u64, String, u64)>> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        let mut first = None;
        let stop = || Error::new(Reason::IntegrityFailure, "found");
        let walked = walk(&request.data_dir, options, Some(keys), &mut |walked| {
            let Walked::Frame(sealed) = walked else {
                return Ok(());
            };
            let index = index_of(sealed.sequence);
            let Ok(Some(frame)) = sealed.open() else {
                return Ok(());
            };
            if index >= size {
                return Err(stop());
            }
            let (leaf, _) = super::leaf::of_frame(keys, &frame);
            if kept.read(0, index, 1)?.first() != Some(&leaf) {
                let place = format!("ledger/{:010}.seg", sealed.place.segment);
                first = Some((index, place, sealed.place.offset));
                return Err(stop());
            }
            Ok(())
        });
        match walked {
            Err(error) if error.reason() != Reason::IntegrityFailure => Err(error),
            _ => Ok(first),
        }
    }
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_fine(&self) -> bool {
        self.faults.is_empty()
    }

    /// Entries verified in a second.
    pub fn rate(&self) -> f64 {
        let took = Duration::from_millis(self.milliseconds.max(1));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let entries = self.entries as f64;
        entries / took.as_secs_f64()
    }
}
