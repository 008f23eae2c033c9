//! Two worlds that differ only in patient B, and a caller who is entitled only to A: not one byte of
//! any answer differs. Bars: Z-12.
//!
//! One node is both worlds, one after the other, on a clock that stands still: so what is random
//! about it (linkage ids, keys) is the same in both, and every difference is B's.

use std::sync::Arc;

use prost::Message;
use renkei::clock::Clock;
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::types::{PersonRole, PurposeOfUse, Relation};
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio_stream::StreamExt as _;
use tonic::{Response, Status, Streaming};

use crate::support::calls::{feed, find_query, opt_out, provide};
use crate::support::{At, Network, Setup, person, physician};

const HERE: At = At::Region(0);

/// Rounds of every kind of call, in each world.
fn rounds() -> usize {
    let full = std::env::vars().any(|(name, tier)| name == "RENKEI_TIER" && tier != "quick");
    if full { 400 } else { 12 }
}

#[derive(Debug)]
struct Still(jiff::Timestamp);

impl Clock for Still {
    fn now(&self) -> jiff::Timestamp {
        self.0
    }

    fn elapsed(&self) -> std::time::Duration {
        renkei::clock::SystemClock.elapsed()
    }
}

/// Everything a caller can see of one answer.
type Seen = (String, Vec<u8>);

fn metadata(map: &tonic::metadata::MetadataMap) -> String {
    // The date of HTTP is the machine's, whoever asks.
    let mut lines: Vec<String> = map
        .clone()
        .into_headers()
        .iter()
        .filter(|(name, _)| name.as_str() != "date")
        .map(
            |(name, value)| match name.as_str() == renkei::wire::RECEIPT {
                // Which entry of the node's log it is and its hash: of the call, and of how much the
                // whole node did before.
                true => {
                    let receipt = value.to_str().unwrap();
                    let (log, entry) = receipt.split_once(' ').unwrap();
                    let (index, hash) = entry.split_once(' ').unwrap();
                    assert!(
                        index.parse::<u64>().is_ok() && hash.len() == 44,
                        "{receipt}"
                    );
                    format!("{name}: {log}")
                }
                false => format!("{name}: {:?}", value.as_bytes()),
            },
        )
        .collect();
    lines.sort();
    lines.join("\n")
}

fn refusal(status: &Status) -> Seen {
    let head = format!(
        "{:?} {} {}",
        status.code(),
        status.message(),
        metadata(status.metadata())
    );
    (head, status.details().to_vec())
}

fn unary<M: Message>(answer: Result<Response<M>, Status>) -> Seen {
    match answer {
        Ok(answer) => {
            let head = metadata(answer.metadata());
            (head, answer.into_inner().encode_to_vec())
        }
        Err(status) => refusal(&status),
    }
}

async fn stream<M: Message>(answer: Result<Response<Streaming<M>>, Status>) -> Seen {
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return refusal(&status),
    };
    let mut head = metadata(answer.metadata());
    let (mut stream, mut bytes) = (answer.into_inner(), Vec::new());
    while let Some(message) = stream.next().await {
        match message {
            Ok(message) => bytes.extend(message.encode_length_delimited_to_vec()),
            Err(status) => head += &refusal(&status).0,
        }
    }
    if let Ok(Some(trailers)) = stream.trailers().await {
        head += &metadata(&trailers);
    }
    (head, bytes)
}

/// A patient as a caller may ask for them.
struct Asked {
    id: cpb::Identifier,
    record: SampleRecord,
    entry: dpb::DocumentEntry,
}

struct Asking<'a> {
    caller: &'a Caller,
    seen: Vec<(String, Seen)>,
}

impl Asking<'_> {
    fn note(&mut self, call: &str, seen: Seen) {
        self.seen.push((call.to_owned(), seen));
    }

    async fn documents(&mut self, who: &str, patient: &Asked) {
        let mut client = DocumentServiceClient::new(self.caller.channel.clone());
        let query = |query| dpb::QueryRegistryRequest {
            query: Some(query),
            ..Default::default()
        };
        let list = self.caller.request(query(find_query(patient.id.clone())));
        self.note(
            &format!("list {who}"),
            unary(client.query_registry(list).await),
        );
        let selectors = [
            dpb::ObjectSelector {
                entry_uuids: vec![patient.entry.entry_uuid.clone()],
                ..Default::default()
            },
            dpb::ObjectSelector {
                unique_ids: vec![patient.entry.unique_id.clone()],
                ..Default::default()
            },
        ];
        for selector in selectors {
            let get = dpb::stored_query::Query::GetDocuments(dpb::GetDocumentsQuery {
                documents: Some(selector),
            });
            let get = self.caller.request(query(dpb::StoredQuery {
                query: Some(get),
                ..Default::default()
            }));
            self.note(
                &format!("entry {who}"),
                unary(client.query_registry(get).await),
            );
        }
        let document = dpb::DocumentRequest {
            document: Some(renkei::documents::document_ref(&patient.entry)),
            range: None,
        };
        let read = self.caller.request(dpb::RetrieveDocumentsRequest {
            documents: vec![document.clone()],
        });
        let read = stream(client.retrieve_documents(read).await).await;
        self.note(&format!("read {who}"), read);
        let mut client = InitiatingGatewayServiceClient::new(self.caller.channel.clone());
        let find = fpb::InitiatingGatewayServiceFindDocumentsRequest {
            query: Some(find_query(patient.id.clone())),
            ..Default::default()
        };
        let find = client.find_documents(self.caller.request(find)).await;
        let find = stream(find).await;
        self.note(&format!("find {who}"), find);
        let retrieve = fpb::InitiatingGatewayServiceRetrieveDocumentsRequest {
            documents: vec![document],
            patient_id: Some(patient.id.clone()),
        };
        let retrieve = client
            .retrieve_documents(self.caller.request(retrieve))
            .await;
        let retrieve = stream(retrieve).await;
        self.note(&format!("retrieve {who}"), retrieve);
        let locate = fpb::LocateHoldingsRequest {
            passes: false,
            patient: Some(fpb::locate_holdings_request::Patient::PatientId(
                patient.id.clone(),
            )),
        };
        let locate = unary(client.locate_holdings(self.caller.request(locate)).await);
        self.note(&format!("locate {who}"), locate);
    }

    async fn identity(&mut self, who: &str, patient: &Asked) {
        let mut client = IdentityServiceClient::new(self.caller.channel.clone());
        let query = ipb::QueryIdentifiersRequest {
            subject: Some(ipb::query_identifiers_request::Subject::Identifier(
                patient.id.clone(),
            )),
            ..Default::default()
        };
        let query = unary(client.query_identifiers(self.caller.request(query)).await);
        self.note(&format!("identifiers {who}"), query);
        let get = ipb::GetPatientRequest {
            subject: Some(ipb::get_patient_request::Subject::Identifier(
                patient.id.clone(),
            )),
        };
        let get = unary(client.get_patient(self.caller.request(get)).await);
        self.note(&format!("patient {who}"), get);
        let record = &patient.record;
        let criteria = ipb::PatientCriteria {
            family: record.family_kanji.clone(),
            given: record.given_kanji.clone(),
            birth_date: record.birth_date.clone(),
            ..Default::default()
        };
        let search = ipb::SearchPatientsRequest {
            criteria: Some(criteria),
            ..Default::default()
        };
        let search = unary(client.search_patients(self.caller.request(search)).await);
        self.note(&format!("search {who}"), search);
        let mut client = ConsentServiceClient::new(self.caller.channel.clone());
        let list = npb::ListConsentsRequest {
            patient: Some(npb::list_consents_request::Patient::PatientId(
                patient.id.clone(),
            )),
            include_history: true,
            ..Default::default()
        };
        let list = unary(client.list_consents(self.caller.request(list)).await);
        self.note(&format!("consents {who}"), list);
        // Nor is it to be learnt by trying to record something about them.
        let record = npb::RecordConsentRequest {
            consent: Some(npb::Consent {
                patient_id: Some(patient.id.clone()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let record = unary(client.record_consent(self.caller.request(record)).await);
        self.note(&format!("record {who}"), record);
    }
}

/// Every kind of call, about A and about B, by everybody who is entitled only to A.
async fn world(callers: &[Caller], a: &Asked, b: &Asked) -> Vec<(String, Seen)> {
    let mut seen = Vec::new();
    for _ in 0..rounds() {
        for (index, caller) in callers.iter().enumerate() {
            let mut asking = Asking {
                caller,
                seen: Vec::new(),
            };
            for (who, patient) in [("A", a), ("B", b)] {
                asking.documents(who, patient).await;
                asking.identity(who, patient).await;
            }
            let calls = asking.seen.into_iter();
            seen.extend(calls.map(|(call, seen)| (format!("caller {index}: {call}"), seen)));
        }
    }
    seen
}

/// A document's entry with the ids that it will be registered under.
async fn provided(network: &Network, document: &SampleDocument, store: bool) -> dpb::DocumentEntry {
    let mut parts = network.provision(document);
    let Some(dpb::provide_documents_request::Part::Start(start)) = &mut parts[0].part else {
        panic!("a submission starts with its metadata");
    };
    let submission = start.submission.as_mut().unwrap();
    let mut entry = submission.entries[0].clone();
    entry.home_community_id = network.node(HERE).home.clone();
    entry.repository_unique_id = network.world.regions[0].repository.clone();
    if store {
        let institution = &network.sample.regions[0].institutions[document.institution];
        let answer = provide(&network.system(HERE, institution), parts).await;
        let result = answer.unwrap().into_inner().result.unwrap();
        entry = result.entries[0].clone();
    }
    entry
}

fn document_of(network: &Network, record: &SampleRecord) -> SampleDocument {
    let truth = network.sample.scenario.cross_region;
    let mut documents = network.sample.documents_of(truth);
    let like = documents.find(|document| document.region == 0).unwrap();
    SampleDocument {
        institution: record.institution,
        local_id: record.local_id.clone(),
        unique_id: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
        ..like.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, twice")]
async fn a_patient_who_refused_is_nowhere_to_be_seen() {
    let clock: Arc<dyn Clock> = Arc::new(Still(renkei::clock::SystemClock.now()));
    let network = Setup::standalone().clock(clock).start().await;
    let a = network
        .record(network.sample.scenario.cross_region, 0)
        .clone();
    let elsewhere = usize::from(a.institution == 0);
    let b = SampleRecord {
        institution: elsewhere,
        ..network.record(network.sample.scenario.opted_out, 0).clone()
    };
    network.feed(&a).await;
    let entry = provided(&network, &document_of(&network, &a), true).await;
    let a = Asked {
        id: network.patient(&a),
        record: a,
        entry,
    };
    let theirs = document_of(&network, &b);
    let entry = provided(&network, &theirs, false).await;
    let mut b = Asked {
        id: network.patient(&b),
        record: b,
        entry,
    };
    b.entry.entry_uuid = format!("urn:uuid:{}", uuid::Uuid::new_v4());
    let code = network.institution(&a.record).code.clone();
    let clerk = renkei::demo::world::Actor {
        subject: "C-1",
        role: PersonRole::Clerk,
        purpose: PurposeOfUse::Operations,
        relation: Relation::None,
        institution: &code,
    };
    let callers = [
        network.acting(HERE, &physician(&code)),
        network.acting(HERE, &person("N-1", PersonRole::Nurse, &code)),
        network.acting(HERE, &clerk),
        network.system(HERE, network.institution(&a.record)),
    ];
    let without = world(&callers, &a, &b).await;

    // The other world: B is known to the other institution, with a document, and refused.
    let institution = network.institution(&b.record).clone();
    let system = network.system(HERE, &institution);
    feed(&system, messages::feed(&institution, &b.record))
        .await
        .unwrap();
    b.entry = provided(&network, &theirs, true).await;
    let their_clerk = person("C-2", PersonRole::Clerk, &institution.code);
    let their_clerk = network.acting(HERE, &their_clerk);
    opt_out(&their_clerk, b.id.clone()).await;
    let with = world(&callers, &a, &b).await;

    assert_eq!(with.len(), without.len());
    println!("{} calls in each world", with.len());
    let served = without
        .iter()
        .filter(|(_, (_, bytes))| bytes.len() > 100)
        .count();
    assert!(served > rounds() * 10, "nothing was shown of A: {served}");
    for ((call, before), (same, after)) in without.iter().zip(&with) {
        assert_eq!(call, same);
        assert_eq!(before.0, after.0, "{call}");
        assert!(
            before.1 == after.1,
            "{call}: {} and {} bytes",
            before.1.len(),
            after.1.len()
        );
    }
    // The test can fail: B's own institution sees a difference.
    let own = [network.acting(HERE, &physician(&institution.code))];
    let own = world(&own, &a, &b).await;
    let shown = own
        .iter()
        .find(|(call, _)| call.ends_with("patient B"))
        .unwrap();
    assert!(shown.1.1.len() > 100, "B's own institution knows B");
    network.stop().await;
}
