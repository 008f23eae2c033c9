//! Alarms: what an operator should know of, from when it began until it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Alarm: an emergency was served on the word of a revocation list that is too late for the rest.
pub const EMERGENCY_ON_LATE_CRL: &str = "EMERGENCY_ON_LATE_CRL";

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Should be looked at.
    Warning,
    /// Something does not work.
    Error,
}

/// Something that needs an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// A stable code, such as `CRL_STALE`.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// For people; no patient data.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// The alarms that are on. Each is named by its code and what it is about.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<BTreeMap<(&'static str, String), Alarm>>);

impl Alarms {
    /// Raises an alarm, or changes its text; the first raising is logged.
    pub fn raise(
        &self,
        code: &'static str,
        subject: &str,
        severity: Severity,
        message: String,
        now: Timestamp,
    ) {
        let mut on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (code, subject.to_owned());
        let known = on.get(&key);
        if known.is_none_or(|alarm| alarm.message != message) {
            tracing::error!(alarm = code, subject, message, "an alarm was raised");
        }
        let since = known.map_or(now, |alarm| alarm.since);
        let alarm = Alarm {
            code,
            severity,
            message,
            since,
        };
        on.insert(key, alarm);
    }

    /// Ends every alarm of this code whose subject is not among `subjects`.
    pub fn keep_only(&self, code: &'static str, subjects: &[String]) {
        let mut on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        on.retain(|(known, subject), _| {
            let stays = *known != code || subjects.contains(subject);
            if !stays {
                tracing::info!(alarm = code, subject, "an alarm is over");
            }
            stays
        });
    }

    /// Those that are on.
    pub fn list(&self) -> Vec<Alarm> {
        let on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        on.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_lasts_from_its_first_raising_until_it_is_over() {
        let alarms = Alarms::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let raise = |subject, when| {
            alarms.raise("X", subject, Severity::Error, "bad".to_owned(), at(when));
        };
        raise("a", 1);
        raise("a", 2);
        raise("b", 3);
        let since: Vec<_> = alarms.list().iter().map(|alarm| alarm.since).collect();
        assert_eq!(since, [at(1), at(3)]);
        alarms.keep_only("Y", &[]);
        alarms.keep_only("X", &["b".to_owned()]);
        assert_eq!(alarms.list().len(), 1);
        alarms.keep_only("X", &[]);
        assert!(alarms.list().is_empty());
    }
}
