//! Relations and what they do (ITI TF-3 §4.2.2): replacement deprecates, appendices and
//! transformations go with what they belong to, folders are inherited.
//!
//! All relations are judged before any of them does anything, so that their order does not matter.

use std::collections::BTreeSet;

use crate::error::{Reason, Result};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::super::tables::{EntryRow, FolderRow, Kind};
use super::super::validate::{End, ValidAssociation, ValidSubmission};
use super::{
    Change, DEPRECATED, is_approved_association, is_approved_entry, is_approved_folder, kind_of,
    uuid_of,
};

use pb::AssociationType as Type;

/// Documents that go with a replaced one.
const MAX_DEPENDANTS: usize = 1_000;

impl Change<'_> {
    /// Judges and makes the relations of a registration.
    pub(super) fn relate(&mut self, submission: &ValidSubmission) -> Result<()> {
        let mut replaced = BTreeSet::new();
        for made in &submission.associations {
            self.faults.enter(made.place.clone());
            self.unused(&made.uuid, "entry_uuid")?;
            self.judge(made, submission, &mut replaced)?;
            self.faults.leave();
        }
        if !self.faults.is_empty() {
            return Ok(());
        }
        for made in &submission.associations {
            let row =
                self.association_row(&made.uuid, made.association.clone(), &submission.set_uuid);
            self.state.put_association(row)?;
        }
        let home = submission.set.home_community_id.clone();
        for made in &submission.associations {
            let (source, target) = ends(made);
            match made.association.association_type() {
                Type::HasMember if made.source != End::Set => self.touch_folder(&source)?,
                Type::Rplc | Type::XfrmRplc => {
                    self.replace(&source, &target, &submission.set_uuid, &home)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        made: &ValidAssociation,
        submission: &ValidSubmission,
        replaced: &mut BTreeSet<Vec<u8>>,
    ) -> Result<()> {
        let kind = made.association.association_type();
        if kind == Type::HasMember {
            return self.judge_member(made, submission);
        }
        if kind == Type::Other {
            return Ok(());
        }
        let (_, target) = ends(made);
        let End::Registered(_) = made.target else {
            return self.judge_append(kind, &target);
        };
        let Some(row) = self.known_entry(&target, "target_object")? else {
            return Ok(());
        };
        self.may_relate(&row, "target_object", submission.transaction);
        self.judge_append(kind, &target)?;
        if matches!(kind, Type::Rplc | Type::XfrmRplc) {
            self.judge_replacement(made, submission, &row);
            if !replaced.insert(target) {
                let message = "is replaced twice in the submission";
                self.faults.invalid("target_object", message);
            }
        }
        let on_demand = object_type(&row) == pb::ObjectType::OnDemand;
        if kind == Type::IsSnapshotOf && !on_demand {
            self.faults
                .invalid("target_object", "is no on-demand document");
        }
        Ok(())
    }

    /// An entry that must be registered; a fault if it is not.
    pub(super) fn known_entry(&mut self, uuid: &[u8], field: &str) -> Result<Option<EntryRow>> {
        let row = self.state.entry(uuid)?;
        if row.is_none() {
            let message = "names no registered document";
            self.faults.add(Reason::UnresolvedReference, field, message);
        }
        Ok(row)
    }

    /// A transformation has no appendices (ITI TF-3 §4.2.2.2.1).
    pub(super) fn judge_append(&mut self, kind: Type, target: &[u8]) -> Result<()> {
        if kind != Type::Apnd {
            return Ok(());
        }
        let from = self.state.from(target)?;
        if from
            .iter()
            .any(|row| kind_of(row) == Type::Xfrm && is_approved_association(row))
        {
            let message = "is a transformation, which has no appendices";
            self.faults.invalid("target_object", message);
        }
        Ok(())
    }

    fn judge_replacement(
        &mut self,
        made: &ValidAssociation,
        submission: &ValidSubmission,
        row: &EntryRow,
    ) {
        self.judge_owner(&row.submitter, "target_object");
        let End::Entry(at) = made.source else { return };
        let source = submission
            .entries
            .get(at)
            .map(|entry| entry.entry.object_type());
        if source.is_some_and(|source| source != object_type(row)) {
            let message = "is a document of the other kind (stable, on-demand)";
            self.faults.invalid("target_object", message);
        }
    }

    /// Membership of a set or folder, whose end is registered already.
    fn judge_member(
        &mut self,
        made: &ValidAssociation,
        submission: &ValidSubmission,
    ) -> Result<()> {
        let (source, target) = ends(made);
        if made.source == End::Set {
            if !matches!(made.target, End::Registered(_)) {
                return Ok(());
            }
            return self.judge_reference(&made.association, &target, submission);
        }
        if let End::Registered(_) = made.source {
            match self.state.kind(&source)? {
                Some(Kind::Folder) => {
                    if let Some(folder) = self.state.folder(&source)? {
                        self.judge_folder(&folder);
                    }
                }
                Some(_) => self.faults.invalid("source_object", "is no folder"),
                None => {
                    let message = "names no registered folder";
                    self.faults
                        .add(Reason::UnresolvedReference, "source_object", message);
                }
            }
        }
        if let End::Registered(_) = made.target {
            match self.state.kind(&target)? {
                Some(Kind::Entry) | None => {
                    if let Some(row) = self.known_entry(&target, "target_object")? {
                        self.may_relate(&row, "target_object", submission.transaction);
                    }
                }
                Some(_) => self.faults.invalid("target_object", "is no document"),
            }
        }
        Ok(())
    }

    /// A Reference: a registered object in a new set. Its patient may be another, as of a mother and
    /// her child.
    fn judge_reference(
        &mut self,
        association: &pb::Association,
        target: &[u8],
        submission: &ValidSubmission,
    ) -> Result<()> {
        match self.state.kind(target)? {
            None => {
                let message = "names no registered object";
                self.faults
                    .add(Reason::UnresolvedReference, "target_object", message);
            }
            Some(Kind::Set) => {
                let message = "is a submission set, which is a member of nothing";
                self.faults.invalid("target_object", message);
            }
            Some(Kind::Entry) => {
                let reference = pb::SubmissionSetStatus::Reference;
                if association.submission_set_status() != reference {
                    self.faults.missing("submission_set_status");
                }
                let row = self.state.entry(target)?;
                if row.is_some_and(|row| !is_approved_entry(&row)) {
                    let reason = Reason::DeprecatedObject;
                    self.faults.add(reason, "target_object", "is deprecated");
                }
            }
            Some(Kind::Folder) => {
                if let Some(folder) = self.state.folder(target)?
                    && !is_approved_folder(&folder)
                {
                    let reason = Reason::DeprecatedObject;
                    self.faults.add(reason, "target_object", "is deprecated");
                }
            }
            Some(Kind::Association) => {}
        }
        debug_assert!(!submission.transaction.is_update());
        Ok(())
    }

    pub(super) fn judge_folder(&mut self, folder: &FolderRow) {
        if !is_approved_folder(folder) || folder.superseded {
            let reason = Reason::DeprecatedObject;
            self.faults.add(reason, "source_object", "is deprecated");
        }
        if folder.patient != self.origin.patient {
            let reason = Reason::PatientMismatch;
            self.faults
                .add(reason, "source_object", "is another patient's");
        }
    }

    /// A document takes the place of another: that one and what belongs to it are deprecated, and its
    /// folders get the new one (ITI TF-3 §4.2.2.2.3).
    pub(super) fn replace(
        &mut self,
        source: &[u8],
        target: &[u8],
        set: &EntryUuid,
        home: &str,
    ) -> Result<()> {
        self.set_entry_status(target, DEPRECATED)?;
        self.deprecate_dependants(target, source)?;
        for membership in self.state.to(target)? {
            if kind_of(&membership) != Type::HasMember || !is_approved_association(&membership) {
                continue;
            }
            let Some(folder) = self.state.folder(&membership.source)? else {
                continue;
            };
            let has_it = self
                .state
                .from(&folder.uuid)?
                .iter()
                .any(|member| member.target == source && kind_of(member) == Type::HasMember);
            if !is_approved_folder(&folder) || folder.superseded || has_it {
                continue;
            }
            let (folder, new) = (uuid_of(&folder.uuid)?, uuid_of(source)?);
            let member = self.make_member(&folder, &new, set, home)?;
            self.make_member(set, &member, set, home)?;
            self.touch_folder(folder.as_bytes())?;
        }
        Ok(())
    }

    /// Appendices and transformations of a document, and theirs.
    fn deprecate_dependants(&mut self, target: &[u8], replacement: &[u8]) -> Result<()> {
        let mut open = vec![target.to_vec()];
        let mut seen = BTreeSet::from([target.to_vec(), replacement.to_vec()]);
        while let Some(of) = open.pop() {
            for association in self.state.to(&of)? {
                let belongs = matches!(kind_of(&association), Type::Apnd | Type::Xfrm);
                if !belongs || !is_approved_association(&association) {
                    continue;
                }
                if seen.len() > MAX_DEPENDANTS || !seen.insert(association.source.clone()) {
                    continue;
                }
                self.set_entry_status(&association.source, DEPRECATED)?;
                open.push(association.source);
            }
        }
        Ok(())
    }
}

fn object_type(row: &EntryRow) -> pb::ObjectType {
    row.entry
        .as_ref()
        .map_or(pb::ObjectType::Stable, pb::DocumentEntry::object_type)
}

/// The keys of both ends.
pub(super) fn ends(made: &ValidAssociation) -> (Vec<u8>, Vec<u8>) {
    let key = |text: &str| {
        let uuid: Result<EntryUuid, _> = text.parse();
        uuid.map_or_else(|_| Vec::new(), |uuid| uuid.as_bytes().to_vec())
    };
    (
        key(&made.association.source_object),
        key(&made.association.target_object),
    )
}
