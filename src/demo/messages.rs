//! The sample as messages: what a region's systems would send.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::identity as ipb;

use super::sample::{SampleCode, SampleDocument, SampleInstitution, SampleRecord, Sex};

/// Bytes of one chunk of a provide.
const CHUNK: usize = 256 * 1024;

/// A patient's identifier at an institution.
pub fn patient_id(institution: &SampleInstitution, local_id: &str) -> cpb::Identifier {
    cpb::Identifier {
        assigning_authority: institution.patient_id_oid(),
        value: local_id.to_owned(),
        ..cpb::Identifier::default()
    }
}

/// The identity feed of one record.
pub fn feed(institution: &SampleInstitution, record: &SampleRecord) -> ipb::FeedPatientRequest {
    let id = patient_id(institution, &record.local_id);
    ipb::FeedPatientRequest {
        idempotency_key: format!("feed-{}-{}", institution.code, record.local_id),
        patient: Some(ipb::Patient {
            identifier: Some(id),
            demographics: Some(demographics(record)),
            ..ipb::Patient::default()
        }),
        event: ipb::FeedEvent::Add.into(),
        ..ipb::FeedPatientRequest::default()
    }
}

fn demographics(record: &SampleRecord) -> ipb::Demographics {
    use ipb::NameRepresentation as R;
    use ipb::NameUse as U;
    let mut names = vec![
        name(
            R::Ideographic,
            U::Official,
            &record.family_kanji,
            &record.given_kanji,
        ),
        name(
            R::Syllabic,
            U::Official,
            &record.family_kana,
            &record.given_kana,
        ),
        name(
            R::Alphabetic,
            U::Official,
            &record.family_romaji,
            &record.given_romaji,
        ),
    ];
    if let Some(former) = &record.former_family_kanji {
        names.push(name(R::Ideographic, U::Maiden, former, &record.given_kanji));
    }
    if let Some(former) = &record.former_family_kana {
        names.push(name(R::Syllabic, U::Maiden, former, &record.given_kana));
    }
    let gender = match record.sex {
        Sex::Female => ipb::AdministrativeGender::Female,
        Sex::Male => ipb::AdministrativeGender::Male,
    };
    ipb::Demographics {
        names,
        administrative_gender: gender.into(),
        birth_date: record.birth_date.clone(),
        birth_date_text: record.birth_date_text.clone(),
        addresses: vec![ipb::Address {
            r#use: ipb::AddressUse::Home.into(),
            state: record.state.clone(),
            city: record.city.clone(),
            lines: vec![record.line.clone()],
            postal_code: record.postal_code.clone(),
            ..ipb::Address::default()
        }],
        telecoms: vec![ipb::Telecom {
            system: ipb::TelecomSystem::Phone.into(),
            value: record.phone.clone(),
            ..ipb::Telecom::default()
        }],
        coverages: vec![ipb::InsuranceCoverage {
            insurer_number: record.insurer_number.clone(),
            symbol: record.symbol.clone(),
            number: record.number.clone(),
            branch: record.branch.clone(),
            ..ipb::InsuranceCoverage::default()
        }],
        ..ipb::Demographics::default()
    }
}

fn name(
    representation: ipb::NameRepresentation,
    usage: ipb::NameUse,
    family: &str,
    given: &str,
) -> ipb::PersonName {
    ipb::PersonName {
        representation: representation.into(),
        r#use: usage.into(),
        family: family.to_owned(),
        given: vec![given.to_owned()],
        ..ipb::PersonName::default()
    }
}

/// The messages that provide one document.
pub fn provide(
    institution: &SampleInstitution,
    source_id: &str,
    document: &SampleDocument,
) -> Vec<dpb::ProvideDocumentsRequest> {
    use dpb::provide_documents_request::Part;
    let patient = patient_id(institution, &document.local_id);
    let entry = entry(institution, &patient, document);
    let start = dpb::ProvideStart {
        submission: Some(dpb::Submission {
            submission_set: Some(dpb::SubmissionSet {
                entry_uuid: "set".to_owned(),
                unique_id: format!("{}.1", document.unique_id),
                source_id: source_id.to_owned(),
                patient_id: Some(patient),
                submission_time: document.creation_time.clone(),
                content_type_code: entry.class_code.clone(),
                ..dpb::SubmissionSet::default()
            }),
            entries: vec![entry],
            ..dpb::Submission::default()
        }),
        idempotency_key: format!("provide-{}", document.unique_id),
        validate_only: false,
    };
    let header = dpb::DocumentHeader {
        entry_uuid: "document".to_owned(),
    };
    let chunks = document
        .content
        .chunks(CHUNK)
        .map(|chunk| Part::Chunk(chunk.to_vec().into()));
    [Part::Start(start), Part::Document(header)]
        .into_iter()
        .chain(chunks)
        .map(|part| dpb::ProvideDocumentsRequest { part: Some(part) })
        .collect()
}

fn entry(
    institution: &SampleInstitution,
    patient: &cpb::Identifier,
    document: &SampleDocument,
) -> dpb::DocumentEntry {
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &document.content);
    dpb::DocumentEntry {
        entry_uuid: "document".to_owned(),
        unique_id: document.unique_id.clone(),
        patient_id: Some(patient.clone()),
        source_patient_id: Some(patient.clone()),
        authors: vec![dpb::Author {
            institutions: vec![dpb::MetadataOrganization {
                name: institution.name_ja.clone(),
                id: institution.code.clone(),
                ..dpb::MetadataOrganization::default()
            }],
            ..dpb::Author::default()
        }],
        class_code: Some(code(document.class_code)),
        type_code: Some(code(document.type_code)),
        format_code: Some(code(document.format_code)),
        healthcare_facility_type_code: Some(code(document.facility_type)),
        practice_setting_code: Some(code(document.practice_setting_code)),
        confidentiality_codes: vec![code(document.confidentiality)],
        title: Some(cpb::InternationalString {
            values: vec![cpb::LocalizedString {
                value: document.title_ja.clone(),
                language: "ja-JP".to_owned(),
            }],
        }),
        creation_time: document.creation_time.clone(),
        service_start_time: document.service_start.clone(),
        language_code: "ja-JP".to_owned(),
        mime_type: document.mime_type.to_owned(),
        hash: HEXLOWER.encode(sha1.as_ref()),
        size: Some(document.content.len() as u64),
        ..dpb::DocumentEntry::default()
    }
}

fn code(code: SampleCode) -> cpb::CodedValue {
    cpb::CodedValue {
        code: code.code.to_owned(),
        system: code.scheme.to_owned(),
        display_name: code.display_ja.to_owned(),
        ..cpb::CodedValue::default()
    }
}
