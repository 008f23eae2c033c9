//! The hub's leave for a region to ask others itself: given, and taken.

use std::sync::Arc;

use crate::access::{Action, Call, Denial};
use crate::config::Capability;
use crate::consent::About;
use crate::error::{Error, Result};
use crate::federation::pass::{self, Presented, Question};
use crate::federation::{Target, fanout};
use crate::gateway::Gateway;
use crate::types::PatientIdentifier;
use crate::wire::pb::common::RegionState;
use crate::wire::pb::federation as pb;

use super::federation::authorize_asking;

/// Leave for a region's gateway to ask the holders itself: judged as the same question is that goes
/// through this node, with what all regions told it of the patient's wishes.
pub(super) async fn passes(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    patients: &[PatientIdentifier],
    linkage_id: String,
) -> Result<pb::LocateHoldingsResponse> {
    gateway.serves(Capability::Federation)?;
    let caller = call.caller();
    let (Some(asker), Some(assertion)) = (&caller.relay, &caller.assertion) else {
        // An institution's question goes by its own gateway.
        return Err(call.refuse(Denial::Kind));
    };
    if gateway.federation.parent.is_some() {
        // Only the hub knows the wishes of all regions.
        return Err(call.refuse(Denial::Kind));
    }
    authorize_asking(gateway, call, Action::FindDocuments, patients)?;
    let reading = About {
        patients,
        relaying: true,
        ..About::default()
    };
    let reads = gateway
        .guard
        .permit_for_part(call, Action::ReadDocument, reading)?
        .is_some();
    let federation = &gateway.federation;
    let holders = federation.targets(patients, None, |held| held.has_documents)?;
    let (targets, gone): (Vec<Target>, Vec<Target>) = holders
        .into_iter()
        .partition(|target| target.peer.endpoint.is_some());
    let gaps = gone
        .iter()
        .map(|target| fanout::status(&target.peer, RegionState::Unreachable, None));
    let completeness = crate::federation::completeness(gaps.collect());
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    call.note(|record| {
        record.items = count;
        record.regions = Some((count, 0));
    });
    let question = Question {
        asker: asker.clone(),
        assertion: Arc::clone(assertion),
        reads,
    };
    let (issuer, identity) = (gateway.home.clone(), gateway.certificate.clone());
    let now = gateway.clock.now();
    let signed = tokio::task::spawn_blocking(move || {
        pass::issue((&issuer, &identity), &question, &targets, now)
    });
    Ok(pb::LocateHoldingsResponse {
        linkage_id,
        holdings: Vec::new(),
        completeness: Some(completeness),
        passes: signed.await.map_err(Error::internal)??,
    })
}

/// Takes the hub's leave that a region's question came with. One that does not hold refuses the call:
/// nobody sends one without need.
pub(super) fn with_pass(
    gateway: &Gateway,
    call: &Call,
    given: Option<&pb::HolderPass>,
) -> Result<()> {
    let (Some(given), Some(parent)) = (given, &gateway.federation.parent) else {
        return Ok(());
    };
    let caller = call.caller();
    let (Some(asker), Some(assertion)) = (&caller.relay, &caller.assertion) else {
        return Err(call.refuse(Denial::Kind));
    };
    let presented = Presented {
        parent: &*gateway.federation.peers.peer(parent)?,
        home: &gateway.home,
        asker,
        assertion,
        now: gateway.clock.now(),
    };
    match pass::verify(given, &presented, &gateway.trust) {
        Ok(pass) => {
            call.came_with(pass);
            Ok(())
        }
        Err(rule) => {
            tracing::warn!(rule, peer.home_community_id = %asker, "a pass was not accepted");
            Err(call.refuse(Denial::Kind))
        }
    }
}
