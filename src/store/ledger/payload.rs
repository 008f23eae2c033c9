//! What a frame carries, once decrypted.

use bytes::Bytes;
use prost::Message as _;

use super::super::commit::{AppliedWrite, Frame, Place};
use super::super::error::StoreError;
use super::super::keys::{Envelope, Keys, Random, SubjectKey, Tag, open_row, seal_row};
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
    /// The patients' keys that rows of this frame are sealed under.
    #[prost(message, repeated, tag = "3")]
    pub(crate) keys: Vec<Envelope>,
}

/// One row put or deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteRecord {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    /// The row of no patient; neither this nor `sealed`: deleted.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) value: Option<Bytes>,
    /// The row of a patient, sealed under the key at `under`.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) sealed: Option<Bytes>,
    /// A place in the frame's `keys`.
    #[prost(uint32, tag = "5")]
    pub(crate) under: u32,
}

impl Payload {
    /// The payload of these writes and audit records. `keys` has the key of every patient that
    /// `subjects` names for a write.
    pub(crate) fn seal(
        writes: &[AppliedWrite],
        subjects: &[Option<Tag>],
        keys: &[SubjectKey],
        audit: Vec<Bytes>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let mut records = Vec::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            let mut record = WriteRecord {
                table: u32::from(write.table.0),
                key: write.key.clone(),
                ..WriteRecord::default()
            };
            let subject = subjects.get(place).copied().flatten();
            let key = keys
                .iter()
                .enumerate()
                .find(|(_, key)| Some(key.subject) == subject);
            match (&write.value, key) {
                (Some(value), Some((under, key))) => {
                    record.under = u32::try_from(under).unwrap_or(u32::MAX);
                    record.sealed = Some(seal_row(key, write.table, &write.key, value, random)?);
                }
                (value, _) => record.value.clone_from(value),
            }
            records.push(record);
        }
        Ok(Self {
            writes: records,
            audit,
            keys: keys.iter().map(|key| key.envelope.clone()).collect(),
        })
    }
}

/// Makes a frame of its verified header and decrypted payload. The row of a patient whose key was
/// destroyed reads as deleted.
pub(crate) fn decode(
    header: &FrameHeader,
    place: Place,
    hash: [u8; 32],
    payload: Vec<u8>,
    keys: &Keys,
) -> Result<Frame, StoreError> {
    let fault = |what| StoreError::InvalidRow {
        table: "ledger frame",
        what,
    };
    let payload = Payload::decode(Bytes::from(payload)).map_err(|_| fault("does not decode"))?;
    let mut secrets = Vec::with_capacity(payload.keys.len());
    for envelope in &payload.keys {
        secrets.push((&envelope.key_id, keys.open_subject(envelope)?));
    }
    let mut writes = Vec::with_capacity(payload.writes.len());
    for write in payload.writes {
        let table = u16::try_from(write.table).map_err(|_| fault("has no such table"))?;
        let table = TableId(table);
        let value = match write.sealed {
            None => write.value,
            Some(sealed) => {
                let (key_id, secret) = usize::try_from(write.under)
                    .ok()
                    .and_then(|under| secrets.get(under))
                    .ok_or(fault("names no key"))?;
                match secret {
                    None => None,
                    Some(secret) => Some(
                        open_row(secret, key_id, table, &write.key, &sealed)?
                            .ok_or(fault("has a row that does not verify"))?,
                    ),
                }
            }
        };
        let key = write.key;
        writes.push(AppliedWrite { table, key, value });
    }
    Ok(Frame {
        sequence: header.sequence,
        place,
        time: jiff::Timestamp::from_nanosecond(i128::from(header.utc_nanoseconds))
            .map_err(|_| fault("has an impossible time"))?,
        writes,
        audit: payload.audit,
        hash,
    })
}
