//! A permit on which an answer rests until it has left: judged again when the patient's wishes change.

use std::fmt;

use tokio::sync::watch;

/// What one decision rests on while its answer is under way.
pub struct Lease {
    changed: watch::Receiver<u64>,
    holds: Box<dyn Fn() -> bool + Send + Sync>,
    /// It was judged, and did not hold: it does not come back.
    ended: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Lease {
    /// A lease that is judged again by `holds` whenever `changed` changes.
    pub fn new(
        changed: watch::Receiver<u64>,
        holds: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            changed,
            holds: Box::new(holds),
            ended: false,
        }
    }

    /// Whether it holds: judged again if anything changed since it was last judged.
    pub(super) fn holds(&mut self) -> bool {
        if !self.ended && matches!(self.changed.has_changed(), Ok(true)) {
            self.changed.mark_unchanged();
            self.ended = !(self.holds)();
        }
        !self.ended
    }

    /// Notices of changes, for who waits.
    pub(super) fn notices(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}
