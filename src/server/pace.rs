//! Pace: so many bytes for so much waiting. What counts is only the time somebody else makes this
//! node wait, so a slow handler or a quiet watch is nobody's fault.

use std::time::Duration;

use tokio::time::Instant;

/// What must move within the limit of waiting.
const PORTION: usize = 64 * 1024;

/// The pace of one sender or reader.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    waited: Duration,
    moved: usize,
    since: Option<Instant>,
}

impl Pace {
    /// 64 KiB for each `limit` of waiting.
    pub(super) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            waited: Duration::ZERO,
            moved: 0,
            since: None,
        }
    }

    /// The other side makes this node wait.
    pub(super) fn waits(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// It does not any more.
    pub(super) fn goes_on(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// So many bytes moved.
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        let waiting = self.since.is_some();
        self.goes_on(now);
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= PORTION {
            self.moved = 0;
            self.waited = Duration::ZERO;
        }
        if waiting {
            self.since = Some(now);
        }
    }

    /// When the limit is reached, if the wait that is on goes on.
    pub(super) fn until(&self) -> Option<Instant> {
        self.since
            .map(|since| since + self.limit.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bars: N-07 (a byte now and then is no progress).
    #[test]
    fn only_waiting_counts_and_only_a_portion_resets_it() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut pace = Pace::new(Duration::from_secs(30));
        assert_eq!(pace.until(), None);
        pace.waits(at(0));
        pace.waits(at(5));
        assert_eq!(pace.until(), Some(at(30)));
        for second in 1..=20 {
            pace.moved(1, at(second));
        }
        assert_eq!(pace.until(), Some(at(30)));
        pace.goes_on(at(20));
        assert_eq!(pace.until(), None);
        pace.waits(at(1_000));
        assert_eq!(pace.until(), Some(at(1_010)));
        pace.moved(PORTION, at(1_005));
        assert_eq!(pace.until(), Some(at(1_035)));
    }
}
