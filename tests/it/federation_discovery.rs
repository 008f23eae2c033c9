//! Patient discovery (ITI-55): a region that does not feed the hub is asked whether it knows a patient,
//! and what it says holds for as long as it says.

use std::sync::Arc;
use std::time::Duration;

use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::error::Reason;
use renkei::types::PersonRole;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::common::RegionState as State;
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::federation as pb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::identity as ipb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::support::calls::{find, opt_out, retrieve_entry};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, emergency_physician, person, physician};

const HOUR: Duration = Duration::from_hours(1);
const HERE: At = At::Region(0);
const THERE: At = At::Region(1);

/// A region that feeds the hub, and one that does not; and a patient of both.
struct Case {
    network: Network,
    clock: Arc<ManualClock>,
    truth: usize,
}

#[derive(Debug, Default)]
struct Discovered {
    answers: Vec<pb::DiscoveryAnswer>,
    completeness: cpb::Completeness,
}

impl Case {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let setup = Setup::federation(2).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut network = setup.start().await;
        network.stop_node(THERE).await;
        network.set("parent.feeds_patients", "false");
        network.start_node(THERE).await;
        let home = network.node(THERE).home.clone();
        network
            .apply_directory(|directory| {
                let mut communities = directory.communities.iter_mut();
                let there = communities.find(|one| one.home_community_id == home);
                let discovers = dpb::Capability::DiscoverPatient.into();
                there.unwrap().capabilities = vec![discovers];
            })
            .await;
        let truth = network.sample.scenario.cross_region;
        network.load_person(truth).await;
        Self {
            network,
            clock,
            truth,
        }
    }

    fn patient(&self, region: usize) -> cpb::Identifier {
        self.network
            .patient(self.network.record(self.truth, region))
    }

    fn doctor(&self) -> Caller {
        let record = self.network.record(self.truth, 0);
        let institution = self.network.institution(record);
        self.network.acting(HERE, &physician(&institution.code))
    }

    /// Documents that a merged answer has of the region that does not feed the hub.
    async fn found_there(&self) -> usize {
        let merged = find(&self.doctor(), self.patient(0)).await.unwrap();
        assert!(merged.of(&self.network.node(HERE).home) > 0);
        merged.of(&self.network.node(THERE).home)
    }

    /// Asks the region that does not feed the hub.
    async fn ask_there(&self, lifetime: Duration) -> Discovered {
        let scope = pb::RegionScope {
            home_community_ids: vec![self.network.node(THERE).home.clone()],
            broadcast: false,
        };
        let wanted = self.named();
        discover(&self.doctor(), wanted, scope, lifetime)
            .await
            .unwrap()
    }

    /// The patient, by the identifier of the region that feeds the hub.
    fn named(&self) -> ipb::Patient {
        ipb::Patient {
            identifier: Some(self.patient(0)),
            ..ipb::Patient::default()
        }
    }
}

async fn discover(
    caller: &Caller,
    patient: ipb::Patient,
    scope: pb::RegionScope,
    lifetime: Duration,
) -> Result<Discovered, Status> {
    use pb::initiating_gateway_service_discover_patient_response::Part;
    let request = pb::InitiatingGatewayServiceDiscoverPatientRequest {
        patient: Some(patient),
        scope: Some(scope),
        correlation_lifetime: Some(renkei::wire::duration(lifetime)),
    };
    let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
    let response = client.discover_patient(caller.request(request)).await?;
    let mut stream = response.into_inner();
    let (mut discovered, mut ended) = (Discovered::default(), false);
    while let Some(message) = stream.next().await {
        match message?.part {
            Some(Part::Answer(answer)) => discovered.answers.push(answer),
            Some(Part::Completeness(completeness)) => {
                discovered.completeness = completeness;
                ended = true;
            }
            _ => {}
        }
    }
    assert!(ended, "an answer without completeness");
    Ok(discovered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_region_says_of_a_patient_holds_until_it_expires_or_is_taken_back() {
    let case = Case::new().await;
    assert_eq!(case.found_there().await, 0, "the hub does not know of it");

    let said = case.ask_there(HOUR).await;
    assert!(said.completeness.complete, "{:?}", said.completeness);
    let [answer] = said.answers.as_slice() else {
        panic!("one answer: {said:?}");
    };
    assert_eq!(answer.home_community_id, case.network.node(THERE).home);
    let [one] = answer.patients.as_slice() else {
        panic!("one patient: {answer:?}");
    };
    assert_eq!(one.patient_id, Some(case.patient(1)));
    let told = one.patient.as_ref().unwrap();
    assert!(told.demographics.is_none(), "identifiers, and nothing else");
    let kept = answer.correlation_lifetime.as_ref().unwrap();
    assert_eq!(kept.seconds, 3_600);

    let held = case.found_there().await;
    assert!(held > 0, "from now on it is asked");
    let doctor = case.doctor();
    let merged = find(&doctor, case.patient(0)).await.unwrap();
    let there = &case.network.node(THERE).home;
    let mut entries = merged.entries.iter();
    let entry = entries.find(|one| one.home_community_id == *there).unwrap();
    let (bytes, _) = retrieve_entry(&doctor, &case.patient(0), entry)
        .await
        .unwrap();
    assert!(!bytes.is_empty());

    case.clock.advance(HOUR);
    assert_eq!(case.found_there().await, 0, "it has expired");
    let merged = find(&case.doctor(), case.patient(0)).await.unwrap();
    let mut regions = merged.completeness.regions.iter();
    let named = regions.find(|one| one.home_community_id == *there);
    let named = named.expect("what it may hold is said to be missing");
    assert_eq!(named.state(), State::Unreachable);
    assert!(!named.name.is_empty() && !merged.completeness.complete);

    case.ask_there(24 * HOUR).await;
    assert_eq!(case.found_there().await, held);
    // A merge there: whom the answer spoke of may be somebody else now.
    let record = case.network.record(case.truth, 1);
    let institution = case.network.institution(record);
    let system = case.network.system(THERE, institution);
    let mut twice = renkei::demo::messages::feed(institution, record);
    let mut other = case.patient(1);
    other.value.push('9');
    twice.idempotency_key = uuid::Uuid::new_v4().to_string();
    twice.patient.as_mut().unwrap().identifier = Some(other.clone());
    let mut client = IdentityServiceClient::new(system.channel.clone());
    client.feed_patient(system.request(twice)).await.unwrap();
    let merge = ipb::MergePatientsRequest {
        survivor: Some(case.patient(1)),
        subsumed: Some(other),
        reason: "entered twice".to_owned(),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    client.merge_patients(system.request(merge)).await.unwrap();
    case.network.settled().await;
    assert_eq!(case.found_there().await, 0, "it was taken back");

    // Without a time for which it is wanted nothing is kept.
    let said = case.ask_there(Duration::ZERO).await;
    assert_eq!(said.answers[0].patients.len(), 1);
    assert!(said.answers[0].correlation_lifetime.is_none());
    assert_eq!(case.found_there().await, 0);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_to_be_found_is_not_told_of() {
    let case = Case::new().await;
    let record = case.network.record(case.truth, 1);
    let institution = case.network.institution(record);
    let clerk = person("C-1", PersonRole::Clerk, &institution.code);
    let clerk = case.network.acting(THERE, &clerk);
    opt_out(&clerk, case.patient(1)).await;
    let said = case.ask_there(HOUR).await;
    assert!(said.completeness.complete);
    let home = &case.network.node(THERE).home;
    let state = |said: &Discovered| said.completeness.regions[0].state();
    assert_eq!(state(&said), State::Empty, "as if nobody were there");
    assert!(said.answers.iter().all(|answer| answer.patients.is_empty()));

    // And nobody: the same.
    let nobody = ipb::Patient {
        demographics: Some(ipb::Demographics {
            names: vec![ipb::PersonName {
                family: "誰某".to_owned(),
                given: vec!["無".to_owned()],
                ..Default::default()
            }],
            birth_date: "1901-01-01".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let scope = pb::RegionScope {
        home_community_ids: vec![home.clone()],
        broadcast: false,
    };
    let unknown = discover(&case.doctor(), nobody, scope, HOUR).await.unwrap();
    assert_eq!(state(&unknown), State::Empty);
    assert_eq!(unknown.answers, said.answers);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_of_which_nothing_is_known_are_asked_in_emergencies_and_not_often() {
    // bars: F-13
    let case = Case::new().await;
    let everywhere = || pb::RegionScope {
        home_community_ids: vec![],
        broadcast: true,
    };
    let doctor = case.doctor();
    let error = discover(&doctor, case.named(), everywhere(), HOUR).await;
    refused(error, Reason::NotPermitted);
    let nowhere = pb::RegionScope::default();
    let error = discover(&doctor, case.named(), nowhere, HOUR).await;
    refused(error, Reason::InvalidField);

    let hospitals = case.network.emergency_hospitals(0);
    let code = &hospitals[0].code;
    let emergency = case
        .network
        .acting(At::Hub, &emergency_physician("D-9", code));
    for _ in 0..10 {
        let said = discover(&emergency, case.named(), everywhere(), HOUR).await;
        let said = said.unwrap();
        // Only the region that does not feed the hub is asked.
        assert_eq!(said.completeness.regions.len(), 1);
        assert_eq!(said.answers[0].patients.len(), 1, "{said:?}");
    }
    let said = discover(&emergency, case.named(), everywhere(), HOUR)
        .await
        .unwrap();
    assert!(said.answers.is_empty() && !said.completeness.complete);
    assert_eq!(said.completeness.regions[0].state(), State::SkippedBudget);
    case.network.stop().await;
}
