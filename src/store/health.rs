//! Whether the store may still promise anything.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::StoreError;
use crate::planted::planted;

/// Set by the first sync that fails, of ledger or documents, for all who share it. Nothing is
/// acknowledged from then on until the store is opened again: the kernel may call clean what it
/// never wrote, also what others wrote, so no later sync proves anything.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<watch::Sender<bool>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Health {
    /// Nothing is acknowledged any more.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it has stopped; for ever, if it never does.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.0.subscribe();
        // It fails only if the sender is gone, which is held here.
        let _stopped = stopped.wait_for(|stopped| *stopped).await.is_ok();
    }

    /// [`StoreError::Poisoned`] if it has stopped.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.has_stopped() {
            true => Err(StoreError::Poisoned),
            false => Ok(()),
        }
    }

    /// Takes the result of a sync; a failure stops the store.
    pub(crate) fn synced(&self, result: io::Result<()>) -> Result<(), StoreError> {
        result.map_err(|error| {
            tracing::error!(%error, "a sync failed; the store stops");
            if !planted("failed sync forgotten") {
                self.stop();
            }
            StoreError::Poisoned
        })
    }
}

/// Stops the store if the thread that holds this unwinds: nothing is acknowledged over a gap.
pub(crate) struct StopsOnPanic(pub(crate) Health);

impl Drop for StopsOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
