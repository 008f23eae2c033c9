//! A node whose disk is full: emergencies are served, with their records; the rest is refused until there
//! is space again, without a restart. Bars: A-05, D-05.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::store::disk::{Disk, DiskFile, RealDisk};
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::calls::{feed, find_here, opt_out};
use crate::support::expect::refused;
use crate::support::{At, Setup, emergency_physician, eventually, physician};

const HERE: At = At::Region(0);

/// The real disk, of which as little is free as is said.
#[derive(Debug)]
struct Scarce(AtomicU64);

impl Disk for Scarce {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.fsync_dir(path)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        RealDisk.mode(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        Ok(RealDisk.free(path)?.min(self.0.load(Ordering::SeqCst)))
    }

    fn allows_background(&self) -> bool {
        true
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

fn named(patient: &cpb::Identifier) -> pb::PatientRef {
    let subject = pb::patient_ref::Subject::PatientId(patient.clone());
    pb::PatientRef {
        subject: Some(subject),
    }
}

/// Opens the glass and reads the summary under it; the grant.
async fn emergency(caller: &Caller, patient: &cpb::Identifier) -> Result<String, Status> {
    let mut client = EmergencyServiceClient::new(caller.channel.clone());
    let open = pb::OpenBreakGlassRequest {
        patient: Some(named(patient)),
        reason: pb::BreakGlassReason::Unconscious.into(),
        reason_text: "意識障害のため同意を得られない".to_owned(),
        declares_consent_impossible: true,
        ..Default::default()
    };
    let opened = client.open_break_glass(caller.request(open)).await?;
    let grant_id = opened.into_inner().grant_id;
    let get = pb::GetSummaryRequest {
        patient: Some(named(patient)),
        grant_id: grant_id.clone(),
        ..Default::default()
    };
    let answer = client.get_summary(caller.request(get)).await?;
    assert!(answer.into_inner().summary.is_some());
    Ok(grant_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_serves_emergencies_with_their_records() {
    let disk = Arc::new(Scarce(AtomicU64::new(u64::MAX)));
    let mut network = Setup::standalone()
        .disk(Arc::clone(&disk) as Arc<dyn Disk>)
        .start()
        .await;
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0).clone();
    let patient = network.patient(&record);
    network.feed(&record).await;
    let code = network.institution(&record).code.clone();
    let doctor = network.acting(HERE, &physician(&code));
    opt_out(&doctor, patient.clone()).await;
    let hospital = network.emergency_hospitals(0)[0].code.clone();
    let rescuer = network.acting(HERE, &emergency_physician("E-1", &hospital));
    let reserve = network.gateway(HERE).config.node.data_dir.join("reserve");
    assert!(reserve.exists());

    disk.0.store(0, Ordering::SeqCst);
    let institution = network.institution(&record).clone();
    let system = network.system(HERE, &institution);
    let message = renkei::demo::messages::feed(&institution, &record);
    let status = refused(
        feed(&system, message.clone()).await,
        Reason::StoreUnavailable,
    );
    let hint = status.get_error_details();
    assert!(hint.retry_info().is_some(), "when to try again");
    refused(
        find_here(&doctor, patient.clone()).await,
        Reason::StoreUnavailable,
    );
    let grant = emergency(&rescuer, &patient).await.unwrap();
    assert!(!reserve.exists(), "its space is there");
    let status = network.status(HERE).await;
    assert!(!status.writable);
    assert!(status.alarms.iter().any(|alarm| alarm.code == "DISK_FULL"));

    disk.0.store(u64::MAX, Ordering::SeqCst);
    eventually("there is space, and all is taken", || async {
        feed(&system, message.clone()).await.ok()
    })
    .await;
    assert!(reserve.exists() && network.status(HERE).await.writable);
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    let audit = &network.gateway(HERE).audit;
    let events = audit.events(&Filter::default(), usize::MAX).unwrap();
    let of_grant = events.iter().filter(|event| event.grant_id == grant);
    assert_eq!(of_grant.count(), 2, "opened, and read");
    network.stop().await;
}
