//! Live connections to other nodes, so that one whose server's certificate or registration has
//! ended can be closed.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::edge::Counters;
use crate::types::Endpoint;

/// Where a connection goes, and what its server showed.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) endpoint: Endpoint,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether only calls of the emergency class go over it.
    pub(super) emergency: bool,
}

/// The live connections to other nodes.
#[derive(Debug, Default)]
pub struct Links {
    counters: Arc<Counters>,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    links: HashMap<u64, (Arc<Shown>, CancellationToken)>,
}

impl Links {
    /// No connections; counts in `counters`.
    pub fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            counters,
            live: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server's certificate was refused.
    pub(super) fn untrusted(&self, endpoint: &Endpoint, rule: &'static str) {
        self.counters.outgoing_untrusted.add();
        tracing::warn!(rule, %endpoint, "a server's certificate was refused");
    }

    /// Makes a connection one of these.
    pub(super) fn join<S>(self: &Arc<Self>, stream: S, shown: Shown) -> Link<S> {
        let cut = CancellationToken::new();
        let mut live = self.lock();
        let number = live.next;
        live.next += 1;
        live.links.insert(number, (Arc::new(shown), cut.clone()));
        Link {
            stream,
            links: Arc::clone(self),
            number,
            cut: Box::pin(cut.cancelled_owned()),
        }
    }

    /// What the server of the newest connection to `endpoint` showed.
    pub(super) fn shown_at(&self, endpoint: &Endpoint) -> Option<Arc<Shown>> {
        let live = self.lock();
        let links = live
            .links
            .iter()
            .filter(|(_, (shown, _))| shown.endpoint == *endpoint);
        let newest = links.max_by_key(|(number, _)| **number);
        newest.map(|(_, (shown, _))| Arc::clone(shown))
    }

    /// Closes every connection for which `ended` gives a reason; gives how many.
    pub(super) fn rejudge(&self, ended: impl Fn(&Shown) -> Option<&'static str>) -> usize {
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        let mut closed = 0;
        for (shown, cut) in links {
            if let Some(rule) = ended(&shown)
                && !cut.is_cancelled()
            {
                tracing::warn!(rule, endpoint = %shown.endpoint, "an outgoing connection is cut");
                self.counters.outgoing_cut.add();
                cut.cancel();
                closed += 1;
            }
        }
        closed
    }
}

/// A connection that can be closed from elsewhere.
pub(super) struct Link<S> {
    stream: S,
    links: Arc<Links>,
    number: u64,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Drop for Link<S> {
    fn drop(&mut self) {
        self.links.lock().links.remove(&self.number);
    }
}

impl<S> Link<S> {
    fn is_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the other side is not accepted any more",
            )),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_cut(context)?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_cut(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_cut(context)?;
        Pin::new(&mut this.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
