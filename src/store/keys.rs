//! The keys of a store: root → epoch → one key for each use, all by HKDF-SHA256.
//!
//! The root key is a file of its own. `store.meta` beside the ledger holds a check value, so that
//! a wrong root key is noticed before anything is written. Both are written once, by temporary
//! file and rename. Tag and name keys hang on the root and not on an epoch: they are in the keys
//! of rows and in file names, which outlive epochs.

use std::fmt::{self, Debug};
use std::io;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom as AwsRandom};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::crypto::{self, SealKey, Secret, derive, keyed_hash, to_array};
use super::disk::{Disk, exists, read_small, write_small};
use super::error::{IoContext as _, StoreError};
use crate::types::PatientIdentifier;

const META_FILE: &str = "store.meta";
const META_MAGIC: &[u8; 8] = b"RENKEIST";
const META_VERSION: u16 = 1;
const META_BYTES: usize = 66;

/// A source of randomness for keys, nonces and file names.
pub trait Random: Debug + Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`StoreError::Crypto`] if the source fails.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), StoreError>;
}

/// The cryptographic library's generator.
#[derive(Clone, Debug, Default)]
pub struct SystemRandom(AwsRandom);

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.0
            .fill(bytes)
            .map_err(|_| StoreError::Crypto("random source"))
    }
}

/// A keyed hash of an identifier: equal for equal identifiers of one domain in one store,
/// meaningless without the store's key. May stand in keys, logs and file names (INV-8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    /// A tag read back from a row.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A tag read back from a row; `None` unless there are 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, to be stored in a row or a key.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// The keys of an open store.
pub struct Keys {
    root: Secret,
    store_id: [u8; 16],
    epoch: u32,
    created: bool,
    tags: hmac::Key,
    blob_names: hmac::Key,
}

impl Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Keys(store {}, epoch {})",
            HEXLOWER.encode(&self.store_id),
            self.epoch
        )
    }
}

impl Keys {
    /// Opens the keys of the store in `dir` with the root key `dir/root.key`; makes both if the
    /// store is new.
    ///
    /// # Errors
    /// As [`Keys::open_or_create_with`].
    pub fn open_or_create(
        dir: &Path,
        disk: &dyn Disk,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        Self::open_or_create_with(dir, &dir.join("root.key"), disk, random)
    }

    /// Opens the keys of the store in `dir` with the root key in `key_file` (32 bytes, owner
    /// only); makes both if the store is new. An existing store is never given a new key.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the store exists but its root key or its meta file does not,
    /// [`StoreError::WrongKey`], [`StoreError::KeyExposed`], [`StoreError::Corrupt`],
    /// [`StoreError::Format`] or [`StoreError::Io`]. Nothing is overwritten.
    pub fn open_or_create_with(
        dir: &Path,
        key_file: &Path,
        disk: &dyn Disk,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let meta_file = dir.join(META_FILE);
        let known = exists(disk, &meta_file).during("looking for the store's meta file")?;
        let root = match read_root(key_file, disk)? {
            Some(root) => root,
            None if known || has_data(dir, disk)? => return Err(StoreError::Missing("root key")),
            None => make_root(key_file, disk, random)?,
        };
        if known {
            let bytes =
                read_small(disk, &meta_file, 4096).during("reading the store's meta file")?;
            let (store_id, epoch) = read_meta(&bytes, &root)?;
            return Self::derive_all(root, store_id, epoch, false);
        }
        if has_data(dir, disk)? {
            return Err(StoreError::Missing("store.meta"));
        }
        let mut store_id = [0; 16];
        random.fill(&mut store_id)?;
        let meta = write_meta(&root, store_id, 1)?;
        write_small(disk, &meta_file, &meta).during("writing the store's meta file")?;
        Self::derive_all(root, store_id, 1, true)
    }

    fn derive_all(
        root: Secret,
        store_id: [u8; 16],
        epoch: u32,
        created: bool,
    ) -> Result<Self, StoreError> {
        let branch = |name: &[u8]| -> Result<hmac::Key, StoreError> {
            let secret = derive(root.as_ref(), &store_id, &[b"renkei 1 branch ", name])?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
        };
        let tags = branch(b"index tags")?;
        let blob_names = branch(b"blob names")?;
        Ok(Self {
            root,
            store_id,
            epoch,
            created,
            tags,
            blob_names,
        })
    }

    /// The keyed hash of `bytes` within `domain` (which kind of identifier it is), for row keys.
    pub fn tag(&self, domain: &str, bytes: &[u8]) -> Tag {
        Tag(to_array(&keyed_hash(
            &self.tags,
            &[domain.as_bytes(), bytes],
        )))
    }

    /// The keyed hash under which a patient identifier is known in this node's rows and audit.
    pub fn patient_tag(&self, patient: &PatientIdentifier) -> [u8; 16] {
        self.tag("patient", patient.to_cx().as_bytes()).0
    }

    /// The current key epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The random identity of the store, given to it when it was made.
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Whether the keys, and so the store, were made by this call.
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// The keyed hash that names a document by its content.
    pub(crate) fn blob_name(&self, content_sha256: &[u8; 32]) -> [u8; 32] {
        keyed_hash(&self.blob_names, &[content_sha256])
    }

    /// The key of one ledger segment.
    pub(crate) fn segment_key(&self, epoch: u32, id: &[u8; 16]) -> Result<SealKey, StoreError> {
        SealKey::new(&*derive(
            self.kek(epoch)?.as_ref(),
            id,
            &[b"renkei 1 ledger segment"],
        )?)
    }

    /// The key of one making of the index.
    pub(crate) fn index_key(&self, epoch: u32, id: &[u8; 16]) -> Result<SealKey, StoreError> {
        SealKey::new(&*derive(
            self.kek(epoch)?.as_ref(),
            id,
            &[b"renkei 1 index values"],
        )?)
    }

    /// The key that wraps the key of one blob file.
    pub(crate) fn wrap_key(&self, epoch: u32, file: &[u8; 16]) -> Result<SealKey, StoreError> {
        SealKey::new(&*derive(
            self.kek(epoch)?.as_ref(),
            file,
            &[b"renkei 1 blob wrap"],
        )?)
    }

    fn kek(&self, epoch: u32) -> Result<Secret, StoreError> {
        derive(
            self.root.as_ref(),
            &self.store_id,
            &[b"renkei 1 epoch ", &epoch.to_be_bytes()],
        )
    }
}

/// Whether the folder holds anything that was encrypted.
fn has_data(dir: &Path, disk: &dyn Disk) -> Result<bool, StoreError> {
    for folder in ["ledger", "blobs"] {
        match disk.list(&dir.join(folder)) {
            Ok(names) if names.iter().any(|name| name != "tmp") => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).during("listing the store"),
        }
    }
    Ok(false)
}

fn read_root(path: &Path, disk: &dyn Disk) -> Result<Option<Secret>, StoreError> {
    let mode = match disk.mode(path) {
        Ok(mode) => mode,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).during("looking for the root key"),
    };
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyExposed { mode });
    }
    let bytes = Zeroizing::new(read_small(disk, path, 4096).during("reading the root key")?);
    let root: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| StoreError::corrupt("root key", 0, "is not 32 bytes"))?;
    Ok(Some(Zeroizing::new(root)))
}

fn make_root(path: &Path, disk: &dyn Disk, random: &dyn Random) -> Result<Secret, StoreError> {
    let mut root = Zeroizing::new([0; 32]);
    random.fill(root.as_mut())?;
    write_small(disk, path, root.as_ref()).during("writing the root key")?;
    Ok(root)
}

/// magic 8 · version 2 · epoch 4 · store id 16 · check value 32 · CRC-32 4, big-endian.
fn write_meta(root: &Secret, store_id: [u8; 16], epoch: u32) -> Result<Vec<u8>, StoreError> {
    let mut meta = Vec::with_capacity(META_BYTES);
    meta.extend_from_slice(META_MAGIC);
    meta.extend_from_slice(&META_VERSION.to_be_bytes());
    meta.extend_from_slice(&epoch.to_be_bytes());
    meta.extend_from_slice(&store_id);
    meta.extend_from_slice(check_value(root, &store_id)?.as_ref());
    meta.extend_from_slice(&crc32fast::hash(&meta).to_be_bytes());
    Ok(meta)
}

fn read_meta(bytes: &[u8], root: &Secret) -> Result<([u8; 16], u32), StoreError> {
    let fault = |what| StoreError::corrupt(META_FILE, 0, what);
    let field = |from: usize, to: usize| bytes.get(from..to).ok_or(fault("too short"));
    if field(0, 8)? != META_MAGIC {
        return Err(fault("is not a store's meta file"));
    }
    let version = u16::from_be_bytes(to_array(field(8, 10)?));
    if version != META_VERSION {
        let what = "store meta";
        return Err(StoreError::Format {
            what,
            found: version,
            supported: META_VERSION,
        });
    }
    let crc = u32::from_be_bytes(to_array(field(62, 66)?));
    if bytes.len() != META_BYTES || crc32fast::hash(field(0, 62)?) != crc {
        return Err(fault("checksum does not match"));
    }
    let epoch = u32::from_be_bytes(to_array(field(10, 14)?));
    let store_id = to_array(field(14, 30)?);
    verify_slices_are_equal(field(30, 62)?, check_value(root, &store_id)?.as_ref())
        .map_err(|_| StoreError::WrongKey)?;
    Ok((store_id, epoch))
}

fn check_value(root: &Secret, store_id: &[u8; 16]) -> Result<Secret, StoreError> {
    crypto::derive(root.as_ref(), store_id, &[b"renkei 1 key check value"])
}
