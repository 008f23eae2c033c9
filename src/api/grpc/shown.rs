//! Whom a search may show: not who refused to be found, not many, not many strangers.

use crate::access::{Action, Call, Denial};
use crate::consent::About;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

/// Persons in one answer at most; of more, none is shown and they are not counted (P-05, P-07).
pub(super) const MAX_SHOWN: usize = 5;

/// Those candidates that the caller may be shown.
///
/// # Errors
/// [`Reason::TooManyResults`], without a count; the uniform refusal for who was shown too many
/// strangers; the store.
pub(super) fn shown(
    gateway: &Gateway,
    call: &Call,
    candidates: Vec<pb::MatchCandidate>,
) -> Result<Vec<pb::MatchCandidate>> {
    let mut found = Vec::new();
    let mut strangers = Vec::new();
    for candidate in candidates {
        let Some(person) = &candidate.person else {
            continue;
        };
        let ids = person.records.iter().map(|record| &record.identifier);
        let known = identifiers(ids.map(Option::as_ref))?;
        if !findable(gateway, call, Action::SearchPatients, &known)? {
            continue;
        }
        if !gateway.guard.is_related(call.caller(), &known)
            && let Ok(linkage) = person.linkage_id.parse::<LinkageId>()
        {
            strangers.push(linkage);
        }
        found.push(candidate);
        if found.len() > MAX_SHOWN {
            let message = "more people match than may be shown; add an item";
            return Err(Error::new(Reason::TooManyResults, message));
        }
    }
    count(gateway, call, &strangers)?;
    match found.is_empty() && is_spent(gateway, call) {
        true => Err(call.refuse(Denial::Enumeration)),
        false => Ok(found),
    }
}

/// What a caller is told who asked for somebody that is not there. Who may be shown no more strangers
/// is refused the same whether there is one or not, or the walk would go on by the refusals (P-05).
pub(super) fn missed(gateway: &Gateway, call: &Call, error: Error) -> Error {
    match is_spent(gateway, call) {
        true => call.refuse(Denial::Enumeration),
        false => error,
    }
}

fn is_spent(gateway: &Gateway, call: &Call) -> bool {
    let caller = call.caller();
    caller.person.is_some() && gateway.exposure.is_spent(caller, gateway.clock.now())
}

/// Stored identifiers. One that cannot be read is an error and not left out: whoever is known by none is
/// nobody whose wishes could be asked.
///
/// # Errors
/// [`Reason::Internal`].
pub(super) fn identifiers<'a>(
    stored: impl Iterator<Item = Option<&'a cpb::Identifier>>,
) -> Result<Vec<PatientIdentifier>> {
    stored
        .map(|id| identifier(id, "identifier").map_err(Error::internal))
        .collect()
}

/// Whether a person may be found by this caller at all: not if they refused, unless the caller has a
/// record of them.
pub(super) fn findable(
    gateway: &Gateway,
    call: &Call,
    action: Action,
    patients: &[PatientIdentifier],
) -> Result<bool> {
    if patients.is_empty() {
        return Ok(false);
    }
    let about = About {
        patients,
        ..About::default()
    };
    gateway.guard.allows(call, action, about)
}

/// Counts a person who is about to be shown, if the caller has no record of them.
pub(super) fn show_one(
    gateway: &Gateway,
    call: &Call,
    linkage: LinkageId,
    patients: &[PatientIdentifier],
) -> Result<()> {
    match gateway.guard.is_related(call.caller(), patients) {
        true => Ok(()),
        false => count(gateway, call, &[linkage]),
    }
}

/// People are counted; a system acts on the patients of its own institution, day and night.
fn count(gateway: &Gateway, call: &Call, strangers: &[LinkageId]) -> Result<()> {
    let caller = call.caller();
    let now = gateway.clock.now();
    match caller.person.is_none() || gateway.exposure.show(caller, strangers, now) {
        true => Ok(()),
        false => Err(call.refuse(Denial::Enumeration)),
    }
}
