//! What emergency access keeps.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `grant` | grant id | 1: institution, newest first |
//! | `disaster` | disaster id | – |
//! | `reading` | entryUUID | – |
//! | `care` (in `care.rs`) | patient tag, institution | – |

use crate::store::{IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::emergency as pb;

/// A break-glass grant, and the notice that the privacy officer reviews.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GrantRow {
    /// Grant id, which is also the notice's id.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// The person's linkage id, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) linkage: Vec<u8>,
    /// The notice: who, why, when, and its review.
    #[prost(message, optional, tag = "3")]
    pub(crate) notice: Option<pb::AccessNotice>,
    /// When it was opened, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) opened_ms: i64,
    /// When it ends by itself, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(crate) expires_ms: i64,
    /// Closed before its end.
    #[prost(bool, tag = "6")]
    pub(crate) closed: bool,
    /// 10-digit code of the institution.
    #[prost(string, tag = "7")]
    pub(crate) institution: String,
    /// Tags of the identifiers that were known to be the person's when it was opened, 16 bytes each:
    /// what is found to be the person's later, it does not cover.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(crate) patients: Vec<Vec<u8>>,
}

impl GrantRow {
    /// Secondary key: an institution's grants, newest first.
    pub(crate) const BY_INSTITUTION: u8 = 1;

    /// The prefix of an institution's grants.
    pub(crate) fn of_institution(code: &str) -> Vec<u8> {
        KeyBuilder::new().text(code).build()
    }
}

impl Row for GrantRow {
    const TABLE: TableId = TableId(96);
    const NAME: &'static str = "grant";

    fn key(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn index(&self) -> Vec<IndexKey> {
        let opened = u64::try_from(self.opened_ms).unwrap_or(0);
        let key = KeyBuilder::new()
            .text(&self.institution)
            .u64_descending(opened)
            .build();
        vec![IndexKey::new(Self::BY_INSTITUTION, key)]
    }
}

/// A declared disaster, or the proposal of one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DisasterRow {
    /// As it is told.
    #[prost(message, optional, tag = "1")]
    pub(crate) disaster: Option<pb::Disaster>,
    /// Who approved: two different ones, or it is not in force.
    #[prost(string, repeated, tag = "2")]
    pub(crate) approvers: Vec<String>,
    /// Why.
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
    /// When it was proposed, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) proposed_ms: i64,
    /// How long it lasts, seconds.
    #[prost(int64, tag = "5")]
    pub(crate) seconds: i64,
    /// When it ends by itself, Unix milliseconds; 0 until it is declared.
    #[prost(int64, tag = "6")]
    pub(crate) ends_ms: i64,
    /// Ended early, or taken back.
    #[prost(bool, tag = "7")]
    pub(crate) ended: bool,
}

impl DisasterRow {
    /// Its id.
    pub(crate) fn id(&self) -> String {
        let disaster = self.disaster.as_ref();
        disaster.map_or_else(String::new, |disaster| disaster.disaster_id.clone())
    }
}

impl Row for DisasterRow {
    const TABLE: TableId = TableId(97);
    const NAME: &'static str = "disaster";

    fn key(&self) -> Vec<u8> {
        self.id().into_bytes()
    }
}

/// What extraction took out of one document.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadingRow {
    /// entryUUID of the document's entry, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The frame of the version of the entry that was read.
    #[prost(uint64, tag = "3")]
    pub(crate) entry_sequence: u64,
    /// The rules by which it was read: a hash of their sources.
    #[prost(string, tag = "4")]
    pub(crate) rules: String,
    /// The facts; "as of" is when it is asked for, so it says nothing here.
    #[prost(message, repeated, tag = "5")]
    pub(crate) items: Vec<pb::SummaryItem>,
    /// What is stated to be absent.
    #[prost(message, repeated, tag = "6")]
    pub(crate) absences: Vec<pb::AbsenceStatement>,
    /// Entries that were not understood.
    #[prost(uint64, tag = "7")]
    pub(crate) not_taken: u64,
    /// Why nothing was understood, a stable code; empty if something was.
    #[prost(string, tag = "8")]
    pub(crate) not_understood: String,
}

impl Row for ReadingRow {
    const TABLE: TableId = TableId(98);
    const NAME: &'static str = "reading";

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}
