//! What federation keeps.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `holding` | patient tag, community | – |
//! | `outbox` | number, in the order of writing | – |
//! | `undelivered` | number | – |

use crate::store::{KeyBuilder, Row, TableId, Tag};
use crate::wire::pb::federation as pb;

/// The locator's knowledge: this community holds something for this patient.
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

impl Row for HoldingRow {
    const TABLE: TableId = TableId(80);
    const NAME: &'static str = "holding";

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
