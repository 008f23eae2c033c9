//! Provide and register (ITI-41): documents are stored as they arrive, then checked, then
//! registered. Nothing is visible before all of it is durable.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::access::{Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{BlobInfo, BlobWriter, Idempotency, StoreError, Write};
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as pb;

use super::Documents;
use super::validate::ValidSubmission;

/// Chunks on their way to the disk: the sender waits when it is faster (INV-7).
const QUEUE: usize = 4;

/// A submission under way.
#[derive(Debug)]
pub struct Provision<'a> {
    documents: &'a Documents,
    submission: ValidSubmission,
    blobs: Vec<Option<Vec<u8>>>,
    current: Option<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    index: usize,
    received: u64,
    chunks: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<BlobInfo, StoreError>>,
}

impl Documents {
    /// Starts a submission: its metadata must be right before any content is taken.
    ///
    /// # Errors
    /// The first metadata rule broken.
    pub fn begin(&self, submission: pb::Submission) -> Result<Provision<'_>> {
        if self.repository().is_none() {
            return Err(Error::new(
                Reason::RoleNotServed,
                "this node has no repository",
            ));
        }
        let submission = self.validate(submission)?;
        let blobs = submission.entries.iter().map(|_| None).collect();
        Ok(Provision {
            documents: self,
            submission,
            blobs,
            current: None,
        })
    }
}

impl Provision<'_> {
    /// The patient the submission is about.
    pub fn patient(&self) -> &PatientIdentifier {
        &self.submission.patient
    }

    /// Begins the document of the entry with this id (as the submission wrote it).
    ///
    /// # Errors
    /// [`Reason::MissingDocument`] if no entry has the id, or it was sent already; the checks of
    /// the document before it.
    pub async fn document(&mut self, entry_uuid: &str) -> Result<()> {
        self.close_current().await?;
        let index = self
            .submission
            .entries
            .iter()
            .position(|entry| entry.symbolic == entry_uuid)
            .filter(|index| self.blobs.get(*index).is_some_and(Option::is_none));
        let Some(index) = index else {
            return Err(Error::field(
                Reason::MissingDocument,
                "document.entry_uuid",
                "names no entry of the submission, or one whose document came already",
            ));
        };
        let writer = self.documents.store.blobs().writer()?;
        let (chunks, receiver) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || write_all(writer, receiver));
        self.current = Some(Receiving {
            index,
            received: 0,
            chunks,
            writer,
        });
        Ok(())
    }

    /// Takes the next bytes of the document begun last.
    ///
    /// # Errors
    /// [`Reason::MissingDocument`] before the first document; [`Reason::SizeMismatch`] as soon as it
    /// is larger than declared; the store.
    pub async fn chunk(&mut self, bytes: Bytes) -> Result<()> {
        let Some(current) = &mut self.current else {
            let message = "comes before a document header";
            return Err(Error::field(Reason::MissingDocument, "chunk", message));
        };
        current.received = current.received.saturating_add(bytes.len() as u64);
        let declared = self
            .submission
            .entries
            .get(current.index)
            .map_or(0, |entry| entry.size);
        if current.received > declared {
            return Err(mismatch(current.index, Reason::SizeMismatch));
        }
        if current.chunks.send(bytes).await.is_err() {
            return Err(self.close_current().await.err().unwrap_or_else(|| {
                Error::new(
                    Reason::StoreUnavailable,
                    "the document could not be written",
                )
            }));
        }
        Ok(())
    }

    async fn close_current(&mut self) -> Result<()> {
        let Some(Receiving {
            index,
            chunks,
            writer,
            ..
        }) = self.current.take()
        else {
            return Ok(());
        };
        drop(chunks);
        let info = writer.await.map_err(Error::internal)??;
        let Some(entry) = self.submission.entries.get_mut(index) else {
            return Ok(());
        };
        if info.size != entry.size {
            return Err(mismatch(index, Reason::SizeMismatch));
        }
        if info.sha1 != entry.sha1 {
            return Err(mismatch(index, Reason::HashMismatch));
        }
        let sha256 = crate::audit::hex(&info.sha256);
        if !entry.entry.hash_sha256.is_empty()
            && !entry.entry.hash_sha256.eq_ignore_ascii_case(&sha256)
        {
            return Err(mismatch(index, Reason::HashMismatch));
        }
        entry.entry.hash_sha256 = sha256;
        entry.entry.hash = crate::audit::hex(&info.sha1);
        if let Some(blob) = self.blobs.get_mut(index) {
            *blob = Some(info.id.as_bytes().to_vec());
        }
        Ok(())
    }

    /// Registers the submission once every document is here and right.
    ///
    /// # Errors
    /// [`Reason::MissingDocument`]; [`Reason::HashMismatch`]; [`Reason::SizeMismatch`];
    /// [`Reason::DuplicateUniqueId`]; the store.
    pub async fn finish(
        mut self,
        permit: &Permit,
        call: &Call,
        idempotency: Option<Idempotency>,
        attach: Vec<Write>,
    ) -> Result<pb::RegistrationResult> {
        self.close_current().await?;
        let missing = self.blobs.iter().position(Option::is_none);
        if let Some(index) = missing {
            let field = format!("entries[{index}]");
            return Err(Error::field(
                Reason::MissingDocument,
                field,
                "its document did not come",
            ));
        }
        let blobs: Vec<Vec<u8>> = self.blobs.into_iter().flatten().collect();
        self.documents
            .register(permit, call, self.submission, &blobs, idempotency, attach)
            .await
    }
}

fn mismatch(index: usize, reason: Reason) -> Error {
    let (field, message) = match reason {
        Reason::SizeMismatch => ("size", "is not the size of the bytes received"),
        _ => ("hash", "is not the hash of the bytes received"),
    };
    Error::field(reason, format!("entries[{index}].{field}"), message)
}

fn write_all(
    mut writer: BlobWriter,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<BlobInfo, StoreError> {
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write(&chunk)?;
    }
    writer.finish()
}
