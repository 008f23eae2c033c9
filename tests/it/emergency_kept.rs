//! What the hub keeps of the regions' answers: shown when a region is silent, with its date, to whom it
//! may be shown now, and never in place of an answer.

use std::sync::Arc;
use std::time::Duration;

use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::identity::identifier;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::common::RegionState;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use tonic::Status;

use crate::support::calls::{permit, withdraw};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, emergency_physician, eventually, physician};

const REGION: At = At::Region(1);

fn client(caller: &Caller) -> EmergencyServiceClient<tonic::transport::Channel> {
    EmergencyServiceClient::new(caller.channel.clone())
}

/// A person of two regions with documents in both.
struct Case {
    network: Network,
    clock: Arc<ManualClock>,
    truth: usize,
    patient: cpb::Identifier,
}

impl Case {
    async fn new() -> Self {
        Self::where_enrolment_is("opt-out").await
    }

    /// In a network where enrolment is consent until the patient opts out, or is not until one opts in.
    async fn where_enrolment_is(consent: &str) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let network = Setup::federation(2)
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .set("emergency.contribution_hours", "1")
            .set("consent.cross_community", consent)
            .start()
            .await;
        let truth = network.sample.scenario.cross_region;
        network.load_person(truth).await;
        let patient = network.patient(network.record(truth, 0));
        Self {
            network,
            clock,
            truth,
            patient,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the field is optional")]
    fn named(&self) -> Option<pb::PatientRef> {
        Some(pb::PatientRef {
            subject: Some(pb::patient_ref::Subject::PatientId(self.patient.clone())),
        })
    }

    fn doctor(&self) -> Caller {
        let hospital = &self.network.emergency_hospitals(0)[0].code;
        let doctor = emergency_physician("E-1", hospital);
        self.network.acting(At::Hub, &doctor)
    }

    async fn grant(&self, caller: &Caller) -> String {
        let request = pb::OpenBreakGlassRequest {
            patient: self.named(),
            reason: pb::BreakGlassReason::Unconscious.into(),
            reason_text: "意識障害のため同意を得られない".to_owned(),
            declares_consent_impossible: true,
            ..Default::default()
        };
        let opened = client(caller)
            .open_break_glass(caller.request(request))
            .await;
        opened.unwrap().into_inner().grant_id
    }

    async fn ask(
        &self,
        caller: &Caller,
        grant: &str,
        max_age: Option<Duration>,
    ) -> Result<Shown, Status> {
        let request = pb::GetSummaryRequest {
            patient: self.named(),
            grant_id: grant.to_owned(),
            max_age: max_age.map(|age| age.try_into().unwrap()),
            ..Default::default()
        };
        let answer = client(caller).get_summary(caller.request(request)).await?;
        let answer = answer.into_inner();
        Ok(Shown {
            home: self.network.node(REGION).home.clone(),
            summary: answer.summary.unwrap(),
            completeness: answer.completeness.unwrap(),
        })
    }

    /// Waits until the hub has kept what the region said.
    async fn kept(&self) {
        let hub = self.network.gateway(At::Hub);
        let record = self.network.record(self.truth, 1);
        let patient = self.network.patient(record);
        let patient = identifier(Some(&patient), "patient").unwrap();
        let home = self.network.node(REGION).home.parse().unwrap();
        eventually("the answer is kept", || async {
            let contributions = &hub.federation.contributions;
            let kept = contributions.of(&home, std::slice::from_ref(&patient), Duration::MAX);
            kept.unwrap()[0].is_some().then_some(())
        })
        .await;
    }
}

struct Shown {
    home: String,
    summary: pb::EmergencySummary,
    completeness: cpb::Completeness,
}

impl Shown {
    fn region(&self) -> &cpb::RegionStatus {
        let mut regions = self.completeness.regions.iter();
        let region = regions.find(|region| region.home_community_id == self.home);
        region.expect("the region is told of")
    }

    /// Documents of the region.
    fn documents(&self) -> Vec<cpb::DocumentRef> {
        let all = self.summary.documents.iter();
        all.filter_map(|listed| listed.document.clone())
            .filter(|document| document.home_community_id == self.home)
            .collect()
    }

    fn is_said_to_be_missing(&self) -> bool {
        self.summary.absences.iter().any(|absence| {
            absence.reason() == pb::AbsenceReason::Unreachable
                && absence.home_community_ids.contains(&self.home)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_region_is_shown_as_it_answered_until_that_is_too_old() {
    let mut case = Case::new().await;
    let doctor = case.doctor();
    let grant = case.grant(&doctor).await;
    let live = case.ask(&doctor, &grant, None).await.unwrap();
    assert!(live.completeness.complete && !live.summary.cached);
    assert_eq!(live.region().state(), RegionState::Ok);
    assert!(!live.documents().is_empty());
    case.kept().await;

    case.network.stop_node(REGION).await;
    let passed = Duration::from_mins(10);
    case.clock.advance(passed);
    let before = case.ask(&doctor, &grant, None).await.unwrap();
    assert_eq!(before.region().state(), RegionState::Stale);
    assert_eq!(before.documents(), live.documents());
    assert!(before.summary.cached && before.is_said_to_be_missing());
    assert!(!before.completeness.complete);
    let of = |shown: &Shown| shown.region().as_of.unwrap().seconds;
    assert_eq!(of(&before), of(&live), "and says when");
    let composed = before.summary.composed.unwrap().seconds;
    assert_eq!(composed - of(&before), 600);
    let old = before.summary.items.iter().flat_map(|item| &item.sources);
    for source in old.filter(|source| source.home_community_id == before.home) {
        assert_eq!(source.as_of.unwrap().seconds, of(&live));
    }

    case.clock.advance(Duration::from_mins(51));
    // The assertion of before is over, the grant is not.
    let doctor = case.doctor();
    let late = case.ask(&doctor, &grant, None).await.unwrap();
    assert!(late.documents().is_empty() && !late.summary.cached);
    assert_eq!(late.region().state(), RegionState::Unreachable);
    assert!(late.is_said_to_be_missing());
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_answer_is_taken_only_by_who_is_content_with_it() {
    let case = Case::new().await;
    let doctor = case.doctor();
    let grant = case.grant(&doctor).await;
    let live = case.ask(&doctor, &grant, None).await.unwrap();
    case.kept().await;
    case.clock.advance(Duration::from_mins(10));
    let at_most = |minutes| Some(Duration::from_mins(minutes));
    let old = case.ask(&doctor, &grant, at_most(11)).await.unwrap();
    assert_eq!(old.region().state(), RegionState::Stale);
    assert_eq!(old.documents(), live.documents());
    assert!(old.summary.cached && !old.completeness.complete);
    assert!(!old.is_said_to_be_missing(), "it was not asked");
    for age in [None, at_most(0), at_most(9)] {
        let new = case.ask(&doctor, &grant, age).await.unwrap();
        assert_eq!(new.region().state(), RegionState::Ok, "{age:?}");
        assert!(new.completeness.complete && !new.summary.cached);
    }
    let wrong = case.ask(&doctor, &grant, at_most(25 * 60)).await;
    refused(wrong.map(|_| ()), renkei::error::Reason::InvalidField);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_consent_holds_for_what_is_kept() {
    let mut case = Case::where_enrolment_is("opt-in").await;
    let there = case.network.record(case.truth, 1);
    let clerk = physician(&case.network.institution(there).code);
    let clerk = case.network.acting(REGION, &clerk);
    let theirs = case.network.patient(there);
    let consent = permit(&clerk, theirs, cpb::Confidentiality::Normal).await;
    // A permission of another region is none for this one's records.
    let here = case.network.record(case.truth, 0);
    let other = physician(&case.network.institution(here).code);
    let other = case.network.acting(At::Region(0), &other);
    permit(&other, case.patient.clone(), cpb::Confidentiality::Normal).await;
    case.network.settled().await;
    let reader = physician(&case.network.institution(here).code);
    let reader = case.network.acting(At::Hub, &reader);
    let live = case.ask(&reader, "", None).await.unwrap();
    assert_eq!(live.region().state(), RegionState::Ok);
    assert!(!live.documents().is_empty());
    case.kept().await;
    case.network.stop_node(REGION).await;
    let before = case.ask(&reader, "", None).await.unwrap();
    assert_eq!(before.documents(), live.documents());

    case.network.start_node(REGION).await;
    let clerk = physician(
        &case
            .network
            .institution(case.network.record(case.truth, 1))
            .code,
    );
    let clerk = case.network.acting(REGION, &clerk);
    withdraw(&clerk, &consent.consent_id).await.unwrap();
    case.network.settled().await;
    case.network.stop_node(REGION).await;
    let after = case.ask(&reader, "", None).await.unwrap();
    assert_eq!(after.documents(), [], "{:?}", after.region());
    let content = after.ask_again_with_age(&case, &reader).await;
    assert!(content.documents().is_empty());
    case.network.stop().await;
}

impl Shown {
    /// The same with an older answer allowed.
    async fn ask_again_with_age(&self, case: &Case, reader: &Caller) -> Self {
        let age = Some(Duration::from_mins(59));
        case.ask(reader, "", age).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_removed_is_not_shown_of_before() {
    let mut case = Case::new().await;
    let doctor = case.doctor();
    let grant = case.grant(&doctor).await;
    let live = case.ask(&doctor, &grant, None).await.unwrap();
    case.kept().await;
    let document = case.network.sample.documents_of(case.truth);
    let document = document.into_iter().find(|one| one.region == 1).unwrap();
    let institution = &case.network.sample.regions[1].institutions[document.institution];
    let system = case.network.system(REGION, institution);
    let mut documents = DocumentServiceClient::new(system.channel.clone());
    let mut gone = None;
    for one in live.documents() {
        let request = system.request(dpb::RemoveDocumentsRequest {
            documents: vec![one.clone()],
            reason: "誤って登録した".to_owned(),
            ..Default::default()
        });
        // Those of other institutions are not this one's to remove.
        if documents.remove_documents(request).await.is_ok() {
            gone = Some(one);
            break;
        }
    }
    let gone = gone.expect("one of them is the institution's");
    case.network.settled().await;
    case.network.stop_node(REGION).await;
    let before = case.ask(&doctor, &grant, None).await.unwrap();
    assert_eq!(before.region().state(), RegionState::Stale);
    assert_eq!(before.documents().len(), live.documents().len() - 1);
    assert!(!before.documents().contains(&gone));
    let of_it = |item: &pb::SummaryItem| {
        let mut sources = item.sources.iter();
        sources.any(|source| source.document.as_ref() == Some(&gone))
    };
    assert!(!before.summary.items.iter().any(of_it));
    case.network.stop().await;
}

/// The same summary, whether documents were read ahead or when it was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_read_ahead_say_what_they_say() {
    let mut said = Vec::new();
    for ahead in ["true", "false"] {
        let network = Setup::federation(2).set("emergency.precompute", ahead);
        let network = network.start().await;
        let truth = network.sample.scenario.cross_region;
        network.load_person(truth).await;
        let patient = network.patient(network.record(truth, 0));
        let case = Case {
            clock: Arc::new(ManualClock::at(SystemClock.now())),
            truth,
            patient,
            network,
        };
        let doctor = case.doctor();
        let grant = case.grant(&doctor).await;
        // The second one finds every reading, whatever the first one found.
        for _ in 0..2 {
            let shown = case.ask(&doctor, &grant, None).await.unwrap();
            assert!(shown.completeness.complete);
            let items = shown.summary.items.into_iter().map(|mut item| {
                item.item_id.clear();
                let past = item.past_values.iter_mut();
                let past = past.filter_map(|past| past.source.as_mut());
                for source in past.chain(&mut item.sources) {
                    source.as_of = None;
                    source.document = None;
                }
                item
            });
            said.push((items.collect::<Vec<_>>(), shown.summary.documents.len()));
        }
        case.network.stop().await;
    }
    assert!(!said[0].0.is_empty() && said[0].1 > 0);
    assert!(said.iter().all(|one| *one == said[0]));
}
