//! Regions that ask each other themselves: with the hub's leave for each question, by the hub's signed
//! directory, and judged no more loosely than through the hub.

use std::sync::Arc;
use std::time::Duration;

use renkei::audit::Filter;
use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::demo::world::World;
use renkei::error::Reason;
use renkei::pki::Profiles;
use renkei::pki::assertion::{AssertionSigner, Statement};
use renkei::pki::dev::{IssueRequest, Kind};
use renkei::types::PersonRole;
use renkei::wire::ASSERTION;
use renkei::wire::pb::audit as apb;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::common::RegionState as State;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::federation as pb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::support::calls::{Merged, find, find_query, opt_out, retrieve_entry, withdraw};
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, person, physician};

const HERE: At = At::Region(0);
const THERE: At = At::Region(1);
/// How long the hub's leave holds.
const PASS: Duration = Duration::from_mins(2);
const FIND: &str = "renkei.federation.v1.RespondingGatewayService/FindDocuments";
const RETRIEVE: &str = "renkei.federation.v1.RespondingGatewayService/RetrieveDocuments";

/// A hub and two regions that ask as configured, and a patient of both.
struct Case {
    network: Network,
    clock: Arc<ManualClock>,
    truth: usize,
    held: usize,
}

impl Case {
    async fn new(ask: &str) -> Self {
        Self::with(ask, |_| {}).await
    }

    async fn with(ask: &str, change: impl FnOnce(&mut World)) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let setup = Setup::federation(2).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let network = setup.set("parent.ask", ask).start_with(change).await;
        let truth = network.sample.scenario.cross_region;
        let held = network.load_person(truth).await;
        Self {
            network,
            clock,
            truth,
            held,
        }
    }

    fn patient(&self, region: usize) -> cpb::Identifier {
        self.network
            .patient(self.network.record(self.truth, region))
    }

    fn home(&self, at: At) -> &str {
        &self.network.node(at).home
    }

    /// Who treats the patient in a region.
    fn acting(&self, region: usize, subject: &str, role: PersonRole) -> Caller {
        let record = self.network.record(self.truth, region);
        let institution = self.network.institution(record);
        let somebody = person(subject, role, &institution.code);
        self.network.acting(At::Region(region), &somebody)
    }

    fn doctor(&self) -> Caller {
        self.acting(0, "D-1001", PersonRole::Physician)
    }

    /// Calls of a method that a node answered or refused, and by whom they were passed on.
    fn relays(&self, at: At, method: &str) -> Vec<(String, apb::Outcome)> {
        let audit = &self.network.gateway(at).audit;
        let events = audit.events(&Filter::default(), usize::MAX).unwrap();
        let calls = events.into_iter().filter(|event| event.method == method);
        calls
            .map(|event| (event.relayed_by.clone(), event.outcome()))
            .collect()
    }
}

/// The entries of one region, as they came.
fn entries_of(merged: &Merged, home: &str) -> Vec<dpb::DocumentEntry> {
    let entries = merged.entries.iter();
    let entries = entries.filter(|entry| entry.home_community_id == home);
    entries.cloned().collect()
}

/// A gateway that asks for a physician of its region, by hand.
struct Asker {
    hub: Caller,
    there: Caller,
    token: String,
}

impl Asker {
    /// The gateway of the first region, for the physician `subject`.
    fn new(case: &Case, subject: &str) -> Self {
        let network = &case.network;
        let code = &network.institution(network.record(case.truth, 0)).code;
        let identity = network.world.identity(&format!("inst-{code}")).unwrap();
        let signer = AssertionSigner::from_identity(&identity, &Profiles::test().unwrap());
        let doctor = physician(code);
        let statement = Statement {
            subject: subject.to_owned(),
            role: doctor.role.code().to_owned(),
            purpose: doctor.purpose,
            relation: doctor.relation,
            institution: code.parse().unwrap(),
            audience: vec![network.world.hub.home.parse().unwrap()],
            presenter: None,
            one_time: false,
        };
        let now = network.clock.now();
        let token = signer.unwrap().issue(statement, now, 5 * PASS).unwrap();
        Self {
            hub: network.caller(At::Hub, "region-0", None),
            there: network.caller(THERE, "region-0", None),
            token,
        }
    }

    fn request<T>(&self, caller: &Caller, message: T) -> tonic::Request<T> {
        let mut request = caller.request(message);
        let token = self.token.parse().unwrap();
        request.metadata_mut().insert(ASSERTION, token);
        request
    }

    /// The hub's leave to ask `holder`.
    async fn pass(&self, patient: cpb::Identifier, holder: &str) -> Result<pb::HolderPass, Status> {
        use prost::Message as _;
        let request = pb::LocateHoldingsRequest {
            patient: Some(pb::locate_holdings_request::Patient::PatientId(patient)),
            passes: true,
        };
        let mut client = InitiatingGatewayServiceClient::new(self.hub.channel.clone());
        let request = self.request(&self.hub, request);
        let answer = client.locate_holdings(request).await?.into_inner();
        assert!(answer.holdings.is_empty(), "nothing but the passes");
        let mut passes = answer.passes.into_iter();
        let pass = passes.find(|pass| {
            let stated = pb::PassStatement::decode(pass.statement.clone()).unwrap();
            stated.holder == holder
        });
        Ok(pass.expect("a holder"))
    }

    /// Asks the other region for documents of its patient; how many there are.
    async fn ask(
        &self,
        patient: cpb::Identifier,
        pass: Option<pb::HolderPass>,
    ) -> Result<usize, Status> {
        use pb::responding_gateway_service_find_documents_response::Part;
        let request = pb::RespondingGatewayServiceFindDocumentsRequest {
            query: Some(find_query(patient)),
            pass,
            ..Default::default()
        };
        let mut client = RespondingGatewayServiceClient::new(self.there.channel.clone());
        let request = self.request(&self.there, request);
        let mut stream = client.find_documents(request).await?.into_inner();
        let mut entries = 0;
        while let Some(message) = stream.next().await {
            if let Some(Part::Objects(objects)) = message?.part {
                entries += objects.entries.len();
            }
        }
        Ok(entries)
    }
}

/// The hub says whom to ask; the region asks, the holder decides and audits, and the hub sees no document.
/// With the hub away the same person goes on for as long as its leave holds, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_ask_each_other_and_go_on_for_a_moment_without_the_hub() {
    let mut case = Case::new("directly").await;
    let doctor = case.doctor();
    let merged = find(&doctor, case.patient(0)).await.unwrap();
    assert!(merged.completeness.complete, "{:?}", merged.completeness);
    assert_eq!(merged.entries.len(), case.held);
    assert!(merged.of(case.home(THERE)) > 0);
    let by_region = [(case.home(HERE).to_owned(), apb::Outcome::Success)];
    assert_eq!(case.relays(THERE, FIND), by_region);
    let theirs = merged.entries.iter();
    let mut theirs = theirs.filter(|entry| entry.home_community_id == case.home(THERE));
    let entry = theirs.next().unwrap().clone();
    let read = retrieve_entry(&doctor, &case.patient(0), &entry).await;
    let (bytes, trailer) = read.unwrap();
    assert!(!bytes.is_empty());
    assert_eq!(trailer.hash, entry.hash);
    assert_eq!(case.relays(THERE, RETRIEVE), by_region);
    let locate = "renkei.federation.v1.InitiatingGatewayService/LocateHoldings";
    assert_eq!(
        case.relays(At::Hub, locate),
        [by_region.clone(), by_region.clone()].concat()
    );
    let asked = "renkei.federation.v1.InitiatingGatewayService/FindDocuments";
    assert!(
        case.relays(At::Hub, asked).is_empty(),
        "not through the hub"
    );

    case.network.stop_node(At::Hub).await;
    let again = find(&doctor, case.patient(0)).await.unwrap();
    assert!(again.completeness.complete, "{:?}", again.completeness);
    for at in [HERE, THERE] {
        let of = |merged: &Merged| entries_of(merged, case.home(at));
        assert_eq!(of(&again), of(&merged), "the same, in the same order");
    }
    let read = retrieve_entry(&doctor, &case.patient(0), &entry).await;
    assert_eq!(read.unwrap().0, bytes);
    assert_eq!(case.relays(THERE, FIND).len(), 2);
    let other = case.acting(0, "D-2002", PersonRole::Physician);
    let refusal = find(&other, case.patient(0)).await;
    refused(refusal, Reason::CommunityUnavailable);
    case.clock.advance(PASS);
    let refusal = find(&doctor, case.patient(0)).await;
    refused(refusal, Reason::CommunityUnavailable);
    case.network.stop().await;
}

/// What the patient refused anywhere is refused, and what is refused at the holder needs no hub to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_count_as_they_do_through_the_hub() {
    let case = Case::new("directly").await;
    let asker = Asker::new(&case, "D-1001");
    let holder = case.home(THERE).to_owned();
    let pass = asker.pass(case.patient(0), &holder).await.unwrap();
    let ask = || asker.ask(case.patient(1), Some(pass.clone()));
    assert!(ask().await.unwrap() > 0);

    // Recorded at the holder, after the hub has given its leave: the holder refuses by itself.
    let clerk = case.acting(1, "C-1", PersonRole::Clerk);
    let consent = opt_out(&clerk, case.patient(1)).await;
    refused(ask().await, Reason::NotPermitted);
    // And then the hub gives no leave any more.
    case.network.settled().await;
    let leave = asker.pass(case.patient(0), &holder).await;
    refused(leave, Reason::NotPermitted);
    refused(
        find(&case.doctor(), case.patient(0)).await,
        Reason::NotPermitted,
    );
    withdraw(&clerk, &consent.consent_id).await.unwrap();
    case.network.settled().await;
    let merged = find(&case.doctor(), case.patient(0)).await.unwrap();
    assert_eq!(merged.entries.len(), case.held);

    // Recorded where the question comes from: the holder has never heard of it, the hub has.
    let clerk = case.acting(0, "C-2", PersonRole::Clerk);
    opt_out(&clerk, case.patient(0)).await;
    case.network.settled().await;
    let leave = asker.pass(case.patient(0), &holder).await;
    refused(leave, Reason::NotPermitted);
    refused(
        find(&case.doctor(), case.patient(0)).await,
        Reason::NotPermitted,
    );
    case.network.stop().await;
}

/// A holder takes the hub's leave for this patient, this gateway, this person and this holder, while it
/// holds, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_takes_no_leave_but_the_hubs_for_this_very_question() {
    use prost::Message as _;
    let case = Case::new("directly").await;
    let asker = Asker::new(&case, "D-1001");
    let theirs = || case.patient(1);
    let pass = asker.pass(case.patient(0), case.home(THERE)).await.unwrap();
    assert!(asker.ask(theirs(), Some(pass.clone())).await.unwrap() > 0);

    refused(asker.ask(theirs(), None).await, Reason::NotPermitted);
    let here = asker.pass(case.patient(0), case.home(HERE)).await.unwrap();
    refused(asker.ask(theirs(), Some(here)).await, Reason::NotPermitted);
    let another = Asker::new(&case, "D-2002");
    let refusal = another.ask(theirs(), Some(pass.clone())).await;
    refused(refusal, Reason::NotPermitted);
    let mut stranger = theirs();
    stranger.value.push('9');
    let refusal = asker.ask(stranger, Some(pass.clone())).await;
    refused(refusal, Reason::NotPermitted);

    // Altered, unsigned, and signed by the gateway that asks.
    let mut stated = pb::PassStatement::decode(pass.statement.clone()).unwrap();
    stated.expires = stated.expires.map(|time| prost_types::Timestamp {
        seconds: time.seconds + 3_600,
        ..time
    });
    let longer: bytes::Bytes = stated.encode_to_vec().into();
    let identity = case.network.world.identity("region-0").unwrap();
    let own = renkei::pki::detached::sign(&identity, "renkei-pass+jws", &pass.statement);
    for (statement, signature) in [
        (longer, pass.signature.clone()),
        (pass.statement.clone(), String::new()),
        (pass.statement.clone(), own.unwrap()),
    ] {
        let forged = pb::HolderPass {
            statement,
            signature,
        };
        let refusal = asker.ask(theirs(), Some(forged)).await;
        refused(refusal, Reason::NotPermitted);
    }
    case.clock.advance(PASS);
    refused(asker.ask(theirs(), Some(pass)).await, Reason::NotPermitted);
    // The hub gives leave to gateways that ask for a person, and to nobody for themselves.
    let doctor = case.network.acting(
        At::Hub,
        &physician(
            &case
                .network
                .institution(case.network.record(case.truth, 0))
                .code,
        ),
    );
    let request = pb::LocateHoldingsRequest {
        patient: Some(pb::locate_holdings_request::Patient::PatientId(
            case.patient(0),
        )),
        passes: true,
    };
    let mut client = InitiatingGatewayServiceClient::new(doctor.channel.clone());
    let refusal = client.locate_holdings(doctor.request(request)).await;
    refused(refusal, Reason::NotPermitted);
    case.network.stop().await;
}

/// A gateway that the directory does not name is nobody, whatever leave it has; and when the directory has
/// expired, it names nobody, neither to be answered nor to be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_the_directory_does_not_name_or_names_no_longer_is_not_answered_and_not_asked() {
    let mut unlisted = None;
    let case = Case::with("directly", |world| {
        let request = IssueRequest::new(Kind::Gateway, "unlisted", "Renkei region 0");
        let request = request
            .dns("localhost")
            .ip(std::net::IpAddr::from([127, 0, 0, 1]));
        let issued = world.pki().issue(&request).unwrap();
        unlisted = Some(issued.identity().unwrap());
    })
    .await;
    let mut asker = Asker::new(&case, "D-1001");
    let pass = asker.pass(case.patient(0), case.home(THERE)).await.unwrap();
    let listed = asker.ask(case.patient(1), Some(pass.clone())).await;
    assert!(listed.unwrap() > 0);
    let (identity, hub) = (unlisted.unwrap(), case.home(At::Hub));
    asker.there = case.network.caller_with(THERE, &identity, None, hub);
    let refusal = asker.ask(case.patient(1), Some(pass)).await;
    refused(refusal, Reason::UnregisteredCertificate);
    let merged = find(&case.doctor(), case.patient(0)).await.unwrap();
    assert_eq!(merged.entries.len(), case.held);

    // The hub knows its own directory for ever; the regions have a copy for three days.
    case.clock.advance(Duration::from_hours(73));
    let asker = Asker::new(&case, "D-1001");
    let pass = asker.pass(case.patient(0), case.home(THERE)).await.unwrap();
    let refusal = asker.ask(case.patient(1), Some(pass)).await;
    refused(refusal, Reason::UnregisteredCertificate);
    let merged = find(&case.doctor(), case.patient(0)).await.unwrap();
    assert_eq!(merged.state(case.home(THERE)), Some(State::Unreachable));
    assert!(!merged.completeness.complete);
    assert_eq!(merged.of(case.home(THERE)), 0);
    let own = merged.of(case.home(HERE));
    assert!(
        own > 0 && own == merged.entries.len(),
        "the own ones are there"
    );
    case.network.stop().await;
}

/// Who cannot be asked directly is a gap, or is asked through the hub where that is configured; once, and
/// in the same order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_asked_directly_is_named_or_asked_through_the_hub() {
    let mut case = Case::new("directly").await;
    // Of the two names of this machine the region may only use the one that the hub has.
    let address = case.network.address(At::Hub);
    let hub = format!("https://localhost:{}", address.port());
    let (home, named) = (case.home(At::Hub).to_owned(), hub.clone());
    case.network
        .apply_directory(|directory| {
            let mut communities = directory.communities.iter_mut();
            let one = communities.find(|one| one.home_community_id == home);
            one.unwrap().endpoints[0].address = named;
        })
        .await;
    case.network.stop_node(HERE).await;
    case.network.set("outgoing.hosts", "[\"localhost\"]");
    case.network.set("parent.endpoint", &hub);
    case.network.start_node(HERE).await;
    let merged = find(&case.doctor(), case.patient(0)).await.unwrap();
    assert!(!merged.completeness.complete);
    assert_eq!(merged.state(case.home(THERE)), Some(State::Unreachable));
    assert!(merged.entries.is_empty());

    case.network.stop_node(HERE).await;
    case.network
        .set("parent.ask", "directly-else-through-parent");
    case.network.start_node(HERE).await;
    let doctor = case.doctor();
    let merged = find(&doctor, case.patient(0)).await.unwrap();
    assert!(merged.completeness.complete, "{:?}", merged.completeness);
    assert_eq!(merged.entries.len(), case.held);
    let last = case.relays(THERE, FIND).pop();
    let by_hub = (case.home(At::Hub).to_owned(), apb::Outcome::Success);
    assert_eq!(last, Some(by_hub.clone()));
    let theirs = merged.entries.iter();
    let mut theirs = theirs.filter(|entry| entry.home_community_id == case.home(THERE));
    let entry = theirs.next().unwrap();
    let read = retrieve_entry(&doctor, &case.patient(0), entry).await;
    assert!(!read.unwrap().0.is_empty());
    assert_eq!(case.relays(THERE, RETRIEVE).pop(), Some(by_hub));
    let again = find(&doctor, case.patient(0)).await.unwrap();
    for at in [HERE, THERE] {
        let of = |merged: &Merged| entries_of(merged, case.home(at));
        assert_eq!(of(&again), of(&merged));
    }
    case.network.stop().await;
}
