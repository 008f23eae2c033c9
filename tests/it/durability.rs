//! A node killed at any moment loses nothing it acknowledged, and keeps nothing by halves (INV-1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use renkei::clock::{Clock, SystemClock};
use renkei::demo::actor::{Caller, Link};
use renkei::demo::messages;
use renkei::demo::world::World;
use renkei::types::HomeCommunityId;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::calls::feed;
use crate::support::physician;
use crate::support::process::Process;
use crate::support::{Prepared, prepare};

const KILLS: usize = 5;
const WORKERS: usize = 8;

/// xorshift64*: enough to choose moments, and the same for the same seed.
struct Moments(u64);

impl Moments {
    /// `RENKEI_TEST_SEED` if it is set; printed, so that a failure can be had again.
    fn new() -> Self {
        let chosen = std::env::vars().find(|(name, _)| name == "RENKEI_TEST_SEED");
        let seed = match chosen {
            Some((_, value)) => value.parse().unwrap(),
            None => SystemClock.now().as_microsecond().unsigned_abs() | 1,
        };
        println!("RENKEI_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

/// What was sent, and whether it was acknowledged.
struct Sent {
    patient: ipb::Patient,
    acknowledged: Option<String>,
}

struct Node {
    world: World,
    clock: Arc<dyn Clock>,
    process: Process,
    feeds: Vec<ipb::FeedPatientRequest>,
    institution: String,
}

impl Node {
    async fn start(folder: &tempfile::TempDir) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Prepared { world, sample } = prepare(folder, 1, Arc::clone(&clock));
        let config = world.standalone_config(&world.regions[0], "127.0.0.1:0");
        let nodes = folder.path().join("nodes");
        let process = Process::start(&nodes, "node", &config.unwrap()).await;
        let home = &sample.regions[0].institutions[0];
        let records = sample.people.iter().flat_map(|person| &person.records);
        let node = Self {
            feeds: records.map(|record| messages::feed(home, record)).collect(),
            institution: home.code.clone(),
            world,
            clock,
            process,
        };
        let here = [node.process.address.clone()];
        let mut directory = node.world.directory("127.0.0.1:9", &here).unwrap();
        directory.communities.remove(0);
        let operator = node.caller("operator", false);
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let applied = client.apply_directory(operator.request(directory)).await;
        applied.unwrap();
        node
    }

    fn caller(&self, certificate: &str, as_physician: bool) -> Caller {
        let identity = self.world.identity(certificate).unwrap();
        let trust = self.world.trust().unwrap();
        let home: HomeCommunityId = self.world.regions[0].home.parse().unwrap();
        let person = as_physician.then(|| physician(&self.institution));
        let link = Link {
            address: &self.process.address,
            pin: self.world.regions[0].pin,
            identity: &identity,
            trust: &trust,
            clock: &self.clock,
        };
        Caller::new(&link, person.as_ref(), &home).unwrap()
    }

    fn system(&self) -> Caller {
        self.caller(&format!("inst-{}", self.institution), false)
    }

    /// The `number`th feed: a record of the sample under an identifier of its own.
    fn request(&self, number: usize) -> ipb::FeedPatientRequest {
        let mut request = self.feeds[number % self.feeds.len()].clone();
        request.idempotency_key.clear();
        let patient = request.patient.as_mut().unwrap();
        let identifier = patient.identifier.as_mut().unwrap();
        identifier.value = format!("D{number:08}");
        request
    }

    /// Feeds with all workers until `enough` were acknowledged, then kills the node.
    async fn feed_and_kill(&mut self, next: &AtomicUsize, enough: usize, pause: u64) -> Vec<Sent> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let reached = Arc::new(Notify::new());
        let mut work = JoinSet::new();
        for worker in 0..WORKERS {
            let (sent, acknowledged) = (Arc::clone(&sent), Arc::clone(&acknowledged));
            let reached = Arc::clone(&reached);
            let caller = self.system();
            let mine: Vec<_> = (0..enough + 64)
                .filter(|number| number % WORKERS == worker)
                .map(|number| self.request(next.load(Ordering::Relaxed) + number))
                .collect();
            work.spawn(async move {
                for request in mine {
                    let patient = request.patient.clone().unwrap();
                    let answer = feed(&caller, request).await;
                    let stopped = answer.is_err();
                    let linkage = answer.ok().map(|answer| answer.into_inner().linkage_id);
                    let known = linkage.is_some();
                    sent.lock().await.push(Sent {
                        patient,
                        acknowledged: linkage,
                    });
                    if known && acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == enough {
                        reached.notify_one();
                    }
                    if stopped {
                        return;
                    }
                }
            });
        }
        reached.notified().await;
        tokio::time::sleep(Duration::from_micros(pause)).await;
        self.process.kill().await;
        work.join_all().await;
        next.fetch_add(enough + 64, Ordering::Relaxed);
        Arc::into_inner(sent).unwrap().into_inner()
    }

    /// What the node knows of a patient: the record and the linkage id, or nothing.
    async fn known(&self, doctor: &Caller, id: cpb::Identifier) -> Option<(ipb::Patient, String)> {
        use ipb::get_patient_request::Subject;
        let mut client = IdentityServiceClient::new(doctor.channel.clone());
        let request = ipb::GetPatientRequest {
            subject: Some(Subject::Identifier(id)),
        };
        match client.get_patient(doctor.request(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let linkage = answer.person.expect("whole: a person").linkage_id;
                Some((answer.record.expect("whole: a record"), linkage))
            }
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status}");
                None
            }
        }
    }

    async fn check(&self, all: &[Sent]) {
        let doctor = self.caller(&format!("inst-{}", self.institution), true);
        for sent in all {
            let id = sent.patient.identifier.clone().unwrap();
            let number = id.value.clone();
            let known = self.known(&doctor, id).await;
            match (&sent.acknowledged, known) {
                (None, None) => {}
                (None, Some((record, _))) => {
                    assert_eq!(record.demographics, sent.patient.demographics, "{number}");
                }
                (Some(linkage), Some((record, now))) => {
                    assert_eq!(record.demographics, sent.patient.demographics, "{number}");
                    assert_eq!(*linkage, now, "{number} has another linkage id");
                }
                (Some(_), None) => panic!("{number} was acknowledged and is lost"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let mut moments = Moments::new();
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(&folder).await;
    let next = AtomicUsize::new(0);
    let mut all = Vec::new();
    for kill in 0..KILLS {
        let enough = 10 + usize::try_from(moments.below(60)).unwrap();
        let pause = moments.below(3_000);
        let sent = node.feed_and_kill(&next, enough, pause).await;
        let (acknowledged, attempted) = (
            sent.iter()
                .filter(|sent| sent.acknowledged.is_some())
                .count(),
            sent.len(),
        );
        println!("kill {kill}: {acknowledged} of {attempted} acknowledged");
        assert!(acknowledged >= enough);
        all.extend(sent);
        node.process.restart().await;
        node.check(&all).await;
    }
    let log = node.process.log();
    assert!(!log.contains("panicked"), "{log}");
    node.process.stop().await;
}

/// Bar: E-01. A crash leaves no memory on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_no_core() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(&folder).await;
    let proc = std::path::PathBuf::from(format!("/proc/{}", node.process.pid()));
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let values: Vec<&str> = core.split_whitespace().skip(4).collect();
    assert_eq!(values, ["0", "0", "bytes"], "{core}");
    node.process.kill().await;
}
