//! The floor: the same edge and the same tonic, answering a constant of the same size.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tower::Service;

use crate::clock::Clock;
use crate::config::Listen;
use crate::edge::State;
use crate::error::Result;
use crate::pki::{NodeIdentity, TrustHandle};
use crate::server::{Edge, Parts};
use crate::types::Holder;

/// Messages as bytes: what is measured is never the cost of a message's own form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

/// Answers with as many bytes as the first four of the request say.
#[derive(Clone, Copy, Debug)]
struct Constant;

impl UnaryService<Bytes> for Constant {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let mut message = request.into_inner();
        let size = if message.len() < 4 {
            0
        } else {
            message.get_u32() as usize
        };
        std::future::ready(Ok(tonic::Response::new(Bytes::from(vec![0_u8; size]))))
    }
}

/// The service.
#[derive(Clone, Copy, Debug)]
struct ConstantService;

impl NamedService for ConstantService {
    const NAME: &'static str = "renkei.bench.Constant";
}

impl Service<Request<Body>> for ConstantService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(Raw).unary(Constant, request).await) })
    }
}

/// The method of the floor.
pub(super) const PATH: &str = "/renkei.bench.Constant/Call";

/// The routes of the floor.
fn routes() -> Routes {
    let mut routes = Routes::builder();
    routes.add_service(ConstantService);
    routes.routes()
}

/// The edge of the floor: a node's, with the constant behind it and nobody to ask.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn edge(
    identity: &NodeIdentity,
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
    limits: Listen,
    stop: CancellationToken,
) -> Result<Arc<Edge<Routes>>> {
    edge_before(routes(), identity, trust, clock, limits, stop)
}

/// A node's edge with these routes behind it and nobody to ask.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn edge_before(
    routes: Routes,
    identity: &NodeIdentity,
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
    limits: Listen,
    stop: CancellationToken,
) -> Result<Arc<Edge<Routes>>> {
    let parts = Parts {
        identity: identity.into(),
        trust: Arc::clone(trust),
        clock: Arc::clone(clock),
        state: State::new(&limits),
        limits,
        registered: Box::new(|shown| Some(Holder::Certificate(shown.spki_sha256))),
        refused: Box::new(|_| ()),
        stop,
    };
    Edge::new(parts, routes.prepare())
}

/// A request of `size` bytes that asks for an answer of `answer` bytes.
pub(super) fn request(size: usize, answer: usize) -> Bytes {
    let mut bytes = u32::try_from(answer)
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    bytes.resize(size.max(4), 0);
    bytes.into()
}
