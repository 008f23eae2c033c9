//! Time as an argument: the system clock is read here and nowhere else.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of wall-clock time (UTC). Wall time is data; it never decides an order (INV-10).
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Time since some moment of this process. Unlike [`Clock::now`] it never jumps.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the clock"
        )]
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that moves only when told to; for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock standing at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new((start, Duration::ZERO)))
    }

    /// Moves the clock forward by `step`.
    pub fn advance(&self, step: Duration) {
        let mut time = self.time();
        time.0 = time.0.saturating_add(step).unwrap_or(Timestamp::MAX);
        time.1 = time.1.saturating_add(step);
    }

    /// Sets the wall clock, as an operator or a bad time server does.
    pub fn set(&self, now: Timestamp) {
        self.time().0 = now;
    }

    fn time(&self) -> MutexGuard<'_, (Timestamp, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.time().0
    }

    fn elapsed(&self) -> Duration {
        self.time().1
    }
}
