//! Allergies, diagnoses, prescriptions, results, operations and devices.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::clinical::{Allergy, Drug, DrugCode, Operation, PACEMAKER, Problem, Usage};
use super::super::document::Scene;
use super::super::model::DocumentKind;
use super::super::plan::Reading;
use super::{Anchors, coding, instance_identifier, institution_extension, reference};

const PROFILES: &str = "http://jpfhir.jp/fhir/eCS/StructureDefinition/";
const HL7: &str = "http://terminology.hl7.org/CodeSystem/";
const UCUM: &str = "http://unitsofmeasure.org";
const DOSE_UNITS: &str = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code";
/// MEDIS 管理番号 of a diagnosis that the sender's system has no code for.
const UNCODED_DIAGNOSIS: &str = "99999999";

/// A code of one of HL7's own systems.
fn hl7(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": format!("{HL7}{system}"), "code": code }] })
}

fn meta(profile: &str) -> Value {
    json!({ "profile": [format!("{PROFILES}{profile}")] })
}

/// 薬剤アレルギー等 and その他アレルギー等.
pub(super) fn allergy(scene: &Scene<'_>, anchors: &Anchors, allergy: &Allergy) -> Value {
    let mut code = json!({ "text": allergy.name });
    if let (Some(atc), Value::Object(fields)) = (allergy.atc, &mut code) {
        let coded = coding("http://www.whocc.no/atc", atc, allergy.name);
        fields.insert("coding".to_owned(), json!([coded]));
    }
    json!({
        "resourceType": "AllergyIntolerance",
        "meta": meta("JP_AllergyIntolerance_eCS"),
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, "ALG")],
        "clinicalStatus": hl7("allergyintolerance-clinical", "active"),
        "verificationStatus": hl7("allergyintolerance-verification", "confirmed"),
        "type": "allergy",
        "category": [allergy.category],
        "criticality": if allergy.severe { "high" } else { "low" },
        "code": code,
        "patient": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "recordedDate": scene.written.fhir(),
        "recorder": reference(&anchors.doctor),
        "reaction": [{
            "manifestation": [{ "text": allergy.reaction }],
            "severity": if allergy.severe { "severe" } else { "mild" },
        }],
    })
}

/// 傷病名.
pub(super) fn condition(scene: &Scene<'_>, anchors: &Anchors, problem: &Problem) -> Value {
    let medis = match problem.exchange_code {
        Some(code) => coding(
            "http://medis.or.jp/CodeSystem/master-disease-exCode",
            code,
            problem.name,
        ),
        None => coding(
            "http://medis.or.jp/CodeSystem/master-disease-keyNumber",
            UNCODED_DIAGNOSIS,
            "未コード化傷病名",
        ),
    };
    let icd10 = coding(
        "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full",
        problem.icd10,
        problem.name,
    );
    json!({
        "resourceType": "Condition",
        "meta": meta("JP_Condition_eCS"),
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, problem.icd10)],
        "clinicalStatus": hl7("condition-clinical", "active"),
        "verificationStatus": hl7("condition-ver-status", "confirmed"),
        "category": [hl7("condition-category", "encounter-diagnosis")],
        "code": { "coding": [medis, icd10], "text": problem.name },
        "subject": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "onsetDateTime": scene.began.date().to_string(),
        "recordedDate": scene.written.date().to_string(),
        "asserter": reference(&anchors.doctor),
    })
}

/// 処方, one drug a RP number; thirty days, seven of a prescription at discharge.
pub(super) fn medication(scene: &Scene<'_>, anchors: &Anchors, drug: &Drug, number: i32) -> Value {
    let days = if scene.kind == DocumentKind::DischargeSummary {
        7
    } else {
        30
    };
    let (system, code) = match drug.code {
        DrugCode::Yj(code) => ("http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", code),
        DrugCode::Hot9(code) => ("http://medis.or.jp/CodeSystem/master-HOT9", code),
    };
    let (usage, text) = usage(drug.usage);
    let tablets =
        |count: i32| json!({ "value": count, "unit": "錠", "system": DOSE_UNITS, "code": "TAB" });
    let duration =
        |count: i32| json!({ "value": count, "unit": "日", "system": UCUM, "code": "d" });
    let ends = scene
        .written
        .date()
        .saturating_add(SignedDuration::from_hours(24 * i64::from(days - 1)));
    json!({
        "resourceType": "MedicationRequest",
        "meta": meta("JP_MedicationRequest_eCS"),
        "extension": [institution_extension(scene)],
        "identifier": [
            { "system": "urn:oid:1.2.392.100495.20.3.81", "value": number.to_string() },
            { "system": "urn:oid:1.2.392.100495.20.3.82", "value": "1" },
        ],
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {
            "coding": [coding(system, code, drug.name)],
            "text": drug.name,
        },
        "subject": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "authoredOn": scene.written.fhir(),
        "requester": reference(&anchors.doctor),
        "dosageInstruction": [{
            "text": text,
            "timing": {
                "repeat": {
                    "boundsPeriod": {
                        "start": scene.written.date().to_string(),
                        "end": ends.to_string(),
                    },
                },
                "code": {
                    "coding": [coding("http://jami.jp/CodeSystem/MedicationUsage", usage, text)],
                },
            },
            "doseAndRate": [{
                "rateRatio": { "numerator": tablets(drug.daily), "denominator": duration(1) },
            }],
        }],
        "dispenseRequest": {
            "quantity": tablets(drug.daily * days),
            "expectedSupplyDuration": duration(days),
        },
    })
}

fn usage(usage: Usage) -> (&'static str, &'static str) {
    match usage {
        Usage::OnceAfterBreakfast => ("1011000400000000", "内服・経口・１日１回朝食後"),
        Usage::TwiceAfterMeals => ("1012040400000000", "内服・経口・１日２回朝夕食後"),
        Usage::ThriceAfterMeals => ("1013044400000000", "内服・経口・１日３回朝昼夕食後"),
    }
}

/// 検体検査結果 or a measurement of a health check.
pub(super) fn observation(scene: &Scene<'_>, anchors: &Anchors, reading: &Reading) -> Value {
    let test = reading.test;
    let scale = 10_f64.powi(test.decimals);
    let quantity = |value: f64| json!({ "value": value, "unit": test.unit, "system": UCUM, "code": test.ucum });
    json!({
        "resourceType": "Observation",
        "meta": meta("JP_Observation_LabResult_eCS"),
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, test.jlac10)],
        "status": "final",
        "category": [{
            "coding": [coding(
                "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS",
                "laboratory",
                "Laboratory",
            )],
        }],
        "code": {
            "coding": [coding(
                "http://medis.or.jp/CodeSystem/master-JLAC10-17digits",
                test.jlac10,
                test.name,
            )],
            "text": test.name,
        },
        "subject": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "effectiveDateTime": scene.began.fhir(),
        "performer": [reference(&anchors.institution)],
        "valueQuantity": quantity(reading.value()),
        "interpretation": [hl7("v3-ObservationInterpretation", reading.interpretation())],
        "referenceRange": [{
            "low": quantity(f64::from(test.range.0) / scale),
            "high": quantity(f64::from(test.range.1) / scale),
        }],
    })
}

/// 手術.
pub(super) fn procedure(scene: &Scene<'_>, anchors: &Anchors, operation: &Operation) -> Value {
    json!({
        "resourceType": "Procedure",
        "meta": { "profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Procedure"] },
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, operation.code)],
        "status": "completed",
        "code": {
            "coding": [coding("urn:oid:1.2.392.200119.4.401", operation.code, operation.name)],
            "text": operation.name,
        },
        "subject": reference(&anchors.patient),
        "encounter": reference(&anchors.encounter),
        "performedDateTime": scene.began.date().to_string(),
        "performer": [{ "actor": reference(&anchors.doctor) }],
    })
}

/// The implanted pacemaker itself.
pub(super) fn pacemaker(scene: &Scene<'_>, anchors: &Anchors) -> Value {
    json!({
        "resourceType": "Device",
        "extension": [institution_extension(scene)],
        "status": "active",
        "type": { "text": PACEMAKER },
        "patient": reference(&anchors.patient),
    })
}

/// That the patient lives with the device.
pub(super) fn device_use(scene: &Scene<'_>, anchors: &Anchors, device: &str) -> Value {
    json!({
        "resourceType": "DeviceUseStatement",
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, "DEV")],
        "status": "active",
        "subject": reference(&anchors.patient),
        "timingPeriod": { "start": scene.began.date().to_string() },
        "recordedOn": scene.written.fhir(),
        "source": reference(&anchors.doctor),
        "device": reference(device),
    })
}
