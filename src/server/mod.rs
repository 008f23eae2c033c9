//! Running a node: accept loop, TLS, HTTP/2 limits, drain.
//!
//! The loop is ours (not tonic's) because the handshake needs our verifier, a limit and a timeout,
//! and because every HTTP/2 limit is to be explicit: left unset, some have none
//! (`spec` dependencies §5).

mod start;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::Service as _;

pub use start::{log, self_check, serve};

use crate::clock::Clock;
use crate::config::Listen;
use crate::directory::CertifiedPeer;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pki::tls::{certify_peer, rule_of, server_config};
use crate::pki::{NodeIdentity, TrustHandle, Usage};

/// Windows of one stream and of a connection: enough for a metropolitan link, and the bound of what
/// one connection can make this node hold.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes queued for one stream whose reader is slow.
const SEND_BUFFER: usize = 512 * 1024;
/// Larger frames than the protocol's 16 KiB cost less on document streams.
const FRAME: u32 = 64 * 1024;
/// After a failed accept (out of descriptors): long enough not to spin, short enough to recover.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`; then lets calls under way end within the configured time, and closes the
/// store.
///
/// # Errors
/// If TLS or the routes cannot be set up, or the store cannot be closed cleanly.
pub async fn run(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<()> {
    let routes = crate::api::grpc::routes(&gateway)?;
    let edge = Edge::new(
        &gateway.certificate,
        Arc::clone(&gateway.trust),
        Arc::clone(&gateway.clock),
        gateway.config.listen.clone(),
        routes,
        stop.clone(),
    )?;
    gateway.start();
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

/// The edge of a node: what stands between the network and the services.
pub struct Edge {
    acceptor: TlsAcceptor,
    routes: Routes,
    limits: Listen,
    handshakes: Semaphore,
    connections: Arc<Semaphore>,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}

impl Edge {
    /// An edge before `routes`, with these limits, until `stop`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(
        certificate: &NodeIdentity,
        trust: Arc<TrustHandle>,
        clock: Arc<dyn Clock>,
        limits: Listen,
        routes: Routes,
        stop: CancellationToken,
    ) -> Result<Arc<Self>> {
        let tls = server_config(certificate, Arc::clone(&trust), Arc::clone(&clock))
            .map_err(Error::internal)?;
        Ok(Arc::new(Self {
            acceptor: TlsAcceptor::from(tls),
            routes: routes.prepare(),
            handshakes: Semaphore::new(limits.max_handshakes),
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            limits,
            trust,
            clock,
            stop,
        }))
    }

    /// Accepts connections until stopped; then waits for those open, within the drain's time.
    pub async fn serve_until_stopped(self: Arc<Self>, listener: TcpListener) {
        let open = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
                        tracing::warn!("too many connections; one was closed");
                        continue;
                    };
                    let edge = Arc::clone(&self);
                    open.spawn(async move {
                        edge.connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tracing::info!("draining");
        open.close();
        let limit = Duration::from_millis(self.limits.drain_timeout_ms);
        if tokio::time::timeout(limit, open.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end of the drain");
        }
    }

    async fn connection(&self, stream: TcpStream) {
        let limit = Duration::from_millis(self.limits.handshake_timeout_ms);
        let (tls, peer) = match tokio::time::timeout(limit, self.handshake(stream)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refused)) => {
                tracing::warn!(rule = refused, "a connection was refused");
                return;
            }
            Err(_) => {
                tracing::warn!(rule = "handshake-timeout", "a connection was refused");
                return;
            }
        };
        self.serve(tls, peer).await;
    }

    /// The TLS handshake, and what the peer's certificate certifies. The reason of a refusal is for
    /// the log; the peer sees a TLS alert.
    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, CertifiedPeer), &'static str> {
        let permit = self.handshakes.acquire().await.map_err(|_| "closing")?;
        stream.set_nodelay(true).map_err(|_| "socket")?;
        let tls = self
            .acceptor
            .accept(stream)
            .await
            .map_err(|error| rule_of(&error))?;
        drop(permit);
        let certificates = tls.get_ref().1.peer_certificates();
        let clock = self.clock.as_ref();
        let certified = certify_peer(certificates, &self.trust, Usage::Institution, clock)
            .map_err(|refusal| refusal.rule())?;
        let pin = certified.spki_sha256;
        Ok((tls, CertifiedPeer { certified, pin }))
    }

    async fn serve(&self, tls: TlsStream<TcpStream>, peer: CertifiedPeer) {
        let routes = self.routes.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let answer = routes.clone().call(request);
            async move { answer.await.map(crate::api::grpc::status::documented) }
        });
        let connection = builder(&self.limits).serve_connection(TokioIo::new(tls), service);
        tokio::pin!(connection);
        let mut draining = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.stop.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

/// HTTP/2 with every limit set.
fn builder(limits: &Listen) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_list_bytes)
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
