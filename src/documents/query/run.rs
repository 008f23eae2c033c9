//! What each stored query finds (ITI-18 §3.18.4.1.2.3.7).

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Permit;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{EntryUuid, PatientIdentifier};

use super::super::tables::{AssociationRow, EntryRow, FolderRow, SubmissionRow};
use super::filter::{EntryFilter, FolderFilter, SetFilter, Statuses};
use super::item::{Found, FoundAssociation, FoundFolder, FoundSet, Item};
use super::page::Collector;
use super::plan::{All, Names, Plan};
use super::reader::{Reader, aside};

/// Objects that one query which follows associations may gather (INV-7).
const MAX_GATHERED: usize = 20_000;
const BOTH: [u8; 2] = [AssociationRow::BY_SOURCE, AssociationRow::BY_TARGET];

/// Objects found by following ids and associations, each once.
#[derive(Debug, Default)]
struct Gathered(BTreeMap<Vec<u8>, Item>);

impl Gathered {
    fn add(&mut self, item: Item) -> Result<()> {
        if self.0.len() >= MAX_GATHERED {
            let message = "more objects than one answer may be about; narrow the query";
            return Err(Error::new(Reason::TooManyResults, message));
        }
        self.0.insert(item.uuid().to_vec(), item);
        Ok(())
    }

    fn entry(&mut self, found: Found) -> Result<()> {
        self.add(Item::Entry(Box::new(found)))
    }

    fn set(&mut self, set: FoundSet) -> Result<()> {
        self.add(Item::Set(Box::new(set)))
    }

    fn folder(&mut self, folder: FoundFolder) -> Result<()> {
        self.add(Item::Folder(Box::new(folder)))
    }

    fn association(&mut self, association: FoundAssociation) -> Result<()> {
        self.add(Item::Association(Box::new(association)))
    }
}

impl Reader<'_> {
    /// Runs a query; gives the patient that its results are of.
    ///
    /// # Errors
    /// [`Reason::NotPermitted`] for a query about a patient; [`Reason::ResultNotSinglePatient`];
    /// [`Reason::TooManyResults`]; the store.
    pub(super) fn run(
        &mut self,
        plan: &Plan,
        results: &mut Collector,
    ) -> Result<Option<PatientIdentifier>> {
        if let Some(patient) = plan.patient() {
            let permit = self.permit(patient)?;
            let gathered = self.of_patient(plan, &permit, patient, results)?;
            gathered.0.into_values().for_each(|item| results.push(item));
            return Ok(Some(patient.clone()));
        }
        let gathered = self.gather(plan)?;
        let patient = self.one_person(&gathered)?;
        gathered.0.into_values().for_each(|item| results.push(item));
        Ok(patient)
    }

    /// The queries about one patient. What needs no association is not gathered: it goes into
    /// `results` as it comes.
    fn of_patient(
        &mut self,
        plan: &Plan,
        permit: &Permit,
        patient: &PatientIdentifier,
        results: &mut Collector,
    ) -> Result<Gathered> {
        let mut gathered = Gathered::default();
        for tag in self.person(patient) {
            match plan {
                Plan::FindDocuments(_, filter) => {
                    self.entries_of(&tag, permit, filter, |_, found| {
                        results.push(Item::Entry(Box::new(found)));
                        Ok(())
                    })?;
                }
                Plan::FindSubmissionSets(_, filter) => self.sets_of(&tag, filter, |set| {
                    results.push(Item::Set(Box::new(set)));
                    Ok(())
                })?,
                Plan::FindFolders(_, filter) => self.folders_of(&tag, filter, |folder| {
                    results.push(Item::Folder(Box::new(folder)));
                    Ok(())
                })?,
                Plan::GetAll(_, all) => self.all_of(&tag, permit, all, &mut gathered)?,
                _ => {}
            }
        }
        if let Plan::GetAll(_, all) = plan {
            let objects: Vec<Vec<u8>> = gathered.0.keys().cloned().collect();
            aside(objects.len(), || {
                let mut objects = objects.iter();
                objects.try_for_each(|object| self.linked(object, &all.associations, &mut gathered))
            })?;
        }
        Ok(gathered)
    }

    pub(super) fn entries_of(
        &mut self,
        tag: &[u8],
        permit: &Permit,
        filter: &EntryFilter,
        mut take: impl FnMut(&mut Self, Found) -> Result<()>,
    ) -> Result<()> {
        self.each::<EntryRow>(EntryRow::BY_PATIENT, tag, |reader, row| {
            match Found::of(row) {
                // What is asked for is seldom much: only that is judged.
                Some(found) if filter.suits(&found) && found.is_covered(permit) => {
                    take(reader, found)
                }
                _ => Ok(()),
            }
        })
    }

    fn sets_of(
        &mut self,
        tag: &[u8],
        filter: &SetFilter,
        mut take: impl FnMut(FoundSet) -> Result<()>,
    ) -> Result<()> {
        self.each::<SubmissionRow>(
            SubmissionRow::BY_PATIENT,
            tag,
            |reader, row| match FoundSet::of(row.row) {
                Some(set) if filter.matches(&set.set) && reader.shows_set(&set)? => take(set),
                _ => Ok(()),
            },
        )
    }

    fn folders_of(
        &mut self,
        tag: &[u8],
        filter: &FolderFilter,
        mut take: impl FnMut(FoundFolder) -> Result<()>,
    ) -> Result<()> {
        self.each::<FolderRow>(
            FolderRow::BY_PATIENT,
            tag,
            |reader, row| match FoundFolder::of(row.row) {
                Some(folder)
                    if filter.matches(&folder.folder, folder.superseded)
                        && reader.shows_folder(&folder)? =>
                {
                    take(folder)
                }
                _ => Ok(()),
            },
        )
    }

    fn all_of(
        &mut self,
        tag: &[u8],
        permit: &Permit,
        all: &All,
        gathered: &mut Gathered,
    ) -> Result<()> {
        self.entries_of(tag, permit, &all.entries, |_, found| gathered.entry(found))?;
        self.sets_of(tag, &all.sets, |set| gathered.set(set))?;
        self.folders_of(tag, &all.folders, |folder| gathered.folder(folder))
    }

    /// Adds every association that has the object as source or target.
    fn linked(
        &mut self,
        object: &[u8],
        statuses: &Statuses,
        gathered: &mut Gathered,
    ) -> Result<()> {
        for index in BOTH {
            for found in self.associations(index, object)? {
                if statuses.has(found.association.availability_status) {
                    gathered.association(found)?;
                }
            }
        }
        Ok(())
    }

    /// The queries that name objects.
    fn gather(&mut self, plan: &Plan) -> Result<Gathered> {
        let mut gathered = Gathered::default();
        match plan {
            Plan::GetDocuments(names, filter) => {
                self.documents(names, filter, &mut gathered)?;
            }
            Plan::GetFolders(names, filter) => {
                for folder in self.folders(names)? {
                    if filter.matches(&folder.folder, folder.superseded) {
                        gathered.folder(folder)?;
                    }
                }
            }
            Plan::GetAssociations(uuids, statuses) => {
                for uuid in uuids {
                    self.linked(uuid.as_bytes(), statuses, &mut gathered)?;
                }
            }
            Plan::GetDocumentsAndAssociations(names, filter, statuses) => {
                self.documents(names, filter, &mut gathered)?;
                let entries: Vec<Vec<u8>> = gathered.0.keys().cloned().collect();
                for entry in entries {
                    self.linked(&entry, statuses, &mut gathered)?;
                }
            }
            Plan::GetSubmissionSets(uuids, statuses) => {
                self.sets_with(uuids, statuses, &mut gathered)?;
            }
            Plan::GetSubmissionSetAndContents(names, filter, statuses) => {
                for set in self.sets(names)? {
                    let of_set = AssociationRow::BY_SOURCE;
                    let members = self.memberships(of_set, &set.uuid, statuses)?;
                    aside(members.len(), || {
                        self.set_contents(set, members, filter, &mut gathered)
                    })?;
                }
            }
            Plan::GetFolderAndContents(names, filter, statuses) => {
                for folder in self.folders(names)? {
                    if !filter.shows(&folder) {
                        continue;
                    }
                    let of_folder = AssociationRow::BY_SOURCE;
                    let members = self.memberships(of_folder, &folder.uuid, statuses)?;
                    aside(members.len(), || {
                        self.folder_contents(folder, members, filter, &mut gathered)
                    })?;
                }
            }
            Plan::GetFoldersForDocument(names, filter) => {
                self.folders_with(names, filter, &mut gathered)?;
            }
            Plan::GetRelatedDocuments(names, types, filter, statuses) => {
                for found in self.entries(names)? {
                    self.related(found, types, filter, statuses, &mut gathered)?;
                }
            }
            Plan::FindDocuments(..)
            | Plan::FindSubmissionSets(..)
            | Plan::FindFolders(..)
            | Plan::GetAll(..) => {}
        }
        Ok(gathered)
    }

    fn documents(
        &mut self,
        names: &Names,
        filter: &EntryFilter,
        gathered: &mut Gathered,
    ) -> Result<()> {
        for found in self.entries(names)? {
            if filter.suits(&found) {
                gathered.entry(found)?;
            }
        }
        Ok(())
    }

    /// The sets that have one of the objects as a member, with the memberships.
    fn sets_with(
        &mut self,
        uuids: &[EntryUuid],
        statuses: &Statuses,
        gathered: &mut Gathered,
    ) -> Result<()> {
        for uuid in uuids {
            for membership in
                self.memberships(AssociationRow::BY_TARGET, uuid.as_bytes(), statuses)?
            {
                if let Some(set) = self.set(&membership.source)? {
                    gathered.set(set)?;
                    gathered.association(membership)?;
                }
            }
        }
        Ok(())
    }

    fn memberships(
        &mut self,
        index: u8,
        object: &[u8],
        statuses: &Statuses,
    ) -> Result<Vec<FoundAssociation>> {
        let mut all = self.associations(index, object)?;
        all.retain(|found| {
            found.is_membership() && statuses.has(found.association.availability_status)
        });
        Ok(all)
    }

    fn set_contents(
        &mut self,
        set: FoundSet,
        memberships: Vec<FoundAssociation>,
        filter: &EntryFilter,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let mut left_out = BTreeSet::new();
        let mut members = Vec::new();
        for membership in memberships {
            if let Some(found) = self.entry(&membership.target)? {
                if !filter.suits(&found) {
                    left_out.insert(found.uuid);
                    continue;
                }
                gathered.entry(found)?;
            } else if let Some(folder) = self.folder(&membership.target)? {
                if !filter.shows(&folder) {
                    left_out.insert(folder.uuid);
                    continue;
                }
                gathered.folder(folder)?;
            } else {
                members.push(membership);
                continue;
            }
            gathered.association(membership)?;
        }
        // An association whose end was filtered out is left out with it.
        for membership in members {
            let Some(member) = self.association(&membership.target)? else {
                continue;
            };
            if !left_out.contains(&member.source) && !left_out.contains(&member.target) {
                gathered.association(member)?;
                gathered.association(membership)?;
            }
        }
        gathered.set(set)
    }

    fn folder_contents(
        &mut self,
        folder: FoundFolder,
        memberships: Vec<FoundAssociation>,
        filter: &EntryFilter,
        gathered: &mut Gathered,
    ) -> Result<()> {
        for membership in memberships {
            match self.entry(&membership.target)? {
                Some(found) if filter.suits(&found) => {
                    gathered.entry(found)?;
                    gathered.association(membership)?;
                }
                _ => {}
            }
        }
        gathered.folder(folder)
    }

    fn folders_with(
        &mut self,
        names: &Names,
        filter: &FolderFilter,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let any = Statuses::wanted(&[]);
        for found in self.entries(names)? {
            for membership in self.memberships(AssociationRow::BY_TARGET, &found.uuid, &any)? {
                match self.folder(&membership.source)? {
                    Some(folder) if filter.matches(&folder.folder, folder.superseded) => {
                        gathered.folder(folder)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The entries one step away over relations of these types, in either direction, and the entry
    /// itself; nothing if there are none.
    fn related(
        &mut self,
        document: Found,
        types: &[i32],
        filter: &EntryFilter,
        statuses: &Statuses,
        gathered: &mut Gathered,
    ) -> Result<()> {
        let mut any = false;
        for index in BOTH {
            for found in self.associations(index, &document.uuid)? {
                let association = &found.association;
                if !types.contains(&association.association_type)
                    || !statuses.has(association.availability_status)
                {
                    continue;
                }
                let other = match index {
                    AssociationRow::BY_SOURCE => &found.target,
                    _ => &found.source,
                };
                match self.entry(other)? {
                    Some(entry) if entry.uuid != document.uuid && filter.suits(&entry) => {
                        any = true;
                        gathered.entry(entry)?;
                        gathered.association(found)?;
                    }
                    _ => {}
                }
            }
        }
        if any {
            gathered.entry(document)?;
        }
        Ok(())
    }

    /// The audit of a call names one patient, so a call discloses objects of one person
    /// (`XDSResultNotSinglePatient`).
    fn one_person(&self, gathered: &Gathered) -> Result<Option<PatientIdentifier>> {
        let mut person: Option<(PatientIdentifier, Vec<PatientIdentifier>)> = None;
        for item in gathered.0.values().filter(|item| item.patient().is_some()) {
            let patient = identifier(item.patient(), "patient_id").map_err(Error::internal)?;
            let (_, all) = person.get_or_insert_with(|| {
                let all = self.identifiers(&patient);
                (patient.clone(), all)
            });
            if !all.contains(&patient) {
                let message = "objects of several patients need a call each";
                return Err(Error::new(Reason::ResultNotSinglePatient, message));
            }
        }
        Ok(person.map(|(patient, _)| patient))
    }
}
