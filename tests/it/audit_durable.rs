//! No answer before its audit record is durable (A-01, INV-2), by a trace of the disk; and none at all
//! where it cannot become so.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Body as _;
use prost::Message as _;
use renkei::api::grpc::services;
use renkei::demo::actor::Caller;
use renkei::store::Sequence;
use renkei::store::disk::{Disk, DiskFile, RealDisk};
use renkei::wire::RECEIPT;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::identity as ipb;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::Service as _;

use crate::audit_methods::{methods, peer, request};
use crate::support::calls::find_query;
use crate::support::tier::count;
use crate::support::{At, Setup, eventually, officer, physician};

const HERE: At = At::Region(0);

/// How far a file was written, and how far of that was synced afterwards.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    written: u64,
    durable: u64,
}

/// A disk that notes, of each file of the ledger, how far it is durable.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    real: RealDisk,
    files: Mutex<BTreeMap<String, Arc<Mutex<Reach>>>>,
    /// Syncs of the ledger fail.
    broken: Arc<AtomicBool>,
    /// Syncs of the ledger take so many milliseconds more.
    pub(crate) slow: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    reach: Arc<Mutex<Reach>>,
    broken: Arc<AtomicBool>,
    slow: Arc<AtomicU64>,
}

impl Segment {
    fn note<T>(&self, change: impl FnOnce(&mut Reach) -> T) -> T {
        change(&mut self.reach.lock().unwrap())
    }
}

impl DiskFile for Segment {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        self.note(|reach| reach.written = reach.written.max(end));
        Ok(())
    }

    fn fdatasync(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        let slow = Duration::from_millis(self.slow.load(Ordering::SeqCst));
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        let written = self.note(|reach| reach.written);
        self.file.fdatasync()?;
        self.note(|reach| reach.durable = reach.durable.max(written));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.preallocate(from, to)
    }
}

/// The name of a file of the ledger.
fn in_ledger(path: &Path) -> Option<String> {
    let folder = path.parent().and_then(Path::file_name);
    folder.filter(|folder| *folder == "ledger")?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

impl Traced {
    fn traced(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let Some(name) = in_ledger(path) else {
            return file;
        };
        let reach = Arc::clone(self.files.lock().unwrap().entry(name).or_default());
        let (broken, slow) = (Arc::clone(&self.broken), Arc::clone(&self.slow));
        Arc::new(Segment {
            file,
            reach,
            broken,
            slow,
        })
    }

    fn reach(&self) -> BTreeMap<String, Reach> {
        let files = self.files.lock().unwrap();
        let reach = |reach: &Arc<Mutex<Reach>>| *reach.lock().unwrap();
        files
            .iter()
            .map(|(name, of)| (name.clone(), reach(of)))
            .collect()
    }
}

impl Disk for Traced {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.traced(path, self.real.open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.real.open_read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(name) = in_ledger(path) {
            self.files.lock().unwrap().remove(&name);
        }
        Ok(self.traced(path, self.real.create(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A segment prepared ahead gets its name later.
        if let (Some(from), Some(to)) = (in_ledger(from), in_ledger(to)) {
            let mut files = self.files.lock().unwrap();
            if let Some(reach) = files.remove(&from) {
                files.insert(to, reach);
            }
        }
        self.real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.real.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.real.list(path)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        self.real.fsync_dir(path)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.real.mode(path)
    }

    fn allows_background(&self) -> bool {
        self.real.allows_background()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.real.lock(path)
    }
}

/// Calls that show something, each with whoever may make it.
fn disclosing<'a>(
    patient: &renkei::wire::pb::common::Identifier,
    system: &'a Caller,
    doctor: &'a Caller,
    officer: &'a Caller,
) -> Vec<(&'static str, Vec<u8>, &'a Caller)> {
    let identifiers = ipb::QueryIdentifiersRequest {
        subject: Some(ipb::query_identifiers_request::Subject::Identifier(
            patient.clone(),
        )),
        ..Default::default()
    };
    let documents = dpb::QueryRegistryRequest {
        query: Some(find_query(patient.clone())),
        ..Default::default()
    };
    vec![
        (
            "renkei.identity.v1.IdentityService/QueryIdentifiers",
            identifiers.encode_to_vec(),
            system,
        ),
        (
            "renkei.documents.v1.DocumentService/QueryRegistry",
            documents.encode_to_vec(),
            doctor,
        ),
        (
            "renkei.audit.v1.AuditService/SearchEvents",
            Vec::new(),
            officer,
        ),
    ]
}

/// at the moment an answer is given out, the frame of its receipt was written and synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_leaves_before_its_record_is_durable() {
    let disk = Arc::new(Traced::default());
    let network = Setup::standalone()
        .disk(Arc::clone(&disk) as _)
        .start()
        .await;
    let record = network.record(network.sample.scenario.cross_region, 0);
    network.feed(record).await;
    let institution = network.institution(record).clone();
    let (system, doctor, officer) = (
        network.system(HERE, &institution),
        network.acting(HERE, &physician(&institution.code)),
        network.acting(HERE, &officer(&institution.code)),
    );
    let peer = peer(&network, &format!("inst-{}", institution.code));
    let patient = network.patient(record);
    let shown = disclosing(&patient, &system, &doctor, &officer);
    let methods = methods();
    let gateway = network.gateway(HERE);
    let mut services = services(gateway).unwrap();
    let (mut answers, mut served) = (0, 0);
    while answers < count(600, 10_000, 100_000) {
        let empty = methods.iter().map(|name| (name.as_str(), &[][..], &system));
        let full = shown
            .iter()
            .map(|(name, message, caller)| (*name, &message[..], *caller));
        for (method, message, caller) in empty.chain(full) {
            let mut request = request(&peer, method, &format!("r{answers}"), message);
            let metadata = caller.request(()).metadata().clone().into_headers();
            request.headers_mut().extend(metadata);
            let answer = services.call(request).await.unwrap();
            let durable = disk.reach();
            let receipt = answer.headers()[RECEIPT].to_str().unwrap();
            let index: u64 = receipt.split(' ').nth(1).unwrap().parse().unwrap();
            let frame = gateway.store.read_frames(Sequence(index + 1)).next();
            let place = frame.unwrap().unwrap().place;
            let reach = durable[&format!("{:010}.seg", place.segment)];
            assert!(
                place.offset < reach.durable,
                "{method}: {place:?} {reach:?}"
            );
            answers += 1;
            served += u64::from(!answer.headers().contains_key("grpc-status"));
        }
    }
    println!("{answers} answers, {served} served");
    assert!(served >= answers / 30, "{served} of {answers} served");
    network.stop().await;
}

/// where the ledger cannot be written nothing is disclosed, however often it is asked for; who
/// asks is told to come again, and operators are told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_disclosed_that_cannot_be_recorded() {
    let disk = Arc::new(Traced::default());
    let setup = Setup::standalone().set("reload.interval_ms", "50");
    let network = setup.disk(Arc::clone(&disk) as _).start().await;
    let record = network.record(network.sample.scenario.cross_region, 0);
    network.feed(record).await;
    let institution = network.institution(record).clone();
    let (system, doctor, officer) = (
        network.system(HERE, &institution),
        network.acting(HERE, &physician(&institution.code)),
        network.acting(HERE, &officer(&institution.code)),
    );
    let peer = peer(&network, &format!("inst-{}", institution.code));
    let patient = network.patient(record);
    let shown = disclosing(&patient, &system, &doctor, &officer);
    let gateway = network.gateway(HERE);
    let mut services = services(gateway).unwrap();
    let health = || async {
        let mut client = HealthClient::new(system.channel.clone());
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.unwrap().into_inner().status()
    };
    for broken in [false, true] {
        disk.broken.store(broken, Ordering::SeqCst);
        for turn in 0..20 {
            for (method, message, caller) in &shown {
                let id = format!("{broken}-{turn}");
                let mut request = request(&peer, method, &id, message);
                let metadata = caller.request(()).metadata().clone().into_headers();
                request.headers_mut().extend(metadata);
                let answer = services.call(request).await.unwrap();
                let status = answer.headers().get("grpc-status");
                let status = status.map(|status| status.to_str().unwrap().to_owned());
                let unavailable = (Code::Unavailable as i32).to_string();
                let expected = broken.then_some(unavailable);
                assert_eq!(status, expected, "{method}");
                // An error without anything before it, and no receipt for what is not recorded.
                assert_eq!(answer.body().is_end_stream(), broken, "{method}");
                assert_eq!(answer.headers().contains_key(RECEIPT), !broken, "{method}");
            }
        }
        let expected = match broken {
            false => ServingStatus::Serving,
            true => ServingStatus::NotServing,
        };
        eventually("its health says so", || async {
            (health().await == expected).then_some(())
        })
        .await;
    }
    eventually("an alarm", || async {
        let mut alarms = gateway.edge.alarms.list().into_iter();
        alarms.find(|alarm| alarm.code == "STORE_STOPPED")
    })
    .await;
    // It cannot be stopped in order, since its last frame cannot be written.
    drop(network);
}
