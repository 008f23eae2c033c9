//! Store and forward to the parent: in order, at least once, with an idempotency key each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::edge::{Alarms, Severity, State};
use crate::error::{Error, Reason, Result};
use crate::store::{
    AppliedWrite, Commit, Expect, Follower, Row as _, Sequence, Store, StoreError, Versioned, Write,
};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::line::Line;
use super::peers::{Peers, own};
use super::tables::{OutboxRow, UndeliveredRow};

/// Items in one delivery.
const BATCH: usize = 32;
/// Bytes in one delivery: well below what the parent takes in one message.
const BATCH_BYTES: usize = 1024 * 1024;
/// Items counted at most for an operator.
const MAX_COUNT: usize = 10_000;
/// Alarm: half of what may wait for the parent waits, or more.
const FILLING: &str = "QUEUE_FILLING";
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
    /// Items that may wait.
    most: u64,
    /// Whether the parent is told of patients at all.
    feeds: bool,
}

/// How many items wait, and who wakes the sender when there are more.
#[derive(Debug, Default)]
struct Waiting {
    more: Notify,
    count: AtomicU64,
}

impl Follower for Waiting {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        for write in writes.iter().filter(|one| one.table == OutboxRow::TABLE) {
            if write.value.is_some() {
                self.count.fetch_add(1, Ordering::Relaxed);
                self.more.notify_one();
            } else {
                let fewer = |count: u64| Some(count.saturating_sub(1));
                let _before = self
                    .count
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
            }
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
        (most, feeds): (u64, bool),
    ) -> Result<Self> {
        let (mut last, mut count) = (0, 0);
        store.scan::<OutboxRow>(&mut |row| {
            last = last.max(row.row.number);
            count += 1;
            Ok(())
        })?;
        // Numbers never repeat, even when the queue was empty at the last stop.
        let floor = store.last_sequence().0.saturating_mul(1 << 16);
        let waiting = Arc::new(Waiting {
            count: AtomicU64::new(count),
            ..Waiting::default()
        });
        store.follow(Arc::clone(&waiting) as Arc<dyn Follower>);
        Ok(Self {
            store,
            clock,
            next: AtomicU64::new(last.max(floor) + 1),
            waiting,
            most,
            feeds: feeds && parent.is_some(),
            parent,
        })
    }

    /// Refuses a change of which the parent must be told when too much waits for it already: nothing
    /// that waits is ever dropped (bar F-16).
    ///
    /// # Errors
    /// [`Reason::Overloaded`].
    pub fn has_room(&self) -> Result<()> {
        if !self.feeds || self.waiting.count.load(Ordering::Relaxed) < self.most {
            return Ok(());
        }
        let message = "too much waits for the parent, which does not answer; come again later";
        Err(Error::new(Reason::Overloaded, message))
    }

    /// Tells the operator how full the queue is.
    fn tell(&self, alarms: &Alarms) {
        let (count, most) = (self.waiting.count.load(Ordering::Relaxed), self.most);
        if count < most.div_ceil(2) {
            alarms.keep_only(FILLING, &[]);
            return;
        }
        let (severity, then) = match count >= most {
            true => (Severity::Error, "changes are refused"),
            false => (Severity::Warning, "when it is full, changes are refused"),
        };
        // In tenths, so that it is not another alarm with every item.
        let tenths = count.saturating_mul(10) / most.max(1);
        let message = format!(
            "the queue to the parent is {}0 % full; {then}",
            tenths.min(10)
        );
        alarms.raise(FILLING, "parent", severity, message, self.clock.now());
    }

    /// Whether there is a parent that is told.
    pub fn feeds(&self) -> bool {
        self.feeds
    }

    /// The row that queues a notice; to be committed with the change it tells of.
    pub fn notice(&self, patient: &PatientIdentifier, content: pb::notice::Content) -> Vec<Write> {
        // What it was told when it asked is taken back, also where it is told nothing else.
        let revoked = matches!(content, pb::notice::Content::RevokedCorrelation(_));
        let wanted = self.feeds || revoked && self.parent.is_some();
        if !wanted {
            return Vec::new();
        }
        self.queue(patient, |outbox, number| {
            let notice = pb::Notice {
                notice_id: format!("{number:016x}"),
                sequence: number,
                queued: Some(crate::wire::timestamp(outbox.clock.now())),
                content: Some(content),
            };
            OutboxRow {
                number,
                notice: Some(notice),
                ..OutboxRow::default()
            }
        })
    }

    /// The row that queues a holdings notice.
    pub fn holding(&self, patient: &PatientIdentifier, notice: pb::HoldingNotice) -> Vec<Write> {
        if !self.feeds {
            return Vec::new();
        }
        self.queue(patient, |_, number| {
            let holding = Some(pb::HoldingNotice {
                sequence: number,
                ..notice
            });
            OutboxRow {
                number,
                holding,
                ..OutboxRow::default()
            }
        })
    }

    fn queue(
        &self,
        patient: &PatientIdentifier,
        row: impl FnOnce(&Self, u64) -> OutboxRow,
    ) -> Vec<Write> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let row = OutboxRow {
            patient: self.store.keys().patient_tag(patient).to_vec(),
            ..row(self, number)
        };
        vec![Write::put(&row)]
    }

    /// How many items wait.
    ///
    /// # Errors
    /// The store.
    pub fn len(&self) -> Result<usize> {
        Ok(self.store.range::<OutboxRow>(&[], None, MAX_COUNT)?.len())
    }

    /// Whether nothing waits.
    ///
    /// # Errors
    /// The store.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.store.range::<OutboxRow>(&[], None, 1)?.is_empty())
    }

    /// Sends until told to stop.
    pub async fn run(
        self: Arc<Self>,
        peers: Arc<Peers>,
        edge: Arc<State>,
        stop: CancellationToken,
    ) {
        let Some(parent) = self.parent.clone() else {
            return;
        };
        let mut wait = MIN_WAIT;
        while !stop.is_cancelled() {
            self.tell(&edge.alarms);
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
                    // Not all regions at once, when a hub comes back (bar F-22).
                    let pause = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                    wait = (wait * 2).min(MAX_WAIT);
                    Some(pause)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.waiting.more.notified(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or(MAX_WAIT)) => {}
            }
        }
    }

    /// Sends the oldest items; says whether there were any.
    async fn deliver(&self, peers: &Peers, parent: &HomeCommunityId) -> Result<bool> {
        let rows = self.store.range::<OutboxRow>(&[], None, BATCH)?;
        let items: Vec<Queued> = rows.into_iter().map(|(_, row)| row).collect();
        let Some(first) = items.first().map(|first| &first.row) else {
            return Ok(false);
        };
        let kind = first.notice.is_some();
        let mut bytes = 0;
        let batch: Vec<&Queued> = items
            .iter()
            .take_while(|Versioned { row, .. }| {
                bytes += row.encoded_len();
                row.number == first.number || row.notice.is_some() == kind && bytes <= BATCH_BYTES
            })
            .collect();
        let channel = peers.channel(&*peers.peer(parent)?)?;
        let mut client = RespondingGatewayServiceClient::new(channel);
        match send(&mut client, &batch).await {
            Ok(settled) => self.settle(&batch, &settled).await?,
            Err(status) if is_final(&status) => {
                // One of them is at fault: each by itself, so that it blocks nobody else.
                for item in &batch {
                    let one = std::slice::from_ref(item);
                    let settled = match send(&mut client, one).await {
                        Ok(settled) => settled,
                        Err(status) if is_final(&status) => {
                            vec![(item.row.number, Some(format!("{:?}", status.code())))]
                        }
                        Err(status) => return Err(unavailable(status)),
                    };
                    self.settle(one, &settled).await?;
                }
            }
            Err(status) => return Err(unavailable(status)),
        }
        Ok(true)
    }

    /// Takes what was accepted out of the queue and puts aside what was refused for good. What the
    /// parent said nothing of stays. If an item is not in the queue any more as it was sent, because
    /// its patient was erased meanwhile, nothing is put aside and the queue is looked at again:
    /// what was erased must not come back.
    async fn settle(&self, batch: &[&Queued], settled: &[Settled]) -> Result<()> {
        let mut writes = Vec::new();
        for Versioned { row: item, version } in batch {
            let Some((_, refused)) = settled.iter().find(|(number, _)| *number == item.number)
            else {
                continue;
            };
            let taken = Write::delete::<OutboxRow>(item.key());
            writes.push(taken.expecting(Expect::Version(*version)));
            if let Some(reason) = refused {
                tracing::error!(reason, "the parent refused a notice for good");
                let row = UndeliveredRow {
                    item: Some(item.clone()),
                    reason: reason.clone(),
                };
                writes.push(Write::put(&row));
            }
        }
        if writes.is_empty() {
            let message = "the parent settled nothing of what it was sent";
            return Err(Error::new(Reason::CommunityUnavailable, message));
        }
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        match self.store.commit(commit).await {
            Ok(_) => tracing::debug!("told the parent"),
            Err(StoreError::Conflict) => tracing::info!("the queue to the parent has changed"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// How many items the parent refused for good; an operator must look at them.
    ///
    /// # Errors
    /// The store.
    pub fn undelivered(&self) -> Result<usize> {
        Ok(self
            .store
            .range::<UndeliveredRow>(&[], None, MAX_COUNT)?
            .len())
    }
}

/// An item as it was in the queue when it was read.
type Queued = Versioned<OutboxRow>;

type Client = RespondingGatewayServiceClient<Line>;

/// An item's number, and why it was refused for good if it was.
type Settled = (u64, Option<String>);

/// Whether a refusal is of the content: trying again cannot succeed.
fn is_final(status: &tonic::Status) -> bool {
    use tonic_types::StatusExt as _;
    let foreign = || {
        let details = status.get_error_details();
        let info = details.error_info();
        info.is_some_and(|info| info.reason == Reason::ForeignDomain.name())
    };
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => true,
        tonic::Code::PermissionDenied => foreign(),
        _ => false,
    }
}

/// Sends items of one kind; says which are settled.
async fn send(
    client: &mut Client,
    batch: &[&Queued],
) -> std::result::Result<Vec<Settled>, tonic::Status> {
    let notices: Vec<pb::Notice> = batch
        .iter()
        .filter_map(|item| item.row.notice.clone())
        .collect();
    if notices.is_empty() {
        let request = pb::NotifyHoldingsRequest {
            notices: batch
                .iter()
                .filter_map(|item| item.row.holding.clone())
                .collect(),
            ..pb::NotifyHoldingsRequest::default()
        };
        // No idempotency key is needed: of one patient's holdings the newest notice wins.
        client.notify_holdings(own(request, TIMEOUT)).await?;
        return Ok(batch.iter().map(|item| (item.row.number, None)).collect());
    }
    let request = pb::DeliverNoticesRequest {
        notices,
        idempotency_key: String::new(),
    };
    let response = client
        .deliver_notices(own(request, TIMEOUT))
        .await?
        .into_inner();
    let mut settled = Vec::new();
    for result in response.results {
        let mut items = batch.iter().map(|item| &item.row);
        let item = items.find(|item| {
            item.notice
                .as_ref()
                .is_some_and(|notice| notice.notice_id == result.notice_id)
        });
        match item {
            Some(item) if result.accepted => settled.push((item.number, None)),
            Some(item) if !result.retryable => settled.push((item.number, Some(result.reason))),
            Some(_) | None => {}
        }
    }
    Ok(settled)
}

fn unavailable(status: tonic::Status) -> Error {
    Error::new(Reason::CommunityUnavailable, "the parent did not take it").caused_by(status)
}
