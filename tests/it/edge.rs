//! The edge of a node: who gets a connection, what holds on it, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::edge::{Admitted, Class, Room};
use renkei::error::Reason;
use renkei::gateway::Gateway;
use renkei::pki::dev::{DevPki, IssueRequest, Kind, Variant};
use renkei::pki::{NodeIdentity, Usage, judge};
use renkei::types::{CertificatePin, Holder};
use renkei::wire::pb::admin::GetNodeInfoRequest;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::emergency::IdentifyPatientRequest;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::calls::identifiers;
use crate::support::expect::refused;
use crate::support::raw::{Raw, SETTINGS};
use crate::support::{At, Network, Setup, emergency_physician, eventually};

const HERE: At = At::Region(0);

fn institution(name: &str) -> IssueRequest {
    IssueRequest::new(Kind::Institution, name, "Stranger Hospital").institution(
        "1319999999",
        "Stranger Hospital",
        "他所病院",
    )
}

async fn ask(caller: &Caller) -> Result<(), Status> {
    let patient = cpb::Identifier::default();
    identifiers(caller, patient).await.map(|_| ())
}

/// The rules by which handshakes were refused, as audited.
fn refused_handshakes(network: &Network) -> Vec<String> {
    let audit = &network.gateway(HERE).audit;
    let events = audit.events(&Filter::default(), usize::MAX).unwrap();
    let refused = events
        .into_iter()
        .filter(|event| event.method == "edge/Handshake");
    refused.map(|event| event.internal_reason).collect()
}

/// Nothing reaches a service: the audit knows of the refused handshakes, each with its rule, and of
/// nothing else.
///
/// Each call has a channel of its own: one that has just been refused may still be thought open.
async fn no_connection(network: &Network, who: &str, caller: impl Fn() -> Caller) {
    let audit = &network.gateway(HERE).audit;
    let count = || audit.events(&Filter::default(), usize::MAX).unwrap().len();
    let (before, refused_before) = (count(), refused_handshakes(network).len());
    let status = ask(&caller()).await.expect_err(who);
    let transport = std::error::Error::source(&status)
        .is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>);
    assert!(transport, "{who}: expected no connection, got {status}");
    let again = check_health(&caller()).await.expect_err(who);
    assert_ne!(again.code(), Code::Unauthenticated, "{who}: {again}");
    let refused = eventually("both handshakes are audited", || async {
        let refused = refused_handshakes(network).split_off(refused_before);
        (refused.len() >= 2).then_some(refused)
    })
    .await;
    assert_eq!(refused, [who; 2]);
    assert_eq!(count(), before + 2, "{who}: a service was reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_get_no_connection() {
    let mut made = Vec::new();
    let network = Setup::standalone();
    let network = network
        .start_with(|world| {
            for (name, variant) in [
                ("signing-certificate", Variant::SigningOnly),
                ("expired", Variant::Expired),
                ("policy-not-accepted", Variant::WrongPolicy),
                ("revoked", Variant::Ok),
            ] {
                made.push((name, world.issue_variant(name, variant).unwrap()));
            }
            world.pki().revoke("revoked").unwrap();
            let mut foreign = DevPki::in_memory_foreign(world.clock()).unwrap();
            let issued = foreign.issue(&institution("foreign")).unwrap();
            made.push(("issuer-unknown", issued.identity().unwrap()));
            let person = IssueRequest::new(Kind::Person, "person", "Taro Yamada");
            let person = person.role("Medical Doctor");
            let issued = world.pki().issue(&person).unwrap();
            made.push(("policy-not-accepted", issued.identity().unwrap()));
        })
        .await;
    no_connection(&network, "no-certificate", || network.anonymous(HERE)).await;
    let trust = network.world.trust().unwrap().current();
    for (rule, identity) in &made {
        let now = network.clock.now();
        let refusal = judge(identity.chain(), &trust, Usage::Institution, now).unwrap_err();
        assert_eq!(refusal.rule(), *rule);
        no_connection(&network, rule, || caller(&network, identity)).await;
    }
    network.stop().await;
}

fn caller(network: &Network, identity: &NodeIdentity) -> Caller {
    network.caller_with(HERE, identity, None, &network.node(HERE).home)
}

async fn check_health(caller: &Caller) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(caller.channel.clone());
    let request = caller.request(HealthCheckRequest::default());
    Ok(client.check(request).await?.into_inner().status())
}

async fn list_services(caller: &Caller) -> Result<Vec<String>, Status> {
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;
    let request = reflection::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(caller.channel.clone());
    let requests = caller.request(tokio_stream::once(request));
    let mut answers = client.server_reflection_info(requests).await?.into_inner();
    let answer = answers.next().await.expect("an answer")?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    Ok(list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_services_are_for_registered_callers() {
    let mut stranger = None;
    let network = Setup::standalone().start_with(|world| {
        stranger = world.issue_variant("unregistered", Variant::Ok).ok();
    });
    let network = network.await;
    let stranger = caller(&network, &stranger.unwrap());
    refused(ask(&stranger).await, Reason::UnregisteredCertificate);
    refused(
        check_health(&stranger).await,
        Reason::UnregisteredCertificate,
    );
    refused(
        list_services(&stranger).await,
        Reason::UnregisteredCertificate,
    );

    let known = &network.sample.regions[0].institutions[0];
    let known = network.system(HERE, known);
    assert_eq!(check_health(&known).await.unwrap(), ServingStatus::Serving);
    let services = list_services(&known).await.unwrap();
    for name in [
        "renkei.admin.v1.AdminService",
        "renkei.audit.v1.AuditService",
        "renkei.consent.v1.ConsentService",
        "renkei.directory.v1.DirectoryService",
        "renkei.documents.v1.DocumentService",
        "renkei.emergency.v1.EmergencyService",
        "renkei.federation.v1.InitiatingGatewayService",
        "renkei.federation.v1.RespondingGatewayService",
        "renkei.identity.v1.IdentityService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            services.iter().any(|service| service == name),
            "{name}: {services:?}"
        );
    }
    network.stop().await;
}

/// The first SETTINGS frame of a connection: (identifier, value).
async fn settings(network: &Network) -> Vec<(u16, u32)> {
    let mut raw = Raw::institution(network, 0).await;
    raw.begin().await;
    let frame = raw.frame().await.expect("a frame");
    assert_eq!(frame.kind, SETTINGS, "the first frame is SETTINGS");
    frame
        .content
        .chunks(6)
        .map(|setting| {
            let value = [setting[2], setting[3], setting[4], setting[5]];
            (
                u16::from_be_bytes([setting[0], setting[1]]),
                u32::from_be_bytes(value),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_limits_are_announced() {
    let network = Setup::standalone();
    let network = network
        .set("listen.max_concurrent_streams", "7")
        .start()
        .await;
    let settings = settings(&network).await;
    for (name, identifier, value) in [
        ("MAX_CONCURRENT_STREAMS", 3, 7),
        ("INITIAL_WINDOW_SIZE", 4, 1024 * 1024),
        ("MAX_FRAME_SIZE", 5, 64 * 1024),
        ("MAX_HEADER_LIST_SIZE", 6, 16 * 1024),
    ] {
        assert!(
            settings.contains(&(identifier, value)),
            "{name}: {settings:?}"
        );
    }
    network.stop().await;
}

/// Nothing that connects and says nothing holds its place for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_closed() {
    let network = Setup::standalone();
    let network = network
        .set("listen.handshake_timeout_ms", "200")
        .start()
        .await;
    let mut silent = TcpStream::connect(network.address(HERE)).await.unwrap();
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut byte)).await;
    assert!(matches!(closed.expect("closed in time"), Ok(0) | Err(_)));
    network.stop().await;
}

/// Takes all that is left for interactive calls.
fn fill(gateway: &Gateway) -> Vec<Arc<Admitted>> {
    let somebody = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Holder::Certificate(CertificatePin::from_bytes(bytes))
    };
    let admission = &gateway.edge.admission;
    let calls =
        (0..).map(|number| admission.admit(Class::Interactive, somebody(number), Room::AMPLE));
    calls.map_while(Result::ok).collect()
}

/// Too many calls at once are refused with a hint, not queued without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_are_limited() {
    use tonic_types::StatusExt as _;
    let network = Setup::standalone().start().await;
    let gateway = network.gateway(HERE);
    let taken = fill(gateway);
    let operator = network.operator(HERE);
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let got = client
        .get_node_info(operator.request(GetNodeInfoRequest {}))
        .await;
    let status = refused(got, Reason::Overloaded);
    assert!(status.get_error_details().retry_info().is_some());
    drop(taken);
    let got = client
        .get_node_info(operator.request(GetNodeInfoRequest {}))
        .await;
    got.expect("served again");
    network.stop().await;
}

/// When memory is short ordinary calls are refused, with a hint, and emergencies are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_memory_keeps_all_out_but_emergencies() {
    use tonic_types::StatusExt as _;
    let network = Setup::standalone().start().await;
    let memory = &network.gateway(HERE).edge.memory;
    let hospital = network.emergency_hospitals(0)[0];
    let doctor = network.acting(HERE, &emergency_physician("D-1001", &hospital.code));
    let system = network.system(HERE, hospital);
    // The node measures again twice a second, and finds enough.
    let status = eventually("an ordinary call is refused", || async {
        memory.measured(99, 100);
        let status = ask(&system).await.unwrap_err();
        (status.code() == Code::ResourceExhausted).then_some(status)
    })
    .await;
    let hint = status.get_error_details().retry_info().unwrap().retry_delay;
    assert_eq!(hint, Some(Duration::from_secs(2)));
    let shed = &network.gateway(HERE).edge.counters.shed_memory;
    eventually("an emergency is taken while others are not", || async {
        let mut client = EmergencyServiceClient::new(doctor.channel.clone());
        let before = shed.get();
        memory.measured(99, 100);
        let request = doctor.request(IdentifyPatientRequest::default());
        let status = client.identify_patient(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(shed.get(), before);
        // Proof that it was short at that time too.
        memory.is_short().then_some(())
    })
    .await;
    eventually("it is measured again", || async {
        let status = ask(&system).await.unwrap_err();
        (status.code() == Code::InvalidArgument).then_some(())
    })
    .await;
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_a_call_in_flight_end() {
    let mut network = Setup::standalone().start().await;
    let sample = network.sample.clone();
    let truth = sample.scenario.cross_region;
    let mut documents = sample.documents_of(truth);
    let document = documents.find(|document| document.region == 0).unwrap();
    for record in sample.people[truth]
        .records
        .iter()
        .filter(|record| record.region == 0)
    {
        network.feed(record).await;
    }
    let institution = &sample.regions[0].institutions[document.institution];
    let system = network.system(HERE, institution);
    let parts = messages::provide(institution, &network.node(HERE).repository, document);
    let (sender, receiver) = tokio::sync::mpsc::channel(parts.len());
    let call = tokio::spawn({
        let system = system.clone();
        async move {
            let mut client = DocumentServiceClient::new(system.channel.clone());
            let stream = system.request(ReceiverStream::new(receiver));
            client.provide_documents(stream).await
        }
    });
    let mut parts = parts.into_iter();
    sender.send(parts.next().unwrap()).await.unwrap();
    let gateway = Arc::clone(network.gateway(HERE));
    eventually("the call is in flight", || async {
        (gateway.edge.admission.in_flight() > 0).then_some(())
    })
    .await;

    network.stopper(HERE).cancel();
    let address = network.address(HERE);
    eventually("the listener is closed", || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    for part in parts {
        sender.send(part).await.unwrap();
    }
    drop(sender);
    let answer = call.await.unwrap().expect("the call in flight ends well");
    assert_eq!(answer.into_inner().result.unwrap().entries.len(), 1);
    drop(system);
    network.stop_node(HERE).await;
    assert!(ask(&network.system(HERE, institution)).await.is_err());

    network.start_node(HERE).await;
    let again = network.system(HERE, institution);
    assert_eq!(check_health(&again).await.unwrap(), ServingStatus::Serving);
    assert!(network.gateway(HERE).opened.clean, "closed cleanly");
    network.stop().await;
}
