//! Store and forward to the parent: in order, at least once, with an idempotency key each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::store::{AppliedWrite, Commit, Follower, Row as _, Sequence, Store, Write};
use crate::types::HomeCommunityId;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::peers::{Peers, own};
use super::tables::{OutboxRow, UndeliveredRow};

/// Items in one delivery.
const BATCH: usize = 32;
/// A delivery that takes longer is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// First wait after a failure; doubles up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The queue to the parent. Without a parent nothing is ever queued.
#[derive(Debug)]
pub struct Outbox {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    parent: Option<HomeCommunityId>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

/// Wakes the sender when something is queued.
#[derive(Debug, Default)]
struct Waiting(Notify);

impl Follower for Waiting {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        if writes
            .iter()
            .any(|write| write.table == OutboxRow::TABLE && write.value.is_some())
        {
            self.0.notify_one();
        }
    }
}

impl Outbox {
    /// Opens the queue kept in `store`.
    ///
    /// # Errors
    /// The store.
    pub fn open(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        parent: Option<HomeCommunityId>,
    ) -> Result<Self> {
        let mut last = 0;
        store.scan::<OutboxRow>(&mut |row| {
            last = last.max(row.row.number);
            Ok(())
        })?;
        // Numbers never repeat, even when the queue was empty at the last stop.
        let floor = store.last_sequence().0.saturating_mul(1 << 16);
        let waiting = Arc::new(Waiting::default());
        store.follow(Arc::clone(&waiting) as Arc<dyn Follower>);
        Ok(Self {
            store,
            clock,
            parent,
            next: AtomicU64::new(last.max(floor) + 1),
            waiting,
        })
    }

    /// Whether there is a parent to tell.
    pub fn has_parent(&self) -> bool {
        self.parent.is_some()
    }

    /// The row that queues a notice; to be committed with the change it tells of.
    pub fn notice(&self, content: pb::notice::Content) -> Vec<Write> {
        self.queue(|outbox, number| {
            let notice = pb::Notice {
                notice_id: format!("{number:016x}"),
                sequence: number,
                queued: Some(crate::wire::timestamp(outbox.clock.now())),
                content: Some(content),
            };
            OutboxRow {
                number,
                notice: Some(notice),
                holding: None,
            }
        })
    }

    /// The row that queues a holdings notice.
    pub fn holding(&self, notice: pb::HoldingNotice) -> Vec<Write> {
        self.queue(|_, number| {
            let holding = Some(pb::HoldingNotice {
                sequence: number,
                ..notice
            });
            OutboxRow {
                number,
                notice: None,
                holding,
            }
        })
    }

    fn queue(&self, row: impl FnOnce(&Self, u64) -> OutboxRow) -> Vec<Write> {
        if self.parent.is_none() {
            return Vec::new();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        vec![Write::put(&row(self, number))]
    }

    /// How many items wait.
    ///
    /// # Errors
    /// The store.
    pub fn len(&self) -> Result<usize> {
        Ok(self.store.range::<OutboxRow>(&[], None, 100_000)?.len())
    }

    /// Whether nothing waits.
    ///
    /// # Errors
    /// The store.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.store.range::<OutboxRow>(&[], None, 1)?.is_empty())
    }

    /// Sends until told to stop.
    pub async fn run(self: Arc<Self>, peers: Arc<Peers>, stop: CancellationToken) {
        let Some(parent) = self.parent.clone() else {
            return;
        };
        let mut wait = MIN_WAIT;
        while !stop.is_cancelled() {
            let pause = match self.deliver(&peers, &parent).await {
                Ok(true) => {
                    wait = MIN_WAIT;
                    continue;
                }
                Ok(false) => {
                    wait = MIN_WAIT;
                    None
                }
                Err(error) => {
                    tracing::warn!(
                        reason = error.reason().name(),
                        retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        "the parent could not be told; will try again"
                    );
                    let pause = wait;
                    wait = (wait * 2).min(MAX_WAIT);
                    Some(pause)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.waiting.0.notified(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or(MAX_WAIT)) => {}
            }
        }
    }

    /// Sends the oldest items; says whether there were any.
    async fn deliver(&self, peers: &Peers, parent: &HomeCommunityId) -> Result<bool> {
        let rows = self.store.range::<OutboxRow>(&[], None, BATCH)?;
        let items: Vec<OutboxRow> = rows.into_iter().map(|(_, row)| row.row).collect();
        let Some(first) = items.first() else {
            return Ok(false);
        };
        let kind = first.notice.is_some();
        let batch: Vec<&OutboxRow> = items
            .iter()
            .take_while(|item| item.notice.is_some() == kind)
            .collect();
        let channel = peers.channel(&*peers.peer(parent)?)?;
        let mut client = RespondingGatewayServiceClient::new(channel);
        let failures = if kind {
            deliver_notices(&mut client, &batch).await?
        } else {
            deliver_holdings(&mut client, &batch).await?
        };
        self.settle(&batch, failures).await?;
        Ok(true)
    }

    /// Takes delivered items out of the queue and puts refused ones aside.
    async fn settle(&self, batch: &[&OutboxRow], failures: Vec<(String, String)>) -> Result<()> {
        let mut writes = Vec::new();
        for item in batch {
            writes.push(Write::delete::<OutboxRow>(item.key()));
            let id = item.notice.as_ref().map(|notice| notice.notice_id.as_str());
            let refused = failures
                .iter()
                .find(|(failed, _)| Some(failed.as_str()) == id);
            if let Some((_, reason)) = refused {
                tracing::error!(reason, "the parent refused a notice for good");
                let row = UndeliveredRow {
                    item: Some((*item).clone()),
                    reason: reason.clone(),
                };
                writes.push(Write::put(&row));
            }
        }
        let outcome = self
            .store
            .commit(Commit {
                writes,
                ..Commit::default()
            })
            .await?;
        tracing::debug!(?outcome, "told the parent");
        Ok(())
    }
}

type Client = RespondingGatewayServiceClient<tonic::transport::Channel>;

/// Delivers notices; gives those refused for good, with the reason.
async fn deliver_notices(
    client: &mut Client,
    batch: &[&OutboxRow],
) -> Result<Vec<(String, String)>> {
    let notices: Vec<pb::Notice> = batch
        .iter()
        .filter_map(|item| item.notice.clone())
        .collect();
    let request = pb::DeliverNoticesRequest {
        notices,
        idempotency_key: String::new(),
    };
    let response = client
        .deliver_notices(own(request, TIMEOUT))
        .await
        .map_err(unavailable)?;
    let mut refused = Vec::new();
    for result in response.into_inner().results {
        if !result.accepted && result.retryable {
            return Err(Error::new(
                Reason::CommunityUnavailable,
                "the parent asks to try again",
            ));
        }
        if !result.accepted {
            refused.push((result.notice_id, result.reason));
        }
    }
    Ok(refused)
}

async fn deliver_holdings(
    client: &mut Client,
    batch: &[&OutboxRow],
) -> Result<Vec<(String, String)>> {
    let notices = batch
        .iter()
        .filter_map(|item| item.holding.clone())
        .collect();
    // Bound to the very items: a retry may hold more of them. Repeats are harmless, newest wins.
    let ends = batch.first().zip(batch.last());
    let key = ends.map(|(first, last)| format!("holdings-{:x}-{:x}", first.number, last.number));
    let request = pb::NotifyHoldingsRequest {
        notices,
        idempotency_key: key.unwrap_or_default(),
        ..pb::NotifyHoldingsRequest::default()
    };
    client
        .notify_holdings(own(request, TIMEOUT))
        .await
        .map_err(unavailable)?;
    Ok(Vec::new())
}

fn unavailable(status: tonic::Status) -> Error {
    Error::new(Reason::CommunityUnavailable, "the parent did not take it").caused_by(status)
}
