//! Encrypted documents, each a file named by the keyed hash of its content.
//!
//! A file is a header and segments of 64 KiB, each sealed with AES-256-GCM under a key made for
//! this file alone. The nonce is the segment's number with a flag on the last one, and the
//! associated data binds file, segment and epoch. The header holds that key, wrapped under the
//! epoch's key with the blob's id and size as associated data: so every segment is bound, through
//! its key, to the content it was written as.
//!
//! A document becomes visible by `fdatasync` of a temporary file, rename, and `fsync` of the
//! folder; [`BlobWriter::finish`] returns after all three (INV-1). All calls block.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::crypto::{self, SealKey, TAG_BYTES, hex, to_array};
use super::disk::{Disk, DiskFile};
use super::error::{IoContext as _, StoreError};
use super::keys::{Keys, Random};

const MAGIC: &[u8; 8] = b"RENKEIBL";
const VERSION: u16 = 1;
/// magic 8 · version 2 · epoch 4 · segment size 4 · file id 16 · blob id 32 · size 8 ·
/// wrapped key 48 · CRC-32 4; then zeros up to [`HEADER_BYTES`].
const FIELDS_BYTES: usize = 126;
const HEADER_BYTES: usize = 128;
/// Where the wrapped key starts; everything before it is its associated data.
const WRAPPED_AT: usize = 74;
/// Plaintext in one segment.
const SEGMENT_BYTES: usize = 64 << 10;
/// The largest document, so that the segment number never wraps.
const MAX_BYTES: u64 = (u32::MAX as u64) * (SEGMENT_BYTES as u64);

/// The name of a document: a keyed hash of its content, equal for equal content in one store.
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
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
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
}

impl Blobs {
    /// Opens the folder, making it if needed, and removes unfinished documents. Returns how many
    /// there were.
    pub(crate) fn open(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        keys: Arc<Keys>,
        random: Arc<dyn Random>,
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
            },
            removed,
        ))
    }

    /// Starts a document. A writer dropped before [`BlobWriter::finish`] leaves nothing behind.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Crypto`].
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let mut file_id = [0; 16];
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        self.random.fill(&mut file_id)?;
        self.random.fill(secret.as_mut())?;
        let path = self.dir.join("tmp").join(hex(&file_id));
        let file = self.disk.create(&path).during("making a blob")?;
        let epoch = self.keys.epoch();
        Ok(BlobWriter {
            key: SealKey::new(&secret)?,
            blobs: self.clone(),
            temporary: Some(path),
            file,
            cipher: SegmentCipher { file_id, epoch },
            secret,
            buffer: Vec::with_capacity(SEGMENT_BYTES + TAG_BYTES),
            sealed: 0,
            size: 0,
            failed: false,
            sha256: digest::Context::new(&digest::SHA256),
            sha1: digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        })
    }

    /// Opens a document for reading from its start.
    ///
    /// # Errors
    /// [`StoreError::BlobNotFound`], [`StoreError::Corrupt`], [`StoreError::Format`] or
    /// [`StoreError::Io`].
    pub fn reader(&self, id: &BlobId) -> Result<BlobReader, StoreError> {
        let file = match self.disk.open(&self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::BlobNotFound);
            }
            Err(error) => return Err(error).during("opening a blob"),
        };
        let place = format!("blobs/{id}");
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(&mut header, 0).during("reading a blob")?;
        if read < HEADER_BYTES {
            return Err(StoreError::corrupt(place, 0, "the header is cut short"));
        }
        let header = Header::parse(&header, id, &self.keys, &place)?;
        let segments = header.size.div_ceil(SEGMENT_BYTES as u64).max(1);
        let expected = HEADER_BYTES as u64 + header.size + segments * TAG_BYTES as u64;
        if file.len().during("reading a blob")? != expected {
            return Err(StoreError::corrupt(
                place,
                0,
                "the file has the wrong length",
            ));
        }
        Ok(BlobReader {
            file,
            place,
            header,
            segments,
            next: 0,
        })
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
    /// [`StoreError::Io`].
    pub fn remove(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.path(id);
        match self.disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).during("removing a blob"),
        }
        self.disk
            .fsync_dir(path.parent().unwrap_or(&self.dir))
            .during("removing a blob")?;
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
                ids.extend(crypto::unhex(&format!("{folder}{name}")).map(BlobId));
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
        if self.keys.blob_name(&to_array(hash.finish().as_ref())) != id.0 {
            return Err(StoreError::corrupt(
                reader.place,
                0,
                "the content is not what it is named",
            ));
        }
        Ok(reader.header.size)
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        let name = hex(&id.0);
        let (folder, file) = name.split_at_checked(2).unwrap_or((&name, ""));
        self.dir.join(folder).join(file)
    }
}

#[derive(Clone, Copy, Debug)]
struct SegmentCipher {
    file_id: [u8; 16],
    epoch: u32,
}

impl SegmentCipher {
    /// Nonce: 7 zero bytes · segment number 4 · last-segment flag 1.
    fn nonce(number: u32, last: bool) -> [u8; 12] {
        crypto::counter_nonce((u64::from(number) << 8) | u64::from(last), 0)
    }

    /// Associated data: file id 16 · epoch 4 · segment number 4.
    fn aad(&self, number: u32) -> [u8; 24] {
        let mut aad = [0; 24];
        let epoch = self.epoch.to_be_bytes();
        let parts = self
            .file_id
            .iter()
            .chain(&epoch)
            .copied()
            .chain(number.to_be_bytes());
        for (to, from) in aad.iter_mut().zip(parts) {
            *to = from;
        }
        aad
    }
}

fn segment_offset(number: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(number) * (SEGMENT_BYTES + TAG_BYTES) as u64
}

#[derive(Debug)]
struct Header {
    cipher: SegmentCipher,
    size: u64,
    key: SealKey,
}

impl Header {
    fn parse(
        bytes: &[u8; HEADER_BYTES],
        id: &BlobId,
        keys: &Keys,
        place: &str,
    ) -> Result<Self, StoreError> {
        let fault = |what| StoreError::corrupt(place, 0, what);
        let field = |from: usize, to: usize| bytes.get(from..to).ok_or(fault("too short"));
        if field(0, 8)? != MAGIC {
            return Err(fault("is not a blob"));
        }
        let crc = u32::from_be_bytes(to_array(field(FIELDS_BYTES - 4, FIELDS_BYTES)?));
        let padding = field(FIELDS_BYTES, HEADER_BYTES)?;
        if crc32fast::hash(field(0, FIELDS_BYTES - 4)?) != crc || padding.iter().any(|b| *b != 0) {
            return Err(fault("the header's checksum does not match"));
        }
        let version = u16::from_be_bytes(to_array(field(8, 10)?));
        let segment_bytes = u32::from_be_bytes(to_array(field(14, 18)?));
        if version != VERSION || segment_bytes as usize != SEGMENT_BYTES {
            return Err(StoreError::Format {
                what: "blob",
                found: version,
                supported: VERSION,
            });
        }
        let epoch = u32::from_be_bytes(to_array(field(10, 14)?));
        let file_id = to_array(field(18, 34)?);
        if field(34, 66)? != id.0 {
            return Err(fault("is another blob"));
        }
        let size = u64::from_be_bytes(to_array(field(66, WRAPPED_AT)?));
        let mut wrapped = field(WRAPPED_AT, FIELDS_BYTES - 4)?.to_vec();
        keys.wrap_key(epoch, &file_id)?
            .open([0; 12], field(0, WRAPPED_AT)?, &mut wrapped)
            .ok_or(fault("the key does not unwrap"))?;
        let secret = zeroize::Zeroizing::new(wrapped);
        let key = SealKey::new(&to_array(&secret))?;
        Ok(Self {
            cipher: SegmentCipher { file_id, epoch },
            size,
            key,
        })
    }
}

/// A document being written.
pub struct BlobWriter {
    blobs: Blobs,
    temporary: Option<PathBuf>,
    file: Arc<dyn DiskFile>,
    key: SealKey,
    secret: crypto::Secret,
    cipher: SegmentCipher,
    buffer: Vec<u8>,
    sealed: u32,
    size: u64,
    failed: bool,
    sha256: digest::Context,
    sha1: digest::Context,
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobWriter({} bytes)", self.size)
    }
}

impl BlobWriter {
    /// Appends bytes; holds at most one segment in memory (INV-7).
    ///
    /// # Errors
    /// [`StoreError::Io`] (the writer is then of no more use), [`StoreError::TooLarge`] or
    /// [`StoreError::Crypto`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > MAX_BYTES {
            return Err(StoreError::TooLarge {
                what: "document",
                size,
                limit: MAX_BYTES,
            });
        }
        self.size = size;
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        while !bytes.is_empty() {
            // A full segment waits for the next byte: only then is it known not to be the last.
            if self.buffer.len() == SEGMENT_BYTES {
                self.seal(false)?;
            }
            let room = SEGMENT_BYTES
                .saturating_sub(self.buffer.len())
                .min(bytes.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Makes the document durable and visible (INV-1). Content that is already there is replaced
    /// by itself, freshly encrypted.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Crypto`]; the document is then not there.
    pub fn finish(mut self) -> Result<BlobInfo, StoreError> {
        self.seal(true)?;
        let sha256: [u8; 32] = to_array(self.sha256.clone().finish().as_ref());
        let sha1 = to_array(self.sha1.clone().finish().as_ref());
        let id = BlobId(self.blobs.keys.blob_name(&sha256));
        let header = self.header(&id)?;
        self.file.write_at(&header, 0).during("writing a blob")?;
        self.file.fdatasync().during("syncing a blob")?;
        let target = self.blobs.path(&id);
        let folder = target.parent().unwrap_or(Path::new("."));
        self.blobs
            .disk
            .create_dir_all(folder)
            .during("making a blob folder")?;
        if let Some(temporary) = &self.temporary {
            self.blobs
                .disk
                .rename(temporary, &target)
                .during("naming a blob")?;
        }
        self.temporary = None;
        self.blobs
            .disk
            .fsync_dir(folder)
            .during("syncing a blob folder")?;
        Ok(BlobInfo {
            id,
            size: self.size,
            sha256,
            sha1,
        })
    }

    fn seal(&mut self, last: bool) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Closed);
        }
        self.failed = true;
        let number = self.sealed;
        self.key.seal(
            SegmentCipher::nonce(number, last),
            &self.cipher.aad(number),
            &mut self.buffer,
        )?;
        self.file
            .write_at(&self.buffer, segment_offset(number))
            .during("writing a blob")?;
        self.buffer.clear();
        self.sealed = number.saturating_add(1);
        self.failed = false;
        Ok(())
    }

    fn header(&self, id: &BlobId) -> Result<Vec<u8>, StoreError> {
        let segment_bytes = u32::try_from(SEGMENT_BYTES).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&self.cipher.epoch.to_be_bytes());
        header.extend_from_slice(&segment_bytes.to_be_bytes());
        header.extend_from_slice(&self.cipher.file_id);
        header.extend_from_slice(&id.0);
        header.extend_from_slice(&self.size.to_be_bytes());
        // The wrapping key is used for this one file id, hence once: a fixed nonce is safe.
        let mut wrapped = self.secret.to_vec();
        let key = self
            .blobs
            .keys
            .wrap_key(self.cipher.epoch, &self.cipher.file_id)?;
        key.seal([0; 12], &header, &mut wrapped)?;
        header.extend_from_slice(&wrapped);
        header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
        header.resize(HEADER_BYTES, 0);
        Ok(header)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // What cannot be removed now is removed at the next open.
            let _removed = self.blobs.disk.remove(&temporary).is_ok();
        }
    }
}

/// A document being read, chunk by verified chunk.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<dyn DiskFile>,
    place: String,
    header: Header,
    segments: u64,
    next: u64,
}

impl BlobReader {
    /// The size of the document in bytes.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// The next chunk (at most 64 KiB), or `None` at the end. No byte of a chunk that does not
    /// verify is returned.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.next >= self.segments {
            return Ok(None);
        }
        let number = u32::try_from(self.next).unwrap_or(u32::MAX);
        let last = self.next + 1 == self.segments;
        let offset = segment_offset(number);
        let start = self.next * SEGMENT_BYTES as u64;
        let left = usize::try_from(self.header.size - start).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(SEGMENT_BYTES) + TAG_BYTES];
        let read = self
            .file
            .read_at(&mut data, offset)
            .during("reading a blob")?;
        data.truncate(read);
        let nonce = SegmentCipher::nonce(number, last);
        self.header
            .key
            .open(nonce, &self.header.cipher.aad(number), &mut data)
            .ok_or_else(|| {
                StoreError::corrupt(&*self.place, offset, "a segment does not verify")
            })?;
        self.next += 1;
        Ok((!data.is_empty())
            .then(|| Bytes::from(data))
            .or_else(|| (!last).then(Bytes::new)))
    }
}
