//! What federation keeps.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `holding` | patient tag, community | 1: community, patient tag |
//! | `outbox` | number, in the order of writing | – |
//! | `undelivered` | number | – |
//! | `correlation` | linkage id, tag of their identifier | 1: tag of their identifier |
//! | `told` | patient tag | – |
//! | `contribution` | patient tag, community | – |
//! | `reconciliation` | parent | – |
//! | `heard` | community | – |
//! | `reconciled` | community | – |

use crate::store::{IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::common as cpb;
use crate::wire::pb::federation as pb;

/// The locator's knowledge: this community holds something for this patient, or nothing any more. That it
/// is nothing stays known, so that an earlier notice that comes late is passed over.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HoldingRow {
    /// Keyed hash of the patient identifier, in the holding community's domain.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) patient: Vec<u8>,
    /// homeCommunityId.
    #[prost(string, tag = "2")]
    pub(crate) home_community_id: String,
    /// The newest notice.
    #[prost(message, optional, tag = "3")]
    pub(crate) notice: Option<pb::HoldingNotice>,
    /// When it arrived, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) confirmed_ms: i64,
}

impl HoldingRow {
    /// Secondary key: what one community holds.
    pub(crate) const BY_COMMUNITY: u8 = 1;

    /// The beginning of the secondary keys of one community.
    pub(crate) fn of_community(home_community_id: &str) -> Vec<u8> {
        KeyBuilder::new().text(home_community_id).build()
    }

    /// Whether the community said of its own accord that it holds something; not by a discovery.
    pub(crate) fn is_told(&self) -> bool {
        self.notice
            .as_ref()
            .is_some_and(|notice| notice.sequence > 0 && holds(notice))
    }
}

/// Whether a notice says that something is held.
pub(crate) fn holds(notice: &pb::HoldingNotice) -> bool {
    notice.has_documents || notice.has_summary_items
}

impl Row for HoldingRow {
    const TABLE: TableId = TableId(80);
    const NAME: &'static str = "holding";
    const INDEX_VERSION: u16 = 2;

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.patient)
            .text(&self.home_community_id)
            .build()
    }

    fn index(&self) -> Vec<IndexKey> {
        let mut key = Self::of_community(&self.home_community_id);
        key.extend_from_slice(&self.patient);
        vec![IndexKey::new(Self::BY_COMMUNITY, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// Something the parent must be told, at least once and in order.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutboxRow {
    /// Its place in the queue.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// A notice.
    #[prost(message, optional, tag = "2")]
    pub(crate) notice: Option<pb::Notice>,
    /// Or a holding.
    #[prost(message, optional, tag = "3")]
    pub(crate) holding: Option<pb::HoldingNotice>,
    /// Keyed hash of the identifier of the patient it is about.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) patient: Vec<u8>,
}

impl Row for OutboxRow {
    const TABLE: TableId = TableId(81);
    const NAME: &'static str = "outbox";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().u64(self.number).build()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// What the parent refused for good; kept for the operator.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UndeliveredRow {
    /// The item.
    #[prost(message, optional, tag = "1")]
    pub(crate) item: Option<OutboxRow>,
    /// Why, as the parent said it.
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

impl Row for UndeliveredRow {
    const TABLE: TableId = TableId(82);
    const NAME: &'static str = "undelivered";

    fn key(&self) -> Vec<u8> {
        self.item.as_ref().map(Row::key).unwrap_or_default()
    }

    fn subject(&self) -> Option<Tag> {
        self.item.as_ref().and_then(Row::subject)
    }
}

/// A person here is known in a community that does not feed this node, as that community said (ITI-55).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CorrelationRow {
    /// The person's linkage id when it was asked, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) linkage: Vec<u8>,
    /// Keyed hash of the identifier here by which it was asked.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// That identifier: the correlation holds as long as it is this person's.
    #[prost(message, optional, tag = "3")]
    pub(crate) own: Option<cpb::Identifier>,
    /// homeCommunityId of who said so.
    #[prost(string, tag = "4")]
    pub(crate) home_community_id: String,
    /// The identifier to use there.
    #[prost(message, optional, tag = "5")]
    pub(crate) theirs: Option<cpb::Identifier>,
    /// Keyed hash of it.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) theirs_tag: Vec<u8>,
    /// Until when it may be used, Unix milliseconds.
    #[prost(int64, tag = "7")]
    pub(crate) expires_ms: i64,
}

impl CorrelationRow {
    /// Secondary key: correlations with one identifier of theirs.
    pub(crate) const BY_THEIRS: u8 = 1;
}

impl Row for CorrelationRow {
    const TABLE: TableId = TableId(83);
    const NAME: &'static str = "correlation";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.linkage)
            .fixed(&self.theirs_tag)
            .build()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.theirs_tag)
            .fixed(&self.linkage)
            .build();
        vec![IndexKey::new(Self::BY_THEIRS, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// The parent was told that a patient is known here, and may keep that.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToldRow {
    /// Keyed hash of the identifier that it was told.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) patient: Vec<u8>,
    /// Until when it may keep it, Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub(crate) expires_ms: i64,
}

impl Row for ToldRow {
    const TABLE: TableId = TableId(84);
    const NAME: &'static str = "told";

    fn key(&self) -> Vec<u8> {
        self.patient.clone()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// What a community answered about one identifier in a domain of its own, for the emergency summary.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContributionRow {
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) patient: Vec<u8>,
    /// homeCommunityId of who answered.
    #[prost(string, tag = "2")]
    pub(crate) home_community_id: String,
    /// The answer about this identifier, with what its documents are judged by.
    #[prost(message, optional, tag = "3")]
    pub(crate) said: Option<pb::GetSummaryItemsResponse>,
    /// When it was asked, by this node's clock, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) asked_ms: i64,
    /// The frame of the newest holdings notice that was there then; 0 if there was none.
    #[prost(uint64, tag = "5")]
    pub(crate) holding: u64,
}

impl Row for ContributionRow {
    const TABLE: TableId = TableId(85);
    const NAME: &'static str = "contribution";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.patient)
            .text(&self.home_community_id)
            .build()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// How far the comparison of what this node holds with its parent's locator has come.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReconciliationRow {
    /// homeCommunityId of the parent.
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    /// One is under way.
    #[prost(bool, tag = "2")]
    pub(crate) under_way: bool,
    /// How patients are spread: the salt, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) salt: Vec<u8>,
    /// And the bits of a place.
    #[prost(uint32, tag = "4")]
    pub(crate) bits: u32,
    /// The places that differ and have not been looked at, in order.
    #[prost(uint32, repeated, tag = "5")]
    pub(crate) places: Vec<u32>,
    /// What has been found so far, or was found by the last one.
    #[prost(message, optional, tag = "6")]
    pub(crate) found: Option<pb::HoldingsReconciled>,
    /// When the last one ended, Unix milliseconds; 0: none has.
    #[prost(int64, tag = "7")]
    pub(crate) ended_ms: i64,
    /// When the one under way began, Unix milliseconds.
    #[prost(int64, tag = "8")]
    pub(crate) begun_ms: i64,
}

impl Row for ReconciliationRow {
    const TABLE: TableId = TableId(86);
    const NAME: &'static str = "reconciliation";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().text(&self.parent).build()
    }
}

/// When a community last told the locator what it holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeardRow {
    /// homeCommunityId.
    #[prost(string, tag = "1")]
    pub(crate) home_community_id: String,
    /// When, Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub(crate) heard_ms: i64,
}

impl Row for HeardRow {
    const TABLE: TableId = TableId(87);
    const NAME: &'static str = "heard";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().text(&self.home_community_id).build()
    }
}

/// What a community's last reconciliation with the locator found.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReconciledRow {
    /// homeCommunityId.
    #[prost(string, tag = "1")]
    pub(crate) home_community_id: String,
    /// When it ended, Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub(crate) ended_ms: i64,
    /// What it found.
    #[prost(message, optional, tag = "3")]
    pub(crate) found: Option<pb::HoldingsReconciled>,
}

impl Row for ReconciledRow {
    const TABLE: TableId = TableId(88);
    const NAME: &'static str = "reconciled";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().text(&self.home_community_id).build()
    }
}
