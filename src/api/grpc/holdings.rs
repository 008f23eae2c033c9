//! The calls of `renkei.federation.v1.RespondingGatewayService` that keep the locator current: what a
//! community tells of its holdings, and what it is told that the locator says of them.

use std::sync::Arc;

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::wire::pb::federation as pb;

use super::door::Answer;

/// Holdings notices in one message.
const MAX_NOTICES: usize = 1_000;

/// Takes over what a community tells of its holdings.
pub(super) fn notify(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::NotifyHoldingsRequest,
) -> Answer<pb::NotifyHoldingsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        let permit = gateway.guard.authorize(&call, Action::Exchange)?;
        if request.full {
            let message = "holdings are compared by CompareHoldings";
            return Err(Error::field(Reason::NotImplemented, "full", message));
        }
        if request.notices.len() > MAX_NOTICES {
            let message = format!("has more than {MAX_NOTICES} notices");
            return Err(Error::field(Reason::InvalidField, "notices", message));
        }
        let mut notices = Vec::new();
        for (index, notice) in request.notices.iter().enumerate() {
            let id = identifier(notice.patient_id.as_ref(), "patient_id")
                .map_err(|error| error.within(&format!("notices[{index}]")))?;
            super::identity::own_domain(&gateway, &call, &id)?;
            notices.push((id, notice.clone()));
        }
        let home = call.caller().participant.community.clone();
        gateway
            .federation
            .locator
            .notify(&permit, &call, &home, &notices, &request)
            .await
    })
}

/// Tells a community what the locator says that it holds: that community alone.
pub(super) fn compare(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::CompareHoldingsRequest,
) -> Answer<pb::CompareHoldingsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        let permit = gateway.guard.authorize(&call, Action::Exchange)?;
        let home = call.caller().participant.community.clone();
        let work = Arc::clone(&gateway);
        let compare = move || work.federation.locator.compare(&permit, &home, &request);
        let compared: Result<_> = tokio::task::spawn_blocking(compare)
            .await
            .map_err(Error::internal)?;
        let response = compared?;
        call.note(|record| {
            record.items = u32::try_from(response.patients.len()).unwrap_or(u32::MAX);
        });
        Ok(response)
    })
}
