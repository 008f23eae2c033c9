//! Following documents: the registry's, frame by frame of the ledger, judged and audited one by one, for a
//! subscriber of this community or of another; and those of other communities.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::access::{Action, Call};
use crate::audit::Outcome;
use crate::config::Capability;
use crate::consent::About;
use crate::documents::{Documents, Notice, Subscription};
use crate::emergency::asked_patients;
use crate::error::{Error, Reason, Result};
use crate::federation::{Lasting, Stream};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::store::{Frame, Sequence};
use crate::wire::pb::documents as pb;
use crate::wire::pb::federation as fpb;

use super::door::{Answer, audit};
use super::federation::{about, as_refused, authorize_asking, one_person};
use super::revocable::{Judged, changed_meanwhile};

/// Without anything to tell, the place to go on from is told this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Between two looks whether reads see a frame that is durable already.
const APPLYING: Duration = Duration::from_millis(1);
/// Messages on their way to the subscriber: what waits here is judged again when it leaves.
const QUEUE: usize = 1;
/// Whoever passes a subscription on may have a clock that is behind by so much: it ends the stream.
const GRACE: Duration = Duration::from_mins(1);

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
        let begin = Begin {
            subscription,
            from,
            held: false,
            until: Instant::now() + gateway.federation.stream_ceiling,
            _slot: slot(&gateway.watches)?,
        };
        Ok(start(gateway, call, begin, |resume_token, notice| {
            pb::WatchDocumentsResponse {
                resume_token,
                event: notice.map(|notice| notice.event),
            }
        }))
    })
}

/// Follows one patient's documents here for a subscriber of another community.
///
/// May they list the patient's documents at all? As for a find; and the stream rests on that answer: what
/// the patient withdraws ends it (bar Z-03).
pub(super) fn respond(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: fpb::RespondingGatewayServiceWatchDocumentsRequest,
) -> Answer<Stream<Judged<fpb::RespondingGatewayServiceWatchDocumentsResponse>>> {
    Box::pin(async move {
        gateway.serves(Capability::Registry)?;
        let patients = asked_patients(&request.patient_ids)?;
        about(&gateway, &call, &patients);
        one_person(&gateway, &call, &patients)?;
        let asked = About {
            patients: &patients,
            ..About::default()
        };
        let permit = gateway
            .guard
            .authorize_for(&call, Action::FindDocuments, asked)?;
        permit.require(&[Action::FindDocuments])?;
        let held = request.from_beginning && request.resume_token.is_empty();
        let from = match held {
            true => gateway.documents.watch_beginning(),
            false => gateway.documents.watch_from(&request.resume_token)?,
        };
        let begin = Begin {
            subscription: Subscription::of_patients(patients, request.filter.as_ref())?,
            from,
            held,
            until: ends(&gateway, &call) + GRACE,
            _slot: slot(&gateway.guests)?,
        };
        Ok(start(gateway, call, begin, |resume_token, notice| {
            fpb::RespondingGatewayServiceWatchDocumentsResponse {
                resume_token,
                news: notice.map(|notice| notice.news()).unwrap_or_default(),
            }
        }))
    })
}

/// Follows one patient's documents in other communities. Role, purpose and relation are judged here too,
/// and what is known here of the patient's wishes; the stream rests on it.
pub(super) fn ask(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: fpb::InitiatingGatewayServiceWatchDocumentsRequest,
) -> Answer<Stream<fpb::InitiatingGatewayServiceWatchDocumentsResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Federation)?;
        // May the caller ask at all? Before anything says whether the patient is known (INV-3).
        authorize_asking(&gateway, &call, Action::FindDocuments, &[])?;
        // A filter without its form is told by whom it was sent to.
        drop(Subscription::of_patients(
            Vec::new(),
            request.filter.as_ref(),
        )?);
        let (federation, patient) = (&gateway.federation, request.patient_id.as_ref());
        let patients = if federation.parent.is_none() {
            let known = federation.patients(&call, &request.linkage_id, patient);
            known.map_err(as_refused)?
        } else if request.linkage_id.is_empty() {
            // What was refused here needs no hub to be.
            vec![identifier(patient, "patient_id")?]
        } else {
            Vec::new()
        };
        about(&gateway, &call, &patients);
        authorize_asking(&gateway, &call, Action::FindDocuments, &patients)?;
        let lasting = Lasting {
            until: ends(&gateway, &call),
            stop: gateway.stop.clone(),
            slot: slot(&gateway.follows)?,
        };
        let stream = federation
            .watch_documents(&call, request, patients, lasting)
            .await?;
        call.note(|record| record.regions = Some((stream.asked, 0)));
        Ok(stream)
    })
}

/// When a subscription over communities ends: with the person's word at the latest. Whoever goes on has
/// been asked again who they are, and communities that come back meanwhile can still be asked.
fn ends(gateway: &Gateway, call: &Call) -> Instant {
    let ceiling = gateway.federation.stream_ceiling;
    let now = gateway.clock.now();
    let left = call.caller().until.map(|until| until.duration_since(now));
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
    Instant::now() + left.unwrap_or(ceiling).min(ceiling)
}

/// A place among the subscribers.
fn slot(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let slot = Arc::clone(of).try_acquire_owned();
    slot.map_err(|_| Error::new(Reason::Overloaded, "too many subscribers at once"))
}

/// What is followed, and from where.
struct Begin {
    subscription: Subscription,
    from: Sequence,
    /// What is there already is told first.
    held: bool,
    until: Instant,
    /// Kept as long as it is followed.
    _slot: OwnedSemaphorePermit,
}

/// What a subscriber is told, of a token and a notice.
type Say<T> = fn(String, Option<Notice>) -> T;

fn start<T: Send + 'static>(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    begin: Begin,
    say: Say<T>,
) -> Stream<Judged<T>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let tasks = gateway.tasks.clone();
    let watcher = Watcher {
        gateway,
        call,
        begin,
        sender,
        say,
    };
    tasks.spawn(async move { watcher.run().await });
    Stream { receiver, asked: 0 }
}

struct Watcher<T> {
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    begin: Begin,
    sender: mpsc::Sender<Result<Judged<T>>>,
    say: Say<T>,
}

impl<T: Send + 'static> Watcher<T> {
    async fn run(&self) {
        if self.begin.held && self.unless_gone(self.held()).await.is_none() {
            return;
        }
        let mut frames = self.gateway.store.frames(self.begin.from);
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                () = self.gateway.stop.cancelled() => return,
                () = self.sender.closed() => return,
                () = tokio::time::sleep_until(self.begin.until) => return,
                _ = life.tick() => None,
                frame = frames.next() => Some(frame),
            };
            let telling = async {
                match next {
                    None => self.send(Some(before(frames.position())), None).await,
                    Some(Ok(frame)) => self.frame(&frame).await,
                    Some(Err(error)) => self.end(error.into()).await,
                }
            };
            if self.unless_gone(telling).await.is_none() {
                return;
            }
        }
    }

    /// Does this, unless the node stops or the subscriber goes meanwhile. A store that has stopped may never
    /// show a frame: waiting for one does not outlast the node.
    async fn unless_gone(&self, telling: impl Future<Output = Option<()>>) -> Option<()> {
        tokio::select! {
            biased;
            () = self.gateway.stop.cancelled() => None,
            () = self.sender.closed() => None,
            told = telling => told,
        }
    }

    /// Delivers what there is already; until its end there is no place to go on from.
    async fn held(&self) -> Option<()> {
        let (guard, documents) = (&self.gateway.guard, &self.gateway.documents);
        let subscription = &self.begin.subscription;
        for patient in documents.followed(guard, subscription) {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let judging = Arc::new(self.call.for_part());
                let place = (patient.as_slice(), after.as_deref());
                let page = documents.held(guard, &judging, subscription, place);
                let (notices, more) = match page {
                    Ok(page) => page,
                    Err(error) => return self.end(error).await,
                };
                self.deliver(&judging, notices, |_| None).await?;
                after = more;
                if after.is_none() {
                    break;
                }
            }
        }
        Some(())
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
        let notices = match documents.notices(guard, &judging, &self.begin.subscription, frame) {
            Ok(notices) => notices,
            Err(error) => return self.end(error).await,
        };
        // Whoever is cut off between two events of a frame gets both again.
        let seen = |left: usize| match left {
            0 => Some(frame.sequence),
            _ => Some(before(frame.sequence)),
        };
        self.deliver(&judging, notices, seen).await
    }

    /// Delivers what was judged for `judging`, each notice with the place to go on from if so many are left.
    async fn deliver(
        &self,
        judging: &Arc<Call>,
        notices: Vec<Notice>,
        seen: impl Fn(usize) -> Option<Sequence>,
    ) -> Option<()> {
        let mut left = notices.len();
        for mut notice in notices {
            left -= 1;
            if !judging.still_permitted() {
                return self.end(changed_meanwhile()).await;
            }
            let one = self.call.for_part();
            one.note(|record| {
                record.items = u32::try_from(notice.objects.len()).unwrap_or(u32::MAX);
                record.patient = Some(std::mem::take(&mut notice.patient));
                record.documents = std::mem::take(&mut notice.objects);
            });
            // Audited before disclosed (INV-2).
            if let Err(error) = audit(&self.gateway, &one, Outcome::Success).await {
                return self.end(error).await;
            }
            self.send(seen(left), Some((notice, Arc::clone(judging))))
                .await?;
        }
        Some(())
    }

    async fn send(
        &self,
        seen: Option<Sequence>,
        notice: Option<(Notice, Arc<Call>)>,
    ) -> Option<()> {
        let documents = &self.gateway.documents;
        let token = seen.map(|seen| documents.watch_token(seen));
        let (notice, rests_on) = notice.unzip();
        let message = Judged {
            message: (self.say)(token.unwrap_or_default(), notice),
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
