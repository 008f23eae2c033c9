//! Watching the audit for misuse beside the calls, and alarming with evidence.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::audit::detect::{Baselines, Detector, Finding, Rule};
use crate::audit::event_of;
use crate::audit::leaf::index_of;
use crate::edge::Severity;
use crate::error::{Error, Result};
use crate::store::disk::{Disk, read_small, write_small};
use crate::store::{Frames, Sequence};
use crate::types::HomeCommunityId;
use crate::wire::from_timestamp;
use crate::wire::pb::audit::AuditEvent;

use super::Gateway;
use super::sinks::blocking;

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

/// Frames of a ledger that are looked at to learn what is usual, if nothing is known of it.
const LEARNED_FRAMES: u64 = 1_000_000;
/// What has been learned is kept so often, by the node's clock.
const KEPT_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Octets of it.
const MAX_KEPT: usize = 16 * 1024 * 1024;

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

/// The events with which something came to look like misuse: what, and when.
type Found = Vec<(Finding, Option<Timestamp>)>;

/// The watch, with what it remembers.
struct Watch {
    detector: Detector,
    /// The first frame that was not learned from when it began.
    unlearned: Sequence,
    /// The first frame seen in each of the last hours.
    hours: BTreeMap<i64, Sequence>,
}

impl Watch {
    fn observe(&mut self, events: &[AuditEvent]) -> Found {
        let mut found = Vec::new();
        for event in events {
            let at = event.recorded.as_ref().and_then(from_timestamp);
            if let Some(at) = at {
                let hour = at.as_second().div_euclid(3_600);
                let frame = Sequence(event.sequence + 1);
                self.hours.entry(hour).or_insert(frame);
                let kept = Rule::LONGEST / 3_600;
                self.hours.retain(|one, _| *one >= hour - kept);
            }
            let findings = self.detector.observe(event);
            found.extend(findings.into_iter().map(|finding| (finding, at)));
        }
        found
    }

    /// From where to look again after a restart, so that every count is whole.
    fn again(&self, next: Sequence) -> Sequence {
        self.hours.values().min().copied().unwrap_or(next).min(next)
    }
}

/// Where what has been learned is kept: the store's id, the next frame to learn from, the first one to
/// look at again, and then [`Baselines`].
#[derive(Clone, Debug)]
struct Memory {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    store: String,
}

impl Memory {
    /// What was kept. What is not there, of another store or not understood is learned anew.
    fn read(&self) -> Option<(Sequence, Sequence, Baselines)> {
        let bytes = read_small(self.disk.as_ref(), &self.file, MAX_KEPT).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = bytes.split_at_checked(end)?;
        let mut head = std::str::from_utf8(head).ok()?.split(' ');
        let store = head.next()?;
        let next = head.next()?.parse().ok()?;
        let again = head.next()?.parse().ok()?;
        let baselines = Baselines::from_json(rest)?;
        (store == self.store).then_some((Sequence(next), Sequence(again), baselines))
    }

    fn keep(&self, next: Sequence, again: Sequence, baselines: &Baselines) -> io::Result<()> {
        let mut bytes = format!("{} {} {}\n", self.store, next.0, again.0).into_bytes();
        bytes.extend(baselines.to_json());
        let folder = self.file.parent().unwrap_or(Path::new("."));
        self.disk.create_dir_all(folder)?;
        write_small(self.disk.as_ref(), &self.file, &bytes)
    }
}

impl Gateway {
    fn misuse_memory(&self) -> Memory {
        Memory {
            disk: Arc::clone(&self.sinks.disk),
            file: self.sinks.folder.with_file_name("misuse").join("usual"),
            store: data_encoding::HEXLOWER.encode(&self.store.keys().store_id()),
        }
    }

    /// The watch as it was left, and the frame to go on from: what it counted in the last day is
    /// counted again. Without a memory of it, it learns from the newest part of the ledger.
    async fn begin_watch(&self) -> Result<(Watch, Sequence)> {
        let memory = self.misuse_memory();
        let end = self.store.last_sequence().next();
        let kept = blocking(move || Ok(memory.read())).await?;
        let known = kept.filter(|(next, again, _)| again <= next && *next <= end);
        let (unlearned, from, baselines) = known.unwrap_or_else(|| {
            let from = Sequence(end.0.saturating_sub(LEARNED_FRAMES).max(1));
            (from, from, Baselines::default())
        });
        let limits = self.config.misuse;
        let watch = Watch {
            detector: Detector::new(limits, baselines, index_of(unlearned)),
            unlearned,
            hours: BTreeMap::new(),
        };
        Ok((watch, from.max(Sequence(1))))
    }

    /// Keeps what has been learned. If that fails it is learned again after a restart.
    async fn keep_learned(&self, watch: Watch, next: Sequence) -> Result<Watch> {
        let memory = self.misuse_memory();
        let keep = move || {
            let again = watch.again(next);
            // The node may stop before it has looked again at all that it had learned from.
            let next = next.max(watch.unlearned);
            if let Err(error) = memory.keep(next, again, watch.detector.baselines()) {
                tracing::warn!(%error, "what is usual could not be kept");
            }
            Ok(watch)
        };
        blocking(keep).await
    }

    /// Looks at every event until the node stops.
    pub(super) async fn watch_for_misuse(self: Arc<Self>) {
        if let Err(error) = self.keep_watching().await {
            self.unwatched(&error);
        }
    }

    /// Looks at every event, also at those of before a restart. What cannot be read is tried again,
    /// with an alarm as long as it lasts: no event is passed over.
    async fn keep_watching(&self) -> Result<()> {
        let mut durable = self.store.watch();
        let (mut watch, mut next) = self.begin_watch().await?;
        let mut frames = self.store.frames(next);
        let mut on = On::new();
        let (mut more, mut unwatched) = (true, false);
        let mut kept = self.clock.now();
        loop {
            let coming = async {
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
            let goes_on = tokio::select! {
                () = self.stop.cancelled() => false,
                goes_on = coming => goes_on,
            };
            if !goes_on {
                self.keep_learned(watch, next).await?;
                return Ok(());
            }
            let home = self.home.clone();
            let look = move || {
                let looked = read(frames, &home).map(|step| {
                    let found = watch.observe(&step.events);
                    (step, found)
                });
                Ok((watch, looked))
            };
            let looked;
            (watch, looked) = blocking(look).await?;
            let (step, found) = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    self.unwatched(&error);
                    unwatched = true;
                    frames = self.store.frames(next);
                    continue;
                }
            };
            if unwatched {
                self.edge.alarms.keep_only(UNWATCHED, &[]);
                unwatched = false;
            }
            self.tell(&found, &mut on);
            next = step.last.map_or(next, Sequence::next);
            (frames, more) = (step.frames, step.more);
            let now = self.clock.now();
            if now.duration_since(kept) >= KEPT_EVERY {
                watch = self.keep_learned(watch, next).await?;
                kept = now;
            }
        }
    }

    /// What is told of: not what was over long ago.
    fn tell(&self, found: &[(Finding, Option<Timestamp>)], on: &mut On) {
        let now = self.clock.now();
        for (finding, at) in found {
            if at.is_none_or(|at| now.duration_since(at) < STAYS) {
                self.suspect(finding, on);
            }
        }
        self.end_old(on);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    #[test]
    fn what_was_learned_is_kept_for_one_store() {
        let folder = tempfile::tempdir().unwrap();
        let memory = |store: &str| Memory {
            disk: Arc::new(RealDisk),
            file: folder.path().join("misuse/usual"),
            store: store.to_owned(),
        };
        assert!(memory("aa").read().is_none());
        let baselines = Baselines::default();
        memory("aa")
            .keep(Sequence(9), Sequence(4), &baselines)
            .unwrap();
        let (next, again, kept) = memory("aa").read().unwrap();
        assert_eq!((next, again), (Sequence(9), Sequence(4)));
        assert!(kept.is_empty());
        assert!(memory("bb").read().is_none(), "of another store");
        std::fs::write(folder.path().join("misuse/usual"), "aa 9 4\nx").unwrap();
        assert!(memory("aa").read().is_none(), "damaged");
    }
}
