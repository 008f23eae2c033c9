//! Where an engine keeps its files, and whether they may be believed.
//!
//! The file `state` beside an engine's own folder is absent after an orderly close (before which
//! the engine has synced everything); it holds the machine's boot id while the engine is in use, so
//! that after a power cut, but not after a mere kill, everything is made again; and `damaged` once
//! something did not verify. What cannot be believed is set aside, and an empty engine opened.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::super::error::{IoContext as _, StoreError};
use super::super::options::RebuildReason;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const DAMAGED: &str = "damaged";
const STATE: &str = "state";

/// The folder of the index.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_path_buf())
    }

    /// Opens the engine that keeps its files in the folder `name`, or an empty one if what is there
    /// cannot be believed, with the reason.
    pub(super) fn open<E>(
        &self,
        name: &str,
        open: impl Fn(&Path) -> Result<E, StoreError>,
    ) -> Result<(E, Option<RebuildReason>), StoreError> {
        if let Some(reason) = self.doubt(name)? {
            self.set_aside()?;
            return Ok((self.begin(name, open)?, Some(reason)));
        }
        match self.begin(name, &open) {
            Ok(engine) => Ok((engine, None)),
            Err(StoreError::Index(_)) => {
                self.set_aside()?;
                Ok((self.begin(name, open)?, Some(RebuildReason::Damaged)))
            }
            Err(error) => Err(error),
        }
    }

    /// Why what is here cannot be believed.
    fn doubt(&self, name: &str) -> Result<Option<RebuildReason>, StoreError> {
        match fs::read_to_string(self.0.join(STATE)) {
            Ok(state) if state == DAMAGED => return Ok(Some(RebuildReason::Damaged)),
            Ok(state) if state != boot_id() => return Ok(Some(RebuildReason::PowerCut)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).during("reading the index state");
            }
            Ok(_) | Err(_) => {}
        }
        let other = match fs::read_dir(&self.0) {
            Ok(mut entries) => entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name() != name && entry.file_name() != STATE)
            }),
            Err(_) => false,
        };
        Ok(other.then_some(RebuildReason::Engine))
    }

    /// Moves what is here out of the way; one generation is kept, for study.
    pub(super) fn set_aside(&self) -> Result<(), StoreError> {
        let aside = self.0.with_extension("old");
        for result in [fs::remove_dir_all(&aside), fs::rename(&self.0, &aside)] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).during("setting the index aside");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn begin<E>(
        &self,
        name: &str,
        open: impl Fn(&Path) -> Result<E, StoreError>,
    ) -> Result<E, StoreError> {
        fs::create_dir_all(&self.0).during("making the index folder")?;
        self.write_state(&boot_id())
            .during("writing the index state")?;
        open(&self.0.join(name))
    }

    /// Notes that the engine is closed and everything of it is durable.
    pub(super) fn closed(&self) -> Result<(), StoreError> {
        let path = self.0.join(STATE);
        match fs::read_to_string(&path) {
            Ok(state) if state == DAMAGED => Ok(()),
            Ok(_) => fs::remove_file(path).during("writing the index state"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).during("reading the index state"),
        }
    }

    /// Notes that something did not verify.
    pub(super) fn damaged(&self) {
        // If this cannot be written either, the entry still fails to verify the next time.
        let _written = self.write_state(DAMAGED).is_ok();
    }

    fn write_state(&self, state: &str) -> io::Result<()> {
        let mut file = File::create(self.0.join(STATE))?;
        file.write_all(state.as_bytes())?;
        file.sync_all()?;
        File::open(&self.0)?.sync_all()
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_else(|_| "unknown".to_owned())
}
