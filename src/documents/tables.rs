//! What documents keep.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `entry` | entryUUID | 1: patient tag, entryUUID |
//! | `unique` | tag of the uniqueId | – |
//! | `submission` | entryUUID of the SubmissionSet | 1: patient tag, entryUUID |

use crate::store::{BlobId, IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::documents as pb;

/// A DocumentEntry and where its document is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntryRow {
    /// entryUUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The metadata as registered.
    #[prost(message, optional, tag = "3")]
    pub(crate) entry: Option<pb::DocumentEntry>,
    /// The blob, if the document is in this repository.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) blob: Vec<u8>,
    /// When it was registered, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(crate) registered_ms: i64,
}

impl EntryRow {
    /// Secondary key: the entries of one patient.
    pub(crate) const BY_PATIENT: u8 = 1;
}

impl Row for EntryRow {
    const TABLE: TableId = TableId(32);
    const NAME: &'static str = "entry";
    const INDEX_VERSION: u16 = 2;

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.patient)
            .fixed(&self.uuid)
            .build();
        vec![IndexKey::new(Self::BY_PATIENT, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }

    fn blobs(&self) -> Vec<BlobId> {
        BlobId::from_slice(&self.blob).into_iter().collect()
    }
}

/// Reserves a uniqueId: it is registered once.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UniqueRow {
    /// Keyed hash of the uniqueId.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    /// The entry that has it.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) entry: Vec<u8>,
    /// Keyed hash of the patient identifier; empty in rows of before it was noted.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) patient: Vec<u8>,
}

impl Row for UniqueRow {
    const TABLE: TableId = TableId(33);
    const NAME: &'static str = "unique";

    fn key(&self) -> Vec<u8> {
        self.tag.clone()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// A SubmissionSet with the entries it brought.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubmissionRow {
    /// entryUUID of the SubmissionSet, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The metadata as registered.
    #[prost(message, optional, tag = "3")]
    pub(crate) set: Option<pb::SubmissionSet>,
    /// entryUUIDs of its entries.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) entries: Vec<Vec<u8>>,
}

impl SubmissionRow {
    /// Secondary key: the submissions of one patient.
    pub(crate) const BY_PATIENT: u8 = 1;
}

impl Row for SubmissionRow {
    const TABLE: TableId = TableId(34);
    const NAME: &'static str = "submission";

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.patient)
            .fixed(&self.uuid)
            .build();
        vec![IndexKey::new(Self::BY_PATIENT, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}
