//! `renkei.identity.v1.IdentityService`: PIX, PDQ and the steward's queue.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::consent::About;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{identifier, identifier_message};
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::federation::notice::Content;
use crate::wire::pb::identity as pb;
use crate::wire::pb::identity::identity_service_server::IdentityService;

use super::door::{Class, Door, Replies};
use super::shown::{MAX_SHOWN, findable, show_one, shown};

/// Review tasks on a page at most.
const MAX_TASKS: usize = 200;

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
    let forward = || {
        let feed = pb::FeedPatientRequest {
            patient: Some(patient.clone()),
            event: request.event,
            event_time: request.event_time,
            ..pb::FeedPatientRequest::default()
        };
        outbox.notice(&id, Content::PatientFeed(feed))
    };
    let mut response = gateway
        .identity
        .feed(&permit, call, &id, &patient, idempotency, &forward)
        .await?;
    let state = if outbox.has_parent() {
        pb::ForwardState::Queued
    } else {
        pb::ForwardState::NotNeeded
    };
    response.parent = Some(pb::ParentForward {
        state: state.into(),
        ..Default::default()
    });
    Ok(response)
}

async fn query(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::QueryIdentifiersRequest,
) -> Result<pb::QueryIdentifiersResponse> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway.guard.authorize(&call, Action::QueryIdentifiers)?;
    permit.require(&[Action::QueryIdentifiers])?;
    use pb::query_identifiers_request::Subject;
    let linkage = match request
        .subject
        .as_ref()
        .ok_or_else(|| Error::missing("subject"))?
    {
        Subject::Identifier(id) => {
            let id = identifier(Some(id), "identifier")?;
            if gateway.directory.snapshot().owner(&id.authority).is_none() {
                let field = "identifier.assigning_authority";
                let message = "no community owns this assigning authority";
                return Err(Error::field(Reason::UnknownAuthority, field, message));
            }
            let tag = gateway.store.keys().patient_tag(&id);
            call.note(|record| record.patient = Some(tag.to_vec()));
            gateway.identity.linkage(&id).ok_or_else(unknown)?
        }
        Subject::LinkageId(id) => linkage_id(id)?,
    };
    for (index, domain) in request.target_domains.iter().enumerate() {
        domain
            .parse::<crate::types::AssigningAuthority>()
            .map_err(|error| {
                let field = format!("target_domains[{index}]");
                Error::field(Reason::InvalidOid, field, error.to_string())
            })?;
    }
    let known = gateway.identity.identifiers(linkage);
    let ids: Vec<PatientIdentifier> = known.iter().map(|(id, _)| id.clone()).collect();
    if known.is_empty() || !findable(&gateway, &call, Action::QueryIdentifiers, &ids)? {
        return Err(unknown());
    }
    show_one(&gateway, &call, linkage, &ids)?;
    let wanted = |authority: &str| {
        request.target_domains.is_empty()
            || request
                .target_domains
                .iter()
                .any(|domain| domain == authority)
    };
    let mut response = pb::QueryIdentifiersResponse {
        linkage_id: linkage.to_string(),
        ..pb::QueryIdentifiersResponse::default()
    };
    for (id, community) in known.iter().filter(|(id, _)| wanted(id.authority.as_str())) {
        response.identifiers.push(identifier_message(id));
        response.home_community_ids.push(community.to_string());
    }
    call.note(|record| record.items = count(response.identifiers.len()));
    Ok(response)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn unknown() -> Error {
    Error::field(
        Reason::UnknownPatient,
        "identifier",
        "the patient is not known here",
    )
}

fn linkage_id(text: &str) -> Result<LinkageId> {
    text.parse()
        .map_err(|error: crate::types::InvalidLinkageId| {
            Error::field(Reason::InvalidField, "linkage_id", error.to_string())
        })
}

async fn search(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SearchPatientsRequest,
) -> Result<pb::SearchPatientsResponse> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
    permit.require(&[Action::SearchPatients])?;
    if !request.page_token.is_empty() {
        let message = "is not a token of this query: searches answer in one page";
        return Err(Error::field(Reason::InvalidToken, "page_token", message));
    }
    let criteria = request.criteria.ok_or_else(|| Error::missing("criteria"))?;
    let size = match request.page_size as usize {
        0 => MAX_SHOWN,
        size => size.min(MAX_SHOWN),
    };
    let mut matches = gateway.identity.search(&demographics(criteria))?;
    matches.retain(|found| found.score >= request.min_score);
    let mut matches = shown(&gateway, &call, matches)?;
    let total_size = matches.len() as u64;
    matches.truncate(size);
    call.note(|record| record.items = count(matches.len()));
    Ok(pb::SearchPatientsResponse {
        matches,
        next_page_token: String::new(),
        total_size,
    })
}

/// Search criteria as the demographics they describe.
fn demographics(criteria: pb::PatientCriteria) -> pb::Demographics {
    let name = pb::PersonName {
        family: criteria.family,
        given: (!criteria.given.is_empty())
            .then_some(criteria.given)
            .into_iter()
            .collect(),
        text: criteria.name_text,
        ..pb::PersonName::default()
    };
    let named = !(name.family.is_empty() && name.given.is_empty() && name.text.is_empty());
    let telecom = pb::Telecom {
        value: criteria.telecom,
        ..pb::Telecom::default()
    };
    pb::Demographics {
        names: named.then_some(name).into_iter().collect(),
        birth_date: criteria.birth_date,
        administrative_gender: criteria.administrative_gender,
        addresses: criteria.address.into_iter().collect(),
        telecoms: (!telecom.value.is_empty())
            .then_some(telecom)
            .into_iter()
            .collect(),
        coverages: criteria.coverage.into_iter().collect(),
        ..pb::Demographics::default()
    }
}

async fn matching(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::MatchPatientRequest,
) -> Result<pb::MatchPatientResponse> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
    permit.require(&[Action::SearchPatients])?;
    let patient = request.patient.ok_or_else(|| Error::missing("patient"))?;
    let wanted = patient
        .demographics
        .ok_or_else(|| Error::missing("patient.demographics"))?;
    let mut candidates = gateway.identity.search(&wanted)?;
    if request.only_certain_matches {
        candidates.retain(|found| found.grade() == pb::MatchGrade::Certain);
    }
    let size = match request.count as usize {
        0 => MAX_SHOWN,
        size => size.min(MAX_SHOWN),
    };
    let mut candidates = shown(&gateway, &call, candidates)?;
    candidates.truncate(size);
    call.note(|record| record.items = count(candidates.len()));
    Ok(pb::MatchPatientResponse {
        candidates,
        attributes_requested: Vec::new(),
    })
}

async fn get(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetPatientRequest,
) -> Result<pb::GetPatientResponse> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway
        .guard
        .authorize_for(&call, Action::SearchPatients, About::default())?;
    permit.require(&[Action::SearchPatients])?;
    use pb::get_patient_request::Subject;
    let (linkage, record) = match request
        .subject
        .as_ref()
        .ok_or_else(|| Error::missing("subject"))?
    {
        Subject::Identifier(id) => {
            let id = identifier(Some(id), "identifier")?;
            let tag = gateway.store.keys().patient_tag(&id);
            call.note(|record| record.patient = Some(tag.to_vec()));
            let linkage = gateway.identity.linkage(&id).ok_or_else(unknown)?;
            (linkage, gateway.identity.record(&id)?)
        }
        Subject::LinkageId(id) => (linkage_id(id)?, None),
    };
    let person = gateway.identity.person(linkage)?.ok_or_else(unknown)?;
    let known = gateway.identity.identifiers(linkage);
    let ids: Vec<PatientIdentifier> = known.into_iter().map(|(id, _)| id).collect();
    if !findable(&gateway, &call, Action::SearchPatients, &ids)? {
        return Err(unknown());
    }
    show_one(&gateway, &call, linkage, &ids)?;
    call.note(|record| record.items = count(person.records.len()));
    Ok(pb::GetPatientResponse {
        person: Some(person),
        record,
    })
}

async fn tasks(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListReviewTasksRequest,
) -> Result<pb::ListReviewTasksResponse> {
    gateway.serves(Capability::Identity)?;
    let permit = gateway.guard.authorize(&call, Action::Steward)?;
    permit.require(&[Action::Steward])?;
    let size = match request.page_size as usize {
        0 => MAX_TASKS,
        size => size.min(MAX_TASKS),
    };
    let tasks = gateway.identity.review_tasks(size)?;
    call.note(|record| record.items = count(tasks.len()));
    let total_size = tasks.len() as u64;
    Ok(pb::ListReviewTasksResponse {
        tasks,
        total_size,
        ..Default::default()
    })
}

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn feed_patient(
        &self,
        request: Request<pb::FeedPatientRequest>,
    ) -> Result<Response<pb::FeedPatientResponse>, Status> {
        let handler = async |gateway: Arc<Gateway>, call: Arc<Call>, request| {
            feed(&gateway, &call, Action::AssertIdentity, request).await
        };
        self.0
            .run(method!("FeedPatient"), Class::Identity, request, handler)
            .await
    }

    async fn query_identifiers(
        &self,
        request: Request<pb::QueryIdentifiersRequest>,
    ) -> Result<Response<pb::QueryIdentifiersResponse>, Status> {
        self.0
            .run(method!("QueryIdentifiers"), Class::Identity, request, query)
            .await
    }

    async fn search_patients(
        &self,
        request: Request<pb::SearchPatientsRequest>,
    ) -> Result<Response<pb::SearchPatientsResponse>, Status> {
        self.0
            .run(method!("SearchPatients"), Class::Identity, request, search)
            .await
    }

    async fn match_patient(
        &self,
        request: Request<pb::MatchPatientRequest>,
    ) -> Result<Response<pb::MatchPatientResponse>, Status> {
        self.0
            .run(method!("MatchPatient"), Class::Identity, request, matching)
            .await
    }

    async fn get_patient(
        &self,
        request: Request<pb::GetPatientRequest>,
    ) -> Result<Response<pb::GetPatientResponse>, Status> {
        self.0
            .run(method!("GetPatient"), Class::Identity, request, get)
            .await
    }

    async fn list_review_tasks(
        &self,
        request: Request<pb::ListReviewTasksRequest>,
    ) -> Result<Response<pb::ListReviewTasksResponse>, Status> {
        self.0
            .run(method!("ListReviewTasks"), Class::Query, request, tasks)
            .await
    }

    async fn merge_patients(
        &self,
        request: Request<pb::MergePatientsRequest>,
    ) -> Result<Response<pb::MergePatientsResponse>, Status> {
        self.0
            .not_implemented(method!("MergePatients"), request)
            .await
    }

    async fn unmerge_patients(
        &self,
        request: Request<pb::UnmergePatientsRequest>,
    ) -> Result<Response<pb::UnmergePatientsResponse>, Status> {
        self.0
            .not_implemented(method!("UnmergePatients"), request)
            .await
    }

    async fn link_patients(
        &self,
        request: Request<pb::LinkPatientsRequest>,
    ) -> Result<Response<pb::LinkPatientsResponse>, Status> {
        self.0
            .not_implemented(method!("LinkPatients"), request)
            .await
    }

    async fn unlink_patients(
        &self,
        request: Request<pb::UnlinkPatientsRequest>,
    ) -> Result<Response<pb::UnlinkPatientsResponse>, Status> {
        self.0
            .not_implemented(method!("UnlinkPatients"), request)
            .await
    }

    async fn split_person(
        &self,
        request: Request<pb::SplitPersonRequest>,
    ) -> Result<Response<pb::SplitPersonResponse>, Status> {
        self.0
            .not_implemented(method!("SplitPerson"), request)
            .await
    }

    async fn check_duplicates(
        &self,
        request: Request<pb::CheckDuplicatesRequest>,
    ) -> Result<Response<pb::CheckDuplicatesResponse>, Status> {
        self.0
            .not_implemented(method!("CheckDuplicates"), request)
            .await
    }

    async fn get_person_history(
        &self,
        request: Request<pb::GetPersonHistoryRequest>,
    ) -> Result<Response<pb::GetPersonHistoryResponse>, Status> {
        self.0
            .not_implemented(method!("GetPersonHistory"), request)
            .await
    }

    type WatchIdentifierChangesStream = Replies<pb::WatchIdentifierChangesResponse>;

    async fn watch_identifier_changes(
        &self,
        request: Request<pb::WatchIdentifierChangesRequest>,
    ) -> Result<Response<Self::WatchIdentifierChangesStream>, Status> {
        self.0
            .not_implemented(method!("WatchIdentifierChanges"), request)
            .await
    }

    type LoadPatientsStream = Replies<pb::LoadPatientsResponse>;

    async fn load_patients(
        &self,
        request: Request<Streaming<pb::LoadPatientsRequest>>,
    ) -> Result<Response<Self::LoadPatientsStream>, Status> {
        self.0
            .not_implemented(method!("LoadPatients"), request)
            .await
    }

    async fn get_review_task(
        &self,
        request: Request<pb::GetReviewTaskRequest>,
    ) -> Result<Response<pb::GetReviewTaskResponse>, Status> {
        self.0
            .not_implemented(method!("GetReviewTask"), request)
            .await
    }

    async fn decide_review_task(
        &self,
        request: Request<pb::DecideReviewTaskRequest>,
    ) -> Result<Response<pb::DecideReviewTaskResponse>, Status> {
        self.0
            .not_implemented(method!("DecideReviewTask"), request)
            .await
    }

    async fn undo_review_decision(
        &self,
        request: Request<pb::UndoReviewDecisionRequest>,
    ) -> Result<Response<pb::UndoReviewDecisionResponse>, Status> {
        self.0
            .not_implemented(method!("UndoReviewDecision"), request)
            .await
    }

    async fn assign_review_task(
        &self,
        request: Request<pb::AssignReviewTaskRequest>,
    ) -> Result<Response<pb::AssignReviewTaskResponse>, Status> {
        self.0
            .not_implemented(method!("AssignReviewTask"), request)
            .await
    }
}
