//! Following changes over restarts, and loading many records.

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::wire::pb::identity as pb;
use renkei::wire::pb::identity::load_patients_request::Part as Asked;
use renkei::wire::pb::identity::load_patients_response::Part as Told;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::people::{Desk, HANAKO, HERE, ICHIRO, call, client, key, patient};
use crate::support::Setup;
use crate::support::expect::refused;

type Changes = Streaming<pb::WatchIdentifierChangesResponse>;

async fn watch(caller: &Caller, token: &str) -> Changes {
    let request = pb::WatchIdentifierChangesRequest {
        resume_token: token.to_owned(),
        ..Default::default()
    };
    let mut request = caller.request(request);
    request.metadata_mut().remove("grpc-timeout");
    let answer = client(caller).watch_identifier_changes(request).await;
    answer.unwrap().into_inner()
}

/// The next change, and the token behind it.
async fn next(changes: &mut Changes) -> (String, pb::IdentifierSet) {
    loop {
        let message = changes.next().await.unwrap().unwrap();
        if let Some(set) = message.identifier_set {
            return (message.resume_token, set);
        }
    }
}

fn values(set: &pb::IdentifierSet) -> Vec<String> {
    set.identifiers
        .iter()
        .map(|one| one.value.clone())
        .collect()
}

/// A follower hears of everything once, in order, over a broken connection and a restart of the node,
/// and of a split twice. Each is in the audit before it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_follower_misses_nothing() {
    let mut network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    let mut changes = watch(&desk.system(), "").await;
    let first = changes.next().await.unwrap().unwrap();
    assert!(
        first.identifier_set.is_none(),
        "where to go on from, at once"
    );

    let one = desk.feed("w-1", &HANAKO).await;
    let two = desk.feed("w-2", &ICHIRO).await;
    let (token, set) = next(&mut changes).await;
    assert_eq!(
        (values(&set), set.linkage_id),
        (vec!["w-1".to_owned()], one.linkage_id.clone())
    );
    drop(changes);

    let steward = desk.steward("S-1", HERE);
    let link = pb::LinkPatientsRequest {
        first: Some(desk.id("w-1")),
        second: Some(desk.id("w-2")),
        reason: "same card".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    call!(steward, link_patients, link).unwrap();
    let unlink = pb::UnlinkPatientsRequest {
        first: Some(desk.id("w-1")),
        second: Some(desk.id("w-2")),
        reason: "two cards".to_owned(),
        idempotency_key: key(),
        ..Default::default()
    };
    let parted = call!(steward, unlink_patients, unlink).unwrap();
    network.stop_node(HERE).await;
    network.start_node(HERE).await;

    let desk = Desk::new(&network, 0, 0);
    let mut changes = watch(&desk.system(), &token).await;
    let (_, set) = next(&mut changes).await;
    assert_eq!(
        (values(&set), set.cause()),
        (vec!["w-2".to_owned()], pb::PersonEventKind::Added)
    );
    let (_, set) = next(&mut changes).await;
    // As it was then, though it is not so any more.
    assert_eq!(values(&set), ["w-1", "w-2"]);
    assert_eq!(set.former_linkage_ids, [two.linkage_id]);
    // A split tells of both, and can be left between the two.
    let (between, a) = next(&mut changes).await;
    let (after, b) = next(&mut changes).await;
    let mut both = [
        (a.linkage_id.clone(), values(&a)),
        (b.linkage_id.clone(), values(&b)),
    ];
    let mut expected = [
        (parted.first_linkage_id, vec!["w-1".to_owned()]),
        (parted.second_linkage_id, vec!["w-2".to_owned()]),
    ];
    both.sort();
    expected.sort();
    assert_eq!(both, expected);
    drop(changes);
    let mut changes = watch(&desk.system(), &between).await;
    assert_eq!(next(&mut changes).await, (after, b));
    // And what happens from now on.
    desk.feed("w-3", &ICHIRO).await;
    assert_eq!(values(&next(&mut changes).await.1), ["w-2", "w-3"]);

    let events = network
        .gateway(HERE)
        .audit
        .events(&Filter::default(), usize::MAX);
    let told = events.unwrap().into_iter().filter(|event| {
        event.method.ends_with("WatchIdentifierChanges") && event.disclosed_count > 0
    });
    // More may have been on their way when a connection was broken.
    assert!(told.count() >= 7, "an event for each change that was told");
    for token in ["x", "ffffff.0"] {
        let request = pb::WatchIdentifierChangesRequest {
            resume_token: token.to_owned(),
            ..Default::default()
        };
        let system = desk.system();
        let answer = client(&system)
            .watch_identifier_changes(system.request(request))
            .await;
        refused(answer.map(|_| ()), Reason::InvalidToken);
    }
    network.stop().await;
}

fn start(key: &str) -> pb::LoadPatientsRequest {
    pb::LoadPatientsRequest {
        part: Some(Asked::Start(pb::LoadStart {
            idempotency_key: key.to_owned(),
            ..Default::default()
        })),
    }
}

fn record(position: u64, patient: pb::Patient) -> pb::LoadPatientsRequest {
    pb::LoadPatientsRequest {
        part: Some(Asked::Record(pb::LoadRecord {
            position,
            patient: Some(patient),
        })),
    }
}

async fn load(caller: &Caller, messages: Vec<pb::LoadPatientsRequest>) -> Vec<Told> {
    let request = caller.request(tokio_stream::iter(messages));
    let answer = client(caller).load_patients(request).await.unwrap();
    let mut told = Vec::new();
    let mut answer = answer.into_inner();
    while let Some(message) = answer.next().await {
        told.push(message.unwrap().part.unwrap());
    }
    told
}

fn summary(told: &[Told]) -> pb::LoadCounts {
    match told.last() {
        Some(Told::Summary(counts)) => *counts,
        other => panic!("the last message: {other:?}"),
    }
}

/// Six hundred records, two of them no good, one of them twice; broken off, and gone on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_load_goes_on_where_it_was() {
    const RECORDS: u64 = 600;
    let network = Setup::standalone().start().await;
    let desk = Desk::new(&network, 0, 0);
    let foreign = Desk::new(&network, 1, 0);
    let system = desk.system();
    let message = |position: u64| {
        let id = match position {
            100 => foreign.id("100"),
            // The second time within one batch: an update, not a conflict.
            201 => desk.id("b-200"),
            _ => desk.id(&format!("b-{position}")),
        };
        let mut one = patient(id, &HANAKO);
        let known = one.demographics.as_mut().unwrap();
        known.names[0].given = vec![format!("花{position}")];
        known.telecoms.clear();
        if position == 300 {
            known.names.clear();
        }
        record(position, one)
    };
    let part = |from, to| {
        [start("load-1")]
            .into_iter()
            .chain((from..=to).map(message))
            .collect()
    };
    let told = load(&system, part(1, 350)).await;
    assert_eq!(
        told.first(),
        Some(&Told::Accepted(pb::LoadAccepted {
            durable_position: 0
        }))
    );
    let rejected: Vec<_> = told
        .iter()
        .filter_map(|one| match one {
            Told::Rejected(one) => Some((one.position, one.reason.as_str(), one.field.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        rejected,
        [
            (
                100,
                "FOREIGN_DOMAIN",
                "patient.identifier.assigning_authority"
            ),
            (300, "MISSING_FIELD", "patient.demographics.names"),
        ]
    );
    let counts = summary(&told);
    assert_eq!((counts.durable_position, counts.rejected), (350, 2));
    let progress: Vec<u64> = told
        .iter()
        .filter_map(|one| match one {
            Told::Progress(counts) => Some(counts.durable_position),
            _ => None,
        })
        .collect();
    assert!(progress.is_sorted() && progress.len() >= 4, "{progress:?}");

    // The whole file again: what is durable is passed over.
    let told = load(&system, part(1, RECORDS)).await;
    assert_eq!(
        told.first(),
        Some(&Told::Accepted(pb::LoadAccepted {
            durable_position: 350
        }))
    );
    let counts = summary(&told);
    let all = counts.new_persons + counts.linked + counts.review + counts.unchanged;
    assert_eq!(
        (counts.durable_position, all, counts.rejected),
        (RECORDS, RECORDS - 2, 2)
    );
    for position in [1, 200, 599, 600] {
        let known = desk.pix(&format!("b-{position}")).await;
        known.unwrap_or_else(|status| panic!("b-{position}: {status}"));
    }
    // One audit event a record, with its patient.
    let events = network
        .gateway(HERE)
        .audit
        .events(&Filter::default(), usize::MAX);
    let fed = events
        .unwrap()
        .into_iter()
        .filter(|event| event.method.ends_with("LoadPatients") && !event.patient_tag.is_empty());
    assert_eq!(fed.count() as u64, all);
    // Positions that fall are no load.
    let bad = vec![start("load-2"), message(2), message(1)];
    let answer = client(&system)
        .load_patients(system.request(tokio_stream::iter(bad)))
        .await;
    let mut answer = answer.unwrap().into_inner();
    let mut last = Ok(());
    while let Some(message) = answer.next().await {
        last = message.map(|_| ());
    }
    refused(last, Reason::InvalidField);
    network.stop().await;
}
