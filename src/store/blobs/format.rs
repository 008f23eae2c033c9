//! The bytes of a document file: how header and segments are sealed.
//!
//! ```text
//! header of version 2, 256 bytes
//!   magic 8 · version 2 · epoch 4 · segment size 4 · file id 16 · blob id 32 · size 8 ·
//!   patient tag 16 · id of the patient's key 16 · its generation 4 · the patient's key, wrapped 60 ·
//!   the document's key, wrapped under the patient's 48 · CRC-32 4 · zeros
//! header of version 1, 128 bytes: no patient, the document's key wrapped under the store's
//! segment: AES-256-GCM of 64 KiB under the document's key, tag appended
//!   nonce: 7 zero bytes · segment number 4 · last-segment flag 1
//!   associated data: file id 16 · epoch 4 · segment number 4
//! ```
//!
//! The document's key is wrapped with everything before it as associated data, so each segment is
//! bound, through its key, to the content, size and patient it was written as.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::super::crypto::{self, SealKey, Secret, TAG_BYTES, WRAPPED_BYTES, to_array};
use super::super::error::StoreError;
use super::super::keys::{Envelope, Keys, SubjectKey, Tag};
use super::BlobId;
use crate::planted::planted;

const MAGIC: &[u8; 8] = b"RENKEIBL";
const VERSION: u16 = 2;
const OLD_VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 256;
const OLD_HEADER_BYTES: usize = 128;
/// Where the two versions part: after the size.
const COMMON_BYTES: usize = 74;
const KEY_ID_AT: usize = COMMON_BYTES + 16;
const GENERATION_AT: usize = KEY_ID_AT + 16;
const PATIENT_KEY_AT: usize = GENERATION_AT + 4;
/// Where the document's wrapped key starts; everything before it is its associated data.
const DOCUMENT_KEY_AT: usize = PATIENT_KEY_AT + WRAPPED_BYTES;
const DOCUMENT_KEY_BYTES: usize = 32 + TAG_BYTES;
/// Plaintext in one segment.
pub(super) const SEGMENT_BYTES: usize = 64 << 10;
/// The largest document, so that the segment number never wraps.
pub(super) const MAX_BYTES: u64 = (u32::MAX as u64) * (SEGMENT_BYTES as u64);

/// What the segments of one file are bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentCipher {
    pub(super) file_id: [u8; 16],
    pub(super) epoch: u32,
}

impl SegmentCipher {
    /// Nonce: 7 zero bytes · segment number 4 · last-segment flag 1.
    pub(super) fn nonce(number: u32, last: bool) -> [u8; 12] {
        let last = last && !planted("last segment of a document not marked");
        crypto::counter_nonce((u64::from(number) << 8) | u64::from(last), 0)
    }

    /// Associated data: file id 16 · epoch 4 · segment number 4.
    pub(super) fn aad(&self, number: u32) -> [u8; 24] {
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

/// The header of a file, verified.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) cipher: SegmentCipher,
    pub(super) size: u64,
    pub(super) key: SealKey,
    /// The patient; none in version 1.
    pub(super) subject: Option<Tag>,
    /// Where the first segment starts.
    pub(super) bytes: usize,
}

impl Header {
    /// Where a segment starts in the file.
    pub(super) fn segment_offset(&self, number: u32) -> u64 {
        self.bytes as u64 + u64::from(number) * (SEGMENT_BYTES + TAG_BYTES) as u64
    }

    /// Verifies a header; `bytes` are the first [`HEADER_BYTES`] of the file, or fewer if it has
    /// fewer.
    ///
    /// # Errors
    /// [`StoreError::KeyDestroyed`] if the patient's key was; [`StoreError::Corrupt`];
    /// [`StoreError::Format`].
    pub(super) fn parse(
        bytes: &[u8],
        id: &BlobId,
        keys: &Keys,
        place: &str,
    ) -> Result<Self, StoreError> {
        let fault = |what| StoreError::corrupt(place, 0, what);
        let field = |from: usize, to: usize| bytes.get(from..to).ok_or(fault("too short"));
        if field(0, 8)? != MAGIC {
            return Err(fault("is not a blob"));
        }
        let version = u16::from_be_bytes(to_array(field(8, 10)?));
        let (length, key_at) = match version {
            VERSION => (HEADER_BYTES, DOCUMENT_KEY_AT),
            OLD_VERSION => (OLD_HEADER_BYTES, COMMON_BYTES),
            _ => {
                return Err(StoreError::Format {
                    what: "blob",
                    found: version,
                    supported: VERSION,
                });
            }
        };
        let key_end = key_at + DOCUMENT_KEY_BYTES;
        let crc = u32::from_be_bytes(to_array(field(key_end, key_end + 4)?));
        let padding = field(key_end + 4, length)?;
        if crc32fast::hash(field(0, key_end)?) != crc || padding.iter().any(|b| *b != 0) {
            return Err(fault("the header's checksum does not match"));
        }
        let segment_bytes = u32::from_be_bytes(to_array(field(14, 18)?));
        if segment_bytes as usize != SEGMENT_BYTES {
            return Err(fault("has another segment size"));
        }
        if field(34, 66)? != id.0 && !planted("document not bound to its id") {
            return Err(fault("is another blob"));
        }
        let file_id = to_array(field(18, 34)?);
        let subject = (version == VERSION).then(|| field(COMMON_BYTES, KEY_ID_AT).map(to_array));
        let subject = subject.transpose()?.map(Tag::from_bytes);
        let wrapping = if subject.is_none() {
            keys.old_blob_key(&file_id)?
        } else {
            let envelope = Envelope {
                key_id: Bytes::copy_from_slice(field(KEY_ID_AT, GENERATION_AT)?),
                generation: u32::from_be_bytes(to_array(field(GENERATION_AT, PATIENT_KEY_AT)?)),
                wrapped: Bytes::copy_from_slice(field(PATIENT_KEY_AT, DOCUMENT_KEY_AT)?),
            };
            let secret = keys.open_subject(&envelope)?;
            document_wrap_key(&secret.ok_or(StoreError::KeyDestroyed)?, &file_id)?
        };
        let mut wrapped = field(key_at, key_end)?.to_vec();
        wrapping
            .open([0; 12], bound_to(field(0, key_at)?), &mut wrapped)
            .ok_or(fault("the key does not unwrap"))?;
        let secret = Zeroizing::new(wrapped);
        Ok(Self {
            cipher: SegmentCipher {
                file_id,
                epoch: u32::from_be_bytes(to_array(field(10, 14)?)),
            },
            size: u64::from_be_bytes(to_array(field(66, COMMON_BYTES)?)),
            key: SealKey::new(&to_array(&secret))?,
            subject,
            bytes: length,
        })
    }
}

/// The key that wraps the key of one file: used once, so that its nonce may be fixed.
fn document_wrap_key(patient: &Secret, file_id: &[u8; 16]) -> Result<SealKey, StoreError> {
    SealKey::new(&*crypto::derive(
        patient.as_ref(),
        file_id,
        &[b"renkei 2 document"],
    )?)
}

/// What the document's key is bound to: all of the header before it.
fn bound_to(header: &[u8]) -> &[u8] {
    match planted("document not bound to its id") {
        true => &[],
        false => header,
    }
}

/// The header of the document `id`: `secret` is the key of its segments, wrapped here.
pub(super) fn encode_header(
    patient: &SubjectKey,
    cipher: SegmentCipher,
    id: &BlobId,
    size: u64,
    secret: &Secret,
) -> Result<Vec<u8>, StoreError> {
    let segment_bytes = u32::try_from(SEGMENT_BYTES).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&cipher.epoch.to_be_bytes());
    header.extend_from_slice(&segment_bytes.to_be_bytes());
    header.extend_from_slice(&cipher.file_id);
    header.extend_from_slice(&id.0);
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(patient.subject.as_bytes());
    header.extend_from_slice(&patient.envelope.key_id);
    header.extend_from_slice(&patient.envelope.generation.to_be_bytes());
    header.extend_from_slice(&patient.envelope.wrapped);
    let mut wrapped = secret.to_vec();
    let key = document_wrap_key(&patient.secret, &cipher.file_id)?;
    key.seal([0; 12], bound_to(&header), &mut wrapped)?;
    header.extend_from_slice(&wrapped);
    header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
    header.resize(HEADER_BYTES, 0);
    Ok(header)
}
