//! `renkei.documents.v1.DocumentService`: registry and repository of this community.

use std::sync::Arc;

use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as pb;
use crate::wire::pb::documents::document_service_server::DocumentService;

use super::door::{Answer, Class, Door, Replies};
use super::referrals;
use super::retrieve::retrieve;
use super::watch::watch;

/// A pause of the sender in a provide after which the submission is given up.
const IDLE: std::time::Duration = std::time::Duration::from_secs(10);

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.documents.v1.DocumentService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct DocumentSets(pub Door);

fn provide(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    messages: Streaming<pb::ProvideDocumentsRequest>,
) -> Answer<pb::ProvideDocumentsResponse> {
    Box::pin(async move {
        let provided = provided(&gateway, &call, messages).await;
        provided.map_err(Error::of_registry)
    })
}

async fn provided(
    gateway: &Gateway,
    call: &Call,
    mut messages: Streaming<pb::ProvideDocumentsRequest>,
) -> Result<pb::ProvideDocumentsResponse> {
    use pb::provide_documents_request::Part;
    gateway.serves(Capability::Repository)?;
    let permit = gateway.guard.authorize(call, Action::SubmitDocuments)?;
    let Some(Part::Start(start)) = next(&mut messages).await? else {
        return Err(Error::field(
            Reason::MissingField,
            "start",
            "must be the first message",
        ));
    };
    let submission = start
        .submission
        .clone()
        .ok_or_else(|| Error::missing("submission"))?;
    let mut provision = gateway.documents.begin(submission)?;
    let patient = provision.patient().clone();
    known(gateway, call, &patient)?;
    if start.validate_only {
        return Ok(pb::ProvideDocumentsResponse {
            result: Some(provision.judge(call)?),
        });
    }
    while let Some(part) = next(&mut messages).await? {
        match part {
            Part::Document(header) => provision.document(&header.entry_uuid).await?,
            Part::Chunk(bytes) => provision.chunk(bytes).await?,
            Part::Start(_) => {
                return Err(Error::field(
                    Reason::InvalidField,
                    "start",
                    "comes only once",
                ));
            }
        }
    }
    let now = gateway.clock.now();
    let idempotency = call.idempotency(&gateway.store, &start.idempotency_key, &start, now)?;
    let attach = super::registry::notice(gateway, &patient)?;
    let result = provision
        .finish(&permit, call, idempotency, &attach)
        .await?;
    Ok(pb::ProvideDocumentsResponse {
        result: Some(result),
    })
}

/// The next part of a submission; the sender must keep going (promise 2 of the class: progress).
async fn next(
    messages: &mut Streaming<pb::ProvideDocumentsRequest>,
) -> Result<Option<pb::provide_documents_request::Part>> {
    let message = tokio::time::timeout(IDLE, messages.next())
        .await
        .map_err(|_| {
            Error::new(
                Reason::DeadlineExceeded,
                "nothing came for too long; the submission is given up",
            )
        })?;
    match message {
        None => Ok(None),
        Some(Ok(message)) => message.part.map(Some).ok_or_else(|| Error::missing("part")),
        Some(Err(status)) if status.code() == tonic::Code::OutOfRange => Err(Error::new(
            Reason::MessageTooLarge,
            "a message is larger than is taken",
        )),
        Some(Err(status)) => {
            Err(Error::new(Reason::DeadlineExceeded, "the submission broke off").caused_by(status))
        }
    }
}

/// The submission's patient must be this community's and known (ITI-42 §3.42.4.1.3.4).
pub(super) fn known(gateway: &Gateway, call: &Call, patient: &PatientIdentifier) -> Result<()> {
    super::identity::own_domain(gateway, call, patient)?;
    let tag = gateway.store.keys().patient_tag(patient);
    call.note(|record| record.patient = Some(tag.to_vec()));
    if gateway.identity.record(patient)?.is_none() {
        let field = "submission_set.patient_id";
        let message = "the patient is not known here; feed the patient first";
        return Err(Error::field(Reason::UnknownPatient, field, message));
    }
    Ok(())
}

fn query(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::QueryRegistryRequest,
) -> Answer<pb::QueryRegistryResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Registry)?;
        let answer = gateway.documents.query(&gateway.guard, &call, &request);
        answer.map_err(Error::of_registry)
    })
}

#[tonic::async_trait]
impl DocumentService for DocumentSets {
    async fn provide_documents(
        &self,
        request: Request<Streaming<pb::ProvideDocumentsRequest>>,
    ) -> Result<Response<pb::ProvideDocumentsResponse>, Status> {
        self.0
            .run(method!("ProvideDocuments"), Class::Stream, request, provide)
            .await
    }

    async fn query_registry(
        &self,
        request: Request<pb::QueryRegistryRequest>,
    ) -> Result<Response<pb::QueryRegistryResponse>, Status> {
        self.0
            .run(method!("QueryRegistry"), Class::Query, request, query)
            .await
    }

    type RetrieveDocumentsStream = Replies<pb::RetrieveDocumentsResponse>;

    async fn retrieve_documents(
        &self,
        request: Request<pb::RetrieveDocumentsRequest>,
    ) -> Result<Response<Self::RetrieveDocumentsStream>, Status> {
        self.0
            .stream(
                method!("RetrieveDocuments"),
                Class::Stream,
                request,
                retrieve,
            )
            .await
    }

    async fn register_documents(
        &self,
        request: Request<pb::RegisterDocumentsRequest>,
    ) -> Result<Response<pb::RegisterDocumentsResponse>, Status> {
        let handler = super::registry::register;
        self.0
            .run(method!("RegisterDocuments"), Class::Query, request, handler)
            .await
    }

    async fn register_on_demand_document(
        &self,
        request: Request<pb::RegisterOnDemandDocumentRequest>,
    ) -> Result<Response<pb::RegisterOnDemandDocumentResponse>, Status> {
        let handler = super::registry::register_on_demand;
        self.0
            .run(
                method!("RegisterOnDemandDocument"),
                Class::Query,
                request,
                handler,
            )
            .await
    }

    async fn update_metadata(
        &self,
        request: Request<pb::UpdateMetadataRequest>,
    ) -> Result<Response<pb::UpdateMetadataResponse>, Status> {
        let handler = super::registry::update;
        self.0
            .run(method!("UpdateMetadata"), Class::Query, request, handler)
            .await
    }

    async fn remove_metadata(
        &self,
        request: Request<pb::RemoveMetadataRequest>,
    ) -> Result<Response<pb::RemoveMetadataResponse>, Status> {
        let handler = super::registry::remove_metadata;
        self.0
            .run(method!("RemoveMetadata"), Class::Query, request, handler)
            .await
    }

    async fn remove_documents(
        &self,
        request: Request<pb::RemoveDocumentsRequest>,
    ) -> Result<Response<pb::RemoveDocumentsResponse>, Status> {
        let handler = super::registry::remove_documents;
        self.0
            .run(method!("RemoveDocuments"), Class::Query, request, handler)
            .await
    }

    type WatchDocumentsStream = Replies<pb::WatchDocumentsResponse>;

    async fn watch_documents(
        &self,
        request: Request<pb::WatchDocumentsRequest>,
    ) -> Result<Response<Self::WatchDocumentsStream>, Status> {
        self.0
            .stream_judged(method!("WatchDocuments"), Class::Stream, request, watch)
            .await
    }

    async fn send_referral(
        &self,
        request: Request<pb::SendReferralRequest>,
    ) -> Result<Response<pb::SendReferralResponse>, Status> {
        self.0
            .run(
                method!("SendReferral"),
                Class::Query,
                request,
                referrals::send,
            )
            .await
    }

    async fn list_referrals(
        &self,
        request: Request<pb::ListReferralsRequest>,
    ) -> Result<Response<pb::ListReferralsResponse>, Status> {
        self.0
            .run(
                method!("ListReferrals"),
                Class::Query,
                request,
                referrals::list,
            )
            .await
    }

    async fn recall_referral(
        &self,
        request: Request<pb::RecallReferralRequest>,
    ) -> Result<Response<pb::RecallReferralResponse>, Status> {
        self.0
            .run(
                method!("RecallReferral"),
                Class::Query,
                request,
                referrals::recall,
            )
            .await
    }
}
