//! Patient, Organization, Practitioner, Encounter and Coverage.

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use super::super::document::Scene;
use super::super::model::{DocumentKind, SampleInstitution};
use super::{INSTITUTION_ID, coding, instance_identifier, institution_extension, reference};

const REPRESENTATION: &str = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation";
const MEMBER_ID: &str = "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID";
const INSURER_NUMBER: &str = "http://jpfhir.jp/fhir/core/mhlw/IdSystem/InsurerNumber";
const COVERAGE_EXTENSION: &str =
    "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Coverage_InsuredPerson";

/// `JP_Patient`: one name for each representation, kana in full width whatever the register holds.
pub(super) fn patient(scene: &Scene<'_>) -> Value {
    let record = scene.record;
    let full = |kana: &str| kana.nfkc().collect::<String>();
    let mut names = vec![
        name("usual", "IDE", &record.family_kanji, &record.given_kanji),
        name(
            "usual",
            "SYL",
            &full(&record.family_kana),
            &full(&record.given_kana),
        ),
        name("usual", "ABC", &record.family_romaji, &record.given_romaji),
    ];
    if let Some(family) = &record.former_family_kanji {
        names.push(name("maiden", "IDE", family, &record.given_kanji));
    }
    if let Some(family) = &record.former_family_kana {
        names.push(name(
            "maiden",
            "SYL",
            &full(family),
            &full(&record.given_kana),
        ));
    }
    json!({
        "resourceType": "Patient",
        "meta": { "profile": ["http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_Patient_eCS"] },
        "identifier": [
            {
                "system": format!("urn:oid:{}", scene.institution.patient_id_oid()),
                "value": record.local_id,
            },
            { "system": MEMBER_ID, "value": record.insured_person_id() },
        ],
        "active": true,
        "name": names,
        "telecom": [{ "system": "phone", "value": record.phone, "use": "home" }],
        "gender": record.sex.fhir(),
        "birthDate": record.birth_date,
        "address": [{
            "use": "home",
            "text": format!("{}{}{}", record.state, record.city, record.line),
            "line": [record.line],
            "city": record.city,
            "state": record.state,
            "postalCode": record.postal_code,
            "country": "JP",
        }],
    })
}

fn name(usage: &str, representation: &str, family: &str, given: &str) -> Value {
    json!({
        "extension": [{ "url": REPRESENTATION, "valueCode": representation }],
        "use": usage,
        "text": format!("{family} {given}"),
        "family": family,
        "given": [given],
    })
}

/// The institution of the scene or one it writes to.
pub(super) fn organization(scene: &Scene<'_>, institution: &SampleInstitution) -> Value {
    json!({
        "resourceType": "Organization",
        "meta": {
            "profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Organization"],
        },
        "identifier": [{ "system": INSTITUTION_ID, "value": institution.code }],
        "active": true,
        "type": [{
            "coding": [coding("http://terminology.hl7.org/CodeSystem/organization-type", "prov", "Healthcare Provider")],
        }],
        "name": institution.name_ja,
        "alias": [institution.name_romaji],
        "address": [{
            "text": format!("{}{}", scene.region.prefecture_ja, scene.region.city_ja),
            "city": scene.region.city_ja,
            "state": scene.region.prefecture_ja,
            "country": "JP",
        }],
    })
}

/// The doctor who signs.
pub(super) fn practitioner(scene: &Scene<'_>) -> Value {
    let written = |representation: &str, text: &str| {
        let (family, given) = text.split_once(' ').unwrap_or((text, ""));
        name("usual", representation, family, given)
    };
    json!({
        "resourceType": "Practitioner",
        "meta": {
            "profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Practitioner"],
        },
        "extension": [institution_extension(scene)],
        "identifier": [{
            "system": format!("urn:oid:1.2.392.100495.20.3.41.1{}", scene.institution.code),
            "value": "D01",
        }],
        "name": [written("IDE", scene.doctor.0), written("SYL", scene.doctor.1)],
    })
}

/// The visit, or the stay in hospital, that the document is about.
pub(super) fn encounter(scene: &Scene<'_>, patient: &str, institution: &str) -> Value {
    let (class, display) = match scene.kind {
        DocumentKind::DischargeSummary => ("IMP", "入院"),
        _ => ("AMB", "外来"),
    };
    let department = scene.department;
    json!({
        "resourceType": "Encounter",
        "meta": { "profile": ["http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_Encounter_eCS"] },
        "extension": [institution_extension(scene)],
        "identifier": [instance_identifier(scene, "ENC")],
        "status": "finished",
        "class": coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", class, display),
        "serviceType": {
            "coding": [coding(
                "http://jami.jp/SS-MIX2/CodeSystem/ClinicalDepartment",
                department.code,
                department.display_ja,
            )],
        },
        "subject": reference(patient),
        "period": { "start": scene.began.fhir(), "end": scene.written.fhir() },
        "serviceProvider": reference(institution),
    })
}

/// Health insurance.
pub(super) fn coverage(scene: &Scene<'_>, patient: &str) -> Value {
    let record = scene.record;
    let parts = [
        ("Symbol", &record.symbol),
        ("Number", &record.number),
        ("SubNumber", &record.branch),
    ];
    // FHIR forbids empty strings: what the scheme does not have is left out.
    let extensions: Vec<_> = parts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(part, value)| {
            json!({ "url": format!("{COVERAGE_EXTENSION}{part}"), "valueString": value })
        })
        .chain([institution_extension(scene)])
        .collect();
    json!({
        "resourceType": "Coverage",
        "meta": { "profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Coverage"] },
        "extension": extensions,
        "identifier": [{ "system": MEMBER_ID, "value": record.insured_person_id() }],
        "status": "active",
        "beneficiary": reference(patient),
        "payor": [{
            "identifier": { "system": INSURER_NUMBER, "value": record.insurer_number },
            "display": "保険者",
        }],
    })
}
