//! Retrieve a document from the community that holds it (ITI-43 at an initiating gateway, ITI-39 to
//! the others): passed on as it comes, and its hash and size compared at the end.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use crate::access::Call;
use crate::error::{Error, Reason, Result};
use crate::types::HomeCommunityId;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::peers::relayed;
use super::{Federation, Stream};

/// Documents in one call.
const MAX_DOCUMENTS: usize = 32;
/// Parts on their way to the caller: a slow caller slows the region down (INV-7).
const QUEUE: usize = 4;

type RetrieveResponse = pb::InitiatingGatewayServiceRetrieveDocumentsResponse;

impl Federation {
    /// Streams documents of one other community.
    ///
    /// # Errors
    /// A malformed reference; [`Reason::UnknownCommunity`]; what the community says before its
    /// first byte. A failure later ends the stream with an error.
    pub async fn retrieve_documents(
        self: &Arc<Self>,
        call: &Arc<Call>,
        request: pb::InitiatingGatewayServiceRetrieveDocumentsRequest,
    ) -> Result<Stream<RetrieveResponse>> {
        let home = community(&request.documents)?;
        let ceiling = self.stream_ceiling;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let idle = self.stream_idle;
        if let Some(parent) = &self.parent {
            let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
            let mut client = InitiatingGatewayServiceClient::new(channel);
            let outgoing = relayed(call, request, ceiling);
            let response = client
                .retrieve_documents(outgoing)
                .await
                .map_err(super::peer_error)?;
            let parts = response.into_inner().map(|message| {
                use pb::initiating_gateway_service_retrieve_documents_response::Part;
                message.map(|message| match message.part {
                    Some(Part::Document(part)) => Some(part),
                    _ => None,
                })
            });
            self.tasks.spawn(pass_on(parts, sender, idle));
        } else {
            let peer = self.peers.peer(&home)?;
            let mut client = RespondingGatewayServiceClient::new(self.peers.channel(&peer)?);
            let request = pb::RespondingGatewayServiceRetrieveDocumentsRequest {
                documents: request.documents,
                patient_id: None,
            };
            let response = client
                .retrieve_documents(relayed(call, request, ceiling))
                .await
                .map_err(super::peer_error)?;
            let parts = response
                .into_inner()
                .map(|message| message.map(|part| part.document));
            self.tasks.spawn(pass_on(parts, sender, idle));
        }
        Ok(Stream::new(receiver).asked(1))
    }
}

/// The one community all documents of a call are from.
fn community(documents: &[dpb::DocumentRequest]) -> Result<HomeCommunityId> {
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let message = format!("must name between 1 and {MAX_DOCUMENTS} documents");
        return Err(Error::field(Reason::InvalidField, "documents", message));
    }
    let mut home = None;
    for (index, wanted) in documents.iter().enumerate() {
        let field = || format!("documents[{index}].document.home_community_id");
        let document = wanted
            .document
            .as_ref()
            .ok_or_else(|| Error::missing(field()))?;
        let named: HomeCommunityId =
            document
                .home_community_id
                .parse()
                .map_err(|error: crate::types::InvalidId| {
                    Error::field(Reason::InvalidField, field(), error.to_string())
                })?;
        if home.as_ref().is_some_and(|home| *home != named) {
            let message = "documents of several communities need a call each";
            return Err(Error::field(Reason::InvalidField, field(), message));
        }
        home = Some(named);
    }
    home.ok_or_else(|| Error::missing("documents"))
}

/// Passes parts on while counting and hashing; what does not agree with its trailer is reported.
async fn pass_on(
    mut parts: impl tokio_stream::Stream<Item = Result<Option<dpb::RetrievedPart>, tonic::Status>>
    + Unpin
    + Send,
    sender: mpsc::Sender<Result<RetrieveResponse>>,
    idle: Duration,
) {
    use dpb::retrieved_part::Part;
    let mut sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let mut size = 0_u64;
    loop {
        let part = match tokio::time::timeout(idle, parts.next()).await {
            Ok(None) => return,
            Ok(Some(Ok(Some(part)))) => part,
            Ok(Some(Ok(None))) => continue,
            Ok(Some(Err(status))) => {
                return end(&sender, super::peer_error(status)).await;
            }
            Err(_) => {
                let message = "the community stopped sending";
                return end(&sender, Error::new(Reason::CommunityUnavailable, message)).await;
            }
        };
        match &part.part {
            Some(Part::Header(_)) => {
                sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                size = 0;
            }
            Some(Part::Chunk(chunk)) => {
                sum.update(chunk);
                size = size.saturating_add(chunk.len() as u64);
            }
            Some(Part::Trailer(trailer)) => {
                let hash = crate::audit::hex(sum.clone().finish().as_ref());
                if size != trailer.size || !hash.eq_ignore_ascii_case(&trailer.hash) {
                    let message = "the bytes do not have the hash and size of the document";
                    return end(&sender, Error::new(Reason::IntegrityFailure, message)).await;
                }
            }
            Some(Part::Failure(_)) | None => {}
        }
        let response = RetrieveResponse {
            part: Some(
                pb::initiating_gateway_service_retrieve_documents_response::Part::Document(part),
            ),
        };
        if sender.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

async fn end(sender: &mpsc::Sender<Result<RetrieveResponse>>, error: Error) {
    tracing::warn!(reason = error.reason().name(), "a retrieve ended early");
    if sender.send(Err(error)).await.is_err() {
        tracing::debug!("the caller left before the end of the document");
    }
}
