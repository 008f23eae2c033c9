//! Operations of an update beside new versions (ITI-57): changes of status, and new associations
//! between what is registered.

use crate::error::{Reason, Result};
use crate::wire::pb::documents as pb;

use super::super::tables::Kind;
use super::super::validate::{End, Transaction, ValidAssociation, ValidSubmission};
use super::relate::ends;
use super::update::Updated;
use super::{APPROVED, Change, DEPRECATED, is_approved_association, is_approved_folder, kind_of};

use pb::AssociationType as Type;

impl Change<'_> {
    /// `UpdateAvailabilityStatus`.
    pub(super) fn update_status(
        &mut self,
        made: &ValidAssociation,
        updated: &Updated,
    ) -> Result<()> {
        let association = &made.association;
        let (old, new) = (association.original_status, association.new_status);
        if association.previous_version != 0 {
            let message = "belongs to an update of metadata";
            self.faults
                .add(Reason::UpdateOperation, "previous_version", message);
        }
        for (field, status) in [("original_status", old), ("new_status", new)] {
            if status != APPROVED && status != DEPRECATED {
                let message = "is neither Approved nor Deprecated";
                self.faults.add(Reason::UpdateOperation, field, message);
            }
        }
        if old == new {
            let message = "is the original status";
            self.faults
                .add(Reason::UpdateOperation, "new_status", message);
        }
        let End::Registered(target) = made.target else {
            let message = "is no registered object";
            self.faults
                .add(Reason::UpdateRefused, "target_object", message);
            return Ok(());
        };
        // With an update of the same object in the request, its new version is meant.
        let key = updated.versions.get(target.as_bytes().as_slice());
        let key = key.cloned().unwrap_or_else(|| target.as_bytes().to_vec());
        if !self.faults.is_empty() {
            return Ok(());
        }
        self.put_status(&key, (old, new))
    }

    /// Changes the status of an object of any kind.
    fn put_status(&mut self, key: &[u8], (old, new): (i32, i32)) -> Result<()> {
        match self.state.kind(key)? {
            None => {
                let message = "names no registered object";
                self.faults
                    .add(Reason::UnresolvedReference, "target_object", message);
            }
            Some(Kind::Set) => {
                let message = "is a submission set, which is always approved";
                self.faults
                    .add(Reason::UpdateRefused, "target_object", message);
            }
            Some(Kind::Entry) => {
                if let Some(mut row) = self.state.entry(key)? {
                    let status = row
                        .entry
                        .as_mut()
                        .map(|entry| &mut entry.availability_status);
                    let change = (old, new, row.superseded);
                    if self.change_status(status, change, &row.submitter, &row.patient) {
                        self.state.put_entry(row)?;
                    }
                }
            }
            Some(Kind::Folder) => {
                if let Some(mut row) = self.state.folder(key)? {
                    let status = row
                        .folder
                        .as_mut()
                        .map(|folder| &mut folder.availability_status);
                    let change = (old, new, row.superseded);
                    if self.change_status(status, change, &row.submitter, &row.patient) {
                        self.state.put_folder(row)?;
                    }
                }
            }
            Some(Kind::Association) => {
                if let Some(mut row) = self.state.association(key)? {
                    let of_set = self.state.kind(&row.source)? == Some(Kind::Set);
                    let status = row.association.as_mut();
                    let status = status.map(|association| &mut association.availability_status);
                    let change = (old, new, of_set);
                    if self.change_status(status, change, &row.submitter, &row.patient) {
                        self.state.put_association(row)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Changes a status from `old` to `new`, unless it may not be; `frozen` if the object is an older
    /// version, or belongs to a submission set.
    fn change_status(
        &mut self,
        status: Option<&mut i32>,
        (old, new, frozen): (i32, i32, bool),
        submitter: &str,
        patient: &[u8],
    ) -> bool {
        let field = "target_object";
        let before = self.faults.count();
        if frozen {
            let message = "is not the latest version, or belongs to a submission set";
            self.faults.add(Reason::UpdateRefused, field, message);
        }
        self.judge_owner(submitter, field);
        if patient != self.origin.patient {
            let message = "is another patient's";
            self.faults
                .add(Reason::PatientReconciliation, field, message);
        }
        match status {
            Some(status) if *status == old => *status = new,
            _ => {
                let message = "has not the original status";
                self.faults.add(Reason::UpdateRefused, field, message);
            }
        }
        self.faults.count() == before
    }

    /// `SubmitAssociation`: a new association between objects that are registered.
    pub(super) fn submit_association(
        &mut self,
        made: &ValidAssociation,
        submission: &ValidSubmission,
        updated: &Updated,
    ) -> Result<()> {
        let End::Association(at) = made.target else {
            let message = "is no association of the submission";
            self.faults
                .add(Reason::UpdateOperation, "target_object", message);
            return Ok(());
        };
        let Some(new) = submission.associations.get(at) else {
            return Ok(());
        };
        let before = self.faults.count();
        self.at(&new.place, |change| {
            change.judge_new(new, submission, updated)
        })?;
        if self.faults.count() > before {
            return Ok(());
        }
        let (source, target) = ends(new);
        let set = submission.set_uuid;
        let row = self.association_row(&new.uuid, new.association.clone(), &set);
        self.state.put_association(row)?;
        match new.association.association_type() {
            Type::HasMember => self.touch_folder(&source),
            Type::Rplc | Type::XfrmRplc => {
                let home = &submission.set.home_community_id;
                self.replace(&source, &target, &set, home)
            }
            _ => Ok(()),
        }
    }

    /// Whether a new association may join what is registered.
    fn judge_new(
        &mut self,
        new: &ValidAssociation,
        submission: &ValidSubmission,
        updated: &Updated,
    ) -> Result<()> {
        let (source, target) = ends(new);
        let kind = new.association.association_type();
        if new.source == End::Set {
            let message = "is the submission set, which gets members when it is registered only";
            self.faults
                .add(Reason::UpdateRefused, "source_object", message);
        } else if kind == Type::HasMember {
            self.may_be_folder(&source)?;
        } else {
            self.may_be_end(&source, "source_object", submission.transaction)?;
        }
        self.may_be_end(&target, "target_object", submission.transaction)?;
        let twice = self.state.from(&source)?.iter().any(|row| {
            row.target == target && kind_of(row) == kind && is_approved_association(row)
        });
        if twice {
            self.faults
                .add(Reason::UpdateRefused, "", "is registered already");
        }
        if updated.propagated.contains(&source) || updated.propagated.contains(&target) {
            let message = "is made by the update of one of its ends";
            self.faults.add(Reason::UpdateRefused, "", message);
        }
        self.judge_append(kind, &target)?;
        if matches!(kind, Type::Rplc | Type::XfrmRplc)
            && let Some(row) = self.state.entry(&target)?
        {
            self.judge_owner(&row.submitter, "target_object");
        }
        Ok(())
    }

    fn may_be_end(&mut self, uuid: &[u8], field: &str, transaction: Transaction) -> Result<()> {
        match self.state.kind(uuid)? {
            Some(Kind::Entry) | None => {
                if let Some(row) = self.known_entry(uuid, field)? {
                    self.may_relate(&row, field, transaction);
                }
            }
            Some(_) => {
                self.faults
                    .add(Reason::UpdateRefused, field, "is no document");
            }
        }
        Ok(())
    }

    fn may_be_folder(&mut self, uuid: &[u8]) -> Result<()> {
        let field = "source_object";
        let Some(folder) = self.state.folder(uuid)? else {
            let (reason, message) = match self.state.kind(uuid)? {
                None => (Reason::UnresolvedReference, "names no registered folder"),
                Some(_) => (Reason::UpdateRefused, "is no folder"),
            };
            self.faults.add(reason, field, message);
            return Ok(());
        };
        if !is_approved_folder(&folder) || folder.superseded {
            self.faults
                .add(Reason::UpdateRefused, field, "is deprecated");
        }
        if folder.patient != self.origin.patient {
            let reason = Reason::PatientReconciliation;
            self.faults.add(reason, field, "is another patient's");
        }
        Ok(())
    }
}
