//! The only maker of durable bytes: ledger, blobs, index, keys.
//!
//! A change is a [`Commit`]: rows put or deleted, their preconditions, and the audit records that
//! belong to them. It becomes one frame of the ledger, durable before it is acknowledged (INV-1),
//! and is then applied to the index that reads come from. The ledger is the record; the index can
//! be deleted at any time and is made again (INV-9). Documents are kept beside it as encrypted
//! [`Blobs`]. What rows mean is not known here; the modules that own them say how a row's keys
//! follow from it ([`Row`]).
//!
//! Reads and blob calls block for as long as a disk access; asynchronous callers move long ones to
//! a blocking thread. [`Store::commit`] is asynchronous, and completes even if its caller goes.

pub mod backup;
pub mod blobs;
mod clock_watch;
mod commit;
mod committer;
mod copy;
mod core;
mod crypto;
mod derived;
pub mod disk;
mod error;
mod finisher;
mod follow;
mod health;
mod idempotency;
mod index;
mod inspect;
pub mod keys;
mod keywork;
mod ledger;
mod load;
mod maintain;
mod offline;
mod open;
mod options;
mod overlay;
mod prepare;
mod projection;
mod read;
mod replay;
mod room;
mod scrub;
mod subjects;
mod sweep;
pub mod table;
#[cfg(test)]
mod tests;
mod upkeep;
mod walk;
mod writer;

use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use self::core::Core;
pub use blobs::{
    BlobId, BlobInfo, BlobReader, BlobWriter, Blobs, ClosedBlob, KeptBlob, Quarantined, Why,
};
pub use commit::{
    AppliedWrite, Commit, Expect, Follower, Frame, Idempotency, Outcome, Place, Sequence,
    Versioned, Write,
};
use committer::{Request, Waiting};
pub use derived::{Derived, Kept, NotKept};
use error::IoContext as _;
pub use error::StoreError;
pub use follow::Frames;
pub use inspect::{Found, Inspection, inspect};
pub use keys::{Keys, Random, RootSource, SubjectKey, SystemRandom, Tag};
pub use keywork::{Purged, Reencrypted, Rotation};
pub use load::Load;
pub use offline::is_store as is_there;
pub use options::{CheckReport, Fault, IndexKind, OpenReport, Options, RebuildReason, Stats};
pub use read::{Lookup, Page};
pub use scrub::{ScrubOptions, ScrubReport};
pub use sweep::SweepReport;
pub use table::{IndexKey, KeyBuilder, Row, Schema, TableId};
pub use upkeep::{Upkeep, keep_documents, keep_keys};
pub use walk::{Sealed, Walked, open_keys_of, walk};

/// An open store. Dropping it closes it, waiting for what is already queued.
#[derive(Debug)]
pub struct Store {
    core: Arc<Core>,
    requests: Option<Sender<Request>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Room in the queue, in units of [`Options::MIN_COMMIT_COST`] bytes.
    queue: Arc<Semaphore>,
    queue_units: usize,
    commit_bytes: usize,
    idempotency_kept: Duration,
}

impl Store {
    /// Opens the store in `dir`, making it if there is none, and brings it to the state of its
    /// last durable frame. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`]; the errors of opening its keys;
    /// [`StoreError::Corrupt`] if the ledger is damaged anywhere but in a write that was never
    /// acknowledged; [`StoreError::UnknownTable`] if it has rows of a table that is not in
    /// `schema`; [`StoreError::InvalidRow`] if two row types of `schema` share a number.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers make options for one opening"
    )]
    pub fn open(
        dir: &Path,
        schema: Schema,
        options: Options,
    ) -> Result<(Arc<Self>, OpenReport), StoreError> {
        let unfinished = dir.join(offline::UNFINISHED);
        let unfinished = disk::exists(options.disk.as_ref(), &unfinished);
        if unfinished.during("looking for an unfinished restoration")? {
            return Err(StoreError::Missing("the rest of a restoration"));
        }
        open::open(dir, schema, &options)
    }

    /// Commits a change. On `Ok` it is durable (INV-1), applied, and known to every follower.
    ///
    /// Once the change is in the queue it completes even if the returned future is dropped.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::IdempotencyMismatch`], [`StoreError::TooLarge`],
    /// [`StoreError::UnknownTable`], [`StoreError::InvalidRow`] and [`StoreError::Io`]: nothing was
    /// changed. [`StoreError::Poisoned`]: the fate of the change is unknown until the store is
    /// opened again. [`StoreError::Closed`].
    pub async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let size = commit.size();
        if size > self.commit_bytes {
            let (size, limit) = (size as u64, self.commit_bytes as u64);
            return Err(StoreError::TooLarge {
                what: "change",
                size,
                limit,
            });
        }
        let units = size
            .div_ceil(Options::MIN_COMMIT_COST)
            .clamp(1, self.queue_units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let _waits = self.core.counters.load.waits();
        let permit = Arc::clone(&self.queue)
            .acquire_many_owned(units)
            .await
            .map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Commit(Waiting {
            commit,
            permit: Some(permit),
            reply,
        }))?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// The key of a patient, made and durable if there was none: what a document of the patient is
    /// written under.
    ///
    /// # Errors
    /// [`StoreError::Purging`] while the patient's key is being destroyed; as [`Store::commit`].
    pub async fn subject(&self, subject: Tag) -> Result<SubjectKey, StoreError> {
        if let Some(row) = self.get::<keys::KeyRow>(subject.as_bytes())? {
            match subjects::open(&self.core, subject, &row.row) {
                Err(StoreError::KeyDestroyed) => {}
                found => return found,
            }
        }
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Subject(subject, reply))?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// Calls `follower` for every later change. A follower that builds on existing rows is added
    /// before the first commit and then reads them with [`Store::scan`].
    pub fn follow(&self, follower: Arc<dyn Follower>) {
        self.core.follow(follower);
    }

    /// The store's keys.
    pub fn keys(&self) -> &Keys {
        &self.core.keys
    }

    /// The documents.
    pub fn blobs(&self) -> &Blobs {
        &self.core.blobs
    }

    /// How long a request is remembered by its idempotency key, in seconds.
    pub fn remembers_for(&self) -> i64 {
        i64::try_from(self.idempotency_kept.as_secs()).unwrap_or(i64::MAX)
    }

    /// The last durable frame.
    pub fn last_sequence(&self) -> Sequence {
        self.core.ledger.durable()
    }

    /// The last frame that reads see the rows of. It is behind [`Store::last_sequence`] for a moment
    /// after a commit, and by frames without rows.
    pub fn applied(&self) -> Sequence {
        self.core.index.applied()
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Waits until the store has stopped because a sync failed: nothing is acknowledged from then on
    /// until it is opened again. For ever, if none fails.
    pub async fn stopped(&self) {
        self.core.health.stopped().await;
    }

    /// Empties the index and makes it again from the ledger. Commits wait and reads are refused
    /// until it is done. Returns the number of frames applied.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], [`StoreError::Closed`], or what the ledger or index report.
    pub async fn rebuild(&self) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Rebuild(reply))?;
        answer.await.map_err(|_| StoreError::Poisoned)?
    }

    /// Finishes what is queued, marks ledger and index as closed in order, and lets go of the lock.
    /// Closing twice is no error. Reads still work until the store is dropped.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] if the store had stopped, or what the disk reports.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.queue.close();
        let (reply, answer) = oneshot::channel();
        if self.ask(Request::Close(reply)).is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    fn ask(&self, request: Request) -> Result<(), StoreError> {
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(request).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.requests = None;
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ended_well = thread.join().is_ok();
        }
    }
}
