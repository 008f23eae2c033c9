//! Following one patient's documents across communities (ITI-52 and ITI-53): a stream from each community
//! that holds something, put together into one, with a place in each.
//!
//! Nothing of it is kept at this node. A community decides, audits and tells for itself, and seals the place
//! to go on from; the subscriber's token is those places, sealed here for the question they were given for.
//! So nothing is lost while anybody on the way is away, and what is told twice has the same entryUUID and
//! sequence. Whoever has no place in the token yet is followed from its beginning.

mod follower;
mod places;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::access::Call;
use crate::error::{Error, Reason, Result};
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use cpb::RegionState;

use super::fanout::{Target, completeness, status};
use super::peers::relayed;
use super::retrieve::first;
use super::{Federation, Stream};
use follower::{Follower, Heard, What};
use places::Places;

type Request = pb::InitiatingGatewayServiceWatchDocumentsRequest;
type Response = pb::InitiatingGatewayServiceWatchDocumentsResponse;

/// Between two looks at who holds something for the person.
const LOOK: Duration = Duration::from_secs(1);
/// How they stand is told this often, also if nothing has changed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Who says nothing for so long, of whom a sign of life is due every fifteen seconds, is not followed any more.
const SILENCE: Duration = Duration::from_secs(45);
/// Messages on their way: who does not read slows down whoever tells.
const QUEUE: usize = 1;

/// How long a subscription goes on at this node.
#[derive(Debug)]
pub struct Lasting {
    /// No longer than this.
    pub until: Instant,
    /// Nor than the node.
    pub stop: CancellationToken,
    /// Its place among the subscribers.
    pub slot: OwnedSemaphorePermit,
}

impl Lasting {
    async fn over(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(self.until) => {}
        }
    }
}

impl Federation {
    /// Follows what every community that holds something for the patient, or begins to, has to tell. The
    /// caller is judged for `patients`, who are every identifier of the person. A node under a parent asks
    /// the parent, whoever it asks directly otherwise.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`]; [`Reason::UnknownPatient`]; what the parent says.
    pub async fn watch_documents(
        self: &Arc<Self>,
        call: &Arc<Call>,
        request: Request,
        patients: Vec<PatientIdentifier>,
        lasting: Lasting,
    ) -> Result<Stream<Response>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        if let Some(parent) = &self.parent {
            let channel = self.peers.following_channel(&*self.peers.peer(parent)?)?;
            let mut client = InitiatingGatewayServiceClient::new(channel);
            let outgoing = relayed(call, request, self.stream_ceiling);
            let response = first(self.stream_idle, client.watch_documents(outgoing)).await?;
            let passing = pass_on(response.into_inner(), sender, lasting);
            self.tasks.spawn(passing);
            return Ok(Stream::new(receiver).asked(1));
        }
        let (hears, heard) = mpsc::channel(QUEUE);
        let mut watching = Watching::new(self, call, request, (patients, sender, hears))?;
        watching.look()?;
        let count = u32::try_from(watching.stand.len()).unwrap_or(u32::MAX);
        self.tasks.spawn(watching.run(heard, lasting));
        Ok(Stream::new(receiver).asked(count))
    }
}

/// Passes a parent's stream on, with bounded memory.
async fn pass_on(
    mut messages: tonic::Streaming<Response>,
    sender: mpsc::Sender<Result<Response>>,
    lasting: Lasting,
) {
    let passing = async {
        loop {
            let message = match tokio::time::timeout(SILENCE, messages.next()).await {
                Ok(None) => return,
                Ok(Some(message)) => message.map_err(super::peer_error),
                Err(_) => {
                    let message = "the parent says nothing any more; go on from the last token";
                    Err(Error::new(Reason::CommunityUnavailable, message))
                }
            };
            let last = message.is_err();
            if sender.send(message).await.is_err() || last {
                return;
            }
        }
    };
    tokio::select! {
        () = lasting.over() => {}
        () = sender.closed() => {}
        () = passing => {}
    }
}

/// One subscription, where the communities are asked.
struct Watching {
    federation: Arc<Federation>,
    call: Arc<Call>,
    request: Request,
    /// What its tokens are for.
    question: Vec<u8>,
    /// Every identifier of the person, in order: those the caller was judged for.
    patients: Vec<PatientIdentifier>,
    places: Places,
    /// It has just begun: who is there now is followed from now.
    begins: bool,
    /// How each community stands, by homeCommunityId; unspecified until it is known.
    stand: BTreeMap<String, cpb::RegionStatus>,
    /// That has changed and was not told.
    untold: bool,
    followers: JoinSet<()>,
    /// Whom each of them follows.
    homes: HashMap<tokio::task::Id, String>,
    hears: mpsc::Sender<Heard>,
    sender: mpsc::Sender<Result<Response>>,
}

/// Whom a subscription is about, and where its messages go and come from.
type Ends = (
    Vec<PatientIdentifier>,
    mpsc::Sender<Result<Response>>,
    mpsc::Sender<Heard>,
);

impl Watching {
    fn new(
        federation: &Arc<Federation>,
        call: &Arc<Call>,
        mut request: Request,
        (mut patients, sender, hears): Ends,
    ) -> Result<Self> {
        let token = std::mem::take(&mut request.resume_token);
        let question = question(call, &request);
        let seal = |places: &[u8]| federation.locator.seal(&question, places);
        let places = Places::open(&token, &seal)?;
        patients.sort();
        Ok(Self {
            federation: Arc::clone(federation),
            call: Arc::clone(call),
            request,
            question,
            patients,
            begins: places.is_none(),
            places: places.unwrap_or_default(),
            stand: BTreeMap::new(),
            untold: true,
            followers: JoinSet::new(),
            homes: HashMap::new(),
            hears,
            sender,
        })
    }

    async fn run(mut self, heard: mpsc::Receiver<Heard>, lasting: Lasting) {
        let sender = self.sender.clone();
        let following = async {
            if let Err(error) = self.follow_all(heard).await {
                tracing::error!(reason = error.reason().name(), "a subscription ended");
                // A receiver that is gone is a caller who hung up.
                drop(sender.send(Err(error)).await);
            }
        };
        tokio::select! {
            () = lasting.over() => {}
            () = sender.closed() => {}
            () = following => {}
        }
    }

    /// Tells what is heard, until nobody reads it or the person is not the same any more.
    async fn follow_all(&mut self, mut heard: mpsc::Receiver<Heard>) -> Result<()> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut life = tokio::time::interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let going_on = tokio::select! {
                Some(one) = heard.recv() => self.hear(one).await,
                _ = look.tick() => self.look()? && self.tell(Vec::new(), false).await,
                _ = life.tick() => self.tell(Vec::new(), true).await,
                Some(ended) = self.followers.join_next_with_id() => self.ended(ended).await,
            };
            if !going_on {
                return Ok(());
            }
        }
    }

    /// Begins to follow who holds something and is not followed yet. `false` if the person has other
    /// identifiers than before: who asks again is judged for all of them.
    fn look(&mut self) -> Result<bool> {
        let federation = Arc::clone(&self.federation);
        let patient = self.request.patient_id.as_ref();
        let known = federation.patients(&self.call, &self.request.linkage_id, patient);
        let mut now = match known {
            Err(error) if error.reason() == Reason::UnknownPatient => return Ok(false),
            known => known?,
        };
        now.sort();
        if now != self.patients {
            tracing::debug!("a subscription ends: its patient has other identifiers now");
            return Ok(false);
        }
        for target in federation.targets(&now, None, |held| held.has_documents)? {
            if !self.stand.contains_key(&target.peer.home.to_string()) {
                self.follow(target);
            }
        }
        // Who comes later has begun to hold something meanwhile.
        self.begins = false;
        Ok(true)
    }

    fn follow(&mut self, target: Target) {
        let home = target.peer.home.to_string();
        let directory = self.federation.directory.snapshot();
        let own = self
            .patients
            .iter()
            .filter(|id| directory.owner(&id.authority) == Some(&target.peer.home));
        let own: Vec<cpb::Identifier> = own.map(crate::identity::identifier_message).collect();
        // Nothing can be asked where its word that it knows the patient has ended: a gap (INV-6).
        let asks = !own.is_empty() && !target.patients.is_empty();
        let state = match asks {
            true => RegionState::Unspecified,
            false => RegionState::Unreachable,
        };
        self.untold = true;
        self.stand
            .insert(home.clone(), status(&target.peer, state, None));
        if !asks {
            return;
        }
        let resume_token = self.places.of(&home).to_owned();
        let follower = Follower {
            federation: Arc::clone(&self.federation),
            call: Arc::clone(&self.call),
            peer: target.peer,
            request: pb::RespondingGatewayServiceWatchDocumentsRequest {
                patient_ids: own,
                filter: self.request.filter.clone(),
                from_beginning: resume_token.is_empty() && !self.begins,
                resume_token,
            },
            hears: self.hears.clone(),
        };
        let task = self.followers.spawn(follower.run());
        self.homes.insert(task.id(), home);
    }

    /// Takes what a community says; `false` if the subscriber is gone.
    async fn hear(&mut self, heard: Heard) -> bool {
        let now = self.federation.peers.judges().1;
        let Some(stand) = self.stand.get_mut(&heard.home) else {
            return true;
        };
        let state = match &heard.what {
            What::State(state) => *state,
            What::News(..) => RegionState::Ok,
        };
        self.untold |= stand.state() != state;
        stand.set_state(state);
        let mut news = Vec::new();
        if let What::News(token, told) = heard.what {
            let count = u32::try_from(told.len()).unwrap_or(u32::MAX);
            stand.as_of = Some(crate::wire::timestamp(now));
            stand.result_count = stand.result_count.saturating_add(count);
            if !token.is_empty() {
                // A place where there was none is told at once: without it, all comes again.
                self.untold |= self.places.put(heard.home, token);
            }
            news = told;
        }
        self.tell(news, false).await
    }

    /// A follower has ended. One that failed here is said not to follow any more (INV-6).
    async fn ended(
        &mut self,
        ended: std::result::Result<(tokio::task::Id, ()), tokio::task::JoinError>,
    ) -> bool {
        let Err(error) = ended else { return true };
        tracing::error!(%error, "a follower of a community panicked");
        let Some(home) = self.homes.remove(&error.id()) else {
            return true;
        };
        let what = What::State(RegionState::Malformed);
        self.hear(Heard { home, what }).await
    }

    /// Tells the subscriber news, and how the communities stand, if that has changed or `anyway`; once it
    /// is known of all of them. `false` if the subscriber is gone.
    async fn tell(&mut self, news: Vec<pb::DocumentNews>, anyway: bool) -> bool {
        let mut stand = self.stand.values();
        let known = stand.all(|one| one.state() != RegionState::Unspecified);
        let stands = known && (self.untold || anyway);
        if news.is_empty() && !stands && !anyway {
            return true;
        }
        self.untold &= !stands;
        let seal = |places: &[u8]| self.federation.locator.seal(&self.question, places);
        let message = Response {
            resume_token: self.places.token(&seal),
            news,
            completeness: stands.then(|| completeness(self.stand.values().cloned().collect())),
        };
        // A subscriber who takes nothing for too long is gone, and goes on from its token.
        let sending = self.sender.send(Ok(message));
        let sent = tokio::time::timeout(self.federation.stream_idle, sending).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }
}

/// What a token is for: the question, of whoever asks it, since a linkage id is a pseudonym of the
/// community that asks.
fn question(call: &Call, request: &Request) -> Vec<u8> {
    let community = call.caller().participant.community.to_string();
    let mut question = community.into_bytes();
    question.push(0);
    question.extend(request.encode_to_vec());
    question
}
