//! The part of `renkei.admin.v1.AdminService` that destroys patients' keys.

use std::sync::Arc;

use crate::access::{Action, Call};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::wire::pb::admin as pb;

use super::door::Answer;

pub(super) fn propose(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ProposePurgeRequest,
) -> Answer<pb::ProposePurgeResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Purge)?;
        let patient = identifier(request.patient_id.as_ref(), "patient_id")?;
        let purges = &gateway.purges;
        let purge = purges.propose(&permit, &call, &patient, &request).await?;
        Ok(pb::ProposePurgeResponse { purge: Some(purge) })
    })
}

pub(super) fn approve(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ApprovePurgeRequest,
) -> Answer<pb::ApprovePurgeResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Purge)?;
        let patient = identifier(request.patient_id.as_ref(), "patient_id")?;
        let purges = &gateway.purges;
        let purge = purges.approve(&permit, &call, &patient, &request).await?;
        Ok(pb::ApprovePurgeResponse { purge: Some(purge) })
    })
}

pub(super) fn withdraw(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::WithdrawPurgeRequest,
) -> Answer<pb::WithdrawPurgeResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Purge)?;
        let purge = gateway.purges.withdraw(&permit, &call, &request).await?;
        Ok(pb::WithdrawPurgeResponse { purge: Some(purge) })
    })
}

pub(super) fn list(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListPurgesRequest,
) -> Answer<pb::ListPurgesResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::Purge)?;
        let (purges, next_page_token) = gateway.purges.list(&permit, &request)?;
        call.note(|record| record.items = u32::try_from(purges.len()).unwrap_or(u32::MAX));
        Ok(pb::ListPurgesResponse {
            purges,
            next_page_token,
        })
    })
}
