//! A submission checked against the metadata rules (ITI TF-3 §4.1–§4.3; TF-2 ITI-41, 42, 57, 61, 92;
//! JAHIS guide for Japan): structure and values here, the state of the registry in `lifecycle`.

mod associations;
mod entry;
mod parts;

use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{
    Confidentiality, DocumentUniqueId, Dtm, EntryUuid, HomeCommunityId, PatientIdentifier,
    RepositoryUniqueId, Sha1Hash,
};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::faults::Faults;
use super::profile::{Attribute, Profile};

pub(crate) use associations::{End, ValidAssociation};

/// Entries or folders in one submission.
pub(crate) const MAX_ENTRIES: usize = 100;
/// Associations in one submission.
const MAX_ASSOCIATIONS: usize = 2_000;

/// The rules of this node.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) home: HomeCommunityId,
    pub(crate) repository: Option<RepositoryUniqueId>,
    pub(crate) max_document_bytes: u64,
    pub(crate) profile: Profile,
}

/// What a submission is for: they ask for different attributes (ITI TF-3 §4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// ITI-41: documents come with it.
    Provide,
    /// ITI-42: another repository of the community has the documents.
    Register,
    /// ITI-61: documents are made when they are retrieved.
    OnDemand,
    /// ITI-57.
    Update,
    /// ITI-92.
    RestrictedUpdate,
}

impl Transaction {
    /// Whether it makes new versions of what is registered.
    pub(crate) fn is_update(self) -> bool {
        matches!(self, Self::Update | Self::RestrictedUpdate)
    }
}

/// A submission whose metadata is right. Documents are not here yet.
#[derive(Debug)]
pub(crate) struct ValidSubmission {
    pub(crate) transaction: Transaction,
    pub(crate) patient: PatientIdentifier,
    pub(crate) set: pb::SubmissionSet,
    pub(crate) set_uuid: EntryUuid,
    pub(crate) entries: Vec<ValidEntry>,
    pub(crate) folders: Vec<ValidFolder>,
    /// In the order of the request, then those that were made because they were missing.
    pub(crate) associations: Vec<ValidAssociation>,
    /// Ids of the request and the UUIDs they have now, of all objects.
    pub(crate) assigned: Vec<pb::AssignedId>,
    /// What was found and is not refused.
    pub(crate) warnings: Vec<pb::RegistryError>,
}

/// An entry whose metadata is right.
#[derive(Debug)]
pub(crate) struct ValidEntry {
    /// The id the submission gave it: symbolic or a UUID.
    pub(crate) symbolic: String,
    pub(crate) uuid: EntryUuid,
    pub(crate) unique_id: DocumentUniqueId,
    /// `None` if the repository computes it, or there is none.
    pub(crate) sha1: Option<Sha1Hash>,
    pub(crate) size: Option<u64>,
    /// The logicalID submitted: of the object that an update changes.
    pub(crate) logical: Option<EntryUuid>,
    pub(crate) entry: pb::DocumentEntry,
}

/// A folder whose metadata is right.
#[derive(Debug)]
pub(crate) struct ValidFolder {
    pub(crate) uuid: EntryUuid,
    pub(crate) logical: Option<EntryUuid>,
    pub(crate) folder: pb::Folder,
}

/// What the checks of one submission share.
struct Check<'a> {
    rules: &'a Rules,
    transaction: Transaction,
    patient: PatientIdentifier,
    faults: Faults,
    warnings: Vec<pb::RegistryError>,
}

/// Checks a submission and fills in what the registry assigns (entryUUID, status, home community,
/// repository).
///
/// # Errors
/// Every rule broken, each with the field's path; those between the parts only when the parts are
/// right.
pub(crate) fn validate(
    submission: pb::Submission,
    rules: &Rules,
    transaction: Transaction,
) -> Result<ValidSubmission> {
    let mut set = submission
        .submission_set
        .ok_or_else(|| Error::missing("submission_set"))?;
    let patient = identifier(set.patient_id.as_ref(), "submission_set.patient_id")?;
    bounds(
        submission.entries.len(),
        submission.folders.len(),
        submission.associations.len(),
    )?;
    let mut check = Check {
        rules,
        transaction,
        patient,
        faults: Faults::default(),
        warnings: Vec::new(),
    };
    let set_uuid = check.submission_set(&mut set);
    let mut entries = Vec::with_capacity(submission.entries.len());
    for (index, entry) in submission.entries.into_iter().enumerate() {
        let place = format!("entries[{index}]");
        entries.push(check.within(place, |check| check.entry(entry)));
    }
    let mut folders = Vec::with_capacity(submission.folders.len());
    for (index, folder) in submission.folders.into_iter().enumerate() {
        let place = format!("folders[{index}]");
        folders.push(check.within(place, |check| check.folder(folder)));
    }
    // What is wrong in itself has no place in relations.
    let (Some(set_uuid), Some(entries), Some(folders)) = (
        set_uuid,
        entries.into_iter().collect::<Option<Vec<_>>>(),
        folders.into_iter().collect::<Option<Vec<_>>>(),
    ) else {
        check.faults.result()?;
        return Err(Error::internal("a part was refused without a fault"));
    };
    std::mem::take(&mut check.faults).result()?;
    let mut valid = ValidSubmission {
        transaction,
        patient: check.patient.clone(),
        set,
        set_uuid: set_uuid.0,
        entries,
        folders,
        associations: Vec::new(),
        assigned: vec![pb::AssignedId {
            symbolic_id: set_uuid.1,
            entry_uuid: set_uuid.0.to_string(),
        }],
        warnings: Vec::new(),
    };
    check.relations(&mut valid, submission.associations);
    check.faults.result()?;
    valid.warnings = check.warnings;
    Ok(valid)
}

fn bounds(entries: usize, folders: usize, associations: usize) -> Result<()> {
    for (field, count, most) in [
        ("entries", entries, MAX_ENTRIES),
        ("folders", folders, MAX_ENTRIES),
        ("associations", associations, MAX_ASSOCIATIONS),
    ] {
        if count > most {
            let message = format!("must hold at most {most}");
            return Err(Error::field(Reason::InvalidField, field, message));
        }
    }
    if entries + folders + associations == 0 {
        let message = "a submission has something in it";
        return Err(Error::field(Reason::InvalidField, "entries", message));
    }
    Ok(())
}

impl Check<'_> {
    fn within<T>(&mut self, part: String, check: impl FnOnce(&mut Self) -> T) -> T {
        self.faults.enter(part);
        let result = check(self);
        self.faults.leave();
        result
    }

    /// The SubmissionSet: its UUID and the id it was given (ITI TF-3 §4.2.3.3).
    fn submission_set(&mut self, set: &mut pb::SubmissionSet) -> Option<(EntryUuid, String)> {
        self.within("submission_set".to_owned(), |check| {
            let unique = check.oid("unique_id", &set.unique_id);
            let source = check.oid("source_id", &set.source_id);
            check
                .faults
                .required::<Dtm>("submission_time", &set.submission_time);
            check.code(
                "content_type_code",
                Attribute::ContentTypeCode,
                set.content_type_code.as_ref(),
            );
            check.authors("authors", &set.authors);
            check.recipients(&set.intended_recipients);
            check.title("title", set.title.as_ref(), parts::MAX_PACKAGE_TITLE);
            check.title("comments", set.comments.as_ref(), parts::MAX_TEXT);
            check.common(
                &set.home_community_id,
                set.limited_metadata,
                &set.extension_slots,
            );
            let symbolic = set.entry_uuid.clone();
            let uuid = check.assigned(&symbolic)?;
            set.entry_uuid = uuid.to_string();
            set.home_community_id = check.rules.home.to_string();
            set.availability_status = pb::AvailabilityStatus::Approved.into();
            unique.and(source).map(|_| (uuid, symbolic))
        })
    }

    /// A Folder (ITI TF-3 §4.2.3.4).
    fn folder(&mut self, mut folder: pb::Folder) -> Option<ValidFolder> {
        let unique = self.oid("unique_id", &folder.unique_id);
        let patient = self.same_patient(folder.patient_id.as_ref());
        if folder.codes.is_empty() {
            self.faults.missing("codes");
        }
        self.codes("codes", Attribute::FolderCode, &folder.codes);
        match &folder.title {
            Some(title) if title.values.iter().any(|text| !text.value.is_empty()) => {}
            _ => self.faults.missing("title"),
        }
        self.title("title", folder.title.as_ref(), parts::MAX_PACKAGE_TITLE);
        self.title("comments", folder.comments.as_ref(), parts::MAX_TEXT);
        self.common(
            &folder.home_community_id,
            folder.limited_metadata,
            &folder.extension_slots,
        );
        let logical = self.logical(&folder.logical_id);
        let uuid = self.assigned(&folder.entry_uuid)?;
        folder.home_community_id = self.rules.home.to_string();
        unique.and(patient)?;
        Some(ValidFolder {
            uuid,
            logical,
            folder,
        })
    }

    /// The logicalID of an update. At a first registration what the source says is not looked at.
    fn logical(&mut self, given: &str) -> Option<EntryUuid> {
        if !self.transaction.is_update() || given.is_empty() {
            return None;
        }
        if !given.starts_with("urn:uuid:") {
            self.faults.invalid(
                "logical_id",
                "is not a UUID (`urn:uuid:…`); it is never symbolic",
            );
            return None;
        }
        self.faults.optional("logical_id", given)
    }

    /// A symbolic id gets a UUID; a UUID is kept, in lower case.
    fn assigned(&mut self, given: &str) -> Option<EntryUuid> {
        if given.starts_with("urn:uuid:") {
            self.faults.required("entry_uuid", given)
        } else {
            Some(EntryUuid::random())
        }
    }

    fn warn(&mut self, reason: Reason, field: &str, message: String) {
        let location = self.faults.path(field);
        self.warnings.push(pb::RegistryError {
            code: reason.ihe_code().to_owned(),
            context: message,
            location,
            severity: pb::RegistryErrorSeverity::Warning.into(),
        });
    }
}

/// The confidentiality of an entry; very restricted if it says nothing that is understood.
pub(crate) fn confidentiality_of(entry: &pb::DocumentEntry) -> Confidentiality {
    let uninformed = entry
        .national_flags
        .contains(&i32::from(cpb::NationalFlag::Uninformed));
    let coded = entry
        .confidentiality_codes
        .iter()
        .filter_map(|code| Confidentiality::from_code(&code.code))
        .max()
        .unwrap_or(Confidentiality::VeryRestricted);
    if uninformed {
        Confidentiality::VeryRestricted
    } else {
        coded
    }
}
