//! The edge at the counts of the bars, with its default limits: one command, minutes, figures.
//!
//! ```sh
//! RENKEI_TIER=full cargo test --release --test it edge_full -- --include-ignored --nocapture --test-threads=1
//! ```
//!
//! The node is a process of its own; attackers run at the lowest priority. What is asserted is what
//! must never happen. Times are compared with those without the attack, measured in turns with it;
//! they are printed, and judged only with `RENKEI_JUDGE_TIMES=1`, since a busy machine fails them.

mod attacks;
mod goodput;
mod storm;
mod victims;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::attacks::{STAGES, attack, connections, continuations, drip_all, floods, header_lists};
use self::attacks::{hog, never_read};
use self::victims::{Verdict, against};
use crate::edge_limits::{Frames, idle_frames, opened_and_reset, provocations};
use crate::support::raw::Target;
use crate::support::{At, Network, Setup, tier};

const HERE: At = At::Region(0);

/// Skips, and says so, unless the full tier is wanted.
fn wanted() -> bool {
    let full = tier::count(0, 1, 1) == 1;
    if !full {
        eprintln!("SKIPPED: set RENKEI_TIER=full");
    }
    full
}

/// One of the edge's counters, as told over the interface.
fn count(counts: &HashMap<String, u64>, name: &str) -> u64 {
    counts[&format!("edge.{name}")]
}

/// A flood in ten parts, and what it did.
async fn flooded(network: &Network, total: usize, frames: Frames) -> Verdict {
    let target = Target::of(network);
    against(network, 5, |_| {
        let target = target.clone();
        async move {
            let flooded = attack(floods(target, total / 5, frames)).await;
            println!("  {} over {flooded:?}", total / 5);
        }
    })
    .await
}

/// Memory may grow by so much in a flood (N-03 … N-06).
const GROWTH: u64 = 4 << 20;

/// Bars: N-01, N-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of this file"]
async fn floods_that_reset_streams() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().by_process().start().await;
    let verdict = flooded(&network, 1_000_000, opened_and_reset).await;
    verdict.told("N-01 1,000,000 HEADERS+RST_STREAM", 1.5);
    for (name, provocation) in provocations() {
        let verdict = flooded(&network, 100_000, provocation).await;
        verdict.told(&format!("N-02 100,000 {name}"), 1.5);
    }
    network.stop().await;
}

/// Bars: N-03, N-04, N-05, N-06, memory among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of this file"]
async fn floods_that_carry_nothing() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    for (name, idle) in idle_frames() {
        let verdict = flooded(&network, 100_000, idle).await;
        let verdict = verdict.told(&format!("N-04…N-06 100,000 {name}"), 1.5);
        assert!(verdict.growth() <= GROWTH, "{name}: {}", verdict.growth());
    }
    let verdict = against(&network, 5, |_| attack(continuations(target.clone(), 50))).await;
    let verdict = verdict.told("N-03 CONTINUATION without end, 250 connections", 1.5);
    assert!(verdict.growth() <= GROWTH, "{}", verdict.growth());
    let verdict = against(&network, 5, |_| attack(header_lists(target.clone(), 20))).await;
    let verdict = verdict.told("N-06 header lists over the limit, HPACK bombs", 1.5);
    assert!(verdict.growth() <= GROWTH, "{}", verdict.growth());
    network.stop().await;
}

/// Bars: N-07, T-35.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of this file"]
async fn slow_peers_in_every_stage() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone()
        .by_process()
        .set("listen.max_connections", "8192")
        .set("listen.max_half_open", "8192")
        .start()
        .await;
    let target = Target::of(&network);
    for (stage, count, limit) in STAGES {
        let longest = AtomicU64::new(0);
        let verdict = against(&network, 2, |_| {
            let (target, longest) = (target.clone(), &longest);
            async move {
                let lived = attack(drip_all(target, count, stage)).await;
                let lived = u64::try_from(lived.as_millis()).unwrap();
                longest.fetch_max(lived, Ordering::Relaxed);
            }
        });
        let verdict = verdict.await;
        verdict.told(&format!("N-07 {stage} × {count}"), 1.2);
        let longest = Duration::from_millis(longest.into_inner());
        println!(
            "  the longest lived {:.1} s (limit {limit} s)",
            longest.as_secs_f64()
        );
        // The machine may be busy, but not that busy.
        assert!(longest < Duration::from_secs(limit * 2 + 5), "{longest:?}");
    }
    network.stop().await;

    // More than may be half open: the oldest gives way.
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    let verdict = against(&network, 2, |_| {
        let target = target.clone();
        async move {
            attack(drip_all(target, 5_000, "tls")).await;
        }
    });
    let verdict = verdict.await;
    verdict.told("T-35 10,000 half-open, 1,024 places", 1.2);
    let counts = network.status(HERE).await.counts;
    println!("  gave way: {}", count(&counts, "evicted_half_open"));
    assert!(count(&counts, "evicted_half_open") > 0);
    network.stop().await;
}

/// Bars: N-09.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of this file"]
async fn readers_that_never_read() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    let reset = || async {
        let counts = network.status(HERE).await.counts;
        count(&counts, "reader_timeouts") + count(&counts, "shed_quota")
    };
    let verdict = against(&network, 1, |_| async {
        let before = reset().await;
        let (target, began) = (target.clone(), Instant::now());
        let open = attack(async move { never_read(&target, 32).await }).await;
        while reset().await < before + 1_000 {
            assert!(began.elapsed() < Duration::from_mins(1), "not reset");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        println!("  all gone after {:.1} s", began.elapsed().as_secs_f64());
        drop(open);
    });
    let verdict = verdict
        .await
        .told("N-09 1,024 readers that never read", 1.2);
    // 1 MiB for each of those that are let in: 200 by quota.
    assert!(verdict.growth() <= 200 << 20, "{}", verdict.growth());
    network.stop().await;
}

/// Bars: N-08, N-14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; see the head of this file"]
async fn one_institution_takes_all_it_can() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    let verdict = against(&network, 2, |_| {
        let target = target.clone();
        async move {
            let open = attack(connections(target, 1_000)).await;
            assert_eq!(open.len(), 32);
        }
    });
    verdict
        .await
        .told("N-14 1,000 connections of one certificate", 1.5);
    let verdict = against(&network, 3, |_| async {
        let sent = attack(hog(target.clone(), Duration::from_secs(5))).await;
        println!("  {sent} calls sent");
    });
    let verdict = verdict.await;
    verdict.told("N-08 one institution calls without pause for 15 s", 1.5);
    let counts = network.status(HERE).await.counts;
    println!("  refused by quota: {}", count(&counts, "shed_quota"));
    assert!(count(&counts, "shed_quota") > 0);
    network.stop().await;
}
