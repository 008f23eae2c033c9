//! What can go wrong in the store. Messages carry positions and kinds, never patient data (INV-8).

use std::io;
use std::sync::Arc;

use super::table::TableId;

/// A failure of the store. Cheap to clone, because one failed disk call answers a whole batch.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A disk call failed; the change it belonged to is not acknowledged.
    #[error("{operation} failed: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A precondition of the commit does not hold; nothing was appended.
    #[error("a precondition of the change does not hold")]
    Conflict,
    /// The idempotency key was used before with another body; nothing was appended.
    #[error("the idempotency key was used before with another body")]
    IdempotencyMismatch,
    /// A sync or an index application failed earlier: nothing more is acknowledged until the store
    /// is opened again. The fate of a change answered like this is unknown to its caller.
    #[error("the store stopped after a failed sync; it must be opened again")]
    Poisoned,
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// The index is being rebuilt, so reads would have gaps (INV-6).
    #[error("the index is being rebuilt")]
    Rebuilding,
    /// Another process holds the store.
    #[error("the store is in use by another process")]
    Locked,
    /// Bytes on disk are not what was written.
    #[error("{place} is corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file, by its name inside the store, or the part of the store.
        place: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// The root key is not the one this store was made with.
    #[error("the root key does not belong to this store")]
    WrongKey,
    /// The store exists but its root key does not, or a part that only comes with the key is gone.
    #[error("{0} is missing from an existing store")]
    Missing(&'static str),
    /// The key table is older than the ledger says it must be: an old copy was put back, which
    /// would bring destroyed keys back.
    #[error("the key table has generation {found}; the ledger asks for {wanted} or later")]
    StaleKeys {
        /// The table's generation.
        found: u64,
        /// The generation the ledger knows.
        wanted: u64,
    },
    /// The token that holds the root key failed.
    #[error("the root key's token: {0} failed")]
    Token(&'static str),
    /// The patient's keys are being destroyed: nothing new is kept of that patient meanwhile.
    #[error("the patient's keys are being destroyed")]
    Purging,
    /// What is asked for was sealed under a key that was destroyed.
    #[error("the key was destroyed")]
    KeyDestroyed,
    /// The root key file can be read by others than its owner.
    #[error("the root key file has mode {mode:o}; it must be readable by its owner only")]
    KeyExposed {
        /// The permission bits found.
        mode: u32,
    },
    /// The file was written by a version of the format this program does not know.
    #[error("{what} has format version {found}; this program reads up to {supported}")]
    Format {
        /// Which format.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The newest version this program reads.
        supported: u16,
    },
    /// The change or document is larger than the store takes.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The table is not part of the schema the store was opened with.
    #[error("table {} is not in the schema", .0.0)]
    UnknownTable(TableId),
    /// A row does not decode, or does not sit under its own key.
    #[error("a row of table {table} is invalid: {what}")]
    InvalidRow {
        /// The table's name.
        table: &'static str,
        /// What does not hold.
        what: &'static str,
    },
    /// The folder a store is to be restored into is not empty.
    #[error("the folder is not empty")]
    NotEmpty,
    /// The backup does not reach the frame wanted.
    #[error("frame {wanted} is not in the backup, which ends at frame {last}")]
    OutOfRange {
        /// The frame wanted.
        wanted: u64,
        /// The last one there is.
        last: u64,
    },
    /// No such blob.
    #[error("no such blob")]
    BlobNotFound,
    /// The index engine failed.
    #[error("index engine: {0}")]
    Index(String),
    /// The cryptographic library refused, or the random source failed.
    #[error("{0} failed in the cryptographic library")]
    Crypto(&'static str),
}

impl StoreError {
    /// Corruption of `place` at `offset`.
    pub(crate) fn corrupt(place: impl Into<String>, offset: u64, what: &'static str) -> Self {
        Self::Corrupt {
            place: place.into(),
            offset,
            what,
        }
    }

    /// Whether bytes on disk are wrong or cannot be read: what another copy would mend.
    pub(crate) fn is_damage(&self) -> bool {
        /// `EIO` of every Linux.
        const INPUT_OUTPUT_ERROR: i32 = 5;
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => source.raw_os_error() == Some(INPUT_OUTPUT_ERROR),
            _ => false,
        }
    }

    /// Whether the disk was full or a quota reached: the caller may try again later.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Names the operation an I/O error belongs to.
pub(crate) trait IoContext<T> {
    /// Turns the I/O error into a [`StoreError::Io`].
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            operation,
            source: Arc::new(source),
        })
    }
}
