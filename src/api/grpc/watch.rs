//! Following the registry: frames of the ledger, judged and audited one by one, to one subscriber.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::access::Call;
use crate::audit::Outcome;
use crate::config::Capability;
use crate::documents::{Documents, Subscription};
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::store::{Frame, Sequence};
use crate::wire::pb::documents as pb;

use super::door::{Answer, audit};
use super::revocable::{Judged, changed_meanwhile};

/// Without anything to tell, the place to go on from is told this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Between two looks whether reads see a frame that is durable already.
const APPLYING: Duration = Duration::from_millis(1);
/// Messages on their way to the subscriber: what waits here is judged again when it leaves.
const QUEUE: usize = 1;

/// Follows the registry from a token on, or from now.
///
/// The first message is the place where the stream begins. The stream ends with the node, or after
/// two hours: the subscriber goes on from the last token.
pub(super) fn watch(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::WatchDocumentsRequest,
) -> Answer<Stream<Judged<pb::WatchDocumentsResponse>>> {
    Box::pin(async move {
        gateway.serves(Capability::Registry)?;
        let subscription = Subscription::new(&gateway.guard, &call, &request)?;
        let from = gateway.documents.watch_from(&request.resume_token)?;
        let slot = Arc::clone(&gateway.watches).try_acquire_owned();
        let slot =
            slot.map_err(|_| Error::new(Reason::Overloaded, "too many subscribers at once"))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let watcher = Watcher {
            gateway: Arc::clone(&gateway),
            call,
            subscription,
            sender,
        };
        gateway.tasks.spawn(async move {
            let _slot = slot;
            watcher.run(from).await;
        });
        Ok(Stream { receiver, asked: 0 })
    })
}

struct Watcher {
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    subscription: Subscription,
    sender: mpsc::Sender<Result<Judged<pb::WatchDocumentsResponse>>>,
}

impl Watcher {
    async fn run(&self, from: Sequence) {
        let mut frames = self.gateway.store.frames(from);
        let until = Instant::now() + self.gateway.federation.stream_ceiling;
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                () = self.gateway.stop.cancelled() => return,
                () = self.sender.closed() => return,
                () = tokio::time::sleep_until(until) => return,
                _ = life.tick() => None,
                frame = frames.next() => Some(frame),
            };
            // A store that has stopped may never show the frame: this does not outlast the node.
            let going_on = tokio::select! {
                biased;
                () = self.gateway.stop.cancelled() => return,
                () = self.sender.closed() => return,
                going_on = async {
                    match next {
                        None => self.send(before(frames.position()), None).await,
                        Some(Ok(frame)) => self.frame(&frame).await,
                        Some(Err(error)) => self.end(error.into()).await,
                    }
                } => going_on,
            };
            if going_on.is_none() {
                return;
            }
        }
    }

    /// Delivers what a frame has to tell; `None` if nothing more can be delivered.
    async fn frame(&self, frame: &Frame) -> Option<()> {
        if !Documents::is_of_interest(frame) {
            return Some(());
        }
        // A frame is given when it is durable; the sets and folders it is judged by are read.
        while !self.gateway.documents.has_applied(frame) {
            tokio::time::sleep(APPLYING).await;
        }
        let judging = Arc::new(self.call.for_part());
        let (guard, documents) = (&self.gateway.guard, &self.gateway.documents);
        let notices = match documents.notices(guard, &judging, &self.subscription, frame) {
            Ok(notices) => notices,
            Err(error) => return self.end(error).await,
        };
        let mut left = notices.len();
        for notice in notices {
            left -= 1;
            if !judging.still_permitted() {
                return self.end(changed_meanwhile()).await;
            }
            let one = self.call.for_part();
            one.note(|record| {
                record.items = u32::try_from(notice.objects.len()).unwrap_or(u32::MAX);
                record.patient = Some(notice.patient);
                record.documents = notice.objects;
            });
            // Audited before disclosed (INV-2).
            if let Err(error) = audit(&self.gateway, &one, Outcome::Success).await {
                return self.end(error).await;
            }
            // Whoever is cut off between two events of a frame gets both again.
            let seen = match left {
                0 => frame.sequence,
                _ => before(frame.sequence),
            };
            let rests_on = Arc::clone(&judging);
            self.send(seen, Some((notice.event, rests_on))).await?;
        }
        Some(())
    }

    async fn send(
        &self,
        seen: Sequence,
        event: Option<(pb::DocumentEvent, Arc<Call>)>,
    ) -> Option<()> {
        let (event, rests_on) = event.unzip();
        let message = Judged {
            message: pb::WatchDocumentsResponse {
                resume_token: self.gateway.documents.watch_token(seen),
                event,
            },
            rests_on,
        };
        // A subscriber who takes nothing for too long is gone, and goes on from its token.
        let idle = self.gateway.federation.stream_idle;
        let sent = tokio::time::timeout(idle, self.sender.send(Ok(message))).await;
        sent.ok()?.ok()
    }

    async fn end(&self, error: Error) -> Option<()> {
        tracing::error!(reason = error.reason().name(), "a subscription ended");
        if self.sender.send(Err(error)).await.is_err() {
            tracing::debug!("the subscriber left before the end");
        }
        None
    }
}

fn before(sequence: Sequence) -> Sequence {
    Sequence(sequence.0.saturating_sub(1))
}
