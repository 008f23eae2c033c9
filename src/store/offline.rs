//! What backup, restore and check share: a store's folder seen from outside.

use std::path::{Path, PathBuf};

use super::disk::exists;
use super::error::{IoContext as _, StoreError};
use super::keys::{self, Keys, RootSource};
use super::options::Options;

/// The key file of format 1, which a node moves into a key table when it opens the store.
const OLD_KEY_FILE: &str = "store.meta";

/// The file that says that a folder is being restored and is no store yet.
pub(crate) const UNFINISHED: &str = "restore.unfinished";

/// Whether the root key can be asked for: its file is there, or it is in a token.
pub(crate) fn has_root(dir: &Path, options: &Options) -> Result<bool, StoreError> {
    match options.root_of(dir) {
        RootSource::File(path) => {
            exists(options.disk.as_ref(), &path).during("looking for the root key")
        }
        RootSource::Token(_) => Ok(true),
    }
}

/// The keys of the store in `dir`; `None` if its root key is not at hand, or the store was last
/// used in format 1. Nothing is made.
pub(crate) fn open_keys(dir: &Path, options: &Options) -> Result<Option<Keys>, StoreError> {
    let disk = options.disk.as_ref();
    if !keys::is_there(dir, disk)? || !has_root(dir, options)? {
        return Ok(None);
    }
    let (root, now) = (options.root_of(dir), options.clock.now().as_second());
    Keys::open_or_create(dir, &root, &options.disk, options.random.as_ref(), now).map(Some)
}

/// Whether a store was ever made in `dir`.
///
/// # Errors
/// [`StoreError::Io`].
pub fn is_store(dir: &Path, options: &Options) -> Result<bool, StoreError> {
    let disk = options.disk.as_ref();
    Ok(keys::is_there(dir, disk)?
        || exists(disk, &dir.join(OLD_KEY_FILE)).during("looking for key files")?)
}

/// The files beside ledger and documents without which nothing can be decrypted, by their names
/// in the store, and where each is to be read: the key table first.
///
/// # Errors
/// [`StoreError::Io`]; [`StoreError::Corrupt`] if no copy of the key table is whole.
pub(crate) fn key_files(
    dir: &Path,
    options: &Options,
) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let disk = options.disk.as_ref();
    let mut files = keys::sources(dir, disk)?;
    let old = dir.join(OLD_KEY_FILE);
    if exists(disk, &old).during("looking for key files")? {
        files.push((OLD_KEY_FILE.to_owned(), old));
    }
    Ok(files)
}
