//! Documents that are being registered: between their keeping and the frame that refers to them the
//! sweep leaves them alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::BlobId;

/// How many hold each document.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<HashMap<BlobId, usize>>>);

impl Holds {
    fn held(&self) -> MutexGuard<'_, HashMap<BlobId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes hold of a document, which need not be there yet.
    pub(super) fn hold(&self, id: BlobId) -> Hold {
        *self.held().entry(id).or_default() += 1;
        Hold {
            holds: self.clone(),
            id,
        }
    }

    /// Does `act` if nobody holds the document, and nobody can take hold of it meanwhile.
    pub(super) fn unless_held<T>(&self, id: &BlobId, act: impl FnOnce() -> T) -> Option<T> {
        let held = self.held();
        (!held.contains_key(id)).then(act)
    }
}

/// Keeps a document from being swept while it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Holds,
    id: BlobId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.held();
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}
