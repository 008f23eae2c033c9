//! A rotation cut off at every step of it, on an index of the default engine. Bar: E-04.

use super::tier::{count, summary, wait};
use super::*;
use crate::store::committer::Request;
use crate::store::disk::sim::Faults;
use crate::store::keywork::{KeyDone, KeyWork};

/// Rows of the store: the index is sealed anew in a few pages.
const ROWS: u64 = 1300;

/// The ledger on a simulated disk, the index in a real folder: the index sees its process killed.
struct Machine {
    disk: SimDisk,
    folder: tempfile::TempDir,
}

impl Machine {
    /// With a store of some rows, closed in order.
    fn new(seed: u64) -> (Self, [u8; 32]) {
        let machine = Self {
            disk: SimDisk::new(seed),
            folder: tempfile::tempdir().unwrap(),
        };
        let (store, _) = machine.open();
        for from in (0..ROWS).step_by(100) {
            let rows: Vec<Note> = (from..from + 100)
                .map(|id| note(id, 1, "of before"))
                .collect();
            let _outcome = wait(store.commit(put(&rows))).unwrap();
        }
        let dump = store.dump().unwrap();
        drop(store);
        (machine, dump)
    }

    fn open(&self) -> (Arc<Store>, OpenReport) {
        let options = Options {
            index: IndexKind::default(),
            index_cache_bytes: 1 << 20,
            segment_bytes: 256 << 10,
            preallocate_bytes: 64 << 10,
            ..sim_options(&self.disk)
        };
        Store::open(self.folder.path(), schema(), options).unwrap()
    }

    /// Stops the process, and the power of the ledger's disk too.
    fn stop(&self, store: Arc<Store>, power: bool) {
        self.disk.halt();
        drop(store);
        if power {
            self.disk.power_cycle();
        } else {
            self.disk.kill_process();
        }
    }

    /// Opens again: the index is used as it is, says the same, and the rotation can be finished.
    fn must_go_on(&self, dump: [u8; 32], what: &str) -> bool {
        let (store, report) = self.open();
        assert_eq!(report.rebuilt, None, "{what}: the index was thrown away");
        assert_eq!(store.dump().unwrap(), dump, "{what}");
        let interrupted = store.is_rotating();
        if interrupted {
            store.rotate_keys(&mut |_| ()).unwrap();
        }
        assert_eq!(store.keys().epochs_in_use(), 1, "{what}");
        assert_eq!(store.dump().unwrap(), dump, "{what}: after it was finished");
        drop(store);
        let (store, report) = self.open();
        assert_eq!(report.rebuilt, None, "{what}: opened once more");
        assert_eq!(store.dump().unwrap(), dump, "{what}: opened once more");
        interrupted
    }
}

#[test]
fn a_rotation_cut_off_anywhere_keeps_a_real_index() {
    let (mut interrupted, mut cuts) = (0, 0);
    let (machine, _) = Machine::new(0);
    machine.disk.set_faults(Faults::default());
    let (store, _) = machine.open();
    store.rotate_keys(&mut |_| ()).unwrap();
    let steps = machine.disk.changes();
    assert!(steps > 20, "{steps}");
    drop(store);
    for cut in (1..=steps).step_by(usize::try_from(count(2, 1, 1)).unwrap()) {
        let (machine, dump) = Machine::new(cut);
        let (store, _) = machine.open();
        machine.disk.set_faults(Faults {
            power_cut_at: Some(cut),
            ..Faults::default()
        });
        let _fate = store.rotate_keys(&mut |_| ()).is_ok();
        machine.stop(store, cut % 3 > 0);
        interrupted += u64::from(machine.must_go_on(dump, &format!("cut {cut}")));
        cuts += 1;
    }
    assert!(interrupted > 2, "{interrupted} of {cuts}");
    summary(
        "E-04 real index",
        &format!("{cuts} cuts, {interrupted} of them in the middle, the index kept"),
    );
}

/// Between two pages of the index, where the ledger's disk sees nothing.
#[test]
fn a_rotation_killed_between_any_two_pages_keeps_a_real_index() {
    let (machine, dump) = Machine::new(7);
    for pages in 0.. {
        let (store, _) = machine.open();
        let work = |work| {
            let (reply, answer) = std::sync::mpsc::channel();
            store.ask(Request::Keys(work, reply)).unwrap();
            answer.recv().unwrap().unwrap()
        };
        assert!(matches!(work(KeyWork::Rotate), KeyDone::Done));
        let (mut after, mut done) = (None, false);
        for _ in 0..pages {
            match work(KeyWork::Reseal(after)) {
                KeyDone::More(next) => after = Some(next),
                KeyDone::Done => {
                    done = true;
                    break;
                }
            }
        }
        machine.stop(store, false);
        machine.must_go_on(dump, &format!("after {pages} pages"));
        if done {
            assert!(pages > 3, "{pages}");
            break;
        }
    }
}
