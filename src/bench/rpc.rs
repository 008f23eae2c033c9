//! `bench rpc`: unary methods at 1, 16, 64 and 256 in flight, against a constant answer of the same
//! size through the same edge.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::actor::{Caller, Link};
use crate::demo::folder::Folder;
use crate::demo::messages;
use crate::demo::sample::{Sample, SampleConfig, SampleInstitution, SampleRecord};
use crate::demo::world::{Actor, World};
use crate::gateway::Gateway;
use crate::store::Options;
use crate::types::{PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::audit as apb;
use crate::wire::pb::consent as npb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;
use crate::wire::pb::emergency as epb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::identity as ipb;
use crate::wire::pb::identity::identity_service_client::IdentityServiceClient;

use super::load::{Run, Target, call, in_turn, run};
use super::{Figure, constant};

/// Connections the calls are spread over.
pub(super) const CONNECTIONS: usize = 4;

/// Calls in flight at which the same is measured without audit records.
const AUDIT_IN_FLIGHT: usize = 64;
/// How often with and without.
const AUDIT_TURNS: u32 = 4;

/// How to measure.
#[derive(Clone, Debug)]
pub struct RpcSettings {
    /// Calls in flight.
    pub in_flight: Vec<usize>,
    /// Time for each figure.
    pub time: Duration,
    /// People in the store.
    pub patients: usize,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// For whom a method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// A treating physician.
    Physician,
    /// A physician of an emergency department.
    Emergency,
    /// The institution's privacy officer.
    Officer,
    /// The node's operator, without an assertion.
    Operator,
}

/// Whether a node keeps records of the calls that change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Records {
    /// As every node.
    Kept,
    /// To measure what they cost.
    LeftOut,
}

/// The nodes under measurement, in this process, over real TLS and a real disk.
pub(super) struct Bench {
    _folder: Folder,
    pub(super) gateway: Arc<Gateway>,
    pub(super) callers: Vec<Caller>,
    others: HashMap<Who, Vec<Caller>>,
    pub(super) floor: Vec<Caller>,
    pub(super) sample: Sample,
    /// The node's repositoryUniqueId.
    pub(super) repository: String,
    stop: CancellationToken,
    servers: tokio::task::JoinSet<Result<()>>,
}

/// Measures and prints.
///
/// # Errors
/// If a node cannot be set up, or a call fails.
pub async fn rpc(settings: &RpcSettings) -> Result<()> {
    let bench = Bench::start(settings).await?;
    let unaudited = match settings.in_flight.contains(&AUDIT_IN_FLIGHT) {
        true => Some(Bench::open(settings, Records::LeftOut).await?),
        false => None,
    };
    let numbers = Arc::new(AtomicU64::new(0));
    for (case, who, target) in bench.cases()? {
        let callers = bench.callers_of(who);
        let caller = callers.first().context("no caller")?;
        let answer = call(caller, &target, u64::MAX)
            .await
            .with_context(|| case.clone())?;
        let request = (target.request)(u64::MAX).len();
        let floor = Target {
            path: PathAndQuery::from_static(constant::PATH),
            request: Arc::new(move |_| constant::request(request, answer.len())),
        };
        let sizes = (
            (target.request)(u64::MAX).len(),
            call(caller, &target, u64::MAX).await?.len(),
        );
        for in_flight in &settings.in_flight {
            let below = (bench.floor.as_slice(), &floor);
            let asked = (callers, &target);
            let time = settings.time;
            let (below, real) = in_turn(below, asked, *in_flight, time, &numbers).await?;
            print(&case, *in_flight, sizes, &below, &real, settings.json);
            if let Some(unaudited) = unaudited.as_ref().filter(|_| *in_flight == AUDIT_IN_FLIGHT) {
                let both = (callers, unaudited.callers_of(who));
                let figure = audit_cost(&case, both, &target, time, &numbers);
                figure.await?.print(settings.json);
            }
        }
    }
    if let Some(unaudited) = unaudited {
        unaudited.end().await?;
    }
    bench.end().await
}

/// The same calls of a node with its audit records and of one without, in turns. The bar is 0.8. What a
/// change has in its own frame stays there.
async fn audit_cost(
    case: &str,
    (with, without): (&[Caller], &[Caller]),
    target: &Target,
    time: Duration,
    numbers: &Arc<AtomicU64>,
) -> Result<Figure> {
    let (mut real, mut below, mut calls) = (0.0, 0.0, 0);
    let time = time / AUDIT_TURNS;
    for _ in 0..AUDIT_TURNS {
        let one = run(with, target, AUDIT_IN_FLIGHT, time, numbers).await?;
        (real, calls) = (real + one.rate, calls + one.calls);
        below += run(without, target, AUDIT_IN_FLIGHT, time, numbers)
            .await?
            .rate;
    }
    let turns = f64::from(AUDIT_TURNS);
    Ok(Figure {
        suite: "rpc",
        case: format!("{case}@{AUDIT_IN_FLIGHT} of unaudited"),
        value: real / turns,
        unit: "calls/s",
        floor: below / turns,
        floor_name: "the same without audit records",
        ratio: real / below,
        n: calls,
        config: json!({ "bar": 0.8, "turns": AUDIT_TURNS }),
    })
}

fn print(case: &str, in_flight: usize, sizes: (usize, usize), floor: &Run, real: &Run, json: bool) {
    let config = json!({
        "in_flight": in_flight,
        "connections": CONNECTIONS,
        "request_bytes": sizes.0,
        "response_bytes": sizes.1,
        "audit": "durable before the answer",
    });
    let figure = |what: &str, unit, value: f64, below: f64, ratio: f64| Figure {
        suite: "rpc",
        case: format!("{case}@{in_flight}{what}"),
        value,
        unit,
        floor: below,
        floor_name: "constant rpc",
        ratio,
        n: real.calls,
        config: config.clone(),
    };
    figure("", "calls/s", real.rate, floor.rate, real.rate / floor.rate).print(json);
    figure(" p50", "us", real.p50, floor.p50, floor.p50 / real.p50).print(json);
    figure(" p99", "us", real.p99, floor.p99, floor.p99 / real.p99).print(json);
}

impl Bench {
    pub(super) async fn start(settings: &RpcSettings) -> Result<Self> {
        Self::open(settings, Records::Kept).await
    }

    fn callers_of(&self, who: Who) -> &[Caller] {
        self.others.get(&who).unwrap_or(&self.callers)
    }

    #[expect(clippy::too_many_lines, reason = "one set-up, told in its order")]
    async fn open(settings: &RpcSettings, records: Records) -> Result<Self> {
        let folder = Folder::new("bench")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = SampleConfig {
            regions: 1,
            patients: settings.patients,
            ..SampleConfig::default()
        };
        let sample = Sample::generate(&config);
        let world = World::create(folder.path(), &sample, Arc::clone(&clock))?;
        let node = world.regions.first().context("no region")?.clone();
        let mut config = Config::parse(&world.standalone_config(&node, "127.0.0.1:0")?, [])?;
        // One institution makes all the load here.
        config.listen.max_in_flight_per_institution = config.listen.max_in_flight;
        let listener = TcpListener::bind(config.listen.address).await?;
        let below = TcpListener::bind(config.listen.address).await?;
        let (address, floor_address) = (
            listener.local_addr()?.to_string(),
            below.local_addr()?.to_string(),
        );
        let directory = world.directory("127.0.0.1:1", std::slice::from_ref(&address))?;
        let options = Options {
            clock: Arc::clone(&clock),
            ..Options::default()
        };
        let limits = config.listen.clone();
        let mut gateway = Gateway::open(config, options, Some(directory)).await?;
        if records == Records::LeftOut {
            // Before it serves: a node that does cannot be told to leave them out.
            let alone = Arc::get_mut(&mut gateway).context("the node is at work already")?;
            alone.without_records = true;
        }
        let stop = CancellationToken::new();
        let trust = world.trust()?;
        let identity = world.identity(&node.name)?;
        let edge = constant::edge(&identity, &trust, &clock, limits, stop.clone())?;
        let mut servers = tokio::task::JoinSet::new();
        let until = stop.clone();
        let serving = Arc::clone(&gateway);
        servers.spawn(async move { Ok(crate::server::run(serving, listener, until).await?) });
        servers.spawn(async move {
            edge.serve_until_stopped(below).await;
            Ok(())
        });
        let mut bench = Self {
            _folder: folder,
            gateway,
            repository: node.repository.clone(),
            callers: Vec::new(),
            others: HashMap::new(),
            floor: Vec::new(),
            sample,
            stop,
            servers,
        };
        let (record, institution) = bench.somebody()?;
        tracing::debug!(region = record.region, "the bench's patient");
        let hospital = bench.hospital()?.clone();
        tracing::debug!(code = institution.code, "where the bench's patient is");
        let physician = Actor {
            subject: "D-1001",
            role: PersonRole::Physician,
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: &hospital.code,
        };
        let emergency = Actor {
            purpose: PurposeOfUse::Emergency,
            relation: Relation::EmergencyPatient,
            ..physician
        };
        let officer = Actor {
            role: PersonRole::PrivacyOfficer,
            purpose: PurposeOfUse::Operations,
            relation: Relation::None,
            ..physician
        };
        let staff = world.identity(&format!("inst-{}", hospital.code))?;
        let operator = world.identity("operator")?;
        let home = node.home.parse()?;
        let connect = |address: &str, identity, person: Option<&Actor<'_>>| {
            let link = Link {
                address,
                pin: node.pin,
                identity,
                trust: &trust,
                clock: &clock,
            };
            (0..CONNECTIONS)
                .map(|_| Caller::new(&link, person, &home))
                .collect::<Result<Vec<_>>>()
        };
        let callers = connect(&address, &staff, Some(&physician))?;
        let floor = connect(&floor_address, &staff, Some(&physician))?;
        let others = HashMap::from([
            (Who::Emergency, connect(&address, &staff, Some(&emergency))?),
            (Who::Officer, connect(&address, &staff, Some(&officer))?),
            (Who::Operator, connect(&address, &operator, None)?),
        ]);
        bench.others = others;
        bench.callers = callers;
        bench.floor = floor;
        bench.load(&node.repository).await?;
        Ok(bench)
    }

    /// The patient with the most documents, and the institution of the first record.
    fn somebody(&self) -> Result<(&SampleRecord, &SampleInstitution)> {
        let person = self
            .sample
            .person(self.sample.scenario.emergency)
            .context("nobody")?;
        let record = person.records.first().context("no record")?;
        Ok((
            record,
            self.sample.institution(record).context("no institution")?,
        ))
    }

    /// The emergency hospital, from which everything is asked.
    pub(super) fn hospital(&self) -> Result<&SampleInstitution> {
        let region = self.sample.regions.first().context("no region")?;
        region
            .institutions
            .iter()
            .find(|from| from.emergency)
            .context("no emergency hospital")
    }

    async fn load(&self, repository: &str) -> Result<()> {
        let caller = self.callers.first().context("no caller")?;
        let mut identity = IdentityServiceClient::new(caller.channel.clone());
        for record in self.sample.people.iter().flat_map(|person| &person.records) {
            let institution = self.sample.institution(record).context("no institution")?;
            identity
                .feed_patient(caller.request(messages::feed(institution, record)))
                .await?;
        }
        let mut documents = DocumentServiceClient::new(caller.channel.clone());
        let region = self.sample.regions.first().context("no region")?;
        for document in self.sample.documents_of(self.sample.scenario.emergency) {
            let institution = region
                .institutions
                .get(document.institution)
                .context("none")?;
            let parts = messages::provide(institution, repository, document);
            documents
                .provide_documents(caller.request(tokio_stream::iter(parts)))
                .await?;
        }
        Ok(())
    }

    /// What is measured.
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn cases(&self) -> Result<Vec<(String, Who, Target)>> {
        let (record, institution) = self.somebody()?;
        let id = messages::patient_id(institution, &record.local_id);
        let query = ipb::QueryIdentifiersRequest {
            subject: Some(ipb::query_identifiers_request::Subject::Identifier(
                id.clone(),
            )),
            ..Default::default()
        };
        let search = ipb::SearchPatientsRequest {
            criteria: Some(ipb::PatientCriteria {
                family: record.family_kana.clone(),
                given: record.given_kana.clone(),
                birth_date: record.birth_date.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let find = dpb::QueryRegistryRequest {
            query: Some(dpb::StoredQuery {
                query: Some(dpb::stored_query::Query::FindDocuments(
                    dpb::FindDocumentsQuery {
                        patient_id: Some(id.clone()),
                        ..Default::default()
                    },
                )),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut feed = messages::feed(institution, record);
        feed.idempotency_key.clear();
        let feeds = move |number: u64| -> Bytes {
            let mut one = feed.clone();
            if let Some(patient) = &mut one.patient {
                if let Some(id) = &mut patient.identifier {
                    id.value = format!("B{number:020}");
                }
                if let Some(demographics) = &mut patient.demographics {
                    // Somebody new each time: no policy, telephone or name in common.
                    demographics.coverages.clear();
                    demographics.telecoms.clear();
                    demographics.addresses.clear();
                    demographics.birth_date = birth_date(number);
                    for name in &mut demographics.names {
                        name.family = format!("{}{}", name.family, letters(number));
                    }
                }
            }
            one.encode_to_vec().into()
        };
        let one = |who, service: &str, method: &str, request: Bytes| {
            let area = service.split('.').nth(1).unwrap_or_default();
            Ok::<_, anyhow::Error>((
                format!("{area}.{method}"),
                who,
                target(service, method, request)?,
            ))
        };
        let empty = Bytes::new;
        let patient = || Some(id.clone());
        let by_id = ipb::get_patient_request::Subject::Identifier(id.clone());
        let get = ipb::GetPatientRequest {
            subject: Some(by_id),
        };
        let matched = ipb::MatchPatientRequest {
            patient: messages::feed(institution, record).patient,
            ..Default::default()
        };
        let locate = fpb::LocateHoldingsRequest {
            passes: false,
            patient: Some(fpb::locate_holdings_request::Patient::PatientId(id.clone())),
        };
        let consents = npb::ListConsentsRequest {
            patient: patient().map(npb::list_consents_request::Patient::PatientId),
            ..Default::default()
        };
        let identify = epb::IdentifyPatientRequest {
            subject: patient().map(epb::identify_patient_request::Subject::PatientId),
            ..Default::default()
        };
        let person = epb::PatientRef {
            subject: patient().map(epb::patient_ref::Subject::PatientId),
        };
        let summary = epb::GetSummaryRequest {
            patient: Some(person.clone()),
            ..Default::default()
        };
        let glass = epb::OpenBreakGlassRequest {
            patient: Some(person),
            reason: epb::BreakGlassReason::Unconscious.into(),
            reason_text: "意識障害のため同意を得られない".to_owned(),
            declares_consent_impossible: true,
            ..Default::default()
        };
        let events = apb::SearchEventsRequest {
            page_size: 10,
            ..Default::default()
        };
        let area = |area: &str, service: &str| format!("renkei.{area}.v1.{service}Service");
        let (identity, federation) = (
            area("identity", "Identity"),
            area("federation", "InitiatingGateway"),
        );
        let (emergency, directory) = (
            area("emergency", "Emergency"),
            area("directory", "Directory"),
        );
        let bytes = |message: &dyn Encode| message.bytes();
        Ok(vec![
            one(Who::Physician, &identity, "QueryIdentifiers", bytes(&query))?,
            one(Who::Physician, &identity, "SearchPatients", bytes(&search))?,
            one(Who::Physician, &identity, "MatchPatient", bytes(&matched))?,
            one(Who::Physician, &identity, "GetPatient", bytes(&get))?,
            one(
                Who::Physician,
                &area("documents", "Document"),
                "QueryRegistry",
                bytes(&find),
            )?,
            one(
                Who::Physician,
                &federation,
                "LocateHoldings",
                bytes(&locate),
            )?,
            one(
                Who::Physician,
                &area("consent", "Consent"),
                "ListConsents",
                bytes(&consents),
            )?,
            one(
                Who::Emergency,
                &emergency,
                "IdentifyPatient",
                bytes(&identify),
            )?,
            one(Who::Emergency, &emergency, "GetSummary", bytes(&summary))?,
            one(Who::Emergency, &emergency, "OpenBreakGlass", bytes(&glass))?,
            one(Who::Physician, &directory, "GetDirectory", empty())?,
            one(Who::Physician, &directory, "ListInstitutions", empty())?,
            one(
                Who::Officer,
                &area("audit", "Audit"),
                "SearchEvents",
                bytes(&events),
            )?,
            one(
                Who::Operator,
                &area("admin", "Admin"),
                "GetNodeInfo",
                empty(),
            )?,
            (
                "identity.FeedPatient".into(),
                Who::Physician,
                Target {
                    path: path(&identity, "FeedPatient")?,
                    request: Arc::new(feeds),
                },
            ),
        ])
    }

    pub(super) async fn end(mut self) -> Result<()> {
        self.callers.clear();
        self.others.clear();
        self.floor.clear();
        self.stop.cancel();
        while let Some(server) = self.servers.join_next().await {
            server.context("a server panicked")??;
        }
        Ok(())
    }
}

/// A number in letters: in the alphabet, digits are no part of a name.
fn letters(number: u64) -> String {
    let digits = number.to_string();
    digits
        .chars()
        .filter_map(|c| char::from_u32(u32::from(c) + u32::from(b'A' - b'0')))
        .collect()
}

/// A message as bytes, whatever it is.
trait Encode {
    fn bytes(&self) -> Bytes;
}

impl<M: prost::Message> Encode for M {
    fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

/// A birth date for each number, none of them the sample person's for long.
fn birth_date(number: u64) -> String {
    let (year, month, day) = (
        1930 + number % 90,
        1 + number / 90 % 12,
        1 + number / 1_080 % 28,
    );
    format!("{year}-{month:02}-{day:02}")
}

fn path(service: &str, method: &str) -> Result<PathAndQuery> {
    Ok(format!("/{service}/{method}").parse()?)
}

fn target(service: &str, method: &str, request: Bytes) -> Result<Target> {
    Ok(Target {
        path: path(service, method)?,
        request: Arc::new(move |_| request.clone()),
    })
}
