//! Trust and identity change while a node serves: what is revoked or suspended is cut, everything
//! else goes on, and what is bad changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use renkei::audit::Filter;
use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::federation::Dialler;
use renkei::federation::peers::channel;
use renkei::gateway::Gateway;
use renkei::pki::dev::{IssueRequest, Kind, Layout};
use renkei::pki::tls::{ServerExpectation, client_config};
use renkei::wire::pb::admin as apb;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::common::Identifier;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::directory::{MemberStatus, SuspendInstitutionRequest};
use renkei::wire::pb::emergency::IdentifyPatientRequest;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::edge_limits::counter;
use crate::support::calls::identifiers;
use crate::support::expect;
use crate::support::raw::{HEALTH, Raw, WATCH, institution, whole};
use crate::support::shake;
use crate::support::{At, Network, Setup, emergency_physician, eventually};

const HERE: At = At::Region(0);
const SOON: Duration = Duration::from_secs(20);

async fn status(network: &Network) -> apb::GetStatusResponse {
    let operator = network.operator(HERE);
    let mut client = AdminServiceClient::new(operator.channel.clone());
    let request = operator.request(apb::GetStatusRequest {});
    client.get_status(request).await.unwrap().into_inner()
}

async fn alarms(network: &Network) -> Vec<String> {
    let alarms = status(network).await.alarms;
    alarms.into_iter().map(|alarm| alarm.code).collect()
}

fn layout(network: &Network) -> Layout {
    Layout::of(&network.world.root().join("pki"))
}

/// Puts a file in place as an operator should: whole.
fn put(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::set_permissions(&draft, std::fs::metadata(path).unwrap().permissions()).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

/// A connection with a call under way that ends only with the connection.
async fn connected(network: &Network, index: usize) -> Raw {
    let mut raw = Raw::institution(network, index).await;
    raw.begin().await;
    raw.send(&whole(HEALTH, 1)).await.unwrap();
    assert!(raw.served(1).await);
    raw.send(&whole(WATCH, 3)).await.unwrap();
    raw
}

/// Bars: T-28, T-29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_cut_and_stays_out() {
    let mut network = Setup::standalone()
        .set("reload.interval_ms", "100")
        .start()
        .await;
    let code = network.sample.regions[0].institutions[0].code.clone();
    let mut gone = connected(&network, 0).await;
    let mut other = connected(&network, 1).await;
    let revoked = Instant::now();
    network.world.pki().revoke(&format!("inst-{code}")).unwrap();
    // Only the watcher acts here.
    let ended = gone.until_closed(SOON).await;
    assert!(ended.closed, "{ended:?}");
    println!(
        "cut {} ms after the list was written",
        revoked.elapsed().as_millis()
    );
    assert_eq!(counter(&network, "cut"), 1);
    let identity = institution(&network, 0);
    if let Ok(mut again) = Raw::connect(&network, &identity).await {
        // In TLS 1.3 a client learns of the refusal when it reads.
        drop(again.send(&whole(HEALTH, 1)).await);
        assert!(again.frame().await.is_none());
    }
    other.send(&whole(HEALTH, 5)).await.unwrap();
    assert!(other.served(5).await, "others go on");
    network.stop().await;
}

/// Bars: T-29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_institution_is_cut_at_once() {
    // Not by looking at files: the directory tells.
    let network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let code = network.sample.regions[0].institutions[0].code.clone();
    let mut gone = connected(&network, 0).await;
    let mut other = connected(&network, 1).await;
    network
        .apply_directory(|directory| {
            let institutions = &mut directory.institutions;
            let one = institutions
                .iter_mut()
                .find(|one| one.institution_id == code);
            one.unwrap().set_status(MemberStatus::Suspended);
        })
        .await;
    assert!(gone.until_closed(SOON).await.closed);
    other.send(&whole(HEALTH, 5)).await.unwrap();
    assert!(other.served(5).await, "others go on");
    network.stop().await;
}

/// Bars: T-29. The operator is told how many connections a suspension cut: all of the institution's,
/// and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_says_how_many_connections_it_cut() {
    let network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let code = network.sample.regions[0].institutions[0].code.clone();
    let suspend = |reinstate| {
        let (operator, code) = (network.operator(HERE), code.clone());
        async move {
            let request = SuspendInstitutionRequest {
                institution_id: code,
                reinstate,
                reason: "key stolen".to_owned(),
                idempotency_key: uuid::Uuid::new_v4().to_string(),
                ..Default::default()
            };
            let mut client = DirectoryServiceClient::new(operator.channel.clone());
            let answer = client.suspend_institution(operator.request(request)).await;
            answer.unwrap().into_inner().connections_closed
        }
    };
    for count in [3, 1] {
        let mut gone = Vec::new();
        for _ in 0..count {
            gone.push(connected(&network, 0).await);
        }
        let mut other = connected(&network, 1).await;
        assert_eq!(suspend(false).await, count);
        for raw in &mut gone {
            assert!(raw.until_closed(SOON).await.closed);
        }
        other.send(&whole(HEALTH, 5)).await.unwrap();
        assert!(other.served(5).await, "others go on");
        assert_eq!(suspend(false).await, 0, "there are none any more");
        assert_eq!(suspend(true).await, 0, "letting in cuts nobody");
    }
    network.stop().await;
}

/// Somebody who asks the node without judging its certificate: the revocation lists of this test are
/// too late for a careful client.
fn careless(network: &Network, caller: Caller, index: usize) -> Caller {
    let config = Arc::new(shake::config(&institution(network, index)));
    let endpoint = format!("https://{}", network.address(HERE))
        .parse()
        .unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let channel = channel(&endpoint, name, config, &Dialler::open()).unwrap();
    caller.over(channel)
}

/// A call of the emergency class; whether it came as far as its handler.
async fn emergency(caller: &Caller) -> Result<(), Status> {
    let mut client = EmergencyServiceClient::new(caller.channel.clone());
    let request = caller.request(IdentifyPatientRequest::default());
    match client.identify_patient(request).await {
        Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(()),
        Err(status) => Err(status),
        Ok(_) => Ok(()),
    }
}

async fn ordinary(caller: &Caller) -> Result<(), Status> {
    match identifiers(caller, Identifier::default()).await {
        Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(()),
        Err(status) => Err(status),
        Ok(_) => Ok(()),
    }
}

/// Bars: T-10, F-19 (revocation lists): past nextUpdate all goes on for 24 h, with an alarm; then only
/// emergencies, flagged, for 72 h; then nobody. A new list ends it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_late_list_serves_emergencies_longest() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut network = Setup::standalone()
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .set("reload.interval_ms", "100")
        .start()
        .await;
    let gateway = Arc::clone(network.gateway(HERE));
    let code = network.sample.regions[0].institutions[0].code.clone();
    let due = gateway.trust.current().crl_status();
    let due = due.iter().map(|list| list.next_update).min().unwrap();
    let hours = |count: i64| due + SignedDuration::from_hours(count);
    // A person's assertion is short-lived, so each time has one of its own.
    let caller = |network: &Network| {
        let person = emergency_physician("D-1001", &code);
        careless(network, network.acting(HERE, &person), 0)
    };
    let old = caller(&network);
    ordinary(&old).await.unwrap();
    emergency(&old).await.unwrap();

    clock.set(hours(23));
    let now = caller(&network);
    ordinary(&now).await.unwrap();
    emergency(&now).await.unwrap();
    assert!(alarmed(&gateway, "CRL_STALE").await);
    assert!(!is_on(&gateway, "EMERGENCY_ON_LATE_CRL"));

    clock.set(hours(25));
    for caller in [caller(&network), caller(&network).over(old.channel.clone())] {
        let refused = ordinary(&caller).await;
        expect::refused(refused, Reason::RevocationUnknown);
        emergency(&caller).await.unwrap();
    }
    assert!(is_on(&gateway, "EMERGENCY_ON_LATE_CRL"));
    assert_eq!(counter(&network, "refused_late_list"), 2);
    assert_eq!(counter(&network, "emergencies_on_late_list"), 2);
    let flagged = |method: &str| {
        let events = gateway
            .audit
            .events(&Filter::default(), usize::MAX)
            .unwrap();
        let late = events.iter().filter(|event| {
            let of = event.method.ends_with(method);
            of && event.internal_reason == "late-list"
        });
        late.count()
    };
    assert_eq!(flagged("/IdentifyPatient"), 2, "flagged in the audit");
    assert_eq!(flagged("/QueryIdentifiers"), 2, "each refusal is audited");

    clock.set(hours(73));
    let late = caller(&network);
    assert!(emergency(&late).await.is_err());
    assert!(emergency(&old).await.is_err());

    clock.set(hours(25));
    let kept = caller(&network);
    emergency(&kept).await.unwrap();
    network.world.pki().refresh().unwrap();
    gateway.reload(false).await.unwrap();
    // On the connection from before: what was judged then is judged again.
    ordinary(&caller(&network).over(kept.channel))
        .await
        .unwrap();
    eventually("the alarm is over", || async {
        (!is_on(&gateway, "EMERGENCY_ON_LATE_CRL")).then_some(())
    })
    .await;
    network.stop().await;
}

fn is_on(gateway: &Gateway, code: &str) -> bool {
    gateway
        .edge
        .alarms
        .list()
        .iter()
        .any(|alarm| alarm.code == code)
}

async fn alarmed(gateway: &Gateway, code: &'static str) -> bool {
    eventually(code, || async { is_on(gateway, code).then_some(true) }).await
}

/// A caller whose server may have either of two certificates.
fn either(network: &Network, pins: &[renkei::types::CertificatePin]) -> tonic::transport::Channel {
    let expect = ServerExpectation {
        name: "127.0.0.1".try_into().unwrap(),
        pins: pins.to_vec(),
    };
    let (trust, clock) = (network.trust(), Arc::clone(&network.clock));
    let config = client_config(&institution(network, 1), trust, clock, expect).unwrap();
    let endpoint = format!("https://{}", network.address(HERE))
        .parse()
        .unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    channel(&endpoint, name, config, &Dialler::open()).unwrap()
}

/// Calls again and again, on one connection or on a new one each time; counts calls and failures.
fn load(
    network: &Network,
    pins: &[renkei::types::CertificatePin],
    fresh: bool,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicU64>,
) -> tokio::task::JoinHandle<Vec<String>> {
    let kept = either(network, pins);
    let new: Vec<_> = (0..if fresh { 4_000 } else { 0 })
        .map(|_| either(network, pins))
        .collect();
    let (stop, done) = (Arc::clone(stop), Arc::clone(done));
    tokio::spawn(async move {
        let mut new = new.into_iter();
        let mut failures = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let channel = if fresh {
                new.next()
            } else {
                Some(kept.clone())
            };
            let Some(channel) = channel else { break };
            let mut client = HealthClient::new(channel);
            match client.check(HealthCheckRequest::default()).await {
                Ok(_) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => failures.push(status.to_string()),
            }
        }
        failures
    })
}

/// Bars: T-33.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_hundred_reloads_under_load_drop_nothing() {
    let mut network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let first = network.node(HERE).clone();
    let next = IssueRequest::new(Kind::Gateway, "renewed", "renewed.example.jp")
        .dns("localhost")
        .ip("127.0.0.1".parse().unwrap());
    let renewed = network
        .world
        .pki()
        .issue(&next)
        .unwrap()
        .identity()
        .unwrap()
        .pin();
    let pins = [first.pin, renewed];
    let (certificate, key) = network.world.files(&first.name);
    let read = |name: &str| {
        let (certificate, key) = network.world.files(name);
        (
            std::fs::read(certificate).unwrap(),
            std::fs::read(key).unwrap(),
        )
    };
    let identities = [read("renewed"), read(&first.name)];
    let roots = layout(&network).root;

    let mut open = connected(&network, 0).await;
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let loads = [false, false, true].map(|fresh| load(&network, &pins, fresh, &stop, &done));
    let gateway = Arc::clone(network.gateway(HERE));
    let mut slowest = Duration::ZERO;
    for turn in 0..100_usize {
        let (new_certificate, new_key) = &identities[turn % 2];
        put(&key, new_key);
        put(&certificate, new_certificate);
        put(&roots, &std::fs::read(&roots).unwrap());
        network.world.pki().refresh().unwrap();
        let written = Instant::now();
        let reloaded = gateway.reload(false).await.unwrap();
        slowest = slowest.max(written.elapsed());
        assert!(reloaded.problems.is_empty(), "{reloaded:?}");
        let wanted = pins[(turn + 1) % 2];
        assert_eq!(gateway.certificate.current().pin(), wanted);
        assert!(
            reloaded.changes.len() >= 2,
            "certificate and lists: {reloaded:?}"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        assert_eq!(load.await.unwrap(), Vec::<String>::new());
    }
    open.send(&whole(HEALTH, 5)).await.unwrap();
    assert!(
        open.served(5).await,
        "the connection from before is still there"
    );
    assert_eq!(
        (counter(&network, "cut"), counter(&network, "reloads")),
        (0, 100)
    );
    assert!(done.load(Ordering::Relaxed) > 100);
    println!(
        "100 reloads, {} calls, 0 failed; the slowest was in force after {} ms",
        done.load(Ordering::Relaxed),
        slowest.as_millis()
    );
    network.stop().await;
}

/// Bars: T-33 (bad file), O-04 as far as files go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, told in its order")]
async fn what_is_bad_changes_nothing_and_raises_an_alarm() {
    let mut network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let gateway = Arc::clone(network.gateway(HERE));
    let node = network.node(HERE).clone();
    let (certificate, key) = network.world.files(&node.name);
    let layout = layout(&network);
    let good = |path: &Path| std::fs::read(path).unwrap();
    let (foreign, _) = network.world.files("operator");
    let lists: Vec<PathBuf> = std::fs::read_dir(&layout.crls)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let half = good(&certificate)[..300].to_vec();
    let cases: Vec<(&str, &Path, Vec<u8>, &str)> = vec![
        (
            "no certificate",
            &certificate,
            b"nonsense".to_vec(),
            "RELOAD_FAILED",
        ),
        ("half a certificate", &certificate, half, "RELOAD_FAILED"),
        (
            "another's certificate",
            &certificate,
            good(&foreign),
            "RELOAD_FAILED",
        ),
        ("no key", &key, Vec::new(), "RELOAD_FAILED"),
        (
            "no root",
            &layout.root,
            b"nonsense".to_vec(),
            "RELOAD_FAILED",
        ),
        (
            "another root",
            &layout.root,
            good(&layout.issuing),
            "RELOAD_FAILED",
        ),
        ("no list", &lists[0], b"nonsense".to_vec(), "CRL_REFUSED"),
    ];
    for (name, path, bad, alarm) in cases {
        let before = good(path);
        put(path, &bad);
        let reloaded = gateway.reload(false).await.unwrap();
        assert!(!reloaded.problems.is_empty(), "{name}");
        assert_eq!(gateway.certificate.current().pin(), node.pin, "{name}");
        assert!(alarms(&network).await.contains(&alarm.to_owned()), "{name}");
        let mut raw = connected(&network, 0).await;
        put(path, &before);
        let reloaded = gateway.reload(false).await.unwrap();
        assert!(reloaded.problems.is_empty(), "{name}: {reloaded:?}");
        assert!(
            !alarms(&network).await.contains(&alarm.to_owned()),
            "{name}"
        );
        raw.send(&whole(HEALTH, 5)).await.unwrap();
        assert!(raw.served(5).await, "{name}: the connection goes on");
    }
    // An older list does not come back, also beside a bad one, and a good one is taken all the same.
    let old: Vec<(PathBuf, Vec<u8>)> = lists
        .iter()
        .map(|list| (list.clone(), good(list)))
        .collect();
    let code = network.sample.regions[0].institutions[0].code.clone();
    network.world.pki().revoke(&format!("inst-{code}")).unwrap();
    std::fs::write(layout.crls.join("bad.crl"), b"nonsense").unwrap();
    gateway.reload(false).await.unwrap();
    let revoked = |network: &Network| {
        let status = network.gateway(HERE).trust.current().crl_status();
        status.iter().map(|list| list.revoked).sum::<usize>()
    };
    assert_eq!(revoked(&network), 1, "taken beside a bad file");
    for (path, bytes) in &old {
        put(path, bytes);
    }
    let reloaded = gateway.reload(false).await.unwrap();
    assert!(
        reloaded
            .problems
            .iter()
            .any(|problem| problem.contains("lower than")),
        "{reloaded:?}"
    );
    assert_eq!(revoked(&network), 1, "the newer list stays");
    network.stop().await;
}

/// Operators may ask for a reload, and for what it would do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_reload_and_see_lists_and_counters() {
    let mut network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let told = status(&network).await;
    assert_eq!(told.revocation_lists.len(), 2);
    assert!(told.connections >= 1);
    assert!(told.counts["edge.handshakes"] >= 1, "{:?}", told.counts);
    network.world.pki().refresh().unwrap();
    let operator = network.operator(HERE);
    let mut client = AdminServiceClient::new(operator.channel.clone());
    for (validate_only, number) in [
        (true, &told.revocation_lists[0].number),
        (false, &String::new()),
    ] {
        let request = apb::ReloadConfigurationRequest {
            validate_only,
            idempotency_key: String::new(),
        };
        let answer = client
            .reload_configuration(operator.request(request))
            .await
            .unwrap();
        let answer = answer.into_inner();
        assert_eq!(
            (answer.changes.len(), answer.problems.len()),
            (2, 0),
            "{answer:?}"
        );
        let now = status(&network).await.revocation_lists.remove(0).number;
        assert_eq!(now == *number, validate_only);
    }
    network.stop().await;
}

/// A host of lists that answers every request with `answer`; gives the request lines.
async fn host(
    answer: Arc<std::sync::Mutex<Vec<u8>>>,
) -> (std::net::SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match tcp.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            seen.lock()
                .unwrap()
                .push(text.lines().next().unwrap_or_default().to_owned());
            let answer = answer.lock().unwrap().clone();
            // The node may have had enough before the end.
            drop(tcp.write_all(&answer).await);
        }
    });
    (address, lines)
}

fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn fetching(proxy: bool) {
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().to_str().unwrap().to_owned();
    let answer = Arc::new(std::sync::Mutex::new(http("404 Not Found", b"")));
    let (address, lines) = host(Arc::clone(&answer)).await;
    let mut setup = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .set("tls.crls", &format!("[\"{folder}\"]"))
        .set("revocation.folder", &folder)
        .set("revocation.interval_ms", "3600000");
    let url = if proxy {
        setup = setup.set("revocation.proxy", &format!("http://{address}"));
        "http://crl.example.jp/issuing.crl".to_owned()
    } else {
        format!("http://{address}/issuing.crl")
    };
    let setup = setup.set("revocation.fetch", &format!("[\"{url}\"]"));
    let network = setup.start_with(|world| {
        let from = Layout::of(&world.root().join("pki")).crls;
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, kept.path().join(path.file_name().unwrap())).unwrap();
        }
    });
    let mut network = network.await;
    let gateway = Arc::clone(network.gateway(HERE));
    let old = network.world.pki().crls()[1].to_vec();
    let code = network.sample.regions[0].institutions[0].code.clone();
    let mut gone = connected(&network, 0).await;
    network.world.pki().revoke(&format!("inst-{code}")).unwrap();
    let new = network.world.pki().crls()[1].to_vec();

    for (name, bad) in [
        ("not there", http("404 Not Found", &new)),
        ("redirect", http("302 Found", &new)),
        ("nonsense", http("200 OK", b"<html>")),
        ("endless", http("200 OK", &vec![0; 40 << 20])),
        ("broken off", http("200 OK", &new)[..300].to_vec()),
    ] {
        *answer.lock().unwrap() = bad;
        assert!(gateway.fetch_lists().await.unwrap().is_empty(), "{name}");
        assert!(
            alarms(&network)
                .await
                .contains(&"CRL_FETCH_FAILED".to_owned()),
            "{name}"
        );
    }
    *answer.lock().unwrap() = http("200 OK", &new);
    let taken = gateway.fetch_lists().await.unwrap();
    assert_eq!(taken.len(), 1);
    assert!(
        !alarms(&network)
            .await
            .contains(&"CRL_FETCH_FAILED".to_owned())
    );
    assert_eq!(std::fs::read(&taken[0].path).unwrap(), new, "kept whole");
    assert!(gone.until_closed(SOON).await.closed, "in force at once");
    // An older one is refused, and the newer one stays where it is.
    *answer.lock().unwrap() = http("200 OK", &old);
    assert!(gateway.fetch_lists().await.unwrap().is_empty());
    assert_eq!(std::fs::read(&taken[0].path).unwrap(), new);
    let target = if proxy { url.as_str() } else { "/issuing.crl" };
    let lines = lines.lock().unwrap().clone();
    assert!(
        lines
            .iter()
            .all(|line| *line == format!("GET {target} HTTP/1.1")),
        "{lines:?}"
    );
    network.stop().await;
}

/// Bars: T-12 (by way of a host).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_fetched_and_judged() {
    fetching(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_fetched_through_a_proxy() {
    fetching(true).await;
}

/// An institution that is let in again is served again, on a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reinstated_institution_is_served_again() {
    let network = Setup::standalone().start().await;
    let code = network.sample.regions[0].institutions[0].code.clone();
    for status in [MemberStatus::Suspended, MemberStatus::Active] {
        network
            .apply_directory(|directory| {
                let institutions = &mut directory.institutions;
                let one = institutions
                    .iter_mut()
                    .find(|one| one.institution_id == code);
                one.unwrap().set_status(status);
            })
            .await;
    }
    drop(connected(&network, 0).await);
    eventually("the connection is over", || async {
        let live = network.gateway(HERE).edge.connections.len();
        (live <= 2).then_some(())
    })
    .await;
    network.stop().await;
}
