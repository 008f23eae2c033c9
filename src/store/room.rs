//! What is kept back of the disk for emergencies (bar A-05).
//!
//! A file of zeros beside the ledger takes the space as long as there is enough. When little else is left,
//! or a write of the ledger meets a full disk, the store is *full*: the file is removed, so that its space
//! is there at that moment, and only commits of emergencies are taken, with what has to be written for
//! them (frames, the index, the note of the ledger's end). Everything else is refused like on a full disk.
//! When there is space for the file again it is made anew, and everything is taken: without a restart.
//!
//! That the store is full is noticed before the last byte is taken, since the index engine does not go on
//! after a write that failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::disk::Disk;
use super::error::{IoContext as _, StoreError};
use super::health::Health;
use super::ledger::recover::remove_if_there;
use crate::clock::Clock;

/// The file's name, in the store's folder.
pub(crate) const RESERVE_FILE: &str = "reserve";
/// The store is full when less than this part of the reserve is free besides.
const LITTLE: u64 = 4;
/// While it is full, it is looked so often whether there is space again.
const AGAIN: Duration = Duration::from_secs(1);

/// Room on the disk, and the reserve.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes kept back; nothing is, if 0.
    reserve: u64,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    health: Health,
    dir: PathBuf,
    full: AtomicBool,
    /// When the reserve was last tried to be made again, by the clock's elapsed time.
    tried: Mutex<Option<Duration>>,
}

impl Room {
    /// The room of the store in `dir`; takes the reserve. A disk without space for it is full.
    ///
    /// # Errors
    /// [`StoreError::Io`] for anything but a full disk; [`StoreError::Poisoned`].
    pub(crate) fn open(
        dir: &Path,
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        health: &Health,
        reserve: u64,
    ) -> Result<Self, StoreError> {
        let room = Self {
            reserve,
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            health: health.clone(),
            dir: dir.to_path_buf(),
            full: AtomicBool::new(false),
            tried: Mutex::default(),
        };
        if reserve > 0 && !room.is_taken()? {
            match room.take() {
                Err(error) if error.is_disk_full() => {
                    tracing::error!("there is no space for the reserve of emergencies");
                    room.full.store(true, Ordering::Release);
                }
                taken => taken?,
            }
        }
        Ok(room)
    }

    /// Room of which nothing is kept back.
    pub(crate) fn unlimited(disk: &Arc<dyn Disk>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            reserve: 0,
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            health: Health::default(),
            dir: PathBuf::new(),
            full: AtomicBool::new(false),
            tried: Mutex::default(),
        }
    }

    /// Whether only emergencies are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Refuses what is no emergency while only those are taken.
    ///
    /// # Errors
    /// [`StoreError::Io`], as of a full disk.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.is_full() {
            true => Err(Self::refusal()),
            false => Ok(()),
        }
    }

    /// What is no emergency is refused with this.
    pub(crate) fn refusal() -> StoreError {
        StoreError::Io {
            operation: "keeping the rest of the disk for emergencies",
            source: Arc::new(io::ErrorKind::StorageFull.into()),
        }
    }

    /// Looks how much there is, and whether everything may be taken now. Only the committing thread asks.
    pub(crate) fn has_room(&self) -> bool {
        if self.reserve == 0 {
            return true;
        }
        // If it cannot be told, a write will tell.
        let free = self.disk.free(&self.dir).unwrap_or(u64::MAX);
        let little = self.reserve / LITTLE;
        if !self.is_full() {
            if free < little {
                self.fill();
            }
        } else if free >= self.reserve.saturating_add(2 * little) && self.may_try() {
            self.empty();
        }
        !self.is_full()
    }

    /// A write met this error: if the disk is full, so is the store.
    pub(crate) fn met(&self, error: &StoreError) {
        if self.reserve > 0 && error.is_disk_full() && !self.is_full() {
            self.fill();
        }
    }

    /// Takes emergencies only, and lets go of the reserve.
    fn fill(&self) {
        self.full.store(true, Ordering::Release);
        tracing::error!("the disk is full: only emergencies are served, from the reserve");
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.elapsed());
        let removed = remove_if_there(self.disk.as_ref(), &self.path());
        // Some file systems give space back only with the sync.
        let synced = removed.and_then(|()| self.health.synced(self.disk.fsync_dir(&self.dir)));
        if let Err(error) = synced {
            tracing::error!(%error, "the reserve was not let go of");
        }
    }

    /// Takes the reserve again, and then everything.
    fn empty(&self) {
        match self.take() {
            Ok(()) => {
                self.full.store(false, Ordering::Release);
                tracing::warn!("there is space on the disk again");
            }
            Err(error) => tracing::warn!(%error, "the reserve cannot be taken yet"),
        }
    }

    fn may_try(&self) -> bool {
        let now = self.clock.elapsed();
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let may = tried.is_none_or(|last| now.saturating_sub(last) >= AGAIN);
        if may {
            *tried = Some(now);
        }
        may
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }

    fn is_taken(&self) -> Result<bool, StoreError> {
        let found = match self.disk.open_read(&self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found,
        };
        let length = found.and_then(|file| file.len());
        let length = length.during("looking at the reserve of emergencies")?;
        Ok(length >= self.reserve)
    }

    /// Makes the file. What there is of it after a failure is removed.
    fn take(&self) -> Result<(), StoreError> {
        let during = "taking the reserve of emergencies";
        let path = self.path();
        remove_if_there(self.disk.as_ref(), &path)?;
        let made = self.disk.create(&path).and_then(|file| {
            file.preallocate(0, self.reserve)?;
            Ok(file)
        });
        let file = made.during(during).inspect_err(|_| {
            let _taken_back = self.disk.remove(&path).is_ok();
        })?;
        self.health.synced(file.fdatasync())?;
        self.health.synced(self.disk.fsync_dir(&self.dir))
    }
}
