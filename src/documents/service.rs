//! The registry and repository: what they are made of, and registering.

use std::sync::Arc;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Idempotency, Store, Write};
use crate::types::{HomeCommunityId, RepositoryUniqueId};
use crate::wire::pb::documents as pb;

use super::tables::{EntryRow, SubmissionRow, UniqueRow};
use super::validate::{Rules, ValidEntry, ValidSubmission, validate};

/// Document metadata and content of this node.
#[derive(Debug)]
pub struct Documents {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    rules: Rules,
}

impl Documents {
    /// The registry and repository over `store`.
    ///
    /// # Errors
    /// If the configuration's identifiers are malformed.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, config: &Config) -> Result<Self> {
        let wrong = |error| Error::internal(error);
        let rules = Rules {
            home: config.home().map_err(wrong)?,
            repository: config.repository().map_err(wrong)?,
            max_document_bytes: config.documents.max_document_bytes,
        };
        Ok(Self {
            store,
            clock,
            rules,
        })
    }

    /// The community whose documents these are.
    pub fn home(&self) -> &HomeCommunityId {
        &self.rules.home
    }

    /// The repository here, if there is one.
    pub fn repository(&self) -> Option<&RepositoryUniqueId> {
        self.rules.repository.as_ref()
    }

    /// Checks a submission's metadata.
    ///
    /// # Errors
    /// The first rule broken.
    pub(super) fn validate(&self, submission: pb::Submission) -> Result<ValidSubmission> {
        validate(submission, &self.rules)
    }

    /// Registers a valid submission whose documents are durable: one frame, all or nothing
    /// (ITI-42 §3.42.4.1.3).
    ///
    /// # Errors
    /// [`Reason::DuplicateUniqueId`] if a uniqueId is registered already; the store.
    pub(super) async fn register(
        &self,
        permit: &Permit,
        call: &Call,
        submission: ValidSubmission,
        blobs: &[Vec<u8>],
        idempotency: Option<Idempotency>,
        attach: Vec<Write>,
    ) -> Result<pb::RegistrationResult> {
        permit.require(&[Action::SubmitDocuments])?;
        let now = self.clock.now();
        let patient = self.store.keys().patient_tag(&submission.patient).to_vec();
        let mut writes = attach;
        let mut result = pb::RegistrationResult::default();
        for (index, valid) in submission.entries.iter().enumerate() {
            let unique = self.unique_row(valid);
            writes.push(Write::put(&unique).expecting(Expect::Absent));
            let row = EntryRow {
                uuid: valid.uuid.as_bytes().to_vec(),
                patient: patient.clone(),
                entry: Some(valid.entry.clone()),
                blob: blobs.get(index).cloned().unwrap_or_default(),
                registered_ms: now.as_millisecond(),
                submission: submission.set_uuid.as_bytes().to_vec(),
                ..EntryRow::default()
            };
            writes.push(Write::put(&row).expecting(Expect::Absent));
            result.assigned_ids.push(pb::AssignedId {
                symbolic_id: valid.symbolic.clone(),
                entry_uuid: valid.uuid.to_string(),
            });
            result.entries.push(valid.entry.clone());
        }
        let set = SubmissionRow {
            uuid: submission.set_uuid.as_bytes().to_vec(),
            patient,
            set: Some(submission.set.clone()),
            entries: submission
                .entries
                .iter()
                .map(|entry| entry.uuid.as_bytes().to_vec())
                .collect(),
            registered_ms: now.as_millisecond(),
            ..SubmissionRow::default()
        };
        writes.push(Write::put(&set).expecting(Expect::Absent));
        call.note(|record| {
            record.items = u32::try_from(submission.entries.len()).unwrap_or(u32::MAX);
            record.documents = submission
                .entries
                .iter()
                .map(|entry| entry.uuid.to_string())
                .collect();
        });
        let committed = call
            .commit(&self.store, now, writes, idempotency, result)
            .await;
        committed.map_err(|error| match error.reason() {
            Reason::ConcurrentChange => Error::field(
                Reason::DuplicateUniqueId,
                "entries.unique_id",
                "a document, entry or submission set with this id is registered already",
            ),
            _ => error,
        })
    }

    fn unique_row(&self, valid: &ValidEntry) -> UniqueRow {
        UniqueRow {
            tag: self.unique_tag(&valid.unique_id),
            entry: valid.uuid.as_bytes().to_vec(),
            ..UniqueRow::default()
        }
    }
}
