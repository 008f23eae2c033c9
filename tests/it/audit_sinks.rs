//! The audit log is carried to collectors, whole and in order, whatever happens to them (A-19, A-20,
//!

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use renkei::audit::Filter;
use renkei::pki::IdentityHandle;
use renkei::pki::tls::server_config;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::calls::identifiers;
use crate::support::receiver::{Posted, Receiver};
use crate::support::{At, Network, Setup, eventually, officer};

const HERE: At = At::Region(0);

fn has_alarm(network: &Network) -> bool {
    let alarms = network.gateway(HERE).edge.alarms.list();
    alarms.iter().any(|alarm| alarm.code == "AUDIT_SINK_BEHIND")
}

/// Every event of the node so far, by place and request id.
fn recorded(network: &Network) -> Vec<(u64, String)> {
    let audit = &network.gateway(HERE).audit;
    let events = audit.events(&Filter::default(), usize::MAX).unwrap();
    let all = events.into_iter();
    all.map(|event| (event.sequence, event.request_id))
        .collect()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The place in the log that a record id names.
fn place(id: &str) -> u64 {
    id.split('-').nth(1).unwrap().parse().unwrap()
}

/// The places of all resources in a file that has each once.
fn places(file: &Path) -> Vec<u64> {
    let all = lines(file);
    let ids: Vec<&str> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
    let once: BTreeSet<_> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "a record twice");
    ids.into_iter().map(place).collect()
}

async fn ask(network: &Network) {
    let institution = &network.sample.regions[0].institutions[0];
    let system = network.system(HERE, institution);
    for _ in 0..10 {
        let nobody = renkei::wire::pb::common::Identifier::default();
        identifiers(&system, nobody).await.unwrap_err();
    }
}

async fn all_there(network: &Network, file: &Path) {
    eventually("the file has every event", || async {
        let wanted: Vec<u64> = recorded(network).into_iter().map(|(at, _)| at).collect();
        (places(file) == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_every_event_once_over_restarts_and_a_lost_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (away, sunk) = (folder.path().join("away"), folder.path().join("sunk"));
    std::fs::create_dir(&sunk).unwrap();
    let file = sunk.join("audit.jsonl");
    let sinks = format!("[{{ name = \"file\", file = \"{}\" }}]", file.display());
    let mut network = Setup::standalone().set("audit.sinks", &sinks).start().await;
    ask(&network).await;
    all_there(&network, &file).await;
    for resource in lines(&file) {
        assert_eq!(resource["resourceType"], "AuditEvent");
        for field in ["type", "recorded", "agent", "source", "outcome"] {
            assert!(!resource[field].is_null(), "{resource}");
        }
    }
    // The folder is gone: calls are served, an alarm is on, and it goes on when it is back.
    std::fs::rename(&sunk, &away).unwrap();
    ask(&network).await;
    eventually("there is an alarm", || async {
        has_alarm(&network).then_some(())
    })
    .await;
    std::fs::rename(&away, &sunk).unwrap();
    all_there(&network, &file).await;
    eventually("the alarm is over", || async {
        (!has_alarm(&network)).then_some(())
    })
    .await;
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    ask(&network).await;
    all_there(&network, &file).await;
    network.stop().await;
}

/// A collector: what it got over all connections. It may be stopped, and forget what it read last.
struct Collector {
    got: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// The messages in what was read, and what is left of one.
fn messages(bytes: &mut Vec<u8>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let Some(space) = bytes.iter().position(|byte| *byte == b' ') else {
            return all;
        };
        let length: usize = std::str::from_utf8(&bytes[..space])
            .unwrap()
            .parse()
            .unwrap();
        let end = space + 1 + length;
        if bytes.len() < end {
            return all;
        }
        all.push(String::from_utf8(bytes[space + 1..end].to_vec()).unwrap());
        bytes.drain(..end);
    }
}

impl Collector {
    fn start(network: &Network, listener: TcpListener, got: Arc<Mutex<Vec<String>>>) -> Self {
        let name = network.node(HERE).name.clone();
        let identity = IdentityHandle::new(network.world.identity(&name).unwrap());
        let config = server_config(identity, network.trust(), Arc::clone(&network.clock)).unwrap();
        let acceptor = TlsAcceptor::from(config);
        let kept = Arc::clone(&got);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let (mut bytes, mut read) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut read).await {
                    bytes.extend_from_slice(&read[..count]);
                    kept.lock().unwrap().extend(messages(&mut bytes));
                }
            }
        });
        Self { got, task }
    }

    /// The places in the log of what came.
    fn places(&self) -> BTreeSet<u64> {
        let got = self.got.lock().unwrap();
        let id = |message: &String| {
            let from = message.find("ParticipantObjectID=\"").unwrap() + 21;
            place(message[from..].split('"').next().unwrap())
        };
        got.iter().map(id).collect()
    }
}

/// Forgets so many of the last messages.
fn forget(got: &Mutex<Vec<String>>, last: usize) {
    let mut kept = got.lock().unwrap();
    let left = kept.len() - last;
    kept.truncate(left);
}

/// a collector that is away, and one that swallowed what it had not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_syslog_collector_gets_everything_though_it_dies() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sinks = format!("[{{ name = \"siem\", syslog = \"{address}\" }}]");
    let network = Setup::standalone().set("audit.sinks", &sinks).start().await;
    let got = Arc::<Mutex<Vec<String>>>::default();
    let mut collector = Collector::start(&network, listener, Arc::clone(&got));
    for round in 0..3 {
        ask(&network).await;
        let all_there = || async {
            let wanted: BTreeSet<u64> = recorded(&network).into_iter().map(|(at, _)| at).collect();
            (collector.places() == wanted).then_some(())
        };
        eventually("the collector has every event", all_there).await;
        // It dies, and with it what it had read last.
        collector.task.abort();
        assert!((&mut collector.task).await.unwrap_err().is_cancelled());
        forget(&got, 5 * (round + 1));
        ask(&network).await;
        let listener = TcpListener::bind(address).await.unwrap();
        collector = Collector::start(&network, listener, Arc::clone(&got));
    }
    let all_there = || async {
        let wanted: BTreeSet<u64> = recorded(&network).into_iter().map(|(at, _)| at).collect();
        (collector.places() == wanted).then_some(())
    };
    eventually("the collector has every event", all_there).await;
    for message in got.lock().unwrap().iter() {
        let (header, body) = message.split_once('\u{feff}').unwrap();
        assert!(
            header.starts_with("<8") && header.contains(">1 20"),
            "{header}"
        );
        assert!(body.ends_with("</AuditMessage>"), "{body}");
    }
    collector.task.abort();
    network.stop().await;
}

/// What a FHIR repository has: the resources by id, as last put.
type Repository = Arc<Mutex<BTreeMap<String, Value>>>;

/// Takes a batch into the repository and says of each event that it did.
fn take(repository: &Repository, posted: &Posted) -> Vec<Value> {
    assert_eq!(posted.path(), "/fhir");
    assert!(posted.head.contains("content-type: application/fhir+json"));
    let bundle: Value = serde_json::from_str(&posted.content).unwrap();
    assert_eq!(
        (&bundle["resourceType"], &bundle["type"]),
        (&json!("Bundle"), &json!("batch"))
    );
    let entries = bundle["entry"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.len() <= 100,
        "{}",
        entries.len()
    );
    let mut kept = repository.lock().unwrap();
    let put = |entry: &Value| {
        let resource = &entry["resource"];
        let id = resource["id"].as_str().unwrap();
        assert_eq!(resource["resourceType"], "AuditEvent");
        assert_eq!(entry["request"]["method"], "PUT");
        assert_eq!(entry["request"]["url"], format!("AuditEvent/{id}"));
        let before = kept.insert(id.to_owned(), resource.clone());
        // The receiver knows a repeat: it is the same to the letter.
        assert!(before.is_none_or(|before| before == *resource), "{id}");
        json!({"response": {"status": "201 Created"}})
    };
    entries.iter().map(put).collect()
}

fn answer(entries: &[Value]) -> (u16, String) {
    let bundle = json!({"resourceType": "Bundle", "type": "batch-response", "entry": entries});
    (200, bundle.to_string())
}

async fn repository_has_all(network: &Network, repository: &Repository) {
    eventually("the repository has every event", || async {
        let wanted: BTreeSet<u64> = recorded(network).into_iter().map(|(at, _)| at).collect();
        let kept = repository.lock().unwrap();
        let places: BTreeSet<u64> = kept.keys().map(|id| place(id)).collect();
        (places == wanted).then_some(())
    })
    .await;
}

/// of FHIR over HTTPS: a repository that is away, one that takes events and dies before it
/// says so, and one that refuses one event for a while, over a restart of the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fhir_repository_gets_every_event_though_it_dies() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sinks = format!("[{{ name = \"arr\", fhir = \"https://{address}/fhir\" }}]");
    let mut network = Setup::standalone().set("audit.sinks", &sinks).start().await;
    let repository = Repository::default();
    let kept = Arc::clone(&repository);
    let working = move |posted: Posted| Some(answer(&take(&kept, &posted)));
    let receiver = Receiver::start(&network, HERE, listener, working.clone());
    ask(&network).await;
    repository_has_all(&network, &repository).await;

    // Away: calls are served, and there is an alarm.
    receiver.stop().await;
    ask(&network).await;
    eventually("there is an alarm", || async {
        has_alarm(&network).then_some(())
    })
    .await;
    network.stop_node(HERE).await;
    network.start_node(HERE).await;

    // Takes them and dies before it says so, as often as it is asked until told otherwise.
    let kept = Arc::clone(&repository);
    let dying = move |posted: Posted| {
        take(&kept, &posted);
        None
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::start(&network, HERE, listener, dying);
    repository_has_all(&network, &repository).await;
    eventually("there is an alarm", || async {
        has_alarm(&network).then_some(())
    })
    .await;
    receiver.stop().await;

    // Refuses the last event of each batch, and forgets it.
    let kept = Arc::clone(&repository);
    let refusing = move |posted: Posted| {
        let mut entries = take(&kept, &posted);
        let bundle: Value = serde_json::from_str(&posted.content).unwrap();
        let last = bundle["entry"].as_array().unwrap().last().unwrap();
        let id = last["resource"]["id"].as_str().unwrap();
        kept.lock().unwrap().remove(id).unwrap();
        *entries.last_mut().unwrap() = json!({"response": {"status": "422 Unprocessable"}});
        Some(answer(&entries))
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::start(&network, HERE, listener, refusing);
    eventually("the alarm says what is refused", || async {
        let alarms = network.gateway(HERE).edge.alarms.list();
        let said = |alarm: &renkei::edge::Alarm| alarm.message.contains("did not take AuditEvent/");
        alarms.iter().any(said).then_some(())
    })
    .await;
    receiver.stop().await;

    let listener = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::start(&network, HERE, listener, working);
    repository_has_all(&network, &repository).await;
    eventually("the alarm is over", || async {
        (!has_alarm(&network)).then_some(())
    })
    .await;
    receiver.stop().await;
    network.stop().await;
}

/// A repository whose key is not the one that is named gets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fhir_repository_with_another_key_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pin = "ab".repeat(32);
    let sinks = format!(
        "[{{ name = \"arr\", fhir = \"https://{address}/fhir\", certificate_pin = \"{pin}\" }}]"
    );
    let network = Setup::standalone().set("audit.sinks", &sinks).start().await;
    let repository = Repository::default();
    let kept = Arc::clone(&repository);
    let receiver = Receiver::start(&network, HERE, listener, move |posted| {
        Some(answer(&take(&kept, &posted)))
    });
    ask(&network).await;
    eventually("there is an alarm", || async {
        has_alarm(&network).then_some(())
    })
    .await;
    assert!(repository.lock().unwrap().is_empty());
    receiver.stop().await;
    network.stop().await;
}

/// An officer takes out the institution's own events, oldest first, in either form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_officer_exports_the_institutions_own_events() {
    let network = Setup::standalone().start().await;
    ask(&network).await;
    let institution = &network.sample.regions[0].institutions[0];
    let other = network.system(HERE, &network.sample.regions[0].institutions[1]);
    let nobody = renkei::wire::pb::common::Identifier::default();
    identifiers(&other, nobody).await.unwrap_err();
    let officer = network.acting(HERE, &officer(&institution.code));
    let mut client = AuditServiceClient::new(officer.channel.clone());
    for (format, start) in [
        (pb::ExportFormat::Fhir, "{\""),
        (pb::ExportFormat::Dicom, "<?xml"),
    ] {
        let own = recorded_by(&network, &institution.code);
        let request = pb::ExportEventsRequest {
            format: format.into(),
            ..Default::default()
        };
        let answer = client.export_events(officer.request(request)).await;
        let mut stream = answer.unwrap().into_inner();
        let mut given = Vec::new();
        while let Some(event) = stream.message().await.unwrap() {
            let text = String::from_utf8(event.event.to_vec()).unwrap();
            assert!(text.starts_with(start), "{text}");
            assert!(text.contains(&institution.code));
            let log = network.gateway(HERE).audit.log();
            let (leaf, _) = log
                .inclusion(event.sequence, log.catch_up().unwrap())
                .unwrap();
            assert_eq!(event.leaf_hash.to_vec(), leaf);
            given.push(event.sequence);
        }
        assert_eq!(given, own);
    }
    network.stop().await;
}

fn recorded_by(network: &Network, institution: &str) -> Vec<u64> {
    let filter = Filter {
        institution: institution.to_owned(),
        ..Filter::default()
    };
    let audit = &network.gateway(HERE).audit;
    let events = audit.events(&filter, usize::MAX).unwrap();
    events.into_iter().map(|event| event.sequence).collect()
}
