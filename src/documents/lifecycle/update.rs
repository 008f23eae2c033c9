//! Update of metadata (ITI-57 Metadata Update; ITI-92 Restricted Metadata Update): new versions,
//! changes of status, new associations, in the order of the request, with metadata first.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Reason, Result};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::super::tables::{AssociationRow, EntryRow, FolderRow, Kind};
use super::super::validate::{
    End, Transaction, ValidAssociation, ValidEntry, ValidFolder, ValidSubmission,
};
use super::state::MAX_VERSIONS;
use super::{
    APPROVED, Change, DEPRECATED, is_approved_association, is_approved_entry, is_approved_folder,
};

use pb::AssociationType as Type;

/// What one update has done so far.
#[derive(Default)]
pub(super) struct Updated {
    /// Old and new keys of what has a new version.
    pub(super) versions: BTreeMap<Vec<u8>, Vec<u8>>,
    entries: Vec<pb::DocumentEntry>,
    /// logicalIDs that were changed: each once.
    logical: BTreeSet<EntryUuid>,
    /// Entries and folders whose associations were propagated.
    pub(super) propagated: BTreeSet<Vec<u8>>,
}

impl Change<'_> {
    /// Makes an update; the new versions of entries.
    pub(super) fn update(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        submission: &ValidSubmission,
    ) -> Result<Vec<pb::DocumentEntry>> {
        let mut updated = Updated::default();
        self.put_new_set(tag, submission)?;
        self.triggers(submission);
        if submission.transaction == Transaction::RestrictedUpdate {
            self.restrictions(submission);
        }
        for made in &submission.associations {
            self.faults.enter(made.place.clone());
            self.unused(&made.uuid, "entry_uuid")?;
            let member = made.association.association_type() == Type::HasMember;
            match (made.source, made.target) {
                (End::Set, End::Entry(at)) if member => {
                    if let Some(valid) = submission.entries.get(at) {
                        self.update_entry(tag, submission, made, at, valid, &mut updated)?;
                    }
                }
                (End::Set, End::Folder(at)) if member => {
                    if let Some(valid) = submission.folders.get(at) {
                        self.update_folder(submission, made, at, valid, &mut updated)?;
                    }
                }
                _ => {}
            }
            self.faults.leave();
        }
        for made in &submission.associations {
            self.faults.enter(made.place.clone());
            match made.association.association_type() {
                Type::UpdateAvailabilityStatus => self.update_status(made, &updated)?,
                Type::SubmitAssociation => self.submit_association(made, submission, &updated)?,
                Type::HasMember
                    if matches!((made.source, made.target), (End::Set, End::Association(_))) =>
                {
                    self.submit_association(made, submission, &updated)?;
                }
                Type::HasMember
                    if matches!((made.source, made.target), (End::Set, End::Registered(_))) =>
                {
                    let message = "is no new version of an object";
                    self.faults
                        .add(Reason::UpdateOperation, "target_object", message);
                }
                _ => {}
            }
            self.faults.leave();
        }
        if self.faults.is_empty() {
            for made in submission
                .associations
                .iter()
                .filter(|made| made.source == End::Set)
            {
                let row = self.association_row(
                    &made.uuid,
                    made.association.clone(),
                    &submission.set_uuid,
                );
                self.state.put_association(row)?;
            }
        }
        Ok(updated.entries)
    }

    /// Every object of an update is there for one operation of the set.
    fn triggers(&mut self, submission: &ValidSubmission) {
        let triggered = |end: End| {
            let mut of = submission.associations.iter();
            of.any(|made| made.source == End::Set && made.target == end)
        };
        let entries = (0..submission.entries.len()).map(|at| ("entries", at, End::Entry(at)));
        let folders = (0..submission.folders.len()).map(|at| ("folders", at, End::Folder(at)));
        let associations = submission
            .associations
            .iter()
            .enumerate()
            .filter(|(_, made)| made.source != End::Set)
            .map(|(at, _)| ("associations", at, End::Association(at)));
        let missing: Vec<_> = entries
            .chain(folders)
            .chain(associations)
            .filter(|(_, _, end)| !triggered(*end))
            .collect();
        for (list, at, _) in missing {
            let message = "no association of the submission set says what is to be done with it";
            let field = format!("{list}[{at}]");
            self.faults.add(Reason::UpdateAnnotation, &field, message);
        }
    }

    /// ITI-92 changes entries, and nothing else.
    fn restrictions(&mut self, submission: &ValidSubmission) {
        if !submission.folders.is_empty() {
            let message = "a restricted update changes document entries only";
            self.faults
                .add(Reason::ObjectTypeChanged, "folders", message);
        }
        for made in &submission.associations {
            let update = matches!((made.source, made.target), (End::Set, End::Entry(_)));
            let place = made.place.as_str();
            if !update {
                let message = "a restricted update has no other operations";
                self.faults.add(Reason::UpdateOperation, place, message);
            } else if made.association.association_propagation == Some(false) {
                let message = "a restricted update carries associations over";
                self.faults.add(Reason::UpdateAnnotation, place, message);
            }
        }
    }

    /// Which object an update is of: by its logicalID, or in ITI-92 by its uniqueId.
    fn logical(
        &mut self,
        uuid: &EntryUuid,
        given: Option<EntryUuid>,
        updated: &mut Updated,
    ) -> Option<EntryUuid> {
        let field = "logical_id";
        let Some(logical) = given.filter(|logical| logical != uuid) else {
            let message = "names no other object, so nothing is updated";
            self.faults.add(Reason::InvalidUpdate, field, message);
            return None;
        };
        if !updated.logical.insert(logical) {
            let message = "is updated twice in the submission";
            self.faults.add(Reason::UpdateRefused, field, message);
            return None;
        }
        Some(logical)
    }

    /// `PreviousVersion` is the latest there is; `false` with a fault if not.
    fn previous(&mut self, made: &ValidAssociation, latest: Option<u32>, count: usize) -> bool {
        let given = made.association.previous_version;
        let (reason, message) = match latest {
            None => (
                Reason::VersionConflict,
                "the logicalID is not registered".to_owned(),
            ),
            Some(latest) if given != latest => (
                Reason::VersionConflict,
                format!("the latest version is {latest}"),
            ),
            Some(_) if count >= MAX_VERSIONS => (
                Reason::UpdateRefused,
                format!("has {MAX_VERSIONS} versions already"),
            ),
            Some(_) => return true,
        };
        self.faults.add(reason, "previous_version", message);
        false
    }

    fn update_entry(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        submission: &ValidSubmission,
        made: &ValidAssociation,
        at: usize,
        valid: &ValidEntry,
        updated: &mut Updated,
    ) -> Result<()> {
        let restricted = submission.transaction == Transaction::RestrictedUpdate;
        let given = match valid.logical {
            None if restricted => self.logical_of(&tag(valid.unique_id.as_str()))?,
            given => given,
        };
        let place = format!("entries[{at}]");
        let logical = self.at(&place, |change| change.logical(&valid.uuid, given, updated));
        let Some(logical) = logical else {
            return Ok(());
        };
        let versions = self.state.entry_versions(&logical)?;
        let latest = versions.last().and_then(|row| row.entry.as_ref());
        let number = latest.map(|entry| entry.version);
        if !self.previous(made, number, versions.len()) {
            return Ok(());
        }
        let Some(old) = versions.last().cloned() else {
            return Ok(());
        };
        let entry = self.at(&place, |change| change.judge_entry(valid, &old, restricted));
        let Some(entry) = entry else { return Ok(()) };
        self.unused(&valid.uuid, "entry_uuid")?;
        let row = EntryRow {
            blob: old.blob.clone(),
            submitter: old.submitter.clone(),
            persist_snapshots: old.persist_snapshots,
            made_of: old.made_of.clone(),
            directed: old.directed.clone(),
            ..self.entry_row(valid, entry.clone(), &submission.set_uuid)
        };
        self.state.put_entry(row)?;
        self.hold_version(&tag(&entry.unique_id), &valid.uuid)?;
        let old_key = old.uuid.clone();
        let mut old = EntryRow {
            superseded: true,
            ..old
        };
        if let Some(entry) = &mut old.entry {
            entry.availability_status = DEPRECATED;
        }
        self.state.put_entry(old)?;
        updated.entries.push(entry);
        self.carry_over(made, &old_key, &valid.uuid, submission, updated)
    }

    /// The logicalID of the one document that has this uniqueId.
    fn logical_of(&mut self, tag: &[u8]) -> Result<Option<EntryUuid>> {
        let Some(unique) = self.state.unique(tag)? else {
            return Ok(None);
        };
        let mut logical = BTreeSet::new();
        for holder in unique.holders() {
            if let Some(entry) = self.state.entry(holder)?.and_then(|row| row.entry) {
                logical.extend(entry.logical_id.parse::<EntryUuid>());
            }
        }
        Ok(logical.pop_first().filter(|_| logical.is_empty()))
    }

    /// The new version of an entry, if it may follow the old one.
    fn judge_entry(
        &mut self,
        valid: &ValidEntry,
        old: &EntryRow,
        restricted: bool,
    ) -> Option<pb::DocumentEntry> {
        let was = old.entry.as_ref()?;
        let is = &valid.entry;
        let before = self.faults.count();
        self.judge_old(is_approved_entry(old) || restricted, &old.submitter);
        if old.patient != self.origin.patient {
            let message = "is not the patient of the document, which an update cannot change";
            self.faults
                .add(Reason::PatientReconciliation, "patient_id", message);
        }
        let either = |update, restriction| if restricted { restriction } else { update };
        if is.object_type != was.object_type {
            let reason = either(Reason::UpdateRefused, Reason::Unmodifiable);
            self.faults.add(reason, "object_type", "cannot be changed");
        }
        if is.unique_id != was.unique_id {
            let reason = either(Reason::UpdateRefused, Reason::IdentifierChanged);
            self.faults.add(reason, "unique_id", "cannot be changed");
        }
        let here = !old.blob.is_empty();
        self.judge_content(is, was, (restricted, here));
        if restricted {
            self.judge_unmodifiable(is, was);
        }
        if self.faults.count() > before {
            return None;
        }
        let status = if restricted {
            was.availability_status
        } else {
            APPROVED
        };
        let same = is.hash.is_empty() || is.hash.eq_ignore_ascii_case(&was.hash);
        let content = if same { was } else { is };
        let (hash, hash_sha256) = (content.hash.to_lowercase(), content.hash_sha256.clone());
        Some(pb::DocumentEntry {
            availability_status: status,
            logical_id: was.logical_id.clone(),
            version: was.version + 1,
            hash,
            hash_sha256,
            size: is.size.or(was.size),
            repository_unique_id: was.repository_unique_id.clone(),
            ..is.clone()
        })
    }

    /// The repository says where the octets are, and no update moves them. Hash and size of octets that
    /// are kept here are what they are; another repository's may be told late (delayed assembly).
    fn judge_content(
        &mut self,
        is: &pb::DocumentEntry,
        was: &pb::DocumentEntry,
        (restricted, here): (bool, bool),
    ) {
        let refused = if restricted {
            Reason::Unmodifiable
        } else {
            Reason::UpdateRefused
        };
        if here && !is.hash.is_empty() && !is.hash.eq_ignore_ascii_case(&was.hash) {
            self.faults
                .add(refused, "hash", "is not that of the document");
        }
        if here && is.size.is_some() && is.size != was.size {
            self.faults
                .add(refused, "size", "is not that of the document");
        }
        let repository = &is.repository_unique_id;
        if !repository.is_empty() && *repository != was.repository_unique_id {
            self.faults.add(
                refused,
                "repository_unique_id",
                "is not that of the document",
            );
        }
    }

    fn judge_unmodifiable(&mut self, is: &pb::DocumentEntry, was: &pb::DocumentEntry) {
        let availability = |entry: &pb::DocumentEntry| match entry.document_availability() {
            pb::DocumentAvailability::Unspecified => pb::DocumentAvailability::Online,
            other => other,
        };
        let status =
            is.availability_status != 0 && is.availability_status != was.availability_status;
        for (field, changed) in [
            (
                "document_availability",
                availability(is) != availability(was),
            ),
            (
                "source_patient_id",
                is.source_patient_id != was.source_patient_id,
            ),
            ("availability_status", status),
        ] {
            if changed {
                self.faults
                    .add(Reason::Unmodifiable, field, "cannot be changed");
            }
        }
    }

    fn hold_version(&mut self, tag: &[u8], uuid: &EntryUuid) -> Result<()> {
        if let Some(mut unique) = self.state.unique(tag)? {
            unique.more.push(uuid.as_bytes().to_vec());
            self.state.put_unique(unique)?;
        }
        Ok(())
    }

    fn update_folder(
        &mut self,
        submission: &ValidSubmission,
        made: &ValidAssociation,
        at: usize,
        valid: &ValidFolder,
        updated: &mut Updated,
    ) -> Result<()> {
        let place = format!("folders[{at}]");
        let logical = self.at(&place, |change| {
            change.logical(&valid.uuid, valid.logical, updated)
        });
        let Some(logical) = logical else {
            return Ok(());
        };
        let versions = self.state.folder_versions(&logical)?;
        let latest = versions.last().and_then(|row| row.folder.as_ref());
        let number = latest.map(|folder| folder.version);
        if !self.previous(made, number, versions.len()) {
            return Ok(());
        }
        let Some(old) = versions.last().cloned() else {
            return Ok(());
        };
        let Some(was) = old.folder.clone() else {
            return Ok(());
        };
        if !self.judge_folder_update(valid, &old, &was)? {
            return Ok(());
        }
        let folder = pb::Folder {
            availability_status: APPROVED,
            logical_id: was.logical_id,
            version: was.version + 1,
            last_update_time: self.now_dtm(),
            ..valid.folder.clone()
        };
        let row = FolderRow {
            submitter: old.submitter.clone(),
            ..self.folder_row(&valid.uuid, folder, &submission.set_uuid)
        };
        self.state.put_folder(row)?;
        let old_key = old.uuid.clone();
        let mut old = FolderRow {
            superseded: true,
            ..old
        };
        if let Some(folder) = &mut old.folder {
            folder.availability_status = DEPRECATED;
        }
        self.state.put_folder(old)?;
        self.carry_over(made, &old_key, &valid.uuid, submission, updated)
    }

    /// What holds of every version that another may follow.
    fn judge_old(&mut self, in_force: bool, submitter: &str) {
        if !in_force {
            let message = "the latest version is deprecated";
            self.faults.add(Reason::UpdateRefused, "", message);
        }
        self.judge_owner(submitter, "");
    }

    /// Whether the new version of a folder may follow the old one.
    fn judge_folder_update(
        &mut self,
        valid: &ValidFolder,
        old: &FolderRow,
        was: &pb::Folder,
    ) -> Result<bool> {
        let before = self.faults.count();
        self.judge_old(is_approved_folder(old), &old.submitter);
        if old.patient != self.origin.patient {
            let message = "is another patient's";
            self.faults
                .add(Reason::PatientReconciliation, "target_object", message);
        }
        if valid.folder.unique_id != was.unique_id {
            let message = "changes the uniqueId of the folder";
            self.faults
                .add(Reason::UpdateRefused, "target_object", message);
        }
        self.unused(&valid.uuid, "target_object")?;
        Ok(self.faults.count() == before)
    }

    /// `AssociationPropagation`: what touched the old version touches the new one; the old copies are
    /// deprecated.
    fn carry_over(
        &mut self,
        made: &ValidAssociation,
        old: &[u8],
        new: &EntryUuid,
        submission: &ValidSubmission,
        updated: &mut Updated,
    ) -> Result<()> {
        updated
            .versions
            .insert(old.to_vec(), new.as_bytes().to_vec());
        if made.association.association_propagation == Some(false) {
            return Ok(());
        }
        updated.propagated.insert(new.as_bytes().to_vec());
        let set = submission.set_uuid;
        let home = &submission.set.home_community_id;
        let touching = [self.state.from(old)?, self.state.to(old)?].concat();
        for row in touching {
            let of_set = self.state.kind(&row.source)? == Some(Kind::Set);
            if of_set || !is_approved_association(&row) {
                continue;
            }
            let Some(mut association) = row.association.clone() else {
                continue;
            };
            let uuid = EntryUuid::random();
            association.entry_uuid = uuid.to_string();
            if row.source == old {
                association.source_object = new.to_string();
            }
            if row.target == old {
                association.target_object = new.to_string();
            }
            let membership = association.association_type() == Type::HasMember;
            let copy = AssociationRow {
                patient: row.patient.clone(),
                ..self.association_row(&uuid, association, &set)
            };
            self.state.put_association(copy)?;
            if membership {
                self.make_member(&set, &uuid, &set, home)?;
            }
            self.set_association_status(row, DEPRECATED)?;
        }
        Ok(())
    }

    fn set_association_status(&mut self, mut row: AssociationRow, status: i32) -> Result<()> {
        if let Some(association) = &mut row.association {
            association.availability_status = status;
        }
        self.state.put_association(row)
    }
}
