//! `bench ledger`, its last part: how long a node takes from start to ready with so many patients
//! and documents, after a clean stop and after being killed.
//!
//! The rows are the node's own, sealed under their patients' keys. They are put into the store
//! directly, those of twenty patients a frame: feeding them through the services would measure
//! matching.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::messages;
use crate::demo::sample::{Sample, SampleConfig};
use crate::demo::world::World;
use crate::documents::tables::EntryRow;
use crate::gateway::{Gateway, schema};
use crate::identity::tables::PatientRow;
use crate::store::{Commit, IndexKind, Options, Store, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::identity as ipb;

use super::Figure;
use super::ledger::{Room, engine_name};

/// Document entries of one patient.
const ENTRIES: u64 = 5;
/// Patients in one frame.
const PATIENTS_A_FRAME: u64 = 20;
/// Frames on their way at once.
const IN_FLIGHT: usize = 32;
/// People whose names, addresses and documents are varied.
const TEMPLATES: usize = 2_000;
/// What the issue asks for, with a million patients on two cores.
const CLEAN_BAR: f64 = 10.0;
const KILLED_BAR: f64 = 30.0;
/// How long the process to be killed writes.
const WRITES_FOR: Duration = Duration::from_secs(3);

/// What a process of its own is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NodeStep {
    /// Fill the store and close it.
    Fill,
    /// Open the node and close it.
    Open,
    /// Write until killed.
    Write,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    store_seconds: f64,
    seconds: f64,
    peak_mib: f64,
    resident_mib: f64,
    applied: u64,
    rebuilt: Option<String>,
}

/// Measures and prints.
///
/// # Errors
/// If a step fails.
pub fn node(folder: &Path, engine: IndexKind, patients: u64, json: bool) -> Result<()> {
    let room = Room::new(folder, "node")?;
    let config = prepare(room.path(), engine)?;
    let step = |step, patients| run(&config, step, engine, patients);
    step(NodeStep::Fill, patients)?;
    // The first start makes what every node keeps for its next one.
    let first = step(NodeStep::Open, 0)?;
    let clean = step(NodeStep::Open, 0)?;
    ensure!(
        clean.rebuilt.is_none(),
        "after a clean stop the index was rebuilt"
    );
    killed(&config, engine, patients)?;
    let killed = step(NodeStep::Open, 0)?;
    let print = |case: &str, report: &Report, bar: f64| {
        Figure {
            suite: "ledger",
            case: format!("{case}.{}", engine_name(engine)),
            value: report.seconds,
            unit: "s",
            floor: bar,
            floor_name: "the bar for 1 M patients, 5 M entries",
            ratio: bar / report.seconds,
            n: patients,
            config: json!({
                "patients": patients,
                "entries": patients * ENTRIES,
                "engine": engine_name(engine),
                "store_seconds": report.store_seconds,
                "peak_mib": report.peak_mib,
                "resident_mib": report.resident_mib,
                "frames_applied": report.applied,
                "rebuilt": report.rebuilt,
            }),
        }
        .print(json);
    };
    print("node ready at its first start", &first, KILLED_BAR);
    print("node ready after a clean stop", &clean, CLEAN_BAR);
    print("node ready after a kill", &killed, KILLED_BAR);
    Ok(())
}

/// A development PKI and the node's configuration.
fn prepare(folder: &Path, engine: IndexKind) -> Result<PathBuf> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sample = Sample::generate(&sample_config(0));
    let world = World::create(folder, &sample, clock)?;
    let node = world.regions.first().context("no region")?;
    let node = world.standalone_config(node, "127.0.0.1:0")?;
    let index = format!("[store]\nindex = \"{}\"\n", engine_name(engine));
    let text = node.replacen("[store]\n", &index, 1);
    let path = folder.join("node.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn sample_config(patients: usize) -> SampleConfig {
    SampleConfig {
        regions: 1,
        patients,
        ..SampleConfig::default()
    }
}

fn command(config: &Path, step: NodeStep, engine: IndexKind, patients: u64) -> Result<Command> {
    let step = match step {
        NodeStep::Fill => "fill",
        NodeStep::Open => "open",
        NodeStep::Write => "write",
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "bench",
            "ledger",
            "--node-step",
            step,
            "--engine",
            engine_name(engine),
        ])
        .args(["--patients", &patients.to_string(), "--folder"])
        .arg(config);
    Ok(command)
}

fn run(config: &Path, step: NodeStep, engine: IndexKind, patients: u64) -> Result<Report> {
    let output = command(config, step, engine, patients)?
        .stdout(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), "the step {step:?} failed");
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("a step's report")
}

fn killed(config: &Path, engine: IndexKind, patients: u64) -> Result<()> {
    let mut child = command(config, NodeStep::Write, engine, patients)?
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(WRITES_FOR);
    ensure!(
        child.try_wait()?.is_none(),
        "the writing process ended by itself"
    );
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Runs one step and prints what it found, as one line of JSON.
///
/// # Errors
/// What the store or the node reports.
pub fn node_step(config: &Path, step: NodeStep, engine: IndexKind, patients: u64) -> Result<()> {
    let config = Config::load(config)?;
    let options = Options {
        index: engine,
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        let started = Instant::now();
        if step == NodeStep::Open {
            return open(config, options, started).await;
        }
        let (store, _) = Store::open(&config.node.data_dir, schema(), options)?;
        let fill = Fill::new(store)?;
        let first = if step == NodeStep::Write { patients } else { 0 };
        let end = if step == NodeStep::Write {
            u64::MAX
        } else {
            patients
        };
        Arc::new(fill).run(first, end).await?;
        Ok(Report {
            seconds: started.elapsed().as_secs_f64(),
            ..Report::default()
        })
    })?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn open(config: Config, options: Options, started: Instant) -> Result<Report> {
    let gateway = Gateway::open(config, options, None).await?;
    let report = Report {
        store_seconds: gateway.opened.took.as_secs_f64(),
        seconds: started.elapsed().as_secs_f64(),
        peak_mib: super::ledger::peak_mib()?,
        resident_mib: super::ledger::resident_mib()?,
        applied: gateway.opened.applied_frames,
        rebuilt: gateway.opened.rebuilt.map(|reason| format!("{reason:?}")),
    };
    gateway.close(Duration::from_secs(10)).await?;
    Ok(report)
}

/// Puts patients and their documents' entries into a store.
struct Fill {
    store: Arc<Store>,
    patients: Vec<ipb::Patient>,
    entries: Vec<dpb::DocumentEntry>,
}

impl Fill {
    fn new(store: Arc<Store>) -> Result<Self> {
        use dpb::provide_documents_request::Part;
        let sample = Sample::generate(&sample_config(TEMPLATES));
        let mut patients = Vec::new();
        for record in sample.people.iter().flat_map(|person| &person.records) {
            let institution = sample.institution(record).context("no institution")?;
            patients.extend(messages::feed(institution, record).patient);
        }
        let region = sample.regions.first().context("no region")?;
        let mut entries = Vec::new();
        for document in sample.documents.iter().take(TEMPLATES) {
            let institution = region.institutions.get(document.institution);
            let institution = institution.context("no institution")?;
            let parts = messages::provide(institution, "1.2.392.1", document);
            if let Some(Part::Start(start)) = parts.into_iter().next().and_then(|part| part.part) {
                entries.extend(start.submission.unwrap_or_default().entries);
            }
        }
        Ok(Self {
            store,
            patients,
            entries,
        })
    }

    async fn run(self: Arc<Self>, first: u64, end: u64) -> Result<()> {
        let next = Arc::new(AtomicU64::new(first));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (fill, next) = (Arc::clone(&self), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let from = next.fetch_add(PATIENTS_A_FRAME, Ordering::Relaxed);
                    if from >= end {
                        return Ok(());
                    }
                    let to = from.saturating_add(PATIENTS_A_FRAME).min(end);
                    let mut writes = Vec::new();
                    for number in from..to {
                        writes.extend(fill.rows(number)?);
                    }
                    let commit = Commit {
                        writes,
                        ..Commit::default()
                    };
                    let _committed = fill.store.commit(commit).await?;
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            let done: Result<()> = task.context("a writer panicked")?;
            done?;
        }
        self.store.close().await?;
        Ok(())
    }

    /// The rows of one patient: a template with an identifier, telephone, address, policy and birth
    /// date of its own.
    fn rows(&self, number: u64) -> Result<Vec<Write>> {
        let pick = |length: usize, salt: u64| {
            let at = super::ledger::mix(number ^ salt) % (length as u64).max(1);
            usize::try_from(at).unwrap_or(0)
        };
        let template = self.patients.get(pick(self.patients.len(), 0));
        let mut patient = template.context("no template")?.clone();
        let id = patient.identifier.as_mut().context("no identifier")?;
        id.value = format!("{number:012}");
        let identifier: PatientIdentifier = PatientIdentifier {
            authority: id.assigning_authority.parse()?,
            id: id.value.parse()?,
        };
        vary(&mut patient, number);
        let tag = self.store.keys().patient_tag(&identifier);
        let linkage = super::ledger::sixteen(number.rotate_left(32));
        let mut writes = vec![Write::put(&PatientRow {
            tag: tag.to_vec(),
            patient: Some(patient),
            linkage,
            ..PatientRow::default()
        })];
        for place in 0..ENTRIES {
            let template = self.entries.get(pick(self.entries.len(), place + 1));
            let mut entry = template.context("no template")?.clone();
            let uuid = super::ledger::sixteen(number * ENTRIES + place);
            entry.entry_uuid = uuid::Uuid::from_slice(&uuid)?.urn().to_string();
            entry.unique_id = format!("2.25.{}", u64::MAX - (number * ENTRIES + place));
            writes.push(Write::put(&EntryRow {
                uuid,
                patient: tag.to_vec(),
                entry: Some(entry),
                // Of no document: writing five million of them is not what is measured.
                blob: Vec::new(),
                registered_ms: 1_790_000_000_000,
                ..EntryRow::default()
            }));
        }
        Ok(writes)
    }
}

/// Gives a patient a birth date, telephone, address and policy of the number's own.
pub(super) fn vary(patient: &mut ipb::Patient, number: u64) {
    let mixed = super::ledger::mix(number);
    let Some(known) = &mut patient.demographics else {
        return;
    };
    let (year, month, day) = (1930 + mixed % 90, 1 + mixed % 12, 1 + mixed % 28);
    known.birth_date = format!("{year}-{month:02}-{day:02}");
    for telecom in &mut known.telecoms {
        telecom.value = format!(
            "0{}-{:04}-{:04}",
            10 + mixed % 80,
            mixed % 9_973,
            mixed % 9_967
        );
    }
    for address in &mut known.addresses {
        address.lines = vec![format!(
            "{}丁目{}-{}",
            1 + mixed % 9,
            mixed % 97,
            mixed % 31
        )];
    }
    for coverage in &mut known.coverages {
        coverage.number = format!("{}", mixed % 9_999_991);
    }
}
