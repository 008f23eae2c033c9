//! A record as the bytes in a ledger frame.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use prost::Message as _;

use crate::types::PurposeOfUse;
use crate::wire::pb::audit as pb;
use crate::wire::pb::common as cpb;

use super::record::{Outcome, Record};

/// Encodes a closed record. Sequence and community are the ledger's and are filled in on reading.
pub(super) fn encode(record: &Record, outcome: Outcome, now: Timestamp) -> Bytes {
    let who = &record.who;
    let (action, transaction) = declared_event(record.method);
    let institution = cpb::InstitutionRef {
        institution_id: who
            .institution
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        home_community_id: who.community.to_string(),
        ..cpb::InstitutionRef::default()
    };
    let person = cpb::PersonRef {
        subject: who.subject.clone().unwrap_or_default(),
        role: who.role.code().to_owned(),
        ..cpb::PersonRef::default()
    };
    let event = pb::AuditEvent {
        recorded: Some(crate::wire::timestamp(now)),
        institution: Some(institution),
        person: Some(person),
        relayed_by: who
            .relay
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        method: record.method.to_owned(),
        action: action.into(),
        transaction: transaction.to_owned(),
        outcome: outcome_message(outcome).into(),
        reason: record.failure.unwrap_or_default().to_owned(),
        internal_reason: record.denial.unwrap_or_default().to_owned(),
        purpose: purpose(who.purpose).into(),
        patient_tag: record
            .patient
            .as_deref()
            .map(|tag| HEXLOWER.encode(tag))
            .unwrap_or_default(),
        object_tags: record.documents.clone(),
        emergency: matches!(
            who.purpose,
            PurposeOfUse::Emergency | PurposeOfUse::Disaster
        ),
        grant_id: record.grant.clone().unwrap_or_default(),
        request_id: record.request_id.clone(),
        disclosed_count: record.items,
        regions: regions(record.regions),
        policy_version: record.policy.clone().unwrap_or_default(),
        restricted_confirmed: record.confirmed,
        relation: who
            .relation
            .map(|relation| relation.code().to_owned())
            .unwrap_or_default(),
        relation_claimed: record.relation_claimed,
        stated_reason: record
            .reason
            .as_ref()
            .map(|reason| reason.0.clone())
            .unwrap_or_default(),
        ..pb::AuditEvent::default()
    };
    event.encode_to_vec().into()
}

fn regions(counts: Option<(u32, u32)>) -> Vec<pb::RegionCounts> {
    let Some((asked, answered)) = counts else {
        return Vec::new();
    };
    let count = |state: cpb::RegionState, count| pb::RegionCounts {
        state: state.into(),
        count,
    };
    vec![
        count(cpb::RegionState::Ok, answered),
        count(
            cpb::RegionState::Unspecified,
            asked.saturating_sub(answered),
        ),
    ]
}

include!(concat!(env!("OUT_DIR"), "/audit_events.rs"));

fn declared(method: &str) -> Option<(pb::Action, &'static str)> {
    let at = DECLARED.binary_search_by_key(&method, |(declared, _, _)| *declared);
    let (_, action, transaction) = DECLARED.get(at.ok()?)?;
    Some((*action, transaction))
}

/// The action and the IHE transaction of a method's events, as declared beside it in
/// `proto/audit-events.txt`. Of what is no method: an execution.
pub fn declared_event(method: &str) -> (pb::Action, &'static str) {
    declared(method).unwrap_or((pb::Action::Execute, ""))
}

/// Whether a method's events are declared.
pub fn is_declared(method: &str) -> bool {
    declared(method).is_some()
}

fn outcome_message(outcome: Outcome) -> pb::Outcome {
    match outcome {
        Outcome::Success => pb::Outcome::Success,
        Outcome::Denied => pb::Outcome::Denied,
        Outcome::Invalid => pb::Outcome::Invalid,
        Outcome::Error => pb::Outcome::Error,
        Outcome::Cancelled => pb::Outcome::Cancelled,
    }
}

/// The purpose as a message.
pub fn purpose(purpose: PurposeOfUse) -> cpb::PurposeOfUse {
    match purpose {
        PurposeOfUse::Treatment => cpb::PurposeOfUse::Treatment,
        PurposeOfUse::Emergency => cpb::PurposeOfUse::Emergency,
        PurposeOfUse::CareCoordination => cpb::PurposeOfUse::CareCoordination,
        PurposeOfUse::PatientRequest => cpb::PurposeOfUse::PatientRequest,
        PurposeOfUse::Payment => cpb::PurposeOfUse::Payment,
        PurposeOfUse::Operations => cpb::PurposeOfUse::Operations,
        PurposeOfUse::Research => cpb::PurposeOfUse::Research,
        PurposeOfUse::PublicHealth => cpb::PurposeOfUse::PublicHealth,
        PurposeOfUse::Disaster => cpb::PurposeOfUse::Disaster,
    }
}
