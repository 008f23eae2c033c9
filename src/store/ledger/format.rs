//! The bytes of a ledger segment: a header, then frames, then zeros. All numbers big-endian.
//!
//! ```text
//! segment header, 128 bytes
//!   magic 8 · version 2 · epoch 4 · number 8 · first sequence 8 · segment id 16 · store id 16 ·
//!   hash of the frame before the first 32 · created (UTC ns) 8 · CRC-32 4 · zeros
//! frame
//!   magic 4 · payload length 4 · sequence 8 · first sequence of the same write 8 · kind 1 ·
//!   zeros 3 · UTC ns 8 · monotonic ns 8 · hash of the frame before 32 · CRC-32 4
//!   payload: AES-256-GCM, nonce = sequence, associated data = the frame header, tag appended
//!   SHA-256 of header and payload 32
//! ```

use super::super::commit::Sequence;
use super::super::crypto::to_array;
use super::super::error::StoreError;

/// Version 2 may hold rows sealed under patients' keys; version 1 holds none, and reads the same.
pub(crate) const SEGMENT_VERSION: u16 = 2;
const OLDEST_VERSION: u16 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 128;
pub(crate) const FRAME_HEADER_BYTES: usize = 80;
pub(crate) const HASH_BYTES: usize = 32;
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"RKF1";
/// No payload is longer; a header that says so is not a header.
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 256 << 20;

const SEGMENT_MAGIC: &[u8; 8] = b"RENKEILG";
const SEGMENT_CRC_AT: usize = 102;
const FRAME_CRC_AT: usize = 76;

/// Reads fixed-width fields one after another; past the end it reads zeros, which no check passes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_at_checked(N).unwrap_or((&[], &[]));
        self.0 = rest;
        to_array(field)
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

fn crc_matches(bytes: &[u8], at: usize) -> bool {
    match (bytes.get(..at), bytes.get(at..at + 4)) {
        (Some(covered), Some(crc)) => crc32fast::hash(covered).to_be_bytes() == crc,
        _ => false,
    }
}

/// The first 128 bytes of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) epoch: u32,
    pub(crate) number: u64,
    pub(crate) first_sequence: Sequence,
    pub(crate) id: [u8; 16],
    pub(crate) store_id: [u8; 16],
    pub(crate) previous_hash: [u8; 32],
    pub(crate) created_nanoseconds: i64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(SEGMENT_MAGIC);
        bytes.extend_from_slice(&SEGMENT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.first_sequence.0.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.previous_hash);
        bytes.extend_from_slice(&self.created_nanoseconds.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.resize(SEGMENT_HEADER_BYTES, 0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], place: &str) -> Result<Self, StoreError> {
        let fault = |what| StoreError::corrupt(place, 0, what);
        let mut fields = Fields(bytes);
        if fields.take::<8>() != *SEGMENT_MAGIC {
            return Err(fault("is not a ledger segment"));
        }
        let version = u16::from_be_bytes(fields.take());
        let padding = bytes.get(SEGMENT_CRC_AT + 4..SEGMENT_HEADER_BYTES);
        let padded = padding.is_some_and(|padding| padding.iter().all(|byte| *byte == 0));
        if !padded || !crc_matches(bytes, SEGMENT_CRC_AT) {
            return Err(fault("the segment header's checksum does not match"));
        }
        if !(OLDEST_VERSION..=SEGMENT_VERSION).contains(&version) {
            let (what, supported) = ("ledger segment", SEGMENT_VERSION);
            return Err(StoreError::Format {
                what,
                found: version,
                supported,
            });
        }
        Ok(Self {
            epoch: u32::from_be_bytes(fields.take()),
            number: fields.u64(),
            first_sequence: Sequence(fields.u64()),
            id: fields.take(),
            store_id: fields.take(),
            previous_hash: fields.take(),
            created_nanoseconds: i64::from_be_bytes(fields.take()),
        })
    }
}

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Rows, with or without audit records.
    Change,
    /// Audit records only.
    Audit,
    /// The store was closed in order.
    Close,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Change => 1,
            Self::Audit => 2,
            Self::Close => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Change),
            2 => Some(Self::Audit),
            3 => Some(Self::Close),
            _ => None,
        }
    }
}

/// The first 80 bytes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of encrypted payload, authentication tag included.
    pub(crate) length: u32,
    pub(crate) sequence: Sequence,
    /// The first frame of the write this frame was part of: frames of one write are acknowledged
    /// together or not at all, and a later write starts only after the earlier is durable.
    pub(crate) write_first: Sequence,
    pub(crate) kind: FrameKind,
    pub(crate) utc_nanoseconds: i64,
    pub(crate) monotonic_nanoseconds: u64,
    pub(crate) previous_hash: [u8; 32],
}

impl FrameHeader {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(&self.sequence.0.to_be_bytes());
        out.extend_from_slice(&self.write_first.0.to_be_bytes());
        out.extend_from_slice(&[self.kind.code(), 0, 0, 0]);
        out.extend_from_slice(&self.utc_nanoseconds.to_be_bytes());
        out.extend_from_slice(&self.monotonic_nanoseconds.to_be_bytes());
        out.extend_from_slice(&self.previous_hash);
        let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// The header in the first bytes, or `None` if they are not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take::<4>() != FRAME_MAGIC || !crc_matches(bytes, FRAME_CRC_AT) {
            return None;
        }
        let length = u32::from_be_bytes(fields.take());
        let sequence = Sequence(fields.u64());
        let write_first = Sequence(fields.u64());
        let [kind, zeros @ ..] = fields.take::<4>();
        if zeros != [0; 3] || length > MAX_PAYLOAD_BYTES {
            return None;
        }
        Some(Self {
            length,
            sequence,
            write_first,
            kind: FrameKind::from_code(kind)?,
            utc_nanoseconds: i64::from_be_bytes(fields.take()),
            monotonic_nanoseconds: fields.u64(),
            previous_hash: fields.take(),
        })
    }

    /// The bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.length as usize)
    }
}

/// The bytes of a frame whose encrypted payload has this length.
pub(crate) fn frame_bytes(length: usize) -> usize {
    FRAME_HEADER_BYTES + length + HASH_BYTES
}
