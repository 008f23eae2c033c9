//! Watching the audit for misuse beside the calls, and alarming with evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::audit::detect::{Detector, Finding, Rule};
use crate::audit::event_of;
use crate::audit::leaf::index_of;
use crate::edge::Severity;
use crate::error::Result;
use crate::store::Frames;
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

/// Reads what is durable, some thousands of frames at most.
fn read(mut frames: Frames, home: &HomeCommunityId) -> Result<(Frames, Vec<AuditEvent>, bool)> {
    let mut events = Vec::new();
    for _ in 0..STEP_FRAMES {
        let Some(frame) = frames.try_next()? else {
            return Ok((frames, events, false));
        };
        for record in &frame.audit {
            events.push(event_of(record, index_of(frame.sequence), home)?);
        }
    }
    Ok((frames, events, true))
}

impl Gateway {
    /// Looks at every event from now on, until the node stops.
    pub(super) async fn watch_for_misuse(self: Arc<Self>) {
        let mut durable = self.store.watch();
        let mut frames = self.store.frames(self.store.last_sequence().next());
        let mut detector = Detector::default();
        let mut on = On::new();
        let mut more = false;
        loop {
            let next = async {
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
            let events;
            (frames, events, more) = match read {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => {
                    self.unwatched(&error.to_string());
                    return;
                }
                Err(error) => {
                    self.unwatched(&error.to_string());
                    return;
                }
            };
            for event in &events {
                for finding in detector.observe(event) {
                    self.suspect(&finding, &mut on);
                }
            }
            self.end_old(&mut on);
        }
    }

    /// Nobody looks at the audit any more until the node is started again: an operator must know.
    fn unwatched(&self, error: &str) {
        tracing::error!(error, "the audit cannot be watched for misuse");
        let message = "the audit cannot be read, so nobody watches it for misuse until a restart";
        let (alarms, now) = (&self.edge.alarms, self.clock.now());
        let message = message.to_owned();
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
