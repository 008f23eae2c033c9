//! Documents as a whole.

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::{AbsenceReason, SummarySection};

use super::*;

const CONDITION: &str = r#"{"resourceType":"Condition","code":{"text":"x"}}"#;

#[test]
fn what_is_not_read_is_said() {
    let outcome = |mime: &str, content: &[u8]| read_as(mime, &entry(), content).outcome;
    for (mime, content, why) in [
        ("application/pdf", "%PDF-1.7", NotUnderstood::UnknownFormat),
        ("", "{}", NotUnderstood::UnknownFormat),
        ("application/json", "{}", NotUnderstood::UnknownStructure),
        ("application/json", "[]", NotUnderstood::UnknownStructure),
        (
            "application/json",
            r#"{"resourceType":"Bundle","type":"searchset"}"#,
            NotUnderstood::UnknownStructure,
        ),
        (
            "application/json",
            r#"{"resourceType":"Patient"}"#,
            NotUnderstood::UnknownStructure,
        ),
        ("application/json", "{", NotUnderstood::Malformed),
        ("application/json", "", NotUnderstood::Malformed),
        (
            "text/xml",
            "<Bundle xmlns='http://hl7.org/fhir'/>",
            NotUnderstood::UnknownStructure,
        ),
        (
            "text/xml",
            "<ClinicalDocument/>",
            NotUnderstood::UnknownStructure,
        ),
        (
            "text/xml",
            "<!DOCTYPE x><ClinicalDocument/>",
            NotUnderstood::Doctype,
        ),
    ] {
        assert_eq!(
            outcome(mime, content.as_bytes()),
            Outcome::NotUnderstood(why),
            "{mime} {content}"
        );
    }
    assert_eq!(
        outcome("application/json", b"\xff{}"),
        Outcome::NotUnderstood(NotUnderstood::NotUtf8)
    );
    let upper = "Application/FHIR+JSON; charset=utf-8; fhirVersion=4.0";
    assert_eq!(outcome(upper, bundle(&[]).as_bytes()), Outcome::Readable);
    let marked = format!("\u{feff}{}", bundle(&[CONDITION]));
    assert_eq!(read(&marked).items.len(), 1, "a byte order mark");
}

#[test]
fn a_collection_of_five_information_is_read() {
    let content = format!(
        r#"{{"resourceType":"Bundle","type":"collection",
        "identifier":{{"system":"http://jpfhir.jp/fhir/clins/bundle-identifier","value":"1310000001^2026^X"}},
        "entry":[{{"fullUrl":"urn:uuid:p","resource":{{"resourceType":"Patient"}}}},
                 {{"fullUrl":"urn:uuid:1","resource":{CONDITION}}}]}}"#
    );
    let extracted = read(&content);
    assert_eq!(extracted.items.len(), 1);
    let institution =
        |extracted: &Extracted| extracted.items[0].sources[0].institution.clone().unwrap();
    assert_eq!(
        institution(&extracted).institution_id,
        "1311234567",
        "as registered"
    );
    let nobody = DocumentEntry {
        authors: Vec::new(),
        ..entry()
    };
    let extracted = read_as("application/json", &nobody, content.as_bytes());
    assert_eq!(
        institution(&extracted).institution_id,
        "1310000001",
        "as the Bundle says"
    );
    // The same identifier with only the Patient says that all else is deleted.
    let emptied = content
        .split(",\n                 {")
        .next()
        .unwrap()
        .to_owned()
        + "]}";
    assert_eq!(read(&emptied), Extracted::default());
}

#[test]
fn the_custodian_tells_the_institution() {
    let organization = r#"{"resourceType":"Organization","name":"中央病院","identifier":[
        {"system":"http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no","value":"1312222222"}]}"#;
    let content = bundle(&[organization, CONDITION]).replace(
        r#""status":"final","#,
        r#""status":"final","custodian":{"reference":"urn:uuid:0"},"#,
    );
    let institution = read(&content).items[0].sources[0]
        .institution
        .clone()
        .unwrap();
    assert_eq!(
        (
            institution.institution_id.as_str(),
            institution.name.as_str()
        ),
        ("1312222222", "中央病院")
    );
    assert_eq!(institution.home_community_id, "urn:oid:1.2.3");
}

#[test]
fn what_is_of_another_person_is_left_out() {
    let child = r#"{"resourceType":"Patient","id":"child"}"#;
    let of = |reference: &str| {
        format!(
            r#"{{"resourceType":"Condition","code":{{"text":"x"}},"subject":{{"reference":"{reference}"}}}}"#
        )
    };
    let count = |reference: &str| read(&bundle(&[child, &of(reference)])).items.len();
    assert_eq!(count("urn:uuid:p"), 1);
    assert_eq!(count("urn:uuid:0"), 0);
    assert_eq!(count("Patient/child"), 0);
    assert_eq!(count("Patient/child/_history/2"), 0);
    assert_eq!(count("Patient/elsewhere"), 1, "not in the Bundle");
}

#[test]
fn an_empty_section_states_why() {
    let empty = |code: &str, reason: &str, rest: &str| {
        let section = format!(
            r#"{{"code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},
            "emptyReason":{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/list-empty-reason","code":"{reason}"}}]}}{rest}}}"#
        );
        let absences = read(&bundle_with(&section, &[])).absences;
        absences
            .first()
            .map(|absence| (absence.section(), absence.reason()))
    };
    assert_eq!(
        empty("48765-2", "nilknown", ""),
        Some((SummarySection::Allergy, AbsenceReason::StatedNone))
    );
    assert_eq!(
        empty("10160-0", "unavailable", ""),
        Some((SummarySection::Medication, AbsenceReason::Unknown))
    );
    assert_eq!(
        empty("11450-4", "withheld", ""),
        Some((SummarySection::Problem, AbsenceReason::Withheld))
    );
    assert_eq!(empty("11450-4", "closed", ""), None);
    assert_eq!(empty("99999-9", "nilknown", ""), None);
    assert_eq!(
        empty(
            "48765-2",
            "nilknown",
            r#","entry":[{"reference":"urn:uuid:9"}]"#
        ),
        None,
        "contradicts itself"
    );
}

#[test]
fn confidentiality_is_the_highest_stated() {
    let restricted = DocumentEntry {
        confidentiality_codes: vec![code("2.16.840.1.113883.5.25", "R", "")],
        ..entry()
    };
    let content = bundle(&[CONDITION]);
    let level = |entry: &DocumentEntry, content: &str| {
        read_as("application/json", entry, content.as_bytes()).items[0].confidentiality()
    };
    assert_eq!(level(&entry(), &content), Confidentiality::Unspecified);
    assert_eq!(level(&restricted, &content), Confidentiality::Restricted);
    let labelled = CONDITION.replace(r#""code""#, r#""meta":{"security":[{"code":"V"}]},"code""#);
    assert_eq!(
        level(&restricted, &bundle(&[&labelled])),
        Confidentiality::VeryRestricted
    );
    let depression = r#"{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10","code":"F32.9"}]}}"#;
    assert_eq!(
        level(&entry(), &bundle(&[depression])),
        Confidentiality::Restricted
    );
}

#[test]
fn dates_that_are_none_are_left_out() {
    for (given, kept) in [
        ("2026", "2026"),
        ("2026-03", "2026-03"),
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01T10:00:00+09:00", "2026-03-01T10:00:00+09:00"),
        ("2026-03-01T10:00:00.123Z", "2026-03-01T10:00:00.123Z"),
        ("2026-03-01T10:00", ""),
        ("令和8年3月1日", ""),
        ("20260301", ""),
        ("2026-02-30", ""),
        ("2026-03-01T10:00:00+09:00[Asia/Tokyo]", ""),
    ] {
        let item = only(&format!(
            r#"{{"resourceType":"Condition","code":{{"text":"x"}},"onsetDateTime":"{given}"}}"#
        ));
        assert_eq!(item.start, kept, "{given}");
    }
}

#[test]
fn a_retracted_document_says_nothing() {
    let content =
        bundle(&[CONDITION]).replace(r#""status":"final""#, r#""status":"entered-in-error""#);
    assert_eq!(read(&content), Extracted::default());
}

#[test]
fn unknown_resources_are_counted() {
    let extracted = read(&bundle(&[
        r#"{"resourceType":"CarePlan"}"#,
        CONDITION,
        "7",
        r#"{"resourceType":"Practitioner"}"#,
    ]));
    assert_eq!((extracted.items.len(), extracted.not_taken), (1, 2));
}
