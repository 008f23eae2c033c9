//! What a leaf of the audit tree is: a ledger frame as it lies on disk, encrypted, together with
//! commitments to the audit records in it. Erasing what a frame says leaves its leaf; and who is
//! shown a record can check that it is the one in the leaf, without any key.
//!
//! ```text
//! commitment of a record = SHA-256(salt ‖ record)          the salt is 16 octets
//! leaf data              = frame hash ‖ SHA-256(commitments in the order of the frame)
//! leaf hash              = SHA-256(0x00 ‖ leaf data)        RFC 6962
//! ```
//!
//! The frame of sequence `n` is leaf `n - 1`. The salt is a keyed hash of the record, so that it need
//! not be kept; who has no key learns nothing of a record from its commitment.

use bytes::Bytes;

use crate::store::{Frame, Keys, Sequence};

use super::merkle::{Hash, leaf_hash, sha256};

/// The salt of a record.
pub fn salt(keys: &Keys, record: &[u8]) -> [u8; 16] {
    *keys.tag("audit-commitment", record).as_bytes()
}

/// The commitment to a record.
pub fn commitment(salt: &[u8; 16], record: &[u8]) -> Hash {
    sha256(&[salt, record])
}

/// The leaf hash of a frame with this hash and these commitments.
pub fn leaf_of(frame: &Hash, commitments: &[Hash]) -> Hash {
    let records = sha256(&[commitments.as_flattened()]);
    leaf_hash(&[frame, &records])
}

/// The place of a frame in the tree.
pub fn index_of(sequence: Sequence) -> u64 {
    sequence.0.saturating_sub(1)
}

/// The frame at a place of the tree.
pub fn sequence_of(index: u64) -> Sequence {
    Sequence(index.saturating_add(1))
}

/// The commitments to the records of a frame.
pub fn commitments(keys: &Keys, records: &[Bytes]) -> Vec<Hash> {
    let commit = |record: &Bytes| commitment(&salt(keys, record), record);
    records.iter().map(commit).collect()
}

/// The leaf of a frame.
pub fn of_frame(keys: &Keys, frame: &Frame) -> (Hash, Vec<Hash>) {
    let commitments = commitments(keys, &frame.audit);
    (leaf_of(&frame.hash, &commitments), commitments)
}

/// What a caller gets with each answer: where its audit record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The leaf's place.
    pub index: u64,
    /// The leaf's hash.
    pub leaf: Hash,
}

impl Receipt {
    /// The receipt for a frame that became durable with these records.
    pub fn new(keys: &Keys, sequence: Sequence, frame: &Hash, records: &[Bytes]) -> Self {
        Self {
            index: index_of(sequence),
            leaf: leaf_of(frame, &commitments(keys, records)),
        }
    }
}
