//! Care records (MEIS 医療的ケア児等): what family and doctor wrote for the emergency, taken as structure and
//! stored as a FHIR document Bundle like any other document of the patient. So it is sealed, listed,
//! judged, replaced and read back as documents are; only who stands for it is judged here.

mod bundle;
mod check;

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::documents::{Attach, Documents};
use crate::error::{Error, Reason, Result};
use crate::identity::identifier_message;
use crate::store::{Expect, IndexKey, KeyBuilder, Row, Store, TableId, Tag, Versioned, Write};
use crate::types::{EntryUuid, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as pb;

/// Octets in one part of the document on its way into the store.
const CHUNK: usize = 64 * 1024;
/// LOINC.
const LOINC: &str = "2.16.840.1.113883.6.1";
/// HL7 v3 `NullFlavor`: the sender does not say which kind of facility, and which department.
const NULL_FLAVOR: &str = "2.16.840.1.113883.5.1008";

/// The care record in force of one patient from one institution.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CareRow {
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) patient: Vec<u8>,
    /// 10-digit code of the institution that submitted it.
    #[prost(string, tag = "2")]
    pub(crate) institution: String,
    /// Its version, from 1.
    #[prost(uint32, tag = "3")]
    pub(crate) version: u32,
    /// entryUUID of the document's entry, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) entry: Vec<u8>,
}

impl Row for CareRow {
    const TABLE: TableId = TableId(100);
    const NAME: &'static str = "care";

    fn key(&self) -> Vec<u8> {
        KeyBuilder::new()
            .fixed(&self.patient)
            .text(&self.institution)
            .build()
    }

    fn index(&self) -> Vec<IndexKey> {
        Vec::new()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// The care records of this node.
#[derive(Debug)]
pub struct CareRecords {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    documents: Arc<Documents>,
}

/// A record as it is to be stored.
struct Draft<'a> {
    record: &'a pb::CareRecord,
    patient: &'a PatientIdentifier,
    institution: &'a str,
    version: u32,
    now: Timestamp,
}

impl CareRecords {
    /// Care records kept as `documents`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, documents: Arc<Documents>) -> Self {
        Self {
            store,
            clock,
            documents,
        }
    }

    /// Stores a record in place of the former one of the same institution: one frame, in which the former
    /// is deprecated. `tell` gives rows to commit with it, as for any document.
    ///
    /// # Errors
    /// What is wrong with the record; [`Reason::ConcurrentChange`] if the former one is not the version
    /// that is expected; what a provided document may break; the store.
    pub async fn submit(
        &self,
        permit: &Permit,
        call: &Call,
        (patient, request): (&PatientIdentifier, &pb::SubmitCareRecordRequest),
        tell: Attach<'_>,
    ) -> Result<pb::SubmitCareRecordResponse> {
        permit.require(&[Action::SubmitDocuments])?;
        let record = request.record.as_ref();
        let record = record.ok_or_else(|| Error::missing("record"))?;
        let now = self.clock.now();
        let code = call.caller().participant.code.as_ref();
        let institution = code.map(ToString::to_string);
        let institution = institution.ok_or_else(Error::not_permitted)?;
        let key = &request.idempotency_key;
        let idempotency = call.idempotency(&self.store, key, request, now)?;
        let first = call.repeated(&self.store, idempotency.as_ref(), now)?;
        if let Some(first) = first {
            return self.answer(&first);
        }
        let (former, expect) = self.former(patient, &institution)?;
        let version = former.as_ref().map_or(0, |former| former.version);
        if request.expected_version != 0 && request.expected_version != version {
            let message = "the record is not of the version that is expected";
            return Err(Error::field(
                Reason::ConcurrentChange,
                "expected_version",
                message,
            ));
        }
        let draft = Draft {
            record,
            patient,
            institution: &institution,
            version: version.saturating_add(1),
            now,
        };
        check::check(&draft, call.caller())?;
        let uuid = EntryUuid::random();
        let octets = Bytes::from(bundle::write(&draft));
        let submission = self.submission(&draft, &uuid, &octets, former.as_ref())?;
        let row = CareRow {
            patient: self.store.keys().patient_tag(patient).to_vec(),
            institution: institution.clone(),
            version: draft.version,
            entry: uuid.as_bytes().to_vec(),
        };
        let mut provision = self.documents.begin(submission)?;
        provision.document(&uuid.to_string()).await?;
        for from in (0..octets.len()).step_by(CHUNK) {
            let to = octets.len().min(from + CHUNK);
            provision.chunk(octets.slice(from..to)).await?;
        }
        let attach = |withdrawn: &[crate::documents::Withdrawn]| {
            let mut writes = tell(withdrawn);
            writes.push(Write::put(&row).expecting(expect));
            writes
        };
        let stored = provision.finish(permit, call, idempotency, &attach).await?;
        self.answer(&stored)
    }

    /// The record there is of the institution, and what must still hold of it when it is replaced.
    fn former(
        &self,
        patient: &PatientIdentifier,
        institution: &str,
    ) -> Result<(Option<CareRow>, Expect)> {
        let key = CareRow {
            patient: self.store.keys().patient_tag(patient).to_vec(),
            institution: institution.to_owned(),
            ..CareRow::default()
        }
        .key();
        Ok(match self.store.get::<CareRow>(&key)? {
            Some(Versioned { version, row }) => (Some(row), Expect::Version(version)),
            None => (None, Expect::Absent),
        })
    }

    /// The answer that a stored document makes: its version is in its uniqueId.
    fn answer(&self, stored: &dpb::RegistrationResult) -> Result<pb::SubmitCareRecordResponse> {
        let lost = || Error::internal("a care record was stored without its entry");
        let entry = stored.entries.first().ok_or_else(lost)?;
        let version = entry.unique_id.split_once('^');
        let version = version.and_then(|(_, version)| version.parse().ok());
        let repository = self.documents.repository().map(ToString::to_string);
        Ok(pb::SubmitCareRecordResponse {
            version: version.ok_or_else(lost)?,
            document: Some(cpb::DocumentRef {
                home_community_id: self.documents.home().to_string(),
                repository_unique_id: repository.unwrap_or_default(),
                document_unique_id: entry.unique_id.clone(),
            }),
        })
    }

    /// The submission of the document, which replaces the former one as long as that is in force.
    fn submission(
        &self,
        draft: &Draft<'_>,
        uuid: &EntryUuid,
        octets: &Bytes,
        former: Option<&CareRow>,
    ) -> Result<dpb::Submission> {
        let written = draft.now.to_zoned(TimeZone::UTC);
        let written = written.strftime("%Y%m%d%H%M%S").to_string();
        let patient = Some(identifier_message(draft.patient));
        let entry = entry(draft, uuid, octets, &written);
        let source = self.documents.repository().map(ToString::to_string);
        let set = dpb::SubmissionSet {
            entry_uuid: "set".to_owned(),
            unique_id: oid(uuid::Uuid::new_v4()),
            source_id: source.unwrap_or_default(),
            patient_id: patient,
            submission_time: written,
            content_type_code: entry.class_code.clone(),
            authors: entry.authors.clone(),
            ..dpb::SubmissionSet::default()
        };
        let mut associations = Vec::new();
        if let Some(former) = self.in_force(former)? {
            associations.push(dpb::Association {
                entry_uuid: "replacement".to_owned(),
                association_type: dpb::AssociationType::Rplc.into(),
                source_object: uuid.to_string(),
                target_object: former.to_string(),
                ..dpb::Association::default()
            });
        }
        Ok(dpb::Submission {
            submission_set: Some(set),
            entries: vec![entry],
            folders: Vec::new(),
            associations,
        })
    }

    /// The former document, unless it was removed or deprecated otherwise.
    fn in_force(&self, former: Option<&CareRow>) -> Result<Option<EntryUuid>> {
        let uuid = former.and_then(|former| former.entry.as_slice().try_into().ok());
        let Some(uuid) = uuid.map(EntryUuid::from_bytes) else {
            return Ok(None);
        };
        let found = self.documents.by_uuid(&uuid)?;
        let approved = found.is_some_and(|found| {
            found.entry.availability_status() == dpb::AvailabilityStatus::Approved
        });
        Ok(approved.then_some(uuid))
    }
}

/// An OID that nobody has: a UUID under 2.25 (X.667).
fn oid(uuid: uuid::Uuid) -> String {
    format!("2.25.{}", uuid.as_u128())
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn code(code: &str, system: &str, display: &str) -> Option<cpb::CodedValue> {
    Some(cpb::CodedValue {
        code: code.to_owned(),
        system: system.to_owned(),
        display_name: display.to_owned(),
        ..cpb::CodedValue::default()
    })
}

/// The hash of a document, in lower-case hex digits.
fn hex(algorithm: &'static digest::Algorithm, octets: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(algorithm, octets).as_ref())
}

fn entry(draft: &Draft<'_>, uuid: &EntryUuid, octets: &[u8], written: &str) -> dpb::DocumentEntry {
    let patient = Some(identifier_message(draft.patient));
    let name = draft
        .record
        .author
        .as_ref()
        .and_then(|author| author.institution.as_ref())
        .map(|institution| institution.name.clone())
        .filter(|name| !name.is_empty());
    dpb::DocumentEntry {
        entry_uuid: uuid.to_string(),
        unique_id: format!("{}^{}", oid(uuid::Uuid::new_v4()), draft.version),
        patient_id: patient.clone(),
        source_patient_id: patient,
        object_type: dpb::ObjectType::Stable.into(),
        authors: vec![dpb::Author {
            institutions: vec![dpb::MetadataOrganization {
                name: name.unwrap_or_else(|| draft.institution.to_owned()),
                id: draft.institution.to_owned(),
                ..dpb::MetadataOrganization::default()
            }],
            ..dpb::Author::default()
        }],
        class_code: code("56447-6", LOINC, "計画書"),
        type_code: code("18776-5", LOINC, "医療的ケア情報"),
        // No profile of its own is published: a document Bundle as base FHIR has it.
        format_code: code(
            "http://hl7.org/fhir/StructureDefinition/Bundle",
            "urn:ietf:rfc:3986",
            "FHIR文書",
        ),
        healthcare_facility_type_code: code("UNK", NULL_FLAVOR, "不明"),
        practice_setting_code: code("UNK", NULL_FLAVOR, "不明"),
        confidentiality_codes: code("N", "2.16.840.1.113883.5.25", "")
            .into_iter()
            .collect(),
        title: Some(japanese("医療的ケア情報")),
        creation_time: written.to_owned(),
        language_code: "ja-JP".to_owned(),
        mime_type: "application/fhir+json".to_owned(),
        hash: hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets),
        hash_sha256: hex(&digest::SHA256, octets),
        size: Some(octets.len() as u64),
        ..dpb::DocumentEntry::default()
    }
}

/// A text in Japanese.
fn japanese(value: &str) -> cpb::InternationalString {
    cpb::InternationalString {
        values: vec![cpb::LocalizedString {
            value: value.to_owned(),
            language: "ja-JP".to_owned(),
        }],
    }
}

#[cfg(test)]
mod tests;
