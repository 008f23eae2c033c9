//! A store made again from a backup, as it was at some frame.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::super::blobs::{BlobId, path_in};
use super::super::commit::Sequence;
use super::super::copy::copy_file;
use super::super::disk::{Disk, write_small};
use super::super::error::{IoContext as _, StoreError};
use super::super::ledger::raw::RawSegment;
use super::super::ledger::reader::Step;
use super::super::ledger::segment_name;
use super::super::offline::{UNFINISHED, has_root};
use super::super::open;
use super::super::options::{Fault, Options};
use super::super::table::Schema;
use super::super::{Store, core::Core};
use super::manifest::{Manifest, Mark, Segment};
use super::run::{Appender, time_of};
use super::{BLOBS, KEYS, LEDGER, Progress};

/// How far to restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// To the end of the backup.
    #[default]
    End,
    /// Up to this frame.
    Sequence(Sequence),
    /// Up to the last frame that is dated at or before this time.
    Time(Timestamp),
}

/// A restoration to be made.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The backup's folder.
    pub from: PathBuf,
    /// An empty folder, or one that does not exist yet.
    pub to: PathBuf,
    /// How far.
    pub cut: Cut,
    /// Disk, clock, and where the root key is: it is not in the backup.
    pub options: Options,
    /// The store's tables.
    pub schema: Schema,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The last frame that is there. Anything acknowledged after it is not.
    pub mark: Mark,
    /// How far the backup went.
    pub backup: Mark,
    /// Frames.
    pub frames: u64,
    /// Bytes of ledger and documents.
    pub bytes: u64,
    /// Documents that rows refer to and that are there.
    pub documents: u64,
    /// Documents that rows refer to and that could not be restored; damaged manifests.
    pub faults: Vec<Fault>,
}

/// Restores a store. Everything is verified on the way; the folder cannot be opened as a store
/// before all is there. Blocks.
///
/// # Errors
/// [`StoreError::NotEmpty`] if the target has anything in it; [`StoreError::Missing`] if the backup
/// has no finished run or the root key is not there; [`StoreError::OutOfRange`] if the backup does
/// not reach the frame wanted; [`StoreError::WrongKey`]; [`StoreError::Corrupt`] if the ledger in the
/// backup does not verify (a cut before the fault may still succeed); [`StoreError::Io`].
pub fn restore(
    request: RestoreRequest,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, StoreError> {
    let disk = Arc::clone(&request.options.disk);
    let disk = disk.as_ref();
    let (manifest, damaged) = Manifest::newest(disk, &request.from)?;
    let manifest = manifest.ok_or(StoreError::Missing("a finished backup"))?;
    refuse_unless_empty(disk, &request.to)?;
    if !has_root(&request.to, &request.options)? {
        return Err(StoreError::Missing("the root key"));
    }
    let mut work = Restoring {
        disk,
        from: &request.from,
        to: &request.to,
        manifest: &manifest,
        progress: Progress::default(),
        tell: progress,
        mark: Manifest::new(0).mark,
        faults: damaged
            .iter()
            .map(|error| fault("generations", error))
            .collect(),
    };
    let last = work.last_frame(request.cut)?;
    disk.create_dir_all(&request.to)
        .during("making the store's folder")?;
    let unfinished = request.to.join(UNFINISHED);
    write_small(disk, &unfinished, b"").during("marking the folder")?;
    work.copy_ledger(last)?;
    work.copy_keys()?;
    // From here on every frame is decrypted and the index made.
    work.progress.phase = "index";
    (work.tell)(work.progress);
    let (store, opened) = open::open(&request.to, request.schema, &request.options)?;
    if opened.last_sequence != last {
        return Err(StoreError::corrupt(
            LEDGER,
            last.0,
            "the ledger ends elsewhere",
        ));
    }
    let documents = work.copy_documents(&store)?;
    drop(store);
    let report = RestoreReport {
        mark: work.mark,
        backup: manifest.mark.clone(),
        frames: work.progress.frames,
        bytes: work.progress.bytes,
        documents,
        faults: work.faults,
    };
    disk.remove(&unfinished)
        .during("finishing the restoration")?;
    disk.fsync_dir(&request.to)
        .during("finishing the restoration")?;
    Ok(report)
}

fn fault(place: &str, error: &StoreError) -> Fault {
    Fault {
        place: place.to_owned(),
        what: error.to_string(),
    }
}

fn refuse_unless_empty(disk: &dyn Disk, to: &Path) -> Result<(), StoreError> {
    match disk.list(to) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => Err(StoreError::NotEmpty),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).during("looking at the target"),
    }
}

struct Restoring<'a> {
    disk: &'a dyn Disk,
    from: &'a Path,
    to: &'a Path,
    manifest: &'a Manifest,
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
    mark: Mark,
    faults: Vec<Fault>,
}

impl Restoring<'_> {
    /// The last frame to be restored.
    fn last_frame(&mut self, cut: Cut) -> Result<Sequence, StoreError> {
        let end = self.manifest.sequence();
        match cut {
            Cut::End => Ok(end),
            Cut::Sequence(wanted) if wanted <= end => Ok(wanted),
            Cut::Sequence(wanted) => Err(StoreError::OutOfRange {
                wanted: wanted.0,
                last: end.0,
            }),
            Cut::Time(time) => self.last_at(time),
        }
    }

    /// The last frame dated at or before `time`: the clock may have gone back and forth.
    fn last_at(&mut self, time: Timestamp) -> Result<Sequence, StoreError> {
        self.progress.phase = "looking for the time";
        let wanted = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let mut last = Sequence(0);
        for entry in &self.manifest.segments {
            let mut segment = RawSegment::open(self.disk, &self.from.join(LEDGER), entry.number)?;
            while segment.position.offset < entry.bytes {
                match segment.step()? {
                    Step::Frame(frame) if frame.header.utc_nanoseconds <= wanted => {
                        last = frame.header.sequence;
                    }
                    Step::Frame(_) => {}
                    Step::End(what) => return Err(segment.broken(what)),
                }
            }
            (self.tell)(self.progress);
        }
        Ok(last)
    }

    /// Copies the ledger up to the frame `last`, which becomes its end.
    fn copy_ledger(&mut self, last: Sequence) -> Result<(), StoreError> {
        self.progress.phase = "ledger";
        let folder = self.to.join(LEDGER);
        self.disk
            .create_dir_all(&folder)
            .during("making the ledger folder")?;
        let mut chain = ([0; 32], Sequence(1));
        for entry in &self.manifest.segments {
            if entry.first_sequence > last.0 {
                break;
            }
            let mut segment = RawSegment::open(self.disk, &self.from.join(LEDGER), entry.number)?;
            if (segment.position.chain, segment.position.expected) != chain {
                return Err(segment.broken("the segment does not continue the one before"));
            }
            self.copy_segment(&mut segment, entry, last, &folder)?;
            chain = (segment.position.chain, segment.position.expected);
        }
        if chain.1 != last.next() {
            let what = "the backup ends before its mark";
            return Err(StoreError::corrupt(LEDGER, chain.1.0, what));
        }
        self.mark.hash = HEXLOWER.encode(&chain.0);
        self.disk.fsync_dir(&folder).during("syncing the ledger")
    }

    fn copy_segment(
        &mut self,
        segment: &mut RawSegment,
        entry: &Segment,
        last: Sequence,
        folder: &Path,
    ) -> Result<(), StoreError> {
        let path = folder.join(segment_name(entry.number));
        let mut writer = Appender::create(self.disk, &path, segment.header_bytes())?;
        while segment.position.offset < entry.bytes && segment.position.expected <= last {
            let frame = match segment.step()? {
                Step::Frame(frame) => frame,
                Step::End(what) => return Err(segment.broken(what)),
            };
            writer.push(segment.bytes(&frame)?)?;
            self.progress.frames += 1;
            self.progress.bytes += frame.header.frame_bytes() as u64;
            self.mark.sequence = frame.header.sequence.0;
            self.mark.time = time_of(&frame);
            (self.tell)(self.progress);
        }
        let whole = segment.position.offset == entry.bytes;
        let (_, sha256) = writer.finish()?;
        if whole && HEXLOWER.encode(&sha256) != entry.sha256 {
            return Err(StoreError::corrupt(
                segment_name(entry.number),
                0,
                "the backup is not what was written",
            ));
        }
        Ok(())
    }

    /// The newest key files: older ones might bring back what was purged.
    fn copy_keys(&mut self) -> Result<(), StoreError> {
        for key in &self.manifest.keys {
            let (from, to) = (
                self.from.join(KEYS).join(&key.copy),
                self.to.join(&key.name),
            );
            let folder = to.parent().unwrap_or(self.to);
            self.disk
                .create_dir_all(folder)
                .during("copying a key file")?;
            let copied = copy_file(self.disk, &from, &to).during("copying a key file")?;
            if HEXLOWER.encode(&copied.sha256) != key.sha256 {
                let what = "the key file is not what was written";
                return Err(StoreError::corrupt(key.copy.clone(), 0, what));
            }
            self.disk.fsync_dir(folder).during("copying a key file")?;
        }
        self.disk.fsync_dir(self.to).during("copying a key file")
    }

    /// Copies the documents that rows refer to, and verifies each. Returns how many are there.
    fn copy_documents(&mut self, store: &Store) -> Result<u64, StoreError> {
        self.progress.phase = "documents";
        let core: &Core = &store.core;
        let mut whole = 0;
        for folder in 0..=u8::MAX {
            for id in core.referred_to(folder)? {
                match self.copy_document(core, &id) {
                    Ok(()) => whole += 1,
                    Err(error)
                        if error.is_damage()
                            || matches!(
                                error,
                                StoreError::BlobNotFound | StoreError::KeyDestroyed
                            ) =>
                    {
                        self.faults.push(fault(&format!("{BLOBS}/{id}"), &error));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.progress.documents = whole;
        Ok(whole)
    }

    fn copy_document(&mut self, core: &Core, id: &BlobId) -> Result<(), StoreError> {
        let from = path_in(&self.from.join(BLOBS), id);
        let length = match self.disk.open_read(&from) {
            Ok(file) => file.len().during("reading the backup")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::BlobNotFound);
            }
            Err(error) => return Err(error).during("reading the backup"),
        };
        core.blobs.copy_in(&from, id)?;
        if let Err(error) = core.blobs.verify(id) {
            core.blobs.remove(id)?;
            return Err(error);
        }
        self.progress.documents += 1;
        self.progress.bytes += length;
        (self.tell)(self.progress);
        Ok(())
    }
}
