//! Following one community, over its restarts and the network's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::access::Call;
use crate::directory::Peer;
use crate::wire::pb::common::RegionState;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::super::Federation;
use super::super::fanout::{Failure, state_of};
use super::super::path::{Kind, Order};
use super::super::peers::relayed;
use super::SILENCE;

/// The beginning of a stream is waited for no longer.
const OPENING: Duration = Duration::from_secs(5);
/// Between two tries; doubles until the stream has held for as long as it may come to.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Characters of a community's token.
const MAX_PLACE: usize = 256;

/// What a community says.
pub(super) struct Heard {
    /// homeCommunityId.
    pub(super) home: String,
    /// What.
    pub(super) what: What,
}

/// What is heard of a community.
pub(super) enum What {
    /// It is not followed at the moment.
    State(RegionState),
    /// It is: the place to go on from, if there is one, and news.
    News(String, Vec<pb::DocumentNews>),
}

/// Follows one community.
pub(super) struct Follower {
    pub(super) federation: Arc<Federation>,
    pub(super) call: Arc<Call>,
    pub(super) peer: Arc<Peer>,
    /// What it is asked next: the token goes on with what it has told.
    pub(super) request: pb::RespondingGatewayServiceWatchDocumentsRequest,
    pub(super) hears: mpsc::Sender<Heard>,
}

/// Nobody hears it any more.
struct Gone;

impl Follower {
    /// Follows it until nobody wants to hear of it any more, or it refuses: a refusal stands for this call,
    /// and is not asked for again and again.
    pub(super) async fn run(mut self) {
        let mut wait = MIN_WAIT;
        loop {
            let began = Instant::now();
            let failure = match self.follow().await {
                Ok(Gone) => return,
                Err(failure) => failure,
            };
            let state = state_of(&self.peer, &failure);
            let told = self.hear(What::State(state)).await;
            if told.is_err() || refuses(&failure) {
                return;
            }
            self.go_on(&failure);
            if began.elapsed() >= MAX_WAIT {
                wait = MIN_WAIT;
            }
            // Not all at once, when a community comes back that many follow (bar F-22).
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    /// What is asked for after a failure: nothing is missed of what came meanwhile.
    fn go_on(&mut self, failure: &Failure) {
        if let Failure::Status(status) = failure
            && status.code() == Code::InvalidArgument
        {
            // It does not know the place: a store that was restored begins anew.
            self.request.resume_token.clear();
        }
        self.request.from_beginning = self.request.resume_token.is_empty();
    }

    async fn follow(&mut self) -> Result<Gone, Failure> {
        let federation = &self.federation;
        // As the directory has it now.
        let peer = federation.peers.peer(&self.peer.home)?;
        let channel = federation.peers.following_channel(&peer)?;
        let client = RespondingGatewayServiceClient::new(channel);
        let order = Order::of(Kind::Retrieve, &self.call);
        let path = federation.paths.to(&peer.home);
        let opened = path.call(order, Instant::now() + OPENING, |_| {
            let mut client = client.clone();
            let outgoing = relayed(&self.call, self.request.clone(), federation.stream_ceiling);
            async move {
                match client.watch_documents(outgoing).await {
                    // It has no room for one more subscriber, which says nothing of other calls.
                    Err(full) if full.code() == Code::ResourceExhausted => Ok(Err(full)),
                    opened => Ok(Ok(opened?)),
                }
            }
        });
        let mut messages = opened.await??.into_inner();
        loop {
            let message = tokio::time::timeout(SILENCE, messages.next()).await;
            let Some(message) = message.map_err(|_| Failure::Late)? else {
                let ended = tonic::Status::unavailable("the stream ended");
                return Err(Failure::Status(ended));
            };
            let message = message?;
            check(&peer, &message)?;
            if !message.resume_token.is_empty() {
                self.request.resume_token.clone_from(&message.resume_token);
            }
            let news = What::News(message.resume_token, message.news);
            if let Err(gone) = self.hear(news).await {
                return Ok(gone);
            }
        }
    }

    async fn hear(&self, what: What) -> Result<(), Gone> {
        let home = self.peer.home.to_string();
        let heard = self.hears.send(Heard { home, what }).await;
        heard.map_err(|_| Gone)
    }
}

/// Whether it was the call that was refused: what is refused for the certificate or its revocation lists
/// may be taken the next time.
fn refuses(failure: &Failure) -> bool {
    matches!(failure, Failure::Status(status) if status.code() == Code::PermissionDenied)
}

/// A community may only speak of its own documents (INV-4, bar Z-18).
fn check(
    peer: &Peer,
    message: &pb::RespondingGatewayServiceWatchDocumentsResponse,
) -> Result<(), Failure> {
    if message.resume_token.len() > MAX_PLACE {
        return Err(Failure::Malformed("a token that is too long"));
    }
    let home = peer.home.to_string();
    let own = |news: &pb::DocumentNews| {
        let document = news.document.as_ref();
        document.is_some_and(|document| document.home_community_id == home)
    };
    match message.news.iter().all(own) {
        true => Ok(()),
        false => Err(Failure::Malformed("news of another community")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;

    #[test]
    fn a_community_speaks_of_its_own_documents_only() {
        let home = "urn:oid:1.2";
        let peer = Peer {
            home: home.parse().unwrap(),
            name: String::new(),
            endpoint: None,
            pins: vec![],
            discovers: false,
            answers: crate::directory::Answers::default(),
        };
        let news = |home: Option<&str>| pb::DocumentNews {
            document: home.map(|home| cpb::DocumentRef {
                home_community_id: home.to_owned(),
                ..cpb::DocumentRef::default()
            }),
            ..pb::DocumentNews::default()
        };
        let said = |token: usize, news| pb::RespondingGatewayServiceWatchDocumentsResponse {
            resume_token: "A".repeat(token),
            news,
        };
        let own = news(Some(home));
        assert!(check(&peer, &said(0, vec![])).is_ok());
        assert!(check(&peer, &said(MAX_PLACE, vec![own.clone(), own.clone()])).is_ok());
        assert!(check(&peer, &said(MAX_PLACE + 1, vec![])).is_err());
        for wrong in [None, Some(""), Some("urn:oid:1.3")] {
            let news = vec![own.clone(), news(wrong)];
            assert!(check(&peer, &said(1, news)).is_err(), "{wrong:?}");
        }
    }
}
