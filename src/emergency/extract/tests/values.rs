//! Doses and measurements.

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ClinicalStatus, SummarySection, VerificationStatus};

use super::*;

#[test]
fn medication_status_tells_what_is_taken() {
    let with = |kind: &str, status: &str, rest: &str| {
        format!(
            r#"{{"resourceType":"{kind}","status":"{status}","medicationCodeableConcept":{{"text":"ワルファリン"}}{rest}}}"#
        )
    };
    for (kind, status, clinical) in [
        ("MedicationRequest", "active", ClinicalStatus::Active),
        ("MedicationRequest", "stopped", ClinicalStatus::Inactive),
        ("MedicationRequest", "completed", ClinicalStatus::Resolved),
        ("MedicationStatement", "not-taken", ClinicalStatus::Inactive),
        ("MedicationStatement", "on-hold", ClinicalStatus::OnHold),
        ("MedicationDispense", "completed", ClinicalStatus::Resolved),
    ] {
        assert_eq!(
            only(&with(kind, status, "")).clinical_status(),
            clinical,
            "{kind} {status}"
        );
    }
    for (kind, status) in [
        ("MedicationRequest", "draft"),
        ("MedicationRequest", "cancelled"),
        ("MedicationRequest", "entered-in-error"),
        ("MedicationStatement", "intended"),
        ("MedicationDispense", "declined"),
    ] {
        assert_eq!(nothing(&with(kind, status, "")), 0, "{kind} {status}");
    }
    assert_eq!(
        nothing(&with(
            "MedicationRequest",
            "active",
            r#","intent":"proposal""#
        )),
        0
    );
    let forbidden = only(&with(
        "MedicationRequest",
        "active",
        r#","doNotPerform":true"#,
    ));
    assert_eq!(forbidden.clinical_status(), ClinicalStatus::Inactive);
    assert_eq!(details(&forbidden, "do-not-perform"), ["true"]);
}

#[test]
fn a_prescription_has_its_dose_and_its_dates() {
    let item = only(
        r##"{"resourceType":"MedicationRequest","status":"active","intent":"order","authoredOn":"2026-03-18T10:00:00+09:00",
        "contained":[{"resourceType":"Medication","id":"m","code":{"coding":[{"system":"http://capstandard.jp/iyaku.info/CodeSystem/YJ-code","code":"3332001F1024"}],"text":"ワーファリン錠1mg"}}],
        "medicationReference":{"reference":"#m"},
        "dosageInstruction":[{"text":"１日１回夕食後","timing":{"repeat":{"boundsPeriod":{"start":"2026-03-18","end":"2026-04-16"}}},
          "doseAndRate":[{"doseQuantity":{"value":2.50,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}}]}],
        "dispenseRequest":{"quantity":{"value":60,"unit":"錠"}}}"##,
    );
    assert_eq!(
        (item.section(), item.display.as_str()),
        (SummarySection::Medication, "ワーファリン錠1mg")
    );
    assert_eq!(
        (item.start.as_str(), item.end.as_str()),
        ("2026-03-18", "2026-04-16")
    );
    assert_eq!(details(&item, "dosage"), ["１日１回夕食後"]);
    assert_eq!(details(&item, "dose"), ["2.50 mg"]);
    assert_eq!(details(&item, "quantity"), ["60 錠"]);
}

#[test]
fn a_result_keeps_its_precision_and_its_unit() {
    let item = only(
        r#"{"resourceType":"Observation","status":"preliminary","category":[{"coding":[{"code":"laboratory"}]}],
        "code":{"coding":[{"system":"http://medis.or.jp/CodeSystem/master-JLAC10-17digits","code":"2B030000002231157"}],"text":"PT-INR"},
        "effectiveDateTime":"2026-03-20T09:00:00+09:00",
        "valueQuantity":{"value":2.40,"comparator":">=","unit":"INR","system":"http://unitsofmeasure.org","code":"{INR}"},
        "interpretation":[{"coding":[{"code":"H"}]}],
        "referenceRange":[{"low":{"value":0.90},"high":{"value":1.10,"unit":"INR"}}]}"#,
    );
    assert_eq!(item.section(), SummarySection::Result);
    assert_eq!(item.verification_status(), VerificationStatus::Unconfirmed);
    let value = item.value.unwrap();
    let Some(Value::Quantity(quantity)) = value.value else {
        panic!()
    };
    assert_eq!(
        (quantity.value.as_str(), quantity.comparator.as_str()),
        ("2.40", ">=")
    );
    assert_eq!(
        (quantity.ucum.as_str(), quantity.unit.as_str()),
        ("{INR}", "INR")
    );
    assert_eq!(
        (
            value.interpretation.as_str(),
            value.reference_range.as_str()
        ),
        ("H", "0.90 - 1.10 INR")
    );
}

#[test]
fn an_infection_is_restricted() {
    let item = only(
        r#"{"resourceType":"Observation","status":"final","category":[{"coding":[{"code":"laboratory"}]}],
        "code":{"coding":[{"system":"urn:oid:1.2.392.200119.4.504","code":"5F360143002302311"}],"text":"HCV抗体"},
        "valueCodeableConcept":{"text":"陽性"}}"#,
    );
    assert_eq!(item.section(), SummarySection::Infection);
    assert_eq!(item.confidentiality(), Confidentiality::Restricted);
    assert_eq!(
        item.value.unwrap().value,
        Some(Value::Text("陽性".to_owned()))
    );
}

#[test]
fn a_blood_pressure_is_two_items() {
    let extracted = read(&bundle(&[
        r#"{"resourceType":"Observation","status":"final","category":[{"coding":[{"code":"vital-signs"}]}],
        "code":{"coding":[{"system":"http://loinc.org","code":"85354-9"}]},
        "component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":132}},
                     {"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},"valueQuantity":{"value":84}},
                     {"code":{"text":"no value"}}]}"#,
    ]));
    let codes: Vec<_> = extracted
        .items
        .iter()
        .map(|item| item.codes[0].code.as_str())
        .collect();
    assert_eq!(codes, ["8480-6", "8462-4"]);
}

#[test]
fn what_an_observation_is_about_is_not_guessed() {
    let with = |rest: &str| {
        format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}}{rest}}}"#)
    };
    assert_eq!(nothing(&with(r#","valueString":"y""#)), 1, "no category");
    let laboratory = r#","category":[{"coding":[{"code":"laboratory"}]}]"#;
    assert_eq!(nothing(&with(laboratory)), 1, "no value");
    assert_eq!(
        nothing(&with(&format!(
            r#"{laboratory},"hasMember":[{{"reference":"x"}}]"#
        ))),
        0,
        "a panel"
    );
    let focus = format!(r#"{laboratory},"valueString":"y","focus":[{{"reference":"x"}}]"#);
    assert_eq!(nothing(&with(&focus)), 0, "of the fetus");
}
