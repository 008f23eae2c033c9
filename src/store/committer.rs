//! The one thread that gives changes their order: it gathers what is waiting and judges
//! preconditions. The [`Writer`] behind it makes groups durable, and a finishing thread behind that
//! one applies and answers, while the next group is judged. A commit that has reached this thread
//! completes whether or not its caller still waits.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::blobs::BlobId;
use super::clock_watch::ClockWatch;
use super::commit::{Commit, Outcome, Sequence};
use super::core::Core;
use super::error::StoreError;
use super::finisher::Settled;
use super::keys::{SubjectKey, Tag};
use super::keywork::{KeyDone, KeyWork};
use super::ledger::NewFrame;
use super::ledger::format::FrameKind;
use super::overlay::{InFlight, Overlay};
use super::prepare::{Prepared, prepare};
use super::room::Room;
use super::subjects::Subjects;
use super::writer::{Judged, Ready, Writer};
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

/// The state of the committing thread.
pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) writer: Writer,
    /// What the next frame is numbered, if every write under way succeeds.
    pub(crate) next: Sequence,
    /// [`Writer::failures`] when that was last known to be so.
    pub(crate) failures: u64,
    pub(crate) limits: GroupLimits,
    pub(crate) requests: Receiver<Request>,
    pub(crate) subjects: Subjects,
    /// The store's folder.
    pub(crate) dir: PathBuf,
    /// Keeps other processes out until the store is closed.
    pub(crate) lock: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) in_flight: InFlight,
    pub(crate) last_groups: [usize; 2],
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
        let pause = self.limits.wait.min(self.writer.last_sync() / 2);
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
            commit: Commit {
                // Small, and what it finishes may be what gives space back.
                emergency: true,
                ..commit
            },
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
        self.core.health.stop();
    }

    /// The commits that may be taken; on a full disk those of emergencies, and the rest is refused.
    fn taken(&self, group: Vec<Waiting>) -> Vec<Waiting> {
        if self.core.room.has_room() || planted("the reserve is everybody's") {
            return group;
        }
        let urgent = |waiting: &Waiting| waiting.commit.emergency;
        let (taken, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(urgent);
        for Waiting { reply, .. } in refused {
            self.core.counters.settled(false);
            answer(reply, Err(Room::refusal()));
        }
        taken
    }

    fn commit_group(&mut self, group: Vec<Waiting>) {
        let group = self.taken(group);
        if group.is_empty() {
            return;
        }
        if self.writer.failures() != self.failures {
            self.settle();
        }
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
            let sequence = Sequence(self.next.0 + frames.len() as u64);
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
        let last = Sequence((self.next.0 + frames.len() as u64).saturating_sub(1));
        self.next = last.next();
        if !written.is_empty() {
            self.in_flight.add(last, written);
        }
        self.writer.write(Judged {
            failures: self.failures,
            frames,
            ready,
            settled,
        });
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

    fn rebuild(&mut self) -> Result<u64, StoreError> {
        self.settle();
        if self.core.health.has_stopped() {
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
        if self.core.health.has_stopped() {
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

    /// Waits until everything handed over is durable and applied, or has failed. What failed leaves
    /// nothing behind here: its numbers are given again, and keys made in its frames are forgotten.
    fn settle(&mut self) {
        self.writer.wait();
        self.in_flight.clear();
        if self.writer.failures() != self.failures {
            self.failures = self.writer.failures();
            self.next = self.writer.ledger().next();
            self.subjects.forget();
        }
    }

    fn finish_files(&mut self) -> Result<(), StoreError> {
        self.settle();
        if self.core.health.has_stopped() {
            return Err(StoreError::Poisoned);
        }
        let mut ledger = self.writer.ledger();
        if ledger.has_written() {
            let now = self.core.clock.now().as_nanosecond();
            let frame = NewFrame {
                kind: FrameKind::Close,
                utc_nanoseconds: i64::try_from(now).unwrap_or(i64::MAX),
                payload: Vec::new(),
            };
            if let Some(error) = ledger.append(&[frame]).error {
                return Err(error);
            }
            ledger.note_end()?;
        }
        self.core
            .index
            .close(Sequence(ledger.next().0.saturating_sub(1)))
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
