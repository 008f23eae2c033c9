//! Patients' keys: what is kept of a patient is sealed under a key of that patient alone, so that
//! destroying the key destroys the content wherever copies of it lie.
//!
//! A patient's key is wrapped under one of 256 shard keys, which are in the key table only; the
//! wrapped key lies beside what it seals. To destroy it, its shard gets a new key, the other keys
//! of the shard are carried over into a file, and the old shard key is gone with the old table.

use bytes::Bytes;

use super::super::crypto::{SealKey, Secret, open_random, seal_random};
use super::super::error::StoreError;
use super::super::table::{Row, TableId};
use super::tag::{Random, Tag};

/// A patient's key as it lies beside what it seals.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Envelope {
    /// Random but for its first byte, which is that of the patient's tag: its shard. 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key_id: Bytes,
    /// The generation of the shard under whose key it is wrapped.
    #[prost(uint32, tag = "2")]
    pub(crate) generation: u32,
    /// The key, wrapped.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) wrapped: Bytes,
}

/// A patient's key, ready for use.
#[derive(Clone)]
pub struct SubjectKey {
    pub(crate) subject: Tag,
    pub(crate) envelope: Envelope,
    pub(crate) secret: Secret,
}

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubjectKey({})", self.subject)
    }
}

/// The store's own table 1: the key of each patient.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyRow {
    /// The patient's tag.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) subject: Vec<u8>,
    /// The key, wrapped.
    #[prost(message, optional, tag = "2")]
    pub(crate) envelope: Option<Envelope>,
}

impl Row for KeyRow {
    const TABLE: TableId = TableId(1);
    const NAME: &'static str = "patient-key";

    fn key(&self) -> Vec<u8> {
        self.subject.clone()
    }
}

/// What the newest change of the key table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Pending {
    /// Nothing: the change is done.
    Nothing = 0,
    /// A new epoch.
    Rotation = 1,
    /// Patients' keys are destroyed.
    Purge = 2,
    /// Epochs no longer needed are dropped.
    DropEpochs = 3,
}

/// The store's own table 2, one row: which key table belongs to the ledger. It is written before
/// the table is, and again after, so that a crash between is finished and an old table is refused.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyStateRow {
    /// The table's generation.
    #[prost(uint64, tag = "1")]
    pub(crate) generation: u64,
    /// What is under way.
    #[prost(enumeration = "Pending", tag = "2")]
    pub(crate) pending: i32,
    /// The patients whose keys are being destroyed.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) subjects: Vec<Vec<u8>>,
}

impl Row for KeyStateRow {
    const TABLE: TableId = TableId(2);
    const NAME: &'static str = "key-state";

    fn key(&self) -> Vec<u8> {
        b"keys".to_vec()
    }
}

impl KeyStateRow {
    /// The patients whose keys are being destroyed.
    pub(crate) fn purging(&self) -> Vec<Tag> {
        self.subjects
            .iter()
            .filter_map(|subject| Tag::from_slice(subject))
            .collect()
    }
}

/// What a sealed row is bound to: its place and its key.
fn context(table: TableId, key: &[u8], key_id: &[u8]) -> Vec<u8> {
    let mut context = Vec::with_capacity(32 + key.len());
    context.extend_from_slice(b"renkei 2 row");
    context.extend_from_slice(&table.0.to_be_bytes());
    context.extend_from_slice(key_id);
    context.extend_from_slice(key);
    context
}

/// Seals the row under `key` of `table` with its patient's key.
pub(crate) fn seal_row(
    key: &SubjectKey,
    table: TableId,
    primary: &[u8],
    row: &[u8],
    random: &dyn Random,
) -> Result<Bytes, StoreError> {
    let context = context(table, primary, &key.envelope.key_id);
    let sealing = SealKey::new(&key.secret)?;
    seal_random(&sealing, &context, row, random).map(Bytes::from)
}

/// Opens a sealed row; `None` if it does not verify.
pub(crate) fn open_row(
    secret: &Secret,
    key_id: &[u8],
    table: TableId,
    primary: &[u8],
    sealed: &[u8],
) -> Result<Option<Bytes>, StoreError> {
    let context = context(table, primary, key_id);
    Ok(open_random(&SealKey::new(secret)?, &context, sealed).map(Bytes::from))
}
