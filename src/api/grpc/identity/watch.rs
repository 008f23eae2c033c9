//! Following changes of identifier sets: each is audited before it leaves (INV-2), and none is lost over a
//! broken connection or a restart of either side.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::mpsc::Sender;

use super::super::door::Answer;
use crate::access::{Action, Call};
use crate::audit::Outcome;
use crate::config::Capability;
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::Interest;
use crate::store::{Sequence, Tag};
use crate::types::AssigningAuthority;
use crate::wire::pb::identity as pb;

use super::super::shown::{findable, identifiers};

/// Changes on their way to a caller: who does not read slows only itself down.
const QUEUE: usize = 16;
/// Domains of one interest.
const MAX_DOMAINS: usize = 256;
/// A sign of life, with the place to go on from, when nothing changed for so long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Where a follower is: behind the `index`-th set of the frame `sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sequence: Sequence,
    /// Sets of the frame that were told already.
    told: usize,
}

/// Octets of a seal.
const SEAL: usize = 16;

impl Place {
    /// The token of this place, sealed: nobody else makes one, so nobody goes where it was not sent.
    fn token(self, seal: &dyn Fn(&[u8]) -> Tag) -> String {
        let told = self.told as u64;
        let place = [self.sequence.0.to_be_bytes(), told.to_be_bytes()].concat();
        let sealed = [seal(&place).as_bytes().as_slice(), &place].concat();
        URL_SAFE_NO_PAD.encode(sealed)
    }

    fn parse(token: &str, last: Sequence, seal: &dyn Fn(&[u8]) -> Tag) -> Result<Self> {
        let unknown = || {
            let message = "is not a token of this stream";
            Error::field(Reason::InvalidToken, "resume_token", message)
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let number = |at: usize| {
            let octets = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(octets))
        };
        let (sequence, told) = (number(SEAL), number(SEAL + 8));
        let place = Self {
            sequence: Sequence(sequence.ok_or_else(unknown)?),
            told: usize::try_from(told.ok_or_else(unknown)?).map_err(|_| unknown())?,
        };
        // A frame that is not there yet was not told by this node.
        if place.sequence > last.next() || place.token(seal) != token {
            return Err(unknown());
        }
        Ok(place)
    }
}

/// What a node seals its tokens with.
fn seal(gateway: &Gateway) -> impl Fn(&[u8]) -> Tag + '_ {
    move |place: &[u8]| gateway.store.keys().tag("identifier-watch-token", place)
}

pub(super) fn watch(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::WatchIdentifierChangesRequest,
) -> Answer<Stream<pb::WatchIdentifierChangesResponse>> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::QueryIdentifiers)?;
        permit.require(&[Action::QueryIdentifiers])?;
        let interest = interest(&gateway, &call, &request)?;
        let last = gateway.store.last_sequence();
        let place = match request.resume_token.as_str() {
            "" => Place {
                sequence: last.next(),
                told: 0,
            },
            token => Place::parse(token, last, &seal(&gateway))?,
        };
        let slot = Arc::clone(&gateway.watches).try_acquire_owned();
        let slot =
            slot.map_err(|_| Error::new(Reason::Overloaded, "too many subscribers at once"))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move {
            let _slot = slot;
            let stop = gateway.stop.clone();
            let told = tokio::select! {
                () = stop.cancelled() => {
                    Err(Error::new(Reason::ShuttingDown, "the node is stopping"))
                }
                // The follower goes on from its last token.
                () = tokio::time::sleep(gateway.federation.stream_ceiling) => return,
                () = sender.closed() => return,
                told = tell(&gateway, &call, &interest, place, &sender) => told,
            };
            if let Err(error) = told {
                // A receiver that is gone is a caller who hung up.
                drop(sender.send(Err(error)).await);
            }
        });
        Ok(Stream { receiver, asked: 0 })
    })
}

fn interest(
    gateway: &Gateway,
    call: &Call,
    request: &pb::WatchIdentifierChangesRequest,
) -> Result<Interest> {
    if request.domains.len() > MAX_DOMAINS {
        let message = format!("has more than {MAX_DOMAINS} domains");
        return Err(Error::field(Reason::InvalidField, "domains", message));
    }
    let directory = gateway.directory.snapshot();
    let community = call.caller().participant.community.clone();
    let mut domains = Vec::new();
    let mut unknown = Vec::new();
    for (index, domain) in request.domains.iter().enumerate() {
        let field = format!("domains[{index}]");
        let authority: AssigningAuthority =
            domain.parse().map_err(|error: crate::types::InvalidId| {
                Error::field(Reason::InvalidOid, field.clone(), error.to_string())
            })?;
        if directory.owner(&authority).is_none() {
            unknown.push(field);
        }
        domains.push(authority);
    }
    if !unknown.is_empty() {
        let message = "no community owns this domain";
        return Err(Error::fields(Reason::UnknownTargetDomain, unknown, message));
    }
    Ok(Interest {
        domains,
        own: directory.authorities_of(&community).cloned().collect(),
        community,
    })
}

type Reply = Result<pb::WatchIdentifierChangesResponse>;

/// Tells changes until the receiver is gone.
async fn tell(
    gateway: &Gateway,
    call: &Call,
    interest: &Interest,
    mut place: Place,
    sender: &Sender<Reply>,
) -> Result<()> {
    let seal = seal(gateway);
    let sign = |place: Place| {
        Ok(pb::WatchIdentifierChangesResponse {
            resume_token: place.token(&seal),
            identifier_set: None,
        })
    };
    // The place to go on from is known before anything changes.
    if sender.send(sign(place)).await.is_err() {
        return Ok(());
    }
    let mut frames = gateway.store.frames(place.sequence);
    loop {
        let frame = match tokio::time::timeout(SIGN_OF_LIFE, frames.next()).await {
            Ok(frame) => frame?,
            Err(_) if sender.send(sign(place)).await.is_err() => return Ok(()),
            Err(_) => continue,
        };
        let sets = gateway.identity.changed_sets(&frame, interest).await?;
        let skipped = if place.sequence == frame.sequence {
            place.told
        } else {
            0
        };
        for (index, change) in sets.into_iter().enumerate().skip(skipped) {
            place = Place {
                sequence: frame.sequence,
                told: index + 1,
            };
            if !may_see(gateway, call, &change.set)? {
                continue;
            }
            let part = call.for_part();
            part.note(|record| {
                record.patient = Some(change.tag.to_vec());
                record.items = super::count(change.set.identifiers.len());
            });
            super::super::door::audit(gateway, &part, Outcome::Success).await?;
            let message = pb::WatchIdentifierChangesResponse {
                resume_token: place.token(&seal),
                identifier_set: Some(change.set),
            };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        place = Place {
            sequence: frame.sequence.next(),
            told: 0,
        };
    }
}

/// Whether the caller may be told of a person at all: as for a query (bar Z-10).
fn may_see(gateway: &Gateway, call: &Call, set: &pb::IdentifierSet) -> Result<bool> {
    let known = identifiers(set.identifiers.iter().map(Some))?;
    findable(gateway, call, Action::QueryIdentifiers, &known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_place_this_node_has_been_at() {
        let place = Place {
            sequence: Sequence(31),
            told: 1,
        };
        let last = Sequence(31);
        let seal = |octet: u8| {
            move |place: &[u8]| {
                let sum = place.iter().fold(octet, |sum, one| sum.wrapping_add(*one));
                Tag::from_slice(&[sum; SEAL]).unwrap()
            }
        };
        let (own, other) = (seal(1), seal(2));
        let token = place.token(&own);
        assert_eq!(Place::parse(&token, last, &own).unwrap(), place);
        let forged = place.token(&other);
        let future = Place {
            sequence: Sequence(33),
            ..place
        };
        let longer = format!("{token}AA");
        for bad in [
            "",
            "1f.1",
            &token[1..],
            &longer,
            &forged,
            &future.token(&own),
        ] {
            let error = Place::parse(bad, last, &own).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidToken, "{bad}");
        }
    }
}
