//! The edge at the counts of the bars, with its default limits: one command, minutes, figures.
//!
//! ```sh
//! RENKEI_TIER=full cargo test --release --test it edge_full -- --ignored --nocapture --test-threads=1
//! ```
//!
//! Attackers, victims and the node share one process and so its processors, which a real attacker
//! would not: the figures of victims are upper bounds. What is asserted is what must never happen;
//! times are printed, not judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use renkei::wire::pb::common::Identifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::edge_limits::{
    Frames, counter, flood, hold, idle_frames, opened_and_reset, provocations, warm,
};
use crate::support::calls::identifiers;
use crate::support::raw::{
    END_HEADERS, HEADERS, HEALTH, PREFACE, Raw, SETTINGS, WATCH, call, frame, institution, tcp,
    whole,
};
use crate::support::{At, Network, Setup};

const HERE: At = At::Region(0);
/// Victims at once, each calling twenty times a second.
const VICTIMS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
/// How long the quiet is measured.
const QUIET: Duration = Duration::from_secs(5);

/// Skips, and says so, unless the full tier is wanted.
fn wanted() -> bool {
    let full = std::env::vars().any(|(name, tier)| name == "RENKEI_TIER" && tier == "full");
    if !full {
        eprintln!("SKIPPED: set RENKEI_TIER=full");
    }
    full
}

/// Other institutions, which are served while somebody attacks.
struct Victims {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    tasks: JoinSet<Histogram<u64>>,
}

impl Victims {
    fn start(network: &Network) -> Self {
        let (stop, failed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = JoinSet::new();
        let others = network.sample.regions[0].institutions.len() - 1;
        for number in 0..VICTIMS {
            let one = &network.sample.regions[0].institutions[1 + number % others];
            let caller = network.system(HERE, one);
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            tasks.spawn(async move {
                let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let mut client = HealthClient::new(caller.channel.clone());
                    let before = Instant::now();
                    if client.check(HealthCheckRequest::default()).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    let took = u64::try_from(before.elapsed().as_micros()).unwrap();
                    times.saturating_record(took);
                    tokio::time::sleep(PAUSE).await;
                }
                times
            });
        }
        Self {
            stop,
            failed,
            tasks,
        }
    }

    /// p50 and p99 in microseconds, calls, and failures.
    async fn end(self) -> (u64, u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        for times in self.tasks.join_all().await {
            all.add(times).unwrap();
        }
        let (p50, p99) = (all.value_at_quantile(0.5), all.value_at_quantile(0.99));
        (p50, p99, all.len(), self.failed.load(Ordering::Relaxed))
    }
}

/// Measures victims in the quiet, then during `attack`, and prints both.
async fn against<T>(network: &Network, name: &str, attack: impl Future<Output = T>) -> T {
    let quiet = Victims::start(network);
    tokio::time::sleep(QUIET).await;
    let quiet = quiet.end().await;
    let victims = Victims::start(network);
    let began = Instant::now();
    let result = attack.await;
    // Long enough for a quantile.
    tokio::time::sleep(QUIET.saturating_sub(began.elapsed())).await;
    let seconds = began.elapsed().as_secs_f64();
    let hit = victims.end().await;
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    let ratio = hit.1 as f64 / quiet.1 as f64;
    println!(
        "{name}: {seconds:.1} s; victims p50 {} us, p99 {} us (quiet {} / {} us, p99 ratio {ratio:.2}), \
         {} calls, {} failed; resident {} MiB",
        hit.0,
        hit.1,
        quiet.0,
        quiet.1,
        hit.2,
        hit.3,
        resident() >> 20
    );
    assert_eq!(hit.3, 0, "{name}: a victim's call failed");
    result
}

/// Resident memory of this process, node and attackers together, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// A source address for the `number`th attacker: all of this machine, none of the victims'.
fn from(number: usize) -> [u8; 4] {
    let [_, _, high, low] = u32::try_from(number / 100).unwrap().to_be_bytes();
    [127, 1, high, low.max(1)]
}

/// Floods on one connection after the other until `total` were sent; gives connections and the
/// most sent on one.
async fn floods(network: &Network, total: usize, bytes: Frames) -> (usize, usize) {
    let (mut sent, mut connections, mut most) = (0, 0, 0);
    while sent < total {
        let mut raw = warm(network).await;
        let (count, ended) = flood(&mut raw, total - sent, bytes).await;
        assert!(ended.closed, "{ended:?}");
        sent += count;
        most = most.max(count);
        connections += 1;
    }
    (connections, most)
}

/// Bars: N-01, N-02, N-03 … N-06.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn floods_of_frames() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().start().await;
    let attack = floods(&network, 1_000_000, opened_and_reset);
    let (connections, most) = against(&network, "N-01 HEADERS+RST_STREAM", attack).await;
    println!("  1,000,000 over {connections} connections, at most {most} written on one");
    for (name, provocation) in provocations() {
        let title = format!("N-02 {name}");
        let attack = floods(&network, 100_000, provocation);
        let (connections, most) = against(&network, &title, attack).await;
        println!("  100,000 over {connections} connections, at most {most} written on one");
    }
    for (name, idle) in idle_frames() {
        let title = format!("N-04…N-06 {name}");
        let attack = floods(&network, 100_000, idle);
        let (connections, most) = against(&network, &title, attack).await;
        println!("  100,000 over {connections} connections, at most {most} written on one");
    }
    network.stop().await;
}

/// One byte a second on each of `count` connections in a stage, until each is closed; gives the
/// longest life.
async fn drip_all(network: &Network, count: usize, stage: &'static str) -> Duration {
    let identity = Arc::new(institution(network, 0));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let address = network.address(HERE);
        // Beyond TLS one certificate has 32 connections.
        let raw = match stage {
            "tcp" | "tls" => None,
            _ if number < 32 => Raw::connect_from(network, &identity, Some(from(number)))
                .await
                .ok(),
            _ => break,
        };
        tasks.spawn(async move {
            let began = Instant::now();
            if let Some(mut raw) = raw {
                let block = frame(HEADERS, END_HEADERS, 1, &call(WATCH, &[]));
                let slow = match stage {
                    "preface" => PREFACE.to_vec(),
                    "headers" => {
                        raw.begin().await;
                        block
                    }
                    _ => {
                        raw.begin().await;
                        drop(raw.send(&block).await);
                        frame(0, 0, 1, &[0; 4_000])
                    }
                };
                slowly(raw.tls, &slow, stage == "body").await;
            } else {
                let Ok(stream) = tcp(address, Some(from(number))).await else {
                    return began.elapsed();
                };
                let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3], [7; 200].as_slice()].concat();
                let bytes = if stage == "tcp" { Vec::new() } else { hello };
                slowly(stream, &bytes, false).await;
            }
            began.elapsed()
        });
    }
    tasks.join_all().await.into_iter().max().unwrap_or_default()
}

async fn slowly(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    bytes: &[u8],
    ends_with_stream: bool,
) {
    let mut buffer = [0; 4096];
    let mut bytes = bytes.iter();
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                // HEADERS with END_STREAM: the call was refused.
                Ok(count) if ends_with_stream
                    && buffer[..count].windows(2).any(|pair| pair == [HEADERS, 5]) => return,
                Ok(_) => {}
            },
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if let Some(byte) = bytes.next()
                    && (stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err())
                {
                    return;
                }
            }
        }
    }
}

/// Bars: N-07, T-35.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn slow_peers_in_every_stage() {
    if !wanted() {
        return;
    }
    // Half of the machine's descriptors are the attackers'.
    let network = Setup::standalone()
        .set("listen.max_connections", "8192")
        .set("listen.max_half_open", "8192")
        .start()
        .await;
    for (stage, count, limit) in [
        ("tcp", 5_000, 5),
        ("tls", 5_000, 5),
        ("preface", 32, 5),
        ("headers", 32, 10),
        ("body", 32, 30),
    ] {
        let attack = drip_all(&network, count, stage);
        let longest = against(&network, &format!("N-07 {stage} × {count}"), attack).await;
        println!(
            "  the longest lived {:.1} s (limit {limit} s)",
            longest.as_secs_f64()
        );
    }
    network.stop().await;

    // More than may be half open: the oldest gives way.
    let network = Setup::standalone().start().await;
    let attack = async {
        for _ in 0..2 {
            drip_all(&network, 5_000, "tls").await;
        }
    };
    against(&network, "T-35 10,000 half-open, 1,024 places", attack).await;
    println!("  gave way: {}", counter(&network, "evicted_half_open"));
    network.stop().await;
}

/// Bars: N-09.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn readers_that_never_read() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().start().await;
    let before = resident();
    let attack = async {
        let mut open = Vec::new();
        for number in 0..32 {
            let identity = institution(&network, 0);
            let raw = Raw::connect_from(&network, &identity, Some(from(number * 100))).await;
            let mut raw = raw.unwrap();
            raw.begin_with(&[(4, 0)]).await;
            for stream in 0..32 {
                raw.send(&whole(HEALTH, stream * 2 + 1)).await.unwrap();
            }
            open.push(raw);
        }
        let began = Instant::now();
        let mut most = 0;
        while counter(&network, "reader_timeouts") + counter(&network, "shed_quota") < 1_000 {
            most = most.max(resident().saturating_sub(before));
            assert!(began.elapsed() < Duration::from_mins(1), "not reset");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!(
            "N-09 after {:.1} s: {} streams reset, {} refused by quota; + {} KiB resident at most",
            began.elapsed().as_secs_f64(),
            counter(&network, "reader_timeouts"),
            counter(&network, "shed_quota"),
            most >> 10
        );
    };
    against(&network, "N-09 1,024 readers", attack).await;
    network.stop().await;
}

/// Bars: N-08, N-14.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn one_institution_takes_all_it_can() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().start().await;
    let identity = institution(&network, 0);
    let open = against(
        &network,
        "N-14 1,000 connections",
        hold(&network, &identity, 1_000),
    )
    .await;
    println!(
        "  {} were served, {} refused",
        open.len(),
        counter(&network, "refused_certificate")
    );
    assert_eq!(open.len(), 32);
    drop(open);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // 100 × 200 calls that stay, 32 connections, as fast as the node answers.
    let attack = async {
        let mut tasks = JoinSet::new();
        for number in 0..32 {
            let identity = identity.clone();
            let raw = Raw::connect_from(&network, &identity, Some(from(number * 100))).await;
            let mut raw = raw.unwrap();
            tasks.spawn(async move {
                raw.begin().await;
                let mut stream = 1;
                for _ in 0..25 {
                    let mut bytes = Vec::new();
                    for _ in 0..25 {
                        bytes.extend(whole(WATCH, stream));
                        stream += 2;
                    }
                    if raw.send(&bytes).await.is_err() {
                        return;
                    }
                    for _ in 0..10 {
                        drop(tokio::time::timeout(Duration::from_millis(20), raw.frame()).await);
                    }
                }
            });
        }
        tasks.join_all().await;
    };
    against(&network, "N-08 20,000 calls of one institution", attack).await;
    println!("  refused by quota: {}", counter(&network, "shed_quota"));
    assert!(counter(&network, "shed_quota") > 0);
    network.stop().await;
}

/// Bars: N-16: goodput and refusals at 1, 2, 5 and 10 × the capacity.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn goodput_under_overload() {
    if !wanted() {
        return;
    }
    let places = 32_usize;
    let network = Setup::standalone()
        .set("listen.max_in_flight", &(places * 10 / 8).to_string())
        .set("listen.max_in_flight_per_institution", "100000")
        .start()
        .await;
    let mut peak = 0.0_f64;
    for times in [1, 2, 5, 10] {
        let mut tasks = JoinSet::new();
        let end = Instant::now() + Duration::from_secs(10);
        for number in 0..places * times {
            let institutions = &network.sample.regions[0].institutions;
            let caller = network.system(HERE, &institutions[number % institutions.len()]);
            tasks.spawn(async move {
                let mut good = 0_u64;
                let mut refused = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
                while Instant::now() < end {
                    let before = Instant::now();
                    match identifiers(&caller, Identifier::default()).await {
                        Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                            let took = u64::try_from(before.elapsed().as_micros()).unwrap();
                            refused.saturating_record(took);
                            // As the hint says.
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                        _ => good += 1,
                    }
                }
                (good, refused)
            });
            // One certificate has 32 connections; a channel is one.
            if tasks.len() >= 32 * 3 {
                break;
            }
        }
        let mut good = 0;
        let mut refused = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        for (some, times) in tasks.join_all().await {
            good += some;
            refused.add(times).unwrap();
        }
        #[allow(clippy::cast_precision_loss, reason = "a figure")]
        let rate = good as f64 / 10.0;
        peak = peak.max(rate);
        println!(
            "N-16 {times} ×: {rate:.0} calls/s ({:.2} of the peak); {} refused, p50 {} us, p99 {} us",
            rate / peak,
            refused.len(),
            refused.value_at_quantile(0.5),
            refused.value_at_quantile(0.99)
        );
    }
    network.stop().await;
}

/// Bars: N-03: a header block without end, again and again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; see the head of this file"]
async fn floods_of_continuations() {
    if !wanted() {
        return;
    }
    let network = Setup::standalone().start().await;
    let before = resident();
    let attack = async {
        for _ in 0..200 {
            let mut raw = warm(&network).await;
            drop(raw.send(&frame(HEADERS, 0, 3, &call(HEALTH, &[]))).await);
            let more = |_| frame(9, 0, 3, &[0, 1, b'x', 1, b'y']);
            let (_, ended) = flood(&mut raw, 500_000, more).await;
            assert!(ended.closed);
        }
    };
    against(&network, "N-03 CONTINUATION × 200 connections", attack).await;
    println!(
        "  + {} KiB resident",
        resident().saturating_sub(before) >> 10
    );
    let settings = frame(SETTINGS, 0, 0, &[]);
    assert_eq!(settings.len(), 9);
    network.stop().await;
}
