//! How often regions are asked of whom nothing says that they know the patient: in emergencies only,
//! and so often in a minute for each institution (bar F-13).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Broadcasts of one institution in a minute.
const PER_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_mins(1);
/// Institutions remembered; more are refused until some are quiet.
const MOST: usize = 10_000;

/// The broadcasts of the last minute, by institution.
#[derive(Debug)]
pub struct Broadcasts {
    since: Instant,
    sent: Mutex<HashMap<String, VecDeque<Duration>>>,
}

impl Default for Broadcasts {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            sent: Mutex::default(),
        }
    }
}

impl Broadcasts {
    /// Whether an institution may broadcast now; counts it if it may.
    pub fn take(&self, institution: &str) -> bool {
        self.take_at(institution, self.since.elapsed())
    }

    fn take_at(&self, institution: &str, now: Duration) -> bool {
        let mut all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |sent: &Duration| now.saturating_sub(*sent) < MINUTE;
        if all.len() >= MOST && !all.contains_key(institution) {
            all.retain(|_, sent| sent.back().is_some_and(recent));
            if all.len() >= MOST {
                return false;
            }
        }
        let sent = all.entry(institution.to_owned()).or_default();
        sent.retain(recent);
        if sent.len() >= PER_MINUTE {
            return false;
        }
        sent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Bar F-13.
    #[test]
    fn ten_a_minute_for_each_institution_and_no_more() {
        let broadcasts = Broadcasts::default();
        let mut sent = 0;
        for second in 0..600 {
            // Five a second, for ten minutes.
            for _ in 0..5 {
                sent += u32::from(broadcasts.take_at("a", SECOND * second));
            }
            let within = second < 10 || second % 60 == 0;
            assert!(
                !within || broadcasts.take_at("b", SECOND * second),
                "{second}"
            );
        }
        assert_eq!(sent, 100);
    }

    #[test]
    fn memory_is_bounded() {
        let broadcasts = Broadcasts::default();
        for number in 0..MOST {
            assert!(broadcasts.take_at(&number.to_string(), SECOND));
        }
        assert!(!broadcasts.take_at("one more", SECOND * 2));
        assert!(broadcasts.take_at("one more", SECOND * 62));
        assert_eq!(broadcasts.sent.lock().unwrap().len(), 1);
    }
}
