//! An audit event as a FHIR R4 `AuditEvent`, after IHE Basic Audit Log Patterns (BALP 1.1).
//!
//! No demographics and no contents: a patient and an object are named by their keyed tags, and the
//! query itself is not kept, so BALP's query entity is not there. Nor is a caller's network address:
//! who called is named by institution and certificate.

use serde_json::{Value, json};

use crate::wire::from_timestamp;
use crate::wire::pb::audit::{Action, AuditEvent, Outcome};
use crate::wire::pb::common::PurposeOfUse;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const AUDIT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const RESTFUL: &str = "http://hl7.org/fhir/restful-interaction";
const TRANSACTIONS: &str = "urn:ihe:event-type-code";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const PROVENANCE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const URI: &str = "urn:ietf:rfc:3986";
/// Transactions that are queries; what else is executed is an operation.
const QUERIES: [&str; 9] = [
    "ITI-18", "ITI-38", "ITI-45", "ITI-47", "ITI-55", "ITI-56", "ITI-78", "ITI-81", "ITI-119",
];

/// The id of a record in every sink, by which a receiver drops repeats: the first octets of the
/// store's id, the leaf, and the place in it.
pub fn record_id(store_id: &[u8; 16], index: u64, place: u32) -> String {
    let [a, b, c, d, ..] = store_id;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}-{index}-{place}")
}

/// The code of an action. DICOM PS3.15, FHIR `audit-event-action`.
pub(super) fn action_code(action: Action) -> &'static str {
    match action {
        Action::Create => "C",
        Action::Read => "R",
        Action::Update => "U",
        Action::Delete => "D",
        Action::Execute | Action::Unspecified => "E",
    }
}

/// How bad an outcome is: 0 none, 4 minor, 8 serious.
pub(super) fn outcome_code(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "0",
        Outcome::Denied | Outcome::Invalid | Outcome::Cancelled => "4",
        Outcome::Error | Outcome::Unspecified => "8",
    }
}

/// The code of a purpose in HL7 v3 `ActReason`; `None` if none was stated.
pub(super) fn purpose_code(event: &AuditEvent) -> Option<&'static str> {
    if event.emergency && event.purpose() == PurposeOfUse::Emergency {
        return Some("BTG");
    }
    Some(match event.purpose() {
        PurposeOfUse::Unspecified => return None,
        PurposeOfUse::Treatment => "TREAT",
        PurposeOfUse::Emergency | PurposeOfUse::Disaster => "ETREAT",
        PurposeOfUse::CareCoordination => "CAREMGT",
        PurposeOfUse::PatientRequest => "PATRQT",
        PurposeOfUse::Payment => "HPAYMT",
        PurposeOfUse::Operations => "HOPERAT",
        PurposeOfUse::Research => "HRESCH",
        PurposeOfUse::PublicHealth => "PUBHLTH",
    })
}

/// Why a call did not succeed: the outer reason, and the inner one, which the operator may know.
pub(super) fn why(event: &AuditEvent) -> String {
    match (event.reason.as_str(), event.internal_reason.as_str()) {
        (reason, "") => reason.to_owned(),
        ("", inner) => inner.to_owned(),
        (reason, inner) => format!("{reason} ({inner})"),
    }
}

/// When it was recorded, RFC 3339 in UTC.
pub(super) fn recorded(event: &AuditEvent) -> String {
    let at = event.recorded.as_ref().and_then(from_timestamp);
    at.unwrap_or_default().to_string()
}

fn coding(system: &str, code: &str) -> Value {
    json!({"system": system, "code": code})
}

fn concept(system: &str, code: &str) -> Value {
    json!({"coding": [coding(system, code)]})
}

fn named(system: &str, value: &str) -> Value {
    json!({"identifier": {"system": system, "value": value}})
}

/// Who took part as what: for a read and a delete the data flow the other way.
struct Roles {
    client: Value,
    server: Value,
    user: &'static str,
}

fn roles(action: Action) -> Roles {
    let (client, server, user) = match action {
        Action::Read => ((DCM, "110152"), (DCM, "110153"), "IRCP"),
        Action::Delete => ((DCM, "110150"), (PROVENANCE, "custodian"), "AUT"),
        Action::Create | Action::Update => ((DCM, "110153"), (DCM, "110152"), "AUT"),
        Action::Execute | Action::Unspecified => ((DCM, "110153"), (DCM, "110152"), "IRCP"),
    };
    Roles {
        client: concept(client.0, client.1),
        server: concept(server.0, server.1),
        user,
    }
}

/// A text, or nothing if it is empty.
fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn agents(event: &AuditEvent) -> Vec<Value> {
    let Roles {
        client,
        server,
        user,
    } = roles(event.action());
    let institution = event.institution.clone().unwrap_or_default();
    let caller = match institution.institution_id.as_str() {
        "" => named(URI, &institution.home_community_id),
        code => json!({"identifier": {"value": code}, "display": text(&institution.name)}),
    };
    let home = &event.home_community_id;
    let mut agents = vec![
        json!({
            "type": client, "who": caller, "requestor": event.person.is_none(),
            "altId": text(&event.certificate_sha256),
        }),
        json!({
            "type": server, "who": named(URI, home), "requestor": false,
            "network": {"address": home, "type": "5"},
        }),
    ];
    if let Some(person) = &event.person {
        let vouching = person.institution.as_ref().unwrap_or(&institution);
        let system = text(&vouching.oid).map(|oid| format!("urn:oid:{oid}"));
        let policies = text(&event.policy_version);
        let purpose = purpose_code(event).map(|code| [concept(REASON, code)]);
        agents.push(json!({
            "type": concept(PARTICIPATION, user),
            "who": {"identifier": {"system": system, "value": person.subject}},
            "requestor": true,
            "role": text(&person.role).map(|role| [json!({"text": role})]),
            "purposeOfUse": purpose,
            "policy": policies.map(|version| [format!("urn:renkei:policies:{version}")]),
        }));
    }
    if let Some(relay) = text(&event.relayed_by) {
        agents.push(json!({
            "type": {"text": "relaying gateway"}, "who": named(URI, relay), "requestor": false,
        }));
    }
    agents
}

/// FHIR has no null and no empty array: what is one is left out.
fn prune(value: &mut Value) {
    let nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| !nothing(value));
        }
        Value::Array(all) => all.iter_mut().for_each(prune),
        _ => {}
    }
}

fn entities(event: &AuditEvent) -> Vec<Value> {
    let mut entities = Vec::new();
    if !event.patient_tag.is_empty() {
        entities.push(json!({
            "what": named("urn:renkei:patient-tag", &event.patient_tag),
            "type": coding(ENTITY_TYPE, "1"), "role": coding(ROLE, "1"),
        }));
    }
    for tag in &event.object_tags {
        entities.push(json!({
            "what": named("urn:renkei:object-tag", tag),
            "type": coding(ENTITY_TYPE, "2"), "role": coding(ROLE, "3"),
        }));
    }
    if !event.request_id.is_empty() {
        entities.push(json!({
            "what": {"identifier": {"value": event.request_id}},
            "type": coding(BALP_ENTITY, "XrequestId"),
        }));
    }
    if !event.grant_id.is_empty() {
        entities.push(json!({
            "what": named("urn:renkei:grant", &event.grant_id),
            "type": coding(ENTITY_TYPE, "2"), "role": coding(ROLE, "13"),
        }));
    }
    entities
}

/// The event as a FHIR R4 resource, under this id ([`record_id`]).
pub fn resource(event: &AuditEvent, id: &str) -> Value {
    let interaction = match event.action() {
        Action::Create => "create",
        Action::Read => "read",
        Action::Update => "update",
        Action::Delete => "delete",
        _ if QUERIES.contains(&event.transaction.as_str()) => "search",
        _ => "operation",
    };
    // What is of no method is a refused handshake: nobody was let in.
    let (kind, mut subtypes) = match event.method.starts_with("edge/") {
        true => (coding(DCM, "110114"), vec![coding(DCM, "110122")]),
        false => (
            coding(AUDIT_TYPE, "rest"),
            vec![coding(RESTFUL, interaction)],
        ),
    };
    if !event.transaction.is_empty() {
        subtypes.push(coding(TRANSACTIONS, &event.transaction));
    }
    subtypes.push(coding("urn:renkei:method", &event.method));
    let purpose = purpose_code(event).map(|code| [concept(REASON, code)]);
    let mut resource = json!({
        "resourceType": "AuditEvent",
        "id": id,
        "type": kind,
        "subtype": subtypes,
        "action": action_code(event.action()),
        "recorded": recorded(event),
        "outcome": outcome_code(event.outcome()),
        "outcomeDesc": text(&why(event)),
        "purposeOfEvent": purpose,
        "agent": agents(event),
        "source": {
            "observer": named(URI, &event.home_community_id),
            "type": [coding(SOURCE_TYPE, "4")],
        },
        "entity": entities(event),
    });
    prune(&mut resource);
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common::{InstitutionRef, PersonRef};

    fn event(action: Action, transaction: &str) -> AuditEvent {
        AuditEvent {
            sequence: 41,
            recorded: Some(prost_types::Timestamp {
                seconds: 1_767_225_600,
                nanos: 0,
            }),
            home_community_id: "urn:oid:2.999.1".into(),
            method: "renkei.identity.v1.IdentityService/QueryIdentifiers".into(),
            transaction: transaction.into(),
            action: action.into(),
            outcome: Outcome::Success.into(),
            institution: Some(InstitutionRef {
                institution_id: "1312345678".into(),
                oid: "2.999.1.5".into(),
                ..Default::default()
            }),
            person: Some(PersonRef {
                subject: "D-1".into(),
                role: "Medical Doctor".into(),
                ..Default::default()
            }),
            purpose: PurposeOfUse::Treatment.into(),
            patient_tag: "00ff".into(),
            object_tags: vec!["aa".into()],
            request_id: "r-1".into(),
            ..Default::default()
        }
    }

    /// `spec` identity-and-fhir A.6, but for what is not kept.
    #[test]
    fn a_query_is_the_pattern_of_a_query() {
        let resource = resource(&event(Action::Execute, "ITI-45"), "a-41-0");
        assert_eq!(resource["resourceType"], "AuditEvent");
        assert_eq!(resource["type"], coding(AUDIT_TYPE, "rest"));
        assert_eq!(resource["subtype"][0], coding(RESTFUL, "search"));
        assert_eq!(resource["subtype"][1], coding(TRANSACTIONS, "ITI-45"));
        assert_eq!(
            (&resource["action"], &resource["outcome"]),
            (&json!("E"), &json!("0"))
        );
        assert_eq!(resource["recorded"], "2026-01-01T00:00:00Z");
        assert!(resource.get("outcomeDesc").is_none());
        let agents = resource["agent"].as_array().unwrap();
        let kinds: Vec<_> = agents
            .iter()
            .map(|agent| agent["type"]["coding"][0]["code"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["110153", "110152", "IRCP"]);
        let asking: Vec<_> = agents.iter().map(|agent| &agent["requestor"]).collect();
        assert_eq!(asking, [&json!(false), &json!(false), &json!(true)]);
        assert_eq!(agents[2]["who"], named("urn:oid:2.999.1.5", "D-1"));
        assert_eq!(
            agents[2]["purposeOfUse"][0]["coding"][0],
            coding(REASON, "TREAT")
        );
        let entities = resource["entity"].as_array().unwrap();
        assert_eq!(entities[0]["role"], coding(ROLE, "1"));
        assert_eq!(entities[2]["type"], coding(BALP_ENTITY, "XrequestId"));
    }

    /// The codes say which way data went: `spec` identity-and-fhir §6.7.
    #[test]
    fn reads_and_deletes_have_their_roles_turned() {
        let kinds = |action| {
            let resource = resource(&event(action, ""), "x");
            let code = |at: usize| resource["agent"][at]["type"]["coding"][0]["code"].clone();
            (resource["subtype"][0]["code"].clone(), code(0), code(1))
        };
        let expected = |a: &str, b: &str, c: &str| (json!(a), json!(b), json!(c));
        assert_eq!(kinds(Action::Read), expected("read", "110152", "110153"));
        assert_eq!(
            kinds(Action::Delete),
            expected("delete", "110150", "custodian")
        );
        assert_eq!(
            kinds(Action::Create),
            expected("create", "110153", "110152")
        );
        assert_eq!(
            kinds(Action::Update),
            expected("update", "110153", "110152")
        );
        assert_eq!(
            kinds(Action::Execute),
            expected("operation", "110153", "110152")
        );
    }

    #[test]
    fn refusals_say_why_and_systems_ask_for_themselves() {
        let refused = AuditEvent {
            outcome: Outcome::Denied.into(),
            reason: "NOT_PERMITTED".into(),
            internal_reason: "no-relation".into(),
            person: None,
            patient_tag: String::new(),
            object_tags: Vec::new(),
            request_id: String::new(),
            ..event(Action::Execute, "ITI-18")
        };
        let resource = resource(&refused, "x");
        assert_eq!(resource["outcome"], "4");
        assert_eq!(resource["outcomeDesc"], "NOT_PERMITTED (no-relation)");
        assert_eq!(resource["agent"].as_array().unwrap().len(), 2);
        assert_eq!(resource["agent"][0]["requestor"], true);
        assert!(resource.get("entity").is_none());
    }
}
