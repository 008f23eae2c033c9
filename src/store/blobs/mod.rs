//! Encrypted documents, each a file named by the keyed hash of its content.
//!
//! A file is a header and segments of 64 KiB, each sealed with AES-256-GCM under a key made for
//! this file alone, which the header holds wrapped under the patient's key; [`format`] has the
//! bytes. So a document is unreadable as soon as its patient's key is destroyed.
//!
//! A document becomes visible by `fdatasync` of a temporary file, rename, and `fsync` of the
//! folder; [`BlobWriter::finish`] returns after all three (INV-1). All calls block.

mod format;
mod hold;
pub(crate) mod mend;
mod quarantine;
mod reader;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::crypto::to_array;
use super::disk::Disk;
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::keys::{Keys, Random, SubjectKey};
use super::options::Options;
use super::room::Room;
use crate::clock::Clock;
use crate::planted::planted;
pub(crate) use hold::Hold;
use hold::Holds;
pub use quarantine::{Quarantined, Why};
pub use reader::BlobReader;
pub use writer::{BlobWriter, ClosedBlob, KeptBlob};

/// The name of a document: a keyed hash of its content and its patient, equal for equal content of
/// one patient in one store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// An id read back from a row.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// An id read back from a row; `None` unless there are 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, to be stored in a row.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What is known of a document once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub id: BlobId,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// SHA-1 of the content, as IHE document metadata carries it.
    pub sha1: [u8; 20],
}

/// The documents of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    keys: Arc<Keys>,
    random: Arc<dyn Random>,
    health: Health,
    room: Arc<Room>,
    folders: Arc<Folders>,
    holds: Holds,
    second: Option<Arc<Blobs>>,
    /// One document at a time is mended.
    mending: Arc<Mutex<()>>,
}

/// What documents are written with.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) health: Health,
    pub(crate) room: Arc<Room>,
}

impl Medium {
    /// As a store is opened with these options.
    pub(crate) fn of(options: &Options, keys: Arc<Keys>, health: Health) -> Self {
        Self {
            disk: Arc::clone(&options.disk),
            clock: Arc::clone(&options.clock),
            keys,
            random: Arc::clone(&options.random),
            health,
            room: Arc::new(Room::unlimited(&options.disk, &options.clock)),
        }
    }

    /// As long as there is room.
    pub(crate) fn within(self, room: &Arc<Room>) -> Self {
        Self {
            room: Arc::clone(room),
            ..self
        }
    }
}

/// The folders documents are in, by the first byte of their names: whether each is known to be
/// durable. Names in one folder change one at a time, so that after a failed sync no later sync of
/// the same folder is taken for a proof.
type Folders = Mutex<BTreeMap<u8, Arc<Mutex<bool>>>>;

impl Blobs {
    /// The documents in `dir`, which is left as it is.
    pub(crate) fn at(dir: PathBuf, medium: Medium) -> Self {
        let Medium {
            disk,
            clock,
            keys,
            random,
            health,
            room,
        } = medium;
        Self {
            dir,
            disk,
            clock,
            keys,
            random,
            health,
            room,
            folders: Arc::default(),
            holds: Holds::default(),
            second: None,
            mending: Arc::default(),
        }
    }

    /// Opens the folder and that of the second copies, making them if needed, and removes
    /// unfinished documents. Returns how many there were.
    pub(crate) fn open(
        dir: PathBuf,
        second: Option<PathBuf>,
        medium: Medium,
    ) -> Result<(Self, u64), StoreError> {
        let (second, mut removed) = match second {
            Some(dir) => {
                let (second, removed) = Self::open(dir, None, medium.clone())?;
                (Some(Arc::new(second)), removed)
            }
            None => (None, 0),
        };
        let disk = medium.disk.as_ref();
        let temporary = dir.join("tmp");
        disk.create_dir_all(&temporary)
            .during("making the blob folder")?;
        for name in disk.list(&temporary).during("listing unfinished blobs")? {
            disk.remove(&temporary.join(name))
                .during("removing an unfinished blob")?;
            removed += 1;
        }
        let blobs = Self {
            second,
            ..Self::at(dir, medium)
        };
        Ok((blobs, removed))
    }

    /// Starts a document of a patient. Until it is kept, it leaves nothing behind when dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Crypto`].
    pub fn writer(&self, patient: &SubjectKey) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self, patient)
    }

    /// Opens a document for reading from its start. One that is damaged or gone is mended from its
    /// second copy first.
    ///
    /// # Errors
    /// [`StoreError::BlobNotFound`], [`StoreError::KeyDestroyed`], [`StoreError::Format`] or
    /// [`StoreError::Io`]; [`StoreError::Corrupt`], also if it is in quarantine because it did not
    /// verify.
    pub fn reader(&self, id: &BlobId) -> Result<BlobReader, StoreError> {
        self.reader_of_any_copy(id)
    }

    /// Makes sure that a document of this name is there and that its patient's key is. Its content is
    /// not read, nor is a second copy looked for: the committing thread asks this.
    ///
    /// # Errors
    /// As [`Blobs::reader`].
    pub(crate) fn confirm(&self, id: &BlobId) -> Result<(), StoreError> {
        BlobReader::open(self, id).map(|_| ())
    }

    /// Whether a document of this name is there (its content is not verified).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn contains(&self, id: &BlobId) -> Result<bool, StoreError> {
        super::disk::exists(self.disk.as_ref(), &self.path(id)).during("looking for a blob")
    }

    /// Removes a document for good; `false` if there was none. Nothing may refer to it any more.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Poisoned`] if the store had stopped, or does so now.
    pub fn remove(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.path(id);
        let folder = self.folder(id);
        let _alone = folder.lock().unwrap_or_else(PoisonError::into_inner);
        match self.disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).during("removing a blob"),
        }
        let folder = path.parent().unwrap_or(&self.dir);
        self.health.synced(self.disk.fsync_dir(folder))?;
        Ok(true)
    }

    /// The names of all documents, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<BTreeSet<BlobId>, StoreError> {
        let mut ids = BTreeSet::new();
        for folder in 0..=u8::MAX {
            ids.extend(self.list_folder(folder)?);
        }
        Ok(ids)
    }

    /// The names of the documents that begin with this byte, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list_folder(&self, folder: u8) -> Result<BTreeSet<BlobId>, StoreError> {
        list_folder(self.disk.as_ref(), &self.dir, folder)
    }

    /// Reads a whole document and verifies every byte of it. Nothing is mended.
    ///
    /// # Errors
    /// As [`Blobs::reader`] and [`BlobReader::next_chunk`].
    pub fn verify(&self, id: &BlobId) -> Result<u64, StoreError> {
        let mut reader = BlobReader::open(self, id)?.unmended();
        let mut hash = digest::Context::new(&digest::SHA256);
        while let Some(chunk) = reader.next_chunk()? {
            hash.update(&chunk);
        }
        let sha256 = to_array(hash.finish().as_ref());
        if self.keys.blob_name(reader.subject().as_ref(), &sha256) != id.0 {
            return Err(StoreError::corrupt(
                reader.place,
                0,
                "the content is not what it is named",
            ));
        }
        Ok(reader.size())
    }

    /// Gives a finished file its name, durably.
    fn place(&self, temporary: &Path, id: &BlobId) -> Result<(), StoreError> {
        let target = self.path(id);
        let folder = target.parent().unwrap_or(&self.dir);
        let durable = self.folder(id);
        let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
        self.health.check()?;
        if !*durable {
            // It may be there and still not last: a process may have died before this sync.
            match self.disk.create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).during("making a blob folder");
                }
                Ok(()) | Err(_) => {}
            }
            if !planted("new folder of documents not synced") {
                self.health.synced(self.disk.fsync_dir(&self.dir))?;
            }
            *durable = true;
        }
        self.disk
            .rename(temporary, &target)
            .during("naming a blob")?;
        if planted("folder of a document not synced") {
            return Ok(());
        }
        self.health.synced(self.disk.fsync_dir(folder))
    }

    /// The folder of a document, for one change of a name.
    fn folder(&self, id: &BlobId) -> Arc<Mutex<bool>> {
        let [first, ..] = id.0;
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(folders.entry(first).or_default())
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        path_in(&self.dir, id)
    }
}

/// Where a document is in a folder of documents.
pub(crate) fn path_in(dir: &Path, id: &BlobId) -> PathBuf {
    let name = HEXLOWER.encode(&id.0);
    let (folder, file) = name.split_at_checked(2).unwrap_or((&name, ""));
    dir.join(folder).join(file)
}

/// The names of the documents in a folder of documents that begin with this byte.
pub(crate) fn list_folder(
    disk: &dyn Disk,
    dir: &Path,
    folder: u8,
) -> Result<BTreeSet<BlobId>, StoreError> {
    let folder = HEXLOWER.encode(&[folder]);
    let names = match disk.list(&dir.join(&folder)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).during("listing blobs"),
    };
    let ids = names.iter().filter_map(|name| {
        let id = HEXLOWER.decode(format!("{folder}{name}").as_bytes());
        BlobId::from_slice(&id.ok()?)
    });
    Ok(ids.collect())
}
