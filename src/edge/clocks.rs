//! The clocks of other nodes, as they tell their time: one that is far from this node's is an alarm, and
//! nothing else. What came first is decided by sequences (INV-10).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::types::HomeCommunityId;
use crate::wire::time_told;

use super::{Severity, State};

/// Alarm: another node's clock and this node's are far apart.
const APART: &str = "CLOCK_APART";

/// What is known of the clocks of other nodes.
#[derive(Debug)]
pub struct Clocks {
    edge: Arc<State>,
    clock: Arc<dyn Clock>,
    allowed: Duration,
    /// Those with an alarm.
    apart: Mutex<BTreeSet<String>>,
}

impl Clocks {
    /// Clocks compared with `clock`; they may be apart by `allowed`.
    pub fn new(edge: Arc<State>, clock: Arc<dyn Clock>, allowed: Duration) -> Self {
        Self {
            edge,
            clock,
            allowed,
            apart: Mutex::default(),
        }
    }

    /// The time of this node.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A community told its time, in an answer to what was sent at `sent`, or in a call that came just now
    /// (then `sent` is now). What is no time is passed over.
    pub fn heard(&self, home: &HomeCommunityId, told: &HeaderValue, sent: Timestamp) {
        let Some(theirs) = time_told(told) else {
            return;
        };
        let now = self.clock.now();
        let apart = difference(theirs, sent, now);
        if apart.unsigned_abs() <= self.allowed {
            self.agrees(home);
            return;
        }
        let (size, way) = (rough(apart.unsigned_abs()), way(apart));
        let message = format!("the clock of {home} is some {size} {way} this node's");
        self.raise(home, message, now);
    }

    /// The certificate of a community's gateway is not valid at this node's time: it has ended, or one of
    /// the clocks is wrong by so much that no time can be told.
    pub fn doubted(&self, home: &HomeCommunityId) {
        let message = format!(
            "by this node's clock the certificate of {home} is not valid: it has ended, or a clock is wrong"
        );
        self.raise(home, message, self.clock.now());
    }

    fn raise(&self, home: &HomeCommunityId, message: String, now: Timestamp) {
        let subject = home.to_string();
        let alarms = &self.edge.alarms;
        alarms.raise(APART, &subject, Severity::Warning, message, now);
        self.lock().insert(subject);
    }

    fn agrees(&self, home: &HomeCommunityId) {
        let mut apart = self.lock();
        // Almost always there is none: nothing is made for it.
        if apart.is_empty() || !apart.remove(&home.to_string()) {
            return;
        }
        let left: Vec<String> = apart.iter().cloned().collect();
        self.edge.alarms.keep_only(APART, &left);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a time lies outside of the time in which it was told; positive: ahead.
fn difference(theirs: Timestamp, sent: Timestamp, now: Timestamp) -> SignedDuration {
    let (first, last) = (sent.min(now), sent.max(now));
    theirs.duration_since(theirs.clamp(first, last))
}

/// In the unit that it is told in, so that a clock that runs on is not another alarm each time.
fn rough(apart: Duration) -> String {
    let (minutes, hours) = (apart.as_secs() / 60, apart.as_secs() / 3_600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match (years, days, hours) {
        (2.., ..) => format!("{years} years"),
        (_, 2.., _) => format!("{days} days"),
        (_, _, 2..) => format!("{hours} hours"),
        _ => format!("{} minutes", minutes.max(1)),
    }
}

fn way(apart: SignedDuration) -> &'static str {
    if apart.is_negative() {
        "behind"
    } else {
        "ahead of"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::wire::told_time;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn home(number: u8) -> HomeCommunityId {
        format!("urn:oid:2.999.1.{number}").parse().unwrap()
    }

    #[test]
    fn a_clock_is_apart_from_when_it_is_far_until_it_agrees() {
        // bars: F-25
        let now = at(1_000_000_000);
        let edge = State::new(&crate::config::Listen::default());
        let clock = Arc::new(ManualClock::at(now));
        let clocks = Clocks::new(Arc::clone(&edge), clock, MINUTE);
        let alarms = || edge.alarms.list();
        let hear = |number, theirs| clocks.heard(&home(number), &told_time(theirs), now);
        let ten_years = Duration::from_hours(10 * 365 * 24);
        hear(1, now + MINUTE);
        hear(1, now - MINUTE);
        assert!(alarms().is_empty());
        for (theirs, said) in [
            (now + 10 * MINUTE, "some 10 minutes ahead of"),
            (now - 10 * MINUTE, "some 10 minutes behind"),
            (now + ten_years, "some 10 years ahead of"),
            (now - ten_years, "some 10 years behind"),
        ] {
            hear(1, theirs);
            let on = alarms();
            assert_eq!(on.len(), 1, "{on:?}");
            assert_eq!(on[0].code, "CLOCK_APART");
            assert!(on[0].message.contains(said), "{on:?}");
        }
        clocks.doubted(&home(2));
        assert_eq!(alarms().len(), 2);
        hear(1, now);
        assert_eq!(alarms().len(), 1);
        hear(2, now);
        assert!(alarms().is_empty());
        for nonsense in ["", "soon", "-1e9", "99999999999999999999999", "1.5"] {
            let told = HeaderValue::from_static(nonsense);
            clocks.heard(&home(1), &told, now);
        }
        assert!(alarms().is_empty());
    }

    #[test]
    fn time_that_a_call_takes_is_no_difference() {
        let (sent, now) = (at(100), at(400));
        for theirs in [100, 250, 400] {
            assert!(difference(at(theirs), sent, now).is_zero());
        }
        assert_eq!(
            difference(at(90), sent, now),
            SignedDuration::from_secs(-10)
        );
        assert_eq!(
            difference(at(410), sent, now),
            SignedDuration::from_secs(10)
        );
        // This node's own clock was set back meanwhile.
        assert!(difference(at(250), now, sent).is_zero());
    }
}
