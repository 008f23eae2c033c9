//! What is handed to the store and what comes back: changes, preconditions, outcomes, followers.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::error::StoreError;
use super::keys::Tag;
use super::table::{Row, TableId};

/// The place of a frame in the ledger: 1 for the first, then without gaps. The only order there is
/// (INV-10). 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What must hold of a row for the whole commit to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No row has the key.
    Absent,
    /// The row was last written by this frame.
    Version(Sequence),
}

/// One row put or deleted.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// The row's table.
    pub table: TableId,
    /// The row's primary key.
    pub key: Vec<u8>,
    /// The encoded row; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// A precondition, judged against the state just before this commit.
    pub expect: Option<Expect>,
}

impl Write {
    /// Puts `row` under its own key.
    pub fn put<R: Row>(row: &R) -> Self {
        Self {
            table: R::TABLE,
            key: row.key(),
            value: Some(row.encode_to_vec()),
            expect: None,
        }
    }

    /// Deletes the row of table `R` with this primary key, if there is one.
    pub fn delete<R: Row>(key: impl Into<Vec<u8>>) -> Self {
        Self {
            table: R::TABLE,
            key: key.into(),
            value: None,
            expect: None,
        }
    }

    /// Adds a precondition.
    #[must_use]
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = Some(expect);
        self
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.value.as_ref().map(Vec::len);
        write!(
            f,
            "Write(table {}, value bytes {size:?}, {:?})",
            self.table.0, self.expect
        )
    }
}

/// Makes a repeat of a request answer what the first answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Keyed hash of caller and idempotency key.
    pub key: Tag,
    /// SHA-256 of the request.
    pub body_hash: [u8; 32],
    /// What a repeat is answered with.
    pub receipt: Bytes,
    /// When the key may be forgotten, in seconds since 1970 (UTC).
    pub expires_unix_seconds: i64,
}

/// One atomic change with its audit records: wholly in the ledger, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The rows. Preconditions of all are judged before any is applied.
    pub writes: Vec<Write>,
    /// Encoded audit events; the store does not look inside.
    pub audit: Vec<Bytes>,
    /// Set for requests that may be repeated.
    pub idempotency: Option<Idempotency>,
    /// It belongs to an emergency: taken also when the disk is full, from what is kept back for it.
    pub emergency: bool,
}

impl Commit {
    /// Whether only audit records are carried; such a commit does not touch the index.
    pub fn is_audit_only(&self) -> bool {
        self.writes.is_empty() && self.idempotency.is_none()
    }

    /// About how many bytes the commit takes in memory and in the ledger.
    pub(crate) fn size(&self) -> usize {
        let writes: usize = self
            .writes
            .iter()
            .map(|w| 16 + w.key.len() + w.value.as_ref().map_or(0, Vec::len))
            .sum();
        let audit: usize = self.audit.iter().map(|record| 8 + record.len()).sum();
        let receipt = self
            .idempotency
            .as_ref()
            .map_or(0, |i| 96 + i.receipt.len());
        writes + audit + receipt
    }
}

/// How a commit ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The change is durable (INV-1) and readable.
    Committed {
        /// Its frame.
        sequence: Sequence,
        /// The hash of the frame as it lies on disk: what the audit tree is over.
        hash: [u8; 32],
    },
    /// The same request was committed before; nothing was changed now.
    Replayed {
        /// The receipt kept from the first time.
        receipt: Bytes,
    },
}

/// A row and the frame that last wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<R> {
    /// The frame; give it to [`Expect::Version`].
    pub version: Sequence,
    /// The row.
    pub row: R,
}

/// A write as it stands in the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct AppliedWrite {
    /// The row's table.
    pub table: TableId,
    /// The row's primary key.
    pub key: Bytes,
    /// The encoded row; `None` if it was deleted.
    pub value: Option<Bytes>,
}

impl AppliedWrite {
    /// The row, if this write put one into the table of `R`.
    ///
    /// # Errors
    /// [`StoreError::InvalidRow`] if the bytes do not decode as `R`.
    pub fn row<R: Row>(&self) -> Result<Option<R>, StoreError> {
        match &self.value {
            Some(value) if self.table == R::TABLE => decode(value).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

impl fmt::Debug for AppliedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.value.as_ref().map(Bytes::len);
        write!(
            f,
            "AppliedWrite(table {}, value bytes {size:?})",
            self.table.0
        )
    }
}

/// Decodes a row.
pub(crate) fn decode<R: Row>(bytes: &[u8]) -> Result<R, StoreError> {
    R::decode(bytes).map_err(|_| StoreError::InvalidRow {
        table: R::NAME,
        what: "does not decode",
    })
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// Where in its file the frame starts, in bytes.
    pub offset: u64,
}

/// One frame of the ledger, verified and decrypted.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number.
    pub sequence: Sequence,
    /// Where it lies.
    pub place: Place,
    /// When it was written, by the clock of the machine that wrote it. Data, not order (INV-10).
    pub time: Timestamp,
    /// The rows it changed.
    pub writes: Vec<AppliedWrite>,
    /// Its audit records.
    pub audit: Vec<Bytes>,
    /// The hash of the frame as it lies on disk, which the next frame names.
    pub hash: [u8; 32],
}

impl Frame {
    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let writes = self.writes.iter().map(|write| {
            size_of::<AppliedWrite>() + write.key.len() + write.value.as_ref().map_or(0, Bytes::len)
        });
        size_of::<Self>() + writes.sum::<usize>() + self.audit.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Something that keeps itself up to date from the stream of changes: in-memory indexes, caches,
/// subscriptions.
pub trait Follower: Send + Sync {
    /// Called once a frame with writes, in order, after the index has it and before its commit is
    /// acknowledged. It runs on the committing thread: be quick, do not commit, do not panic.
    fn applied(&self, sequence: Sequence, writes: &[AppliedWrite]);
}
