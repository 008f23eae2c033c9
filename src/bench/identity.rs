//! `bench identity`: records of a file, or of the sample, fed to a node in random order through its
//! own interface, durable and audited; what came of it against the truth; and what it then costs to
//! ask who somebody is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::uri::PathAndQuery;
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::json;

use crate::demo::messages;
use crate::demo::sample::{Sample, SampleConfig};
use crate::gateway::Gateway;
use crate::identity::Identity;
use crate::identity::tables::ReviewRow;
use crate::store::Commit;
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::ledger::{mix, resident_mib};
use super::load::{Target, call, in_turn, writers};
use super::matching::{Fact, MatchingSettings, Outcome, Truth, facts};
use super::rpc::{Bench, CONNECTIONS, RpcSettings};
use super::{Figure, constant};

/// Calls in flight while records are fed and identifiers are asked for.
const IN_FLIGHT: usize = 64;
/// Searches in flight: as many as processors of the smallest node, twice.
const SEARCHES: usize = 4;
/// Records of a bulk load that are on their way.
const READ_AHEAD: usize = 512;

/// What is measured.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Records as JSON Lines and their truth as CSV; without them, people of the sample.
    pub file: Option<(PathBuf, PathBuf)>,
    /// People of the sample.
    pub people: usize,
    /// Records that are fed one by one; those before them in the order are loaded in bulk.
    pub feed: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Time for each figure of asking.
    pub time: Duration,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Records in the order in which they come, and what is true of them.
struct People {
    authority: String,
    facts: Vec<Fact>,
    truth: Vec<Truth>,
}

/// Measures and prints.
///
/// # Errors
/// A file that cannot be read, a node that cannot be set up, a call that fails.
pub async fn identity(settings: &IdentitySettings) -> Result<()> {
    let bench = Bench::start(&RpcSettings {
        in_flight: vec![IN_FLIGHT],
        time: settings.time,
        patients: SampleConfig::MIN_PATIENTS,
        json: settings.json,
    })
    .await?;
    let (facts, truth) = match &settings.file {
        Some((records, truth)) => facts(&MatchingSettings {
            records: records.clone(),
            truth: truth.clone(),
            seed: settings.seed,
            people: None,
        })?,
        None => sample(settings),
    };
    let people = Arc::new(People {
        authority: messages::patient_id(bench.hospital()?, "0").assigning_authority,
        facts,
        truth,
    });
    let print = |figure: Figure| figure.print(settings.json);
    let before = resident_mib()?;
    let bulk = people.facts.len().saturating_sub(settings.feed);
    if bulk > 0 {
        print(load(&bench, &people, bulk, settings.seed).await?);
    }
    print(feed(&bench, &people, bulk, settings).await?);
    print(memory(&people, before)?);
    for figure in outcome(&bench, &people)? {
        print(figure);
    }
    for figure in ask(&bench, &people, settings).await? {
        print(figure);
    }
    for figure in opening(&bench).await? {
        print(figure);
    }
    bench.end().await
}

/// People of the sample, their records in random order. Another seed than that of the people the
/// node has already.
fn sample(settings: &IdentitySettings) -> (Vec<Fact>, Vec<Truth>) {
    let sample = Sample::generate(&SampleConfig {
        seed: settings.seed.wrapping_add(1_000),
        regions: 1,
        patients: settings.people,
        ..SampleConfig::default()
    });
    let mut all = Vec::new();
    for person in &sample.people {
        for record in &person.records {
            let Some(institution) = sample.institution(record) else {
                continue;
            };
            let patient = messages::feed(institution, record).patient;
            let fact = Fact {
                id: all.len().to_string(),
                demographics: patient.and_then(|one| one.demographics).unwrap_or_default(),
            };
            let truth = Truth {
                person: person.truth.to_string(),
                ..Truth::default()
            };
            all.push((fact, truth));
        }
    }
    all.shuffle(&mut StdRng::seed_from_u64(settings.seed));
    all.into_iter().unzip()
}

impl People {
    fn identifier(&self, place: usize) -> Result<cpb::Identifier> {
        let fact = self.facts.get(place).context("no such record")?;
        Ok(cpb::Identifier {
            assigning_authority: self.authority.clone(),
            value: fact.id.clone(),
            ..Default::default()
        })
    }

    fn patient(&self, place: usize) -> Result<pb::Patient> {
        let fact = self.facts.get(place).context("no such record")?;
        Ok(pb::Patient {
            identifier: Some(self.identifier(place)?),
            demographics: Some(fact.demographics.clone()),
            ..Default::default()
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
fn rate(count: usize, started: Instant) -> f64 {
    count as f64 / started.elapsed().as_secs_f64()
}

/// The first `count` records in bulk. The bar is 20,000 a second.
async fn load(bench: &Bench, people: &Arc<People>, count: usize, seed: u64) -> Result<Figure> {
    use pb::load_patients_request::Part as Asked;
    use pb::load_patients_response::Part as Told;
    let caller = bench.callers.first().context("no caller")?;
    let mut client = IdentityServiceClient::new(caller.channel.clone());
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
    let sending = Arc::clone(people);
    let started = Instant::now();
    let sent = tokio::spawn(async move {
        let ask = |part| pb::LoadPatientsRequest { part: Some(part) };
        let start = pb::LoadStart {
            idempotency_key: format!("bench-{seed}"),
            ..Default::default()
        };
        sender.send(ask(Asked::Start(start))).await?;
        for place in 0..count {
            let record = pb::LoadRecord {
                position: place as u64 + 1,
                patient: Some(sending.patient(place)?),
            };
            sender.send(ask(Asked::Record(record))).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let request = caller.request(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut told = client.load_patients(request).await?.into_inner();
    let mut durable = 0;
    while let Some(message) = told.message().await? {
        match message.part {
            Some(Told::Rejected(rejected)) => {
                anyhow::bail!("a record was refused: {}", rejected.reason)
            }
            Some(Told::Summary(counts)) => durable = counts.durable_position,
            _ => {}
        }
    }
    sent.await.context("sending panicked")??;
    ensure!(durable == count as u64, "{durable} records were loaded");
    let value = rate(count, started);
    Ok(Figure {
        suite: "identity",
        case: "LoadPatients".to_owned(),
        value,
        unit: "records/s",
        floor: 20_000.0,
        floor_name: "the bar",
        ratio: value / 20_000.0,
        n: count as u64,
        config: json!({ "audit": "each record, in its frame" }),
    })
}

/// The records from `first` on, one by one, so many in flight; against plain commits of the same size
/// by as many writers.
async fn feed(
    bench: &Bench,
    people: &Arc<People>,
    first: usize,
    settings: &IdentitySettings,
) -> Result<Figure> {
    let next = Arc::new(AtomicUsize::new(first));
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let caller = bench.callers.get(worker % bench.callers.len().max(1));
        let caller = caller.context("no caller")?.clone();
        let (people, next) = (Arc::clone(people), Arc::clone(&next));
        workers.spawn(async move {
            let mut client = IdentityServiceClient::new(caller.channel.clone());
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= people.facts.len() {
                    return Ok::<_, anyhow::Error>(());
                }
                let request = pb::FeedPatientRequest {
                    patient: Some(people.patient(place)?),
                    event: pb::FeedEvent::Add.into(),
                    ..Default::default()
                };
                client.feed_patient(caller.request(request)).await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.context("a worker panicked")??;
    }
    let count = people.facts.len() - first;
    let value = rate(count, started);
    let size = people.patient(first)?.encoded_len();
    let store = Arc::clone(&bench.gateway.store);
    let below = writers(IN_FLIGHT, settings.time, move |_| {
        let store = Arc::clone(&store);
        async move {
            let commit = Commit {
                audit: vec![vec![0_u8; size].into()],
                ..Commit::default()
            };
            let _committed = store.commit(commit).await?;
            Ok(())
        }
    });
    let (floor, _) = below.await?;
    Ok(Figure {
        suite: "identity",
        case: format!("FeedPatient@{IN_FLIGHT}"),
        value,
        unit: "records/s",
        floor,
        floor_name: "commits of the same size",
        ratio: value / floor,
        n: count as u64,
        config: json!({
            "records_before": first,
            "connections": CONNECTIONS,
            "order": settings.seed,
        }),
    })
}

/// What the process grew by for each record: search index, caches, the engine's tables in memory.
#[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
fn memory(people: &People, before: f64) -> Result<Figure> {
    let grown = (resident_mib()? - before).max(0.0) * f64::from(1 << 20);
    let value = (grown / people.facts.len() as f64).max(1.0);
    Ok(Figure {
        suite: "identity",
        case: "resident memory".to_owned(),
        value,
        unit: "B/record",
        floor: 600.0,
        floor_name: "the bar",
        ratio: 600.0 / value,
        n: people.facts.len() as u64,
        config: json!({ "what": "growth of the whole process, the caller's half included" }),
    })
}

/// What the search index takes for each record, and how long it takes to make it from the patient
/// table and from what was kept, beside the one that is there.
#[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
async fn opening(bench: &Bench) -> Result<Vec<Figure>> {
    let gateway = Arc::clone(&bench.gateway);
    let (records, bytes) = gateway.identity.search_size();
    let figure = |case: &str, value: f64, unit, floor: f64, floor_name, config| Figure {
        suite: "identity",
        case: case.to_owned(),
        value,
        unit,
        floor,
        floor_name,
        ratio: floor / value,
        n: records as u64,
        config,
    };
    let each = (bytes as f64 / records.max(1) as f64).max(1.0);
    let what = json!({ "what": "the search index alone, without what the allocator adds" });
    let mut figures = vec![figure(
        "search index",
        each,
        "B/record",
        600.0,
        "the bar",
        what,
    )];
    let open = move |gateway: &Arc<Gateway>| -> Result<f64> {
        let started = Instant::now();
        let store = Arc::clone(&gateway.store);
        let opened = Identity::open(store, Arc::clone(&gateway.clock))?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(opened.search_size().0 == records, "records are missing");
        Ok(seconds)
    };
    let timed = move || -> Result<_> {
        let from_table = open(&gateway)?;
        let started = Instant::now();
        let kept = gateway.identity.keep_search()?;
        let keeping = started.elapsed().as_secs_f64();
        let from_kept = kept.then(|| open(&gateway)).transpose()?;
        Ok((from_table, keeping, from_kept))
    };
    let (from_table, keeping, from_kept) = tokio::task::spawn_blocking(timed).await??;
    let floor_name = "the bar for 1 M people, from what was kept";
    let mut seconds = |case: &str, value: f64, what: &str| {
        let config = json!({ "what": what });
        figures.push(figure(case, value, "s", 5.0, floor_name, config));
    };
    seconds("open from the patient table", from_table, "nothing kept");
    if let Some(from_kept) = from_kept {
        seconds("keep the search index", keeping, "beside the calls");
        seconds("open", from_kept, "the search index, from what was kept");
    }
    Ok(figures)
}

/// Links and tasks as the node has them, against the truth.
fn outcome(bench: &Bench, people: &People) -> Result<Vec<Figure>> {
    let (mut first_of, mut of_tag) = (HashMap::new(), HashMap::new());
    let mut clusters = Vec::with_capacity(people.facts.len());
    for (place, fact) in (0_u32..).zip(&people.facts) {
        let id = PatientIdentifier::new(&people.authority, &fact.id)?;
        let linkage = bench.gateway.identity.linkage(&id);
        let linkage = linkage.context("a record that was fed is not known")?;
        clusters.push(*first_of.entry(linkage).or_insert(place));
        of_tag.insert(bench.gateway.store.keys().patient_tag(&id).to_vec(), place);
    }
    let mut doubts = Vec::new();
    bench
        .gateway
        .store
        .scan_under::<ReviewRow>(&[], &mut |found| {
            let places = (of_tag.get(&found.row.first), of_tag.get(&found.row.second));
            if let (Some(first), Some(second)) = places {
                doubts.push((0.0, *first, *second));
            }
            Ok(())
        })?;
    let Outcome {
        automatic,
        false_links,
        review,
    } = Outcome::of(&clusters, &doubts, &people.truth);
    let config = json!({ "false_links": automatic.wrong, "by_kind": false_links });
    let share = |case: &str, value: f64, floor: f64, config| Figure {
        suite: "identity",
        case: case.to_owned(),
        value,
        unit: "share",
        floor,
        floor_name: "the bar",
        ratio: value / floor,
        n: people.facts.len() as u64,
        config,
    };
    let mut figures = vec![
        share("automatic precision", automatic.precision, 1.0, config),
        share("automatic recall", automatic.recall, 0.87, json!({})),
        share("recall with review", review.recall, 0.99, json!({})),
    ];
    if review.pairs > 0 {
        let config = json!({ "right": review.right, "wrong": review.wrong });
        figures.push(Figure {
            unit: "pairs/1000",
            ratio: 70.0 / review.per_thousand,
            ..share("review", review.per_thousand, 70.0, config)
        });
    }
    Ok(figures)
}

/// Asks for identifiers, and searches with everything and with four items.
async fn ask(
    bench: &Bench,
    people: &Arc<People>,
    settings: &IdentitySettings,
) -> Result<Vec<Figure>> {
    let numbers = Arc::new(AtomicU64::new(0));
    let mut figures = Vec::new();
    for (name, in_flight, bar, target) in [
        ("QueryIdentifiers", IN_FLIGHT, None, query(people)?),
        (
            "SearchPatients all items",
            SEARCHES,
            Some(10_000.0),
            search(people, everything)?,
        ),
        (
            "SearchPatients four items",
            SEARCHES,
            Some(25_000.0),
            search(people, four_items)?,
        ),
    ] {
        let caller = bench.callers.first().context("no caller")?;
        let answer = call(caller, &target, 0).await?.len();
        let request = (target.request)(0).len();
        let floor = Target {
            path: PathAndQuery::from_static(constant::PATH),
            request: Arc::new(move |_| constant::request(request, answer)),
        };
        let floor = (bench.floor.as_slice(), &floor);
        let asked = (bench.callers.as_slice(), &target);
        let (below, real) = in_turn(floor, asked, in_flight, settings.time, &numbers).await?;
        let figure = |what: &str, unit, value, floor, floor_name, ratio| Figure {
            suite: "identity",
            case: format!("{name}@{in_flight}{what}"),
            value,
            unit,
            floor,
            floor_name,
            ratio,
            n: real.calls,
            config: json!({ "records": people.facts.len(), "response_bytes": answer }),
        };
        let ratio = real.rate / below.rate;
        figures.push(figure(
            "",
            "calls/s",
            real.rate,
            below.rate,
            "constant rpc",
            ratio,
        ));
        let (floor, name) = bar.map_or((below.p99, "constant rpc"), |bar| (bar, "the bar"));
        figures.push(figure(
            " p99",
            "us",
            real.p99,
            floor,
            name,
            floor / real.p99,
        ));
    }
    Ok(figures)
}

/// One record after the other, in an order of its own.
fn somebody(people: &People, number: u64) -> usize {
    let count = people.facts.len().max(1) as u64;
    usize::try_from(mix(number) % count).unwrap_or_default()
}

fn query(people: &Arc<People>) -> Result<Target> {
    let people = Arc::clone(people);
    ensure!(!people.facts.is_empty(), "there are no records");
    Ok(Target {
        path: PathAndQuery::from_static("/renkei.identity.v1.IdentityService/QueryIdentifiers"),
        request: Arc::new(move |number| {
            let id = people.identifier(somebody(&people, number));
            let subject = id
                .ok()
                .map(pb::query_identifiers_request::Subject::Identifier);
            let request = pb::QueryIdentifiersRequest {
                subject,
                ..Default::default()
            };
            request.encode_to_vec().into()
        }),
    })
}

fn search(
    people: &Arc<People>,
    criteria: fn(&pb::Demographics) -> pb::PatientCriteria,
) -> Result<Target> {
    // Who has too little on record cannot be searched for.
    let whole = |one: &pb::Demographics| {
        let name = one.names.first();
        name.is_some_and(|name| !name.family.is_empty() && !name.given.is_empty())
            && one.birth_date.len() == 10
            && one
                .addresses
                .first()
                .is_some_and(|place| !place.city.is_empty())
    };
    let known: Vec<pb::PatientCriteria> = people
        .facts
        .iter()
        .map(|fact| &fact.demographics)
        .filter(|one| whole(one))
        .take(10_000)
        .map(criteria)
        .collect();
    ensure!(
        !known.is_empty(),
        "nobody has a name, a birth date and an address"
    );
    Ok(Target {
        path: PathAndQuery::from_static("/renkei.identity.v1.IdentityService/SearchPatients"),
        request: Arc::new(move |number| {
            let place = usize::try_from(mix(number) % known.len() as u64).unwrap_or_default();
            let request = pb::SearchPatientsRequest {
                criteria: known.get(place).cloned(),
                ..Default::default()
            };
            request.encode_to_vec().into()
        }),
    })
}

/// Everything a record says.
fn everything(known: &pb::Demographics) -> pb::PatientCriteria {
    let name = known.names.first().cloned().unwrap_or_default();
    pb::PatientCriteria {
        family: name.family,
        given: name.given.concat(),
        birth_date: known.birth_date.clone(),
        administrative_gender: known.administrative_gender,
        address: known.addresses.first().cloned(),
        telecom: known
            .telecoms
            .first()
            .map_or_else(String::new, |one| one.value.clone()),
        coverage: known.coverages.first().cloned(),
        ..Default::default()
    }
}

/// Name in kana if there is one, without its last letter; sex, birth date, municipality.
fn four_items(known: &pb::Demographics) -> pb::PatientCriteria {
    let kana = |name: &&pb::PersonName| {
        name.representation() == pb::NameRepresentation::Syllabic && !name.family.is_empty()
    };
    let name = known.names.iter().find(kana).or(known.names.first());
    let name = name.cloned().unwrap_or_default();
    let mut given = name.given.concat();
    if given.chars().count() > 2 {
        given.pop();
    }
    let place = known.addresses.first().map(municipality);
    pb::PatientCriteria {
        family: name.family,
        given,
        birth_date: known.birth_date.clone(),
        administrative_gender: known.administrative_gender,
        address: place,
        ..Default::default()
    }
}

/// Prefecture and municipality of an address.
fn municipality(place: &pb::Address) -> pb::Address {
    pb::Address {
        state: place.state.clone(),
        city: place.city.clone(),
        ..Default::default()
    }
}
