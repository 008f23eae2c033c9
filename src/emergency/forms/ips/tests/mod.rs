//! The Bundle keeps the published rules, and says again what the summary said.

mod rules;

use serde_json::{Value, json};

use super::super::tests::{PATIENT, empty, item, rich, written};
use super::super::{Language, Options};
use crate::emergency::extract::{Outcome, Source, extract};
use crate::wire::pb::documents::DocumentEntry;
use crate::wire::pb::emergency::{
    AbsenceReason, AbsenceStatement, ClinicalStatus, GetSummaryResponse, ItemSource, SummaryForm,
    SummaryItem, SummarySection,
};
use rules::faults;

fn text(answer: &GetSummaryResponse, options: Options) -> String {
    written(SummaryForm::FhirIps, answer, options)
}

fn bundle(answer: &GetSummaryResponse) -> Value {
    serde_json::from_str(&text(answer, Options::default())).unwrap()
}

fn of_type<'b>(bundle: &'b Value, kind: &str) -> Vec<&'b Value> {
    let entries = bundle["entry"].as_array().unwrap().iter();
    let resources = entries.map(|entry| &entry["resource"]);
    resources
        .filter(|one| one["resourceType"] == kind)
        .collect()
}

fn section<'b>(bundle: &'b Value, code: &str) -> &'b Value {
    let sections = bundle["entry"][0]["resource"]["section"]
        .as_array()
        .unwrap();
    let mut found = sections
        .iter()
        .filter(|one| one["code"]["coding"][0]["code"] == code);
    found.next().unwrap_or_else(|| panic!("no section {code}"))
}

#[test]
fn the_bundle_keeps_the_rules() {
    let english = Options {
        language: Language::English,
        for_patient: false,
    };
    for answer in [rich(), empty()] {
        for options in [Options::default(), english, PATIENT] {
            let bundle: Value = serde_json::from_str(&text(&answer, options)).unwrap();
            assert_eq!(faults(&bundle), [""; 0], "{options:?}");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of faults")]
fn the_rules_find_what_breaks_them() {
    let good = bundle(&rich());
    let break_it = |at: &str, with: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(at)
            .unwrap_or_else(|| panic!("nothing at {at}")) = with;
        faults(&bad).join("; ")
    };
    for (at, with, rule) in [
        ("/type", json!("collection"), "type = document"),
        ("/timestamp", json!("2026-04-01"), "bdl-10"),
        ("/identifier", json!({"value": "1"}), "bdl-9"),
        (
            "/entry/1/fullUrl",
            json!("urn:uuid:none"),
            "which is not there",
        ),
        (
            "/entry/0/resource/type/coding/0/code",
            json!("34133-9"),
            "Composition: type",
        ),
        (
            "/entry/0/resource/section/0/title",
            json!(" "),
            "string without content",
        ),
        (
            "/entry/0/resource/section/0/text/div",
            json!("<div>"),
            "XHTML",
        ),
        (
            "/entry/0/resource/section/0/code/coding/0/code",
            json!("1-1"),
            "is required",
        ),
        (
            "/entry/1/resource/gender",
            json!("M"),
            "gender is not one of",
        ),
        (
            "/entry/1/resource/birthDate",
            json!("S25.4.1"),
            "not of its type",
        ),
    ] {
        let said = break_it(at, with);
        assert!(said.contains(rule), "{at}: {said}");
    }
    let entries = good["entry"].as_array().unwrap();
    let position = |kind: &str| {
        let found = entries
            .iter()
            .position(|one| one["resource"]["resourceType"] == kind);
        format!("/entry/{}/resource", found.unwrap())
    };
    for (kind, element, with, rule) in [
        (
            "AllergyIntolerance",
            "clinicalStatus",
            json!({"text": "x"}),
            "ait-1",
        ),
        ("Condition", "clinicalStatus", json!({"text": "x"}), "con-3"),
        (
            "MedicationStatement",
            "status",
            json!("taken"),
            "status is not one of",
        ),
        ("Observation", "performer", json!([]), "performer"),
        ("Device", "deviceName", json!({}), "empty object"),
        ("Flag", "status", json!("inactive"), "status is not one of"),
        ("Provenance", "recorded", json!("2026"), "not of its type"),
    ] {
        let said = break_it(&format!("{}/{element}", position(kind)), with);
        assert!(said.contains(rule), "{kind}: {said}");
    }
}

#[test]
fn what_is_not_there_has_its_reason() {
    let whole = bundle(&empty());
    for code in ["48765-2", "11450-4", "10160-0"] {
        let section = section(&whole, code);
        assert_eq!(section["emptyReason"]["coding"][0]["code"], "unavailable");
        assert!(
            section["text"]["div"]
                .as_str()
                .unwrap()
                .contains("情報なし")
        );
    }
    let mut partial = rich();
    partial.summary.as_mut().unwrap().items.clear();
    partial.summary.as_mut().unwrap().absences.clear();
    let partial = bundle(&partial);
    let reason = section(&partial, "48765-2")["emptyReason"]["text"].clone();
    assert!(reason.as_str().unwrap().ends_with(": 東"), "{reason}");
    let gaps = section(&partial, "gaps")["text"]["div"].as_str().unwrap();
    assert!(gaps.contains("could not be reached") && gaps.contains("東"));
    let head = partial["entry"][0]["resource"]["text"]["div"]
        .as_str()
        .unwrap();
    assert!(head.contains("NOT COMPLETE") && head.contains("IDENTITY NOT CERTAIN"));
    let mut old = empty();
    old.summary.as_mut().unwrap().aged_out = vec![crate::wire::pb::emergency::AgedOut {
        section: SummarySection::Medication.into(),
        count: 3,
    }];
    let old = bundle(&old);
    let reason = section(&old, "10160-0")["emptyReason"]["text"].clone();
    let reason = reason.as_str().unwrap();
    assert!(
        reason.contains("older than") && reason.ends_with(": 3"),
        "{reason}"
    );
    let mut withheld = empty();
    withheld.summary.as_mut().unwrap().partly_withheld = true;
    let withheld = bundle(&withheld);
    let reason = &section(&withheld, "11450-4")["emptyReason"]["coding"][0]["code"];
    assert_eq!(reason, "withheld");
}

/// For each section that can say so.
#[test]
fn none_known_is_a_resource_only_where_a_source_says_so() {
    use SummarySection as S;
    let stated = |section: S| AbsenceStatement {
        section: section.into(),
        reason: AbsenceReason::StatedNone.into(),
        sources: vec![ItemSource {
            recorded: "2026-01-01".to_owned(),
            home_community_id: "urn:oid:2.999.1".to_owned(),
            ..ItemSource::default()
        }],
        ..AbsenceStatement::default()
    };
    let of = [
        S::Allergy,
        S::Problem,
        S::Medication,
        S::Procedure,
        S::Immunization,
        S::Device,
    ];
    let mut answer = empty();
    answer.summary.as_mut().unwrap().absences = of.map(stated).to_vec();
    let whole = bundle(&answer);
    assert_eq!(faults(&whole), [""; 0]);
    let all = whole.to_string();
    for code in [
        "716186003",
        "160245001",
        "787481004",
        "787480003",
        "787482006",
        "787483001",
    ] {
        assert!(all.contains(code), "{code}");
    }
    assert!(section(&whole, "48765-2")["emptyReason"].is_null());
    assert_eq!(
        of_type(&whole, "Provenance").len(),
        of.len(),
        "each with its source"
    );
    // Beside an allergy the general statement is told, but is no entry.
    let summary = answer.summary.as_mut().unwrap();
    summary.items = vec![item(S::Allergy, "ソバ")];
    let whole = bundle(&answer);
    assert!(!whole.to_string().contains("716186003"));
    let told = section(&whole, "48765-2")["text"]["div"].as_str().unwrap();
    assert!(told.contains("none known"), "{told}");
}

#[test]
fn numbers_codes_and_sources_are_exact() {
    let text = text(&rich(), Options::default());
    assert!(
        text.contains("\"value\":5.40,\"unit\":\"mmol/L\""),
        "precision is kept"
    );
    let whole = bundle(&rich());
    let results = of_type(&whole, "Observation");
    let potassium = |value: &str| {
        // As written: 4.10 is not 4.1 here.
        let written = |one: &&&Value| {
            let text = one["valueQuantity"]["value"].to_string();
            text.as_str() == value
        };
        results.iter().find(written).copied().unwrap()
    };
    assert_eq!(
        potassium("5.4")["effectiveDateTime"],
        "2026-03-01T01:30:00Z"
    );
    assert_eq!(
        potassium("4.1")["effectiveDateTime"],
        "2026-01-10",
        "the former value"
    );
    let system = "urn:oid:1.2.392.200119.4.101.6";
    assert!(text.contains(system), "bare OIDs are urns");
    let provenance = of_type(&whole, "Provenance");
    let first = provenance[0];
    assert_eq!(first["occurredDateTime"], "2026-03-01");
    assert_eq!(first["recorded"], "2026-04-01T03:00:00Z", "as of");
    assert_eq!(
        first["entity"][0]["what"]["identifier"]["value"],
        "urn:oid:2.999.5.1"
    );
    let untold = of_type(&whole, "Condition")
        .into_iter()
        .find(|one| one["code"]["text"] == "膵癌")
        .unwrap();
    assert_eq!(untold["meta"]["security"][0]["code"], "V");
    assert_eq!(untold["meta"]["tag"][0]["code"], "UNINFORMED");
    assert_eq!(whole["entry"][0]["resource"]["confidentiality"], "V");
    let device = of_type(&whole, "Device")
        .into_iter()
        .find(|one| !one["property"].is_null());
    assert_eq!(device.unwrap()["property"][0]["type"]["text"], "PEEP");
}

#[test]
fn a_flag_that_is_over_is_told_and_is_no_flag() {
    let mut answer = empty();
    let over = SummaryItem {
        clinical_status: ClinicalStatus::Inactive.into(),
        ..item(SummarySection::Alert, "輸血拒否")
    };
    answer.summary.as_mut().unwrap().items = vec![over];
    let whole = bundle(&answer);
    assert_eq!(faults(&whole), [""; 0]);
    assert!(of_type(&whole, "Flag").is_empty());
    let told = section(&whole, "104605-1")["text"]["div"].as_str().unwrap();
    assert!(told.contains("輸血拒否") && told.contains("中止"));
}

/// Read by our own reader of what regions hold, the Bundle has the same facts.
#[test]
fn what_was_written_is_read_again() {
    let answer = rich();
    let text = text(&answer, Options::default());
    let read = extract(&Source {
        mime_type: "application/fhir+json",
        format_code: "",
        entry: &DocumentEntry::default(),
        content: text.as_bytes(),
        as_of: "2026-04-01T03:00:00Z".parse().unwrap(),
    });
    assert_eq!(read.outcome, Outcome::Readable);
    use SummarySection as S;
    let in_narrative_only = [
        S::CareTeam,
        S::Encounter,
        S::Communication,
        S::Checkup,
        S::Document,
        // Written as resources that are not read.
        S::FunctionalStatus,
        // Without a value nothing is read out of an Observation.
        S::Infection,
        S::BloodType,
        S::Vital,
        S::Pregnancy,
        S::SocialHistory,
    ];
    for item in &answer.summary.unwrap().items {
        if in_narrative_only.contains(&item.section()) {
            continue;
        }
        let clean = super::super::text::clean(&item.display);
        let same = |one: &&SummaryItem| {
            one.section() == item.section() && one.display == clean && one.start == item.start
        };
        let found = read.items.iter().find(same);
        let found = found.unwrap_or_else(|| panic!("{item:?} is not there"));
        assert_eq!(found.value, item.value, "{clean}");
        assert_eq!(found.national_flags, item.national_flags, "{clean}");
        assert_eq!(found.criticality, item.criticality, "{clean}");
    }
}
