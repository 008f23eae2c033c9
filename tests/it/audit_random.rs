//! The audit against what is known to have happened: random operations and a model, random
//! deadlines, more load than is taken, answers about who was asked (P-04), and years of
//! upkeep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message as _;
use renkei::api::grpc::services;
use renkei::audit::Filter;
use renkei::audit::merkle::verify_consistency;
use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleInstitution, SampleRecord};
use renkei::demo::world::Actor;
use renkei::directory::CertifiedPeer;
use renkei::types::{PersonRole, Relation};
use renkei::wire::pb::audit as pb;
use renkei::wire::pb::audit::audit_service_client::AuditServiceClient;
use renkei::wire::pb::audit::report_patient_access_response::Part;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::identity as ipb;

use crate::audit_durable::Traced;
use crate::audit_methods::{Pieces, peer, request};
use crate::support::calls::{find_here, find_query, identifiers};
use crate::support::tier::{Dice, count};
use crate::support::{At, Network, Setup, eventually, officer, person, physician};

const HERE: At = At::Region(0);
const IDENTIFIERS: &str = "renkei.identity.v1.IdentityService/QueryIdentifiers";
const REGISTRY: &str = "renkei.documents.v1.DocumentService/QueryRegistry";
const FEED: &str = "renkei.identity.v1.IdentityService/FeedPatient";

fn recorded(network: &Network) -> Vec<pb::AuditEvent> {
    let audit = &network.gateway(HERE).audit;
    audit.events(&Filter::default(), usize::MAX).unwrap()
}

async fn idle(network: &Network) {
    let gateway = network.gateway(HERE);
    eventually("nothing is under way", || async {
        (gateway.edge.admission.in_flight() == 0).then_some(())
    })
    .await;
}

/// A patient, the institution that knows them, and who asks there.
struct Known {
    record: SampleRecord,
    institution: SampleInstitution,
    patient: cpb::Identifier,
    peer: CertifiedPeer,
    system: Caller,
    doctor: Caller,
    clerk: Caller,
    stranger: Caller,
}

impl Known {
    fn new(network: &Network, record: &SampleRecord) -> Self {
        let institution = network.institution(record).clone();
        let code = &institution.code;
        let stranger = Actor {
            relation: Relation::None,
            ..physician(code)
        };
        Self {
            record: record.clone(),
            patient: network.patient(record),
            peer: peer(network, &format!("inst-{code}")),
            system: network.system(HERE, &institution),
            doctor: network.acting(HERE, &physician(code)),
            clerk: network.acting(HERE, &person("C-1", PersonRole::Clerk, code)),
            stranger: network.acting(HERE, &stranger),
            institution,
        }
    }

    fn identifiers(&self) -> Vec<u8> {
        use ipb::query_identifiers_request::Subject;
        let request = ipb::QueryIdentifiersRequest {
            subject: Some(Subject::Identifier(self.patient.clone())),
            ..Default::default()
        };
        request.encode_to_vec()
    }

    fn documents(&self) -> Vec<u8> {
        let request = dpb::QueryRegistryRequest {
            query: Some(find_query(self.patient.clone())),
            ..Default::default()
        };
        request.encode_to_vec()
    }

    /// Something about the patient, permitted or not.
    fn any(&self, dice: &mut Dice) -> (&'static str, Vec<u8>, &Caller) {
        match dice.below(6) {
            0 => (IDENTIFIERS, self.identifiers(), &self.system),
            1 => (IDENTIFIERS, self.identifiers(), &self.doctor),
            2 => (REGISTRY, self.documents(), &self.doctor),
            3 => (REGISTRY, self.documents(), &self.clerk),
            4 => (REGISTRY, self.documents(), &self.stranger),
            _ => {
                let feed = messages::feed(&self.institution, &self.record);
                (FEED, feed.encode_to_vec(), &self.system)
            }
        }
    }
}

/// People whom one institution of the region knows, and nobody else.
fn strangers(network: &Network, count: usize) -> Vec<Known> {
    let people = network.sample.people.iter();
    let alone = people.filter(|person| person.records.len() == 1);
    let here = alone.filter(|person| person.records[0].region == 0);
    let found: Vec<Known> = here
        .take(count)
        .map(|person| Known::new(network, &person.records[0]))
        .collect();
    assert_eq!(found.len(), count);
    found
}

/// A call as the server hands it on, by `caller`; whether it was served.
async fn call<S, B>(
    services: &mut S,
    known: &Known,
    (method, message, caller): (&str, &[u8], &Caller),
    id: &str,
    timeout: Option<Duration>,
) -> bool
where
    S: tower::Service<http::Request<Pieces>, Response = http::Response<B>>,
    S::Error: std::fmt::Debug,
{
    let mut request = request(&known.peer, method, id, message);
    let metadata = caller.request(()).metadata().clone().into_headers();
    request.headers_mut().extend(metadata);
    if let Some(timeout) = timeout {
        let timeout = format!("{}u", timeout.as_micros()).parse().unwrap();
        request.headers_mut().insert("grpc-timeout", timeout);
    }
    let answer = services.call(request).await.unwrap();
    !answer.headers().contains_key("grpc-status")
}

/// Who saw a patient's record, as the patient is told: request id, method, and whether it was served.
async fn report(network: &Network, known: &Known) -> Vec<(String, String, bool)> {
    let officer = network.acting(HERE, &officer(&known.institution.code));
    let request = pb::ReportPatientAccessRequest {
        patient: Some(pb::report_patient_access_request::Patient::PatientId(
            known.patient.clone(),
        )),
        with_proofs: true,
        ..Default::default()
    };
    let mut client = AuditServiceClient::new(officer.channel.clone());
    let answer = client.report_patient_access(officer.request(request)).await;
    let mut stream = answer.unwrap().into_inner();
    let (mut told, mut summary) = (Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        match message.part.unwrap() {
            Part::Event(proven) => {
                let event = proven.event.unwrap();
                let served = event.outcome() == pb::Outcome::Success;
                told.push((event.request_id, event.method, served));
            }
            Part::Summary(said) => summary = Some(said),
        }
    }
    assert_eq!(summary.unwrap().event_count, told.len() as u64);
    told
}

/// Bars: A-17. Whatever was done about a patient, by whomever and however it ended, is in the patient's
/// report, in order, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_patients_report_is_what_happened() {
    let network = Setup::standalone().start().await;
    let mut dice = Dice::new();
    let mut people = strangers(&network, 4);
    let mut services = services(network.gateway(HERE)).unwrap();
    let mut model = vec![Vec::new(); people.len()];
    let (mut served, mut refused) = (0, 0);
    // Each is fed first, so that there is somebody to ask about.
    for (number, known) in people.iter().enumerate() {
        let feed = messages::feed(&known.institution, &known.record).encode_to_vec();
        let id = format!("feed-{number}");
        let ok = call(
            &mut services,
            known,
            (FEED, &feed, &known.system),
            &id,
            None,
        )
        .await;
        assert!(ok);
        model[number].push((id, FEED.to_owned(), true));
    }
    for turn in 0..count(400, 100_000, 100_000) {
        // Assertions are over after some minutes.
        if turn % 2_000 == 1_999 {
            people = strangers(&network, 4);
        }
        let number = usize::try_from(dice.below(people.len() as u64)).unwrap();
        let known = &people[number];
        let (method, message, caller) = known.any(&mut dice);
        let id = format!("turn-{turn}");
        let ok = call(&mut services, known, (method, &message, caller), &id, None).await;
        model[number].push((id, method.to_owned(), ok));
        served += u64::from(ok);
        refused += u64::from(!ok);
    }
    println!("{served} served, {refused} refused");
    assert!(served > refused && refused > 20);
    idle(&network).await;
    for (known, expected) in people.iter().zip(&model) {
        let told = report(&network, known).await;
        assert_eq!(told, *expected);
    }
    network.stop().await;
}

/// Bars: A-04. Whenever the time runs out, what was given out is recorded as given out, and each call
/// is recorded once. The disk takes as long as one that turns, so that time runs out in commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_disclosures_whenever_time_runs_out() {
    let disk = Arc::new(Traced::default());
    let setup = Setup::standalone().disk(Arc::clone(&disk) as _);
    let network = setup.start().await;
    disk.slow.store(4, Ordering::SeqCst);
    let mut dice = Dice::new();
    let mut people = strangers(&network, 2);
    let mut services = services(network.gateway(HERE)).unwrap();
    for known in &people {
        network.feed(&known.record).await;
    }
    let mut given = BTreeMap::new();
    for turn in 0..count(500, 20_000, 100_000) {
        if turn % 2_000 == 1_999 {
            people = strangers(&network, 2);
        }
        let known = &people[usize::try_from(dice.below(2)).unwrap()];
        let (method, message, caller) = known.any(&mut dice);
        // From less than anything takes to more than enough.
        let micros = match dice.below(4) {
            0 => dice.below(300),
            1 => dice.below(3_000),
            2 => dice.below(12_000),
            _ => 500_000 + dice.below(500_000),
        };
        let timeout = Some(Duration::from_micros(micros.max(1)));
        let id = format!("late-{turn}");
        let what = (method, &message[..], caller);
        let ok = call(&mut services, known, what, &id, timeout).await;
        given.insert(id, ok);
    }
    idle(&network).await;
    let mut events = BTreeMap::<String, Vec<pb::AuditEvent>>::new();
    for event in recorded(&network) {
        events
            .entry(event.request_id.clone())
            .or_default()
            .push(event);
    }
    let (mut on_time, mut late) = (0, 0);
    for (id, ok) in &given {
        let of_call = events.get(id).map_or(&[][..], Vec::as_slice);
        assert_eq!(of_call.len(), 1, "{id}: {of_call:#?}");
        let event = &of_call[0];
        let success = event.outcome() == pb::Outcome::Success;
        if *ok {
            // What was given out is never recorded as something else.
            assert!(success, "{id} was given out: {event:#?}");
        } else if success {
            // A write may be durable although its caller was told that the time ran out.
            assert_eq!(event.method, FEED, "{id} was not given out: {event:#?}");
        }
        on_time += u64::from(*ok);
        late += u64::from(!*ok && event.outcome() != pb::Outcome::Denied);
    }
    // How many are late is the machine's affair: a handler that waits for nothing answers whatever
    // the time.
    println!("{on_time} on time, {late} late");
    assert!(on_time > 20);
    network.stop().await;
}

/// Bars: A-27. Under ten times what is taken, whatever was served is recorded, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_no_record_is_missing() {
    let setup = Setup::standalone()
        .set("listen.max_in_flight", "8")
        .set("listen.min_in_flight", "4");
    let network = setup.start().await;
    let people = strangers(&network, 1);
    let known = Arc::new(people.into_iter().next().unwrap());
    network.feed(&known.record).await;
    let callers = 80;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let known = Arc::clone(&known);
        let turns = count(15, 500, 5_000);
        tasks.spawn(async move {
            let mut served = Vec::new();
            for turn in 0..turns {
                let id = format!("load-{caller}-{turn}");
                let asked = ipb::QueryIdentifiersRequest {
                    subject: Some(ipb::query_identifiers_request::Subject::Identifier(
                        known.patient.clone(),
                    )),
                    ..Default::default()
                };
                let mut request = known.system.request(asked);
                let value = id.parse().unwrap();
                request
                    .metadata_mut()
                    .insert(renkei::wire::REQUEST_ID, value);
                let channel = known.system.channel.clone();
                let mut client = ipb::identity_service_client::IdentityServiceClient::new(channel);
                served.push((id, client.query_identifiers(request).await.is_ok()));
            }
            served
        });
    }
    let answers: Vec<(String, bool)> = tasks.join_all().await.concat();
    idle(&network).await;
    let mut events = BTreeMap::<String, Vec<pb::Outcome>>::new();
    for event in recorded(&network) {
        let outcome = event.outcome();
        events.entry(event.request_id).or_default().push(outcome);
    }
    let (mut served, mut shed) = (0, 0);
    for (id, ok) in &answers {
        let of_call = events.get(id).map_or(&[][..], Vec::as_slice);
        match ok {
            true => assert_eq!(of_call, [pb::Outcome::Success], "{id}"),
            // Refused before it was looked at: counted, not recorded. Nothing was disclosed.
            false => assert!(!of_call.contains(&pb::Outcome::Success), "{id}"),
        }
        served += u64::from(*ok);
        shed += u64::from(!*ok);
    }
    println!("{served} served, {shed} shed");
    assert!(served > 50 && shed > 50, "{served} served, {shed} shed");
    network.stop().await;
}

/// Somebody with documents at the node, and every identifier the node knows the person by.
struct Documented {
    doctor: Caller,
    patient: cpb::Identifier,
    known_as: Vec<cpb::Identifier>,
    documents: Vec<String>,
}

async fn documented(network: &Network, truth: usize) -> Option<Documented> {
    let person = network.sample.person(truth).unwrap();
    let here: Vec<&SampleRecord> = person
        .records
        .iter()
        .filter(|one| one.region == 0)
        .collect();
    let mut documents = Vec::new();
    for record in &here {
        network.feed(record).await;
    }
    for document in network.sample.documents_of(truth) {
        if document.region == 0 {
            network.provide(document).await;
            documents.push(document.unique_id.clone());
        }
    }
    let record = here.first()?;
    let doctor = physician(&network.institution(record).code);
    (!documents.is_empty()).then(|| Documented {
        doctor: network.acting(HERE, &doctor),
        patient: network.patient(record),
        known_as: here.iter().map(|one| network.patient(one)).collect(),
        documents,
    })
}

/// Bars: P-04. Whoever asks about whomever, beside others who ask about others: what is answered is
/// about the patient who was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_about_who_was_asked() {
    let network = Setup::standalone().start().await;
    let dice = Dice::new();
    let mut people = Vec::new();
    for truth in 0..network.sample.people.len() {
        if people.len() < 4 {
            people.extend(documented(&network, truth).await);
        }
    }
    assert_eq!(people.len(), 4);
    let people = Arc::new(people);
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let (people, mut dice) = (Arc::clone(&people), dice.of(caller));
        let turns = count(25, 5_000, 100_000);
        tasks.spawn(async move {
            let mut answers = 0;
            for _ in 0..turns {
                let asked = &people[usize::try_from(dice.below(4)).unwrap()];
                let found = find_here(&asked.doctor, asked.patient.clone()).await;
                let objects = found.unwrap().into_inner().objects.unwrap_or_default();
                assert_eq!(objects.entries.len(), asked.documents.len());
                for entry in objects.entries {
                    let subject = entry.patient_id.unwrap();
                    assert!(asked.known_as.contains(&subject), "another patient's");
                    assert!(
                        asked.documents.contains(&entry.unique_id),
                        "another document"
                    );
                    answers += 1;
                }
            }
            answers
        });
    }
    let answers: u64 = tasks.join_all().await.into_iter().sum();
    println!("{answers} entries");
    assert!(answers >= count(200, 40_000, 800_000));
    network.stop().await;
}

/// Bars: A-25. Eleven years of upkeep, of new keys and of a new index take nothing out of the log, and
/// there is no call that could.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_takes_events_out_of_the_log() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let setup = Setup::standalone().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let mut network = setup.start().await;
    let people = strangers(&network, 1);
    let known = &people[0];
    network.feed(&known.record).await;
    for _ in 0..20 {
        identifiers(&known.system, known.patient.clone())
            .await
            .unwrap();
    }
    let before = recorded(&network);
    assert!(before.len() > 20);
    let log = Arc::clone(network.gateway(HERE).audit.log());
    let (size, first) = {
        let checkpoint = log.checkpoint().unwrap();
        (checkpoint.checkpoint.size, checkpoint.checkpoint.root)
    };

    clock.advance(Duration::from_hours(11 * 366 * 24));
    let store = Arc::clone(&network.gateway(HERE).store);
    store.purge_expired(usize::MAX).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    let keys = Arc::clone(&store);
    let upkeep = tokio::task::spawn_blocking(move || {
        keys.rotate_keys(&mut |_| {}).unwrap();
        keys.reencrypt(&mut |_| {}).unwrap();
    });
    upkeep.await.unwrap();
    store.rebuild().await.unwrap();
    drop((store, log));
    network.stop_node(HERE).await;
    network.start_node(HERE).await;

    let after = recorded(&network);
    assert_eq!(after[..before.len()], before);
    let log = network.gateway(HERE).audit.log();
    let now = log.checkpoint().unwrap();
    let (end, root) = (now.checkpoint.size, now.checkpoint.root);
    let path = log.consistency(size, end).unwrap();
    assert!(verify_consistency(size, end, &first, &root, &path));
    // Of the audit there are only questions.
    let audit: Vec<String> = crate::audit_methods::methods()
        .into_iter()
        .filter(|method| method.contains(".audit."))
        .collect();
    assert!(audit.len() >= 7);
    for method in audit {
        let (action, _) = renkei::audit::declared_event(&method);
        let changes = [pb::Action::Delete, pb::Action::Update];
        assert!(!changes.contains(&action), "{method}");
    }
    network.stop().await;
}
