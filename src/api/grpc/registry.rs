//! The calls of `renkei.documents.v1.DocumentService` that change the registry without a document
//! coming along: ITI-42, 57, 61, 62, 86, 92.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::door::Answer;
use crate::access::{Action, Call};
use crate::config::Capability;
use crate::documents::{Checked, Withdrawn};
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{identifier, identifier_message};
use crate::store::Write;
use crate::types::{EntryUuid, PatientIdentifier};
use crate::wire::pb::documents as pb;
use crate::wire::pb::federation as fpb;

use super::documents::known;

/// The submission of a request.
fn given(submission: Option<&pb::Submission>) -> Result<pb::Submission> {
    submission
        .cloned()
        .ok_or_else(|| Error::missing("submission"))
}

/// What tells the hub's locator, with the change, that the patient has documents here, and which of those
/// that were there are not what they were.
///
/// # Errors
/// Too much waits for the hub already.
pub(super) fn notice<'a>(
    gateway: &'a Gateway,
    patient: &'a PatientIdentifier,
) -> Result<impl Fn(&[Withdrawn]) -> Vec<Write> + Send + Sync + 'a> {
    gateway.federation.outbox.has_room()?;
    Ok(|withdrawn: &[Withdrawn]| {
        let withdrawn = withdrawn.iter().map(|one| one.unique_id.clone());
        holding(gateway, patient, withdrawn.collect(), true)
    })
}

/// The same for a removal, whose patients are those of the documents, and who may have none left.
fn removal(gateway: &Gateway) -> Result<impl Fn(&[Withdrawn]) -> Vec<Write> + Send + Sync + '_> {
    gateway.federation.outbox.has_room()?;
    Ok(|withdrawn: &[Withdrawn]| {
        let mut patients: BTreeMap<PatientIdentifier, (Vec<String>, bool)> = BTreeMap::new();
        for one in withdrawn {
            // What is registered has a patient; a row of another kind has nothing to tell.
            if let Ok(patient) = identifier(Some(&one.patient), "patient_id") {
                let (ids, last) = patients.entry(patient).or_default();
                ids.push(one.unique_id.clone());
                *last = one.last;
            }
        }
        let notices = patients.into_iter();
        notices
            .flat_map(|(patient, (ids, last))| holding(gateway, &patient, ids, !last))
            .collect()
    })
}

fn holding(
    gateway: &Gateway,
    patient: &PatientIdentifier,
    withdrawn: Vec<String>,
    held: bool,
) -> Vec<Write> {
    let notice = fpb::HoldingNotice {
        patient_id: Some(identifier_message(patient)),
        has_documents: held,
        has_summary_items: held,
        changed: Some(crate::wire::timestamp(gateway.clock.now())),
        sequence: 0,
        withdrawn,
    };
    gateway.federation.outbox.holding(patient, notice)
}

/// One change by its metadata: who, what, may they, do it.
async fn submit<Q: prost::Message>(
    gateway: &Gateway,
    call: &Call,
    request: &Q,
    key: &str,
    check: impl FnOnce() -> Result<Checked>,
    (validate_only, persist_snapshots): (bool, bool),
) -> Result<pb::RegistrationResult> {
    gateway.serves(Capability::Registry)?;
    let permit = gateway.guard.authorize(call, Action::SubmitDocuments)?;
    let checked = check()?;
    known(gateway, call, checked.patient())?;
    if validate_only {
        return gateway.documents.judge(call, &checked);
    }
    let now = gateway.clock.now();
    let idempotency = call.idempotency(&gateway.store, key, request, now)?;
    let attach = notice(gateway, checked.patient())?;
    let documents = &gateway.documents;
    documents
        .submit(
            &permit,
            call,
            &checked,
            persist_snapshots,
            idempotency,
            &attach,
        )
        .await
}

/// ITI-42.
pub(super) fn register(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RegisterDocumentsRequest,
) -> Answer<pb::RegisterDocumentsResponse> {
    Box::pin(async move {
        let check = || {
            let submission = given(request.submission.as_ref())?;
            gateway.documents.check_registration(submission)
        };
        let how = (request.validate_only, false);
        let key = &request.idempotency_key;
        let result = submit(&gateway, &call, &request, key, check, how).await;
        Ok(pb::RegisterDocumentsResponse {
            result: Some(result.map_err(Error::of_registry)?),
        })
    })
}

/// ITI-61.
pub(super) fn register_on_demand(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RegisterOnDemandDocumentRequest,
) -> Answer<pb::RegisterOnDemandDocumentResponse> {
    Box::pin(async move {
        let check = || {
            let submission = given(request.submission.as_ref())?;
            gateway.documents.check_on_demand(submission)
        };
        let how = (false, request.persist_snapshots);
        let key = &request.idempotency_key;
        let result = submit(&gateway, &call, &request, key, check, how).await;
        Ok(pb::RegisterOnDemandDocumentResponse {
            result: Some(result.map_err(Error::of_registry)?),
        })
    })
}

/// ITI-57, ITI-92.
pub(super) fn update(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::UpdateMetadataRequest,
) -> Answer<pb::UpdateMetadataResponse> {
    Box::pin(async move {
        let check = || {
            let submission = given(request.submission.as_ref())?;
            gateway
                .documents
                .check_update(submission, request.restricted)
        };
        let key = &request.idempotency_key;
        let result = submit(&gateway, &call, &request, key, check, (false, false)).await;
        Ok(pb::UpdateMetadataResponse {
            result: Some(result.map_err(Error::of_registry)?),
        })
    })
}

/// Characters of the reason of a removal.
const MAX_REASON: usize = 1_000;

/// The reason of a removal goes into the audit, and nowhere else.
fn note_reason(call: &Call, reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(Error::missing("reason"));
    }
    if reason.chars().count() > MAX_REASON {
        let message = format!("is longer than {MAX_REASON} characters");
        return Err(Error::field(Reason::InvalidField, "reason", message));
    }
    let reason = crate::types::Redacted(reason.to_owned());
    call.note(|record| record.reason = Some(reason));
    Ok(())
}

async fn removed(
    gateway: &Gateway,
    call: &Call,
    request: &pb::RemoveMetadataRequest,
) -> Result<pb::RemoveMetadataResponse> {
    gateway.serves(Capability::Registry)?;
    let permit = gateway.guard.authorize(call, Action::SubmitDocuments)?;
    note_reason(call, &request.reason)?;
    let mut uuids: Vec<EntryUuid> = Vec::with_capacity(request.entry_uuids.len());
    let mut seen = BTreeSet::new();
    for (index, text) in request.entry_uuids.iter().enumerate() {
        let field = || format!("entry_uuids[{index}]");
        let uuid = text.parse().map_err(|error: crate::types::InvalidId| {
            Error::field(Reason::InvalidField, field(), error.to_string())
        })?;
        if !seen.insert(uuid) {
            return Err(Error::field(Reason::InvalidField, field(), "stands twice"));
        }
        uuids.push(uuid);
    }
    let now = gateway.clock.now();
    let key = &request.idempotency_key;
    let idempotency = call.idempotency(&gateway.store, key, request, now)?;
    let documents = &gateway.documents;
    documents
        .remove_metadata(&permit, call, &uuids, idempotency, &removal(gateway)?)
        .await
}

/// ITI-62.
pub(super) fn remove_metadata(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RemoveMetadataRequest,
) -> Answer<pb::RemoveMetadataResponse> {
    Box::pin(async move {
        let removed = removed(&gateway, &call, &request).await;
        removed.map_err(Error::of_registry)
    })
}

async fn removed_documents(
    gateway: &Gateway,
    call: &Call,
    request: &pb::RemoveDocumentsRequest,
) -> Result<pb::RemoveDocumentsResponse> {
    gateway.serves(Capability::Repository)?;
    let permit = gateway.guard.authorize(call, Action::SubmitDocuments)?;
    note_reason(call, &request.reason)?;
    let now = gateway.clock.now();
    let key = &request.idempotency_key;
    let idempotency = call.idempotency(&gateway.store, key, request, now)?;
    let documents = &gateway.documents;
    documents
        .remove_documents(
            &permit,
            call,
            &request.documents,
            idempotency,
            &removal(gateway)?,
        )
        .await
}

/// ITI-86.
pub(super) fn remove_documents(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RemoveDocumentsRequest,
) -> Answer<pb::RemoveDocumentsResponse> {
    Box::pin(async move {
        let removed = removed_documents(&gateway, &call, &request).await;
        removed.map_err(Error::of_registry)
    })
}
