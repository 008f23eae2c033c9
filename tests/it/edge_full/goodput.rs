//! More calls than the node can take (bar N-16).

use std::time::{Duration, Instant};

use renkei::wire::pb::common::Identifier;
use tokio::task::JoinSet;

use super::victims::Times;
use super::{HERE, wanted};
use crate::support::calls::identifiers;
use crate::support::{Network, Setup};

/// Calls that the node of this test takes at once.
const PLACES: usize = 32;
/// Each load is measured so often, in turns, so that what else the machine does meets all alike.
const ROUNDS: usize = 3;
const SECONDS: u64 = 6;
const LOADS: [usize; 4] = [1, 2, 5, 10];

/// What came of a load.
struct Load {
    good: u64,
    refused: Times,
}

/// As many callers as `times` the places, each with a connection of its own, each calling as fast
/// as it is answered, and waiting as the hint says when it is refused.
async fn load(network: &Network, times: usize) -> Load {
    let mut tasks = JoinSet::new();
    let institutions = &network.sample.regions[0].institutions;
    let callers: Vec<_> = (0..PLACES * times)
        .map(|number| network.system(HERE, &institutions[number % institutions.len()]))
        .collect();
    // Connected before the time runs.
    for caller in &callers {
        drop(identifiers(caller, Identifier::default()).await);
    }
    let end = Instant::now() + Duration::from_secs(SECONDS);
    for caller in callers {
        tasks.spawn(async move {
            let (mut good, mut refused) = (0, Times::new());
            while Instant::now() < end {
                let before = Instant::now();
                match identifiers(&caller, Identifier::default()).await {
                    Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                        refused.record(before.elapsed());
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    Err(status) if status.code() == tonic::Code::InvalidArgument => good += 1,
                    other => panic!("{other:?}"),
                }
            }
            Load { good, refused }
        });
    }
    let mut sum = Load {
        good: 0,
        refused: Times::new(),
    };
    for one in tasks.join_all().await {
        sum.good += one.good;
        sum.refused.add(&one.refused);
    }
    sum
}

/// Bars: N-16: goodput and refusals at 1, 2, 5 and 10 × the capacity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of the folder"]
async fn goodput_under_overload() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone()
        .by_process()
        .set("listen.max_in_flight", &(PLACES * 10 / 8).to_string())
        .set("listen.max_in_flight_per_institution", "100000")
        .set("listen.max_connections_per_certificate", "1000")
        .set("listen.max_connections_per_institution", "1000")
        .set("listen.max_connections_per_address", "1000")
        .start()
        .await;
    let mut loads = LOADS.map(|times| (times, 0_u64, Times::new()));
    for _ in 0..ROUNDS {
        for (times, good, refused) in &mut loads {
            let load = load(&network, *times).await;
            *good += load.good;
            refused.add(&load.refused);
        }
    }
    let peak = loads.iter().map(|(_, good, _)| *good).max().unwrap();
    let mut last = 0.0;
    for (times, good, refused) in &loads {
        #[allow(clippy::cast_precision_loss, reason = "a figure")]
        let (rate, share) = (
            *good as f64 / (SECONDS as f64 * ROUNDS as f64),
            *good as f64 / peak as f64,
        );
        last = share;
        println!(
            "N-16 {times} ×: {rate:.0} good calls/s ({share:.2} of the peak); refused: {refused}"
        );
    }
    let (_, _, refused) = &loads[LOADS.len() - 1];
    assert!(refused.all.len() > 100, "nothing was refused: {refused}");
    assert!(last >= 0.8, "goodput at 10 × is {last:.2} of the peak");
    network.stop().await;
}
