//! How many calls to one region are under way at once: found from how long they take.
//!
//! After TCP Vegas: the best time seen is what a call takes when nothing waits; what calls take
//! longer, they have waited, and from that follows how many wait at the region. A few may wait, so
//! that the region is never idle; more are of no use to anybody. Calls of one kind differ among
//! themselves, so medians are compared; kinds differ more, so each is compared with itself.

use std::time::Duration;

use super::Kind;

/// Where a region starts.
const START: f64 = 8.0;
/// The least and the most.
const LEAST: f64 = 1.0;
const MOST: f64 = 32.0;
/// With fewer waiting at the region the limit grows, with more it shrinks; the second is also a
/// share of the limit, for medians vary by themselves.
const FEW: f64 = 1.0;
const MANY: f64 = 2.5;
const MANY_SHARE: f64 = 0.25;
/// After a call that found the region overloaded.
const BACK_OFF: f64 = 0.7;
/// Answers that a median is taken of, at least.
const SAMPLE: usize = 8;
/// How long the best time is believed. Then the limit gives way once, so that what waits at the
/// region drains and the best time can be seen anew.
const BELIEVED: Duration = Duration::from_secs(10);
const GIVE_WAY: f64 = 0.75;

/// What is known of one kind of calls.
#[derive(Debug, Default)]
struct Track {
    best: Option<Duration>,
    /// The best time since `since`, which takes the place of `best`.
    fresh: Option<Duration>,
    since: Duration,
    /// Good answers since the last median.
    seen: Vec<Duration>,
}

/// The limit of one region.
#[derive(Debug)]
pub(super) struct Limit {
    limit: f64,
    tracks: [Track; Kind::COUNT],
    /// Not reduced again before this moment: one cause, one reduction.
    reduced_until: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            limit: START,
            tracks: Default::default(),
            reduced_until: Duration::ZERO,
        }
    }
}

impl Limit {
    /// Calls that may be under way at once, 1 to 32.
    pub(super) fn calls(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 32"
        )]
        let calls = self.limit as u32;
        calls
    }

    /// Notes a good answer that took `took`, with so many calls under way.
    pub(super) fn answered(&mut self, kind: Kind, now: Duration, took: Duration, in_flight: u32) {
        let enough = SAMPLE.max(self.calls() as usize);
        let Some(track) = self.tracks.get_mut(kind as usize) else {
            return;
        };
        track.seen.push(took.max(Duration::from_micros(1)));
        if track.seen.len() < enough {
            return;
        }
        let Some(median) = track.median() else {
            return;
        };
        let gives_way = track.believe(now, median);
        let best = track.best.unwrap_or(median);
        if gives_way {
            self.limit = (self.limit * GIVE_WAY).max(LEAST);
            return;
        }
        let waiting = self.limit * (1.0 - best.as_secs_f64() / median.as_secs_f64());
        if waiting < FEW && f64::from(in_flight) * 2.0 > self.limit {
            // Grows only when it is used.
            self.limit = (self.limit + 1.0).min(MOST);
        } else if waiting > MANY.max(self.limit * MANY_SHARE) {
            self.limit = (self.limit - 1.0).max(LEAST);
        }
    }

    /// Notes a call that ran out of time, or was turned away as too many.
    pub(super) fn overloaded(&mut self, kind: Kind, now: Duration) {
        if now < self.reduced_until {
            return;
        }
        self.limit = (self.limit * BACK_OFF).max(LEAST);
        let best = self.tracks.get(kind as usize).and_then(|track| track.best);
        self.reduced_until = now + best.unwrap_or_default();
    }
}

impl Track {
    /// The median of the answers seen, which are then forgotten.
    fn median(&mut self) -> Option<Duration> {
        let middle = self.seen.len() / 2;
        if self.seen.is_empty() {
            return None;
        }
        let (_, median, _) = self.seen.select_nth_unstable(middle);
        let median = *median;
        self.seen.clear();
        Some(median)
    }

    /// Takes a median into the best time. `true` if the old best time is not believed any more.
    fn believe(&mut self, now: Duration, median: Duration) -> bool {
        self.fresh = Some(self.fresh.map_or(median, |fresh| fresh.min(median)));
        self.best = Some(self.best.map_or(median, |best| best.min(median)));
        if now.saturating_sub(self.since) < BELIEVED {
            return false;
        }
        self.best = self.fresh.take();
        self.since = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::Find;

    /// A region that works on `capacity` calls at once, each for what `work` says; asked by callers
    /// that always have more. Time is simulated. Gives the limit at every whole second.
    fn run(
        limit: &mut Limit,
        now: &mut Duration,
        capacity: u32,
        mut work: impl FnMut() -> Duration,
    ) -> Vec<u32> {
        let mut free = vec![*now; capacity as usize];
        let mut under_way: Vec<(Duration, Duration)> = Vec::new();
        let (end, mut limits) = (*now + Duration::from_secs(60), Vec::new());
        let mut next = now.as_secs() + 1;
        while *now < end {
            while u32::try_from(under_way.len()).unwrap() < limit.calls() {
                let server = free.iter_mut().min().unwrap();
                let done = (*server).max(*now) + work();
                *server = done;
                under_way.push((done, *now));
            }
            under_way.sort_unstable();
            let (done, sent) = under_way.remove(0);
            *now = done;
            let in_flight = u32::try_from(under_way.len()).unwrap() + 1;
            limit.answered(KIND, *now, done - sent, in_flight);
            while now.as_secs() >= next {
                limits.push(limit.calls());
                next += 1;
            }
        }
        limits
    }

    fn mostly_near(limits: &[u32], capacity: u32) {
        let near = |found: &&u32| {
            let (found, capacity) = (f64::from(**found), f64::from(capacity));
            (found - capacity).abs() <= 0.3 * capacity + 1.0
        };
        let settled = &limits[30..];
        let good = settled.iter().filter(near).count();
        assert!(good * 10 >= settled.len() * 9, "{capacity}: {limits:?}");
    }

    #[test]
    fn it_finds_what_a_region_can_do_and_follows_it_within_thirty_seconds() {
        // bars: F-12
        let (mut limit, mut now) = (Limit::default(), Duration::ZERO);
        for capacity in [16, 8, 16, 24, 12] {
            let work = || Duration::from_millis(50);
            let limits = run(&mut limit, &mut now, capacity, work);
            mostly_near(&limits, capacity);
        }
    }

    #[test]
    fn calls_that_differ_do_not_choke_a_region() {
        // From 5 to 200 ms, most of them short, in a fixed disorder.
        let (mut limit, mut now, mut turn) = (Limit::default(), Duration::ZERO, 1_u64);
        let work = move || {
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let part = (turn >> 33) % 100;
            Duration::from_millis(5 + part * part * 195 / 9_801)
        };
        let limits = run(&mut limit, &mut now, 16, work);
        let least = limits[30..].iter().min();
        assert!(least >= Some(&8), "{limits:?}");
    }

    #[test]
    fn a_slow_kind_is_not_taken_for_waiting() {
        let mut limit = Limit::default();
        for turn in 0..2_000_u64 {
            let now = Duration::from_millis(turn);
            limit.answered(Kind::Find, now, Duration::from_millis(2), 8);
            limit.answered(Kind::Summary, now, Duration::from_millis(80), 8);
        }
        assert!(limit.calls() >= 8, "{}", limit.calls());
    }

    #[test]
    fn it_stays_between_one_and_thirty_two() {
        let (mut limit, mut now) = (Limit::default(), Duration::ZERO);
        run(&mut limit, &mut now, 200, || Duration::from_millis(50));
        assert!((24..=32).contains(&limit.calls()), "{}", limit.calls());
        for _ in 0..100 {
            now += Duration::from_secs(1);
            limit.overloaded(KIND, now);
        }
        assert_eq!(limit.calls(), 1);
    }

    #[test]
    fn it_does_not_grow_unused_and_one_cause_reduces_once() {
        let mut limit = Limit::default();
        for turn in 0..100 {
            let now = Duration::from_millis(turn);
            limit.answered(KIND, now, Duration::from_millis(5), 1);
        }
        assert_eq!(limit.calls(), 8);
        let now = Duration::from_secs(1);
        for _ in 0..8 {
            limit.overloaded(KIND, now);
        }
        assert_eq!(limit.calls(), 5);
    }
}
