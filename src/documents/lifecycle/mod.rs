//! What a change does to the registry: registration and replacement, update and removal of metadata,
//! removal of documents. Pure but for reading: each gives the writes of one frame, or every reason
//! why not, and nothing is changed then.

mod operations;
mod register;
mod relate;
mod remove;
mod state;
mod update;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, Reason, Result};
use crate::store::{Store, Write};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

use super::faults::Faults;
use super::tables::{AssociationRow, EntryRow, FolderRow};
use state::State;

pub(super) use remove::{document_holders, patients_of, remove_documents, remove_metadata};

/// What a change comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) now: Timestamp,
    /// Keyed hash of the patient identifier of the submission.
    pub(super) patient: &'a [u8],
    /// Who submits: only they may change what they submitted.
    pub(super) submitter: &'a str,
    /// On-demand: what is made is kept.
    pub(super) persist_snapshots: bool,
    /// A snapshot: entryUUIDs of what it was made of.
    pub(super) made_of: &'a [Vec<u8>],
}

/// A change that may be made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    /// Entries as they are registered now.
    pub(super) entries: Vec<pb::DocumentEntry>,
}

/// A change under way.
struct Change<'a> {
    state: State<'a>,
    origin: Origin<'a>,
    faults: Faults,
}

/// Plans a submission.
///
/// # Errors
/// Every rule broken; the store.
pub(super) fn submit(
    store: &Store,
    tag: &dyn Fn(&str) -> Vec<u8>,
    origin: Origin<'_>,
    submission: &super::validate::ValidSubmission,
    blobs: &[Vec<u8>],
) -> Result<Plan> {
    let mut change = Change {
        state: State::new(store),
        origin,
        faults: Faults::default(),
    };
    let entries = if submission.transaction.is_update() {
        change.update(tag, submission)?
    } else {
        change.register(tag, submission, blobs)?
    };
    change.faults.result()?;
    Ok(Plan {
        writes: change.state.into_writes(),
        entries,
    })
}

const APPROVED: i32 = pb::AvailabilityStatus::Approved as i32;
const DEPRECATED: i32 = pb::AvailabilityStatus::Deprecated as i32;

impl Change<'_> {
    /// The time as folders keep it: DTM to the second.
    fn now_dtm(&self) -> String {
        let utc = self.origin.now.to_zoned(TimeZone::UTC);
        utc.strftime("%Y%m%d%H%M%S").to_string()
    }

    /// Whether the caller submitted the object, so that it is theirs to change. What a store of the
    /// first version holds says nothing.
    fn is_own(&self, submitter: &str) -> bool {
        submitter.is_empty() || submitter == self.origin.submitter
    }

    /// Only who submitted an object changes it.
    fn judge_owner(&mut self, submitter: &str, field: &str) {
        if !self.is_own(submitter) {
            let message = "was submitted by another institution";
            self.faults.add(Reason::NotPermitted, field, message);
        }
    }

    /// Judges another part of the request than the one under check: faults are placed there.
    fn at<T>(&mut self, place: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let here = self.faults.go(vec![place.to_owned()]);
        let result = check(self);
        self.faults.go(here);
        result
    }

    /// Refuses an entryUUID that is in use.
    fn unused(&mut self, uuid: &EntryUuid, field: &str) -> Result<()> {
        if self.state.kind(uuid.as_bytes())?.is_some() {
            self.faults.invalid(field, "is in use in the registry");
        }
        Ok(())
    }

    /// An association of the change's patient.
    fn association_row(
        &self,
        uuid: &EntryUuid,
        association: pb::Association,
        set: &EntryUuid,
    ) -> AssociationRow {
        let end = |text: &str| {
            let uuid: Result<EntryUuid, _> = text.parse();
            uuid.map_or_else(|_| Vec::new(), |uuid| uuid.as_bytes().to_vec())
        };
        AssociationRow {
            uuid: uuid.as_bytes().to_vec(),
            patient: self.origin.patient.to_vec(),
            source: end(&association.source_object),
            target: end(&association.target_object),
            association: Some(association),
            registered_ms: self.origin.now.as_millisecond(),
            submission: set.as_bytes().to_vec(),
            submitter: self.origin.submitter.to_owned(),
        }
    }

    /// Makes an object a member of a set or folder.
    fn make_member(
        &mut self,
        source: &EntryUuid,
        target: &EntryUuid,
        set: &EntryUuid,
        home: &str,
    ) -> Result<EntryUuid> {
        let uuid = EntryUuid::random();
        let association = pb::Association {
            entry_uuid: uuid.to_string(),
            association_type: pb::AssociationType::HasMember.into(),
            source_object: source.to_string(),
            target_object: target.to_string(),
            availability_status: APPROVED,
            home_community_id: home.to_owned(),
            ..pb::Association::default()
        };
        let row = self.association_row(&uuid, association, set);
        self.state.put_association(row)?;
        Ok(uuid)
    }

    /// Sets an entry's status.
    fn set_entry_status(&mut self, uuid: &[u8], status: i32) -> Result<()> {
        if let Some(mut row) = self.state.entry(uuid)? {
            if let Some(entry) = &mut row.entry {
                entry.availability_status = status;
            }
            self.state.put_entry(row)?;
        }
        Ok(())
    }

    /// Notes that a folder got a document: its lastUpdateTime is now.
    fn touch_folder(&mut self, uuid: &[u8]) -> Result<()> {
        let now = self.now_dtm();
        if let Some(mut row) = self.state.folder(uuid)? {
            if let Some(folder) = &mut row.folder {
                folder.last_update_time = now;
            }
            self.state.put_folder(row)?;
        }
        Ok(())
    }
}

/// The UUID of a row.
fn uuid_of(bytes: &[u8]) -> Result<EntryUuid> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| Error::internal("a row without a UUID"))?;
    Ok(EntryUuid::from_bytes(bytes))
}

fn kind_of(association: &AssociationRow) -> pb::AssociationType {
    association.association.as_ref().map_or(
        pb::AssociationType::Unspecified,
        pb::Association::association_type,
    )
}

fn is_approved_association(row: &AssociationRow) -> bool {
    row.association
        .as_ref()
        .is_some_and(|association| association.availability_status == APPROVED)
}

fn is_approved_entry(row: &EntryRow) -> bool {
    row.entry
        .as_ref()
        .is_some_and(|entry| entry.availability_status == APPROVED)
}

fn is_approved_folder(row: &FolderRow) -> bool {
    row.folder
        .as_ref()
        .is_some_and(|folder| folder.availability_status == APPROVED)
}
