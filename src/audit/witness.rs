//! Witnessing the logs of others (C2SP `tlog-witness`): a checkpoint is cosigned only if it continues
//! the last one of that log that was cosigned here. What was cosigned is durable before the
//! cosignature leaves, so that no log can show one history here and another one there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;

use crate::error::{Error, Reason, Result};
use crate::store::disk::{Disk, exists, read_small, write_small};

use super::derived::io_failed;
use super::merkle::{Hash, sha256, verify_consistency};
use super::note::{Checkpoint, Note, VerifierKey};

/// A file with a key and a note is no longer.
const MAX_FILE: usize = 64 << 10;
/// Logs of one community that are witnessed: a node that begins anew has another.
const MAX_LOGS: usize = 16;

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witnessed {
    /// It continues what is known: it may be cosigned.
    Continues,
    /// The proof does not begin at the size that is known here, which is this.
    Known(u64),
}

#[derive(Clone, Debug)]
struct Known {
    key: VerifierKey,
    last: Checkpoint,
}

/// The memory of a witness.
#[derive(Debug)]
pub struct Witness {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// How many logs are known of the community that this one is of: `renkei/<community>/<store>`.
fn logs_beside(known: &BTreeMap<String, Known>, origin: &str) -> usize {
    let of = |origin: &str| origin.rsplit_once('/').map(|(of, _)| of.to_owned());
    let community = of(origin);
    known.keys().filter(|known| of(known) == community).count()
}

fn conflict(what: &'static str) -> Error {
    Error::new(Reason::AuditLogBroken, what)
}

impl Witness {
    /// A witness that remembers in `folder`.
    pub fn new(folder: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self {
            folder,
            disk,
            known: Mutex::default(),
        }
    }

    fn file(&self, origin: &str) -> PathBuf {
        let name = sha256(&[origin.as_bytes()]);
        self.folder.join(HEXLOWER.encode(&name))
    }

    fn remembered(&self, origin: &str) -> Result<Option<Known>> {
        let file = self.file(origin);
        if !exists(self.disk.as_ref(), &file).map_err(io_failed)? {
            return Ok(None);
        }
        let text = read_small(self.disk.as_ref(), &file, MAX_FILE).map_err(io_failed)?;
        let text = String::from_utf8(text).map_err(Error::internal)?;
        let (key, note) = text
            .split_once('\n')
            .ok_or_else(|| Error::internal("the witness's memory is damaged"))?;
        let note: Note = note.parse()?;
        Ok(Some(Known {
            key: key.parse()?,
            last: note.checkpoint()?,
        }))
    }

    /// Judges a checkpoint of the log of `key`, of which `path` shows that it continues the tree of
    /// `from` leaves. The key of a log is the one it first came with. Blocks.
    ///
    /// # Errors
    /// [`Reason::AuditLogBroken`] if the log has another key than before, or shows another history;
    /// [`Reason::InvalidField`] if it is not a signed checkpoint.
    pub fn judge(
        &self,
        key: &VerifierKey,
        note: &Note,
        from: u64,
        path: &[Hash],
    ) -> Result<Witnessed> {
        let next = note.checkpoint()?;
        if next.origin != key.name || !note.is_signed_by(key) {
            let message = "is not signed by the log's key";
            return Err(Error::field(Reason::InvalidField, "checkpoint", message));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match known.get(&next.origin) {
            Some(before) => Some(before.clone()),
            None => self.remembered(&next.origin)?,
        };
        if let Some(before) = before {
            if before.key != *key {
                return Err(conflict("the log has another key than before"));
            }
            if before.last.size != from {
                return Ok(Witnessed::Known(before.last.size));
            }
            let (old, new) = (&before.last, &next);
            let same = old.size < new.size || old.patients == new.patients;
            if !same || !verify_consistency(old.size, new.size, &old.root, &new.root, path) {
                return Err(conflict(
                    "the log does not continue what was witnessed before",
                ));
            }
        } else if from != 0 {
            return Ok(Witnessed::Known(0));
        } else if logs_beside(&known, &next.origin) >= MAX_LOGS {
            let message = "is of more logs than a community may have witnessed here";
            return Err(Error::field(Reason::InvalidField, "checkpoint", message));
        }
        self.disk.create_dir_all(&self.folder).map_err(io_failed)?;
        let text = format!("{key}\n{note}");
        write_small(
            self.disk.as_ref(),
            &self.file(&next.origin),
            text.as_bytes(),
        )
        .map_err(io_failed)?;
        let fresh = Known {
            key: key.clone(),
            last: next.clone(),
        };
        known.insert(next.origin, fresh);
        Ok(Witnessed::Continues)
    }
}
