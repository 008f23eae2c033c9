//! Changes of the registry, each one frame: registration, update, removal (ITI-42, 57, 61, 62, 86, 92).
//!
//! Changes about one patient are judged and committed one after the other, so that what one rests on
//! is not changed by another; what patients share (uniqueIds) is guarded by preconditions.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{Mutex, MutexGuard};

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{Idempotency, Row as _, Write};
use crate::types::{DocumentUniqueId, EntryUuid, RepositoryUniqueId};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::Documents;
use super::lifecycle::{self, Origin};
use super::tables::EntryRow;
use super::validate::{Transaction, ValidSubmission};

/// Patients whose changes can be judged side by side.
const STRIPES: usize = 256;
/// How often a change is judged anew when another came first.
const ATTEMPTS: usize = 4;
/// Documents of one removal.
const MAX_DOCUMENTS: usize = 100;

/// A document that was there before a change, and is not what it was after it: changed, deprecated,
/// replaced or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Withdrawn {
    /// Whose it is.
    pub patient: cpb::Identifier,
    /// DocumentEntry.uniqueId.
    pub unique_id: String,
    /// With the change nothing of the patient is left here.
    pub last: bool,
}

/// Gives rows to commit with a change, from the documents that it withdraws.
pub type Attach<'a> = &'a (dyn Fn(&[Withdrawn]) -> Vec<Write> + Send + Sync);

/// Whose turn it is to change what a patient has.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits for the turn of all these patients (by keyed hash), always in the same order.
    pub(super) async fn of<'a>(
        &self,
        patients: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let stripe = |tag: &[u8]| usize::from(tag.first().copied().unwrap_or_default()) % STRIPES;
        let stripes: BTreeSet<usize> = patients.map(stripe).collect();
        let mut turns = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            if let Some(mutex) = self.0.get(stripe) {
                turns.push(mutex.lock().await);
            }
        }
        turns
    }
}

impl Documents {
    /// Checks the metadata of a registration or update.
    ///
    /// # Errors
    /// Every rule broken.
    pub fn check_registration(&self, submission: pb::Submission) -> Result<Checked> {
        self.validate(submission, Transaction::Register)
            .map(Checked)
    }

    /// Checks the metadata of on-demand documents (ITI-61).
    ///
    /// # Errors
    /// Every rule broken.
    pub fn check_on_demand(&self, submission: pb::Submission) -> Result<Checked> {
        self.validate(submission, Transaction::OnDemand)
            .map(Checked)
    }

    /// Checks the metadata of an update (ITI-57), or of a restricted one (ITI-92).
    ///
    /// # Errors
    /// Every rule broken.
    pub fn check_update(&self, submission: pb::Submission, restricted: bool) -> Result<Checked> {
        let transaction = if restricted {
            Transaction::RestrictedUpdate
        } else {
            Transaction::Update
        };
        self.validate(submission, transaction).map(Checked)
    }

    /// Registers or updates metadata whose documents are not sent along.
    ///
    /// # Errors
    /// Every rule that the state of the registry breaks; the store.
    pub async fn submit(
        &self,
        permit: &Permit,
        call: &Call,
        checked: &Checked,
        persist_snapshots: bool,
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
    ) -> Result<pb::RegistrationResult> {
        permit.require(&[Action::SubmitDocuments])?;
        let brought = Brought {
            submitter: submitter(call),
            persist_snapshots,
            ..Brought::default()
        };
        self.register(call, &checked.0, &brought, idempotency, attach)
            .await
    }

    /// What a submission would lead to; nothing is stored.
    ///
    /// # Errors
    /// Every rule that the state of the registry breaks; the store.
    pub fn judge(&self, call: &Call, checked: &Checked) -> Result<pb::RegistrationResult> {
        self.judged(call, &checked.0)
    }

    pub(super) fn judged(
        &self,
        call: &Call,
        submission: &ValidSubmission,
    ) -> Result<pb::RegistrationResult> {
        let origin = Origin {
            now: self.clock.now(),
            patient: &self.store.keys().patient_tag(&submission.patient),
            submitter: &submitter(call),
            persist_snapshots: false,
            made_of: &[],
        };
        let tag = |id: &str| self.tag_of(id);
        let plan = lifecycle::submit(&self.store, &tag, origin, submission, &[])?;
        Ok(pb::RegistrationResult {
            warnings: submission.warnings.clone(),
            entries: plan.entries,
            ..pb::RegistrationResult::default()
        })
    }

    /// Makes what a valid submission says, whose documents are durable: one frame, all or nothing
    /// (ITI-42 §3.42.4.1.3). That the caller may is for the caller of this to see to.
    ///
    /// # Errors
    /// Every rule that the state of the registry breaks; the store.
    pub(super) async fn register(
        &self,
        call: &Call,
        submission: &ValidSubmission,
        brought: &Brought,
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
    ) -> Result<pb::RegistrationResult> {
        let now = self.clock.now();
        let patient = self.store.keys().patient_tag(&submission.patient);
        let _turn = self.turns.of(std::iter::once(patient.as_slice())).await;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let items = submission.entries.len() + submission.folders.len();
        call.note(|record| {
            record.items = u32::try_from(items).unwrap_or(u32::MAX);
            record.documents = submission
                .entries
                .iter()
                .map(|entry| entry.uuid.to_string())
                .collect();
        });
        let origin = Origin {
            now,
            patient: &patient,
            submitter: &brought.submitter,
            persist_snapshots: brought.persist_snapshots,
            made_of: &brought.made_of,
        };
        self.commit(call, now, idempotency, attach, || {
            let tag = |id: &str| self.tag_of(id);
            let plan = lifecycle::submit(&self.store, &tag, origin, submission, &brought.blobs)?;
            let result = pb::RegistrationResult {
                assigned_ids: submission.assigned.clone(),
                warnings: submission.warnings.clone(),
                entries: plan.entries,
                ..pb::RegistrationResult::default()
            };
            Ok((plan.writes, result))
        })
        .await
    }

    /// The documents that `writes` change or remove.
    fn withdrawn(&self, writes: &[Write]) -> Result<Vec<Withdrawn>> {
        let mut withdrawn = Vec::new();
        let mut left: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for write in writes.iter().filter(|write| write.table == EntryRow::TABLE) {
            let Some(before) = self.store.get::<EntryRow>(&write.key)? else {
                continue;
            };
            let patient = before.row.patient;
            let Some(entry) = before.row.entry else {
                continue;
            };
            let last = match left.get(&patient) {
                Some(last) => *last,
                None => self.none_is_left(&patient, writes)?,
            };
            left.insert(patient, last);
            withdrawn.push(Withdrawn {
                patient: entry.patient_id.unwrap_or_default(),
                unique_id: entry.unique_id,
                last,
            });
        }
        Ok(withdrawn)
    }

    /// Commits what `plan` says, judged anew when another change came first: then what it rests on
    /// is not what it was.
    async fn commit<R: prost::Message + Default>(
        &self,
        call: &Call,
        now: jiff::Timestamp,
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
        plan: impl Fn() -> Result<(Vec<Write>, R)> + Send + Sync,
    ) -> Result<R> {
        let mut left = ATTEMPTS;
        loop {
            let (mut writes, result) = plan()?;
            writes.extend(attach(&self.withdrawn(&writes)?));
            let committed = call
                .commit(&self.store, now, writes, idempotency.clone(), result)
                .await;
            left -= 1;
            match committed {
                Err(error) if error.reason() == Reason::ConcurrentChange && left > 0 => {}
                committed => return committed,
            }
        }
    }

    /// Removes metadata, all or nothing (ITI-62).
    ///
    /// # Errors
    /// Every rule broken; the store.
    pub async fn remove_metadata(
        &self,
        permit: &Permit,
        call: &Call,
        uuids: &[EntryUuid],
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
    ) -> Result<pb::RemoveMetadataResponse> {
        permit.require(&[Action::SubmitDocuments])?;
        let now = self.clock.now();
        let submitter = submitter(call);
        let patients = lifecycle::patients_of(&self.store, uuids)?;
        let _turns = self.turns.of(patients.iter().map(Vec::as_slice)).await;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        call.note(|record| {
            record.patient = patients.first().cloned();
            record.items = u32::try_from(uuids.len()).unwrap_or(u32::MAX);
            record.documents = uuids.iter().map(ToString::to_string).collect();
        });
        self.commit(call, now, idempotency, attach, || {
            let tag = |id: &str| self.tag_of(id);
            let writes = lifecycle::remove_metadata(&self.store, &tag, now, &submitter, uuids)?;
            let response = pb::RemoveMetadataResponse {
                removed_count: u32::try_from(uuids.len()).unwrap_or(u32::MAX),
                sequence: 0,
            };
            Ok((writes, response))
        })
        .await
    }

    /// Removes documents: those that may go, go together; the others are told (ITI-86).
    ///
    /// # Errors
    /// All errors, if none may go; the store.
    pub async fn remove_documents(
        &self,
        permit: &Permit,
        call: &Call,
        documents: &[cpb::DocumentRef],
        idempotency: Option<Idempotency>,
        attach: Attach<'_>,
    ) -> Result<pb::RemoveDocumentsResponse> {
        permit.require(&[Action::SubmitDocuments])?;
        if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
            let message = format!("must name between 1 and {MAX_DOCUMENTS} documents");
            return Err(Error::field(Reason::InvalidField, "documents", message));
        }
        let now = self.clock.now();
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let submitter = submitter(call);
        let mut removed = Vec::new();
        let mut errors = Vec::new();
        let mut holders: Vec<EntryRow> = Vec::new();
        let mut tags = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            match self.removable(document, &submitter) {
                Ok((tag, rows)) => {
                    removed.push(document.clone());
                    tags.push(tag);
                    holders.extend(rows);
                }
                Err(error) => errors.push(error.within(&format!("documents[{index}]"))),
            }
        }
        if removed.is_empty() {
            return Err(Error::all(errors).unwrap_or_else(|| Error::missing("documents")));
        }
        let patients: BTreeSet<&[u8]> = holders.iter().map(|row| row.patient.as_slice()).collect();
        let _turns = self.turns.of(patients.iter().copied()).await;
        call.note(|record| {
            record.patient = patients.first().map(|patient| patient.to_vec());
            record.items = u32::try_from(removed.len()).unwrap_or(u32::MAX);
            record.documents = holders
                .iter()
                .filter_map(|row| row.entry.as_ref())
                .map(|entry| entry.entry_uuid.clone())
                .collect();
        });
        let errors: Vec<pb::RegistryError> = errors.iter().map(told).collect();
        self.commit(call, now, idempotency, attach, || {
            let writes = lifecycle::remove_documents(&self.store, &tags)?;
            let response = pb::RemoveDocumentsResponse {
                removed: removed.clone(),
                errors: errors.clone(),
            };
            Ok((writes, response))
        })
        .await
    }

    /// The entries of a document that may be removed. One that is another institution's is not told
    /// from one that is not there (INV-3).
    fn removable(
        &self,
        document: &cpb::DocumentRef,
        submitter: &str,
    ) -> Result<(Vec<u8>, Vec<EntryRow>)> {
        let wrong = |field, error: crate::types::InvalidId| {
            Error::field(Reason::InvalidField, field, error.to_string())
        };
        let repository: RepositoryUniqueId = document
            .repository_unique_id
            .parse()
            .map_err(|error| wrong("repository_unique_id", error))?;
        if Some(&repository) != self.repository() {
            return Err(Error::field(
                Reason::UnknownRepository,
                "repository_unique_id",
                "is not a repository of this community",
            ));
        }
        let id: DocumentUniqueId = document
            .document_unique_id
            .parse()
            .map_err(|error| wrong("document_unique_id", error))?;
        let tag = self.tag_of(id.as_str());
        let rows = lifecycle::document_holders(&self.store, &tag)?;
        let here = rows.iter().any(|row| !row.blob.is_empty());
        let own = rows
            .iter()
            .all(|row| row.submitter.is_empty() || row.submitter == submitter);
        if !here || !own {
            return Err(Error::field(
                Reason::UnknownDocument,
                "document_unique_id",
                "no such document, or none that may be removed",
            ));
        }
        Ok((tag, rows))
    }

    /// The keyed hash of a uniqueId.
    pub(super) fn tag_of(&self, unique_id: &str) -> Vec<u8> {
        let tag = self.store.keys().tag("unique-id", unique_id.as_bytes());
        tag.as_bytes().to_vec()
    }
}

/// A submission whose metadata is right.
#[derive(Debug)]
pub struct Checked(ValidSubmission);

impl Checked {
    /// The patient it is about.
    pub fn patient(&self) -> &crate::types::PatientIdentifier {
        &self.0.patient
    }

    /// What was found and is not refused.
    pub fn warnings(&self) -> &[pb::RegistryError] {
        &self.0.warnings
    }
}

/// What a submission brings besides its metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Brought {
    /// Who submits: only they may change it.
    pub(super) submitter: String,
    /// Names of the documents, one for each entry, or none.
    pub(super) blobs: Vec<Vec<u8>>,
    /// On-demand: what is made is kept.
    pub(super) persist_snapshots: bool,
    /// A snapshot: entryUUIDs of what it was made of.
    pub(super) made_of: Vec<Vec<u8>>,
}

/// Who submits: an institution, or a community for what it sends by itself.
pub(super) fn submitter(call: &Call) -> String {
    let participant = &call.caller().participant;
    participant
        .code
        .as_ref()
        .map_or_else(|| participant.community.to_string(), ToString::to_string)
}

/// An error beside others that went well.
fn told(error: &Error) -> pb::RegistryError {
    pb::RegistryError {
        code: error.reason().ihe_code().to_owned(),
        context: error.message().to_owned(),
        location: error.wrong_field().unwrap_or_default().to_owned(),
        severity: pb::RegistryErrorSeverity::Error.into(),
    }
}
