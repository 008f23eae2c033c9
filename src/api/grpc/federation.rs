//! `renkei.federation.v1`: asking the other communities for a caller, and answering them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::access::{Action, Call, Denial, Grant};
use crate::config::Capability;
use crate::consent::About;
use crate::emergency::asked_patients;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::federation::{Stream, in_messages};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_server::InitiatingGatewayService;
use crate::wire::pb::federation::responding_gateway_service_server::RespondingGatewayService;

use super::discover;
use super::door::{Answer, Class, Door, Replies};
use super::holdings;
use super::passes::{passes, with_pass};
use super::retrieve::retrieve_local;
use super::watch;

/// Notices in one message.
const MAX_NOTICES: usize = 1_000;
/// Entries of one answer, whatever is asked.
const MAX_ROWS: u32 = 1_000;

macro_rules! initiating {
    ($name:literal) => {
        concat!("renkei.federation.v1.InitiatingGatewayService/", $name)
    };
}

macro_rules! responding {
    ($name:literal) => {
        concat!("renkei.federation.v1.RespondingGatewayService/", $name)
    };
}

/// The initiating gateway.
#[derive(Clone, Debug)]
pub(super) struct Initiating(pub Door);

/// The responding gateway.
#[derive(Clone, Debug)]
pub(super) struct Responding(pub Door);

/// Role, purpose and relation are judged here too, so that a caller who may not ask at all does
/// not make other communities work; their consents are theirs to judge.
fn find(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::InitiatingGatewayServiceFindDocumentsRequest,
) -> Answer<Stream<pb::InitiatingGatewayServiceFindDocumentsResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        // May the caller ask at all? Before anything says whether the patient is known (INV-3).
        authorize_asking(&gateway, &call, Action::FindDocuments, &[])?;
        let query = request
            .query
            .as_ref()
            .and_then(|query| query.query.as_ref());
        let patient = match query {
            Some(dpb::stored_query::Query::FindDocuments(find)) => find.patient_id.as_ref(),
            _ => None,
        };
        let federation = &gateway.federation;
        let patients = if federation.parent.is_none() {
            federation
                .patients(&call, &request.linkage_id, patient)
                .map_err(as_refused)?
        } else if federation.direct.is_some() && patient.is_some() {
            // What was refused here needs no hub to be.
            vec![identifier(patient, "query.find_documents.patient_id")?]
        } else {
            Vec::new()
        };
        about(&gateway, &call, &patients);
        authorize_asking(&gateway, &call, Action::FindDocuments, &patients)?;
        let stream = gateway.federation.find_documents(&call, request).await?;
        call.note(|record| record.regions = Some((stream.asked, 0)));
        Ok(stream)
    })
}

/// Where clinical data is asked for, an unknown patient is not told from a refusal (INV-3).
pub(super) fn as_refused(error: Error) -> Error {
    match error.reason() {
        Reason::UnknownPatient => Error::not_permitted(),
        _ => error,
    }
}

/// The asking side's decision: what this node knows of the patient's wishes counts, what it does
/// not know is for the disclosing side to say.
pub(super) fn authorize_asking(
    gateway: &Gateway,
    call: &Call,
    action: Action,
    patients: &[PatientIdentifier],
) -> Result<()> {
    let about = About {
        patients,
        relaying: true,
        ..About::default()
    };
    gateway.guard.authorize_for(call, action, about).map(|_| ())
}

pub(super) fn about(gateway: &Gateway, call: &Call, patients: &[PatientIdentifier]) {
    if let Some(patient) = patients.first() {
        let tag = gateway.store.keys().patient_tag(patient);
        call.note(|record| record.patient = Some(tag.to_vec()));
    }
}

fn retrieve(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::InitiatingGatewayServiceRetrieveDocumentsRequest,
) -> Answer<Stream<pb::InitiatingGatewayServiceRetrieveDocumentsResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        call.note(|record| {
            record.documents = request
                .documents
                .iter()
                .filter_map(|wanted| wanted.document.as_ref())
                .map(|document| document.document_unique_id.clone())
                .collect();
        });
        authorize_asking(&gateway, &call, Action::ReadDocument, &[])?;
        let patient = identifier(request.patient_id.as_ref(), "patient_id")?;
        about(&gateway, &call, std::slice::from_ref(&patient));
        let here = gateway.home.to_string();
        let local = request.documents.iter().all(|wanted| {
            wanted
                .document
                .as_ref()
                .is_some_and(|document| document.home_community_id == here)
        });
        if local && !request.documents.is_empty() {
            let wrap = |part| pb::InitiatingGatewayServiceRetrieveDocumentsResponse {
                part: Some(
                    pb::initiating_gateway_service_retrieve_documents_response::Part::Document(
                        part,
                    ),
                ),
            };
            return retrieve_local(&gateway, &call, &request.documents, None, wrap).await;
        }
        let patients = if gateway.federation.parent.is_none() {
            let known = gateway
                .federation
                .patients(&call, "", request.patient_id.as_ref());
            known.map_err(as_refused)?
        } else if gateway.federation.direct.is_some() {
            vec![patient.clone()]
        } else {
            Vec::new()
        };
        // A denial known here holds for documents of every region.
        authorize_asking(&gateway, &call, Action::ReadDocument, &patients)?;
        gateway
            .federation
            .retrieve_documents(&call, request, &patients)
            .await
    })
}

fn locate(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::LocateHoldingsRequest,
) -> Answer<pb::LocateHoldingsResponse> {
    Box::pin(async move {
        use pb::locate_holdings_request::Patient;
        gateway.serves(Capability::Identity)?;
        // May the caller ask at all? Before anything says whether the patient is known (INV-3).
        authorize_asking(&gateway, &call, Action::FindDocuments, &[])?;
        let (linkage, id) = match request
            .patient
            .as_ref()
            .ok_or_else(|| Error::missing("patient"))?
        {
            Patient::LinkageId(linkage) => (linkage.clone(), None),
            Patient::PatientId(id) => (String::new(), Some(id)),
        };
        let patients = gateway
            .federation
            .patients(&call, &linkage, id)
            .map_err(as_refused)?;
        about(&gateway, &call, &patients);
        if request.passes {
            return passes(&gateway, &call, &patients, linkage).await;
        }
        let asked = About {
            patients: &patients,
            ..About::default()
        };
        let permit = gateway
            .guard
            .authorize_for(&call, Action::FindDocuments, asked)?;
        permit.require(&[Action::FindDocuments])?;
        let holdings = gateway.federation.locator.holdings(&patients)?;
        call.note(|record| record.items = u32::try_from(holdings.len()).unwrap_or(u32::MAX));
        Ok(pb::LocateHoldingsResponse {
            linkage_id: linkage,
            holdings,
            completeness: Some(crate::federation::completeness(Vec::new())),
            passes: Vec::new(),
        })
    })
}

#[tonic::async_trait]
impl InitiatingGatewayService for Initiating {
    type FindDocumentsStream = Replies<pb::InitiatingGatewayServiceFindDocumentsResponse>;

    async fn find_documents(
        &self,
        request: Request<pb::InitiatingGatewayServiceFindDocumentsRequest>,
    ) -> Result<Response<Self::FindDocumentsStream>, Status> {
        self.0
            .stream(initiating!("FindDocuments"), Class::Query, request, find)
            .await
    }

    type RetrieveDocumentsStream = Replies<pb::InitiatingGatewayServiceRetrieveDocumentsResponse>;

    async fn retrieve_documents(
        &self,
        request: Request<pb::InitiatingGatewayServiceRetrieveDocumentsRequest>,
    ) -> Result<Response<Self::RetrieveDocumentsStream>, Status> {
        self.0
            .stream(
                initiating!("RetrieveDocuments"),
                Class::Stream,
                request,
                retrieve,
            )
            .await
    }

    async fn locate_holdings(
        &self,
        request: Request<pb::LocateHoldingsRequest>,
    ) -> Result<Response<pb::LocateHoldingsResponse>, Status> {
        self.0
            .run(initiating!("LocateHoldings"), Class::Query, request, locate)
            .await
    }

    type DiscoverPatientStream = Replies<pb::InitiatingGatewayServiceDiscoverPatientResponse>;

    async fn discover_patient(
        &self,
        request: Request<pb::InitiatingGatewayServiceDiscoverPatientRequest>,
    ) -> Result<Response<Self::DiscoverPatientStream>, Status> {
        self.0
            .stream(
                initiating!("DiscoverPatient"),
                Class::Query,
                request,
                discover::ask,
            )
            .await
    }

    type WatchDocumentsStream = Replies<pb::InitiatingGatewayServiceWatchDocumentsResponse>;

    async fn watch_documents(
        &self,
        request: Request<pb::InitiatingGatewayServiceWatchDocumentsRequest>,
    ) -> Result<Response<Self::WatchDocumentsStream>, Status> {
        let method = initiating!("WatchDocuments");
        self.0
            .stream(method, Class::Stream, request, watch::ask)
            .await
    }
}

fn respond_find(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RespondingGatewayServiceFindDocumentsRequest,
) -> Answer<Stream<pb::RespondingGatewayServiceFindDocumentsResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Registry)?;
        let query = request
            .query
            .as_ref()
            .and_then(|query| query.query.as_ref());
        let Some(dpb::stored_query::Query::FindDocuments(find)) = query else {
            let message = "this version answers FindDocuments to other communities";
            return Err(Error::field(Reason::NotImplemented, "query", message));
        };
        let patient = identifier(find.patient_id.as_ref(), "query.find_documents.patient_id")?;
        about(&gateway, &call, std::slice::from_ref(&patient));
        with_pass(&gateway, &call, request.pass.as_ref())?;
        let asked = About {
            patients: std::slice::from_ref(&patient),
            ..About::default()
        };
        let permit = gateway
            .guard
            .authorize_for(&call, Action::FindDocuments, asked)?;
        let limit = if request.limit == 0 {
            MAX_ROWS
        } else {
            request.limit.min(MAX_ROWS)
        };
        if find.exclude.is_some() {
            let message = "exclusion is not done by this version";
            return Err(Error::field(
                Reason::NotImplemented,
                "query.find_documents.exclude",
                message,
            ));
        }
        let filter = find.filter.clone().unwrap_or_default();
        let mut entries = Vec::new();
        let mut token = String::new();
        loop {
            let left = limit as usize - entries.len();
            let page = gateway
                .documents
                .find(&permit, &patient, &filter, left, &token)?;
            entries.extend(page.entries);
            token = page.next;
            if token.is_empty() || entries.len() >= limit as usize {
                break;
            }
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        call.note(|record| record.items = count);
        let end = pb::FindEnd {
            result_count: count,
            truncated: !token.is_empty(),
            as_of: Some(crate::wire::timestamp(gateway.clock.now())),
        };
        Ok(answer(&gateway, entries, end))
    })
}

fn answer(
    gateway: &Gateway,
    entries: Vec<dpb::DocumentEntry>,
    end: pb::FindEnd,
) -> Stream<pb::RespondingGatewayServiceFindDocumentsResponse> {
    use pb::responding_gateway_service_find_documents_response::Part;
    let (sender, receiver) = mpsc::channel(4);
    gateway.tasks.spawn(async move {
        let objects = in_messages(entries).into_iter().map(Part::Objects);
        for part in objects.chain([Part::End(end)]) {
            let message = pb::RespondingGatewayServiceFindDocumentsResponse { part: Some(part) };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    Stream { receiver, asked: 0 }
}

fn respond_retrieve(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RespondingGatewayServiceRetrieveDocumentsRequest,
) -> Answer<Stream<pb::RespondingGatewayServiceRetrieveDocumentsResponse>> {
    Box::pin(async move {
        let patient = request.patient_id.as_ref();
        let patient = patient
            .map(|id| identifier(Some(id), "patient_id"))
            .transpose()?;
        with_pass(&gateway, &call, request.pass.as_ref())?;
        let wrap = |part| pb::RespondingGatewayServiceRetrieveDocumentsResponse {
            document: Some(part),
        };
        retrieve_local(&gateway, &call, &request.documents, patient.as_ref(), wrap).await
    })
}

fn summary_items(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetSummaryItemsRequest,
) -> Answer<pb::GetSummaryItemsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Repository)?;
        let patients = asked_patients(&request.patient_ids)?;
        about(&gateway, &call, &patients);
        one_person(&gateway, &call, &patients)?;
        let grant = request
            .break_glass
            .as_ref()
            .map(|context| carried(&gateway, &call, context));
        let grant = grant.transpose()?;
        let asked = About {
            patients: &patients,
            grant: grant.as_ref(),
            ..About::default()
        };
        let permit = gateway
            .guard
            .authorize_for(&call, Action::ReadSummary, asked)?;
        let work = Arc::clone(&gateway);
        let read = tokio::task::spawn_blocking(move || work.emergency.items(&permit, &patients));
        let response = read.await.map_err(Error::internal)??;
        let items = u32::try_from(response.items.len()).unwrap_or(u32::MAX);
        call.note(|record| record.items = items);
        Ok(response)
    })
}

/// A hub knows whose identifiers it asks about together; whoever asks directly may ask about one
/// person, as this node knows them, since one event of the audit is about one.
pub(super) fn one_person(
    gateway: &Gateway,
    call: &Call,
    patients: &[PatientIdentifier],
) -> Result<()> {
    let Some(first) = patients.first().filter(|_| call.caller().relay.is_none()) else {
        return Ok(());
    };
    let person = gateway.guard.identifiers_of(first);
    if patients.iter().all(|patient| person.contains(patient)) {
        return Ok(());
    }
    let message = "people need a call each";
    Err(Error::field(Reason::InvalidField, "patient_ids", message))
}

/// A break-glass grant that another node opened. Believed only from the parent, whose certificate
/// is pinned here, and only for the very person whose assertion comes with the call.
fn carried(gateway: &Gateway, call: &Call, context: &pb::BreakGlassContext) -> Result<Grant> {
    let caller = call.caller();
    call.note(|record| record.grant = Some(context.grant_id.clone()));
    if caller.relay.is_none() || caller.relay != gateway.federation.parent {
        return Err(call.refuse(Denial::Grant));
    }
    let subject = caller.person.as_ref().map(|person| person.subject.clone());
    Ok(Grant {
        institution: caller.participant.code.clone(),
        subject: subject.unwrap_or_default(),
        expires: jiff::Timestamp::MAX,
        closed: false,
    })
}

/// Takes over what a community stored for forwarding: each notice by itself, at least once, so each
/// is one that may come twice.
fn deliver(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::DeliverNoticesRequest,
) -> Answer<pb::DeliverNoticesResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        let permit = gateway.guard.authorize(&call, Action::Exchange)?;
        if request.notices.len() > MAX_NOTICES {
            let message = format!("has more than {MAX_NOTICES} notices");
            return Err(Error::field(Reason::InvalidField, "notices", message));
        }
        let (store, now) = (&gateway.store, gateway.clock.now());
        let idempotency = call.idempotency(store, &request.idempotency_key, &request, now)?;
        if let Some(first) = call.repeated(store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let mut response = pb::DeliverNoticesResponse::default();
        for notice in request.notices {
            // Each notice is a change with its own audit event, under the call's identity.
            let one = call.for_part();
            let result = take(&gateway, &one, &permit, &notice.notice_id, notice.content).await;
            // Only what is wrong with the notice itself is final; anything else may pass: the operator
            // has yet to register a domain, the store is full, the node is busy.
            let retryable = result.as_ref().err().is_some_and(|error| {
                error.kind() != ErrorKind::Invalid && error.reason() != Reason::ForeignDomain
            });
            let (accepted, reason) = match result {
                Ok(()) => (true, String::new()),
                Err(error) => {
                    tracing::warn!(reason = error.reason().name(), "a notice was not taken");
                    one.note(|record| record.failure = Some(error.reason().name()));
                    super::door::audit(&gateway, &one, crate::audit::Outcome::Error).await?;
                    (false, error.reason().name().to_owned())
                }
            };
            response.results.push(pb::NoticeResult {
                notice_id: notice.notice_id,
                accepted,
                reason,
                retryable,
            });
            if retryable {
                break; // Order is kept: nothing after it may overtake it.
            }
        }
        call.note(|record| {
            record.items = u32::try_from(response.results.len()).unwrap_or(u32::MAX);
        });
        if idempotency.is_none() || response.results.iter().any(|result| result.retryable) {
            // What may yet be taken is tried again under the same key.
            return Ok(response);
        }
        let writes = Vec::new();
        call.commit(store, now, writes, idempotency, response).await
    })
}

async fn take(
    gateway: &Gateway,
    call: &Call,
    permit: &crate::access::Permit,
    notice_id: &str,
    content: Option<pb::notice::Content>,
) -> Result<()> {
    use pb::notice::Content;
    match content.ok_or_else(|| Error::missing("notices.content"))? {
        Content::PatientFeed(feed) => {
            let fed = super::identity::feed(gateway, call, Action::AssertIdentity, feed).await;
            match fed {
                // An old feed that comes again, of an identifier that was merged away since.
                Err(error) if error.reason() == Reason::WrongState => {
                    super::door::audit(gateway, call, crate::audit::Outcome::Success).await
                }
                fed => fed.map(|_| ()),
            }
        }
        content @ (Content::PatientMerge(_)
        | Content::PatientUnmerge(_)
        | Content::PatientLink(_)
        | Content::PatientUnlink(_)
        | Content::PatientSplit(_)) => {
            super::identity::notices::take(gateway, call, notice_id, content).await
        }
        Content::Consent(consent) => super::consent::take(gateway, call, permit, consent)
            .await
            .map(|_| ()),
        Content::RevokedCorrelation(theirs) => {
            let theirs = identifier(Some(&theirs), "notices.revoked_correlation")?;
            let community = &call.caller().participant.community;
            let directory = gateway.directory.snapshot();
            if directory.owner(&theirs.authority) != Some(community) {
                let message = "belongs to another community";
                let field = "notices.revoked_correlation";
                return Err(Error::field(Reason::ForeignDomain, field, message));
            }
            about(gateway, call, std::slice::from_ref(&theirs));
            let correlations = &gateway.federation.correlations;
            correlations.take_back(call, community, &theirs).await
        }
        Content::IdentifierSet(_) | Content::Referral(_) | Content::Subscription(_) => {
            Err(Error::field(
                Reason::NotImplemented,
                "notices.content",
                "this version does not take this kind of notice",
            ))
        }
    }
}

fn ping(gateway: Arc<Gateway>, call: Arc<Call>, _: pb::PingRequest) -> Answer<pb::PingResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::ReadDirectory)?;
        permit.require(&[Action::ReadDirectory])?;
        Ok(pb::PingResponse {
            home_community_id: gateway.home.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory_version: gateway.directory.snapshot().version(),
            time: Some(crate::wire::timestamp(gateway.clock.now())),
            draining: gateway.stop.is_cancelled(),
        })
    })
}

#[tonic::async_trait]
impl RespondingGatewayService for Responding {
    type FindDocumentsStream = Replies<pb::RespondingGatewayServiceFindDocumentsResponse>;

    async fn find_documents(
        &self,
        request: Request<pb::RespondingGatewayServiceFindDocumentsRequest>,
    ) -> Result<Response<Self::FindDocumentsStream>, Status> {
        self.0
            .stream(
                responding!("FindDocuments"),
                Class::Query,
                request,
                respond_find,
            )
            .await
    }

    type RetrieveDocumentsStream = Replies<pb::RespondingGatewayServiceRetrieveDocumentsResponse>;

    async fn retrieve_documents(
        &self,
        request: Request<pb::RespondingGatewayServiceRetrieveDocumentsRequest>,
    ) -> Result<Response<Self::RetrieveDocumentsStream>, Status> {
        let method = responding!("RetrieveDocuments");
        self.0
            .stream(method, Class::Stream, request, respond_retrieve)
            .await
    }

    async fn get_summary_items(
        &self,
        request: Request<pb::GetSummaryItemsRequest>,
    ) -> Result<Response<pb::GetSummaryItemsResponse>, Status> {
        self.0
            .run(
                responding!("GetSummaryItems"),
                Class::Emergency,
                request,
                summary_items,
            )
            .await
    }

    type WatchDocumentsStream = Replies<pb::RespondingGatewayServiceWatchDocumentsResponse>;

    async fn watch_documents(
        &self,
        request: Request<pb::RespondingGatewayServiceWatchDocumentsRequest>,
    ) -> Result<Response<Self::WatchDocumentsStream>, Status> {
        let method = responding!("WatchDocuments");
        self.0
            .stream_judged(method, Class::Stream, request, watch::respond)
            .await
    }

    async fn notify_holdings(
        &self,
        request: Request<pb::NotifyHoldingsRequest>,
    ) -> Result<Response<pb::NotifyHoldingsResponse>, Status> {
        self.0
            .run(
                responding!("NotifyHoldings"),
                Class::Query,
                request,
                holdings::notify,
            )
            .await
    }

    /// Looks at all that the locator knows of a region, which takes as long as it takes: two at once.
    async fn compare_holdings(
        &self,
        request: Request<pb::CompareHoldingsRequest>,
    ) -> Result<Response<pb::CompareHoldingsResponse>, Status> {
        let method = responding!("CompareHoldings");
        self.0
            .run(method, Class::Stream, request, holdings::compare)
            .await
    }

    async fn deliver_notices(
        &self,
        request: Request<pb::DeliverNoticesRequest>,
    ) -> Result<Response<pb::DeliverNoticesResponse>, Status> {
        self.0
            .run(
                responding!("DeliverNotices"),
                Class::Query,
                request,
                deliver,
            )
            .await
    }

    async fn ping(
        &self,
        request: Request<pb::PingRequest>,
    ) -> Result<Response<pb::PingResponse>, Status> {
        self.0
            .run(responding!("Ping"), Class::Identity, request, ping)
            .await
    }

    async fn discover_patient(
        &self,
        request: Request<pb::RespondingGatewayServiceDiscoverPatientRequest>,
    ) -> Result<Response<pb::RespondingGatewayServiceDiscoverPatientResponse>, Status> {
        self.0
            .run(
                responding!("DiscoverPatient"),
                Class::Identity,
                request,
                discover::respond,
            )
            .await
    }
}
