//! Bodies at the pace of the edge: what a peer sends must come on, what it is sent must be taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::pace::Pace;
use super::streams::Reader;
use crate::api::grpc::status::status;
use crate::edge::{Admitted, Counters};
use crate::error::{Error, Reason};

/// What is handed to HTTP/2 at once of an answer: the bound of what one stream holds there.
const PART: usize = 64 * 1024;

/// A request's body: the sender may take the limit for each 64 KiB.
pub struct Arriving<B> {
    body: B,
    pace: Pace,
    alarm: Option<Pin<Box<Sleep>>>,
    counters: Arc<Counters>,
}

impl<B> Arriving<B> {
    /// Puts a body at this pace.
    pub(super) fn new(body: B, limit: Duration, counters: Arc<Counters>) -> Self {
        Self {
            body,
            pace: Pace::new(limit),
            alarm: None,
            counters,
        }
    }

    fn too_slow(&mut self) -> Status {
        self.counters.body_timeouts.add();
        let message = "the request did not arrive in time";
        status(&Error::new(Reason::DeadlineExceeded, message))
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let now = Instant::now();
                this.pace.goes_on(now);
                if let Some(Ok(frame)) = &frame {
                    this.pace.moved(frame.data_ref().map_or(0, Bytes::len), now);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let now = Instant::now();
                this.pace.waits(now);
                let until = this.pace.until().unwrap_or(now);
                let alarm = this
                    .alarm
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                if alarm.deadline() != until {
                    alarm.as_mut().reset(until);
                }
                ready!(alarm.as_mut().poll(context));
                Poll::Ready(Some(Err(this.too_slow().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body: given on in bounded parts, and while one is not taken, the reader's time runs.
/// It holds the call's place in the admission until it is over.
pub(super) struct Leaving<B> {
    body: B,
    rest: Bytes,
    reader: Option<Arc<Reader>>,
    _admitted: Option<Arc<Admitted>>,
}

impl<B> Leaving<B> {
    /// Puts a body at the pace of the stream whose task this is called in.
    pub(super) fn new(body: B, admitted: Option<Arc<Admitted>>) -> Self {
        let reader = Reader::here();
        if let Some(reader) = &reader {
            reader.pace(|pace| pace.waits(Instant::now()));
        }
        Self {
            body,
            rest: Bytes::new(),
            reader,
            _admitted: admitted,
        }
    }

    /// Gives on the next part; from now on the reader has to take it.
    fn part(&mut self) -> Frame<Bytes> {
        let part = self.rest.split_to(self.rest.len().min(PART));
        if let Some(reader) = &self.reader {
            let now = Instant::now();
            reader.pace(|pace| {
                pace.moved(part.len(), now);
                pace.waits(now);
            });
        }
        Frame::data(part)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leaving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(reader) = &this.reader {
            reader.pace(|pace| pace.goes_on(Instant::now()));
        }
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.part())));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    Poll::Ready(Some(Ok(this.part())))
                }
                Err(trailers) => Poll::Ready(Some(Ok(trailers))),
            },
            end => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}
