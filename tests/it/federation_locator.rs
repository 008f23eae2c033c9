//! The locator of the hub compared with what its regions hold: what is missing or left over is mended,
//! operators see how current it is, and what is newer stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use renkei::demo::sample::{SampleDocument, SampleRecord};
use renkei::error::Reason;
use renkei::federation::{Reconciler, Step};
use renkei::types::PatientIdentifier;
use renkei::wire::pb::directory as ipb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::documents::document_service_client::DocumentServiceClient;
use renkei::wire::pb::federation as fpb;
use renkei::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;

use crate::support::expect::refused;
use crate::support::{At, Network, Setup, physician};

const THERE: At = At::Region(1);

/// A hub and two regions, none of whom told the hub anything until now; somebody with documents in region
/// 1, and somebody else who is known there.
struct Case {
    network: Network,
    truth: usize,
    other: SampleRecord,
}

impl Case {
    async fn new() -> Self {
        let setup = Setup::federation(2).set("parent.feeds_patients", "false");
        let setup = setup.set("parent.reconcile_hours", "0");
        let mut network = setup.start().await;
        let truth = network.sample.scenario.cross_region;
        let documents = network.sample.documents_of(truth);
        let known: BTreeSet<&str> = documents.map(|one| one.local_id.as_str()).collect();
        let is_other =
            |one: &&SampleRecord| one.region == 1 && !known.contains(one.local_id.as_str());
        let people = network.sample.people.iter();
        let mut others = people.flat_map(|one| &one.records).filter(is_other);
        let other = others.next().unwrap().clone();
        network.load_person(truth).await;
        network.set("parent.feeds_patients", "true");
        network.stop_node(THERE).await;
        network.start_node(THERE).await;
        Self {
            network,
            truth,
            other,
        }
    }

    fn record(&self) -> &SampleRecord {
        self.network.record(self.truth, 1)
    }

    fn documents(&self) -> Vec<SampleDocument> {
        let documents = self.network.sample.documents_of(self.truth);
        documents.filter(|one| one.region == 1).cloned().collect()
    }

    /// How many patients of the region have documents there.
    fn held(&self) -> u64 {
        let documents = self.documents();
        let patients = documents.iter().map(|one| (one.institution, &one.local_id));
        patients.collect::<BTreeSet<_>>().len() as u64
    }

    /// The communities of which the hub says that they hold something.
    fn holders(&self, record: &SampleRecord) -> Vec<String> {
        let patient = self.network.patient(record);
        let patient = PatientIdentifier {
            authority: patient.assigning_authority.parse().unwrap(),
            id: patient.value.parse().unwrap(),
        };
        let locator = &self.network.gateway(At::Hub).federation.locator;
        let holdings = locator.holdings(&[patient]).unwrap();
        holdings
            .into_iter()
            .map(|one| one.home_community_id)
            .collect()
    }

    fn home(&self) -> String {
        self.network.node(THERE).home.clone()
    }

    fn reconciler(&self) -> Arc<Reconciler> {
        let federation = &self.network.gateway(THERE).federation;
        federation.reconciler.clone().expect("the region feeds")
    }

    async fn reconcile(&self) -> fpb::HoldingsReconciled {
        let peers = &self.network.gateway(THERE).federation.peers;
        let found = self.reconciler().reconcile(peers).await.unwrap();
        self.network.settled().await;
        found
    }

    async fn step(&self) -> Step {
        let peers = &self.network.gateway(THERE).federation.peers;
        self.reconciler().step(peers).await.unwrap()
    }

    /// Tells the hub something as the region's gateway, whatever is so.
    async fn claim(&self, record: &SampleRecord, held: bool, sequence: u64) {
        let gateway = self.network.caller(At::Hub, "region-1", None);
        let request = gateway.request(fpb::NotifyHoldingsRequest {
            notices: vec![fpb::HoldingNotice {
                patient_id: Some(self.network.patient(record)),
                has_documents: held,
                has_summary_items: held,
                sequence,
                ..Default::default()
            }],
            ..Default::default()
        });
        let mut client = RespondingGatewayServiceClient::new(gateway.channel.clone());
        client.notify_holdings(request).await.unwrap();
    }

    /// Removes what is registered about the person in the region, each institution its own.
    async fn remove_all(&self) {
        use dpb::stored_query::Query;
        let documents = self.documents();
        let known: BTreeSet<_> = documents
            .iter()
            .map(|one| (one.institution, &one.local_id))
            .collect();
        let person = self.network.sample.person(self.truth).unwrap();
        for (institution, local_id) in known {
            let is = |one: &&SampleRecord| one.region == 1 && one.local_id == *local_id;
            let record = person.records.iter().find(is).unwrap();
            let patient = Some(self.network.patient(record));
            let institution = &self.network.sample.regions[1].institutions[institution];
            let doctor = self.network.acting(THERE, &physician(&institution.code));
            let everything = dpb::QueryRegistryRequest {
                query: Some(dpb::StoredQuery {
                    query: Some(Query::GetAll(dpb::GetAllQuery {
                        patient_id: patient.clone(),
                        ..Default::default()
                    })),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let mut client = DocumentServiceClient::new(doctor.channel.clone());
            let found = client.query_registry(doctor.request(everything)).await;
            let found = found.unwrap().into_inner().objects.unwrap();
            let entries = found.entries.iter().filter(|one| one.patient_id == patient);
            let sets = found.submission_sets.iter();
            let sets = sets.filter(|one| one.patient_id == patient);
            let mut uuids: Vec<String> = entries.map(|one| one.entry_uuid.clone()).collect();
            uuids.extend(sets.map(|one| one.entry_uuid.clone()));
            assert!(uuids.len() > 1);
            let ends: BTreeSet<String> = uuids.iter().cloned().collect();
            let associations = found.associations.into_iter();
            let theirs = associations.filter(|one| ends.contains(&one.source_object));
            uuids.extend(theirs.map(|one| one.entry_uuid));
            let system = self.network.system(THERE, institution);
            let removal = system.request(dpb::RemoveMetadataRequest {
                entry_uuids: uuids,
                reason: "誤って登録した".to_owned(),
                ..Default::default()
            });
            let mut client = DocumentServiceClient::new(system.channel.clone());
            client.remove_metadata(removal).await.unwrap();
        }
        self.network.settled().await;
    }

    /// How the hub's operator sees the region.
    async fn seen(&self) -> ipb::RegionHealth {
        let operator = self.network.operator(At::Hub);
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let request = operator.request(ipb::GetRegionStatusRequest {
            home_community_ids: vec![self.home()],
            probe: true,
        });
        let answer = client.get_region_status(request).await.unwrap();
        answer.into_inner().regions.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_left_over_is_mended_and_operators_see_it() {
    let case = Case::new().await;
    assert!(case.holders(case.record()).is_empty());
    let unheard = case.seen().await;
    assert_eq!(unheard.locator_notice_age, None);
    assert_eq!(unheard.locator_reconciled, None);
    case.claim(&case.other, true, 1).await;
    assert_eq!(case.holders(&case.other), [case.home()]);
    assert!(case.seen().await.locator_notice_age.is_some());

    let found = case.reconcile().await;
    let held = case.held();
    assert_eq!((found.held_count, found.lacking_count), (held, held));
    assert_eq!(found.left_over_count, 1);
    assert_eq!(case.holders(case.record()), [case.home()]);
    assert!(case.holders(&case.other).is_empty());
    let seen = case.seen().await;
    assert!(seen.locator_reconciled.is_some());
    assert_eq!((seen.locator_lacking, seen.locator_left_over), (held, 1));
    let counts = case.network.status(At::Hub).await.counts;
    assert_eq!(counts["locator.communities"], 1, "{counts:?}");
    assert_eq!(counts["locator.differences"], held + 1, "{counts:?}");
    assert_eq!(counts["locator.never_reconciled"], 0, "{counts:?}");

    let found = case.reconcile().await;
    let differ = (found.lacking_count, found.left_over_count);
    assert_eq!(differ, (0, 0), "nothing is left to mend");
    let seen = case.seen().await;
    assert_eq!((seen.locator_lacking, seen.locator_left_over), (0, 0));
    // An earlier notice that comes late does not bring back what was mended.
    case.claim(&case.other, true, 2).await;
    assert!(case.holders(&case.other).is_empty());
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_meanwhile_stands_and_a_restart_goes_on() {
    let mut case = Case::new().await;
    // The hub believes what is so of neither, but what a later notice told otherwise.
    case.remove_all().await;
    case.claim(&case.other, true, 1).await;
    case.claim(case.record(), true, 1).await;
    assert!(
        case.holders(case.record()).is_empty(),
        "the removal is newer"
    );
    assert_eq!(case.step().await, Step::More);
    case.network.stop_node(THERE).await;
    case.network.start_node(THERE).await;

    // One of them gets a document before it is looked at.
    let mut document = case.documents().remove(0);
    document.local_id.clone_from(&case.other.local_id);
    document.unique_id = format!("{}.9", document.unique_id);
    case.network.feed(&case.other).await;
    document.institution = case.other.institution;
    case.network.provide(&document).await;
    case.network.settled().await;

    let found = case.reconcile().await;
    let differ = (found.lacking_count, found.left_over_count);
    assert_eq!(differ, (0, 0), "it is held by now");
    assert_eq!(case.holders(&case.other), [case.home()]);
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_last_document_goes_the_locator_names_the_region_no_more() {
    let case = Case::new().await;
    let found = case.reconcile().await;
    assert_eq!(found.lacking_count, case.held());
    assert_eq!(case.holders(case.record()), [case.home()]);
    case.remove_all().await;
    assert!(case.holders(case.record()).is_empty());
    case.network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_told_of_its_own_holdings_only_and_others_of_none() {
    let case = Case::new().await;
    case.reconcile().await;
    let ask = async |name: &str, bits: u32, places: Vec<u32>| {
        let caller = case.network.caller(At::Hub, name, None);
        let request = caller.request(fpb::CompareHoldingsRequest {
            salt: vec![0; 16].into(),
            bits,
            places,
        });
        let mut client = RespondingGatewayServiceClient::new(caller.channel.clone());
        client.compare_holdings(request).await
    };
    let own = ask("region-1", 0, vec![0]).await.unwrap().into_inner();
    let patient = case.network.patient(case.record());
    assert_eq!((own.count, own.places_told), (case.held(), 1));
    assert_eq!(own.patients.len() as u64, case.held());
    assert!(own.patients.contains(&patient));
    let other = ask("region-0", 0, vec![0]).await.unwrap().into_inner();
    assert_eq!((other.count, other.patients.len()), (0, 0));
    let institution = &case.network.institution(case.record()).code;
    let stranger = ask(&format!("inst-{institution}"), 0, vec![0]).await;
    refused(stranger, Reason::NotPermitted);
    refused(ask("region-1", 17, Vec::new()).await, Reason::InvalidField);
    let many = (0..257).collect();
    refused(ask("region-1", 9, many).await, Reason::InvalidField);
    case.network.stop().await;
}
