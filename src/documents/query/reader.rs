//! Reads the objects of the registry for one call: by patient, by entryUUID, uniqueId or logicalID, by
//! association. What the caller may not know of is not there (INV-3).
//!
//! | asked by | index |
//! |---|---|
//! | patient | `BY_PATIENT` of each table, for every identifier of the person |
//! | entryUUID | primary key |
//! | uniqueId | `unique` |
//! | logicalID | `BY_LOGICAL` |
//! | association | `BY_SOURCE`, `BY_TARGET` |

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use crate::access::{Action, Call, Denial, Permit, View};
use crate::consent::{About, Guard};
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::store::{Row, Store, Versioned};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;

use super::super::Documents;
use super::super::tables::{AssociationRow, EntryRow, FolderRow, SubmissionRow, UniqueRow};
use super::item::{Found, FoundAssociation, FoundFolder, FoundSet};
use super::plan::Names;

/// Rows read at once.
const BATCH: usize = 512;
/// Rows read where the call runs: as many as most patients have, well under a millisecond. Beyond, other
/// calls go to other threads meanwhile.
const INLINE: usize = 128;
/// Rows one call reads at most (INV-7): beyond it the query must be narrowed.
const MAX_READ: usize = 100_000;
/// An association may be the member of a set, and its ends may be associations; not for ever.
const MAX_DEPTH: u32 = 4;

/// Reads for one call.
pub(crate) struct Reader<'a> {
    documents: &'a Documents,
    guard: &'a Guard,
    call: &'a Call,
    read: usize,
    /// Whether there may be known what there is of a patient.
    listed: HashMap<PatientIdentifier, bool>,
    /// What of a patient's documents may be known.
    views: HashMap<PatientIdentifier, View>,
    shown: HashMap<Vec<u8>, bool>,
}

/// Calls `visit` for every row whose key in `index` starts with `prefix`, a batch in memory at a time.
pub(in super::super) fn rows<R: Row>(
    store: &Store,
    index: u8,
    prefix: &[u8],
    mut visit: impl FnMut(Versioned<R>) -> Result<()>,
) -> Result<()> {
    let mut after: Option<Vec<u8>> = None;
    // Whether there may be more.
    let mut visit_batch = |limit: usize| -> Result<bool> {
        let batch = store.by_index::<R>(index, prefix, after.as_deref(), limit)?;
        let whole = batch.len() == limit;
        for (key, row) in batch {
            after = Some(key);
            visit(row)?;
        }
        Ok(whole)
    };
    if !visit_batch(INLINE)? {
        return Ok(());
    }
    aside(usize::MAX, || {
        while visit_batch(BATCH)? {}
        Ok(())
    })
}

/// Runs work on so many rows; if they are many, so that the other tasks of this worker go on elsewhere.
pub(super) fn aside<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    let on_many = || {
        Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    match rows > INLINE && on_many() {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(documents: &'a Documents, guard: &'a Guard, call: &'a Call) -> Self {
        Self {
            documents,
            guard,
            call,
            read: 0,
            listed: HashMap::new(),
            views: HashMap::new(),
            shown: HashMap::new(),
        }
    }

    /// The permit to list what there is of a patient.
    ///
    /// # Errors
    /// The uniform [`Reason::NotPermitted`].
    pub(super) fn permit(&self, patient: &PatientIdentifier) -> Result<Permit> {
        self.about(patient);
        let about = About {
            patients: std::slice::from_ref(patient),
            ..About::default()
        };
        let permit = self
            .guard
            .authorize_for(self.call, Action::FindDocuments, about)?;
        // An unknown patient is not told from one who refused (bars Z-02, Z-10).
        if !self.guard.knows(patient) {
            return Err(self.call.refuse(Denial::UnknownPatient));
        }
        Ok(permit)
    }

    /// The tags of every identifier of the person.
    pub(super) fn person(&self, patient: &PatientIdentifier) -> Vec<Vec<u8>> {
        let keys = self.documents.store.keys();
        let all = self.identifiers(patient);
        all.iter().map(|id| keys.patient_tag(id).to_vec()).collect()
    }

    /// Notes whom the call is about.
    pub(super) fn about(&self, patient: &PatientIdentifier) {
        let tag = self.documents.store.keys().patient_tag(patient).to_vec();
        self.call.note(|record| record.patient = Some(tag));
    }

    /// Calls `visit` for every row whose key in `index` starts with `prefix`.
    pub(super) fn each<R: Row>(
        &mut self,
        index: u8,
        prefix: &[u8],
        mut visit: impl FnMut(&mut Self, Versioned<R>) -> Result<()>,
    ) -> Result<()> {
        rows::<R>(&self.documents.store, index, prefix, |row| {
            self.count(1)?;
            visit(self, row)
        })
    }

    /// Every identifier of the person.
    pub(super) fn identifiers(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        self.guard.identifiers_of(patient)
    }

    fn count(&mut self, rows: usize) -> Result<()> {
        self.read += rows;
        // The answer would come too late.
        if self.read.is_multiple_of(BATCH) && Instant::now() > self.call.deadline() {
            let message = "the registry could not be gone through in time; narrow the query";
            return Err(Error::new(Reason::DeadlineExceeded, message));
        }
        if self.read <= MAX_READ {
            return Ok(());
        }
        let message = "there is more than one query may go through; narrow it";
        Err(Error::new(Reason::TooManyResults, message))
    }

    fn get<R: Row>(&mut self, uuid: &[u8]) -> Result<Option<Versioned<R>>> {
        self.count(1)?;
        Ok(self.documents.store.get::<R>(uuid)?)
    }

    /// The entry, if there is one and the caller may know.
    pub(super) fn entry(&mut self, uuid: &[u8]) -> Result<Option<Found>> {
        let found = self.get::<EntryRow>(uuid)?.and_then(Found::of);
        self.if_shown(found, Self::shows_entry)
    }

    /// The submission set, if there is one and the caller may know.
    pub(super) fn set(&mut self, uuid: &[u8]) -> Result<Option<FoundSet>> {
        let row = self.get::<SubmissionRow>(uuid)?;
        let found = row.and_then(|row| FoundSet::of(row.row));
        self.if_shown(found, Self::shows_set)
    }

    /// The folder, if there is one and the caller may know.
    pub(super) fn folder(&mut self, uuid: &[u8]) -> Result<Option<FoundFolder>> {
        let row = self.get::<FolderRow>(uuid)?;
        let found = row.and_then(|row| FoundFolder::of(row.row));
        self.if_shown(found, Self::shows_folder)
    }

    /// The association, if there is one and the caller may know.
    pub(super) fn association(&mut self, uuid: &[u8]) -> Result<Option<FoundAssociation>> {
        let row = self.get::<AssociationRow>(uuid)?;
        let found = row.and_then(|row| FoundAssociation::of(row.row));
        self.if_shown(found, Self::shows_association)
    }

    fn if_shown<T>(
        &mut self,
        found: Option<T>,
        shows: fn(&mut Self, &T) -> Result<bool>,
    ) -> Result<Option<T>> {
        let Some(found) = found else { return Ok(None) };
        Ok(shows(self, &found)?.then_some(found))
    }

    /// The entries named that the caller may know of, of every version.
    pub(super) fn entries(&mut self, names: &Names) -> Result<Vec<Found>> {
        let mut entries = Vec::new();
        for uuid in self.named::<EntryRow>(names, EntryRow::BY_LOGICAL)? {
            entries.extend(self.entry(&uuid)?);
        }
        Ok(entries)
    }

    /// The submission sets named that the caller may know of.
    pub(super) fn sets(&mut self, names: &Names) -> Result<Vec<FoundSet>> {
        let mut sets = Vec::new();
        for uuid in self.ids(names)? {
            sets.extend(self.set(&uuid)?);
        }
        Ok(sets)
    }

    /// The folders named that the caller may know of, of every version.
    pub(super) fn folders(&mut self, names: &Names) -> Result<Vec<FoundFolder>> {
        let mut folders = Vec::new();
        for uuid in self.named::<FolderRow>(names, FolderRow::BY_LOGICAL)? {
            folders.extend(self.folder(&uuid)?);
        }
        Ok(folders)
    }

    fn named<R: Row>(&mut self, names: &Names, by_logical: u8) -> Result<Vec<Vec<u8>>> {
        let Names::Logicals(logicals) = names else {
            return self.ids(names);
        };
        let mut uuids = Vec::new();
        for logical in logicals {
            self.each::<R>(by_logical, logical.as_bytes(), |_, row| {
                uuids.push(row.row.key());
                Ok(())
            })?;
        }
        Ok(uuids)
    }

    fn ids(&mut self, names: &Names) -> Result<Vec<Vec<u8>>> {
        match names {
            Names::Uuids(uuids) | Names::Logicals(uuids) => {
                Ok(uuids.iter().map(|uuid| uuid.as_bytes().to_vec()).collect())
            }
            Names::Uniques(ids) => {
                let mut uuids = Vec::new();
                for id in ids {
                    let tag = self.documents.unique_tag(id);
                    if let Some(unique) = self.get::<UniqueRow>(&tag)? {
                        uuids.extend(unique.row.holders().map(<[u8]>::to_vec));
                    }
                }
                Ok(uuids)
            }
        }
    }

    /// The associations whose source (or target, by `index`) is the object, which the caller may
    /// know of.
    pub(super) fn associations(
        &mut self,
        index: u8,
        object: &[u8],
    ) -> Result<Vec<FoundAssociation>> {
        let mut all = Vec::new();
        self.each::<AssociationRow>(index, object, |reader, row| {
            let Some(found) = FoundAssociation::of(row.row) else {
                return Ok(());
            };
            if reader.shows_association(&found)? {
                all.push(found);
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Whether the caller may know of an entry: the patient's wishes, its class and how confidential
    /// it is are asked.
    pub(crate) fn shows_entry(&mut self, found: &Found) -> Result<bool> {
        if let Some(known) = self.shown.get(&found.uuid) {
            return Ok(*known);
        }
        let shown = self.may_be_read(found)?;
        if shown {
            let entry_uuid = &found.entry.entry_uuid;
            self.call
                .note(|record| record.documents.push(entry_uuid.clone()));
        }
        self.shown.insert(found.uuid.clone(), shown);
        Ok(shown)
    }

    /// A set is known by its entries: where it brought some and none may be known of, neither may it.
    pub(crate) fn shows_set(&mut self, set: &FoundSet) -> Result<bool> {
        if !self.is_listed(set.set.patient_id.as_ref())? {
            return Ok(false);
        }
        for entry in &set.entries {
            if self.shows(entry, 0)? {
                return Ok(true);
            }
        }
        Ok(set.entries.is_empty())
    }

    /// As for a set: a folder that has entries is known by one of them.
    pub(crate) fn shows_folder(&mut self, folder: &FoundFolder) -> Result<bool> {
        if !self.is_listed(folder.folder.patient_id.as_ref())? {
            return Ok(false);
        }
        let (mut members, mut shown) = (false, false);
        self.each::<AssociationRow>(AssociationRow::BY_SOURCE, &folder.uuid, |reader, row| {
            if shown {
                return Ok(());
            }
            if let Some(member) =
                FoundAssociation::of(row.row).filter(FoundAssociation::is_membership)
            {
                members = true;
                shown = reader.shows(&member.target, 0)?;
            }
            Ok(())
        })?;
        Ok(shown || !members)
    }

    /// An association is known by both its ends.
    pub(super) fn shows_association(&mut self, found: &FoundAssociation) -> Result<bool> {
        Ok(self.shows(&found.source, 0)? && self.shows(&found.target, 0)?)
    }

    /// Whether the caller may know of the object with this entryUUID. What is not (any more) here
    /// may be named.
    fn shows(&mut self, uuid: &[u8], depth: u32) -> Result<bool> {
        if let Some(known) = self.shown.get(uuid) {
            return Ok(*known);
        }
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let shown = if let Some(found) = self.get::<EntryRow>(uuid)?.and_then(Found::of) {
            self.shows_entry(&found)?
        } else if let Some(row) = self.get::<SubmissionRow>(uuid)? {
            FoundSet::of(row.row).map_or(Ok(false), |set| self.shows_set(&set))?
        } else if let Some(row) = self.get::<FolderRow>(uuid)? {
            FoundFolder::of(row.row).map_or(Ok(false), |folder| self.shows_folder(&folder))?
        } else if let Some(row) = self.get::<AssociationRow>(uuid)? {
            self.shows(&row.row.source, depth + 1)? && self.shows(&row.row.target, depth + 1)?
        } else {
            true
        };
        self.shown.insert(uuid.to_vec(), shown);
        Ok(shown)
    }

    /// Whether the caller may know what there is of this patient.
    fn is_listed(&mut self, patient: Option<&cpb::Identifier>) -> Result<bool> {
        let patient = identifier(patient, "patient_id").map_err(Error::internal)?;
        self.about(&patient);
        if let Some(known) = self.listed.get(&patient) {
            return Ok(*known);
        }
        let about = About {
            patients: std::slice::from_ref(&patient),
            ..About::default()
        };
        let action = Action::FindDocuments;
        let listed = match self.guard.authorize_for(self.call, action, about) {
            Ok(_) => true,
            Err(error) if error.reason() == Reason::NotPermitted => false,
            Err(error) => return Err(error),
        };
        self.listed.insert(patient, listed);
        Ok(listed)
    }

    /// Whether the caller may read the document of an entry.
    fn may_be_read(&mut self, found: &Found) -> Result<bool> {
        let patient = identifier(found.entry.patient_id.as_ref(), "patient_id");
        let patient = patient.map_err(Error::internal)?;
        self.about(&patient);
        let view = match self.views.entry(patient) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let view = self
                    .guard
                    .view(self.call, Action::ReadDocument, place.key())?;
                place.insert(view)
            }
        };
        let verdict = view.shows(&found.facts());
        if let Err(denial) = verdict {
            self.call.note(|record| record.denial = Some(denial.name()));
        }
        Ok(verdict.is_ok())
    }
}
