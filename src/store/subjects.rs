//! Patients' keys as the committing thread uses them: found, or made in the frame that needs them.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use prost::Message as _;

use super::commit::{AppliedWrite, decode};
use super::core::Core;
use super::error::StoreError;
use super::keys::{KeyRow, SubjectKey, Tag};
use super::overlay::Overlay;
use super::table::Row as _;
use crate::planted::planted;

/// Keys remembered; about 200 bytes each.
const REMEMBERED: usize = 50_000;

/// The keys used last, and the patients of whom nothing new is kept.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    known: HashMap<Tag, SubjectKey>,
    /// Patients whose keys are being destroyed.
    purging: BTreeSet<Tag>,
}

/// The keys that one frame needs.
#[derive(Debug, Default)]
pub(crate) struct FrameKeys {
    keys: Vec<SubjectKey>,
    /// How many of them, at the end, are new.
    fresh: usize,
}

impl FrameKeys {
    pub(crate) fn all(&self) -> &[SubjectKey] {
        &self.keys
    }

    /// The rows that bring the new keys into the ledger.
    pub(crate) fn fresh_rows(&self) -> impl Iterator<Item = AppliedWrite> + '_ {
        let known = self.keys.len() - self.fresh;
        self.keys.iter().skip(known).map(|key| {
            let row = KeyRow {
                subject: key.subject.as_bytes().to_vec(),
                envelope: Some(key.envelope.clone()),
            };
            AppliedWrite {
                table: KeyRow::TABLE,
                key: Bytes::from(row.key()),
                value: Some(Bytes::from(row.encode_to_vec())),
            }
        })
    }
}

impl Subjects {
    /// The keys of the patients named, each once. New ones come last.
    ///
    /// # Errors
    /// [`StoreError::Purging`] if the key of one is being destroyed; as reading a row.
    pub(crate) fn keys_of(
        &self,
        core: &Core,
        who: &[Option<Tag>],
        overlay: &mut Overlay<'_>,
    ) -> Result<FrameKeys, StoreError> {
        let named: BTreeSet<Tag> = who.iter().copied().flatten().collect();
        let (mut keys, mut fresh) = (Vec::with_capacity(named.len()), Vec::new());
        for subject in named {
            if self.purging.contains(&subject) && !planted("written while being erased") {
                return Err(StoreError::Purging);
            }
            match self.find(core, subject, overlay)? {
                Some(key) => keys.push(key),
                None => fresh.push(core.keys.new_subject(subject, core.random.as_ref())?),
            }
        }
        let count = fresh.len();
        keys.extend(fresh);
        Ok(FrameKeys { keys, fresh: count })
    }

    fn find(
        &self,
        core: &Core,
        subject: Tag,
        overlay: &mut Overlay<'_>,
    ) -> Result<Option<SubjectKey>, StoreError> {
        if let Some(key) = self.known.get(&subject) {
            return Ok(Some(key.clone()));
        }
        let key = Bytes::copy_from_slice(subject.as_bytes());
        let row = overlay.get(KeyRow::TABLE, &key)?;
        match row.map(|row| open(core, subject, &decode(&row.value)?)) {
            // A ledger restored to before a purge names keys that are gone: there is a new one.
            Some(Err(StoreError::KeyDestroyed)) | None => Ok(None),
            Some(found) => found.map(Some),
        }
    }

    /// Remembers the keys of a frame.
    pub(crate) fn note(&mut self, keys: FrameKeys) {
        if self.known.len() + keys.keys.len() > REMEMBERED {
            self.known.clear();
        }
        for key in keys.keys {
            self.known.insert(key.subject, key);
        }
    }

    /// Forgets all keys: after a failed write, or when some were destroyed.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }

    /// From now on nothing new is kept of these patients, and of these only.
    pub(crate) fn set_purging(&mut self, subjects: impl IntoIterator<Item = Tag>) {
        self.purging = subjects.into_iter().collect();
        self.known.clear();
    }
}

/// The key in its row.
pub(crate) fn open(core: &Core, subject: Tag, row: &KeyRow) -> Result<SubjectKey, StoreError> {
    let invalid = |what| StoreError::InvalidRow {
        table: KeyRow::NAME,
        what,
    };
    let envelope = row.envelope.clone().ok_or(invalid("has no key"))?;
    let secret = core.keys.open_subject(&envelope)?;
    let secret = secret.ok_or(StoreError::KeyDestroyed)?;
    Ok(SubjectKey {
        subject,
        envelope,
        secret,
    })
}
