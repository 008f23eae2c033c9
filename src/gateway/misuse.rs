//! Watching the audit for misuse beside the calls, and alarming with evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::audit::detect::{Detector, Finding, Rule};
use crate::audit::event_of;
use crate::audit::leaf::index_of;
use crate::edge::Severity;
use crate::error::{Error, Result};
use crate::store::{Frames, Sequence};
use crate::types::HomeCommunityId;
use crate::wire::pb::audit::AuditEvent;

use super::Gateway;

/// An alarm stays on so long after the last event it rests on.
const STAYS: SignedDuration = SignedDuration::from_hours(24);

/// The audit is not watched for misuse.
const UNWATCHED: &str = "AUDIT_UNWATCHED";

/// Alarms of misuse that are on at most; an operator who has so many needs no more of them.
const MAX_ON: usize = 1_000;

/// The alarms that are on: when it last happened, and the count that was told.
type On = BTreeMap<(Rule, String), (Timestamp, u64)>;

/// Events that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// Frames read in one go.
const STEP_FRAMES: usize = 4_096;

/// After a failed read, the next attempt.
const AGAIN: Duration = Duration::from_secs(30);

/// What one reading gave.
struct Step {
    frames: Frames,
    events: Vec<AuditEvent>,
    /// The newest frame of it.
    last: Option<Sequence>,
    /// Whether there was more.
    more: bool,
}

/// Reads what is durable, some thousands of frames at most.
fn read(frames: Frames, home: &HomeCommunityId) -> Result<Step> {
    let mut step = Step {
        frames,
        events: Vec::new(),
        last: None,
        more: false,
    };
    for _ in 0..STEP_FRAMES {
        let Some(frame) = step.frames.try_next()? else {
            return Ok(step);
        };
        for record in &frame.audit {
            let event = event_of(record, index_of(frame.sequence), home)?;
            step.events.push(event);
        }
        step.last = Some(frame.sequence);
    }
    step.more = true;
    Ok(step)
}

impl Gateway {
    /// Looks at every event from now on, until the node stops. What cannot be read is tried again,
    /// with an alarm as long as it lasts: no event is passed over.
    pub(super) async fn watch_for_misuse(self: Arc<Self>) {
        let mut durable = self.store.watch();
        let mut seen = self.store.last_sequence();
        let mut frames = self.store.frames(seen.next());
        let mut detector = Detector::default();
        let mut on = On::new();
        let (mut more, mut unwatched) = (false, false);
        loop {
            let next = async {
                if unwatched {
                    tokio::time::sleep(AGAIN).await;
                    return true;
                }
                if more {
                    return true;
                }
                let changed = durable.changed().await.is_ok();
                tokio::time::sleep(GATHER).await;
                changed
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                goes_on = next => if !goes_on { return },
            }
            let home = self.home.clone();
            let read = tokio::task::spawn_blocking(move || read(frames, &home)).await;
            let step = match read.map_err(Error::internal).flatten() {
                Ok(step) => step,
                Err(error) => {
                    self.unwatched(&error);
                    unwatched = true;
                    frames = self.store.frames(seen.next());
                    continue;
                }
            };
            if unwatched {
                self.edge.alarms.keep_only(UNWATCHED, &[]);
                unwatched = false;
            }
            for event in &step.events {
                for finding in detector.observe(event) {
                    self.suspect(&finding, &mut on);
                }
            }
            self.end_old(&mut on);
            seen = step.last.unwrap_or(seen);
            (frames, more) = (step.frames, step.more);
        }
    }

    /// Nobody looks at the audit meanwhile: an operator must know.
    fn unwatched(&self, error: &Error) {
        tracing::error!(%error, "the audit cannot be watched for misuse");
        let message = "the audit cannot be read, so nobody watches it for misuse".to_owned();
        let (alarms, now) = (&self.edge.alarms, self.clock.now());
        alarms.raise(UNWATCHED, "audit", Severity::Error, message, now);
    }

    /// Raises an alarm, and again when it is twice as bad; the alarm stays on while it goes on.
    fn suspect(&self, finding: &Finding, on: &mut On) {
        let Finding {
            rule,
            who,
            count,
            evidence: (first, last),
        } = finding;
        let key = (*rule, who.clone());
        let told = on.get(&key).map_or(0, |(_, told)| *told);
        if told == 0 && on.len() >= MAX_ON {
            return;
        }
        let is_worse = *count >= told.saturating_mul(2).max(1);
        let told = if is_worse { *count } else { told };
        on.insert(key, (self.clock.now(), told));
        if !is_worse {
            return;
        }
        let message = format!("{who}: {count}, entries {first} to {last} of the audit log");
        let now = self.clock.now();
        let alarms = &self.edge.alarms;
        alarms.raise(rule.code(), who, Severity::Warning, message, now);
    }

    fn end_old(&self, on: &mut On) {
        let (before, now) = (on.len(), self.clock.now());
        on.retain(|_, (last, _)| now.duration_since(*last) < STAYS);
        if on.len() == before {
            return;
        }
        for rule in Rule::ALL {
            let left = on.keys().filter(|(of, _)| *of == rule);
            let left: Vec<String> = left.map(|(_, who)| who.clone()).collect();
            self.edge.alarms.keep_only(rule.code(), &left);
        }
    }
}
