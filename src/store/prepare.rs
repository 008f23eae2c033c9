//! Judging a commit: idempotency, preconditions, and what it will do to the index.

use bytes::Bytes;
use prost::Message as _;

use super::blobs::BlobId;
use super::commit::{AppliedWrite, Commit, Expect, Idempotency, Sequence, Write, decode};
use super::core::Core;
use super::error::StoreError;
use super::idempotency::IdempotencyRow;
use super::keys::Tag;
use super::ledger::format::FrameKind;
use super::ledger::payload::Payload;
use super::overlay::Overlay;
use super::projection::{Mutation, project};
use super::subjects::Subjects;
use super::table::{BLOB_INDEX, Row as _, TableId};
use crate::planted::planted;

/// A commit that may go through.
pub(crate) enum Prepared {
    /// It becomes a frame.
    Frame {
        writes: Vec<AppliedWrite>,
        mutations: Vec<Mutation>,
        kind: FrameKind,
        payload: Vec<u8>,
    },
    /// It was committed before, with this receipt.
    Replay(Bytes),
}

/// Judges a commit against the state before it and makes its frame. On error nothing is noted.
pub(crate) fn prepare(
    core: &Core,
    commit: Commit,
    sequence: Sequence,
    now_unix_seconds: i64,
    overlay: &mut Overlay<'_>,
    subjects: &mut Subjects,
) -> Result<Prepared, StoreError> {
    if let Some(idempotency) = &commit.idempotency
        && let Some(receipt) = replay(idempotency, now_unix_seconds, overlay)?
    {
        return Ok(Prepared::Replay(receipt));
    }
    let mut writes = Vec::with_capacity(commit.writes.len() + 1);
    for Write {
        table,
        key,
        value,
        expect,
    } in commit.writes
    {
        let key = Bytes::from(key);
        if let Some(expect) = expect {
            hold(expect, table, &key, overlay)?;
        }
        writes.push(AppliedWrite {
            table,
            key,
            value: value.map(Bytes::from),
        });
    }
    let made = project(&core.schema, sequence, 0, &writes, overlay)?;
    let (mut mutations, mut who) = (made.mutations, made.subjects);
    if let Some(idempotency) = &commit.idempotency {
        let write = memory_of(idempotency, &who);
        let remembered = std::slice::from_ref(&write);
        let made = project(&core.schema, sequence, writes.len(), remembered, overlay)?;
        mutations.extend(made.mutations);
        who.extend(made.subjects);
        writes.push(write);
    }
    let keys = subjects.keys_of(core, &who, overlay)?;
    let fresh: Vec<AppliedWrite> = keys.fresh_rows().collect();
    if !fresh.is_empty() {
        let made = project(&core.schema, sequence, writes.len(), &fresh, overlay)?;
        mutations.extend(made.mutations);
        who.extend(made.subjects);
        writes.extend(fresh);
    }
    blobs_are_there(core, &mutations)?;
    let kind = if writes.is_empty() {
        FrameKind::Audit
    } else {
        FrameKind::Change
    };
    let random = core.random.as_ref();
    let mut payload = Payload::seal(&writes, &who, keys.all(), commit.audit, random)?;
    if planted("audit record not in the frame") {
        payload.audit.clear();
    }
    if planted("idempotency key not in the frame") {
        let other = |table| table != u32::from(IdempotencyRow::TABLE.0);
        payload.writes.retain(|write| other(write.table));
    }
    let payload = payload.encode_to_vec();
    overlay.note(sequence, &writes);
    subjects.note(keys);
    Ok(Prepared::Frame {
        writes,
        mutations,
        kind,
        payload,
    })
}

/// The row that remembers the request. Its receipt may repeat what the rows say, so it goes with
/// them when the key of the one patient they are about is destroyed.
fn memory_of(idempotency: &Idempotency, who: &[Option<Tag>]) -> AppliedWrite {
    let mut row = IdempotencyRow::from(idempotency);
    let mut named = who.iter().copied().flatten();
    let first = named.next();
    if let Some(subject) = first.filter(|first| named.all(|other| other == *first)) {
        row.subject = subject.as_bytes().to_vec();
    }
    AppliedWrite {
        table: IdempotencyRow::TABLE,
        key: Bytes::from(row.key()),
        value: Some(Bytes::from(row.encode_to_vec())),
    }
}

/// A frame never refers to a document that is not there, or whose patient's key was destroyed
/// while it was uploaded.
fn blobs_are_there(core: &Core, mutations: &[Mutation]) -> Result<(), StoreError> {
    for mutation in mutations {
        if let Mutation::PutEntry { key, .. } = mutation
            && key.index == BLOB_INDEX
            && let Some(id) = BlobId::from_slice(&key.key)
        {
            core.blobs.confirm(&id)?;
        }
    }
    Ok(())
}

fn hold(
    expect: Expect,
    table: TableId,
    key: &Bytes,
    overlay: &mut Overlay<'_>,
) -> Result<(), StoreError> {
    let found = overlay.get(table, key)?.map(|row| row.version);
    let wanted = match expect {
        Expect::Absent => None,
        Expect::Version(version) => Some(version),
    };
    if found == wanted || planted("precondition not judged") {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// The receipt of the same request, if it was committed before and is still remembered.
fn replay(
    idempotency: &Idempotency,
    now_unix_seconds: i64,
    overlay: &mut Overlay<'_>,
) -> Result<Option<Bytes>, StoreError> {
    let key = Bytes::copy_from_slice(idempotency.key.as_bytes());
    let Some(stored) = overlay.get(IdempotencyRow::TABLE, &key)? else {
        return Ok(None);
    };
    let row: IdempotencyRow = decode(&stored.value)?;
    if row.expires_unix_seconds <= now_unix_seconds {
        return Ok(None);
    }
    if row.body_hash != idempotency.body_hash && !planted("other bytes under a key accepted") {
        return Err(StoreError::IdempotencyMismatch);
    }
    Ok(Some(row.receipt))
}
