//! Provide and register (ITI-41): documents are written as they arrive, checked, then kept, then
//! registered. Nothing is visible before all of it is durable; what is refused leaves nothing.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{BlobWriter, ClosedBlob, Idempotency, StoreError, Tag};
use crate::types::PatientIdentifier;
use crate::wire::pb::documents as pb;

use super::Documents;
use super::content;
use super::profile::Content;
use super::register::{Attach, Brought, submitter};
use super::validate::{Transaction, ValidSubmission};

/// Chunks on their way to the disk: the sender waits when it is faster (INV-7).
const QUEUE: usize = 4;

/// A submission under way.
#[derive(Debug)]
pub struct Provision<'a> {
    documents: &'a Documents,
    submission: ValidSubmission,
    blobs: Vec<Option<ClosedBlob>>,
    current: Option<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    index: usize,
    received: u64,
    /// The first octets, to see whether they are what the metadata says.
    head: Vec<u8>,
    chunks: mpsc::Sender<Option<Bytes>>,
    writer: JoinHandle<Result<Option<ClosedBlob>, StoreError>>,
}

impl Documents {
    /// Starts a submission: its metadata must be right before any content is taken.
    ///
    /// # Errors
    /// Every metadata rule broken.
    pub fn begin(&self, submission: pb::Submission) -> Result<Provision<'_>> {
        if self.repository().is_none() {
            return Err(Error::new(
                Reason::RoleNotServed,
                "this node has no repository",
            ));
        }
        let submission = self.validate(submission, Transaction::Provide)?;
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

    /// What the submission would lead to, if its documents are what it says; nothing is stored.
    ///
    /// # Errors
    /// Every rule that the state of the registry breaks; the store.
    pub fn judge(&self, call: &Call) -> Result<pb::RegistrationResult> {
        self.documents.judged(call, &self.submission)
    }

    /// Begins the document of the entry with this id (as the submission wrote it).
    ///
    /// # Errors
    /// [`Reason::MissingMetadata`] if no entry has the id, or it was sent already; the checks of
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
                Reason::MissingMetadata,
                "document.entry_uuid",
                "names no entry of the submission, or one whose document came already",
            ));
        };
        let store = &self.documents.store;
        let tag = Tag::from_bytes(store.keys().patient_tag(&self.submission.patient));
        let patient = store.subject(tag).await?;
        let writer = store.blobs().writer(&patient)?;
        let (chunks, receiver) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || write_all(writer, receiver));
        self.current = Some(Receiving {
            index,
            received: 0,
            head: Vec::new(),
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
        if self.documents.rules.profile.content != Content::Off {
            let begin: &[u8] = match current.head.as_slice() {
                [] => &bytes,
                head => head,
            };
            let kept = content::kept(begin, self.documents.rules.profile.content_bytes());
            let room = kept.saturating_sub(current.head.len());
            let taken = bytes.get(..room).unwrap_or(&bytes);
            current.head.extend_from_slice(taken);
        }
        let declared = self
            .submission
            .entries
            .get(current.index)
            .and_then(|entry| entry.size);
        let most = self.documents.rules.max_document_bytes;
        if declared.is_some_and(|declared| current.received > declared) {
            return Err(mismatch(current.index, Reason::SizeMismatch));
        }
        if current.received > most {
            let field = format!("entries[{}].size", current.index);
            let message = format!("is more than the {most} bytes taken here");
            return Err(Error::field(Reason::MessageTooLarge, field, message));
        }
        if current.chunks.send(Some(bytes)).await.is_err() {
            return Err(self.close_current().await.err().unwrap_or_else(unwritten));
        }
        Ok(())
    }

    async fn close_current(&mut self) -> Result<()> {
        let Some(Receiving {
            index,
            chunks,
            writer,
            head,
            received,
        }) = self.current.take()
        else {
            return Ok(());
        };
        // A writer that is gone says why below.
        let _told = chunks.send(None).await;
        let written = writer.await.map_err(Error::internal)??;
        let blob = written.ok_or_else(unwritten)?;
        let info = blob.info();
        let Some(entry) = self.submission.entries.get_mut(index) else {
            return Ok(());
        };
        if entry.size.is_some_and(|size| size != info.size) {
            return Err(mismatch(index, Reason::SizeMismatch));
        }
        let declared = entry.sha1.map(|sha1| *sha1.as_bytes());
        if declared.is_some_and(|sha1| sha1 != info.sha1) {
            return Err(mismatch(index, Reason::HashMismatch));
        }
        let sha256 = HEXLOWER.encode(&info.sha256);
        if !entry.entry.hash_sha256.is_empty()
            && !entry.entry.hash_sha256.eq_ignore_ascii_case(&sha256)
        {
            return Err(mismatch(index, Reason::HashMismatch));
        }
        entry.entry.hash_sha256 = sha256;
        let hash = HEXLOWER.encode(&info.sha1);
        entry.sha1 = hash.parse().ok();
        entry.size = Some(info.size);
        entry.entry.hash = hash;
        entry.entry.size = Some(info.size);
        if let Some(place) = self.blobs.get_mut(index) {
            *place = Some(blob);
        }
        self.look_at(index, head, received).await
    }

    /// Whether a document is what its metadata says, as far as the community asks. In a thread of its
    /// own: what a hostile document does to a parser ends there.
    async fn look_at(&mut self, index: usize, head: Vec<u8>, received: u64) -> Result<()> {
        let how = self.documents.rules.profile.content;
        let Some(entry) = self.submission.entries.get(index) else {
            return Ok(());
        };
        if how == Content::Off {
            return Ok(());
        }
        let entry = entry.entry.clone();
        let whole = head.len() as u64 == received;
        let turn = match head.len() > content::MAX_HEAD {
            true => Some(content::LARGE.acquire().await.map_err(Error::internal)?),
            false => None,
        };
        // The turn ends with the work, also if the caller leaves before.
        let looked = tokio::task::spawn_blocking(move || {
            let found = content::findings(&head, whole, &entry);
            drop(turn);
            found
        })
        .await;
        let found = looked.unwrap_or_else(|_| content::Findings::failed());
        let place = format!("entries[{index}]");
        let content::Findings {
            mut wrong,
            unchecked,
        } = found;
        if how == Content::Refuse {
            let reason = Reason::InvalidContent;
            let errors = wrong
                .drain(..)
                .map(|text| Error::field(reason, place.clone(), text));
            if let Some(error) = Error::all(errors.collect()) {
                return Err(error);
            }
        }
        let told = wrong.into_iter().chain(unchecked);
        let warnings = told.map(|context| pb::RegistryError {
            code: Reason::InvalidContent.ihe_code().to_owned(),
            context,
            location: place.clone(),
            severity: pb::RegistryErrorSeverity::Warning.into(),
        });
        self.submission.warnings.extend(warnings);
        Ok(())
    }

    /// Registers the submission once every document is here and right.
    ///
    /// # Errors
    /// [`Reason::MissingDocument`]; [`Reason::HashMismatch`]; [`Reason::SizeMismatch`];
    /// what the state of the registry breaks; the store.
    pub async fn finish(
        self,
        permit: &Permit,
        call: &Call,
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
    ) -> Result<pb::RegistrationResult> {
        permit.require(&[Action::SubmitDocuments])?;
        let brought = Brought {
            submitter: submitter(call),
            ..Brought::default()
        };
        self.register(call, brought, idempotency, attach).await
    }

    /// As [`Provision::finish`], for a submission of this node's own.
    pub(super) async fn register(
        mut self,
        call: &Call,
        brought: Brought,
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
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
        // Durable before the entries that name them (INV-1); what was refused above left nothing.
        let closed = self.blobs;
        let kept = tokio::task::spawn_blocking(move || {
            let kept = closed.into_iter().flatten().map(ClosedBlob::keep);
            kept.collect::<Result<Vec<_>, _>>()
        });
        let kept = kept.await.map_err(Error::internal)??;
        let names = kept.iter().map(|blob| blob.info().id.as_bytes().to_vec());
        let brought = Brought {
            blobs: names.collect(),
            ..brought
        };
        let registered = self
            .documents
            .register(call, &self.submission, &brought, idempotency, attach)
            .await;
        drop(kept);
        registered
    }
}

fn mismatch(index: usize, reason: Reason) -> Error {
    let (field, message) = match reason {
        Reason::SizeMismatch => ("size", "is not the size of the bytes received"),
        _ => ("hash", "is not the hash of the bytes received"),
    };
    Error::field(reason, format!("entries[{index}].{field}"), message)
}

fn unwritten() -> Error {
    Error::new(
        Reason::StoreUnavailable,
        "the document could not be written",
    )
}

/// Writes chunks until their end is said (`None`). Chunks that just stop are a submission that
/// broke off: there is then no document.
fn write_all(
    mut writer: BlobWriter,
    mut chunks: mpsc::Receiver<Option<Bytes>>,
) -> Result<Option<ClosedBlob>, StoreError> {
    while let Some(chunk) = chunks.blocking_recv() {
        match chunk {
            Some(bytes) => writer.write(&bytes)?,
            None => return writer.close().map(Some),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Schema, Store};

    #[test]
    fn a_submission_that_breaks_off_leaves_no_document() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), Schema::default(), Options::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let patient = runtime.block_on(store.subject(Tag::from_bytes([1; 16])));
        let patient = patient.unwrap();
        let written = |parts: Vec<Option<Bytes>>| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            for part in parts {
                sender.try_send(part).unwrap();
            }
            drop(sender);
            write_all(store.blobs().writer(&patient).unwrap(), receiver).unwrap()
        };
        let half = || Some(Bytes::from_static(b"half"));
        assert!(written(vec![half()]).is_none());
        drop(written(vec![half(), None]).unwrap());
        assert!(store.blobs().list().unwrap().is_empty());
        let kept = written(vec![half(), None]).unwrap().keep().unwrap();
        assert!(store.blobs().list().unwrap().contains(&kept.info().id));
    }
}
