//! Each kind of resource.

use crate::wire::pb::common::{Confidentiality, NationalFlag};
use crate::wire::pb::emergency::{
    AbsenceReason, ClinicalStatus, Criticality, SummarySection, VerificationStatus,
};

use super::*;

#[test]
fn an_allergy_is_kept_as_given() {
    let item = only(
        r#"{"resourceType":"AllergyIntolerance","criticality":"high","category":["medication"],
        "extension":[{"url":"http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber",
          "valueIdentifier":{"value":"1319999999"}}],
        "clinicalStatus":{"coding":[{"code":"active"}]},
        "verificationStatus":{"coding":[{"code":"confirmed"}]},
        "code":{"coding":[{"system":"http://www.whocc.no/atc","code":"J01C","display":"ペニシリン系"},
                          {"system":"http://snomed.info/sct","code":"91936005","display":"Allergy to penicillin"}],
                "text":"ペニシリン系抗生物質"},
        "onsetDateTime":"2019","recordedDate":"2026-03-01",
        "reaction":[{"manifestation":[{"text":"アナフィラキシー"}],"severity":"severe"}],
        "note":[{"text":"救急搬送歴あり"}]}"#,
    );
    assert_eq!(item.section(), SummarySection::Contraindication);
    assert_eq!(item.display, "ペニシリン系抗生物質");
    assert_eq!(item.display_en, "Allergy to penicillin");
    assert_eq!(
        item.codes[0],
        code("http://www.whocc.no/atc", "J01C", "ペニシリン系")
    );
    assert_eq!(
        (item.start.as_str(), item.criticality()),
        ("2019", Criticality::High)
    );
    assert_eq!(item.clinical_status(), ClinicalStatus::Active);
    assert_eq!(item.verification_status(), VerificationStatus::Confirmed);
    assert_eq!(details(&item, "reaction"), ["アナフィラキシー"]);
    assert_eq!(details(&item, "note"), ["救急搬送歴あり"]);
    let source = &item.sources[0];
    assert_eq!(
        source.institution.as_ref().unwrap().institution_id,
        "1319999999"
    );
    assert_eq!(source.home_community_id, "urn:oid:1.2.3");
    assert_eq!(
        source.document.as_ref().unwrap().document_unique_id,
        "2.25.1"
    );
    assert_eq!(
        (source.recorded.as_str(), source.entry_id.as_str()),
        ("2026-03-01", "urn:uuid:0")
    );
    assert_eq!(source.original_text, "ペニシリン系抗生物質");
    assert_eq!(source.as_of.unwrap().seconds, as_of().as_second());
}

#[test]
fn only_drugs_of_high_criticality_are_contraindications() {
    for (rest, section) in [
        (
            r#""category":["medication"],"criticality":"high""#,
            SummarySection::Contraindication,
        ),
        (
            r#""category":["food","medication"],"criticality":"high""#,
            SummarySection::Contraindication,
        ),
        (
            r#""category":["medication"],"criticality":"low""#,
            SummarySection::Allergy,
        ),
        (r#""category":["medication"]"#, SummarySection::Allergy),
        (
            r#""category":["food"],"criticality":"high""#,
            SummarySection::Allergy,
        ),
        (r#""criticality":"high""#, SummarySection::Allergy),
    ] {
        let item = only(&format!(
            r#"{{"resourceType":"AllergyIntolerance","code":{{"text":"x"}},{rest}}}"#
        ));
        assert_eq!(item.section(), section, "{rest}");
    }
}

#[test]
fn refuted_is_marked_and_entered_in_error_is_dropped() {
    let with = |kind: &str, status: &str| {
        format!(
            r#"{{"resourceType":"{kind}","code":{{"text":"x"}},
            "verificationStatus":{{"coding":[{{"code":"{status}"}}]}}}}"#
        )
    };
    for kind in ["AllergyIntolerance", "Condition"] {
        let item = only(&with(kind, "refuted"));
        assert_eq!(item.verification_status(), VerificationStatus::Refuted);
        assert_eq!(nothing(&with(kind, "entered-in-error")), 0);
    }
}

#[test]
fn absence_is_stated_only_where_a_source_does() {
    for (kind, system, value, section, reason) in [
        (
            "AllergyIntolerance",
            "http://snomed.info/sct",
            "716186003",
            SummarySection::Allergy,
            AbsenceReason::StatedNone,
        ),
        (
            "AllergyIntolerance",
            "http://snomed.info/sct",
            "1287211007",
            SummarySection::Allergy,
            AbsenceReason::Unknown,
        ),
        (
            "AllergyIntolerance",
            "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips",
            "no-allergy-info",
            SummarySection::Allergy,
            AbsenceReason::Unknown,
        ),
        (
            "Condition",
            "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips",
            "no-known-problems",
            SummarySection::Problem,
            AbsenceReason::StatedNone,
        ),
        (
            "Procedure",
            "http://snomed.info/sct",
            "787480003",
            SummarySection::Procedure,
            AbsenceReason::StatedNone,
        ),
    ] {
        let extracted = read(&bundle(&[&format!(
            r#"{{"resourceType":"{kind}","status":"completed","code":{{"coding":[{{"system":"{system}","code":"{value}"}}]}}}}"#
        )]));
        assert_eq!(extracted.items, []);
        let [absence] = extracted.absences.as_slice() else {
            panic!("{value}")
        };
        assert_eq!(
            (absence.section(), absence.reason()),
            (section, reason),
            "{value}"
        );
        assert_eq!(absence.sources[0].home_community_id, "urn:oid:1.2.3");
    }
    // The same number in another code system is another thing.
    let other = r#"{"resourceType":"AllergyIntolerance","code":{"coding":[{"system":"urn:x","code":"716186003"}]}}"#;
    assert_eq!(only(other).section(), SummarySection::Allergy);
}

#[test]
fn none_known_that_is_over_or_unsure_states_nothing() {
    let stated = |status: &str| {
        format!(
            r#"{{"resourceType":"AllergyIntolerance",{status},
            "code":{{"coding":[{{"system":"http://snomed.info/sct","code":"716186003"}}]}}}}"#
        )
    };
    for (name, status) in [
        ("clinicalStatus", "inactive"),
        ("clinicalStatus", "resolved"),
        ("verificationStatus", "unconfirmed"),
        ("verificationStatus", "refuted"),
    ] {
        let status = format!(r#""{name}":{{"coding":[{{"code":"{status}"}}]}}"#);
        assert_eq!(nothing(&stated(&status)), 1, "{status}");
    }
    for (name, status) in [
        ("clinicalStatus", "active"),
        ("verificationStatus", "confirmed"),
    ] {
        let status = format!(r#""{name}":{{"coding":[{{"code":"{status}"}}]}}"#);
        assert_eq!(read(&bundle(&[&stated(&status)])).absences.len(), 1);
    }
}

#[test]
fn what_an_unknown_extension_modifies_is_not_taken() {
    let modifier = r#""modifierExtension":[{"url":"urn:x","valueBoolean":true}]"#;
    for resource in [
        format!(r#"{{"resourceType":"Condition","code":{{"text":"x"}},{modifier}}}"#),
        format!(
            r#"{{"resourceType":"MedicationRequest","status":"active","intent":"order",
            "medicationCodeableConcept":{{"text":"x"}},"dosageInstruction":[{{{modifier}}}]}}"#
        ),
        format!(
            r#"{{"resourceType":"AllergyIntolerance",{modifier},
            "code":{{"coding":[{{"system":"http://snomed.info/sct","code":"716186003"}}]}}}}"#
        ),
    ] {
        assert_eq!(nothing(&resource), 1);
    }
}

#[test]
fn a_suspected_diagnosis_is_unconfirmed() {
    let extension = |kind: &str, code: &str, text: &str| {
        format!(
            r#"{{"url":"http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Condition_Disease{kind}Modifier",
            "valueCodeableConcept":{{"coding":[{{"code":"{code}"}}],"text":"{text}"}}}}"#
        )
    };
    let (left, suspected) = (
        extension("Prefix", "2056", "左"),
        extension("Postfix", "8002", "の疑い"),
    );
    let item = only(&format!(
        r#"{{"resourceType":"Condition","verificationStatus":{{"coding":[{{"code":"confirmed"}}]}},
        "code":{{"extension":[{left},{suspected}],"text":"腎癌"}}}}"#
    ));
    assert_eq!(item.display, "左腎癌の疑い");
    assert_eq!(item.verification_status(), VerificationStatus::Unconfirmed);
    assert_eq!(item.section(), SummarySection::Problem);
}

#[test]
fn past_problems_are_told_by_status_or_section() {
    let with = |rest: &str| {
        only(&format!(
            r#"{{"resourceType":"Condition","code":{{"text":"x"}}{rest}}}"#
        ))
        .section()
    };
    let status = |code: &str| {
        format!(r#","clinicalStatus":{{"coding":[{{"system":"{CLINICAL}","code":"{code}"}}]}}"#)
    };
    assert_eq!(with(""), SummarySection::Problem);
    assert_eq!(
        with(r#","abatementDateTime":"2020""#),
        SummarySection::PastProblem
    );
    assert_eq!(with(&status("remission")), SummarySection::Problem);
    assert_eq!(with(&status("resolved")), SummarySection::PastProblem);
    assert_eq!(with(&status("inactive")), SummarySection::PastProblem);
}

#[test]
fn sections_tell_what_is_past_and_what_is_of_relatives() {
    let clins = |code: &str, entry: usize| {
        format!(
            r#"{{"code":{{"coding":[{{"system":"http://jpfhir.jp/fhir/clins/CodeSystem/document-section","code":"{code}"}}]}},
            "entry":[{{"reference":"urn:uuid:{entry}"}}]}}"#
        )
    };
    let nested = format!(
        r#"{{"code":{{"coding":[{{"code":"300"}}]}},"section":[{},{}]}}"#,
        clins("370", 0),
        clins("550", 1)
    );
    let condition = r#"{"resourceType":"Condition","code":{"text":"x"}}"#;
    let extracted = read(&bundle_with(&nested, &[condition, condition]));
    assert_eq!(extracted.items.len(), 1);
    assert_eq!(extracted.items[0].section(), SummarySection::PastProblem);
}

#[test]
fn a_device_is_read_with_its_use_and_its_settings() {
    let device = r#"{"resourceType":"Device","patient":{"reference":"urn:uuid:p"},"status":"active",
        "type":{"text":"人工呼吸器"},"modelNumber":"V-60",
        "property":[{"type":{"text":"PEEP"},"valueQuantity":[{"value":5.0,"system":"http://unitsofmeasure.org","code":"cm[H2O]"}]}]}"#;
    let used = r#"{"resourceType":"DeviceUseStatement","status":"active","device":{"reference":"urn:uuid:0"},
        "timingPeriod":{"start":"2025-06"}}"#;
    let extracted = read(&bundle(&[device, used]));
    let [item] = extracted.items.as_slice() else {
        panic!("{extracted:?}")
    };
    assert_eq!(
        (item.section(), item.display.as_str()),
        (SummarySection::Device, "人工呼吸器")
    );
    assert_eq!(
        (item.start.as_str(), item.clinical_status()),
        ("2025-06", ClinicalStatus::Active)
    );
    assert_eq!(details(item, "setting"), ["5.0 cm[H2O]"]);
    assert_eq!(only(device).display, "人工呼吸器", "without a statement");
    assert_eq!(
        nothing(r#"{"resourceType":"Device","type":{"text":"EHR"}}"#),
        0,
        "software"
    );
}

#[test]
fn alerts_procedures_vaccines_and_directives() {
    let flag = only(
        r#"{"resourceType":"Flag","status":"active","code":{"text":"気道困難"},"period":{"start":"2020-01-01"}}"#,
    );
    assert_eq!(
        (flag.section(), flag.start.as_str()),
        (SummarySection::Alert, "2020-01-01")
    );
    let procedure = only(
        r#"{"resourceType":"Procedure","status":"completed","code":{"text":"透析"},"performedPeriod":{"start":"2024","end":"2025"}}"#,
    );
    assert_eq!(
        (procedure.start.as_str(), procedure.end.as_str()),
        ("2024", "2025")
    );
    assert_eq!(
        nothing(r#"{"resourceType":"Procedure","status":"not-done","code":{"text":"x"}}"#),
        0
    );
    let vaccine = only(
        r#"{"resourceType":"Immunization","status":"completed","vaccineCode":{"text":"破傷風"},"occurrenceDateTime":"2021-05"}"#,
    );
    assert_eq!(
        (vaccine.section(), vaccine.start.as_str()),
        (SummarySection::Immunization, "2021-05")
    );
    let directive = only(
        r#"{"resourceType":"Consent","status":"active","scope":{"coding":[{"code":"adr"}]},"category":[{"text":"DNAR"}],"dateTime":"2025-01-01"}"#,
    );
    assert_eq!(
        (directive.section(), directive.display.as_str()),
        (SummarySection::AdvanceDirective, "DNAR")
    );
    assert_eq!(
        nothing(
            r#"{"resourceType":"Consent","status":"active","scope":{"coding":[{"code":"patient-privacy"}]}}"#
        ),
        0
    );
}

#[test]
fn national_flags_are_obeyed() {
    let tagged = |flag: &str| {
        format!(
            r#"{{"resourceType":"Condition","code":{{"text":"胃癌"}},"meta":{{"tag":[{{"system":"{INDICATION}","code":"{flag}"}}]}}}}"#
        )
    };
    let item = only(&tagged("UNINFORMED"));
    assert_eq!(item.national_flags, [i32::from(NationalFlag::Uninformed)]);
    assert_eq!(item.confidentiality(), Confidentiality::VeryRestricted);
    assert_eq!(nothing(&tagged("UNDELIVERED")), 0);
    let whole = bundle(&[r#"{"resourceType":"Condition","code":{"text":"x"}}"#]).replace(
        r#""type":"document","#,
        &format!(r#""type":"document","meta":{{"tag":[{{"system":"{INDICATION}","code":"UNDELIVERED"}}]}},"#),
    );
    assert_eq!(read(&whole), Extracted::default());
    let undelivered = DocumentEntry {
        national_flags: vec![NationalFlag::Undelivered.into()],
        ..entry()
    };
    let plain = bundle(&[r#"{"resourceType":"Condition","code":{"text":"x"}}"#]);
    assert_eq!(
        read_as("application/fhir+json", &undelivered, plain.as_bytes()),
        Extracted::default()
    );
    let uninformed = DocumentEntry {
        national_flags: vec![NationalFlag::Uninformed.into()],
        ..entry()
    };
    let extracted = read_as("application/fhir+json", &uninformed, plain.as_bytes());
    assert_eq!(
        extracted.items[0].national_flags,
        [i32::from(NationalFlag::Uninformed)]
    );
}
