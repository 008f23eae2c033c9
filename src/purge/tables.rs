//! What purges keep.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `purge` | purge id | 1: newest first; 2: approved and not done, oldest first |
//! | `purge-patient` | purge id | – |

use jiff::Timestamp;

use crate::access::two_people;
use crate::store::{IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::admin as pb;
use crate::wire::pb::common as cpb;

/// A proposal, and what became of it. It names the patient by the keyed hash alone.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PurgeRow {
    /// Its id.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) patient: Vec<u8>,
    /// As it is told, without the patient and the state.
    #[prost(message, optional, tag = "3")]
    pub(super) purge: Option<pb::Purge>,
    /// Who proposed and who agreed, as [`two_people`] stores them.
    #[prost(string, repeated, tag = "4")]
    pub(super) approvers: Vec<String>,
    /// When it was proposed, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(super) proposed_ms: i64,
    /// When the second person agreed, Unix milliseconds; 0 until then.
    #[prost(int64, tag = "6")]
    pub(super) approved_ms: i64,
    /// The keys are destroyed.
    #[prost(bool, tag = "7")]
    pub(super) done: bool,
    /// Taken back.
    #[prost(bool, tag = "8")]
    pub(super) withdrawn: bool,
}

impl PurgeRow {
    /// Secondary key: newest first.
    pub(super) const BY_TIME: u8 = 1;
    /// Secondary key: approved and not done, in the order of approval.
    pub(super) const DUE: u8 = 2;

    /// What became of it.
    pub(super) fn state(&self, now: Timestamp) -> pb::PurgeState {
        if self.done {
            pb::PurgeState::Done
        } else if self.withdrawn {
            pb::PurgeState::Withdrawn
        } else if two_people::agreed(&self.approvers) {
            pb::PurgeState::Approved
        } else if two_people::is_old(self.proposed_ms, now) {
            pb::PurgeState::Expired
        } else {
            pb::PurgeState::Proposed
        }
    }
}

impl Row for PurgeRow {
    const TABLE: TableId = TableId(112);
    const NAME: &'static str = "purge";

    fn key(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn index(&self) -> Vec<IndexKey> {
        let proposed = u64::try_from(self.proposed_ms).unwrap_or(0);
        let key = KeyBuilder::new().u64_descending(proposed).build();
        let mut keys = vec![IndexKey::new(Self::BY_TIME, key)];
        if self.approved_ms > 0 && !self.done {
            let approved = u64::try_from(self.approved_ms).unwrap_or(0);
            let key = KeyBuilder::new().u64(approved).build();
            keys.push(IndexKey::new(Self::DUE, key));
        }
        keys
    }
}

/// Whom a proposal is about. Sealed under that patient's key, so it goes when the proposal is done.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PurgedPatientRow {
    /// The proposal's id.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) patient: Vec<u8>,
    /// The identifier.
    #[prost(message, optional, tag = "3")]
    pub(super) identifier: Option<cpb::Identifier>,
}

impl Row for PurgedPatientRow {
    const TABLE: TableId = TableId(113);
    const NAME: &'static str = "purge-patient";

    fn key(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}
