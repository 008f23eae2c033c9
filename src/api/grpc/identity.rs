//! `renkei.identity.v1.IdentityService`: PIX, PDQ, changes of persons, the steward's queue.

mod changes;
mod load;
pub(super) mod notices;
mod query;
mod review;
mod watch;

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{identifier, identifier_message};
use crate::types::PatientIdentifier;
use crate::wire::pb::federation::notice::Content;
use crate::wire::pb::identity as pb;
use crate::wire::pb::identity::identity_service_server::IdentityService;

use super::door::{Answer, Class, Door, Replies};

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.identity.v1.IdentityService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Identities(pub Door);

/// Whether the caller may assert identities in a domain: its own community must own it (INV-4).
///
/// # Errors
/// [`Reason::UnknownAuthority`]; [`Reason::ForeignDomain`].
pub(super) fn own_domain(
    gateway: &Gateway,
    call: &Call,
    patient: &PatientIdentifier,
) -> Result<()> {
    let field = "patient.identifier.assigning_authority";
    own_domain_at(gateway, call, patient, field)
}

/// As [`own_domain`], for the identifier at `field`.
///
/// # Errors
/// As [`own_domain`].
fn own_domain_at(
    gateway: &Gateway,
    call: &Call,
    patient: &PatientIdentifier,
    field: &'static str,
) -> Result<()> {
    let directory = gateway.directory.snapshot();
    let Some(owner) = directory.owner(&patient.authority) else {
        let message = "no community owns this assigning authority";
        return Err(Error::field(Reason::UnknownAuthority, field, message));
    };
    if *owner == call.caller().participant.community {
        return Ok(());
    }
    let message = "belongs to another community; identities are asserted in one's own domain";
    Err(Error::field(Reason::ForeignDomain, field, message))
}

/// Feeds one patient, and queues the same for the parent.
pub(super) async fn feed(
    gateway: &Gateway,
    call: &Call,
    action: Action,
    request: pb::FeedPatientRequest,
) -> Result<pb::FeedPatientResponse> {
    gateway.serves(Capability::Identity)?;
    let mut patient = request
        .patient
        .clone()
        .ok_or_else(|| Error::missing("patient"))?;
    let id = identifier(patient.identifier.as_ref(), "patient.identifier")?;
    let permit = gateway.guard.authorize(call, action)?;
    own_domain(gateway, call, &id)?;
    patient.identifier = Some(identifier_message(&id));
    patient.home_community_id = call.caller().participant.community.to_string();
    patient.inactive = request.event() == pb::FeedEvent::Withdraw;
    let now = gateway.clock.now();
    let key = &request.idempotency_key;
    let idempotency = call.idempotency(&gateway.store, key, &request, now)?;
    let outbox = &gateway.federation.outbox;
    outbox.has_room()?;
    let forward = |changed: &[PatientIdentifier]| {
        let feed = pb::FeedPatientRequest {
            patient: Some(patient.clone()),
            event: request.event,
            event_time: request.event_time,
            ..pb::FeedPatientRequest::default()
        };
        let mut rows = outbox.notice(&id, Content::PatientFeed(feed));
        rows.extend(changes::revoke(gateway, changed));
        rows
    };
    let mut response = gateway
        .identity
        .feed(&permit, call, &id, &patient, idempotency, &forward)
        .await?;
    let state = if outbox.feeds() {
        pb::ForwardState::Queued
    } else {
        pb::ForwardState::NotNeeded
    };
    if let Ok(linkage) = response.linkage_id.parse() {
        let community = &call.caller().participant.community;
        response.linkage_id = gateway.identity.pseudonym(linkage, community)?;
    }
    response.parent = Some(pb::ParentForward {
        state: state.into(),
        ..Default::default()
    });
    Ok(response)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn assert(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::FeedPatientRequest,
) -> Answer<pb::FeedPatientResponse> {
    Box::pin(async move { feed(&gateway, &call, Action::AssertIdentity, request).await })
}

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn feed_patient(
        &self,
        request: Request<pb::FeedPatientRequest>,
    ) -> Result<Response<pb::FeedPatientResponse>, Status> {
        self.0
            .run(method!("FeedPatient"), Class::Identity, request, assert)
            .await
    }

    async fn query_identifiers(
        &self,
        request: Request<pb::QueryIdentifiersRequest>,
    ) -> Result<Response<pb::QueryIdentifiersResponse>, Status> {
        self.0
            .run(
                method!("QueryIdentifiers"),
                Class::Identity,
                request,
                query::query,
            )
            .await
    }

    async fn search_patients(
        &self,
        request: Request<pb::SearchPatientsRequest>,
    ) -> Result<Response<pb::SearchPatientsResponse>, Status> {
        self.0
            .run(
                method!("SearchPatients"),
                Class::Identity,
                request,
                query::search,
            )
            .await
    }

    async fn match_patient(
        &self,
        request: Request<pb::MatchPatientRequest>,
    ) -> Result<Response<pb::MatchPatientResponse>, Status> {
        self.0
            .run(
                method!("MatchPatient"),
                Class::Identity,
                request,
                query::matching,
            )
            .await
    }

    async fn get_patient(
        &self,
        request: Request<pb::GetPatientRequest>,
    ) -> Result<Response<pb::GetPatientResponse>, Status> {
        self.0
            .run(method!("GetPatient"), Class::Identity, request, query::get)
            .await
    }

    async fn list_review_tasks(
        &self,
        request: Request<pb::ListReviewTasksRequest>,
    ) -> Result<Response<pb::ListReviewTasksResponse>, Status> {
        self.0
            .run(
                method!("ListReviewTasks"),
                Class::Query,
                request,
                review::tasks,
            )
            .await
    }

    async fn merge_patients(
        &self,
        request: Request<pb::MergePatientsRequest>,
    ) -> Result<Response<pb::MergePatientsResponse>, Status> {
        self.0
            .run(
                method!("MergePatients"),
                Class::Identity,
                request,
                changes::merge,
            )
            .await
    }

    async fn unmerge_patients(
        &self,
        request: Request<pb::UnmergePatientsRequest>,
    ) -> Result<Response<pb::UnmergePatientsResponse>, Status> {
        self.0
            .run(
                method!("UnmergePatients"),
                Class::Identity,
                request,
                changes::unmerge,
            )
            .await
    }

    async fn link_patients(
        &self,
        request: Request<pb::LinkPatientsRequest>,
    ) -> Result<Response<pb::LinkPatientsResponse>, Status> {
        self.0
            .run(
                method!("LinkPatients"),
                Class::Identity,
                request,
                changes::link,
            )
            .await
    }

    async fn unlink_patients(
        &self,
        request: Request<pb::UnlinkPatientsRequest>,
    ) -> Result<Response<pb::UnlinkPatientsResponse>, Status> {
        self.0
            .run(
                method!("UnlinkPatients"),
                Class::Identity,
                request,
                changes::unlink,
            )
            .await
    }

    async fn split_person(
        &self,
        request: Request<pb::SplitPersonRequest>,
    ) -> Result<Response<pb::SplitPersonResponse>, Status> {
        self.0
            .run(
                method!("SplitPerson"),
                Class::Identity,
                request,
                changes::split,
            )
            .await
    }

    async fn check_duplicates(
        &self,
        request: Request<pb::CheckDuplicatesRequest>,
    ) -> Result<Response<pb::CheckDuplicatesResponse>, Status> {
        self.0
            .run(
                method!("CheckDuplicates"),
                Class::Identity,
                request,
                query::duplicates,
            )
            .await
    }

    async fn get_person_history(
        &self,
        request: Request<pb::GetPersonHistoryRequest>,
    ) -> Result<Response<pb::GetPersonHistoryResponse>, Status> {
        self.0
            .run(
                method!("GetPersonHistory"),
                Class::Query,
                request,
                query::history,
            )
            .await
    }

    type WatchIdentifierChangesStream = Replies<pb::WatchIdentifierChangesResponse>;

    async fn watch_identifier_changes(
        &self,
        request: Request<pb::WatchIdentifierChangesRequest>,
    ) -> Result<Response<Self::WatchIdentifierChangesStream>, Status> {
        let name = method!("WatchIdentifierChanges");
        self.0
            .stream(name, Class::Stream, request, watch::watch)
            .await
    }

    type LoadPatientsStream = Replies<pb::LoadPatientsResponse>;

    async fn load_patients(
        &self,
        request: Request<Streaming<pb::LoadPatientsRequest>>,
    ) -> Result<Response<Self::LoadPatientsStream>, Status> {
        self.0
            .stream(method!("LoadPatients"), Class::Stream, request, load::load)
            .await
    }

    async fn get_review_task(
        &self,
        request: Request<pb::GetReviewTaskRequest>,
    ) -> Result<Response<pb::GetReviewTaskResponse>, Status> {
        self.0
            .run(
                method!("GetReviewTask"),
                Class::Query,
                request,
                review::task,
            )
            .await
    }

    async fn decide_review_task(
        &self,
        request: Request<pb::DecideReviewTaskRequest>,
    ) -> Result<Response<pb::DecideReviewTaskResponse>, Status> {
        self.0
            .run(
                method!("DecideReviewTask"),
                Class::Query,
                request,
                review::decide,
            )
            .await
    }

    async fn undo_review_decision(
        &self,
        request: Request<pb::UndoReviewDecisionRequest>,
    ) -> Result<Response<pb::UndoReviewDecisionResponse>, Status> {
        self.0
            .run(
                method!("UndoReviewDecision"),
                Class::Query,
                request,
                review::undo,
            )
            .await
    }

    async fn assign_review_task(
        &self,
        request: Request<pb::AssignReviewTaskRequest>,
    ) -> Result<Response<pb::AssignReviewTaskResponse>, Status> {
        self.0
            .run(
                method!("AssignReviewTask"),
                Class::Query,
                request,
                review::assign,
            )
            .await
    }
}
