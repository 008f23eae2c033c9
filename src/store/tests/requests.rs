//! Requests over kills and restarts: repeated, large, given up half way.

use std::collections::BTreeSet;

use super::client::{content, keep_blob, patient_of, read_blob, repeatable};
use super::power::{die, reopen};
use super::tier::{Dice, Tally, count, each_seed, summary, wait};
use super::*;
use crate::store::disk::sim::Faults;

fn cut_at(disk: &SimDisk, step: u64) {
    disk.set_faults(Faults {
        power_cut_at: Some(step),
        ..Faults::default()
    });
}

/// Bar: D-14. The same key eight times at once, over power cuts and kills, until it is answered:
/// done once, one receipt; other bytes under the key are refused.
#[test]
fn a_repeated_request_is_done_once_whatever_stops_the_node() {
    each_seed("D-14", (300, 20_000, 200_000), |seed| {
        let disk = SimDisk::new(seed);
        let mut dice = Dice::new(seed);
        let mut committed = 0;
        let mut receipts = BTreeSet::new();
        for life in 0..4 {
            if life < 3 {
                cut_at(&disk, 1 + dice.below(40));
            }
            let opened = reopen(&disk, seed);
            assert!(life < 3 || opened.is_ok());
            let store = opened.ok().map(|(store, _)| store);
            if let Some(store) = &store {
                let ask = || store.commit(repeatable(store, 5));
                let answers = wait(async {
                    let four =
                        || async { <[_; 4]>::from(tokio::join!(ask(), ask(), ask(), ask())) };
                    let (these, those) = tokio::join!(four(), four());
                    [these, those].concat()
                });
                for answer in answers.into_iter().flatten() {
                    match answer {
                        Outcome::Committed { .. } => committed += 1,
                        Outcome::Replayed { receipt } => {
                            receipts.insert(receipt);
                        }
                    }
                }
                let mut other = repeatable(store, 5);
                if let Some(idempotency) = &mut other.idempotency {
                    idempotency.body_hash = [8; 32];
                }
                let refused = wait(store.commit(other));
                assert!(refused.is_err(), "other bytes under the same key");
            }
            die(&disk, store, dice.below(2) > 0);
        }
        assert!(committed <= 1, "committed {committed} times");
        assert_eq!(receipts.len(), 1, "{receipts:?}");
        let (store, _) = reopen(&disk, seed).unwrap();
        let row = key(100_005);
        let times = store
            .read_frames(Sequence(1))
            .filter(|frame| {
                frame
                    .as_ref()
                    .unwrap()
                    .writes
                    .iter()
                    .any(|write| write.key == row)
            })
            .count();
        assert_eq!(times, 1, "in the ledger {times} times");
        Tally {
            cases: 1,
            acknowledged: committed,
        }
    });
}

/// Bar: D-15. A set of a hundred documents, cut off at each step: all or none, and a repeat ends it.
#[test]
fn a_set_of_a_hundred_documents_is_there_wholly_or_not_at_all() {
    const SET: u64 = 100;
    let submit = |store: &Store| -> Result<Outcome, StoreError> {
        let mut rows = Vec::new();
        for n in 0..SET {
            let text = format!("of the set {n}");
            let info = keep_blob(store, &text)?;
            rows.push(note(n, 1, &format!("{} {text}", info.id)));
        }
        let mut commit = put(&rows);
        commit.idempotency = repeatable(store, 1).idempotency;
        wait(store.commit(commit))
    };
    let whole = |store: &Store| {
        let rows = store.range::<Note>(&[], None, 200).unwrap();
        for (_, found) in &rows {
            let (name, text) = found.row.text.split_once(' ').unwrap();
            let bytes = data_encoding::HEXLOWER.decode(name.as_bytes()).unwrap();
            let id = BlobId::from_slice(&bytes).unwrap();
            assert!(read_blob(store, &id).unwrap() == content(text));
        }
        assert!(
            rows.is_empty() || rows.len() as u64 == SET,
            "{} of the set",
            rows.len()
        );
        !rows.is_empty()
    };
    let disk = SimDisk::new(15);
    let (store, _) = reopen(&disk, 0).unwrap();
    disk.set_faults(Faults::default());
    let _outcome = submit(&store).unwrap();
    let steps = disk.changes();
    drop(store);
    assert!(steps > 5 * SET);
    let all =
        (steps - 12..=steps).chain((1..=steps).step_by(usize::try_from(count(40, 1, 1)).unwrap()));
    let all: Vec<u64> = all.collect();
    let tally = each_seed(
        "D-15",
        (all.len() as u64, all.len() as u64, all.len() as u64),
        |n| {
            let Some(step) = all.get(usize::try_from(n).unwrap()).copied() else {
                return Tally::default();
            };
            let disk = SimDisk::new(n);
            let (store, _) = reopen(&disk, 0).unwrap();
            cut_at(&disk, step);
            let acknowledged = submit(&store).is_ok();
            die(&disk, Some(store), true);
            let (store, _) = reopen(&disk, 0).unwrap();
            assert!(
                whole(&store) || !acknowledged,
                "step {step}: the set is lost"
            );
            let _outcome = submit(&store).unwrap();
            assert!(whole(&store));
            Tally {
                cases: 1,
                acknowledged: 1,
            }
        },
    );
    assert!(tally.cases > 20);
}

/// Bar: D-16. Uploads cut at many points, by the client and by a kill: nothing partial is visible
/// and the space is free again, at once or at the next start.
#[test]
fn an_upload_that_is_cut_leaves_nothing() {
    const WHOLE: u64 = 400_000;
    let disk = SimDisk::new(16);
    let (store, _) = reopen(&disk, 0).unwrap();
    let kept = keep_blob(&store, "kept").unwrap();
    let size = |disk: &SimDisk| -> u64 {
        disk.files()
            .iter()
            .map(|path| disk.content(path).unwrap().len() as u64)
            .sum()
    };
    let (files, bytes) = (disk.files(), size(&disk));
    die(&disk, Some(store), false);
    let points = count(60, 200, 2000);
    for point in 0..points {
        let disk = disk.fork();
        let (store, _) = reopen(&disk, 0).unwrap();
        let key = patient_of(&store, "kept").unwrap();
        let mut writer = store.blobs().writer(&key).unwrap();
        let length = usize::try_from(point * WHOLE / points).unwrap();
        writer.write(&vec![9; length]).unwrap();
        assert_eq!(store.blobs().list().unwrap().len(), 1, "cut at {length}");
        let killed = point % 3;
        match killed {
            0 => drop(writer),
            1 => drop(writer.close().unwrap()),
            _ => {
                disk.halt();
                drop(writer);
            }
        }
        if killed < 2 {
            assert_eq!(
                (disk.files(), size(&disk)),
                (files.clone(), bytes),
                "cut at {length}"
            );
        }
        die(&disk, Some(store), point % 2 == 0);
        let (store, _) = reopen(&disk, 0).unwrap();
        assert_eq!(
            store
                .blobs()
                .list()
                .unwrap()
                .into_iter()
                .collect::<Vec<_>>(),
            [kept.id]
        );
        assert_eq!(
            (disk.files(), size(&disk)),
            (files.clone(), bytes),
            "cut at {length}"
        );
    }
    summary("D-16", &format!("{points} uploads cut, nothing left"));
}
