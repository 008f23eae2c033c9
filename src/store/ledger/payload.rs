//! What a frame carries, once decrypted.

use bytes::Bytes;
use prost::Message as _;

use super::super::commit::{AppliedWrite, Frame};
use super::super::error::StoreError;
use super::super::table::TableId;
use super::format::FrameHeader;

/// The content of a frame. Fields may be added; numbers are never reused.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    /// The rows put and deleted.
    #[prost(message, repeated, tag = "1")]
    pub(crate) writes: Vec<WriteRecord>,
    /// The audit records.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) audit: Vec<Bytes>,
}

/// One row put or deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteRecord {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) value: Option<Bytes>,
}

impl Payload {
    /// The payload of these writes and audit records.
    pub(crate) fn new(writes: &[AppliedWrite], audit: Vec<Bytes>) -> Self {
        let writes = writes
            .iter()
            .map(|write| WriteRecord {
                table: u32::from(write.table.0),
                key: write.key.clone(),
                value: write.value.clone(),
            })
            .collect();
        Self { writes, audit }
    }
}

/// Makes a frame of its verified header and decrypted payload.
pub(crate) fn decode(
    header: &FrameHeader,
    hash: [u8; 32],
    payload: Vec<u8>,
) -> Result<Frame, StoreError> {
    let fault = |what| StoreError::InvalidRow {
        table: "ledger frame",
        what,
    };
    let payload = Payload::decode(Bytes::from(payload)).map_err(|_| fault("does not decode"))?;
    let mut writes = Vec::with_capacity(payload.writes.len());
    for write in payload.writes {
        let table = u16::try_from(write.table).map_err(|_| fault("has no such table"))?;
        writes.push(AppliedWrite {
            table: TableId(table),
            key: write.key,
            value: write.value,
        });
    }
    Ok(Frame {
        sequence: header.sequence,
        time: jiff::Timestamp::from_nanosecond(i128::from(header.utc_nanoseconds))
            .map_err(|_| fault("has an impossible time"))?,
        writes,
        audit: payload.audit,
        hash,
    })
}
