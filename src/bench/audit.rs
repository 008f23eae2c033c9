//! `bench audit`: the audit log over many entries, against hashing the ledger's bytes from end to end:
//! following it, verifying it from its files, a report about one patient, and proofs.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use hdrhistogram::Histogram;
use prost::Message as _;

use super::Figure;
use super::ledger::{Room, mix, sixteen};
use crate::audit::verify::{VerifyRequest, verify};
use crate::audit::{Audit, LogOptions};
use crate::clock::SystemClock;
use crate::store::disk::RealDisk;
use crate::store::{Commit, IndexKind, Options, Schema, Store, SystemRandom};
use crate::wire::pb::audit as pb;
use crate::wire::pb::common as cpb;

/// Commits in flight while the ledger is filled.
const IN_FLIGHT: u64 = 512;
/// Patients of the others' entries.
const PATIENTS: u64 = 100_000;
/// Proofs whose time is taken.
const PROOFS: u64 = 2_000;

/// How to measure.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// Entries in the log.
    pub entries: u64,
    /// Entries about the one patient who asks.
    pub of_patient: u64,
    /// On which disk: a folder that exists.
    pub folder: PathBuf,
    /// JSON Lines instead of a table.
    pub json: bool,
}

fn event(number: u64, settings: &AuditSettings) -> Bytes {
    let every = (settings.entries / settings.of_patient.max(1)).max(1);
    let patient = match number.is_multiple_of(every) {
        true => 0,
        false => 1 + mix(number) % PATIENTS,
    };
    let event = pb::AuditEvent {
        method: "renkei.documents.v1.DocumentService/QueryRegistry".into(),
        transaction: "ITI-18".into(),
        request_id: HEXLOWER.encode(&sixteen(number)),
        outcome: pb::Outcome::Success.into(),
        action: pb::Action::Execute.into(),
        recorded: Some(prost_types::Timestamp::default()),
        institution: Some(cpb::InstitutionRef {
            institution_id: format!("{:010}", mix(number) % 8_000),
            home_community_id: "urn:oid:2.999.1.1".into(),
            ..Default::default()
        }),
        person: Some(cpb::PersonRef {
            subject: format!("staff-{}", mix(number) % 1_000),
            role: "physician".into(),
            ..Default::default()
        }),
        patient_tag: HEXLOWER.encode(&sixteen(patient)),
        disclosed_count: 3,
        ..Default::default()
    };
    event.encode_to_vec().into()
}

async fn fill(store: &Arc<Store>, settings: &AuditSettings) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..IN_FLIGHT {
        let (store, settings) = (Arc::clone(store), settings.clone());
        tasks.spawn(async move {
            let mut number = writer;
            while number < settings.entries {
                let commit = Commit {
                    audit: vec![event(number, &settings)],
                    ..Commit::default()
                };
                let _committed = store.commit(commit).await?;
                number += IN_FLIGHT;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a writer panicked")??;
    }
    Ok(())
}

fn rate(entries: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let entries = entries as f64;
    entries / took.as_secs_f64()
}

/// Hashes every byte of the ledger.
fn floor(ledger: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    for entry in std::fs::read_dir(ledger)? {
        let mut file = std::fs::File::open(entry?.path())?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            context.update(buffer.get(..read).unwrap_or_default());
        }
    }
    std::hint::black_box(context.finish());
    Ok(started.elapsed())
}

fn options() -> Options {
    Options {
        index: IndexKind::Memory,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Result<(Arc<Store>, Audit)> {
    let (store, _) = Store::open(dir, Schema::new(), options())?;
    let options = LogOptions {
        folder: dir.join("audit"),
        key_file: None,
        origin: "renkei/2.999.1.1/bench".to_owned(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom::default()),
    };
    let audit = Audit::open(Arc::clone(&store), "urn:oid:2.999.1.1".parse()?, &options)?;
    Ok((store, audit))
}

/// Measures and prints.
///
/// # Errors
/// If the disk refuses, or something measured is wrong.
pub fn audit(settings: &AuditSettings) -> Result<()> {
    let room = Room::new(&settings.folder, "audit")?;
    let dir = room.path().join("store");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (store, audit) = open(&dir)?;
    runtime.block_on(fill(&store, settings))?;
    let floor = floor(&dir.join("ledger"))?;
    let print =
        |case: &str, took: Duration| figure(settings, case, took, floor).print(settings.json);

    let started = Instant::now();
    audit.log().checkpoint()?;
    print("audit.follow", started.elapsed());
    let (count, took) = report(&audit, false)?;
    ensure!(
        count >= settings.of_patient,
        "the report has {count} events only"
    );
    seconds(settings, &format!("audit.report@{count}"), took);
    let (count, took) = report(&audit, true)?;
    seconds(settings, &format!("audit.report-proved@{count}"), took);
    proofs(settings, &audit)?;
    audit.log().close()?;
    runtime.block_on(store.close())?;
    drop((audit, store));

    let request = VerifyRequest {
        data_dir: dir.clone(),
        folder: dir.join("audit"),
        ..VerifyRequest::default()
    };
    let started = Instant::now();
    let found = verify(&request, &options(), &mut |_| {})?;
    print("audit.verify", started.elapsed());
    ensure!(found.is_fine() && found.checkpoints == 1, "{found:?}");
    Ok(())
}

fn figure(settings: &AuditSettings, case: &str, took: Duration, floor: Duration) -> Figure {
    let (value, floor) = (rate(settings.entries, took), rate(settings.entries, floor));
    Figure {
        suite: "audit",
        case: case.to_owned(),
        value,
        unit: "entry/s",
        floor,
        floor_name: "SHA-256 of the ledger's bytes",
        ratio: value / floor,
        n: settings.entries,
        config: serde_json::json!({"patients": PATIENTS}),
    }
}

/// A time, against the two seconds that a report may take.
fn seconds(settings: &AuditSettings, case: &str, took: Duration) {
    let (value, floor) = (took.as_secs_f64() * 1e3, 2_000.0);
    let figure = Figure {
        suite: "audit",
        case: case.to_owned(),
        value,
        unit: "ms",
        floor,
        floor_name: "the longest it may take",
        ratio: floor / value,
        n: settings.entries,
        config: serde_json::json!({"patients": PATIENTS}),
    };
    figure.print(settings.json);
}

fn report(audit: &Audit, prove: bool) -> Result<(u64, Duration)> {
    let tag = sixteen(0).try_into();
    let tag = tag.map_err(|_| anyhow::anyhow!("a tag is 16 octets"))?;
    let started = Instant::now();
    let report = audit.report(&[tag], prove)?;
    let mut count = 0;
    report.tell(&mut |told| {
        std::hint::black_box(report.inclusion(told.event.sequence)?);
        count += 1;
        Ok(())
    })?;
    Ok((count, started.elapsed()))
}

fn proofs(settings: &AuditSettings, audit: &Audit) -> Result<()> {
    let size = audit.log().checkpoint()?.checkpoint.size;
    let mut times = Histogram::<u64>::new(3)?;
    for number in 0..PROOFS {
        let started = Instant::now();
        let (_, path) = audit.log().inclusion(mix(number) % size, size)?;
        times.saturating_record(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        ensure!(path.len() <= 64, "a proof of {} hashes", path.len());
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let p99 = times.value_at_quantile(0.99) as f64 / 1e3;
    let figure = Figure {
        suite: "audit",
        case: "audit.inclusion-proof-p99".to_owned(),
        value: p99,
        unit: "ms",
        floor: 50.0,
        floor_name: "the longest it may take",
        ratio: 50.0 / p99.max(0.001),
        n: PROOFS,
        config: serde_json::json!({"entries": settings.entries}),
    };
    figure.print(settings.json);
    Ok(())
}
