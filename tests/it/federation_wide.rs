//! A hub, whole, over 250 regions and real mutual TLS: what it tells when a tenth of them hangs, when
//! one answers what it should not, and when the caller goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use renkei::bench::regions::{Behaviour, DOCUMENTS, Running, open};
use renkei::bench::wide::{Hub, Merged, Wide};
use renkei::wire::pb::common::RegionState as State;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::eventually;
use crate::support::tier::{Dice, count};

/// What a call may take, as the bars have it.
const DEADLINE: Duration = Duration::from_secs(3);
/// So many connections at once may take a while to make.
const PATIENT: Duration = Duration::from_secs(10);

/// The hub and its regions, all of which have answered.
struct All {
    hub: Hub,
    regions: Vec<Running>,
    homes: Vec<String>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// The files, gone with it.
    _wide: Wide,
}

impl All {
    async fn start(count: usize) -> Self {
        let delay = |number| Duration::from_millis(5 + number as u64 % 20);
        let wide = Wide::new(count, delay).unwrap();
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let trust = wide.trust().unwrap();
        let regions = open(wide.regions(), &trust, wide.clock(), &stop, &mut tasks);
        let regions = regions.await.unwrap();
        let addresses: Vec<_> = regions.iter().map(|region| region.address).collect();
        let hub = wide.hub(&addresses).await.unwrap();
        let homes = wide.regions().iter().map(|region| region.home.clone());
        let all = Self {
            homes: homes.collect(),
            hub,
            regions,
            stop,
            tasks,
            _wide: wide,
        };
        eventually("all regions answer", || async {
            let merged = all.hub.find(PATIENT).await.unwrap();
            merged.completeness.complete.then_some(())
        })
        .await;
        all
    }

    async fn ask(&self) -> Merged {
        self.hub.find(DEADLINE).await.unwrap()
    }

    /// Documents that the answer has of a region.
    fn of(&self, merged: &Merged, region: usize) -> usize {
        merged
            .documents
            .get(&self.homes[region])
            .copied()
            .unwrap_or_default()
    }

    fn under_way(&self) -> usize {
        self.regions.iter().map(Running::under_way).sum()
    }

    async fn end(mut self) {
        self.hub.end().await.unwrap();
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_of_the_regions_hangs_and_every_other_is_there_in_time() {
    // bars: F-01, F-02, F-05
    let all = All::start(usize::try_from(count(100, 250, 250)).unwrap()).await;
    let mut dice = Dice::new();
    let mut hangs = vec![false; all.regions.len()];
    while hangs.iter().filter(|hangs| **hangs).count() < all.regions.len() / 10 {
        let chosen = dice.place(all.regions.len() - 1);
        hangs[chosen] = true;
        all.regions[chosen].behave(match dice.below(2) {
            0 => Behaviour::Silent,
            _ => Behaviour::Late(Duration::from_secs(10)),
        });
    }
    for _ in 0..3 {
        let began = Instant::now();
        let merged = all.ask().await;
        let took = began.elapsed();
        assert!(took <= DEADLINE, "{took:?}");
        assert!(!merged.completeness.complete);
        assert_eq!(merged.completeness.regions.len(), all.regions.len());
        for (number, hangs) in hangs.iter().enumerate() {
            let state = merged.state(&all.homes[number]).expect("a status");
            let (wanted, held) = match hangs {
                true => (State::Timeout, 0),
                false => (State::Ok, DOCUMENTS),
            };
            assert_eq!((state, all.of(&merged, number)), (wanted, held), "{number}");
        }
    }

    for region in &all.regions {
        region.behave(Behaviour::Silent);
    }
    let began = Instant::now();
    let merged = all.ask().await;
    let took = began.elapsed();
    assert!(took <= DEADLINE, "{took:?}");
    assert_eq!(merged.completeness.regions.len(), all.regions.len());
    assert!(merged.documents.is_empty() && !merged.completeness.complete);
    all.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_region_should_not_answer_is_contained_and_named() {
    // bars: F-03, F-23, Z-18
    const MIB: usize = 1024 * 1024;
    let all = All::start(3).await;
    let cases = [
        (Behaviour::OtherPatient, State::Malformed, 0),
        (Behaviour::OtherCommunity, State::Malformed, 0),
        (Behaviour::CutOff, State::Malformed, 0),
        (Behaviour::Html, State::Malformed, 0),
        (Behaviour::Chatter, State::Malformed, 0),
        (Behaviour::Fails(Code::Internal), State::Malformed, 0),
        // Rows without end, small and large: what was taken is told as not all.
        (Behaviour::Endless(0), State::Truncated, 1_000),
        (
            Behaviour::Endless(30_000),
            State::Truncated,
            3 * MIB / 30_000,
        ),
        // More than is read in one message.
        (Behaviour::Huge(64 * MIB), State::Malformed, 0),
        (
            Behaviour::Fails(Code::PermissionDenied),
            State::RefusedByPolicy,
            0,
        ),
        (Behaviour::Fails(Code::NotFound), State::Stale, 0),
    ];
    for (behaviour, state, most) in cases {
        all.regions[1].behave(behaviour);
        let merged = all.ask().await;
        assert!(!merged.completeness.complete, "{behaviour:?}");
        let told = merged.state(&all.homes[1]);
        assert_eq!(told, Some(state), "{behaviour:?}");
        let held = all.of(&merged, 1);
        assert!(
            held <= most && (held > 0) == (most > 0),
            "{behaviour:?}: {held}"
        );
        for good in [0, 2] {
            assert_eq!(merged.state(&all.homes[good]), Some(State::Ok));
            assert_eq!(all.of(&merged, good), DOCUMENTS);
        }
        // It must not be the breaker that contains the next one: four fifths of the calls are good,
        // also where one that takes long is hedged and fails twice.
        all.regions[1].behave(Behaviour::Well);
        for _ in 0..10 {
            let merged = all.ask().await;
            assert!(merged.completeness.complete, "after {behaviour:?}");
        }
    }
    all.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_goes_takes_all_calls_along() {
    // bars: F-07
    let all = Arc::new(All::start(usize::try_from(count(50, 250, 250)).unwrap()).await);
    for region in &all.regions {
        region.behave(Behaviour::Silent);
    }
    let before = all.hub.gateway.store.last_sequence().0;
    let asking = Arc::clone(&all);
    let asking = tokio::spawn(async move { asking.hub.find(PATIENT).await });
    eventually("every region is asked", || async {
        (all.under_way() == all.regions.len()).then_some(())
    })
    .await;
    // The audit tells of the call, whoever hears the answer.
    assert!(all.hub.gateway.store.last_sequence().0 > before);
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let gone = Instant::now();
    eventually("no region is asked any more", || async {
        (all.under_way() == 0).then_some(())
    })
    .await;
    let took = gone.elapsed();
    println!("F-07: {} calls given up within {took:?}", all.regions.len());
    assert!(took <= Duration::from_secs(1), "{took:?}");
    Arc::into_inner(all).unwrap().end().await;
}
