//! Changing keys while the store is in use: rotation, and destroying patients' keys.
//!
//! Each change of the key table is announced in the ledger, made, and noted as done in the ledger
//! ([`KeyStateRow`]). So a crash in between is finished at the next opening, and a table older
//! than the ledger says is refused: it would bring destroyed keys back.
//!
//! **Rotation**: the key table is wrapped under a new epoch; the index gets a new key and is sealed
//! anew, page by page; then the epoch before is dropped. **Purge**: nothing new is kept of the
//! patients; their rows are deleted; their shards get new keys, into which all keys but theirs are
//! carried over.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use super::Store;
use super::blobs::BlobId;
use super::commit::{Commit, Sequence, Write, decode};
use super::committer::{Committer, Request};
use super::core::Core;
use super::error::StoreError;
use super::keys::{Change, Envelope, KeyRow, KeyStateRow, Pending, SubjectKey, Tag};
use super::overlay::Overlay;
use super::subjects;
use super::table::{Row as _, TableId};
use crate::planted::planted;

/// Rows sealed anew in one step, during which commits wait.
const RESEAL_ROWS: usize = 512;
/// Rows read at once when a patient's are looked for.
const PAGE_ROWS: usize = 1024;
/// Rows deleted in one frame.
const DELETE_ROWS: usize = 1024;

/// A step of changing keys, done by the committing thread.
#[derive(Debug)]
pub(crate) enum KeyWork {
    /// Begin a new epoch, unless one is under way.
    Rotate,
    /// Seal index rows after this key anew.
    Reseal(Option<Vec<u8>>),
    /// Drop the epochs that nothing needs any more.
    DropOldEpochs,
    /// Keep nothing new of these patients.
    BeginPurge(Vec<Tag>),
    /// Delete these rows and destroy the keys of the patients being purged.
    FinishPurge(Vec<(TableId, Vec<u8>)>),
    /// Note as done what the key table shows to be done.
    NoteDone,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum KeyDone {
    /// It is done.
    Done,
    /// There is more, after this key.
    More(Vec<u8>),
}

/// What a rotation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The epoch now in force.
    pub epoch: u32,
    /// Steps in which the index was sealed anew.
    pub index_pages: u64,
}

/// What writing documents anew did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Documents written anew.
    pub documents: u64,
    /// Documents left as they are: of this epoch, or of format 1, which knows no patient.
    pub left: u64,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Rows deleted.
    pub rows: u64,
}

/// The key state the ledger knows; the state of a new store if it knows none.
fn key_state(core: &Core) -> Result<KeyStateRow, StoreError> {
    let key = KeyStateRow::default().key();
    match core.index.row(KeyStateRow::TABLE, &key)? {
        Some(row) => decode(&row.value),
        None => Ok(KeyStateRow {
            generation: 1,
            ..KeyStateRow::default()
        }),
    }
}

/// Compares the key table with what the ledger says of it.
///
/// # Errors
/// [`StoreError::StaleKeys`] if the table is older than the ledger allows.
pub(crate) fn check_table(core: &Core) -> Result<KeyStateRow, StoreError> {
    let state = key_state(core)?;
    let found = core.keys.generation();
    // One behind is a crash between the announcement and the table.
    let under_way = state.pending() != Pending::Nothing && found + 1 == state.generation;
    if found < state.generation && !under_way && !planted("old key table accepted") {
        return Err(StoreError::StaleKeys {
            found,
            wanted: state.generation,
        });
    }
    if found > state.generation {
        tracing::warn!(
            found,
            ledger = state.generation,
            "the key table is newer than the ledger, as after a restore to an earlier time"
        );
    }
    Ok(state)
}

impl Committer {
    /// The patient's key, made if there is none.
    pub(crate) fn subject(&mut self, subject: Tag) -> Result<SubjectKey, StoreError> {
        if self.core.health.has_stopped() {
            return Err(StoreError::Poisoned);
        }
        let core = Arc::clone(&self.core);
        let mut overlay = Overlay::over(&core.index, &self.in_flight);
        let keys = self
            .subjects
            .keys_of(&core, &[Some(subject)], &mut overlay)?;
        let fresh: Vec<Write> = keys
            .fresh_rows()
            .map(|row| Write {
                table: row.table,
                key: row.key.to_vec(),
                value: row.value.map(|value| value.to_vec()),
                expect: None,
            })
            .collect();
        let key = keys.all().first().cloned();
        if !fresh.is_empty() {
            self.commit_own(Commit {
                writes: fresh,
                ..Commit::default()
            })?;
        }
        self.subjects.note(keys);
        key.ok_or(StoreError::Crypto("a patient's key"))
    }

    /// Does one step.
    pub(crate) fn change_keys(&mut self, work: KeyWork) -> Result<KeyDone, StoreError> {
        if self.core.health.has_stopped() {
            return Err(StoreError::Poisoned);
        }
        // They write much, which is not what the reserve is for.
        if matches!(
            work,
            KeyWork::Rotate | KeyWork::Reseal(_) | KeyWork::BeginPurge(_)
        ) {
            self.core.room.check()?;
        }
        match work {
            KeyWork::Rotate => self.rotate()?,
            KeyWork::Reseal(after) => {
                let next = self.core.index.reseal(after.as_deref(), RESEAL_ROWS)?;
                return Ok(next.map_or(KeyDone::Done, KeyDone::More));
            }
            KeyWork::DropOldEpochs => self.drop_old_epochs()?,
            KeyWork::BeginPurge(subjects) => self.begin_purge(subjects)?,
            KeyWork::FinishPurge(rows) => self.finish_purge(&rows)?,
            KeyWork::NoteDone => self.note_done()?,
        }
        Ok(KeyDone::Done)
    }

    fn note(
        &mut self,
        generation: u64,
        pending: Pending,
        subjects: &[Tag],
    ) -> Result<(), StoreError> {
        let row = KeyStateRow {
            generation,
            pending: pending.into(),
            subjects: subjects.iter().map(|tag| tag.as_bytes().to_vec()).collect(),
        };
        self.commit_own(Commit {
            writes: vec![Write::put(&row)],
            ..Commit::default()
        })?;
        Ok(())
    }

    /// Writes the table. Whether it is there after a failure only an opening can tell.
    fn put_in_force(&mut self, change: Change) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.core.ledger.disk);
        let result = self
            .core
            .keys
            .put_in_force(&self.dir, disk.as_ref(), change);
        if result.is_err() {
            self.poison();
        }
        result
    }

    /// One change of the key table at a time: a purge spans several steps.
    fn refuse_while_purging(&self) -> Result<(), StoreError> {
        match key_state(&self.core)?.pending() {
            Pending::Purge => Err(StoreError::Purging),
            Pending::Nothing | Pending::Rotation | Pending::DropEpochs => Ok(()),
        }
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        self.refuse_while_purging()?;
        let core = Arc::clone(&self.core);
        if core.keys.epochs_in_use() == 1 {
            let now = core.clock.now().as_second();
            let change = core.keys.rotated(now, core.random.as_ref())?;
            self.note(change.generation(), Pending::Rotation, &[])?;
            self.put_in_force(change)?;
        }
        core.index.begin_reseal(&core.keys, core.random.as_ref())?;
        self.note_done()
    }

    fn drop_old_epochs(&mut self) -> Result<(), StoreError> {
        self.refuse_while_purging()?;
        let core = Arc::clone(&self.core);
        if !core.index.is_of_epoch(core.keys.epoch()) {
            return Err(StoreError::Index(
                "rows are under an old epoch still".to_owned(),
            ));
        }
        if let Some(change) = core.keys.without_old_epochs()
            && !planted("old epoch kept")
        {
            self.note(change.generation(), Pending::DropEpochs, &[])?;
            self.put_in_force(change)?;
        }
        self.note_done()
    }

    fn begin_purge(&mut self, subjects: Vec<Tag>) -> Result<(), StoreError> {
        let state = key_state(&self.core)?;
        if state.pending() == Pending::Purge && state.purging() == subjects {
            // Broken off after this step: it goes on.
            return Ok(());
        }
        self.refuse_while_purging()?;
        let generation = self.core.keys.generation() + 1;
        self.note(generation, Pending::Purge, &subjects)?;
        self.subjects.set_purging(subjects);
        Ok(())
    }

    fn finish_purge(&mut self, rows: &[(TableId, Vec<u8>)]) -> Result<(), StoreError> {
        let core = Arc::clone(&self.core);
        let subjects = key_state(&core)?.purging();
        for rows in rows.chunks(DELETE_ROWS) {
            let mut writes = Vec::with_capacity(rows.len());
            for (table, key) in rows {
                // It may have become another patient's since it was found.
                let Some(row) = core.index.row(*table, key)? else {
                    continue;
                };
                let subject = core.schema.get(*table)?.keys(&row.value)?.subject;
                if subject.is_some_and(|subject| subjects.contains(&subject))
                    && !planted("rows of an erased patient left")
                {
                    writes.push(Write {
                        table: *table,
                        key: key.clone(),
                        value: None,
                        expect: None,
                    });
                }
            }
            self.commit_own(Commit {
                writes,
                ..Commit::default()
            })?;
        }
        let kept = kept_keys(&core, &subjects)?;
        let change = core.keys.without_others(&kept, core.random.as_ref())?;
        self.put_in_force(change)?;
        self.note_done()
    }

    /// Notes in the ledger that the key table is as it should be.
    fn note_done(&mut self) -> Result<(), StoreError> {
        let core = Arc::clone(&self.core);
        let state = key_state(&core)?;
        let generation = core.keys.generation();
        if state.pending() == Pending::Nothing && state.generation == generation {
            return Ok(());
        }
        let purged = state.purging();
        let row = KeyStateRow {
            generation,
            ..KeyStateRow::default()
        };
        let mut writes = vec![Write::put(&row)];
        if state.pending() == Pending::Purge {
            writes.extend(
                purged
                    .iter()
                    .map(|tag| Write::delete::<KeyRow>(*tag.as_bytes())),
            );
        }
        self.commit_own(Commit {
            writes,
            ..Commit::default()
        })?;
        self.subjects.set_purging([]);
        Ok(())
    }
}

/// For each shard of the patients: the keys of all others in it.
fn kept_keys(core: &Core, subjects: &[Tag]) -> Result<Vec<(u8, Vec<Envelope>)>, StoreError> {
    let mut kept: BTreeMap<u8, Vec<Envelope>> = BTreeMap::new();
    for subject in subjects {
        let [shard, ..] = *subject.as_bytes();
        if kept.contains_key(&shard) {
            continue;
        }
        let mut envelopes = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = core
                .index
                .rows(KeyRow::TABLE, &[shard], after.as_deref(), PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, stored) in &page {
                let mut purged = subjects.iter();
                let gone = purged.any(|purged| purged.as_bytes().as_slice() == key)
                    && !planted("erased key carried over");
                if gone || planted("keys of others not carried over") {
                    continue;
                }
                let row: KeyRow = decode(&stored.value)?;
                // A ledger restored to before a purge names keys that are gone.
                if let Some(envelope) = row.envelope
                    && core.keys.open_subject(&envelope)?.is_some()
                {
                    envelopes.push(envelope);
                }
            }
        }
        kept.insert(shard, envelopes);
    }
    Ok(kept.into_iter().collect())
}

impl Store {
    /// Begins a new key epoch, if none is under way, and brings it to its end: the index is sealed
    /// anew in small steps between commits, then the epoch before is dropped. Stopped anywhere, it
    /// goes on when called again. Blocks; calls `progress` after each step.
    ///
    /// # Errors
    /// As [`Store::commit`], or what the root key's token says.
    pub fn rotate_keys(&self, progress: &mut dyn FnMut(u64)) -> Result<Rotation, StoreError> {
        self.key_work(KeyWork::Rotate)?;
        let mut index_pages = 0;
        let mut after = None;
        while let KeyDone::More(next) = self.key_work(KeyWork::Reseal(after))? {
            after = Some(next);
            index_pages += 1;
            progress(index_pages);
        }
        self.key_work(KeyWork::DropOldEpochs)?;
        Ok(Rotation {
            epoch: self.keys().epoch(),
            index_pages,
        })
    }

    /// Whether a rotation was begun and not brought to its end.
    pub fn is_rotating(&self) -> bool {
        !self.core.index.is_of_epoch(self.keys().epoch()) || self.keys().epochs_in_use() > 1
    }

    /// Destroys the keys of patients: their rows are deleted, and what the ledger, documents and
    /// copies of them still hold of these rows and documents can be read by nobody. From a backup
    /// of the key table made before it can, so those are kept for a limited time. Blocks.
    ///
    /// # Errors
    /// As [`Store::commit`]. Called again with the same patients it goes on where it was broken off.
    pub fn purge(&self, subjects: &[Tag]) -> Result<Purged, StoreError> {
        self.key_work(KeyWork::BeginPurge(subjects.to_vec()))?;
        // Before, so that a crash leaves nothing; and after, so that nothing kept meanwhile is left.
        self.forget_derived()?;
        let purged = self.finish_purge(subjects)?;
        self.forget_derived()?;
        // Deleted rows lie in the index's files for a while, under a key that ends with its epoch.
        self.rotate_keys(&mut |_| ())?;
        Ok(purged)
    }

    /// The frame that brought a patient's key; nothing if there is none, or none any more.
    ///
    /// # Errors
    /// As reading a row.
    pub fn key_made(&self, subject: Tag) -> Result<Option<Sequence>, StoreError> {
        let row = self.get::<KeyRow>(subject.as_bytes())?;
        Ok(row.map(|found| found.version))
    }

    /// Does what [`Store::purge`] does after the keys are destroyed: for one that was broken off then.
    /// Blocks.
    ///
    /// # Errors
    /// As [`Store::purge`].
    pub fn clear_after_purge(&self) -> Result<(), StoreError> {
        self.forget_derived()?;
        self.rotate_keys(&mut |_| ())?;
        Ok(())
    }

    fn finish_purge(&self, subjects: &[Tag]) -> Result<Purged, StoreError> {
        let rows = self.rows_of(subjects)?;
        let count = rows.len() as u64;
        self.key_work(KeyWork::FinishPurge(rows))?;
        Ok(Purged { rows: count })
    }

    /// Writes every document of an older epoch anew, under a key of its own made now. Stopped
    /// anywhere, it goes on when called again. The ledger stays as it is: its bytes are what hashes
    /// and proofs are over. Blocks; calls `progress` with each document looked at.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`] and others of reading and writing documents.
    pub fn reencrypt(&self, progress: &mut dyn FnMut(u64)) -> Result<Reencrypted, StoreError> {
        let mut done = Reencrypted::default();
        for (looked_at, id) in (1..).zip(self.core.blobs.list()?) {
            match self.reencrypt_one(&id) {
                Ok(true) => done.documents += 1,
                Ok(false) => done.left += 1,
                // Removed or purged meanwhile.
                Err(StoreError::BlobNotFound | StoreError::KeyDestroyed) => {}
                Err(error) => return Err(error),
            }
            progress(looked_at);
        }
        Ok(done)
    }

    /// Whether the document was written anew.
    fn reencrypt_one(&self, id: &BlobId) -> Result<bool, StoreError> {
        let mut reader = self.core.blobs.reader(id)?;
        let Some(subject) = reader.subject() else {
            return Ok(false);
        };
        if reader.epoch() == self.keys().epoch() {
            return Ok(false);
        }
        let row = self
            .core
            .readable()?
            .row(KeyRow::TABLE, subject.as_bytes())?;
        let row = row.ok_or(StoreError::KeyDestroyed)?;
        let patient = subjects::open(&self.core, subject, &decode(&row.value)?)?;
        let mut writer = self.core.blobs.writer(&patient)?;
        while let Some(chunk) = reader.next_chunk()? {
            writer.write(&chunk)?;
        }
        let closed = writer.close()?;
        if closed.info().id != *id {
            let what = "the content is not what it is named";
            return Err(StoreError::corrupt(format!("blobs/{id}"), 0, what));
        }
        closed.keep()?;
        Ok(true)
    }

    /// The rows about any of these patients.
    fn rows_of(&self, subjects: &[Tag]) -> Result<Vec<(TableId, Vec<u8>)>, StoreError> {
        let index = self.core.readable()?;
        let mut found = Vec::new();
        for (id, table) in self.core.schema.tables() {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = index.rows(id, &[], after.as_deref(), PAGE_ROWS)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, stored) in page {
                    let subject = table.keys(&stored.value)?.subject;
                    if subject.is_some_and(|subject| subjects.contains(&subject)) {
                        found.push((id, key));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Finishes what a crash interrupted.
    pub(super) fn settle_keys(&self, state: &KeyStateRow) -> Result<(), StoreError> {
        let written = self.keys().generation() >= state.generation;
        match state.pending() {
            Pending::Nothing => Ok(()),
            Pending::Rotation | Pending::DropEpochs => {
                // The upkeep tries again; meanwhile the epochs that are there serve.
                if let Err(error) = self.key_work(KeyWork::Rotate) {
                    tracing::error!(%error, "a key rotation was not finished");
                }
                Ok(())
            }
            Pending::Purge if written => self.key_work(KeyWork::NoteDone).map(|_| ()),
            Pending::Purge if planted("erasing not finished after a crash") => Ok(()),
            Pending::Purge => {
                self.forget_derived()?;
                self.finish_purge(&state.purging()).map(|_| ())
            }
        }
    }

    fn key_work(&self, work: KeyWork) -> Result<KeyDone, StoreError> {
        let (reply, answer) = mpsc::channel();
        self.ask(Request::Keys(work, reply))?;
        answer.recv().map_err(|_| StoreError::Poisoned)?
    }
}
