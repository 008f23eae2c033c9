//! What identity keeps.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `patient` | tag of the identifier | 1: linkage id, tag |
//! | `review` | the two patients' tags, smaller first | 1: task id |

use crate::store::{IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::identity as pb;

/// A patient record, as fed, with the person it belongs to.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PatientRow {
    /// Keyed hash of the identifier.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    /// The record byte for byte as the source sent it.
    #[prost(message, optional, tag = "2")]
    pub(crate) patient: Option<pb::Patient>,
    /// The person's linkage id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) linkage: Vec<u8>,
    /// Why it belongs to that person; absent for the first record.
    #[prost(message, optional, tag = "4")]
    pub(crate) evidence: Option<pb::MatchEvidence>,
    /// Tags of patients a steward said are other people: never linked again.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) not_same: Vec<Vec<u8>>,
}

impl PatientRow {
    /// Secondary key: the patients of one linkage id.
    pub(crate) const BY_LINKAGE: u8 = 1;
}

impl Row for PatientRow {
    const TABLE: TableId = TableId(16);
    const NAME: &'static str = "patient";

    fn key(&self) -> Vec<u8> {
        self.tag.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.linkage)
            .fixed(&self.tag)
            .build();
        vec![IndexKey::new(Self::BY_LINKAGE, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.tag)
    }
}

/// A pair of records a steward must look at.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReviewRow {
    /// The smaller tag.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) first: Vec<u8>,
    /// The larger tag.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) second: Vec<u8>,
    /// The task's id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) id: Vec<u8>,
    /// What agrees and what does not.
    #[prost(message, optional, tag = "4")]
    pub(crate) evidence: Option<pb::MatchEvidence>,
    /// `pb::ReviewState`.
    #[prost(enumeration = "pb::ReviewState", tag = "5")]
    pub(crate) state: i32,
    /// When it came up, Unix milliseconds.
    #[prost(int64, tag = "6")]
    pub(crate) created_ms: i64,
    /// What was decided, newest last.
    #[prost(message, repeated, tag = "7")]
    pub(crate) decisions: Vec<pb::ReviewDecisionRecord>,
}

impl ReviewRow {
    /// Secondary key: the task's id.
    pub(crate) const BY_ID: u8 = 1;

    /// The primary key of a pair, whichever way round it is given.
    pub(crate) fn pair(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if a <= b {
            (a.to_vec(), b.to_vec())
        } else {
            (b.to_vec(), a.to_vec())
        }
    }
}

impl Row for ReviewRow {
    const TABLE: TableId = TableId(17);
    const NAME: &'static str = "review";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.first)
            .fixed(&self.second)
            .build()
    }

    fn index(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(Self::BY_ID, self.id.clone())]
    }
}
