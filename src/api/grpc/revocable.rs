//! A stream that ends when what it rests on no longer holds: the patient withdrew (bars Z-03, Z-13).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::access::Call;
use crate::error::{Error, Reason, Result};
use crate::gateway::Gateway;

use super::door::revoked;
use super::status::status;

type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum State {
    /// Messages go out, until this comes.
    Open(Waiting<()>),
    /// None goes out any more; the refusal is being audited.
    Refusing(Waiting<Error>),
    /// The refusal was told.
    Ended,
}

/// A message that was judged by itself, with what the judgement rests on: it may wait for a subscriber
/// who is slow, and is not what is permitted any more when it is read.
pub(super) struct Judged<T> {
    /// The message.
    pub(super) message: T,
    /// The part of the call that it was judged in; nothing if it is about nobody.
    pub(super) rests_on: Option<Arc<Call>>,
}

impl<T> Judged<T> {
    /// The message if it may leave now.
    ///
    /// # Errors
    /// What it rested on.
    pub(super) fn leave(self) -> Result<T, Arc<Call>> {
        match self.rests_on {
            Some(call) if !call.still_permitted() => Err(call),
            _ => Ok(self.message),
        }
    }
}

/// Gives what may leave of a message, or what it rested on.
pub(super) type Leave<M, T> = fn(M) -> Result<T, Arc<Call>>;

/// What a stream of messages that are judged one by one ends with when one must not leave any more.
pub(super) fn changed_meanwhile() -> Error {
    let message = "wishes changed meanwhile; go on from the last token";
    Error::new(Reason::ConcurrentChange, message)
}

/// Messages of a call, for as long as they are permitted.
pub(super) struct Revocable<M, T> {
    messages: mpsc::Receiver<Result<M>>,
    leave: Leave<M, T>,
    state: State,
    call: Arc<Call>,
    gateway: Arc<Gateway>,
}

impl<M, T> Revocable<M, T> {
    /// The messages of `call`, each as `leave` lets it go.
    pub(super) fn new(
        messages: mpsc::Receiver<Result<M>>,
        leave: Leave<M, T>,
        call: Arc<Call>,
        gateway: Arc<Gateway>,
    ) -> Self {
        let resting = Arc::clone(&call);
        Self {
            messages,
            leave,
            state: State::Open(Box::pin(async move { resting.revoked().await })),
            call,
            gateway,
        }
    }

    /// In a task of its own: a caller who hangs up now is audited all the same.
    fn refuse(&self, call: &Arc<Call>) -> Waiting<Error> {
        let (call, gateway) = (Arc::clone(call), Arc::clone(&self.gateway));
        let tasks = gateway.tasks.clone();
        let audited = tasks.spawn(async move { revoked(&gateway, &call).await });
        Box::pin(async move { audited.await.unwrap_or_else(Error::internal) })
    }

    /// The next message, or none any more if it may not leave: then its refusal is audited first.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let Some(message) = std::task::ready!(self.messages.poll_recv(context)) else {
            return Poll::Ready(None);
        };
        let rested_on = match message.map(self.leave) {
            Ok(Ok(message)) => return Poll::Ready(Some(Ok(message))),
            Ok(Err(rested_on)) => rested_on,
            Err(error) => return Poll::Ready(Some(Err(status(&error)))),
        };
        self.messages.close();
        let audited = self.refuse(&rested_on);
        self.state = State::Refusing(Box::pin(async move {
            let _refused = audited.await;
            changed_meanwhile()
        }));
        self.refusing(context)
    }

    fn refusing(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        let State::Refusing(refusing) = &mut self.state else {
            return Poll::Ready(None);
        };
        refusing.as_mut().poll(context).map(|refused| {
            self.state = State::Ended;
            Some(Err(status(&refused)))
        })
    }
}

impl<M, T> Stream for Revocable<M, T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // First: whatever is ready, nothing goes out once it has come.
        if let State::Open(coming) = &mut self.state {
            if coming.as_mut().poll(context).is_pending() {
                return self.next(context);
            }
            self.messages.close();
            self.state = State::Refusing(self.refuse(&self.call));
        }
        self.refusing(context)
    }
}
