//! Writing a document.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::super::crypto::{SealKey, Secret, TAG_BYTES, to_array};
use super::super::disk::DiskFile;
use super::super::error::{IoContext as _, StoreError};
use super::super::keys::SubjectKey;
use super::format::{HEADER_BYTES, MAX_BYTES, SEGMENT_BYTES, SegmentCipher, encode_header};
use super::{BlobId, BlobInfo, Blobs, Hold};
use crate::planted::planted;

/// A document being written.
pub struct BlobWriter {
    temporary: Temporary,
    file: Arc<dyn DiskFile>,
    patient: SubjectKey,
    key: SealKey,
    secret: Secret,
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
    /// A writer into a temporary file of its own.
    pub(super) fn new(blobs: &Blobs, patient: &SubjectKey) -> Result<Self, StoreError> {
        blobs.room.check()?;
        let mut file_id = [0; 16];
        let mut secret = Secret::new([0; 32]);
        blobs.random.fill(&mut file_id)?;
        blobs.random.fill(secret.as_mut())?;
        let path = blobs.dir.join("tmp").join(HEXLOWER.encode(&file_id));
        let file = blobs.disk.create(&path).during("making a blob")?;
        let epoch = blobs.keys.epoch();
        Ok(Self {
            key: SealKey::new(&secret)?,
            temporary: Temporary {
                blobs: blobs.clone(),
                path: Some(path),
            },
            file,
            patient: patient.clone(),
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

    /// Ends the document: its bytes are on the disk, and it is not there yet.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Crypto`]; [`StoreError::Poisoned`] if the sync failed.
    pub fn close(mut self) -> Result<ClosedBlob, StoreError> {
        self.seal(true)?;
        let sha256: [u8; 32] = to_array(self.sha256.finish().as_ref());
        let sha1 = to_array(self.sha1.finish().as_ref());
        let keys = &self.temporary.blobs.keys;
        let id = BlobId(keys.blob_name(Some(&self.patient.subject), &sha256));
        let header = encode_header(&self.patient, self.cipher, &id, self.size, &self.secret)?;
        self.file.write_at(&header, 0).during("writing a blob")?;
        if !planted("document not synced") {
            self.temporary.blobs.health.synced(self.file.fdatasync())?;
        }
        let info = BlobInfo {
            id,
            size: self.size,
            sha256,
            sha1,
        };
        Ok(ClosedBlob {
            temporary: self.temporary,
            patient: self.patient,
            info,
        })
    }

    /// [`BlobWriter::close`] and [`ClosedBlob::keep`], without holding the document: it is swept if
    /// nothing refers to it.
    ///
    /// # Errors
    /// As those two.
    pub fn finish(self) -> Result<BlobInfo, StoreError> {
        Ok(self.close()?.keep()?.info)
    }

    fn seal(&mut self, last: bool) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Closed);
        }
        self.failed = true;
        self.temporary.blobs.room.check()?;
        let number = self.sealed;
        self.key.seal(
            SegmentCipher::nonce(number, last),
            &self.cipher.aad(number),
            &mut self.buffer,
        )?;
        let sealed = u64::from(number) * (SEGMENT_BYTES + TAG_BYTES) as u64;
        self.file
            .write_at(&self.buffer, HEADER_BYTES as u64 + sealed)
            .during("writing a blob")?;
        self.buffer.clear();
        self.sealed = number.saturating_add(1);
        self.failed = false;
        Ok(())
    }
}

/// A document whose bytes are on the disk but which is not there yet: dropped, it leaves nothing.
#[derive(Debug)]
pub struct ClosedBlob {
    temporary: Temporary,
    patient: SubjectKey,
    info: BlobInfo,
}

impl ClosedBlob {
    /// What the document will be known by.
    pub const fn info(&self) -> &BlobInfo {
        &self.info
    }

    /// Makes the document durable and visible (INV-1), its second copy first. Content that is
    /// already there is replaced by itself, freshly encrypted. It is not swept while what is
    /// returned lives: drop that only when a row refers to the document.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the document is then not there. [`StoreError::Poisoned`] if the store
    /// had stopped, or does so now because a sync failed.
    pub fn keep(mut self) -> Result<KeptBlob, StoreError> {
        let blobs = self.temporary.blobs.clone();
        let id = self.info.id;
        let hold = blobs.holds.hold(id);
        // A key destroyed during the upload: the document would be unreadable, and would take the
        // place of one that is not.
        if blobs.keys.open_subject(&self.patient.envelope)?.is_none() {
            return Err(StoreError::KeyDestroyed);
        }
        if let Some(temporary) = &self.temporary.path {
            if let Some(second) = &blobs.second {
                second.copy_in(temporary, &id)?;
            }
            blobs.place(temporary, &id)?;
        }
        self.temporary.path = None;
        Ok(KeptBlob {
            info: self.info,
            _hold: hold,
        })
    }
}

/// A document that is durable and that no row may refer to yet: safe from the sweep while this
/// lives.
#[derive(Debug)]
pub struct KeptBlob {
    info: BlobInfo,
    _hold: Hold,
}

impl KeptBlob {
    /// What the document is known by.
    pub const fn info(&self) -> &BlobInfo {
        &self.info
    }
}

/// A file in the folder of unfinished documents, removed when dropped unless it got its name.
#[derive(Debug)]
struct Temporary {
    blobs: Blobs,
    path: Option<PathBuf>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && !planted("broken-off upload left")
        {
            // What cannot be removed now is removed at the next open.
            let _removed = self.blobs.disk.remove(&path).is_ok();
        }
    }
}
