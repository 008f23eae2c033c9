//! The one thread that commits: it gathers what is waiting, judges preconditions, and appends one
//! group to the ledger. What is durable goes to the [`Finisher`], which applies and answers while
//! the next group is on its way to the disk. A commit that has reached this thread completes
//! whether or not its caller still waits.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::blobs::BlobId;
use super::clock_watch::ClockWatch;
use super::commit::{AppliedWrite, Commit, Outcome, Sequence};
use super::core::Core;
use super::error::StoreError;
use super::finisher::{Change, Finisher, Group, Settled};
use super::keys::{SubjectKey, Tag};
use super::keywork::{KeyDone, KeyWork};
use super::ledger::format::FrameKind;
use super::ledger::{Ledger, NewFrame};
use super::overlay::{InFlight, Overlay, Written};
use super::prepare::{Prepared, prepare};
use super::projection::Mutation;
use super::subjects::Subjects;
use crate::planted::planted;

/// How a group of commits is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
    pub(crate) wait: Duration,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the committing thread is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// Commit a change. The permit is its share of the queue.
    Commit(Waiting),
    /// Make sure that a patient has a key, and give it.
    Subject(Tag, Reply<SubjectKey>),
    /// Change the keys.
    Keys(KeyWork, mpsc::Sender<Result<KeyDone, StoreError>>),
    /// Empty the index and make it again.
    Rebuild(Reply<u64>),
    /// Move these documents into quarantine, but those that are needed; answer which were moved.
    Sweep(Vec<BlobId>, Reply<Vec<BlobId>>),
    /// Close the store.
    Close(Reply<()>),
}

/// A commit and who waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) commit: Commit,
    /// `None` for the store's own.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) reply: Reply<Outcome>,
}

/// A commit that passed its preconditions.
struct Ready {
    reply: Reply<Outcome>,
    writes: Vec<AppliedWrite>,
    mutations: Vec<Mutation>,
    permit: Option<OwnedSemaphorePermit>,
}

/// The state of the committing thread.
pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) ledger: Ledger,
    pub(crate) limits: GroupLimits,
    pub(crate) requests: Receiver<Request>,
    pub(crate) subjects: Subjects,
    /// The store's folder.
    pub(crate) dir: PathBuf,
    /// Keeps other processes out until the store is closed.
    pub(crate) lock: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) finisher: Finisher,
    pub(crate) in_flight: InFlight,
    pub(crate) last_groups: [usize; 2],
    pub(crate) last_sync: Duration,
    pub(crate) watch: ClockWatch,
}

/// What ends the loop.
enum Gathered {
    Group(Vec<Waiting>, Option<Request>),
    Other(Request),
    Gone,
}

impl Committer {
    /// Serves requests until the store is closed or dropped.
    pub(crate) fn run(mut self) {
        loop {
            let other = match self.gather() {
                Gathered::Group(group, other) => {
                    self.commit_group(group);
                    other
                }
                Gathered::Other(request) => Some(request),
                Gathered::Gone => return self.closed_by_drop(),
            };
            match other {
                None | Some(Request::Commit(_)) => {}
                Some(Request::Subject(subject, reply)) => {
                    self.settle();
                    answer(reply, self.subject(subject));
                }
                Some(Request::Keys(work, reply)) => {
                    self.settle();
                    let _asker_waits = reply.send(self.change_keys(work)).is_ok();
                }
                Some(Request::Rebuild(reply)) => answer(reply, self.rebuild()),
                Some(Request::Sweep(ids, reply)) => {
                    self.settle();
                    answer(reply, self.sweep(&ids));
                }
                Some(Request::Close(reply)) => {
                    let result = self.finish();
                    answer(reply, result);
                    return self.refuse_rest();
                }
            }
        }
    }

    fn closed_by_drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "the store was not closed in order");
        }
    }

    /// Waits for a commit, then takes what else is there. While several callers are active it
    /// waits for as many as the last two groups had on average, half a sync at most: so one half
    /// of the callers is answered while the other is written.
    fn gather(&mut self) -> Gathered {
        let first = match self.requests.recv() {
            Ok(Request::Commit(waiting)) => waiting,
            Ok(other) => return Gathered::Other(other),
            Err(_) => return Gathered::Gone,
        };
        let pause = self.limits.wait.min(self.last_sync / 2);
        let arrived = Instant::now();
        let target = self.last_groups.iter().sum::<usize>().div_ceil(2);
        let mut bytes = first.commit.size();
        let mut group = vec![first];
        while group.len() < self.limits.commits && bytes < self.limits.bytes {
            let next = match self.requests.try_recv() {
                Ok(request) => request,
                // Yielding, not waiting: a sleeping thread would be woken by a system call of the
                // sender's, and a timer is coarser than the whole wait.
                Err(TryRecvError::Empty) if group.len() < target && arrived.elapsed() < pause => {
                    std::thread::yield_now();
                    continue;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
            match next {
                Request::Commit(waiting) => {
                    bytes += waiting.commit.size();
                    group.push(waiting);
                }
                other => return Gathered::Group(group, Some(other)),
            }
        }
        self.last_groups = [group.len(), self.last_groups[0]];
        Gathered::Group(group, None)
    }

    /// Commits a change of the store's own, apart from others; on success it is applied.
    pub(crate) fn commit_own(&mut self, commit: Commit) -> Result<Sequence, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.commit_group(vec![Waiting {
            commit,
            permit: None,
            reply,
        }]);
        self.settle();
        match answer.try_recv() {
            Ok(Ok(Outcome::Committed { sequence, .. })) => Ok(sequence),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Outcome::Replayed { .. })) | Err(_) => Err(StoreError::Poisoned),
        }
    }

    /// Stops the store: nothing more is acknowledged until it is opened again.
    pub(crate) fn poison(&mut self) {
        self.ledger.poison();
    }

    fn commit_group(&mut self, group: Vec<Waiting>) {
        let core = Arc::clone(&self.core);
        self.watch_clock();
        let now = core.clock.now();
        let utc = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        self.in_flight.forget(core.index.applied());
        let mut overlay = Overlay::over(&core.index, &self.in_flight);
        let (mut ready, mut frames, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        for Waiting {
            commit,
            permit,
            reply,
        } in group
        {
            let sequence = Sequence(self.ledger.next().0 + frames.len() as u64);
            let subjects = &mut self.subjects;
            let now = now.as_second();
            match prepare(&core, commit, sequence, now, &mut overlay, subjects) {
                Ok(Prepared::Frame {
                    writes,
                    mutations,
                    kind,
                    payload,
                }) => {
                    frames.push(NewFrame {
                        kind,
                        utc_nanoseconds: utc,
                        payload,
                    });
                    ready.push(Ready {
                        reply,
                        writes,
                        mutations,
                        permit,
                    });
                }
                Ok(Prepared::Replay(receipt)) => {
                    settled.push(Settled::new(
                        reply,
                        Ok(Outcome::Replayed { receipt }),
                        permit,
                    ));
                }
                Err(error) => settled.push(Settled::new(reply, Err(error), permit)),
            }
        }
        let written = overlay.written();
        self.write_group(ready, &frames, settled, written);
    }

    fn watch_clock(&mut self) {
        if let Some(jump) = self.watch.jump(self.core.clock.as_ref())
            && !planted("clock jump not noticed")
        {
            tracing::error!(seconds = jump.as_secs_f64(), "the wall clock has jumped");
            self.core
                .counters
                .clock_jumps
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Appends the frames and hands the group on.
    fn write_group(
        &mut self,
        ready: Vec<Ready>,
        frames: &[NewFrame],
        mut settled: Vec<Settled>,
        written: Written,
    ) {
        let first = self.ledger.next();
        let started = Instant::now();
        let appended = self.ledger.append(frames);
        if !frames.is_empty() {
            self.last_sync = started.elapsed();
            self.core.counters.load.synced(self.last_sync);
            self.core.counters.batches.fetch_add(1, Ordering::Relaxed);
            self.core
                .counters
                .ledger_bytes
                .store(self.ledger.bytes_written(), Ordering::Relaxed);
        }
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
        let last = Sequence(self.ledger.next().0.saturating_sub(1));
        if !changes.is_empty() {
            self.in_flight.add(last, written);
        }
        self.finisher.hand_over(Group {
            last,
            changes,
            settled,
        });
        if appended.error.is_some() {
            // A part of what was written over the index may not have become durable.
            self.finisher.wait();
            self.in_flight.clear();
            // Keys made in frames that are not there must not be used.
            self.subjects.forget();
        }
    }

    fn rebuild(&mut self) -> Result<u64, StoreError> {
        self.settle();
        if self.ledger.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let result = self.core.rebuild();
        if result.is_err() {
            self.poison();
        }
        result
    }

    /// No commit is under way here, and all before are in the index: what no row refers to now and
    /// no upload holds is needed by nobody.
    fn sweep(&mut self, ids: &[BlobId]) -> Result<Vec<BlobId>, StoreError> {
        if self.ledger.is_poisoned() {
            // A frame whose fate is unknown may refer to any of them.
            return Err(StoreError::Poisoned);
        }
        self.core.sweep(ids)
    }

    /// Marks the ledger and the index as closed in order, and lets go of the lock.
    fn finish(&mut self) -> Result<(), StoreError> {
        let result = self.finish_files();
        self.lock = None;
        result
    }

    /// Waits until everything durable is applied.
    fn settle(&mut self) {
        self.finisher.wait();
        self.in_flight.clear();
    }

    fn finish_files(&mut self) -> Result<(), StoreError> {
        self.settle();
        if self.ledger.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        if self.ledger.has_written() {
            let now = self.core.clock.now().as_nanosecond();
            let frame = NewFrame {
                kind: FrameKind::Close,
                utc_nanoseconds: i64::try_from(now).unwrap_or(i64::MAX),
                payload: Vec::new(),
            };
            if let Some(error) = self.ledger.append(&[frame]).error {
                return Err(error);
            }
            self.ledger.note_end()?;
        }
        self.core
            .index
            .close(Sequence(self.ledger.next().0.saturating_sub(1)))
    }

    fn refuse_rest(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Commit(waiting) => answer(waiting.reply, Err(StoreError::Closed)),
                Request::Subject(_, reply) => answer(reply, Err(StoreError::Closed)),
                Request::Keys(_, reply) => {
                    let _asker_waits = reply.send(Err(StoreError::Closed)).is_ok();
                }
                Request::Rebuild(reply) => answer(reply, Err(StoreError::Closed)),
                Request::Sweep(_, reply) => answer(reply, Err(StoreError::Closed)),
                Request::Close(reply) => answer(reply, Ok(())),
            }
        }
    }
}

/// Answers, if the caller is still there.
pub(crate) fn answer<T>(reply: Reply<T>, result: Result<T, StoreError>) {
    let _caller_is_there = reply.send(result).is_ok();
}
