//! Reading a document.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::super::crypto::TAG_BYTES;
use super::super::disk::DiskFile;
use super::super::error::{IoContext as _, StoreError};
use super::super::keys::Tag;
use super::format::{HEADER_BYTES, Header, SEGMENT_BYTES, SegmentCipher};
use super::{BlobId, Blobs};
use crate::planted::planted;

/// A document being read, chunk by verified chunk.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<dyn DiskFile>,
    pub(super) place: String,
    header: Header,
    segments: u64,
    next: u64,
    /// Where another copy may be had from when this one turns out bad.
    mending: Option<(Blobs, BlobId)>,
}

impl BlobReader {
    /// Opens a document and verifies its header and length.
    pub(super) fn open(blobs: &Blobs, id: &BlobId) -> Result<Self, StoreError> {
        let file = match blobs.disk.open(&blobs.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::BlobNotFound);
            }
            Err(error) => return Err(error).during("opening a blob"),
        };
        let place = format!("blobs/{id}");
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(&mut header, 0).during("reading a blob")?;
        let header = header.get(..read).unwrap_or_default();
        let mut header = Header::parse(header, id, &blobs.keys, &place)?;
        if planted("last segment of a document not marked") {
            let sealed = file.len().during("reading a blob")? - header.bytes as u64;
            let segments = sealed.div_ceil((SEGMENT_BYTES + TAG_BYTES) as u64);
            header.size = sealed - segments * TAG_BYTES as u64;
        }
        let segments = header.size.div_ceil(SEGMENT_BYTES as u64).max(1);
        let expected = header.bytes as u64 + header.size + segments * TAG_BYTES as u64;
        if file.len().during("reading a blob")? != expected {
            return Err(StoreError::corrupt(
                place,
                0,
                "the file has the wrong length",
            ));
        }
        Ok(Self {
            file,
            place,
            header,
            segments,
            next: 0,
            mending: blobs.second.is_some().then(|| (blobs.clone(), *id)),
        })
    }

    /// The size of the document in bytes.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// The patient whose document it is; none if it was written in format 1.
    pub(crate) fn subject(&self) -> Option<Tag> {
        self.header.subject
    }

    /// The key epoch it was written in.
    pub(crate) fn epoch(&self) -> u32 {
        self.header.cipher.epoch
    }

    /// Does not look for another copy.
    pub(super) fn unmended(mut self) -> Self {
        self.mending = None;
        self
    }

    /// Goes on with the segment that holds the byte at `offset`, and says how many bytes of that
    /// segment come before it. Segments verify by themselves, so what is left out is not read.
    pub fn seek(&mut self, offset: u64) -> usize {
        let segment = SEGMENT_BYTES as u64;
        self.next = (offset / segment).min(self.segments);
        usize::try_from(offset % segment).unwrap_or(0)
    }

    /// The next chunk (at most 64 KiB), or `None` at the end. No byte of a chunk that does not
    /// verify is returned: it comes from the second copy, if there is one that does.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.read_chunk() {
            Err(error) if error.is_damage() => {
                let Some((blobs, id)) = self.mending.take() else {
                    return Err(error);
                };
                if !blobs.mend(&id)? {
                    return Err(error);
                }
                let next = self.next;
                *self = Self::open(&blobs, &id)?.unmended();
                self.next = next;
                self.read_chunk()
            }
            read => read,
        }
    }

    fn read_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.next >= self.segments {
            return Ok(None);
        }
        let number = u32::try_from(self.next).unwrap_or(u32::MAX);
        let last = self.next + 1 == self.segments;
        let offset = self.header.segment_offset(number);
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
