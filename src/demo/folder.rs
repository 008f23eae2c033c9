//! A folder that lives as long as a run.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// A new folder among the system's temporary ones, removed when dropped: two runs never meet.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A folder for a `run` (its name begins with it).
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn new(run: &str) -> Result<Self> {
        let name = format!("renkei-{run}-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
