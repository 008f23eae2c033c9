//! Admission: how many calls may be under way, by class and by caller (`spec` security-bars §5).
//!
//! Decided before a message is decoded, from the path and the certificate alone, and without the
//! store, so that a refusal costs next to nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Counters;
use crate::config::Listen;
use crate::types::CertificatePin;

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
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    emergency: usize,
    interactive: usize,
    batch: usize,
    callers: HashMap<CertificatePin, usize>,
}

impl Now {
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
    caller: CertificatePin,
    reached: AtomicBool,
}

impl Admitted {
    /// Says that a door has taken the call, and with it the duty to audit it.
    pub fn reach(&self) {
        self.reached.store(true, Ordering::Release);
    }

    /// Whether a door has taken the call.
    pub fn reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut now = self.admission.lock();
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
    pub fn new(limits: &Listen, counters: Arc<Counters>) -> Arc<Self> {
        let share = |percent: u8| limits.max_in_flight * usize::from(percent.min(100)) / 100;
        Arc::new(Self {
            total: limits.max_in_flight,
            ordinary: limits.max_in_flight - share(limits.emergency_share_percent),
            batch: share(limits.batch_share_percent).max(1),
            per_institution: limits.max_in_flight_per_institution,
            per_gateway: limits.max_in_flight_per_gateway,
            counters,
            now: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one more call of `class` by `caller`, who is a gateway or an institution.
    ///
    /// Ordinary classes leave the emergency share free, batch keeps to its own share. In the
    /// emergency class a caller may exceed its quota by a fifth, so that its other calls never keep
    /// an emergency out.
    ///
    /// # Errors
    /// [`Shed`].
    pub fn admit(
        self: &Arc<Self>,
        class: Class,
        caller: CertificatePin,
        gateway: bool,
    ) -> Result<Arc<Admitted>, Shed> {
        let quota = if gateway {
            self.per_gateway
        } else {
            self.per_institution
        };
        let quota = match class {
            Class::Emergency => quota + quota.div_ceil(5),
            Class::Interactive | Class::Batch => quota,
        };
        let mut now = self.lock();
        let ordinary = now.interactive + now.batch;
        let share = match class {
            Class::Emergency => false,
            Class::Interactive => ordinary >= self.ordinary,
            Class::Batch => now.batch >= self.batch || ordinary >= self.ordinary,
        };
        if share || now.emergency + ordinary >= self.total {
            self.counters.shed_full.add();
            return Err(Shed::Full);
        }
        if now.callers.get(&caller).is_some_and(|own| *own >= quota) {
            self.counters.shed_quota.add();
            return Err(Shed::Quota);
        }
        *now.class(class) += 1;
        *now.callers.entry(caller).or_insert(0) += 1;
        drop(now);
        Ok(Arc::new(Admitted {
            admission: Arc::clone(self),
            class,
            caller,
            reached: AtomicBool::new(false),
        }))
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
        Admission::new(&limits, Arc::new(Counters::default()))
    }

    fn caller(number: u8) -> CertificatePin {
        CertificatePin::from_bytes([number; 32])
    }

    fn fill(admission: &Arc<Admission>, class: Class, number: u8) -> Vec<Arc<Admitted>> {
        std::iter::from_fn(|| admission.admit(class, caller(number), false).ok()).collect()
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
        let refused = admission.admit(Class::Batch, caller(1), false);
        assert_eq!(refused.unwrap_err(), Shed::Quota);
        assert_eq!(admission.counters.shed_quota.get(), 2);
        // An emergency of the same caller still gets in, and so does everybody else.
        assert_eq!(fill(&admission, Class::Emergency, 1).len(), 2);
        assert_eq!(fill(&admission, Class::Interactive, 2).len(), 10);
        let mut gateway = Vec::new();
        while let Ok(one) = admission.admit(Class::Interactive, caller(3), true) {
            gateway.push(one);
        }
        assert_eq!(gateway.len(), 40);
        drop(own);
        assert_eq!(fill(&admission, Class::Interactive, 1).len(), 10);
    }
}
