//! A closed loop of callers: so many in flight, over a few connections, for a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::demo::actor::Caller;
use crate::error::Reason;

use super::constant::Raw;

/// A call that takes longer is counted as this long: one minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// What came of a run.
pub(super) struct Run {
    /// Calls in a second.
    pub(super) rate: f64,
    /// Microseconds.
    pub(super) p50: f64,
    /// Microseconds.
    pub(super) p99: f64,
    /// Calls.
    pub(super) calls: u64,
}

/// What is called: a path, and a request for each number.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) path: PathAndQuery,
    pub(super) request: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
}

/// One call; the answer's bytes.
pub(super) async fn call(caller: &Caller, target: &Target, number: u64) -> Result<Bytes> {
    let mut client = Grpc::new(caller.channel.clone());
    one(&mut client, caller, target, number).await
}

async fn one(
    client: &mut Grpc<Channel>,
    caller: &Caller,
    target: &Target,
    number: u64,
) -> Result<Bytes> {
    client.ready().await.context("no connection")?;
    let request = caller.request((target.request)(number));
    match client.unary(request, target.path.clone(), Raw).await {
        Ok(answer) => Ok(answer.into_inner()),
        // Searched for like any other, and answered: more people match than may be shown.
        Err(status) if is_too_many(&status) => Ok(Bytes::new()),
        Err(status) => Err(anyhow!("{status}")),
    }
}

fn is_too_many(status: &tonic::Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    reason == Some(Reason::TooManyResults.name())
}

/// Keeps `in_flight` calls going for `time`, spread over `callers` (one connection each).
pub(super) async fn run(
    callers: &[Caller],
    target: &Target,
    in_flight: usize,
    time: Duration,
    numbers: &Arc<AtomicU64>,
) -> Result<Run> {
    let started = Instant::now();
    let end = started + time;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..in_flight {
        let caller = callers
            .get(worker % callers.len().max(1))
            .context("no caller")?
            .clone();
        let (target, numbers) = (target.clone(), Arc::clone(numbers));
        workers.spawn(async move {
            let mut client = Grpc::new(caller.channel.clone());
            let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)?;
            while Instant::now() < end {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let before = Instant::now();
                one(&mut client, &caller, &target, number).await?;
                let took = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
                times.saturating_record(took);
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut all = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)?;
    while let Some(worker) = workers.join_next().await {
        all.add(worker.context("a worker panicked")??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let figures = Run {
        rate: all.len() as f64 / seconds,
        p50: all.value_at_quantile(0.5) as f64,
        p99: all.value_at_quantile(0.99) as f64,
        calls: all.len(),
    };
    Ok(figures)
}

/// A floor and what stands on it, one after the other, each warmed up before either is measured.
pub(super) async fn in_turn(
    floor: (&[Caller], &Target),
    real: (&[Caller], &Target),
    in_flight: usize,
    time: Duration,
    numbers: &Arc<AtomicU64>,
) -> Result<(Run, Run)> {
    let warm = time / 4;
    run(floor.0, floor.1, in_flight, warm, numbers).await?;
    run(real.0, real.1, in_flight, warm, numbers).await?;
    let below = run(floor.0, floor.1, in_flight, time, numbers).await?;
    let above = run(real.0, real.1, in_flight, time, numbers).await?;
    Ok((below, above))
}

/// So many in flight for a time: how many were done in a second, and how many in all.
pub(super) async fn writers<F, Fut>(in_flight: usize, time: Duration, one: F) -> Result<(f64, u64)>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let started = Instant::now();
    let one = Arc::new(one);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..in_flight {
        let one = Arc::clone(&one);
        workers.spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < time {
                one(worker).await?;
                done += 1;
            }
            Ok::<_, anyhow::Error>(done)
        });
    }
    let mut all = 0;
    while let Some(worker) = workers.join_next().await {
        all += worker.context("a worker panicked")??;
    }
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let rate = all as f64 / started.elapsed().as_secs_f64();
    Ok((rate, all))
}
