//! How many calls to one region are under way at once: found from how long they take.
//!
//! From time to time only half as many are let out for a moment: what they take then, nothing has
//! waited at the region. If calls take about as long at other times, more are let out, and fewer if
//! they take clearly longer, for then they wait there. By Little's law the mean grows with the number
//! under way as soon as some wait, however they are served. Kinds of calls are compared with
//! themselves.

use std::time::Duration;

use super::Kind;

/// Where a region starts.
const START: f64 = 8.0;
/// The least and the most.
const LEAST: f64 = 1.0;
const MOST: f64 = 32.0;
/// Up to this many times what calls take unhindered, more are let out; from the second on, fewer.
const AS_EVER: f64 = 1.1;
const LONGER: f64 = 1.2;
/// A call that takes so many times what calls take unhindered is counted as that many: one in a
/// hundred that takes a second is a slow disk or a lost packet, and no sign that calls wait (bar F-11).
const OUTLIER: f64 = 4.0;
/// After a call that found the region overloaded.
const BACK_OFF: f64 = 0.7;
/// Answers that a mean is taken of.
const SAMPLE: u32 = 32;
/// How long what calls take unhindered is believed, and how long finding it out may last.
const BELIEVED: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(2);
/// How much a new mean counts against those before.
const NEW: f64 = 0.5;

/// What is known of one kind of calls, in seconds.
#[derive(Debug, Default)]
struct Track {
    unhindered: Option<f64>,
    usual: Option<f64>,
    /// When `unhindered` was last measured.
    measured: Duration,
    /// Good answers since the last mean, and what they took together.
    seen: u32,
    sum: Duration,
    /// So many answers are of calls that were sent before the limit changed.
    skip: u32,
}

/// A time in which half of the calls are let out.
#[derive(Clone, Copy, Debug)]
struct Probe {
    kind: Kind,
    until: Duration,
}

/// The limit of one region.
#[derive(Debug)]
pub(super) struct Limit {
    allowed: f64,
    tracks: [Track; Kind::COUNT],
    probe: Option<Probe>,
    /// Not reduced again before this moment: one cause, one reduction.
    reduced_until: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            allowed: START,
            tracks: Default::default(),
            probe: None,
            reduced_until: Duration::ZERO,
        }
    }
}

impl Limit {
    /// Calls that may be under way at once, 1 to 32.
    pub(super) fn calls(&self) -> u32 {
        let limit = match self.probe {
            Some(_) => (self.allowed / 2.0).max(LEAST),
            None => self.allowed,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 32"
        )]
        let calls = limit as u32;
        calls
    }

    /// Notes a good answer that took `took`, with so many calls under way.
    pub(super) fn answered(&mut self, kind: Kind, now: Duration, took: Duration, in_flight: u32) {
        let probing = self.probe.filter(|probe| now < probe.until);
        self.probe = probing;
        let calls = self.calls();
        let Some(track) = self.tracks.get_mut(kind as usize) else {
            return;
        };
        let longest = track.unhindered.map(|usual| usual * OUTLIER);
        let longest = longest.map_or(Duration::MAX, Duration::from_secs_f64);
        let Some(mean) = track.mean(took.min(longest)) else {
            return;
        };
        match probing {
            Some(probe) if probe.kind == kind => {
                track.unhindered = Some(blend(track.unhindered, mean));
                track.measured = now;
                track.usual = None;
                track.skip = calls;
                self.probe = None;
                return;
            }
            // What is seen while another kind is measured is not usual.
            Some(_) => return,
            None => {}
        }
        let usual = blend(track.usual, mean);
        let longer = usual / *track.unhindered.get_or_insert(mean);
        track.usual = Some(usual);
        if now.saturating_sub(track.measured) >= BELIEVED {
            track.skip = calls;
            let until = now + PROBE;
            self.probe = Some(Probe { kind, until });
        }
        if longer < AS_EVER && f64::from(in_flight) * 2.0 > self.allowed {
            // Grows only when it is used.
            self.allowed = (self.allowed + 1.0).min(MOST);
        } else if longer > LONGER {
            self.allowed = (self.allowed - 1.0).max(LEAST);
        }
    }

    /// Notes a call that ran out of time, or was turned away as too many.
    pub(super) fn overloaded(&mut self, kind: Kind, now: Duration) {
        if now < self.reduced_until {
            return;
        }
        self.allowed = (self.allowed * BACK_OFF).max(LEAST);
        let usual = self.tracks.get(kind as usize);
        let usual = usual.and_then(|track| track.unhindered).unwrap_or_default();
        self.reduced_until = now + Duration::from_secs_f64(usual);
    }
}

impl Track {
    /// Takes an answer; gives the mean when there are enough.
    fn mean(&mut self, took: Duration) -> Option<f64> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.seen += 1;
        self.sum += took.max(Duration::from_micros(1));
        if self.seen < SAMPLE {
            return None;
        }
        let mean = self.sum / self.seen;
        (self.seen, self.sum) = (0, Duration::ZERO);
        Some(mean.as_secs_f64())
    }
}

fn blend(before: Option<f64>, new: f64) -> f64 {
    before.map_or(new, |before| before * (1.0 - NEW) + new * NEW)
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
        let (end, mut limits) = (*now + Duration::from_mins(1), Vec::new());
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
            limit.answered(KIND, *now, done.saturating_sub(sent), in_flight);
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
    fn a_call_that_hangs_now_and_then_does_not_choke_a_region() {
        // bars: F-11
        let (mut limit, mut chance) = (Limit::default(), 1_u64);
        for turn in 0..2_000_u64 {
            // Two in a hundred, in a fixed disorder.
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let hangs = (chance >> 33) % 100 < 2;
            let took = Duration::from_millis(if hangs { 1_000 } else { 15 });
            limit.answered(KIND, Duration::from_millis(100 * turn), took, 1);
            // Half of it while it is measured how long calls take unhindered.
            assert!(limit.calls() >= 4, "turn {turn}: {}", limit.calls());
        }
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
