//! Emergency: candidates that tell little, and break-glass bound to one person, one patient, a time.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::demo::messages;
use renkei::demo::sample::{SampleRecord, Sex};
use renkei::demo::world::Actor;
use renkei::error::Reason;
use renkei::types::PurposeOfUse;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use renkei::wire::pb::identity as ipb;
use tonic::Status;

use crate::support::calls::{feed, identifiers, opt_out};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, emergency_physician, officer, physician};

const LENGTH: Duration = Duration::from_mins(10);

fn client(caller: &Caller) -> EmergencyServiceClient<tonic::transport::Channel> {
    EmergencyServiceClient::new(caller.channel.clone())
}

#[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
fn named(patient: cpb::Identifier) -> Option<pb::PatientRef> {
    Some(pb::PatientRef {
        subject: Some(pb::patient_ref::Subject::PatientId(patient)),
    })
}

async fn open(caller: &Caller, patient: cpb::Identifier) -> Result<String, Status> {
    let request = pb::OpenBreakGlassRequest {
        patient: named(patient),
        reason: pb::BreakGlassReason::Unconscious.into(),
        reason_text: "意識障害のため同意を得られない".to_owned(),
        declares_consent_impossible: true,
        duration: Some(prost_types::Duration {
            seconds: i64::try_from(LENGTH.as_secs()).unwrap(),
            nanos: 0,
        }),
        ..Default::default()
    };
    let opened = client(caller)
        .open_break_glass(caller.request(request))
        .await?;
    Ok(opened.into_inner().grant_id)
}

async fn close(caller: &Caller, grant: &str) -> Result<(), Status> {
    let request = pb::CloseBreakGlassRequest {
        grant_id: grant.to_owned(),
        explanation: "本人に説明した".to_owned(),
        ..Default::default()
    };
    let closed = client(caller)
        .close_break_glass(caller.request(request))
        .await;
    closed.map(|_| ())
}

async fn summary(
    caller: &Caller,
    patient: cpb::Identifier,
    grant: &str,
) -> Result<pb::GetSummaryResponse, Status> {
    let request = pb::GetSummaryRequest {
        patient: named(patient),
        grant_id: grant.to_owned(),
        ..Default::default()
    };
    let answer = client(caller).get_summary(caller.request(request)).await?;
    Ok(answer.into_inner())
}

async fn notices(network: &Network, institution: &str) -> Vec<pb::AccessNotice> {
    let caller = network.acting(At::Hub, &officer(institution));
    let request = caller.request(pb::ListAccessNoticesRequest::default());
    let answer = client(&caller).list_access_notices(request).await;
    answer.unwrap().into_inner().notices
}

/// A patient who opted out, another who did not, and two hospitals.
struct Case {
    network: Network,
    clock: Arc<ManualClock>,
    patient: cpb::Identifier,
    bystander: cpb::Identifier,
    hospitals: [String; 2],
}

impl Case {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let network = Setup::federation(2).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let network = network.start().await;
        let truth = network.sample.scenario.opted_out;
        network.load_person(truth).await;
        let other = network.sample.scenario.cross_region;
        network.feed_person(other).await;
        let record = network.record(truth, 0);
        let patient = network.patient(record);
        let code = &network.institution(record).code;
        let clerk = network.acting(At::Region(0), &physician(code));
        opt_out(&clerk, patient.clone()).await;
        network.settled().await;
        let bystander = network.patient(network.record(other, 0));
        let hospital = |region| network.emergency_hospitals(region)[0].code.clone();
        let hospitals = [hospital(0), hospital(1)];
        Self {
            network,
            clock,
            patient,
            bystander,
            hospitals,
        }
    }

    fn caller(&self, subject: &str, hospital: usize) -> Caller {
        let doctor = emergency_physician(subject, &self.hospitals[hospital]);
        self.network.acting(At::Hub, &doctor)
    }

    async fn summary(&self, caller: &Caller, grant: &str) -> Result<(), Status> {
        let answer = summary(caller, self.patient.clone(), grant).await;
        answer.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_for_one_person_and_one_patient() {
    let case = Case::new().await;
    let doctor = case.caller("E-1", 0);
    refused(case.summary(&doctor, "").await, Reason::NotPermitted);
    let grant = open(&doctor, case.patient.clone()).await.unwrap();
    let shown = summary(&doctor, case.patient.clone(), &grant)
        .await
        .unwrap();
    assert!(
        !shown.summary.unwrap().documents.is_empty(),
        "the grant shows something"
    );
    assert!(shown.completeness.unwrap().complete);

    for (who, caller) in [
        ("a colleague", case.caller("E-2", 0)),
        ("the same number at another hospital", case.caller("E-1", 1)),
    ] {
        println!("{who}");
        refused(case.summary(&caller, &grant).await, Reason::NotPermitted);
        refused(close(&caller, &grant).await, Reason::NotPermitted);
    }
    let treating = Actor {
        purpose: PurposeOfUse::Treatment,
        ..emergency_physician("E-1", &case.hospitals[0])
    };
    let treating = case.network.acting(At::Hub, &treating);
    refused(case.summary(&treating, &grant).await, Reason::NotPermitted);
    let other = summary(&doctor, case.bystander.clone(), &grant).await;
    refused(other, Reason::NotPermitted);
    let invented = uuid::Uuid::new_v4().to_string();
    refused(case.summary(&doctor, &invented).await, Reason::NotPermitted);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_comes_in_every_form_to_who_may_have_it() {
    let case = Case::new().await;
    let doctor = case.caller("E-1", 0);
    let ask = async |caller: &Caller, form: pb::SummaryForm, grant: &str, language: &str| {
        let request = pb::GetSummaryDocumentRequest {
            patient: named(case.patient.clone()),
            grant_id: grant.to_owned(),
            form: form.into(),
            language: language.to_owned(),
            ..Default::default()
        };
        let answer = client(caller)
            .get_summary_document(caller.request(request))
            .await;
        answer.map(tonic::Response::into_inner)
    };
    let html = pb::SummaryForm::Html;
    refused(ask(&doctor, html, "", "").await, Reason::NotPermitted);
    let grant = open(&doctor, case.patient.clone()).await.unwrap();
    let colleague = case.caller("E-2", 0);
    refused(
        ask(&colleague, html, &grant, "").await,
        Reason::NotPermitted,
    );
    refused(ask(&doctor, html, &grant, "fr").await, Reason::InvalidField);

    let truth = case.network.sample.scenario.opted_out;
    let family = &case.network.record(truth, 0).family_kanji;
    for (form, mime_type, begins) in [
        (
            pb::SummaryForm::FhirIps,
            "application/fhir+json",
            "{\"resourceType\":\"Bundle\"",
        ),
        (html, "text/html; charset=utf-8", "<!DOCTYPE html>"),
        (pb::SummaryForm::Pdf, "application/pdf", "%PDF-1.7"),
    ] {
        let answer = ask(&doctor, form, &grant, "ja").await.unwrap();
        assert_eq!(answer.mime_type, mime_type);
        assert!(answer.document.starts_with(begins.as_bytes()), "{form:?}");
        assert!(answer.completeness.unwrap().complete && !answer.summary_id.is_empty());
        let text = String::from_utf8_lossy(&answer.document);
        assert!(
            form == pb::SummaryForm::Pdf || text.contains(family),
            "{form:?}"
        );
    }
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_ends() {
    let case = Case::new().await;
    let doctor = case.caller("E-1", 0);
    let closed = open(&doctor, case.patient.clone()).await.unwrap();
    case.summary(&doctor, &closed).await.unwrap();
    close(&doctor, &closed).await.unwrap();
    refused(case.summary(&doctor, &closed).await, Reason::NotPermitted);
    refused(close(&doctor, &closed).await, Reason::WrongState);

    let over = open(&doctor, case.patient.clone()).await.unwrap();
    assert_ne!(over, closed);
    let last = Duration::from_secs(1);
    case.clock.advance(LENGTH.saturating_sub(last));
    case.summary(&doctor, &over)
        .await
        .expect("to the last second");
    case.clock.advance(last);
    refused(case.summary(&doctor, &over).await, Reason::NotPermitted);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_for_the_own_officer() {
    let case = Case::new().await;
    let doctor = case.caller("E-1", 0);
    let grant = open(&doctor, case.patient.clone()).await.unwrap();
    let own = notices(&case.network, &case.hospitals[0]).await;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].grant_id, grant);
    assert_eq!(own[0].review(), pb::ReviewStatus::Pending);
    assert_eq!(own[0].reason_text, "意識障害のため同意を得られない");
    assert!(notices(&case.network, &case.hospitals[1]).await.is_empty());

    let review = |caller: Caller| {
        let request = caller.request(pb::ReviewAccessRequest {
            notice_id: own[0].notice_id.clone(),
            review: pb::ReviewStatus::Justified.into(),
            ..Default::default()
        });
        async move { client(&caller).review_access(request).await }
    };
    let other = case.network.acting(At::Hub, &officer(&case.hospitals[1]));
    refused(review(other).await, Reason::NotFound);
    refused(review(case.caller("E-1", 0)).await, Reason::NotPermitted);
    let own = case.network.acting(At::Hub, &officer(&case.hospitals[0]));
    let reviewed = review(own).await.unwrap().into_inner().notice.unwrap();
    assert_eq!(reviewed.review(), pb::ReviewStatus::Justified);

    let request = doctor.request(pb::ListAccessNoticesRequest::default());
    let listed = client(&doctor).list_access_notices(request).await;
    refused(listed, Reason::NotPermitted);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_glass_is_asked_for_properly() {
    let case = Case::new().await;
    let doctor = case.caller("E-1", 0);
    let good = pb::OpenBreakGlassRequest {
        patient: named(case.patient.clone()),
        reason: pb::BreakGlassReason::Unconscious.into(),
        reason_text: "意識障害のため同意を得られない".to_owned(),
        declares_consent_impossible: true,
        ..Default::default()
    };
    let ask = |request: pb::OpenBreakGlassRequest| {
        let doctor = doctor.clone();
        async move {
            let request = doctor.request(request);
            client(&doctor).open_break_glass(request).await
        }
    };
    let request = pb::OpenBreakGlassRequest {
        reason: 0,
        ..good.clone()
    };
    refused(ask(request).await, Reason::MissingField);
    let request = pb::OpenBreakGlassRequest {
        reason_text: "    -    ".to_owned(),
        ..good.clone()
    };
    refused(ask(request).await, Reason::InvalidField);
    let request = pb::OpenBreakGlassRequest {
        declares_consent_impossible: false,
        ..good.clone()
    };
    refused(ask(request).await, Reason::MissingField);
    let request = pb::OpenBreakGlassRequest {
        duration: Some(prost_types::Duration {
            seconds: 365 * 24 * 3600,
            nanos: 0,
        }),
        ..good
    };
    let expires = ask(request).await.unwrap().into_inner().expires.unwrap();
    let day = case.clock.now() + jiff::SignedDuration::from_hours(24);
    assert_eq!(expires.seconds, day.as_second(), "24 hours at most");
    case.network.stop().await;
}

/// Twelve people with the same birth date, at one institution.
fn many(record: &SampleRecord) -> Vec<SampleRecord> {
    let names = [
        "青木", "石田", "上野", "遠藤", "大島", "片山", "木下", "黒田", "坂本", "島田", "杉山",
        "関口",
    ];
    let kana = [
        "アオキ",
        "イシダ",
        "ウエノ",
        "エンドウ",
        "オオシマ",
        "カタヤマ",
        "キノシタ",
        "クロダ",
        "サカモト",
        "シマダ",
        "スギヤマ",
        "セキグチ",
    ];
    names
        .into_iter()
        .zip(kana)
        .enumerate()
        .map(|(number, (kanji, kana))| SampleRecord {
            local_id: format!("777000{number:02}"),
            family_kanji: kanji.to_owned(),
            family_kana: kana.to_owned(),
            family_romaji: String::new(),
            given_romaji: String::new(),
            birth_date: "1951-03-09".to_owned(),
            birth_date_text: "1951-03-09".to_owned(),
            phone: format!("03-0000-00{number:02}"),
            line: format!("見本町{number}"),
            number: format!("90000{number:02}"),
            ..record.clone()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_are_few_and_tell_little() {
    let network = Setup::federation(2).start().await;
    let record = network.record(network.sample.scenario.cross_region, 0);
    let institution = network.institution(record);
    let system = network.system(At::Region(0), institution);
    let people = many(record);
    for record in &people {
        feed(&system, messages::feed(institution, record))
            .await
            .unwrap();
    }
    network.settled().await;
    let at_hub = network.system(At::Hub, institution);
    let mut linkages = Vec::new();
    for record in &people {
        let known = identifiers(&at_hub, network.patient(record)).await.unwrap();
        linkages.push(known.into_inner().linkage_id);
    }
    linkages.sort_unstable();
    linkages.dedup();
    assert_eq!(linkages.len(), people.len(), "twelve people are twelve");

    let hospital = &network.emergency_hospitals(0)[0].code;
    let doctor = network.acting(At::Hub, &emergency_physician("E-1", hospital));
    let gender = match record.sex {
        Sex::Female => ipb::AdministrativeGender::Female,
        Sex::Male => ipb::AdministrativeGender::Male,
    };
    let request = pb::IdentifyPatientRequest {
        subject: Some(pb::identify_patient_request::Subject::FourItems(
            pb::FourItems {
                birth_date: "1951-03-09".to_owned(),
                administrative_gender: gender.into(),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    let found = client(&doctor)
        .identify_patient(doctor.request(request))
        .await;
    let found = found.unwrap().into_inner();
    assert_eq!(found.candidates.len(), 5);
    assert!(found.more, "and says that there are more");
    assert!(!found.next_questions.is_empty());
    let bytes = found.encode_to_vec();
    let told = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    for linkage in &linkages {
        assert!(!told(linkage), "a linkage id was told");
    }
    for record in &people {
        assert!(!told(&record.local_id) && !told(&record.phone) && !told(&record.number));
    }

    let reference = &found.candidates[0].candidate_ref;
    a_reference_is_for_who_got_it(&network, reference, hospital).await;
    network.stop().await;
}

/// Another institution can do nothing with it.
async fn a_reference_is_for_who_got_it(network: &Network, reference: &str, hospital: &str) {
    let doctor = network.acting(At::Hub, &emergency_physician("E-1", hospital));
    let patient = Some(pb::PatientRef {
        subject: Some(pb::patient_ref::Subject::CandidateRef(reference.to_owned())),
    });
    let ask = async |caller: &Caller| {
        let request = pb::GetSummaryRequest {
            patient: patient.clone(),
            ..Default::default()
        };
        client(caller).get_summary(caller.request(request)).await
    };
    ask(&doctor).await.expect("the own reference is understood");
    let other = &network.emergency_hospitals(1)[0].code;
    let other = network.acting(At::Hub, &emergency_physician("E-1", other));
    // The same words as for a patient who is not there (INV-3).
    refused(ask(&other).await, Reason::NotPermitted);
}
