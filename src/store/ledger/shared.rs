//! Which segments there are, and how far the ledger is durable.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::super::commit::Sequence;
use super::super::disk::Disk;
use super::super::keys::Keys;
use super::end::Noted;
use super::format::SegmentHeader;

/// What writer and readers of the ledger share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) keys: Arc<Keys>,
    /// How far the ledger must reach, as noted before this opening.
    pub(super) noted: Option<Noted>,
    segments: RwLock<Vec<SegmentHeader>>,
    durable: watch::Sender<Sequence>,
}

impl Shared {
    pub(crate) fn new(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        keys: Arc<Keys>,
        segments: Vec<SegmentHeader>,
    ) -> Self {
        Self {
            dir,
            disk,
            keys,
            noted: None,
            segments: RwLock::new(segments),
            durable: watch::Sender::new(Sequence(0)),
        }
    }

    /// Sets how far the ledger must reach.
    pub(super) fn reaching(self, noted: Option<Noted>) -> Self {
        Self { noted, ..self }
    }

    /// The last frame that is durable.
    pub(crate) fn durable(&self) -> Sequence {
        *self.durable.borrow()
    }

    pub(crate) fn set_durable(&self, sequence: Sequence) {
        self.durable.send_replace(sequence);
    }

    /// Tells whoever listens each time the ledger has become longer.
    pub(crate) fn watch(&self) -> watch::Receiver<Sequence> {
        self.durable.subscribe()
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<SegmentHeader> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The segment that holds the frame `sequence`, or will.
    pub(crate) fn segment_of(&self, sequence: Sequence) -> Option<SegmentHeader> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments
            .iter()
            .rev()
            .find(|header| header.first_sequence <= sequence)
            .cloned()
    }

    /// Whether the frame `sequence` is in a segment after the one numbered `number`.
    pub(crate) fn ends_before(&self, number: u64, sequence: Sequence) -> bool {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments
            .iter()
            .rev()
            .take_while(|header| header.number > number)
            .any(|header| header.first_sequence <= sequence)
    }

    pub(super) fn add(&self, header: SegmentHeader) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(header);
    }
}
