//! One backup run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::super::blobs::{BlobId, Blobs, Medium, list_folder, path_in};
use super::super::commit::Sequence;
use super::super::copy::{copy_file, hash_file};
use super::super::crypto::to_array;
use super::super::disk::Disk;
use super::super::error::{IoContext as _, StoreError};
use super::super::health::Health;
use super::super::ledger::raw::{Position, RawSegment, segment_numbers};
use super::super::ledger::reader::RawFrame;
use super::super::ledger::segment_name;
use super::super::offline::{is_store, key_files, open_keys};
use super::super::options::{Fault, Options};
use super::manifest::{KeyFile, Manifest, Mark, Segment};
use super::{BLOBS, GENERATIONS, KEYS, LEDGER, Progress};

/// How often it is tried to find the key files unchanged while they are copied.
const KEY_ATTEMPTS: usize = 20;
/// By so many bytes from its beginning a document's file is known: its header, with its own random id.
const HEAD_BYTES: u64 = 256;
/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A backup run to be made.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The store's folder.
    pub from: PathBuf,
    /// The backup's folder.
    pub to: PathBuf,
    /// Disk, clock, and where the root key is: with it documents are verified before they are
    /// copied.
    pub options: Options,
    /// How long superseded copies of the key files are kept.
    pub keys_kept: Duration,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// What the backup holds now.
    pub manifest: Manifest,
    /// Frames copied.
    pub frames: u64,
    /// Bytes copied, documents and ledger.
    pub bytes: u64,
    /// Whether documents were verified: the root key was at hand.
    pub verified: bool,
    /// Copies of key files removed because they were superseded long enough ago.
    pub pruned_keys: u64,
    /// What could not be copied because it does not verify.
    pub faults: Vec<Fault>,
}

/// The newest finished run of a backup.
///
/// # Errors
/// [`StoreError::Io`], [`StoreError::Format`].
pub fn latest(to: &Path, disk: &dyn Disk) -> Result<Option<Manifest>, StoreError> {
    Ok(Manifest::newest(disk, to)?.0)
}

/// Backs a store up, whether or not a node runs on it. Blocks.
///
/// # Errors
/// [`StoreError::Missing`] if there is no store; [`StoreError::Locked`] if another run is under way;
/// [`StoreError::Corrupt`] if the ledger does not verify or the backup is of another history;
/// [`StoreError::WrongKey`] and the like if there is a root key that is not the store's;
/// [`StoreError::Io`]. What was copied stays, and the next run goes on from there.
pub fn backup(
    request: &BackupRequest,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, StoreError> {
    let disk = request.options.disk.as_ref();
    if !is_store(&request.from, &request.options)? {
        return Err(StoreError::Missing("the key file"));
    }
    for folder in [GENERATIONS, LEDGER, KEYS] {
        disk.create_dir_all(&request.to.join(folder))
            .during("making the backup's folder")?;
    }
    disk.create_dir_all(&request.to.join(BLOBS).join("tmp"))
        .during("making the backup's folder")?;
    let _lock = disk
        .lock(&request.to.join("backup.lock"))
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked,
            _ => StoreError::Io {
                operation: "locking the backup",
                source: Arc::new(error),
            },
        })?;
    let (before, damaged) = Manifest::newest(disk, &request.to)?;
    let generation = before.as_ref().map_or(0, |before| before.generation) + damaged.len() as u64;
    let mut run = Run {
        request,
        disk,
        manifest: Manifest::new(generation + 1),
        progress: Progress::default(),
        tell: progress,
        report: Counts::default(),
    };
    for error in damaged {
        run.fault(GENERATIONS, &error);
    }
    run.copy_ledger(before.as_ref())?;
    run.copy_keys(before.as_ref())?;
    let verified = run.copy_documents()?;
    for folder in [request.to.join(BLOBS), request.to.clone()] {
        disk.fsync_dir(&folder).during("syncing the backup")?;
    }
    run.manifest.created = request.options.clock.now().to_string();
    run.manifest.write(disk, &request.to)?;
    let pruned_keys = run.prune_keys()?;
    Ok(BackupReport {
        frames: run.progress.frames,
        bytes: run.progress.bytes,
        manifest: run.manifest,
        verified,
        pruned_keys,
        faults: run.report.faults,
    })
}

#[derive(Debug, Default)]
struct Counts {
    faults: Vec<Fault>,
}

struct Run<'a> {
    request: &'a BackupRequest,
    disk: &'a dyn Disk,
    manifest: Manifest,
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
    report: Counts,
}

impl Run<'_> {
    fn fault(&mut self, place: &str, error: &StoreError) {
        self.report.faults.push(Fault {
            place: place.to_owned(),
            what: error.to_string(),
        });
    }

    fn source(&self) -> PathBuf {
        self.request.from.join(LEDGER)
    }

    fn target(&self) -> PathBuf {
        self.request.to.join(LEDGER)
    }

    /// Copies the ledger up to its end, which becomes the mark.
    fn copy_ledger(&mut self, before: Option<&Manifest>) -> Result<(), StoreError> {
        self.progress.phase = "ledger";
        if let Some(before) = before {
            self.manifest.store.clone_from(&before.store);
            self.manifest.mark = before.mark.clone();
        }
        let numbers = segment_numbers(self.disk, &self.source())?;
        let known = before.map_or(&[][..], |before| &before.segments);
        if numbers.len() < known.len() {
            return Err(self.other_history(known.len() as u64, "has a segment the store has not"));
        }
        let mut chain = ([0; 32], 1);
        for (place, number) in numbers.iter().enumerate() {
            if *number != place as u64 + 1 {
                let name = segment_name(*number);
                return Err(StoreError::corrupt(
                    name,
                    0,
                    "a segment before this one is missing",
                ));
            }
            let mut segment = RawSegment::open(self.disk, &self.source(), *number)?;
            if (
                segment.header.previous_hash,
                segment.header.first_sequence.0,
            ) != chain
            {
                let what = "the segment does not continue the one before";
                return Err(segment.broken(what));
            }
            let limit = match numbers.get(place + 1) {
                Some(next) => {
                    let next = RawSegment::open(self.disk, &self.source(), *next)?;
                    Some(next.header.first_sequence.0)
                }
                None => None,
            };
            let entry = match known.get(place) {
                // Complete already: what follows says where it ends.
                Some(known) if Some(known.last_sequence + 1) == limit => {
                    self.same_segment(known, &segment)?;
                    known.clone()
                }
                known => self.copy_segment(&mut segment, known, limit)?,
            };
            chain = (decode_hash(&entry.chain), entry.last_sequence + 1);
            self.manifest.segments.push(entry);
        }
        if let Some(last) = self.manifest.segments.last() {
            self.manifest.mark.sequence = last.last_sequence;
            self.manifest.mark.hash.clone_from(&last.chain);
        }
        self.disk
            .fsync_dir(&self.target())
            .during("syncing the backup")
    }

    /// Copies what is not in the backup yet of one segment. `limit` is the first frame of the next.
    fn copy_segment(
        &mut self,
        segment: &mut RawSegment,
        known: Option<&Segment>,
        limit: Option<u64>,
    ) -> Result<Segment, StoreError> {
        let number = segment.header.number;
        let path = self.target().join(segment_name(number));
        let store = HEXLOWER.encode(&segment.header.store_id);
        if self.manifest.store.is_empty() {
            self.manifest.store = store;
        } else if self.manifest.store != store {
            return Err(self.other_history(number, "is of another store"));
        }
        let mut writer = match known {
            Some(known) => {
                self.same_segment(known, segment)?;
                self.same_bytes(known, limit)?;
                segment.position = Position {
                    expected: Sequence(known.last_sequence + 1),
                    chain: decode_hash(&known.chain),
                    offset: known.bytes,
                };
                Appender::resume(self.disk, &path, known)?
            }
            None => Appender::create(self.disk, &path, segment.header_bytes())?,
        };
        while limit.is_none_or(|limit| segment.position.expected.0 < limit) {
            let Some(frame) = segment.next_live()? else {
                if limit.is_some() {
                    return Err(segment.broken("the segment ends before the next begins"));
                }
                break;
            };
            writer.push(segment.bytes(&frame)?)?;
            self.note(&frame);
        }
        if limit.is_none() {
            // The end may be in the page cache only; what is behind the mark must not be lost to
            // the source while it is in the backup.
            self.disk
                .open_read(&self.source().join(segment_name(number)))
                .and_then(|file| file.fdatasync())
                .during("syncing the ledger")?;
        }
        let (bytes, sha256) = writer.finish()?;
        Ok(Segment {
            number,
            id: HEXLOWER.encode(&segment.header.id),
            first_sequence: segment.header.first_sequence.0,
            last_sequence: segment.position.expected.0 - 1,
            chain: HEXLOWER.encode(&segment.position.chain),
            bytes,
            sha256: HEXLOWER.encode(&sha256),
        })
    }

    fn note(&mut self, frame: &RawFrame) {
        self.progress.frames += 1;
        self.progress.bytes += frame.header.frame_bytes() as u64;
        self.manifest.mark = Mark {
            sequence: frame.header.sequence.0,
            hash: HEXLOWER.encode(&frame.hash),
            time: time_of(frame),
        };
        (self.tell)(self.progress);
    }

    fn same_segment(&self, known: &Segment, segment: &RawSegment) -> Result<(), StoreError> {
        if known.id == HEXLOWER.encode(&segment.header.id) {
            return Ok(());
        }
        Err(self.other_history(known.number, "is of another history than the store"))
    }

    /// What was copied before was on the store's disk then: it must be in the store still.
    fn same_bytes(&self, known: &Segment, limit: Option<u64>) -> Result<(), StoreError> {
        let path = self.source().join(segment_name(known.number));
        let hash = hash_file(self.disk, &path, known.bytes).during("reading the ledger")?;
        let same = hash.is_some_and(|hash| HEXLOWER.encode(&hash.sha256) == known.sha256);
        if same && limit.is_none_or(|limit| known.last_sequence < limit) {
            return Ok(());
        }
        Err(self.other_history(known.number, "has frames that the store has not"))
    }

    fn other_history(&self, number: u64, what: &'static str) -> StoreError {
        let place = self.target().join(segment_name(number));
        StoreError::corrupt(place.display().to_string(), 0, what)
    }

    /// Copies the key files, if they are not as they were the last time. They are copied after the
    /// mark was set, so they open everything up to it.
    fn copy_keys(&mut self, before: Option<&Manifest>) -> Result<(), StoreError> {
        self.progress.phase = "keys";
        for _ in 0..KEY_ATTEMPTS {
            self.manifest.keys.clear();
            if self.copy_keys_once(before)? {
                let folder = self.request.to.join(KEYS);
                return self.disk.fsync_dir(&folder).during("copying a key file");
            }
        }
        Err(StoreError::Missing("a key table that stands still"))
    }

    /// Whether the files belong together: the table was the same before and after.
    fn copy_keys_once(&mut self, before: Option<&Manifest>) -> Result<bool, StoreError> {
        let stamp = stamp(self.request.options.clock.now());
        let mut table = None;
        let files = key_files(&self.request.from, &self.request.options)?;
        for (name, source) in &files {
            let key = match self.copy_key(before, source, name, &stamp) {
                // Another table does not need it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                copied => copied.during("copying a key file")?,
            };
            table.get_or_insert((source, key.sha256.clone()));
            self.manifest.keys.push(key);
        }
        let Some((source, sha256)) = table else {
            return Ok(false);
        };
        let length = self.disk.open_read(source).and_then(|file| file.len());
        let length = length.during("reading a key file")?;
        let now = hash_file(self.disk, source, length).during("reading a key file")?;
        // The table that was copied may be a newer one than the one that named the others.
        let same = key_files(&self.request.from, &self.request.options)? == files;
        Ok(same && now.is_some_and(|now| HEXLOWER.encode(&now.sha256) == sha256))
    }

    fn copy_key(
        &self,
        before: Option<&Manifest>,
        source: &Path,
        name: &str,
        stamp: &str,
    ) -> io::Result<KeyFile> {
        let folder = self.request.to.join(KEYS);
        let temporary = folder.join("copy.tmp");
        let copied = copy_file(self.disk, source, &temporary)?;
        let sha256 = HEXLOWER.encode(&copied.sha256);
        let same = before
            .and_then(|before| before.keys.iter().find(|key| key.name == name))
            .filter(|key| key.sha256 == sha256);
        if let Some(same) = same {
            self.disk.remove(&temporary)?;
            return Ok(same.clone());
        }
        let flat = name.replace('/', "+");
        let copy = format!("{stamp}-{}.{flat}", self.manifest.generation);
        self.disk.rename(&temporary, &folder.join(&copy))?;
        Ok(KeyFile {
            name: name.to_owned(),
            copy,
            sha256,
        })
    }

    /// Copies the documents that are not in the backup yet. Whether they were verified.
    fn copy_documents(&mut self) -> Result<bool, StoreError> {
        self.progress.phase = "documents";
        let options = &self.request.options;
        let verifier = open_keys(&self.request.from, options)?.map(|keys| {
            let medium = Medium::of(options, Arc::new(keys), Health::default());
            Blobs::at(self.request.from.join(BLOBS), medium)
        });
        for folder in 0..=u8::MAX {
            let there = list_folder(self.disk, &self.request.from.join(BLOBS), folder)?;
            let target = self.request.to.join(BLOBS);
            let mut have = list_folder(self.disk, &target, folder)?;
            let mut missing: Vec<BlobId> = there.difference(&have).copied().collect();
            for id in there.intersection(&have) {
                if self.is_other(id)? {
                    missing.push(*id);
                }
            }
            for id in &missing {
                if self.copy_document(id, verifier.as_ref())? {
                    self.manifest.documents.added += u64::from(have.insert(*id));
                }
            }
            if missing.iter().any(|id| have.contains(id)) {
                let folder = target.join(HEXLOWER.encode(&[folder]));
                self.disk.fsync_dir(&folder).during("syncing the backup")?;
            }
            self.manifest.documents.count += have.len() as u64;
        }
        Ok(verifier.is_some())
    }

    /// Whether the store's file of a document is another than the backup's: it came back after its
    /// patient's keys had been destroyed, or was sealed anew.
    fn is_other(&self, id: &BlobId) -> Result<bool, StoreError> {
        let head = |root: &Path| -> io::Result<Option<(u64, [u8; 32])>> {
            let path = path_in(&root.join(BLOBS), id);
            let length = match self.disk.open_read(&path) {
                Ok(file) => file.len()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let head = hash_file(self.disk, &path, length.min(HEAD_BYTES))?;
            Ok(head.map(|head| (length, head.sha256)))
        };
        let heads = head(&self.request.from).and_then(|from| Ok((from, head(&self.request.to)?)));
        let (from, to) = heads.during("comparing a document with its copy")?;
        // Swept meanwhile: the copy stays.
        Ok(from.is_some() && from != to)
    }

    fn copy_document(&mut self, id: &BlobId, verifier: Option<&Blobs>) -> Result<bool, StoreError> {
        let copy = path_in(&self.request.to.join(BLOBS), id);
        if verifier.is_none() && self.disk.open_read(&copy).is_ok() {
            // What cannot be verified does not take the place of what is there.
            let what = "is another file than its copy, which stays without the root key";
            let error = StoreError::corrupt(format!("{BLOBS}/{id}"), 0, what);
            self.fault(&format!("{BLOBS}/{id}"), &error);
            return Ok(true);
        }
        if let Some(verifier) = verifier
            && let Err(error) = verifier.verify(id)
        {
            // Swept since it was listed, erased with its patient's key, or damaged.
            if !matches!(error, StoreError::BlobNotFound | StoreError::KeyDestroyed) {
                self.fault(&format!("{BLOBS}/{id}"), &error);
            }
            return Ok(false);
        }
        let source = path_in(&self.request.from.join(BLOBS), id);
        let blobs = self.request.to.join(BLOBS);
        let target = path_in(&blobs, id);
        let temporary = blobs.join("tmp").join(id.to_string());
        let copied = match copy_file(self.disk, &source, &temporary) {
            Ok(copied) => copied,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).during("copying a document"),
        };
        self.disk
            .create_dir_all(target.parent().unwrap_or(&blobs))
            .during("making the backup's folder")?;
        self.disk
            .rename(&temporary, &target)
            .during("copying a document")?;
        self.progress.documents += 1;
        self.progress.bytes += copied.bytes;
        (self.tell)(self.progress);
        Ok(true)
    }

    /// Removes copies of key files that were superseded and are older than they may get.
    fn prune_keys(&mut self) -> Result<u64, StoreError> {
        let folder = self.request.to.join(KEYS);
        let kept = jiff::SignedDuration::try_from(self.request.keys_kept)
            .unwrap_or(jiff::SignedDuration::MAX);
        let oldest = self.request.options.clock.now().saturating_sub(kept);
        let oldest = stamp(oldest.unwrap_or(Timestamp::MIN));
        let mut removed = 0;
        for name in self.disk.list(&folder).during("listing the backup")? {
            let current = self.manifest.keys.iter().any(|key| key.copy == name);
            if !current && name < oldest {
                self.disk
                    .remove(&folder.join(&name))
                    .during("pruning key files")?;
                removed += 1;
            }
        }
        self.disk.fsync_dir(&folder).during("pruning key files")?;
        Ok(removed)
    }
}

/// A file of the backup that gets longer.
pub(super) struct Appender {
    file: Arc<dyn super::super::disk::DiskFile>,
    hash: digest::Context,
    buffer: Vec<u8>,
    end: u64,
}

impl Appender {
    /// A new file, or one that a run left that was broken off: it is written over.
    pub(super) fn create(disk: &dyn Disk, path: &Path, header: &[u8]) -> Result<Self, StoreError> {
        let file = match disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path),
            created => created,
        };
        let mut appender = Self {
            file: file.during("making a backup segment")?,
            hash: digest::Context::new(&digest::SHA256),
            buffer: Vec::new(),
            end: 0,
        };
        appender.push(header)?;
        Ok(appender)
    }

    /// Goes on behind what the last finished run wrote, which must be as it was.
    fn resume(disk: &dyn Disk, path: &Path, known: &Segment) -> Result<Self, StoreError> {
        let rotten = || {
            let place = path.display().to_string();
            StoreError::corrupt(place, 0, "the backup is not what was written")
        };
        let hash = hash_file(disk, path, known.bytes).during("reading the backup")?;
        let hash = hash.ok_or_else(rotten)?;
        if HEXLOWER.encode(&hash.sha256) != known.sha256 {
            return Err(rotten());
        }
        Ok(Self {
            file: disk.open(path).during("opening the backup")?,
            hash: hash.context,
            buffer: Vec::new(),
            end: known.bytes,
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.file
            .write_at(&self.buffer, self.end)
            .during("writing the backup")?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything durable. Returns length and SHA-256.
    pub(super) fn finish(mut self) -> Result<(u64, [u8; 32]), StoreError> {
        self.flush()?;
        self.file.fdatasync().during("syncing the backup")?;
        Ok((self.end, to_array(self.hash.finish().as_ref())))
    }
}

/// When a frame was written.
pub(super) fn time_of(frame: &RawFrame) -> String {
    let time = Timestamp::from_nanosecond(i128::from(frame.header.utc_nanoseconds));
    time.map(|time| time.to_string()).unwrap_or_default()
}

fn decode_hash(hex: &str) -> [u8; 32] {
    to_array(&HEXLOWER.decode(hex.as_bytes()).unwrap_or_default())
}

/// A time as it begins file names: sorts like the time.
fn stamp(time: Timestamp) -> String {
    let text = time.strftime("%Y%m%dT%H%M%S%.9fZ").to_string();
    text.replace('.', "_")
}
