//! The store as a whole, on simulated and real disks. Bars: D-02, D-03, D-05 … D-09, D-12, D-14,
//! D-17, D-18, E-01, E-02, E-06 in their quick form.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests panic on failure"
)]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests panic on failure"
)]

mod altered;
mod backup;
mod blobs;

mod client;
mod clocks;
mod commit;
mod damage;
mod derived;
mod end;
mod failures;
mod follow;
mod inspect;
mod key_tables;
mod keys;
mod overlap;
mod power;
mod recovery;
mod requests;
mod room;
mod rotation;
mod scrub;
mod secrets;
mod sweep;
mod tier;

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::sim::SimDisk;
use super::*;
use crate::clock::ManualClock;

/// A row with a secondary key that changes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Note {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint32, tag = "2")]
    pub(super) group: u32,
    #[prost(string, tag = "3")]
    pub(super) text: String,
}

impl Row for Note {
    const TABLE: TableId = TableId(7);
    const NAME: &'static str = "note";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new().u64(self.id).build()
    }

    fn index(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(1, KeyBuilder::new().u32(self.group).build())]
    }

    /// Every other note is about one of a few patients.
    fn subject(&self) -> Option<Tag> {
        let patient = u8::try_from(self.id % 16).unwrap();
        (self.id % 2 == 1).then(|| Tag::from_bytes([patient; 16]))
    }
}

pub(super) fn note(id: u64, group: u32, text: &str) -> Note {
    Note {
        id,
        group,
        text: text.to_owned(),
    }
}

pub(super) fn key(id: u64) -> Vec<u8> {
    KeyBuilder::new().u64(id).build()
}

pub(super) fn put(rows: &[Note]) -> Commit {
    Commit {
        writes: rows.iter().map(Write::put).collect(),
        ..Commit::default()
    }
}

pub(super) fn audit(text: &str) -> Commit {
    Commit {
        audit: vec![Bytes::copy_from_slice(text.as_bytes())],
        ..Commit::default()
    }
}

pub(super) fn schema() -> Schema {
    Schema::new().table::<Note>()
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-24T00:00:00Z".parse().unwrap()))
}

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/store")
}

pub(super) fn sim_options(disk: &SimDisk) -> Options {
    Options {
        disk: Arc::new(disk.clone()),
        clock: clock(),
        index: IndexKind::Memory,
        segment_bytes: 16 << 10,
        preallocate_bytes: 4 << 10,
        ..Options::default()
    }
}

pub(super) fn open_sim(disk: &SimDisk) -> Result<(Arc<Store>, OpenReport), StoreError> {
    Store::open(&dir(), schema(), sim_options(disk))
}

/// The default engine on the real disk, with small segments.
pub(super) fn open_real(path: &Path) -> Result<(Arc<Store>, OpenReport), StoreError> {
    open_with(path, IndexKind::default())
}

/// An engine on the real disk, with small segments.
pub(super) fn open_with(
    path: &Path,
    index: IndexKind,
) -> Result<(Arc<Store>, OpenReport), StoreError> {
    let options = Options {
        index,
        clock: clock(),
        segment_bytes: 64 << 10,
        preallocate_bytes: 16 << 10,
        index_cache_bytes: 1 << 20,
        ..Options::default()
    };
    Store::open(path, schema(), options)
}

pub(super) fn sequence(outcome: impl Borrow<Outcome>) -> Sequence {
    match *outcome.borrow() {
        Outcome::Committed { sequence, .. } => sequence,
        Outcome::Replayed { .. } => panic!("replayed"),
    }
}

/// The key of a patient, from wherever it is asked.
pub(super) fn patient(store: &Store, byte: u8) -> SubjectKey {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let asked = store.ask(committer::Request::Subject(
        Tag::from_bytes([byte; 16]),
        sender,
    ));
    asked.unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.blocking_recv().unwrap().unwrap());
        waiting.join().unwrap()
    })
}

/// All ledger segments on the simulated disk, oldest first.
pub(super) fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect()
}
