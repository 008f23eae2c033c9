//! Admission: how many calls may be under way, by class and by caller (`spec` security-bars §5).
//!
//! Decided before a message is decoded, from the path, the certificate and a few numbers (what is
//! under way, what the ledger can take, what memory is left), so that a refusal costs next to
//! nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::adaptive::Adaptive;
use super::{Counters, LedgerPace, Memory};
use crate::config::Listen;
use crate::types::Holder;

/// What a call is for, as far as capacity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Emergency summary and break-glass: has a share of its own, and may use the rest.
    Emergency,
    /// Identity, lists, documents.
    Interactive,
    /// What nobody waits for: reports, directories, notices.
    Batch,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The node does as much as it may for this class.
    Full,
    /// The caller has as much under way as it may.
    Quota,
    /// The ledger would not keep up.
    Ledger,
    /// Memory is short.
    Memory,
}

/// What the ledger can take at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Commits its queue has room for.
    pub slots: usize,
    /// How it keeps up.
    pub pace: LedgerPace,
}

impl Room {
    /// A ledger that nothing is too much for.
    pub const AMPLE: Self = Self {
        slots: usize::MAX,
        pace: LedgerPace {
            waiting: 0,
            commits: 0,
            waited: Duration::ZERO,
            sync: Duration::ZERO,
        },
    };
}

/// Calls under way.
#[derive(Debug)]
pub struct Admission {
    total: usize,
    ordinary: usize,
    batch: usize,
    per_institution: usize,
    per_gateway: usize,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    adaptive: Adaptive,
    emergency: usize,
    interactive: usize,
    batch: usize,
    /// Those of them that still need the ledger: a stream that is open needs it no more.
    unrecorded: usize,
    unrecorded_ordinary: usize,
    callers: HashMap<Holder, usize>,
}

impl Now {
    /// A call of `class` needs the ledger no more.
    fn recorded(&mut self, class: Class) {
        self.unrecorded = self.unrecorded.saturating_sub(1);
        if class != Class::Emergency {
            self.unrecorded_ordinary = self.unrecorded_ordinary.saturating_sub(1);
        }
    }

    fn class(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Emergency => &mut self.emergency,
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        }
    }
}

/// A call that is under way; over when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    class: Class,
    caller: Holder,
    reached: AtomicBool,
    recorded: AtomicBool,
}

impl Admitted {
    /// Says that what the call leaves in the ledger is there, or that it leaves nothing: it may go on
    /// for long, but not to the burden of the ledger.
    pub fn record(&self) {
        if !self.recorded.swap(true, Ordering::AcqRel) {
            self.admission.lock().recorded(self.class);
        }
    }

    /// Says that a door has taken the call, and with it the duty to audit it.
    pub fn reach(&self) {
        self.reached.store(true, Ordering::Release);
    }

    /// The class it was admitted in.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether a door has taken the call.
    pub fn reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let recorded = *self.recorded.get_mut();
        let mut now = self.admission.lock();
        if !recorded {
            now.recorded(self.class);
        }
        let class = now.class(self.class);
        *class = class.saturating_sub(1);
        if let Some(own) = now.callers.get_mut(&self.caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                now.callers.remove(&self.caller);
            }
        }
    }
}

impl Admission {
    /// Admission within these limits.
    pub fn new(limits: &Listen, counters: Arc<Counters>, memory: Arc<Memory>) -> Arc<Self> {
        let share = |percent: u8| limits.max_in_flight * usize::from(percent.min(100)) / 100;
        let ordinary = limits.max_in_flight - share(limits.emergency_share_percent);
        let bearable = Duration::from_millis(limits.ledger_wait_ms);
        Arc::new(Self {
            total: limits.max_in_flight,
            ordinary,
            batch: share(limits.batch_share_percent).max(1),
            per_institution: limits.max_in_flight_per_institution,
            per_gateway: limits.max_in_flight_per_gateway,
            counters,
            memory,
            now: Mutex::new(Now {
                adaptive: Adaptive::new(limits.min_in_flight, ordinary, bearable),
                emergency: 0,
                interactive: 0,
                batch: 0,
                unrecorded: 0,
                unrecorded_ordinary: 0,
                callers: HashMap::new(),
            }),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one more call of `class` by `caller`.
    ///
    /// Ordinary classes leave the emergency share free, batch keeps to its own share; both give way
    /// when the ledger does not keep up or memory is short, which never keeps an emergency out. In
    /// the emergency class a caller may exceed its quota by a fifth, so that its other calls never
    /// keep one out either. Every call has a place in the ledger's queue, so that what is admitted
    /// can be audited.
    ///
    /// # Errors
    /// [`Shed`].
    pub fn admit(
        self: &Arc<Self>,
        class: Class,
        caller: Holder,
        room: Room,
    ) -> Result<Arc<Admitted>, Shed> {
        let mut now = self.lock();
        if let Err(shed) = self.may(&mut now, class, &caller, room) {
            drop(now);
            self.shed(shed);
            return Err(shed);
        }
        *now.class(class) += 1;
        now.unrecorded += 1;
        now.unrecorded_ordinary += usize::from(class != Class::Emergency);
        *now.callers.entry(caller.clone()).or_insert(0) += 1;
        drop(now);
        Ok(Arc::new(Admitted {
            admission: Arc::clone(self),
            class,
            caller,
            reached: AtomicBool::new(false),
            recorded: AtomicBool::new(false),
        }))
    }

    fn may(&self, now: &mut Now, class: Class, caller: &Holder, room: Room) -> Result<(), Shed> {
        let ordinary = now.interactive + now.batch;
        let all = now.emergency + ordinary;
        let share = match class {
            Class::Emergency => false,
            Class::Interactive => ordinary >= self.ordinary,
            Class::Batch => now.batch >= self.batch || ordinary >= self.ordinary,
        };
        if share || all >= self.total {
            return Err(Shed::Full);
        }
        let quota = match caller {
            Holder::Gateway(_) => self.per_gateway,
            Holder::Institution(_) | Holder::Certificate(_) => self.per_institution,
        };
        let quota = match class {
            Class::Emergency => quota + quota.div_ceil(5),
            Class::Interactive | Class::Batch => quota,
        };
        if now.callers.get(caller).is_some_and(|own| *own >= quota) {
            return Err(Shed::Quota);
        }
        // What still needs the ledger has a slot each; ordinary calls leave those of the emergencies
        // free.
        let reserve = match class {
            Class::Emergency => 0,
            Class::Interactive | Class::Batch => self.total - self.ordinary,
        };
        if room.slots <= now.unrecorded.saturating_add(reserve) {
            return Err(Shed::Ledger);
        }
        if class == Class::Emergency {
            return Ok(());
        }
        let unrecorded = now.unrecorded_ordinary;
        if unrecorded >= now.adaptive.limit(unrecorded, room.pace, Instant::now()) {
            return Err(Shed::Ledger);
        }
        let short = match class {
            Class::Batch => self.memory.is_short(),
            _ => ordinary >= self.memory.leaves(self.ordinary),
        };
        if short { Err(Shed::Memory) } else { Ok(()) }
    }

    fn shed(&self, shed: Shed) {
        let counters = &self.counters;
        match shed {
            Shed::Full => counters.shed_full.add(),
            Shed::Quota => counters.shed_quota.add(),
            Shed::Ledger => counters.shed_ledger.add(),
            Shed::Memory => counters.shed_memory.add(),
        }
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        let now = self.lock();
        now.emergency + now.interactive + now.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total: usize, quota: usize) -> Arc<Admission> {
        let limits = Listen {
            max_in_flight: total,
            max_in_flight_per_institution: quota,
            max_in_flight_per_gateway: quota * 4,
            ..Listen::default()
        };
        let memory = Arc::new(Memory::new(80));
        Admission::new(&limits, Arc::new(Counters::default()), memory)
    }

    fn caller(number: u8) -> Holder {
        Holder::Institution(format!("13000000{number:02}").parse().unwrap())
    }

    fn fill(admission: &Arc<Admission>, class: Class, number: u8) -> Vec<Arc<Admitted>> {
        fill_in(admission, class, number, Room::AMPLE)
    }

    fn fill_in(
        admission: &Arc<Admission>,
        class: Class,
        number: u8,
        room: Room,
    ) -> Vec<Arc<Admitted>> {
        let admit = || admission.admit(class, caller(number), room).ok();
        std::iter::from_fn(admit).collect()
    }

    /// Bars: N-08 (the share of emergencies).
    #[test]
    fn each_class_has_its_share() {
        let admission = admission(100, 1_000);
        let batch = fill(&admission, Class::Batch, 1);
        assert_eq!(batch.len(), 20);
        let interactive = fill(&admission, Class::Interactive, 1);
        assert_eq!(interactive.len(), 60);
        let emergency = fill(&admission, Class::Emergency, 1);
        assert_eq!(emergency.len(), 20);
        assert_eq!(admission.in_flight(), 100);
        drop(batch);
        // What batch left goes to the others, down to its guarantee for nobody.
        assert_eq!(fill(&admission, Class::Emergency, 1).len(), 20);
        drop(interactive);
        drop(emergency);
        assert_eq!(admission.in_flight(), 0);
        // Without batch, interactive calls get its share, and never that of emergencies.
        let interactive = fill(&admission, Class::Interactive, 1);
        assert_eq!(interactive.len(), 80);
        assert_eq!(fill(&admission, Class::Emergency, 1).len(), 20);
    }

    /// Bars: N-08.
    #[test]
    fn nobody_takes_more_than_its_quota() {
        let admission = admission(1_000, 10);
        let own = fill(&admission, Class::Interactive, 1);
        assert_eq!(own.len(), 10);
        let refused = admission.admit(Class::Batch, caller(1), Room::AMPLE);
        assert_eq!(refused.unwrap_err(), Shed::Quota);
        assert_eq!(admission.counters.shed_quota.get(), 2);
        // An emergency of the same caller still gets in, and so does everybody else.
        assert_eq!(fill(&admission, Class::Emergency, 1).len(), 2);
        assert_eq!(fill(&admission, Class::Interactive, 2).len(), 10);
        let mut gateway = Vec::new();
        let region = Holder::Gateway("urn:oid:1.2.3".parse().unwrap());
        while let Ok(one) = admission.admit(Class::Interactive, region.clone(), Room::AMPLE) {
            gateway.push(one);
        }
        assert_eq!(gateway.len(), 40);
        drop(own);
        assert_eq!(fill(&admission, Class::Interactive, 1).len(), 10);
    }

    /// No admission without a place in the ledger's queue, and none of the emergencies' places.
    #[test]
    fn every_call_has_a_slot_of_the_ledger() {
        let admission = admission(100, 1_000);
        let slots = |slots| Room {
            slots,
            ..Room::AMPLE
        };
        let ordinary = fill_in(&admission, Class::Interactive, 1, slots(50));
        assert_eq!(ordinary.len(), 30, "20 are the emergencies'");
        assert_eq!(fill_in(&admission, Class::Batch, 1, slots(50)).len(), 0);
        let emergency = fill_in(&admission, Class::Emergency, 1, slots(50));
        assert_eq!(emergency.len(), 20);
        assert!(fill_in(&admission, Class::Emergency, 2, slots(50)).is_empty());
        assert_eq!(admission.counters.shed_ledger.get(), 4);
        assert_eq!(admission.counters.shed_full.get(), 0);
    }

    /// A ledger that does not keep up narrows what ordinary calls get; emergencies go on.
    #[test]
    fn ordinary_calls_give_way_to_a_ledger_that_does_not_keep_up() {
        let admission = admission(100, 1_000);
        let mut room = Room::AMPLE;
        let ordinary = fill_in(&admission, Class::Interactive, 1, room);
        assert_eq!(ordinary.len(), 80);
        // Each look sees commits that waited a minute; 80 × 0.9ⁿ is below the least soon.
        let until = Instant::now() + Duration::from_mins(1);
        let mut now = admission.lock();
        let mut at = Instant::now();
        let limit = loop {
            assert!(Instant::now() < until);
            room.pace.commits += 1;
            room.pace.waited += Duration::from_mins(1);
            at += Duration::from_millis(100);
            let limit = now.adaptive.limit(80, room.pace, at);
            if limit == 64 {
                break limit;
            }
        };
        drop(now);
        drop(ordinary);
        let ordinary = fill_in(&admission, Class::Interactive, 1, room);
        assert_eq!(ordinary.len(), limit, "`min_in_flight`");
        assert!(admission.counters.shed_ledger.get() > 0);
        assert_eq!(fill_in(&admission, Class::Emergency, 1, room).len(), 36);
    }

    /// An open stream needs the ledger no more.
    #[test]
    fn what_is_recorded_has_no_slot_and_is_no_burden() {
        let admission = admission(100, 1_000);
        let room = Room {
            slots: 30,
            ..Room::AMPLE
        };
        let streams = fill_in(&admission, Class::Interactive, 1, room);
        assert_eq!(streams.len(), 10);
        for stream in streams.iter().chain(&streams) {
            stream.record();
        }
        let more = fill_in(&admission, Class::Interactive, 1, room);
        assert_eq!(more.len(), 10);
        assert_eq!(admission.in_flight(), 20);
        drop((streams, more));
        let now = admission.lock();
        assert_eq!((now.unrecorded, now.unrecorded_ordinary), (0, 0));
    }

    /// Batch goes first, then interactive calls; emergencies stay.
    #[test]
    fn short_memory_sheds_all_but_emergencies() {
        let admission = admission(100, 1_000);
        let of = |class| fill(&admission, class, 1).len();
        admission.memory.measured(79, 100);
        assert_eq!((of(Class::Batch), of(Class::Interactive)), (20, 80));
        admission.memory.measured(80, 100);
        assert_eq!((of(Class::Batch), of(Class::Interactive)), (0, 80));
        admission.memory.measured(90, 100);
        assert_eq!((of(Class::Batch), of(Class::Interactive)), (0, 26));
        admission.memory.measured(99, 100);
        assert_eq!((of(Class::Batch), of(Class::Interactive)), (0, 0));
        assert_eq!(of(Class::Emergency), 100);
        assert!(admission.counters.shed_memory.get() >= 5);
    }
}
