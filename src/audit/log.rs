//! The audit log of a running node: follows the ledger, off the thread that commits, and gives
//! checkpoints and proofs. Nothing here is needed for a call to be acknowledged: a frame's place in
//! the tree is its sequence, so a receipt is known as soon as the frame is durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::store::disk::Disk;
use crate::store::{Frame, Frames, Random, Sequence, Store};

use super::derived::{Files, Readers, Snapshot, damaged};
use super::leaf::{index_of, sequence_of};
use super::map::{Head, MapProof, PatientMap, PatientTag};
use super::merkle::{self, Frontier, Hash, TILE_HEIGHT, TILE_WIDTH};
use super::note::{Checkpoint, Note, SignatureLine, VerifierKey};
use super::signer::Signer;
use super::state::{State, institution_key};

/// Frames that a call takes into the index at most; beyond them the follower is waited for.
const MAX_BEHIND: u64 = 65_536;
/// Frames taken in one go while others may wait for the lock.
const STEP_FRAMES: usize = 4_096;
/// Frames after which the state is kept, so that an opening after a crash reads no more than these.
const KEEP_EVERY: u64 = 250_000;
/// Checkpoints remembered, to be given with proofs about them.
const REMEMBERED: usize = 1_024;

/// Where an audit log keeps what, and what it works with.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The folder of the files beside the ledger.
    pub folder: PathBuf,
    /// The signing key; absent: `log.key` in the folder.
    pub key_file: Option<PathBuf>,
    /// The log's name.
    pub origin: String,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where a new key comes from.
    pub random: Arc<dyn Random>,
}

/// A signed checkpoint.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// As a note, with all signatures.
    pub note: Note,
    /// When it was signed.
    pub at: Timestamp,
}

/// The audit log.
#[derive(Debug)]
pub struct Log {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    verifier: VerifierKey,
    readers: Readers,
    writer: Mutex<Writer>,
    signed: Mutex<BTreeMap<u64, Arc<Signed>>>,
}

#[derive(Debug)]
struct Writer {
    files: Files,
    frames: Frames,
    state: State,
    /// Of each kept level the hashes that no whole tile covers yet.
    partial: Vec<Vec<Hash>>,
    kept_at: u64,
    signer: Signer,
    /// The files are not what was written: they are made again before anything else.
    damaged: bool,
}

/// What a checkpoint says about some patients.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The checkpoint, of now.
    pub signed: Arc<Signed>,
    /// What the map says of each, with the proof.
    pub patients: Vec<(Head, MapProof)>,
}

impl Log {
    /// Opens the log over `store`, whose frames it will follow from where it was. Blocks little:
    /// catching up is [`Log::advance`]'s.
    ///
    /// # Errors
    /// The signer's; the disk.
    pub fn open(store: &Arc<Store>, options: &LogOptions) -> Result<Self> {
        let folder: &Path = &options.folder;
        let files = Files::open(&options.disk, folder)?;
        let key = options.key_file.clone();
        let signer = Signer::open(
            &options.origin,
            &key.unwrap_or_else(|| folder.join("log.key")),
            &folder.join("checkpoint"),
            &options.disk,
            options.random.as_ref(),
        )?;
        let first = Arc::new(Signed {
            checkpoint: signer.last().clone(),
            note: signer.note().clone(),
            at: options.clock.now(),
        });
        let (readers, verifier) = (files.readers(), signer.verifier());
        let mut writer = Writer {
            frames: store.frames(Sequence(1)),
            state: State::default(),
            partial: Vec::new(),
            kept_at: 0,
            signer,
            damaged: false,
            files,
        };
        if writer.restore(store, &readers).is_none() {
            writer.begin_anew(store);
        }
        Ok(Self {
            store: Arc::clone(store),
            clock: Arc::clone(&options.clock),
            verifier,
            readers,
            writer: Mutex::new(writer),
            signed: Mutex::new(BTreeMap::from([(first.checkpoint.size, first)])),
        })
    }

    /// The public key its checkpoints are signed with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Signed>>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes durable frames that are not in the tree yet, some thousands at most. Returns whether
    /// there may be more. Blocks.
    ///
    /// # Errors
    /// If the ledger or the files cannot be read or written.
    pub fn advance(&self) -> Result<bool> {
        let mut writer = self.writer();
        if std::mem::take(&mut writer.damaged) {
            tracing::warn!("the audit index is made again from the ledger");
            writer.begin_anew(&self.store);
        }
        let more = writer.take(&self.store, STEP_FRAMES)?;
        if writer.state.size() >= writer.kept_at + KEEP_EVERY {
            writer.keep(&self.store)?;
        }
        Ok(more)
    }

    /// Takes everything that is durable now. Blocks. Returns the number of leaves.
    ///
    /// # Errors
    /// As [`Log::advance`].
    pub fn catch_up(&self) -> Result<u64> {
        let wanted = self.store.last_sequence().0;
        loop {
            let more = self.advance()?;
            let size = self.size();
            if size >= wanted || !more {
                return Ok(size);
            }
        }
    }

    /// Takes what became durable lately, for an answer that is about now. While the index is made again
    /// only the follower goes through the ledger, not every call.
    pub(super) fn take_latest(&self) -> Result<()> {
        let behind = self.store.last_sequence().0.saturating_sub(self.size());
        if behind > MAX_BEHIND {
            let what = "the audit index is being made again";
            return Err(Error::new(Reason::StoreUnavailable, what));
        }
        self.catch_up().map(|_| ())
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.writer().state.size()
    }

    /// The newest signed checkpoint.
    pub fn latest(&self) -> Option<Arc<Signed>> {
        self.remembered().values().next_back().cloned()
    }

    /// The checkpoint of this size, if one was signed lately.
    pub fn signed_at(&self, size: u64) -> Option<Arc<Signed>> {
        self.remembered().get(&size).cloned()
    }

    /// Signs what is there now, if that is more than was signed before. Blocks.
    ///
    /// # Errors
    /// [`Reason::AuditLogBroken`] if it does not continue what was signed before.
    pub fn checkpoint(&self) -> Result<Arc<Signed>> {
        self.take_latest()?;
        self.sign(&mut self.writer())
    }

    fn sign(&self, writer: &mut Writer) -> Result<Arc<Signed>> {
        let size = writer.state.size();
        let last = writer.signer.last().clone();
        if size == last.size
            && let Some(known) = self.signed_at(size)
            && writer.state.tree.root() == last.root
        {
            return Ok(known);
        }
        if size < last.size && size < self.store.last_sequence().0 {
            let what = "the audit index is being made again";
            return Err(Error::new(Reason::StoreUnavailable, what));
        }
        if size < last.size {
            let what = "the audit log is shorter than what was signed before";
            return Err(Error::new(Reason::AuditLogBroken, what));
        }
        let next = Checkpoint {
            origin: last.origin.clone(),
            size,
            root: writer.state.tree.root(),
            patients: Some(writer.state.map_root()),
        };
        let proof = merkle::consistency(&self.readers, last.size, size)?;
        let note = writer.signer.sign(next.clone(), &proof)?.clone();
        let signed = Arc::new(Signed {
            checkpoint: next,
            note,
            at: self.clock.now(),
        });
        let mut remembered = self.remembered();
        remembered.insert(size, Arc::clone(&signed));
        if remembered.len() > REMEMBERED {
            remembered.pop_first();
        }
        Ok(signed)
    }

    /// The public key of its cosignatures, as a witness of other logs.
    pub fn witness_key(&self) -> VerifierKey {
        self.writer().signer.witness()
    }

    /// Cosigns the text of another log's checkpoint that a [witness](super::witness::Witness) has
    /// judged, at `time` seconds since 1970 (UTC).
    pub fn cosign(&self, text: &str, time: u64) -> SignatureLine {
        self.writer().signer.cosign(text, time)
    }

    /// Keeps a witness's cosignature with the checkpoint of this size.
    ///
    /// # Errors
    /// [`Reason::InvalidField`] if it is not one of that checkpoint; [`Reason::NotFound`] if the
    /// checkpoint is not remembered.
    pub fn add_cosignature(
        &self,
        size: u64,
        witness: &VerifierKey,
        line: SignatureLine,
    ) -> Result<()> {
        let mut remembered = self.remembered();
        let unknown = || Error::new(Reason::NotFound, "no such checkpoint was signed lately");
        let known = remembered.get_mut(&size).ok_or_else(unknown)?;
        if known.note.is_signed_by(witness) {
            return Ok(());
        }
        let mut signed = Signed::clone(known);
        signed.note.signatures.push(line);
        if !signed.note.is_signed_by(witness) {
            let message = "is not the witness's";
            return Err(Error::field(Reason::InvalidField, "cosignature", message));
        }
        *known = Arc::new(signed);
        Ok(())
    }

    /// The size of the tree when the last thing happened but witnessing.
    pub fn worth_witnessing(&self) -> u64 {
        self.writer().state.worth_witnessing
    }

    /// The largest checkpoint that any witness has cosigned since the log was opened.
    pub fn witnessed_last(&self) -> Option<u64> {
        let remembered = self.remembered();
        let mut newest = remembered.iter().rev();
        newest.find_map(|(size, signed)| (signed.note.signatures.len() > 1).then_some(*size))
    }

    /// How many of these witnesses have cosigned the checkpoint of this size.
    pub fn cosigned(&self, size: u64, witnesses: &[VerifierKey]) -> usize {
        let Some(signed) = self.signed_at(size) else {
            return 0;
        };
        let by = |witness: &&VerifierKey| signed.note.is_signed_by(witness);
        witnesses.iter().filter(by).count()
    }

    /// What the log says of these patients, under a checkpoint of now. Blocks.
    ///
    /// # Errors
    /// As [`Log::checkpoint`].
    pub fn prove(&self, tags: &[PatientTag]) -> Result<Proven> {
        self.take_latest()?;
        let mut writer = self.writer();
        let signed = self.sign(&mut writer)?;
        let mut patients = Vec::with_capacity(tags.len());
        for tag in tags {
            let map = &mut writer.state.patients;
            let head = map.get(tag).copied();
            let proof = map.prove(tag);
            patients.push((head.unwrap_or_else(|| Head::none(*tag)), proof));
        }
        Ok(Proven { signed, patients })
    }

    /// What the log has about these patients, without proofs. Blocks.
    ///
    /// # Errors
    /// As [`Log::advance`].
    pub fn heads(&self, tags: &[PatientTag]) -> Result<Vec<Head>> {
        self.take_latest()?;
        let writer = self.writer();
        let head = |tag| writer.state.patients.get(tag).copied();
        Ok(tags
            .iter()
            .map(|tag| head(tag).unwrap_or_else(|| Head::none(*tag)))
            .collect())
    }

    /// The last link of an institution, and the number of all links.
    pub(super) fn ends(&self, institution: &str) -> (Option<u64>, u64) {
        let writer = self.writer();
        let last = writer.state.institutions.get(&institution_key(institution));
        (last.copied(), writer.state.links)
    }

    /// The proof that a leaf is in the tree of `size` leaves; with the leaf's hash.
    ///
    /// # Errors
    /// [`Reason::InvalidField`] if it is not, or there is no such tree yet; if what is kept of the
    /// tree is damaged, it is made again.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<(Hash, Vec<Hash>)> {
        self.has(size)?;
        let made = || {
            let path = merkle::inclusion(&self.readers, index, size)?;
            let leaf = merkle::Hashes::read(&self.readers, 0, index, 1)?;
            let leaf = leaf.first().copied().ok_or_else(|| damaged("no leaf"))?;
            let root = self.root_of(size)?;
            if !merkle::verify_inclusion(&leaf, index, size, &path, &root) {
                return Err(damaged("a proof does not verify"));
            }
            Ok((leaf, path))
        };
        made().inspect_err(|error| self.mend(error))
    }

    /// The proof that the tree of `to` leaves continues that of `from`.
    ///
    /// # Errors
    /// As [`Log::inclusion`].
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>> {
        self.has(to)?;
        let made = || {
            let path = merkle::consistency(&self.readers, from, to)?;
            let (before, after) = (self.root_of(from)?, self.root_of(to)?);
            if !merkle::verify_consistency(from, to, &before, &after, &path) {
                return Err(damaged("a proof does not verify"));
            }
            Ok(path)
        };
        made().inspect_err(|error| self.mend(error))
    }

    /// The root of the first `size` leaves: what was signed, if it was.
    fn root_of(&self, size: u64) -> Result<Hash> {
        match self.signed_at(size) {
            Some(signed) => Ok(signed.checkpoint.root),
            None => merkle::root_of(&self.readers, size),
        }
    }

    fn has(&self, size: u64) -> Result<()> {
        if size <= self.size() {
            return Ok(());
        }
        let message = "the log has fewer leaves";
        Err(Error::field(Reason::InvalidField, "size", message))
    }

    /// The leaf whose hash this is, among those a receipt may be asked for by hash.
    ///
    /// # Errors
    /// If the tree cannot be read.
    pub fn find(&self, leaf: &Hash, within: u64) -> Result<Option<u64>> {
        let size = self.size();
        let mut end = size;
        while end > size.saturating_sub(within) {
            let start = end.saturating_sub(STEP_FRAMES as u64);
            let count = usize::try_from(end - start).unwrap_or(0);
            let row = merkle::Hashes::read(&self.readers, 0, start, count)?;
            if let Some(at) = row.iter().rposition(|hash| hash == leaf) {
                return Ok(Some(start + at as u64));
            }
            end = start;
        }
        Ok(None)
    }

    pub(super) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Has what is damaged made again.
    pub(super) fn mend(&self, error: &Error) {
        if error.reason() == Reason::IntegrityFailure {
            self.writer().damaged = true;
        }
    }

    /// Where a frame lies.
    pub(super) fn frame(&self, lookup: &mut crate::store::Lookup, index: u64) -> Result<Frame> {
        let place = self.readers.place(index)?;
        Ok(lookup.frame(sequence_of(index), place)?)
    }

    /// Takes and signs what is left, and keeps the state. Blocks.
    ///
    /// # Errors
    /// As [`Log::checkpoint`].
    pub fn close(&self) -> Result<()> {
        let signed = self.checkpoint();
        self.writer().keep(&self.store)?;
        signed.map(|_| ())
    }
}

impl Writer {
    /// Goes on from the state kept last, if it is one of this ledger.
    fn restore(&mut self, store: &Arc<Store>, readers: &Readers) -> Option<()> {
        let kept = self.files.kept(store.keys())?;
        if kept.size == 0 || kept.size > store.last_sequence().0 {
            return None;
        }
        let tree = Frontier::of(readers, kept.size).ok()?;
        if kept.links > 0 {
            readers.link(kept.links - 1).ok()?;
        }
        let place = readers.place(kept.size - 1).ok()?;
        let last = store.lookup().frame(Sequence(kept.size), place).ok()?;
        if tree.root() != kept.root || last.hash != kept.last_hash {
            return None;
        }
        let mut partial = Vec::new();
        for level in 0..self.files.tree.len() {
            let level = u32::try_from(level).ok()?;
            let count = kept.size.checked_shr(level * TILE_HEIGHT).unwrap_or(0);
            let loose = count % TILE_WIDTH as u64;
            let row =
                merkle::Hashes::read(readers, level, count - loose, usize::try_from(loose).ok()?);
            partial.push(row.ok()?);
        }
        self.partial = partial;
        self.files.cut(kept.size, kept.links);
        self.state = State {
            tree,
            patients: PatientMap::of(kept.patients).ok()?,
            institutions: kept.institutions.into_iter().collect(),
            links: kept.links,
            last_hash: kept.last_hash,
            worth_witnessing: kept.size,
        };
        self.kept_at = kept.size;
        self.frames = store.frames(Sequence(kept.size).next());
        Some(())
    }

    fn begin_anew(&mut self, store: &Arc<Store>) {
        self.files.cut(0, 0);
        self.state = State::default();
        self.partial = vec![Vec::new(); self.files.tree.len()];
        self.kept_at = 0;
        self.frames = store.frames(Sequence(1));
    }

    fn take(&mut self, store: &Store, most: usize) -> Result<bool> {
        let mut taken = 0;
        let mut result = Ok(true);
        while taken < most {
            match self.frames.try_next() {
                Ok(Some(frame)) => {
                    if let Err(error) = self.add(store, &frame) {
                        // Half of it may be in the files.
                        self.damaged = true;
                        result = Err(error);
                        break;
                    }
                }
                Ok(None) => {
                    result = Ok(false);
                    break;
                }
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
            taken += 1;
        }
        if let Err(error) = self.files.flush() {
            self.damaged = true;
            return Err(error);
        }
        result
    }

    fn add(&mut self, store: &Store, frame: &Frame) -> Result<()> {
        if index_of(frame.sequence) != self.state.size() {
            return Err(damaged("a frame was left out"));
        }
        let added = self.state.add(frame, store.keys())?;
        self.files.place(frame.place);
        for link in &added.links {
            self.files.links.push(&link.encode());
        }
        let mut hash = added.leaf;
        for (level, partial) in self.files.tree.iter_mut().zip(&mut self.partial) {
            level.push(&hash);
            partial.push(hash);
            if partial.len() < TILE_WIDTH {
                break;
            }
            hash = tile_root(std::mem::take(partial));
        }
        Ok(())
    }

    fn keep(&mut self, store: &Store) -> Result<()> {
        let state = &self.state;
        let snapshot = Snapshot {
            size: state.size(),
            links: state.links,
            last_hash: state.last_hash,
            root: state.tree.root(),
            institutions: state.institutions.iter().map(|(k, v)| (*k, *v)).collect(),
            patients: state.patients.heads(),
        };
        self.files.keep(&snapshot, store.keys())?;
        self.kept_at = self.state.size();
        Ok(())
    }
}

/// The root of a whole tile.
fn tile_root(mut row: Vec<Hash>) -> Hash {
    while row.len() > 1 {
        row = row
            .as_chunks()
            .0
            .iter()
            .map(|[left, right]| merkle::node_hash(left, right))
            .collect();
    }
    row.first().copied().unwrap_or_else(merkle::empty_root)
}
