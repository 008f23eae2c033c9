//! Keeping the parent's directory in force here.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::error::{Error, Reason, Result};
use crate::types::HomeCommunityId;
use crate::wire::pb::directory as pb;
use crate::wire::pb::directory::directory_service_client::DirectoryServiceClient;

use super::peers::Peers;

/// Between attempts to reach the parent.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Adopts every version of the parent's directory, until told to stop. While the parent is away,
/// the last one adopted stays in force.
pub async fn follow_parent(
    parent: HomeCommunityId,
    directory: Arc<Directory>,
    peers: Arc<Peers>,
    stop: CancellationToken,
) {
    let mut wait = MIN_WAIT;
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = follow(&parent, &directory, &peers, &mut wait) => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(
                reason = error.reason().name(),
                peer.home_community_id = %parent,
                "the parent's directory cannot be followed; the last one stays in force"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(MAX_WAIT);
    }
}

async fn follow(
    parent: &HomeCommunityId,
    directory: &Directory,
    peers: &Peers,
    wait: &mut Duration,
) -> Result<()> {
    let channel = peers.channel(&*peers.peer(parent)?)?;
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
    while let Some(message) = stream.next().await {
        let signed = message
            .map_err(super::peer_error)?
            .signed_directory
            .unwrap_or_default();
        let theirs = pb::Directory::decode(signed.directory).map_err(|error| {
            let message = "the parent's directory cannot be read";
            Error::new(Reason::CommunityUnavailable, message).caused_by(error)
        })?;
        directory.adopt(&theirs).await?;
        tracing::info!(
            version = theirs.version,
            "the parent's directory is in force"
        );
        *wait = MIN_WAIT;
    }
    Ok(())
}
