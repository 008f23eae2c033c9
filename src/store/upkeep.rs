//! What an open store needs done from time to time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::StoreError;
use super::{ScrubOptions, Store};

/// How often it is looked whether a new key epoch is due.
const LOOK: Duration = Duration::from_hours(1);
const DAY_SECONDS: i64 = 86_400;

/// Idempotency keys forgotten in one change.
const FORGOTTEN: usize = 1_000;

/// How documents are looked after.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// How long after one cycle of verifying every document began the next begins; zero is never.
    pub scrub_every: Duration,
    /// Document bytes read in a second.
    pub scrub_bytes_per_second: u64,
    /// How long what nothing refers to is kept aside before it is deleted.
    pub swept_kept: Duration,
}

/// Verifies documents, takes away those that nothing refers to, and forgets idempotency keys whose
/// time has passed, until `stop`.
pub async fn keep_documents(store: Arc<Store>, upkeep: Upkeep, stop: CancellationToken) {
    loop {
        if let Err(error) = look_after(&store, upkeep, &stop).await {
            tracing::error!(%error, "the upkeep of documents was broken off");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look_after(
    store: &Arc<Store>,
    upkeep: Upkeep,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() && store.purge_expired(FORGOTTEN).await? == FORGOTTEN {}
    let swept = store.sweep(upkeep.swept_kept).await?;
    if swept.swept + swept.deleted > 0 {
        let (swept, deleted) = (swept.swept, swept.deleted);
        tracing::info!(swept, deleted, "documents that nothing refers to");
    }
    if !scrub_is_due(store, upkeep.scrub_every)? {
        return Ok(());
    }
    let (store, stop) = (Arc::clone(store), stop.clone());
    let options = ScrubOptions {
        bytes_per_second: Some(upkeep.scrub_bytes_per_second),
        anew: false,
    };
    let scrubbed = tokio::task::spawn_blocking(move || {
        store.scrub(options, &|| stop.is_cancelled(), &mut |_| ())
    });
    let report = scrubbed.await.map_err(|_| StoreError::Closed)??;
    if report.is_well() {
        tracing::info!(documents = report.documents, "documents verified");
    } else {
        let (mended, set_aside) = (report.mended, report.quarantined);
        tracing::error!(mended, set_aside, "documents did not verify");
    }
    Ok(())
}

fn scrub_is_due(store: &Store, every: Duration) -> Result<bool, StoreError> {
    if every.is_zero() {
        return Ok(false);
    }
    let Some(last) = store.scrubbed()?.filter(|last| !last.finished.is_empty()) else {
        return Ok(true);
    };
    let now = store.core.clock.now();
    let began = last.started.parse::<jiff::Timestamp>().unwrap_or(now);
    let age = now.as_second().saturating_sub(began.as_second());
    // A cycle dated ahead was begun while the clock was wrong.
    Ok(age < 0 || u64::try_from(age).unwrap_or(0) >= every.as_secs())
}

/// Whether a new epoch is due, or one that was begun has to be brought to its end.
fn is_due(store: &Store, now: i64, after_days: u32) -> bool {
    let age = now.saturating_sub(store.keys().epoch_began());
    // An epoch dated ahead was begun while the clock was wrong.
    let old = age < 0 || age >= i64::from(after_days).saturating_mul(DAY_SECONDS);
    let due = after_days > 0 && old;
    due || store.is_rotating()
}

/// Begins a new key epoch when the one in force is older than `after_days` (0: never), and finishes
/// a rotation that a stop interrupted, until `stop`.
pub async fn keep_keys(store: Arc<Store>, after_days: u32, stop: CancellationToken) {
    loop {
        let now = store.core.clock.now().as_second();
        if is_due(&store, now, after_days) {
            let store = Arc::clone(&store);
            let rotated = tokio::task::spawn_blocking(move || store.rotate_keys(&mut |_| ()));
            match rotated.await {
                Ok(Ok(rotation)) => tracing::info!(epoch = rotation.epoch, "keys rotated"),
                Ok(Err(error)) => tracing::error!(%error, "the keys were not rotated"),
                Err(error) => tracing::error!(%error, "key rotation ended unexpectedly"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
