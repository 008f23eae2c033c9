//! Encrypted documents, each a file named by the keyed hash of its content.
//!
//! A file is a header and segments of 64 KiB, each sealed with AES-256-GCM under a key made for
//! this file alone, which the header holds wrapped under the patient's key; [`format`] has the
//! bytes. So a document is unreadable as soon as its patient's key is destroyed.
//!
//! A document becomes visible by `fdatasync` of a temporary file, rename, and `fsync` of the
//! folder; [`BlobWriter::finish`] returns after all three (INV-1). All calls block.

mod format;
mod reader;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::crypto::to_array;
use super::disk::Disk;
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::keys::{Keys, Random, SubjectKey};
pub use reader::BlobReader;
pub use writer::{BlobWriter, ClosedBlob};

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
    keys: Arc<Keys>,
    random: Arc<dyn Random>,
    health: Health,
    folders: Arc<Folders>,
}

/// The folders documents are in, by the first byte of their names: whether each is known to be
/// durable. Names in one folder change one at a time, so that after a failed sync no later sync of
/// the same folder is taken for a proof.
type Folders = Mutex<BTreeMap<u8, Arc<Mutex<bool>>>>;

impl Blobs {
    /// Opens the folder, making it if needed, and removes unfinished documents. Returns how many
    /// there were.
    pub(crate) fn open(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        keys: Arc<Keys>,
        random: Arc<dyn Random>,
        health: Health,
    ) -> Result<(Self, u64), StoreError> {
        let temporary = dir.join("tmp");
        disk.create_dir_all(&temporary)
            .during("making the blob folder")?;
        let mut removed = 0;
        for name in disk.list(&temporary).during("listing unfinished blobs")? {
            disk.remove(&temporary.join(name))
                .during("removing an unfinished blob")?;
            removed += 1;
        }
        Ok((
            Self {
                dir,
                disk,
                keys,
                random,
                health,
                folders: Arc::default(),
            },
            removed,
        ))
    }

    /// Starts a document of a patient. Until it is kept, it leaves nothing behind when dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Crypto`].
    pub fn writer(&self, patient: &SubjectKey) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self, patient)
    }

    /// Opens a document for reading from its start.
    ///
    /// # Errors
    /// [`StoreError::BlobNotFound`], [`StoreError::KeyDestroyed`], [`StoreError::Corrupt`],
    /// [`StoreError::Format`] or [`StoreError::Io`].
    pub fn reader(&self, id: &BlobId) -> Result<BlobReader, StoreError> {
        BlobReader::open(self, id)
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
        for folder in self.disk.list(&self.dir).during("listing blobs")? {
            if folder == "tmp" {
                continue;
            }
            for name in self
                .disk
                .list(&self.dir.join(&folder))
                .during("listing blobs")?
            {
                let id = HEXLOWER.decode(format!("{folder}{name}").as_bytes());
                ids.extend(id.ok().and_then(|id| id.try_into().ok()).map(BlobId));
            }
        }
        Ok(ids)
    }

    /// Reads a whole document and verifies every byte of it.
    ///
    /// # Errors
    /// As [`Blobs::reader`] and [`BlobReader::next_chunk`].
    pub fn verify(&self, id: &BlobId) -> Result<u64, StoreError> {
        let mut reader = self.reader(id)?;
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

    /// The folder of a document, for one change of a name.
    fn folder(&self, id: &BlobId) -> Arc<Mutex<bool>> {
        let [first, ..] = id.0;
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(folders.entry(first).or_default())
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        let name = HEXLOWER.encode(&id.0);
        let (folder, file) = name.split_at_checked(2).unwrap_or((&name, ""));
        self.dir.join(folder).join(file)
    }
}
