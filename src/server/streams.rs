//! The tasks of a connection's streams: each ends when its reader does not keep up, with `RST_STREAM`
//! for that stream alone.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::meter::Meter;
use super::pace::Pace;
use crate::edge::Counters;

tokio::task_local! {
    /// The reader of the stream whose task this is.
    static READER: Arc<Reader>;
}

/// The reader of one stream.
#[derive(Debug)]
pub(super) struct Reader(Mutex<Pace>);

impl Reader {
    /// That of the task this is called in.
    pub(super) fn here() -> Option<Arc<Self>> {
        READER.try_with(Arc::clone).ok()
    }

    /// Changes its pace.
    pub(super) fn pace<T>(&self, change: impl FnOnce(&mut Pace) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the tasks of one connection's streams.
#[derive(Clone)]
pub(super) struct Streams {
    meter: Arc<Meter>,
    counters: Arc<Counters>,
    limit: Duration,
}

impl Streams {
    /// For a connection; a reader may take `limit` for each 64 KiB.
    pub(super) fn new(meter: Arc<Meter>, counters: Arc<Counters>, limit: Duration) -> Self {
        Self {
            meter,
            counters,
            limit,
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.meter.begun();
        let running = Running(Arc::clone(&self.meter));
        let watched = Watched {
            task: Box::pin(task),
            reader: Arc::new(Reader(Mutex::new(Pace::new(self.limit)))),
            alarm: None,
        };
        let counters = Arc::clone(&self.counters);
        tokio::spawn(async move {
            let _running = running;
            if watched.await.is_err() {
                counters.reader_timeouts.add();
                tracing::warn!(rule = "reader-timeout", "a stream was reset");
            }
        });
    }
}

/// Counts the task as running.
struct Running(Arc<Meter>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.done(Instant::now());
    }
}

/// The reader was too slow.
struct TooSlow;

struct Watched<F> {
    task: Pin<Box<F>>,
    reader: Arc<Reader>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = Result<(), TooSlow>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let task = &mut this.task;
        let polled = READER.sync_scope(Arc::clone(&this.reader), || task.as_mut().poll(context));
        if polled.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Some(until) = this.reader.pace(|pace| pace.until()) else {
            return Poll::Pending;
        };
        if until <= Instant::now() {
            return Poll::Ready(Err(TooSlow));
        }
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        // Asked so that it wakes this task.
        match alarm.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(TooSlow)),
            Poll::Pending => Poll::Pending,
        }
    }
}
