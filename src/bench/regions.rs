//! Regions that answer two questions and are nothing else: which documents there are of a patient
//! (ITI-38), and what they say for an emergency, after a while. `bench fanout`, `bench emergency` and the
//! tests of federation ask them over real mutual TLS; how each behaves can be changed while it runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::clock::Clock;
use crate::config::Listen;
use crate::pki::{NodeIdentity, TrustHandle};
use crate::wire::pb::common::{self as cpb, Identifier};
use crate::wire::pb::documents as dpb;
use crate::wire::pb::emergency as epb;
use crate::wire::pb::federation as pb;

use super::constant::edge_before;

type Asked = pb::RespondingGatewayServiceFindDocumentsRequest;
type Said = pb::RespondingGatewayServiceFindDocumentsResponse;
type Part = pb::responding_gateway_service_find_documents_response::Part;
type Answers = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

/// Documents that a region has of everybody.
pub const DOCUMENTS: usize = 2;
/// Documents in one message of an answer without end.
const A_MESSAGE: usize = 100;

/// A region to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Region {
    /// homeCommunityId.
    pub home: String,
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// How long it takes to answer.
    pub delay: Duration,
}

/// How a region answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// After its delay, with [`DOCUMENTS`] documents of the patient.
    #[default]
    Well,
    /// Well, so much later.
    Late(Duration),
    /// Never.
    Silent,
    /// With a gRPC status, at once.
    Fails(Code),
    /// With a document of another patient.
    OtherPatient,
    /// With a document of another community.
    OtherCommunity,
    /// With documents without end, each so many octets large.
    Endless(usize),
    /// With messages that say nothing, without end.
    Chatter,
    /// With one message of so many octets.
    Huge(usize),
    /// With documents, and without saying that these are all.
    CutOff,
    /// With a page of HTML.
    Html,
}

/// A region that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    home: String,
    delay: Duration,
    behaviour: Mutex<Behaviour>,
    under_way: AtomicUsize,
}

impl Running {
    /// From now on it behaves so.
    pub fn behave(&self, behaviour: Behaviour) {
        let now = self.state.behaviour.lock();
        *now.unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Calls that it has not ended yet, and that have not been given up.
    pub fn under_way(&self) -> usize {
        self.state.under_way.load(Ordering::SeqCst)
    }
}

/// Starts regions in this process; they end with `stop`.
///
/// # Errors
/// If a certificate cannot be loaded, or a port not be had.
pub async fn open(
    regions: &[Region],
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for region in regions {
        let state = Arc::new(State {
            home: region.home.clone(),
            delay: region.delay,
            behaviour: Mutex::default(),
            under_way: AtomicUsize::new(0),
        });
        let identity = NodeIdentity::load(&region.certificate, &region.key)?;
        let limits = Listen {
            drain_timeout_ms: 0,
            ..Listen::default()
        };
        let mut routes = Routes::builder();
        routes.add_service(Responding(Arc::clone(&state)));
        let routes = routes.routes();
        let edge = edge_before(routes, &identity, trust, clock, limits, stop.clone())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr().context("a port")?;
        tasks.spawn(edge.serve_until_stopped(listener));
        running.push(Running { address, state });
    }
    Ok(running)
}

/// The responding gateway of a region, of which nothing but `FindDocuments` and `GetSummaryItems` is
/// there.
#[derive(Clone, Debug)]
struct Responding(Arc<State>);

impl NamedService for Responding {
    const NAME: &'static str = "renkei.federation.v1.RespondingGatewayService";
}

impl Service<Request<Body>> for Responding {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let finding = Finding(Arc::clone(&self.0));
        Box::pin(async move {
            if finding.0.behaviour() == Behaviour::Html {
                let page = Body::new("<html><body>It works!</body></html>".to_owned());
                let mut response = Response::new(page);
                let html = http::HeaderValue::from_static("text/html");
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, html);
                return Ok(response);
            }
            if request.uri().path().ends_with("/GetSummaryItems") {
                let codec = ProstCodec::default();
                let summarizing = Summarizing(finding.0);
                return Ok(Grpc::new(codec).unary(summarizing, request).await);
            }
            let codec = ProstCodec::<Said, Asked>::default();
            Ok(Grpc::new(codec).server_streaming(finding, request).await)
        })
    }
}

#[derive(Clone, Debug)]
struct Finding(Arc<State>);

impl ServerStreamingService<Asked> for Finding {
    type Response = Said;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Asked>) -> Self::Future {
        let state = Arc::clone(&self.0);
        let under_way = UnderWay::begin(&state);
        Box::pin(async move {
            let asked = state.answers(request.into_inner()).await?;
            let answers = Counted(asked, under_way);
            Ok(tonic::Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// Says something for an emergency, as it is told to behave; what is particular to lists of documents
/// it does not do.
#[derive(Clone, Debug)]
struct Summarizing(Arc<State>);

impl UnaryService<pb::GetSummaryItemsRequest> for Summarizing {
    type Response = pb::GetSummaryItemsResponse;
    type Future =
        Pin<Box<dyn Future<Output = Result<tonic::Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<pb::GetSummaryItemsRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        let under_way = UnderWay::begin(&state);
        Box::pin(async move {
            let _under_way = under_way;
            match state.behaviour() {
                Behaviour::Silent => std::future::pending::<()>().await,
                Behaviour::Fails(code) => return Err(Status::new(code, "as it was told to")),
                Behaviour::Late(more) => tokio::time::sleep(state.delay + more).await,
                _ => tokio::time::sleep(state.delay).await,
            }
            let patients = request.into_inner().patient_ids;
            Ok(tonic::Response::new(state.items(&patients)))
        })
    }
}

/// A call that has not ended.
struct UnderWay(Arc<State>);

impl UnderWay {
    fn begin(state: &Arc<State>) -> Self {
        state.under_way.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers, under way until they end.
struct Counted(
    Answers,
    #[expect(dead_code, reason = "dropped with the answers")] UnderWay,
);

impl Stream for Counted {
    type Item = Result<Said, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl State {
    fn behaviour(&self) -> Behaviour {
        *self
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn answers(&self, asked: Asked) -> Result<Answers, Status> {
        use dpb::stored_query::Query;
        let query = asked.query.and_then(|query| query.query);
        let Some(Query::FindDocuments(find)) = query else {
            return Err(Status::unimplemented("another query than FindDocuments"));
        };
        let patient = find.patient_id.unwrap_or_default();
        let behaviour = self.behaviour();
        match behaviour {
            Behaviour::Silent => std::future::pending::<()>().await,
            Behaviour::Fails(code) => return Err(Status::new(code, "as it was told to")),
            Behaviour::Late(more) => tokio::time::sleep(self.delay + more).await,
            _ => tokio::time::sleep(self.delay).await,
        }
        let entries = |count, octets| (0..count).map(|_| self.entry(&patient, octets)).collect();
        let whole = |entries: Vec<dpb::DocumentEntry>| {
            let end = Part::End(pb::FindEnd {
                result_count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                ..pb::FindEnd::default()
            });
            parts(vec![objects(entries), end])
        };
        Ok(match behaviour {
            Behaviour::Endless(octets) => {
                let part = objects(entries(A_MESSAGE, octets));
                endless(part)
            }
            Behaviour::Chatter => endless(objects(Vec::new())),
            Behaviour::Huge(octets) => whole(entries(1, octets)),
            Behaviour::CutOff => parts(vec![objects(entries(1, 0))]),
            Behaviour::OtherPatient => {
                let mut entry = self.entry(&patient, 0);
                if let Some(patient) = &mut entry.patient_id {
                    patient.value.push('x');
                }
                whole(vec![entry])
            }
            Behaviour::OtherCommunity => {
                let mut entry = self.entry(&patient, 0);
                entry.home_community_id.push_str(".9");
                whole(vec![entry])
            }
            _ => whole(entries(DOCUMENTS, 0)),
        })
    }

    /// For each patient two documents with two problems each, of which one is the same everywhere.
    fn items(&self, patients: &[Identifier]) -> pb::GetSummaryItemsResponse {
        let as_of = Some(crate::wire::timestamp(jiff::Timestamp::UNIX_EPOCH));
        let mut said = pb::GetSummaryItemsResponse {
            as_of,
            ..pb::GetSummaryItemsResponse::default()
        };
        for (patient, whose) in patients.iter().zip(0..) {
            for _ in 0..DOCUMENTS {
                let entry = self.entry(patient, 0);
                let document = Some(crate::documents::document_ref(&entry));
                let item = |code: &str, display: String| epb::SummaryItem {
                    section: epb::SummarySection::Problem.into(),
                    codes: vec![cpb::CodedValue {
                        code: code.to_owned(),
                        system: "2.16.840.1.113883.6.3".to_owned(),
                        ..cpb::CodedValue::default()
                    }],
                    display,
                    sources: vec![epb::ItemSource {
                        home_community_id: self.home.clone(),
                        document: document.clone(),
                        recorded: "2026-04-01".to_owned(),
                        as_of,
                        ..epb::ItemSource::default()
                    }],
                    ..epb::SummaryItem::default()
                };
                said.items.push(item("I10", "高血圧症".to_owned()));
                let own = &entry.unique_id;
                said.items.push(item(own, format!("傷病 {own}")));
                said.documents.push(epb::ListedDocument {
                    document: document.clone(),
                    used: true,
                    ..epb::ListedDocument::default()
                });
                said.judged.push(pb::JudgedDocument {
                    patient: whose,
                    entry: Some(dpb::DocumentEntry {
                        unique_id: entry.unique_id.clone(),
                        creation_time: entry.creation_time.clone(),
                        confidentiality_codes: vec![cpb::CodedValue {
                            code: "N".to_owned(),
                            system: "2.16.840.1.113883.5.25".to_owned(),
                            ..cpb::CodedValue::default()
                        }],
                        ..dpb::DocumentEntry::default()
                    }),
                });
            }
        }
        said
    }

    /// A document of the patient, with a hash longer by so many octets.
    fn entry(&self, patient: &Identifier, octets: usize) -> dpb::DocumentEntry {
        let uuid = uuid::Uuid::new_v4();
        dpb::DocumentEntry {
            entry_uuid: uuid.urn().to_string(),
            logical_id: uuid.urn().to_string(),
            unique_id: format!("2.25.{}", uuid.as_u128()),
            patient_id: Some(patient.clone()),
            home_community_id: self.home.clone(),
            availability_status: dpb::AvailabilityStatus::Approved.into(),
            creation_time: "20260401093000".to_owned(),
            mime_type: "application/fhir+json".to_owned(),
            language_code: "ja-JP".to_owned(),
            hash: "0".repeat(40 + octets),
            size: Some(4_096),
            ..dpb::DocumentEntry::default()
        }
    }
}

fn objects(entries: Vec<dpb::DocumentEntry>) -> Part {
    Part::Objects(dpb::RegistryObjects {
        entries,
        ..dpb::RegistryObjects::default()
    })
}

fn said(part: Part) -> Said {
    Said { part: Some(part) }
}

fn parts(parts: Vec<Part>) -> Answers {
    Box::pin(tokio_stream::iter(parts.into_iter().map(said).map(Ok)))
}

fn endless(part: Part) -> Answers {
    Box::pin(tokio_stream::iter(std::iter::repeat_with(move || {
        Ok(said(part.clone()))
    })))
}
