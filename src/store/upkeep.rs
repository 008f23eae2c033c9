//! What an open store needs done from time to time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Store;

/// How often it is looked whether a new key epoch is due.
const LOOK: Duration = Duration::from_hours(1);
const DAY_SECONDS: i64 = 86_400;

/// Whether a new epoch is due, or one that was begun has to be brought to its end.
fn is_due(store: &Store, now: i64, after_days: u32) -> bool {
    let age = now.saturating_sub(store.keys().epoch_began());
    let due = after_days > 0 && age >= i64::from(after_days).saturating_mul(DAY_SECONDS);
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
