//! Asking other regions without the hub in between: whom to ask is the hub's answer, with a pass for each
//! ([`super::pass`]); where they are, by which key they are known, and what they answer is what the
//! hub's signed directory says. Chosen by configuration (`[parent] ask`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use crate::access::Call;
use crate::clock::Clock;
use crate::directory::Peer;
use crate::error::{Error, Reason, Result};
use crate::types::HomeCommunityId;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents::DocumentEntry;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use pb::initiating_gateway_service_find_documents_response::Part as FindPart;

use super::fanout::{Asked, Target, ask_within};
use super::find::{FindRequest, FindResponse, Merge, QUEUE, find_query, find_region, region_limit};
use super::pass::Given;
use super::path::Kind;
use super::peers::relayed;
use super::retrieve::RegionResponse;
use super::{Federation, Stream};

/// The hub is waited for no longer, when it is asked whom to ask; where there is less time for it, nothing
/// is known of whether it is there.
const LONGEST: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_secs(1);
/// Answers of the hub kept for when it is away: each for the lifetime of its passes.
const KEPT: usize = 1_024;

/// That this region asks the others itself, and what it keeps for it.
#[derive(Debug)]
pub struct Direct {
    clock: Arc<dyn Clock>,
    /// Those that cannot be asked so are asked through the hub.
    else_through_parent: bool,
    kept: Mutex<HashMap<[u8; 32], Arc<Located>>>,
}

/// What the hub answered: who holds something for a person, and may be asked.
#[derive(Debug)]
struct Located {
    given: Vec<Given>,
    /// Who may hold something, and cannot be asked.
    gaps: Vec<cpb::RegionStatus>,
    expires: Timestamp,
}

impl Located {
    fn read(answer: pb::LocateHoldingsResponse) -> Result<Self> {
        if !answer.holdings.is_empty() {
            // A hub of before there were passes: who holds something would be asked by nobody, and not
            // be named either (INV-6).
            let message = "the parent gives no leave to ask others directly";
            return Err(Error::new(Reason::CommunityUnavailable, message));
        }
        let given = answer.passes.into_iter().map(Given::take);
        let given: Vec<Given> = given.collect::<Result<_>>()?;
        let expires = given.iter().map(|one| one.stated.expires).min();
        Ok(Self {
            given,
            gaps: answer.completeness.unwrap_or_default().regions,
            // Without a pass there is nothing to go on with.
            expires: expires.unwrap_or(Timestamp::MIN),
        })
    }

    /// Holders and gaps among the communities that are asked for.
    fn within(&self, scope: Option<&pb::RegionScope>) -> (Vec<&Given>, Vec<cpb::RegionStatus>) {
        let named = scope.map(|scope| &scope.home_community_ids);
        let is_in = |home: &str| {
            named.is_none_or(|all| all.is_empty() || all.iter().any(|one| one == home))
        };
        let given = self.given.iter();
        let gaps = self.gaps.iter();
        (
            given
                .filter(|one| is_in(&one.stated.holder.to_string()))
                .collect(),
            gaps.filter(|gap| is_in(&gap.home_community_id))
                .cloned()
                .collect(),
        )
    }
}

impl Direct {
    /// Direct asking; with `else_through_parent`, those that cannot be asked so through the hub.
    pub fn new(clock: Arc<dyn Clock>, else_through_parent: bool) -> Self {
        Self {
            clock,
            else_through_parent,
            kept: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Located>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: [u8; 32], located: &Arc<Located>) {
        let now = self.clock.now();
        let mut kept = self.lock();
        kept.retain(|_, one| now < one.expires);
        if kept.len() < KEPT && now < located.expires {
            kept.insert(key, Arc::clone(located));
        }
    }

    fn kept(&self, key: &[u8; 32]) -> Option<Arc<Located>> {
        let now = self.clock.now();
        let found = self.lock().get(key).cloned();
        found.filter(|one| now < one.expires)
    }
}

/// Whose question about whom: the person by their assertion, the patient as asked for. Nothing else may
/// be answered from what is kept.
fn key(call: &Call, request: &pb::LocateHoldingsRequest) -> [u8; 32] {
    use prost::Message as _;
    let assertion = call.caller().assertion.as_deref().unwrap_or_default();
    let mut sum = Context::new(&SHA256);
    sum.update(&(assertion.len() as u64).to_be_bytes());
    sum.update(assertion.as_bytes());
    sum.update(&request.encode_to_vec());
    let mut key = [0; 32];
    key.copy_from_slice(sum.finish().as_ref());
    key
}

/// Whether the hub could not be asked, in difference to having refused.
fn is_away(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::CommunityUnavailable | Reason::DeadlineExceeded
    )
}

/// Whether a holder could not be asked at all: not reached, not let through by the outgoing policy, or not
/// believed to be itself. Then the hub may be asked; it has its own ways to a holder.
fn was_not_asked(error: &Error) -> bool {
    is_away(error)
        || matches!(
            error.reason(),
            Reason::EndpointForbidden | Reason::PeerUntrusted
        )
}

/// Whether a region gave no answer, of whatever kind.
fn is_silent(status: &cpb::RegionStatus) -> bool {
    use cpb::RegionState as State;
    matches!(
        status.state(),
        State::Unreachable | State::Timeout | State::CircuitOpen | State::SkippedBudget
    )
}

impl Federation {
    /// Who holds something for the patient, as the hub says now; if the hub is away, as it said to the
    /// same person a moment ago. A refusal is never passed over.
    async fn located(
        &self,
        call: &Call,
        direct: &Direct,
        parent: &HomeCommunityId,
        patient: pb::locate_holdings_request::Patient,
    ) -> Result<Arc<Located>> {
        let request = pb::LocateHoldingsRequest {
            patient: Some(patient),
            passes: true,
        };
        let key = key(call, &request);
        let patience = (call.downstream_budget() / 2).min(LONGEST);
        match self.ask_hub(call, parent, request, patience).await {
            Ok(answer) => {
                let located = Arc::new(Located::read(answer)?);
                direct.keep(key, &located);
                Ok(located)
            }
            // Who gives the hub no time is not told that it is away.
            Err(error) if is_away(&error) && patience >= SHORTEST => direct.kept(&key).ok_or(error),
            Err(error) if is_away(&error) => Err(error),
            Err(error) => {
                // By whatever identifier the patient was asked for before.
                direct.lock().clear();
                Err(error)
            }
        }
    }

    async fn ask_hub(
        &self,
        call: &Call,
        parent: &HomeCommunityId,
        request: pb::LocateHoldingsRequest,
        patience: Duration,
    ) -> Result<pb::LocateHoldingsResponse> {
        let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
        let mut client = InitiatingGatewayServiceClient::new(channel);
        // Whoever is asked after it needs time too, also when the hub hangs.
        let outgoing = relayed(call, request, patience);
        let answered = client.locate_holdings(outgoing).await;
        Ok(answered.map_err(super::peer_error)?.into_inner())
    }

    /// As [`Federation::find_documents`], at a region that asks the others itself.
    ///
    /// # Errors
    /// A malformed query; what the hub says.
    pub(super) async fn find_directly(
        self: &Arc<Self>,
        call: &Arc<Call>,
        (direct, parent): (&Direct, &HomeCommunityId),
        request: FindRequest,
    ) -> Result<Stream<FindResponse>> {
        use pb::locate_holdings_request::Patient;
        let query = find_query(&request)?;
        let patient = match (request.linkage_id.as_str(), query.patient_id.clone()) {
            ("", None) => return Err(Error::missing("query.find_documents.patient_id")),
            ("", Some(id)) => Patient::PatientId(id),
            (linkage, _) => Patient::LinkageId(linkage.to_owned()),
        };
        let located = self.located(call, direct, parent, patient).await?;
        let (given, gaps) = located.within(request.scope.as_ref());
        let targets: Vec<Target> = given.iter().map(|one| self.target(call, one)).collect();
        let passes: HashMap<HomeCommunityId, pb::HolderPass> = given
            .into_iter()
            .map(|one| (one.stated.holder.clone(), one.pass.clone()))
            .collect();
        let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let (peers, by) = (Arc::clone(&self.peers), Arc::clone(call));
        let limit = region_limit(&request);
        // Time is left for the hub, where it is asked for those that do not answer.
        let budget = match direct.else_through_parent {
            true => call.downstream_budget() / 2,
            false => call.downstream_budget(),
        };
        let asked = ask_within(
            (call, budget),
            (&self.paths, Kind::Find),
            targets,
            move |target, budget| {
                let pass = passes.get(&target.peer.home).cloned();
                let (peers, by) = (Arc::clone(&peers), Arc::clone(&by));
                find_region(peers, by, target, (query.clone(), limit), pass, budget)
            },
        );
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (federation, call) = (Arc::clone(self), Arc::clone(call));
        let through = direct
            .else_through_parent
            .then(|| (parent.clone(), request));
        self.tasks.spawn(async move {
            let merged =
                federation.merged(&call, (asked, gaps), through, Merge::new(sender.clone()));
            // A caller who hung up: what is under way is given up with it (bar F-07).
            tokio::select! {
                () = merged => {}
                () = sender.closed() => {}
            }
        });
        Ok(Stream::new(receiver).asked(count))
    }

    /// Passes on what regions answer; those that do not are asked `through` the hub, if that is wanted.
    async fn merged(
        &self,
        call: &Call,
        (mut asked, gaps): (Asked<Vec<DocumentEntry>>, Vec<cpb::RegionStatus>),
        through: Option<(HomeCommunityId, FindRequest)>,
        mut merge: Merge,
    ) {
        for gap in gaps {
            merge.status(gap).await;
        }
        let mut silent = Vec::new();
        while let Some(answer) = asked.next().await {
            match through.is_some() && is_silent(&answer.status) {
                true => silent.push(answer.status),
                false => merge.answer(answer).await,
            }
        }
        if let Some((parent, request)) = through.filter(|_| !silent.is_empty()) {
            self.through(call, &parent, (request, silent), &mut merge)
                .await;
        }
        merge.end().await;
    }

    /// A holder as this region may ask it: where the directory says it is, if it answers regions.
    fn target(&self, call: &Call, given: &Given) -> Target {
        let (directory, holder) = (self.directory.snapshot(), &given.stated.holder);
        let known = directory.peer(holder).cloned();
        let mut peer = known.unwrap_or_else(|| super::find::absent(holder));
        let own = call.caller().participant.community == *holder;
        if !own && !peer.answers.lists {
            Arc::make_mut(&mut peer).endpoint = None;
        }
        Target {
            peer,
            patients: given.stated.pass.patients.clone(),
        }
    }

    /// Asks the hub for those that did not answer this region; what it does not say anything of is as it
    /// was.
    async fn through(
        &self,
        call: &Call,
        parent: &HomeCommunityId,
        (request, mut silent): (FindRequest, Vec<cpb::RegionStatus>),
        merge: &mut Merge,
    ) {
        let request = FindRequest {
            scope: Some(pb::RegionScope {
                home_community_ids: silent
                    .iter()
                    .map(|one| one.home_community_id.clone())
                    .collect(),
                broadcast: false,
            }),
            ..request
        };
        match self.open_above(call, parent, request).await {
            Ok(mut stream) => {
                while let Some(message) = stream.next().await {
                    let part = message.ok().and_then(|message| message.part);
                    match part {
                        Some(FindPart::Objects(objects)) => {
                            merge.entries(objects.entries, &silent).await;
                        }
                        Some(FindPart::Region(status)) => {
                            let home = &status.home_community_id;
                            let place =
                                silent.iter().position(|one| one.home_community_id == *home);
                            if let Some(place) = place {
                                silent.swap_remove(place);
                                merge.status(status).await;
                            }
                        }
                        Some(FindPart::Error(_) | FindPart::Completeness(_)) => {}
                        None => break,
                    }
                }
            }
            Err(error) => {
                let reason = error.reason().name();
                tracing::warn!(reason, "the parent could not be asked for silent regions");
            }
        }
        for status in silent {
            merge.status(status).await;
        }
    }

    async fn open_above(
        &self,
        call: &Call,
        parent: &HomeCommunityId,
        request: FindRequest,
    ) -> Result<tonic::Streaming<FindResponse>> {
        let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
        let mut client = InitiatingGatewayServiceClient::new(channel);
        let outgoing = relayed(call, request, call.downstream_budget());
        let response = client.find_documents(outgoing).await;
        Ok(response.map_err(super::peer_error)?.into_inner())
    }

    /// Opens a retrieve at the holder itself. Nothing is given if it cannot be asked so, and the hub is
    /// to be asked.
    ///
    /// # Errors
    /// What the hub or the holder says; [`Reason::UnknownDocument`] where the hub names no such holder.
    pub(super) async fn retrieve_directly(
        &self,
        call: &Call,
        (direct, parent): (&Direct, &HomeCommunityId),
        home: &HomeCommunityId,
        request: &pb::InitiatingGatewayServiceRetrieveDocumentsRequest,
    ) -> Result<Option<RegionResponse>> {
        use pb::locate_holdings_request::Patient;
        let asked = async {
            let patient = request.patient_id.clone();
            let patient = patient.ok_or_else(|| Error::missing("patient_id"))?;
            let patient = Patient::PatientId(patient);
            let located = self.located(call, direct, parent, patient).await?;
            let mut given = located.given.iter();
            let given = given.find(|one| one.stated.holder == *home);
            let given = given.ok_or_else(super::retrieve::no_such_document)?;
            if !given.stated.pass.reads {
                return Err(Error::not_permitted());
            }
            let peer: Arc<Peer> = self.peers.peer(home)?;
            if !peer.answers.documents {
                let message = "the community does not answer regions";
                return Err(Error::new(Reason::CommunityUnavailable, message));
            }
            let patients = &given.stated.pass.patients;
            let pass = Some(given.pass.clone());
            self.ask_region(call, home, request.clone(), (patients, pass))
                .await
        };
        match asked.await {
            Err(error) if direct.else_through_parent && was_not_asked(&error) => Ok(None),
            answered => answered.map(Some),
        }
    }
}
