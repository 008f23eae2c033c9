//! Watching the audit for misuse beside the calls, and alarming with evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;

use crate::audit::detect::{Detector, Finding, Rule};
use crate::audit::leaf::index_of;
use crate::edge::Severity;
use crate::store::{Frames, StoreError};
use crate::wire::pb::audit::AuditEvent;

use super::Gateway;

/// An alarm stays on so long after the last event it rests on.
const STAYS: SignedDuration = SignedDuration::from_hours(24);

/// The audit is not watched for misuse.
const UNWATCHED: &str = "AUDIT_UNWATCHED";

/// Events that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// Frames read in one go.
const STEP_FRAMES: usize = 4_096;

/// Reads what is durable, some thousands of frames at most.
fn read(mut frames: Frames) -> Result<(Frames, Vec<AuditEvent>, bool), StoreError> {
    let mut events = Vec::new();
    for _ in 0..STEP_FRAMES {
        let Some(frame) = frames.try_next()? else {
            return Ok((frames, events, false));
        };
        for record in &frame.audit {
            if let Ok(mut event) = AuditEvent::decode(record.clone()) {
                event.sequence = index_of(frame.sequence);
                events.push(event);
            }
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
        let mut on: BTreeMap<(Rule, String), Timestamp> = BTreeMap::new();
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
            let read = tokio::task::spawn_blocking(move || read(frames)).await;
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
                    self.suspect(&finding);
                    on.insert((finding.rule, finding.who), self.clock.now());
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

    fn suspect(&self, finding: &Finding) {
        let Finding {
            rule,
            who,
            count,
            evidence: (first, last),
        } = finding;
        let message = format!("{who}: {count}, entries {first} to {last} of the audit log");
        let now = self.clock.now();
        let alarms = &self.edge.alarms;
        alarms.raise(rule.code(), who, Severity::Warning, message, now);
    }

    fn end_old(&self, on: &mut BTreeMap<(Rule, String), Timestamp>) {
        let (before, now) = (on.len(), self.clock.now());
        on.retain(|_, since| now.duration_since(*since) < STAYS);
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
