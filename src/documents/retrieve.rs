//! Retrieve (ITI-43): verified segments, streamed; never a whole document in memory.

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use tokio::sync::mpsc;

use crate::access::{Action, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{BlobId, BlobReader};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::retrieved_part::Part;

use super::Documents;
use super::query::Found;

/// Parts on their way to the network.
const QUEUE: usize = 4;
/// Bytes of one chunk on the wire: 256 KiB is best for bulk, and far below the message limit.
pub(super) const CHUNK: usize = 256 * 1024;

/// A stream of parts.
pub type Parts = mpsc::Receiver<Result<pb::RetrievedPart>>;

/// Which octets of a document are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    offset: u64,
    /// How many.
    length: u64,
}

impl Range {
    /// The octets of a document of `size` that a request asks for; none if it asks for all.
    ///
    /// # Errors
    /// [`Reason::InvalidField`] if it begins behind the end.
    pub fn new(asked: Option<&pb::ByteRange>, size: u64) -> Result<Option<Self>> {
        let Some(asked) = asked else { return Ok(None) };
        let left = size.checked_sub(asked.offset).filter(|left| *left > 0);
        let left = left.ok_or_else(|| {
            Error::field(
                Reason::InvalidField,
                "range",
                "begins behind the end of the document",
            )
        })?;
        let length = if asked.length == 0 {
            left
        } else {
            asked.length.min(left)
        };
        Ok(Some(Self {
            offset: asked.offset,
            length,
        }))
    }
}

impl Documents {
    /// The size of a document that is here.
    ///
    /// # Errors
    /// [`Reason::UnknownDocument`] if its bytes are not here; [`Reason::IntegrityFailure`].
    pub fn size(&self, permit: &Permit, found: &Found) -> Result<u64> {
        permit.require(&[Action::ReadDocument, Action::ReadSummary])?;
        Ok(self.reader(found)?.size())
    }

    fn reader(&self, found: &Found) -> Result<BlobReader> {
        let id = BlobId::from_slice(&found.blob)
            .ok_or_else(|| Error::new(Reason::UnknownDocument, "the document is not here"))?;
        Ok(self.store.blobs().reader(&id)?)
    }

    /// Opens a document for streaming: header, chunks, trailer with size and hash. Octets that are
    /// not those registered end the stream with [`Reason::IntegrityFailure`] in place of the
    /// trailer: segments are verified one by one, and size and hash of the whole at the end.
    ///
    /// # Errors
    /// [`Reason::UnknownDocument`] if its bytes are not here; [`Reason::InvalidField`] for a range
    /// behind the end.
    pub fn stream(
        &self,
        permit: &Permit,
        found: &Found,
        request_index: u32,
        range: Option<&pb::ByteRange>,
    ) -> Result<Parts> {
        permit.require(&[Action::ReadDocument, Action::ReadSummary])?;
        let reader = self.reader(found)?;
        let range = Range::new(range, reader.size())?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let sending = Sending {
            reader,
            range,
            entry: found.entry.clone(),
            request_index,
            sender,
        };
        tokio::task::spawn_blocking(move || sending.run());
        Ok(receiver)
    }

    /// The whole content of a document of at most `limit` bytes, for reading it here: the extraction
    /// of a summary, the making of another document. Blocking.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] if it is larger; [`Reason::UnknownDocument`]; the store.
    pub fn content(&self, permit: &Permit, found: &Found, limit: u64) -> Result<Vec<u8>> {
        permit.require(&[Action::ReadDocument, Action::ReadSummary])?;
        self.unjudged(found, limit)
    }

    /// The whole content of a document, for what is worked out ahead of it. Nothing of it may leave
    /// before it was judged for whoever gets it. Blocking.
    ///
    /// # Errors
    /// As [`Documents::content`].
    pub(crate) fn unjudged(&self, found: &Found, limit: u64) -> Result<Vec<u8>> {
        let mut reader = self.reader(found)?;
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

/// A document on its way.
struct Sending {
    reader: BlobReader,
    range: Option<Range>,
    entry: pb::DocumentEntry,
    request_index: u32,
    sender: mpsc::Sender<Result<pb::RetrievedPart>>,
}

/// The receiver has left.
struct Gone;

impl Sending {
    fn run(mut self) {
        let header = Part::Header(self.header());
        let sent = self.send(header).and_then(|()| self.body());
        let last = match sent {
            Err(Gone) => return,
            Ok(Ok(trailer)) => {
                if self.send(Part::Trailer(trailer)).is_err() {
                    tracing::debug!("the reader left before the end of the document");
                }
                return;
            }
            Ok(Err(error)) => self.sender.blocking_send(Err(error)),
        };
        tracing::error!(told = last.is_ok(), "a document failed its check");
    }

    fn send(&self, part: Part) -> std::result::Result<(), Gone> {
        let part = pb::RetrievedPart { part: Some(part) };
        self.sender.blocking_send(Ok(part)).map_err(|_| Gone)
    }

    /// Sends the octets; gives the trailer, or why there is none.
    fn body(&mut self) -> std::result::Result<Result<pb::RetrievedTrailer>, Gone> {
        let whole = self.reader.size();
        let range = self.range;
        let (mut skip, mut left) = match range {
            Some(range) => (self.reader.seek(range.offset), range.length),
            None => (0, whole),
        };
        let mut sum = Sum::new(&self.entry);
        let mut sent = 0;
        let mut buffer = Vec::with_capacity(CHUNK);
        while left > 0 {
            let bytes = match self.reader.next_chunk() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Ok(Err(error.into())),
            };
            let from = skip.min(bytes.len());
            let to = usize::try_from(left).map_or(bytes.len(), |left| bytes.len().min(from + left));
            let wanted = bytes.get(from..to).unwrap_or_default();
            skip -= from;
            left -= wanted.len() as u64;
            sent += wanted.len() as u64;
            if range.is_none() {
                sum.update(wanted);
            }
            buffer.extend_from_slice(wanted);
            if buffer.len() >= CHUNK {
                let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK));
                self.send(Part::Chunk(Bytes::from(full)))?;
            }
        }
        if !buffer.is_empty() {
            self.send(Part::Chunk(Bytes::from(buffer)))?;
        }
        Ok(self.trailer(whole, sent, sum))
    }

    /// The end of the document, if it is the one that was registered.
    fn trailer(&self, whole: u64, sent: u64, sum: Sum) -> Result<pb::RetrievedTrailer> {
        let wanted = self.range.map_or(whole, |range| range.length);
        let registered = self.entry.size.is_none_or(|size| size == whole);
        let same = self.range.is_some() || sum.agrees();
        if sent != wanted || !registered || !same {
            let message = "the stored octets are not those registered; not served";
            return Err(Error::new(Reason::IntegrityFailure, message));
        }
        let hash = |hash: &String| match self.range {
            Some(_) => String::new(),
            None => hash.clone(),
        };
        Ok(pb::RetrievedTrailer {
            request_index: self.request_index,
            size: whole,
            hash: hash(&self.entry.hash),
            hash_sha256: hash(&self.entry.hash_sha256),
        })
    }

    fn header(&self) -> pb::RetrievedHeader {
        pb::RetrievedHeader {
            request_index: self.request_index,
            document: Some(document_ref(&self.entry)),
            mime_type: self.entry.mime_type.clone(),
            size: Some(self.reader.size()),
            range: self.range.map(|range| pb::ByteRange {
                offset: range.offset,
                length: range.length,
            }),
            ..pb::RetrievedHeader::default()
        }
    }
}

/// The hash of what is sent, against the one registered: SHA-256 where it is known, else SHA-1.
struct Sum {
    context: digest::Context,
    registered: String,
}

impl Sum {
    fn new(entry: &pb::DocumentEntry) -> Self {
        let (algorithm, registered) = match entry.hash_sha256.as_str() {
            "" => (&digest::SHA1_FOR_LEGACY_USE_ONLY, &entry.hash),
            _ => (&digest::SHA256, &entry.hash_sha256),
        };
        Self {
            context: digest::Context::new(algorithm),
            registered: registered.clone(),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    fn agrees(self) -> bool {
        let hash = HEXLOWER.encode(self.context.finish().as_ref());
        self.registered.is_empty() || self.registered.eq_ignore_ascii_case(&hash)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_end_and_begins_before_it() {
        let asked = |offset, length| {
            let asked = pb::ByteRange { offset, length };
            Range::new(Some(&asked), 10).ok().flatten()
        };
        let range = |offset, length| Some(Range { offset, length });
        assert_eq!(asked(0, 0), range(0, 10));
        assert_eq!(asked(3, 4), range(3, 4));
        assert_eq!(asked(9, u64::MAX), range(9, 1));
        assert_eq!(asked(10, 1), None);
        assert_eq!(asked(u64::MAX, u64::MAX), None);
        assert_eq!(Range::new(None, 10).unwrap(), None);
    }
}
