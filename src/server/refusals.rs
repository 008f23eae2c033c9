//! Handshakes that were refused leave one audit event each (`spec` security-bars §7 T), without
//! giving strangers a way to fill the disk: a bounded queue, events committed together, and an
//! allowance beyond which refusals are only counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::audit::{Outcome, Record, Who};
use crate::edge::Severity;
use crate::gateway::Gateway;
use crate::store::Commit;
use crate::types::{PersonRole, PurposeOfUse};

/// Refusals that wait for the disk.
const WAITING: usize = 256;
/// Events written in a burst, and how many more each second. A burst is what an operator's mistake
/// with certificates makes; more is somebody else's doing.
const BURST: u32 = 1_024;
const PER_SECOND: u32 = 4;
/// The method of these events: none of the interface's.
const METHOD: &str = "edge/Handshake";
/// Alarm: refusals were not audited one by one.
const UNAUDITED: &str = "HANDSHAKES_UNAUDITED";

/// Takes refusals down; to be called with the rule.
pub(super) fn audit(gateway: &Arc<Gateway>) -> Box<dyn Fn(&'static str) + Send + Sync> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let tasks = gateway.tasks.clone();
    tasks.spawn(write(Arc::clone(gateway), receiver, Arc::clone(&lost)));
    Box::new(move |rule| {
        if sender.try_send(rule).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    })
}

async fn write(
    gateway: Arc<Gateway>,
    mut refusals: mpsc::Receiver<&'static str>,
    lost: Arc<AtomicU64>,
) {
    let (mut left, mut at) = (BURST, Instant::now());
    let mut waiting = Vec::new();
    loop {
        let count = tokio::select! {
            () = gateway.stop.cancelled() => return,
            count = refusals.recv_many(&mut waiting, WAITING) => count,
        };
        if count == 0 {
            return;
        }
        let seconds = u32::try_from(at.elapsed().as_secs()).unwrap_or(u32::MAX);
        at += Duration::from_secs(u64::from(seconds));
        left = left
            .saturating_add(seconds.saturating_mul(PER_SECOND))
            .min(BURST);
        let allowed = count.min(left as usize);
        left -= u32::try_from(allowed).unwrap_or(left);
        lost.fetch_add((count - allowed) as u64, Ordering::Relaxed);
        let events = waiting
            .drain(..)
            .take(allowed)
            .map(|rule| event(&gateway, rule));
        let commit = Commit {
            audit: events.collect(),
            ..Commit::default()
        };
        if allowed > 0
            && let Err(error) = gateway.store.commit(commit).await
        {
            tracing::error!(%error, "refused handshakes could not be audited");
        }
        tell(&gateway, lost.swap(0, Ordering::Relaxed));
    }
}

fn tell(gateway: &Gateway, lost: u64) {
    if lost > 0 {
        let message = format!("{lost} refused handshakes at once were counted, not audited");
        let now = gateway.clock.now();
        let alarms = &gateway.edge.alarms;
        alarms.raise(UNAUDITED, "handshakes", Severity::Warning, message, now);
    } else {
        gateway.edge.alarms.keep_only(UNAUDITED, &[]);
    }
}

fn event(gateway: &Gateway, rule: &'static str) -> bytes::Bytes {
    let who = Who {
        institution: None,
        community: gateway.home.clone(),
        subject: None,
        role: PersonRole::System,
        purpose: PurposeOfUse::Operations,
        relation: None,
        relay: None,
    };
    let mut record = Record::new(who, METHOD, uuid::Uuid::now_v7().to_string());
    record.failure = Some("HANDSHAKE_REFUSED");
    record.denial = Some(rule);
    record.close(Outcome::Denied, gateway.clock.now())
}
