//! The files beside the ledger that make reading the audit quick: the tree's hashes, where each frame
//! lies, and links from each event to the one before it of the same patient and of the same
//! institution. All are derived: they can be deleted, and are made again from the ledger (INV-9).
//!
//! | file | record | what |
//! |---|---|---|
//! | `tree-0` … `tree-4` | 32 octets | level 0, 8, … of the tree |
//! | `places` | 12 octets | segment 4, offset 8, of each frame |
//! | `links` | 40 octets | one for each audit record; see [`Link`] |
//! | `heads` | – | the patients and institutions up to a frame; see [`Snapshot`] |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Reason, Result};
use crate::store::disk::{Disk, DiskFile, read_small, write_small};
use crate::store::{Keys, Place};

use super::map::Head;
use super::merkle::{Hash, Hashes};

/// Kept levels: enough for 256^5 frames.
const LEVELS: usize = 5;
/// Octets of a snapshot at most: 4 GiB, about 50 million patients.
const MAX_SNAPSHOT: usize = 4 << 30;
const SNAPSHOT_MAGIC: &[u8; 8] = b"RKAUDH01";

pub(super) fn io_failed(error: io::Error) -> Error {
    Error::new(Reason::StoreUnavailable, "the audit index cannot be used").caused_by(error)
}

/// What is read is not what was written: the files are to be made again.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::new(Reason::IntegrityFailure, "the audit index is damaged").caused_by(what)
}

/// A file of records of one width.
#[derive(Debug)]
pub(super) struct Flat<const N: usize> {
    file: Arc<dyn DiskFile>,
    /// Records written.
    count: u64,
    buffer: Vec<u8>,
}

impl<const N: usize> Flat<N> {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path),
            opened => opened,
        };
        Ok(Self {
            file: file.map_err(io_failed)?,
            count: 0,
            buffer: Vec::new(),
        })
    }

    /// Adds a record; it can be read after [`Flat::flush`].
    pub(super) fn push(&mut self, record: &[u8; N]) {
        self.buffer.extend_from_slice(record);
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let at = self.count * N as u64;
        self.file.write_at(&self.buffer, at).map_err(io_failed)?;
        self.count += (self.buffer.len() / N) as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.fdatasync().map_err(io_failed)
    }

    /// Forgets all records from `count` on.
    fn cut(&mut self, count: u64) {
        self.count = count;
        self.buffer.clear();
    }

    fn reader(&self) -> FlatReader<N> {
        FlatReader(Arc::clone(&self.file))
    }
}

/// Reads records that were flushed.
#[derive(Clone, Debug)]
pub(super) struct FlatReader<const N: usize>(Arc<dyn DiskFile>);

impl<const N: usize> FlatReader<N> {
    pub(super) fn read(&self, start: u64, count: usize) -> Result<Vec<[u8; N]>> {
        let mut bytes = vec![0; count * N];
        let read = self.0.read_at(&mut bytes, start * N as u64);
        if read.map_err(io_failed)? != bytes.len() {
            return Err(damaged("records are missing"));
        }
        Ok(bytes.as_chunks().0.to_vec())
    }

    pub(super) fn one(&self, at: u64) -> Result<[u8; N]> {
        let records = self.read(at, 1)?;
        records
            .first()
            .copied()
            .ok_or_else(|| damaged("a record is missing"))
    }
}

/// One audit record, and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The leaf it is in.
    pub(super) index: u64,
    /// Its number among the events of the patient, from 1; 0 if it is about none.
    pub(super) number: u64,
    /// The link of the patient's event before, plus one; 0 if there is none.
    pub(super) patient_before: u64,
    /// As that, for the institution.
    pub(super) institution_before: u64,
    /// Its place in the leaf.
    pub(super) place: u32,
}

impl Link {
    pub(super) const BYTES: usize = 40;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let numbers = [
            self.index,
            self.number,
            self.patient_before,
            self.institution_before,
            u64::from(self.place),
        ];
        let mut bytes = [0; Self::BYTES];
        for (part, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let mut numbers = bytes
            .as_chunks()
            .0
            .iter()
            .map(|part| u64::from_be_bytes(*part));
        let mut next = || numbers.next().unwrap_or_default();
        Self {
            index: next(),
            number: next(),
            patient_before: next(),
            institution_before: next(),
            place: u32::try_from(next()).unwrap_or(u32::MAX),
        }
    }
}

fn encode_place(place: Place) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (segment, offset) = bytes.split_at_mut(4);
    segment.copy_from_slice(
        &u32::try_from(place.segment)
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    offset.copy_from_slice(&place.offset.to_be_bytes());
    bytes
}

fn decode_place(bytes: &[u8; 12]) -> Place {
    let [a, b, c, d, offset @ ..] = *bytes;
    Place {
        segment: u64::from(u32::from_be_bytes([a, b, c, d])),
        offset: u64::from_be_bytes(offset),
    }
}

/// The files, to be written.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(super) tree: Vec<Flat<32>>,
    places: Flat<12>,
    pub(super) links: Flat<{ Link::BYTES }>,
}

/// The files, to be read beside a writer.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    tree: Vec<FlatReader<32>>,
    places: FlatReader<12>,
    links: FlatReader<{ Link::BYTES }>,
}

impl Files {
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        disk.create_dir_all(dir).map_err(io_failed)?;
        let levels = 0..LEVELS;
        let level = |level| Flat::open(disk.as_ref(), &dir.join(format!("tree-{level}")));
        Ok(Self {
            tree: levels.map(level).collect::<Result<_>>()?,
            places: Flat::open(disk.as_ref(), &dir.join("places"))?,
            links: Flat::open(disk.as_ref(), &dir.join("links"))?,
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
        })
    }

    pub(super) fn readers(&self) -> Readers {
        Readers {
            tree: self.tree.iter().map(Flat::reader).collect(),
            places: self.places.reader(),
            links: self.links.reader(),
        }
    }

    /// Goes on behind so many frames and links.
    pub(super) fn cut(&mut self, frames: u64, links: u64) {
        for (level, shift) in self.tree.iter_mut().zip((0_u32..).step_by(8)) {
            level.cut(frames >> shift);
        }
        self.places.cut(frames);
        self.links.cut(links);
    }

    pub(super) fn place(&mut self, place: Place) {
        self.places.push(&encode_place(place));
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.tree.iter_mut().try_for_each(Flat::flush)?;
        self.places.flush()?;
        self.links.flush()
    }

    /// Keeps a snapshot: what it builds on is durable before it is.
    pub(super) fn keep(&mut self, snapshot: &Snapshot<'_>, keys: &Keys) -> Result<()> {
        self.tree.iter_mut().try_for_each(Flat::sync)?;
        self.places.sync()?;
        self.links.sync()?;
        let mut bytes = snapshot.encode();
        bytes.extend_from_slice(keys.tag("audit-heads", &bytes).as_bytes());
        write_small(self.disk.as_ref(), &self.dir.join("heads"), &bytes).map_err(io_failed)
    }

    /// The snapshot kept last, if there is one and it is whole.
    pub(super) fn kept(&self, keys: &Keys) -> Option<Kept> {
        let path = self.dir.join("heads");
        let bytes = read_small(self.disk.as_ref(), &path, MAX_SNAPSHOT).ok()?;
        let (body, mac) = bytes.split_last_chunk::<16>()?;
        let right = keys.tag("audit-heads", body).as_bytes() == mac;
        right.then(|| Kept::decode(body)).flatten()
    }
}

impl Readers {
    /// The files of a log that nobody writes, as they are.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let open = |name: &str| disk.open_read(&dir.join(name)).map_err(io_failed);
        let level = |level| open(&format!("tree-{level}")).map(FlatReader);
        Ok(Self {
            tree: (0..LEVELS).map(level).collect::<Result<_>>()?,
            places: FlatReader(open("places")?),
            links: FlatReader(open("links")?),
        })
    }

    pub(super) fn place(&self, index: u64) -> Result<Place> {
        self.places.one(index).map(|bytes| decode_place(&bytes))
    }

    pub(super) fn link(&self, at: u64) -> Result<Link> {
        self.links.one(at).map(|bytes| Link::decode(&bytes))
    }
}

impl Hashes for Readers {
    fn read(&self, level: u32, start: u64, count: usize) -> Result<Vec<Hash>> {
        let level = self.tree.get(level as usize);
        level
            .ok_or_else(|| damaged("no such level"))?
            .read(start, count)
    }
}

/// The state behind a frame, as it is kept: magic 8 · frames 8 · links 8 · hash of the last frame 32 ·
/// root 32 · institutions 8, each key 16 and link 8 · patients 8, each leaf of the map 64 and link 8 ·
/// keyed hash 16.
pub(super) struct Snapshot<'a> {
    pub(super) size: u64,
    pub(super) links: u64,
    pub(super) last_hash: Hash,
    pub(super) root: Hash,
    pub(super) institutions: Vec<([u8; 16], u64)>,
    pub(super) patients: &'a [Head],
}

impl Snapshot<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = SNAPSHOT_MAGIC.to_vec();
        let number = |bytes: &mut Vec<u8>, n: u64| bytes.extend_from_slice(&n.to_be_bytes());
        number(&mut bytes, self.size);
        number(&mut bytes, self.links);
        bytes.extend_from_slice(&self.last_hash);
        bytes.extend_from_slice(&self.root);
        number(&mut bytes, self.institutions.len() as u64);
        for (key, link) in &self.institutions {
            bytes.extend_from_slice(key);
            number(&mut bytes, *link);
        }
        number(&mut bytes, self.patients.len() as u64);
        for head in self.patients {
            bytes.extend_from_slice(&head.encode());
            number(&mut bytes, head.link);
        }
        bytes
    }
}

/// A snapshot read back.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) size: u64,
    pub(super) links: u64,
    pub(super) last_hash: Hash,
    pub(super) root: Hash,
    pub(super) institutions: Vec<([u8; 16], u64)>,
    pub(super) patients: Vec<Head>,
}

impl Kept {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(SNAPSHOT_MAGIC.as_slice())?;
        let size = take_number(&mut rest)?;
        let links = take_number(&mut rest)?;
        let last_hash = take(&mut rest)?;
        let root = take(&mut rest)?;
        let count = take_number(&mut rest)?;
        let mut institutions = Vec::new();
        for _ in 0..count {
            institutions.push((take(&mut rest)?, take_number(&mut rest)?));
        }
        let count = take_number(&mut rest)?;
        let mut patients = Vec::new();
        for _ in 0..count {
            let leaf: [u8; 64] = take(&mut rest)?;
            let head = Head::decode(&leaf)?;
            let link = take_number(&mut rest)?;
            patients.push(Head { link, ..head });
        }
        rest.is_empty().then_some(Self {
            size,
            links,
            last_hash,
            root,
            institutions,
            patients,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*found)
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}
