//! A group is judged while the one before it is on its way to the disk. Bars: D-06, D-14: what is
//! judged over rows that then fail to be written is refused with them.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use jiff::Timestamp;

use super::tier::wait;
use super::*;
use crate::clock::Clock;
use crate::store::disk::{Disk, DiskFile};

/// Lets writes of ledger frames through one by one, and counts looks at the clock.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// Writes that wait.
    waiting: u32,
    /// Results of the next writes to go through.
    passes: Vec<Result<(), io::ErrorKind>>,
    looks: u64,
}

impl Gate {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.changed.notify_all();
        result
    }

    fn until(&self, condition: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _state = self
            .changed
            .wait_while(state, |state| !condition(state))
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Waits until it is let through, if the gate is shut.
    fn pass(&self) -> io::Result<()> {
        if !self.change(|state| {
            state.waiting += u32::from(state.shut);
            state.shut
        }) {
            return Ok(());
        }
        self.until(|state| !state.passes.is_empty() || !state.shut);
        self.change(|state| {
            state.waiting -= 1;
            state.passes.pop().unwrap_or(Ok(()))
        })
        .map_err(io::Error::from)
    }
}

/// The simulated disk behind a gate, used by threads of the store beside each other.
#[derive(Clone, Debug)]
struct Gated(SimDisk, Arc<Gate>);

#[derive(Debug)]
struct Segment(Arc<dyn DiskFile>, Arc<Gate>);

impl Gated {
    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let segment = path
            .parent()
            .is_some_and(|folder| folder.ends_with("ledger"));
        match segment {
            true => Arc::new(Segment(file, Arc::clone(&self.1))),
            false => file,
        }
    }
}

impl DiskFile for Segment {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Frames, not headers of new segments or zeros.
        if offset > 0 {
            self.1.pass()?;
        }
        self.0.write_at(bytes, offset)
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.preallocate(from, to)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.0.fdatasync()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Disk for Gated {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.0.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.0.create(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.fsync_dir(path)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.0.mode(path)
    }

    fn allows_background(&self) -> bool {
        true
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock(path)
    }
}

/// The committing thread looks at the clock once for each group it begins to judge.
#[derive(Debug)]
struct Watched(Arc<ManualClock>, Arc<Gate>);

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.1.change(|state| state.looks += 1);
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

type Answer = Result<Outcome, StoreError>;

/// A commit that waits in the queue; the caller does not wait for it yet.
fn queued(store: &Store, commit: Commit) -> Pin<Box<dyn Future<Output = Answer> + '_>> {
    let mut future = Box::pin(store.commit(commit));
    let answer = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(answer.is_pending(), "answered before it was written");
    future
}

fn changed(id: u64, text: &str, expect: Expect) -> Commit {
    Commit {
        writes: vec![Write::put(&note(id, 1, text)).expecting(expect)],
        ..Commit::default()
    }
}

/// A group is held on its way to the disk while another is judged over it; then the write of the
/// first ends like `end`. Returns what became of a commit of the first group and of the second.
fn held(end: Result<(), io::ErrorKind>) -> [Answer; 2] {
    let gate = Arc::new(Gate::default());
    let sim = SimDisk::new(1);
    let options = || Options {
        disk: Arc::new(Gated(sim.clone(), Arc::clone(&gate))),
        clock: Arc::new(Watched(clock(), Arc::clone(&gate))),
        index: IndexKind::Memory,
        segment_bytes: 1 << 20,
        preallocate_bytes: 4 << 10,
        ..Options::default()
    };
    let (store, _) = Store::open(&dir(), schema(), options()).unwrap();
    let before = sequence(wait(store.commit(put(&[note(2, 1, "before")]))).unwrap());
    gate.change(|state| state.shut = true);
    // One alone, which the committing thread itself writes and is held by; two more gather.
    let alone = queued(&store, put(&[note(4, 1, "alone")]));
    gate.until(|state| state.waiting == 1);
    let looks = gate.change(|state| state.looks);
    let one = queued(&store, changed(2, "first", Expect::Version(before)));
    let beside = queued(&store, audit("beside it"));
    gate.change(|state| state.passes.push(Ok(())));
    assert!(wait(alone).is_ok());
    gate.until(|state| state.looks > looks && state.waiting == 1);
    // The group is held now. Judged over it: the row as the group leaves it.
    let looks = gate.change(|state| state.looks);
    let place = store.last_sequence().next();
    let next = queued(&store, changed(2, "second", Expect::Version(place)));
    gate.until(|state| state.looks > looks);
    gate.change(|state| {
        state.passes.push(end);
        state.shut = false;
    });
    assert_eq!(wait(beside).is_ok(), end.is_ok());
    let results = [wait(one), wait(next)];
    // Whatever became of them, it goes on, and the next opening finds the same.
    let after = changed(8, "after", Expect::Absent);
    let after = sequence(wait(store.commit(after)).unwrap());
    let rows = |store: &Store| [2, 4, 8].map(|id| store.get::<Note>(&key(id)).unwrap());
    let found = rows(&store);
    assert_eq!(found[2].as_ref().unwrap().version, after);
    drop(store);
    sim.power_cycle();
    let (store, _) = open_sim(&sim).unwrap();
    assert_eq!(rows(&store), found);
    assert_eq!(store.last_sequence(), after.next(), "the mark of a close");
    let text = |place: usize| found[place].as_ref().unwrap().row.text.as_str();
    let expected = if results[1].is_ok() {
        "second"
    } else {
        "before"
    };
    assert_eq!((text(0), text(1)), (expected, "alone"));
    results
}

#[test]
fn a_group_is_judged_over_one_that_is_on_its_way() {
    let [one, next] = held(Ok(()));
    assert_eq!(
        sequence(next.unwrap()),
        sequence(one.unwrap()).next().next()
    );
}

#[test]
fn what_was_judged_over_a_failed_write_fails_with_it() {
    let [one, next] = held(Err(io::ErrorKind::StorageFull));
    let full = |result: Answer| match result {
        Err(StoreError::Io { source, .. }) => source.kind() == io::ErrorKind::StorageFull,
        Ok(_) | Err(_) => false,
    };
    assert!(full(one) && full(next), "both say why");
}
