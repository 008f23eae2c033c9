//! `renkei.consent.v1.ConsentService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::access::{Action, Call, Permit};
use crate::consent::{About, fhir};
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::store::Write;
use crate::types::PatientIdentifier;
use crate::wire::pb::consent as pb;
use crate::wire::pb::consent::consent_service_server::ConsentService;
use crate::wire::pb::federation::notice::Content;

use super::door::{Answer, Class, Door};

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.consent.v1.ConsentService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct ConsentRecords(pub Door);

/// The patient of a consent; consents are recorded in the patient's own community (INV-4), by who
/// knows the patient. Who does not is not told whether anybody does.
fn patient(
    gateway: &Gateway,
    call: &Call,
    action: Action,
    consent: &pb::Consent,
) -> Result<PatientIdentifier> {
    let patient = identifier(consent.patient_id.as_ref(), "consent.patient_id")?;
    super::identity::own_domain(gateway, call, &patient)?;
    let known = gateway.identity.record(&patient)?.is_some();
    let may = action == Action::Exchange || known_to(gateway, call, action, &patient)?;
    if known && may {
        return Ok(patient);
    }
    let message = "the patient is not known here";
    let field = "consent.patient_id";
    Err(Error::field(Reason::UnknownPatient, field, message))
}

/// Whether the caller may act on a patient's consents.
fn known_to(
    gateway: &Gateway,
    call: &Call,
    action: Action,
    patient: &PatientIdentifier,
) -> Result<bool> {
    let about = About {
        patients: std::slice::from_ref(patient),
        ..About::default()
    };
    gateway.guard.allows(call, action, about)
}

fn record(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::RecordConsentRequest,
) -> Answer<pb::RecordConsentResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::RecordConsent)?;
        let given = request
            .consent
            .as_ref()
            .ok_or_else(|| Error::missing("consent"))?;
        if !given.consent_id.is_empty() {
            let message = "is given by the node; a changed wish is a new consent";
            return Err(Error::field(
                Reason::InvalidField,
                "consent.consent_id",
                message,
            ));
        }
        let patient = patient(&gateway, &call, Action::RecordConsent, given)?;
        let forward = forward(&gateway, &patient);
        let consent = gateway
            .consents
            .record(&permit, &call, &patient, &request, forward)
            .await?;
        Ok(pb::RecordConsentResponse {
            consent: Some(consent),
        })
    })
}

/// Tells the hub of a consent.
fn forward<'a>(
    gateway: &'a Gateway,
    patient: &'a PatientIdentifier,
) -> impl Fn(&pb::Consent) -> Vec<Write> + 'a {
    let outbox = &gateway.federation.outbox;
    move |consent| outbox.notice(patient, Content::Consent(consent.clone()))
}

/// Takes over a consent that a community recorded: with its id, its status, its dates.
pub(super) async fn take(
    gateway: &Gateway,
    call: &Call,
    permit: &Permit,
    consent: pb::Consent,
) -> Result<pb::Consent> {
    let patient = patient(gateway, call, Action::Exchange, &consent)?;
    gateway.consents.take(permit, call, &patient, consent).await
}

fn withdraw(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::WithdrawConsentRequest,
) -> Answer<pb::WithdrawConsentResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::RecordConsent)?;
        let known = gateway.consents.get(&request.consent_id)?;
        let patient =
            patient(&gateway, &call, Action::RecordConsent, &known).map_err(hide_foreign)?;
        let forward = forward(&gateway, &patient);
        let consent = gateway
            .consents
            .withdraw(&permit, &call, &patient, &request, forward)
            .await?;
        Ok(pb::WithdrawConsentResponse {
            consent: Some(consent),
        })
    })
}

/// A consent of another community's patient is not here, as far as the caller may know.
fn hide_foreign(error: Error) -> Error {
    match error.reason() {
        Reason::ForeignDomain | Reason::UnknownAuthority | Reason::UnknownPatient => not_found(),
        _ => error,
    }
}

fn not_found() -> Error {
    Error::field(Reason::NotFound, "consent_id", "no such consent")
}

/// Takes a FHIR Consent (PCF ITI-108) as if it had been recorded here.
fn import(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ImportConsentRequest,
) -> Answer<pb::ImportConsentResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::RecordConsent)?;
        let imported = fhir::import(&request.fhir_consent)?;
        let patient = patient(&gateway, &call, Action::RecordConsent, &imported.consent)?;
        let check_only = request.validate_only;
        let request = pb::RecordConsentRequest {
            consent: Some(imported.consent),
            idempotency_key: request.idempotency_key,
        };
        let consents = &gateway.consents;
        let consent = if check_only {
            consents.check(&permit, &request)?
        } else {
            let forward = forward(&gateway, &patient);
            consents
                .record(&permit, &call, &patient, &request, forward)
                .await?
        };
        Ok(pb::ImportConsentResponse {
            consent: Some(consent),
            warnings: imported.warnings,
        })
    })
}

fn export(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ExportConsentRequest,
) -> Answer<pb::ExportConsentResponse> {
    Box::pin(async move {
        let wanted = pb::GetConsentRequest {
            consent_id: request.consent_id,
        };
        let consent = get(gateway, call, wanted).await?.consent;
        let resource = fhir::export(&consent.unwrap_or_default());
        Ok(pb::ExportConsentResponse {
            fhir_consent: resource.to_string().into(),
        })
    })
}

fn get(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetConsentRequest,
) -> Answer<pb::GetConsentResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::ReadConsent)?;
        permit.require(&[Action::ReadConsent])?;
        let consent = gateway.consents.get(&request.consent_id)?;
        let patient =
            patient(&gateway, &call, Action::ReadConsent, &consent).map_err(hide_foreign)?;
        let tag = gateway.store.keys().patient_tag(&patient);
        call.note(|record| {
            record.patient = Some(tag.to_vec());
            record.items = 1;
        });
        Ok(pb::GetConsentResponse {
            consent: Some(consent),
        })
    })
}

fn list(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListConsentsRequest,
) -> Answer<pb::ListConsentsResponse> {
    Box::pin(async move {
        use pb::list_consents_request::Patient;
        let permit = gateway.guard.authorize(&call, Action::ReadConsent)?;
        permit.require(&[Action::ReadConsent])?;
        let id = match request
            .patient
            .as_ref()
            .ok_or_else(|| Error::missing("patient"))?
        {
            Patient::PatientId(id) => identifier(Some(id), "patient_id")?,
            Patient::LinkageId(_) => {
                let message = "consents are listed by patient identifier in this version";
                return Err(Error::field(Reason::NotImplemented, "linkage_id", message));
            }
        };
        super::identity::own_domain(&gateway, &call, &id)?;
        let known = known_to(&gateway, &call, Action::ReadConsent, &id)?;
        let tag = gateway.store.keys().patient_tag(&id);
        // Of who is not known to the caller there is nothing, as of who is known to nobody.
        let consents = match known {
            true => gateway.consents.told(&id, request.include_history)?,
            false => Vec::new(),
        };
        call.note(|record| {
            record.patient = Some(tag.to_vec());
            record.items = u32::try_from(consents.len()).unwrap_or(u32::MAX);
        });
        Ok(pb::ListConsentsResponse {
            consents,
            next_page_token: String::new(),
        })
    })
}

#[tonic::async_trait]
impl ConsentService for ConsentRecords {
    async fn record_consent(
        &self,
        request: Request<pb::RecordConsentRequest>,
    ) -> Result<Response<pb::RecordConsentResponse>, Status> {
        self.0
            .run(method!("RecordConsent"), Class::Identity, request, record)
            .await
    }

    async fn withdraw_consent(
        &self,
        request: Request<pb::WithdrawConsentRequest>,
    ) -> Result<Response<pb::WithdrawConsentResponse>, Status> {
        self.0
            .run(
                method!("WithdrawConsent"),
                Class::Identity,
                request,
                withdraw,
            )
            .await
    }

    async fn get_consent(
        &self,
        request: Request<pb::GetConsentRequest>,
    ) -> Result<Response<pb::GetConsentResponse>, Status> {
        self.0
            .run(method!("GetConsent"), Class::Identity, request, get)
            .await
    }

    async fn list_consents(
        &self,
        request: Request<pb::ListConsentsRequest>,
    ) -> Result<Response<pb::ListConsentsResponse>, Status> {
        self.0
            .run(method!("ListConsents"), Class::Query, request, list)
            .await
    }

    async fn import_consent(
        &self,
        request: Request<pb::ImportConsentRequest>,
    ) -> Result<Response<pb::ImportConsentResponse>, Status> {
        self.0
            .run(method!("ImportConsent"), Class::Identity, request, import)
            .await
    }

    async fn export_consent(
        &self,
        request: Request<pb::ExportConsentRequest>,
    ) -> Result<Response<pb::ExportConsentResponse>, Status> {
        self.0
            .run(method!("ExportConsent"), Class::Identity, request, export)
            .await
    }
}
