//! Running a node: accept loop, TLS, HTTP/2 limits, drain.
//!
//! The loop is ours (not tonic's) because the handshake needs our verifier, a limit and a timeout,
//! and because every HTTP/2 limit is to be explicit: left unset, some have none
//! (`spec` dependencies §5). What hyper and h2 do not bound, `meter` and `streams` do.

mod accept;
mod bodies;
mod frames;
mod guarded;
mod lane;
mod life;
mod memory;
mod meter;
mod pace;
mod refusals;
mod start;
mod streams;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use accept::Accept;
pub use bodies::Arriving;
pub use start::{log, self_check, serve};

use crate::clock::Clock;
use crate::config::Listen;
use crate::directory::CertifiedPeer;
use crate::edge::{Admitted, HalfOpen, Live, Seen, Shed, State};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pki::tls::{certify_peer, rule_of, server_config};
use crate::pki::{Certified, IdentityHandle, TrustHandle, Usage};
use crate::types::Holder;

use bodies::Leaving;
use guarded::Guarded;
use lane::Lane;
use life::Life;
use meter::Meter;
use streams::Streams;

/// Windows of one stream and of a connection: enough for a metropolitan link, and the bound of what
/// one connection can make this node hold.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes queued for one stream whose reader is slow.
const SEND_BUFFER: usize = 512 * 1024;
/// Larger frames than the protocol's 16 KiB cost less on document streams.
const FRAME: u32 = 64 * 1024;
/// What a caller may have remembered of its headers (RFC 7541 §4.2). An assertion with its certificates
/// has some 4 KiB and is the same for minutes: with the protocol's own 4 KiB it would be sent, and
/// decoded, anew with every call.
const HEADER_TABLE: u32 = 16 * 1024;

/// A request as it comes in.
pub type Arrival = http::Request<Arriving<Incoming>>;
/// An answer as the services give it.
pub type Answer = http::Response<tonic::body::Body>;

/// Serves until `stop`; then lets calls under way end within the configured time, and closes the
/// store.
///
/// # Errors
/// If TLS or the routes cannot be set up, or the store cannot be closed cleanly.
pub async fn run(
    gateway: Arc<Gateway>,
    listener: impl Accept,
    stop: CancellationToken,
) -> Result<()> {
    let services = crate::api::grpc::services(&gateway)?;
    let directory = Arc::clone(&gateway.directory);
    let clock = Arc::clone(&gateway.clock);
    let parts = Parts {
        identity: gateway.certificate.clone(),
        trust: Arc::clone(&gateway.trust),
        clock: Arc::clone(&clock),
        limits: gateway.config.listen.clone(),
        state: Arc::clone(&gateway.edge),
        registered: Box::new(move |certified| {
            let known = directory.snapshot().participant(certified, clock.now());
            known.map(|known| known.holder(certified.spki_sha256))
        }),
        refused: refusals::audit(&gateway),
        stop: stop.clone(),
    };
    let edge = Edge::new(parts, services)?;
    gateway.start();
    gateway.tasks.spawn(memory::watch(Arc::clone(&gateway)));
    // Streams that never end by themselves end when the drain begins.
    let ending = gateway.stop.clone();
    let drained = tokio::spawn(async move {
        stop.cancelled().await;
        ending.cancel();
    });
    edge.serve_until_stopped(listener).await;
    drained.abort();
    gateway
        .close(Duration::from_millis(
            gateway.config.listen.drain_timeout_ms,
        ))
        .await
}

/// Tells who has registered a certificate, if anybody.
pub type Registered = dyn Fn(&Certified) -> Option<Holder> + Send + Sync;

/// What an edge needs.
pub struct Parts {
    /// The certificate it shows.
    pub identity: IdentityHandle,
    /// Whom it trusts.
    pub trust: Arc<TrustHandle>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Its limits.
    pub limits: Listen,
    /// What it knows of itself.
    pub state: Arc<State>,
    /// Who has registered a certificate, if anybody.
    pub registered: Box<Registered>,
    /// Told of every handshake refused, with the rule.
    pub refused: Box<dyn Fn(&'static str) + Send + Sync>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// The edge of a node: what stands between the network and the services.
pub struct Edge<S> {
    acceptor: TlsAcceptor,
    services: S,
    turns: Arc<Semaphore>,
    parts: Parts,
}

impl<S> std::fmt::Debug for Edge<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}

impl<S> Edge<S>
where
    S: Service<Arrival, Response = Answer, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    /// An edge before `services`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(parts: Parts, services: S) -> Result<Arc<Self>> {
        let (trust, clock) = (Arc::clone(&parts.trust), Arc::clone(&parts.clock));
        let tls = server_config(&parts.identity, trust, clock).map_err(Error::internal)?;
        Ok(Arc::new(Self {
            acceptor: TlsAcceptor::from(tls),
            services,
            turns: Arc::new(Semaphore::new(parts.limits.max_handshakes)),
            parts,
        }))
    }

    /// Accepts connections until stopped; then waits for those open, within the drain's time.
    pub async fn serve_until_stopped(self: Arc<Self>, listener: impl Accept) {
        let open = TaskTracker::new();
        let state = &self.parts.state;
        loop {
            let (stream, peer) = tokio::select! {
                () = self.parts.stop.cancelled() => break,
                accepted = accept::next(&listener, &state.counters) => accepted,
            };
            match state.connections.open(peer.ip()) {
                Ok(half_open) => {
                    let edge = Arc::clone(&self);
                    open.spawn(async move { edge.connection(stream, half_open).await });
                }
                Err(refused) => tracing::debug!(rule = refused.rule(), "a connection was refused"),
            }
        }
        drop(listener);
        tracing::info!("draining");
        open.close();
        let limit = Duration::from_millis(self.parts.limits.drain_timeout_ms);
        if tokio::time::timeout(limit, open.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end of the drain");
        }
    }

    async fn connection(&self, stream: TcpStream, half_open: HalfOpen) {
        let counters = &self.parts.state.counters;
        let limit = Duration::from_millis(self.parts.limits.handshake_timeout_ms);
        let evicted = half_open.evicted.clone();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(limit, self.handshake(stream)) => shaken,
            () = evicted.cancelled() => return,
            () = self.parts.stop.cancelled() => return,
        };
        let (tls, peer) = match shaken {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(rule)) => {
                counters.handshakes_refused.add();
                tracing::warn!(rule, "a connection was refused");
                (self.parts.refused)(rule);
                return;
            }
            Err(_) => {
                counters.handshake_timeouts.add();
                tracing::debug!(rule = "handshake-timeout", "a connection was refused");
                return;
            }
        };
        counters.handshakes.add();
        let holder = (self.parts.registered)(&peer.certified);
        let registered = holder.is_some();
        let seen = Seen {
            pin: peer.pin,
            holder: holder.unwrap_or(Holder::Certificate(peer.pin)),
            chain: Arc::clone(&peer.chain),
        };
        match half_open.established(seen, registered) {
            Ok(live) => {
                // Trust may have changed between the judgement and the moment from which a
                // reload finds this connection.
                if let Err(refusal) = self.certify(&tls) {
                    tracing::warn!(rule = refusal, "a connection was refused");
                    return;
                }
                self.serve(tls, peer, live).await;
            }
            Err(refused) => tracing::warn!(rule = refused.rule(), "a connection was refused"),
        }
    }

    /// The TLS handshake, and what the peer's certificate certifies. The reason of a refusal is for
    /// the log; the peer sees a TLS alert.
    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, CertifiedPeer), &'static str> {
        stream.set_nodelay(true).map_err(|_| "socket")?;
        let tls = Lane::new(&self.turns, self.acceptor.accept(stream))
            .await
            .ok_or("closing")?
            .map_err(|error| rule_of(&error))?;
        let peer = self.certify(&tls)?;
        Ok((tls, peer))
    }

    fn certify(&self, tls: &TlsStream<TcpStream>) -> Result<CertifiedPeer, &'static str> {
        let certificates = tls.get_ref().1.peer_certificates();
        let clock = self.parts.clock.as_ref();
        let certified = certify_peer(certificates, &self.parts.trust, Usage::Institution, clock)
            .map_err(|refusal| refusal.rule())?;
        let pin = certified.spki_sha256;
        let shown = certificates.unwrap_or_default().iter();
        let chain = shown.map(|der| der.clone().into_owned()).collect();
        Ok(CertifiedPeer {
            certified,
            pin,
            chain,
        })
    }

    async fn serve(&self, tls: TlsStream<TcpStream>, peer: CertifiedPeer, live: Live) {
        let limits = &self.parts.limits;
        let counters = Arc::clone(&self.parts.state.counters);
        let progress = Duration::from_millis(limits.progress_timeout_ms);
        let meter = Arc::new(Meter::new(limits, Instant::now()));
        let streams = Streams::new(Arc::clone(&meter), Arc::clone(&counters), progress);
        let services = self.services.clone();
        let arriving = Arc::clone(&counters);
        let refusing = Arc::clone(&meter);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (arriving, refusing) = (Arc::clone(&arriving), Arc::clone(&refusing));
            let mut request = request.map(|body| Arriving::new(body, progress, arriving));
            request.extensions_mut().insert(peer.clone());
            let answer = services.clone().call(request);
            async move {
                answer.await.map(|mut answer| {
                    // What the node refuses for its own sake is not the caller's doing.
                    if answer.extensions_mut().remove::<Shed>() == Some(Shed::Quota) {
                        refusing.refused(Instant::now());
                    }
                    let admitted = answer.extensions_mut().remove::<Arc<Admitted>>();
                    answer.map(|body| Leaving::new(body, admitted))
                })
            }
        });
        let guarded = Guarded::new(tls, Arc::clone(&meter), Arc::clone(&counters));
        let connection = builder(limits, streams).serve_connection(TokioIo::new(guarded), service);
        let life = Life::new(limits, Instant::now(), rand::random());
        let (cut, stop) = (&live.cut, &self.parts.stop);
        life.drive(connection, &meter, &counters, cut, stop).await;
    }
}

/// HTTP/2 with every limit set.
fn builder(limits: &Listen, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_list_bytes)
        .header_table_size(HEADER_TABLE)
        .max_pending_accept_reset_streams(limits.max_pending_reset_streams)
        .max_local_error_reset_streams(limits.max_local_error_reset_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Duration::from_millis(limits.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(limits.keepalive_timeout_ms));
    builder
}
