//! Calls that fail and disks that are full: whole success or whole failure, and nothing lost.

use super::client::{End, Receipts, content, keep_blob, read_blob};
use super::power::{die, must_open, reopen};
use super::tier::{Dice, Tally, count, each_seed, summary, wait};
use super::*;
use crate::store::disk::sim::{Call, Faults};

fn failing(call: Call, n: u64) -> Faults {
    Faults {
        failing: Some((call, n)),
        ..Faults::default()
    }
}

/// The n-th call of a kind fails, in whatever the store is doing then. `None` if it was not reached.
fn one_failure(call: Call, n: u64, seed: u64) -> Option<Tally> {
    let disk = SimDisk::new(seed);
    let mut dice = Dice::new(seed);
    let mut receipts = Receipts::default();
    let mut left = n;
    for _ in 0..2 {
        disk.set_faults(failing(call, left));
        // What does not open because of the failing call opens the next time.
        let opened = reopen(&disk, seed).or_else(|_| reopen(&disk, seed));
        let (store, _) = opened.unwrap_or_else(|error| panic!("{call:?} {n}: {error}"));
        let failed_in_opening = disk.calls(call) >= left;
        for _ in 0..16 {
            let end = receipts.work(&store, &mut dice, 1);
            let failed = disk.calls(call) >= left;
            let must_stop =
                failed && !failed_in_opening && matches!(call, Call::Sync | Call::SyncFolder);
            assert!(!must_stop || end == End::Stopped, "{call:?} {n}: went on");
            if end == End::Stopped {
                assert!(failed, "{call:?} {n}: stopped for nothing");
                stays_stopped(&store);
                break;
            }
        }
        let calls = match dice.below(3) {
            0 => {
                drop(store);
                disk.calls(call)
            }
            power => {
                let calls = disk.calls(call);
                die(&disk, Some(store), power == 1);
                calls
            }
        };
        disk.set_faults(Faults::default());
        // What was served after the failure, and what was built on it, must stay.
        for power in [false, true, true] {
            let store = must_open(&disk, seed, &mut receipts);
            assert_eq!(receipts.work(&store, &mut dice, 1), End::Finished);
            die(&disk, Some(store), power);
        }
        left = left.saturating_sub(calls);
        if left == 0 {
            return Some(Tally {
                cases: 1,
                acknowledged: receipts.acknowledged,
            });
        }
    }
    None
}

/// Nothing is acknowledged until the store is opened again: no change, no record, no document.
fn stays_stopped(store: &Store) {
    for _ in 0..3 {
        let change = wait(store.commit(put(&[note(1, 1, "late"), note(101, 1, "late")])));
        assert!(change.is_err(), "acknowledged after a failed sync");
        assert!(wait(store.commit(audit("late"))).is_err());
        assert!(keep_blob(store, "late").is_err());
    }
    assert!(store.stats().poisoned);
    assert!(matches!(wait(store.close()), Err(StoreError::Poisoned)));
}

/// Fails every call of these kinds in turn, until the n-th is not reached any more.
fn every_call(bars: &str, kinds: &[Call], (quick, full, soak): (u64, u64, u64)) {
    for call in kinds {
        let tally = each_seed(&format!("{bars} {call:?}"), (quick, full, soak), |seed| {
            let tries = (1..).map(|n| one_failure(*call, n, seed));
            tries
                .map_while(|tally| tally)
                .fold(Tally::default(), |sum, one| sum + one)
        });
        assert!(tally.cases > 0, "no {call:?} ever failed");
    }
}

/// Bar: D-06.
#[test]
fn a_call_that_fails_fails_its_change_and_only_that() {
    let kinds: Vec<Call> = Call::ALL
        .into_iter()
        .filter(|call| !matches!(call, Call::Sync | Call::SyncFolder))
        .collect();
    every_call("D-06", &kinds, (1, 60, 1000));
}

/// Bar: D-07.
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_nothing_lost() {
    every_call("D-07", &[Call::Sync, Call::SyncFolder], (1, 200, 5000));
}

/// Bar: D-05. The disk is full after every number of bytes around a change and a document; when
/// there is room again, the same store goes on.
#[test]
fn a_full_disk_refuses_and_resumes_without_restart() {
    let disk = SimDisk::new(5);
    let (store, _) = reopen(&disk, 0).unwrap();
    let mut receipts = Receipts::default();
    receipts.work(&store, &mut Dice::new(5), 20);
    drop(store);
    let used: u64 = disk
        .files()
        .iter()
        .map(|path| disk.content(path).unwrap().len() as u64)
        .sum();
    let step = count(19, 1, 1);
    let (mut refused, mut cases) = (0, 0);
    for room in (0..4500).step_by(usize::try_from(step).unwrap()) {
        let disk = disk.fork();
        let mut receipts = receipts.clone();
        let (store, _) = reopen(&disk, 0).unwrap();
        disk.set_faults(Faults {
            capacity_bytes: Some(used + room),
            ..Faults::default()
        });
        for id in 1..4 {
            let text = "f".repeat(500);
            match wait(store.commit(put(&[note(id, 1, &text), note(id + 100, 1, &text)]))) {
                Ok(_) => receipts.set(id, &text),
                Err(error) => {
                    assert!(error.is_disk_full(), "room for {room}: {error}");
                    refused += 1;
                }
            }
        }
        match keep_blob(&store, "full") {
            Ok(info) => assert!(read_blob(&store, &info.id).unwrap() == content("full")),
            Err(error) => assert!(error.is_disk_full(), "room for {room}: {error}"),
        }
        disk.set_faults(Faults::default());
        receipts.work(&store, &mut Dice::new(room), 4);
        keep_blob(&store, "room again").unwrap();
        assert!(!store.stats().poisoned, "room for {room}");
        die(&disk, Some(store), true);
        drop(must_open(&disk, 0, &mut receipts));
        cases += 1;
    }
    assert!(refused > cases / 4, "{refused} of {cases}");
    summary(
        "D-05",
        &format!("{cases} capacities, {refused} refusals, 0 lost"),
    );
}
