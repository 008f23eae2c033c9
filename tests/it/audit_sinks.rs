//! The audit log is carried to collectors, whole and in order, whatever happens to them (A-19, A-20,
//!

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use renkei::audit::Filter;
use renkei::pki::IdentityHandle;
use renkei::pki::tls::server_config;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::calls::identifiers;
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
