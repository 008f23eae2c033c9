//! Asking several communities at once, each within the time that is left, and saying of each how it
//! went (INV-6).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::access::Call;
use crate::directory::Peer;
use crate::error::{Error, Reason};
use crate::planted::planted;
use crate::types::PatientIdentifier;
use crate::wire::pb::common as cpb;

use super::path::{Kind, NotSent, Order, Paths};

const UNUSABLE: &str = "the community's answer cannot be used";

/// A community to ask, and the patient's identifiers there.
#[derive(Clone, Debug)]
pub struct Target {
    /// The community.
    pub peer: Arc<Peer>,
    /// The identifiers, in its own domains.
    pub patients: Vec<PatientIdentifier>,
}

/// What came of asking one community.
#[derive(Debug)]
pub struct Answer<T> {
    /// How it went.
    pub status: cpb::RegionStatus,
    /// What it said.
    pub value: Option<T>,
}

/// A good answer, before it becomes a status.
#[derive(Debug)]
pub struct Said<T> {
    /// What it said.
    pub value: T,
    /// Items in it.
    pub count: u32,
    /// There is more than was taken.
    pub truncated: bool,
    /// The state of the community's data.
    pub as_of: Option<prost_types::Timestamp>,
}

/// How asking one community failed.
#[derive(Debug)]
pub enum Failure {
    /// It answered with an error, or could not be reached.
    Status(tonic::Status),
    /// What it said does not hold together, or is about somebody else.
    Malformed(&'static str),
    /// It did not answer in time.
    Late,
    /// It was not asked.
    NotSent(NotSent),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Status(tonic::Status::unavailable(error.message().to_owned()))
    }
}

/// What a failure means to a caller who asked this one community.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = match failure {
            Failure::Status(status) => return super::peer_error(status),
            Failure::Malformed(what) => {
                return Self::new(Reason::CommunityUnavailable, UNUSABLE).caused_by(what);
            }
            Failure::Late => "the community did not answer in time",
            Failure::NotSent(NotSent::Open) => {
                "the community has failed repeatedly and is not asked for a moment"
            }
            Failure::NotSent(NotSent::Busy) => "too many calls to the community wait already",
        };
        Self::new(Reason::CommunityUnavailable, message)
    }
}

/// Communities being asked.
#[derive(Debug)]
pub struct Asked<T> {
    skipped: Vec<Answer<T>>,
    set: JoinSet<Answer<T>>,
    peers: HashMap<tokio::task::Id, Arc<Peer>>,
}

impl<T: 'static> Asked<T> {
    /// The next answer, as it comes; `None` when all have answered or run out of time.
    pub async fn next(&mut self) -> Option<Answer<T>> {
        if let Some(answer) = self.skipped.pop() {
            return Some(answer);
        }
        match self.set.join_next_with_id().await? {
            Ok((_, answer)) => Some(answer),
            Err(error) => {
                // A fault here, but the region was asked and gave nothing: that is said (INV-6).
                tracing::error!(%error, "a region's call panicked");
                let peer = self.peers.get(&error.id())?;
                let status = status(peer, cpb::RegionState::Malformed, None);
                Some(Answer {
                    status,
                    value: None,
                })
            }
        }
    }
}

/// Asks every target at once, each by its path and within what is left of the call's time.
/// `ask_one` may be called again for the same target, so it must be a read. Dropping the result
/// cancels what is still under way.
pub fn ask<T, F, Fut>(call: &Call, by: (&Paths, Kind), targets: Vec<Target>, ask_one: F) -> Asked<T>
where
    T: Send + 'static,
    F: Fn(Target, Duration) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Said<T>, Failure>> + Send + 'static,
{
    ask_within((call, call.downstream_budget()), by, targets, ask_one)
}

/// As [`ask`], within `budget` and not all that is left of the call's time.
pub fn ask_within<T, F, Fut>(
    (call, budget): (&Call, Duration),
    (paths, kind): (&Paths, Kind),
    targets: Vec<Target>,
    ask_one: F,
) -> Asked<T>
where
    T: Send + 'static,
    F: Fn(Target, Duration) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Said<T>, Failure>> + Send + 'static,
{
    let order = Order::of(kind, call);
    let ask_one = Arc::new(ask_one);
    let mut asked = Asked {
        skipped: Vec::new(),
        set: JoinSet::new(),
        peers: HashMap::new(),
    };
    for target in targets {
        let peer = Arc::clone(&target.peer);
        if peer.endpoint.is_none() {
            // Known to hold something, and not (any more) a community that can be asked.
            let status = status(&peer, cpb::RegionState::Unreachable, None);
            asked.skipped.push(Answer {
                status,
                value: None,
            });
            continue;
        }
        if budget.is_zero() {
            let status = status(&peer, cpb::RegionState::SkippedBudget, None);
            asked.skipped.push(Answer {
                status,
                value: None,
            });
            continue;
        }
        let path = paths.to(&peer.home);
        let (named, ask_one) = (Arc::clone(&peer), Arc::clone(&ask_one));
        let task = asked.set.spawn(async move {
            let started = Instant::now();
            let attempt = |time| ask_one(target.clone(), time);
            let result = path.call(order, started + budget, attempt).await;
            finish(&peer, started.elapsed(), result)
        });
        asked.peers.insert(task.id(), named);
    }
    asked
}

fn finish<T>(peer: &Peer, elapsed: Duration, result: Result<Said<T>, Failure>) -> Answer<T> {
    let (state, said) = match result {
        Err(failure) => (state_of(peer, &failure), None),
        Ok(said) if said.truncated => (cpb::RegionState::Truncated, Some(said)),
        Ok(said) if said.count == 0 => (cpb::RegionState::Empty, Some(said)),
        Ok(said) => (cpb::RegionState::Ok, Some(said)),
    };
    let mut status = status(peer, state, Some(elapsed));
    let value = said.map(|said| {
        status.result_count = said.count;
        status.as_of = said.as_of;
        said.value
    });
    Answer { status, value }
}

/// What a failure means for a caller who asked several.
pub(super) fn state_of(peer: &Peer, failure: &Failure) -> cpb::RegionState {
    let (state, detail) = match failure {
        Failure::Late => (cpb::RegionState::Timeout, "late".to_owned()),
        Failure::NotSent(NotSent::Open) => (cpb::RegionState::CircuitOpen, "breaker".to_owned()),
        Failure::NotSent(NotSent::Busy) => (cpb::RegionState::SkippedBudget, "queue".to_owned()),
        Failure::Malformed(what) => (cpb::RegionState::Malformed, (*what).to_owned()),
        Failure::Status(status) => {
            let state = match status.code() {
                Code::DeadlineExceeded | Code::Cancelled => cpb::RegionState::Timeout,
                // Uniform: it says neither that there is something nor that there is nothing.
                Code::PermissionDenied | Code::Unauthenticated => cpb::RegionState::RefusedByPolicy,
                // The locator knew the patient, the region does not (any more): a gap to be named.
                Code::NotFound => cpb::RegionState::Stale,
                Code::InvalidArgument
                | Code::DataLoss
                | Code::Internal
                // Larger than is read; of another protocol.
                | Code::OutOfRange
                | Code::Unimplemented => cpb::RegionState::Malformed,
                Code::Unknown if std::error::Error::source(status).is_none() => {
                    // Not of the transport: so it answered, and not as gRPC does.
                    cpb::RegionState::Malformed
                }
                _ => cpb::RegionState::Unreachable,
            };
            (state, format!("{:?}", status.code()))
        }
    };
    tracing::warn!(peer.home_community_id = %peer.home, %detail, "a region did not answer well");
    state
}

/// A status of a community that gave nothing.
pub fn status(
    peer: &Peer,
    state: cpb::RegionState,
    elapsed: Option<Duration>,
) -> cpb::RegionStatus {
    cpb::RegionStatus {
        home_community_id: peer.home.to_string(),
        name: peer.name.clone(),
        state: state.into(),
        elapsed: elapsed.map(crate::wire::duration),
        ..cpb::RegionStatus::default()
    }
}

/// Completeness, computed: every region asked answered OK or EMPTY (INV-6, bar F-14).
pub fn completeness(mut regions: Vec<cpb::RegionStatus>) -> cpb::Completeness {
    regions.sort_by(|a, b| a.home_community_id.cmp(&b.home_community_id));
    let complete = regions.iter().all(|region| {
        matches!(
            region.state(),
            cpb::RegionState::Ok | cpb::RegionState::Empty
        ) || planted("a partial answer told as complete")
    });
    cpb::Completeness { complete, regions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::tests::{Dice, count, seed};

    fn peer() -> Peer {
        Peer {
            home: "urn:oid:1.2".parse().unwrap(),
            name: String::new(),
            endpoint: None,
            pins: vec![],
            discovers: false,
            answers: crate::directory::Answers::default(),
        }
    }

    #[test]
    fn complete_only_if_every_state_is_ok_or_empty() {
        let states = (0..=10).filter_map(|state| cpb::RegionState::try_from(state).ok());
        for state in states {
            let good = matches!(state, cpb::RegionState::Ok | cpb::RegionState::Empty);
            let ok = status(&peer(), cpb::RegionState::Ok, None);
            let regions = vec![ok, status(&peer(), state, None)];
            assert_eq!(completeness(regions).complete, good, "{state:?}");
        }
        assert!(completeness(vec![]).complete);
    }

    /// F-14: whatever regions say, in whatever order, an answer is told as complete only if each of
    /// them answered, and tells of each.
    #[test]
    fn no_vector_of_states_is_told_as_complete_that_is_not() {
        let seed = seed();
        let mut dice = Dice::new(seed);
        let mut complete = 0_u64;
        for _ in 0..count(100_000, 1_000_000) {
            // Mostly good ones: a vector of a few random states is hardly ever complete.
            let odd = dice.below(4);
            let states: Vec<i32> = (0..dice.below(12))
                .map(|_| match dice.below(8) < odd {
                    // Those of the interface are 0 to 10; others may come from a newer node.
                    true => i32::try_from(dice.below(14)).unwrap() - 1,
                    false => 1 + i32::try_from(dice.below(2)).unwrap(),
                })
                .collect();
            let regions = states
                .iter()
                .enumerate()
                .map(|(at, state)| cpb::RegionStatus {
                    home_community_id: format!("urn:oid:1.2.{at}"),
                    state: *state,
                    ..cpb::RegionStatus::default()
                });
            let told = completeness(regions.rev().collect());
            // 1 is OK and 2 is EMPTY.
            let whole = !states.iter().any(|state| *state != 1 && *state != 2);
            assert_eq!(told.complete, whole, "seed {seed}: {states:?}");
            assert_eq!(told.regions.len(), states.len(), "seed {seed}");
            complete += u64::from(whole);
        }
        assert!(complete > 10_000, "seed {seed}: {complete} were complete");
    }

    #[test]
    fn a_refusal_looks_the_same_whatever_its_cause() {
        let refused = |code| {
            let failure = Failure::Status(tonic::Status::new(code, ""));
            finish::<()>(&peer(), Duration::ZERO, Err(failure))
                .status
                .state()
        };
        assert_eq!(
            refused(Code::PermissionDenied),
            cpb::RegionState::RefusedByPolicy
        );
        assert_eq!(refused(Code::Unavailable), cpb::RegionState::Unreachable);
        assert_eq!(
            finish::<()>(&peer(), Duration::ZERO, Err(Failure::Late))
                .status
                .state(),
            cpb::RegionState::Timeout
        );
    }

    #[test]
    fn truncated_is_never_complete() {
        let said = Said {
            value: (),
            count: 3,
            truncated: true,
            as_of: None,
        };
        let answer = finish(&peer(), Duration::ZERO, Ok(said));
        assert_eq!(answer.status.state(), cpb::RegionState::Truncated);
        assert!(!completeness(vec![answer.status]).complete);
    }
}
