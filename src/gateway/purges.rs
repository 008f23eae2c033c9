//! Carrying out what two people approved: a patient's keys are destroyed, beside the calls.

use std::sync::Arc;
use std::time::Duration;

use crate::edge::Severity;

use super::Gateway;

/// Alarm: an approved purge could not be carried out.
const FAILED: &str = "PURGE_FAILED";
/// After a failure, and if nothing was approved, it is looked again.
const AGAIN: Duration = Duration::from_mins(1);

impl Gateway {
    /// Carries out approved purges, those first that a stop has cut off, until the node stops.
    pub(super) async fn keep_purging(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            match self.purges.carry_out_next().await {
                Ok(more) => {
                    self.edge.alarms.keep_only(FAILED, &[]);
                    if more {
                        continue;
                    }
                }
                Err(error) => self.purge_failed(&error),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.purges.wanted() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    fn purge_failed(&self, error: &crate::error::Error) {
        tracing::error!(%error, "an approved purge was not carried out");
        let message = "an approved purge was not carried out; it is tried again".to_owned();
        let now = self.clock.now();
        self.edge
            .alarms
            .raise(FAILED, "store", Severity::Error, message, now);
    }
}
