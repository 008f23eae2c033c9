use std::sync::Mutex;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn rows_are_read_by_key_range_and_index() {
    let folder = tempfile::tempdir().unwrap();
    let (store, report) = open_real(folder.path()).unwrap();
    assert!(report.created && report.rebuilt.is_none());
    for id in 0..20 {
        let group = u32::try_from(id % 3).unwrap();
        let _outcome = store
            .commit(put(&[note(id, group, "first")]))
            .await
            .unwrap();
    }
    let changed = store.commit(put(&[note(4, 9, "moved")])).await.unwrap();
    let found = store.get::<Note>(&key(4)).unwrap().unwrap();
    assert_eq!(
        (found.version, found.row),
        (sequence(changed), note(4, 9, "moved"))
    );

    let page = store.range::<Note>(&[], Some(&key(17)), 10).unwrap();
    assert_eq!(
        page.iter().map(|(_, n)| n.row.id).collect::<Vec<_>>(),
        [18, 19]
    );
    let group_one = KeyBuilder::new().u32(1).build();
    let page = store.by_index::<Note>(1, &group_one, None, 3).unwrap();
    assert_eq!(
        page.iter().map(|(_, n)| n.row.id).collect::<Vec<_>>(),
        [1, 7, 10]
    );
    let rest = store
        .by_index::<Note>(1, &group_one, Some(&page[2].0), 10)
        .unwrap();
    assert_eq!(
        rest.iter().map(|(_, n)| n.row.id).collect::<Vec<_>>(),
        [13, 16, 19]
    );

    let delete = Write::delete::<Note>(key(1)).expecting(Expect::Version(Sequence(2)));
    let _outcome = store
        .commit(Commit {
            writes: vec![delete],
            ..Commit::default()
        })
        .await
        .unwrap();
    assert_eq!(store.get::<Note>(&key(1)).unwrap(), None);
    let page = store.by_index::<Note>(1, &group_one, None, 1).unwrap();
    assert_eq!(page[0].1.row.id, 7);
    let mut count = 0;
    let mut visit = |_: Versioned<Note>| {
        count += 1;
        Ok(())
    };
    store.scan(&mut visit).unwrap();
    assert_eq!(count, 19);
}

#[tokio::test]
async fn a_precondition_that_does_not_hold_changes_nothing() {
    let disk = SimDisk::new(1);
    let (store, _) = open_sim(&disk).unwrap();
    let absent = |id| Write::put(&note(id, 1, "a")).expecting(Expect::Absent);
    let commit = |writes| Commit {
        writes,
        ..Commit::default()
    };
    let first = sequence(store.commit(commit(vec![absent(1)])).await.unwrap());
    let both = commit(vec![absent(2), absent(1)]);
    assert!(matches!(
        store.commit(both).await,
        Err(StoreError::Conflict)
    ));
    assert_eq!(store.get::<Note>(&key(2)).unwrap(), None);
    assert_eq!(store.last_sequence(), first);
    let stale = Write::put(&note(1, 1, "b")).expecting(Expect::Version(Sequence(first.0 + 1)));
    assert!(matches!(
        store.commit(commit(vec![stale])).await,
        Err(StoreError::Conflict)
    ));
    let right = Write::put(&note(1, 1, "b")).expecting(Expect::Version(first));
    assert_eq!(
        sequence(store.commit(commit(vec![right])).await.unwrap()),
        first.next()
    );
}

#[tokio::test]
async fn of_many_that_expect_absence_one_wins() {
    let disk = SimDisk::new(2);
    let (store, _) = open_sim(&disk).unwrap();
    let commits = (0..50).map(|writer| {
        let write = Write::put(&note(1, writer, "mine")).expecting(Expect::Absent);
        store.commit(Commit {
            writes: vec![write],
            ..Commit::default()
        })
    });
    let mut won = 0;
    for result in join_all(commits).await {
        match result {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict)),
        }
    }
    assert_eq!(won, 1);
}

/// Polls all futures until each is done.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[tokio::test]
async fn concurrent_commits_share_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    let commits = (0..400).map(|id| store.commit(put(&[note(id, 1, "together")])));
    let mut sequences: Vec<Sequence> = join_all(commits)
        .await
        .into_iter()
        .map(|outcome| sequence(outcome.unwrap()))
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=400).map(Sequence).collect::<Vec<_>>());
    let stats = store.stats();
    assert_eq!((stats.commits, stats.last_sequence), (400, Sequence(400)));
    assert!(stats.batches < 100, "{stats:?}");
    assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
}

#[tokio::test]
async fn a_commit_completes_when_its_caller_goes() {
    let disk = SimDisk::new(3);
    let (store, _) = open_sim(&disk).unwrap();
    for id in 0..50 {
        let mut commit = Box::pin(store.commit(put(&[note(id, 1, "dropped")])));
        let poll = std::future::poll_fn(|context| {
            std::task::Poll::Ready(commit.as_mut().poll(context).is_ready())
        });
        let _ready = poll.await;
        drop(commit);
    }
    store.close().await.unwrap();
    for id in 0..50 {
        assert!(store.get::<Note>(&key(id)).unwrap().is_some());
    }
    assert!(matches!(
        store.commit(audit("late")).await,
        Err(StoreError::Closed)
    ));
    store.close().await.unwrap();
}

#[derive(Default)]
struct Log(Mutex<Vec<(u64, Vec<u64>)>>);

impl Follower for Log {
    fn applied(&self, sequence: Sequence, writes: &[AppliedWrite]) {
        let ids = writes
            .iter()
            .filter_map(|w| Some(w.row::<Note>().unwrap()?.id))
            .collect();
        self.0.lock().unwrap().push((sequence.0, ids));
    }
}

#[tokio::test]
async fn followers_hear_every_change_in_order_before_the_acknowledgement() {
    let disk = SimDisk::new(4);
    let (store, _) = open_sim(&disk).unwrap();
    let log = Arc::new(Log::default());
    store.follow(Arc::<Log>::clone(&log));
    let commits = (0..30).map(|id| store.commit(put(&[note(id, 1, "x"), note(id + 100, 1, "y")])));
    assert!(join_all(commits).await.iter().all(Result::is_ok));
    let _outcome = store.commit(audit("only")).await.unwrap();
    let _outcome = store.commit(put(&[note(7, 2, "last")])).await.unwrap();
    let heard = log.0.lock().unwrap().clone();
    assert_eq!(heard.len(), 31);
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(heard[30], (32, vec![7]));
}

fn keyed(store: &Store, body: u8, expires: i64) -> Commit {
    Commit {
        writes: vec![Write::put(&note(1, u32::from(body), "once"))],
        idempotency: Some(Idempotency {
            key: store.keys().tag("idempotency", b"caller/key"),
            body_hash: [body; 32],
            receipt: Bytes::from(vec![body]),
            expires_unix_seconds: expires,
        }),
        ..Commit::default()
    }
}

#[tokio::test]
async fn a_repeat_gets_the_same_receipt_also_after_reopening() {
    let disk = SimDisk::new(5);
    let (store, _) = open_sim(&disk).unwrap();
    let clock = clock();
    let now = crate::clock::Clock::now(clock.as_ref()).as_second();
    let commits = (0..5).map(|_| store.commit(keyed(&store, 1, now + 60)));
    let outcomes = join_all(commits).await;
    let replayed = Outcome::Replayed {
        receipt: Bytes::from_static(&[1]),
    };
    assert_eq!(
        outcomes
            .iter()
            .filter(|o| o.as_ref().unwrap() == &replayed)
            .count(),
        4
    );
    let other = store.commit(keyed(&store, 2, now + 60)).await;
    assert!(matches!(other, Err(StoreError::IdempotencyMismatch)));
    drop(store);

    let options = Options {
        clock: Arc::<ManualClock>::clone(&clock),
        ..sim_options(&disk)
    };
    let (store, report) = Store::open(&dir(), schema(), options).unwrap();
    assert!(report.clean);
    assert_eq!(
        store.commit(keyed(&store, 1, now + 60)).await.unwrap(),
        replayed
    );
    assert_eq!(store.purge_expired(10).await.unwrap(), 0);
    clock.advance(Duration::from_secs(61));
    assert_eq!(store.purge_expired(10).await.unwrap(), 1);
    let outcome = store.commit(keyed(&store, 2, now + 99)).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { .. }));
}

#[tokio::test]
async fn frames_are_read_while_others_are_written() {
    let disk = SimDisk::new(6);
    let (store, _) = open_sim(&disk).unwrap();
    let mut frames = store.read_frames(Sequence(3));
    assert!(frames.next().is_none());
    for id in 0..300 {
        let mut commit = put(&[note(id, 1, &"t".repeat(200))]);
        commit.audit.push(Bytes::from(id.to_string()));
        let sequence = sequence(store.commit(commit).await.unwrap());
        if id % 3 == 2 {
            for wanted in sequence.0.max(5) - 2..=sequence.0 {
                let frame = frames.next().unwrap().unwrap();
                assert_eq!(frame.sequence, Sequence(wanted));
                assert_eq!(frame.audit[0], (wanted - 1).to_string());
                assert_eq!(
                    frame.writes[0].row::<Note>().unwrap().unwrap().id,
                    wanted - 1
                );
            }
            assert!(frames.next().is_none());
        }
    }
    assert!(store.stats().segments > 3);
    assert_eq!(store.read_frames(Sequence(1)).count(), 300);
}

#[tokio::test]
async fn what_is_too_large_or_unknown_is_refused() {
    let disk = SimDisk::new(7);
    let options = Options {
        commit_bytes: 1000,
        ..sim_options(&disk)
    };
    let (store, _) = Store::open(&dir(), schema(), options).unwrap();
    let large = store.commit(put(&[note(1, 1, &"x".repeat(1000))])).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })));
    let mut unknown = put(&[note(1, 1, "x")]);
    unknown.writes[0].table = TableId(99);
    assert!(matches!(
        store.commit(unknown).await,
        Err(StoreError::UnknownTable(_))
    ));
    let mut misplaced = put(&[note(1, 1, "x")]);
    misplaced.writes[0].key = key(2);
    assert!(matches!(
        store.commit(misplaced).await,
        Err(StoreError::InvalidRow { .. })
    ));
    assert_eq!(store.last_sequence(), Sequence(0));
    let twice = schema().table::<Other>();
    assert!(Store::open(&dir().join("b"), twice, sim_options(&disk)).is_err());
}

#[derive(Clone, PartialEq, prost::Message)]
struct Other {}

impl Row for Other {
    const TABLE: TableId = Note::TABLE;
    const NAME: &'static str = "other";

    fn key(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[tokio::test]
async fn only_one_opens_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_real(folder.path()).unwrap();
    assert!(matches!(open_real(folder.path()), Err(StoreError::Locked)));
    drop(store);
    assert!(open_real(folder.path()).is_ok());
}
