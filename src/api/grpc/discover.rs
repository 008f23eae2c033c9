//! `DiscoverPatient` of both gateways (ITI-55): whether other communities know a person, and whether this
//! one does.

use std::sync::Arc;
use std::time::Duration;

use super::door::Answer;
use super::federation::{about, as_refused, authorize_asking};
use super::shown::{findable, shown};
use crate::access::{Action, Call, Denial};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::federation::{LONGEST, Stream, Wanted};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::store::Sequence;
use crate::types::{PatientIdentifier, PurposeOfUse};
use crate::wire::pb::common as cpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::identity as ipb;

/// What tells one person from another; asked for when several might be meant (actOrderRequired).
const WOULD_HELP: [&str; 3] = [
    "PatientAddressRequested",
    "PatientTelecomRequested",
    "OtherIDsRequested:InsuranceNumber",
];
/// Identifiers of one person that are told.
const MAX_IDENTIFIERS: usize = 16;

/// Asks the other communities.
pub(super) fn ask(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::InitiatingGatewayServiceDiscoverPatientRequest,
) -> Answer<Stream<pb::InitiatingGatewayServiceDiscoverPatientResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        authorize_asking(&gateway, &call, Action::SearchPatients, &[])?;
        let broadcast = request.scope.as_ref().is_some_and(|scope| scope.broadcast);
        if broadcast && call.caller().purpose != PurposeOfUse::Emergency {
            return Err(call.refuse(Denial::Purpose));
        }
        let federation = &gateway.federation;
        if let Some(parent) = &federation.parent {
            federation.announce(&call, None, 1).await?;
            return federation.discover_above(&call, parent, request).await;
        }
        let wanted = wanted(&gateway, &call, &request)?;
        let home = &gateway.home;
        let targets = federation.discoverable(&call, request.scope.as_ref(), home)?;
        if !targets.1 && !targets.0.is_empty() {
            let own = wanted.own.as_ref();
            federation.announce(&call, own, targets.0.len()).await?;
        }
        let stream = federation.discover(&call, wanted, targets);
        call.note(|record| record.regions = Some((stream.asked, 0)));
        Ok(stream)
    })
}

/// Whom to look for. By an identifier that is known here, what is known here is what others are asked,
/// whatever the message says besides: an answer about somebody else must not become this patient's.
fn wanted(
    gateway: &Gateway,
    call: &Call,
    request: &pb::InitiatingGatewayServiceDiscoverPatientRequest,
) -> Result<Wanted> {
    let patient = request.patient.as_ref();
    let patient = patient.ok_or_else(|| Error::missing("patient"))?;
    let lifetime = request.correlation_lifetime.as_ref();
    let lifetime = lifetime.map_or(Ok(Duration::ZERO), |time| lifetime_of(*time))?;
    let Some(id) = &patient.identifier else {
        return Ok(Wanted {
            own: None,
            demographics: described(patient)?,
            lifetime: Duration::ZERO,
        });
    };
    let id = identifier(Some(id), "patient.identifier")?;
    about(gateway, call, std::slice::from_ref(&id));
    let known = gateway
        .federation
        .patients(call, "", patient.identifier.as_ref());
    let known = known.map_err(as_refused)?;
    if !findable(gateway, call, Action::SearchPatients, &known)? {
        return Err(Error::not_permitted());
    }
    authorize_asking(gateway, call, Action::SearchPatients, &known)?;
    let record = gateway.identity.record(&id)?;
    let record = record.ok_or_else(Error::not_permitted)?;
    Ok(Wanted {
        own: Some(id),
        demographics: described(&record)?,
        lifetime,
    })
}

fn described(patient: &ipb::Patient) -> Result<ipb::Demographics> {
    let demographics = patient.demographics.clone();
    demographics.ok_or_else(|| Error::missing("patient.demographics"))
}

fn lifetime_of(time: prost_types::Duration) -> Result<Duration> {
    Duration::try_from(time).map_err(|_| {
        let message = "is no time";
        Error::field(Reason::InvalidField, "correlation_lifetime", message)
    })
}

/// Tells another community whether its patient is known here: only who is without doubt, by nothing but
/// identifiers, and not who refuses to be found. That nobody is told of may mean all of these.
pub(super) fn respond(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RespondingGatewayServiceDiscoverPatientRequest,
) -> Answer<pb::RespondingGatewayServiceDiscoverPatientResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
        permit.require(&[Action::SearchPatients])?;
        let patient = request.patient.as_ref();
        let wanted = described(patient.ok_or_else(|| Error::missing("patient"))?)?;
        let searched = gateway.store.applied();
        let found = match gateway.identity.search(&wanted) {
            Ok(found) => shown(&gateway, &call, found),
            Err(error) => Err(error),
        };
        let found = match found {
            Err(error) if error.reason() == Reason::TooManyResults => None,
            found => Some(found?),
        };
        let certain = found.as_ref().map(|found| {
            let certain = |one: &&ipb::MatchCandidate| one.grade() == ipb::MatchGrade::Certain;
            found.iter().filter(certain).collect::<Vec<_>>()
        });
        let mut answer = pb::DiscoveryAnswer {
            home_community_id: gateway.home.to_string(),
            ..pb::DiscoveryAnswer::default()
        };
        let mut lifetime = Duration::ZERO;
        match certain.as_deref() {
            Some([one]) => {
                let known = own_identifiers(&gateway, one)?;
                lifetime = granted(&gateway, &call, request.correlation_lifetime.as_ref())?;
                answer
                    .patients
                    .extend(told(one, &known, request.min_match_degree));
            }
            Some([]) if found.as_ref().is_some_and(Vec::is_empty) => {}
            // Several might be meant, or one, and not surely.
            _ => answer.attributes_requested = missing(&wanted),
        }
        remember(&gateway, &call, &mut answer, (lifetime, searched)).await?;
        Ok(pb::RespondingGatewayServiceDiscoverPatientResponse {
            answer: Some(answer),
        })
    })
}

/// Says in the audit who is told of, and remembers it, so that it can be taken back.
async fn remember(
    gateway: &Gateway,
    call: &Call,
    answer: &mut pb::DiscoveryAnswer,
    (lifetime, searched): (Duration, Sequence),
) -> Result<()> {
    let others = |one: &pb::DiscoveredPatient| {
        let patient = one.patient.clone().unwrap_or_default();
        patient.other_identifiers
    };
    let told = answer.patients.first();
    let ids = told.and_then(|one| one.patient_id.clone());
    let ids = ids.into_iter().chain(told.map(others).unwrap_or_default());
    let ids: Vec<PatientIdentifier> = ids
        .map(|id| identifier(Some(&id), "patient_id"))
        .collect::<Result<_>>()?;
    about(gateway, call, &ids);
    call.note(|record| record.items = u32::try_from(ids.len()).unwrap_or(u32::MAX));
    if ids.is_empty() || lifetime.is_zero() {
        return Ok(());
    }
    // Feeds look up what they must take back before they write: none is between the two while this is
    // remembered, or one could miss what is told, and be missed below.
    let _still = gateway.identity.still().await;
    let correlations = &gateway.federation.correlations;
    let rows = ids.iter().map(|id| correlations.telling(id, lifetime));
    correlations
        .commit(call, rows.collect::<Result<_>>()?)
        .await?;
    // Whoever changes one from now on takes back what was told. What was changed since the search may
    // be somebody else already: that is told for this once only.
    let mut moved = false;
    for id in &ids {
        moved |= gateway.identity.has_changed(id, searched)?;
    }
    if !moved {
        answer.correlation_lifetime = Some(crate::wire::duration(lifetime));
    }
    Ok(())
}

/// How long the answer may be kept: only the parent is told when it is over before.
fn granted(
    gateway: &Gateway,
    call: &Call,
    asked: Option<&prost_types::Duration>,
) -> Result<Duration> {
    let asked = asked.map_or(Ok(Duration::ZERO), |time| lifetime_of(*time))?;
    let caller = call.caller();
    let asking = caller
        .relay
        .as_ref()
        .unwrap_or(&caller.participant.community);
    match gateway.federation.parent.as_ref() == Some(asking) {
        true => Ok(asked.min(LONGEST)),
        false => Ok(Duration::ZERO),
    }
}

/// The identifiers of a person in this community's own domains.
fn own_identifiers(gateway: &Gateway, one: &ipb::MatchCandidate) -> Result<Vec<cpb::Identifier>> {
    let directory = gateway.directory.snapshot();
    let records = one.person.iter().flat_map(|person| &person.records);
    let mut own = Vec::new();
    for record in records {
        let Some(id) = &record.identifier else {
            continue;
        };
        let known = identifier(Some(id), "identifier").map_err(Error::internal)?;
        if directory.owner(&known.authority) == Some(&gateway.home) {
            own.push(id.clone());
        }
    }
    own.truncate(MAX_IDENTIFIERS);
    Ok(own)
}

/// The person as told: identifiers, and how sure it is.
fn told(
    one: &ipb::MatchCandidate,
    known: &[cpb::Identifier],
    least: u32,
) -> Option<pb::DiscoveredPatient> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let match_degree = (one.score.clamp(0.0, 1.0) * 100.0) as u32;
    let (first, others) = known.split_first()?;
    (match_degree >= least).then(|| pb::DiscoveredPatient {
        patient_id: Some(first.clone()),
        patient: Some(ipb::Patient {
            identifier: Some(first.clone()),
            other_identifiers: others.to_vec(),
            ..ipb::Patient::default()
        }),
        match_degree,
    })
}

/// What was not given and would tell.
fn missing(wanted: &ipb::Demographics) -> Vec<String> {
    let given = [
        !wanted.addresses.is_empty(),
        !wanted.telecoms.is_empty(),
        !wanted.coverages.is_empty(),
    ];
    let missing = WOULD_HELP.iter().zip(given).filter(|(_, given)| !given);
    missing.map(|(name, _)| (*name).to_owned()).collect()
}
