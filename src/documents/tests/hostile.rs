//! What reads octets from outside ([`targets`], which `fuzz/` has too) on messages that are bent at
//! random: they are read or refused, and what is read is judged, under every transaction, without a panic.
//! `RENKEI_TIER=full` tries a hundred times as many. A failure is printed as small as it can be made, and
//! its seed is kept.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;

use super::super::ebxml::{Request, read, read_query, submit_objects_request};
use super::super::targets;
use super::*;

/// What means something to a reader.
const WORDS: [&str; 30] = [
    "<",
    ">",
    "/>",
    "</",
    "&",
    "&amp;",
    "&#0;",
    "&#x10FFFF;",
    "\"",
    "'",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE a [<!ENTITY b \"b\">]>",
    "&b;",
    "xmlns=\"\"",
    "^^^&",
    "&ISO",
    "urn:uuid:",
    "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1",
    "('",
    "')",
    "','",
    "$",
    "\u{0}",
    "\u{feff}",
    "𠮷",
    "99999999999999999999",
    "\t\r\n",
];

fn cases(quick: u32) -> ProptestConfig {
    let full = std::env::vars().any(|(name, tier)| name == "RENKEI_TIER" && tier != "quick");
    ProptestConfig::with_cases(if full { quick * 100 } else { quick })
}

/// One change of a message.
#[derive(Clone, Debug)]
enum Bend {
    Cut(Index, usize),
    Repeat(Index, usize, Index),
    Set(Index, u8),
    Put(Index, &'static str),
    Swap(Index, Index, usize),
}

fn bends() -> impl Strategy<Value = Vec<Bend>> {
    let place = any::<Index>;
    let one = prop_oneof![
        (place(), 1_usize..400).prop_map(|(at, length)| Bend::Cut(at, length)),
        (place(), 1_usize..400, place()).prop_map(|(at, length, to)| Bend::Repeat(at, length, to)),
        (place(), any::<u8>()).prop_map(|(at, octet)| Bend::Set(at, octet)),
        (place(), select(WORDS.to_vec())).prop_map(|(at, word)| Bend::Put(at, word)),
        (place(), place(), 1_usize..60)
            .prop_map(|(one, other, length)| { Bend::Swap(one, other, length) }),
    ];
    prop::collection::vec(one, 1..6)
}

fn bent(mut octets: Vec<u8>, bends: &[Bend]) -> Vec<u8> {
    for bend in bends {
        if octets.is_empty() {
            break;
        }
        let end = octets.len();
        match bend {
            Bend::Cut(at, length) => {
                let at = at.index(end);
                octets.drain(at..end.min(at + length));
            }
            Bend::Repeat(at, length, to) => {
                let at = at.index(end);
                let part = octets[at..end.min(at + length)].to_vec();
                let to = to.index(end);
                octets.splice(to..to, part);
            }
            Bend::Set(at, octet) => octets[at.index(end)] = *octet,
            Bend::Put(at, word) => {
                let at = at.index(end);
                octets.splice(at..at, word.bytes());
            }
            Bend::Swap(one, other, length) => {
                let (one, other) = (one.index(end), other.index(end));
                for step in 0..*length {
                    if one.max(other) + step < end {
                        octets.swap(one + step, other + step);
                    }
                }
            }
        }
    }
    octets
}

/// A submission with something of every kind.
fn everything() -> pb::Submission {
    let second = pb::DocumentEntry {
        entry_uuid: "doc2".into(),
        unique_id: "1.2.3.10".into(),
        title: text("題名"),
        ..entry()
    };
    let member = |target: &str| pb::Association {
        association_type: pb::AssociationType::HasMember.into(),
        submission_set_status: pb::SubmissionSetStatus::Original.into(),
        ..relation("set", target)
    };
    let mut made = submission();
    made.entries.push(second);
    made.folders.push(folder());
    made.associations = vec![
        member("doc1"),
        member("doc2"),
        member("folder"),
        relation("doc2", "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c3"),
    ];
    for (number, association) in made.associations.iter_mut().enumerate() {
        association.entry_uuid = format!("a{number}");
    }
    named(&mut made);
    made
}

/// Gives every code its name, which the ebXML form demands.
fn named(made: &mut pb::Submission) {
    let mut codes: Vec<&mut cpb::CodedValue> = Vec::new();
    for entry in &mut made.entries {
        codes.extend(&mut entry.class_code);
        codes.extend(&mut entry.type_code);
        codes.extend(&mut entry.format_code);
        codes.extend(&mut entry.healthcare_facility_type_code);
        codes.extend(&mut entry.practice_setting_code);
        codes.extend(&mut entry.confidentiality_codes);
    }
    let folders = made.folders.iter_mut();
    codes.extend(folders.flat_map(|folder| &mut folder.codes));
    let set = made.submission_set.iter_mut();
    codes.extend(set.flat_map(|set| &mut set.content_type_code));
    for code in codes {
        code.display_name = format!("{} の名", code.code);
    }
}

const QUERY: &str = "<q:AdhocQueryRequest \
    xmlns:q=\"urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0\" \
    xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\">\
    <q:ResponseOption returnType=\"LeafClass\" returnComposedObjects=\"true\"/>\
    <AdhocQuery id=\"urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d\">\
    <Slot name=\"$XDSDocumentEntryPatientId\"><ValueList><Value>'1^^^&amp;1.2&amp;ISO'</Value>\
    </ValueList></Slot>\
    <Slot name=\"$XDSDocumentEntryStatus\"><ValueList>\
    <Value>('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')</Value></ValueList></Slot>\
    <Slot name=\"$XDSDocumentEntryClassCode\"><ValueList><Value>('a^^1.2','b^^1.2')</Value>\
    <Value>('it''s^^1.2')</Value></ValueList></Slot>\
    <Slot name=\"$XDSDocumentEntryCreationTimeFrom\"><ValueList><Value>2024</Value></ValueList>\
    </Slot>\
    <Slot name=\"$XDSDocumentEntryAuthorPerson\"><ValueList><Value>('%山田%')</Value></ValueList>\
    </Slot></AdhocQuery></q:AdhocQueryRequest>";

const REMOVAL: &str = "<l:RemoveObjectsRequest \
    xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
    xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><ObjectRefList>\
    <ObjectRef id=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\"/></ObjectRefList>\
    </l:RemoveObjectsRequest>";

const CDA: &str = "<?xml version='1.0' encoding='UTF-8'?>\
    <ClinicalDocument xmlns='urn:hl7-org:v3' xmlns:x='http://www.w3.org/2001/XMLSchema-instance'>\
    <code code='18842-5' codeSystem='2.16.840.1.113883.6.1'/>\
    <effectiveTime value='20240131000000+0900'/><recordTarget><patientRole>\
    <id root='1.2.3' extension='0001'/><patient><name>山田&#x3000;太郎</name></patient>\
    </patientRole></recordTarget><component x:type='a'><![CDATA[<]]></component></ClinicalDocument>";

const BUNDLE: &str = r#"{"resourceType": "Bundle", "type": "document", "entry": [
    {"fullUrl": "urn:uuid:c", "resource": {"resourceType": "Composition",
        "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}]},
        "subject": {"reference": "urn:uuid:p"}, "date": "2024-01-31T00:00:00+09:00"}},
    {"fullUrl": "urn:uuid:p", "resource": {"resourceType": "Patient", "id": "p",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "0001"}]}}]}"#;

#[test]
fn what_is_bent_is_right_at_first() {
    let text = submit_objects_request(&everything());
    let Request::Submit(submission) = read(text.as_bytes()).unwrap() else {
        panic!("another request");
    };
    validate(submission, &rules()).unwrap();
    let removal = read(REMOVAL.as_bytes()).unwrap();
    assert!(matches!(removal, Request::RemoveObjects(_)));
    read_query(QUERY.as_bytes()).unwrap();
    validate(everything(), &rules()).unwrap();
    crate::xml::parse(CDA.as_bytes()).unwrap();
    serde_json::from_str::<serde_json::Value>(BUNDLE).unwrap();
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn bent_submissions_are_read_and_judged(bends in bends()) {
        let octets = submit_objects_request(&everything()).into_bytes();
        targets::ebxml(&bent(octets, &bends));
    }

    #[test]
    fn bent_removals_are_read_or_refused(bends in bends()) {
        targets::ebxml(&bent(REMOVAL.as_bytes().to_vec(), &bends));
    }

    #[test]
    fn bent_queries_are_read_or_refused(bends in bends()) {
        targets::ebxml(&bent(QUERY.as_bytes().to_vec(), &bends));
    }

    #[test]
    fn bent_stored_queries_are_planned_or_refused(bends in bends()) {
        let asked = read_query(QUERY.as_bytes()).unwrap();
        targets::query(&bent(asked.encode_to_vec(), &bends));
    }

    #[test]
    fn bent_messages_are_judged(bends in bends()) {
        targets::metadata(&bent(everything().encode_to_vec(), &bends));
    }

    #[test]
    fn bent_xml_is_read_or_refused(bends in bends()) {
        targets::xml(&bent(CDA.as_bytes().to_vec(), &bends));
    }

    #[test]
    fn bent_contents_are_looked_at(bends in bends(), json: bool) {
        let document = match json {
            true => BUNDLE,
            false => CDA,
        };
        targets::content(&bent(document.as_bytes().to_vec(), &bends));
    }

    #[test]
    fn any_octets_are_refused(octets in any::<Vec<u8>>()) {
        prop_assert!(read(&octets).is_err());
        prop_assert!(read_query(&octets).is_err());
    }
}
