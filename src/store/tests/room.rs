//! A full disk: emergencies are taken from what is kept back, the rest is refused, and all is taken again
//! when there is space. Bars: A-05, D-05.

use std::time::Duration;

use super::client::{content, keep_blob, read_blob};
use super::tier::{count, summary, wait};
use super::*;
use crate::store::disk::sim::Faults;
use crate::store::room::RESERVE_FILE;

/// Small, so that whole disks are tried in seconds.
const RESERVE: u64 = 64 << 10;

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<Arc<Store>, StoreError> {
    let options = Options {
        reserve_bytes: RESERVE,
        clock: Arc::clone(clock) as Arc<dyn crate::clock::Clock>,
        ..sim_options(disk)
    };
    Store::open(&dir(), schema(), options).map(|(store, _)| store)
}

fn urgent(commit: Commit) -> Commit {
    Commit {
        emergency: true,
        ..commit
    }
}

fn used(disk: &SimDisk) -> u64 {
    let files = disk.files();
    let sizes = files.iter().map(|path| disk.content(path).unwrap().len());
    sizes.sum::<usize>() as u64
}

fn reserve(disk: &SimDisk) -> Option<u64> {
    let content = disk.content(&dir().join(RESERVE_FILE));
    content.map(|content| content.len() as u64)
}

/// The disk has so much room beyond what is used now.
fn leave(disk: &SimDisk, room: u64, power_cut_at: Option<u64>) {
    disk.set_faults(Faults {
        capacity_bytes: Some(used(disk) + room),
        power_cut_at,
        ..Faults::default()
    });
}

fn has(store: &Store, id: u64) -> bool {
    store.get::<Note>(&key(id)).unwrap().is_some()
}

/// Bars: A-05, D-05. However little is left when it is noticed.
#[test]
fn a_full_disk_serves_emergencies_and_nothing_else() {
    let step = usize::try_from(count(1_700, 130, 7)).unwrap();
    let (mut cases, mut served) = (0, 0);
    for room in (0..16 << 10).step_by(step) {
        let (disk, clock) = (SimDisk::new(room), clock());
        let store = open(&disk, &clock).unwrap();
        let text = "f".repeat(500);
        let _done = wait(store.commit(put(&[note(1, 1, &text), note(2, 1, &text)]))).unwrap();
        let before = keep_blob(&store, "before").unwrap();
        assert_eq!(reserve(&disk), Some(RESERVE));
        leave(&disk, room, None);
        for id in 10..13 {
            let refused = wait(store.commit(put(&[note(id, 1, &text)])));
            assert!(refused.unwrap_err().is_disk_full(), "room for {room}");
            let record = wait(store.commit(audit("ordinary")));
            assert!(record.unwrap_err().is_disk_full());
            assert!(keep_blob(&store, "after").unwrap_err().is_disk_full());
            // A grant, and the records of what is read under it.
            let _done = wait(store.commit(urgent(put(&[note(id + 10, 1, &text)])))).unwrap();
            for _ in 0..10 {
                let _done = wait(store.commit(urgent(audit(&text)))).unwrap();
                served += 1;
            }
        }
        assert!(store.stats().full && !store.stats().poisoned);
        assert_eq!(reserve(&disk), None, "let go of");
        assert_eq!(read_blob(&store, &before.id).unwrap(), content("before"));

        disk.set_faults(Faults::default());
        clock.advance(Duration::from_secs(5));
        let _done = wait(store.commit(put(&[note(13, 1, &text)]))).unwrap();
        keep_blob(&store, "after").unwrap();
        assert!(!store.stats().full);
        assert_eq!(reserve(&disk), Some(RESERVE), "taken again");
        let ids = [1, 2, 13, 20, 21, 22];
        assert!(ids.iter().all(|id| has(&store, *id)));
        super::power::die(&disk, Some(store), true);
        let store = open(&disk, &clock).unwrap();
        assert!(ids.iter().all(|id| has(&store, *id)));
        assert!(
            (10..13).all(|id| !has(&store, id)),
            "what was refused is not there"
        );
        cases += 1;
    }
    summary(
        "A-05",
        &format!("{cases} full disks, {served} records from the reserve"),
    );
}

/// When the reserve is used up, emergencies are refused too; nothing is lost or stops.
#[test]
fn a_reserve_that_is_used_up_refuses() {
    let (disk, clock) = (SimDisk::new(1), clock());
    let store = open(&disk, &clock).unwrap();
    let _done = wait(store.commit(put(&[note(1, 1, "before")]))).unwrap();
    leave(&disk, 0, None);
    let text = "f".repeat(1_000);
    let mut served = 0;
    let refused = loop {
        match wait(store.commit(urgent(audit(&text)))) {
            Ok(_) => served += 1,
            Err(error) => break error,
        }
        assert!(served < 1_000, "the disk never ends");
    };
    assert!(refused.is_disk_full());
    // Segments are begun as long as there is space for one; half of the reserve is served at least.
    assert!(served * 1_000 > RESERVE / 2, "{served}");
    assert!(!store.stats().poisoned);
    disk.set_faults(Faults::default());
    clock.advance(Duration::from_secs(5));
    let _done = wait(store.commit(put(&[note(2, 1, "after")]))).unwrap();
    assert!(has(&store, 1) && has(&store, 2));
}

/// The power fails at each step of an emergency on a full disk: what was acknowledged is there, and the
/// store opens, full or not.
#[test]
fn a_power_cut_on_a_full_disk_loses_nothing() {
    let mut cuts = 0;
    for cut in 1.. {
        let (disk, clock) = (SimDisk::new(cut), clock());
        let store = open(&disk, &clock).unwrap();
        let _done = wait(store.commit(put(&[note(1, 1, "before")]))).unwrap();
        leave(&disk, 3_000, Some(cut));
        let mut acknowledged = vec![1];
        for id in 2..40 {
            let text = "f".repeat(700);
            if wait(store.commit(urgent(put(&[note(id, 1, &text)])))).is_ok() {
                acknowledged.push(id);
            }
        }
        let went_through = disk.is_powered();
        super::power::die(&disk, Some(store), true);
        let store = open(&disk, &clock).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        assert!(acknowledged.iter().all(|id| has(&store, *id)), "cut {cut}");
        assert!(!store.stats().full);
        drop(store);
        // Without space for a reserve it opens all the same, and is full.
        super::power::die(&disk, None, false);
        disk.edit(&dir().join(RESERVE_FILE), Vec::clear);
        leave(&disk, 8 << 10, None);
        let store = open(&disk, &clock).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        assert!(store.stats().full, "cut {cut}");
        wait(store.commit(put(&[note(50, 1, "ordinary")]))).unwrap_err();
        if went_through {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts}");
    summary("A-05", &format!("{cuts} power cuts on a full disk"));
}
