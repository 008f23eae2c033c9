use serde_json::{Value, json};

use super::*;
use crate::consent::terms;
use crate::error::Reason;

#[expect(clippy::too_many_lines, reason = "every field of a consent")]
fn full() -> pb::Consent {
    let institution = |code: &str| pb::Party {
        institution_id: code.into(),
        ..Default::default()
    };
    pb::Consent {
        patient_id: Some(cpb::Identifier {
            assigning_authority: "1.2.392.1".into(),
            value: "0012".into(),
            ..Default::default()
        }),
        home_community_id: "urn:oid:1.2.3".into(),
        model: pb::ConsentModel::InstitutionList.into(),
        effect: pb::ConsentEffect::Permit.into(),
        grantees: vec![
            institution("1310000001"),
            pb::Party {
                person_subject: "D-1".into(),
                role: "Medical Doctor".into(),
                home_community_id: "urn:oid:1.2.4".into(),
                ..institution("1310000002")
            },
        ],
        excepted_grantees: vec![institution("1310000003")],
        disclosers: vec![institution("1310000004")],
        data_classes: vec![
            pb::DataClass::Medication.into(),
            pb::DataClass::Psychiatry.into(),
        ],
        document_codes: vec![cpb::CodedValue {
            code: "18842-5".into(),
            system: "http://loinc.org".into(),
            ..Default::default()
        }],
        confidentiality_ceiling: cpb::Confidentiality::Restricted.into(),
        purposes: vec![
            cpb::PurposeOfUse::Treatment.into(),
            cpb::PurposeOfUse::CareCoordination.into(),
        ],
        valid_from: Some(crate::wire::timestamp(
            "2026-01-01T00:00:00Z".parse().unwrap(),
        )),
        valid_to: Some(crate::wire::timestamp(
            "2027-01-01T00:00:00Z".parse().unwrap(),
        )),
        data_period: Some(cpb::Period {
            start: "2024-01-01".into(),
            end: String::new(),
        }),
        proxy: Some(pb::Proxy {
            name: "保護者".into(),
            relationship: Some(cpb::CodedValue {
                code: "MTH".into(),
                system: RELATIONSHIP.into(),
                ..Default::default()
            }),
            legal_guardian: true,
            ends_on: "2030-04-02".into(),
        }),
        evidence: Some(pb::Evidence {
            form_id: "F-1".into(),
            form_version: "3".into(),
            signed_on: "2026-01-01".into(),
            image_sha256: "ab".repeat(32),
            place: Some(cpb::InstitutionRef {
                institution_id: "1310000001".into(),
                ..Default::default()
            }),
            oral_witness: "看護師".into(),
            document: None,
        }),
        emergency_preconsent: Some(false),
        supersedes: "before".into(),
        ..Default::default()
    }
}

fn read(value: &Value) -> crate::error::Result<Imported> {
    import(value.to_string().as_bytes())
}

#[test]
fn what_is_exported_is_imported_unchanged() {
    let refusal = pb::Consent {
        effect: pb::ConsentEffect::Deny.into(),
        model: pb::ConsentModel::Community.into(),
        patient_id: full().patient_id,
        home_community_id: "urn:oid:1.2.3".into(),
        ..Default::default()
    };
    let from_nowhere = pb::Consent {
        home_community_id: String::new(),
        ..refusal.clone()
    };
    for consent in [full(), refusal, from_nowhere] {
        let back = read(&export(&consent)).unwrap();
        assert_eq!(back.consent, consent);
        assert!(back.warnings.is_empty(), "{:?}", back.warnings);
        assert!(terms::directive(&back.consent).is_ok());
    }
}

#[test]
fn the_resource_has_what_pcf_asks_for() {
    let resource = export(&full());
    for (path, expected) in [
        ("/resourceType", "Consent"),
        ("/status", "active"),
        ("/scope/coding/0/code", "patient-privacy"),
        ("/category/0/coding/0/code", "59284-0"),
        ("/provision/type", "permit"),
        ("/provision/actor/0/role/coding/0/code", "IRCP"),
        ("/provision/provision/0/type", "deny"),
        ("/provision/purpose/1/code", "CAREMGT"),
        ("/provision/securityLabel/0/code", "R"),
        ("/sourceAttachment/title", "F-1"),
    ] {
        assert_eq!(resource.pointer(path), Some(&json!(expected)), "{path}");
    }
}

/// What is not understood would make a permit wider, or a refusal narrower, were it left out.
#[test]
fn what_may_limit_is_refused_and_what_does_not_is_told() {
    let with = |path: &str, key: &str, value: Value| {
        let mut resource = export(&full());
        let at = resource.pointer_mut(path).unwrap();
        at.as_object_mut().unwrap().insert(key.to_owned(), value);
        resource
    };
    let refused = [
        with("/provision", "action", json!([])),
        with("/provision", "class", json!([{ "code": "x" }])),
        with("/provision", "code", json!([])),
        with("/provision", "data", json!([])),
        with("/provision", "purpose", json!([{ "code": "FUN" }])),
        with("/provision", "purpose", json!("TREAT")),
        with("/provision", "type", json!("maybe")),
        with("/provision/actor/0", "extension", json!([])),
        with("/provision/provision/0", "purpose", json!([])),
        with("/provision/provision/0", "type", json!("permit")),
        with("/provision/provision/0", "actor", json!([])),
        with(
            "/provision/actor/0",
            "reference",
            json!({ "reference": "Organization/1" }),
        ),
        with("/provision/actor/0/role/coding/0", "code", json!("CST")),
        with("/provision", "period", json!({ "end": 2027 })),
        with(
            "/provision",
            "securityLabel",
            json!([{ "code": "N" }, { "code": "V" }]),
        ),
        with(
            "",
            "extension",
            json!([{ "url": "urn:renkei:consent:emergency-preconsent", "valueBoolean": "false" }]),
        ),
        with("", "performer", json!([{ "reference": "RelatedPerson/1" }])),
        with("", "modifierExtension", json!([])),
        with("", "status", json!("draft")),
        with("", "scope", json!({ "coding": [{ "code": "research" }] })),
        with(
            "",
            "extension",
            json!([{ "url": "urn:renkei:consent:unheard-of" }]),
        ),
        with(
            "",
            "policy",
            json!([{ "uri": "urn:renkei:consent:model:unheard-of" }]),
        ),
    ];
    for (index, resource) in refused.iter().enumerate() {
        let error = read(resource).unwrap_err();
        assert_eq!(
            error.reason(),
            Reason::InvalidField,
            "case {index}: {resource}"
        );
    }
    let told = read(&with("", "text", json!({ "status": "generated" }))).unwrap();
    assert_eq!(told.warnings.len(), 1);
    assert_eq!(told.consent, full());
}

#[test]
fn what_is_no_resource_is_refused() {
    for text in ["", "{", "[]", "{\"resourceType\":\"Patient\"}", "null"] {
        assert!(import(text.as_bytes()).is_err(), "{text}");
    }
    assert!(import(&vec![b' '; 300 * 1024]).is_err());
    let mut resource = export(&full());
    resource.as_object_mut().unwrap().remove("patient");
    assert_eq!(read(&resource).unwrap_err().reason(), Reason::MissingField);
}

#[test]
fn a_day_at_the_end_of_a_period_is_in_it() {
    let mut resource = export(&full());
    resource["provision"]["period"] = json!({ "start": "2026-04-01", "end": "2026-04-30" });
    let consent = read(&resource).unwrap().consent;
    let text = |time: Option<prost_types::Timestamp>| {
        crate::wire::from_timestamp(&time.unwrap())
            .unwrap()
            .to_string()
    };
    assert_eq!(text(consent.valid_from), "2026-03-31T15:00:00Z");
    assert_eq!(text(consent.valid_to), "2026-04-30T15:00:00Z");
}
