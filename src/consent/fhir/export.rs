//! The recorded form as a FHIR Consent.

use serde_json::{Map, Value, json};

use super::{
    ACT_REASON, CLASSES, INSTITUTION, LEVEL, LOINC, MODELS, OWN, PARTICIPATION, PROFILE, PURPOSES,
    RECIPIENT, SCOPE, URI,
};
use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as pb;

/// A consent as FHIR R4 Consent.
pub fn export(consent: &pb::Consent) -> Value {
    let mut resource = Map::new();
    let mut put = |key: &str, value: Value| {
        if !is_empty(&value) {
            resource.insert(key.to_owned(), value);
        }
    };
    put("resourceType", json!("Consent"));
    put("meta", json!({ "profile": [PROFILE] }));
    put("identifier", identifiers(&consent.consent_id));
    put("status", json!(status(consent.status())));
    put("scope", coding(SCOPE, "patient-privacy"));
    put("category", json!([coding(LOINC, "59284-0")]));
    put("patient", patient(consent));
    put("dateTime", instant(consent.recorded.as_ref()));
    put("performer", performer(consent));
    let home = &consent.home_community_id;
    if !home.is_empty() {
        let organization = json!([{ "identifier": { "system": URI, "value": home } }]);
        put("organization", organization);
    }
    put("sourceAttachment", source(consent.evidence.as_ref()));
    put("policy", policy(consent));
    put("extension", extensions(consent));
    put("provision", provision(consent));
    Value::Object(resource)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An object of those fields that say something.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let said = fields.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(said.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn coding(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }] })
}

fn instant(time: Option<&prost_types::Timestamp>) -> Value {
    let time = time.and_then(crate::wire::from_timestamp);
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

fn identifiers(id: &str) -> Value {
    match id {
        "" => Value::Null,
        id => json!([{ "system": URI, "value": format!("urn:uuid:{id}") }]),
    }
}

const fn status(status: pb::ConsentStatus) -> &'static str {
    match status {
        pb::ConsentStatus::Active | pb::ConsentStatus::Unspecified => "active",
        pb::ConsentStatus::EnteredInError => "entered-in-error",
        pb::ConsentStatus::Withdrawn
        | pb::ConsentStatus::Expired
        | pb::ConsentStatus::Superseded => "inactive",
    }
}

fn patient(consent: &pb::Consent) -> Value {
    let id = consent.patient_id.as_ref();
    id.map_or(Value::Null, |id| {
        json!({ "identifier": {
            "system": format!("urn:oid:{}", id.assigning_authority),
            "value": id.value,
        } })
    })
}

fn performer(consent: &pb::Consent) -> Value {
    let Some(proxy) = &consent.proxy else {
        return json!([patient(consent)]);
    };
    let relationship = proxy.relationship.as_ref();
    let extension = [
        own(
            "relationship",
            "valueCode",
            relationship.map_or(Value::Null, |one| json!(one.code)),
        ),
        own(
            "legal-guardian",
            "valueBoolean",
            json!(proxy.legal_guardian),
        ),
        own("ends-on", "valueDate", json!(proxy.ends_on)),
    ];
    json!([fields([
        ("type", json!("RelatedPerson")),
        ("display", json!(proxy.name)),
        ("extension", present(extension)),
    ])])
}

/// An extension of this project; nothing if it has no value.
#[expect(
    clippy::needless_pass_by_value,
    reason = "values are made where they are given"
)]
fn own(name: &str, kind: &str, value: Value) -> Value {
    match is_empty(&value) {
        true => Value::Null,
        false => json!({ "url": format!("{OWN}{name}"), kind: value }),
    }
}

fn present(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(
        values
            .into_iter()
            .filter(|value| !is_empty(value))
            .collect(),
    )
}

fn source(evidence: Option<&pb::Evidence>) -> Value {
    let Some(evidence) = evidence else {
        return Value::Null;
    };
    let place = evidence
        .place
        .as_ref()
        .map(|place| place.institution_id.clone());
    let extension = [
        own("form-version", "valueString", json!(evidence.form_version)),
        own("place", "valueString", json!(place.unwrap_or_default())),
        own("image-sha256", "valueString", json!(evidence.image_sha256)),
        own("oral-witness", "valueString", json!(evidence.oral_witness)),
    ];
    fields([
        ("title", json!(evidence.form_id)),
        ("creation", json!(evidence.signed_on)),
        ("extension", present(extension)),
    ])
}

fn policy(consent: &pb::Consent) -> Value {
    let model = MODELS.iter().find(|(model, _)| *model == consent.model());
    model.map_or(
        Value::Null,
        |(_, name)| json!([{ "uri": format!("{OWN}model:{name}") }]),
    )
}

fn extensions(consent: &pb::Consent) -> Value {
    let emergency = consent
        .emergency_preconsent
        .map_or(Value::Null, |yes| json!(yes));
    let disclosers = consent.disclosers.iter();
    let mut all = vec![
        own("emergency-preconsent", "valueBoolean", emergency),
        own(
            "withdrawn",
            "valueInstant",
            instant(consent.withdrawn.as_ref()),
        ),
        own("supersedes", "valueString", json!(consent.supersedes)),
    ];
    all.extend(disclosers.map(|party| own("discloser", "valueReference", reference(party))));
    present(all)
}

fn reference(party: &pb::Party) -> Value {
    let identifier = match (&*party.institution_id, &*party.home_community_id) {
        ("", "") => Value::Null,
        ("", home) => json!({ "system": URI, "value": home }),
        (code, _) => json!({ "system": INSTITUTION, "value": code }),
    };
    let both = !party.institution_id.is_empty() && !party.home_community_id.is_empty();
    let community = if both {
        party.home_community_id.as_str()
    } else {
        ""
    };
    let extension = [
        own("community", "valueUri", json!(community)),
        own("person", "valueString", json!(party.person_subject)),
        own("role", "valueString", json!(party.role)),
    ];
    fields([
        ("identifier", identifier),
        ("extension", present(extension)),
    ])
}

fn actors(parties: &[pb::Party]) -> Value {
    let actors = parties.iter().map(
        |party| json!({ "role": coding(PARTICIPATION, RECIPIENT), "reference": reference(party) }),
    );
    Value::Array(actors.collect())
}

fn provision(consent: &pb::Consent) -> Value {
    let permits = consent.effect() == pb::ConsentEffect::Permit;
    let (kind, opposite) = match permits {
        true => ("permit", "deny"),
        false => ("deny", "permit"),
    };
    let purposes = PURPOSES
        .iter()
        .filter(|(purpose, _)| consent.purposes.contains(&i32::from(*purpose)));
    let purposes = purposes.map(|(_, code)| json!({ "system": ACT_REASON, "code": code }));
    let classes = CLASSES
        .iter()
        .filter(|(class, _)| consent.data_classes.contains(&i32::from(*class)));
    let mut extension: Vec<Value> = classes
        .map(|(_, name)| own("data-class", "valueCode", json!(name)))
        .collect();
    extension.extend(consent.document_codes.iter().map(|code| {
        let coding = fields([("system", json!(code.system)), ("code", json!(code.code))]);
        own("document-code", "valueCoding", coding)
    }));
    let excepted = match consent.excepted_grantees.is_empty() {
        true => Value::Null,
        false => json!([{ "type": opposite, "actor": actors(&consent.excepted_grantees) }]),
    };
    fields([
        ("type", json!(kind)),
        (
            "period",
            fields([
                ("start", instant(consent.valid_from.as_ref())),
                ("end", instant(consent.valid_to.as_ref())),
            ]),
        ),
        ("actor", actors(&consent.grantees)),
        ("securityLabel", label(consent.confidentiality_ceiling())),
        ("purpose", Value::Array(purposes.collect())),
        (
            "dataPeriod",
            consent.data_period.as_ref().map_or(Value::Null, |period| {
                fields([("start", json!(period.start)), ("end", json!(period.end))])
            }),
        ),
        ("extension", Value::Array(extension)),
        ("provision", excepted),
    ])
}

fn label(ceiling: cpb::Confidentiality) -> Value {
    let code = match ceiling {
        cpb::Confidentiality::Unspecified => return Value::Null,
        cpb::Confidentiality::Unrestricted => "U",
        cpb::Confidentiality::Low => "L",
        cpb::Confidentiality::Moderate => "M",
        cpb::Confidentiality::Normal => "N",
        cpb::Confidentiality::Restricted => "R",
        cpb::Confidentiality::VeryRestricted => "V",
    };
    json!([{ "system": LEVEL, "code": code }])
}
