//! The bytes of a connection, past its meter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frames::{ENHANCE_YOUR_CALM, go_away};
use super::meter::Meter;
use crate::edge::Counters;

/// A connection whose bytes are metered. When the meter has had enough, it says goodbye
/// (GOAWAY, `ENHANCE_YOUR_CALM`) by itself, since hyper has no way to be told to, and fails.
pub(super) struct Guarded<S> {
    stream: S,
    meter: Arc<Meter>,
    counters: Arc<Counters>,
    goodbye: Option<Goodbye>,
    rest: Option<Pin<Box<Sleep>>>,
}

struct Goodbye {
    bytes: [u8; 17],
    sent: usize,
}

impl<S> Guarded<S> {
    /// Puts `meter` on a connection.
    pub(super) fn new(stream: S, meter: Arc<Meter>, counters: Arc<Counters>) -> Self {
        Self {
            stream,
            meter,
            counters,
            goodbye: None,
            rest: None,
        }
    }

    /// Waits while nothing is to be read.
    fn rested(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.meter.rests(Instant::now()) {
            let counters = &self.counters;
            let rest = self.rest.get_or_insert_with(|| {
                counters.rested.add();
                Box::pin(tokio::time::sleep_until(until))
            });
            if rest.deadline() != until {
                rest.as_mut().reset(until);
            }
            ready!(rest.as_mut().poll(context));
        }
        self.rest = None;
        Poll::Ready(())
    }
}

fn enough() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the peer makes too much work",
    )
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Says goodbye if a frame may be sent here, then fails.
    fn leave(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let fits = self.meter.between_frames();
        let goodbye = self.goodbye.get_or_insert_with(|| Goodbye {
            bytes: go_away(ENHANCE_YOUR_CALM),
            sent: if fits { 0 } else { 17 },
        });
        while let Some(left) = goodbye
            .bytes
            .get(goodbye.sent..)
            .filter(|left| !left.is_empty())
        {
            match ready!(Pin::new(&mut self.stream).poll_write(context, left)) {
                Ok(0) | Err(_) => return Poll::Ready(enough()),
                Ok(count) => goodbye.sent += count,
            }
        }
        // Whether it arrives is the peer's affair.
        drop(ready!(Pin::new(&mut self.stream).poll_shutdown(context)));
        Poll::Ready(enough())
    }

    fn written(&self, parts: &[io::IoSlice<'_>], mut count: usize) {
        let now = Instant::now();
        for part in parts {
            let taken = count.min(part.len());
            self.meter.sent(part.get(..taken).unwrap_or_default(), now);
            count -= taken;
            if count == 0 {
                return;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.goodbye.is_some() {
            return this.leave(context).map(Err);
        }
        ready!(this.rested(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        if this.meter.received(came, Instant::now()).is_some() {
            buffer.set_filled(before);
            return this.leave(context).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.goodbye.is_some() {
            return this.leave(context).map(Err);
        }
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        match &polled {
            Poll::Pending => this.meter.blocked(Instant::now()),
            Poll::Ready(Ok(count)) => this.written(parts, *count),
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.goodbye.is_some() {
            return this.leave(context).map(Err);
        }
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        if polled.is_pending() {
            this.meter.blocked(Instant::now());
        } else {
            this.meter.flushed(Instant::now());
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
