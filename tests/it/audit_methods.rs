//! Exactly one event for each method and outcome, whenever the caller gives up (A-03, A-21, A-22,
//! A-26), and a receipt on each answer that leads to a proof.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use data_encoding::BASE64;
use prost::Message as _;
use renkei::api::grpc::services;
use renkei::audit::Filter;
use renkei::audit::merkle::verify_inclusion;
use renkei::audit::{declared_event, is_declared};
use renkei::demo::messages;
use renkei::directory::CertifiedPeer;
use renkei::error::Reason;
use renkei::pki::Usage;
use renkei::pki::tls::certify_peer;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::{DESCRIPTORS, RECEIPT, REQUEST_ID};
use tower::Service as _;

use crate::support::expect::refused;
use crate::support::{At, Network, Setup, eventually, officer};

const HERE: At = At::Region(0);

fn events(network: &Network, request_id: &str) -> Vec<pb::AuditEvent> {
    let filter = Filter {
        request_id: request_id.to_owned(),
        ..Filter::default()
    };
    let audit = &network.gateway(HERE).audit;
    audit.events(&filter, usize::MAX).unwrap()
}

/// A request body that comes in pieces, with a wait before each.
pub(crate) struct Pieces {
    left: Vec<Bytes>,
    waited: bool,
}

impl Pieces {
    /// One gRPC message.
    fn of(message: &[u8]) -> Self {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(message);
        let middle = framed.len() / 2;
        let (one, two) = framed.split_at(middle);
        Self {
            left: vec![Bytes::copy_from_slice(two), Bytes::copy_from_slice(one)],
            waited: false,
        }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        if !std::mem::replace(&mut self.waited, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        let piece = self.left.pop().map(hyper::body::Frame::data);
        Poll::Ready(piece.map(Ok))
    }
}

/// A future that is given up after so many polls.
struct GivenUp<F> {
    future: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for GivenUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.left -= 1;
        let polled = self.future.as_mut().unwrap().as_mut().poll(context);
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => {
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A participant as the server takes it from the handshake.
pub(crate) fn peer(network: &Network, name: &str) -> CertifiedPeer {
    let identity = network.world.identity(name).unwrap();
    let gateway = network.gateway(HERE);
    let clock = network.clock.as_ref();
    let certified = certify_peer(
        Some(identity.chain()),
        &gateway.trust,
        Usage::Institution,
        clock,
    );
    let certified = certified.unwrap();
    CertifiedPeer {
        pin: certified.spki_sha256,
        certified,
        chain: identity.chain().into(),
    }
}

/// A call as the server hands it on.
pub(crate) fn request(
    peer: &CertifiedPeer,
    method: &str,
    id: &str,
    message: &[u8],
) -> http::Request<Pieces> {
    let mut request = http::Request::post(format!("/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(REQUEST_ID, id)
        .body(Pieces::of(message))
        .unwrap();
    request.extensions_mut().insert(peer.clone());
    request
}

/// Waits until nothing of a call is left.
async fn idle(network: &Network) {
    let gateway = network.gateway(HERE);
    eventually("nothing is under way", || async {
        (gateway.edge.admission.in_flight() == 0).then_some(())
    })
    .await;
}

/// the caller gives up at every point at which the call waits for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_given_up_at_any_await_leaves_one_event() {
    let network = Setup::standalone().start().await;
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0);
    let institution = network.institution(record);
    let peer = peer(&network, &format!("inst-{}", institution.code));
    let services = services(network.gateway(HERE)).unwrap();
    let query = ipb::QueryIdentifiersRequest {
        subject: Some(ipb::query_identifiers_request::Subject::Identifier(
            network.patient(record),
        )),
        ..Default::default()
    };
    let feed = messages::feed(institution, record);
    // A write, a read, a read that is refused, one that is not done, and a message that is none.
    let calls: [(&str, Vec<u8>); 5] = [
        (
            "renkei.identity.v1.IdentityService/FeedPatient",
            feed.encode_to_vec(),
        ),
        (
            "renkei.identity.v1.IdentityService/QueryIdentifiers",
            query.encode_to_vec(),
        ),
        (
            "renkei.audit.v1.AuditService/ReportPatientAccess",
            Vec::new(),
        ),
        ("renkei.admin.v1.AdminService/CreateBackup", Vec::new()),
        (
            "renkei.identity.v1.IdentityService/GetPatient",
            vec![0xFF; 40],
        ),
    ];
    for (method, message) in &calls {
        let mut given_up = 0;
        for polls in 1.. {
            let id = format!("{polls}-{}", method.rsplit('/').next().unwrap());
            let future = services.clone().call(request(&peer, method, &id, message));
            let future = Some(Box::pin(future));
            let ended = GivenUp {
                future,
                left: polls,
            };
            // The answer itself counts as under way until it is read or dropped.
            let ended = ended.await.is_some();
            idle(&network).await;
            let left = events(&network, &id);
            assert_eq!(
                left.len(),
                1,
                "{method} given up after {polls} polls: {left:#?}"
            );
            assert_eq!(left[0].method, *method);
            if ended {
                break;
            }
            given_up += 1;
        }
        println!("{method}: given up at {given_up} points");
        assert!(given_up >= 3, "{method}");
    }
    network.stop().await;
}

/// Every method of the interface, from its descriptors.
pub(crate) fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
        .unwrap()
        .file;
    let mut all = Vec::new();
    for file in &files {
        for service in &file.service {
            let full = |name: &str| format!("{}.{}/{name}", file.package(), service.name());
            all.extend(service.method.iter().map(|method| full(method.name())));
        }
    }
    all
}

/// whoever calls whatever with an empty message, it is audited once, under its declared
/// action and transaction, and the answer says where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_leaves_one_event_and_a_receipt() {
    let network = Setup::standalone().start().await;
    let institution = network.sample.regions[0].institutions[0].code.clone();
    let gateway = network.gateway(HERE);
    let mut services = services(gateway).unwrap();
    let log = gateway.audit.log();
    let methods = methods();
    assert!(methods.len() > 60);
    let mut receipts = Vec::new();
    for name in ["operator", &format!("inst-{institution}")] {
        let peer = peer(&network, name);
        for method in &methods {
            assert!(is_declared(method), "{method}");
            let id = format!("{name}:{}", method.rsplit('.').next().unwrap());
            let answer = services
                .call(request(&peer, method, &id, &[]))
                .await
                .unwrap();
            let left = events(&network, &id);
            assert_eq!(left.len(), 1, "{method} by {name}: {left:#?}");
            let (action, transaction) = declared_event(method);
            assert_eq!(left[0].method, *method);
            assert_eq!(
                (left[0].action(), left[0].transaction.as_str()),
                (action, transaction)
            );
            let receipt = answer.headers().get(RECEIPT);
            let receipt = receipt.unwrap_or_else(|| panic!("{method} by {name}: no receipt"));
            let words: Vec<&str> = receipt.to_str().unwrap().split(' ').collect();
            let [origin, index, leaf] = words[..] else {
                panic!("{receipt:?}")
            };
            assert_eq!(origin, log.verifier().name);
            assert_eq!(index, left[0].sequence.to_string());
            receipts.push((left[0].sequence, BASE64.decode(leaf.as_bytes()).unwrap()));
        }
    }
    let signed = log.checkpoint().unwrap();
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    for (index, leaf) in receipts {
        let (proved, path) = log.inclusion(index, size).unwrap();
        assert_eq!(proved.to_vec(), leaf);
        assert!(verify_inclusion(&proved, index, size, &path, &root));
    }
    network.stop().await;
}

/// another institution's audit is not shown, and that it was asked for is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_anothers_audit_is_refused_and_recorded() {
    let network = Setup::standalone().start().await;
    let institutions = &network.sample.regions[0].institutions;
    let [own, other, ..] = &institutions[..] else {
        panic!("two institutions")
    };
    let caller = network.acting(HERE, &officer(&own.code));
    let mut client = AuditServiceClient::new(caller.channel.clone());
    let search = |institution: &str| pb::SearchEventsRequest {
        institution_id: institution.to_owned(),
        ..Default::default()
    };
    let before = events(&network, "").len();
    let mut wanted = caller.request(search(&other.code));
    wanted
        .metadata_mut()
        .insert(REQUEST_ID, "curious".parse().unwrap());
    refused(client.search_events(wanted).await, Reason::NotPermitted);
    let left = events(&network, "curious");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].outcome(), pb::Outcome::Denied);
    assert_eq!(events(&network, "").len(), before + 1);
    // The own is shown, the refusal in it, newest first.
    let shown = client.search_events(caller.request(search(""))).await;
    let shown = shown.unwrap().into_inner().events;
    assert_eq!(shown[0].request_id, "curious");
    for event in &shown {
        assert_eq!(event.institution.as_ref().unwrap().institution_id, own.code);
    }
    network.stop().await;
}
