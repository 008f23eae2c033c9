//! Nobody wears another's identity: registered certificates, bound assertions, keys.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use renkei::audit::Filter;
use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::{Caller, Link};
use renkei::error::Reason;
use renkei::pki::assertion::{AssertionSigner, Claims, Statement};
use renkei::pki::dev::{IssueRequest, Kind};
use renkei::pki::{NodeIdentity, Profiles};
use renkei::types::{PersonRole, PurposeOfUse, Relation};
use renkei::wire::ASSERTION;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::admin::{Alarm, GetStatusRequest};
use renkei::wire::pb::audit as apb;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::documents as docs;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::support::calls::{find_query, identifiers};
use crate::support::expect::refused;
use crate::support::process::Process;
use crate::support::{At, Network, Prepared, Setup, prepare};

const HERE: At = At::Region(0);

/// The events of this node that were refused, from the `first` on.
fn refusals(network: &Network, first: usize) -> Vec<apb::AuditEvent> {
    let audit = &network.gateway(HERE).audit;
    let events = audit.events(&Filter::default(), usize::MAX).unwrap();
    let denied = |event: &apb::AuditEvent| event.outcome() == apb::Outcome::Denied;
    events.into_iter().filter(denied).skip(first).collect()
}

async fn alarms(network: &Network) -> Vec<Alarm> {
    let operator = network.operator(HERE);
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let status = client
        .get_status(operator.request(GetStatusRequest {}))
        .await;
    status.unwrap().into_inner().alarms
}

/// The alarm of this certificate by this rule.
fn alarmed<'a>(alarms: &'a [Alarm], pin: &str, rule: &str) -> &'a Alarm {
    let found = alarms.iter().find(|alarm| {
        let message = &alarm.message;
        alarm.code == "IDENTITY_REFUSED" && message.contains(pin) && message.ends_with(rule)
    });
    found.unwrap_or_else(|| panic!("no alarm of {pin} by {rule}: {alarms:#?}"))
}

async fn ask(caller: &Caller) -> Result<(), Status> {
    identifiers(caller, cpb::Identifier::default())
        .await
        .map(|_| ())
}

/// A valid certificate with the subject of a registered one, but another key, is a stranger's.
///
/// Bars: T-30, T-31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_subject_with_another_key_is_a_stranger() {
    let mut twins = Vec::new();
    let network = Setup::standalone().start_with(|world| {
        let known = world.regions[0].home.clone();
        assert!(!known.is_empty());
        for (name, code) in [("twin", "1310000019"), ("nobody", "1319999999")] {
            let request = IssueRequest::new(Kind::Institution, name, name);
            let request = request.institution(code, "Renkei Hospital", "連携病院");
            twins.push(world.pki().issue(&request).unwrap().identity().unwrap());
        }
    });
    let network = network.await;
    let codes: Vec<&str> = network.sample.regions[0]
        .institutions
        .iter()
        .map(|institution| institution.code.as_str())
        .collect();
    let home = &network.node(HERE).home;
    for (index, identity) in twins.iter().enumerate() {
        let caller = network.caller_with(HERE, identity, None, home);
        refused(ask(&caller).await, Reason::UnregisteredCertificate);
        refused(ask(&caller).await, Reason::UnregisteredCertificate);
        let events = refusals(&network, index * 2);
        assert_eq!(events.len(), 2, "{events:#?}");
        for event in events {
            assert_eq!(event.internal_reason, "unregistered-certificate");
        }
        let alarms = alarms(&network).await;
        let pin = identity.pin().to_string();
        let alarm = alarmed(&alarms, &pin, "unregistered-certificate");
        assert!(alarm.message.contains("2 times"), "{}", alarm.message);
    }
    assert!(!codes.is_empty());
    network.stop().await;
}

async fn suspend(
    network: &Network,
    change: impl FnOnce(&mut dpb::SuspendInstitutionRequest),
) -> Result<dpb::SuspendInstitutionResponse, Status> {
    let operator = network.operator(HERE);
    let mut request = dpb::SuspendInstitutionRequest {
        reason: "key stolen".to_owned(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    change(&mut request);
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let answer = client.suspend_institution(operator.request(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// A suspension is in force for the next call on the connection that is open.
///
/// Bars: T-30.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_institution_or_one_certificate_of_it_is_suspended_at_once() {
    let network = Setup::standalone().start().await;
    let institution = &network.sample.regions[0].institutions[0];
    let system = network.system(HERE, institution);
    let reached = |result: Result<(), Status>| {
        // The empty question is malformed: it came as far as the handler.
        assert_eq!(result.unwrap_err().code(), tonic::Code::InvalidArgument);
    };
    reached(ask(&system).await);
    let identity = network
        .world
        .identity(&format!("inst-{}", institution.code));
    let pin = identity.unwrap().pin().to_string();
    let certificate = dpb::CertificatePin {
        spki_sha256: pin.clone(),
        ..Default::default()
    };
    for only in [None, Some(certificate)] {
        let answer = suspend(&network, |request| {
            request.institution_id.clone_from(&institution.code);
            request.certificate.clone_from(&only);
        });
        let answer = answer.await.unwrap();
        let now = answer.institution.unwrap();
        let whole = now.status() == dpb::MemberStatus::Suspended;
        assert_eq!(whole, only.is_none());
        let mut answered = ask(&system).await;
        for _ in 0..3 {
            // The connection is being closed: a failure of the transport has a cause, an answer of
            // the node has none.
            if answered
                .as_ref()
                .is_err_and(|status| status.source().is_some())
            {
                answered = ask(&system).await;
            }
        }
        refused(answered, Reason::UnregisteredCertificate);
        alarmed(&alarms(&network).await, &pin, "unregistered-certificate");
        let again = suspend(&network, |request| {
            request.institution_id.clone_from(&institution.code);
            request.certificate.clone_from(&only);
            request.reinstate = true;
        });
        assert!(again.await.unwrap().version > answer.version);
        reached(ask(&system).await);
    }
    let nobody = suspend(&network, |request| {
        "1319999999".clone_into(&mut request.institution_id);
    });
    refused(nobody.await, Reason::NotFound);
    let no_reason = suspend(&network, |request| {
        request.institution_id.clone_from(&institution.code);
        request.reason.clear();
    });
    refused(no_reason.await, Reason::MissingField);
    let foreign = suspend(&network, |request| {
        request.institution_id.clone_from(&institution.code);
        request.certificate = Some(dpb::CertificatePin {
            spki_sha256: "ab".repeat(32),
            ..Default::default()
        });
    });
    refused(foreign.await, Reason::NotFound);
    // An institution does not suspend another.
    let mut client = DirectoryServiceClient::new(system.channel.clone());
    let request = dpb::SuspendInstitutionRequest {
        institution_id: institution.code.clone(),
        reason: "rival".to_owned(),
        idempotency_key: "k".to_owned(),
        ..Default::default()
    };
    let theirs = client.suspend_institution(system.request(request)).await;
    refused(theirs, Reason::NotPermitted);
    network.stop().await;
}

/// Two institutions of one node and their certificates.
struct Two {
    network: Network,
    a: (String, NodeIdentity),
    b: (String, NodeIdentity),
    card: NodeIdentity,
}

impl Two {
    async fn start() -> Self {
        let mut card = None;
        let network = Setup::standalone().start_with(|world| {
            let request = IssueRequest::new(Kind::Person, "card", "Taro Yamada");
            let request = request.role("Medical Doctor");
            card = Some(world.pki().issue(&request).unwrap().identity().unwrap());
        });
        let network = network.await;
        let member = |index: usize| {
            let code = network.sample.regions[0].institutions[index].code.clone();
            let identity = network.world.identity(&format!("inst-{code}")).unwrap();
            (code, identity)
        };
        let (a, b) = (member(0), member(1));
        Self {
            a,
            b,
            card: card.unwrap(),
            network,
        }
    }

    fn claims(
        &self,
        signer: &AssertionSigner,
        institution: &str,
        presenter: &NodeIdentity,
    ) -> Claims {
        let now = self.network.clock.now();
        let presenter = renkei::pki::assertion::thumbprint(&presenter.chain()[0]);
        let person = !signer.issuer().starts_with("13");
        let subject = if person { signer.issuer() } else { "D-1001" };
        Claims {
            issuer: signer.issuer().to_owned(),
            subject: subject.to_owned(),
            role: "Medical Doctor".to_owned(),
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: institution.parse().unwrap(),
            audience: vec![self.network.node(HERE).home.parse().unwrap()],
            issued_at: now,
            expires_at: now + jiff::SignedDuration::from_mins(5),
            nonce: uuid::Uuid::new_v4().to_string(),
            presenter,
            one_time: false,
        }
    }

    /// A question over the connection of A with this assertion.
    async fn ask(&self, token: &str) -> Result<(), Status> {
        let home = &self.network.node(HERE).home;
        let caller = self.network.caller_with(HERE, &self.a.1, None, home);
        let mut request = caller.request(docs::QueryRegistryRequest {
            query: Some(find_query(cpb::Identifier::default())),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert(ASSERTION, token.parse().unwrap());
        // Nobody reads who calls from here.
        let other: tonic::metadata::MetadataValue<_> = self.b.0.parse().unwrap();
        request
            .metadata_mut()
            .insert("renkei-origin", other.clone());
        request
            .metadata_mut()
            .insert("x-forwarded-client-cert", other);
        let mut client = DocumentServiceClient::new(caller.channel.clone());
        client.query_registry(request).await.map(|_| ())
    }
}

/// The certificate of A with B's identity in every field that could say who calls.
///
/// Bars: T-32, Z-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
async fn the_certificate_of_one_with_the_identity_of_another_is_refused() {
    let two = Two::start().await;
    let profiles = Profiles::test().unwrap();
    let signer =
        |identity: &NodeIdentity| AssertionSigner::from_identity(identity, &profiles).unwrap();
    let (own, other, card) = (signer(&two.a.1), signer(&two.b.1), signer(&two.card));
    let (a, b) = (&two.a, &two.b);
    let good = two.claims(&own, &a.0, &a.1);
    let status = two.ask(&own.sign(&good).unwrap()).await.unwrap_err();
    assert_eq!(
        status.code(),
        tonic::Code::InvalidArgument,
        "A as A comes to the handler"
    );
    let mut issuer = good.clone();
    issuer.issuer.clone_from(&b.0);
    let mut institution = good.clone();
    institution.institution = b.0.parse().unwrap();
    for (what, rule, token) in [
        ("issuer B", "assertion-contradiction", own.sign(&issuer)),
        (
            "institution B",
            "assertion-contradiction",
            own.sign(&institution),
        ),
        (
            "stolen from B",
            "assertion-presenter",
            other.sign(&two.claims(&other, &b.0, &b.1)),
        ),
        (
            "lent by B",
            "assertion-institution",
            other.sign(&two.claims(&other, &b.0, &a.1)),
        ),
        (
            "B for A",
            "assertion-contradiction",
            other.sign(&two.claims(&other, &a.0, &a.1)),
        ),
        (
            "a card that says B",
            "assertion-institution",
            card.sign(&two.claims(&card, &b.0, &a.1)),
        ),
        (
            "a card for B's system",
            "assertion-presenter",
            card.sign(&two.claims(&card, &a.0, &b.1)),
        ),
    ] {
        let before = refusals(&two.network, 0).len();
        let status = refused(two.ask(&token.unwrap()).await, Reason::InvalidAssertion);
        assert!(status.message().contains(rule), "{what}: {status}");
        let events = refusals(&two.network, before);
        assert_eq!(events.len(), 1, "{what}: one event: {events:#?}");
        assert_eq!(events[0].internal_reason, rule, "{what}");
        // Whose certificate it was, never whose identity was claimed.
        assert!(
            format!("{:?}", events[0]).contains(&a.0),
            "{what}: {:#?}",
            events[0]
        );
        assert!(
            !format!("{:?}", events[0]).contains(&b.0),
            "{what}: {:#?}",
            events[0]
        );
        alarmed(&alarms(&two.network).await, &a.1.pin().to_string(), rule);
    }
    // The card at A's system as A is who it says.
    let token = card.sign(&two.claims(&card, &a.0, &a.1)).unwrap();
    let status = two.ask(&token).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    two.network.stop().await;
}

/// An assertion for one time goes through the network once, and not a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_for_one_time_crosses_the_network_once() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let network = Setup::federation(2).clock(clock.clone()).start().await;
    let truth = network.sample.scenario.cross_region;
    network.load_person(truth).await;
    // A node forgets at its start, so what is as old as that it does not take for one time.
    clock.advance(Duration::from_secs(10));
    let record = network.record(truth, 1);
    let code = &network.institution(record).code;
    let identity = network.world.identity(&format!("inst-{code}")).unwrap();
    let signer = AssertionSigner::from_identity(&identity, &Profiles::test().unwrap()).unwrap();
    let statement = Statement {
        subject: "D-1001".to_owned(),
        role: PersonRole::Physician.code().to_owned(),
        purpose: PurposeOfUse::Treatment,
        relation: Relation::Treating,
        institution: code.parse().unwrap(),
        audience: vec![network.world.hub.home.parse().unwrap()],
        presenter: None,
        one_time: true,
    };
    let token = signer.issue(statement, clock.now(), Duration::from_mins(5));
    let token = token.unwrap();
    let system = network.system(At::Region(1), network.institution(record));
    let find = || async {
        let mut request = system.request(fpb::InitiatingGatewayServiceFindDocumentsRequest {
            query: Some(find_query(network.patient(record))),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert(ASSERTION, token.parse().unwrap());
        let mut client = InitiatingGatewayServiceClient::new(system.channel.clone());
        let mut stream = client.find_documents(request).await?.into_inner();
        let mut parts = 0;
        while let Some(message) = stream.next().await {
            let _part = message?;
            parts += 1;
        }
        Ok::<usize, Status>(parts)
    };
    assert!(find().await.unwrap() > 0, "taken by every node on the way");
    let status = refused(find().await, Reason::InvalidAssertion);
    assert!(status.message().contains("assertion-replayed"), "{status}");
    network.stop().await;
}

/// A node asked by its environment to log session keys does not.
///
/// Bars: T-38.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_keys_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Prepared { world, .. } = prepare(&folder, 1, Arc::clone(&clock));
    let config = world.standalone_config(&world.regions[0], "127.0.0.1:0");
    let (nodes, keys) = (folder.path().join("nodes"), folder.path().join("keys"));
    let environment = [("SSLKEYLOGFILE", keys.as_path())];
    let process = Process::start_in(&nodes, "node", &config.unwrap(), &environment).await;
    let identity = world.identity("operator").unwrap();
    let link = Link {
        address: &process.address,
        pin: world.regions[0].pin,
        identity: &identity,
        trust: &world.trust().unwrap(),
        clock: &clock,
    };
    let home = world.regions[0].home.parse().unwrap();
    let operator = Caller::new(&link, None, &home).unwrap();
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let status = client.get_status(operator.request(GetStatusRequest {}));
    status.await.expect("a handshake, and an answer");
    assert!(!keys.exists(), "session keys were written");
    process.stop().await;
    assert!(!keys.exists(), "session keys were written at the end");
}

/// A node does not start with a key that others may read, or that is not its certificate's.
///
/// Bars: T-39.
#[test]
fn a_node_does_not_start_with_a_key_that_others_read_or_of_another() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Prepared { world, .. } = prepare(&folder, 1, Arc::clone(&clock));
    let config = world.standalone_config(&world.regions[0], "127.0.0.1:0");
    let config = config.unwrap();
    let key = config
        .lines()
        .find(|line| line.starts_with("key = "))
        .unwrap();
    let key = key.trim_start_matches("key = ").trim_matches('"');
    let start = |name: &str, config: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, config).unwrap();
        let program = std::process::Command::new(crate::support::process::PROGRAM)
            .args(["serve", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(!program.status.success());
        String::from_utf8_lossy(&program.stderr).into_owned()
    };
    let mode = |bits| {
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(bits)).unwrap();
    };
    for bits in [0o640, 0o604, 0o644] {
        mode(bits);
        let said = start("readable.toml", &config);
        assert!(
            said.contains(&format!("{bits:o}")) && said.contains("600"),
            "{said}"
        );
    }
    mode(0o600);
    let other = key.rsplit_once('/').unwrap().0.to_owned() + "/operator.key.pem";
    assert!(std::path::Path::new(&other).exists(), "{other}");
    let said = start("other.toml", &config.replace(key, &other));
    assert!(said.contains("does not belong"), "{said}");
}
