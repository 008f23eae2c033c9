//! Retrieve a document from the community that holds it (ITI-43 at an initiating gateway, ITI-39 to
//! the others): passed on as it comes, and its hash and size compared at the end.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use crate::access::Call;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier_message;
use crate::planted::planted;
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as pb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use super::path::{Kind, Order};
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
        patients: &[PatientIdentifier],
    ) -> Result<Stream<RetrieveResponse>> {
        let home = community(&request.documents)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let idle = self.stream_idle;
        let checked = Checked::new(&request.documents);
        if let (Some(parent), Some(direct)) = (&self.parent, &self.direct) {
            let by = (direct, parent);
            if let Some(response) = self.retrieve_directly(call, by, &home, &request).await? {
                let parts = of_region(response);
                self.tasks.spawn(pass_on(parts, sender, idle, checked));
                return Ok(Stream::new(receiver).asked(1));
            }
        }
        if let Some(parent) = &self.parent {
            let channel = self.peers.channel(&*self.peers.peer(parent)?)?;
            let mut client = InitiatingGatewayServiceClient::new(channel);
            let outgoing = relayed(call, request, self.stream_ceiling);
            let response = first(idle, client.retrieve_documents(outgoing)).await?;
            let parts = response.into_inner().map(|message| {
                use pb::initiating_gateway_service_retrieve_documents_response::Part;
                message.map(|message| match message.part {
                    Some(Part::Document(part)) => Some(part),
                    _ => None,
                })
            });
            self.tasks.spawn(pass_on(parts, sender, idle, checked));
        } else {
            let by = (patients, None);
            let response = self.ask_region(call, &home, request, by).await?;
            let parts = of_region(response);
            self.tasks.spawn(pass_on(parts, sender, idle, checked));
        }
        Ok(Stream::new(receiver).asked(1))
    }

    /// Asks the region, by each of the patient's identifiers there until one is the documents'; with the
    /// hub's pass, if it is not the hub that asks.
    pub(super) async fn ask_region(
        &self,
        call: &Call,
        home: &HomeCommunityId,
        request: pb::InitiatingGatewayServiceRetrieveDocumentsRequest,
        (patients, pass): (&[PatientIdentifier], Option<pb::HolderPass>),
    ) -> Result<RegionResponse> {
        let peer = self.peers.peer(home)?;
        let directory = self.directory.snapshot();
        let client = RespondingGatewayServiceClient::new(self.peers.channel(&peer)?);
        let path = self.paths.to(home);
        let mut refusal = None;
        for patient in patients
            .iter()
            .filter(|id| directory.owner(&id.authority) == Some(home))
        {
            let request = pb::RespondingGatewayServiceRetrieveDocumentsRequest {
                documents: request.documents.clone(),
                patient_id: Some(identifier_message(patient)),
                pass: pass.clone(),
            };
            let begun = Instant::now() + self.stream_idle;
            let opened = path.call(Order::of(Kind::Retrieve, call), begun, |_| {
                let mut client = client.clone();
                let outgoing = relayed(call, request.clone(), self.stream_ceiling);
                async move { Ok(client.retrieve_documents(outgoing).await?) }
            });
            match opened.await.map_err(Error::from) {
                Err(error) if error.reason() == Reason::UnknownDocument => refusal = Some(error),
                answered => return answered,
            }
        }
        Err(refusal.unwrap_or_else(no_such_document))
    }
}

/// What is not there is not told from what may not be read (INV-3).
pub(super) fn no_such_document() -> Error {
    let field = "documents[0].document.document_unique_id";
    let message = "no such document, or none that may be read";
    Error::field(Reason::UnknownDocument, field, message)
}

/// The parts of a region's answer.
fn of_region(
    response: RegionResponse,
) -> impl tokio_stream::Stream<Item = Result<Option<dpb::RetrievedPart>, tonic::Status>> + Unpin + Send
{
    let parts = response.into_inner();
    parts.map(|message| message.map(|part| part.document))
}

pub(super) type RegionResponse =
    tonic::Response<tonic::Streaming<pb::RespondingGatewayServiceRetrieveDocumentsResponse>>;

/// The beginning of an answer, or a community that is unavailable.
pub(super) async fn first<T>(
    idle: Duration,
    answer: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T> {
    let answered = tokio::time::timeout(idle, answer).await.map_err(|_| {
        let message = "the community did not answer in time";
        Error::new(Reason::CommunityUnavailable, message)
    })?;
    answered.map_err(super::peer_error)
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

/// What a stream of documents must be: for each document asked for, in order, its header, its
/// chunks, and a trailer that agrees with them.
struct Checked {
    /// uniqueId, and whether only a range of it is wanted: then no hash is.
    wanted: Vec<(String, bool)>,
    at: usize,
    open: Option<(digest::Context, u64)>,
}

impl Checked {
    fn new(documents: &[dpb::DocumentRequest]) -> Self {
        let unique_id = |wanted: &dpb::DocumentRequest| -> (String, bool) {
            let document = wanted.document.as_ref();
            let unique_id = document.map(|document| document.document_unique_id.clone());
            (unique_id.unwrap_or_default(), wanted.range.is_some())
        };
        Self {
            wanted: documents.iter().map(unique_id).collect(),
            at: 0,
            open: None,
        }
    }

    /// Takes the next part; `false` if it cannot come here.
    fn part(&mut self, part: &dpb::RetrievedPart) -> bool {
        use dpb::retrieved_part::Part;
        match (&part.part, &mut self.open) {
            (Some(Part::Header(header)), open @ None) => {
                let named = header
                    .document
                    .as_ref()
                    .map(|document| &document.document_unique_id);
                *open = Some((digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY), 0));
                let wanted = self.wanted.get(self.at).map(|(unique_id, _)| unique_id);
                named.is_some() && named == wanted
            }
            (Some(Part::Chunk(chunk)), Some((sum, size))) => {
                sum.update(chunk);
                *size = size.saturating_add(chunk.len() as u64);
                true
            }
            (Some(Part::Trailer(trailer)), open @ Some(_)) => {
                let ranged = self.wanted.get(self.at).is_some_and(|(_, ranged)| *ranged);
                self.at += 1;
                open.take().is_some_and(|(sum, size)| {
                    if ranged {
                        return size <= trailer.size;
                    }
                    let hash = HEXLOWER.encode(sum.finish().as_ref());
                    size == trailer.size
                        && (hash.eq_ignore_ascii_case(&trailer.hash)
                            || planted("hash of a passed document not compared"))
                })
            }
            (Some(Part::Failure(_)), open) => {
                *open = None;
                self.at += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether everything asked for has come.
    fn is_whole(&self) -> bool {
        self.open.is_none() && self.at == self.wanted.len()
    }
}

/// Passes parts on while counting and hashing; what does not hold together ends the stream with an
/// error, so that nobody takes it for a document.
async fn pass_on(
    mut parts: impl tokio_stream::Stream<Item = Result<Option<dpb::RetrievedPart>, tonic::Status>>
    + Unpin
    + Send,
    sender: mpsc::Sender<Result<RetrieveResponse>>,
    idle: Duration,
    mut checked: Checked,
) {
    let integrity = || {
        let message = "the answer is not the documents asked for, with their hash and size";
        Error::new(Reason::IntegrityFailure, message)
    };
    loop {
        let part = match tokio::time::timeout(idle, parts.next()).await {
            Ok(None) if checked.is_whole() => return,
            Ok(None) => return end(&sender, integrity()).await,
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
        if !checked.part(&part) {
            return end(&sender, integrity()).await;
        }
        let response = RetrieveResponse {
            part: Some(
                pb::initiating_gateway_service_retrieve_documents_response::Part::Document(part),
            ),
        };
        // A caller who takes nothing for too long is gone.
        let sent = tokio::time::timeout(idle, sender.send(Ok(response))).await;
        if !matches!(sent, Ok(Ok(()))) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;
    use dpb::retrieved_part::Part;

    #[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
    fn reference(unique_id: &str) -> Option<cpb::DocumentRef> {
        Some(cpb::DocumentRef {
            document_unique_id: unique_id.into(),
            ..Default::default()
        })
    }

    fn header(unique_id: &str) -> Part {
        let document = reference(unique_id);
        Part::Header(dpb::RetrievedHeader {
            document,
            ..Default::default()
        })
    }

    fn trailer(bytes: &[u8]) -> Part {
        let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        Part::Trailer(dpb::RetrievedTrailer {
            size: bytes.len() as u64,
            hash: HEXLOWER.encode(sum.as_ref()),
            ..Default::default()
        })
    }

    fn holds(parts: Vec<Part>) -> bool {
        let wanted = dpb::DocumentRequest {
            document: reference("1.2"),
            range: None,
        };
        let mut checked = Checked::new(&[wanted]);
        let all = parts
            .into_iter()
            .all(|part| checked.part(&dpb::RetrievedPart { part: Some(part) }));
        all && checked.is_whole()
    }

    #[test]
    fn only_the_documents_asked_for_whole_and_unchanged() {
        let chunk = || Part::Chunk(b"abc".to_vec().into());
        assert!(holds(vec![header("1.2"), chunk(), trailer(b"abc")]));
        assert!(
            !holds(vec![header("1.3"), chunk(), trailer(b"abc")]),
            "another document"
        );
        assert!(
            !holds(vec![header("1.2"), chunk(), trailer(b"abd")]),
            "other bytes"
        );
        assert!(!holds(vec![header("1.2"), chunk()]), "no trailer");
        assert!(!holds(vec![chunk(), trailer(b"abc")]), "no header");
        assert!(!holds(vec![]), "nothing");
        assert!(
            !holds(vec![header("1.2"), header("1.2"), trailer(b"")]),
            "two headers"
        );
        let failure = || Part::Failure(dpb::RetrievedFailure::default());
        assert!(holds(vec![failure()]), "a failure is an answer");
        assert!(holds(vec![header("1.2"), chunk(), failure()]));
        assert!(!holds(vec![failure(), failure()]), "one document, one end");
    }
}
