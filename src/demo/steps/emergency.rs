//! Emergency: identify by little, break the glass, the summary, and who saw it.

use anyhow::{Context as _, Result, bail};
use tokio_stream::StreamExt as _;

use crate::demo::actor::Caller;
use crate::demo::messages;
use crate::demo::network::Network;
use crate::demo::report::Checked;
use crate::demo::sample::{SampleRecord, Sex};
use crate::wire::pb::audit as apb;
use crate::wire::pb::audit::audit_service_client::AuditServiceClient;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use crate::wire::pb::identity as ipb;

use super::{ensure, refused};

async fn identify(caller: &Caller, record: &SampleRecord) -> Result<String> {
    let gender = match record.sex {
        Sex::Female => ipb::AdministrativeGender::Female,
        Sex::Male => ipb::AdministrativeGender::Male,
    };
    let request = pb::IdentifyPatientRequest {
        subject: Some(pb::identify_patient_request::Subject::FourItems(
            pb::FourItems {
                name: format!("{} {}", record.family_kana, record.given_kana),
                administrative_gender: gender.into(),
                birth_date: record.birth_date.clone(),
                address: record.city.clone(),
                ..Default::default()
            },
        )),
        birth_date: String::new(),
    };
    let mut client = EmergencyServiceClient::new(caller.channel.clone());
    let found = client
        .identify_patient(caller.request(request))
        .await?
        .into_inner();
    let first = found
        .candidates
        .into_iter()
        .next()
        .context("nobody was identified")?;
    ensure(first.birth_date == record.birth_date, || {
        "somebody else was identified".into()
    })?;
    Ok(first.candidate_ref)
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn reference(candidate: &str) -> Option<pb::PatientRef> {
    Some(pb::PatientRef {
        subject: Some(pb::patient_ref::Subject::CandidateRef(candidate.to_owned())),
    })
}

pub(super) async fn get_summary(
    caller: &Caller,
    patient: Option<pb::PatientRef>,
    grant: &str,
) -> Result<tonic::Response<pb::GetSummaryResponse>, tonic::Status> {
    let request = pb::GetSummaryRequest {
        patient,
        grant_id: grant.to_owned(),
        ..Default::default()
    };
    let mut client = EmergencyServiceClient::new(caller.channel.clone());
    client.get_summary(caller.request(request)).await
}

fn has(summary: &pb::EmergencySummary, section: pb::SummarySection, text: &str) -> bool {
    summary
        .items
        .iter()
        .any(|item| item.section() == section && item.display.contains(text))
}

/// Name in kana, sex, birth date, town: the right person and the summary of all regions.
pub(crate) async fn summary(network: &Network) -> Checked {
    let truth = network.sample.scenario.emergency;
    let hospital = network.emergency_hospital(2 % network.regions.len())?;
    let physician = network.emergency(hospital)?;
    let record = network.record(truth, 0)?;
    let candidate = identify(&physician, record).await?;
    let answer = get_summary(&physician, reference(&candidate), "")
        .await?
        .into_inner();
    let summary = answer.summary.context("no summary")?;
    let completeness = answer.completeness.context("no completeness")?;
    ensure(completeness.complete, || {
        "the summary is not complete".into()
    })?;
    let allergy = has(&summary, pb::SummarySection::Allergy, "ペニシリン")
        || has(&summary, pb::SummarySection::Contraindication, "ペニシリン");
    ensure(allergy, || {
        "the penicillin allergy of region 0 is missing".into()
    })?;
    let warfarin = has(&summary, pb::SummarySection::Medication, "ワルファリン")
        || has(&summary, pb::SummarySection::Medication, "ワーファリン")
        || has(&summary, pb::SummarySection::Dispense, "ワーファリン");
    ensure(warfarin, || "the warfarin of region 1 is missing".into())?;
    let sourced = summary.items.iter().all(|item| {
        !item.sources.is_empty()
            && item
                .sources
                .iter()
                .all(|source| !source.home_community_id.is_empty())
    });
    ensure(sourced, || "an item without source".into())?;
    Ok(vec![
        "identified by kana name, sex, birth date and town".to_owned(),
        format!(
            "{} items and {} documents from {} regions, complete; penicillin allergy (region 0) \
             and warfarin (region 1) among them, every item with its source",
            summary.items.len(),
            summary.documents.len(),
            completeness.regions.len()
        ),
    ])
}

/// Consent cannot be had and the patient had opted out: break-glass, with reason and notice.
pub(crate) async fn break_glass(network: &Network) -> Checked {
    let truth = network.sample.scenario.opted_out;
    let hospital = network.emergency_hospital(2 % network.regions.len())?;
    let physician = network.emergency(hospital)?;
    let candidate = identify(&physician, network.record(truth, 0)?).await?;
    let without = get_summary(&physician, reference(&candidate), "").await;
    refused(without, tonic::Code::PermissionDenied, "NOT_PERMITTED")?;

    let mut client = EmergencyServiceClient::new(physician.channel.clone());
    let request = pb::OpenBreakGlassRequest {
        patient: reference(&candidate),
        reason: pb::BreakGlassReason::Unconscious.into(),
        reason_text: String::new(),
        declares_consent_impossible: true,
        ..Default::default()
    };
    let silent = client
        .open_break_glass(physician.request(request.clone()))
        .await;
    refused(silent, tonic::Code::InvalidArgument, "INVALID_FIELD")?;
    let request = pb::OpenBreakGlassRequest {
        reason_text: "意識障害のため同意を得られない".to_owned(),
        ..request
    };
    let grant = client
        .open_break_glass(physician.request(request))
        .await?
        .into_inner();
    let answer = get_summary(&physician, reference(&candidate), &grant.grant_id).await?;
    let answer = answer.into_inner();
    ensure(answer.completeness.is_some_and(|all| all.complete), || {
        "not complete".into()
    })?;
    let documents = answer.summary.map_or(0, |summary| summary.documents.len());
    ensure(documents > 0, || "break-glass showed nothing".into())?;

    let officer = network.officer(None, hospital)?;
    let mut client = EmergencyServiceClient::new(officer.channel.clone());
    let notices = client
        .list_access_notices(officer.request(pb::ListAccessNoticesRequest::default()))
        .await?
        .into_inner()
        .notices;
    let notice = notices
        .iter()
        .find(|notice| notice.grant_id == grant.grant_id);
    let notice = notice.context("no notice for the privacy officer")?;
    ensure(notice.review() == pb::ReviewStatus::Pending, || {
        "not to be reviewed".into()
    })?;
    Ok(vec![
        "without break-glass refused: the patient had opted out".to_owned(),
        "break-glass without a reason refused".to_owned(),
        format!("with reason: summary over {documents} documents"),
        "the privacy officer has the notice, with reason, to review".to_owned(),
    ])
}

/// "Who saw my record": the accesses of the steps before, at the hub and at the region.
pub(crate) async fn audit(network: &Network) -> Checked {
    let truth = network.sample.scenario.opted_out;
    let record = network.record(truth, 0)?;
    let institution = network.institution(record)?;
    let patient = messages::patient_id(institution, &record.local_id);
    let mut checked = Vec::new();
    for (place, region) in [("hub", None), ("region 0", Some(0))] {
        let officer = network.officer(region, institution)?;
        let events = report(&officer, patient.clone()).await?;
        let emergency = events.iter().any(|event| {
            event.emergency
                && !event.grant_id.is_empty()
                && event.outcome() == apb::Outcome::Success
        });
        ensure(emergency, || {
            format!("the break-glass access is not in the audit of the {place}")
        })?;
        if region.is_none() {
            let denied = events
                .iter()
                .any(|event| event.outcome() == apb::Outcome::Denied);
            ensure(denied, || "the refusals are not in the hub's audit".into())?;
        }
        checked.push(format!(
            "{} events about the patient at the {place}",
            events.len()
        ));
    }
    Ok(checked)
}

async fn report(
    officer: &Caller,
    patient: crate::wire::pb::common::Identifier,
) -> Result<Vec<apb::AuditEvent>> {
    use apb::report_patient_access_response::Part;
    let request = apb::ReportPatientAccessRequest {
        patient: Some(apb::report_patient_access_request::Patient::PatientId(
            patient,
        )),
        ..Default::default()
    };
    let mut client = AuditServiceClient::new(officer.channel.clone());
    let mut stream = client
        .report_patient_access(officer.request(request))
        .await?
        .into_inner();
    let mut events = Vec::new();
    let mut total = None;
    while let Some(message) = stream.next().await {
        match message?.part {
            Some(Part::Event(event)) => events.extend(event.event),
            Some(Part::Summary(summary)) => total = Some(summary.event_count),
            None => {}
        }
    }
    if total != Some(events.len() as u64) {
        bail!("the report says {total:?} events and has {}", events.len());
    }
    Ok(events)
}
