//! Recovery that is itself cut off, at every step and again and again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Receipts;
use super::power::{die, must_open, reopen};
use super::tier::{Dice, Tally, count, each_seed, summary, wait};
use super::*;
use crate::store::disk::sim::Faults;

/// How deep recoveries are nested.
const DEPTH: u64 = 5;

/// A disk whose store was stopped in the middle of its work, and what the clients know.
fn stopped(seed: u64) -> (SimDisk, Receipts) {
    let disk = SimDisk::new(seed);
    let mut dice = Dice::new(seed);
    let mut receipts = Receipts::default();
    let (store, _) = reopen(&disk, seed).unwrap();
    receipts.work(&store, &mut dice, 6);
    disk.set_faults(Faults {
        power_cut_at: Some(1 + dice.below(9)),
        ..Faults::default()
    });
    receipts.work(&store, &mut dice, 6);
    die(&disk, Some(store), !seed.is_multiple_of(3));
    (disk, receipts)
}

/// Opens and stops at the `step`-th change; `false` if there were fewer.
fn opens_until(disk: &SimDisk, seed: u64, step: u64, power: bool) -> bool {
    disk.set_faults(Faults {
        power_cut_at: Some(step),
        ..Faults::default()
    });
    let store = reopen(disk, seed).ok().map(|(store, _)| store);
    let cut = !disk.is_powered();
    die(disk, store, power);
    cut
}

/// Cuts at every step, and in each recovery from that again at every step, down to `depth`.
fn every_step(disk: &SimDisk, receipts: &Receipts, seed: u64, depth: u64, openings: &AtomicU64) {
    for step in 1.. {
        let disk = disk.fork();
        openings.fetch_add(1, Ordering::Relaxed);
        if !opens_until(&disk, seed, step, !(step + depth).is_multiple_of(3)) {
            return;
        }
        if depth > 1 {
            every_step(&disk, receipts, seed, depth - 1, openings);
        } else {
            drop(must_open(&disk, seed, &mut receipts.clone()));
        }
    }
}

/// Bar: D-11. Every step of recovery, exhaustively as deep as the tier can go.
#[test]
fn recovery_cut_off_at_every_step_is_recovered_from() {
    let depth = count(2, 3, DEPTH);
    let openings = AtomicU64::new(0);
    each_seed("D-11 exhaustive", (3, 12, 12), |seed| {
        let (disk, receipts) = stopped(seed);
        every_step(&disk, &receipts, seed, depth, &openings);
        Tally {
            cases: 1,
            acknowledged: receipts.acknowledged,
        }
    });
    let openings = openings.into_inner();
    assert!(openings > 100, "{openings}");
    summary(
        "D-11 exhaustive",
        &format!("depth {depth}, {openings} openings"),
    );
}

/// Bar: D-11. Random paths down to depth five, with work between them at the end.
#[test]
fn recoveries_nested_five_deep_lose_nothing() {
    each_seed("D-11 nested to 5", (400, 20_000, 400_000), |seed| {
        let (disk, mut receipts) = stopped(seed);
        let mut dice = Dice::new(seed ^ 0xD11);
        let mut cases = 0;
        for _ in 0..DEPTH {
            cases += u64::from(opens_until(
                &disk,
                seed,
                1 + dice.below(10),
                dice.below(3) > 0,
            ));
        }
        let store = must_open(&disk, seed, &mut receipts);
        receipts.work(&store, &mut dice, 2);
        die(&disk, Some(store), true);
        drop(must_open(&disk, seed, &mut receipts));
        Tally {
            cases,
            acknowledged: receipts.acknowledged,
        }
    });
}

/// Bars: D-02, D-07. The process dies after its write and before its sync; the next process sees
/// the frame in the page cache and serves it; then the power goes. It must still be there.
#[test]
fn what_recovery_serves_it_has_made_durable() {
    let disk = SimDisk::new(1);
    drop(reopen(&disk, 0).unwrap());
    let mut acknowledged = 0;
    for n in 1..40 {
        let fork = disk.fork();
        let (store, _) = reopen(&fork, 0).unwrap();
        fork.set_faults(Faults {
            power_cut_at: Some(n),
            ..Faults::default()
        });
        let _unknown = wait(store.commit(audit("unsynced"))).is_ok();
        die(&fork, Some(store), false);
        let (store, report) = reopen(&fork, 0).unwrap();
        die(&fork, Some(store), true);
        let (_, after) = reopen(&fork, 0).unwrap();
        assert!(
            after.last_sequence >= report.last_sequence,
            "cut {n}: what was served is gone"
        );
        acknowledged += report.last_sequence.0;
    }
    assert!(acknowledged > 10, "{acknowledged}");
}
