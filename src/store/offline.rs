//! What backup, restore and check share: a store's folder seen from outside.

use std::io;
use std::path::Path;

use super::disk::exists;
use super::error::{IoContext as _, StoreError};
use super::keys::{Keys, RootSource, TABLE_FILE};
use super::options::Options;

/// The key file of format 1, which a node moves into a key table when it opens the store.
const OLD_KEY_FILE: &str = "store.meta";
/// The folder of keys that outlived others of their shard.
const CARRIED: &str = "keys";

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
    let table = exists(disk, &dir.join(TABLE_FILE)).during("looking for the key table")?;
    if !table || !has_root(dir, options)? {
        return Ok(None);
    }
    let (root, now) = (options.root_of(dir), options.clock.now().as_second());
    Keys::open_or_create(dir, &root, disk, options.random.as_ref(), now).map(Some)
}

/// Whether a store was ever made in `dir`.
///
/// # Errors
/// [`StoreError::Io`].
pub fn is_store(dir: &Path, options: &Options) -> Result<bool, StoreError> {
    Ok(!key_files(dir, options)?.is_empty())
}

/// The files beside ledger and documents without which nothing can be decrypted, by their names
/// in the store: the key table first.
pub(crate) fn key_files(dir: &Path, options: &Options) -> Result<Vec<String>, StoreError> {
    let disk = options.disk.as_ref();
    let mut names = Vec::new();
    for name in [TABLE_FILE, OLD_KEY_FILE] {
        if exists(disk, &dir.join(name)).during("looking for key files")? {
            names.push(name.to_owned());
        }
    }
    match disk.list(&dir.join(CARRIED)) {
        Ok(files) => {
            let whole = files.iter().filter(|file| {
                let ending = Path::new(file).extension();
                ending.is_none_or(|ending| ending != "tmp")
            });
            names.extend(whole.map(|file| format!("{CARRIED}/{file}")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).during("listing key files"),
    }
    Ok(names)
}
