//! CDA R2.

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ClinicalStatus, SummarySection};

use super::*;

fn document(sections: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><h:ClinicalDocument xmlns:h="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
        <h:effectiveTime value="20260320100000+0900"/><h:confidentialityCode code="N"/>
        <h:author><h:assignedAuthor><h:representedOrganization><h:id root="1.2.392.100495.20.3.23" extension="1318888888"/><h:name>CDA病院</h:name></h:representedOrganization></h:assignedAuthor></h:author>
        <h:component><h:structuredBody>{}</h:structuredBody></h:component></h:ClinicalDocument>"#,
        sections
            .replace("</", "</h:")
            .replace('<', "<h:")
            .replace("<h:/h:", "</h:")
    )
}

fn section(code: &str, entries: &str) -> String {
    format!(
        r#"<component><section><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><text>本文</text>{entries}</section></component>"#
    )
}

fn diagnosis(attributes: &str, rest: &str) -> String {
    format!(
        r#"<entry><observation classCode="OBS" {attributes}><code code="29308-4"/><statusCode code="completed"/>{rest}
        <value xsi:type="CD" code="I480" codeSystem="2.16.840.1.113883.6.3" displayName="心房細動"/></observation></entry>"#
    )
}

fn read_xml(sections: &str) -> Extracted {
    read_as("text/xml", &entry(), document(sections).as_bytes())
}

#[test]
fn coded_diagnoses_and_results_are_read() {
    let result = r#"<entry><organizer><component><observation classCode="OBS" moodCode="EVN">
        <code code="2B030000002231157" codeSystem="1.2.392.200119.4.504" displayName="PT-INR"/><statusCode code="completed"/>
        <effectiveTime value="202603200930+0900"/><value xsi:type="PQ" value="2.40" unit="{INR}"/></observation></component></organizer></entry>"#;
    let when = r#"<effectiveTime><low value="201905"/></effectiveTime>"#;
    let extracted = read_xml(&format!(
        "{}{}{}",
        section("11450-4", &diagnosis(r#"moodCode="EVN""#, when)),
        section("30954-2", result),
        section("48765-2", "")
    ));
    let [problem, value] = extracted.items.as_slice() else {
        panic!("{extracted:?}")
    };
    assert_eq!(
        (problem.section(), problem.display.as_str()),
        (SummarySection::Problem, "心房細動")
    );
    assert_eq!(
        problem.codes,
        [code("2.16.840.1.113883.6.3", "I480", "心房細動")]
    );
    assert_eq!(problem.start, "2019-05");
    let source = &problem.sources[0];
    assert_eq!(source.recorded, "2026-03-20T10:00:00+09:00");
    assert_eq!(
        source.institution.as_ref().unwrap().institution_id,
        "1318888888"
    );
    assert_eq!(
        (value.section(), value.start.as_str()),
        (SummarySection::Result, "2026-03-20T09:30:00+09:00")
    );
    let Some(Value::Quantity(quantity)) = value.value.clone().unwrap().value else {
        panic!()
    };
    assert_eq!(
        (quantity.value.as_str(), quantity.ucum.as_str()),
        ("2.40", "{INR}")
    );
    assert_eq!(extracted.not_taken, 1, "the narrative of allergies");
}

#[test]
fn what_is_negated_or_not_so_is_not_read() {
    for attributes in [
        r#"moodCode="EVN" negationInd="true""#,
        r#"moodCode="GOL""#,
        r#"moodCode="EVN" nullFlavor="UNK""#,
    ] {
        let extracted = read_xml(&section("11450-4", &diagnosis(attributes, "")));
        assert_eq!(
            extracted.outcome,
            Outcome::NotUnderstood(NotUnderstood::NarrativeOnly),
            "{attributes}"
        );
    }
    let relatives = read_xml(&section("10157-6", &diagnosis(r#"moodCode="EVN""#, "")));
    assert_eq!(
        relatives.outcome,
        Outcome::NotUnderstood(NotUnderstood::NarrativeOnly)
    );
}

#[test]
fn a_diagnosis_with_an_end_is_past() {
    let when = r#"<effectiveTime><low value="2019"/><high value="20200131"/></effectiveTime>"#;
    let extracted = read_xml(&section("11450-4", &diagnosis(r#"moodCode="EVN""#, when)));
    let item = &extracted.items[0];
    assert_eq!(
        (item.section(), item.end.as_str()),
        (SummarySection::PastProblem, "2020-01-31")
    );
    assert_eq!(item.clinical_status(), ClinicalStatus::Resolved);
}

#[test]
fn what_is_not_taken_of_a_document_is_counted() {
    let problem = section("11450-4", &diagnosis(r#"moodCode="EVN""#, ""));
    assert_eq!(read_xml(&problem).not_taken, 0);
    let unknown = section("99999-9", "<entry/><entry/>");
    let extracted = read_xml(&format!("{problem}{unknown}{}", section("99999-8", "")));
    assert_eq!(
        (extracted.items.len(), extracted.not_taken),
        (1, 3),
        "two entries and a narrative"
    );
    let observation = |value: &str| {
        format!(
            r#"<component><observation classCode="OBS" moodCode="EVN"><code code="1" codeSystem="1.2"/>
            <value xsi:type="{value}" value="2" unit="g"/></observation></component>"#
        )
    };
    let battery = format!(
        "<entry><organizer>{}{}</organizer></entry>",
        observation("PQ"),
        observation("RTO")
    );
    let extracted = read_xml(&section("30954-2", &battery));
    assert_eq!((extracted.items.len(), extracted.not_taken), (1, 1));
}

#[test]
fn a_section_may_be_more_confidential_and_of_somebody_else() {
    use crate::wire::pb::common::Confidentiality;
    let problem = section("11450-4", &diagnosis(r#"moodCode="EVN""#, ""));
    let marked = |mark: &str| problem.replace("<section>", &format!("<section>{mark}"));
    let secret = read_xml(&marked(r#"<confidentialityCode code="V"/>"#));
    assert_eq!(
        secret.items[0].confidentiality(),
        Confidentiality::VeryRestricted
    );
    let other = "<subject><relatedSubject/></subject>";
    let extracted = read_xml(&format!("{problem}{}", marked(other)));
    assert_eq!((extracted.items.len(), extracted.not_taken), (1, 1));
    let member = section("11450-4", &diagnosis(r#"moodCode="EVN""#, other));
    let extracted = read_xml(&format!("{problem}{member}"));
    assert_eq!((extracted.items.len(), extracted.not_taken), (1, 1));
}
