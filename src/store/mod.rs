//! The only maker of durable bytes: ledger, blobs, index, keys.

pub mod blobs;
mod commit;
mod crypto;
pub mod disk;
mod error;
mod idempotency;
pub mod keys;
mod options;
pub mod table;

use std::path::Path;
use std::sync::Arc;

pub use blobs::{BlobId, BlobInfo, BlobReader, BlobWriter, Blobs};
pub use commit::{
    AppliedWrite, Commit, Expect, Follower, Frame, Idempotency, Outcome, Sequence, Versioned, Write,
};
pub use error::StoreError;
pub use keys::{Keys, Tag};
pub use options::{CheckReport, Fault, IndexKind, OpenReport, Options, RebuildReason, Stats};
pub use table::{IndexKey, KeyBuilder, Row, Schema, TableId};

/// An open store.
#[derive(Debug)]
pub struct Store {
    keys: Arc<Keys>,
    blobs: Blobs,
}

#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::unused_async,
    unused_variables,
    clippy::needless_pass_by_value,
    reason = "skeleton"
)]
impl Store {
    pub fn open(
        dir: &Path,
        schema: Schema,
        options: Options,
    ) -> Result<(Arc<Self>, OpenReport), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn follow(&self, follower: Arc<dyn Follower>) {}
    pub fn get<R: Row>(&self, key: &[u8]) -> Result<Option<Versioned<R>>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn range<R: Row>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Versioned<R>)>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn by_index<R: Row>(
        &self,
        index: u8,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Versioned<R>)>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn scan<R: Row>(
        &self,
        visit: &mut dyn FnMut(Versioned<R>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub fn read_frames(
        &self,
        from: Sequence,
    ) -> impl Iterator<Item = Result<Frame, StoreError>> + Send + use<> {
        std::iter::empty()
    }
    pub async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn last_sequence(&self) -> Sequence {
        Sequence(0)
    }
    pub fn tag(&self, domain: &str, bytes: &[u8]) -> Tag {
        self.keys.tag(domain, bytes)
    }
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
    pub fn check(&self, progress: &mut dyn FnMut(&CheckReport)) -> Result<CheckReport, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn rebuild(&self) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn dump(&self) -> Result<[u8; 32], StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn close(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
}
