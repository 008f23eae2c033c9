//! Subscriptions across communities: what a region registers reaches who follows its patient in another
//! region, over restarts of every node on the way; whoever begins to hold something is followed too, who
//! cannot be is named, and what the patient withdraws ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use renkei::audit::Filter;
use renkei::demo::actor::Caller;
use renkei::demo::sample::SampleDocument;
use renkei::error::Reason;
use renkei::types::PersonRole;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::common::RegionState as State;
use renkei::wire::pb::documents as dpb;
use renkei::wire::pb::federation as pb;
use renkei::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use renkei::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use crate::support::calls::opt_out;
use crate::support::expect::refused;
use crate::support::{At, Network, Setup, eventually, person, physician};

/// Who holds documents.
const THERE: At = At::Region(0);
/// Where somebody follows them.
const HERE: At = At::Region(1);
/// What is to be told has been told by then, or never will be.
const PATIENT: Duration = Duration::from_secs(30);
const RESPOND: &str = "renkei.federation.v1.RespondingGatewayService/WatchDocuments";

/// A patient known in two regions, with a document in the first.
struct Case {
    network: Network,
    truth: usize,
}

impl Case {
    async fn new() -> Self {
        let network = Setup::federation(2).start().await;
        let truth = network.sample.scenario.cross_region;
        network.feed_person(truth).await;
        let case = Self { network, truth };
        case.provide(0).await;
        case.network.settled().await;
        case
    }

    fn patient(&self, region: usize) -> cpb::Identifier {
        self.network
            .patient(self.network.record(self.truth, region))
    }

    fn home(&self, at: At) -> String {
        self.network.node(at).home.clone()
    }

    /// The physician who treats the patient here.
    fn doctor(&self) -> Caller {
        let record = self.network.record(self.truth, 1);
        let institution = self.network.institution(record);
        self.network.acting(HERE, &physician(&institution.code))
    }

    /// A new document of the patient in a region.
    async fn provide(&self, region: usize) -> SampleDocument {
        let mut documents = self.network.sample.documents_of(self.truth);
        let like = documents.find(|document| document.region == region);
        let document = SampleDocument {
            unique_id: format!("2.25.{}", uuid::Uuid::new_v4().as_u128()),
            ..like.unwrap().clone()
        };
        self.network.provide(&document).await;
        document
    }

    fn request(&self, token: &str) -> pb::InitiatingGatewayServiceWatchDocumentsRequest {
        pb::InitiatingGatewayServiceWatchDocumentsRequest {
            patient_id: Some(self.patient(1)),
            resume_token: token.to_owned(),
            ..Default::default()
        }
    }

    async fn follow(&self, token: &str) -> Result<Following, Status> {
        Following::begin(&self.doctor(), self.request(token)).await
    }

    /// Follows again, as soon as every node on the way is back.
    async fn follow_again(&self, token: &str) -> Following {
        eventually("the nodes are back", || async {
            self.follow(token).await.ok()
        })
        .await
    }
}

/// What a subscriber has heard.
struct Following {
    stream: Streaming<pb::InitiatingGatewayServiceWatchDocumentsResponse>,
    token: String,
    news: Vec<pb::DocumentNews>,
    completeness: Option<cpb::Completeness>,
}

impl Following {
    async fn begin(
        caller: &Caller,
        request: pb::InitiatingGatewayServiceWatchDocumentsRequest,
    ) -> Result<Self, Status> {
        let mut client = InitiatingGatewayServiceClient::new(caller.channel.clone());
        let stream = client.watch_documents(caller.request(request)).await?;
        Ok(Self {
            stream: stream.into_inner(),
            token: String::new(),
            news: Vec::new(),
            completeness: None,
        })
    }

    /// The next message; its end is an error here.
    async fn next(&mut self) -> Result<(), Status> {
        let message = tokio::time::timeout(PATIENT, self.stream.next()).await;
        let message = message.expect("there is something to tell");
        let message = message.unwrap_or_else(|| Err(Status::ok("the stream ended")))?;
        self.token = message.resume_token;
        self.news.extend(message.news);
        if message.completeness.is_some() {
            self.completeness = message.completeness;
        }
        Ok(())
    }

    async fn until(&mut self, what: impl Fn(&Self) -> bool) {
        while !what(self) {
            self.next().await.unwrap();
        }
    }

    fn state(&self, home: &str) -> Option<State> {
        let regions = &self.completeness.as_ref()?.regions;
        let mut regions = regions.iter();
        let region = regions.find(|region| region.home_community_id == home);
        region.map(cpb::RegionStatus::state)
    }

    /// Waits until a community is followed, and everybody else too.
    async fn whole(&mut self, home: &str) {
        self.until(|one| {
            let complete = one.completeness.as_ref().is_some_and(|all| all.complete);
            complete && one.state(home) == Some(State::Ok)
        })
        .await;
    }

    /// uniqueIds of the documents told of.
    fn told(&self) -> Vec<&str> {
        let documents = self.news.iter().map(|news| news.document.as_ref().unwrap());
        documents
            .map(|document| document.document_unique_id.as_str())
            .collect()
    }

    async fn is_told(&mut self, document: &SampleDocument) {
        self.until(|one| one.told().contains(&document.unique_id.as_str()))
            .await;
    }
}

/// Each is told once, as what it is, after it was audited where it is; the region's restart and the restart
/// of every node on the way lose nothing and repeat nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_crosses_over_restarts_of_every_node_on_the_way() {
    let mut case = Case::new().await;
    let there = case.home(THERE);
    let mut following = case.follow("").await.unwrap();
    following.whole(&there).await;
    assert!(following.news.is_empty(), "what was there is not news");
    let first = case.provide(0).await;
    following.is_told(&first).await;
    let news = following.news[0].clone();
    assert_eq!(news.change(), dpb::DocumentChange::Registered);
    assert_eq!(news.document.as_ref().unwrap().home_community_id, there);
    assert!(news.class_code.is_some() && news.type_code.is_some());
    assert!(news.sequence > 0 && news.recorded.is_some());
    let audit = &case.network.gateway(THERE).audit;
    let events = audit.events(&Filter::default(), usize::MAX).unwrap();
    let mut events = events.iter().filter(|event| event.method == RESPOND);
    let delivered = events.find(|event| event.object_tags == [news.entry_uuid.clone()]);
    assert_eq!(delivered.unwrap().relayed_by, case.home(At::Hub));

    // The region is away for a moment, and the stream goes on.
    case.network.stop_node(THERE).await;
    following
        .until(|one| one.state(&there).is_some_and(|state| state != State::Ok))
        .await;
    assert!(!following.completeness.as_ref().unwrap().complete);
    case.network.start_node(THERE).await;
    let second = case.provide(0).await;
    following.is_told(&second).await;
    following.whole(&there).await;
    assert_eq!(following.told(), [&first.unique_id, &second.unique_id]);

    // Everybody is away, and what came before is told when they are back.
    let token = following.token.clone();
    drop(following);
    let third = case.provide(0).await;
    for at in [HERE, At::Hub, THERE] {
        case.network.stop_node(at).await;
    }
    for at in [THERE, At::Hub, HERE] {
        case.network.start_node(at).await;
    }
    let mut again = case.follow_again(&token).await;
    again.is_told(&third).await;
    let fourth = case.provide(0).await;
    again.is_told(&fourth).await;
    assert_eq!(again.told(), [&third.unique_id, &fourth.unique_id]);

    // A token is for the question it was given for.
    let other = pb::InitiatingGatewayServiceWatchDocumentsRequest {
        filter: Some(dpb::DocumentFilter {
            text: "紹介状".into(),
            ..Default::default()
        }),
        ..case.request(&again.token)
    };
    let refusal = Following::begin(&case.doctor(), other).await;
    refused(refusal.map(drop), Reason::InvalidToken);
    case.network.stop().await;
}

/// The hub goes while somebody follows: it is said, and the token goes on with the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_hub_it_ends_and_goes_on_with_the_token() {
    let mut case = Case::new().await;
    let there = case.home(THERE);
    let mut following = case.follow("").await.unwrap();
    following.whole(&there).await;
    let token = following.token.clone();
    case.network.stop_node(At::Hub).await;
    while following.next().await.is_ok() {}
    let missed = case.provide(0).await;
    let refusal = case.follow(&token).await;
    refused(refusal.map(drop), Reason::CommunityUnavailable);
    case.network.start_node(At::Hub).await;
    let mut again = case.follow_again(&token).await;
    again.is_told(&missed).await;
    assert_eq!(again.told(), [&missed.unique_id]);
    case.network.stop().await;
}

/// A region that begins to hold something is followed from its first document on; who is told of it again,
/// by an earlier token, sees that it is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_to_hold_something_is_followed_from_its_first_document_on() {
    let case = Case::new().await;
    let (there, here) = (case.home(THERE), case.home(HERE));
    let mut following = case.follow("").await.unwrap();
    following.whole(&there).await;
    let before = following.token.clone();
    assert_eq!(following.state(&here), None);
    let first = case.provide(1).await;
    following.is_told(&first).await;
    following.whole(&here).await;
    let second = case.provide(1).await;
    following.is_told(&second).await;
    let keys = |news: &[pb::DocumentNews]| -> BTreeSet<(String, u64)> {
        let keys = news.iter();
        keys.map(|news| (news.entry_uuid.clone(), news.sequence))
            .collect()
    };
    let told = keys(&following.news);
    assert_eq!(told.len(), 2);
    let mut again = case.follow(&before).await.unwrap();
    again.is_told(&second).await;
    assert_eq!(keys(&again.news), told);
    case.network.stop().await;
}

/// Refused at the region within a second, at the hub as soon as it has heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_patient_withdraws_ends_it() {
    let case = Case::new().await;
    let there = case.home(THERE);
    let mut following = case.follow("").await.unwrap();
    following.whole(&there).await;
    let token = following.token.clone();
    let code = &case
        .network
        .institution(case.network.record(case.truth, 0))
        .code;
    let clerk = person("C-1", PersonRole::Clerk, code);
    let clerk = case.network.acting(THERE, &clerk);
    opt_out(&clerk, case.patient(0)).await;
    let withdrawn = Instant::now();
    let mut ended = following.next().await;
    let took = withdrawn.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    if ended.is_ok() {
        assert_eq!(following.state(&there), Some(State::RefusedByPolicy));
    }
    case.provide(0).await;
    while ended.is_ok() {
        ended = following.next().await;
    }
    refused(ended, Reason::NotPermitted);
    assert!(following.news.is_empty());
    case.network.settled().await;
    let refusal = case.follow(&token).await;
    refused(refusal.map(drop), Reason::NotPermitted);
    case.network.stop().await;
}

/// A region that was away when somebody began to follow is named, and tells of all it holds when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_away_is_named_and_misses_nothing() {
    let mut case = Case::new().await;
    let there = case.home(THERE);
    case.network.stop_node(THERE).await;
    let mut following = case.follow("").await.unwrap();
    following.until(|one| one.completeness.is_some()).await;
    assert_eq!(following.state(&there), Some(State::Unreachable));
    assert!(!following.completeness.as_ref().unwrap().complete);
    assert!(following.news.is_empty());
    case.network.start_node(THERE).await;
    let new = case.provide(0).await;
    following.is_told(&new).await;
    following.whole(&there).await;
    let told: BTreeSet<&str> = following.told().into_iter().collect();
    assert_eq!(told.len(), 2, "what it held, and what is new");
    case.network.stop().await;
}

/// An institution that has not come through the hub is told nothing of another region's patient.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_region_is_followed_through_the_hub_only() {
    let case = Case::new().await;
    let code = &case
        .network
        .institution(case.network.record(case.truth, 1))
        .code;
    let stranger = case.network.acting(THERE, &physician(code));
    let request = pb::RespondingGatewayServiceWatchDocumentsRequest {
        patient_ids: vec![case.patient(0)],
        ..Default::default()
    };
    let mut client = RespondingGatewayServiceClient::new(stranger.channel.clone());
    let answer = client.watch_documents(stranger.request(request)).await;
    refused(answer.map(drop), Reason::NotPermitted);
    case.network.stop().await;
}
