//! Care records of family and doctor: taken as structure, stored as documents, shown in the summary.

use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::types::PersonRole;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::identity as ipb;
use tonic::Status;

use crate::support::expect::refused;

use crate::support::{At, Network, Setup, emergency_physician, person, physician};

const HERE: At = At::Region(0);

fn client(caller: &Caller) -> EmergencyServiceClient<tonic::transport::Channel> {
    EmergencyServiceClient::new(caller.channel.clone())
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn somebody(subject: &str, name: &str) -> Option<cpb::PersonRef> {
    Some(cpb::PersonRef {
        subject: subject.to_owned(),
        display_name: name.to_owned(),
        ..cpb::PersonRef::default()
    })
}

/// A record of one instruction and one contact.
fn record(patient: cpb::Identifier, action: &str) -> pb::CareRecord {
    pb::CareRecord {
        patient_id: Some(patient),
        contacts: vec![pb::EmergencyContact {
            name: "山田 花子".to_owned(),
            telecoms: vec![ipb::Telecom {
                value: "090-0000-0001".to_owned(),
                ..ipb::Telecom::default()
            }],
            rank: 1,
            ..pb::EmergencyContact::default()
        }],
        instructions: vec![pb::CareInstruction {
            situation: "カニューレ抜去時".to_owned(),
            action: action.to_owned(),
            instructed_by: None,
        }],
        author: somebody("F-1", "山田 花子"),
        ..pb::CareRecord::default()
    }
}

struct Case {
    network: Network,
    patient: cpb::Identifier,
}

impl Case {
    async fn new() -> Self {
        let network = Setup::federation(2).start().await;
        let truth = network.sample.scenario.cross_region;
        network.feed_person(truth).await;
        let patient = network.patient(network.record(truth, 0));
        Self { network, patient }
    }

    fn institution(&self) -> &str {
        let truth = self.network.sample.scenario.cross_region;
        let record = self.network.record(truth, 0);
        &self.network.institution(record).code
    }

    fn doctor(&self) -> Caller {
        self.network.acting(HERE, &physician(self.institution()))
    }

    async fn submit(
        &self,
        caller: &Caller,
        record: pb::CareRecord,
        (expected_version, key): (u32, &str),
    ) -> Result<pb::SubmitCareRecordResponse, Status> {
        let request = caller.request(pb::SubmitCareRecordRequest {
            record: Some(record),
            expected_version,
            idempotency_key: key.to_owned(),
        });
        let answer = client(caller).submit_care_record(request).await?;
        Ok(answer.into_inner())
    }

    /// What the summary at the hub says under break-glass.
    async fn summary(&self) -> pb::EmergencySummary {
        let hospital = &self.network.emergency_hospitals(0)[0].code;
        let doctor = emergency_physician("E-1", hospital);
        let doctor = self.network.acting(At::Hub, &doctor);
        let patient = Some(pb::PatientRef {
            subject: Some(pb::patient_ref::Subject::PatientId(self.patient.clone())),
        });
        let request = doctor.request(pb::OpenBreakGlassRequest {
            patient: patient.clone(),
            reason: pb::BreakGlassReason::Unconscious.into(),
            reason_text: "意識障害のため同意を得られない".to_owned(),
            declares_consent_impossible: true,
            ..Default::default()
        });
        let opened = client(&doctor).open_break_glass(request).await.unwrap();
        let request = doctor.request(pb::GetSummaryRequest {
            patient,
            grant_id: opened.into_inner().grant_id,
            ..Default::default()
        });
        let answer = client(&doctor).get_summary(request).await.unwrap();
        answer.into_inner().summary.unwrap()
    }
}

/// What is to be done, by the summary.
fn actions(summary: &pb::EmergencySummary) -> Vec<String> {
    use pb::item_value::Value;
    let care = summary.items.iter();
    let care = care.filter(|item| item.section() == pb::SummarySection::Care);
    care.filter_map(|item| match &item.value.as_ref()?.value {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_care_record_is_stored_replaced_and_shown() {
    let case = Case::new().await;
    let doctor = case.doctor();
    let first = record(case.patient.clone(), "予備を挿入する");
    let one = case.submit(&doctor, first.clone(), (0, "a")).await.unwrap();
    assert_eq!(one.version, 1);
    let again = case.submit(&doctor, first.clone(), (0, "a")).await.unwrap();
    assert_eq!(again, one, "a repeat is answered as the first");
    let other = record(case.patient.clone(), "別の内容");
    let mismatch = case.submit(&doctor, other.clone(), (0, "a")).await;
    refused(mismatch.map(|_| ()), Reason::IdempotencyMismatch);
    case.network.settled().await;
    let shown = case.summary().await;
    assert_eq!(actions(&shown), ["予備を挿入する"]);
    let contacts = shown.items.iter();
    let contact = contacts
        .clone()
        .find(|item| item.section() == pb::SummarySection::Contact);
    assert_eq!(contact.unwrap().display, "山田 花子");
    let stated = pb::VerificationStatus::PatientStated;
    assert!(
        shown
            .items
            .iter()
            .all(|item| item.verification_status() == stated)
    );

    let stale = case.submit(&doctor, other, (7, "b")).await;
    refused(stale.map(|_| ()), Reason::ConcurrentChange);
    let mut approved = record(case.patient.clone(), "予備を挿入し酸素を流す");
    approved.approval = Some(pb::Approval {
        approved_by: somebody("D-1001", "佐藤 医師"),
        approved: Some(prost_types::Timestamp {
            seconds: case.network.clock.now().as_second() - 1,
            nanos: 0,
        }),
        version: 2,
        valid_to: None,
    });
    let two = case.submit(&doctor, approved, (1, "c")).await.unwrap();
    assert_eq!(two.version, 2);
    assert_ne!(two.document, one.document);
    case.network.settled().await;
    let shown = case.summary().await;
    assert_eq!(
        actions(&shown),
        ["予備を挿入し酸素を流す"],
        "the former is replaced"
    );
    assert!(
        shown
            .items
            .iter()
            .all(|item| item.verification_status() != stated)
    );
    let late = case.submit(&doctor, first, (0, "a")).await.unwrap();
    assert_eq!(late, one, "also after it was replaced");
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_care_record_is_refused_to_who_may_not_submit_it() {
    let case = Case::new().await;
    let good = record(case.patient.clone(), "予備を挿入する");
    let clerk = person("C-1", PersonRole::Clerk, case.institution());
    let clerk = case.network.acting(HERE, &clerk);
    let answer = case.submit(&clerk, good.clone(), (0, "a")).await;
    refused(answer.map(|_| ()), Reason::NotPermitted);
    let doctor = case.doctor();
    let mut unknown = good.clone();
    unknown.patient_id.as_mut().unwrap().value.push('9');
    let answer = case.submit(&doctor, unknown, (0, "b")).await;
    refused(answer.map(|_| ()), Reason::UnknownPatient);
    let mut foreign = good.clone();
    foreign.approval = Some(pb::Approval {
        approved_by: somebody("D-9", "別の医師"),
        approved: Some(prost_types::Timestamp {
            seconds: case.network.clock.now().as_second() - 1,
            nanos: 0,
        }),
        ..pb::Approval::default()
    });
    let answer = case.submit(&doctor, foreign, (0, "c")).await;
    refused(answer.map(|_| ()), Reason::InvalidField);
    let hub = physician(case.institution());
    let hub = case.network.acting(At::Hub, &hub);
    let answer = case.submit(&hub, good, (0, "d")).await;
    refused(answer.map(|_| ()), Reason::RoleNotServed);
    case.network.stop().await;
}
