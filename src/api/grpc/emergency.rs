//! `renkei.emergency.v1.EmergencyService`.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::config::Capability;
use crate::consent::About;
use crate::emergency::Asking;
use crate::emergency::forms::{Language, Options, document};
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::emergency::emergency_service_server::EmergencyService;

use super::documents::known;
use super::door::{Answer, Class, Door};
use super::registry::notice;

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.emergency.v1.EmergencyService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Emergencies(pub Door);

fn identify(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::IdentifyPatientRequest,
) -> Answer<pb::IdentifyPatientResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::IdentifyEmergency)?;
        gateway
            .emergency
            .candidates
            .identify(&permit, &call, &request)
    })
}

fn open(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::OpenBreakGlassRequest,
) -> Answer<pb::OpenBreakGlassResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::BreakGlass)?;
        let candidates = &gateway.emergency.candidates;
        let resolved = candidates.resolve(&call, request.patient.as_ref());
        let (linkage, _) = resolved.map_err(as_refused)?;
        let patients = about(&gateway, &call, linkage)?;
        gateway
            .emergency
            .grants
            .open(&permit, &call, linkage, &patients, &request)
            .await
    })
}

fn about(
    gateway: &Gateway,
    call: &Call,
    linkage: crate::types::LinkageId,
) -> Result<Vec<crate::types::PatientIdentifier>> {
    let patients = gateway.emergency.patients(linkage)?;
    if let Some(patient) = patients.first() {
        let tag = gateway.store.keys().patient_tag(patient);
        call.note(|record| record.patient = Some(tag.to_vec()));
    }
    Ok(patients)
}

fn close(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::CloseBreakGlassRequest,
) -> Answer<pb::CloseBreakGlassResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::BreakGlass)?;
        gateway
            .emergency
            .grants
            .close(&permit, &call, &request)
            .await
    })
}

/// The longest that a caller may be content with: 24 h, in seconds.
const MAX_AGE: i64 = 24 * 3_600;

/// What of a summary is asked for, besides whose.
#[derive(Debug, Default)]
struct Wanted {
    sections: Vec<pb::SummarySection>,
    confirm_restricted: bool,
    max_age: Option<Duration>,
}

fn sections(given: &[i32]) -> Result<Vec<pb::SummarySection>> {
    let section = |(at, number): (usize, &i32)| {
        pb::SummarySection::try_from(*number)
            .ok()
            .filter(|section| *section != pb::SummarySection::Unspecified)
            .ok_or_else(|| {
                let field = format!("sections[{at}]");
                Error::field(Reason::InvalidField, field, "is no section")
            })
    };
    given.iter().enumerate().map(section).collect()
}

fn max_age(given: Option<&prost_types::Duration>) -> Result<Option<Duration>> {
    let Some(given) = given else { return Ok(None) };
    let age = Duration::try_from(*given).ok();
    let age = age.filter(|age| age.as_secs() <= MAX_AGE.cast_unsigned());
    let message = "must be between 0 and 24 hours";
    age.map(Some)
        .ok_or_else(|| Error::field(Reason::InvalidField, "max_age", message))
}

/// The summary for whoever may have it, in whichever form it is then given.
async fn summarize(
    gateway: &Gateway,
    call: &Arc<Call>,
    patient: Option<&pb::PatientRef>,
    grant_id: &str,
    wanted: Wanted,
) -> Result<pb::GetSummaryResponse> {
    // May the caller ask at all? Before anything says whether the patient is known (INV-3).
    let relaying = About {
        relaying: true,
        ..About::default()
    };
    gateway
        .guard
        .authorize_for(call, Action::ReadSummary, relaying)?
        .require(&[Action::ReadSummary])?;
    let candidates = &gateway.emergency.candidates;
    let resolved = candidates.resolve(call, patient);
    let (linkage, grade) = resolved.map_err(as_refused)?;
    let patients = about(gateway, call, linkage).map_err(as_refused)?;
    let (grant, covered) = if grant_id.is_empty() {
        (None, None)
    } else {
        call.note(|record| record.grant = Some(grant_id.to_owned()));
        let grants = &gateway.emergency.grants;
        let (grant, covered) = grants.find(grant_id, linkage, &patients)?;
        (Some(grant), Some(covered))
    };
    let asked = About {
        patients: &patients,
        grant: grant.as_ref(),
        relaying: true,
        ..About::default()
    };
    let permit = gateway
        .guard
        .authorize_for(call, Action::ReadSummary, asked)?;
    debug_assert_eq!(permit.under_grant(), grant.is_some());
    let asking = Asking {
        linkage,
        grade,
        grant_id: grant_id.to_owned(),
        grant,
        covered,
        permit,
        sections: wanted.sections,
        confirm_restricted: wanted.confirm_restricted,
        max_age: wanted.max_age,
    };
    gateway.emergency.summary(call, &asking).await
}

fn summary(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetSummaryRequest,
) -> Answer<pb::GetSummaryResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let wanted = Wanted {
            sections: sections(&request.sections)?,
            confirm_restricted: request.confirm_restricted,
            max_age: max_age(request.max_age.as_ref())?,
        };
        let patient = request.patient.as_ref();
        summarize(&gateway, &call, patient, &request.grant_id, wanted).await
    })
}

fn summary_document(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetSummaryDocumentRequest,
) -> Answer<pb::GetSummaryDocumentResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let wanted = Wanted {
            confirm_restricted: request.confirm_restricted,
            max_age: max_age(request.max_age.as_ref())?,
            ..Wanted::default()
        };
        let form = pb::SummaryForm::try_from(request.form)
            .map_err(|_| Error::field(Reason::InvalidField, "form", "is no form"))?;
        let language = Language::of(&request.language)
            .ok_or_else(|| Error::field(Reason::InvalidField, "language", "must be ja or en"))?;
        let options = Options {
            language,
            for_patient: request.for_patient,
        };
        let patient = request.patient.as_ref();
        let answer = summarize(&gateway, &call, patient, &request.grant_id, wanted).await?;
        // Layout of a long record takes a while: not where other calls wait.
        let written = tokio::task::spawn_blocking(move || {
            let document = document(form, &answer, options);
            (document, answer)
        });
        let (document, answer) = written.await.map_err(Error::internal)?;
        let document = document?;
        Ok(pb::GetSummaryDocumentResponse {
            document: document.octets.into(),
            mime_type: document.mime_type.to_owned(),
            completeness: answer.completeness,
            summary_id: answer.summary.unwrap_or_default().summary_id,
        })
    })
}

/// Stored like any document of the patient: where documents are, and by who may submit them.
fn care(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SubmitCareRecordRequest,
) -> Answer<pb::SubmitCareRecordResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Repository)?;
        let permit = gateway.guard.authorize(&call, Action::SubmitDocuments)?;
        let record = request.record.as_ref();
        let id = record.and_then(|record| record.patient_id.as_ref());
        let patient = identifier(id, "record.patient_id")?;
        known(&gateway, &call, &patient)?;
        let tell = notice(&gateway, &patient)?;
        let care = &gateway.emergency.care;
        care.submit(&permit, &call, (&patient, &request), &tell)
            .await
    })
}

/// Where clinical data is asked for, an unknown patient is not told from a refusal (INV-3).
fn as_refused(error: Error) -> Error {
    match error.reason() {
        Reason::UnknownPatient => Error::not_permitted(),
        _ => error,
    }
}

/// The institution whose notices a caller may see: its own.
fn own_institution(call: &Call) -> Result<String> {
    let code = call.caller().participant.code.as_ref();
    code.map(ToString::to_string)
        .ok_or_else(Error::not_permitted)
}

fn notices(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ListAccessNoticesRequest,
) -> Answer<pb::ListAccessNoticesResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
        if request.patient.is_some() {
            let message = "notices are listed by institution in this version";
            return Err(Error::field(Reason::NotImplemented, "patient", message));
        }
        let institution = own_institution(&call)?;
        let grants = &gateway.emergency.grants;
        let (notices, next_page_token) = grants.notices(&permit, &institution, &request)?;
        call.note(|record| record.items = u32::try_from(notices.len()).unwrap_or(u32::MAX));
        Ok(pb::ListAccessNoticesResponse {
            notices,
            next_page_token,
        })
    })
}

fn review(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ReviewAccessRequest,
) -> Answer<pb::ReviewAccessResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
        gateway
            .emergency
            .grants
            .review(&permit, &call, &request)
            .await
    })
}

fn declare(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::DeclareDisasterRequest,
) -> Answer<pb::DeclareDisasterResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::DeclareDisaster)?;
        gateway.disasters.declare(&permit, &call, &request).await
    })
}

fn end(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::EndDisasterRequest,
) -> Answer<pb::EndDisasterResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Emergency)?;
        let permit = gateway.guard.authorize(&call, Action::DeclareDisaster)?;
        gateway.disasters.end(&permit, &call, &request).await
    })
}

#[tonic::async_trait]
impl EmergencyService for Emergencies {
    async fn identify_patient(
        &self,
        request: Request<pb::IdentifyPatientRequest>,
    ) -> Result<Response<pb::IdentifyPatientResponse>, Status> {
        self.0
            .run(
                method!("IdentifyPatient"),
                Class::Emergency,
                request,
                identify,
            )
            .await
    }

    async fn open_break_glass(
        &self,
        request: Request<pb::OpenBreakGlassRequest>,
    ) -> Result<Response<pb::OpenBreakGlassResponse>, Status> {
        self.0
            .run(method!("OpenBreakGlass"), Class::Emergency, request, open)
            .await
    }

    async fn close_break_glass(
        &self,
        request: Request<pb::CloseBreakGlassRequest>,
    ) -> Result<Response<pb::CloseBreakGlassResponse>, Status> {
        self.0
            .run(method!("CloseBreakGlass"), Class::Emergency, request, close)
            .await
    }

    async fn get_summary(
        &self,
        request: Request<pb::GetSummaryRequest>,
    ) -> Result<Response<pb::GetSummaryResponse>, Status> {
        self.0
            .run(method!("GetSummary"), Class::Emergency, request, summary)
            .await
    }

    async fn list_access_notices(
        &self,
        request: Request<pb::ListAccessNoticesRequest>,
    ) -> Result<Response<pb::ListAccessNoticesResponse>, Status> {
        self.0
            .run(method!("ListAccessNotices"), Class::Query, request, notices)
            .await
    }

    async fn review_access(
        &self,
        request: Request<pb::ReviewAccessRequest>,
    ) -> Result<Response<pb::ReviewAccessResponse>, Status> {
        self.0
            .run(method!("ReviewAccess"), Class::Query, request, review)
            .await
    }

    async fn get_summary_document(
        &self,
        request: Request<pb::GetSummaryDocumentRequest>,
    ) -> Result<Response<pb::GetSummaryDocumentResponse>, Status> {
        self.0
            .run(
                method!("GetSummaryDocument"),
                Class::Emergency,
                request,
                summary_document,
            )
            .await
    }

    async fn submit_care_record(
        &self,
        request: Request<pb::SubmitCareRecordRequest>,
    ) -> Result<Response<pb::SubmitCareRecordResponse>, Status> {
        self.0
            .run(method!("SubmitCareRecord"), Class::Query, request, care)
            .await
    }

    async fn declare_disaster(
        &self,
        request: Request<pb::DeclareDisasterRequest>,
    ) -> Result<Response<pb::DeclareDisasterResponse>, Status> {
        self.0
            .run(method!("DeclareDisaster"), Class::Query, request, declare)
            .await
    }

    async fn end_disaster(
        &self,
        request: Request<pb::EndDisasterRequest>,
    ) -> Result<Response<pb::EndDisasterResponse>, Status> {
        self.0
            .run(method!("EndDisaster"), Class::Query, request, end)
            .await
    }
}
