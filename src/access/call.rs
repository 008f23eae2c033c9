//! One call under way: who, until when, and what the audit will say of it.

use std::pin::Pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::{Outcome, Receipt, Record, Who};

use super::lease::Lease;
use super::{Caller, Denial, Pass};

/// A call, as every service sees it.
#[derive(Debug)]
pub struct Call {
    caller: Caller,
    started: Instant,
    deadline: Instant,
    record: Mutex<Pending>,
    leases: Mutex<Vec<Lease>>,
    /// The hub's leave that came with it, verified.
    pass: OnceLock<Pass>,
    /// Whether a commit under way wrote the event; nothing while it is not known.
    committing: Mutex<Option<watch::Receiver<Option<bool>>>>,
}

#[derive(Debug)]
struct Pending {
    record: Record,
    written: bool,
    receipt: Option<Receipt>,
}

impl Call {
    /// A call by `caller` of `method`, to be answered before `deadline`.
    pub fn new(
        caller: Caller,
        method: &'static str,
        request_id: String,
        deadline: Instant,
    ) -> Self {
        let who = Who {
            institution: caller.participant.code.clone(),
            community: caller.participant.community.clone(),
            subject: caller.person.as_ref().map(|person| person.subject.clone()),
            role: caller.role(),
            purpose: caller.purpose,
            relation: caller.person.as_ref().map(|person| person.relation),
            relay: caller.relay.clone(),
        };
        let record = Record::new(who, method, request_id);
        Self {
            caller,
            started: Instant::now(),
            deadline,
            record: Mutex::new(Pending {
                record,
                written: false,
                receipt: None,
            }),
            leases: Mutex::default(),
            pass: OnceLock::new(),
            committing: Mutex::default(),
        }
    }

    /// A call for one part of this one that is a change of its own, with its own audit event.
    pub fn for_part(&self) -> Self {
        let (method, request_id) = (self.method(), self.request_id());
        Self::new(self.caller.clone(), method, request_id, self.deadline)
    }

    /// It came with the hub's leave, which was verified. The first stands.
    pub fn came_with(&self, pass: Pass) {
        let _first = self.pass.get_or_init(|| pass);
    }

    /// The hub's leave that it came with.
    pub fn pass(&self) -> Option<&Pass> {
        self.pass.get()
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When the answer must be ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left for a call downstream: what remains less max(50 ms, 10 %) (INV-7).
    pub fn downstream_budget(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub((left / 10).max(Duration::from_millis(50)))
    }

    /// The request id, to be passed on downstream.
    pub fn request_id(&self) -> String {
        self.with(|pending| pending.record.request_id.clone())
    }

    /// The full method name.
    pub fn method(&self) -> &'static str {
        self.with(|pending| pending.record.method)
    }

    /// Adds to what the audit will say.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        self.with(|pending| change(&mut pending.record));
    }

    /// Notes the internal reason of a refusal and gives the uniform error for the caller.
    pub fn refuse(&self, denial: Denial) -> crate::error::Error {
        let name = denial.name();
        self.note(|record| record.denial = Some(name));
        crate::error::Error::not_permitted()
    }

    /// The answer of this call rests on `lease` until it has left.
    pub fn rests_on(&self, lease: Lease) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.push(lease);
    }

    /// Whether everything the answer rests on still holds.
    pub fn still_permitted(&self) -> bool {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.iter_mut().all(Lease::holds)
    }

    /// Waits until something that the answer rests on no longer holds; for ever if that never comes.
    pub async fn revoked(&self) {
        let notices: Vec<_> = {
            let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            leases.iter().map(Lease::notices).collect()
        };
        let changed = notices.into_iter().map(|mut notice| {
            let first: Changed = Box::pin(async move {
                let ended = notice.changed().await.is_err();
                (ended, notice)
            });
            first
        });
        let mut waiting: Vec<Changed> = changed.collect();
        while !waiting.is_empty() {
            let (at, (ended, mut notice)) = first_of(&mut waiting).await;
            if !self.still_permitted() {
                return;
            }
            let gone = waiting.swap_remove(at);
            drop(gone);
            if !ended {
                waiting.push(Box::pin(async move {
                    let ended = notice.changed().await.is_err();
                    (ended, notice)
                }));
            }
        }
        std::future::pending::<()>().await;
    }

    /// The audit event of a success, to be written in the same frame as the change it reports.
    pub fn success_event(&self, now: Timestamp) -> Bytes {
        self.with(|pending| pending.record.close(Outcome::Success, now))
    }

    /// Whether the success event is on its way to the disk, so that the door must not write a
    /// second one.
    pub(super) fn set_written(&self, written: bool) {
        self.with(|pending| pending.written = written);
    }

    /// A commit under way says here whether it wrote the event.
    pub(super) fn set_committing(&self, settled: watch::Receiver<Option<bool>>) {
        let mut committing = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *committing = Some(settled);
    }

    /// Waits for the end of a commit whose handler was given up, so that the event is written once: by
    /// the commit, or, if it was refused or a repeat, by the door (bar A-04).
    pub async fn settle(&self) {
        let taken = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut settled) = taken else { return };
        let is_new = settled.wait_for(Option::is_some).await;
        if !is_new.is_ok_and(|is_new| *is_new == Some(true)) {
            self.set_written(false);
        }
    }

    /// The internal reason that was noted.
    pub fn denial(&self) -> Option<&'static str> {
        self.with(|pending| pending.record.denial)
    }

    /// Notes where the audit event is, once it is durable.
    pub fn set_receipt(&self, receipt: Receipt) {
        self.with(|pending| pending.receipt = Some(receipt));
    }

    /// Where the audit event is, once it is durable.
    pub fn receipt(&self) -> Option<Receipt> {
        self.with(|pending| pending.receipt)
    }

    /// The audit event for this end of the call, unless it is durable already.
    pub fn closing_event(&self, outcome: Outcome, now: Timestamp) -> Option<Bytes> {
        self.with(|pending| {
            if pending.written {
                return None;
            }
            pending.written = true;
            Some(pending.record.close(outcome, now))
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Pending) -> T) -> T {
        f(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits for the next change of one lease: whether it was the last, and the receiver for the next.
type Changed = Pin<Box<dyn Future<Output = (bool, watch::Receiver<u64>)> + Send>>;

/// The first of some futures that is ready, with its place.
async fn first_of(waiting: &mut [Changed]) -> (usize, (bool, watch::Receiver<u64>)) {
    std::future::poll_fn(|context| {
        for (at, one) in waiting.iter_mut().enumerate() {
            if let Poll::Ready(ready) = one.as_mut().poll(context) {
                return Poll::Ready((at, ready));
            }
        }
        Poll::Pending
    })
    .await
}
