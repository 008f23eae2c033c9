//! How long good answers of one region took lately.

use std::time::Duration;

/// Answers remembered.
const REMEMBERED: usize = 128;
/// Fewer say nothing.
const ENOUGH: usize = 20;

/// The last good answers.
#[derive(Debug, Default)]
pub(super) struct Latency {
    took: Vec<Duration>,
    next: usize,
}

impl Latency {
    /// Notes an answer.
    pub(super) fn note(&mut self, took: Duration) {
        match self.took.get_mut(self.next) {
            Some(place) => *place = took,
            None => self.took.push(took),
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The time that so many percent of the answers stayed below, if there were enough.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        if self.took.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.took.clone();
        let place = (sorted.len() * percent / 100).min(sorted.len() - 1);
        let (_, found, _) = sorted.select_nth_unstable(place);
        Some(*found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answers_count_and_few_say_nothing() {
        let mut latency = Latency::default();
        for millis in 1..20 {
            latency.note(Duration::from_millis(millis));
        }
        assert_eq!(latency.percentile(95), None);
        for millis in 20..=100 {
            latency.note(Duration::from_millis(millis));
        }
        assert_eq!(latency.percentile(95), Some(Duration::from_millis(96)));
        for _ in 0..128 {
            latency.note(Duration::from_millis(7));
        }
        assert_eq!(latency.percentile(50), Some(Duration::from_millis(7)));
        assert_eq!(latency.percentile(99), Some(Duration::from_millis(7)));
    }
}
