//! Whoever has to look at a break-glass access is told, within a minute and by reference (Z-07).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use renkei::clock::{Clock, ManualClock, SystemClock};
use renkei::demo::actor::Caller;
use renkei::demo::sample::SampleRecord;
use renkei::wire::pb::common as cpb;
use renkei::wire::pb::emergency as pb;
use renkei::wire::pb::emergency::emergency_service_client::EmergencyServiceClient;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::support::receiver::{Posted, Receiver};
use crate::support::{At, Network, Setup, emergency_physician, eventually, officer};

const WHY: &str = "意識障害のため同意を得られない";
const DOCTOR: &str = "E-7734";

fn client(caller: &Caller) -> EmergencyServiceClient<Channel> {
    EmergencyServiceClient::new(caller.channel.clone())
}

/// A hub whose notices go where `channels` says, and a person whom it knows.
struct Case {
    network: Network,
    clock: Arc<ManualClock>,
    truth: usize,
    patient: cpb::Identifier,
    hospital: String,
}

impl Case {
    async fn new(channels: &str) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let setup = Setup::federation(2).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let network = setup.set("notices.channels", channels).start().await;
        let truth = network.sample.scenario.cross_region;
        network.feed_person(truth).await;
        let patient = network.patient(network.record(truth, 0));
        let hospital = network.emergency_hospitals(0)[0].code.clone();
        Self {
            network,
            clock,
            truth,
            patient,
            hospital,
        }
    }

    fn record(&self) -> &SampleRecord {
        self.network.record(self.truth, 0)
    }

    async fn open(&self) -> String {
        let doctor = emergency_physician(DOCTOR, &self.hospital);
        let caller = self.network.acting(At::Hub, &doctor);
        let request = pb::OpenBreakGlassRequest {
            patient: Some(pb::PatientRef {
                subject: Some(pb::patient_ref::Subject::PatientId(self.patient.clone())),
            }),
            reason: pb::BreakGlassReason::Unconscious.into(),
            reason_text: WHY.to_owned(),
            declares_consent_impossible: true,
            ..Default::default()
        };
        let mut client = client(&caller);
        let opened = client.open_break_glass(caller.request(request)).await;
        opened.unwrap().into_inner().grant_id
    }

    fn officer(&self) -> Caller {
        self.network.acting(At::Hub, &officer(&self.hospital))
    }

    /// The officer's queue, a page at a time.
    async fn queue(&self, page_size: u32, reviews: Vec<i32>) -> Vec<Vec<pb::AccessNotice>> {
        let officer = self.officer();
        let (mut pages, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListAccessNoticesRequest {
                page_size,
                page_token,
                reviews: reviews.clone(),
                ..Default::default()
            };
            let mut client = client(&officer);
            let page = client.list_access_notices(officer.request(request)).await;
            let page = page.unwrap().into_inner();
            pages.push(page.notices);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return pages;
            }
        }
    }

    /// Says that nothing in a notice tells of whom, by whom, or why.
    fn names_nobody(&self, text: &str) {
        let record = self.record();
        for secret in [
            self.patient.value.as_str(),
            record.family_kanji.as_str(),
            record.given_kanji.as_str(),
            record.family_kana.as_str(),
            DOCTOR,
            WHY,
        ] {
            assert!(!secret.is_empty());
            assert!(!text.contains(secret), "{text}");
        }
    }

    fn has_alarm(&self) -> bool {
        let alarms = self.network.gateway(At::Hub).edge.alarms.list();
        alarms
            .iter()
            .any(|alarm| alarm.code == "NOTICE_UNDELIVERED")
    }
}

/// What came, by the notice's id: how often, and when by the clock.
type Came = Arc<Mutex<BTreeMap<String, (u32, jiff::Timestamp, Value)>>>;

fn takes(
    came: &Came,
    clock: &Arc<ManualClock>,
) -> impl Fn(Posted) -> Option<(u16, String)> + Send + use<> {
    let (came, clock) = (Arc::clone(came), Arc::clone(clock));
    move |posted| {
        assert_eq!(posted.path(), "/in");
        assert!(posted.head.contains("content-type: application/json"));
        let notice: Value = serde_json::from_str(&posted.content).unwrap();
        let id = notice["id"].as_str().unwrap().to_owned();
        let mut came = came.lock().unwrap();
        let (times, _, _) = came.entry(id).or_insert((0, clock.now(), notice));
        *times += 1;
        Some((204, String::new()))
    }
}

async fn has_come(came: &Came, id: &str) -> (u32, jiff::Timestamp, Value) {
    eventually("the notice comes", || async {
        came.lock().unwrap().get(id).cloned()
    })
    .await
}

/// Bars: Z-07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_officer_is_told_within_a_minute_and_by_reference() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channels = format!(
        "[{{ name = \"officers\", kinds = [\"break-glass\", \"patient\"], https = \"https://{address}/in\" }}]"
    );
    let mut case = Case::new(&channels).await;
    let came = Came::default();
    let receiver = Receiver::start(&case.network, At::Hub, listener, takes(&came, &case.clock));
    let began = tokio::time::Instant::now();
    let grant = case.open().await;
    for kind in ["break-glass", "patient"] {
        let (_, at, notice) = has_come(&came, &format!("{kind}-{grant}")).await;
        let opened: jiff::Timestamp = notice["opened"].as_str().unwrap().parse().unwrap();
        assert!(at.duration_since(opened) <= jiff::SignedDuration::from_secs(60));
        assert!(began.elapsed() <= Duration::from_mins(1));
        assert_eq!(notice["kind"], kind);
        assert_eq!(notice["institution"], case.hospital);
        case.names_nobody(&notice.to_string());
        // The officer finds the rest under the reference.
        let queue = case.queue(0, Vec::new()).await.concat();
        let found = queue
            .iter()
            .find(|one| notice["reference"] == one.notice_id);
        assert_eq!(found.unwrap().reason_text, WHY);
    }

    // The receiver is away, then the node too; what was told before is not told again.
    receiver.stop().await;
    let second = case.open().await;
    eventually("there is an alarm", || async {
        case.has_alarm().then_some(())
    })
    .await;
    let alarms = case.network.gateway(At::Hub).edge.alarms.list();
    for alarm in &alarms {
        case.names_nobody(&alarm.message);
    }
    case.network.stop_node(At::Hub).await;
    case.network.start_node(At::Hub).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::start(&case.network, At::Hub, listener, takes(&came, &case.clock));
    for kind in ["break-glass", "patient"] {
        let (times, _, _) = has_come(&came, &format!("{kind}-{second}")).await;
        assert!(times >= 1);
        let (times, _, _) = has_come(&came, &format!("{kind}-{grant}")).await;
        assert_eq!(times, 1, "told again");
    }
    eventually("the alarm is over", || async {
        (!case.has_alarm()).then_some(())
    })
    .await;
    assert_eq!(came.lock().unwrap().len(), 4);
    receiver.stop().await;
    case.network.stop().await;
}

/// A notice that a receiver refuses holds up no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_notice_holds_up_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channels = format!(
        "[{{ name = \"o\", kinds = [\"break-glass\"], https = \"https://{address}/in\" }}]"
    );
    let case = Case::new(&channels).await;
    let came = Came::default();
    let first = case.open().await;
    let (take, refused) = (takes(&came, &case.clock), first.clone());
    let receiver = Receiver::start(&case.network, At::Hub, listener, move |posted| match posted
        .content
        .contains(&refused)
    {
        true => Some((400, String::new())),
        false => take(posted),
    });
    let second = case.open().await;
    has_come(&came, &format!("break-glass-{second}")).await;
    eventually("there is an alarm", || async {
        case.has_alarm().then_some(())
    })
    .await;
    receiver.stop().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let take = takes(&came, &case.clock);
    let receiver = Receiver::start(&case.network, At::Hub, listener, take);
    has_come(&came, &format!("break-glass-{first}")).await;
    receiver.stop().await;
    case.network.stop().await;
}

fn there(folder: &Path, id: &str) -> Option<Value> {
    let text = std::fs::read_to_string(folder.join(format!("{id}.json"))).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

async fn comes(folder: &Path, id: &str) -> Value {
    eventually("the file is there", || async { there(folder, id) }).await
}

/// Reviews that nobody makes are told of again and again, and a judged one is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overdue_review_is_told_of_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let channels = format!(
        "[{{ name = \"desk\", kinds = [\"break-glass\", \"review-overdue\"], folder = \"{}\" }}]",
        folder.display()
    );
    let mut case = Case::new(&channels).await;
    let (forgotten, judged) = (case.open().await, case.open().await);
    for grant in [&forgotten, &judged] {
        let notice = comes(folder, &format!("break-glass-{grant}")).await;
        case.names_nobody(&notice.to_string());
    }
    let officer = case.officer();
    let review = officer.request(pb::ReviewAccessRequest {
        notice_id: judged.clone(),
        review: pb::ReviewStatus::Justified.into(),
        ..Default::default()
    });
    client(&officer).review_access(review).await.unwrap();

    let pending = vec![pb::ReviewStatus::Pending.into()];
    let queue = case.queue(0, pending).await.concat();
    assert_eq!(queue.len(), 1);
    assert_eq!(queue[0].notice_id, forgotten);
    // A page at a time, newest first, each once.
    case.clock.advance(Duration::from_secs(1));
    let newest = case.open().await;
    let pages = case.queue(1, Vec::new()).await;
    assert!(pages.iter().all(|page| page.len() <= 1), "{pages:?}");
    let mut ids: Vec<_> = pages
        .concat()
        .into_iter()
        .map(|one| one.notice_id)
        .collect();
    assert_eq!(ids[0], newest);
    ids.sort();
    let mut all = [forgotten.clone(), judged.clone(), newest.clone()];
    all.sort();
    assert_eq!(ids, all);

    let week = Duration::from_hours(7 * 24);
    for time in 1..=3 {
        case.clock.advance(week + Duration::from_secs(1));
        case.network.stop_node(At::Hub).await;
        case.network.start_node(At::Hub).await;
        for grant in [&forgotten, &newest] {
            let notice = comes(folder, &format!("review-overdue-{time}-{grant}")).await;
            assert_eq!(notice["reference"], **grant);
            assert_eq!(notice["kind"], "review-overdue");
            case.names_nobody(&notice.to_string());
        }
        assert!(there(folder, &format!("review-overdue-{time}-{judged}")).is_none());
        let told = folder.join(format!("review-overdue-{time}-{forgotten}.json"));
        std::fs::remove_file(told).unwrap();
    }
    case.network.stop().await;
}
