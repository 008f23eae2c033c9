//! Changes that a region tells its parent: the same operations, in the region's own domains, each
//! once however often it comes. What is so already is taken as done; what a steward here holds apart
//! becomes a task, for a queue must not stand still over it.

use crate::access::{Action, Call, Permit};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{identifier, identifier_message};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::federation::notice::Content;
use crate::wire::pb::identity as pb;

use super::changes::{groups, link_as, merge_as, unlink_as, unmerge_as};

/// Takes a change of persons.
///
/// # Errors
/// [`Reason::ForeignDomain`] and malformed content, which are final; anything else may pass.
pub(in crate::api::grpc) async fn take(
    gateway: &Gateway,
    call: &Call,
    notice_id: &str,
    content: Content,
) -> Result<()> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway.guard.authorize(call, Action::AssertIdentity)?;
    match content {
        Content::PatientMerge(request) => {
            let pair = (request.survivor.clone(), request.subsumed.clone());
            let key = key(gateway, call, notice_id, &request)?;
            let done = merge_as(gateway, call, &permit, key, request).await;
            settle(gateway, call, &permit, done.map(|_| ()), pair).await
        }
        Content::PatientUnmerge(request) => {
            let pair = (request.subsumed.clone(), request.subsumed.clone());
            let key = key(gateway, call, notice_id, &request)?;
            let done = unmerge_as(gateway, call, &permit, key, request).await;
            settle(gateway, call, &permit, done.map(|_| ()), pair).await
        }
        Content::PatientLink(request) => {
            let pair = (request.first.clone(), request.second.clone());
            let key = key(gateway, call, notice_id, &request)?;
            let done = link_as(gateway, call, &permit, key, request).await;
            settle(gateway, call, &permit, done.map(|_| ()), pair).await
        }
        Content::PatientUnlink(request) => {
            let pair = (request.first.clone(), request.second.clone());
            let key = key(gateway, call, notice_id, &request)?;
            let done = unlink_as(gateway, call, &permit, key, request).await;
            settle(gateway, call, &permit, done.map(|_| ()), pair).await
        }
        Content::PatientSplit(request) => split(gateway, call, &permit, notice_id, request).await,
        _ => Err(Error::field(
            Reason::NotImplemented,
            "notices.content",
            "this version does not take this kind of notice",
        )),
    }
}

fn key(
    gateway: &Gateway,
    call: &Call,
    notice_id: &str,
    request: &impl prost::Message,
) -> Result<Option<crate::store::Idempotency>> {
    call.idempotency(&gateway.store, notice_id, request, gateway.clock.now())
}

/// The region split a person: here every record of a later group leaves those of the groups before.
async fn split(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    notice_id: &str,
    request: pb::SplitPersonRequest,
) -> Result<()> {
    let groups = groups(&request.groups)?;
    let mut before: Vec<&PatientIdentifier> = Vec::new();
    let mut number = 0;
    for group in &groups {
        for leaves in group {
            for stays in &before {
                let unlink = pb::UnlinkPatientsRequest {
                    first: Some(identifier_message(stays)),
                    second: Some(identifier_message(leaves)),
                    reason: request.reason.clone(),
                    ..pb::UnlinkPatientsRequest::default()
                };
                // Each is a change of its own, with its own audit event.
                let part = call.for_part();
                number += 1;
                let key = key(gateway, &part, &format!("{notice_id}/{number}"), &unlink)?;
                let pair = (unlink.first.clone(), unlink.second.clone());
                let done = unlink_as(gateway, &part, permit, key, unlink).await;
                settle(gateway, &part, permit, done.map(|_| ()), pair).await?;
            }
        }
        // What left together stays together.
        if let Some((first, others)) = group.split_first()
            && !before.is_empty()
        {
            for other in others {
                let link = pb::LinkPatientsRequest {
                    first: Some(identifier_message(first)),
                    second: Some(identifier_message(other)),
                    reason: request.reason.clone(),
                    ..pb::LinkPatientsRequest::default()
                };
                let part = call.for_part();
                number += 1;
                let key = key(gateway, &part, &format!("{notice_id}/{number}"), &link)?;
                let pair = (link.first.clone(), link.second.clone());
                let done = link_as(gateway, &part, permit, key, link).await;
                settle(gateway, &part, permit, done.map(|_| ()), pair).await?;
            }
        }
        before.extend(group);
    }
    super::super::door::audit(gateway, call, crate::audit::Outcome::Success).await
}

type Pair = (Option<cpb::Identifier>, Option<cpb::Identifier>);

/// What a refusal of a notice comes to.
async fn settle(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    done: Result<()>,
    pair: Pair,
) -> Result<()> {
    let Err(error) = done else { return Ok(()) };
    match error.reason() {
        // It is so already, or was taken back here.
        Reason::WrongState | Reason::NotFound => {
            super::super::door::audit(gateway, call, crate::audit::Outcome::Success).await
        }
        Reason::HeldApart => {
            let first = identifier(pair.0.as_ref(), "first")?;
            let second = identifier(pair.1.as_ref(), "second")?;
            gateway
                .identity
                .contradicted(permit, call, &first, &second)
                .await
        }
        // Nobody here ever heard of the patient: it will not be known by asking again.
        Reason::UnknownPatient => {
            let field = error.wrong_field().unwrap_or("patient").to_owned();
            Err(Error::field(
                Reason::InvalidField,
                field,
                "names nobody known here",
            ))
        }
        _ => Err(error),
    }
}
