//! Keeping the audit log beside the calls: following the ledger, signing checkpoints, and telling the
//! operator when the log does not continue what was signed.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::time::Instant;

use crate::audit::{Log, LogOptions};
use crate::config::Config;
use crate::edge::Severity;
use crate::error::{Error, Result};
use crate::store::{Keys, Options};
use crate::types::HomeCommunityId;

use super::Gateway;

/// A checkpoint is signed at the latest so long after something new.
const SIGN_AFTER: Duration = Duration::from_secs(1);
/// Or when there are so many new leaves.
const SIGN_LEAVES: u64 = 1_024;
/// Frames that come within this time are taken together.
const GATHER: Duration = Duration::from_millis(25);
/// Witnesses are asked at most this often.
const WITNESS_EVERY: Duration = Duration::from_secs(5);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Alarm: no checkpoint can be signed.
const NOT_SIGNED: &str = "AUDIT_LOG_NOT_SIGNED";

/// Where the audit log of a node is, once its store is open.
pub(super) fn options(
    config: &Config,
    home: &HomeCommunityId,
    options: &Options,
) -> impl FnOnce(&Keys) -> LogOptions + use<> {
    let folder = config.node.data_dir.join("audit");
    let key_file = config.audit.key_file.clone();
    let home = home.to_string();
    let Options {
        disk,
        clock,
        random,
        ..
    } = options.clone();
    move |keys| LogOptions {
        folder,
        key_file,
        origin: origin(&home, &keys.store_id()),
        disk,
        clock,
        random,
    }
}

/// The name of a node's log: two stores of one community are two logs.
pub(crate) fn origin(home: &str, store_id: &[u8; 16]) -> String {
    let oid = home.strip_prefix("urn:oid:").unwrap_or(home);
    format!("renkei/{oid}/{}", HEXLOWER.encode(store_id))
}

/// Runs blocking work on the log.
pub(crate) async fn blocking<T: Send + 'static>(
    log: &Arc<Log>,
    work: impl FnOnce(&Log) -> Result<T> + Send + 'static,
) -> Result<T> {
    let log = Arc::clone(log);
    let done = tokio::task::spawn_blocking(move || work(&log)).await;
    done.map_err(Error::internal)?
}

impl Gateway {
    /// Follows the ledger until the node stops.
    pub(super) async fn keep_audit_log(self: Arc<Self>) {
        let mut durable = self.store.watch();
        let mut signed = Instant::now();
        loop {
            let pause = match self.follow_audit(&mut signed).await {
                Ok(()) => {
                    self.edge.alarms.keep_only(NOT_SIGNED, &[]);
                    GATHER
                }
                Err(error) => {
                    let message = error.to_string();
                    let now = self.clock.now();
                    let alarms = &self.edge.alarms;
                    alarms.raise(NOT_SIGNED, "audit", Severity::Error, message, now);
                    RETRY
                }
            };
            let more = async {
                tokio::time::sleep(pause).await;
                let latest = self.audit.log().latest();
                let all_signed = latest
                    .is_some_and(|latest| latest.checkpoint.size >= self.store.last_sequence().0);
                !all_signed || durable.changed().await.is_ok()
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                goes_on = more => if !goes_on { return },
            }
        }
    }

    /// Asks the witnesses from time to time, until the node stops: about what is more than the events
    /// of witnessing itself, or two nodes that witness each other would never rest.
    pub(super) async fn keep_witnessed(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(WITNESS_EVERY) => {}
            }
            let log = self.audit.log();
            let Some(latest) = log.latest() else { continue };
            let wanted = log.worth_witnessing().min(latest.checkpoint.size);
            match log.witnessed_last() {
                Some(size) if size >= wanted && self.is_cosigned(size) => {
                    self.count_witnesses(size).await;
                }
                _ => self.have_witnessed(&latest).await,
            }
        }
    }

    /// Takes what is new, and signs if it is time to.
    async fn follow_audit(&self, signed: &mut Instant) -> Result<()> {
        let log = self.audit.log();
        while blocking(log, Log::advance).await? {
            if self.stop.is_cancelled() {
                return Ok(());
            }
        }
        let last = log.latest().map_or(0, |latest| latest.checkpoint.size);
        let new = log.size().saturating_sub(last);
        if new >= SIGN_LEAVES || (new > 0 && signed.elapsed() >= SIGN_AFTER) {
            blocking(log, |log| log.checkpoint().map(|_| ())).await?;
            *signed = Instant::now();
        }
        Ok(())
    }
}
