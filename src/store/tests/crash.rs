use std::collections::BTreeMap;

use super::*;
use crate::store::disk::sim::Faults;

/// What the clients of a store know: for each row the acknowledged text, and those texts whose
/// commit ended without an answer.
#[derive(Default)]
struct Receipts {
    rows: BTreeMap<u64, (Option<String>, Vec<String>)>,
    blobs: Vec<(BlobId, Vec<u8>)>,
    acknowledged: u64,
    last: Sequence,
}

/// Works until the power fails. Every commit writes two rows with the same text.
async fn work(store: &Store, receipts: &mut Receipts, run: &str) {
    for step in 0..40_u64 {
        let text = format!(
            "{run}-{step}-{}",
            "z".repeat(usize::try_from(step * 13).unwrap())
        );
        let (a, b) = (step % 8, 100 + step % 8);
        let group = u32::try_from(step).unwrap();
        let mut commit = put(&[note(a, group, &text), note(b, group, &text)]);
        commit.audit.push(Bytes::from(text.clone()));
        let (first, second) = tokio::join!(
            store.commit(commit),
            store.commit(audit(&format!("read {step}")))
        );
        let row = receipts.rows.entry(a).or_default();
        match first {
            Ok(outcome) => {
                receipts.last = receipts.last.max(sequence(outcome));
                *row = (Some(text), Vec::new());
                receipts.acknowledged += 1;
            }
            Err(_) => row.1.push(text),
        }
        if let Ok(outcome) = second {
            receipts.last = receipts.last.max(sequence(outcome));
        } else {
            return;
        }
        if step % 10 == 3 {
            let content = format!("{run}-{step}").repeat(7000).into_bytes();
            let key = store.subject(Tag::from_bytes([3; 16])).await;
            let written = key.and_then(|key| {
                let mut writer = store.blobs().writer(&key)?;
                writer.write(&content)?;
                writer.finish()
            });
            match written {
                Ok(info) => receipts.blobs.push((info.id, content)),
                Err(_) => return,
            }
        }
    }
}

fn compare(store: &Store, receipts: &mut Receipts, seed: u64) {
    assert!(
        store.last_sequence() >= receipts.last,
        "seed {seed}: frames lost"
    );
    for (id, (acknowledged, unknown)) in &mut receipts.rows {
        let text = store
            .get::<Note>(&key(*id))
            .unwrap()
            .map(|found| found.row.text);
        let twin = store
            .get::<Note>(&key(id + 100))
            .unwrap()
            .map(|found| found.row.text);
        assert_eq!(text, twin, "seed {seed}: half a commit");
        let known = text == *acknowledged || text.as_ref().is_some_and(|t| unknown.contains(t));
        assert!(known, "seed {seed}: row {id} lost an acknowledged change");
        *acknowledged = text;
        unknown.clear();
    }
    for (id, content) in &receipts.blobs {
        let mut reader = store.blobs().reader(id).unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            read.extend_from_slice(&chunk);
        }
        assert!(
            read == *content,
            "seed {seed}: a blob is not what was written"
        );
    }
    let report = store.check(&mut |_| ()).unwrap();
    assert!(report.faults.is_empty(), "seed {seed}: {report:?}");
    assert_eq!(report.frames, store.last_sequence().0, "seed {seed}");
}

/// Bars: D-02, D-03, D-04, D-11. The seed of a failure is in its message.
#[tokio::test]
async fn nothing_acknowledged_is_lost_in_a_power_cut() {
    lose_power(0..150).await;
}

/// The other half, so that two cores share the work.
#[tokio::test]
async fn nothing_acknowledged_is_lost_in_another_power_cut() {
    lose_power(150..300).await;
}

async fn lose_power(seeds: std::ops::Range<u64>) {
    let mut acknowledged = 0;
    for seed in seeds {
        let disk = SimDisk::new(seed);
        let mut receipts = Receipts::default();
        for round in 0..4_u64 {
            let cut = 1 + (seed * 7 + round * 31) % 97;
            disk.set_faults(Faults {
                power_cut_at: Some(cut),
                ..Faults::default()
            });
            if let Ok((store, _)) = open_sim(&disk) {
                work(&store, &mut receipts, &format!("{seed}-{round}")).await;
            }
            if round % 2 == 0 {
                disk.power_cycle();
            } else {
                disk.halt();
                disk.kill_process();
            }
            // Recovery itself loses power, deeper each time.
            for depth in 1..=seed % 6 {
                disk.set_faults(Faults {
                    power_cut_at: Some(depth),
                    ..Faults::default()
                });
                drop(open_sim(&disk));
                disk.power_cycle();
            }
            let (store, _) = open_sim(&disk)
                .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            compare(&store, &mut receipts, seed);
            disk.halt();
            drop(store);
            disk.power_cycle();
        }
        acknowledged += receipts.acknowledged;
    }
    assert!(acknowledged > 1500, "{acknowledged}");
}

/// Bar: D-07.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_nothing_lost() {
    for n in 1..30 {
        let disk = SimDisk::new(n);
        drop(open_sim(&disk).unwrap());
        let (store, _) = open_sim(&disk).unwrap();
        disk.set_faults(Faults {
            failing_sync: Some(n),
            ..Faults::default()
        });
        let mut receipts = Receipts::default();
        let mut failed = false;
        for id in 0..40 {
            match store
                .commit(put(&[note(id, 1, "x"), note(id + 100, 1, "x")]))
                .await
            {
                Ok(outcome) => {
                    assert!(!failed, "acknowledged after a failed sync");
                    receipts.last = sequence(outcome);
                    receipts.rows.insert(id, (Some("x".to_owned()), Vec::new()));
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Poisoned));
                    failed = true;
                    receipts.rows.insert(id, (None, vec!["x".to_owned()]));
                }
            }
        }
        assert!(failed && store.stats().poisoned);
        assert!(matches!(store.close().await, Err(StoreError::Poisoned)));
        disk.halt();
        drop(store);
        // The process starts again and builds on what the page cache shows; then the power goes.
        disk.kill_process();
        let (store, _) = open_sim(&disk).unwrap();
        compare(&store, &mut receipts, n);
        let before = store.last_sequence();
        disk.halt();
        drop(store);
        disk.power_cycle();
        let (store, _) = open_sim(&disk).unwrap();
        assert_eq!(
            store.last_sequence(),
            before,
            "sync {n}: what was served is gone"
        );
        compare(&store, &mut receipts, n);
    }
}

/// Bar: D-06.
#[tokio::test]
async fn a_failed_write_fails_its_commit_and_only_that() {
    for n in 1..60 {
        let disk = SimDisk::new(n);
        let (store, _) = open_sim(&disk).unwrap();
        disk.set_faults(Faults {
            failing_write: Some(n),
            ..Faults::default()
        });
        let mut expected = Vec::new();
        let mut failures = 0;
        for id in 0..40 {
            match store.commit(put(&[note(id, 1, &"w".repeat(300))])).await {
                Ok(_) => expected.push(id),
                Err(StoreError::Io { .. }) => {
                    failures += 1;
                    // Half the time the process dies right then.
                    if n % 2 == 0 {
                        break;
                    }
                }
                Err(error) => panic!("write {n}: {error}"),
            }
        }
        assert!(failures <= 1, "write {n}: {failures}");
        disk.halt();
        drop(store);
        disk.kill_process();
        let (store, _) = open_sim(&disk).unwrap();
        let mut found = Vec::new();
        let mut visit = |row: Versioned<Note>| {
            found.push(row.row.id);
            Ok(())
        };
        store.scan(&mut visit).unwrap();
        assert_eq!(found, expected, "write {n}");
        assert!(store.check(&mut |_| ()).unwrap().faults.is_empty());
    }
}

/// Bar: D-05.
#[tokio::test]
async fn a_full_disk_refuses_and_resumes_without_restart() {
    let disk = SimDisk::new(9);
    let (store, _) = open_sim(&disk).unwrap();
    let mut written = 0;
    for capacity in (0..120_u64).map(|step| 1000 + step * 700) {
        disk.set_faults(Faults {
            capacity_bytes: Some(capacity),
            ..Faults::default()
        });
        match store
            .commit(put(&[note(capacity, 1, &"f".repeat(500))]))
            .await
        {
            Ok(_) => written += 1,
            Err(error) => assert!(error.is_disk_full(), "{error}"),
        }
    }
    disk.set_faults(Faults::default());
    let _outcome = store.commit(put(&[note(1, 1, "again")])).await.unwrap();
    assert!(written > 5 && written < 115, "{written}");
    disk.halt();
    drop(store);
    disk.power_cycle();
    let (store, report) = open_sim(&disk).unwrap();
    assert_eq!(report.last_sequence, Sequence(written + 1));
    assert_eq!(
        store.get::<Note>(&key(1)).unwrap().unwrap().row.text,
        "again"
    );
}

/// Bar: D-18.
#[tokio::test]
async fn the_order_does_not_follow_the_clock() {
    let disk = SimDisk::new(10);
    for start in [
        "2036-01-01T00:00:00Z",
        "1990-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        let clock = Arc::new(ManualClock::at(start.parse().unwrap()));
        let options = Options {
            clock,
            ..sim_options(&disk)
        };
        let (store, _) = Store::open(&dir(), schema(), options).unwrap();
        let before = store.last_sequence();
        let after = sequence(store.commit(put(&[note(1, 1, start)])).await.unwrap());
        assert_eq!(after, before.next());
    }
    let (store, _) = open_sim(&disk).unwrap();
    assert!(
        store
            .get::<Note>(&key(1))
            .unwrap()
            .unwrap()
            .row
            .text
            .starts_with("2026")
    );
}
