//! The search index: in memory, made from the patient table or from what the last run [kept](kept),
//! and kept current by the committer (a [`Follower`]).
//!
//! It is packed, since there is one for each record of each person: a record is a few texts and
//! numbers in one piece of memory ([`packed`]), unpacked when it is compared; what leads to it is
//! little more than ten bytes for each key ([`postings`]).

mod index;
mod kept;
mod packed;
mod plans;
mod postings;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::{AppliedWrite, Follower, Row as _, Sequence, Store, StoreError};
use crate::types::LinkageId;

use super::tables::PatientRow;
use super::traits::{identifier, traits};

use index::{Brought, Builder, Known};
pub(crate) use index::{Entry, Index};
pub(crate) use plans::plans;

/// A patient's tag: keyed hash of the identifier.
pub(crate) type PatientTag = [u8; 16];

/// Parts of the patient table by the first byte of the tag.
const PARTS: u16 = 256;

/// The index behind its lock.
#[derive(Default)]
pub(crate) struct Search {
    index: RwLock<Index>,
    /// The last frame that was applied, whole. Beside the lock: most frames are not of patients.
    applied: AtomicU64,
    /// Held while the index is being kept.
    keeping: Mutex<Option<kept::Last>>,
}

impl Search {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a record whose feed failed before it was committed.
    pub(crate) fn forget_pending(&self, tag: &PatientTag) {
        // Nearly always it is committed: that does not keep others from reading.
        let pending = |entry: Entry<'_>| !entry.is_committed();
        if !self.read().get(tag).is_some_and(pending) {
            return;
        }
        let mut index = self.write();
        if index.get(tag).is_some_and(pending) {
            index.remove(tag);
        }
    }

    /// Makes the index as of the last frame: from what was kept, or from the patient table.
    ///
    /// # Errors
    /// What reading the table or the ledger reports.
    pub(crate) fn open(&self, store: &Store) -> Result<(), StoreError> {
        if self.restore(store) {
            return Ok(());
        }
        self.fill(store)
    }

    /// Puts every row of the patient table. Computing what is searched by takes most of the time,
    /// so all processors do it.
    ///
    /// # Errors
    /// What reading the table reports.
    fn fill(&self, store: &Store) -> Result<(), StoreError> {
        // A tag is a keyed hash: every first byte has as many as another.
        let (next, applied) = (AtomicU16::new(0), store.last_sequence());
        let threads = threads();
        let builder = Builder::default();
        let work = || -> Result<Brought, StoreError> {
            let (mut part, mut begun) = (builder.part(), false);
            while let Ok(first) = u8::try_from(next.fetch_add(1, Ordering::Relaxed)) {
                let (mut records, mut keys) = (0, 0);
                store.scan_under::<PatientRow>(&[first], &mut |found| {
                    if let Some(known) = prepare(&found.row) {
                        records += 1;
                        keys += part.add(&known);
                    }
                    Ok(())
                })?;
                if !begun {
                    let parts = usize::from(PARTS) / threads;
                    part.reserve(records * parts, keys * parts);
                    begun = true;
                }
            }
            Ok(part.end())
        };
        let all = in_parallel(threads, &work, || {
            StoreError::Index("filling the search index panicked".to_owned())
        })?;
        *self.write() = builder.finish(all);
        self.applied.store(applied.0, Ordering::Release);
        Ok(())
    }

    /// Puts a row of the patient table.
    fn put_row(&self, row: &PatientRow) {
        match (prepare(row), PatientTag::try_from(row.tag.as_slice())) {
            (Some(known), _) => self.change(|index| index.put(&known)),
            (None, Ok(tag)) => self.change(|index| index.remove(&tag)),
            (None, Err(_)) => tracing::error!("a patient row without a tag"),
        }
    }

    fn change(&self, how: impl FnOnce(&mut Index)) {
        let mut index = self.write();
        how(&mut index);
        index.changes += 1;
    }
}

/// Threads that make the index: all there are.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What so many threads bring.
fn in_parallel<T: Send, E: Send>(
    threads: usize,
    work: &(dyn Fn() -> Result<T, E> + Sync),
    panicked: impl Fn() -> E,
) -> Result<Vec<T>, E> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        ends.map(|end| end.unwrap_or_else(|_| Err(panicked())))
            .collect()
    })
}

/// What is searched by; `None` for a record that is withdrawn, or not readable.
fn prepare(row: &PatientRow) -> Option<Known> {
    let tag = PatientTag::try_from(row.tag.as_slice()).ok()?;
    let linkage = <[u8; 16]>::try_from(row.linkage.as_slice()).ok()?;
    let patient = row.patient.as_ref().filter(|patient| !patient.inactive)?;
    let known = patient
        .demographics
        .as_ref()
        .map(traits)
        .unwrap_or_default();
    let not_same = row
        .not_same
        .iter()
        .filter_map(|tag| tag.as_slice().try_into().ok());
    let Ok(identifier) = identifier(patient.identifier.as_ref(), "identifier") else {
        tracing::error!("a patient row without a readable identifier");
        return None;
    };
    Some(Known {
        tag,
        shown: Some((identifier, patient.home_community_id.as_str().into())),
        linkage: LinkageId::from_bytes(linkage),
        traits: known,
        not_same: not_same.collect(),
    })
}

impl Follower for Search {
    fn applied(&self, sequence: Sequence, writes: &[AppliedWrite]) {
        for write in writes
            .iter()
            .filter(|write| write.table == PatientRow::TABLE)
        {
            match (
                write.row::<PatientRow>(),
                PatientTag::try_from(write.key.as_ref()),
            ) {
                (Ok(Some(row)), _) => self.put_row(&row),
                (Ok(None), Ok(tag)) => self.change(|index| index.remove(&tag)),
                _ => tracing::error!("a patient row could not be indexed"),
            }
        }
        self.applied.store(sequence.0, Ordering::Release);
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Search")
    }
}
