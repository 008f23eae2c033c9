//! What a region tells its hub while the hub is killed again and again: each thing once, in the order
//! of its patient, and nothing is lost. Nodes are processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use renkei::demo::messages;
use renkei::demo::sample::SampleRecord;
use renkei::types::PersonRole;
use renkei::wire::pb::identity as pb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio::process::Command;

use crate::support::calls::feed;
use crate::support::tier::{Dice, count};
use crate::support::{At, Network, Setup, person};

const HERE: At = At::Region(0);

/// A record as it was fed for the `number`th time.
fn revision(network: &Network, record: &SampleRecord, number: u64) -> pb::FeedPatientRequest {
    let mut request = messages::feed(network.institution(record), record);
    request.idempotency_key = uuid::Uuid::new_v4().to_string();
    if let Some(patient) = &mut request.patient
        && let Some(demographics) = &mut patient.demographics
    {
        for telecom in &mut demographics.telecoms {
            telecom.value = telephone(number);
        }
    }
    request
}

fn telephone(number: u64) -> String {
    format!("03-0000-{number:04}")
}

/// What the hub has of a record.
async fn at_the_hub(network: &Network, record: &SampleRecord) -> pb::Patient {
    let institution = network.institution(record);
    let clerk = person("C-1", PersonRole::Physician, &institution.code);
    let clerk = network.acting(At::Hub, &clerk);
    let mut client = IdentityServiceClient::new(clerk.channel.clone());
    let subject = pb::get_patient_request::Subject::Identifier(network.patient(record));
    let request = clerk.request(pb::GetPatientRequest {
        subject: Some(subject),
    });
    let answer = client.get_patient(request).await.unwrap().into_inner();
    answer.record.expect("the hub knows the record")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_killed_again_and_again_is_told_everything_in_order() {
    // bars: F-15
    let mut network = Setup::federation(1).by_process().start().await;
    let mut dice = Dice::new();
    let people = network.sample.people.iter();
    let records: Vec<SampleRecord> = people.flat_map(|one| one.records.clone()).collect();
    let with_telephone = |record: &&SampleRecord| {
        let fed = messages::feed(network.institution(record), record);
        let demographics = fed.patient.unwrap().demographics.unwrap();
        !demographics.telecoms.is_empty()
    };
    let records: Vec<SampleRecord> = records.iter().filter(with_telephone).cloned().collect();
    let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
    let mut number = 0;
    for _ in 0..count(3, 50, 500) {
        let hub = network.process(At::Hub).id().to_string();
        let after = Duration::from_millis(dice.below(400));
        let killer = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let killed = Command::new("kill").args(["-KILL", &hub]).status().await;
            assert!(killed.unwrap().success());
        });
        for _ in 0..40 {
            let chosen = dice.place(records.len() - 1);
            let record = &records[chosen];
            number += 1;
            let system = network.system(HERE, network.institution(record));
            let fed = feed(&system, revision(&network, record, number)).await;
            fed.unwrap();
            newest.insert(chosen, number);
        }
        killer.await.unwrap();
        network.start_node(At::Hub).await;
    }
    // After so many failures the region may wait for half a minute before it tries again.
    let until = Instant::now() + Duration::from_mins(3);
    while network.status(HERE).await.queued_notices > 0 {
        assert!(Instant::now() < until, "the hub is not told everything");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (chosen, number) in newest {
        let patient = at_the_hub(&network, &records[chosen]).await;
        let telecoms = patient.demographics.unwrap().telecoms;
        let told: Vec<_> = telecoms.into_iter().map(|one| one.value).collect();
        let wanted = telephone(number);
        assert!(
            told.iter().all(|one| *one == wanted),
            "{told:?}, not {wanted}"
        );
    }
    network.stop().await;
}
