//! Removal of metadata (ITI-62 Remove Metadata) and of documents (ITI-86 Remove Documents). Nothing
//! cascades: what is to go is named, and nothing may be left that points to it or belongs to nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::error::{Error, Reason, Result};
use crate::store::{Store, Write};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::super::faults::Faults;
use super::super::tables::{AssociationRow, EntryRow, Kind, RemovedRow};
use super::{Change, Origin, State, kind_of};

/// Objects of one removal.
const MAX_REMOVED: usize = 2_000;

/// The patients whom objects belong to, as keyed hashes; unknown ids are skipped.
///
/// # Errors
/// The store.
pub(in super::super) fn patients_of(
    store: &Store,
    uuids: &[EntryUuid],
) -> Result<BTreeSet<Vec<u8>>> {
    let mut state = State::new(store);
    let mut patients = BTreeSet::new();
    for uuid in uuids {
        let key = uuid.as_bytes();
        if let Some(row) = state.entry(key)? {
            patients.insert(row.patient);
        } else if let Some(row) = state.association(key)? {
            patients.insert(row.patient);
        } else if let Some(row) = state.set(key)? {
            patients.insert(row.patient);
        } else if let Some(row) = state.folder(key)? {
            patients.insert(row.patient);
        }
    }
    Ok(patients)
}

/// Plans the removal of metadata.
///
/// # Errors
/// Every rule broken; the store.
pub(in super::super) fn remove_metadata(
    store: &Store,
    tag: &dyn Fn(&str) -> Vec<u8>,
    now: Timestamp,
    submitter: &str,
    uuids: &[EntryUuid],
) -> Result<Vec<Write>> {
    if uuids.is_empty() || uuids.len() > MAX_REMOVED {
        let message = format!("must name between 1 and {MAX_REMOVED} objects");
        return Err(Error::field(Reason::InvalidField, "entry_uuids", message));
    }
    let mut change = Change {
        state: State::new(store),
        origin: Origin {
            now,
            patient: &[],
            submitter,
            persist_snapshots: false,
            made_of: &[],
        },
        faults: Faults::default(),
    };
    let removed: BTreeSet<Vec<u8>> = uuids.iter().map(|uuid| uuid.as_bytes().to_vec()).collect();
    let mut kinds = Vec::with_capacity(uuids.len());
    for (index, uuid) in uuids.iter().enumerate() {
        let field = format!("entry_uuids[{index}]");
        kinds.push((uuid, change.may_be_removed(uuid, &field, &removed)?));
    }
    change.nothing_left_alone(&removed)?;
    std::mem::take(&mut change.faults).result()?;
    let gone = change.remembered(&removed)?;
    for (uuid, kind) in kinds {
        change.remove(tag, uuid, kind)?;
    }
    let mut writes = change.state.into_writes();
    writes.extend(gone.values().map(Write::put));
    Ok(writes)
}

impl Change<'_> {
    /// What kind the object is, and whether nothing that stays points to it.
    fn may_be_removed(
        &mut self,
        uuid: &EntryUuid,
        field: &str,
        removed: &BTreeSet<Vec<u8>>,
    ) -> Result<Option<Kind>> {
        let key = uuid.as_bytes();
        let Some(kind) = self.state.kind(key)? else {
            let message = "names no registered object";
            self.faults.add(Reason::UnresolvedReference, field, message);
            return Ok(None);
        };
        let submitter = match kind {
            Kind::Entry => self.state.entry(key)?.map(|row| row.submitter),
            Kind::Set => self.state.set(key)?.map(|row| row.submitter),
            Kind::Folder => self.state.folder(key)?.map(|row| row.submitter),
            Kind::Association => self.state.association(key)?.map(|row| row.submitter),
        };
        self.judge_owner(&submitter.unwrap_or_default(), field);
        let touching = [self.state.from(key)?, self.state.to(key)?].concat();
        if touching.iter().any(|row| !removed.contains(&row.uuid)) {
            let message = "is the end of an association that is not removed with it";
            self.faults.add(Reason::ReferencesExist, field, message);
        }
        Ok(Some(kind))
    }

    /// What stays and loses a membership keeps another; a set that stays keeps a member.
    fn nothing_left_alone(&mut self, removed: &BTreeSet<Vec<u8>>) -> Result<()> {
        let mut lost: BTreeSet<Vec<u8>> = BTreeSet::new();
        for key in removed {
            let Some(row) = self.state.association(key)? else {
                continue;
            };
            if kind_of(&row) != pb::AssociationType::HasMember
                || self.state.kind(&row.source)? != Some(Kind::Set)
            {
                continue;
            }
            lost.extend(
                [row.source, row.target]
                    .into_iter()
                    .filter(|end| !removed.contains(end)),
            );
        }
        for key in lost {
            let stays = |row: &AssociationRow| {
                kind_of(row) == pb::AssociationType::HasMember && !removed.contains(&row.uuid)
            };
            let (alone, what) = match self.state.kind(&key)? {
                Some(Kind::Set) => {
                    let alone = !self.state.from(&key)?.iter().any(stays);
                    (alone, "a submission set would have no members left")
                }
                Some(Kind::Entry | Kind::Folder) => {
                    let mut alone = true;
                    for row in self.state.to(&key)?.iter().filter(|row| stays(row)) {
                        alone &= self.state.kind(&row.source)? != Some(Kind::Set);
                    }
                    (
                        alone,
                        "a document or folder would belong to no submission set",
                    )
                }
                // An association of a folder and its document is not an object of a set by itself.
                Some(Kind::Association) | None => (false, ""),
            };
            if alone {
                self.faults
                    .add(Reason::WouldBeUnreferenced, "entry_uuids", what);
            }
        }
        Ok(())
    }

    /// The entries that go, by patient: who follows the ledger is told of them.
    fn remembered(&mut self, removed: &BTreeSet<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, RemovedRow>> {
        let mut gone: BTreeMap<Vec<u8>, RemovedRow> = BTreeMap::new();
        for key in removed {
            let Some(entry) = self.state.entry(key)? else {
                continue;
            };
            let set = self.state.set(&entry.submission)?;
            let of_patient = gone.entry(entry.patient.clone()).or_default();
            of_patient.patient.clone_from(&entry.patient);
            of_patient.add(entry, set.and_then(|row| row.set));
        }
        Ok(gone)
    }

    fn remove(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        uuid: &EntryUuid,
        kind: Option<Kind>,
    ) -> Result<()> {
        let key = uuid.as_bytes();
        match kind {
            Some(Kind::Entry) => {
                let entry = self.state.entry(key)?.and_then(|row| row.entry);
                self.state.delete_entry(key)?;
                if let Some(entry) = entry {
                    self.release(&tag(&entry.unique_id), key)?;
                    if let Ok(logical) = entry.logical_id.parse() {
                        self.latest_entry(&logical)?;
                    }
                }
            }
            Some(Kind::Folder) => {
                let folder = self.state.folder(key)?.and_then(|row| row.folder);
                self.state.delete_folder(key)?;
                if let Some(folder) = folder
                    && let Ok(logical) = folder.logical_id.parse()
                {
                    self.latest_folder(&logical, &tag(&folder.unique_id))?;
                }
            }
            Some(Kind::Set) => {
                let set = self.state.set(key)?.and_then(|row| row.set);
                self.state.delete_set(key)?;
                if let Some(set) = set {
                    self.release(&tag(&set.unique_id), key)?;
                }
            }
            Some(Kind::Association) => self.state.delete_association(key)?,
            None => {}
        }
        Ok(())
    }

    /// A uniqueId is not this object's any more.
    fn release(&mut self, tag: &[u8], uuid: &[u8]) -> Result<()> {
        let Some(mut unique) = self.state.unique(tag)? else {
            return Ok(());
        };
        let mut holders: Vec<Vec<u8>> = unique.holders().map(<[u8]>::to_vec).collect();
        let before = holders.len();
        holders.retain(|holder| holder != uuid);
        if holders.len() == before {
            return Ok(());
        }
        if holders.is_empty() {
            return self.state.delete_unique(tag);
        }
        unique.entry = holders.remove(0);
        unique.more = holders;
        self.state.put_unique(unique)
    }

    /// Of the versions that stay, the newest is the latest.
    fn latest_entry(&mut self, logical: &EntryUuid) -> Result<()> {
        if let Some(mut latest) = self.state.entry_versions(logical)?.pop()
            && latest.superseded
        {
            latest.superseded = false;
            self.state.put_entry(latest)?;
        }
        Ok(())
    }

    fn latest_folder(&mut self, logical: &EntryUuid, tag: &[u8]) -> Result<()> {
        match self.state.folder_versions(logical)?.pop() {
            Some(mut latest) if latest.superseded => {
                latest.superseded = false;
                self.state.put_folder(latest)
            }
            Some(_) => Ok(()),
            // All versions share the uniqueId, which goes with the last of them.
            None => self.state.delete_unique(tag),
        }
    }
}

/// The entries that have a document, by the keyed hash of its uniqueId.
///
/// # Errors
/// The store.
pub(in super::super) fn document_holders(store: &Store, tag: &[u8]) -> Result<Vec<EntryRow>> {
    let mut state = State::new(store);
    let Some(unique) = state.unique(tag)? else {
        return Ok(Vec::new());
    };
    let mut rows = Vec::new();
    if unique.kind == Kind::Entry.number() {
        for holder in unique.holders() {
            rows.extend(state.entry(holder)?);
        }
    }
    Ok(rows)
}

/// Plans the removal of documents: their entries stay, and name no bytes any more.
///
/// # Errors
/// The store.
pub(in super::super) fn remove_documents(store: &Store, tags: &[Vec<u8>]) -> Result<Vec<Write>> {
    let mut state = State::new(store);
    for tag in tags {
        let Some(unique) = state.unique(tag)? else {
            continue;
        };
        for holder in unique.holders() {
            if let Some(mut row) = state.entry(holder)? {
                row.blob = Vec::new();
                state.put_entry(row)?;
            }
        }
    }
    Ok(state.into_writes())
}
