//! A region whose clock is wrong: it changes no order, and operators of both sides are told (F-25).

use std::sync::Arc;
use std::time::{Duration, Instant};

use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::messages;
use renkei::demo::sample::SampleRecord;
use renkei::types::PersonRole;
use renkei::wire::pb::directory::GetRegionStatusRequest;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::identity as pb;
use renkei::wire::pb::identity::identity_service_client::IdentityServiceClient;

use crate::support::calls::feed;
use crate::support::{At, Network, Setup, eventually, person};

const THERE: At = At::Region(1);
const HOUR: Duration = Duration::from_hours(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);
/// Times are told to the millisecond, and told of in whole minutes.
const LITTLE: Duration = Duration::from_secs(20);
const TEN_YEARS: Duration = Duration::from_hours(10 * 365 * 24);

/// A hub and two regions, of which the second has a clock of its own.
struct Case {
    network: Network,
    right: Arc<ManualClock>,
    there: Arc<ManualClock>,
}

impl Case {
    async fn new() -> Self {
        let right = Arc::new(ManualClock::at(SystemClock.now()));
        let setup = Setup::federation(2).clock(Arc::clone(&right) as Arc<dyn Clock>);
        let mut network = setup.start().await;
        // Certificates and lists are older than what a clock is set back to.
        right.advance(HOUR);
        let there = Arc::new(ManualClock::at(right.now()));
        network.give_clock(THERE, Arc::clone(&there) as Arc<dyn Clock>);
        network.stop_node(THERE).await;
        network.start_node(THERE).await;
        Self {
            network,
            right,
            there,
        }
    }

    /// A record of the region, with a telephone number.
    fn record(&self) -> SampleRecord {
        let people = self.network.sample.people.iter();
        let mut records = people.flat_map(|one| &one.records);
        let with_telephone = |record: &&SampleRecord| {
            let fed = messages::feed(self.network.institution(record), record);
            let demographics = fed.patient.unwrap().demographics.unwrap();
            record.region == 1 && !demographics.telecoms.is_empty()
        };
        records.find(with_telephone).unwrap().clone()
    }

    /// Feeds a record at the region with another telephone number.
    async fn revise(&self, record: &SampleRecord, telephone: &str) {
        let institution = self.network.institution(record);
        let mut request = messages::feed(institution, record);
        request.idempotency_key = uuid::Uuid::new_v4().to_string();
        let patient = request.patient.as_mut().unwrap();
        for telecom in &mut patient.demographics.as_mut().unwrap().telecoms {
            telephone.clone_into(&mut telecom.value);
        }
        let system = self.network.system(THERE, institution);
        feed(&system, request).await.unwrap();
    }

    /// The telephone number that the hub has.
    async fn telephone(&self, record: &SampleRecord) -> String {
        let institution = self.network.institution(record);
        let clerk = person("C-1", PersonRole::Physician, &institution.code);
        let clerk = self.network.acting(At::Hub, &clerk);
        let mut client = IdentityServiceClient::new(clerk.channel.clone());
        let subject = pb::get_patient_request::Subject::Identifier(self.network.patient(record));
        let request = clerk.request(pb::GetPatientRequest {
            subject: Some(subject),
        });
        let answer = client.get_patient(request).await.unwrap().into_inner();
        let demographics = answer.record.unwrap().demographics.unwrap();
        demographics.telecoms[0].value.clone()
    }

    /// What alarms of wrong clocks say at a node.
    fn apart(&self, at: At) -> Vec<String> {
        let on = self.network.gateway(at).edge.alarms.list();
        let apart = on.into_iter().filter(|alarm| alarm.code == "CLOCK_APART");
        apart.map(|alarm| alarm.message).collect()
    }

    /// The hub calls the region, and each hears the other's time. A call that was under way while a clock
    /// was changed tells nothing of it, so that the last one has to be one that was not.
    async fn compare(&self) {
        let operator = self.network.operator(At::Hub);
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let request = operator.request(GetRegionStatusRequest {
            home_community_ids: vec![self.network.node(THERE).home.clone()],
            probe: true,
        });
        client.get_region_status(request).await.unwrap();
    }

    /// Waits until both say this of each other's clock, or nothing any more, after they have called each
    /// other.
    async fn both_are_told(&self, hub: Option<&'static str>, region: Option<&'static str>) {
        for (at, whose, said) in [(At::Hub, THERE, hub), (THERE, At::Hub, region)] {
            self.compare().await;
            self.is_told(at, whose, said).await;
        }
    }

    /// Waits until a node says this of the clock of `whose`, or nothing any more.
    async fn is_told(&self, at: At, whose: At, said: Option<&'static str>) {
        let home = &self.network.node(whose).home;
        eventually("the clock is told of as it is", || async {
            let mut told = self.apart(at);
            told.retain(|message| message.contains(home.as_str()));
            let as_it_is = match said {
                Some(said) => told.iter().any(|message| message.contains(said)),
                None => told.is_empty(),
            };
            as_it_is.then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minutes_change_no_order_and_are_told_on_both_sides_until_they_are_gone() {
    // bars: F-25
    let case = Case::new().await;
    let record = case.record();
    let now = case.right.now();
    for (number, there, at_hub, at_region) in [
        (
            1,
            now + TEN_MINUTES + LITTLE,
            "10 minutes ahead",
            "10 minutes behind",
        ),
        (
            2,
            now - TEN_MINUTES - LITTLE,
            "10 minutes behind",
            "10 minutes ahead",
        ),
    ] {
        case.there.set(there);
        case.revise(&record, &format!("03-0000-000{number}")).await;
        case.network.settled().await;
        case.both_are_told(Some(at_hub), Some(at_region)).await;
    }
    // By its region's clock the last change was made twenty minutes before the first.
    assert_eq!(case.telephone(&record).await, "03-0000-0002");
    assert!(case.apart(At::Region(0)).is_empty(), "its clock is right");

    case.there.set(now);
    case.revise(&record, "03-0000-0003").await;
    case.network.settled().await;
    case.both_are_told(None, None).await;
    assert_eq!(case.telephone(&record).await, "03-0000-0003");
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_clock_wrong_by_years_nothing_is_told_or_lost_and_it_is_flagged() {
    // bars: F-25
    let mut case = Case::new().await;
    let record = case.record();
    let now = case.right.now();
    case.revise(&record, "03-0000-0000").await;
    case.network.settled().await;
    let mut before = "03-0000-0000";
    for (there, first, second) in [
        (now + TEN_YEARS, "03-0000-0001", "03-0000-0002"),
        (now - TEN_YEARS, "03-0000-0003", "03-0000-0004"),
    ] {
        case.network.stop_node(At::Hub).await;
        // What waits is in the order in which it was done, whatever the time was then.
        case.there.set(now + TEN_MINUTES);
        case.revise(&record, first).await;
        case.there.set(now - TEN_MINUTES);
        case.revise(&record, second).await;
        case.there.set(there);
        case.network.start_node(At::Hub).await;
        case.is_told(THERE, At::Hub, Some("is not valid")).await;
        assert_eq!(case.telephone(&record).await, before, "it was told");

        case.there.set(now);
        // After so many failures the region may wait for half a minute before it tries again.
        let until = Instant::now() + Duration::from_mins(2);
        while case.network.status(THERE).await.queued_notices > 0 {
            assert!(Instant::now() < until, "the hub is not told");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        case.is_told(THERE, At::Hub, None).await;
        assert_eq!(case.telephone(&record).await, second);
        before = second;
    }
    case.network.stop().await;
}
