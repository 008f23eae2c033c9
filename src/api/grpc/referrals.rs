//! Directed exchange (電子紹介状): who may send what to whom, and who sees it.

use std::sync::Arc;

use super::door::Answer;
use crate::access::{Action, Call};
use crate::audit::Outcome;
use crate::config::Capability;
use crate::consent::About;
use crate::documents::{Found, Letter};
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::store::Commit;
use crate::types::{HomeCommunityId, InstitutionCode};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::retrieve::judge;

/// Documents in one referral.
const MAX_DOCUMENTS: usize = 100;

/// Sends documents that the sender may read to an institution of this community.
pub(super) fn send(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SendReferralRequest,
) -> Answer<pb::SendReferralResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Repository)?;
        let permit = gateway.guard.authorize(&call, Action::SubmitDocuments)?;
        let now = gateway.clock.now();
        let idempotency =
            call.idempotency(&gateway.store, &request.idempotency_key, &request, now)?;
        let patient = identifier(request.patient_id.as_ref(), "patient_id")?;
        let tag = gateway.store.keys().patient_tag(&patient);
        call.note(|record| record.patient = Some(tag.to_vec()));
        let addressee = addressee(&gateway, request.addressee.as_ref())?;
        let documents = documents(&gateway, &call, &request, &patient)?;
        call.note(|record| record.items = u32::try_from(documents.len()).unwrap_or(u32::MAX));
        let letter = Letter {
            request: &request,
            patient: &patient,
            addressee: &addressee,
            documents: &documents,
        };
        gateway
            .documents
            .send(&permit, &call, &letter, idempotency)
            .await
    })
}

/// The institution a referral is for: one of this community.
fn addressee(gateway: &Gateway, named: Option<&cpb::InstitutionRef>) -> Result<InstitutionCode> {
    let named = named.ok_or_else(|| Error::missing("addressee"))?;
    let within = |error: Error| error.within("addressee");
    if !named.home_community_id.is_empty() {
        let home = named.home_community_id.parse::<HomeCommunityId>();
        if home.ok().as_ref() != Some(&gateway.home) {
            let message = "referrals to other communities are not done by this version";
            let field = "home_community_id";
            return Err(within(Error::field(Reason::NotImplemented, field, message)));
        }
    }
    let unknown = || {
        let message = "is no institution of this community";
        within(Error::field(
            Reason::UnknownRecipient,
            "institution_id",
            message,
        ))
    };
    let code: InstitutionCode = named.institution_id.parse().map_err(|_| unknown())?;
    let directory = gateway.directory.snapshot();
    let known = directory.by_code(&code);
    known
        .filter(|known| known.community == gateway.home)
        .map(|_| code)
        .ok_or_else(unknown)
}

/// The documents of a referral: of its patient, and such as the sender may read.
fn documents(
    gateway: &Gateway,
    call: &Call,
    request: &pb::SendReferralRequest,
    patient: &crate::types::PatientIdentifier,
) -> Result<Vec<Found>> {
    if request.documents.is_empty() || request.documents.len() > MAX_DOCUMENTS {
        let message = format!("must name between 1 and {MAX_DOCUMENTS} documents");
        return Err(Error::field(Reason::InvalidField, "documents", message));
    }
    let person = gateway.guard.identifiers_of(patient);
    let mut documents = Vec::with_capacity(request.documents.len());
    for (index, document) in request.documents.iter().enumerate() {
        let within = |error: Error| error.within(&format!("documents[{index}]"));
        let wanted = pb::DocumentRequest {
            document: Some(document.clone()),
            range: None,
        };
        let (found, _permit) = judge(gateway, call, &wanted).map_err(within)?;
        let named = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
        if !person.contains(&named) {
            let message = "is not a document of the referral's patient";
            return Err(within(Error::new(Reason::PatientMismatch, message)));
        }
        documents.push(found);
    }
    Ok(documents)
}

/// Lists what the caller's institution sent or was sent. Each referral listed leaves an audit event of
/// its own, that names its patient, before the list leaves (INV-2).
pub(super) fn list(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListReferralsRequest,
) -> Answer<pb::ListReferralsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Repository)?;
        let _permit = gateway.guard.authorize(&call, Action::FindDocuments)?;
        let patient = request.patient_id.as_ref();
        let patient = patient
            .map(|patient| identifier(Some(patient), "patient_id"))
            .transpose()?;
        // A patient who does not want to be seen by the caller is not seen here either.
        let may_see = |referral: &pb::Referral| {
            let patient = identifier(referral.patient_id.as_ref(), "patient_id")?;
            let about = About {
                patients: std::slice::from_ref(&patient),
                ..About::default()
            };
            let permit = gateway
                .guard
                .authorize_for(&call, Action::FindDocuments, about);
            match permit {
                Ok(_) => Ok(true),
                Err(error) if error.reason() == Reason::NotPermitted => Ok(false),
                Err(error) => Err(error),
            }
        };
        let (listed, next_page_token) =
            gateway
                .documents
                .referrals(&call, &request, patient.as_ref(), may_see)?;
        call.note(|record| record.items = u32::try_from(listed.len()).unwrap_or(u32::MAX));
        let now = gateway.clock.now();
        let events = listed.iter().filter_map(|listed| {
            let one = call.for_part();
            one.note(|record| {
                record.items = 1;
                record.patient = Some(listed.patient.clone());
                record.documents = vec![listed.referral.referral_id.clone()];
            });
            one.closing_event(Outcome::Success, now)
        });
        let commit = Commit {
            audit: events.collect(),
            ..Commit::default()
        };
        if !commit.audit.is_empty() {
            let _committed = gateway.store.commit(commit).await?;
        }
        Ok(pb::ListReferralsResponse {
            referrals: listed.into_iter().map(|listed| listed.referral).collect(),
            next_page_token,
        })
    })
}

/// Takes a referral back before it is fetched.
pub(super) fn recall(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RecallReferralRequest,
) -> Answer<pb::RecallReferralResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Repository)?;
        let permit = gateway.guard.authorize(&call, Action::SubmitDocuments)?;
        let now = gateway.clock.now();
        let idempotency =
            call.idempotency(&gateway.store, &request.idempotency_key, &request, now)?;
        gateway
            .documents
            .recall(&permit, &call, &request, idempotency)
            .await
    })
}
