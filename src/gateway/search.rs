//! Keeping the identities' search index beside the calls, so that the next start is quick, also after
//! a kill.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;

/// When it is first kept: a node that was killed has just made it anew.
const FIRST: Duration = Duration::from_mins(1);
/// How often after that, if enough has changed.
const EVERY: Duration = Duration::from_hours(1);

impl Gateway {
    /// Keeps the search index from time to time, until the node stops.
    pub(super) async fn keep_search_index(self: Arc<Self>) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            self.keep_search().await;
            pause = EVERY;
        }
    }

    /// Keeps it. That it cannot be is no harm but to the time that the next start takes.
    pub(super) async fn keep_search(&self) {
        let identity = Arc::clone(&self.identity);
        match tokio::task::spawn_blocking(move || identity.keep_search()).await {
            Ok(Ok(true)) => tracing::info!("search index kept"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the search index was not kept"),
            Err(error) => tracing::warn!(%error, "the search index was not kept"),
        }
    }
}
