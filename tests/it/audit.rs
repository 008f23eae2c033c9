//! Every call leaves exactly one event (INV-2), and nothing personal is written in clear (INV-8).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use renkei::audit::Filter;
use renkei::clock::{Clock, SystemClock};
use renkei::demo::actor::{Caller, Link};
use renkei::demo::messages;
use renkei::demo::sample::{Sample, SampleDocument, SampleRecord};
use renkei::demo::world::{self, Actor, World};
use renkei::error::Reason;
use renkei::pki::dev::Variant;
use renkei::types::PersonRole;
use renkei::wire::REQUEST_ID;
use renkei::wire::pb::admin::CreateBackupRequest;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::documents as docs;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::emergency as epb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::calls::{feed, find, find_here, find_query, identifiers, opt_out, provide};
use crate::support::expect::refused;
use crate::support::process::Process;
use crate::support::{
    At, Network, Prepared, Setup, emergency_physician, eventually, officer, person, physician,
    prepare,
};

const HERE: At = At::Region(0);

/// Every event of a node so far.
fn events(network: &Network, request_id: &str) -> Vec<pb::AuditEvent> {
    let filter = Filter {
        request_id: request_id.to_owned(),
        ..Filter::default()
    };
    network
        .gateway(HERE)
        .audit
        .events(&filter, usize::MAX)
        .unwrap()
}

fn with_id<T>(caller: &Caller, id: &str, message: T) -> tonic::Request<T> {
    let mut request = caller.request(message);
    request
        .metadata_mut()
        .insert(REQUEST_ID, id.parse().unwrap());
    request
}

fn subject(patient: cpb::Identifier) -> ipb::QueryIdentifiersRequest {
    ipb::QueryIdentifiersRequest {
        subject: Some(ipb::query_identifiers_request::Subject::Identifier(patient)),
        ..Default::default()
    }
}

/// Makes one call of each kind; request id, method and outcome of each.
async fn calls(
    network: &Network,
    record: &SampleRecord,
) -> Vec<(&'static str, &'static str, pb::Outcome)> {
    let institution = network.institution(record);
    let system = network.system(HERE, institution);
    let doctor = network.acting(HERE, &physician(&institution.code));
    let mut identity = IdentityServiceClient::new(system.channel.clone());
    let mut documents = DocumentServiceClient::new(system.channel.clone());
    let patient = network.patient(record);
    let query = docs::QueryRegistryRequest {
        query: Some(find_query(patient.clone())),
        ..Default::default()
    };

    let request = with_id(&system, "fed", messages::feed(institution, record));
    identity.feed_patient(request).await.unwrap();
    // The same again is another call, though no other change.
    let request = with_id(&system, "fed-again", messages::feed(institution, record));
    identity.feed_patient(request).await.unwrap();
    let request = with_id(&system, "asked", subject(patient.clone()));
    identity.query_identifiers(request).await.unwrap();
    let mut unknown = patient;
    unknown.value = "00000000".into();
    let request = with_id(&system, "unknown", subject(unknown.clone()));
    identity.query_identifiers(request).await.unwrap_err();
    unknown.assigning_authority = "2.999.077".into();
    let request = with_id(&system, "malformed", subject(unknown));
    identity.query_identifiers(request).await.unwrap_err();
    let request = with_id(&system, "denied", query.clone());
    documents.query_registry(request).await.unwrap_err();
    let request = with_id(&doctor, "listed", query);
    documents.query_registry(request).await.unwrap();
    let mut admin = AdminServiceClient::new(system.channel.clone());
    let request = with_id(&system, "not-yet", CreateBackupRequest::default());
    admin.create_backup(request).await.unwrap_err();
    let parts = tokio_stream::iter(Vec::<docs::ProvideDocumentsRequest>::new());
    let request = with_id(&system, "empty", parts);
    documents.provide_documents(request).await.unwrap_err();
    let request = with_id(
        &doctor,
        "nothing",
        docs::RetrieveDocumentsRequest::default(),
    );
    documents.retrieve_documents(request).await.unwrap_err();
    vec![
        ("fed", "FeedPatient", pb::Outcome::Success),
        ("fed-again", "FeedPatient", pb::Outcome::Success),
        ("asked", "QueryIdentifiers", pb::Outcome::Success),
        ("unknown", "QueryIdentifiers", pb::Outcome::Invalid),
        ("malformed", "QueryIdentifiers", pb::Outcome::Invalid),
        ("denied", "QueryRegistry", pb::Outcome::Denied),
        ("listed", "QueryRegistry", pb::Outcome::Success),
        ("not-yet", "CreateBackup", pb::Outcome::Error),
        ("empty", "ProvideDocuments", pb::Outcome::Invalid),
        ("nothing", "RetrieveDocuments", pb::Outcome::Invalid),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_leaves_one_event() {
    let mut network = Setup::standalone().start().await;
    let record = network
        .record(network.sample.scenario.cross_region, 0)
        .clone();
    let before = events(&network, "").len();
    let made = calls(&network, &record).await;
    assert_eq!(events(&network, "").len(), before + made.len());

    let institution = network.institution(&record).code.clone();
    for (id, method, outcome) in &made {
        let caller = network.acting(HERE, &officer(&institution));
        let mut client = AuditServiceClient::new(caller.channel.clone());
        let request = pb::SearchEventsRequest {
            request_id: (*id).to_owned(),
            ..Default::default()
        };
        let found = client.search_events(caller.request(request)).await;
        let found = found.unwrap().into_inner().events;
        assert_eq!(found.len(), 1, "{id}: {found:#?}");
        assert!(
            found[0].method.ends_with(&format!("/{method}")),
            "{id}: {}",
            found[0].method
        );
        assert_eq!(found[0].outcome(), *outcome, "{id}");
    }
    // What is read of the audit is in the audit too.
    assert_eq!(events(&network, "").len(), before + 2 * made.len());

    // The same events after a restart, in the same order.
    let then = events(&network, "");
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    assert_eq!(events(&network, "")[..then.len()], then);
    network.stop().await;
}

/// An event names one patient: a call shows no other's documents, and the event names the one whose
/// documents were shown, not one who was asked about in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_several_patients_are_not_shown_under_one_name() {
    let network = Setup::standalone().start().await;
    let mut chosen: Vec<&SampleDocument> = Vec::new();
    for document in &network.sample.documents {
        let new = chosen.iter().all(|known| known.person != document.person);
        if document.region == 0 && new && chosen.len() < 3 {
            chosen.push(document);
        }
    }
    let mut unique_ids = Vec::new();
    for (document, confidentiality) in chosen.iter().zip(["N", "N", "V"]) {
        network.feed(network.record(document.person, 0)).await;
        let mut parts = network.provision(document);
        let Some(docs::provide_documents_request::Part::Start(start)) = &mut parts[0].part else {
            panic!("a submission starts with its metadata");
        };
        let entry = &mut start.submission.as_mut().unwrap().entries[0];
        entry.confidentiality_codes[0].code = confidentiality.into();
        unique_ids.push(entry.unique_id.clone());
        let institution = &network.sample.regions[0].institutions[document.institution];
        let system = network.system(HERE, institution);
        provide(&system, parts).await.unwrap();
    }
    let institution = &network.sample.regions[0].institutions[0];
    let nurse = person("nurse", PersonRole::Nurse, &institution.code);
    let nurse = network.acting(HERE, &nurse);
    let get = async |id: &str, wanted: &[&str]| {
        let selector = docs::ObjectSelector {
            unique_ids: wanted.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let query = docs::GetDocumentsQuery {
            documents: Some(selector),
        };
        let request = docs::QueryRegistryRequest {
            query: Some(docs::StoredQuery {
                query: Some(docs::stored_query::Query::GetDocuments(query)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut client = DocumentServiceClient::new(nurse.channel.clone());
        let answer = client.query_registry(with_id(&nurse, id, request)).await;
        answer.map(|answer| answer.into_inner().objects.unwrap_or_default().entries)
    };
    let [one, other, restricted] = &unique_ids[..] else {
        panic!("three people with documents")
    };
    refused(
        get("two", &[one, other]).await,
        Reason::ResultNotSinglePatient,
    );
    assert_eq!(get("one", &[one]).await.unwrap().len(), 1);
    let shown = get("shown", &[one, restricted]).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].unique_id, *one);
    let tag = |id| events(&network, id)[0].patient_tag.clone();
    assert!(!tag("one").is_empty());
    assert_eq!(tag("shown"), tag("one"));
    network.stop().await;
}

/// Who is refused before a handler runs is in the audit as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_callers_leave_one_event() {
    let mut stranger = None;
    let network = Setup::standalone().start_with(|world| {
        stranger = world.issue_variant("unregistered", Variant::Ok).ok();
    });
    let network = network.await;
    let before = events(&network, "").len();
    let home = &network.node(HERE).home;
    let stranger = network.caller_with(HERE, &stranger.unwrap(), None, home);
    let nobody = cpb::Identifier::default;
    identifiers(&stranger, nobody()).await.unwrap_err();
    let institution = &network.sample.regions[0].institutions[0];
    let identity = network
        .world
        .identity(&format!("inst-{}", institution.code));
    let person = physician(&institution.code);
    let elsewhere = "urn:oid:2.999.1.99";
    let wrong = network.caller_with(HERE, &identity.unwrap(), Some(&person), elsewhere);
    identifiers(&wrong, nobody()).await.unwrap_err();
    let new = &events(&network, "")[before..];
    assert_eq!(new.len(), 2, "{new:#?}");
    let reasons: Vec<_> = new.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["UNREGISTERED_CERTIFICATE", "INVALID_ASSERTION"]);
    assert!(
        new.iter()
            .all(|event| event.outcome() == pb::Outcome::Denied)
    );
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_message_leaves_one_event() {
    let network = Setup::standalone().start().await;
    let record = network.record(network.sample.scenario.cross_region, 0);
    let institution = network.institution(record);
    let before = events(&network, "").len();
    let mut request = messages::feed(institution, record);
    let patient = request.patient.as_mut().unwrap();
    patient.demographics.as_mut().unwrap().birth_date_text = "あ".repeat(2 << 20);
    feed(&network.system(HERE, institution), request)
        .await
        .unwrap_err();
    assert_eq!(events(&network, "").len(), before + 1);
    network.stop().await;
}

/// Waits until the node is at work on a call.
async fn in_flight(network: &Network) {
    let gateway = network.gateway(HERE);
    eventually("the call is in flight", || async {
        (gateway.edge.admission.in_flight() > 0).then_some(())
    })
    .await;
}

/// The one event of a call whose caller is gone.
async fn event_of(network: &Network, id: &str) -> pb::AuditEvent {
    let mut found = eventually("the call is audited", || async {
        let found = events(network, id);
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_is_audited() {
    let network = Setup::standalone().start().await;
    // The second region accepts and never answers, so that asking for its state takes a while.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    network
        .apply_directory(|directory| {
            directory.communities[1].endpoints[0].address = format!("https://{address}");
        })
        .await;
    let operator = network.operator(HERE);
    let call = tokio::spawn({
        let operator = operator.clone();
        async move {
            let mut client = DirectoryServiceClient::new(operator.channel.clone());
            let request = dpb::GetRegionStatusRequest::default();
            client
                .get_region_status(with_id(&operator, "hung-up", request))
                .await
        }
    });
    in_flight(&network).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let event = event_of(&network, "hung-up").await;
    assert!(event.method.ends_with("/GetRegionStatus"), "{event:#?}");

    // And a submission that its sender gives up in the middle.
    let truth = network.sample.scenario.cross_region;
    let mut documents = network.sample.documents_of(truth);
    let document = documents.find(|document| document.region == 0).unwrap();
    drop(documents);
    let institution = &network.sample.regions[0].institutions[document.institution];
    let mut records = network.sample.people[truth].records.iter();
    let record = records.find(|record| record.local_id == document.local_id);
    network.feed(record.unwrap()).await;
    let system = network.system(HERE, institution);
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let call = tokio::spawn({
        let system = system.clone();
        async move {
            let mut client = DocumentServiceClient::new(system.channel.clone());
            let request = with_id(&system, "given-up", ReceiverStream::new(receiver));
            client.provide_documents(request).await
        }
    });
    let start = network.provision(document).remove(0);
    sender.send(start).await.unwrap();
    in_flight(&network).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let event = event_of(&network, "given-up").await;
    assert_ne!(event.outcome(), pb::Outcome::Success, "{event:#?}");
    drop(sender);
    network.stop().await;
}

/// A hub and regions as processes, which log all they can.
struct Processes {
    world: World,
    sample: Sample,
    clock: Arc<dyn Clock>,
    nodes: BTreeMap<At, Process>,
}

impl Processes {
    async fn start(folder: &tempfile::TempDir) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Prepared { world, sample } = prepare(folder, 2, Arc::clone(&clock));
        let place = folder.path().join("nodes");
        let loud = |config: String| config.replace("filter = \"warn\"", "filter = \"trace\"");
        let config = loud(world.hub_config("127.0.0.1:0").unwrap());
        assert!(config.contains("\"trace\""));
        let hub = Process::start(&place, "hub", &config).await;
        let mut nodes = BTreeMap::new();
        for (index, region) in world.regions.iter().enumerate() {
            let config = world.region_config(region, "127.0.0.1:0", &hub.address);
            let node = Process::start(&place, &region.name, &loud(config.unwrap())).await;
            nodes.insert(At::Region(index), node);
        }
        nodes.insert(At::Hub, hub);
        let network = Self {
            world,
            sample,
            clock,
            nodes,
        };
        network.apply_directory().await;
        network
    }

    async fn apply_directory(&self) {
        let regions: Vec<String> = (0..self.world.regions.len())
            .map(|index| self.nodes[&At::Region(index)].address.clone())
            .collect();
        let hub = &self.nodes[&At::Hub].address;
        let request = self.world.directory(hub, &regions).unwrap();
        let operator = self.caller(At::Hub, "operator", None);
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let applied = client.apply_directory(operator.request(request)).await;
        applied.unwrap();
        // A region serves an institution as soon as it has the directory.
        for (index, region) in self.sample.regions.iter().enumerate() {
            let code = &region.institutions[0].code;
            let system = self.caller(At::Region(index), &format!("inst-{code}"), None);
            eventually("the region has the directory", || async {
                let mut client = DirectoryServiceClient::new(system.channel.clone());
                let request = system.request(dpb::ListCommunitiesRequest::default());
                client.list_communities(request).await.ok()
            })
            .await;
        }
    }

    fn node(&self, at: At) -> &world::Node {
        match at {
            At::Hub => &self.world.hub,
            At::Region(index) => &self.world.regions[index],
        }
    }

    fn caller(&self, at: At, certificate: &str, person: Option<&Actor<'_>>) -> Caller {
        let identity = self.world.identity(certificate).unwrap();
        let trust = self.world.trust().unwrap();
        let link = Link {
            address: &self.nodes[&at].address,
            pin: self.node(at).pin,
            identity: &identity,
            trust: &trust,
            clock: &self.clock,
        };
        Caller::new(&link, person, &self.world.hub.home.parse().unwrap()).unwrap()
    }

    fn acting(&self, at: At, person: &Actor<'_>) -> Caller {
        self.caller(at, &format!("inst-{}", person.institution), Some(person))
    }

    fn patient(&self, record: &SampleRecord) -> cpb::Identifier {
        messages::patient_id(self.sample.institution(record).unwrap(), &record.local_id)
    }

    /// Feeds and provides everything about a person, and waits until the hub knows it.
    async fn load(&self, truth: usize) {
        for record in &self.sample.people[truth].records {
            let institution = self.sample.institution(record).unwrap();
            let name = format!("inst-{}", institution.code);
            let system = self.caller(At::Region(record.region), &name, None);
            feed(&system, messages::feed(institution, record))
                .await
                .unwrap();
            let at_hub = self.caller(At::Hub, &name, None);
            eventually("the hub knows the patient", || async {
                identifiers(&at_hub, self.patient(record)).await.ok()
            })
            .await;
        }
        for document in self.sample.documents_of(truth) {
            let region = &self.sample.regions[document.region];
            let institution = &region.institutions[document.institution];
            let repository = &self.world.regions[document.region].repository;
            let name = format!("inst-{}", institution.code);
            let system = self.caller(At::Region(document.region), &name, None);
            let parts = messages::provide(institution, repository, document);
            provide(&system, parts).await.unwrap();
        }
    }

    /// Everything that handles a patient: queries, refusals, bad input, emergency.
    async fn use_all(&self, truth: usize) {
        let record = &self.sample.people[truth].records[0];
        let institution = self.sample.institution(record).unwrap();
        let at = At::Region(record.region);
        let doctor = self.acting(at, &physician(&institution.code));
        let patient = self.patient(record);
        find_here(&doctor, patient.clone()).await.unwrap();
        let held = self.sample.documents_of(truth).count();
        eventually("the hub knows the documents", || async {
            let merged = find(&doctor, patient.clone()).await.unwrap();
            (merged.entries.len() == held).then_some(())
        })
        .await;
        let system = self.caller(at, &format!("inst-{}", institution.code), None);
        find_here(&system, patient.clone()).await.unwrap_err();
        let mut wrong = messages::feed(institution, record);
        wrong.idempotency_key.clear();
        let demographics = wrong.patient.as_mut().unwrap().demographics.as_mut();
        demographics.unwrap().birth_date = "昭和".into();
        feed(&system, wrong).await.unwrap_err();
        opt_out(&doctor, patient.clone()).await;
        self.emergency(record, patient).await;
    }

    async fn emergency(&self, record: &SampleRecord, patient: cpb::Identifier) {
        let mut hospitals = self.sample.regions[0].institutions.iter();
        let hospital = &hospitals.find(|one| one.emergency).unwrap().code;
        let doctor = self.acting(At::Hub, &emergency_physician("E-1", hospital));
        let mut client = EmergencyServiceClient::new(doctor.channel.clone());
        let items = epb::FourItems {
            name: format!("{} {}", record.family_kana, record.given_kana),
            birth_date: record.birth_date.clone(),
            telephone: record.phone.clone(),
            address: record.city.clone(),
            ..Default::default()
        };
        let request = epb::IdentifyPatientRequest {
            subject: Some(epb::identify_patient_request::Subject::FourItems(items)),
            ..Default::default()
        };
        let found = client.identify_patient(doctor.request(request)).await;
        assert!(!found.unwrap().into_inner().candidates.is_empty());
        let reference = Some(epb::PatientRef {
            subject: Some(epb::patient_ref::Subject::PatientId(patient)),
        });
        let request = epb::OpenBreakGlassRequest {
            patient: reference.clone(),
            reason: epb::BreakGlassReason::Unconscious.into(),
            reason_text: CANARY.to_owned(),
            declares_consent_impossible: true,
            ..Default::default()
        };
        let opened = client.open_break_glass(doctor.request(request)).await;
        let request = epb::GetSummaryRequest {
            patient: reference,
            grant_id: opened.unwrap().into_inner().grant_id,
            ..Default::default()
        };
        let shown = client.get_summary(doctor.request(request)).await;
        assert!(shown.unwrap().into_inner().summary.is_some());
    }

    async fn stop(self) -> World {
        for (_, node) in self.nodes.into_iter().rev() {
            node.stop().await;
        }
        self.world
    }
}

/// A reason that could be about somebody.
const CANARY: &str = "canary:意識障害のため同意を得られない";

/// What must not be found: long enough that chance does not write it (six bytes).
fn needles(sample: &Sample, truth: usize) -> Vec<String> {
    let mut needles = vec![CANARY.to_owned()];
    for record in &sample.people[truth].records {
        needles.extend([
            record.local_id.clone(),
            record.family_kanji.clone(),
            record.given_kanji.clone(),
            record.family_kana.clone(),
            record.given_kana.clone(),
            record.family_romaji.clone(),
            record.given_romaji.clone(),
            record.phone.clone(),
            record.number.clone(),
            record.insurer_number.clone(),
            record.line.clone(),
            record.birth_date_text.clone(),
        ]);
    }
    needles.retain(|needle| needle.len() >= 6);
    needles.sort_unstable();
    needles.dedup();
    needles
}

/// Every place under `folder` where a needle stands, in a file's name or its bytes.
fn search(folder: &Path, needles: &[String], found: &mut Vec<String>) -> u64 {
    let mut size = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.display().to_string();
        if path.is_dir() {
            size += search(&path, needles, found);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        size += bytes.len() as u64;
        for (number, needle) in needles.iter().enumerate() {
            if shown.contains(needle) || contains(&bytes, needle.as_bytes()) {
                found.push(format!("needle {number} ({needle}) in {shown}"));
            }
        }
    }
    size
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_personal_is_written_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let network = Processes::start(&folder).await;
    let truth = network.sample.scenario.opted_out;
    network.load(truth).await;
    network.use_all(truth).await;
    let needles = needles(&network.sample, truth);
    assert!(needles.len() > 10, "{needles:?}");
    let log = network.nodes[&At::Hub].log();
    assert!(log.contains("TRACE"), "the log tells all it can");
    let world = network.stop().await;

    let mut found = Vec::new();
    let logs = search(&folder.path().join("nodes"), &needles, &mut found);
    let data = search(&world.root().join("data"), &needles, &mut found);
    println!("{logs} bytes of logs, {data} bytes of data");
    assert!(logs > 10_000 && data > 100_000);
    assert!(found.is_empty(), "{found:#?}");

    // The search would see it.
    let planted = folder.path().join("planted");
    std::fs::create_dir(&planted).unwrap();
    std::fs::write(planted.join("leak"), format!("\0\u{1}{}\0", needles[3])).unwrap();
    search(&planted, &needles, &mut found);
    assert_eq!(found.len(), 1, "{found:#?}");
}
