mod hostile;

use super::profile::Profile;
use super::validate::{Rules, Transaction, ValidSubmission};
use crate::error::{Reason, Result};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

fn validate(submission: pb::Submission, rules: &Rules) -> Result<ValidSubmission> {
    super::validate::validate(submission, rules, Transaction::Provide)
}

fn rules() -> Rules {
    Rules {
        home: "urn:oid:1.2.3".parse().unwrap(),
        repository: Some("1.2.3.1".parse().unwrap()),
        max_document_bytes: 1_000,
        profile: Profile::default(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
fn code(code: &str) -> Option<cpb::CodedValue> {
    Some(cpb::CodedValue {
        code: code.into(),
        system: "1.2".into(),
        ..Default::default()
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn patient() -> Option<cpb::Identifier> {
    Some(cpb::Identifier {
        assigning_authority: "1.2.3.4".into(),
        value: "0001".into(),
        ..Default::default()
    })
}

fn entry() -> pb::DocumentEntry {
    pb::DocumentEntry {
        entry_uuid: "doc1".into(),
        unique_id: "1.2.3.9".into(),
        patient_id: patient(),
        source_patient_id: patient(),
        class_code: code("57133-1"),
        type_code: code("57133-1"),
        format_code: code("f"),
        healthcare_facility_type_code: code("1"),
        practice_setting_code: code("01"),
        confidentiality_codes: code("N").into_iter().collect(),
        authors: vec![pb::Author {
            institutions: vec![pb::MetadataOrganization {
                name: "病院".into(),
                ..Default::default()
            }],
            ..Default::default()
        }],
        creation_time: "20240131".into(),
        language_code: "ja-JP".into(),
        mime_type: "application/fhir+json".into(),
        hash: "a".repeat(40),
        size: Some(10),
        service_stop_time: "2024".into(),
        source_patient_info: vec![pb::SourcePatientField {
            field: "PID-5".into(),
            value: "山田^太郎".into(),
        }],
        extension_slots: vec![pb::ExtensionSlot {
            name: "urn:acme:flag".into(),
            values: vec![" 値 ".into()],
            slot_type: String::new(),
        }],
        reference_ids: vec![pb::ReferenceId {
            id: "1".into(),
            type_code: "urn:ihe:iti:xds:2013:order".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
fn text(value: &str) -> Option<cpb::InternationalString> {
    Some(cpb::InternationalString {
        values: vec![cpb::LocalizedString {
            value: value.into(),
            language: "ja-JP".into(),
        }],
    })
}

fn folder() -> pb::Folder {
    pb::Folder {
        entry_uuid: "folder".into(),
        unique_id: "1.2.3.7".into(),
        patient_id: patient(),
        codes: code("f").into_iter().collect(),
        title: text("フォルダ"),
        ..Default::default()
    }
}

fn relation(source: &str, target: &str) -> pb::Association {
    pb::Association {
        association_type: pb::AssociationType::Apnd.into(),
        source_object: source.into(),
        target_object: target.into(),
        ..Default::default()
    }
}

fn submission() -> pb::Submission {
    pb::Submission {
        submission_set: Some(pb::SubmissionSet {
            entry_uuid: "set".into(),
            unique_id: "1.2.3.8".into(),
            source_id: "1.2.3".into(),
            patient_id: patient(),
            submission_time: "20240201120000".into(),
            content_type_code: code("c"),
            ..Default::default()
        }),
        entries: vec![entry()],
        ..Default::default()
    }
}

#[test]
fn a_good_submission_gets_what_the_registry_assigns() {
    let valid = validate(submission(), &rules()).unwrap();
    let entry = &valid.entries[0].entry;
    assert!(entry.entry_uuid.starts_with("urn:uuid:"));
    assert_eq!(entry.home_community_id, "urn:oid:1.2.3");
    assert_eq!(entry.repository_unique_id, "1.2.3.1");
    let made = &valid.associations[0].association;
    assert_eq!(valid.associations.len(), 1, "the set's membership is made");
    assert_eq!(
        (made.source_object.as_str(), &made.target_object),
        (valid.set.entry_uuid.as_str(), &entry.entry_uuid)
    );
}

type Change = fn(&mut pb::Submission);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn every_broken_rule_names_its_field() {
    let cases: &[(Change, Reason, &str)] = &[
        (
            |s| s.entries[0].hash.clear(),
            Reason::MissingHash,
            "entries[0].hash",
        ),
        (
            |s| s.entries[0].size = None,
            Reason::MissingHash,
            "entries[0].size",
        ),
        (
            |s| s.entries[0].hash = "xyz".into(),
            Reason::InvalidField,
            "entries[0].hash",
        ),
        (
            |s| s.entries[0].size = Some(1_001),
            Reason::MessageTooLarge,
            "entries[0].size",
        ),
        (
            |s| s.entries[0].home_community_id = "urn:oid:9.9".into(),
            Reason::InvalidField,
            "entries[0].home_community_id",
        ),
        (
            |s| s.entries[0].home_community_id = "urn:oid:1.9".into(),
            Reason::ForeignDomain,
            "entries[0].home_community_id",
        ),
        (
            |s| s.entries[0].repository_unique_id = "1.9".into(),
            Reason::UnknownRepository,
            "entries[0].repository_unique_id",
        ),
        (
            |s| s.entries[0].patient_id.as_mut().unwrap().value = "2".into(),
            Reason::PatientMismatch,
            "entries[0].patient_id",
        ),
        (
            |s| s.entries[0].class_code = None,
            Reason::MissingField,
            "entries[0].class_code",
        ),
        (
            |s| s.entries[0].confidentiality_codes.clear(),
            Reason::MissingField,
            "entries[0].confidentiality_codes",
        ),
        (
            |s| s.entries[0].authors.clear(),
            Reason::MissingField,
            "entries[0].authors",
        ),
        (
            |s| s.entries[0].creation_time = "2024-01-31".into(),
            Reason::InvalidField,
            "entries[0].creation_time",
        ),
        (
            |s| s.entries[0].mime_type = "pdf".into(),
            Reason::InvalidField,
            "entries[0].mime_type",
        ),
        (
            |s| s.entries[0].unique_id.clear(),
            Reason::MissingField,
            "entries[0].unique_id",
        ),
        (
            |s| {
                s.entries.clear();
                s.folders.clear();
            },
            Reason::InvalidField,
            "entries",
        ),
        (
            |s| s.entries.push(entry()),
            Reason::InvalidField,
            "entries[1].entry_uuid",
        ),
        (
            |s| {
                s.entries.push(pb::DocumentEntry {
                    entry_uuid: "doc2".into(),
                    ..entry()
                });
            },
            Reason::DuplicateInMessage,
            "entries[1].unique_id",
        ),
        (
            |s| {
                let uuid = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1";
                s.entries[0].entry_uuid = uuid.into();
                s.folders[0].entry_uuid = uuid.to_uppercase().replace("URN:UUID", "urn:uuid");
            },
            Reason::InvalidField,
            "folders[0].entry_uuid",
        ),
        (
            |s| s.entries[0].source_patient_id = None,
            Reason::MissingField,
            "entries[0].source_patient_id",
        ),
        (
            |s| s.entries[0].service_start_time = "2025".into(),
            Reason::InvalidField,
            "entries[0].service_stop_time",
        ),
        (
            |s| s.entries[0].language_code = "日本語".into(),
            Reason::InvalidField,
            "entries[0].language_code",
        ),
        (
            |s| s.entries[0].source_patient_info[0].field = "PID-19".into(),
            Reason::InvalidField,
            "entries[0].source_patient_info[0]",
        ),
        (
            |s| s.entries[0].extension_slots[0].name = "urn:ihe:x".into(),
            Reason::InvalidField,
            "entries[0].extension_slots[0]",
        ),
        (
            |s| s.entries[0].limited_metadata = true,
            Reason::InvalidField,
            "entries[0].limited_metadata",
        ),
        (
            |s| s.entries[0].object_type = pb::ObjectType::OnDemand.into(),
            Reason::InvalidField,
            "entries[0].object_type",
        ),
        (
            |s| s.entries[0].title = text(&"あ".repeat(129)),
            Reason::InvalidField,
            "entries[0].title.values[0]",
        ),
        (
            |s| s.entries[0].authors[0].person = Some(pb::MetadataPerson::default()),
            Reason::InvalidField,
            "entries[0].authors[0].person",
        ),
        (
            |s| s.entries[0].reference_ids[0].type_code.clear(),
            Reason::MissingField,
            "entries[0].reference_ids[0].type_code",
        ),
        (
            |s| s.entries[0].uri = "a b".into(),
            Reason::InvalidField,
            "entries[0].uri",
        ),
        (
            |s| s.submission_set.as_mut().unwrap().patient_id = None,
            Reason::MissingField,
            "submission_set.patient_id",
        ),
        (
            |s| s.entries[0].patient_id = None,
            Reason::MissingField,
            "entries[0].patient_id",
        ),
        (
            |s| s.folders[0].patient_id = None,
            Reason::MissingField,
            "folders[0].patient_id",
        ),
        (
            |s| s.folders[0].codes.clear(),
            Reason::MissingField,
            "folders[0].codes",
        ),
        (
            |s| s.folders[0].title = None,
            Reason::MissingField,
            "folders[0].title",
        ),
        (
            |s| s.folders[0].patient_id.as_mut().unwrap().value = "2".into(),
            Reason::PatientMismatch,
            "folders[0].patient_id",
        ),
        (
            |s| s.associations.push(relation("doc1", "nothing")),
            Reason::UnresolvedReference,
            "associations[0].target_object",
        ),
        (
            |s| s.associations.push(relation("set", "doc1")),
            Reason::UnresolvedReference,
            "associations[0].source_object",
        ),
        (
            |s| s.associations.push(relation("doc1", "set")),
            Reason::InvalidField,
            "associations[0].target_object",
        ),
        (
            |s| {
                s.associations.push(pb::Association {
                    association_type: pb::AssociationType::SubmitAssociation.into(),
                    ..relation("set", "doc1")
                });
            },
            Reason::InvalidField,
            "associations[0].association_type",
        ),
        (
            |s| {
                s.associations.push(pb::Association {
                    association_type: pb::AssociationType::HasMember.into(),
                    ..relation("set", "doc1")
                });
            },
            Reason::MissingField,
            "associations[0].submission_set_status",
        ),
        (
            |s| s.submission_set.as_mut().unwrap().source_id = "1.02".into(),
            Reason::InvalidOid,
            "submission_set.source_id",
        ),
        (
            |s| s.submission_set = None,
            Reason::MissingField,
            "submission_set",
        ),
    ];
    for (change, reason, field) in cases {
        let mut wrong = submission();
        wrong.folders.push(folder());
        change(&mut wrong);
        let error = validate(wrong, &rules()).unwrap_err();
        assert_eq!(
            (error.reason(), error.wrong_field()),
            (*reason, Some(*field)),
            "{field}"
        );
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let mut wrong = submission();
    wrong.entries[0].class_code = None;
    wrong.entries[0].hash.clear();
    wrong.submission_set.as_mut().unwrap().source_id.clear();
    let error = validate(wrong, &rules()).unwrap_err();
    let fields: Vec<_> = std::iter::once(&error)
        .chain(error.others())
        .filter_map(crate::error::Error::wrong_field)
        .collect();
    assert_eq!(
        fields,
        [
            "submission_set.source_id",
            "entries[0].class_code",
            "entries[0].hash"
        ]
    );
}

#[test]
fn what_a_profile_asks_is_data() {
    let mut rules = rules();
    let mut lax = submission();
    lax.entries[0].authors.clear();
    lax.entries[0].hash.clear();
    lax.entries[0].size = None;
    lax.entries[0].confidentiality_codes[0].code = "Clinical-Staff".into();
    assert_eq!(validate(lax.clone(), &rules).unwrap_err().others().len(), 3);
    rules.profile = Profile::parse(
        "author_institution = 'optional'\nhash = 'computed'\nconfidentiality = 'any'\n\
         [[code_set]]\nattribute = 'type_code'\nunknown = 'warn'\ncodes = [{code='x',system='s'}]",
    )
    .unwrap();
    let valid = validate(lax.clone(), &rules).unwrap();
    assert_eq!(valid.warnings.len(), 1);
    assert_eq!(valid.warnings[0].location, "entries[0].type_code");
    rules.profile = Profile::parse(
        "[[code_set]]\nattribute = 'type_code'\nunknown = 'refuse'\ncodes = [{code='x',system='s'}]",
    )
    .unwrap();
    let error = validate(submission(), &rules).unwrap_err();
    assert_eq!(
        (error.reason(), error.wrong_field()),
        (Reason::UnknownCode, Some("entries[0].type_code"))
    );
}

#[test]
fn extension_slots_stay_byte_for_byte() {
    let valid = validate(submission(), &rules()).unwrap();
    assert_eq!(
        valid.entries[0].entry.extension_slots,
        entry().extension_slots
    );
}
