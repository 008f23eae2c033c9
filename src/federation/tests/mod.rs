//! Asking regions over a simulated network, in simulated time: `fanout` and `path` are the
//! program's, the regions behind them are not there. Every run has a seed, which it prints and
//! names when it fails; `RENKEI_SEED=n` tries that one again. (Bars F.)

mod crowds;
mod outages;
mod time;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::fanout::{Answer, Failure, Said, Target, ask, completeness};
use super::path::{Kind, Paths};
use crate::access::{Call, Caller, Participant, ParticipantKind, Person};
use crate::directory::Peer;
use crate::types::{CertificatePin, HomeCommunityId, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::common as cpb;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLI: Duration = Duration::from_millis(1);

fn variable(name: &str) -> Option<String> {
    let mut all = std::env::vars_os();
    let found = all.find(|(key, _)| key == OsStr::new(name));
    found.map(|(_, value)| value.to_string_lossy().into_owned())
}

/// The count of the tier that was chosen with `RENKEI_TIER`.
pub(super) fn count(quick: u64, full: u64) -> u64 {
    match variable("RENKEI_TIER").as_deref() {
        None | Some("quick") => quick,
        Some("full" | "soak") => full,
        Some(other) => panic!("RENKEI_TIER={other}: quick, full or soak"),
    }
}

/// The seed that was asked for, or one by chance; printed.
pub(super) fn seed() -> u64 {
    let chosen = variable("RENKEI_SEED").map(|seed| seed.parse().expect("RENKEI_SEED is a number"));
    let seed = chosen.unwrap_or_else(rand::random);
    println!("RENKEI_SEED={seed}");
    seed
}

/// So many seeds, or the one that was asked for. The quick tier takes the same ones each time: what is
/// judged of them are percentiles, which a run in some hundreds misses by chance. The full tier takes others.
fn seeds(quick: u64, full: u64) -> impl Iterator<Item = u64> {
    let (first, more) = match variable("RENKEI_SEED") {
        Some(_) => (seed(), 1),
        None if count(0, 1) == 0 => (1, quick),
        None => (seed(), full),
    };
    (0..more).map(move |number| first.wrapping_add(number))
}

/// splitmix64: enough to choose by, and the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    /// Between two times.
    fn time(&mut self, from: Duration, to: Duration) -> Duration {
        let micros = u64::try_from(to.abs_diff(from).as_micros()).unwrap();
        from + Duration::from_micros(self.below(micros + 1))
    }

    /// In 0..1.
    fn part(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let part = self.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        part
    }
}

/// How a region is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// It answers.
    Up,
    /// What is sent to it is lost.
    Black,
    /// It answers so much later.
    Slow(Duration),
    /// It refuses connections.
    Down,
    /// So many percent of its calls are UNAVAILABLE.
    Flaky(u64),
    /// So many percent of its calls take so much longer.
    Jerky(u64, Duration),
}

/// A region that is not there.
struct Region {
    peer: Arc<Peer>,
    mood: Mutex<Mood>,
    /// What it takes to answer, from and to.
    takes: (Duration, Duration),
    /// It works on so many calls at once; others wait there.
    workers: tokio::sync::Semaphore,
    under_way: AtomicU32,
    most: AtomicU32,
    tries: AtomicU32,
    answered: AtomicU32,
}

/// Many of them, and the way to them.
struct Net {
    regions: HashMap<HomeCommunityId, Region>,
    order: Vec<HomeCommunityId>,
    dice: Mutex<Dice>,
    paths: Paths,
}

struct Left<'a>(&'a AtomicU32);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Net {
    /// So many regions that are up; each answers within 5 to 50 ms.
    fn new(seed: u64, count: usize) -> Arc<Self> {
        Self::of(seed, count, 1_000, (5 * MILLI, 50 * MILLI))
    }

    fn of(seed: u64, count: usize, workers: usize, takes: (Duration, Duration)) -> Arc<Self> {
        let order: Vec<HomeCommunityId> = (0..count)
            .map(|number| format!("urn:oid:2.999.1.{number}").parse().unwrap())
            .collect();
        let region = |home: &HomeCommunityId| Region {
            peer: Arc::new(Peer {
                home: home.clone(),
                name: String::new(),
                endpoint: Some("https://region.example.jp:7443".parse().unwrap()),
                pins: vec![],
                discovers: false,
                answers: crate::directory::Answers::default(),
            }),
            mood: Mutex::new(Mood::Up),
            takes,
            workers: tokio::sync::Semaphore::new(workers),
            under_way: AtomicU32::new(0),
            most: AtomicU32::new(0),
            tries: AtomicU32::new(0),
            answered: AtomicU32::new(0),
        };
        let regions = order.iter().map(|home| (home.clone(), region(home)));
        let jitter = Mutex::new(Dice::new(seed ^ 0xA5A5));
        Arc::new(Self {
            regions: regions.collect(),
            order,
            dice: Mutex::new(Dice::new(seed)),
            paths: Paths::new(Arc::new(move || jitter.lock().unwrap().part())),
        })
    }

    fn region(&self, number: usize) -> &Region {
        &self.regions[&self.order[number]]
    }

    fn set(&self, number: usize, mood: Mood) {
        *self.region(number).mood.lock().unwrap() = mood;
    }

    fn mood(&self, number: usize) -> Mood {
        *self.region(number).mood.lock().unwrap()
    }

    /// What one try of one region comes to. Given up when dropped, as a real one is.
    async fn answer(self: Arc<Self>, home: HomeCommunityId) -> Result<Said<()>, Failure> {
        let region = &self.regions[&home];
        region.tries.fetch_add(1, Ordering::SeqCst);
        let now = region.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        let _left = Left(&region.under_way);
        region.most.fetch_max(now, Ordering::SeqCst);
        let (work, luck) = {
            let mut dice = self.dice.lock().unwrap();
            (dice.time(region.takes.0, region.takes.1), dice.below(100))
        };
        let mood = *region.mood.lock().unwrap();
        let unavailable = || Failure::Status(tonic::Status::unavailable(""));
        let more = match mood {
            Mood::Black => std::future::pending().await,
            Mood::Down => return Err(unavailable()),
            Mood::Flaky(percent) if luck < percent => return Err(unavailable()),
            Mood::Slow(more) => more,
            Mood::Jerky(percent, more) if luck < percent => more,
            Mood::Up | Mood::Flaky(_) | Mood::Jerky(..) => Duration::ZERO,
        };
        let _worker = region.workers.acquire().await.unwrap();
        tokio::time::sleep(work + more).await;
        region.answered.fetch_add(1, Ordering::SeqCst);
        Ok(Said {
            value: (),
            count: 1,
            truncated: false,
            as_of: None,
        })
    }

    /// Asks some regions within so much time; gives all that came of it, and when it was whole.
    async fn ask(
        self: &Arc<Self>,
        kind: Kind,
        numbers: impl IntoIterator<Item = usize>,
        within: Duration,
    ) -> Merged {
        let call = call(within);
        let targets = numbers.into_iter().map(|number| Target {
            peer: Arc::clone(&self.region(number).peer),
            patients: vec![],
        });
        let net = Arc::clone(self);
        let began = Instant::now();
        let mut asked = ask(
            &call,
            (&self.paths, kind),
            targets.collect(),
            move |target, _| Arc::clone(&net).answer(target.peer.home.clone()),
        );
        let mut answers = Vec::new();
        while let Some(answer) = asked.next().await {
            answers.push(answer);
        }
        let statuses = answers.iter().map(|answer| answer.status.clone());
        Merged {
            took: began.elapsed(),
            completeness: completeness(statuses.collect()),
            answers,
        }
    }

    /// Asks one region.
    async fn one(self: &Arc<Self>, kind: Kind, number: usize) -> (cpb::RegionState, Duration) {
        let merged = self.ask(kind, [number], 3 * SECOND).await;
        (merged.answers[0].status.state(), merged.took)
    }
}

/// A merged answer.
struct Merged {
    took: Duration,
    completeness: cpb::Completeness,
    answers: Vec<Answer<()>>,
}

impl Merged {
    fn state(&self, net: &Net, number: usize) -> cpb::RegionState {
        let home = net.order[number].to_string();
        let mut regions = self.completeness.regions.iter();
        let region = regions.find(|region| region.home_community_id == home);
        region.expect("a region without a status").state()
    }
}

/// A call to be answered within so much time.
fn call(within: Duration) -> Call {
    let participant = Participant {
        code: Some("1310000001".parse().unwrap()),
        kind: ParticipantKind::Hospital,
        community: "urn:oid:2.999.1.9999".parse().unwrap(),
        emergency: true,
        roles: vec![],
        purposes: vec![],
    };
    let caller = Caller {
        participant: Arc::new(participant),
        person: Some(Person {
            subject: "D-1".into(),
            role: PersonRole::Physician,
            relation: Relation::Treating,
        }),
        purpose: PurposeOfUse::Treatment,
        pin: CertificatePin::from_bytes([0; 32]),
        holder: "CN=test".into(),
        relay: None,
        assertion: None,
        until: None,
    };
    Call::new(caller, "test", "request".into(), Instant::now() + within)
}

/// The time that so many percent stayed within.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    assert!(!times.is_empty());
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
