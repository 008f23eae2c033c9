//! The same key gives the same answer and makes one record, over reconnects and restarts.

use std::sync::Arc;

use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::error::Reason;
use renkei::wire::pb::consent as npb;
use renkei::wire::pb::consent::consent_service_client::ConsentServiceClient;
use renkei::wire::pb::emergency as epb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::identity as ipb;

use crate::support::calls::{feed, find_here, identifiers, opt_out, provide};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, emergency_physician, physician};

const HERE: At = At::Region(0);

/// A patient of region 0, by truth number.
fn patient(network: &Network) -> usize {
    network.sample.scenario.cross_region
}

/// The feed of that patient, from a connection of its own.
async fn feed_again(
    network: &Network,
    change: impl FnOnce(&mut ipb::FeedPatientRequest),
) -> Result<ipb::FeedPatientResponse, tonic::Status> {
    let record = network.record(patient(network), 0);
    let institution = network.institution(record);
    let mut request = messages::feed(institution, record);
    change(&mut request);
    let system = network.system(HERE, institution);
    feed(&system, request)
        .await
        .map(tonic::Response::into_inner)
}

async fn known_identifiers(network: &Network) -> usize {
    let record = network.record(patient(network), 0);
    let system = network.system(HERE, network.institution(record));
    let known = identifiers(&system, network.patient(record)).await;
    // And the one asked for, which is not among them.
    known.unwrap().into_inner().identifiers.len() + 1
}

fn another_birth_date(request: &mut ipb::FeedPatientRequest) {
    let patient = request.patient.as_mut().unwrap();
    patient.demographics.as_mut().unwrap().birth_date = "1900-01-01".into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed() {
    let mut network = Setup::standalone().start().await;
    let first = feed_again(&network, |_| {}).await.unwrap();
    assert_eq!(first.outcome(), ipb::FeedOutcome::NewPerson);
    let again = feed_again(&network, |_| {}).await.unwrap();
    assert_eq!(again, first, "over another connection");

    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    let again = feed_again(&network, |_| {}).await.unwrap();
    assert_eq!(again, first, "over a restart");
    assert_eq!(known_identifiers(&network).await, 1);
    let other = feed_again(&network, another_birth_date).await;
    refused(other, Reason::IdempotencyMismatch);

    // Without the key it is another request, about a record that is known already.
    let unkeyed = feed_again(&network, |request| request.idempotency_key.clear());
    let unkeyed = unkeyed.await.unwrap();
    assert_eq!(unkeyed.outcome(), ipb::FeedOutcome::Unchanged);
    assert_eq!(unkeyed.linkage_id, first.linkage_id);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_the_callers_own() {
    let network = Setup::standalone().start().await;
    let first = feed_again(&network, |request| request.idempotency_key = "key".into());
    first.await.unwrap();
    let own = &network
        .institution(network.record(patient(&network), 0))
        .code;
    let people = network.sample.people.iter();
    let others = people.flat_map(|person| &person.records);
    let other = others
        .filter(|record| record.region == 0)
        .find(|record| network.institution(record).code != *own)
        .unwrap();
    let institution = network.institution(other);
    let mut request = messages::feed(institution, other);
    request.idempotency_key = "key".into();
    let fed = feed(&network.system(HERE, institution), request).await;
    let fed = fed
        .expect("another institution may use the same key")
        .into_inner();
    assert!(!fed.linkage_id.is_empty());
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_at_the_same_moment() {
    let network = Arc::new(Setup::standalone().start().await);
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let network = Arc::clone(&network);
        work.spawn(async move { feed_again(&network, |_| {}).await });
    }
    let answers = work.join_all().await;
    let first = answers[0].as_ref().unwrap();
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap(), first);
    }
    assert_eq!(known_identifiers(&network).await, 1);
    Arc::into_inner(network).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission() {
    let mut network = Setup::standalone().start().await;
    let sample = network.sample.clone();
    let mut documents = sample.documents_of(patient(&network));
    let document = documents.find(|document| document.region == 0).unwrap();
    let mut records = sample.people[document.person].records.iter();
    let record = records.find(|record| record.local_id == document.local_id);
    let record = record.unwrap();
    network.feed(record).await;
    let institution = network.institution(record).clone();
    let parts = || network.provision(document);
    let system = || network.system(HERE, &institution);
    let first = provide(&system(), parts()).await.unwrap().into_inner();
    let again = provide(&system(), parts()).await.unwrap().into_inner();
    assert_eq!(again, first, "over another connection");
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    let parts = || network.provision(document);
    let system = || network.system(HERE, &institution);
    let again = provide(&system(), parts()).await.unwrap().into_inner();
    assert_eq!(again, first, "over a restart");

    let doctor = network.acting(HERE, &physician(&institution.code));
    let listed = find_here(&doctor, network.patient(record)).await.unwrap();
    assert_eq!(listed.into_inner().objects.unwrap().entries.len(), 1);
    let mut other = parts();
    if let Some(renkei::wire::pb::documents::provide_documents_request::Part::Start(start)) =
        &mut other[0].part
    {
        let submission = start.submission.as_mut().unwrap();
        submission.entries[0].language_code = "en".into();
    }
    refused(provide(&system(), other).await, Reason::IdempotencyMismatch);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent() {
    let mut network = Setup::standalone().start().await;
    let record = network.record(patient(&network), 0).clone();
    network.feed(&record).await;
    let code = network.institution(&record).code.clone();
    let request = npb::RecordConsentRequest {
        consent: Some(npb::Consent {
            patient_id: Some(network.patient(&record)),
            model: npb::ConsentModel::Community.into(),
            effect: npb::ConsentEffect::Deny.into(),
            ..Default::default()
        }),
        idempotency_key: "consent".into(),
    };
    let give = async |network: &Network, request: npb::RecordConsentRequest| {
        let clerk = network.acting(HERE, &physician(&code));
        let mut client = ConsentServiceClient::new(clerk.channel.clone());
        let recorded = client.record_consent(clerk.request(request)).await;
        recorded.map(tonic::Response::into_inner)
    };
    let first = give(&network, request.clone()).await.unwrap();
    assert_eq!(give(&network, request.clone()).await.unwrap(), first);
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    assert_eq!(give(&network, request.clone()).await.unwrap(), first);
    let mut other = request;
    other.consent.as_mut().unwrap().effect = npb::ConsentEffect::Permit.into();
    refused(give(&network, other).await, Reason::IdempotencyMismatch);
    network.stop().await;
}

/// Opens a grant at the standalone node and gives the way to close it.
async fn grant(
    network: &Network,
) -> (
    EmergencyServiceClient<tonic::transport::Channel>,
    Caller,
    String,
) {
    let record = network.record(patient(network), 0);
    network.feed(record).await;
    let hospital = &network.emergency_hospitals(0)[0].code;
    let doctor = network.acting(HERE, &emergency_physician("E-1", hospital));
    let mut client = EmergencyServiceClient::new(doctor.channel.clone());
    let request = epb::OpenBreakGlassRequest {
        patient: Some(epb::PatientRef {
            subject: Some(epb::patient_ref::Subject::PatientId(
                network.patient(record),
            )),
        }),
        reason: epb::BreakGlassReason::Unconscious.into(),
        reason_text: "意識障害のため同意を得られない".to_owned(),
        declares_consent_impossible: true,
        idempotency_key: "open".to_owned(),
        ..Default::default()
    };
    let first = client
        .open_break_glass(doctor.request(request.clone()))
        .await
        .unwrap()
        .into_inner();
    let again = client
        .open_break_glass(doctor.request(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first, "one grant");
    (client, doctor, first.grant_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_opened_once() {
    let network = Setup::standalone().start().await;
    let (_, _, id) = grant(&network).await;
    assert!(!id.is_empty());
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_close_gets_the_same_answer() {
    let network = Setup::standalone().start().await;
    let (mut client, doctor, grant_id) = grant(&network).await;
    let request = epb::CloseBreakGlassRequest {
        grant_id,
        idempotency_key: "close".to_owned(),
        ..Default::default()
    };
    let first = client
        .close_break_glass(doctor.request(request.clone()))
        .await;
    let first = first.unwrap().into_inner();
    let again = client.close_break_glass(doctor.request(request)).await;
    assert_eq!(again.unwrap().into_inner(), first);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_is_withdrawn_once() {
    let network = Setup::standalone().start().await;
    let record = network.record(patient(&network), 0);
    network.feed(record).await;
    let clerk = network.acting(HERE, &physician(&network.institution(record).code));
    let consent = opt_out(&clerk, network.patient(record)).await;
    let mut client = ConsentServiceClient::new(clerk.channel.clone());
    let request = npb::WithdrawConsentRequest {
        consent_id: consent.consent_id,
        ..Default::default()
    };
    let first = client
        .withdraw_consent(clerk.request(request.clone()))
        .await;
    first.unwrap();
    let again = client.withdraw_consent(clerk.request(request)).await;
    refused(again, Reason::WrongState);
    network.stop().await;
}
