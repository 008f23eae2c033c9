//! Handshakes take turns at the processor: a flood of new connections must not starve live ones,
//! and one that stalls must not hold the turn of others.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// A future each of whose steps waits for its turn.
pub(super) struct Lane<F> {
    turns: PollSemaphore,
    work: Pin<Box<F>>,
}

impl<F> Lane<F> {
    /// Lets `work` take turns with the others of `turns`.
    pub(super) fn new(turns: &Arc<Semaphore>, work: F) -> Self {
        Self {
            turns: PollSemaphore::new(Arc::clone(turns)),
            work: Box::pin(work),
        }
    }
}

impl<F: Future> Future for Lane<F> {
    type Output = Option<F::Output>;

    /// `None` if the turns are over for good.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(_turn) = ready!(this.turns.poll_acquire(context)) else {
            return Poll::Ready(None);
        };
        this.work.as_mut().poll(context).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bars: T-35 (who stalls holds nobody up).
    #[tokio::test]
    async fn a_stalled_one_holds_no_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let stalled = tokio::spawn(Lane::new(&turns, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        for number in 0..10 {
            let done = Lane::new(&turns, async {
                tokio::task::yield_now().await;
                number
            });
            assert_eq!(done.await, Some(number));
        }
        stalled.abort();
    }
}
