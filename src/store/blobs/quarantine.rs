//! Where documents go that are not wanted or not whole: `quarantine/<name>.<why>.<Unix seconds>`.
//! What nobody refers to is deleted from there in time; what does not verify is kept for study.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::super::error::{IoContext as _, StoreError};
use super::format::HEADER_BYTES;
use super::{BlobId, Blobs};

const FOLDER: &str = "quarantine";

/// Why a document is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing referred to it.
    Swept,
    /// It did not verify.
    Corrupt,
}

impl Why {
    /// As it stands in the file name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Swept => "swept",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A document in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name.
    pub id: BlobId,
    /// Why it is there.
    pub why: Why,
    /// Since when.
    pub since: Timestamp,
    file: String,
}

impl Quarantined {
    fn parse(file: String) -> Option<Self> {
        let mut parts = file.split('.');
        let id = HEXLOWER.decode(parts.next()?.as_bytes()).ok()?;
        let word = parts.next()?;
        let why = [Why::Swept, Why::Corrupt]
            .into_iter()
            .find(|why| why.word() == word)?;
        let seconds = parts.next()?.parse().ok()?;
        Some(Self {
            id: BlobId::from_slice(&id)?,
            why,
            since: Timestamp::from_second(seconds).ok()?,
            file,
        })
    }
}

/// The header of a document's file, whatever is in it; nothing if there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head(Option<Vec<u8>>);

impl Blobs {
    fn quarantine_dir(&self) -> PathBuf {
        self.dir.join(FOLDER)
    }

    /// Every document in quarantine.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn quarantined(&self) -> Result<Vec<Quarantined>, StoreError> {
        match self.disk.list(&self.quarantine_dir()) {
            Ok(names) => Ok(names.into_iter().filter_map(Quarantined::parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).during("listing the quarantine"),
        }
    }

    /// Moves a document into quarantine; durable after [`Blobs::harden_moves`]. `false` if there is
    /// none.
    pub(super) fn set_aside(&self, id: &BlobId, why: Why) -> Result<bool, StoreError> {
        let to = self.quarantine_dir();
        self.health.check()?;
        self.disk
            .create_dir_all(&to)
            .during("making the quarantine")?;
        let folder = self.folder(id);
        let _alone = folder.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().as_second();
        let name = format!("{id}.{}.{now}", why.word());
        match self.disk.rename(&self.path(id), &to.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).during("moving a blob into quarantine"),
        }
    }

    /// Moves a document that nothing refers to into quarantine, unless an upload holds it. Its second
    /// copy goes first, so that nothing is mended from it.
    pub(crate) fn sweep(&self, id: &BlobId) -> Result<bool, StoreError> {
        let swept = self.holds.unless_held(id, || {
            let second = match &self.second {
                Some(second) => second.set_aside(id, Why::Swept)?,
                None => false,
            };
            Ok(self.set_aside(id, Why::Swept)? || second)
        });
        swept.unwrap_or(Ok(false))
    }

    /// Moves a document that does not verify into quarantine, unless an upload holds it: that one
    /// is about to find out by itself.
    /// `head` is the head of the file that was found bad: one that came in its place meanwhile stays.
    pub(super) fn condemn(&self, id: &BlobId, head: &Head) -> Result<bool, StoreError> {
        let moved = self.holds.unless_held(id, || {
            if self.head(id)? != *head {
                return Ok(false);
            }
            self.set_aside(id, Why::Corrupt)
        });
        let moved = moved.unwrap_or(Ok(false))?;
        self.harden_moves(&[*id])?;
        Ok(moved)
    }

    /// What tells a document's file from another of the same name: its header, which has a random id. One
    /// that the disk does not give is like none: another in its place differs.
    pub(super) fn head(&self, id: &BlobId) -> Result<Head, StoreError> {
        let mut head = vec![0; HEADER_BYTES];
        let read = match self.disk.open_read(&self.path(id)) {
            Ok(file) => file.read_at(&mut head, 0).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Head(None)),
            Err(error) => return Err(error).during("reading a blob"),
        };
        head.truncate(read);
        Ok(Head(Some(head)))
    }

    /// Makes moves into quarantine durable.
    pub(crate) fn harden_moves(&self, moved: &[BlobId]) -> Result<(), StoreError> {
        if let Some(second) = &self.second {
            second.harden_moves(moved)?;
        }
        let mut folders: Vec<PathBuf> = moved
            .iter()
            .filter_map(|id| self.path(id).parent().map(PathBuf::from))
            .collect();
        if !folders.is_empty() {
            folders.push(self.quarantine_dir());
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            match self.disk.fsync_dir(&folder) {
                // A copy that never was need not be moved.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => self.health.synced(result)?,
            }
        }
        Ok(())
    }

    /// Deletes what was swept longer ago than `kept`. Returns how many.
    pub(crate) fn empty_quarantine(
        &self,
        now: Timestamp,
        kept: Duration,
    ) -> Result<u64, StoreError> {
        if let Some(second) = &self.second {
            second.empty_quarantine(now, kept)?;
        }
        let mut deleted = 0;
        for found in self.quarantined()? {
            let over = now.duration_since(found.since);
            if found.why == Why::Swept && over.as_secs() >= 0 && over.unsigned_abs() >= kept {
                self.disk
                    .remove(&self.quarantine_dir().join(&found.file))
                    .during("emptying the quarantine")?;
                deleted += 1;
            }
        }
        if deleted > 0 {
            self.health
                .synced(self.disk.fsync_dir(&self.quarantine_dir()))?;
        }
        Ok(deleted)
    }
}
