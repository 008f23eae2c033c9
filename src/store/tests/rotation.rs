//! A rotation cut off at every step of it, on an index of the default engine. Bar: E-04.

use super::tier::{count, summary, wait};
use super::*;
use crate::store::committer::Request;
use crate::store::disk::sim::Faults;
use crate::store::keywork::{KeyDone, KeyWork};

/// Rows of the store: the index is sealed anew in a few pages.
const ROWS: u64 = 1100;

/// The ledger on a simulated disk, the index in a real folder: the index sees its process killed.
struct Machine {
    disk: SimDisk,
    folder: tempfile::TempDir,
}

impl Machine {
    /// With a store of some rows, closed in order.
    fn new(seed: u64) -> (Self, Content) {
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
        let content = content(&store);
        drop(store);
        (machine, content)
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
    fn must_go_on(&self, before: &Content, what: &str) -> bool {
        let (store, report) = self.open();
        assert_eq!(report.rebuilt, None, "{what}: the index was thrown away");
        assert!(content(&store) == *before, "{what}");
        let interrupted = store.is_rotating();
        if interrupted {
            store.rotate_keys(&mut |_| ()).unwrap();
        }
        assert_eq!(store.keys().epochs_in_use(), 1, "{what}");
        assert!(content(&store) == *before, "{what}: after it was finished");
        let dump = store.dump().unwrap();
        drop(store);
        let (store, report) = self.open();
        assert_eq!(report.rebuilt, None, "{what}: opened once more");
        assert_eq!(store.dump().unwrap(), dump, "{what}: opened once more");
        if interrupted {
            wait(store.rebuild()).unwrap();
            assert_eq!(store.dump().unwrap(), dump, "{what}: rebuilt identically");
        }
        interrupted
    }
}

/// The rows, and those that the secondary index finds.
type Content = (Vec<(Vec<u8>, Note)>, usize);

fn content(store: &Store) -> Content {
    let most = usize::try_from(ROWS).unwrap() + 1;
    let rows = store.range::<Note>(&[], None, most).unwrap();
    let group = KeyBuilder::new().u32(1).build();
    let found = store.by_index::<Note>(1, &group, None, most).unwrap();
    let rows = rows.into_iter().map(|(key, found)| (key, found.row));
    (rows.collect(), found.len())
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
    for cut in (1..=steps).step_by(usize::try_from(count(4, 1, 1)).unwrap()) {
        let (machine, before) = Machine::new(cut);
        let (store, _) = machine.open();
        machine.disk.set_faults(Faults {
            power_cut_at: Some(cut),
            ..Faults::default()
        });
        let _fate = store.rotate_keys(&mut |_| ()).is_ok();
        machine.stop(store, cut % 3 > 0);
        interrupted += u64::from(machine.must_go_on(&before, &format!("cut {cut}")));
        cuts += 1;
    }
    assert!(interrupted > 1, "{interrupted} of {cuts}");
    summary(
        "E-04 real index",
        &format!("{cuts} cuts, {interrupted} of them in the middle, the index kept"),
    );
}

/// Between two pages of the index, where the ledger's disk sees nothing.
#[test]
fn a_rotation_killed_between_any_two_pages_keeps_a_real_index() {
    let (machine, before) = Machine::new(7);
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
        machine.must_go_on(&before, &format!("after {pages} pages"));
        if done {
            assert!(pages > 2, "{pages}");
            break;
        }
    }
}
