//! The thread behind the committing one: it applies what is durable to the index, tells followers,
//! and answers, while the next group is on its way to the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use tokio::sync::OwnedSemaphorePermit;

use super::commit::{AppliedWrite, Outcome, Sequence};
use super::committer::{Reply, answer};
use super::core::Core;
use super::error::{IoContext as _, StoreError};
use super::health::StopsOnPanic;
use super::projection::Mutation;

/// Audit-only frames after which the index notes how far it is, so that the next opening does not
/// have to read them all.
const NOTE_EVERY: u64 = 20_000;
/// Groups that wait while one is applied (INV-7).
const WAITING_GROUPS: usize = 1;

/// A durable frame with rows.
pub(crate) struct Change {
    pub(crate) sequence: Sequence,
    pub(crate) hash: [u8; 32],
    pub(crate) writes: Vec<AppliedWrite>,
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) reply: Reply<Outcome>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// A commit whose answer no index change is needed for.
pub(crate) struct Settled {
    pub(crate) result: Result<Outcome, StoreError>,
    reply: Reply<Outcome>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Settled {
    pub(crate) fn new(
        reply: Reply<Outcome>,
        result: Result<Outcome, StoreError>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            result,
            reply,
            _permit: permit,
        }
    }
}

/// What came of one group: durable changes, and answers.
pub(crate) struct Group {
    /// The last durable frame, in this group or before it.
    pub(crate) last: Sequence,
    pub(crate) changes: Vec<Change>,
    pub(crate) settled: Vec<Settled>,
}

enum Task {
    Finish(Group),
    /// Answered when everything before it is done.
    Mark(mpsc::Sender<()>),
}

/// The committing thread's hold on the finishing one.
pub(crate) struct Finisher {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Finisher {
    /// Starts the thread.
    pub(crate) fn start(core: Arc<Core>) -> Result<Self, StoreError> {
        let (tasks, receiver) = mpsc::sync_channel(WAITING_GROUPS);
        let thread = std::thread::Builder::new()
            .name("store-finish".to_owned())
            .spawn(move || run(&core, &receiver))
            .during("starting the finishing thread")?;
        Ok(Self {
            tasks: Some(tasks),
            thread: Some(thread),
        })
    }

    /// Hands a group over; waits while another waits already. If the thread is gone the callers
    /// are told by their dropped channels that the fate of their change is unknown.
    pub(crate) fn hand_over(&self, group: Group) {
        if let Some(tasks) = &self.tasks {
            let _taken = tasks.send(Task::Finish(group)).is_ok();
        }
    }

    /// Waits until everything handed over is applied and answered.
    pub(crate) fn wait(&self) {
        let (done, waiting) = mpsc::channel();
        if let Some(tasks) = &self.tasks
            && tasks.send(Task::Mark(done)).is_ok()
        {
            let _ended = waiting.recv().is_ok();
        }
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ended_well = thread.join().is_ok();
        }
    }
}

fn run(core: &Core, tasks: &Receiver<Task>) {
    let _stops = StopsOnPanic(core.health.clone());
    // Set once the index refused a group: what comes after must not get into it either.
    let mut gap = false;
    for task in tasks {
        match task {
            Task::Finish(group) => finish(core, group, &mut gap),
            Task::Mark(done) => {
                let _still_waiting = done.send(()).is_ok();
            }
        }
    }
}

fn finish(core: &Core, group: Group, gap: &mut bool) {
    let Group {
        last,
        changes,
        settled,
    } = group;
    apply(core, last, changes, gap);
    for Settled { result, reply, .. } in settled {
        settle(core, reply, result);
    }
}

fn apply(core: &Core, last: Sequence, mut changes: Vec<Change>, gap: &mut bool) {
    let behind = last.0.saturating_sub(core.index.applied().0);
    if changes.is_empty() && behind < NOTE_EVERY {
        return;
    }
    let mutations: Vec<Mutation> = changes
        .iter_mut()
        .flat_map(|change| std::mem::take(&mut change.mutations))
        .collect();
    let count = mutations.len() as u64;
    let applied = match *gap {
        true => Err(StoreError::Poisoned),
        false => core.index.apply(mutations, last),
    };
    if let Err(error) = applied {
        // The ledger has the change; the index gets it at the next opening.
        tracing::error!(%error, "the index refused a change; the store stops");
        *gap = true;
        core.health.stop();
        for change in changes {
            settle(core, change.reply, Err(StoreError::Poisoned));
        }
        return;
    }
    core.counters.mutations.fetch_add(count, Ordering::Relaxed);
    let followers = core.followers();
    for Change {
        sequence,
        hash,
        writes,
        reply,
        permit,
        ..
    } in changes
    {
        for follower in &followers {
            follower.applied(sequence, &writes);
        }
        drop(permit);
        settle(core, reply, Ok(Outcome::Committed { sequence, hash }));
    }
}

/// Answers a commit. What became durable while a sync of something else failed is not
/// acknowledged: its fate is certain only after the next opening.
fn settle(core: &Core, reply: Reply<Outcome>, result: Result<Outcome, StoreError>) {
    let result = result.and_then(|outcome| core.health.check().map(|()| outcome));
    core.counters.settled(result.is_ok());
    answer(reply, result);
}
