//! `renkei.audit.v1.AuditService`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::access::{Action, Call};
use crate::audit::leaf::{index_of, of_frame, sequence_of};
use crate::audit::map::PatientTag;
use crate::audit::{Filter, Log, Report, event_of, fhir, inclusion_message, map_message, syslog};
use crate::consent::About;
use crate::error::{Error, Reason, Result};
use crate::federation::Stream;
use crate::gateway::Gateway;
use crate::identity::identifier;
use crate::store::Sequence;
use crate::wire::pb::audit as pb;
use crate::wire::pb::audit::audit_service_server::AuditService;
use crate::wire::{from_timestamp, timestamp};

use super::door::{Answer, Class, Door, Replies};

/// Events on a page at most.
const MAX_PAGE: usize = 1_000;
/// Events looked at for one page; a page may end before it is full.
const MAX_LOOKED: u64 = 50_000;
/// How far back a leaf is sought by its hash.
const MAX_SOUGHT: u64 = 1 << 20;

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

fn bad_time(field: &'static str) -> Error {
    Error::field(Reason::InvalidField, field, "is not a time")
}

fn time(
    given: Option<&prost_types::Timestamp>,
    field: &'static str,
) -> Result<Option<jiff::Timestamp>> {
    let read = |time| from_timestamp(time).ok_or_else(|| bad_time(field));
    given.map(read).transpose()
}

fn page_token(token: &str) -> Result<Option<u64>> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = |_| {
        let message = "is not a token of this query";
        Error::field(Reason::InvalidToken, "page_token", message)
    };
    token.parse().map(Some).map_err(wrong)
}

fn search(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SearchEventsRequest,
) -> Answer<pb::SearchEventsResponse> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
        permit.require(&[Action::ReadAudit])?;
        if !request.linkage_id.is_empty() {
            let message = "is not a condition this version searches by";
            return Err(Error::field(Reason::NotImplemented, "linkage_id", message));
        }
        let before = page_token(&request.page_token)?;
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
            from: 0,
            emergency_only: request.emergency_only,
            request_id: request.request_id,
            since: time(request.from.as_ref(), "from")?,
            until: time(request.to.as_ref(), "to")?,
            subject: request.person_subject,
            methods: request.methods,
            outcomes: request.outcomes,
            purposes: request.purposes,
        };
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let audit = gateway.audit.clone();
        let page = beside(move || audit.search(&filter, before, size, MAX_LOOKED)).await?;
        call.note(|record| record.items = u32::try_from(page.events.len()).unwrap_or(u32::MAX));
        Ok(pb::SearchEventsResponse {
            events: page.events,
            next_page_token: page.next.map(|next| next.to_string()).unwrap_or_default(),
        })
    })
}

/// Runs blocking work beside the calls.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

/// The tags under which the log has a person: at the hub the person has identifiers in other domains
/// too, and the report covers them all.
fn tags_of(
    gateway: &Gateway,
    call: &Call,
    request: &pb::ReportPatientAccessRequest,
) -> Result<Vec<PatientTag>> {
    use pb::report_patient_access_request::Patient;
    let patient = request.patient.as_ref();
    let id = match patient.ok_or_else(|| Error::missing("patient"))? {
        Patient::PatientId(id) => identifier(Some(id), "patient_id")?,
        Patient::LinkageId(_) => {
            let message = "the report is by patient identifier in this version";
            return Err(Error::field(Reason::NotImplemented, "linkage_id", message));
        }
    };
    super::identity::own_domain(gateway, call, &id)?;
    // An officer of an institution that knows the patient, not of any.
    let about = About {
        patients: std::slice::from_ref(&id),
        ..About::default()
    };
    let permit = gateway
        .guard
        .authorize_for(call, Action::ReadAudit, about)?;
    permit.require(&[Action::ReadAudit])?;
    let keys = gateway.store.keys();
    let mut tags = vec![keys.patient_tag(&id)];
    if let Some(linkage) = gateway.identity.linkage(&id) {
        let others = gateway.identity.known_as(linkage);
        tags.extend(others.iter().map(|other| keys.patient_tag(other)));
    }
    // The patient asked about stays first.
    let mut known = std::collections::HashSet::new();
    tags.retain(|tag| known.insert(*tag));
    call.note(|record| record.patient = tags.first().map(|tag| tag.to_vec()));
    Ok(tags)
}

/// "Who saw my record": every event about a patient of this community, at this node.
fn report(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ReportPatientAccessRequest,
) -> Answer<Stream<pb::ReportPatientAccessResponse>> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
        permit.require(&[Action::ReadAudit])?;
        let part = Part {
            since: time(request.from.as_ref(), "from")?,
            until: time(request.to.as_ref(), "to")?,
        };
        let tags = tags_of(&gateway, &call, &request)?;
        let slot = slot(&gateway)?;
        let (audit, prove) = (gateway.audit.clone(), request.with_proofs);
        let report = beside(move || audit.report(&tags, prove)).await?;
        call.note(|record| record.items = u32::try_from(report.count()).unwrap_or(u32::MAX));
        let (sender, receiver) = mpsc::channel(16);
        let stop = gateway.stop.clone();
        gateway.tasks.spawn_blocking(move || {
            let _slot = slot;
            if let Err(error) = tell(&report, &part, &sender, &stop) {
                let _reader_is_there = sender.blocking_send(Err(error)).is_ok();
            }
        });
        Ok(Stream { receiver, asked: 0 })
    })
}

/// A place among the streams of the node: each holds a thread while it reads.
///
/// # Errors
/// [`Reason::Overloaded`].
fn slot(gateway: &Gateway) -> Result<OwnedSemaphorePermit> {
    let busy = |_| Error::new(Reason::Overloaded, "too many streams at once; try again");
    Arc::clone(&gateway.streams)
        .try_acquire_owned()
        .map_err(busy)
}

/// The part of time that is asked for.
struct Part {
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
}

impl Part {
    fn has(&self, event: &pb::AuditEvent) -> bool {
        let at = event.recorded.as_ref().and_then(from_timestamp);
        let after = self
            .since
            .is_none_or(|since| at.is_some_and(|at| at >= since));
        after
            && self
                .until
                .is_none_or(|until| at.is_some_and(|at| at < until))
    }
}

type Reader = mpsc::Sender<Result<pb::ReportPatientAccessResponse>>;

/// Sends the events, then the summary.
fn tell(report: &Report, part: &Part, reader: &Reader, stop: &CancellationToken) -> Result<()> {
    use pb::report_patient_access_response::Part as Sent;
    let gone = || Error::new(Reason::DeadlineExceeded, "the reader is gone");
    let send = |part| {
        let message = pb::ReportPatientAccessResponse { part: Some(part) };
        reader.blocking_send(Ok(message)).map_err(|_| gone())
    };
    let proven = report.proven();
    report.tell(&mut |told| {
        if stop.is_cancelled() {
            return Err(Error::new(Reason::ShuttingDown, "the node is stopping"));
        }
        if !part.has(&told.event) {
            return Ok(());
        }
        send(Sent::Event(pb::ProvenEvent {
            proof: report.inclusion(told.event.sequence)?,
            opening: proven.map(|_| told.opening),
            event: Some(told.event),
        }))
    })?;
    let mut summary = pb::ReportSummary {
        event_count: report.count(),
        ..Default::default()
    };
    if let Some(proven) = proven {
        let root = proven.signed.checkpoint.patients.map(|(_, root)| root);
        let root = root.ok_or_else(|| Error::internal("a checkpoint without patients"))?;
        let mut proofs = proven
            .patients
            .iter()
            .map(|(head, proof)| map_message(head, proof, &root));
        summary.checkpoint = proven.signed.note.to_string();
        summary.map_proof = proofs.next();
        summary.more_map_proofs = proofs.collect();
    }
    send(Sent::Summary(summary))
}

/// What shows hashes only, any participant may have: it says nothing to who has no receipt.
fn check(gateway: &Gateway, call: &Call) -> Result<()> {
    let permit = gateway.guard.authorize(call, Action::ReadDirectory)?;
    permit.require(&[Action::ReadDirectory])
}

fn checkpoint(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetCheckpointRequest,
) -> Answer<pb::GetCheckpointResponse> {
    Box::pin(async move {
        check(&gateway, &call)?;
        let log = Arc::clone(gateway.audit.log());
        let latest = log
            .latest()
            .filter(|latest| latest.checkpoint.size >= request.min_size);
        let signed = if let Some(latest) = latest {
            latest
        } else {
            let mut durable = gateway.store.watch();
            let there = durable.wait_for(|last| last.0 >= request.min_size).await;
            // What is borrowed is let go of before the next wait.
            there.map(|_| ()).map_err(Error::internal)?;
            beside(move || log.checkpoint()).await?
        };
        Ok(pb::GetCheckpointResponse {
            checkpoint: signed.note.to_string(),
            size: signed.checkpoint.size,
            root_hash: signed.checkpoint.root.to_vec().into(),
            signed: Some(timestamp(signed.at)),
            verifier_key: gateway.audit.log().verifier().to_string(),
            witness_key: gateway.audit.log().witness_key().to_string(),
        })
    })
}

/// The size a proof leads to, and the checkpoint of that size. If none is asked for, the newest one that
/// is large enough: a new one is signed only if there is none, so that calls do not make the node sign.
fn proved_size(log: &Log, asked: u64, at_least: u64) -> Result<(u64, String)> {
    let signed = match asked {
        0 => Some(match log.latest() {
            Some(latest) if latest.checkpoint.size >= at_least => latest,
            _ => log.checkpoint()?,
        }),
        size => log.signed_at(size),
    };
    let size = signed
        .as_ref()
        .map_or(asked, |signed| signed.checkpoint.size);
    Ok((
        size,
        signed
            .map(|signed| signed.note.to_string())
            .unwrap_or_default(),
    ))
}

fn inclusion(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetInclusionProofRequest,
) -> Answer<pb::GetInclusionProofResponse> {
    Box::pin(async move {
        use pb::get_inclusion_proof_request::Leaf;
        check(&gateway, &call)?;
        let leaf = request.leaf.ok_or_else(|| Error::missing("leaf"))?;
        let log = Arc::clone(gateway.audit.log());
        beside(move || {
            let index = match leaf {
                Leaf::Sequence(index) => index,
                Leaf::LeafHash(hash) => {
                    let hash = hash.as_ref().try_into().map_err(|_| {
                        Error::field(Reason::InvalidField, "leaf_hash", "is not 32 octets")
                    })?;
                    let unknown =
                        || Error::new(Reason::NotFound, "no such leaf was written lately");
                    log.find(&hash, MAX_SOUGHT)?.ok_or_else(unknown)?
                }
            };
            let (size, checkpoint) = proved_size(&log, request.size, index.saturating_add(1))?;
            let (leaf, path) = log.inclusion(index, size)?;
            Ok(pb::GetInclusionProofResponse {
                proof: Some(inclusion_message(index, size, &leaf, &path)),
                checkpoint,
            })
        })
        .await
    })
}

fn consistency(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetConsistencyProofRequest,
) -> Answer<pb::GetConsistencyProofResponse> {
    Box::pin(async move {
        check(&gateway, &call)?;
        let log = Arc::clone(gateway.audit.log());
        beside(move || {
            let (to_size, checkpoint) =
                proved_size(&log, request.to_size, request.from_size.saturating_add(1))?;
            let path = log.consistency(request.from_size, to_size)?;
            Ok(pb::GetConsistencyProofResponse {
                from_size: request.from_size,
                to_size,
                path: path.iter().map(|hash| hash.to_vec().into()).collect(),
                checkpoint,
            })
        })
        .await
    })
}

fn cosign(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::CosignCheckpointRequest,
) -> Answer<pb::CosignCheckpointResponse> {
    Box::pin(async move {
        check(&gateway, &call)?;
        gateway.cosign(&call, request).await
    })
}

/// How an event is written out.
type Form = fn(&pb::AuditEvent, &str) -> Vec<u8>;

fn form(asked: i32) -> Result<Form> {
    match pb::ExportFormat::try_from(asked) {
        Ok(pb::ExportFormat::Fhir) => {
            Ok(|event, id| fhir::resource(event, id).to_string().into_bytes())
        }
        Ok(pb::ExportFormat::Dicom) => Ok(|event, id| syslog::dicom(event, id).into_bytes()),
        Ok(pb::ExportFormat::Record | pb::ExportFormat::Unspecified) => {
            let message = "this version writes FHIR and DICOM";
            Err(Error::field(Reason::NotImplemented, "format", message))
        }
        Err(_) => Err(Error::field(Reason::InvalidField, "format", "is unknown")),
    }
}

/// What is exported, and to whom.
struct Export {
    gateway: Arc<Gateway>,
    institution: String,
    form: Form,
    /// The frames, up to this one.
    from: Sequence,
    to: Sequence,
    reader: mpsc::Sender<Result<pb::ExportEventsResponse>>,
}

impl Export {
    /// Goes through the log, oldest first, with one frame in memory. Blocks.
    fn run(&self) -> Result<()> {
        let store = &self.gateway.store;
        let (keys, store_id) = (store.keys(), store.keys().store_id());
        for frame in store.read_frames(self.from) {
            let frame = frame?;
            // A reader who is gone is not looked for only when there is something to tell.
            if frame.sequence > self.to || self.reader.is_closed() {
                break;
            }
            if self.gateway.stop.is_cancelled() {
                return Err(Error::new(Reason::ShuttingDown, "the node is stopping"));
            }
            let index = index_of(frame.sequence);
            let mut leaf = None;
            for (place, record) in (0..).zip(&frame.audit) {
                let event = event_of(record, index, &self.gateway.home)?;
                let by = event.institution.as_ref();
                if by.is_none_or(|by| by.institution_id != self.institution) {
                    continue;
                }
                let leaf = leaf.get_or_insert_with(|| of_frame(keys, &frame).0);
                let id = fhir::record_id(&store_id, index, place);
                let message = pb::ExportEventsResponse {
                    sequence: index,
                    event: (self.form)(&event, &id).into(),
                    leaf_hash: leaf.to_vec().into(),
                };
                let gone = || Error::new(Reason::DeadlineExceeded, "the reader is gone");
                self.reader.blocking_send(Ok(message)).map_err(|_| gone())?;
            }
        }
        Ok(())
    }
}

/// Takes out an institution's own events, oldest first, for its officer.
fn export(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::ExportEventsRequest,
) -> Answer<Stream<pb::ExportEventsResponse>> {
    Box::pin(async move {
        let permit = gateway.guard.authorize(&call, Action::ReadAudit)?;
        permit.require(&[Action::ReadAudit])?;
        if request.follow {
            let message = "this version exports what is there";
            return Err(Error::field(Reason::NotImplemented, "follow", message));
        }
        let form = form(request.format)?;
        let institution = own(&call, "")?;
        let slot = slot(&gateway)?;
        let last = gateway.store.last_sequence();
        let to = match request.to_sequence {
            0 => last,
            before => last.min(Sequence(before)),
        };
        let (sender, receiver) = mpsc::channel(16);
        let export = Export {
            gateway: Arc::clone(&gateway),
            institution,
            form,
            from: sequence_of(request.from_sequence),
            to,
            reader: sender,
        };
        gateway.tasks.spawn_blocking(move || {
            let _slot = slot;
            if let Err(error) = export.run() {
                let _reader_is_there = export.reader.blocking_send(Err(error)).is_ok();
            }
        });
        Ok(Stream { receiver, asked: 0 })
    })
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
            .stream(method!("ExportEvents"), Class::Query, request, export)
            .await
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        self.0
            .run(method!("GetCheckpoint"), Class::Query, request, checkpoint)
            .await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        self.0
            .run(
                method!("GetInclusionProof"),
                Class::Query,
                request,
                inclusion,
            )
            .await
    }

    async fn cosign_checkpoint(
        &self,
        request: Request<pb::CosignCheckpointRequest>,
    ) -> Result<Response<pb::CosignCheckpointResponse>, Status> {
        self.0
            .run(method!("CosignCheckpoint"), Class::Query, request, cosign)
            .await
    }

    async fn get_consistency_proof(
        &self,
        request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        self.0
            .run(
                method!("GetConsistencyProof"),
                Class::Query,
                request,
                consistency,
            )
            .await
    }
}
