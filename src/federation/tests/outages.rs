//! Regions that die, hang, come and go: F-01, F-02, F-04, F-05, F-09, F-22.

use super::*;
use cpb::RegionState as State;

/// Asks all regions, and judges what must hold of every answer.
async fn judged(net: &Arc<Net>, seed: u64) -> Merged {
    let all = net.order.len();
    let merged = net.ask(Kind::Find, 0..all, 3 * SECOND).await;
    assert!(merged.took <= 3 * SECOND, "seed {seed}: {:?}", merged.took);
    assert_eq!(merged.answers.len(), all, "seed {seed}: a status each");
    assert_eq!(merged.completeness.regions.len(), all, "seed {seed}");
    let mut every = true;
    for answer in &merged.answers {
        let good = matches!(answer.status.state(), State::Ok | State::Empty);
        assert_eq!(
            good,
            answer.value.is_some(),
            "seed {seed}: {:?}",
            answer.status
        );
        every &= answer.value.is_some();
    }
    assert_eq!(merged.completeness.complete, every, "seed {seed}");
    merged
}

/// A tenth of 250 regions gets `bad`; the others are all there, each time and in time.
async fn a_tenth(bad: Mood, quick: u64) {
    for seed in seeds(quick, 200) {
        let (net, mut dice) = (Net::new(seed, 250), Dice::new(!seed));
        let first = judged(&net, seed).await;
        assert!(first.completeness.complete, "seed {seed}");
        while (0..250).filter(|one| net.mood(*one) == bad).count() < 25 {
            net.set(usize::try_from(dice.below(250)).unwrap(), bad);
        }
        for _ in 0..12 {
            let merged = judged(&net, seed).await;
            assert!(!merged.completeness.complete, "seed {seed}");
            for number in 0..250 {
                let state = merged.state(&net, number);
                match net.mood(number) == bad {
                    true => assert!(
                        matches!(
                            state,
                            State::Timeout | State::CircuitOpen | State::Unreachable
                        ),
                        "seed {seed}: {state:?}"
                    ),
                    false => assert_eq!(state, State::Ok, "seed {seed}: region {number}"),
                }
            }
        }
        // The breakers are open: nobody waits for the bad ones any more, but for one that is probed.
        let mut quick = 0;
        for _ in 0..20 {
            quick += u32::from(judged(&net, seed).await.took < SECOND / 10);
        }
        assert!(quick >= 10, "seed {seed}: {quick} of 20");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenth_that_loses_everything_costs_no_live_answer() {
    // bars: F-01
    a_tenth(Mood::Black, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenth_that_is_slow_costs_no_live_answer() {
    // bars: F-02
    a_tenth(Mood::Slow(10 * SECOND), 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenth_that_refuses_costs_no_live_answer() {
    a_tenth(Mood::Down, 2).await;
}

#[tokio::test(start_paused = true)]
async fn all_regions_dead_is_said_in_time() {
    // bars: F-05
    for seed in seeds(4, 200) {
        let (net, mut dice) = (Net::new(seed, 250), Dice::new(!seed));
        for number in 0..250 {
            let mood = [Mood::Black, Mood::Down, Mood::Slow(10 * SECOND)];
            net.set(number, mood[usize::try_from(dice.below(3)).unwrap()]);
        }
        for _ in 0..12 {
            let merged = judged(&net, seed).await;
            assert!(merged.answers.iter().all(|answer| answer.value.is_none()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn regions_that_come_and_go_are_told_truly_and_breakers_do_not_flap() {
    // bars: F-04
    const REGIONS: usize = 50;
    const MINUTES: u32 = 10;
    for seed in seeds(1, 50) {
        let net = Net::new(seed, REGIONS);
        let stop = Instant::now() + 60 * MINUTES * SECOND;
        let mut weather = tokio::task::JoinSet::new();
        for number in 0..REGIONS {
            let (net, mut dice) = (Arc::clone(&net), Dice::new(seed ^ number as u64));
            weather.spawn(async move {
                while Instant::now() < stop {
                    let mood = [Mood::Up, Mood::Down, Mood::Up, Mood::Black];
                    for mood in mood {
                        net.set(number, mood);
                        tokio::time::sleep(dice.time(SECOND, 10 * SECOND)).await;
                    }
                }
            });
        }
        let (mut open, mut flips) = ([false; REGIONS], [0_u32; REGIONS]);
        let mut answered = 0;
        while Instant::now() < stop {
            let merged = judged(&net, seed).await;
            answered += merged
                .answers
                .iter()
                .filter(|one| one.value.is_some())
                .count();
            let seen = open.iter_mut().zip(&mut flips);
            for (home, (open, flips)) in net.order.iter().zip(seen) {
                let now = net.paths.view(home).open;
                *flips += u32::from(now != *open);
                *open = now;
            }
            tokio::time::sleep(SECOND / 5).await;
        }
        let most = flips.iter().max().unwrap();
        println!("seed {seed}: {most} flips at most in {MINUTES} min, {answered} answers");
        assert!(*most <= MINUTES * 6, "seed {seed}: {flips:?}");
        assert!(answered > 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_dies_is_left_alone_and_full_again_within_a_minute() {
    // bars: F-09
    for seed in seeds(20, 300) {
        let (net, mut dice) = (Net::new(seed, 1), Dice::new(!seed));
        for _ in 0..30 {
            assert_eq!(net.one(Kind::Find, 0).await.0, State::Ok, "seed {seed}");
        }
        net.set(0, Mood::Down);
        let before = net.region(0).tries.load(Ordering::SeqCst);
        let mut calls = 0;
        while net.one(Kind::Find, 0).await.0 != State::CircuitOpen {
            calls += 1;
            assert!(calls <= 7, "seed {seed}: it stays closed");
        }
        // It is tried only to see whether it is back: doubling pauses, so a few times in ten minutes.
        let dead = Instant::now() + dice.time(SECOND, 600 * SECOND);
        while Instant::now() < dead {
            net.one(Kind::Find, 0).await;
            tokio::time::sleep(SECOND / 10).await;
        }
        let tried = net.region(0).tries.load(Ordering::SeqCst) - before;
        assert!(tried <= 7 + 7 + 30, "seed {seed}: {tried} tries");
        net.set(0, Mood::Up);
        let back = Instant::now();
        while net.one(Kind::Find, 0).await.0 != State::Ok {
            tokio::time::sleep(SECOND / 10).await;
            let waited = back.elapsed();
            assert!(waited <= 60 * SECOND, "seed {seed}: {waited:?}");
        }
        for _ in 0..100 {
            assert_eq!(net.one(Kind::Find, 0).await.0, State::Ok, "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn regions_that_return_at_once_are_asked_again_one_by_one() {
    // bars: F-22
    for seed in seeds(1, 50) {
        let net = Net::new(seed, 250);
        for number in 0..250 {
            net.set(number, Mood::Down);
        }
        let returned = Instant::now() + 300 * SECOND;
        while Instant::now() < returned {
            judged(&net, seed).await;
            tokio::time::sleep(SECOND).await;
        }
        for number in 0..250 {
            net.set(number, Mood::Up);
        }
        let mut back = vec![None; 250];
        while back.iter().any(Option::is_none) {
            let merged = judged(&net, seed).await;
            for (number, back) in back.iter_mut().enumerate() {
                if back.is_none() && merged.state(&net, number) == State::Ok {
                    *back = Some(returned.elapsed());
                }
            }
            tokio::time::sleep(SECOND / 2).await;
        }
        let back: Vec<Duration> = back.into_iter().flatten().collect();
        let (first, last) = (back.iter().min().unwrap(), back.iter().max().unwrap());
        println!("seed {seed}: back after {first:?} to {last:?}");
        assert!(*last >= *first + 30 * SECOND, "seed {seed}");
        assert!(*last <= 62 * SECOND, "seed {seed}: {last:?}");
        // Nowhere a crowd: no second in which more than a tenth comes back.
        let crowd = (0..62).map(|second| back.iter().filter(|one| one.as_secs() == second).count());
        assert!(crowd.max().unwrap() <= 25, "seed {seed}: {back:?}");
    }
}
