//! How far the ledger must reach: a small file beside its folder, so that a newest segment that is
//! gone, or that was cut between two frames, is not taken for a shorter ledger.
//!
//! ```text
//! magic 8 · version 2 · store id 16 · segment number 8 · segment id 16 · sequence 8 ·
//! hash of the frame with that sequence 32 · CRC-32 4
//! ```
//!
//! It is written when a segment begins, before its first frame, and when the store is closed in
//! order; no commit waits for it. So it says which segments there are, and where the ledger ended at
//! the last close. Frames that a process had written to its last segment when it was killed are
//! behind it: if they vanish, only an index that has them, a backup or a receipt tells.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::commit::Sequence;
use super::super::crypto::to_array;
use super::super::disk::{Disk, read_small};
use super::super::error::{IoContext as _, StoreError};
use super::format::SegmentHeader;
use super::recover::remove_if_there;
use super::{Ledger, segment_name};
use crate::planted::planted;

/// The file's name, beside the ledger's folder.
pub(crate) const END_FILE: &str = "ledger.end";
const MAGIC: &[u8; 8] = b"RENKEILE";
const VERSION: u16 = 1;
const BYTES: usize = 94;

/// Where the ledger ended when it was last noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) store_id: [u8; 16],
    /// The newest segment's number and random id.
    pub(crate) segment: u64,
    pub(crate) segment_id: [u8; 16],
    /// The last frame, and its hash.
    pub(crate) sequence: Sequence,
    pub(crate) hash: [u8; 32],
}

/// Where the file is, from the ledger's folder.
fn path(ledger: &Path) -> PathBuf {
    ledger.with_file_name(END_FILE)
}

impl Noted {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.segment.to_be_bytes());
        bytes.extend_from_slice(&self.segment_id);
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let fault = |what| StoreError::corrupt(END_FILE, 0, what);
        let field = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default();
        if field(0, 8) != MAGIC {
            return Err(fault("is not a note of the ledger's end"));
        }
        let crc = crc32fast::hash(field(0, BYTES - 4)).to_be_bytes();
        if bytes.len() != BYTES || crc != field(BYTES - 4, BYTES) {
            return Err(fault("checksum does not match"));
        }
        let version = u16::from_be_bytes(to_array(field(8, 10)));
        if version != VERSION {
            return Err(StoreError::Format {
                what: "note of the ledger's end",
                found: version,
                supported: VERSION,
            });
        }
        Ok(Self {
            store_id: to_array(field(10, 26)),
            segment: u64::from_be_bytes(to_array(field(26, 34))),
            segment_id: to_array(field(34, 50)),
            sequence: Sequence(u64::from_be_bytes(to_array(field(50, 58)))),
            hash: to_array(field(58, 90)),
        })
    }

    /// What was noted last; `None` for a ledger of before there were such notes, or without frames.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the file is damaged: then nobody knows where the ledger must end.
    pub(crate) fn read(disk: &dyn Disk, ledger: &Path) -> Result<Option<Self>, StoreError> {
        match read_small(disk, &path(ledger), 4096) {
            Ok(bytes) => Self::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("reading where the ledger ended"),
        }
    }

    /// Whether the segments are there that were there when this was noted.
    pub(crate) fn check_segments(&self, segments: &[SegmentHeader]) -> Result<(), StoreError> {
        let named = segments.iter().find(|header| header.number == self.segment);
        match named {
            Some(header) if header.id == self.segment_id => Ok(()),
            _ if planted("short ledger not noticed") => Ok(()),
            Some(_) => {
                let what = "the segment is not the one that was there";
                Err(StoreError::corrupt(segment_name(self.segment), 0, what))
            }
            None => {
                let what = "the segment is gone, and those behind it";
                Err(StoreError::corrupt(segment_name(self.segment), 0, what))
            }
        }
    }

    /// Why a ledger of these segments that ends at the frame `last`, with this hash, is not the one
    /// that was noted; `None` if it is, or goes on from it. After each note the next frame begins a
    /// segment.
    pub(crate) fn contradicts(
        &self,
        segments: &[SegmentHeader],
        last: Sequence,
        hash: [u8; 32],
    ) -> Option<&'static str> {
        if planted("short ledger not noticed") {
            return None;
        }
        if last < self.sequence {
            return Some("the ledger ends before a frame that was acknowledged");
        }
        let next = self.sequence.next();
        let mut after = segments
            .iter()
            .filter(|header| header.first_sequence == next);
        let same = match last == self.sequence {
            true => hash == self.hash,
            false => after.any(|header| header.previous_hash == self.hash),
        };
        (!same).then_some("the ledger has another frame than the one that was acknowledged")
    }
}

/// Removes what a crash left of writing the note.
pub(super) fn tidy(disk: &dyn Disk, ledger: &Path) -> Result<(), StoreError> {
    remove_if_there(disk, &path(ledger).with_extension("tmp"))
}

impl Ledger {
    /// Notes that the ledger reaches to where it is now. The frames up to there are durable.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the note of before is still there; [`StoreError::Poisoned`].
    pub(crate) fn note_end(&self) -> Result<(), StoreError> {
        let Some(newest) = self.shared.segments().pop() else {
            return Ok(());
        };
        let noted = Noted {
            store_id: newest.store_id,
            segment: newest.number,
            segment_id: newest.id,
            sequence: Sequence(self.next.0.saturating_sub(1)),
            hash: self.chain,
        };
        let during = "noting where the ledger ends";
        let disk = Arc::clone(&self.shared.disk);
        let path = path(&self.shared.dir);
        let temporary = path.with_extension("tmp");
        remove_if_there(disk.as_ref(), &temporary)?;
        let file = disk.create(&temporary).during(during)?;
        file.write_at(&noted.encode(), 0).during(during)?;
        self.health.synced(file.fdatasync())?;
        disk.rename(&temporary, &path).during(during)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        self.health.synced(disk.fsync_dir(folder))
    }
}
