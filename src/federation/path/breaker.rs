//! The circuit breaker of one region: after repeated failures it is not asked for a while.
//!
//! Pure: time is an argument, measured from any fixed moment.

use std::time::Duration;

/// Failures in a row that open it.
const CONSECUTIVE: u32 = 7;
/// The window that the share of successes is taken over, in buckets of one second.
const BUCKETS: usize = 30;
/// The share is judged from this many calls on.
const ENOUGH: u32 = 20;
/// Below this share of successes, in percent, it opens.
const PERCENT: u32 = 80;
/// How long it stays open the first time; doubled each time a probe fails. Jitter makes it up to
/// twice as long, a minute at most: regions that return at once are asked again one by one (F-22).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A region that fails again before it has worked for so long has not recovered: the pause goes on
/// doubling, so that one which comes and goes does not open and close it all the time (F-04).
const STEADY: Duration = Duration::from_mins(1);

/// What a breaker says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Pass,
    /// Go on; this one call decides whether it closes.
    Probe,
    /// Not now.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing,
}

/// Calls of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    good: u32,
    bad: u32,
}

/// The breaker of one region.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    in_a_row: u32,
    pause: Duration,
    /// When a probe last closed it.
    closed: Option<Duration>,
    buckets: [Bucket; BUCKETS],
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            in_a_row: 0,
            pause: FIRST_PAUSE,
            closed: None,
            buckets: [Bucket::default(); BUCKETS],
        }
    }
}

impl Breaker {
    /// Whether a call may go out now. After [`Admission::Probe`] either [`Self::record`] or
    /// [`Self::abandon`] must follow.
    pub(super) fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed => Admission::Pass,
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                Admission::Probe
            }
            State::Open { .. } | State::Probing => Admission::Refused,
        }
    }

    /// Whether a call would be refused now.
    pub(super) fn is_open(&self, now: Duration) -> bool {
        match self.state {
            State::Closed => false,
            State::Open { until } => now < until,
            State::Probing => true,
        }
    }

    /// How long it was left open last, jitter aside.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether a probe is out.
    pub(super) fn is_probing(&self) -> bool {
        self.state == State::Probing
    }

    /// Notes how a call ended. `jitter` in 0..1 spreads the pauses of many breakers: up to twice as
    /// long.
    pub(super) fn record(&mut self, now: Duration, good: bool, probe: bool, jitter: f64) {
        if probe {
            if good {
                self.state = State::Closed;
                self.closed = Some(now);
            } else {
                self.open_longer(now, jitter);
            }
            return;
        }
        if self.state != State::Closed {
            // Sent before it opened; the probe decides.
            return;
        }
        self.count(now, good);
        self.in_a_row = if good { 0 } else { self.in_a_row + 1 };
        if self.in_a_row >= CONSECUTIVE || self.too_many_failed(now) {
            let closed = self.closed.take();
            if closed.is_some_and(|closed| now.saturating_sub(closed) < STEADY) {
                self.open_longer(now, jitter);
            } else {
                self.pause = FIRST_PAUSE;
                self.open(now, jitter);
            }
        }
    }

    /// The probe was given up by its caller: the next call probes.
    pub(super) fn abandon(&mut self, now: Duration) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    fn open_longer(&mut self, now: Duration, jitter: f64) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.open(now, jitter);
    }

    fn open(&mut self, now: Duration, jitter: f64) {
        let until = now + self.pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0));
        self.state = State::Open { until };
        self.in_a_row = 0;
        self.buckets = [Bucket::default(); BUCKETS];
    }

    fn count(&mut self, now: Duration, good: bool) {
        let second = now.as_secs();
        let place = usize::try_from(second % BUCKETS as u64).unwrap_or_default();
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        if bucket.second != second {
            *bucket = Bucket {
                second,
                ..Bucket::default()
            };
        }
        match good {
            true => bucket.good = bucket.good.saturating_add(1),
            false => bucket.bad = bucket.bad.saturating_add(1),
        }
    }

    fn too_many_failed(&self, now: Duration) -> bool {
        let oldest = (now.as_secs() + 1).saturating_sub(BUCKETS as u64);
        let (mut good, mut bad) = (0_u32, 0_u32);
        for bucket in self.buckets.iter().filter(|one| one.second >= oldest) {
            good = good.saturating_add(bucket.good);
            bad = bad.saturating_add(bucket.bad);
        }
        let all = u64::from(good) + u64::from(bad);
        all >= u64::from(ENOUGH) && u64::from(good) * 100 < all * u64::from(PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..CONSECUTIVE {
            assert_eq!(breaker.admit(Duration::ZERO), Admission::Pass);
            breaker.record(Duration::ZERO, false, false, 0.0);
        }
        breaker
    }

    #[test]
    fn seven_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let mut breaker = Breaker::default();
        for call in 0..13 {
            breaker.record(Duration::ZERO, call == 6, false, 0.0);
            assert_eq!(
                breaker.admit(Duration::ZERO),
                Admission::Pass,
                "call {call}"
            );
        }
        breaker.record(Duration::ZERO, false, false, 0.0);
        assert_eq!(breaker.admit(Duration::ZERO), Admission::Refused);
    }

    #[test]
    fn a_share_below_four_fifths_of_twenty_calls_opens_it() {
        // Every fourth call fails: 15 of 20 are good.
        let mut breaker = Breaker::default();
        for call in 0..19 {
            breaker.record(SECOND, call % 4 != 0, false, 0.0);
            assert!(!breaker.is_open(SECOND), "after {call}");
        }
        breaker.record(SECOND, true, false, 0.0);
        assert!(breaker.is_open(SECOND));
        // Every fifth: 80 in a hundred is enough.
        let mut breaker = Breaker::default();
        for call in 1..=100 {
            breaker.record(SECOND, call % 5 != 0, false, 0.0);
        }
        assert!(!breaker.is_open(SECOND));
    }

    #[test]
    fn old_calls_are_forgotten() {
        let mut breaker = Breaker::default();
        for call in 0..18 {
            breaker.record(SECOND, call % 3 != 0, false, 0.0);
        }
        for call in 0..19 {
            breaker.record(31 * SECOND + SECOND / 2, call % 9 != 0, false, 0.0);
        }
        assert!(!breaker.is_open(32 * SECOND));
    }

    #[test]
    fn one_probe_goes_out_and_pauses_double_to_half_a_minute() {
        let mut breaker = opened();
        let (mut now, mut pause) = (Duration::ZERO, SECOND);
        for _ in 0..9 {
            assert_eq!(breaker.admit(now + pause * 999 / 1000), Admission::Refused);
            now += pause;
            assert_eq!(breaker.admit(now), Admission::Probe);
            assert_eq!(breaker.admit(now), Admission::Refused, "only one probe");
            breaker.record(now, false, true, 0.0);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        now += pause;
        assert_eq!(breaker.admit(now), Admission::Probe);
        breaker.record(now, true, true, 0.0);
        assert_eq!(breaker.admit(now), Admission::Pass);
        for _ in 0..CONSECUTIVE {
            breaker.record(now, false, false, 0.0);
        }
        let goes_on = now + LONGEST_PAUSE * 999 / 1000;
        assert_eq!(breaker.admit(goes_on), Admission::Refused, "not steady yet");
        now += LONGEST_PAUSE;
        assert_eq!(breaker.admit(now), Admission::Probe);
        breaker.record(now, true, true, 0.0);
        now += STEADY;
        for _ in 0..CONSECUTIVE {
            breaker.record(now, false, false, 0.0);
        }
        let small = breaker.admit(now + SECOND);
        assert_eq!(small, Admission::Probe, "starts small again");
    }

    #[test]
    fn jitter_doubles_at_most_and_a_given_up_probe_is_not_lost() {
        let mut breaker = Breaker::default();
        for _ in 0..CONSECUTIVE {
            breaker.record(Duration::ZERO, false, false, 1.0);
        }
        assert_eq!(
            breaker.admit(Duration::from_millis(1_999)),
            Admission::Refused
        );
        let later = Duration::from_secs(2);
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.abandon(later);
        assert_eq!(breaker.admit(later), Admission::Probe);
    }

    #[test]
    fn a_late_answer_does_not_close_it() {
        let mut breaker = opened();
        breaker.record(Duration::ZERO, true, false, 0.0);
        assert_eq!(breaker.admit(Duration::ZERO), Admission::Refused);
    }
}
