//! `bench registry`: `FindDocuments` for a patient with 50 documents in registries of growing size,
//! against a constant answer of the same size; registering a document, durable and audited, against
//! appends of the same size by as many writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::uri::PathAndQuery;
use prost::Message as _;
use serde_json::json;

use crate::demo::messages;
use crate::demo::sample::SampleDocument;
use crate::documents::tables::EntryRow;
use crate::gateway::Gateway;
use crate::store::{Commit, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use crate::wire::pb::documents::document_service_client::DocumentServiceClient;
use crate::wire::pb::identity as ipb;

use super::load::{Target, call, in_turn, writers};
use super::rpc::{Bench, CONNECTIONS, RpcSettings};
use super::wide::patient_row;
use super::{Figure, constant};

/// Document entries of one patient.
const ENTRIES: u64 = 50;
/// Rows in one frame while a registry is filled.
const FRAME: usize = 500;
/// Calls in flight.
const IN_FLIGHT: usize = 64;
/// Octets of a document that is registered.
const SMALL: usize = 1_024;
/// People whose documents' metadata is varied.
const PATIENTS: usize = 220;

/// How to measure.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Entries in the registry, one figure each, in growing order.
    pub sizes: Vec<u64>,
    /// Time for each figure.
    pub time: Duration,
    /// JSON Lines instead of a table.
    pub json: bool,
}

impl RegistrySettings {
    fn node(&self) -> RpcSettings {
        RpcSettings {
            in_flight: vec![IN_FLIGHT],
            time: self.time,
            patients: PATIENTS,
            json: self.json,
        }
    }
}

/// Measures the registry and prints.
///
/// # Errors
/// If a node cannot be set up, or a call fails.
pub async fn registry(settings: &RegistrySettings) -> Result<()> {
    let bench = Bench::start(&settings.node()).await?;
    let filler = Filler::new(&bench)?;
    let numbers = Arc::new(AtomicU64::new(0));
    let mut filled = 0;
    let mut first = None;
    for size in &settings.sizes {
        filler.fill(filled, *size / ENTRIES).await?;
        filled = *size / ENTRIES;
        let target = filler.find(filled)?;
        let caller = bench.callers.first().context("no caller")?;
        let answer = call(caller, &target, 0).await?;
        let found = pb::QueryRegistryResponse::decode(answer.clone())?;
        let found = found.objects.unwrap_or_default().entries.len() as u64;
        ensure!(found == ENTRIES, "{found} entries were found");
        let request = (target.request)(0).len();
        let length = answer.len();
        let floor = Target {
            path: PathAndQuery::from_static(constant::PATH),
            request: Arc::new(move |_| constant::request(request, length)),
        };
        let floor = (bench.floor.as_slice(), &floor);
        let found = (bench.callers.as_slice(), &target);
        let (below, real) = in_turn(floor, found, IN_FLIGHT, settings.time, &numbers).await?;
        let smallest = *first.get_or_insert(real.rate);
        let figure = |what: &str, unit, value: f64, below: f64, floor_name, ratio: f64| Figure {
            suite: "registry",
            case: format!("FindDocuments {size} entries@{IN_FLIGHT}{what}"),
            value,
            unit,
            floor: below,
            floor_name,
            ratio,
            n: real.calls,
            config: json!({
                "entries": size,
                "entries_of_a_patient": ENTRIES,
                "response_bytes": length,
                "connections": CONNECTIONS,
                "audit": "durable before the answer",
            }),
        };
        let rate = real.rate / below.rate;
        figure("", "calls/s", real.rate, below.rate, "constant rpc", rate).print(settings.json);
        let p99 = below.p99 / real.p99;
        figure(" p99", "us", real.p99, below.p99, "constant rpc", p99).print(settings.json);
        let flat = real.rate / smallest;
        let name = "the smallest registry";
        figure(" flat", "calls/s", real.rate, smallest, name, flat).print(settings.json);
    }
    register(&bench, settings, &numbers).await?;
    bench.end().await
}

/// Puts patients and their entries into the node's store: registering them one by one would measure
/// that.
struct Filler {
    gateway: Arc<Gateway>,
    authority: String,
    templates: Vec<pb::DocumentEntry>,
}

impl Filler {
    fn new(bench: &Bench) -> Result<Self> {
        use pb::provide_documents_request::Part;
        let region = bench.sample.regions.first().context("no region")?;
        let mut templates = Vec::new();
        // What is restricted is not listed without a consent that names it.
        let shown = |document: &&SampleDocument| document.confidentiality.code == "N";
        for document in bench.sample.documents.iter().filter(shown) {
            let institution = region.institutions.get(document.institution);
            let institution = institution.context("no institution")?;
            let parts = messages::provide(institution, &bench.repository, document);
            if let Some(Part::Start(start)) = parts.into_iter().next().and_then(|part| part.part) {
                templates.extend(start.submission.unwrap_or_default().entries);
            }
        }
        let hospital = bench.hospital()?;
        Ok(Self {
            gateway: Arc::clone(&bench.gateway),
            authority: messages::patient_id(hospital, "0").assigning_authority,
            templates,
        })
    }

    fn patient(&self, number: u64) -> cpb::Identifier {
        cpb::Identifier {
            assigning_authority: self.authority.clone(),
            value: format!("R{number:012}"),
            ..Default::default()
        }
    }

    /// Adds the patients numbered `from` to `to`, each with its entries, spread in time.
    async fn fill(&self, from: u64, to: u64) -> Result<()> {
        let patients = (from..to).map(|number| self.known(number));
        let entries = (0..ENTRIES).flat_map(|place| {
            (from..to).map(move |number| Ok(Write::put(&self.row(number, place)?)))
        });
        let mut writes = Vec::with_capacity(FRAME);
        for write in patients.chain(entries) {
            writes.push(write?);
            if writes.len() == FRAME {
                self.commit(std::mem::take(&mut writes)).await?;
            }
        }
        self.commit(writes).await
    }

    /// A patient of whom nothing is known but the identifier: who is unknown has nothing to be found.
    fn known(&self, number: u64) -> Result<Write> {
        let patient = ipb::Patient {
            identifier: Some(self.patient(number)),
            ..ipb::Patient::default()
        };
        let linkage = super::ledger::sixteen(number ^ 1 << 62);
        let linkage = linkage.try_into().ok().context("not of 16 octets")?;
        patient_row(&self.gateway, patient, linkage)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.gateway.store.commit(commit).await?;
        Ok(())
    }

    fn row(&self, number: u64, place: u64) -> Result<EntryRow> {
        let id = number * ENTRIES + place;
        let mixed = super::ledger::mix(id);
        let at = usize::try_from(mixed % self.templates.len().max(1) as u64)?;
        let mut entry = self.templates.get(at).context("no template")?.clone();
        let patient = self.patient(number);
        let tag = PatientIdentifier::new(&patient.assigning_authority, &patient.value)?;
        let uuid = super::ledger::sixteen(id ^ 1 << 63);
        entry.entry_uuid = uuid::Uuid::from_slice(&uuid)?.urn().to_string();
        entry.unique_id = format!("2.25.{}", u64::MAX - id);
        entry.patient_id = Some(patient);
        entry.availability_status = pb::AvailabilityStatus::Approved.into();
        Ok(EntryRow {
            uuid,
            patient: self.gateway.store.keys().patient_tag(&tag).to_vec(),
            entry: Some(entry),
            registered_ms: 1_790_000_000_000,
            ..EntryRow::default()
        })
    }

    /// `FindDocuments` of one of `patients`, another each time.
    fn find(&self, patients: u64) -> Result<Target> {
        ensure!(patients > 0, "no patient");
        let authority = self.authority.clone();
        let request = move |number: u64| {
            let number = super::ledger::mix(number) % patients;
            let find = pb::FindDocumentsQuery {
                patient_id: Some(cpb::Identifier {
                    assigning_authority: authority.clone(),
                    value: format!("R{number:012}"),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let request = pb::QueryRegistryRequest {
                query: Some(pb::StoredQuery {
                    query: Some(pb::stored_query::Query::FindDocuments(find)),
                    ..Default::default()
                }),
                ..Default::default()
            };
            request.encode_to_vec().into()
        };
        Ok(Target {
            path: PathAndQuery::from_static("/renkei.documents.v1.DocumentService/QueryRegistry"),
            request: Arc::new(request),
        })
    }
}

/// Registering (ITI-41 of one small document), against commits of a frame of the same size by as many
/// writers: what the ledger gives without a registry.
async fn register(
    bench: &Bench,
    settings: &RegistrySettings,
    numbers: &Arc<AtomicU64>,
) -> Result<()> {
    let document = bench.sample.documents.first().context("no document")?;
    let document = SampleDocument {
        content: vec![b'x'; SMALL],
        ..document.clone()
    };
    let region = bench.sample.regions.first().context("no region")?;
    let institution = region.institutions.get(document.institution);
    let institution = institution.context("no institution")?.clone();
    let repository = bench.repository.clone();
    let sending = move |number: u64| {
        let document = SampleDocument {
            unique_id: format!("2.25.{}", (1_u64 << 62) + number),
            ..document.clone()
        };
        messages::provide(&institution, &repository, &document)
    };
    let metadata = sending(0).first().map_or(0, prost::Message::encoded_len);
    let store = Arc::clone(&bench.gateway.store);
    let below = writers(IN_FLIGHT, settings.time, move |_| {
        let store = Arc::clone(&store);
        async move {
            let commit = Commit {
                audit: vec![vec![0_u8; metadata].into()],
                ..Commit::default()
            };
            let _committed = store.commit(commit).await?;
            Ok(())
        }
    });
    let (below, _) = below.await?;
    let (callers, numbers) = (bench.callers.clone(), Arc::clone(numbers));
    let real = writers(IN_FLIGHT, settings.time, move |worker| {
        let caller = callers.get(worker % callers.len().max(1)).cloned();
        let parts = sending(numbers.fetch_add(1, Ordering::Relaxed));
        async move {
            let caller = caller.context("no caller")?;
            let mut client = DocumentServiceClient::new(caller.channel.clone());
            let request = caller.request(tokio_stream::iter(parts));
            client.provide_documents(request).await?;
            Ok(())
        }
    });
    let (real, n) = real.await?;
    Figure {
        suite: "registry",
        case: format!("ProvideDocuments@{IN_FLIGHT}"),
        value: real,
        unit: "calls/s",
        floor: below,
        floor_name: "commits of the same size",
        ratio: real / below,
        n,
        config: json!({ "metadata_bytes": metadata, "document_bytes": SMALL }),
    }
    .print(settings.json);
    Ok(())
}
