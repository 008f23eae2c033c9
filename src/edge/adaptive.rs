//! How many ordinary calls may be under way before the ledger falls behind: a limit that narrows
//! while commits wait for one another, and widens again when they do not (`spec` security-bars §5).

use std::time::{Duration, Instant};

/// The ledger as it goes: what it has answered since the node started, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerPace {
    /// Commits that wait for their answer.
    pub waiting: u64,
    /// Commits answered.
    pub commits: u64,
    /// What they waited, all together, from being handed over to the answer.
    pub waited: Duration,
    /// How long the last group took to become durable.
    pub sync: Duration,
}

/// How often the limit is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A commit waits for the group that is being written, then for its own: two syncs. Waiting for twice
/// as many means that commits queue, and not that the disk is slow.
const SYNCS: u32 = 4;
/// What is left of the limit after an interval in which commits queued.
const NARROWER: f64 = 0.9;
/// The limit widens in so many steps from nothing to the whole.
const STEPS: f64 = 64.0;

/// The limit: additive growth, multiplicative decrease.
#[derive(Debug)]
pub(super) struct Adaptive {
    least: f64,
    most: f64,
    /// A wait below this is none.
    bearable: Duration,
    limit: f64,
    /// The most calls under way since the last look.
    peak: usize,
    looked: Option<(Instant, LedgerPace)>,
}

impl Adaptive {
    /// A limit between `least` and `most` calls, which begins wide.
    #[expect(clippy::cast_precision_loss, reason = "counts of calls")]
    pub(super) fn new(least: usize, most: usize, bearable: Duration) -> Self {
        Self {
            least: least.clamp(1, most.max(1)) as f64,
            most: most.max(1) as f64,
            bearable,
            limit: most.max(1) as f64,
            peak: 0,
            looked: None,
        }
    }

    /// The limit at `now`, with `under_way` calls.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between `least` and `most`, which were counts"
    )]
    pub(super) fn limit(&mut self, under_way: usize, pace: LedgerPace, now: Instant) -> usize {
        self.peak = self.peak.max(under_way);
        match self.looked {
            Some((at, _)) if now.saturating_duration_since(at) < LOOK => {}
            Some((_, before)) => {
                self.look(before, pace);
                self.peak = under_way;
                self.looked = Some((now, pace));
            }
            None => self.looked = Some((now, pace)),
        }
        self.limit as usize
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of calls")]
    fn look(&mut self, before: LedgerPace, pace: LedgerPace) {
        let answered = pace.commits.saturating_sub(before.commits);
        let waited = pace.waited.saturating_sub(before.waited);
        let answered = u32::try_from(answered).unwrap_or(u32::MAX);
        let widens = match waited.checked_div(answered) {
            Some(mean) if mean > self.bearable.max(pace.sync * SYNCS) => {
                self.limit = (self.limit * NARROWER).max(self.least);
                return;
            }
            // What nobody uses proves nothing about what the ledger can take.
            Some(_) => self.peak as f64 * 2.0 >= self.limit,
            // No answer: the ledger has nothing to do, or it hangs.
            None => pace.waiting == 0,
        };
        if widens {
            self.limit = (self.limit + (self.most / STEPS).max(1.0)).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ledger {
        limit: Adaptive,
        pace: LedgerPace,
        now: Instant,
    }

    impl Ledger {
        fn new() -> Self {
            Self {
                limit: Adaptive::new(8, 640, Duration::from_millis(50)),
                pace: LedgerPace {
                    sync: Duration::from_millis(10),
                    ..LedgerPace::default()
                },
                now: Instant::now(),
            }
        }

        /// An interval in which `commits` were answered after `wait` each.
        fn interval(&mut self, commits: u64, wait: u64, under_way: usize) -> usize {
            self.limit.limit(under_way, self.pace, self.now);
            self.pace.commits += commits;
            self.pace.waited += Duration::from_millis(wait * commits);
            self.now += LOOK;
            self.limit.limit(under_way, self.pace, self.now)
        }
    }

    #[test]
    fn it_narrows_while_commits_queue_and_no_further_than_its_least() {
        let mut ledger = Ledger::new();
        assert_eq!(ledger.interval(10, 51, 600), 576);
        assert_eq!(ledger.interval(10, 51, 600), 518);
        for _ in 0..100 {
            ledger.interval(1, 5_000, 600);
        }
        assert_eq!(ledger.interval(1, 5_000, 600), 8);
    }

    #[test]
    fn a_slow_disk_is_not_a_queue() {
        let mut ledger = Ledger::new();
        ledger.pace.sync = Duration::from_millis(100);
        assert_eq!(ledger.interval(10, 400, 600), 640);
        assert_eq!(ledger.interval(10, 401, 600), 576);
    }

    #[test]
    fn it_widens_in_steps_as_far_as_it_is_used() {
        let mut ledger = Ledger::new();
        for _ in 0..100 {
            ledger.interval(1, 5_000, 600);
        }
        assert_eq!(
            ledger.interval(10, 10, 3),
            18,
            "600 were under way just now"
        );
        assert_eq!(ledger.interval(10, 10, 8), 18, "less than half is used");
        assert_eq!(ledger.interval(10, 10, 9), 28);
        let steps = (0..1_000)
            .take_while(|_| ledger.interval(10, 10, 600) < 640)
            .count();
        assert!((60..=64).contains(&steps), "{steps}");
    }

    #[test]
    fn without_an_answer_it_widens_only_if_none_is_due() {
        let mut ledger = Ledger::new();
        ledger.interval(1, 5_000, 600);
        ledger.pace.waiting = 3;
        assert_eq!(ledger.interval(0, 0, 600), 576, "it hangs");
        ledger.pace.waiting = 0;
        assert_eq!(ledger.interval(0, 0, 0), 586, "it is idle");
        // Looked at too often, it waits for the interval to end.
        ledger.pace.commits += 1;
        ledger.pace.waited += Duration::from_secs(5);
        assert_eq!(ledger.limit.limit(600, ledger.pace, ledger.now), 586);
    }
}
