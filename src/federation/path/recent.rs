//! Calls to one region in the last minutes, for operators.

use std::time::Duration;

/// Minutes that are told of.
const MINUTES: usize = 5;

/// Calls of one minute.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    minute: u64,
    calls: u64,
    failures: u64,
}

/// The calls of the last minutes, and when one was last answered.
#[derive(Debug, Default)]
pub(super) struct Recent {
    buckets: [Bucket; MINUTES],
    answered: Option<Duration>,
}

impl Recent {
    /// Notes a call that ended; `good`: it was answered.
    pub(super) fn note(&mut self, now: Duration, good: bool) {
        let minute = now.as_secs() / 60;
        let place = usize::try_from(minute % MINUTES as u64).unwrap_or_default();
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        if bucket.minute != minute {
            *bucket = Bucket {
                minute,
                ..Bucket::default()
            };
        }
        bucket.calls += 1;
        if good {
            self.answered = Some(now);
        } else {
            bucket.failures += 1;
        }
    }

    /// Calls, and those of them that failed.
    pub(super) fn counts(&self, now: Duration) -> (u64, u64) {
        let oldest = (now.as_secs() / 60 + 1).saturating_sub(MINUTES as u64);
        let recent = self.buckets.iter().filter(|one| one.minute >= oldest);
        recent.fold((0, 0), |(calls, failures), one| {
            (calls + one.calls, failures + one.failures)
        })
    }

    /// How long ago one was last answered.
    pub(super) fn answered(&self, now: Duration) -> Option<Duration> {
        self.answered.map(|then| now.saturating_sub(then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_are_told_of_and_no_more() {
        let (mut recent, minute) = (Recent::default(), Duration::from_mins(1));
        assert_eq!(recent.counts(minute), (0, 0));
        for number in 0..7 {
            recent.note(minute * number, number % 2 == 0);
            recent.note(minute * number, true);
        }
        // Minutes 2 to 6, of which 3 and 5 had a failure.
        assert_eq!(recent.counts(minute * 6), (10, 2));
        assert_eq!(recent.answered(minute * 8), Some(minute * 2));
        assert_eq!(recent.counts(minute * 11), (0, 0));
    }
}
