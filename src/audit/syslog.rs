//! An audit event for a syslog collector: a DICOM audit message (PS3.15 A.5, as ATNA ITI-20 has it) in
//! an RFC 5424 message, framed for TLS by RFC 5425. Nothing in it that is not in the FHIR form
//! ([`super::fhir`]).

use std::fmt::Write as _;

use crate::wire::pb::audit::{Action, AuditEvent, Outcome};

use super::fhir::{action_code, outcome_code, purpose_code, recorded, why};

/// Security messages. RFC 5424 table 1.
const FACILITY: u8 = 10;
/// Sequence ids of RFC 5424 §7.3.1 begin anew behind this.
const MAX_SEQUENCE_ID: u64 = 2_147_483_647;

/// RFC 5424 table 2: notice, warning, error.
fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Success => 5,
        Outcome::Denied | Outcome::Invalid | Outcome::Cancelled => 4,
        Outcome::Error | Outcome::Unspecified => 3,
    }
}

/// The text as XML has it between quotes or tags; what XML cannot have is a space.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other if other.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&other) => {
                out.push(' ');
            }
            other => out.push(other),
        }
    }
    out
}

/// A coded value: DICOM PS3.15 A.5.1.
fn coded(element: &str, code: &str, system: &str, text: &str) -> String {
    format!(
        "<{element} csd-code=\"{}\" codeSystemName=\"{system}\" originalText=\"{}\"/>",
        escaped(code),
        escaped(text)
    )
}

/// The event id: what kind of thing happened. `spec` ihe-documents 6.1.
fn event_id(event: &AuditEvent) -> (&'static str, &'static str) {
    if event.method.starts_with("edge/") {
        return ("110114", "User Authentication");
    }
    match event.action() {
        Action::Create => ("110107", "Import"),
        Action::Read => ("110106", "Export"),
        Action::Update | Action::Delete => ("110110", "Patient Record"),
        Action::Execute | Action::Unspecified => ("110112", "Query"),
    }
}

fn participant(user: &str, requestor: bool, role: &str) -> String {
    format!(
        "<ActiveParticipant UserID=\"{}\" UserIsRequestor=\"{requestor}\">{role}</ActiveParticipant>",
        escaped(user)
    )
}

fn participants(event: &AuditEvent) -> String {
    let institution = event.institution.as_ref();
    let code = institution.map_or("", |one| one.institution_id.as_str());
    let community = institution.map_or("", |one| one.home_community_id.as_str());
    let caller = [code, community, "unknown"]
        .into_iter()
        .find(|name| !name.is_empty());
    let source = coded("RoleIDCode", "110153", "DCM", "Source Role ID");
    let destination = coded("RoleIDCode", "110152", "DCM", "Destination Role ID");
    // Of what is read, the node is the source.
    let (calling, called) = match event.action() {
        Action::Read => (destination, source),
        _ => (source, destination),
    };
    let person = event.person.as_ref();
    let mut all = participant(caller.unwrap_or_default(), person.is_none(), &calling);
    all += &participant(&event.home_community_id, false, &called);
    if let Some(person) = person {
        let role = coded("RoleIDCode", &person.role, "Renkei roles", &person.role);
        let role = if person.role.is_empty() { "" } else { &role };
        all += &participant(&person.subject, true, role);
    }
    if !event.relayed_by.is_empty() {
        all += &participant(&event.relayed_by, false, "");
    }
    all
}

fn object(id: &str, kind: u8, role: u8, of: (&str, &str, &str)) -> String {
    format!(
        "<ParticipantObjectIdentification ParticipantObjectID=\"{}\" \
         ParticipantObjectTypeCode=\"{kind}\" ParticipantObjectTypeCodeRole=\"{role}\">{}\
         </ParticipantObjectIdentification>",
        escaped(id),
        coded("ParticipantObjectIDTypeCode", of.0, of.1, of.2)
    )
}

fn objects(event: &AuditEvent, id: &str) -> String {
    // The record itself, so that a receiver can drop repeats.
    let mut all = object(id, 4, 13, ("record", "Renkei", "Audit record"));
    if !event.patient_tag.is_empty() {
        let number = ("2", "RFC-3881", "Patient Number");
        all += &object(&event.patient_tag, 1, 1, number);
    }
    for tag in &event.object_tags {
        all += &object(tag, 2, 3, ("9", "RFC-3881", "Report Number"));
    }
    if !event.request_id.is_empty() {
        all += &object(&event.request_id, 4, 21, ("request", "Renkei", "Request"));
    }
    all
}

/// The event as a DICOM audit message.
pub fn dicom(event: &AuditEvent, id: &str) -> String {
    let (code, name) = event_id(event);
    let mut kinds = coded("EventID", code, "DCM", name);
    if !event.transaction.is_empty() {
        let name = &event.transaction;
        kinds += &coded("EventTypeCode", name, "IHE Transactions", name);
    }
    kinds += &coded(
        "EventTypeCode",
        &event.method,
        "Renkei methods",
        &event.method,
    );
    let why = why(event);
    if !why.is_empty() {
        kinds += "<EventOutcomeDescription>";
        kinds += &escaped(&why);
        kinds += "</EventOutcomeDescription>";
    }
    if let Some(purpose) = purpose_code(event) {
        kinds += &coded("PurposeOfUse", purpose, "2.16.840.1.113883.5.8", purpose);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage>\
         <EventIdentification EventActionCode=\"{}\" EventDateTime=\"{}\" \
         EventOutcomeIndicator=\"{}\">{kinds}</EventIdentification>{}\
         <AuditSourceIdentification AuditSourceID=\"{}\">{}</AuditSourceIdentification>{}\
         </AuditMessage>",
        action_code(event.action()),
        recorded(event),
        outcome_code(event.outcome()),
        participants(event),
        escaped(&event.home_community_id),
        coded("AuditSourceTypeCode", "4", "DCM", "Application Server"),
        objects(event, id),
    )
}

/// The event as one RFC 5425 frame: the length in octets, a space, an RFC 5424 message.
pub fn frame(event: &AuditEvent, id: &str) -> Vec<u8> {
    let priority = FACILITY * 8 + severity(event.outcome());
    // printable ASCII without spaces, at most 255: RFC 5424 §6.2.4.
    let host: String = event
        .home_community_id
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    let host = if host.is_empty() { "-" } else { &host };
    let number = event.sequence % MAX_SEQUENCE_ID + 1;
    let mut message = format!("<{priority}>1 {} {host} renkei - ", recorded(event));
    let dicom = dicom(event, id);
    // A byte order mark says that what follows is UTF-8.
    let _never_fails = write!(
        message,
        "DICOM+RFC3881 [meta sequenceId=\"{number}\"] \u{feff}{dicom}"
    );
    let mut framed = format!("{} ", message.len()).into_bytes();
    framed.extend_from_slice(message.as_bytes());
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common::{InstitutionRef, PersonRef};
    use crate::xml;

    fn event() -> AuditEvent {
        AuditEvent {
            sequence: 6,
            recorded: Some(prost_types::Timestamp {
                seconds: 1_767_225_600,
                nanos: 5_000_000,
            }),
            home_community_id: "urn:oid:2.999.1".into(),
            method: "renkei.identity.v1.IdentityService/QueryIdentifiers".into(),
            transaction: "ITI-45".into(),
            action: Action::Execute.into(),
            outcome: Outcome::Denied.into(),
            reason: "NOT_PERMITTED".into(),
            institution: Some(InstitutionRef {
                institution_id: "1312345678".into(),
                ..Default::default()
            }),
            person: Some(PersonRef {
                subject: "D\"<1>&\u{1}".into(),
                role: "Medical Doctor".into(),
                ..Default::default()
            }),
            patient_tag: "00ff".into(),
            request_id: "r-1".into(),
            ..Default::default()
        }
    }

    fn attribute<'a>(element: &'a xml::Element, name: &str) -> &'a str {
        let found = element.attributes.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    #[test]
    fn a_message_is_well_formed_and_says_who_what_and_whose() {
        let root = xml::parse(dicom(&event(), "0a-6-0").as_bytes()).unwrap();
        let names: Vec<_> = root
            .children
            .iter()
            .map(|child| child.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "EventIdentification",
                "ActiveParticipant",
                "ActiveParticipant",
                "ActiveParticipant",
                "AuditSourceIdentification",
                "ParticipantObjectIdentification",
                "ParticipantObjectIdentification",
                "ParticipantObjectIdentification",
            ]
        );
        let what = &root.children[0];
        assert_eq!(attribute(what, "EventActionCode"), "E");
        assert_eq!(attribute(what, "EventOutcomeIndicator"), "4");
        assert_eq!(attribute(what, "EventDateTime"), "2026-01-01T00:00:00.005Z");
        let kinds = what.children.iter().map(|kind| attribute(kind, "csd-code"));
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(kinds[..2], ["110112", "ITI-45"]);
        assert_eq!(attribute(&root.children[3], "UserID"), "D\"<1>& ");
        assert_eq!(attribute(&root.children[3], "UserIsRequestor"), "true");
        let objects: Vec<_> = root.children[5..]
            .iter()
            .map(|object| attribute(object, "ParticipantObjectID"))
            .collect();
        assert_eq!(objects, ["0a-6-0", "00ff", "r-1"]);
    }

    /// RFC 5424 §6 and RFC 5425 §4.3.
    #[test]
    fn a_frame_counts_its_octets_and_has_a_header() {
        let framed = frame(&event(), "0a-6-0");
        let text = String::from_utf8(framed).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        let header = "<84>1 2026-01-01T00:00:00.005Z urn:oid:2.999.1 renkei - DICOM+RFC3881 \
                      [meta sequenceId=\"7\"] \u{feff}<?xml";
        assert!(message.starts_with(header), "{message}");
        let fine = AuditEvent {
            outcome: Outcome::Success.into(),
            home_community_id: String::new(),
            ..event()
        };
        let text = String::from_utf8(frame(&fine, "x")).unwrap();
        assert!(text.contains(" <85>1 2026-01-01T00:00:00.005Z - renkei - "));
    }
}
