//! How far something that follows the ledger has got, durable: a small file of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Reason, Result};
use crate::store::Keys;
use crate::store::disk::{Disk, read_small, write_small};

/// Octets of a cursor.
const MAX_CURSOR: usize = 64;

/// A number that is kept for one store.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    /// Of which store.
    store: String,
}

fn unusable(error: io::Error) -> Error {
    Error::new(Reason::StoreUnavailable, "a cursor cannot be used").caused_by(error)
}

impl Cursor {
    pub(super) fn new(disk: Arc<dyn Disk>, file: PathBuf, keys: &Keys) -> Self {
        Self {
            disk,
            file,
            store: data_encoding::HEXLOWER.encode(&keys.store_id()),
        }
    }

    /// What was kept. A cursor of another store is none: that store's log begins.
    ///
    /// # Errors
    /// The disk; damage.
    pub(super) fn read(&self) -> Result<Option<u64>> {
        let text = match read_small(self.disk.as_ref(), &self.file, MAX_CURSOR) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error)),
        };
        let damaged = || Error::new(Reason::IntegrityFailure, "a cursor is damaged");
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let (store, next) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
        let next = next.parse().map_err(|_| damaged())?;
        Ok((store == self.store).then_some(next))
    }

    /// Keeps a number instead of the one before.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn keep(&self, next: u64) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        self.disk.create_dir_all(folder).map_err(unusable)?;
        let text = format!("{} {next}\n", self.store);
        write_small(self.disk.as_ref(), &self.file, text.as_bytes()).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    #[test]
    fn a_cursor_is_kept_and_is_of_one_store() {
        let folder = tempfile::tempdir().unwrap();
        let cursor = |store: &str| Cursor {
            disk: Arc::new(RealDisk),
            file: folder.path().join("sinks/a"),
            store: store.to_owned(),
        };
        assert_eq!(cursor("aa").read().unwrap(), None);
        cursor("aa").keep(77).unwrap();
        assert_eq!(cursor("aa").read().unwrap(), Some(77));
        assert_eq!(cursor("bb").read().unwrap(), None, "of another store");
        std::fs::write(folder.path().join("sinks/a"), "aa x\n").unwrap();
        let error = cursor("aa").read().unwrap_err();
        assert_eq!(error.reason(), Reason::IntegrityFailure, "{error}");
    }
}
