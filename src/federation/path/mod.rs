//! The call path to one region: bounded queue, adaptive concurrency, breaker, time for each try,
//! one retry within a budget, and a second try of what takes unusually long.
//!
//! Source: the availability rules in `ARCHITECTURE.md` ("Asking a region"). Everything that decides
//! is pure and takes the time as an argument; this file joins it to the calls.

mod breaker;
mod budget;
mod latency;
mod limit;
mod recent;
mod run;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::access::Call;
use crate::types::{HomeCommunityId, PurposeOfUse};
use breaker::{Admission, Breaker};
use budget::Budget;
use latency::Latency;
use limit::Limit;
use recent::Recent;

/// Calls that may wait for one region, and as many emergencies before them (INV-7).
const QUEUE: usize = 64;
/// How long one waits there before it is given up.
const QUEUE_TIME: Duration = Duration::from_secs(1);
/// Retries, as a share of the calls: to one region, and over all.
const RETRIES_OF_REGION: f64 = 0.2;
const RETRIES_OVERALL: f64 = 0.1;
/// Second tries of slow calls, as a share of the calls over all.
const HEDGES: f64 = 0.05;

/// A source of numbers in 0..1 that spreads what would otherwise happen at once.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The call paths to all regions.
pub struct Paths {
    shared: Arc<Shared>,
    paths: Mutex<HashMap<HomeCommunityId, Arc<Path>>>,
}

impl std::fmt::Debug for Paths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Paths")
    }
}

struct Shared {
    started: Instant,
    jitter: Jitter,
    retries: Mutex<Budget>,
    hedges: Mutex<Budget>,
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// How a call path is at the moment, for operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Calls are refused without trying.
    pub open: bool,
    /// A call is under way that decides whether it is still so.
    pub probing: bool,
    /// Calls that may be under way at once.
    pub limit: u32,
    /// Calls under way or waiting.
    pub in_flight: u32,
    /// Half of the last good answers were faster, of the slowest kind.
    pub p50: Option<Duration>,
    /// 99 % of the last good answers were faster, of the slowest kind.
    pub p99: Option<Duration>,
    /// How long ago a call was last answered.
    pub answered: Option<Duration>,
    /// Calls of the last five minutes that ended, and those of them that failed.
    pub recent: (u64, u64),
}

impl Paths {
    /// No calls yet.
    pub fn new(jitter: Jitter) -> Self {
        Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                jitter,
                retries: Mutex::new(Budget::new(RETRIES_OVERALL)),
                hedges: Mutex::new(Budget::new(HEDGES)),
            }),
            paths: Mutex::default(),
        }
    }

    /// The path to a community of the directory.
    pub fn to(&self, home: &HomeCommunityId) -> Arc<Path> {
        let mut paths = lock(&self.paths);
        if let Some(path) = paths.get(home) {
            return Arc::clone(path);
        }
        let path = Arc::new(Path {
            shared: Arc::clone(&self.shared),
            state: Mutex::new(State::new()),
        });
        paths.insert(home.clone(), Arc::clone(&path));
        path
    }

    /// How the path to a community is.
    pub fn view(&self, home: &HomeCommunityId) -> View {
        let Some(path) = lock(&self.paths).get(home).cloned() else {
            return View::default();
        };
        let state = path.state();
        let waiting = state.urgent.len() + state.waiting.len();
        let now = self.shared.now();
        View {
            open: state.breaker.is_open(now),
            probing: state.breaker.is_probing(),
            answered: state.recent.answered(now),
            recent: state.recent.counts(now),
            limit: state.limit.calls(),
            in_flight: state.in_flight + u32::try_from(waiting).unwrap_or(u32::MAX),
            p50: state.slowest(50),
            p99: state.slowest(99),
        }
    }
}

/// The call path to one region.
pub struct Path {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Path")
    }
}

struct State {
    breaker: Breaker,
    limit: Limit,
    latency: [Latency; Kind::COUNT],
    retries: Budget,
    recent: Recent,
    in_flight: u32,
    /// Emergencies, which go before all others (bar F-18).
    urgent: Waiting,
    waiting: Waiting,
}

/// Those who wait for a place, in turn.
type Waiting = VecDeque<oneshot::Sender<Slot>>;

impl State {
    fn new() -> Self {
        Self {
            breaker: Breaker::default(),
            limit: Limit::default(),
            latency: Default::default(),
            retries: Budget::new(RETRIES_OF_REGION),
            recent: Recent::default(),
            in_flight: 0,
            urgent: Waiting::new(),
            waiting: Waiting::new(),
        }
    }
}

impl State {
    /// The time that so many percent of the answers of the slowest kind stayed below.
    fn slowest(&self, percent: usize) -> Option<Duration> {
        let kinds = self.latency.iter();
        kinds.filter_map(|kind| kind.percentile(percent)).max()
    }

    /// Those who wait with such a call.
    fn queue(&mut self, order: Order) -> &mut Waiting {
        match order.urgent {
            true => &mut self.urgent,
            false => &mut self.waiting,
        }
    }

    /// Whether such a call would overtake one that waits.
    fn would_overtake(&self, order: Order) -> bool {
        !self.urgent.is_empty() || !order.urgent && !self.waiting.is_empty()
    }

    fn usual(&self, kind: Kind) -> Option<Duration> {
        self.latency.get(kind as usize)?.percentile(95)
    }
}

/// What a region is asked. Kinds differ in how long they take, and are compared with themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Documents of a patient. May be asked twice.
    Find,
    /// Summary items. May be asked twice.
    Summary,
    /// Documents themselves: the beginning of their stream. Never asked twice at once, for each
    /// is a disclosure.
    Retrieve,
    /// Whether it knows a patient. May be asked twice.
    Discover,
}

impl Kind {
    const COUNT: usize = 4;

    /// Whether a second try may go out beside the first.
    fn may_be_hedged(self) -> bool {
        self != Self::Retrieve
    }
}

/// What a region is asked, and in which turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub kind: Kind,
    /// Whether it goes before what else waits for the region.
    pub urgent: bool,
}

impl Order {
    /// Asks in the turn of whoever calls: those who act in an emergency go first, and so do summaries,
    /// which are for emergencies.
    pub fn of(kind: Kind, call: &Call) -> Self {
        let urgent = call.caller().purpose == PurposeOfUse::Emergency;
        Self {
            urgent: urgent || Self::from(kind).urgent,
            kind,
        }
    }
}

impl From<Kind> for Order {
    fn from(kind: Kind) -> Self {
        let urgent = kind == Kind::Summary;
        Self { kind, urgent }
    }
}

/// Why a call was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The breaker is open.
    Open,
    /// Too many calls to this region wait already, or this one has waited too long.
    Busy,
}

/// How a try ended, as far as the path is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Answered, with an answer.
    Good,
    /// Answered with a refusal, or that the caller is wrong: the region works.
    Refused,
    /// It has too much to do.
    Overloaded,
    /// It did not answer in time.
    Late,
    /// It does not work.
    Bad,
}

/// A place among the calls under way.
struct Slot(Arc<Path>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.wake();
    }
}

/// A try under way. Dropped without an end, it says nothing about the region.
struct Ticket {
    slot: Slot,
    kind: Kind,
    probe: bool,
    ended: bool,
    sent: Duration,
}

impl Ticket {
    fn end(mut self, ended: Ended) {
        self.ended = true;
        let path = &self.slot.0;
        let (now, jitter) = (path.shared.now(), (path.shared.jitter)());
        let took = now.saturating_sub(self.sent);
        let mut state = path.state();
        let good = !matches!(ended, Ended::Bad | Ended::Late);
        state.breaker.record(now, good, self.probe, jitter);
        let answered = matches!(ended, Ended::Good | Ended::Refused);
        state.recent.note(now, answered);
        match ended {
            Ended::Good => {
                let in_flight = state.in_flight;
                if let Some(latency) = state.latency.get_mut(self.kind as usize) {
                    latency.note(took);
                }
                state.limit.answered(self.kind, now, took, in_flight);
            }
            Ended::Overloaded | Ended::Late => state.limit.overloaded(self.kind, now),
            Ended::Refused | Ended::Bad => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.probe && !self.ended {
            let now = self.slot.0.shared.now();
            self.slot.0.state().breaker.abandon(now);
        }
    }
}

impl Path {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives free places to those who wait.
    fn wake(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            if state.in_flight >= state.limit.calls() {
                return;
            }
            let urgent = state.urgent.pop_front();
            let Some(waiting) = urgent.or_else(|| state.waiting.pop_front()) else {
                return;
            };
            state.in_flight += 1;
            drop(state);
            // If nobody waits any more the slot comes back and is dropped, which wakes the next.
            let _taken = waiting.send(Slot(Arc::clone(self))).is_ok();
        }
    }

    /// A place, if one is free and nobody waits whom this call may not overtake.
    fn free_slot(self: &Arc<Self>, order: Order) -> Option<Slot> {
        let mut state = self.state();
        if state.in_flight >= state.limit.calls() || state.would_overtake(order) {
            return None;
        }
        state.in_flight += 1;
        drop(state);
        Some(Slot(Arc::clone(self)))
    }

    /// A place, waited for in turn.
    async fn slot(self: &Arc<Self>, order: Order, until: Instant) -> Result<Slot, NotSent> {
        if let Some(slot) = self.free_slot(order) {
            return Ok(slot);
        }
        let receiver = {
            let mut state = self.state();
            let queue = state.queue(order);
            queue.retain(|waiting| !waiting.is_closed());
            if queue.len() >= QUEUE {
                return Err(NotSent::Busy);
            }
            let (sender, receiver) = oneshot::channel();
            queue.push_back(sender);
            receiver
        };
        // A place may have come free between the two locks.
        self.wake();
        let until = until.min(Instant::now() + QUEUE_TIME);
        match tokio::time::timeout_at(until, receiver).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(NotSent::Busy),
        }
    }

    /// Lets a try out, if the breaker does.
    fn admit(&self, kind: Kind, slot: Slot) -> Result<Ticket, NotSent> {
        let now = self.shared.now();
        let admission = self.state().breaker.admit(now);
        match admission {
            Admission::Refused => Err(NotSent::Open),
            Admission::Pass | Admission::Probe => Ok(Ticket {
                slot,
                kind,
                probe: admission == Admission::Probe,
                ended: false,
                sent: now,
            }),
        }
    }

    fn is_open(&self) -> bool {
        let now = self.shared.now();
        self.state().breaker.is_open(now)
    }

    fn offered(&self) {
        self.state().retries.offered();
        lock(&self.shared.retries).offered();
        lock(&self.shared.hedges).offered();
    }

    /// One retry, if region and node have one left.
    fn take_retry(&self) -> bool {
        let mut overall = lock(&self.shared.retries);
        overall.has() && self.state().retries.take() && overall.take()
    }

    fn take_hedge(&self) -> bool {
        lock(&self.shared.hedges).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
