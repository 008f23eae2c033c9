//! A stream that ends when what it rests on no longer holds: the patient withdrew (bars Z-03, Z-13).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::access::Call;
use crate::error::{Error, Result};
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

/// Messages of a call, for as long as they are permitted.
pub(super) struct Revocable<T> {
    messages: mpsc::Receiver<Result<T>>,
    state: State,
    call: Arc<Call>,
    gateway: Arc<Gateway>,
}

impl<T> Revocable<T> {
    /// The messages of `call`.
    pub(super) fn new(
        messages: mpsc::Receiver<Result<T>>,
        call: Arc<Call>,
        gateway: Arc<Gateway>,
    ) -> Self {
        let resting = Arc::clone(&call);
        Self {
            messages,
            state: State::Open(Box::pin(async move { resting.revoked().await })),
            call,
            gateway,
        }
    }

    /// In a task of its own: a caller who hangs up now is audited all the same.
    fn refuse(&self) -> Waiting<Error> {
        let (call, gateway) = (Arc::clone(&self.call), Arc::clone(&self.gateway));
        let tasks = gateway.tasks.clone();
        let audited = tasks.spawn(async move { revoked(&gateway, &call).await });
        Box::pin(async move { audited.await.unwrap_or_else(Error::internal) })
    }
}

impl<T> Stream for Revocable<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // First: whatever is ready, nothing goes out once it has come.
        if let State::Open(coming) = &mut self.state {
            if coming.as_mut().poll(context).is_pending() {
                let message = self.messages.poll_recv(context);
                return message
                    .map(|message| message.map(|message| message.map_err(|error| status(&error))));
            }
            self.messages.close();
            self.state = State::Refusing(self.refuse());
        }
        let State::Refusing(refusing) = &mut self.state else {
            return Poll::Ready(None);
        };
        refusing.as_mut().poll(context).map(|refused| {
            self.state = State::Ended;
            Some(Err(status(&refused)))
        })
    }
}
