//! Registration (ITI-42 §3.42.4.1.3): new objects, uniqueIds, and the relations that came with them.

use crate::error::{Reason, Result};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::super::tables::{EntryRow, FolderRow, Kind, SubmissionRow, UniqueRow};
use super::super::validate::{Transaction, ValidEntry, ValidSubmission};
use super::{APPROVED, Change, is_approved_entry};

/// Entries and versions that may have one uniqueId.
const MAX_HOLDERS: usize = 2_000;

impl Change<'_> {
    /// Registers everything of a submission; the entries as registered.
    pub(super) fn register(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        submission: &ValidSubmission,
        blobs: &[Vec<u8>],
    ) -> Result<Vec<pb::DocumentEntry>> {
        let mut registered = Vec::with_capacity(submission.entries.len());
        self.put_new_set(tag, submission)?;
        for (index, valid) in submission.entries.iter().enumerate() {
            self.faults.enter(format!("entries[{index}]"));
            self.unused(&valid.uuid, "entry_uuid")?;
            self.hold(tag, valid)?;
            self.faults.leave();
            let entry = pb::DocumentEntry {
                logical_id: valid.uuid.to_string(),
                version: 1,
                availability_status: APPROVED,
                ..valid.entry.clone()
            };
            registered.push(entry.clone());
            let blob = blobs.get(index).cloned().unwrap_or_default();
            let row = EntryRow {
                blob,
                ..self.entry_row(valid, entry, &submission.set_uuid)
            };
            self.state.put_entry(row)?;
        }
        for (index, valid) in submission.folders.iter().enumerate() {
            self.faults.enter(format!("folders[{index}]"));
            self.unused(&valid.uuid, "entry_uuid")?;
            self.take_unique(tag, &valid.folder.unique_id, &valid.uuid, Kind::Folder)?;
            self.faults.leave();
            let folder = pb::Folder {
                logical_id: valid.uuid.to_string(),
                version: 1,
                availability_status: APPROVED,
                last_update_time: self.now_dtm(),
                ..valid.folder.clone()
            };
            let row = self.folder_row(&valid.uuid, folder, &submission.set_uuid);
            self.state.put_folder(row)?;
        }
        self.relate(submission)?;
        Ok(registered)
    }

    /// The SubmissionSet of a change, which is new.
    pub(super) fn put_new_set(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        submission: &ValidSubmission,
    ) -> Result<()> {
        self.faults.enter("submission_set");
        self.unused(&submission.set_uuid, "entry_uuid")?;
        let unique_id = &submission.set.unique_id;
        self.take_unique(tag, unique_id, &submission.set_uuid, Kind::Set)?;
        self.faults.leave();
        self.state.put_set(SubmissionRow {
            uuid: submission.set_uuid.as_bytes().to_vec(),
            patient: self.origin.patient.to_vec(),
            set: Some(submission.set.clone()),
            entries: submission
                .entries
                .iter()
                .map(|entry| entry.uuid.as_bytes().to_vec())
                .collect(),
            registered_ms: self.origin.now.as_millisecond(),
            submitter: self.origin.submitter.to_owned(),
        })
    }

    pub(super) fn entry_row(
        &self,
        valid: &ValidEntry,
        entry: pb::DocumentEntry,
        set: &EntryUuid,
    ) -> EntryRow {
        EntryRow {
            uuid: valid.uuid.as_bytes().to_vec(),
            patient: self.origin.patient.to_vec(),
            entry: Some(entry),
            blob: Vec::new(),
            registered_ms: self.origin.now.as_millisecond(),
            submission: set.as_bytes().to_vec(),
            submitter: self.origin.submitter.to_owned(),
            superseded: false,
            persist_snapshots: self.origin.persist_snapshots,
            made_of: self.origin.made_of.to_vec(),
            directed: None,
        }
    }

    pub(super) fn folder_row(
        &self,
        uuid: &EntryUuid,
        folder: pb::Folder,
        set: &EntryUuid,
    ) -> FolderRow {
        FolderRow {
            uuid: uuid.as_bytes().to_vec(),
            patient: self.origin.patient.to_vec(),
            folder: Some(folder),
            registered_ms: self.origin.now.as_millisecond(),
            submission: set.as_bytes().to_vec(),
            submitter: self.origin.submitter.to_owned(),
            superseded: false,
        }
    }

    /// Takes a uniqueId that nothing may have: of a SubmissionSet or Folder.
    fn take_unique(
        &mut self,
        tag: &dyn Fn(&str) -> Vec<u8>,
        unique_id: &str,
        uuid: &EntryUuid,
        kind: Kind,
    ) -> Result<()> {
        let tag = tag(unique_id);
        if self.state.unique(&tag)?.is_some() {
            let message = "is registered already";
            self.faults
                .add(Reason::DuplicateUniqueId, "unique_id", message);
            return Ok(());
        }
        self.state.put_unique(UniqueRow {
            tag,
            entry: uuid.as_bytes().to_vec(),
            kind: kind.number(),
            more: Vec::new(),
            patient: self.origin.patient.to_vec(),
        })
    }

    /// Takes a document's uniqueId, which other entries may have for the same bytes of the same
    /// patient (ITI-42 §3.42.4.1.3.3).
    fn hold(&mut self, tag: &dyn Fn(&str) -> Vec<u8>, valid: &ValidEntry) -> Result<()> {
        let field = "unique_id";
        let tag = tag(valid.unique_id.as_str());
        let uuid = valid.uuid.as_bytes().to_vec();
        let Some(mut unique) = self.state.unique(&tag)? else {
            return self.state.put_unique(UniqueRow {
                tag,
                entry: uuid,
                kind: Kind::Entry.number(),
                more: Vec::new(),
                patient: self.origin.patient.to_vec(),
            });
        };
        if unique.kind != Kind::Entry.number() {
            let message = "is registered already, of a submission set or folder";
            self.faults.add(Reason::DuplicateUniqueId, field, message);
            return Ok(());
        }
        let Some(known) = self.state.entry(&unique.entry)? else {
            let message = "is registered already";
            self.faults.add(Reason::DuplicateUniqueId, field, message);
            return Ok(());
        };
        self.same_document(&known, valid);
        if unique.more.len() >= MAX_HOLDERS {
            let message = format!("has {MAX_HOLDERS} entries already");
            self.faults.invalid(field, message);
        }
        unique.more.push(uuid);
        self.state.put_unique(unique)
    }

    /// Whether an entry is of the very document that is registered under its uniqueId.
    pub(super) fn same_document(&mut self, known: &EntryRow, valid: &ValidEntry) {
        let field = "unique_id";
        let registered = known.entry.as_ref();
        let on_demand = |kind| kind == pb::ObjectType::OnDemand;
        let was = registered.is_some_and(|entry| on_demand(entry.object_type()));
        let is = on_demand(valid.entry.object_type());
        if was != is {
            let message = "is registered already, of a document of the other kind";
            self.faults.invalid(field, message);
            return;
        }
        if known.patient != self.origin.patient {
            // Retrieval names a document by its uniqueId alone, so it has to be one patient's.
            let message = "is registered already, of another patient's document";
            self.faults.add(Reason::PatientMismatch, field, message);
            return;
        }
        let hash = registered.and_then(|entry| entry.hash.parse().ok());
        if !is && valid.sha1.is_some() && hash != valid.sha1 {
            let message = "is registered already, for a document with another hash";
            self.faults.add(Reason::NonIdenticalHash, field, message);
        } else if !is
            && valid.size.is_some()
            && registered.and_then(|entry| entry.size) != valid.size
        {
            let message = "is registered already, for a document of another size";
            self.faults.add(Reason::NonIdenticalSize, field, message);
        }
    }

    /// Whether a registered entry may be the end of a new relation, and what is wrong if not.
    pub(super) fn may_relate(&mut self, row: &EntryRow, field: &str, transaction: Transaction) {
        let update = transaction.is_update();
        if !is_approved_entry(row) || row.superseded {
            let reason = if update {
                Reason::UpdateRefused
            } else {
                Reason::DeprecatedObject
            };
            self.faults.add(reason, field, "is deprecated");
        }
        if row.patient != self.origin.patient {
            let reason = if update {
                Reason::PatientReconciliation
            } else {
                Reason::PatientMismatch
            };
            self.faults.add(reason, field, "is another patient's");
        }
    }
}
