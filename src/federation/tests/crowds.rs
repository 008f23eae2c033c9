//! Many calls at once: F-08, F-10, F-11, F-18, F-24.

use super::*;
use cpb::RegionState as State;
use tokio::task::JoinSet;

/// What came of calls that were sent at their times, whatever became of those before.
struct Load {
    good: Vec<Duration>,
    refused: u32,
}

/// Sends calls of one kind to regions chosen by `to`, one each `every`, for `time`.
async fn load(
    net: &Arc<Net>,
    kind: Kind,
    every: Duration,
    time: Duration,
    mut to: impl FnMut(u32) -> usize,
) -> Load {
    let (began, mut calls, mut number) = (Instant::now(), JoinSet::new(), 0);
    while began.elapsed() < time {
        let (net, region) = (Arc::clone(net), to(number));
        calls.spawn(async move { net.one(kind, region).await });
        number += 1;
        tokio::time::sleep_until(began + every * number).await;
    }
    let mut load = Load {
        good: Vec::new(),
        refused: 0,
    };
    while let Some(call) = calls.join_next().await {
        let (state, took) = call.unwrap();
        match state {
            State::Ok => load.good.push(took),
            _ => load.refused += 1,
        }
    }
    load
}

#[tokio::test(start_paused = true)]
async fn half_of_the_calls_unavailable_is_not_made_worse_by_retries() {
    // bars: F-08
    for seed in seeds(1, 30) {
        let net = Net::new(seed, 20);
        for number in 0..20 {
            net.set(number, Mood::Flaky(50));
        }
        let offered = 300 * 50;
        let flaky = load(&net, Kind::Find, SECOND / 50, 300 * SECOND, |number| {
            number as usize % 20
        });
        let flaky = flaky.await;
        let tries: u32 = (0..20)
            .map(|number| net.region(number).tries.load(Ordering::SeqCst))
            .sum();
        println!(
            "seed {seed}: {tries} sent for {offered}, {} good",
            flaky.good.len()
        );
        assert!(
            tries * 10 <= offered * 12,
            "seed {seed}: {tries} for {offered}"
        );
        assert!(!flaky.good.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_holds_every_call_does_not_hold_the_others() {
    // bars: F-10
    for seed in seeds(1, 50) {
        let mut times = Vec::new();
        for holding in [false, true] {
            let net = Net::new(seed, 20);
            if holding {
                net.set(0, Mood::Black);
            }
            let held = Arc::clone(&net);
            let holding = tokio::spawn(async move {
                load(&held, Kind::Find, SECOND / 100, 30 * SECOND, |_| 0).await
            });
            let others = load(&net, Kind::Find, SECOND / 400, 30 * SECOND, |number| {
                1 + number as usize % 19
            });
            let others = others.await;
            assert_eq!(others.refused, 0, "seed {seed}");
            times.push(percentile(&others.good, 99));
            holding.await.unwrap();
            let most = net.region(0).most.load(Ordering::SeqCst);
            assert!(most <= 32, "seed {seed}: {most} at once");
        }
        assert!(times[1] <= times[0] * 11 / 10, "seed {seed}: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_replicas_are_overtaken_within_a_twentieth_of_the_calls() {
    // bars: F-11
    for seed in seeds(1, 50) {
        let mut times = Vec::new();
        for kind in [Kind::Retrieve, Kind::Find] {
            let net = Net::of(seed, 20, 1_000, (10 * MILLI, 20 * MILLI));
            for number in 0..20 {
                net.set(number, Mood::Jerky(2, SECOND));
            }
            let calls = load(&net, kind, SECOND / 200, 60 * SECOND, |number| {
                number as usize % 20
            });
            let calls = calls.await;
            assert_eq!(calls.refused, 0, "seed {seed}");
            let tries: u32 = (0..20)
                .map(|number| net.region(number).tries.load(Ordering::SeqCst))
                .sum();
            let offered = u32::try_from(calls.good.len()).unwrap();
            println!("seed {seed}: {kind:?} {tries} sent for {offered}");
            match kind {
                // Never asked for twice at once.
                Kind::Retrieve => assert_eq!(tries, offered, "seed {seed}"),
                _ => assert!(tries <= offered + offered / 20 + 2, "seed {seed}: {tries}"),
            }
            times.push(percentile(&calls.good, 99));
        }
        assert!(times[1] <= times[0] / 2, "seed {seed}: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_emergency_goes_before_ten_times_the_load() {
    // bars: F-18
    for seed in seeds(1, 50) {
        // 16 calls at once of 50 ms each: 320 a second.
        let region = || Net::of(seed, 1, 16, (45 * MILLI, 55 * MILLI));
        let net = region();
        let (every, time) = (SECOND / 10, 15 * SECOND);
        let idle = load(&net, Kind::Summary, every, time, |_| 0).await;
        let net = region();
        let bulk = Arc::clone(&net);
        let bulk =
            tokio::spawn(async move { load(&bulk, Kind::Find, SECOND / 3_200, time, |_| 0).await });
        let busy = load(&net, Kind::Summary, every, time, |_| 0).await;
        let bulk = bulk.await.unwrap();
        let (idle_p99, busy_p99) = (percentile(&idle.good, 99), percentile(&busy.good, 99));
        println!("seed {seed}: emergencies {idle_p99:?} idle, {busy_p99:?} busy");
        assert!(bulk.refused > 0, "seed {seed}: it was not too much");
        assert_eq!((idle.refused, busy.refused), (0, 0), "seed {seed}");
        assert!(
            busy_p99 <= idle_p99 * 3 / 2,
            "seed {seed}: {idle_p99:?} {busy_p99:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_of_five_times_the_load_it_is_as_before() {
    // bars: F-24
    for seed in seeds(1, 50) {
        let net = Net::of(seed, 1, 16, (45 * MILLI, 55 * MILLI));
        let normal = SECOND / 100;
        let before = load(&net, Kind::Find, normal, 60 * SECOND, |_| 0).await;
        let over = load(&net, Kind::Find, normal / 5, 60 * SECOND, |_| 0).await;
        load(&net, Kind::Find, normal, 30 * SECOND, |_| 0).await;
        let after = load(&net, Kind::Find, normal, 60 * SECOND, |_| 0).await;
        let (before, after) = (percentile(&before.good, 99), percentile(&after.good, 99));
        println!(
            "seed {seed}: {before:?}, {after:?} after {} were turned away",
            over.refused
        );
        assert!(after <= before * 6 / 5, "seed {seed}: {before:?} {after:?}");
    }
}
