//! The steward's work list.

use std::sync::Arc;

use super::super::door::Answer;
use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::identity::{Ask, Decision};
use crate::store::Idempotency;
use crate::wire::pb::identity as pb;

use super::changes::{Wish, groups, steward_of};

pub(super) fn tasks(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListReviewTasksRequest,
) -> Answer<pb::ListReviewTasksResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let only = steward_of(&gateway, &call, &[])?;
        let community = &call.caller().participant.community;
        let answer = gateway
            .identity
            .review_tasks(&permit, &request, only, community)?;
        call.note(|record| record.items = super::count(answer.tasks.len()));
        Ok(answer)
    })
}

pub(super) fn task(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetReviewTaskRequest,
) -> Answer<pb::GetReviewTaskResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let only = steward_of(&gateway, &call, &[])?;
        let wish = Wish {
            permit: &permit,
            reason: "",
            preview: true,
            idempotency: None,
        };
        let id = &request.task_id;
        let act = async |ask: Ask<'_>| gateway.identity.review_task(ask, id, only);
        let task = wish.carry(&gateway, &call, act).await?;
        call.note(|record| record.items = super::count(task.persons.len()));
        Ok(pb::GetReviewTaskResponse { task: Some(task) })
    })
}

pub(super) fn decide(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::DecideReviewTaskRequest,
) -> Answer<pb::DecideReviewTaskResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let only = steward_of(&gateway, &call, &[])?;
        let groups = groups(&request.groups)?;
        let decision = Decision {
            task_id: &request.task_id,
            decision: request.decision(),
            version: request.version,
            groups: &groups,
        };
        let wish = Wish {
            permit: &permit,
            reason: &request.reason,
            preview: request.preview_only,
            idempotency: key(&gateway, &call, &request.idempotency_key, &request)?,
        };
        let act = async |ask: Ask<'_>| gateway.identity.decide(ask, &decision, only).await;
        wish.carry(&gateway, &call, act).await
    })
}

pub(super) fn undo(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::UndoReviewDecisionRequest,
) -> Answer<pb::UndoReviewDecisionResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let only = steward_of(&gateway, &call, &[])?;
        let wish = Wish {
            permit: &permit,
            reason: &request.reason,
            preview: request.preview_only,
            idempotency: key(&gateway, &call, &request.idempotency_key, &request)?,
        };
        let id = &request.decision_id;
        let act = async |ask: Ask<'_>| gateway.identity.undo(ask, id, only).await;
        wish.carry(&gateway, &call, act).await
    })
}

pub(super) fn assign(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::AssignReviewTaskRequest,
) -> Answer<pb::AssignReviewTaskResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        let only = steward_of(&gateway, &call, &[])?;
        let wish = Wish {
            permit: &permit,
            reason: "",
            preview: false,
            idempotency: key(&gateway, &call, &request.idempotency_key, &request)?,
        };
        let (id, assignee) = (&request.task_id, &request.assignee_subject);
        let act = async |ask: Ask<'_>| gateway.identity.assign(ask, id, assignee, only).await;
        wish.carry(&gateway, &call, act).await
    })
}

fn key(
    gateway: &Gateway,
    call: &Call,
    key: &str,
    request: &impl prost::Message,
) -> Result<Option<Idempotency>> {
    call.idempotency(&gateway.store, key, request, gateway.clock.now())
}
