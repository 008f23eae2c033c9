//! `bench emergency`: identify a patient by four items among so many people, then the summary over ten
//! regions. Warm: the hub has what the regions said and the caller is content with it. Cold: nothing is
//! kept, and a third of the regions is down. And warm beside ten times as many other calls.
//!
//! The hub is whole, in this process, and so is the physician who asks it; the regions are simulated, in
//! this process too, over real mutual TLS. People are put into the store directly: feeding them would
//! measure matching.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::uri::PathAndQuery;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::config::Listen;
use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::store::{Commit, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::common::RegionState;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use crate::wire::pb::identity as ipb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::load::{Target, call};
use super::regions::{Behaviour, Running, open};
use super::wide::{Hub, Wide, known, patient_row};
use super::{Figure, constant};

/// Regions that hold something of everybody who is asked about.
const REGIONS: usize = 10;
/// What a region takes to answer.
const DELAY: Duration = Duration::from_millis(20);
/// Rows written in one frame.
const A_FRAME: usize = 200;
/// What a summary may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How old an answer will do, where one will.
const MAX_AGE: Duration = Duration::from_hours(1);
/// Other calls for each one of an emergency.
const OTHERS: u32 = 10;
/// Looks at what the hub has kept.
const LOOKS: usize = 500;
/// What the issue asks for, in milliseconds; the last is times the figure alone.
const WARM_P99: f64 = 100.0;
const COLD: f64 = 3_000.0;
const WITH_OTHERS: f64 = 1.5;

/// How to measure.
#[derive(Clone, Debug)]
pub struct EmergencySettings {
    /// People that the hub knows.
    pub people: usize,
    /// Emergencies for each figure of what is warm; a fortieth of them is asked about cold.
    pub calls: usize,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Somebody who is asked about.
#[derive(Clone, Debug)]
struct Somebody {
    identifier: PatientIdentifier,
    items: pb::FourItems,
}

/// Measures and prints.
///
/// # Errors
/// If a node cannot be set up, or an answer is not what it must be.
pub async fn emergency(settings: &EmergencySettings) -> Result<()> {
    let wide = Wide::new(REGIONS, |_| DELAY)?;
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let trust = wide.trust()?;
    let regions = open(wide.regions(), &trust, wide.clock(), &stop, &mut tasks).await?;
    let addresses: Vec<_> = regions.iter().map(|region| region.address).collect();
    // The regions of the bench judge nobody; the hub does, for what it has kept.
    let enrolment = ("RENKEI__CONSENT__CROSS_COMMUNITY", "opt-out");
    let hub = Arc::new(wide.hub_with(&addresses, &[enrolment]).await?);
    let warm = settings.calls.div_ceil(10).max(10);
    // Until its breaker opens, a silent region takes all the time there is.
    let asked = warm + settings.calls.div_ceil(40);
    ensure!(settings.people >= asked, "{asked} people at least");
    let people = fill(&wide, &hub, settings.people, asked).await?;
    let (warm, cold) = people.split_at(warm);
    let department = Department {
        caller: wide.emergency_physician(&hub.address)?,
    };

    department.warm_up(warm).await?;
    let floor = floor(&wide, &department, warm, settings.calls).await?;
    let alone = department.emergencies(warm, settings.calls).await?;
    let busy = with_others(&hub, &department, warm, settings.calls, &alone).await?;
    let down = break_a_third(&regions);
    let dark = department.cold(cold, down).await?;
    print(settings, &floor, &alone, &busy, (&dark, down));

    stop.cancel();
    drop(department);
    Arc::into_inner(hub)
        .context("the hub is asked")?
        .end()
        .await
}

/// Puts people into the hub's store; the regions hold something of the first `asked`. Gives those.
async fn fill(wide: &Wide, hub: &Hub, people: usize, asked: usize) -> Result<Vec<Somebody>> {
    let sample = wide.sample();
    let records: Vec<_> = sample.people.iter().flat_map(|one| &one.records).collect();
    ensure!(!records.is_empty(), "the sample has nobody");
    let gateway = &hub.gateway;
    let (mut somebody, mut writes) = (Vec::with_capacity(asked), Vec::new());
    for number in 0..people {
        let place = usize::try_from(super::ledger::mix(number as u64)).unwrap_or(number);
        let record = records.get(place % records.len()).context("a record")?;
        let institution = sample.institution(record).context("no institution")?;
        let patient = messages::feed(institution, record).patient;
        let mut patient = patient.context("no patient")?;
        let identifier = patient.identifier.as_mut().context("no identifier")?;
        identifier.value = format!("E{number:011}");
        let identifier = identifier.clone();
        super::node::vary(&mut patient, number as u64);
        if number < asked {
            for region in 0..REGIONS {
                writes.push(wide.holding(gateway, (region, &identifier))?);
            }
            let demographics = patient.demographics.as_ref();
            somebody.push(Somebody {
                identifier: known(&identifier)?,
                items: four_items(demographics.context("no demographics")?),
            });
        }
        // Of its own kind: the network's one person has another.
        let linkage = ((1 << 100) + number as u128).to_be_bytes();
        writes.push(patient_row(gateway, patient, linkage)?);
        if writes.len() >= A_FRAME {
            commit(hub, std::mem::take(&mut writes)).await?;
        }
    }
    commit(hub, writes).await?;
    Ok(somebody)
}

async fn commit(hub: &Hub, writes: Vec<Write>) -> Result<()> {
    let commit = Commit {
        writes,
        ..Commit::default()
    };
    let _committed = hub.gateway.store.commit(commit).await?;
    Ok(())
}

/// What paramedics hear: a name in kana if there is one, sex, birth date, municipality.
fn four_items(known: &ipb::Demographics) -> pb::FourItems {
    let kana = |name: &&ipb::PersonName| {
        name.representation() == ipb::NameRepresentation::Syllabic && !name.family.is_empty()
    };
    let name = known.names.iter().find(kana).or(known.names.first());
    let name = name.cloned().unwrap_or_default();
    let place = known.addresses.first().cloned().unwrap_or_default();
    pb::FourItems {
        name: format!("{} {}", name.family, name.given.concat()),
        administrative_gender: known.administrative_gender,
        birth_date: known.birth_date.clone(),
        address: format!("{}{}", place.state, place.city),
        ..pb::FourItems::default()
    }
}

/// Four of ten regions go down, each in its own way; how many that is.
fn break_a_third(regions: &[Running]) -> usize {
    let ways = [
        Behaviour::Silent,
        Behaviour::Fails(Code::Unavailable),
        Behaviour::Late(DEADLINE * 3),
        Behaviour::Silent,
    ];
    for (region, way) in regions.iter().zip(ways) {
        region.behave(way);
    }
    ways.len()
}

/// An emergency department.
#[derive(Clone, Debug)]
struct Department {
    caller: Caller,
}

/// What an emergency came to.
struct Seen {
    took: Duration,
    completeness: cpb::Completeness,
    items: usize,
}

impl Seen {
    fn count(&self, state: RegionState) -> usize {
        let regions = self.completeness.regions.iter();
        regions.filter(|region| region.state() == state).count()
    }
}

impl Department {
    /// Identifies somebody and gets the summary of the first candidate.
    async fn emergency(&self, who: &Somebody, max_age: Option<Duration>) -> Result<Seen, Status> {
        let mut client = EmergencyServiceClient::new(self.caller.channel.clone());
        let started = Instant::now();
        let subject = pb::identify_patient_request::Subject::FourItems(who.items.clone());
        let mut request = self.caller.request(pb::IdentifyPatientRequest {
            subject: Some(subject),
            ..pb::IdentifyPatientRequest::default()
        });
        request.set_timeout(DEADLINE);
        let found = client.identify_patient(request).await?.into_inner();
        let first = found.candidates.into_iter().next();
        let first = first.ok_or_else(|| Status::not_found("nobody was found"))?;
        let subject = pb::patient_ref::Subject::CandidateRef(first.candidate_ref);
        let mut request = self.caller.request(pb::GetSummaryRequest {
            patient: Some(pb::PatientRef {
                subject: Some(subject),
            }),
            max_age: max_age.map(crate::wire::duration),
            ..pb::GetSummaryRequest::default()
        });
        request.set_timeout(DEADLINE);
        let answer = client.get_summary(request).await?.into_inner();
        Ok(Seen {
            took: started.elapsed(),
            completeness: answer.completeness.unwrap_or_default(),
            items: answer.summary.unwrap_or_default().items.len(),
        })
    }

    /// Asks about everybody until the hub has what all regions say.
    async fn warm_up(&self, people: &[Somebody]) -> Result<()> {
        for who in people {
            let live = self.emergency(who, None).await?;
            ensure!(
                live.count(RegionState::Ok) == REGIONS && live.completeness.complete,
                "a region is missing, or another person was found: {:?}",
                live.completeness
            );
            let mut left = LOOKS;
            while self
                .emergency(who, Some(MAX_AGE))
                .await?
                .count(RegionState::Stale)
                < REGIONS
            {
                left -= 1;
                ensure!(left > 0, "an answer was not kept");
            }
        }
        Ok(())
    }

    /// Emergencies of people of whom the hub has kept what the regions said, one after the other.
    async fn emergencies(&self, people: &[Somebody], calls: usize) -> Result<Times> {
        let mut times = Times::default();
        for who in people.iter().cycle().take(calls) {
            let seen = self.emergency(who, Some(MAX_AGE)).await?;
            let kept = seen.count(RegionState::Stale);
            ensure!(
                kept == REGIONS && seen.items > 0,
                "{kept} regions were kept"
            );
            times.0.push(seen.took);
        }
        Ok(times)
    }

    /// Emergencies of people of whom nothing is kept, while so many regions are down.
    async fn cold(&self, people: &[Somebody], down: usize) -> Result<Times> {
        let mut times = Times::default();
        for who in people {
            let seen = self.emergency(who, None).await?;
            ensure!(
                seen.count(RegionState::Ok) == REGIONS - down
                    && seen.completeness.regions.len() == REGIONS
                    && !seen.completeness.complete
                    && seen.items > 0,
                "an answer is not what it must be: {:?}",
                seen.completeness
            );
            times.0.push(seen.took);
        }
        Ok(times)
    }
}

/// The same stack, answering constants of the same sizes: two calls, one after the other.
async fn floor(
    wide: &Wide,
    department: &Department,
    people: &[Somebody],
    calls: usize,
) -> Result<Times> {
    let who = people.first().context("nobody")?;
    let caller = &department.caller;
    let identify = pb::IdentifyPatientRequest {
        subject: Some(pb::identify_patient_request::Subject::FourItems(
            who.items.clone(),
        )),
        ..pb::IdentifyPatientRequest::default()
    };
    let summary = pb::GetSummaryRequest {
        patient: Some(pb::PatientRef {
            subject: Some(pb::patient_ref::Subject::PatientId(
                crate::identity::identifier_message(&who.identifier),
            )),
        }),
        max_age: Some(crate::wire::duration(MAX_AGE)),
        ..pb::GetSummaryRequest::default()
    };
    let mut sizes = Vec::new();
    for (method, request) in [
        ("IdentifyPatient", identify.encode_to_vec()),
        ("GetSummary", summary.encode_to_vec()),
    ] {
        let path = format!("/renkei.emergency.v1.EmergencyService/{method}");
        let size = request.len();
        let target = Target {
            path: PathAndQuery::try_from(path)?,
            request: Arc::new(move |_| request.clone().into()),
        };
        sizes.push((size, call(caller, &target, 0).await?.len()));
    }
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let limits = Listen {
        drain_timeout_ms: 0,
        ..Listen::default()
    };
    let (identity, trust) = (wide.hub_identity()?, wide.trust()?);
    let edge = constant::edge(&identity, &trust, wide.clock(), limits, stop.clone())?;
    let serving = tokio::spawn(edge.serve_until_stopped(listener));
    let below = wide.emergency_physician(&address)?;
    let mut times = Times::default();
    for number in 0..calls + calls / 4 {
        let started = Instant::now();
        for (request, answer) in &sizes {
            let (request, answer) = (*request, *answer);
            let target = Target {
                path: PathAndQuery::from_static(constant::PATH),
                request: Arc::new(move |_| constant::request(request, answer)),
            };
            call(&below, &target, 0).await?;
        }
        // The first ones warm it up.
        if number >= calls / 4 {
            times.0.push(started.elapsed());
        }
    }
    drop(below);
    stop.cancel();
    serving.await.context("the floor panicked")?;
    Ok(times)
}

/// Emergencies beside ten times as many other calls: nine of ten ask who somebody is, one for the
/// documents of all regions.
async fn with_others(
    hub: &Arc<Hub>,
    department: &Department,
    people: &[Somebody],
    calls: usize,
    alone: &Times,
) -> Result<Times> {
    let mean = alone.mean();
    let stop = CancellationToken::new();
    let mut others = JoinSet::new();
    for number in 0..OTHERS {
        let (hub, stop) = (Arc::clone(hub), stop.clone());
        others.spawn(async move {
            let mut clock = tokio::time::interval(mean.max(Duration::from_micros(100)));
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            let mut done = 0_u32;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok::<_, anyhow::Error>(done),
                    _ = clock.tick() => {}
                }
                if number == 0 {
                    hub.find(DEADLINE).await?;
                } else {
                    let caller = &hub.caller;
                    let mut client = IdentityServiceClient::new(caller.channel.clone());
                    let subject =
                        ipb::query_identifiers_request::Subject::Identifier(hub.patient.clone());
                    let request = caller.request(ipb::QueryIdentifiersRequest {
                        subject: Some(subject),
                        ..ipb::QueryIdentifiersRequest::default()
                    });
                    client.query_identifiers(request).await?;
                }
                done += 1;
            }
        });
    }
    let times = department.emergencies(people, calls).await;
    stop.cancel();
    let mut done = 0;
    while let Some(other) = others.join_next().await {
        done += other.context("a caller panicked")??;
    }
    let mut times = times?;
    times.1 = done;
    Ok(times)
}

/// Times of emergencies, and the other calls meanwhile.
#[derive(Debug, Default)]
struct Times(Vec<Duration>, u32);

impl Times {
    /// The time, in milliseconds, that so many of a thousand stayed within.
    fn permille(&self, permille: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * permille / 1_000).min(sorted.len().saturating_sub(1));
        let found = sorted.get(place).copied().unwrap_or_default();
        found.as_secs_f64() * 1e3
    }

    fn mean(&self) -> Duration {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX).max(1);
        self.0.iter().sum::<Duration>() / count
    }
}

fn print(
    settings: &EmergencySettings,
    floor: &Times,
    alone: &Times,
    busy: &Times,
    (dark, down): (&Times, usize),
) {
    let warm = alone.permille(990);
    let figure = |case: &str, times: &Times, value: f64, floor: f64, floor_name, more: Value| {
        let mut config = json!({
            "people": settings.people,
            "regions": REGIONS,
            "region_takes_ms": DELAY.as_secs_f64() * 1e3,
            "in_flight": 1,
            "audit": "durable before each of the two answers",
        });
        if let (Some(all), Value::Object(more)) = (config.as_object_mut(), more) {
            all.extend(more);
        }
        Figure {
            suite: "emergency",
            case: case.to_owned(),
            value,
            unit: "ms",
            floor,
            floor_name,
            ratio: floor / value,
            n: times.0.len() as u64,
            config,
        }
        .print(settings.json);
    };
    let more = json!({"p50_ms": alone.permille(500), "kept": warm <= WARM_P99});
    figure("warm p99", alone, warm, WARM_P99, "the bar", more);
    let below = floor.permille(990);
    let more = json!({"p50_ms": alone.permille(500), "floor_p50_ms": floor.permille(500)});
    let name = "two constant rpcs";
    figure("warm p99 of constant", alone, warm, below, name, more);
    let value = busy.permille(990);
    let more = json!({
        "other_calls": busy.1,
        "bar_times": WITH_OTHERS,
        "kept": value <= warm * WITH_OTHERS,
    });
    let name = "without other calls";
    figure(
        "warm p99, ten times other load",
        busy,
        value,
        warm,
        name,
        more,
    );
    let slowest = dark.permille(1_000);
    let more = json!({"down": down, "p50_ms": dark.permille(500), "kept": slowest <= COLD});
    figure(
        "cold, a third down, slowest",
        dark,
        slowest,
        COLD,
        "the bar",
        more,
    );
}
