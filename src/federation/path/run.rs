//! A call by a path.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::super::fanout::Failure;
use super::{Ended, Kind, NotSent, Order, Path, Ticket};

/// A call with less time than this that runs out says nothing about the region, unless the region
/// has been much faster.
const FAIR: Duration = Duration::from_secs(1);

impl Path {
    /// Calls the region: `attempt` is given the time it has. It is called again at most once after
    /// UNAVAILABLE and, if the kind allows it, beside a first try that takes longer than 95 % do; so
    /// it must give nothing to anybody before it has ended.
    ///
    /// # Errors
    /// [`Failure::NotSent`]; [`Failure::Late`] at the deadline; what the attempt says.
    pub async fn call<T, F, Fut>(
        self: &Arc<Self>,
        order: impl Into<Order>,
        deadline: Instant,
        attempt: F,
    ) -> Result<T, Failure>
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let order = order.into();
        self.offered();
        let first = self.hedged(order, deadline, &attempt).await;
        match first {
            Err(failure) if failure.may_be_retried() && !self.is_open() && self.take_retry() => {
                match self.once(order, deadline, &attempt).await {
                    // What was seen says more than that nothing was sent.
                    Err(Failure::NotSent(_)) => Err(failure),
                    again => again,
                }
            }
            ended => ended,
        }
    }

    /// A try, and another beside it if it takes long; the first good answer counts.
    async fn hedged<T, F, Fut>(
        self: &Arc<Self>,
        order: Order,
        deadline: Instant,
        attempt: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let usual = self.state().usual(order.kind);
        let mut first = pin!(self.once(order, deadline, attempt));
        let Some(usual) = usual.filter(|_| order.kind.may_be_hedged()) else {
            return first.await;
        };
        tokio::select! {
            ended = &mut first => return ended,
            () = tokio::time::sleep(usual) => {}
        }
        let Some(ticket) = self.hedge(order) else {
            return first.await;
        };
        let mut second = pin!(self.carry(ticket, deadline, attempt));
        tokio::select! {
            ended = &mut first => match ended {
                Ok(value) => Ok(value),
                Err(_) => second.await,
            },
            ended = &mut second => match ended {
                Ok(value) => Ok(value),
                Err(_) => first.await,
            },
        }
    }

    /// What lets a second try out: a free place, a closed breaker, and the budget.
    fn hedge(self: &Arc<Self>, order: Order) -> Option<Ticket> {
        let slot = self.free_slot(order).filter(|_| !self.is_open())?;
        if !self.take_hedge() {
            return None;
        }
        self.admit(order.kind, slot).ok()
    }

    async fn once<T, F, Fut>(
        self: &Arc<Self>,
        order: Order,
        deadline: Instant,
        attempt: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        if self.is_open() {
            return Err(Failure::NotSent(NotSent::Open));
        }
        let slot = self.slot(order, deadline).await.map_err(Failure::NotSent)?;
        let ticket = self.admit(order.kind, slot).map_err(Failure::NotSent)?;
        self.carry(ticket, deadline, attempt).await
    }

    async fn carry<T, F, Fut>(
        &self,
        ticket: Ticket,
        deadline: Instant,
        attempt: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let kind = ticket.kind;
        let deadline = self.patience(&ticket, deadline);
        let time = deadline.saturating_duration_since(Instant::now());
        let answer = tokio::time::timeout_at(deadline, attempt(time)).await;
        let result = answer.unwrap_or(Err(Failure::Late));
        match &result {
            Ok(_) => ticket.end(Ended::Good),
            Err(failure) => match failure.ended() {
                Some(Ended::Late) if !self.was_fair(kind, time) => drop(ticket),
                Some(ended) => ticket.end(ended),
                None => drop(ticket),
            },
        }
        result
    }

    /// How long a try may take. One that probes a region which failed before holds its caller up no
    /// longer than is needed to blame the region again; but as long as the region was left alone, so
    /// that one which has come back slower than it was is found to be back.
    fn patience(&self, ticket: &Ticket, deadline: Instant) -> Instant {
        let state = self.state();
        match state.usual(ticket.kind).filter(|_| ticket.probe) {
            Some(usual) => {
                let time = FAIR.max(usual * 2).max(state.breaker.pause());
                deadline.min(Instant::now() + time)
            }
            None => deadline,
        }
    }

    /// Whether a region that did not answer within `time` can be blamed.
    fn was_fair(&self, kind: Kind, time: Duration) -> bool {
        let usual = self.state().usual(kind);
        time >= usual.map_or(FAIR, |usual| FAIR.min(usual * 2))
    }
}

impl Failure {
    /// What a try's failure says of the region; `None`: nothing.
    fn ended(&self) -> Option<Ended> {
        match self {
            Self::NotSent(_) => None,
            Self::Late => Some(Ended::Late),
            Self::Malformed(_) => Some(Ended::Bad),
            Self::Status(status) => match status.code() {
                Code::Cancelled => None,
                Code::DeadlineExceeded => Some(Ended::Late),
                Code::ResourceExhausted => Some(Ended::Overloaded),
                Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::DataLoss
                | Code::OutOfRange => Some(Ended::Bad),
                _ => Some(Ended::Refused),
            },
        }
    }

    /// Nothing was done: only UNAVAILABLE says so.
    fn may_be_retried(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::Unavailable)
    }
}
