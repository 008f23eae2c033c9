//! Power cuts and kills at any step, also of recovery, on the simulated disk.

use super::client::Receipts;
use super::tier::{Dice, Tally, each_seed, wait};
use super::*;
use crate::store::disk::sim::Faults;

/// A store so small that everything happens often: a frame in two seldom fits a segment.
pub(super) fn tiny(disk: &SimDisk, seed: u64) -> Options {
    Options {
        // Half of the stores have their key in a folder of its own.
        root: (seed % 2 == 1).then(|| RootSource::File(PathBuf::from("/keys/root.key"))),
        segment_bytes: 2048,
        preallocate_bytes: 1024,
        ..sim_options(disk)
    }
}

pub(super) fn reopen(disk: &SimDisk, seed: u64) -> Result<(Arc<Store>, OpenReport), StoreError> {
    if seed % 2 == 1 {
        crate::store::disk::Disk::create_dir_all(disk, Path::new("/keys")).unwrap_or_default();
    }
    Store::open(&dir(), schema(), tiny(disk, seed))
}

/// The store must open now that nothing fails any more, and have everything.
pub(super) fn must_open(disk: &SimDisk, seed: u64, receipts: &mut Receipts) -> Arc<Store> {
    let (store, _) = reopen(disk, seed).unwrap_or_else(|error| panic!("does not open: {error}"));
    receipts.compare(&store);
    store
}

/// The process is gone: its store cannot write any more.
pub(super) fn die(disk: &SimDisk, store: Option<Arc<Store>>, power: bool) {
    disk.halt();
    drop(store);
    if power {
        disk.power_cycle();
    } else {
        disk.kill_process();
    }
}

/// One machine with one store, which is stopped again and again.
fn lives(seed: u64, rounds: u64) -> Tally {
    let disk = SimDisk::new(seed);
    let mut dice = Dice::new(seed);
    let mut receipts = Receipts::default();
    for _ in 0..rounds {
        disk.set_faults(Faults {
            power_cut_at: Some(1 + dice.below(70)),
            ..Faults::default()
        });
        let store = reopen(&disk, seed).ok().map(|(store, _)| store);
        if let Some(store) = &store {
            receipts.work(store, &mut dice, 12);
        }
        die(&disk, store, dice.below(3) > 0);
        // Recovery itself is cut off.
        for _ in 0..dice.below(6) {
            disk.set_faults(Faults {
                power_cut_at: Some(1 + dice.below(12)),
                ..Faults::default()
            });
            let store = reopen(&disk, seed).ok().map(|(store, _)| store);
            die(&disk, store, dice.below(2) > 0);
        }
        let store = must_open(&disk, seed, &mut receipts);
        if dice.below(2) > 0 {
            receipts.work(&store, &mut dice, 3);
        }
        let closed = dice.below(4) == 0;
        if closed {
            wait(store.close()).unwrap();
        }
        die(&disk, Some(store), true);
    }
    drop(must_open(&disk, seed, &mut receipts));
    Tally {
        cases: rounds,
        acknowledged: receipts.acknowledged,
    }
}

/// Bars: D-02, D-04, D-11. Un-synced data is dropped at a random step, torn and out of order.
#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let tally = each_seed("D-02(a), D-04", (2000, 50_000, 1_000_000), |seed| {
        lives(seed, 2)
    });
    assert!(tally.acknowledged > tally.cases, "{tally:?}");
}
