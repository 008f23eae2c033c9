//! `renkei.documents.v1.DocumentService`: registry and repository of this community.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use crate::access::{Action, Call, Denial, Permit};
use crate::config::Capability;
use crate::consent::About;
use crate::documents::Found;
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::{identifier, identifier_message};
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as pb;
use crate::wire::pb::documents::document_service_server::DocumentService;
use crate::wire::pb::federation as fpb;

use super::door::{Class, Door, Replies};

/// Documents in one retrieve.
const MAX_DOCUMENTS: usize = 32;
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

async fn provide(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    mut messages: Streaming<pb::ProvideDocumentsRequest>,
) -> Result<pb::ProvideDocumentsResponse> {
    use pb::provide_documents_request::Part;
    gateway.serves(Capability::Repository)?;
    let permit = gateway.guard.authorize(&call, Action::SubmitDocuments)?;
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
    known(&gateway, &call, &patient)?;
    if start.validate_only {
        return Ok(pb::ProvideDocumentsResponse {
            result: Some(pb::RegistrationResult::default()),
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
    let notice = fpb::HoldingNotice {
        patient_id: Some(identifier_message(&patient)),
        has_documents: true,
        has_summary_items: true,
        changed: Some(crate::wire::timestamp(now)),
        sequence: 0,
    };
    let attach = gateway.federation.outbox.holding(&patient, notice);
    let result = provision
        .finish(&permit, &call, idempotency, attach)
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
fn known(gateway: &Gateway, call: &Call, patient: &PatientIdentifier) -> Result<()> {
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

async fn query(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::QueryRegistryRequest,
) -> Result<pb::QueryRegistryResponse> {
    use pb::stored_query::Query;
    gateway.serves(Capability::Registry)?;
    let query = request
        .query
        .as_ref()
        .and_then(|query| query.query.as_ref());
    let (objects, sequence) = match query.ok_or_else(|| Error::missing("query"))? {
        Query::FindDocuments(find) => return find_documents(&gateway, &call, &request, find),
        Query::GetDocuments(get) => get_documents(&gateway, &call, get)?,
        _ => {
            let message = "this version answers FindDocuments and GetDocuments";
            return Err(Error::field(Reason::NotImplemented, "query", message));
        }
    };
    call.note(|record| record.items = u32::try_from(objects.entries.len()).unwrap_or(u32::MAX));
    Ok(pb::QueryRegistryResponse {
        objects: Some(objects),
        sequence,
        ..Default::default()
    })
}

fn find_documents(
    gateway: &Gateway,
    call: &Call,
    request: &pb::QueryRegistryRequest,
    find: &pb::FindDocumentsQuery,
) -> Result<pb::QueryRegistryResponse> {
    let patient = identifier(find.patient_id.as_ref(), "query.find_documents.patient_id")?;
    let tag = gateway.store.keys().patient_tag(&patient);
    call.note(|record| record.patient = Some(tag.to_vec()));
    if find.exclude.is_some() || request.sort_key != 0 {
        let message = "exclusion and sorting are not done by this version";
        return Err(Error::field(Reason::NotImplemented, "query", message));
    }
    let about = About {
        patients: std::slice::from_ref(&patient),
        ..About::default()
    };
    let permit = gateway
        .guard
        .authorize_for(call, Action::FindDocuments, about)?;
    // An unknown patient is not told from one who refused (bars Z-02, Z-10).
    if gateway.identity.record(&patient)?.is_none() {
        return Err(call.refuse(Denial::UnknownPatient));
    }
    let filter = find.filter.clone().unwrap_or_default();
    let page = gateway.documents.find(
        &permit,
        &patient,
        &filter,
        request.page_size as usize,
        &request.page_token,
    )?;
    call.note(|record| record.items = u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
    Ok(pb::QueryRegistryResponse {
        objects: Some(returned(page.entries, request.return_type())),
        next_page_token: page.next,
        sequence: page.sequence,
        ..Default::default()
    })
}

/// Entries in the form asked for (ITI-18 returnType).
fn returned(entries: Vec<pb::DocumentEntry>, form: pb::ReturnType) -> pb::RegistryObjects {
    let mut objects = pb::RegistryObjects::default();
    if form == pb::ReturnType::ObjectRef {
        objects.object_refs = entries
            .into_iter()
            .map(|entry| pb::ObjectRef {
                entry_uuid: entry.entry_uuid,
                home_community_id: entry.home_community_id,
            })
            .collect();
    } else {
        objects.entries = entries;
    }
    objects
}

fn get_documents(
    gateway: &Gateway,
    call: &Call,
    get: &pb::GetDocumentsQuery,
) -> Result<(pb::RegistryObjects, u64)> {
    let selector = get
        .documents
        .as_ref()
        .ok_or_else(|| Error::missing("query.documents"))?;
    let named = selector.entry_uuids.len() + selector.unique_ids.len();
    if named == 0 || named > MAX_DOCUMENTS || !selector.logical_ids.is_empty() {
        let message = format!("must name 1 to {MAX_DOCUMENTS} documents by entryUUID or uniqueId");
        return Err(Error::field(
            Reason::InvalidField,
            "query.documents",
            message,
        ));
    }
    let mut wanted = Vec::with_capacity(named);
    for uuid in &selector.entry_uuids {
        let uuid = parse("query.documents.entry_uuids", uuid)?;
        wanted.push(gateway.documents.by_uuid(&uuid)?);
    }
    for id in &selector.unique_ids {
        let id = parse("query.documents.unique_ids", id)?;
        wanted.push(gateway.documents.by_unique_id(&id)?);
    }
    let mut objects = pb::RegistryObjects::default();
    let mut sequence = 0;
    let mut patient = None;
    for found in wanted {
        if let Some((found, _)) = readable(gateway, call, found, None)? {
            one_patient(&mut patient, &found).map_err(|error| error.within("query.documents"))?;
            sequence = found.sequence.max(sequence);
            objects.entries.push(found.entry);
        }
    }
    // Not the patient of a document that was asked for and is not shown.
    if let Some(patient) = patient {
        let tag = gateway.store.keys().patient_tag(&patient).to_vec();
        call.note(|record| record.patient = Some(tag));
    }
    Ok((objects, sequence))
}

/// The audit of a call names one patient, so a call discloses documents of one.
fn one_patient(patient: &mut Option<PatientIdentifier>, found: &Found) -> Result<()> {
    let named = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    if *patient.get_or_insert_with(|| named.clone()) == named {
        return Ok(());
    }
    let message = "documents of several patients need a call each";
    Err(Error::new(Reason::InvalidField, message))
}

fn parse<T>(field: &'static str, text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidField, field, error.to_string()))
}

/// A document with the permit to read it; `None` if it is not there or not for this caller, which
/// are not told apart (INV-3).
fn readable(
    gateway: &Gateway,
    call: &Call,
    found: Option<Found>,
    grant: Option<&crate::access::Grant>,
) -> Result<Option<(Found, Permit)>> {
    let Some(found) = found else { return Ok(None) };
    let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    let tag = gateway.store.keys().patient_tag(&patient);
    call.note(|record| {
        record.patient = Some(tag.to_vec());
        record.documents.push(found.entry.entry_uuid.clone());
    });
    let facts = found.facts();
    let about = About {
        patients: std::slice::from_ref(&patient),
        grant,
        document: Some(&facts),
        ..About::default()
    };
    match gateway
        .guard
        .authorize_for(call, Action::ReadDocument, about)
    {
        Ok(permit) => Ok(Some((found, permit))),
        Err(error) if error.reason() == Reason::NotPermitted => Ok(None),
        Err(error) => Err(error),
    }
}

/// Judges every document of a retrieve, then streams them one after the other, one open at a time.
/// With `patient`, they must be that patient's.
pub(super) fn retrieve_local<T: Send + 'static>(
    gateway: &Arc<Gateway>,
    call: &Call,
    documents: &[pb::DocumentRequest],
    patient: Option<&PatientIdentifier>,
    wrap: fn(pb::RetrievedPart) -> T,
) -> Result<Stream<T>> {
    gateway.serves(Capability::Repository)?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let message = format!("must name between 1 and {MAX_DOCUMENTS} documents");
        return Err(Error::field(Reason::InvalidField, "documents", message));
    }
    let slot = Arc::clone(&gateway.streams).try_acquire_owned();
    let slot = slot.map_err(|_| Error::new(Reason::Overloaded, "too many documents at once"))?;
    let mut judged: Vec<(Found, Permit)> = Vec::new();
    let mut disclosed = None;
    for (index, wanted) in documents.iter().enumerate() {
        let within = |error: Error| error.within(&format!("documents[{index}].document"));
        let (found, permit) = judge(gateway, call, wanted).map_err(within)?;
        one_patient(&mut disclosed, &found).map_err(within)?;
        if patient.is_some() && patient != disclosed.as_ref() {
            return Err(within(unknown_document()));
        }
        judged.push((found, permit));
    }
    call.note(|record| record.items = u32::try_from(judged.len()).unwrap_or(u32::MAX));
    let (sender, receiver) = mpsc::channel(4);
    let serving = Arc::clone(gateway);
    gateway.tasks.spawn(async move {
        let _slot = slot;
        let idle = serving.federation.stream_idle;
        for (index, (found, permit)) in judged.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let mut parts = match serving.documents.stream(permit, found, index) {
                Ok(parts) => parts,
                Err(error) => {
                    let told = sender.send(Err(error)).await.is_ok();
                    tracing::error!(told, "a document could not be opened");
                    return;
                }
            };
            while let Some(part) = parts.recv().await {
                let stop = part.is_err();
                // A reader who takes nothing for too long is gone.
                let sent = tokio::time::timeout(idle, sender.send(part.map(wrap))).await;
                if stop || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        }
    });
    Ok(Stream { receiver, asked: 0 })
}

fn unknown_document() -> Error {
    let message = "no such document, or none that may be read";
    Error::field(Reason::UnknownDocument, "document_unique_id", message)
}

fn judge(gateway: &Gateway, call: &Call, wanted: &pb::DocumentRequest) -> Result<(Found, Permit)> {
    let document = wanted.document.as_ref();
    let document = document.ok_or_else(|| Error::missing("document_unique_id"))?;
    if !document.home_community_id.is_empty() {
        let home: crate::types::HomeCommunityId =
            parse("home_community_id", &document.home_community_id)?;
        if home != gateway.home {
            let message = "is another community's; ask the InitiatingGatewayService";
            return Err(Error::field(
                Reason::UnknownCommunity,
                "home_community_id",
                message,
            ));
        }
    }
    let repository: crate::types::RepositoryUniqueId =
        parse("repository_unique_id", &document.repository_unique_id)?;
    if Some(&repository) != gateway.documents.repository() {
        let message = "is not a repository of this community";
        return Err(Error::field(
            Reason::UnknownRepository,
            "repository_unique_id",
            message,
        ));
    }
    if wanted.range.is_some() {
        let message = "ranges are not served by this version";
        return Err(Error::field(Reason::NotImplemented, "range", message));
    }
    let id = parse("document_unique_id", &document.document_unique_id)?;
    let found = gateway.documents.by_unique_id(&id)?;
    readable(gateway, call, found, None)?.ok_or_else(unknown_document)
}

async fn retrieve(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RetrieveDocumentsRequest,
) -> Result<Stream<pb::RetrieveDocumentsResponse>> {
    let wrap = |part| pb::RetrieveDocumentsResponse { part: Some(part) };
    retrieve_local(&gateway, &call, &request.documents, None, wrap)
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
        self.0
            .not_implemented(method!("RegisterDocuments"), request)
            .await
    }

    async fn register_on_demand_document(
        &self,
        request: Request<pb::RegisterOnDemandDocumentRequest>,
    ) -> Result<Response<pb::RegisterOnDemandDocumentResponse>, Status> {
        self.0
            .not_implemented(method!("RegisterOnDemandDocument"), request)
            .await
    }

    async fn update_metadata(
        &self,
        request: Request<pb::UpdateMetadataRequest>,
    ) -> Result<Response<pb::UpdateMetadataResponse>, Status> {
        self.0
            .not_implemented(method!("UpdateMetadata"), request)
            .await
    }

    async fn remove_metadata(
        &self,
        request: Request<pb::RemoveMetadataRequest>,
    ) -> Result<Response<pb::RemoveMetadataResponse>, Status> {
        self.0
            .not_implemented(method!("RemoveMetadata"), request)
            .await
    }

    async fn remove_documents(
        &self,
        request: Request<pb::RemoveDocumentsRequest>,
    ) -> Result<Response<pb::RemoveDocumentsResponse>, Status> {
        self.0
            .not_implemented(method!("RemoveDocuments"), request)
            .await
    }

    type WatchDocumentsStream = Replies<pb::WatchDocumentsResponse>;

    async fn watch_documents(
        &self,
        request: Request<pb::WatchDocumentsRequest>,
    ) -> Result<Response<Self::WatchDocumentsStream>, Status> {
        self.0
            .not_implemented(method!("WatchDocuments"), request)
            .await
    }

    async fn send_referral(
        &self,
        request: Request<pb::SendReferralRequest>,
    ) -> Result<Response<pb::SendReferralResponse>, Status> {
        self.0
            .not_implemented(method!("SendReferral"), request)
            .await
    }

    async fn list_referrals(
        &self,
        request: Request<pb::ListReferralsRequest>,
    ) -> Result<Response<pb::ListReferralsResponse>, Status> {
        self.0
            .not_implemented(method!("ListReferrals"), request)
            .await
    }

    async fn recall_referral(
        &self,
        request: Request<pb::RecallReferralRequest>,
    ) -> Result<Response<pb::RecallReferralResponse>, Status> {
        self.0
            .not_implemented(method!("RecallReferral"), request)
            .await
    }
}
