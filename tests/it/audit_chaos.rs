//! The audit against what callers really got, while the node is killed again and again and callers hang
//! up. The callers hold the keys of their connections: they are who counts what was disclosed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use renkei::demo::actor::Caller;
use renkei::demo::world::Actor;
use renkei::documents::document_ref;
use renkei::types::Relation;
use renkei::wire::REQUEST_ID;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tonic::{Code, Request, Status};

use crate::support::calls::{find_here, find_query};
use crate::support::tier::{Dice, count};
use crate::support::{At, Network, Setup, eventually, officer, physician};

const HERE: At = At::Region(0);

/// What came of a call, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// Something was told.
    Disclosed,
    /// It was refused by the node.
    Refused,
    /// The connection broke, the node was away, or the caller hung up before anything came.
    Nothing,
}

impl Seen {
    fn of(status: &Status) -> Self {
        match status.code() {
            Code::PermissionDenied | Code::NotFound => Self::Refused,
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => Self::Nothing,
            other => panic!("{other:?}: {status:?}"),
        }
    }
}

/// A patient with documents, where they are known, who may read them, and who may not.
struct Known {
    institution: String,
    patient: cpb::Identifier,
    documents: Vec<cpb::DocumentRef>,
    doctor: Caller,
    stranger: Caller,
}

impl Known {
    fn new(
        network: &Network,
        institution: &str,
        patient: cpb::Identifier,
        documents: Vec<cpb::DocumentRef>,
    ) -> Self {
        let stranger = Actor {
            relation: Relation::None,
            ..physician(institution)
        };
        Self {
            institution: institution.to_owned(),
            patient,
            documents,
            doctor: network.acting(HERE, &physician(institution)),
            stranger: network.acting(HERE, &stranger),
        }
    }

    /// The same, with callers who have just signed in.
    fn again(&self, network: &Network) -> Self {
        let (patient, documents) = (self.patient.clone(), self.documents.clone());
        Self::new(network, &self.institution, patient, documents)
    }

    /// A call of some kind.
    async fn any(&self, dice: u64, id: &str) -> Seen {
        let ended = match dice {
            0 => self.identifiers(id).await,
            1 => list(&self.doctor, &self.patient, id).await,
            2 => list(&self.stranger, &self.patient, id).await,
            _ => self.read(id).await,
        };
        ended.unwrap_or_else(|status| Seen::of(&status))
    }

    async fn identifiers(&self, id: &str) -> Result<Seen, Status> {
        use ipb::query_identifiers_request::Subject;
        let asked = ipb::QueryIdentifiersRequest {
            subject: Some(Subject::Identifier(self.patient.clone())),
            ..Default::default()
        };
        let mut client = IdentityServiceClient::new(self.doctor.channel.clone());
        let request = named(&self.doctor, asked, id);
        client.query_identifiers(request).await?;
        Ok(Seen::Disclosed)
    }

    /// Reads a document to its end; its first octet is a disclosure.
    async fn read(&self, id: &str) -> Result<Seen, Status> {
        use dpb::retrieved_part::Part;
        use fpb::initiating_gateway_service_retrieve_documents_response::Part as Outer;
        let documents = self.documents.iter().map(|document| dpb::DocumentRequest {
            document: Some(document.clone()),
            range: None,
        });
        let asked = fpb::InitiatingGatewayServiceRetrieveDocumentsRequest {
            documents: documents.collect(),
            patient_id: Some(self.patient.clone()),
        };
        let mut client = InitiatingGatewayServiceClient::new(self.doctor.channel.clone());
        let request = named(&self.doctor, asked, id);
        let mut stream = client.retrieve_documents(request).await?.into_inner();
        let mut seen = Seen::Nothing;
        while let Ok(Some(message)) = stream.message().await {
            if let Some(Outer::Document(part)) = message.part
                && let Some(Part::Chunk(_)) = part.part
            {
                seen = Seen::Disclosed;
            }
        }
        Ok(seen)
    }
}

async fn list(caller: &Caller, patient: &cpb::Identifier, id: &str) -> Result<Seen, Status> {
    let asked = dpb::QueryRegistryRequest {
        query: Some(find_query(patient.clone())),
        ..Default::default()
    };
    let mut client = DocumentServiceClient::new(caller.channel.clone());
    client.query_registry(named(caller, asked, id)).await?;
    Ok(Seen::Disclosed)
}

/// A request that the audit knows by this name.
fn named<T>(caller: &Caller, message: T, id: &str) -> Request<T> {
    let mut request = caller.request(message);
    let id = id.parse().unwrap();
    request.metadata_mut().insert(REQUEST_ID, id);
    request
}

/// The first person who has documents here; all of them are provided.
async fn known(network: &Network) -> Known {
    for person in &network.sample.people {
        let documents = network.sample.documents_of(person.truth);
        let documents: Vec<_> = documents.filter(|one| one.region == 0).collect();
        let here = person.records.iter().find(|record| record.region == 0);
        let Some(record) = here.filter(|_| !documents.is_empty()) else {
            continue;
        };
        network.feed(record).await;
        for document in documents {
            network.provide(document).await;
        }
        let institution = &network.institution(record).code;
        let known = Known::new(network, institution, network.patient(record), vec![]);
        let found = find_here(&known.doctor, known.patient.clone()).await;
        let entries = found
            .unwrap()
            .into_inner()
            .objects
            .unwrap_or_default()
            .entries;
        assert!(!entries.is_empty());
        return Known {
            documents: entries.iter().map(document_ref).collect(),
            ..known
        };
    }
    panic!("nobody has documents here")
}

/// Outcomes that the institution's officer finds of calls whose name begins with `prefix`, by name.
async fn recorded(
    network: &Network,
    institution: &str,
    prefix: &str,
) -> BTreeMap<String, Vec<pb::Outcome>> {
    let officer = network.acting(HERE, &officer(institution));
    let mut client = AuditServiceClient::new(officer.channel.clone());
    let (mut found, mut page_token) = (BTreeMap::<_, Vec<_>>::new(), String::new());
    loop {
        let search = pb::SearchEventsRequest {
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = client.search_events(officer.request(search)).await;
        let page = page.unwrap().into_inner();
        for event in page.events {
            if event.request_id.starts_with(prefix) {
                let outcome = event.outcome();
                found.entry(event.request_id).or_default().push(outcome);
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Bars: A-29. What callers got is in the log, each call once, whatever became of the node and of them;
/// and what the log has beyond that are calls whose callers were gone when they were answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_disclosed_is_in_the_log_whatever_happens_to_the_node() {
    let mut network = Setup::standalone().by_process().start().await;
    let dice = Dice::new();
    let (mut all, kills) = (BTreeMap::new(), count(3, 300, 2_000));
    let first = known(&network).await;
    for life in 0..kills {
        // Assertions are over after some minutes.
        let known = Arc::new(first.again(&network));
        let (over, disclosed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..6 {
            let (known, mut dice) = (Arc::clone(&known), dice.of(life * 6 + caller));
            let (over, disclosed) = (Arc::clone(&over), Arc::clone(&disclosed));
            callers.spawn(async move {
                let mut seen = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let id = format!("chaos-{life}-{caller}-{}", seen.len());
                    let call = known.any(dice.below(4), &id);
                    // One in five hangs up, most of them while the node is at it.
                    let patience = match dice.below(5) {
                        0 => Duration::from_micros(dice.below(20_000)),
                        _ => Duration::from_secs(30),
                    };
                    let ended = tokio::time::timeout(patience, call).await;
                    let ended = ended.unwrap_or(Seen::Nothing);
                    disclosed.fetch_add(u64::from(ended == Seen::Disclosed), Ordering::SeqCst);
                    seen.push((id, ended));
                }
                seen
            });
        }
        let mut dice = dice.of(1_000_000 + life);
        let enough = 20 + dice.below(40);
        eventually("some calls are served", || async {
            (disclosed.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        network.kill_node(HERE).await;
        over.store(true, Ordering::SeqCst);
        all.extend(callers.join_all().await.into_iter().flatten());
        network.start_node(HERE).await;
    }

    let found = recorded(&network, &first.institution, "chaos-").await;
    let (mut got, mut gone) = (0, 0);
    for (id, seen) in &all {
        let of_call = found.get(id).map_or(&[][..], Vec::as_slice);
        match seen {
            Seen::Disclosed => assert_eq!(of_call, [pb::Outcome::Success], "{id}"),
            Seen::Refused => assert_eq!(of_call, [pb::Outcome::Denied], "{id}"),
            Seen::Nothing => assert!(of_call.len() <= 1, "{id}: {of_call:?}"),
        }
        got += u64::from(*seen == Seen::Disclosed);
        gone += u64::from(*seen == Seen::Nothing && of_call == [pb::Outcome::Success]);
    }
    for id in found.keys() {
        assert!(all.contains_key(id), "{id} was never asked");
    }
    println!(
        "{kills} kills: {got} disclosed and recorded, {gone} recorded whose callers were gone"
    );
    assert!(got >= kills * 20);
    network.stop().await;
}
