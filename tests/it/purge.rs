//! A patient's keys are destroyed over the interface: by two operators, once, over a restart, and the
//! rest goes on. Bars: D-21, E-05, Z-15.

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::wire::pb::admin as pb;
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::common as cpb;
use tonic::Status;

use crate::support::calls::{find_here, identifiers};
use crate::support::expect::refused;
use crate::support::{At, Setup, eventually, physician};

const HERE: At = At::Region(0);

fn client(caller: &Caller) -> AdminServiceClient<tonic::transport::Channel> {
    AdminServiceClient::new(caller.channel.clone())
}

async fn propose(caller: &Caller, patient: &cpb::Identifier) -> Result<pb::Purge, Status> {
    let request = caller.request(pb::ProposePurgeRequest {
        patient_id: Some(patient.clone()),
        reason: pb::PurgeReason::PatientRequest.into(),
        decision: "resolution 12".to_owned(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
    });
    let answer = client(caller).propose_purge(request).await?;
    Ok(answer.into_inner().purge.unwrap())
}

async fn approve(
    caller: &Caller,
    purge_id: &str,
    patient: &cpb::Identifier,
) -> Result<pb::Purge, Status> {
    let request = caller.request(pb::ApprovePurgeRequest {
        purge_id: purge_id.to_owned(),
        patient_id: Some(patient.clone()),
        idempotency_key: format!("approve {purge_id}"),
    });
    let answer = client(caller).approve_purge(request).await?;
    Ok(answer.into_inner().purge.unwrap())
}

async fn list(caller: &Caller) -> Result<Vec<pb::Purge>, Status> {
    let request = caller.request(pb::ListPurgesRequest::default());
    let answer = client(caller).list_purges(request).await?;
    Ok(answer.into_inner().purges)
}

/// The purge, once it is done.
async fn done(caller: &Caller, id: &str) -> pb::Purge {
    eventually("the purge is done", || async {
        let purges = list(caller).await.unwrap().into_iter();
        let mut purges = purges.filter(|purge| purge.state() == pb::PurgeState::Done);
        purges.find(|purge| purge.purge_id == id)
    })
    .await
}

/// How many entries a treating physician of the patient's institution is shown.
async fn entries(doctor: &Caller, patient: &cpb::Identifier) -> usize {
    let found = find_here(doctor, patient.clone()).await;
    found.map_or(0, |found| {
        let objects = found.into_inner().objects.unwrap_or_default();
        objects.entries.len()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_destroy_a_patients_keys() {
    let mut network = Setup::standalone().start().await;
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0).clone();
    let patient = network.patient(&record);
    network.feed(&record).await;
    let documents: Vec<_> = network
        .sample
        .documents_of(truth)
        .filter(|document| document.region == 0 && document.local_id == record.local_id)
        .cloned()
        .collect();
    for document in &documents {
        network.provide(document).await;
    }
    let code = network.institution(&record).code.clone();
    let doctor = network.acting(HERE, &physician(&code));
    assert_eq!(entries(&doctor, &patient).await, documents.len());
    let (one, two) = (network.operator(HERE), network.second_operator(HERE));

    // Nobody else may, or sees that there is anything.
    refused(propose(&doctor, &patient).await, Reason::NotPermitted);
    refused(list(&doctor).await, Reason::NotPermitted);
    let system = network.system(HERE, network.institution(&record));
    refused(list(&system).await, Reason::NotPermitted);

    let proposed = propose(&one, &patient).await.unwrap();
    let id = proposed.purge_id.as_str();
    assert_eq!(list(&two).await.unwrap(), std::slice::from_ref(&proposed));
    refused(
        approve(&one, id, &patient).await,
        Reason::SecondPersonNeeded,
    );
    refused(approve(&doctor, id, &patient).await, Reason::NotPermitted);
    let mut another = patient.clone();
    another.value.push('0');
    refused(approve(&two, id, &another).await, Reason::InvalidField);
    assert_eq!(entries(&doctor, &patient).await, documents.len());

    approve(&two, id, &patient).await.unwrap();
    let gone = done(&one, id).await;
    assert_eq!((gone.patient_id.as_ref(), gone.approvers.len()), (None, 2));
    assert_ne!(gone.approvers[0].subject, gone.approvers[1].subject);
    assert_eq!(entries(&doctor, &patient).await, 0);
    identifiers(&doctor, patient.clone()).await.unwrap_err();
    let filter = Filter {
        request_id: id.to_owned(),
        ..Filter::default()
    };
    let events = network.gateway(HERE).audit.events(&filter, usize::MAX);
    let events = events.unwrap();
    assert_eq!(events.len(), 1, "the carrying out has an event of its own");
    assert_eq!(events[0].grant_id, id);

    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    let (one, two) = (network.operator(HERE), network.second_operator(HERE));
    assert_eq!(done(&one, id).await, gone);
    assert_eq!(approve(&two, id, &patient).await.unwrap(), gone, "a repeat");
    let doctor = network.acting(HERE, &physician(&code));
    assert_eq!(entries(&doctor, &patient).await, 0);
    // The identifier can be used again, and what it had before does not come back.
    network.feed(&record).await;
    assert_eq!(entries(&doctor, &patient).await, 0);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_approved_before_a_stop_is_done_after_it() {
    let mut network = Setup::standalone().start().await;
    let record = network
        .record(network.sample.scenario.cross_region, 0)
        .clone();
    let patient = network.patient(&record);
    network.feed(&record).await;
    let (one, two) = (network.operator(HERE), network.second_operator(HERE));
    let proposed = propose(&one, &patient).await.unwrap();
    let id = proposed.purge_id.as_str();
    // Whatever the call hears: it is durable, or it was not approved.
    let approved = approve(&two, id, &patient).await;
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    approved.unwrap();
    let one = network.operator(HERE);
    done(&one, id).await;
    network.stop().await;
}
