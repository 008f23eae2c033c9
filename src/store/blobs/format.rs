//! The bytes of a document file: how header and segments are sealed.

use super::super::crypto::{self, SealKey, Secret, TAG_BYTES, to_array};
use super::super::error::StoreError;
use super::super::keys::Keys;
use super::BlobId;

const MAGIC: &[u8; 8] = b"RENKEIBL";
const VERSION: u16 = 1;
/// magic 8 · version 2 · epoch 4 · segment size 4 · file id 16 · blob id 32 · size 8 ·
/// wrapped key 48 · CRC-32 4; then zeros up to [`HEADER_BYTES`].
const FIELDS_BYTES: usize = 126;
pub(super) const HEADER_BYTES: usize = 128;
/// Where the wrapped key starts; everything before it is its associated data.
const WRAPPED_AT: usize = 74;
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

/// Where a segment starts in the file.
pub(super) fn segment_offset(number: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(number) * (SEGMENT_BYTES + TAG_BYTES) as u64
}

/// The header of a file, verified.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) cipher: SegmentCipher,
    pub(super) size: u64,
    pub(super) key: SealKey,
}

impl Header {
    pub(super) fn parse(
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

/// The header of the document `id`: `secret` is the key of its segments, wrapped here.
pub(super) fn encode_header(
    keys: &Keys,
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
    // The wrapping key is used for this one file id, hence once: a fixed nonce is safe.
    let mut wrapped = secret.to_vec();
    let key = keys.wrap_key(cipher.epoch, &cipher.file_id)?;
    key.seal([0; 12], &header, &mut wrapped)?;
    header.extend_from_slice(&wrapped);
    header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
    header.resize(HEADER_BYTES, 0);
    Ok(header)
}
