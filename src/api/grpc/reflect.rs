//! The standard health and reflection services: there for registered participants, and for nobody
//! else.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service;

use crate::directory::CertifiedPeer;
use crate::error::{Error, Reason};
use crate::gateway::Gateway;

use super::status::status;

/// The health service: SERVING until the node drains, or cannot make durable what it does: then it
/// neither acknowledges nor discloses anything, and says so to whoever asks.
pub(super) fn health(gateway: &Arc<Gateway>) -> HealthServer<impl Health> {
    let (reporter, server) = tonic_health::server::health_reporter();
    let (stop, store) = (gateway.stop.clone(), Arc::clone(&gateway.store));
    gateway.tasks.spawn(async move {
        reporter
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = store.stopped() => {}
        }
        reporter
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
    });
    server
}

/// A service behind registration.
#[derive(Clone, Debug)]
pub(super) struct Registered<S> {
    gateway: Arc<Gateway>,
    inner: S,
}

/// Puts a service behind registration.
pub(super) fn registered<S>(gateway: &Arc<Gateway>, inner: S) -> Registered<S> {
    Registered {
        gateway: Arc::clone(gateway),
        inner,
    }
}

impl<S: NamedService> NamedService for Registered<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Registered<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<CertifiedPeer>();
        let now = self.gateway.clock.now();
        let known = peer.and_then(|peer| {
            self.gateway
                .directory
                .snapshot()
                .participant(&peer.certified, now)
        });
        if known.is_none() {
            let message = "no active participant is registered for this certificate";
            let refused = status(&Error::new(Reason::UnregisteredCertificate, message));
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        Box::pin(self.inner.call(request))
    }
}
