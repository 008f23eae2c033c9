//! Noticing that the wall clock jumps. The order of frames does not follow it (INV-10), but dates
//! in records, grants and keys do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// More than this is a jump (bar D-18).
const TOLERANCE: Duration = Duration::from_secs(2);
/// A clock that is being corrected gently gains or loses less than one part in this many.
const SLEW: u32 = 1000;

/// Compares the wall clock with the time that has really passed.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    before: Option<(Timestamp, Duration)>,
}

impl ClockWatch {
    /// How far the wall clock has jumped since it was looked at last; `None` if it has not.
    pub(crate) fn jump(&mut self, clock: &dyn Clock) -> Option<SignedDuration> {
        let (now, elapsed) = (clock.now(), clock.elapsed());
        let (wall, passed) = match self.before.replace((now, elapsed)) {
            Some((before, start)) => (now.duration_since(before), elapsed.saturating_sub(start)),
            None => return None,
        };
        let jump = wall - SignedDuration::try_from(passed).ok()?;
        (jump.unsigned_abs() > TOLERANCE + passed / SLEW).then_some(jump)
    }
}
