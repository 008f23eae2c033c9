//! The time that a call has, hop by hop, and what becomes of calls that nobody waits for: F-06, F-07.

use super::*;
use cpb::RegionState as State;

#[tokio::test(start_paused = true)]
async fn time_shrinks_at_every_hop_and_what_has_none_left_is_not_sent() {
    // bars: F-06
    for seed in seeds(20, 1_000) {
        let mut dice = Dice::new(seed);
        let mut left = dice.time(Duration::ZERO, 5 * SECOND);
        for hop in 0..3 {
            let call = call(left);
            // What a node does before it asks on.
            tokio::time::sleep(dice.time(Duration::ZERO, 50 * MILLI)).await;
            let remaining = call.deadline().saturating_duration_since(Instant::now());
            let budget = call.downstream_budget();
            let kept = (remaining / 10).max(50 * MILLI);
            assert_eq!(
                budget,
                remaining.saturating_sub(kept),
                "seed {seed}, hop {hop}"
            );
            assert!(budget <= left, "seed {seed}, hop {hop}: it grows");
            left = budget;
        }
        let net = Net::new(seed, 3);
        let merged = net.ask(Kind::Find, 0..3, left).await;
        assert!(
            merged.took <= left,
            "seed {seed}: {:?} of {left:?}",
            merged.took
        );
        if left <= 50 * MILLI {
            for number in 0..3 {
                assert_eq!(
                    merged.state(&net, number),
                    State::SkippedBudget,
                    "seed {seed}"
                );
                assert_eq!(
                    net.region(number).tries.load(Ordering::SeqCst),
                    0,
                    "seed {seed}"
                );
            }
            assert!(!merged.completeness.complete, "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_given_up_everywhere_at_once() {
    // bars: F-07, its half without a network
    for seed in seeds(5, 100) {
        let net = Net::new(seed, 250);
        for number in 0..250 {
            net.set(number, Mood::Black);
        }
        let asking = Arc::clone(&net);
        let asking = tokio::spawn(async move { asking.ask(Kind::Find, 0..250, 3 * SECOND).await });
        tokio::time::sleep(SECOND).await;
        let under_way = |net: &Net| -> u32 {
            let regions = (0..250).map(|number| net.region(number));
            regions
                .map(|one| one.under_way.load(Ordering::SeqCst))
                .sum()
        };
        assert_eq!(under_way(&net), 250, "seed {seed}");
        asking.abort();
        tokio::time::sleep(MILLI).await;
        assert_eq!(under_way(&net), 0, "seed {seed}");
        // They say nothing about the regions: the next caller asks again.
        for number in 0..250 {
            assert!(!net.paths.view(&net.order[number]).open, "seed {seed}");
        }
    }
}
