//! The next segment file, made ahead of time: filling one with zeros takes as long as writing it,
//! and commits would wait for that.
//!
//! The thread writes zeros in steps, each made durable by itself and followed by a rest as long as
//! it took, so that a commit's sync beside it stays short and the disk is the commits' for half of the
//! time at least. If it does not get there in time, or the disk is full, the writer makes the file as
//! it would have without.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::disk::{Disk, DiskFile};
use super::super::error::{IoContext as _, StoreError};
use super::recover::remove_if_there;

/// How much is written and made durable in one step, in bytes. Each costs the file system a commit of
/// its journal besides, which syncs of commits wait for.
const STEP_BYTES: u64 = 1 << 20;

/// The longest rest between two steps.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// What the writer and the thread share.
#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Where zeros start and end.
    from: u64,
    to: u64,
    ready: Mutex<Option<Arc<dyn DiskFile>>>,
    stop: AtomicBool,
    /// The last one could not be made.
    failed: AtomicBool,
}

/// The writer's hold on the thread.
#[derive(Debug)]
pub(super) struct Spare {
    shared: Arc<Shared>,
    asked: bool,
    orders: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spare {
    /// Starts the thread; it does nothing until asked.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: u64,
        to: u64,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            disk,
            path: dir.join("spare.tmp"),
            from,
            to,
            ready: Mutex::default(),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let (orders, received) = mpsc::sync_channel(1);
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-spare".to_owned())
            .spawn(move || working.run(&received))
            .during("starting the thread for segments")?;
        Ok(Self {
            shared,
            asked: false,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Asks for a file, unless that was done since the last was taken.
    pub(super) fn ask(&mut self) {
        if !self.asked
            && let Some(orders) = &self.orders
        {
            self.asked = orders.try_send(()).is_ok();
        }
    }

    /// The file, if it is ready, with its name and how far it has zeros. It must be renamed before
    /// another is asked for.
    pub(super) fn take(&mut self) -> Option<(Arc<dyn DiskFile>, PathBuf, u64)> {
        let Some(file) = self.shared.ready().take() else {
            // It may be tried again for the next segment: the disk may have been full.
            self.asked &= !self.shared.failed.swap(false, Ordering::Relaxed);
            return None;
        };
        self.asked = false;
        Some((file, self.shared.path.clone(), self.shared.to))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ended_well = thread.join().is_ok();
        }
        if self.asked {
            // The next opening would remove it too.
            let _removed = self.shared.disk.remove(&self.shared.path).is_ok();
        }
    }
}

impl Shared {
    fn ready(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn DiskFile>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, orders: &Receiver<()>) {
        for () in orders {
            match self.make() {
                Ok(file) => *self.ready() = file,
                Err(error) => {
                    tracing::warn!(%error, "no segment could be made ahead of time");
                    // Its space may be all there is.
                    let _taken_back = self.disk.remove(&self.path).is_ok();
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// `None` if it is to stop.
    fn make(&self) -> Result<Option<Arc<dyn DiskFile>>, StoreError> {
        let disk = self.disk.as_ref();
        remove_if_there(disk, &self.path)?;
        let file = disk.create(&self.path).during("making a ledger segment")?;
        let mut at = self.from;
        while at < self.to {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (next, began) = ((at + STEP_BYTES).min(self.to), Instant::now());
            file.preallocate(at, next)
                .and_then(|()| file.fdatasync())
                .during("taking disk space for the ledger")?;
            std::thread::sleep(began.elapsed().min(LONGEST_REST));
            at = next;
        }
        Ok(Some(file))
    }
}
