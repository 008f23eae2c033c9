//! Patient discovery at an initiating gateway (ITI-55): asks communities that do not feed this node
//! whether they know a person, and keeps what they say for as long as they say.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::access::Call;
use crate::directory::Snapshot;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier;
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use crate::wire::pb::identity as ipb;

use super::correlations::{Known, TakenBefore};
use super::fanout::{Answer, Failure, Said, Target, ask, completeness, status};
use super::path::Kind;
use super::peers::{Peers, relayed};
use super::{Federation, Stream};

/// Persons in the answer of one community, and identifiers of one person there.
const MAX_PERSONS: usize = 5;
const MAX_IDENTIFIERS: usize = 16;
/// How sure a community must be of the person, in percent, for its answer to be kept. Below it is
/// shown, and whoever asked may look closer.
const SURE: u32 = 90;
/// Communities that one call may name.
const MAX_NAMED: usize = 16;
/// Answers on their way to the caller.
const QUEUE: usize = 8;

type DiscoverRequest = pb::InitiatingGatewayServiceDiscoverPatientRequest;
type DiscoverResponse = pb::InitiatingGatewayServiceDiscoverPatientResponse;
type DiscoverPart = pb::initiating_gateway_service_discover_patient_response::Part;

/// Who is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The identifier here that answers are kept under; none are kept without one.
    pub own: Option<PatientIdentifier>,
    /// What is known of the person.
    pub demographics: ipb::Demographics,
    /// How long answers are wanted.
    pub lifetime: Duration,
}

impl Federation {
    /// The communities that a discovery asks: those named, or in an emergency all that answer
    /// discoveries and do not feed this node. The second value tells that they may not be asked,
    /// because the institution has asked as often as it may.
    ///
    /// # Errors
    /// [`Reason::UnknownCommunity`]; [`Reason::InvalidField`] if none is named and none may be asked
    /// for else.
    pub fn discoverable(
        &self,
        call: &Call,
        scope: Option<&pb::RegionScope>,
        home: &HomeCommunityId,
    ) -> Result<(Vec<Target>, bool)> {
        let scope = scope.cloned().unwrap_or_default();
        let target = |peer: &Arc<crate::directory::Peer>| Target {
            peer: Arc::clone(peer),
            patients: Vec::new(),
        };
        let named = &scope.home_community_ids;
        if named.len() > MAX_NAMED || named.is_empty() && !scope.broadcast {
            let message = format!("names 1 to {MAX_NAMED} communities, or asks to broadcast");
            return Err(Error::field(Reason::InvalidField, "scope", message));
        }
        if !named.is_empty() {
            let mut targets: Vec<Target> = Vec::new();
            for home in named {
                let field = "scope.home_community_ids";
                let home = home.parse().map_err(|error: crate::types::InvalidId| {
                    Error::field(Reason::InvalidField, field, error.to_string())
                })?;
                let peer = self.peers.peer(&home)?;
                if targets.iter().all(|one| one.peer.home != home) {
                    targets.push(target(&peer));
                }
            }
            let spent = !self.may_ask_widely(call);
            return Ok((targets, spent));
        }
        let spent = !self.may_ask_widely(call);
        let peers = self.directory.snapshot().peers();
        let asked = peers
            .iter()
            .filter(|peer| peer.discovers && peer.home != *home);
        Ok((asked.map(target).collect(), spent))
    }

    /// Whether the caller's institution may ask others about a person once more in this minute, by name
    /// or all of them: naming them one after the other would be a broadcast too.
    fn may_ask_widely(&self, call: &Call) -> bool {
        let caller = call.caller();
        let institution = match &caller.participant.code {
            Some(code) => code.to_string(),
            None => caller.participant.community.to_string(),
        };
        self.broadcasts.take(&institution)
    }

    /// Makes it durable that a person's demographics are about to leave for so many communities, before
    /// they do (INV-2).
    ///
    /// # Errors
    /// The store; nothing may be asked then.
    pub async fn announce(
        &self,
        call: &Call,
        own: Option<&PatientIdentifier>,
        asked: usize,
    ) -> Result<()> {
        let part = call.for_part();
        let tag = own.map(|own| self.correlations.tag(own));
        part.note(|record| {
            record.patient = tag;
            record.regions = Some((u32::try_from(asked).unwrap_or(u32::MAX), 0));
        });
        self.correlations.commit(&part, Vec::new()).await
    }

    /// Asks each of `targets` whether it knows the person; gives what they say as they say it, then
    /// one status each, then the completeness.
    pub fn discover(
        self: &Arc<Self>,
        call: &Arc<Call>,
        wanted: Wanted,
        (targets, spent): (Vec<Target>, bool),
    ) -> Stream<DiscoverResponse> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let (federation, by) = (Arc::clone(self), Arc::clone(call));
        if spent {
            let skipped =
                |target: &Target| status(&target.peer, cpb::RegionState::SkippedBudget, None);
            let statuses: Vec<_> = targets.iter().map(skipped).collect();
            self.tasks.spawn(async move {
                for one in statuses.clone() {
                    send(&sender, DiscoverPart::Region(one)).await;
                }
                send(&sender, DiscoverPart::Completeness(completeness(statuses))).await;
            });
            return Stream::new(receiver);
        }
        let (peers, asking) = (Arc::clone(&self.peers), Arc::clone(call));
        let looked_for = wanted.clone();
        let before = self.correlations.taken_before();
        let directory = self.directory.snapshot();
        let mut asked = ask(
            call,
            (&self.paths, Kind::Discover),
            targets,
            move |target, budget| {
                let (peers, call) = (Arc::clone(&peers), Arc::clone(&asking));
                let (directory, wanted) = (Arc::clone(&directory), looked_for.clone());
                async move { region(&peers, &call, &target, &wanted, &directory, budget).await }
            },
        );
        self.tasks.spawn(async move {
            let mut statuses = Vec::new();
            loop {
                let answer = tokio::select! {
                    answer = asked.next() => answer,
                    () = sender.closed() => return,
                };
                let Some(answer) = answer else { break };
                if let Some(said) = federation.kept(&by, (&wanted, before), &answer).await {
                    send(&sender, DiscoverPart::Answer(said)).await;
                }
                send(&sender, DiscoverPart::Region(answer.status.clone())).await;
                statuses.push(answer.status);
            }
            send(&sender, DiscoverPart::Completeness(completeness(statuses))).await;
        });
        Stream::new(receiver).asked(count)
    }

    /// Keeps what a community said of exactly one person, for as long as it allows; gives the answer
    /// with how long it is kept.
    async fn kept(
        &self,
        call: &Call,
        (wanted, asked): (&Wanted, TakenBefore),
        answer: &Answer<pb::DiscoveryAnswer>,
    ) -> Option<pb::DiscoveryAnswer> {
        let mut said = answer.value.clone()?;
        let granted = said
            .correlation_lifetime
            .as_ref()
            .map_or(Duration::ZERO, wire_duration);
        let lifetime = granted
            .min(wanted.lifetime)
            .min(super::correlations::LONGEST);
        said.correlation_lifetime = None;
        let (Some(own), [one]) = (&wanted.own, said.patients.as_slice()) else {
            return Some(said);
        };
        let home = said.home_community_id.parse().ok()?;
        let theirs: Vec<PatientIdentifier> = identifiers(one).ok()?;
        if lifetime.is_zero() || one.match_degree < SURE {
            return Some(said);
        }
        let part = call.for_part();
        let tag = self.correlations.tag(own);
        part.note(|record| {
            record.patient = Some(tag);
            record.items = u32::try_from(theirs.len()).unwrap_or(u32::MAX);
        });
        let known = Known {
            own,
            home: &home,
            theirs: &theirs,
            lifetime,
        };
        match self.correlations.keep(&part, &known, asked).await {
            Ok(true) => said.correlation_lifetime = Some(crate::wire::duration(lifetime)),
            Ok(false) => {}
            // The caller is told by the answer, which says no time that it is kept for.
            Err(error) => {
                tracing::error!(reason = error.reason().name(), "a correlation was not kept");
            }
        }
        Some(said)
    }

    /// Passes a discovery on to the parent.
    ///
    /// # Errors
    /// What the parent says.
    pub async fn discover_above(
        &self,
        call: &Call,
        parent: &HomeCommunityId,
        request: DiscoverRequest,
    ) -> Result<Stream<DiscoverResponse>> {
        let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
        let mut client = InitiatingGatewayServiceClient::new(channel);
        let outgoing = relayed(call, request, call.downstream_budget());
        let response = client.discover_patient(outgoing).await;
        let response = response.map_err(super::peer_error)?;
        Ok(super::pass_through(response.into_inner()))
    }
}

fn wire_duration(time: &prost_types::Duration) -> Duration {
    Duration::try_from(*time).unwrap_or_default()
}

/// The identifiers of a person in an answer.
fn identifiers(one: &pb::DiscoveredPatient) -> Result<Vec<PatientIdentifier>> {
    let others = one
        .patient
        .iter()
        .flat_map(|patient| &patient.other_identifiers);
    let all = one.patient_id.iter().chain(others);
    all.map(|id| identifier(Some(id), "patient_id")).collect()
}

async fn send(sender: &mpsc::Sender<Result<DiscoverResponse>>, part: DiscoverPart) {
    let message = DiscoverResponse { part: Some(part) };
    if sender.send(Ok(message)).await.is_err() {
        tracing::debug!("the caller left before the end of the answer");
    }
}

/// Asks one community.
async fn region(
    peers: &Peers,
    call: &Call,
    target: &Target,
    wanted: &Wanted,
    directory: &Snapshot,
    budget: Duration,
) -> std::result::Result<Said<pb::DiscoveryAnswer>, Failure> {
    let mut client = RespondingGatewayServiceClient::new(peers.channel(&target.peer)?);
    let request = pb::RespondingGatewayServiceDiscoverPatientRequest {
        patient: Some(ipb::Patient {
            demographics: Some(wanted.demographics.clone()),
            ..ipb::Patient::default()
        }),
        correlation_lifetime: wanted
            .own
            .as_ref()
            .map(|_| crate::wire::duration(wanted.lifetime)),
        min_match_degree: 0,
    };
    let response = client
        .discover_patient(relayed(call, request, budget))
        .await?;
    let answer = response.into_inner().answer;
    let answer = answer.ok_or(Failure::Malformed("no answer"))?;
    ours(&answer, target, directory)?;
    Ok(Said {
        count: u32::try_from(answer.patients.len()).unwrap_or(u32::MAX),
        value: answer,
        truncated: false,
        as_of: None,
    })
}

/// A community speaks for itself, of few persons, by identifiers of its own domains (INV-4).
fn ours(
    answer: &pb::DiscoveryAnswer,
    target: &Target,
    directory: &Snapshot,
) -> std::result::Result<(), Failure> {
    if answer.home_community_id != target.peer.home.to_string() {
        return Err(Failure::Malformed("an answer of another community"));
    }
    if answer.patients.len() > MAX_PERSONS {
        return Err(Failure::Malformed("more persons than may be told of"));
    }
    for one in &answer.patients {
        let Ok(ids) = identifiers(one) else {
            return Err(Failure::Malformed("an identifier that is none"));
        };
        let own =
            |id: &PatientIdentifier| directory.owner(&id.authority) == Some(&target.peer.home);
        if ids.is_empty() || ids.len() > MAX_IDENTIFIERS || !ids.iter().all(own) {
            return Err(Failure::Malformed("an identifier of another community"));
        }
    }
    Ok(())
}
