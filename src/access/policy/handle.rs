//! The policies in force, exchanged whole; and what is told when a decision could not be made.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Policies;

/// A decision that takes longer is none. Evaluation is finite by construction, tens of
/// microseconds; this bounds what a machine in trouble makes of it.
const TIME_LIMIT: Duration = Duration::from_millis(250);

/// Why a question got no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened, for the operator; no patient data.
    pub message: String,
}

type OnFault = Box<dyn Fn(&Fault) + Send + Sync>;

/// The policies in force at a node.
pub struct PolicyHandle {
    current: ArcSwap<Policies>,
    on_fault: OnFault,
    faults: AtomicU64,
    limit: Duration,
}

impl fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyHandle")
            .field("current", &self.current.load())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl PolicyHandle {
    /// A handle over `policies`; `on_fault` raises the alarm.
    pub fn new(policies: Policies, on_fault: impl Fn(&Fault) + Send + Sync + 'static) -> Self {
        Self {
            current: ArcSwap::from_pointee(policies),
            on_fault: Box::new(on_fault),
            faults: AtomicU64::new(0),
            limit: TIME_LIMIT,
        }
    }

    /// The same with another time limit.
    #[cfg(test)]
    pub(in crate::access) fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Those in force.
    pub fn current(&self) -> Arc<Policies> {
        self.current.load_full()
    }

    /// Puts others in force, for the next decision.
    pub fn replace(&self, policies: Policies) {
        self.current.store(Arc::new(policies));
    }

    /// Questions that got no verdict since the start.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(in crate::access) fn limit(&self) -> Duration {
        self.limit
    }

    pub(in crate::access) fn fault(&self, message: String) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        tracing::error!(message, "a decision could not be made: refused");
        (self.on_fault)(&Fault { message });
    }
}
