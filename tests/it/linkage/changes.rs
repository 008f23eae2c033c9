//! Merge and unmerge, link and unlink, at one node.

use std::time::Duration;

use renkei::error::Reason;
use renkei::wire::pb::common::Identifier;
use renkei::wire::pb::identity as pb;
use tokio::time::Instant;

use super::people::{Desk, HANAKO, HERE, ICHIRO, call, key, pix};
use crate::support::Setup;
use crate::support::calls::find_here;
use crate::support::expect::{documented, refused, said};
use crate::support::{At, Network, physician};

/// A merge of two people of one desk: what was two is one, and is two again, under the ids it had.
///
/// Bars: P-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_and_its_way_back() {
    let mut network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    let first = desk.feed("m-1", &HANAKO).await;
    let second = desk.feed("m-2", &ICHIRO).await;
    assert_ne!(first.linkage_id, second.linkage_id);

    let system = desk.system();
    let preview = pb::MergePatientsRequest {
        preview_only: true,
        ..desk.merge("m-1", "m-2")
    };
    let told = call!(system, merge_patients, preview).unwrap();
    assert!(told.merge_id.is_empty(), "a preview makes nothing");
    let effects = told.effects.unwrap();
    assert_eq!(
        effects.retired_linkage_ids,
        std::slice::from_ref(&second.linkage_id)
    );
    assert!(desk.pix("m-2").await.unwrap().superseded_by.is_none());

    let request = desk.merge("m-1", "m-2");
    let merged = call!(system, merge_patients, request.clone()).unwrap();
    assert_eq!(merged.linkage_id, first.linkage_id);
    let again = call!(desk.system(), merge_patients, request).unwrap();
    assert_eq!(again, merged, "the same key gives the same answer");
    let twice = call!(system, merge_patients, desk.merge("m-1", "m-2"));
    refused(twice, Reason::WrongState);

    // The subsumed identifier answers as the survivor, and takes no feeds.
    let known = desk.pix("m-2").await.unwrap();
    assert_eq!(known.superseded_by, Some(desk.id("m-1")));
    assert_eq!(known.linkage_id, first.linkage_id);
    assert_eq!(known.identifiers, [desk.id("m-1")]);
    refused(desk.try_feed("m-2", &HANAKO).await, Reason::WrongState);
    // What says nothing new is no change.
    let unchanged = desk.feed("m-2", &ICHIRO).await;
    assert_eq!(unchanged.outcome(), pb::FeedOutcome::Unchanged);
    // A retired linkage id answers too.
    let subject = pb::query_identifiers_request::Subject::LinkageId(second.linkage_id.clone());
    let by_id = pb::QueryIdentifiersRequest {
        subject: Some(subject),
        ..Default::default()
    };
    let by_id = call!(system, query_identifiers, by_id).unwrap();
    assert_eq!(by_id.linkage_id, first.linkage_id);

    // A node that starts again knows the same.
    network.stop_node(HERE).await;
    network.start_node(HERE).await;
    let desk = Desk::new(&network, 0, 0);
    let system = desk.system();
    assert_eq!(desk.pix("m-2").await.unwrap(), known);

    let back = call!(system, unmerge_patients, desk.unmerge("m-2")).unwrap();
    assert_eq!(back.survivor_linkage_id, first.linkage_id);
    assert_eq!(back.restored_linkage_id, second.linkage_id);
    let known = desk.pix("m-2").await.unwrap();
    assert_eq!(known.linkage_id, second.linkage_id);
    assert!(known.superseded_by.is_none() && known.identifiers.is_empty());
    let fed = desk.feed("m-2", &ICHIRO).await;
    assert_eq!(fed.outcome(), pb::FeedOutcome::Unchanged);
    let gone = call!(system, unmerge_patients, desk.unmerge("m-2"));
    refused(gone, Reason::NotFound);
    history(&desk, &first, &second).await;
    network.stop().await;
}

/// Everything is told, by whom and why; and who was linked to whom then.
async fn history(
    desk: &Desk<'_>,
    first: &pb::FeedPatientResponse,
    second: &pb::FeedPatientResponse,
) {
    let steward = desk.steward("S-1", HERE);
    let ask = |id: Identifier, as_of| pb::GetPersonHistoryRequest {
        subject: Some(pb::get_person_history_request::Subject::Identifier(id)),
        as_of,
        ..Default::default()
    };
    let told = call!(steward, get_person_history, ask(desk.id("m-2"), None)).unwrap();
    use pb::PersonEventKind as K;
    let kinds: Vec<K> = told.events.iter().map(pb::PersonEvent::kind).collect();
    assert_eq!(kinds, [K::Added, K::Added, K::Merged, K::Unmerged]);
    assert_eq!(told.identifiers, [desk.id("m-2")]);
    let merge = &told.events[2];
    assert_eq!(merge.reason, "registered twice");
    assert_eq!(merge.actor.as_ref().unwrap().subject, desk.institution.code);
    assert!(merge.linkage_ids.contains(&first.linkage_id));
    assert!(merge.linkage_ids.contains(&second.linkage_id));
    assert_eq!(merge.merge_id, told.events[3].merge_id);
    let sequences: Vec<u64> = told.events.iter().map(|event| event.sequence).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    // While it was merged away, only the survivor was an identifier of the person.
    let then = call!(
        steward,
        get_person_history,
        ask(desk.id("m-2"), merge.recorded)
    )
    .unwrap();
    assert_eq!(then.events.len(), 3);
    assert_eq!(then.identifiers, [desk.id("m-1")]);
    // A clerk's desk is not told.
    let system = desk.system();
    let theirs = call!(system, get_person_history, ask(desk.id("m-2"), None));
    refused(theirs, Reason::NotPermitted);
}

/// Foreign, empty, look-alike and other domains.
///
/// Bars: P-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn identifiers_of_others_are_not_merged() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    let foreign = Desk::new(&network, 1, 0);
    desk.feed("f-1", &HANAKO).await;
    desk.feed("f-2", &ICHIRO).await;
    other.feed("f-2", &ICHIRO).await;
    let system = desk.system();
    let own = desk.id("f-1").assigning_authority;
    let with = |authority: &str| pb::MergePatientsRequest {
        subsumed: Some(Identifier {
            assigning_authority: authority.to_owned(),
            ..desk.id("f-2")
        }),
        ..desk.merge("f-1", "f-2")
    };
    let at = "subsumed.assigning_authority";
    for (what, request, expected) in [
        ("empty", with(""), documented(Reason::MissingField, at)),
        (
            "another region's",
            with(&foreign.id("x").assigning_authority),
            documented(Reason::ForeignDomain, at),
        ),
        (
            "one arc more",
            with(&format!("{own}.1")),
            documented(Reason::UnknownAuthority, at),
        ),
        (
            "a leading zero",
            with(&own.replacen("1.2.", "1.02.", 1)),
            documented(Reason::InvalidOid, at),
        ),
        (
            "full width",
            with(&own.replacen('1', "１", 1)),
            documented(Reason::InvalidOid, at),
        ),
        (
            "a blank",
            with(&format!("{own} ")),
            documented(Reason::InvalidOid, at),
        ),
        (
            "another desk's",
            with(&other.id("f-2").assigning_authority),
            documented(Reason::InvalidField, "-"),
        ),
        (
            "the same twice",
            desk.merge("f-1", "f-1"),
            documented(Reason::InvalidField, "-"),
        ),
        (
            "nobody",
            desk.merge("f-1", "f-9"),
            documented(Reason::UnknownPatient, "subsumed"),
        ),
    ] {
        let status = call!(system, merge_patients, request).expect_err(what);
        assert_eq!(said(&status), expected, "{what}: {status}");
    }
    // Nor does a region speak for another at this node.
    let status = call!(
        foreign.network.system(HERE, foreign.institution),
        merge_patients,
        desk.merge("f-1", "f-2")
    );
    assert!(status.is_err());
    assert!(
        desk.pix("f-2").await.unwrap().superseded_by.is_none(),
        "nothing changed"
    );
    network.stop().await;
}

/// Documents stay filed under the identifier they came with; who asks for the survivor finds them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_follow_a_merge() {
    let network = Setup::standalone().start().await;
    let truth = network.sample.scenario.cross_region;
    let record = network.record(truth, 0).clone();
    network.feed(&record).await;
    let document = {
        let mut documents = network.sample.documents_of(truth);
        documents
            .find(|document| document.region == 0)
            .unwrap()
            .clone()
    };
    network.provide(&document).await;
    let desk = Desk {
        network: &network,
        at: HERE,
        institution: network.institution(&record),
    };
    desk.feed("d-1", &ICHIRO).await;
    let doctor = network.acting(HERE, &physician(&desk.institution.code));
    let found = async |id: Identifier| {
        let found = find_here(&doctor, id).await.unwrap().into_inner();
        found.objects.unwrap().entries.len()
    };
    assert_eq!(found(desk.id("d-1")).await, 0);
    let system = desk.system();
    let merge = desk.merge("d-1", &record.local_id);
    let merged = call!(system, merge_patients, merge).unwrap();
    assert_eq!(merged.effects.unwrap().documents_gained, 1);
    assert_eq!(found(desk.id("d-1")).await, 1);
    let back = desk.unmerge(&record.local_id);
    let back = call!(system, unmerge_patients, back).unwrap();
    assert_eq!(back.effects.unwrap().documents_lost, 1);
    assert_eq!(found(desk.id("d-1")).await, 0);
    assert_eq!(found(desk.id(&record.local_id)).await, 1);
    network.stop().await;
}

/// A steward links and unlinks; what is unlinked is apart at once, and stays apart.
///
/// Bars: P-09, P-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_and_its_end() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    let first = desk.feed("l-1", &HANAKO).await;
    let second = other.feed("l-2", &ICHIRO).await;
    let steward = desk.steward("S-1", HERE);
    let link = || pb::LinkPatientsRequest {
        first: Some(desk.id("l-1")),
        second: Some(other.id("l-2")),
        reason: "same card".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    let unlink = |allow_relink| pb::UnlinkPatientsRequest {
        first: Some(desk.id("l-1")),
        second: Some(other.id("l-2")),
        reason: "father and daughter".to_owned(),
        allow_relink,
        idempotency_key: key(),
        ..Default::default()
    };
    let system = desk.system();
    refused(call!(system, link_patients, link()), Reason::NotPermitted);
    let unreasoned = pb::LinkPatientsRequest {
        reason: String::new(),
        ..link()
    };
    refused(
        call!(steward, link_patients, unreasoned),
        Reason::MissingField,
    );
    let linked = call!(steward, link_patients, link()).unwrap();
    assert_eq!(linked.linkage_id, first.linkage_id);
    assert_eq!(
        desk.pix("l-1").await.unwrap().identifiers,
        [other.id("l-2")]
    );
    refused(call!(steward, link_patients, link()), Reason::WrongState);

    let apart = call!(steward, unlink_patients, unlink(true)).unwrap();
    assert_eq!(apart.first_linkage_id, first.linkage_id);
    // A retired id is not given out again.
    assert_ne!(apart.second_linkage_id, second.linkage_id);
    assert_ne!(apart.second_linkage_id, first.linkage_id);
    call!(steward, link_patients, link()).unwrap();

    let started = Instant::now();
    call!(steward, unlink_patients, unlink(false)).unwrap();
    assert!(desk.pix("l-1").await.unwrap().identifiers.is_empty());
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    refused(call!(steward, link_patients, link()), Reason::HeldApart);
    // Not even a proof links them again: the same person, telephone and all.
    let fed = other.feed("l-2", &HANAKO).await;
    assert_ne!(fed.outcome(), pb::FeedOutcome::Linked);
    assert!(desk.pix("l-1").await.unwrap().identifiers.is_empty());
    network.stop().await;
}

/// What regions know a person by does not tell them that it is one person.
///
/// Bars: P-08.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_know_a_person_by_different_ids() {
    let network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    network.feed_person(truth).await;
    let asked = async |network: &Network, region: usize| {
        let record = network.record(truth, region);
        let system = network.system(At::Hub, network.institution(record));
        pix(&system, network.patient(record)).await.unwrap()
    };
    let (a, b) = (asked(&network, 0).await, asked(&network, 1).await);
    assert_eq!(a.identifiers.len(), b.identifiers.len(), "one person");
    assert_ne!(a.linkage_id, b.linkage_id);
    assert_eq!(
        asked(&network, 0).await.linkage_id,
        a.linkage_id,
        "it stays"
    );
    let by_id = async |network: &Network, region: usize, id: &str| {
        let record = network.record(truth, region);
        let system = network.system(At::Hub, network.institution(record));
        let subject = pb::query_identifiers_request::Subject::LinkageId(id.to_owned());
        let request = pb::QueryIdentifiersRequest {
            subject: Some(subject),
            ..Default::default()
        };
        call!(system, query_identifiers, request)
    };
    let own = by_id(&network, 0, &a.linkage_id).await.unwrap();
    assert_eq!(own.identifiers.len(), a.identifiers.len() + 1);
    // The other region's id says nothing here.
    refused(
        by_id(&network, 0, &b.linkage_id).await,
        Reason::UnknownPatient,
    );
    // 26 characters of 5 bits and one that checks them.
    for id in [&a.linkage_id, &b.linkage_id] {
        assert_eq!(id.len(), 27);
        let mut typed = id.clone();
        let other = if id.starts_with('0') { "1" } else { "0" };
        typed.replace_range(0..1, other);
        refused(by_id(&network, 0, &typed).await, Reason::InvalidField);
    }
    network.stop().await;
}

/// PIX query, every outcome of ITI-9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_six_outcomes_of_a_query() {
    let network = Setup::standalone().start().await;
    let (desk, other) = (Desk::new(&network, 0, 0), Desk::new(&network, 0, 1));
    let third = Desk::new(&network, 1, 0);
    desk.feed("q-1", &HANAKO).await;
    other.feed("q-2", &HANAKO).await;
    other.feed("q-3", &HANAKO).await;
    let system = desk.system();
    let ask = async |id: Identifier, domains: &[String]| {
        let request = pb::QueryIdentifiersRequest {
            subject: Some(pb::query_identifiers_request::Subject::Identifier(id)),
            target_domains: domains.to_vec(),
        };
        call!(system, query_identifiers, request)
    };
    let domain = |desk: &Desk<'_>| desk.id("x").assigning_authority;
    // 1 and 6: without the one asked for; several of one domain, all and adjacent.
    let all = ask(desk.id("q-1"), &[]).await.unwrap();
    assert_eq!(all.identifiers, [other.id("q-2"), other.id("q-3")]);
    let some = ask(other.id("q-2"), &[domain(&desk)]).await.unwrap();
    assert_eq!(some.identifiers, [desk.id("q-1")]);
    // 2: known, but nothing in the wanted domain.
    let none = ask(desk.id("q-1"), &[domain(&third)]).await.unwrap();
    assert!(none.identifiers.is_empty() && !none.linkage_id.is_empty());
    // 3 and 4: nobody; nobody's domain.
    refused(ask(desk.id("q-9"), &[]).await, Reason::UnknownPatient);
    let nobodys = Identifier {
        assigning_authority: "1.2.3.4.5".to_owned(),
        ..desk.id("q-1")
    };
    refused(ask(nobodys, &[]).await, Reason::UnknownAuthority);
    // 5: each wanted domain that is nobody's, by its place.
    let wanted = ["1.2.3".to_owned(), domain(&desk), "1.2.4".to_owned()];
    let status = refused(
        ask(desk.id("q-1"), &wanted).await,
        Reason::UnknownTargetDomain,
    );
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["target_domains[0]", "target_domains[2]"]);
    network.stop().await;
}
