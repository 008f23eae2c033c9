//! Merge, unmerge, link, unlink, split: who may, and who is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::door::Answer;
use crate::access::{Action, Call, Denial, Permit};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{Ask, Changed, Reach, Touched, identifier, identifier_message};
use crate::store::{Idempotency, Write};
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier, PersonRole};
use crate::wire::pb::federation::notice::Content;
use crate::wire::pb::identity as pb;

use super::own_domain_at;

/// Persons that one split may make.
const MAX_GROUPS: usize = 16;

/// What is filed under some identifiers, as far as this node knows.
fn reach(gateway: &Gateway, patients: &[PatientIdentifier]) -> Result<Reach> {
    let holdings = gateway.federation.locator.holdings(patients)?;
    let mut holders: Vec<_> = holdings
        .iter()
        .filter(|held| held.has_documents)
        .map(|held| &held.home_community_id)
        .collect();
    holders.sort_unstable();
    holders.dedup();
    Ok(Reach {
        documents: gateway.documents.count(patients)?,
        consents: super::count(gateway.consents.directives(patients)?.len()),
        holders: super::count(holders.len()),
    })
}

/// The rows that tell the parent of a change.
fn tell(gateway: &Gateway, reason: &str, changed: &Changed) -> Vec<Write> {
    let id = |one: &PatientIdentifier| Some(identifier_message(one));
    let reason = reason.to_owned();
    let (about, content) = match changed {
        Changed::Merged(survivor, subsumed) => {
            let merge = pb::MergePatientsRequest {
                survivor: id(survivor),
                subsumed: id(subsumed),
                reason,
                ..pb::MergePatientsRequest::default()
            };
            (survivor, Content::PatientMerge(merge))
        }
        Changed::Unmerged(subsumed) => {
            let unmerge = pb::UnmergePatientsRequest {
                subsumed: id(subsumed),
                reason,
                ..pb::UnmergePatientsRequest::default()
            };
            (subsumed, Content::PatientUnmerge(unmerge))
        }
        Changed::Linked(first, second) => {
            let link = pb::LinkPatientsRequest {
                first: id(first),
                second: id(second),
                reason,
                ..pb::LinkPatientsRequest::default()
            };
            (first, Content::PatientLink(link))
        }
        Changed::Unlinked(first, second, mark) => {
            let unlink = pb::UnlinkPatientsRequest {
                first: id(first),
                second: id(second),
                reason,
                allow_relink: !mark,
                ..pb::UnlinkPatientsRequest::default()
            };
            (first, Content::PatientUnlink(unlink))
        }
        Changed::Split(groups) => {
            let Some(about) = groups.first().and_then(|group| group.first()) else {
                return Vec::new();
            };
            let group = |group: &Vec<PatientIdentifier>| pb::IdentifierGroup {
                identifiers: group.iter().map(identifier_message).collect(),
            };
            let split = pb::SplitPersonRequest {
                groups: groups.iter().map(group).collect(),
                reason,
                ..pb::SplitPersonRequest::default()
            };
            (about, Content::PatientSplit(split))
        }
    };
    let mut rows = revoke_moved(gateway, changed);
    rows.extend(gateway.federation.outbox.notice(about, content));
    rows
}

/// The rows that take back what the parent was told of patients whose links change: what it keeps may
/// be of somebody else now (ITI-55, revocation).
fn revoke_moved(gateway: &Gateway, changed: &Changed) -> Vec<Write> {
    let named: Vec<&PatientIdentifier> = match changed {
        Changed::Merged(one, other)
        | Changed::Linked(one, other)
        | Changed::Unlinked(one, other, _) => {
            vec![one, other]
        }
        Changed::Unmerged(one) => vec![one],
        Changed::Split(groups) => groups.iter().flatten().collect(),
    };
    // All records of the persons, as they are before the change: each may move with it.
    let persons: BTreeSet<LinkageId> = named
        .into_iter()
        .filter_map(|one| gateway.identity.linkage(one))
        .collect();
    let persons = persons.into_iter();
    let patients: Vec<_> = persons
        .flat_map(|one| gateway.identity.known_as(one))
        .collect();
    revoke(gateway, &patients)
}

/// The rows that take back what the parent was told of these patients.
pub(super) fn revoke(gateway: &Gateway, patients: &[PatientIdentifier]) -> Vec<Write> {
    if gateway.federation.parent.is_none() {
        // Nobody is told for longer than an answer.
        return Vec::new();
    }
    let told = match gateway.federation.correlations.told(patients) {
        Ok(told) => told,
        Err(error) => {
            // They end by themselves; the change must not fail for it.
            tracing::error!(
                reason = error.reason().name(),
                "correlations were not revoked"
            );
            Vec::new()
        }
    };
    let outbox = &gateway.federation.outbox;
    let revoke = told.into_iter().flat_map(|(patient, forgotten)| {
        let content = Content::RevokedCorrelation(identifier_message(patient));
        let mut rows = outbox.notice(patient, content);
        rows.push(forgotten);
        rows
    });
    revoke.collect()
}

fn forwarded(gateway: &Gateway, preview: bool) -> pb::ParentForward {
    let queued = gateway.federation.outbox.feeds() && !preview;
    let state = match queued {
        true => pb::ForwardState::Queued,
        false => pb::ForwardState::NotNeeded,
    };
    pb::ParentForward {
        state: state.into(),
        ..pb::ParentForward::default()
    }
}

/// How a change is asked for.
pub(super) struct Wish<'a> {
    pub(super) permit: &'a Permit,
    pub(super) reason: &'a str,
    pub(super) preview: bool,
    pub(super) idempotency: Option<Idempotency>,
}

impl Wish<'_> {
    /// Hands the wish to `act` with what is filed and who is told.
    pub(super) async fn carry<T>(
        &self,
        gateway: &Gateway,
        call: &Call,
        act: impl AsyncFnOnce(Ask<'_>) -> Result<T>,
    ) -> Result<T> {
        gateway.federation.outbox.has_room()?;
        act(Ask {
            permit: self.permit,
            call,
            reason: self.reason,
            preview: self.preview,
            idempotency: self.idempotency.as_ref(),
            attach: &|changed| tell(gateway, self.reason, changed),
            reach: &|patients| reach(gateway, patients),
        })
        .await
    }
}

/// What a steward may touch: at their own node everything, at another's what is of their community.
///
/// # Errors
/// The uniform refusal.
pub(super) fn steward_of<'a>(
    gateway: &Gateway,
    call: &'a Call,
    patients: &[&PatientIdentifier],
) -> Result<Option<&'a HomeCommunityId>> {
    let community = &call.caller().participant.community;
    if *community == gateway.home {
        return Ok(None);
    }
    let directory = gateway.directory.snapshot();
    let own = |one: &&PatientIdentifier| directory.owner(&one.authority) == Some(community);
    if patients.is_empty() || patients.iter().any(own) {
        return Ok(Some(community));
    }
    Err(call.refuse(Denial::Kind))
}

fn key(
    gateway: &Gateway,
    call: &Call,
    key: &str,
    request: &impl prost::Message,
) -> Result<Option<Idempotency>> {
    call.idempotency(&gateway.store, key, request, gateway.clock.now())
}

fn reasoned(reason: &str) -> Result<()> {
    match reason.trim().is_empty() {
        true => Err(Error::missing("reason")),
        false => Ok(()),
    }
}

pub(super) fn merge(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::MergePatientsRequest,
) -> Answer<pb::MergePatientsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::AssertIdentity)?;
        let idempotency = key(&gateway, &call, &request.idempotency_key, &request)?;
        merge_as(&gateway, &call, &permit, idempotency, request).await
    })
}

pub(super) async fn merge_as(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    idempotency: Option<Idempotency>,
    request: pb::MergePatientsRequest,
) -> Result<pb::MergePatientsResponse> {
    let survivor = identifier(request.survivor.as_ref(), "survivor")?;
    let subsumed = identifier(request.subsumed.as_ref(), "subsumed")?;
    own_domain_at(gateway, call, &survivor, "survivor.assigning_authority")?;
    own_domain_at(gateway, call, &subsumed, "subsumed.assigning_authority")?;
    let preview = request.preview_only;
    let parent = forwarded(gateway, preview);
    let respond = |touched: Touched| pb::MergePatientsResponse {
        merge_id: touched.id,
        linkage_id: touched.linkages.into_iter().next().unwrap_or_default(),
        effects: Some(touched.effects),
        parent: Some(parent),
    };
    let wish = Wish {
        permit,
        reason: &request.reason,
        preview,
        idempotency,
    };
    let act = async |ask: Ask<'_>| {
        gateway
            .identity
            .merge(ask, &survivor, &subsumed, respond)
            .await
    };
    wish.carry(gateway, call, act).await
}

pub(super) fn unmerge(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::UnmergePatientsRequest,
) -> Answer<pb::UnmergePatientsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let steward = call.caller().role() == PersonRole::DataSteward;
        let action = match steward {
            true => Action::Steward,
            false => Action::AssertIdentity,
        };
        let permit = gateway.guard.authorize(&call, action)?;
        reasoned(&request.reason)?;
        let idempotency = key(&gateway, &call, &request.idempotency_key, &request)?;
        unmerge_as(&gateway, &call, &permit, idempotency, request).await
    })
}

pub(super) async fn unmerge_as(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    idempotency: Option<Idempotency>,
    request: pb::UnmergePatientsRequest,
) -> Result<pb::UnmergePatientsResponse> {
    let given = request.subsumed.as_ref();
    let given = given
        .map(|one| identifier(Some(one), "subsumed"))
        .transpose()?;
    let now = gateway.clock.now();
    if let Some(first) = call.repeated(&gateway.store, idempotency.as_ref(), now)? {
        return Ok(first);
    }
    let (merge, subsumed) = gateway
        .identity
        .merge_named(&request.merge_id, given.as_ref())?;
    if permit.action() == Action::Steward {
        steward_of(gateway, call, &[&subsumed])?;
    } else {
        own_domain_at(gateway, call, &subsumed, "subsumed.assigning_authority")?;
    }
    let preview = request.preview_only;
    let parent = forwarded(gateway, preview);
    let respond = |touched: Touched| {
        let mut linkages = touched.linkages.into_iter();
        pb::UnmergePatientsResponse {
            survivor_linkage_id: linkages.next().unwrap_or_default(),
            restored_linkage_id: linkages.next().unwrap_or_default(),
            effects: Some(touched.effects),
            parent: Some(parent),
        }
    };
    let wish = Wish {
        permit,
        reason: &request.reason,
        preview,
        idempotency,
    };
    let act = async |ask: Ask<'_>| {
        gateway
            .identity
            .unmerge(ask, merge, &subsumed, respond)
            .await
    };
    wish.carry(gateway, call, act).await
}

pub(super) fn link(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::LinkPatientsRequest,
) -> Answer<pb::LinkPatientsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        reasoned(&request.reason)?;
        let idempotency = key(&gateway, &call, &request.idempotency_key, &request)?;
        link_as(&gateway, &call, &permit, idempotency, request).await
    })
}

pub(super) async fn link_as(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    idempotency: Option<Idempotency>,
    request: pb::LinkPatientsRequest,
) -> Result<pb::LinkPatientsResponse> {
    let first = identifier(request.first.as_ref(), "first")?;
    let second = identifier(request.second.as_ref(), "second")?;
    both_mine(gateway, call, permit, &first, &second)?;
    let preview = request.preview_only;
    let parent = forwarded(gateway, preview);
    let respond = |touched: Touched| pb::LinkPatientsResponse {
        linkage_id: touched.linkages.into_iter().next().unwrap_or_default(),
        effects: Some(touched.effects),
        approval_task_id: String::new(),
        parent: Some(parent),
    };
    let wish = Wish {
        permit,
        reason: &request.reason,
        preview,
        idempotency,
    };
    let act = async |ask: Ask<'_>| gateway.identity.link(ask, &first, &second, respond).await;
    wish.carry(gateway, call, act).await
}

pub(super) fn unlink(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::UnlinkPatientsRequest,
) -> Answer<pb::UnlinkPatientsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        reasoned(&request.reason)?;
        let idempotency = key(&gateway, &call, &request.idempotency_key, &request)?;
        unlink_as(&gateway, &call, &permit, idempotency, request).await
    })
}

pub(super) async fn unlink_as(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    idempotency: Option<Idempotency>,
    request: pb::UnlinkPatientsRequest,
) -> Result<pb::UnlinkPatientsResponse> {
    let first = identifier(request.first.as_ref(), "first")?;
    let second = identifier(request.second.as_ref(), "second")?;
    both_mine(gateway, call, permit, &first, &second)?;
    let (preview, mark) = (request.preview_only, !request.allow_relink);
    let parent = forwarded(gateway, preview);
    let respond = |touched: Touched| {
        let mut linkages = touched.linkages.into_iter();
        pb::UnlinkPatientsResponse {
            first_linkage_id: linkages.next().unwrap_or_default(),
            second_linkage_id: linkages.next().unwrap_or_default(),
            effects: Some(touched.effects),
            approval_task_id: String::new(),
            parent: Some(parent),
        }
    };
    let wish = Wish {
        permit,
        reason: &request.reason,
        preview,
        idempotency,
    };
    let act = async |ask: Ask<'_>| {
        gateway
            .identity
            .unlink(ask, &first, &second, mark, respond)
            .await
    };
    wish.carry(gateway, call, act).await
}

/// A steward needs one of the two; who only asserts identities, both (INV-4).
fn both_mine(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    first: &PatientIdentifier,
    second: &PatientIdentifier,
) -> Result<()> {
    if permit.action() == Action::Steward {
        return steward_of(gateway, call, &[first, second]).map(|_| ());
    }
    own_domain_at(gateway, call, first, "first.assigning_authority")?;
    own_domain_at(gateway, call, second, "second.assigning_authority")
}

pub(super) fn split(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SplitPersonRequest,
) -> Answer<pb::SplitPersonResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let groups = groups(&request.groups)?;
        let all: Vec<&PatientIdentifier> = groups.iter().flatten().collect();
        if all.is_empty() {
            return Err(Error::missing("groups"));
        }
        steward_of(&gateway, &call, &all)?;
        let linkage: LinkageId = gateway
            .identity
            .named(&request.linkage_id, &call.caller().participant.community)?;
        let idempotency = key(&gateway, &call, &request.idempotency_key, &request)?;
        let wish = Wish {
            permit: &permit,
            reason: &request.reason,
            preview: request.preview_only,
            idempotency,
        };
        let act = async |ask: Ask<'_>| gateway.identity.propose_split(ask, linkage, &groups).await;
        let mut response = wish.carry(&gateway, &call, act).await?;
        // The parent is told when a second person has approved.
        response.parent = Some(forwarded(&gateway, true));
        Ok(response)
    })
}

/// The groups of a split, bounded.
///
/// # Errors
/// A malformed identifier; more groups than one split may make.
pub(super) fn groups(groups: &[pb::IdentifierGroup]) -> Result<Vec<Vec<PatientIdentifier>>> {
    if groups.len() > MAX_GROUPS {
        let message = format!("has more than {MAX_GROUPS} groups");
        return Err(Error::field(Reason::InvalidField, "groups", message));
    }
    let group = |group: &pb::IdentifierGroup| {
        let identifiers = group.identifiers.iter();
        identifiers
            .map(|one| identifier(Some(one), "groups.identifiers"))
            .collect()
    };
    groups.iter().map(group).collect()
}
