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
/// What stands there where the machine hides its boot id.
const UNKNOWN: &str = "unknown";

/// The folder of the index.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// Where the machine tells its boot id.
    boot_id: PathBuf,
}

impl Folder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            boot_id: PathBuf::from(BOOT_ID),
        }
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
        match fs::read_to_string(self.dir.join(STATE)) {
            Ok(state) if state == DAMAGED => return Ok(Some(RebuildReason::Damaged)),
            // Without a boot id it cannot be told whether the power failed, so it may have.
            Ok(state) if boot_id(&self.boot_id).as_ref() != Some(&state) => {
                return Ok(Some(RebuildReason::PowerCut));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).during("reading the index state");
            }
            Ok(_) | Err(_) => {}
        }
        let other = match fs::read_dir(&self.dir) {
            Ok(mut entries) => entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name() != name && entry.file_name() != STATE)
            }),
            Err(_) => false,
        };
        Ok(other.then_some(RebuildReason::Engine))
    }

    /// Moves what is here out of the way; one generation is kept, for study.
    pub(super) fn set_aside(&self) -> Result<(), StoreError> {
        let aside = self.dir.with_extension("old");
        for result in [fs::remove_dir_all(&aside), fs::rename(&self.dir, &aside)] {
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
        fs::create_dir_all(&self.dir).during("making the index folder")?;
        let state = boot_id(&self.boot_id).unwrap_or_else(|| UNKNOWN.to_owned());
        self.write_state(&state).during("writing the index state")?;
        open(&self.dir.join(name))
    }

    /// Notes that the engine is closed and everything of it is durable.
    pub(super) fn closed(&self) -> Result<(), StoreError> {
        let path = self.dir.join(STATE);
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
        let mut file = File::create(self.dir.join(STATE))?;
        file.write_all(state.as_bytes())?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }
}

/// The machine's boot id; none where it is hidden.
fn boot_id(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bars: D-12. Where the boot id is hidden, an index that was not closed is not believed.
    #[test]
    fn without_a_boot_id_only_a_closed_index_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot_id");
        let folder = Folder {
            dir: dir.path().join("index"),
            boot_id: boot.clone(),
        };
        let engine = |path: &Path| fs::create_dir_all(path).during("making the engine");
        let open = || folder.open("engine", engine).unwrap().1;
        let known = [
            Some("one"),
            Some("one"),
            None,
            None,
            Some("one"),
            Some("two"),
        ];
        let expected = [false, false, true, true, true, true];
        for (turn, (id, doubted)) in known.into_iter().zip(expected).enumerate() {
            match id {
                Some(id) => fs::write(&boot, id).unwrap(),
                None => drop(fs::remove_file(&boot)),
            }
            let reason = doubted.then_some(RebuildReason::PowerCut);
            assert_eq!(open(), reason, "turn {turn}");
        }
        fs::remove_file(&boot).unwrap();
        open();
        folder.closed().unwrap();
        assert_eq!(open(), None, "it was closed");
    }
}
