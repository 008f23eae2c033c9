//! The demo, start to end.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::clock::{Clock, SystemClock};
use crate::pki::dev::{DevPki, IssueRequest, Kind, Variant};
use crate::types::{PersonRole, PurposeOfUse, Relation};

use super::folder::Folder;
use super::messages;
use super::network::Network;
use super::report::Report;
use super::sample::{Sample, SampleConfig};
use super::steps::{self, Strangers};
use super::world::{Actor, ClientProfile, World};

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Regions beside the hub.
    pub regions: usize,
    /// People in the sample.
    pub patients: usize,
    /// Exit when done, instead of serving on.
    pub once: bool,
    /// Print one JSON object instead of lines.
    pub json: bool,
}

/// Runs the demo. Says whether every step was ok.
///
/// # Errors
/// If the network cannot even be set up.
pub async fn run(settings: &Settings) -> Result<bool> {
    let folder = Folder::new("demo")?;
    let mut report = Report::new(settings.json);
    let mut prepared = None;
    let step = report.step("development PKI and configurations", async {
        let made = prepare(folder.path(), settings)?;
        let certificates = made.0.pki_records();
        prepared = Some(made);
        Ok(vec![format!(
            "{certificates} certificates of the HPKI profile, 2 revocation lists"
        )])
    });
    step.await;
    let network = match prepared {
        Some((world, strangers, sample)) => play(&mut report, world, strangers, sample).await,
        None => None,
    };
    if settings.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let verdict = if report.ok {
            "every step ok"
        } else {
            "NOT every step ok"
        };
        println!("\n{verdict}, {} ms\n", report.milliseconds);
    }
    if let Some(network) = network {
        if !settings.once && report.ok {
            serve_on(&network).await?;
        }
        stop(network).await?;
    }
    Ok(report.ok)
}

fn prepare(root: &Path, settings: &Settings) -> Result<(World, Strangers, Sample)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let today = clock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let config = SampleConfig {
        regions: settings.regions,
        patients: settings.patients,
        reference_date: today,
        ..SampleConfig::default()
    };
    let sample = Sample::generate(&config);
    let mut world = World::create(root, &sample, Arc::clone(&clock))?;
    let mut foreign = DevPki::in_memory_foreign(clock)?;
    let request = IssueRequest::new(Kind::Institution, "stranger", "Stranger Hospital")
        .institution("1319999999", "Stranger Hospital", "他所病院");
    let strangers = Strangers {
        foreign: foreign.issue(&request)?.identity()?,
        signing: world.issue_variant("signing", Variant::SigningOnly)?,
        revoked: world.issue_variant("revoked", Variant::Ok)?,
        unregistered: world.issue_variant("unregistered", Variant::Ok)?,
    };
    world.pki().revoke("revoked")?;
    Ok((world, strangers, sample))
}

#[expect(clippy::too_many_lines, reason = "the list of steps")]
async fn play(
    report: &mut Report,
    world: World,
    strangers: Strangers,
    sample: Sample,
) -> Option<Network> {
    report.regions = sample.regions.len();
    report.people = sample.people.len();
    report.records = sample
        .people
        .iter()
        .map(|person| person.records.len())
        .sum();
    report.documents = sample.documents.len();
    let mut started = None;
    let start = report.step("hub and regions start as processes of their own", async {
        let network = Network::start(world, sample).await?;
        let ports: Vec<&str> = network
            .regions
            .iter()
            .map(|region| region.address.as_str())
            .collect();
        let said = format!(
            "hub on {}, regions on {}",
            network.hub.address,
            ports.join(", ")
        );
        started = Some(network);
        Ok(vec![said])
    });
    start.await;
    let mut network = started?;
    let on = report
        .step(
            "directory applied and taken over",
            steps::directory(&network),
        )
        .await
        && report
            .step("patients and documents; hub killed half-way", async {
                steps::load_with_hub_killed(&mut network).await
            })
            .await;
    if on {
        report
            .step("linkage across regions", steps::linkage(&network))
            .await;
        report.step("PIX and PDQ", steps::queries(&network)).await;
        report
            .step(
                "find and retrieve across regions",
                steps::find_and_retrieve(&network),
            )
            .await;
        report
            .step("consent: opt-out honoured", steps::consent(&network))
            .await;
        report
            .step("emergency: identify and summary", steps::summary(&network))
            .await;
        report
            .step("emergency: break-glass", steps::break_glass(&network))
            .await;
        report
            .step("audit: who saw the record", steps::audit(&network))
            .await;
        report
            .step(
                "refused certificates",
                steps::certificates(&network, &strangers),
            )
            .await;
        report
            .step("refused input", steps::bad_input(&network))
            .await;
        report
            .step(
                "a region down: partial answer",
                steps::region_down(&mut network),
            )
            .await;
    }
    Some(network)
}

/// Leaves the network running, with commands to try.
async fn serve_on(network: &Network) -> Result<()> {
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 1)?;
    let institution = network.institution(record)?;
    let hospital = network.emergency_hospital(0)?;
    let physician = Actor {
        subject: "D-1001",
        role: PersonRole::Physician,
        purpose: PurposeOfUse::Treatment,
        relation: Relation::Treating,
        institution: &institution.code,
    };
    let emergency = Actor {
        subject: "E-2001",
        purpose: PurposeOfUse::Emergency,
        relation: Relation::EmergencyPatient,
        institution: &hospital.code,
        ..physician
    };
    let world = &network.world;
    let region = world.regions.get(1).context("no region")?;
    let address = &network.regions.get(1).context("no region")?.address;
    let profile = |name, certificate: &str, server, address: &str, person| {
        world.write_profile(&ClientProfile {
            name,
            certificate,
            server,
            address,
            person,
        })
    };
    let doctor = format!("inst-{}", institution.code);
    let doctor = profile("physician", &doctor, region, address, Some(physician))?;
    let rescuer = format!("inst-{}", hospital.code);
    let rescuer = profile(
        "emergency",
        &rescuer,
        &world.hub,
        &network.hub.address,
        Some(emergency),
    )?;
    let operator = profile(
        "operator",
        "operator",
        &world.hub,
        &network.hub.address,
        None,
    )?;
    let patient = messages::patient_id(institution, &record.local_id);
    let cx = format!("{}^^^&{}&ISO", patient.value, patient.assigning_authority);
    let person = network.record(network.sample.scenario.emergency, 0)?;
    println!("The network keeps running until Ctrl-C. In another terminal, for example:\n");
    let (doctor, rescuer) = (doctor.display(), rescuer.display());
    println!("  renkei document find --as {doctor} --patient '{cx}' --all-regions");
    println!(
        "  renkei emergency identify --as {rescuer} --name '{} {}' --birth {}",
        person.family_kana, person.given_kana, person.birth_date
    );
    println!("  renkei directory status --as {}\n", operator.display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn stop(network: Network) -> Result<()> {
    for region in network.regions {
        region.stop().await?;
    }
    network.hub.stop().await
}
