//! Remembering what was already done: the store's own table 0.

use bytes::Bytes;

use super::commit::Idempotency;
use super::keys::Tag;
use super::table::{IndexKey, KeyBuilder, Row, TableId};

/// Index 1: when the key may be forgotten.
pub(crate) const BY_EXPIRY: u8 = 1;

/// What a remembered request answered. Key: tag of the idempotency key.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IdempotencyRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) body_hash: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) receipt: Bytes,
    #[prost(int64, tag = "4")]
    pub(crate) expires_unix_seconds: i64,
    /// The tag of the patient whom the request was about, if it was about one.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) subject: Vec<u8>,
}

impl From<&Idempotency> for IdempotencyRow {
    fn from(value: &Idempotency) -> Self {
        Self {
            key: value.key.as_bytes().to_vec(),
            body_hash: value.body_hash.to_vec(),
            receipt: value.receipt.clone(),
            expires_unix_seconds: value.expires_unix_seconds,
            subject: Vec::new(),
        }
    }
}

impl Row for IdempotencyRow {
    const TABLE: TableId = TableId(0);
    const NAME: &'static str = "idempotency";

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(
            BY_EXPIRY,
            KeyBuilder::new().i64(self.expires_unix_seconds).build(),
        )]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.subject)
    }
}
