//! Retrieve (ITI-43, ITI-39): every document is judged, then they are streamed one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::access::{Action, Call, Denial, Grant, Permit};
use crate::audit::Outcome;
use crate::config::Capability;
use crate::consent::About;
use crate::documents::{Found, Fresh, Range, document_ref};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::types::{PatientIdentifier, PurposeOfUse};
use crate::wire::pb::documents as pb;
use pb::retrieved_part::Part;

use super::door::{Answer, audit};

/// Documents in one retrieve.
const MAX_DOCUMENTS: usize = 100;
/// Parts on their way to the network.
const QUEUE: usize = 4;

/// Reads documents of this community (ITI-43).
pub(super) fn retrieve(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RetrieveDocumentsRequest,
) -> Answer<Stream<pb::RetrieveDocumentsResponse>> {
    Box::pin(async move {
        let wrap = |part| pb::RetrieveDocumentsResponse { part: Some(part) };
        retrieve_local(&gateway, &call, &request.documents, None, wrap).await
    })
}

/// A document of a retrieve, judged.
enum Judged {
    /// It may be read.
    Readable(Box<Found>, Permit, Option<pb::ByteRange>),
    /// It was made now.
    Made(Box<Found>, Box<Fresh>),
    /// It is not here, or not for this caller.
    Refused(Error),
}

/// Judges every document of a retrieve, then streams them one after the other, one open at a time.
/// With `patient`, they must be that person's.
///
/// What cannot be had of several documents is told in its place, and the others are sent (ITI-43
/// `PartialSuccess`); if there is nothing to send at all, the call fails.
///
/// # Errors
/// What is wrong with the first document, if none can be sent.
pub(super) async fn retrieve_local<T: Send + 'static>(
    gateway: &Arc<Gateway>,
    call: &Call,
    documents: &[pb::DocumentRequest],
    patient: Option<&PatientIdentifier>,
    wrap: fn(pb::RetrievedPart) -> T,
) -> Result<Stream<T>> {
    gateway.serves(Capability::Repository)?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let message = format!("must name between 1 and {MAX_DOCUMENTS} documents");
        return Err(Error::field(Reason::InvalidField, "documents", message));
    }
    let slot = Arc::clone(&gateway.streams).try_acquire_owned();
    let slot = slot.map_err(|_| Error::new(Reason::Overloaded, "too many documents at once"))?;
    let mut person = patient.map(|patient| gateway.guard.identifiers_of(patient));
    let mut judged = Vec::with_capacity(documents.len());
    for (index, wanted) in documents.iter().enumerate() {
        let within = |error: Error| error.within(&format!("documents[{index}]"));
        judged.push(match judge(gateway, call, wanted).map_err(within) {
            Ok((found, permit)) => {
                let named = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
                let known = person.get_or_insert_with(|| gateway.guard.identifiers_of(&named));
                if known.contains(&named) {
                    Judged::Readable(Box::new(found), permit, wanted.range)
                } else if patient.is_some() {
                    Judged::Refused(within(unknown_document()))
                } else {
                    let message = "documents of several patients need a call each";
                    let reason = Reason::ResultNotSinglePatient;
                    return Err(within(Error::new(reason, message)));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Judged::Refused(error),
            Err(error) => return Err(error),
        });
    }
    make_what_is_on_demand(gateway, call, &mut judged).await?;
    let to_send = |judged: &&Judged| !matches!(judged, Judged::Refused(_));
    let count = judged.iter().filter(to_send).count();
    if count == 0
        && let Some(Judged::Refused(error)) = judged.drain(..).next()
    {
        return Err(error);
    }
    disclosed(gateway, call, &judged)?;
    // The receipt of a referral is durable before its documents leave.
    let served = judged.iter().filter_map(|judged| match judged {
        Judged::Readable(found, ..) | Judged::Made(found, _) => Some(document_ref(&found.entry)),
        Judged::Refused(_) => None,
    });
    let served: Vec<_> = served.collect();
    gateway.documents.fetched(call, &served).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sending = Sending {
        gateway: Arc::clone(gateway),
        call: call.for_part(),
        sender,
        wrap,
        alone: documents.len() == 1,
    };
    gateway.tasks.spawn(async move {
        let _slot = slot;
        for (index, judged) in judged.into_iter().enumerate() {
            if sending.document(index, judged).await.is_none() {
                return;
            }
        }
    });
    Ok(Stream { receiver, asked: 0 })
}

/// Makes the documents of on-demand entries, whose snapshots are registered before anything is answered
/// (ITI-43 §3.43.4.2.3).
async fn make_what_is_on_demand(
    gateway: &Arc<Gateway>,
    call: &Call,
    judged: &mut [Judged],
) -> Result<()> {
    for (index, one) in judged.iter_mut().enumerate() {
        let Judged::Readable(found, permit, _) = one else {
            continue;
        };
        if !found.is_on_demand() {
            continue;
        }
        let within = |error: Error| error.within(&format!("documents[{index}]"));
        let made = super::made::make(gateway, call, found, permit).await;
        *one = match made.map_err(within) {
            Ok(fresh) => Judged::Made(found.clone(), Box::new(fresh)),
            Err(error) if error.kind() == ErrorKind::NotFound => Judged::Refused(error),
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// The event of a retrieve that succeeds is about what leaves, not about what was refused beside it.
fn disclosed(gateway: &Gateway, call: &Call, judged: &[Judged]) -> Result<()> {
    let mut documents = Vec::with_capacity(judged.len());
    let mut patient = None;
    for one in judged {
        let (found, snapshot) = match one {
            Judged::Readable(found, ..) => (found, None),
            Judged::Made(found, fresh) => (found, fresh.snapshot()),
            Judged::Refused(_) => continue,
        };
        patient = Some(identifier(found.entry.patient_id.as_ref(), "patient_id")?);
        documents.push(found.entry.entry_uuid.clone());
        documents.extend(snapshot.map(|entry| entry.entry_uuid.clone()));
    }
    let tag = patient.map(|patient| gateway.store.keys().patient_tag(&patient).to_vec());
    call.note(|record| {
        record.items = u32::try_from(documents.len()).unwrap_or(u32::MAX);
        record.patient = tag;
        record.documents = documents;
    });
    Ok(())
}

/// Documents on their way to a caller.
struct Sending<T> {
    gateway: Arc<Gateway>,
    /// For what goes wrong after the call itself was audited.
    call: Call,
    sender: mpsc::Sender<Result<T>>,
    wrap: fn(pb::RetrievedPart) -> T,
    /// It is the only document: its failure is the call's.
    alone: bool,
}

impl<T: Send> Sending<T> {
    /// Sends one document, or why it cannot be had; `None` if nothing more can be sent.
    async fn document(&self, index: usize, judged: Judged) -> Option<()> {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let (found, permit, range) = match judged {
            Judged::Readable(found, permit, range) => (found, permit, range),
            Judged::Made(_, fresh) => {
                for part in fresh.parts(number) {
                    self.send(Ok((self.wrap)(part))).await?;
                }
                return Some(());
            }
            Judged::Refused(error) => return self.failed(number, "", error).await,
        };
        let documents = &self.gateway.documents;
        let mut parts = match documents.stream(&permit, &found, number, range.as_ref()) {
            Ok(parts) => parts,
            Err(error) => return self.broken(number, &found, error).await,
        };
        while let Some(part) = parts.recv().await {
            match part {
                Ok(part) => self.send(Ok((self.wrap)(part))).await?,
                Err(error) => return self.broken(number, &found, error).await,
            }
        }
        Some(())
    }

    /// A document that is registered and cannot be served whole and unaltered: audited by an event of
    /// its own, since the call's says that it was disclosed.
    async fn broken(&self, number: u32, found: &Found, error: Error) -> Option<()> {
        let reason = error.reason();
        tracing::error!(reason = reason.name(), "a document could not be served");
        let one = self.call.for_part();
        let patient = identifier(found.entry.patient_id.as_ref(), "patient_id").ok();
        one.note(|record| {
            record.failure = Some(reason.name());
            record.documents = vec![found.entry.entry_uuid.clone()];
            let keys = self.gateway.store.keys();
            record.patient = patient.map(|patient| keys.patient_tag(&patient).to_vec());
        });
        if let Err(unaudited) = audit(&self.gateway, &one, Outcome::Error).await {
            tracing::error!(error = %unaudited, "a failed document could not be audited");
        }
        self.failed(number, &found.entry.unique_id, error).await
    }

    async fn failed(&self, number: u32, unique_id: &str, error: Error) -> Option<()> {
        if self.alone {
            self.send(Err(error)).await?;
            return None;
        }
        let failure = pb::RetrievedFailure {
            request_index: number,
            error: Some(pb::RegistryError {
                code: error.reason().ihe_code().to_owned(),
                context: error.message().to_owned(),
                location: unique_id.to_owned(),
                severity: pb::RegistryErrorSeverity::Error.into(),
            }),
        };
        let part = pb::RetrievedPart {
            part: Some(Part::Failure(failure)),
        };
        self.send(Ok((self.wrap)(part))).await
    }

    /// A reader who takes nothing for too long is gone.
    async fn send(&self, part: Result<T>) -> Option<()> {
        let idle = self.gateway.federation.stream_idle;
        let sent = tokio::time::timeout(idle, self.sender.send(part)).await;
        sent.ok()?.ok()
    }
}

/// A document with the permit to read it; `None` if it is not there or not for this caller, which
/// are not told apart (INV-3).
pub(super) fn readable(
    gateway: &Gateway,
    call: &Call,
    found: Option<Found>,
    grant: Option<&Grant>,
) -> Result<Option<(Found, Permit)>> {
    let Some(found) = found else { return Ok(None) };
    let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    let tag = gateway.store.keys().patient_tag(&patient);
    call.note(|record| {
        record.patient = Some(tag.to_vec());
        record.documents.push(found.entry.entry_uuid.clone());
    });
    let facts = found.facts();
    let about = About {
        patients: std::slice::from_ref(&patient),
        grant,
        document: Some(&facts),
        ..About::default()
    };
    match gateway
        .guard
        .authorize_for(call, Action::ReadDocument, about)
    {
        Ok(permit) if is_over(gateway, call, &found, &permit)? => {
            let name = Denial::Referral.name();
            call.note(|record| record.denial = Some(name));
            Ok(None)
        }
        Ok(permit) => match super::made::sources_are_covered(gateway, &found, &permit)? {
            true => Ok(Some((found, permit))),
            false => Ok(None),
        },
        Err(error) if error.reason() == Reason::NotPermitted => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the document was sent to the caller's institution by referrals that were taken back or are
/// over, and nothing else is its ground to read it: no authorship, no record of the patient, no wish of
/// the patient's, no emergency. That others may read it by the rule for all does not give it back to
/// whom it was taken from.
fn is_over(gateway: &Gateway, call: &Call, found: &Found, permit: &Permit) -> Result<bool> {
    let caller = call.caller();
    let Some(own) = &caller.participant.code else {
        return Ok(false);
    };
    let emergency = matches!(
        caller.purpose,
        PurposeOfUse::Emergency | PurposeOfUse::Disaster
    );
    let facts = found.facts();
    if emergency || permit.under_grant() || facts.authors.contains(own) {
        return Ok(false);
    }
    if !gateway
        .documents
        .is_over(own, &document_ref(&found.entry))?
    {
        return Ok(false);
    }
    let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
    let person = gateway.guard.identifiers_of(&patient);
    let known = person.iter().any(|identifier| identifier.is_of(own));
    Ok(!known && !permit.is_consented(&facts))
}

fn unknown_document() -> Error {
    let message = "no such document, or none that may be read";
    let field = "document.document_unique_id";
    Error::field(Reason::UnknownDocument, field, message)
}

/// The document asked for, with the permit to read it.
///
/// # Errors
/// The field that is wrong; [`Reason::UnknownDocument`], whether it is not here or not for this caller.
pub(super) fn judge(
    gateway: &Gateway,
    call: &Call,
    wanted: &pb::DocumentRequest,
) -> Result<(Found, Permit)> {
    let document = wanted.document.as_ref();
    let document = document.ok_or_else(|| Error::missing("document.document_unique_id"))?;
    if !document.home_community_id.is_empty() {
        let field = "document.home_community_id";
        let home: crate::types::HomeCommunityId = parse(field, &document.home_community_id)?;
        if home != gateway.home {
            let message = "is another community's; ask the InitiatingGatewayService";
            return Err(Error::field(Reason::UnknownCommunity, field, message));
        }
    }
    let field = "document.repository_unique_id";
    let repository: crate::types::RepositoryUniqueId =
        parse(field, &document.repository_unique_id)?;
    if Some(&repository) != gateway.documents.repository() {
        let message = "is not a repository of this community";
        return Err(Error::field(Reason::UnknownRepository, field, message));
    }
    let id = parse("document.document_unique_id", &document.document_unique_id)?;
    let found = gateway.documents.by_unique_id(&id)?;
    let (found, permit) = readable(gateway, call, found, None)?.ok_or_else(unknown_document)?;
    if wanted.range.is_some() && found.is_on_demand() {
        let message = "is not for a document that is made anew each time";
        return Err(Error::field(Reason::InvalidField, "range", message));
    }
    if wanted.range.is_some() {
        let size = gateway.documents.size(&permit, &found)?;
        Range::new(wanted.range.as_ref(), size)?;
    }
    Ok((found, permit))
}

fn parse<T>(field: &'static str, text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidField, field, error.to_string()))
}
