//! Changes of wishes while an answer is under way: whoever answers is told, before the change is
//! acknowledged (bars Z-03, Z-13).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::{AppliedWrite, Follower, Row as _, Sequence, Tag};

use super::service::ConsentRow;

type Waiting = HashMap<Tag, HashMap<u64, watch::Sender<u64>>>;

/// Who waits for changes of whose wishes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

/// Waits for changes of some patients' wishes, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    changes: Arc<Changes>,
    tags: Vec<Tag>,
    id: u64,
    changed: watch::Receiver<u64>,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes of the wishes of the patients of these tags, from now on.
    pub(super) fn wait(self: &Arc<Self>, tags: Vec<Tag>) -> Waiter {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, changed) = watch::channel(0);
        let mut waiting = self.lock();
        for tag in &tags {
            waiting.entry(*tag).or_default().insert(id, sender.clone());
        }
        drop(waiting);
        Waiter {
            changes: Arc::clone(self),
            tags,
            id,
            changed,
        }
    }

    fn tell(&self, tag: Option<Tag>) {
        let waiting = self.lock();
        let one = tag.map(|tag| waiting.get(&tag));
        let told: Vec<&watch::Sender<u64>> = match one {
            Some(waiters) => waiters.into_iter().flat_map(HashMap::values).collect(),
            None => waiting.values().flat_map(HashMap::values).collect(),
        };
        for sender in told {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl Follower for Changes {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        let writes = writes.iter();
        for write in writes.filter(|write| write.table == ConsentRow::TABLE) {
            let row = write.row::<ConsentRow>().ok().flatten();
            // Whose wish was deleted is not known here: everybody looks again.
            self.tell(row.and_then(|row| row.subject()));
        }
    }
}

impl Waiter {
    /// Whose changes are waited for, to be cloned into a lease.
    pub(super) fn receiver(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.changes.lock();
        for tag in &self.tags {
            if let Some(waiters) = waiting.get_mut(tag) {
                waiters.remove(&self.id);
                if waiters.is_empty() {
                    waiting.remove(tag);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_the_patient_is_told_and_nobody_is_kept() {
        let changes = Arc::new(Changes::default());
        let tag = |byte| Tag::from_slice(&[byte; 16]).unwrap();
        let (one, other) = (
            changes.wait(vec![tag(1)]),
            changes.wait(vec![tag(2), tag(3)]),
        );
        changes.tell(Some(tag(2)));
        assert!(!one.receiver().has_changed().unwrap());
        assert!(other.changed.has_changed().unwrap());
        changes.tell(None);
        assert!(one.changed.has_changed().unwrap());
        drop((one, other));
        assert!(changes.lock().is_empty());
    }
}
