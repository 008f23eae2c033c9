//! Keeping the parent's directory in force here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::edge::{Alarms, Severity, State};
use crate::error::{Error, Reason, Result};
use crate::types::HomeCommunityId;
use crate::wire::pb::directory as pb;
use crate::wire::pb::directory::directory_service_client::DirectoryServiceClient;

use super::peers::Peers;

/// Between attempts to reach the parent.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Alarm: the parent's directory has not been heard of for [`QUIET`] and longer.
const BEHIND: &str = "DIRECTORY_BEHIND";
/// Alarm: what the parent sends as its directory is not believed.
const REFUSED: &str = "DIRECTORY_REFUSED";
/// A parent that is restarted is back before.
const QUIET: Duration = Duration::from_secs(30);

/// Adopts every version of the parent's directory, until told to stop. While the parent is away,
/// the last one adopted stays in force until it expires; about this node's own members, longer.
pub async fn follow_parent(
    parent: HomeCommunityId,
    directory: Arc<Directory>,
    peers: Arc<Peers>,
    edge: Arc<State>,
    stop: CancellationToken,
) {
    let uplink = Uplink {
        parent,
        directory,
        peers,
        edge,
    };
    let (mut wait, mut heard) = (MIN_WAIT, Instant::now());
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = uplink.follow(&mut wait, &mut heard) => ended,
        };
        if let Err(error) = ended {
            uplink.tell(&error, heard);
        }
        // Not all regions at once, when a hub comes back (bar F-22).
        let wait_now = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait_now) => {}
        }
        wait = (wait * 2).min(MAX_WAIT);
    }
}

struct Uplink {
    parent: HomeCommunityId,
    directory: Arc<Directory>,
    peers: Arc<Peers>,
    edge: Arc<State>,
}

impl Uplink {
    fn alarms(&self) -> &Alarms {
        &self.edge.alarms
    }

    /// Says that it cannot be followed.
    fn tell(&self, error: &Error, heard: Instant) {
        let (reason, now) = (error.reason().name(), self.peers.judges().1);
        tracing::warn!(
            reason,
            peer.home_community_id = %self.parent,
            "the parent's directory cannot be followed; the last one stays in force"
        );
        let subject = self.parent.to_string();
        let until = match self.directory.expires() {
            Some(expires) if expires <= now => "it has expired".to_owned(),
            Some(expires) => format!("it may be used until {expires}"),
            None => "there is none".to_owned(),
        };
        if heard.elapsed() >= QUIET {
            let message =
                format!("the parent's directory cannot be followed; of the last one: {until}");
            let alarms = self.alarms();
            alarms.raise(BEHIND, &subject, Severity::Error, message, now);
        }
        if error.reason() == Reason::PeerUntrusted {
            let message = error.message().to_owned();
            let alarms = self.alarms();
            alarms.raise(REFUSED, &subject, Severity::Error, message, now);
        }
    }

    async fn follow(&self, wait: &mut Duration, heard: &mut Instant) -> Result<()> {
        let parent = self.peers.peer(&self.parent)?;
        let channel = self.peers.channel(&parent)?;
        let mut client =
            DirectoryServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        let request = pb::WatchDirectoryRequest {
            resume_token: String::new(),
        };
        let response = client
            .watch_directory(request)
            .await
            .map_err(super::peer_error)?;
        let mut stream = response.into_inner();
        loop {
            let message = stream.next().await;
            // Until now it was there.
            *heard = Instant::now();
            let Some(message) = message else {
                return Ok(());
            };
            let message = message.map_err(super::peer_error)?;
            let signed = message.signed_directory.unwrap_or_default();
            // Its certificates may have changed with the last version.
            let parent = self.peers.peer(&self.parent)?;
            let (trust, now) = self.peers.judges();
            let version = self.directory.adopt(&signed, &parent, trust, now).await?;
            tracing::info!(version, "the parent's directory is in force");
            *wait = MIN_WAIT;
            self.alarms().keep_only(BEHIND, &[]);
            self.alarms().keep_only(REFUSED, &[]);
        }
    }
}
