//! Several regions: merged answers that say what is missing, consent at the region, retrieval.

use std::time::Duration;

use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::error::Reason;
use renkei::pki::Profiles;
use renkei::pki::assertion::{AssertionSigner, Statement};
use renkei::types::{PatientIdentifier, PersonRole};
use renkei::wire::ASSERTION;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::common::RegionState;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::support::calls::{self, find, find_here, find_query, opt_out, permit, retrieve_entry};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, eventually, person, physician};

/// Who treats a person in a region, at that region's gateway; and the person's identifier there.
fn treating(
    network: &Network,
    truth: usize,
    region: usize,
    role: PersonRole,
) -> (Caller, renkei::wire::pb::common::Identifier) {
    let record = network.record(truth, region);
    let institution = network.institution(record);
    let somebody = person("S-1", role, &institution.code);
    let caller = network.acting(At::Region(region), &somebody);
    (caller, network.patient(record))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_down_is_named() {
    let mut network = Setup::federation(3).start().await;
    let truth = network.sample.scenario.emergency;
    let held = network.load_person(truth).await;
    let homes: Vec<String> = (0..3)
        .map(|region| network.node(At::Region(region)).home.clone())
        .collect();
    let ask = async |network: &Network| {
        let (doctor, patient) = treating(network, truth, 0, PersonRole::Physician);
        find(&doctor, patient).await.unwrap()
    };
    let whole = ask(&network).await;
    assert!(whole.completeness.complete, "{:?}", whole.completeness);
    assert_eq!(whole.entries.len(), held);
    assert!(whole.of(&homes[0]) > 0 && whole.of(&homes[1]) > 0);

    network.stop_node(At::Region(1)).await;
    let partial = ask(&network).await;
    assert!(!partial.completeness.complete);
    assert_eq!(partial.state(&homes[1]), Some(RegionState::Unreachable));
    assert_eq!(partial.state(&homes[0]), Some(RegionState::Ok));
    assert_eq!(partial.of(&homes[1]), 0);
    assert_eq!(partial.entries.len(), held - whole.of(&homes[1]));

    network.start_node(At::Region(1)).await;
    let again = ask(&network).await;
    assert!(again.completeness.complete, "{:?}", again.completeness);
    assert_eq!(again.entries.len(), held);

    // Without the hub there is no merged answer at all, and it says so; the own documents are there.
    network.stop_node(At::Hub).await;
    let (doctor, patient) = treating(&network, truth, 0, PersonRole::Physician);
    let status = refused(
        find(&doctor, patient.clone()).await,
        Reason::CommunityUnavailable,
    );
    assert_eq!(status.code(), Code::Unavailable);
    let here = find_here(&doctor, patient).await.unwrap().into_inner();
    assert_eq!(here.objects.unwrap().entries.len(), whole.of(&homes[0]));
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_hangs_does_not_hold_the_answer() {
    const CEILING: Duration = Duration::from_millis(1_500);
    let network = Setup::federation(2);
    let network = network.set("deadlines.ceiling_ms", "1500").start().await;
    let truth = network.sample.scenario.cross_region;
    network.load_person(truth).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let hanging = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            open.push(stream);
        }
    });
    let there = network.node(At::Region(1)).home.clone();
    let change = |directory: &mut renkei::wire::pb::directory::ApplyDirectoryRequest| {
        let mut communities = directory.communities.iter_mut();
        let region = communities.find(|community| community.home_community_id == there);
        region.unwrap().endpoints[0].address = format!("https://{address}");
    };
    network.apply_directory(change).await;

    let (doctor, patient) = treating(&network, truth, 0, PersonRole::Physician);
    let started = Instant::now();
    let merged = find(&doctor, patient).await.unwrap();
    let took = started.elapsed();
    assert!(took < CEILING + Duration::from_millis(300), "{took:?}");
    let state = merged.state(&there);
    let named = matches!(state, Some(RegionState::Timeout | RegionState::Unreachable));
    assert!(named, "{state:?}");
    assert!(!merged.completeness.complete);
    let here = &network.node(At::Region(0)).home;
    assert_eq!(merged.state(here), Some(RegionState::Ok));
    assert!(merged.of(here) > 0, "the other region's entries are there");
    hanging.abort();
    network.stop().await;
}

/// A region, asked by the hub for a physician of another region, as the hub's fan-out does it.
async fn asked_by_the_hub(network: &Network, truth: usize) -> Result<usize, Status> {
    use fpb::responding_gateway_service_find_documents_response::Part;
    use tokio_stream::StreamExt as _;
    let institution = network.institution(network.record(truth, 1));
    let code = &institution.code;
    let identity = network.world.identity(&format!("inst-{code}")).unwrap();
    let signer = AssertionSigner::from_identity(&identity, &Profiles::test().unwrap()).unwrap();
    let doctor = physician(code);
    let statement = Statement {
        subject: doctor.subject.to_owned(),
        role: doctor.role.code().to_owned(),
        purpose: doctor.purpose,
        relation: doctor.relation,
        institution: code.parse().unwrap(),
        audience: vec![network.world.hub.home.parse().unwrap()],
        presenter: None,
        one_time: false,
    };
    let token = signer.issue(statement, network.clock.now(), Duration::from_mins(5));
    let hub = network.caller(At::Region(0), "hub", None);
    let patient = network.patient(network.record(truth, 0));
    let mut request = hub.request(fpb::RespondingGatewayServiceFindDocumentsRequest {
        query: Some(find_query(patient)),
        ..Default::default()
    });
    let token = token.unwrap().parse().unwrap();
    request.metadata_mut().insert(ASSERTION, token);
    let mut client = RespondingGatewayServiceClient::new(hub.channel.clone());
    let mut stream = client.find_documents(request).await?.into_inner();
    let mut entries = 0;
    while let Some(message) = stream.next().await {
        if let Some(Part::Objects(objects)) = message?.part {
            entries += objects.entries.len();
        }
    }
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opt_out_holds_at_the_region_itself() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.opted_out;
    network.load_person(truth).await;
    assert!(asked_by_the_hub(&network, truth).await.unwrap() > 0);
    let (clerk, patient) = treating(&network, truth, 0, PersonRole::Physician);
    let consent = opt_out(&clerk, patient.clone()).await;
    refused(
        asked_by_the_hub(&network, truth).await,
        Reason::NotPermitted,
    );

    network.settled().await;
    let (other, theirs) = treating(&network, truth, 1, PersonRole::Physician);
    refused(find(&other, theirs.clone()).await, Reason::NotPermitted);

    let mut client = ConsentServiceClient::new(clerk.channel.clone());
    let withdraw = npb::WithdrawConsentRequest {
        consent_id: consent.consent_id,
        ..Default::default()
    };
    let request = clerk.request(withdraw);
    client.withdraw_consent(request).await.unwrap();
    assert!(asked_by_the_hub(&network, truth).await.unwrap() > 0);
    network.settled().await;
    let merged = find(&other, theirs).await.unwrap();
    assert!(merged.completeness.complete);
    assert!(merged.of(&network.node(At::Region(0)).home) > 0);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_to_the_hub_refuses_changes_and_drops_none() {
    // bars: F-16
    let network = Setup::federation(2).set("parent.queue_items", "4");
    let mut network = network.start().await;
    let here = |network: &Network| {
        let people = network.sample.people.iter();
        let records = people.flat_map(|person| person.records.clone());
        records
            .filter(|record| record.region == 0)
            .collect::<Vec<_>>()
    };
    let records = here(&network);
    assert!(records.len() > 5);
    network.stop_node(At::Hub).await;
    let feed = async |network: &Network, record: &SampleRecord| {
        let institution = network.institution(record);
        let system = network.system(At::Region(0), institution);
        calls::feed(&system, messages::feed(institution, record)).await
    };
    for record in &records[..4] {
        feed(&network, record).await.unwrap();
    }
    let error = feed(&network, &records[4]).await;
    let status = refused(error, Reason::Overloaded);
    assert_eq!(status.code(), Code::ResourceExhausted);
    // What a patient wishes is taken all the same.
    let institution = network.institution(&records[0]);
    let clerk = person("C-1", PersonRole::Clerk, &institution.code);
    let clerk = network.acting(At::Region(0), &clerk);
    opt_out(&clerk, network.patient(&records[0])).await;
    let alarms = network.gateway(At::Region(0));
    eventually("there is an alarm", || async {
        let on = alarms.edge.alarms.list();
        on.iter()
            .any(|alarm| alarm.code == "QUEUE_FILLING")
            .then_some(())
    })
    .await;

    // Over a restart nothing of it is lost or forgotten.
    network.stop_node(At::Region(0)).await;
    network.start_node(At::Region(0)).await;
    refused(feed(&network, &records[4]).await, Reason::Overloaded);
    network.start_node(At::Hub).await;
    network.settled().await;
    for record in &records[..4] {
        let known = network
            .gateway(At::Hub)
            .identity
            .linkage(&known(&network, record));
        assert!(known.is_some());
    }
    let fifth = known(&network, &records[4]);
    assert!(network.gateway(At::Hub).identity.linkage(&fifth).is_none());
    feed(&network, &records[4]).await.unwrap();
    network.settled().await;
    assert!(network.gateway(At::Hub).identity.linkage(&fifth).is_some());
    network.stop().await;
}

/// A record's identifier.
fn known(network: &Network, record: &SampleRecord) -> PatientIdentifier {
    let patient = network.patient(record);
    PatientIdentifier {
        authority: patient.assigning_authority.parse().unwrap(),
        id: patient.value.parse().unwrap(),
    }
}

/// A document of a person in region 0, with other content.
fn document(network: &Network, truth: usize) -> SampleDocument {
    let mut documents = network.sample.documents_of(truth);
    let document = documents.find(|document| document.region == 0).unwrap();
    SampleDocument {
        unique_id: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
        ..document.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_document_comes_through_the_hub_unchanged() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    network.feed_person(truth).await;
    // Neither a multiple of a chunk nor of a segment, and no two chunks alike.
    let size = 3 * 1024 * 1024 + 17;
    let content: Vec<u8> = (0_u32..)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .take(size)
        .collect();
    let large = SampleDocument {
        content,
        mime_type: "application/octet-stream",
        ..document(&network, truth)
    };
    network.provide(&large).await;
    network.settled().await;
    let (doctor, patient) = treating(&network, truth, 1, PersonRole::Physician);
    let merged = find(&doctor, patient.clone()).await.unwrap();
    assert_eq!(merged.entries.len(), 1);
    let (bytes, trailer) = retrieve_entry(&doctor, &patient, &merged.entries[0])
        .await
        .unwrap();
    assert!(bytes == large.content, "the bytes differ");
    assert_eq!(trailer.size, size as u64);
    assert_eq!(trailer.hash, merged.entries[0].hash);

    // Under the name of another patient it is not to be had.
    let other = network.sample.scenario.opted_out;
    network.feed_person(other).await;
    let other = network.patient(network.record(other, 1));
    let stolen = retrieve_entry(&doctor, &other, &merged.entries[0]).await;
    refused(stolen, Reason::UnknownDocument);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_very_restricted_document_is_not_for_a_nurse() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    network.feed_person(truth).await;
    let mut open = document(&network, truth);
    open.confidentiality.code = "N";
    let mut secret = document(&network, truth);
    secret.confidentiality.code = "V";
    for document in [&open, &secret] {
        network.provide(document).await;
    }
    // Very restricted is what a consent names, and for physicians.
    let record = network.record(truth, 0);
    let clerk = person("C-1", PersonRole::Clerk, &network.institution(record).code);
    let clerk = network.acting(At::Region(0), &clerk);
    let (doctor, patient) = treating(&network, truth, 1, PersonRole::Physician);
    network.settled().await;
    let unnamed = find(&doctor, patient.clone()).await.unwrap();
    assert_eq!(unnamed.entries.len(), 1);
    let very = cpb::Confidentiality::VeryRestricted;
    permit(&clerk, network.patient(record), very).await;
    let all = find(&doctor, patient.clone()).await.unwrap();
    assert_eq!(all.entries.len(), 2);
    let mut entries = all.entries.iter();
    let entry = entries.find(|entry| entry.unique_id == secret.unique_id);
    let entry = entry.unwrap();
    let (bytes, _) = retrieve_entry(&doctor, &patient, entry).await.unwrap();
    assert!(bytes == secret.content);

    let (nurse, _) = treating(&network, truth, 1, PersonRole::Nurse);
    let some = find(&nurse, patient.clone()).await.unwrap();
    let listed: Vec<_> = some.entries.iter().map(|entry| &entry.unique_id).collect();
    assert_eq!(listed, [&open.unique_id]);
    assert!(
        some.completeness.complete,
        "and nothing tells that there is more"
    );
    let hidden = retrieve_entry(&nurse, &patient, entry).await;
    refused(hidden, Reason::UnknownDocument);

    // The same in the own region, where no hub is between.
    let (nurse, patient) = treating(&network, truth, 0, PersonRole::Nurse);
    let here = find_here(&nurse, patient).await.unwrap().into_inner();
    assert_eq!(here.objects.unwrap().entries.len(), 1);
    network.stop().await;
}
