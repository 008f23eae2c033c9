//! The ledger: append-only segments that are the record of everything (INV-9).
//!
//! It owns the order of changes, their durability, and the hash chain over them. It does not know
//! what rows mean. The bytes are described in [`format`].
//!
//! - Several frames are written at once and made durable by one `fdatasync`; only then are they
//!   acknowledged (INV-1). After a failed sync the ledger takes nothing more.
//! - The nonce of a frame is its sequence, and a sequence may be given again when a write failed
//!   or was lost. So every opening, and every failed write, goes on in a new segment with a new
//!   random id and thereby a new key: no nonce is used twice.

pub(crate) mod end;
pub(crate) mod format;
pub(crate) mod payload;
pub(crate) mod raw;
pub(crate) mod reader;
pub(crate) mod recover;
mod shared;
mod spare;
mod tail;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::commit::Sequence;
use super::crypto::{SealKey, TAG_BYTES, counter_nonce, sha256};
use super::disk::DiskFile;
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::keys::Random;
use super::room::Room;
use crate::planted::planted;
use format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES, SegmentHeader, frame_bytes,
};
pub(crate) use shared::Shared;
use spare::Spare;

/// A segment made ahead is asked for when this part of the current one is used.
const SPARE_AFTER: u64 = 8;

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// Sizes the writer keeps to, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) segment: u64,
    pub(crate) preallocate: u64,
}

/// A frame to be appended.
#[derive(Debug)]
pub(crate) struct NewFrame {
    pub(crate) kind: FrameKind,
    pub(crate) utc_nanoseconds: i64,
    pub(crate) payload: Vec<u8>,
}

impl NewFrame {
    fn size(&self) -> u64 {
        frame_bytes(self.payload.len() + TAG_BYTES) as u64
    }
}

/// How far an append came.
#[derive(Debug)]
#[must_use]
pub(crate) struct Appended {
    /// The hashes of the frames that are durable: the first ones.
    pub(crate) hashes: Vec<[u8; 32]>,
    /// Why the rest is not. [`StoreError::Poisoned`] if its fate is unknown; any other error means
    /// that it is certainly not there.
    pub(crate) error: Option<StoreError>,
}

/// The one writer of the ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) shared: Arc<Shared>,
    random: Arc<dyn Random>,
    sizes: Sizes,
    started: Instant,
    next: Sequence,
    chain: [u8; 32],
    next_segment: u64,
    current: Option<Current>,
    health: Health,
    room: Arc<Room>,
    /// Absent where threads of the store's own are not allowed.
    spare: Option<Spare>,
    bytes_written: u64,
}

/// The segment being written.
#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    key: SealKey,
    end: u64,
    allocated: u64,
}

impl Ledger {
    /// A writer that goes on after the frame before `next`, whose hash is `chain`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        random: Arc<dyn Random>,
        sizes: Sizes,
        next: Sequence,
        chain: [u8; 32],
        (health, room): (Health, Arc<Room>),
    ) -> Result<Self, StoreError> {
        let start = SEGMENT_HEADER_BYTES as u64;
        let disk = Arc::clone(&shared.disk);
        let spare = disk
            .allows_background()
            .then(|| Spare::start(disk, &shared.dir, start, sizes.segment))
            .transpose()?;
        let last = shared.segments().last().map_or(0, |header| header.number);
        Ok(Self {
            shared,
            random,
            sizes,
            started: Instant::now(),
            next,
            chain,
            next_segment: last + 1,
            current: None,
            health,
            room,
            spare,
            bytes_written: 0,
        })
    }

    /// The sequence the next frame gets.
    pub(crate) fn next(&self) -> Sequence {
        self.next
    }

    /// Whether a sync has failed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.health.has_stopped()
    }

    /// Whether anything was written since the store was opened.
    pub(crate) fn has_written(&self) -> bool {
        self.bytes_written > 0
    }

    /// Bytes of frames written since the store was opened.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Refuses everything from now on.
    pub(crate) fn poison(&mut self) {
        self.health.stop();
    }

    /// Appends frames and makes them durable, with one sync for each segment they touch.
    pub(crate) fn append(&mut self, frames: &[NewFrame]) -> Appended {
        let mut hashes = Vec::with_capacity(frames.len());
        while let Some(rest) = frames.get(hashes.len()..).filter(|rest| !rest.is_empty()) {
            let appended = match self.is_poisoned() {
                true => Err(StoreError::Poisoned),
                false => self.append_run(rest),
            };
            match appended {
                Ok(run) => hashes.extend(run),
                Err(error) => {
                    let error = Some(error);
                    return Appended { hashes, error };
                }
            }
        }
        Appended {
            hashes,
            error: None,
        }
    }

    /// Appends as many frames as fit the current segment, at least one. Returns their hashes.
    fn append_run(&mut self, frames: &[NewFrame]) -> Result<Vec<[u8; 32]>, StoreError> {
        let first = frames.first().map_or(0, NewFrame::size);
        let utc = frames.first().map_or(0, |frame| frame.utc_nanoseconds);
        let full = self.current.as_ref().is_none_or(|current| {
            let used = current.end > SEGMENT_HEADER_BYTES as u64;
            used && current.end + first > self.sizes.segment
        });
        if full {
            self.roll(utc)?;
        }
        let (count, end) = self.fitting(frames);
        self.preallocate(end)?;
        // Nothing may fail between encrypting and writing: the nonces would be used again.
        let frames = frames.get(..count).unwrap_or(frames);
        let Some(current) = &self.current else {
            return Err(StoreError::Poisoned);
        };
        let (bytes, hashes) = self.encode_run(current, frames)?;
        self.write_run(&bytes, utc)?;
        self.next = Sequence(self.next.0 + count as u64);
        self.chain = hashes.last().copied().unwrap_or(self.chain);
        self.bytes_written += bytes.len() as u64;
        if let Some(current) = &mut self.current {
            current.end = end;
        }
        // It would take what is kept back for emergencies.
        if end > self.sizes.segment / SPARE_AFTER
            && !self.room.is_full()
            && let Some(spare) = &mut self.spare
        {
            spare.ask();
        }
        self.shared
            .set_durable(Sequence(self.next.0.saturating_sub(1)));
        Ok(hashes)
    }

    /// How many frames go into the current segment, at least one, and where the last will end.
    fn fitting(&self, frames: &[NewFrame]) -> (usize, u64) {
        let mut end = self.current.as_ref().map_or(0, |current| current.end);
        let mut count = 0;
        for frame in frames {
            let next = end + frame.size();
            if count > 0 && next > self.sizes.segment {
                break;
            }
            (count, end) = (count + 1, next);
        }
        (count, end)
    }

    fn encode_run(
        &self,
        current: &Current,
        frames: &[NewFrame],
    ) -> Result<(Vec<u8>, Vec<[u8; 32]>), StoreError> {
        let monotonic = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut chain = self.chain;
        let size: u64 = frames.iter().map(NewFrame::size).sum();
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut hashes = Vec::with_capacity(frames.len());
        for (place, frame) in frames.iter().enumerate() {
            let length = u32::try_from(frame.payload.len() + TAG_BYTES).unwrap_or(u32::MAX);
            let header = FrameHeader {
                length,
                sequence: Sequence(self.next.0 + place as u64),
                write_first: self.next,
                kind: frame.kind,
                utc_nanoseconds: frame.utc_nanoseconds,
                monotonic_nanoseconds: monotonic,
                previous_hash: chain,
            };
            chain = encode_frame(&current.key, &header, &frame.payload, &mut bytes)?;
            hashes.push(chain);
        }
        Ok((bytes, hashes))
    }

    /// Takes disk space up to `end`. A failure leaves everything as it was.
    fn preallocate(&mut self, end: u64) -> Result<(), StoreError> {
        let sizes = self.sizes;
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if end > current.allocated {
            let target = (current.allocated + sizes.preallocate)
                .min(sizes.segment)
                .max(end);
            current
                .file
                .preallocate(current.allocated, target)
                .during("taking disk space for the ledger")?;
            current.allocated = target;
        }
        Ok(())
    }

    fn write_run(&mut self, bytes: &[u8], utc: i64) -> Result<(), StoreError> {
        let Some(current) = &self.current else {
            return Err(StoreError::Poisoned);
        };
        if let Err(error) = current
            .file
            .write_at(bytes, current.end)
            .during("writing the ledger")
        {
            if planted("segment kept after a failed write") {
                return Err(error);
            }
            // Some frames may be on disk whole. A new segment that starts with their sequence
            // fences them off; without it their fate is unknown.
            self.current = None;
            if self.roll(utc).is_err() {
                self.poison();
                return Err(StoreError::Poisoned);
            }
            return Err(error);
        }
        if planted("acknowledged before the sync") {
            return Ok(());
        }
        let mut synced = current.file.fdatasync();
        if planted("sync tried again") && synced.is_err() {
            synced = current.file.fdatasync();
        }
        self.health.synced(synced)
    }

    /// Starts a new segment. It gets its name only when its header is durable, so a segment file
    /// without a valid header is always corruption.
    fn roll(&mut self, utc_nanoseconds: i64) -> Result<(), StoreError> {
        self.current = None;
        let shared = Arc::clone(&self.shared);
        let mut id = [0; 16];
        self.random.fill(&mut id)?;
        let header = SegmentHeader {
            epoch: shared.keys.epoch(),
            number: self.next_segment,
            first_sequence: self.next,
            id,
            store_id: shared.keys.store_id(),
            previous_hash: self.chain,
            created_nanoseconds: utc_nanoseconds,
        };
        let path = shared.dir.join(segment_name(header.number));
        let start = SEGMENT_HEADER_BYTES as u64;
        let (file, temporary, allocated) = match self.spare.as_mut().and_then(Spare::take) {
            Some(made) => made,
            None => self.make_file(&path, start)?,
        };
        file.write_at(&header.encode(), 0)
            .during("making a ledger segment")?;
        self.health.synced(file.fdatasync())?;
        shared
            .disk
            .rename(&temporary, &path)
            .during("naming a ledger segment")?;
        if !planted("ledger folder not synced") {
            self.health.synced(shared.disk.fsync_dir(&shared.dir))?;
        }
        self.current = Some(Current {
            file,
            key: shared.keys.segment_key(&header.id)?,
            end: start,
            allocated,
        });
        self.next_segment += 1;
        shared.add(header);
        // Before its first frame: from then on the segment must be there.
        self.note_end().inspect_err(|_| self.current = None)
    }

    /// A file that will be named `path`, with its first zeros.
    fn make_file(
        &self,
        path: &Path,
        start: u64,
    ) -> Result<(Arc<dyn DiskFile>, PathBuf, u64), StoreError> {
        let disk = self.shared.disk.as_ref();
        let temporary = path.with_extension("tmp");
        recover::remove_if_there(disk, &temporary)?;
        let file = disk.create(&temporary).during("making a ledger segment")?;
        let allocated = self.sizes.preallocate.min(self.sizes.segment).max(start);
        file.preallocate(start, allocated)
            .during("taking disk space for the ledger")?;
        Ok((file, temporary, allocated))
    }
}

/// Appends one frame to `out`; returns its hash.
fn encode_frame(
    key: &SealKey,
    header: &FrameHeader,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<[u8; 32], StoreError> {
    let start = out.len();
    header.encode_into(out);
    let header_bytes: [u8; FRAME_HEADER_BYTES] =
        super::crypto::to_array(out.get(start..).unwrap_or_default());
    let payload_at = out.len();
    out.extend_from_slice(payload);
    key.seal_tail(
        counter_nonce(header.sequence.0, 0),
        &header_bytes,
        out,
        payload_at,
    )?;
    let hash = sha256(&[out.get(start..).unwrap_or_default()]);
    out.extend_from_slice(&hash);
    Ok(hash)
}
