//! The thread between the judging and the finishing one: it encrypts groups, writes them to the
//! ledger and makes them durable, while the committing thread judges the next group over what is on
//! its way.
//!
//! Groups are written one after another: a write starts only when the one before it is durable, as
//! the ledger's format demands. If one fails, the group judged over it is refused with it, since its
//! preconditions rest on rows that are not there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::commit::{AppliedWrite, Outcome, Sequence};
use super::committer::Reply;
use super::core::Core;
use super::error::{IoContext as _, StoreError};
use super::finisher::{Change, Finisher, Group, Settled};
use super::health::StopsOnPanic;
use super::ledger::{Appended, Ledger, NewFrame};
use super::projection::Mutation;
use crate::planted::planted;

/// A commit that passed its preconditions; its frame has the same place in the group.
pub(crate) struct Ready {
    pub(crate) reply: Reply<Outcome>,
    pub(crate) writes: Vec<AppliedWrite>,
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Commits that were judged together.
pub(crate) struct Judged {
    /// [`Writer::failures`] as it was before the first was judged.
    pub(crate) failures: u64,
    pub(crate) frames: Vec<NewFrame>,
    pub(crate) ready: Vec<Ready>,
    /// Those that are answered without a frame, once the frames of the group are durable.
    pub(crate) settled: Vec<Settled>,
}

enum Task {
    Write(Judged),
    /// Answered when everything before it is with the finisher.
    Mark(mpsc::Sender<()>),
}

/// The committing thread's hold on the writing one.
pub(crate) struct Writer {
    work: Arc<Work>,
    /// Absent where only one thread may use the disk.
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
    handed_over: u64,
}

struct Work {
    core: Arc<Core>,
    ledger: Mutex<Ledger>,
    finisher: Finisher,
    failures: AtomicU64,
    /// What the last failure was.
    failure: Mutex<StoreError>,
    /// Groups handed over to the thread that are with the finisher.
    written: AtomicU64,
    last_sync_nanoseconds: AtomicU64,
}

impl Writer {
    /// Starts the thread, and the finishing one.
    pub(crate) fn start(core: &Arc<Core>, ledger: Ledger) -> Result<Self, StoreError> {
        let work = Arc::new(Work {
            core: Arc::clone(core),
            ledger: Mutex::new(ledger),
            finisher: Finisher::start(Arc::clone(core))?,
            failures: AtomicU64::new(0),
            failure: Mutex::new(StoreError::Poisoned),
            written: AtomicU64::new(0),
            last_sync_nanoseconds: AtomicU64::new(0),
        });
        let (mut tasks, mut thread) = (None, None);
        if core.ledger.disk.allows_background() {
            // Without room: a group waits with the committing thread, so a later one is larger.
            let (sender, receiver) = mpsc::sync_channel(0);
            let working = Arc::clone(&work);
            let started = std::thread::Builder::new()
                .name("store-write".to_owned())
                .spawn(move || working.run(&receiver))
                .during("starting the writing thread")?;
            (tasks, thread) = (Some(sender), Some(started));
        }
        Ok(Self {
            work,
            tasks,
            thread,
            handed_over: 0,
        })
    }

    /// The ledger. Waits for a write that is under way.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.work.ledger()
    }

    /// How many writes have failed. A change means that what was judged is to be judged anew.
    pub(crate) fn failures(&self) -> u64 {
        self.work.failures.load(Ordering::Acquire)
    }

    /// How long the last write took, with its sync.
    pub(crate) fn last_sync(&self) -> Duration {
        Duration::from_nanos(self.work.last_sync_nanoseconds.load(Ordering::Relaxed))
    }

    /// Has a group written, finished and answered. Waits until the group before it is written.
    pub(crate) fn write(&mut self, judged: Judged) {
        let idle = self.work.written.load(Ordering::Acquire) == self.handed_over;
        // One commit alone leaves nothing to do meanwhile, and to wake a thread costs.
        let alone = idle && judged.frames.len() < 2;
        match &self.tasks {
            Some(tasks) if !alone => {
                self.handed_over += 1;
                // If the thread is gone, callers are told by their dropped channels that the fate of
                // their change is unknown.
                let _taken = tasks.send(Task::Write(judged)).is_ok();
            }
            Some(_) | None => self.work.write(judged),
        }
    }

    /// Waits until everything handed over is written, applied and answered.
    pub(crate) fn wait(&self) {
        let (done, waiting) = mpsc::channel();
        if let Some(tasks) = &self.tasks
            && tasks.send(Task::Mark(done)).is_ok()
        {
            let _ended = waiting.recv().is_ok();
        }
        self.work.finisher.wait();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ended_well = thread.join().is_ok();
        }
    }
}

impl Work {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, tasks: &Receiver<Task>) {
        let _stops = StopsOnPanic(self.core.health.clone());
        for task in tasks {
            match task {
                Task::Write(judged) => {
                    self.write(judged);
                    self.written.fetch_add(1, Ordering::Release);
                }
                Task::Mark(done) => {
                    let _still_waiting = done.send(()).is_ok();
                }
            }
        }
    }

    /// Appends the frames and hands the group on.
    fn write(&self, judged: Judged) {
        let Judged {
            failures,
            frames,
            ready,
            mut settled,
        } = judged;
        let mut ledger = self.ledger();
        let first = ledger.next();
        let appended = match failures == self.failures.load(Ordering::Acquire)
            || planted("judged over a failed write and written")
        {
            true => self.append(&mut ledger, &frames),
            false => Appended {
                hashes: Vec::new(),
                error: Some(self.failure().clone()),
            },
        };
        let last = Sequence(ledger.next().0.saturating_sub(1));
        drop(ledger);
        if let Some(error) = &appended.error {
            // These were judged against rows of this very group, so they share its fate.
            for one in &mut settled {
                one.result = Err(error.clone());
            }
        }
        let mut changes = Vec::new();
        for (place, item) in ready.into_iter().enumerate() {
            let sequence = Sequence(first.0 + place as u64);
            let Some(&hash) = appended.hashes.get(place) else {
                let error = appended.error.clone().unwrap_or(StoreError::Poisoned);
                settled.push(Settled::new(item.reply, Err(error), item.permit));
                continue;
            };
            if item.writes.is_empty() {
                // Nothing to apply: an audit record waits for the disk only.
                let result = Ok(Outcome::Committed { sequence, hash });
                settled.push(Settled::new(item.reply, result, item.permit));
            } else {
                changes.push(Change {
                    sequence,
                    hash,
                    writes: item.writes,
                    mutations: item.mutations,
                    reply: item.reply,
                    permit: item.permit,
                });
            }
        }
        self.finisher.hand_over(Group {
            last,
            changes,
            settled,
        });
    }

    /// Appends, measures, and counts a failure.
    fn append(&self, ledger: &mut Ledger, frames: &[NewFrame]) -> Appended {
        if frames.is_empty() {
            return ledger.append(frames);
        }
        let started = Instant::now();
        let appended = ledger.append(frames);
        let took = started.elapsed();
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.last_sync_nanoseconds
            .store(nanoseconds, Ordering::Relaxed);
        let counters = &self.core.counters;
        counters.load.synced(took);
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters
            .ledger_bytes
            .store(ledger.bytes_written(), Ordering::Relaxed);
        if let Some(error) = &appended.error {
            self.core.room.met(error);
            *self.failure() = error.clone();
            self.failures.fetch_add(1, Ordering::Release);
        }
        appended
    }

    fn failure(&self) -> MutexGuard<'_, StoreError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
