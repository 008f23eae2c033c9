use super::validate::{Rules, validate};
use crate::error::Reason;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

fn rules() -> Rules {
    Rules {
        home: "urn:oid:1.2.3".parse().unwrap(),
        repository: Some("1.2.3.1".parse().unwrap()),
        max_document_bytes: 1_000,
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
    assert_eq!(
        entry.availability_status(),
        pb::AvailabilityStatus::Approved
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
        (|s| s.entries.clear(), Reason::InvalidField, "entries"),
        (
            |s| s.entries.push(entry()),
            Reason::InvalidField,
            "entries[0].unique_id",
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
        change(&mut wrong);
        let error = validate(wrong, &rules()).unwrap_err();
        assert_eq!(
            (error.reason(), error.wrong_field()),
            (*reason, Some(*field)),
            "{field}"
        );
    }
}
