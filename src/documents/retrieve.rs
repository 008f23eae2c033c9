//! Retrieve (ITI-43): verified segments, streamed; never a whole document in memory.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::access::{Action, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::BlobId;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::Documents;
use super::service::Found;

/// Parts on their way to the network.
const QUEUE: usize = 4;
/// Bytes of one chunk on the wire: 256 KiB is best for bulk, and far below the message limit.
const CHUNK: usize = 256 * 1024;

/// A stream of parts.
pub type Parts = mpsc::Receiver<Result<pb::RetrievedPart>>;

impl Documents {
    /// Opens a document for streaming: header, chunks, trailer with size and hash.
    ///
    /// # Errors
    /// [`Reason::UnknownDocument`] if its bytes are not here.
    pub fn stream(&self, permit: &Permit, found: &Found, request_index: u32) -> Result<Parts> {
        permit.require(&[Action::ReadDocument, Action::ReadSummary])?;
        let id = BlobId::from_slice(&found.blob)
            .ok_or_else(|| Error::new(Reason::UnknownDocument, "the document is not here"))?;
        let mut reader = self.store.blobs().reader(&id)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let entry = found.entry.clone();
        tokio::task::spawn_blocking(move || {
            let send = |part| {
                let part = pb::RetrievedPart { part: Some(part) };
                sender.blocking_send(Ok(part)).is_ok()
            };
            let header = header(&entry, request_index);
            if !send(pb::retrieved_part::Part::Header(header)) {
                return;
            }
            let mut size = 0;
            let mut buffer = Vec::with_capacity(CHUNK);
            loop {
                match reader.next_chunk() {
                    Ok(Some(bytes)) => {
                        size += bytes.len() as u64;
                        buffer.extend_from_slice(&bytes);
                        if buffer.len() >= CHUNK {
                            let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK));
                            if !send(pb::retrieved_part::Part::Chunk(Bytes::from(full))) {
                                return;
                            }
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let failed = sender.blocking_send(Err(error.into()));
                        tracing::error!(told = failed.is_ok(), "a blob failed its check");
                        return;
                    }
                }
            }
            if !buffer.is_empty() && !send(pb::retrieved_part::Part::Chunk(Bytes::from(buffer))) {
                return;
            }
            let trailer = pb::RetrievedTrailer {
                request_index,
                size,
                hash: entry.hash.clone(),
                hash_sha256: entry.hash_sha256.clone(),
            };
            send(pb::retrieved_part::Part::Trailer(trailer));
        });
        Ok(receiver)
    }

    /// The whole content of a document of at most `limit` bytes, for reading it here (summary
    /// extraction). Blocking.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] if it is larger; [`Reason::UnknownDocument`]; the store.
    pub fn content(&self, permit: &Permit, found: &Found, limit: u64) -> Result<Vec<u8>> {
        permit.require(&[Action::ReadSummary])?;
        let id = BlobId::from_slice(&found.blob)
            .ok_or_else(|| Error::new(Reason::UnknownDocument, "the document is not here"))?;
        let mut reader = self.store.blobs().reader(&id)?;
        if reader.size() > limit {
            return Err(Error::new(
                Reason::MessageTooLarge,
                "the document is too large to be read",
            ));
        }
        let mut content = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }
}

/// Where a document is.
pub fn document_ref(entry: &pb::DocumentEntry) -> cpb::DocumentRef {
    cpb::DocumentRef {
        home_community_id: entry.home_community_id.clone(),
        repository_unique_id: entry.repository_unique_id.clone(),
        document_unique_id: entry.unique_id.clone(),
    }
}

fn header(entry: &pb::DocumentEntry, request_index: u32) -> pb::RetrievedHeader {
    pb::RetrievedHeader {
        request_index,
        document: Some(document_ref(entry)),
        mime_type: entry.mime_type.clone(),
        size: entry.size,
        ..pb::RetrievedHeader::default()
    }
}
