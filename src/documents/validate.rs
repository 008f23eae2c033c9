//! A submission checked against the metadata rules (ITI TF-3 §4.1–§4.3; JAHIS guide for Japan).

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{
    Confidentiality, DocumentUniqueId, Dtm, EntryUuid, HomeCommunityId, Oid, PatientIdentifier,
    RepositoryUniqueId,
};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

/// Entries in one submission.
pub(crate) const MAX_ENTRIES: usize = 100;
/// Characters of a title or comment (counted in characters: Japanese is three bytes each).
const MAX_TITLE: usize = 1_024;

/// The rules of this node.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) home: HomeCommunityId,
    pub(crate) repository: Option<RepositoryUniqueId>,
    pub(crate) max_document_bytes: u64,
}

/// A submission whose metadata is right. Documents are not here yet.
#[derive(Debug)]
pub(crate) struct ValidSubmission {
    pub(crate) patient: PatientIdentifier,
    pub(crate) set: pb::SubmissionSet,
    pub(crate) set_uuid: EntryUuid,
    pub(crate) entries: Vec<ValidEntry>,
}

/// An entry whose metadata is right.
#[derive(Debug)]
pub(crate) struct ValidEntry {
    /// The id the submission gave it: symbolic or a UUID.
    pub(crate) symbolic: String,
    pub(crate) uuid: EntryUuid,
    pub(crate) unique_id: DocumentUniqueId,
    pub(crate) sha1: [u8; 20],
    pub(crate) size: u64,
    pub(crate) entry: pb::DocumentEntry,
}

/// Checks a submission and fills in what the registry assigns (entryUUID, status, version, home
/// community, repository).
///
/// # Errors
/// The first rule broken, with the field's path.
pub(crate) fn validate(submission: pb::Submission, rules: &Rules) -> Result<ValidSubmission> {
    if !submission.folders.is_empty() {
        return Err(Error::new(
            Reason::NotImplemented,
            "folders are not taken yet",
        ));
    }
    let members_only = submission
        .associations
        .iter()
        .all(|association| association.association_type() == pb::AssociationType::HasMember);
    if !members_only {
        return Err(Error::new(
            Reason::NotImplemented,
            "associations other than HasMember are not taken yet",
        ));
    }
    let mut set = submission
        .submission_set
        .ok_or_else(|| Error::missing("submission_set"))?;
    let patient = identifier(set.patient_id.as_ref(), "submission_set.patient_id")?;
    required("submission_set.unique_id", &set.unique_id)?;
    oid("submission_set.source_id", &set.source_id)?;
    dtm("submission_set.submission_time", &set.submission_time)?;
    coded(
        "submission_set.content_type_code",
        set.content_type_code.as_ref(),
    )?;
    if submission.entries.is_empty() || submission.entries.len() > MAX_ENTRIES {
        let message = format!("must hold between 1 and {MAX_ENTRIES} entries");
        return Err(Error::field(Reason::InvalidField, "entries", message));
    }
    let set_uuid = assigned(&set.entry_uuid)?;
    set.entry_uuid = set_uuid.to_string();
    set.home_community_id = rules.home.to_string();
    set.availability_status = pb::AvailabilityStatus::Approved.into();
    let mut entries = Vec::with_capacity(submission.entries.len());
    for (index, entry) in submission.entries.into_iter().enumerate() {
        let valid = validate_entry(entry, &patient, rules)
            .map_err(|error| error.within(&format!("entries[{index}]")))?;
        entries.push(valid);
    }
    distinct(&entries)?;
    Ok(ValidSubmission {
        patient,
        set,
        set_uuid,
        entries,
    })
}

fn distinct(entries: &[ValidEntry]) -> Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        let twice = entries.iter().skip(index + 1).any(|other| {
            other.unique_id == entry.unique_id
                || other.uuid == entry.uuid
                || (!entry.symbolic.is_empty() && other.symbolic == entry.symbolic)
        });
        if twice {
            let field = format!("entries[{index}].unique_id");
            return Err(Error::field(
                Reason::InvalidField,
                field,
                "stands twice in the submission",
            ));
        }
    }
    Ok(())
}

fn validate_entry(
    mut entry: pb::DocumentEntry,
    patient: &PatientIdentifier,
    rules: &Rules,
) -> Result<ValidEntry> {
    required("unique_id", &entry.unique_id)?;
    let unique_id = parse::<DocumentUniqueId>("unique_id", &entry.unique_id)?;
    if identifier(entry.patient_id.as_ref(), "patient_id")? != *patient {
        let message = "is not the patient of the submission set";
        return Err(Error::field(Reason::PatientMismatch, "patient_id", message));
    }
    for (field, code) in [
        ("class_code", &entry.class_code),
        ("type_code", &entry.type_code),
        ("format_code", &entry.format_code),
        (
            "healthcare_facility_type_code",
            &entry.healthcare_facility_type_code,
        ),
        ("practice_setting_code", &entry.practice_setting_code),
    ] {
        coded(field, code.as_ref())?;
    }
    confidentiality(&entry)?;
    authors(&entry)?;
    dtm("creation_time", &entry.creation_time)?;
    for (field, time) in [
        ("service_start_time", &entry.service_start_time),
        ("service_stop_time", &entry.service_stop_time),
    ] {
        if !time.is_empty() {
            dtm(field, time)?;
        }
    }
    required("language_code", &entry.language_code)?;
    mime("mime_type", &entry.mime_type)?;
    title("title", entry.title.as_ref())?;
    title("comments", entry.comments.as_ref())?;
    let (sha1, size) = integrity(&entry, rules)?;
    home(&entry, rules)?;
    let symbolic = entry.entry_uuid.clone();
    let uuid = assigned(&symbolic)?;
    entry.entry_uuid = uuid.to_string();
    entry.logical_id = uuid.to_string();
    entry.version = 1;
    entry.object_type = pb::ObjectType::Stable.into();
    entry.availability_status = pb::AvailabilityStatus::Approved.into();
    entry.home_community_id = rules.home.to_string();
    if let Some(repository) = &rules.repository {
        entry.repository_unique_id = repository.to_string();
    }
    Ok(ValidEntry {
        symbolic,
        uuid,
        unique_id,
        sha1,
        size,
        entry,
    })
}

/// Hash and size are required: a document without them could change unseen.
fn integrity(entry: &pb::DocumentEntry, rules: &Rules) -> Result<([u8; 20], u64)> {
    if entry.hash.is_empty() {
        let message = "the SHA-1 of the document is required";
        return Err(Error::field(Reason::MissingHash, "hash", message));
    }
    let sha1 = HEXLOWER_PERMISSIVE.decode(entry.hash.as_bytes());
    let sha1 = sha1.ok().and_then(|sha1| sha1.try_into().ok());
    let sha1 = sha1.ok_or_else(|| {
        Error::field(
            Reason::InvalidField,
            "hash",
            "is not a SHA-1 of 40 hexadecimal digits",
        )
    })?;
    let size = entry.size.ok_or_else(|| {
        Error::field(
            Reason::MissingHash,
            "size",
            "the size of the document is required",
        )
    })?;
    if size > rules.max_document_bytes {
        let message = format!(
            "is more than the {} bytes taken here",
            rules.max_document_bytes
        );
        return Err(Error::field(Reason::MessageTooLarge, "size", message));
    }
    Ok((sha1, size))
}

/// A document is registered only under the own community and repository (INV-4).
fn home(entry: &pb::DocumentEntry, rules: &Rules) -> Result<()> {
    if !entry.home_community_id.is_empty() {
        let given: HomeCommunityId = parse("home_community_id", &entry.home_community_id)?;
        if given != rules.home {
            let message = "is another community's; documents are registered in their own";
            return Err(Error::field(
                Reason::ForeignDomain,
                "home_community_id",
                message,
            ));
        }
    }
    if !entry.repository_unique_id.is_empty() {
        let given: RepositoryUniqueId = parse("repository_unique_id", &entry.repository_unique_id)?;
        if Some(&given) != rules.repository.as_ref() {
            let message = "is not the repository of this community";
            return Err(Error::field(
                Reason::UnknownRepository,
                "repository_unique_id",
                message,
            ));
        }
    }
    Ok(())
}

fn confidentiality(entry: &pb::DocumentEntry) -> Result<()> {
    let hl7 = entry
        .confidentiality_codes
        .iter()
        .filter(|code| Confidentiality::from_code(&code.code).is_some())
        .count();
    match hl7 {
        1 => Ok(()),
        0 => Err(Error::field(
            Reason::MissingField,
            "confidentiality_codes",
            "needs one of U, L, M, N, R, V (2.16.840.1.113883.5.25)",
        )),
        _ => Err(Error::field(
            Reason::InvalidField,
            "confidentiality_codes",
            "has more than one of U, L, M, N, R, V",
        )),
    }
}

/// authorInstitution is mandatory, authorPerson is not (JAHIS guide).
fn authors(entry: &pb::DocumentEntry) -> Result<()> {
    let named = entry.authors.iter().flat_map(|author| &author.institutions);
    if named
        .clone()
        .any(|institution| !institution.name.is_empty())
    {
        Ok(())
    } else {
        Err(Error::field(
            Reason::MissingField,
            "authors",
            "needs an author with an institution (authorInstitution)",
        ))
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

fn required(field: &'static str, value: &str) -> Result<()> {
    if value.is_empty() {
        Err(Error::missing(field))
    } else {
        Ok(())
    }
}

fn parse<T>(field: &'static str, value: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    value
        .parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidField, field, error.to_string()))
}

fn oid(field: &'static str, value: &str) -> Result<()> {
    required(field, value)?;
    let parsed: Result<Oid, _> = value.parse();
    parsed
        .map(|_| ())
        .map_err(|error| Error::field(Reason::InvalidOid, field, error.to_string()))
}

fn dtm(field: &'static str, value: &str) -> Result<()> {
    required(field, value)?;
    parse::<Dtm>(field, value).map(|_| ())
}

fn coded(field: &'static str, value: Option<&cpb::CodedValue>) -> Result<()> {
    match value {
        Some(code) if !code.code.is_empty() && !code.system.is_empty() => Ok(()),
        _ => Err(Error::field(
            Reason::MissingField,
            field,
            "needs a code and its system",
        )),
    }
}

fn mime(field: &'static str, value: &str) -> Result<()> {
    required(field, value)?;
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    match value.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) && value.len() <= 127 => Ok(()),
        _ => Err(Error::field(
            Reason::InvalidField,
            field,
            "is not a media type",
        )),
    }
}

fn title(field: &'static str, value: Option<&cpb::InternationalString>) -> Result<()> {
    let long = value
        .iter()
        .flat_map(|text| &text.values)
        .any(|text| text.value.chars().count() > MAX_TITLE);
    if long {
        let message = format!("is longer than {MAX_TITLE} characters");
        return Err(Error::field(Reason::InvalidField, field, message));
    }
    Ok(())
}

/// A symbolic id gets a UUID; a UUID is kept.
fn assigned(given: &str) -> Result<EntryUuid> {
    if given.starts_with("urn:uuid:") {
        parse("entry_uuid", given)
    } else {
        Ok(EntryUuid::random())
    }
}
