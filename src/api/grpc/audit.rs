//! `renkei.audit.v1.AuditService`.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::audit::Filter;
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::wire::pb::audit as pb;
use crate::wire::pb::audit::audit_service_server::AuditService;

use super::door::{Class, Door, Replies};

/// Events on a page at most.
const MAX_PAGE: usize = 1_000;
/// Events of one patient's report; more is an error, never a silent gap.
const MAX_REPORT: usize = 100_000;

macro_rules! method {
    ($name:literal) => {
        concat!("renkei.audit.v1.AuditService/", $name)
    };
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct AuditRecords(pub Door);

/// An institution's officer reads the institution's own audit.
fn own(call: &Call, asked: &str) -> Result<String> {
    let code = call
        .caller()
        .participant
        .code
        .as_ref()
        .map(ToString::to_string);
    let code = code.ok_or_else(Error::not_permitted)?;
    if asked.is_empty() || asked == code {
        Ok(code)
    } else {
        Err(Error::not_permitted())
    }
}

async fn search(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SearchEventsRequest,
) -> Result<pb::SearchEventsResponse> {
    let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
    permit.require(&[Action::ReadAudit])?;
    let unsupported = [
        ("from", request.from.is_some()),
        ("to", request.to.is_some()),
        ("person_subject", !request.person_subject.is_empty()),
        ("linkage_id", !request.linkage_id.is_empty()),
        ("methods", !request.methods.is_empty()),
        ("outcomes", !request.outcomes.is_empty()),
        ("purposes", !request.purposes.is_empty()),
    ];
    if let Some((field, _)) = unsupported.into_iter().find(|(_, given)| *given) {
        let message = "is not a condition this version searches by";
        return Err(Error::field(Reason::NotImplemented, field, message));
    }
    let from = if request.page_token.is_empty() {
        0
    } else {
        request.page_token.parse().map_err(|_| {
            Error::field(
                Reason::InvalidToken,
                "page_token",
                "is not a token of this query",
            )
        })?
    };
    let patient = request.patient_id.as_ref();
    let patient = patient
        .map(|id| identifier(Some(id), "patient_id"))
        .transpose()?;
    let filter = Filter {
        patients: patient
            .iter()
            .map(|id| gateway.store.keys().patient_tag(id).to_vec())
            .collect(),
        institution: own(&call, &request.institution_id)?,
        from,
        emergency_only: request.emergency_only,
        request_id: request.request_id,
    };
    let size = match request.page_size as usize {
        0 => MAX_PAGE,
        size => size.min(MAX_PAGE),
    };
    let audit = gateway.audit.clone();
    let read = tokio::task::spawn_blocking(move || audit.events(&filter, size + 1));
    let mut events = read.await.map_err(Error::internal)??;
    let next_page_token = events
        .get(size)
        .map(|event| event.sequence.to_string())
        .unwrap_or_default();
    events.truncate(size);
    call.note(|record| record.items = u32::try_from(events.len()).unwrap_or(u32::MAX));
    Ok(pb::SearchEventsResponse {
        events,
        next_page_token,
    })
}

/// "Who saw my record": every event about a patient of this community, at this node.
async fn report(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ReportPatientAccessRequest,
) -> Result<Stream<pb::ReportPatientAccessResponse>> {
    use pb::report_patient_access_request::Patient;
    let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
    permit.require(&[Action::ReadAudit])?;
    if request.from.is_some() || request.to.is_some() {
        let message = "this version reports from the first event to the last";
        return Err(Error::field(Reason::NotImplemented, "from", message));
    }
    if request.with_proofs {
        let message = "proofs are not made by this version";
        return Err(Error::field(Reason::NotImplemented, "with_proofs", message));
    }
    let id = match request
        .patient
        .as_ref()
        .ok_or_else(|| Error::missing("patient"))?
    {
        Patient::PatientId(id) => identifier(Some(id), "patient_id")?,
        Patient::LinkageId(_) => {
            let message = "the report is by patient identifier in this version";
            return Err(Error::field(Reason::NotImplemented, "linkage_id", message));
        }
    };
    super::identity::own_domain(&gateway, &call, &id)?;
    // At the hub the person has identifiers in other domains too; the report covers them all.
    let mut patients = vec![gateway.store.keys().patient_tag(&id).to_vec()];
    if let Some(linkage) = gateway.identity.linkage(&id) {
        let others = gateway.identity.known_as(linkage);
        let tag = |other| gateway.store.keys().patient_tag(other).to_vec();
        patients.extend(others.iter().map(tag));
    }
    call.note(|record| record.patient = patients.first().cloned());
    let filter = Filter {
        patients,
        ..Filter::default()
    };
    let audit = gateway.audit.clone();
    let read = tokio::task::spawn_blocking(move || audit.events(&filter, MAX_REPORT + 1));
    let events = read.await.map_err(Error::internal)??;
    if events.len() > MAX_REPORT {
        return Err(Error::new(
            Reason::TooManyResults,
            "more events than one report holds",
        ));
    }
    call.note(|record| record.items = u32::try_from(events.len()).unwrap_or(u32::MAX));
    let (sender, receiver) = mpsc::channel(16);
    gateway.tasks.spawn(async move {
        use pb::report_patient_access_response::Part;
        let total = events.len() as u64;
        let summary = pb::ReportSummary {
            event_count: total,
            ..Default::default()
        };
        let parts = events.into_iter().map(|event| {
            Part::Event(pb::ProvenEvent {
                event: Some(event),
                ..Default::default()
            })
        });
        for part in parts.chain([Part::Summary(summary)]) {
            let message = pb::ReportPatientAccessResponse { part: Some(part) };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    Ok(Stream { receiver, asked: 0 })
}

#[tonic::async_trait]
impl AuditService for AuditRecords {
    async fn search_events(
        &self,
        request: Request<pb::SearchEventsRequest>,
    ) -> Result<Response<pb::SearchEventsResponse>, Status> {
        self.0
            .run(method!("SearchEvents"), Class::Query, request, search)
            .await
    }

    type ReportPatientAccessStream = Replies<pb::ReportPatientAccessResponse>;

    async fn report_patient_access(
        &self,
        request: Request<pb::ReportPatientAccessRequest>,
    ) -> Result<Response<Self::ReportPatientAccessStream>, Status> {
        self.0
            .stream(
                method!("ReportPatientAccess"),
                Class::Query,
                request,
                report,
            )
            .await
    }

    type ExportEventsStream = Replies<pb::ExportEventsResponse>;

    async fn export_events(
        &self,
        request: Request<pb::ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        self.0
            .not_implemented(method!("ExportEvents"), request)
            .await
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        self.0
            .not_implemented(method!("GetCheckpoint"), request)
            .await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        self.0
            .not_implemented(method!("GetInclusionProof"), request)
            .await
    }

    async fn get_consistency_proof(
        &self,
        request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        self.0
            .not_implemented(method!("GetConsistencyProof"), request)
            .await
    }
}
