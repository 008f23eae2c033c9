//! Everything at once, for a while (bar N-15).

use std::time::{Duration, Instant};

use super::attacks::{KINDS, attack, keep_on};
use super::victims::{Victims, Watch};
use super::{HERE, count};
use crate::support::raw::Target;
use crate::support::{Setup, eventually, tier};

/// The ceiling of the node's memory in this test.
const CEILING_MIB: u64 = 384;

/// How long: `RENKEI_STORM_SECONDS`, or 20 s, or 30 min at the full tier.
fn duration() -> Duration {
    let chosen = tier::variable("RENKEI_STORM_SECONDS");
    let seconds = chosen.map_or_else(|| tier::count(20, 1_800, 1_800), |s| s.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Bars: N-15 (with N-01 … N-09, N-14, T-35 in it). Others are served; memory stays under its
/// ceiling; every limit acts; afterwards everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_is_survived() {
    let network = Setup::standalone()
        .by_process()
        .set("listen.memory_ceiling_mib", &CEILING_MIB.to_string())
        .set("listen.max_half_open", "128")
        .set("listen.handshake_timeout_ms", "2000")
        .set("listen.progress_timeout_ms", "2000")
        .set("listen.max_in_flight_per_institution", "20")
        .start()
        .await;
    let target = Target::of(&network);
    let watch = Watch::start(&network);
    let victims = Victims::start(&network);
    victims.connected().await;
    let end = Instant::now() + duration();
    let attackers = KINDS.map(|kind| attack(keep_on(target.clone(), kind, end)));
    let mut turns = Vec::new();
    for (kind, attacker) in KINDS.into_iter().zip(attackers) {
        turns.push((kind, attacker.await));
    }
    let served = victims.end().await;
    let (before, most) = watch.end();
    println!(
        "N-15 {} s: victims {served}, {} failed; memory {} MiB before, {} MiB at most; turns {turns:?}",
        duration().as_secs(),
        served.failed,
        before >> 20,
        most >> 20
    );
    assert_eq!(served.failed, 0, "a victim's call failed");
    assert!(served.all.len() > 2 * duration().as_secs(), "{served}");
    assert!(most < CEILING_MIB << 20, "{most}");
    for (kind, turns) in &turns {
        assert!(*turns > 0, "{kind:?}");
    }
    let counts = network.status(HERE).await.counts;
    let limits = [
        "frame_floods",
        "handshake_timeouts",
        "reader_timeouts",
        "refused_certificate",
        "shed_quota",
    ];
    // These want more than a busy machine sends in the short time of the quick tier.
    let longer: &[&str] = match tier::count(0, 1, 1) {
        0 => &[],
        _ => &["reset_floods", "evicted_half_open"],
    };
    for name in limits.iter().chain(longer) {
        println!("  {name}: {}", count(&counts, name));
        assert!(count(&counts, name) > 0, "{name} did not act: {counts:?}");
    }
    assert_eq!(count(&counts, "shed_memory"), 0);
    assert!(!network.process(HERE).log().contains("panicked"));
    eventually("nobody holds a connection or a call any more", || async {
        let status = network.status(HERE).await;
        (status.connections <= 4 && status.calls_in_flight <= 1).then_some(())
    })
    .await;
    network.stop().await;
}
