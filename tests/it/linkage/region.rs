//! What a region changes, the hub knows: through the outbox, at once, once.

use std::time::Duration;

use renkei::error::Reason;
use renkei::wire::pb::identity as pb;
use tokio::time::Instant;

use super::people::{Desk, HERE, ICHIRO, call, key, pix};
use crate::support::calls::{find, opt_out};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, eventually, person, physician};

/// Waits until the hub answers for an identifier as wanted; how long that took.
async fn hub_says(
    desk: &Desk<'_>,
    local: &str,
    wanted: impl Fn(&pb::QueryIdentifiersResponse) -> bool,
) -> Duration {
    let started = Instant::now();
    let system = &desk.network.system(At::Hub, desk.institution);
    let wanted = &wanted;
    eventually("the hub knows", || async {
        let known = pix(system, desk.id(local)).await.ok()?;
        wanted(&known).then_some(())
    })
    .await;
    started.elapsed()
}

/// A merge at a region holds at the hub within a second: queries, documents, consents. And so does
/// its end.
///
/// Bars: P-02, P-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_at_a_region_holds_at_the_hub() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    let held = network.load_person(truth).await;
    let record = network.record(truth, 0).clone();
    let desk = Desk {
        network: &network,
        at: HERE,
        institution: network.institution(&record),
    };
    desk.feed("h-1", &ICHIRO).await;
    network.settled().await;
    let there = network.record(truth, 1);
    let doctor = physician(&network.institution(there).code);
    let doctor = network.acting(At::Region(1), &doctor);
    let before = find(&doctor, network.patient(there)).await.unwrap();
    assert_eq!(before.entries.len(), held);

    // h-1 is the person of region 1 too now, and answers for the documents of the identifier it took.
    let system = desk.system();
    let merge = desk.merge("h-1", &record.local_id);
    call!(system, merge_patients, merge).unwrap();
    let survivor = Some(desk.id("h-1"));
    let took = hub_says(&desk, &record.local_id, |known| {
        known.superseded_by == survivor
    })
    .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let linked = pix(&network.system(At::Hub, desk.institution), desk.id("h-1"))
        .await
        .unwrap();
    assert!(linked.identifiers.contains(&network.patient(there)));
    let during = find(&doctor, network.patient(there)).await.unwrap();
    assert_eq!(
        during.entries.len(),
        held,
        "documents stay where they are filed"
    );

    let back = desk.unmerge(&record.local_id);
    call!(system, unmerge_patients, back).unwrap();
    let took = hub_says(&desk, "h-1", |known| known.identifiers.is_empty()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let after = find(&doctor, network.patient(there)).await.unwrap();
    assert_eq!(after.entries.len(), held);
    network.stop().await;
}

/// Of the consents that a merge brings together the most restrictive wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strictest_consent_wins_after_a_merge() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    network.load_person(truth).await;
    let record = network.record(truth, 0).clone();
    let desk = Desk {
        network: &network,
        at: HERE,
        institution: network.institution(&record),
    };
    desk.feed("c-1", &ICHIRO).await;
    let officer = crate::support::officer(&desk.institution.code);
    opt_out(&network.acting(HERE, &officer), desk.id("c-1")).await;
    network.settled().await;
    let there = network.record(truth, 1);
    let doctor = physician(&network.institution(there).code);
    let doctor = network.acting(At::Region(1), &doctor);
    find(&doctor, network.patient(there)).await.unwrap();
    let system = desk.system();
    let merge = desk.merge(&record.local_id, "c-1");
    let told = call!(system, merge_patients, merge).unwrap();
    assert_eq!(told.effects.unwrap().consents_affected, 1);
    network.settled().await;
    // What the subsumed identifier said no to is denied for the person of both.
    refused(
        find(&doctor, network.patient(there)).await,
        Reason::NotPermitted,
    );
    call!(system, unmerge_patients, desk.unmerge("c-1")).unwrap();
    network.settled().await;
    find(&doctor, network.patient(there)).await.unwrap();
    network.stop().await;
}

/// A steward at the hub parts two regions' records; the documents are out of reach at once.
///
/// Bars: P-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlink_at_the_hub_takes_documents_out_of_reach() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    let held = network.load_person(truth).await;
    let (here, there) = (network.record(truth, 0), network.record(truth, 1));
    let doctor = network.acting(HERE, &physician(&network.institution(here).code));
    let all = find(&doctor, network.patient(here)).await.unwrap();
    assert_eq!(all.entries.len(), held);
    let foreign = all.of(&network.node(At::Region(1)).home);
    assert!(foreign > 0);

    let desk = Desk {
        network: &network,
        at: At::Region(1),
        institution: network.institution(there),
    };
    let steward = desk.steward("S-1", At::Hub);
    let request = pb::UnlinkPatientsRequest {
        first: Some(network.patient(here)),
        second: Some(network.patient(there)),
        reason: "namesakes".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    let started = Instant::now();
    let done = call!(steward, unlink_patients, request).unwrap();
    assert_ne!(done.first_linkage_id, done.second_linkage_id);
    let rest = find(&doctor, network.patient(here)).await.unwrap();
    assert_eq!(rest.of(&network.node(At::Region(1)).home), 0);
    assert_eq!(rest.entries.len(), held - foreign);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    // Feeding again changes nothing: a steward's word holds.
    network.feed(there).await;
    network.settled().await;
    let rest = find(&doctor, network.patient(here)).await.unwrap();
    assert_eq!(rest.of(&network.node(At::Region(1)).home), 0);
    strangers(&network, truth).await;
    network.stop().await;
}

/// A steward of a community that has no record of the person changes nothing of it.
async fn strangers(network: &Network, truth: usize) {
    let (here, there) = (network.record(truth, 0), network.record(truth, 1));
    let desk = Desk::new(network, 0, 0);
    let doctor = person(
        "D-1",
        renkei::types::PersonRole::Physician,
        &desk.institution.code,
    );
    let doctor = network.acting(At::Hub, &doctor);
    let request = || pb::LinkPatientsRequest {
        first: Some(network.patient(there)),
        second: Some(network.patient(there)),
        reason: "mine".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    refused(
        call!(doctor, link_patients, request()),
        Reason::NotPermitted,
    );
    let steward = desk.steward("S-2", At::Hub);
    refused(
        call!(steward, link_patients, request()),
        Reason::NotPermitted,
    );
    let own = pb::LinkPatientsRequest {
        first: Some(network.patient(here)),
        ..request()
    };
    refused(call!(steward, link_patients, own), Reason::HeldApart);
}
