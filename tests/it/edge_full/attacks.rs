//! What attackers do. They run in threads of their own, at the lowest priority: real ones have
//! processors of their own, and take none from those they attack.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::edge_limits::{Frames, flood, idle_frames, opened_and_reset, provocations};
use crate::support::raw::{
    CONTINUATION, END_HEADERS, HEADERS, HEALTH, PREFACE, Raw, Target, WATCH, call, frame, literal,
    tcp, whole,
};

/// The threads of attackers.
fn threads() -> &'static Runtime {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    THREADS.get_or_init(|| {
        let nice = || {
            // The calling thread's alone, on Linux.
            if rustix::process::setpriority_process(None, 19).is_err() {
                println!("an attacker has the priority of everybody else");
            }
        };
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().on_thread_start(nice);
        builder.build().unwrap()
    })
}

/// Lets an attacker begin with it; gives what comes of it.
pub(super) fn attack<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let begun = threads().spawn(work);
    async move { begun.await.unwrap() }
}

/// A source address for the `number`th attacker: all of this machine, none of the victims'.
pub(super) fn from(number: usize) -> [u8; 4] {
    let [_, _, high, low] = u32::try_from(number / 100 + 1).unwrap().to_be_bytes();
    [127, 1, high, low]
}

/// Connections that were closed, and the most that was sent on one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flooded {
    pub(super) connections: usize,
    pub(super) most: usize,
}

/// Sends `total` of `frames`, on one connection after the other, each until it is closed.
pub(super) async fn floods(target: Target, total: usize, frames: Frames) -> Flooded {
    let mut flooded = Flooded::default();
    let mut sent = 0;
    while sent < total {
        let mut raw = target
            .warm(0, Some(from(flooded.connections)))
            .await
            .unwrap();
        let left = total - sent;
        let (count, ended) = flood(&mut raw, left, frames).await;
        // The last few may be fewer than are allowed.
        assert!(ended.closed || count == left, "{ended:?}");
        sent += count;
        flooded.most = flooded.most.max(count);
        flooded.connections += 1;
    }
    flooded
}

/// A header block without end, on one connection after the other.
pub(super) async fn continuations(target: Target, connections: usize) {
    for number in 0..connections {
        let mut raw = target.warm(0, Some(from(number))).await.unwrap();
        drop(raw.send(&frame(HEADERS, 0, 3, &call(HEALTH, &[]))).await);
        let (_, ended) = flood(&mut raw, 500_000, |_| {
            frame(CONTINUATION, 0, 3, &literal("x", "y"))
        })
        .await;
        assert!(ended.closed, "{ended:?}");
    }
}

/// Header lists over the limit: large ones, and one that HPACK unfolds to 12 MiB.
pub(super) async fn header_lists(target: Target, count: usize) {
    for number in 0..count {
        let Ok(mut raw) = target.warm(0, Some(from(number))).await else {
            continue;
        };
        for (_, frames) in crate::edge_limits::large_header_lists() {
            drop(raw.send(&frames).await);
        }
        raw.until_closed(Duration::from_millis(200)).await;
    }
}

/// Where a peer is slow, how many there are at once, and after how many seconds each is cut.
pub(super) const STAGES: [(&str, usize, u64); 5] = [
    ("tcp", 5_000, 5),
    ("tls", 5_000, 5),
    ("preface", 30, 5),
    ("headers", 30, 10),
    ("body", 30, 30),
];

/// Longer than any stage may last.
const LONG: Duration = Duration::from_mins(1);

/// One byte a second on each of `count` connections in a stage, until each is closed; gives the
/// longest life.
pub(super) async fn drip_all(target: Target, count: usize, stage: &'static str) -> Duration {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let target = target.clone();
        tasks.spawn(async move { drip(&target, number, stage).await });
    }
    tasks.join_all().await.into_iter().max().unwrap_or_default()
}

async fn drip(target: &Target, number: usize, stage: &str) -> Duration {
    let from = Some(from(number));
    if matches!(stage, "tcp" | "tls") {
        let Ok(mut stream) = tcp(target.address, from).await else {
            return Duration::ZERO;
        };
        let began = Instant::now();
        let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3], [7; 200].as_slice()].concat();
        let bytes = if stage == "tcp" { Vec::new() } else { hello };
        let slow = slowly(&mut stream, &bytes, false);
        if tokio::time::timeout(LONG, slow).await.is_ok() {
            return began.elapsed();
        }
        // Whoever was not accepted, as too many waited to be, believes to be connected until it sends
        // something: then it hears that nobody is there.
        let was_there = stream.write_all(&[0]).await.is_ok()
            && !matches!(
                tokio::time::timeout(LONG, stream.read(&mut [0])).await,
                Ok(Err(_))
            );
        return if was_there {
            began.elapsed()
        } else {
            Duration::ZERO
        };
    }
    let Ok(mut raw) = target.connect(target.institution(0), from).await else {
        return Duration::ZERO;
    };
    let began = Instant::now();
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
    began.elapsed()
}

async fn slowly(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    bytes: &[u8],
    ends_with_stream: bool,
) {
    let mut buffer = [0; 4096];
    let mut bytes = bytes.iter();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                // HEADERS with END_STREAM: the call was refused.
                Ok(count) if ends_with_stream
                    && buffer[..count].windows(2).any(|pair| pair == [HEADERS, 5]) => return,
                Ok(_) => {}
            },
            _ = ticks.tick() => {
                if let Some(byte) = bytes.next()
                    && (stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err())
                {
                    return;
                }
            }
        }
    }
}

/// Opens 32 connections, each with `streams` calls whose answers nobody takes.
pub(super) async fn never_read(target: &Target, streams: u32) -> Vec<Raw> {
    let mut open = Vec::new();
    for number in 0..32 {
        let Ok(mut raw) = target
            .connect(target.institution(0), Some(from(number)))
            .await
        else {
            continue;
        };
        raw.begin_with(&[(4, 0)]).await;
        for stream in 0..streams {
            if raw.send(&whole(HEALTH, stream * 2 + 1)).await.is_err() {
                break;
            }
        }
        open.push(raw);
    }
    open
}

/// 32 connections of one institution, as many as it may have, on which it calls without pause for
/// `time`, in bursts of 25: far beyond what it may have in flight. Gives how many calls it sent.
pub(super) async fn hog(target: Target, time: Duration) -> usize {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for number in 0..32 {
        let target = target.clone();
        tasks.spawn(async move {
            let (from, mut sent) = (Some(from(number * 100)), 0);
            while Instant::now() < end {
                let Ok(mut raw) = target.connect(target.institution(0), from).await else {
                    continue;
                };
                raw.begin().await;
                sent += calls_until(&mut raw, end).await;
            }
            sent
        });
    }
    tasks.join_all().await.into_iter().sum()
}

/// Calls until the connection is cut, or the time is over.
async fn calls_until(raw: &mut Raw, end: Instant) -> usize {
    const BURST: u32 = 25;
    let mut sent = 0;
    for burst in 0.. {
        let streams = (0..BURST).map(|call| 1 + 2 * (burst * BURST + call));
        let bytes: Vec<u8> = streams.flat_map(|stream| whole(WATCH, stream)).collect();
        if raw.send(&bytes).await.is_err() || Instant::now() >= end {
            break;
        }
        sent += BURST as usize;
        for _ in 0..10 {
            drop(tokio::time::timeout(Duration::from_millis(20), raw.frame()).await);
        }
    }
    sent
}

/// `count` connections with one certificate; gives those that were served a call.
pub(super) async fn connections(target: Target, count: usize) -> Vec<Raw> {
    let mut open = Vec::new();
    for number in 0..count {
        open.extend(target.warm(0, Some(from(number))).await);
    }
    open
}

/// The kinds of attack that go on for as long as they are let.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Resets,
    Provocations,
    Idle,
    Continuations,
    HeaderLists,
    HalfOpen,
    Slow,
    NeverRead,
    Hog,
    Connections,
}

pub(super) const KINDS: [Kind; 10] = [
    Kind::Resets,
    Kind::Provocations,
    Kind::Idle,
    Kind::Continuations,
    Kind::HeaderLists,
    Kind::HalfOpen,
    Kind::Slow,
    Kind::NeverRead,
    Kind::Hog,
    Kind::Connections,
];

/// One kind of attack, again and again until `end`. They share the connections of one certificate,
/// so that each is refused some.
pub(super) async fn keep_on(target: Target, kind: Kind, end: Instant) -> usize {
    let mut turns = 0;
    while Instant::now() < end {
        once(&target, kind, turns).await;
        turns += 1;
        // Who was refused a connection comes again, but not in a loop without end.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    turns
}

async fn once(target: &Target, kind: Kind, turn: usize) {
    let source = Some(from(turn % 20_000));
    match kind {
        Kind::Resets => flood_once(target, source, opened_and_reset).await,
        Kind::Provocations => {
            let all = provocations();
            flood_once(target, source, all[turn % all.len()].1).await;
        }
        Kind::Idle => {
            let all = idle_frames();
            flood_once(target, source, all[turn % all.len()].1).await;
        }
        Kind::Continuations => {
            if let Ok(mut raw) = target.warm(0, source).await {
                drop(raw.send(&frame(HEADERS, 0, 3, &call(HEALTH, &[]))).await);
                let more = |_| frame(CONTINUATION, 0, 3, &literal("x", "y"));
                flood(&mut raw, 20_000, more).await;
            }
        }
        Kind::HeaderLists => header_lists(target.clone(), 1).await,
        Kind::HalfOpen => {
            let mut open = Vec::new();
            // Now and then more than have a place, so that the oldest give way; otherwise few enough
            // to run into their time.
            let count = if turn.is_multiple_of(16) { 200 } else { 20 };
            for number in 0..count {
                if let Ok(mut stream) = tcp(target.address, Some(from(number))).await {
                    drop(stream.write_all(&[22, 3, 1, 0]).await);
                    open.push(stream);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Kind::Slow => {
            let (stage, ..) = STAGES[turn % STAGES.len()];
            let slow = drip_all(target.clone(), 4, stage);
            drop(tokio::time::timeout(Duration::from_secs(6), slow).await);
        }
        Kind::NeverRead => {
            let open = never_read(target, 20).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(open);
        }
        Kind::Hog => {
            let hog = hog(target.clone(), Duration::from_secs(3));
            drop(tokio::time::timeout(Duration::from_secs(6), hog).await);
        }
        Kind::Connections => {
            let open = connections(target.clone(), 48).await;
            drop(open);
        }
    }
}

async fn flood_once(target: &Target, from: Option<[u8; 4]>, frames: Frames) {
    if let Ok(mut raw) = target.warm(0, from).await {
        flood(&mut raw, 20_000, frames).await;
    }
}
