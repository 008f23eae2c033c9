use proptest::prelude::*;

use super::*;
use crate::error::Reason;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

fn submitted(text: &str) -> pb::Submission {
    match read(text.as_bytes()).unwrap() {
        Request::Submit(submission) => submission,
        other => panic!("{other:?}"),
    }
}

fn id(value: &str) -> cpb::Identifier {
    cpb::Identifier {
        value: value.into(),
        assigning_authority: "1.2.3.4".into(),
        ..Default::default()
    }
}

fn code(value: &str) -> cpb::CodedValue {
    cpb::CodedValue {
        code: value.into(),
        system: "1.2".into(),
        display_name: format!("{value} の表示名"),
        ..Default::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn text(value: &str) -> Option<cpb::InternationalString> {
    let one = |value: &str, language: &str| cpb::LocalizedString {
        value: value.into(),
        language: language.into(),
    };
    Some(cpb::InternationalString {
        values: vec![one(value, "ja-JP"), one("in English", "en")],
    })
}

fn author() -> pb::Author {
    pb::Author {
        person: Some(pb::MetadataPerson {
            id: "11".into(),
            assigning_authority: "1.2.9".into(),
            family: "山田".into(),
            given: "太|郎".into(),
            ..Default::default()
        }),
        institutions: vec![pb::MetadataOrganization {
            name: "東京^病院".into(),
            id: "1312345670".into(),
            assigning_authority: "1.2.392.100495.20.3.21".into(),
        }],
        roles: vec![code("r")].into_iter().map(bare).collect(),
        specialties: vec![cpb::CodedValue {
            display_name: "内科".into(),
            ..Default::default()
        }],
        telecoms: vec![pb::MetadataTelecom {
            equipment: "Internet".into(),
            email: "a@b.example".into(),
            ..Default::default()
        }],
    }
}

/// Coded strings have no display name.
fn bare(code: cpb::CodedValue) -> cpb::CodedValue {
    cpb::CodedValue {
        display_name: String::new(),
        ..code
    }
}

/// Every attribute of every object.
#[expect(clippy::too_many_lines, reason = "a list of attributes")]
fn everything(extension: &[String], title: &str) -> pb::Submission {
    let slots = vec![pb::ExtensionSlot {
        name: "urn:acme:flag".into(),
        values: extension.to_vec(),
        slot_type: "urn:acme:type".into(),
    }];
    let entry = pb::DocumentEntry {
        entry_uuid: "doc".into(),
        unique_id: "1.2.3^ext".into(),
        patient_id: Some(id("P")),
        source_patient_id: Some(id("S")),
        source_patient_info: vec![pb::SourcePatientField {
            field: "PID-5".into(),
            value: "山田^太郎".into(),
        }],
        availability_status: pb::AvailabilityStatus::Approved.into(),
        object_type: pb::ObjectType::Stable.into(),
        authors: vec![author(), author()],
        legal_authenticator: author().person,
        class_code: Some(code("class")),
        type_code: Some(code("type")),
        format_code: Some(code("format")),
        healthcare_facility_type_code: Some(code("facility")),
        practice_setting_code: Some(code("practice")),
        confidentiality_codes: vec![code("N"), code("tag")],
        event_codes: vec![code("event")],
        title: text(title),
        comments: text("備考\n二行目"),
        creation_time: "2024".into(),
        service_start_time: "202401".into(),
        service_stop_time: "20240102".into(),
        language_code: "ja-JP".into(),
        mime_type: "application/pdf".into(),
        hash: "a".repeat(40),
        size: Some(0),
        repository_unique_id: "1.2.3.1".into(),
        home_community_id: "urn:oid:1.2.3".into(),
        logical_id: "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1".into(),
        version: 3,
        document_availability: pb::DocumentAvailability::Offline.into(),
        reference_ids: vec![pb::ReferenceId {
            id: "A&1".into(),
            assigning_authority: "1.2.5".into(),
            type_code: "urn:ihe:iti:xds:2013:accession".into(),
            home_community_id: "urn:oid:1.2.3".into(),
        }],
        uri: "http://a.example/b".into(),
        extension_slots: slots.clone(),
        ..Default::default()
    };
    let set = pb::SubmissionSet {
        entry_uuid: "set".into(),
        unique_id: "1.2.8".into(),
        source_id: "1.2.9".into(),
        patient_id: Some(id("P")),
        submission_time: "20240101000000".into(),
        content_type_code: Some(code("content")),
        authors: vec![author()],
        intended_recipients: vec![pb::IntendedRecipient {
            person: author().person,
            ..Default::default()
        }],
        title: text("提出"),
        comments: text("c"),
        extension_slots: slots.clone(),
        ..Default::default()
    };
    let folder = pb::Folder {
        entry_uuid: "folder".into(),
        unique_id: "1.2.7".into(),
        patient_id: Some(id("P")),
        codes: vec![code("f"), code("g")],
        title: text("フォルダ"),
        comments: text("c"),
        last_update_time: "20240101000000".into(),
        logical_id: "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c2".into(),
        version: 2,
        extension_slots: slots.clone(),
        ..Default::default()
    };
    let member = |id: &str, target: &str| pb::Association {
        entry_uuid: id.into(),
        association_type: pb::AssociationType::HasMember.into(),
        source_object: "set".into(),
        target_object: target.into(),
        submission_set_status: pb::SubmissionSetStatus::Original.into(),
        previous_version: 4,
        association_propagation: Some(false),
        extension_slots: slots.clone(),
        ..Default::default()
    };
    let relation = pb::Association {
        entry_uuid: "a3".into(),
        association_type: pb::AssociationType::Other.into(),
        other_type: "urn:acme:AssociationType:other".into(),
        source_object: "doc".into(),
        target_object: "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c3".into(),
        documentation: Some(code("d")),
        original_status: pb::AvailabilityStatus::Approved.into(),
        new_status: pb::AvailabilityStatus::Deprecated.into(),
        ..Default::default()
    };
    pb::Submission {
        submission_set: Some(set),
        entries: vec![entry],
        folders: vec![folder],
        associations: vec![member("a1", "doc"), member("a2", "folder"), relation],
    }
}

#[test]
fn every_attribute_comes_back() {
    let made = everything(&["值 1".into(), "<&\">".into()], "題名");
    assert_eq!(submitted(&submit_objects_request(&made)), made);
}

/// What has to be there is the model's question: limited metadata may name no patient.
#[test]
fn objects_without_a_patient_are_read() {
    let mut made = everything(&["v".into()], "t");
    let set = made.submission_set.as_mut().unwrap();
    (set.patient_id, set.limited_metadata) = (None, true);
    let entry = &mut made.entries[0];
    (entry.patient_id, entry.limited_metadata) = (None, true);
    let folder = &mut made.folders[0];
    (folder.patient_id, folder.limited_metadata) = (None, true);
    assert_eq!(submitted(&submit_objects_request(&made)), made);
}

proptest! {
    /// Extension slots survive byte for byte, titles too.
    #[test]
    fn extension_slots_come_back(
        values in proptest::collection::vec("[!-~あ-ん]([ -~あ-ん\t\n]{0,40}[!-~あ-ん])?", 1..4),
        title in "[ -~あ-ん\t\n]{1,40}",
    ) {
        let made = everything(&values, &title);
        prop_assert_eq!(submitted(&submit_objects_request(&made)), made);
    }

    #[test]
    fn nothing_panics(text in "[<>/&;'\"=!?a-c \\[\\]#x:-]{0,60}") {
        drop(read(text.as_bytes()));
    }

    /// A message with one part changed is read or refused, never a panic.
    #[test]
    fn changed_messages_are_read_or_refused(at in 0_usize..6_000, with in "[<>&\"/a \u{0}]{0,3}") {
        let mut text = submit_objects_request(&everything(&["v".into()], "t"));
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert_str(at, &with);
        drop(read(text.as_bytes()));
    }
}

#[test]
fn faults_have_their_place() {
    let made = everything(&["v".into()], "t");
    let good = submit_objects_request(&made);
    for (from, to, place) in [
        (
            "P^^^&amp;1.2.3.4&amp;ISO",
            "P",
            "ExtrinsicObject[doc].patientId",
        ),
        (
            "<rim:Value>2024</rim:Value>",
            "<rim:Value>2024</rim:Value><rim:Value>2025</rim:Value>",
            "ExtrinsicObject[doc].Slot[creationTime]",
        ),
        (
            "<rim:Value>2024</rim:Value>",
            "<rim:Value> </rim:Value>",
            "ExtrinsicObject[doc].Slot[creationTime]",
        ),
        (
            "name=\"size\"",
            "name=\"hash\"",
            "ExtrinsicObject[doc].Slot[hash]",
        ),
        (
            "<rim:Value>0</rim:Value>",
            "<rim:Value>-1</rim:Value>",
            "ExtrinsicObject[doc].Slot[size]",
        ),
        (
            "classifiedObject=\"doc\"",
            "classifiedObject=\"other\"",
            "ExtrinsicObject[doc].classifiedObject",
        ),
        (
            "<rim:Value>Original</rim:Value>",
            "<rim:Value>Copy</rim:Value>",
            "Association[a1].Slot[SubmissionSetStatus]",
        ),
        (
            "targetObject=\"doc\"",
            "targetObject=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c9\"",
            "ExtrinsicObject[doc]",
        ),
        (names::FOLDER, "urn:uuid:0", "RegistryPackage[folder]"),
        ("id=\"a2\"", "id=\"a1\"", "Association[a1].id"),
    ] {
        // The patient of the entry, not that of the set before it.
        let at = if from.starts_with("P^") {
            good.rfind("<rim:ExtrinsicObject").unwrap()
        } else {
            0
        };
        let (before, rest) = good.split_at(at);
        let bad = format!("{before}{}", rest.replacen(from, to, 1));
        assert_ne!(bad, good, "{from}");
        let error = read(bad.as_bytes()).unwrap_err();
        let places: Vec<_> = std::iter::once(&error).chain(error.others()).collect();
        assert!(
            places
                .iter()
                .any(|error| error.wrong_field() == Some(place)),
            "{place}: {places:?}"
        );
    }
}

#[test]
fn documents_and_entries_are_paired() {
    let made = everything(&["v".into()], "t");
    let metadata = submit_objects_request(&made);
    let metadata = metadata.split_once('\n').unwrap().1;
    let provide = |documents: &str| {
        let text = format!(
            "<x:ProvideAndRegisterDocumentSetRequest xmlns:x='{XDS}'>{metadata}{documents}</x:ProvideAndRegisterDocumentSetRequest>"
        );
        read(text.as_bytes())
    };
    let one = "<x:Document id='doc'><i:Include xmlns:i='http://www.w3.org/2004/08/xop/include' href='cid:1@a'/></x:Document>";
    match provide(one).unwrap() {
        Request::Provide(provided) => assert_eq!(
            provided.documents,
            [("doc".to_owned(), Content::Part("1@a".to_owned()))]
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(provide("").unwrap_err().reason(), Reason::MissingDocument);
    let both = format!("{one}<x:Document id='x'>AAAA</x:Document>");
    assert_eq!(
        provide(&both).unwrap_err().reason(),
        Reason::MissingMetadata
    );
}
