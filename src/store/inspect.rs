//! Checking a store that no node runs on, also one that does not open: everything is walked, and
//! nothing ends the walk but a folder that cannot be listed. Ledger, documents and key files are
//! only read. The index is opened as a node would, and compared with one made from the ledger.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};

use serde::Serialize;

use super::backup::Progress;
use super::blobs::{Blobs, Medium, list_folder};
use super::commit::{Frame, Sequence};
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::index::Index;
use super::index::compare::Difference;
use super::keys::Keys;
use super::ledger::Shared;
use super::ledger::end::{END_FILE, Noted};
use super::ledger::format::SegmentHeader;
use super::ledger::raw::{RawSegment, segment_numbers};
use super::ledger::reader::SegmentReader;
use super::ledger::segment_name;
use super::offline::{UNFINISHED, is_store, open_keys};
use super::options::Options;
use super::replay::{Visit, replay};
use super::table::{BLOB_INDEX, Schema, TableId};

/// Where the index is made anew to compare with.
const SCRATCH: &str = "index.check";
/// Frames read before they are put into the index.
const FRAMES_AHEAD: usize = 256;
/// Faults listed one by one of one kind; more are counted.
const MAX_LISTED: u64 = 1_000;

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The file, by its name inside the store, or the part of the store.
    pub place: String,
    /// Where in it, in bytes, if that can be said.
    pub offset: Option<u64>,
    /// What.
    pub what: String,
}

/// What was walked and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Ledger segments.
    pub segments: u64,
    /// Frames whose CRC, hash and chain were verified.
    pub frames: u64,
    /// Frames that were decrypted too.
    pub decrypted: u64,
    /// The last frame.
    pub last_sequence: u64,
    /// Bytes of an unfinished, never acknowledged write at the end of the ledger: no fault.
    pub torn_bytes: u64,
    /// Documents verified.
    pub documents: u64,
    /// Documents whose keys were destroyed.
    pub erased: u64,
    /// Documents that nothing refers to: no fault, the sweep takes them.
    pub unreferred: u64,
    /// Documents in quarantine.
    pub quarantined: u64,
    /// Index entries compared.
    pub index_entries: u64,
    /// Why the index will be made anew at the next start, if it will: no fault.
    pub index_note: String,
    /// Everything found wrong.
    pub faults: Vec<Found>,
}

/// Walks the store in `dir`, which no node may be running on. Blocks.
///
/// # Errors
/// [`StoreError::Locked`] if a node runs; [`StoreError::Missing`] if there is no store;
/// [`StoreError::Io`] if a folder cannot be listed.
pub fn inspect(
    dir: &Path,
    schema: &Schema,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Inspection, StoreError> {
    if !is_store(dir, options)? {
        return Err(StoreError::Missing("the key table"));
    }
    let lock = options.disk.lock(&dir.join("store.lock"));
    let _lock = lock.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked,
        _ => StoreError::Io {
            operation: "locking the store",
            source: Arc::new(error),
        },
    })?;
    let mut walk = Walk {
        dir,
        schema,
        options,
        keys: None,
        progress: Progress::default(),
        tell: progress,
        found: Inspection::default(),
    };
    if super::disk::exists(options.disk.as_ref(), &dir.join(UNFINISHED))
        .during("looking for an unfinished restoration")?
    {
        walk.fault(UNFINISHED, None, "the store was not restored to its end");
    }
    walk.open_keys();
    let index = walk.fresh_index();
    let whole = walk.ledger_into(index.as_ref())?;
    if let (Some(index), true) = (&index, whole) {
        walk.index(index);
    }
    walk.documents(index.as_ref().filter(|_| whole))?;
    drop(index);
    walk.remove_scratch();
    Ok(walk.found)
}

struct Walk<'a> {
    dir: &'a Path,
    schema: &'a Schema,
    options: &'a Options,
    keys: Option<Arc<Keys>>,
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
    found: Inspection,
}

impl Walk<'_> {
    fn fault(&mut self, place: impl Into<String>, offset: Option<u64>, what: impl Into<String>) {
        self.found.faults.push(Found {
            place: place.into(),
            offset,
            what: what.into(),
        });
    }

    fn error(&mut self, place: &str, error: &StoreError) {
        match error {
            StoreError::Corrupt {
                place,
                offset,
                what,
            } => self.fault(place.clone(), Some(*offset), *what),
            other => self.fault(place, None, other.to_string()),
        }
    }

    fn open_keys(&mut self) {
        match open_keys(self.dir, self.options) {
            Ok(Some(keys)) => {
                match keys.damaged(self.dir, self.options.disk.as_ref()) {
                    Ok(names) => {
                        for name in names {
                            self.fault(name, None, "is not what the other copy is");
                        }
                    }
                    Err(error) => self.error("keys", &error),
                }
                self.keys = Some(Arc::new(keys));
            }
            Ok(None) => self.fault(
                "keys",
                None,
                "there is no root key or no key table: nothing was decrypted",
            ),
            Err(error) => self.error("keys", &error),
        }
    }

    fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    /// The scratch index is beside the disk's trait, as every index is.
    fn remove_scratch(&mut self) {
        for folder in [self.scratch(), self.scratch().with_extension("old")] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.fault(SCRATCH, None, error.to_string());
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// An empty index, to be filled from the ledger.
    fn fresh_index(&mut self) -> Option<Index> {
        let keys = self.keys.clone()?;
        self.remove_scratch();
        match self.open_index(&self.scratch(), &keys) {
            Ok((index, _)) => Some(index),
            Err(error) => {
                self.error(SCRATCH, &error);
                None
            }
        }
    }

    fn open_index(
        &self,
        dir: &Path,
        keys: &Keys,
    ) -> Result<(Index, Option<super::RebuildReason>), StoreError> {
        Index::open(
            self.options.index,
            dir,
            self.options.index_cache_bytes,
            self.schema.fingerprint(),
            keys,
            self.options.random.as_ref(),
        )
    }

    /// Walks the ledger and fills the fresh index. Whether there was no fault.
    fn ledger_into(&mut self, index: Option<&Index>) -> Result<bool, StoreError> {
        let schema = self.schema;
        std::thread::scope(|scope| {
            let (frames, received) = mpsc::sync_channel(FRAMES_AHEAD);
            let made = index.map(|index| {
                let hand_on = |visit: &mut Visit<'_>| received.into_iter().try_for_each(visit);
                scope.spawn(move || replay(index, schema, hand_on))
            });
            let mut frames = made.is_some().then_some(frames);
            let mut whole = self.ledger(&mut frames)?;
            drop(frames);
            if let Some(made) = made {
                let panicked = |_| StoreError::Index("a thread panicked".to_owned());
                if let Err(error) = made.join().map_err(panicked).and_then(|made| made) {
                    self.error(SCRATCH, &error);
                    whole = false;
                }
            }
            Ok(whole)
        })
    }

    /// Walks the ledger and hands its frames on. Whether there was no fault.
    fn ledger(&mut self, frames: &mut Option<SyncSender<Frame>>) -> Result<bool, StoreError> {
        self.progress.phase = "ledger";
        let before = self.found.faults.len();
        let dir = self.dir.join("ledger");
        let disk = Arc::clone(&self.options.disk);
        let numbers = segment_numbers(disk.as_ref(), &dir)?;
        let mut chain = Some(([0; 32], Sequence(1)));
        let mut headers = Vec::new();
        for (place, number) in numbers.iter().enumerate() {
            self.found.segments += 1;
            let name = segment_name(*number);
            if *number != place as u64 + 1 {
                self.fault(&*name, None, "a segment before this one is missing");
                chain = None;
            }
            let mut segment = match RawSegment::open(disk.as_ref(), &dir, *number) {
                Ok(segment) => segment,
                Err(error) => {
                    self.error(&name, &error);
                    chain = None;
                    continue;
                }
            };
            headers.push(segment.header.clone());
            let starts = (segment.position.chain, segment.position.expected);
            if chain.is_some_and(|chain| chain != starts) {
                self.fault(
                    &*name,
                    Some(0),
                    "the segment does not continue the one before",
                );
            }
            let next = numbers
                .get(place + 1)
                .and_then(|next| RawSegment::open(disk.as_ref(), &dir, *next).ok());
            let is_last = place + 1 == numbers.len();
            let limit = next.map(|next| next.header.first_sequence);
            self.segment(&mut segment, limit, is_last, frames);
            chain = Some((segment.position.chain, segment.position.expected));
        }
        self.end(&headers, chain);
        Ok(self.found.faults.len() == before)
    }

    /// Compares what was walked with what was noted of the ledger's end.
    fn end(&mut self, headers: &[SegmentHeader], end: Option<([u8; 32], Sequence)>) {
        let ledger = self.dir.join("ledger");
        let noted = match Noted::read(self.options.disk.as_ref(), &ledger) {
            Ok(Some(noted)) => noted,
            Ok(None) => return,
            Err(error) => return self.error(END_FILE, &error),
        };
        if let Err(error) = noted.check_segments(headers) {
            return self.error(END_FILE, &error);
        }
        let Some((chain, next)) = end else { return };
        let last = Sequence(next.0.saturating_sub(1));
        if let Some(what) = noted.contradicts(headers, last, chain) {
            self.fault(END_FILE, None, what);
        }
    }

    fn segment(
        &mut self,
        segment: &mut RawSegment,
        limit: Option<Sequence>,
        is_last: bool,
        frames: &mut Option<SyncSender<Frame>>,
    ) {
        let mut reader = self.reader(segment);
        while limit.is_none_or(|limit| segment.position.expected < limit) {
            let frame = match segment.next_live() {
                Ok(Some(frame)) => frame,
                Ok(None) if is_last => {
                    self.found.torn_bytes = segment.unused_bytes().unwrap_or_default();
                    return;
                }
                Ok(None) => {
                    self.error("ledger", &segment.broken("the segment ends too early"));
                    return;
                }
                Err(error) => {
                    self.error("ledger", &error);
                    // Goes on with the next frame that is whole.
                    match segment.resync(segment.position.offset + 1) {
                        Ok(Some(frame)) => segment.jump(&frame),
                        Ok(None) | Err(_) => return,
                    }
                    continue;
                }
            };
            self.found.frames += 1;
            self.found.last_sequence = frame.header.sequence.0;
            self.progress.frames += 1;
            self.progress.bytes += frame.header.frame_bytes() as u64;
            (self.tell)(self.progress);
            let Some(reader) = &mut reader else { continue };
            match reader.decode(&frame) {
                Ok(decoded) => {
                    self.found.decrypted += 1;
                    // Who takes them says why when it ends before they do.
                    if frames.as_ref().is_some_and(|to| to.send(decoded).is_err()) {
                        *frames = None;
                    }
                }
                Err(error) => {
                    let name = segment_name(segment.header.number);
                    self.fault(name, Some(frame.offset), error.to_string());
                }
            }
        }
    }

    /// What decrypts the frames of a segment.
    fn reader(&mut self, segment: &RawSegment) -> Option<SegmentReader> {
        let keys = self.keys.clone()?;
        let dir = self.dir.join("ledger");
        let name = segment_name(segment.header.number);
        if segment.header.store_id != keys.store_id() {
            self.fault(name, Some(0), "the segment belongs to another store");
            return None;
        }
        let shared = Shared::new(dir, Arc::clone(&self.options.disk), keys, Vec::new());
        match SegmentReader::open(&shared, segment.header.clone()) {
            Ok(reader) => Some(reader),
            Err(error) => {
                self.error(&name, &error);
                None
            }
        }
    }

    /// Compares the store's index with the fresh one.
    fn index(&mut self, fresh: &Index) {
        self.progress.phase = "index";
        (self.tell)(self.progress);
        let Some(keys) = self.keys.clone() else {
            return;
        };
        let (index, reason) = match self.open_index(&self.dir.join("index"), &keys) {
            Ok(opened) => opened,
            Err(error) => return self.error("index", &error),
        };
        if let Some(reason) = reason {
            self.found.index_note = format!("{reason:?}").to_lowercase();
            return;
        }
        if index.applied() < fresh.applied() {
            self.found.index_note = format!("ends at frame {}", index.applied());
            return;
        }
        let mut seen: BTreeMap<(TableId, &str), u64> = BTreeMap::new();
        let mut visit = |table, difference| {
            let what = match difference {
                Difference::Missing => "missing",
                Difference::Extra => "extra",
                Difference::Other => "different",
            };
            *seen.entry((table, what)).or_default() += 1;
        };
        match index.compare(fresh, &mut visit) {
            Ok(count) => self.found.index_entries = count,
            Err(error) => self.error("index", &error),
        }
        for ((table, what), count) in seen {
            let name = self.schema.get(table).map_or("unknown", |table| table.name);
            let what = format!("{count} entries are {what}, compared with the ledger");
            self.fault(format!("index/{name}"), None, what);
        }
        if let Err(error) = index.close(index.applied()) {
            self.error("index", &error);
        }
    }

    /// Verifies every document, and looks for those that rows refer to.
    fn documents(&mut self, index: Option<&Index>) -> Result<(), StoreError> {
        self.progress.phase = "documents";
        let Some(keys) = self.keys.clone() else {
            return Ok(());
        };
        let dir = self.dir.join("blobs");
        let medium = Medium::of(self.options, keys, Health::default());
        let blobs = Blobs::at(dir.clone(), medium);
        let mut missing = 0;
        for folder in 0..=u8::MAX {
            let there = list_folder(self.options.disk.as_ref(), &dir, folder)?;
            for id in &there {
                match blobs.verify(id) {
                    Ok(size) => {
                        self.found.documents += 1;
                        self.progress.bytes += size;
                    }
                    Err(StoreError::KeyDestroyed) => self.found.erased += 1,
                    Err(error) => self.error(&format!("blobs/{id}"), &error),
                }
                self.progress.documents += 1;
                (self.tell)(self.progress);
            }
            let Some(index) = index else { continue };
            let wanted = index.blobs_of(self.schema, folder)?;
            self.found.unreferred += there.difference(&wanted).count() as u64;
            for id in wanted.difference(&there) {
                missing += 1;
                if missing <= MAX_LISTED {
                    self.fault(
                        format!("blobs/{id}"),
                        None,
                        "is referred to and is not there",
                    );
                }
            }
        }
        self.found.quarantined = blobs.quarantined()?.len() as u64;
        Ok(())
    }
}

impl Index {
    /// The documents whose names begin with this byte and that rows refer to.
    pub(crate) fn blobs_of(
        &self,
        schema: &Schema,
        folder: u8,
    ) -> Result<std::collections::BTreeSet<super::BlobId>, StoreError> {
        const PAGE: usize = 512;
        let mut ids = std::collections::BTreeSet::new();
        for (table, _) in schema.tables() {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self.entries(table, BLOB_INDEX, &[folder], after.as_deref(), PAGE)?;
                let found = page
                    .iter()
                    .filter_map(|(cursor, split)| cursor.get(..*split));
                ids.extend(found.filter_map(super::BlobId::from_slice));
                match page.into_iter().last() {
                    Some((last, _)) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(ids)
    }
}
