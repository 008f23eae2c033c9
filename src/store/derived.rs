//! What others derive from the ledger and would rather keep than make again at each start (INV-9): one
//! file for each, sealed, bound to the frame up to which it was derived. It is believed whole or not
//! at all, and can be deleted at any time. Backups do not have it.
//!
//! ```text
//! header, 178 bytes
//!   magic "RENKEIDV" 8 · version 2 · store id 16 · making 32 · sequence 8 · hash of that frame 32 ·
//!   its segment 8 · its offset there 8 · key epoch 4 · key of this file, wrapped, 60
//! pieces, until one that is the last
//!   length of what follows 4 · last (1) or not (0) 1 ·
//!   AES-256-GCM under the file's key, nonce = number of the piece, associated data = header, number
//!   and last; tag
//! ```
//!
//! The key is wrapped under the epoch in force, like that of the index: once the epoch has gone, as it
//! does when a patient is purged, nobody can read what was in the file. A purge deletes it besides.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Store;
use super::commit::{Place, Sequence};
use super::crypto::{SealKey, WRAPPED_BYTES, counter_nonce, new_secret, to_array};
use super::disk::DiskFile;
use super::error::{IoContext as _, StoreError};

const FOLDER: &str = "derived";
const MAGIC: &[u8; 8] = b"RENKEIDV";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8 + 2 + 16 + 32 + 8 + 32 + 8 + 8 + 4 + WRAPPED_BYTES;
/// Length and mark before each piece.
const PIECE_HEAD_BYTES: u64 = 5;
/// The longest piece, in bytes: a few are in memory at once.
const MAX_PIECE: usize = 16 << 20;

/// Something that is derived, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its file.
    pub name: &'static str,
    /// A hash of everything but the ledger that decides what it looks like.
    pub making: [u8; 32],
}

/// Why there is nothing kept that could be used. It says nothing of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub &'static str);

/// What was kept, piece by piece. Several threads may take pieces.
#[derive(Debug)]
pub struct Kept {
    /// The last frame it knows of.
    pub sequence: Sequence,
    file: Arc<dyn DiskFile>,
    header: Vec<u8>,
    key: SealKey,
    next: Mutex<Next>,
}

/// Where the next piece is.
#[derive(Debug)]
struct Next {
    offset: u64,
    number: u64,
    ended: bool,
}

struct Header {
    making: [u8; 32],
    sequence: Sequence,
    hash: [u8; 32],
    place: Place,
    epoch: u32,
    wrapped: Vec<u8>,
}

impl Header {
    fn encode(&self, store_id: &[u8; 16]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(store_id);
        bytes.extend_from_slice(&self.making);
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.place.segment.to_be_bytes());
        bytes.extend_from_slice(&self.place.offset.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.wrapped);
        bytes
    }

    fn decode(bytes: &[u8], store_id: &[u8; 16]) -> Result<Self, NotKept> {
        let known = [&MAGIC[..], &VERSION.to_be_bytes()].concat();
        let rest = bytes.strip_prefix(known.as_slice());
        let rest = rest.ok_or(NotKept("it is of another format"))?;
        let rest = rest.strip_prefix(store_id);
        let rest = rest.ok_or(NotKept("it is of another store"))?;
        let mut rest = rest;
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken)
        };
        let short = NotKept("it is cut off");
        Ok(Self {
            making: to_array(take(32).ok_or(short)?),
            sequence: Sequence(u64::from_be_bytes(to_array(take(8).ok_or(short)?))),
            hash: to_array(take(32).ok_or(short)?),
            place: Place {
                segment: u64::from_be_bytes(to_array(take(8).ok_or(short)?)),
                offset: u64::from_be_bytes(to_array(take(8).ok_or(short)?)),
            },
            epoch: u32::from_be_bytes(to_array(take(4).ok_or(short)?)),
            wrapped: take(WRAPPED_BYTES).ok_or(short)?.to_vec(),
        })
    }
}

fn associated(header: &[u8], number: u64, last: bool) -> Vec<u8> {
    [header, &number.to_be_bytes(), &[u8::from(last)]].concat()
}

impl Store {
    fn derived_path(&self, name: &str) -> PathBuf {
        self.core.ledger.dir.with_file_name(FOLDER).join(name)
    }

    /// Keeps what was derived from the frames up to `sequence`, in the pieces that `next` gives, in
    /// place of what was kept before. What is newer in it does no harm if it is brought up to date
    /// from there. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::TooLarge`] for a piece; [`StoreError::Conflict`] if the keys
    /// changed meanwhile: a purge may want to see it gone. What was kept before stays then.
    pub fn keep_derived(
        &self,
        what: &Derived,
        sequence: Sequence,
        next: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        core.room.check()?;
        let generation = core.keys.generation();
        let frame = self.read_frames(sequence).next().transpose()?;
        let frame = frame.filter(|frame| frame.sequence == sequence);
        let frame = frame.ok_or(StoreError::Missing("the frame that is derived from"))?;
        let secret = new_secret(core.random.as_ref())?;
        let (epoch, wrapped) = core.keys.wrap_index_key(&secret, core.random.as_ref())?;
        let header = Header {
            making: what.making,
            sequence,
            hash: frame.hash,
            place: frame.place,
            epoch,
            wrapped,
        };
        let header = header.encode(&core.keys.store_id());
        let (disk, path) = (core.ledger.disk.as_ref(), self.derived_path(what.name));
        let folder = path.parent().unwrap_or(&path);
        disk.create_dir_all(folder)
            .during("making the folder of what is derived")?;
        let temporary = path.with_extension("tmp");
        remove(disk.remove(&temporary))?;
        let file = disk.create(&temporary);
        let file = file.during("making a file of what is derived")?;
        let key = SealKey::new(&secret)?;
        write(file.as_ref(), &header, &key, next)?;
        let _one_at_a_time = core.live.deriving();
        if core.keys.generation() != generation {
            remove(disk.remove(&temporary))?;
            return Err(StoreError::Conflict);
        }
        let renamed = disk.rename(&temporary, &path);
        let renamed = renamed.and_then(|()| disk.fsync_dir(folder));
        renamed.during("putting what is derived into its place")
    }

    /// What was kept, if it is of this store, of this making, and of the history that the ledger has.
    /// Its pieces are verified as they are taken.
    ///
    /// # Errors
    /// [`NotKept`]: it is to be made anew.
    pub fn derived(&self, what: &Derived) -> Result<Kept, NotKept> {
        let core = &self.core;
        let unreadable = |_| NotKept("it cannot be read");
        let opened = core.ledger.disk.open_read(&self.derived_path(what.name));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NotKept("there is none"));
            }
            opened => opened.map_err(unreadable)?,
        };
        let mut bytes = vec![0; HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0).map_err(unreadable)?;
        bytes.truncate(read);
        let header = Header::decode(&bytes, &core.keys.store_id())?;
        if header.making != what.making {
            return Err(NotKept("it was made in another way"));
        }
        if header.sequence > self.last_sequence() {
            return Err(NotKept("it is ahead of the ledger"));
        }
        let frame = self.lookup().frame(header.sequence, header.place);
        if !frame.is_ok_and(|frame| frame.hash == header.hash) {
            return Err(NotKept("the ledger has another past"));
        }
        let secret = core.keys.unwrap_index_key(header.epoch, &header.wrapped);
        let secret = secret.ok().flatten().ok_or(NotKept("its key is gone"))?;
        Ok(Kept {
            sequence: header.sequence,
            file,
            header: bytes,
            key: SealKey::new(&secret).map_err(|_| NotKept("its key is gone"))?,
            next: Mutex::new(Next {
                offset: HEADER_BYTES as u64,
                number: 0,
                ended: false,
            }),
        })
    }

    /// Deletes all that is kept.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn forget_derived(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.core.live.deriving();
        let disk = self.core.ledger.disk.as_ref();
        let folder = self.core.ledger.dir.with_file_name(FOLDER);
        let names = match disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.during("looking for what is derived")?,
        };
        for name in names {
            remove(disk.remove(&folder.join(name)))?;
        }
        disk.fsync_dir(&folder).during("deleting what is derived")
    }
}

/// A file that is not there is removed.
fn remove(removed: io::Result<()>) -> Result<(), StoreError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).during("deleting what is derived")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(
    file: &dyn DiskFile,
    header: &[u8],
    key: &SealKey,
    next: &mut dyn FnMut() -> Option<Vec<u8>>,
) -> Result<(), StoreError> {
    let doing = "writing what is derived";
    file.write_at(header, 0).during(doing)?;
    let mut offset = header.len() as u64;
    for number in 0.. {
        let piece = next();
        let last = piece.is_none();
        let piece = piece.unwrap_or_default();
        if piece.len() > MAX_PIECE {
            return Err(StoreError::TooLarge {
                what: "piece of what is derived",
                size: piece.len() as u64,
                limit: MAX_PIECE as u64,
            });
        }
        let mut bytes = vec![0; 4];
        bytes.push(u8::from(last));
        let head = bytes.len();
        bytes.extend_from_slice(&piece);
        let associated = associated(header, number, last);
        key.seal_tail(counter_nonce(number, 0), &associated, &mut bytes, head)?;
        let length = u32::try_from(bytes.len() - head).unwrap_or(u32::MAX);
        if let Some(place) = bytes.first_chunk_mut() {
            *place = length.to_be_bytes();
        }
        file.write_at(&bytes, offset).during(doing)?;
        offset += bytes.len() as u64;
        if last {
            break;
        }
    }
    file.fdatasync().during(doing)
}

impl Kept {
    /// The next piece; `None` once the last was taken.
    ///
    /// # Errors
    /// [`NotKept`] if it does not verify or is cut off: nothing of it is to be believed.
    pub fn next(&self) -> Result<Option<Vec<u8>>, NotKept> {
        let (mut piece, number, last) = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if next.ended {
                return Ok(None);
            }
            // Whatever goes wrong with it, nobody asks for the piece behind.
            next.ended = true;
            let mut head = [0; 5];
            self.fill(&mut head, next.offset)?;
            let [a, b, c, d, last] = head;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d]));
            let length = length.ok().filter(|length| *length <= MAX_PIECE + 16);
            let mut piece = vec![0; length.ok_or(NotKept("it is damaged"))?];
            self.fill(&mut piece, next.offset + PIECE_HEAD_BYTES)?;
            let number = next.number;
            next.offset += PIECE_HEAD_BYTES + piece.len() as u64;
            next.number += 1;
            let last = match last {
                0 => false,
                1 => true,
                _ => return Err(NotKept("it is damaged")),
            };
            next.ended = last;
            (piece, number, last)
        };
        let associated = associated(&self.header, number, last);
        let opened = self
            .key
            .open(counter_nonce(number, 0), &associated, &mut piece);
        opened.ok_or(NotKept("it is damaged"))?;
        Ok((!last).then_some(piece))
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), NotKept> {
        match self.file.read_at(buffer, offset) {
            Ok(read) if read == buffer.len() => Ok(()),
            Ok(_) => Err(NotKept("it is cut off")),
            Err(_) => Err(NotKept("it cannot be read")),
        }
    }
}
