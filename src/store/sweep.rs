//! Garbage collection of documents: what is on disk and nothing refers to.
//!
//! Candidates are looked for beside the commits; the decision is taken on the committing thread,
//! where no commit is under way and every earlier one is in the index. What goes, goes into
//! quarantine first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Store;
use super::blobs::BlobId;
use super::committer::Request;
use super::core::Core;
use super::error::StoreError;
use super::table::BLOB_INDEX;

/// Documents decided on in one go; commits wait that long.
const BATCH: usize = 32;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Documents looked at.
    pub examined: u64,
    /// Documents that nothing refers to, moved into quarantine.
    pub swept: u64,
    /// Documents deleted from quarantine because their time there was over.
    pub deleted: u64,
}

impl Core {
    /// Whether a row refers to the document.
    pub(crate) fn is_referred_to(&self, id: &BlobId) -> Result<bool, StoreError> {
        let index = self.readable()?;
        for (table, _) in self.schema.tables() {
            if !index
                .entries(table, BLOB_INDEX, id.as_bytes(), None, 1)?
                .is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves those of the documents that nothing refers to into quarantine. Only the committing
    /// thread calls this.
    pub(crate) fn sweep(&self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        let mut moved = Vec::new();
        for id in ids {
            if !self.is_referred_to(id)? && self.blobs.sweep(id)? {
                moved.push(*id);
            }
        }
        Ok(moved)
    }

    /// Of one folder of documents: how many there are, and those nothing refers to.
    fn candidates(&self, folder: u8) -> Result<(u64, Vec<BlobId>), StoreError> {
        let ids = self.blobs.list_copies(folder)?;
        let examined = ids.len() as u64;
        let mut unreferred = Vec::new();
        for id in ids {
            if !self.is_referred_to(&id)? {
                unreferred.push(id);
            }
        }
        Ok((examined, unreferred))
    }
}

/// Runs blocking work of the store beside the callers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::Closed)?
}

impl Store {
    /// Moves documents that no row refers to, and that no upload is about to register, into
    /// quarantine, and deletes from there what was swept longer ago than `kept`.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], [`StoreError::Closed`], [`StoreError::Rebuilding`],
    /// [`StoreError::Index`] or [`StoreError::Io`]; what was swept until then stays swept.
    pub async fn sweep(&self, kept: Duration) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        for folder in 0..=u8::MAX {
            let core = Arc::clone(&self.core);
            let (examined, candidates) = blocking(move || core.candidates(folder)).await?;
            report.examined += examined;
            for batch in candidates.chunks(BATCH) {
                let (reply, answer) = oneshot::channel();
                self.ask(Request::Sweep(batch.to_vec(), reply))?;
                let moved = answer.await.map_err(|_| StoreError::Poisoned)??;
                report.swept += moved.len() as u64;
                let blobs = self.core.blobs.clone();
                blocking(move || blobs.harden_moves(&moved)).await?;
            }
        }
        let core = Arc::clone(&self.core);
        report.deleted =
            blocking(move || core.blobs.empty_quarantine(core.clock.now(), kept)).await?;
        Ok(report)
    }
}
