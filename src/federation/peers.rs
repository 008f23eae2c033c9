//! Connections to other nodes: one channel a community, over TLS judged by `pki` and pinned by the
//! directory. Nothing is dialled that the directory (or the configuration's parent) does not name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as TonicEndpoint, Uri};
use tower::service_fn;

use crate::access::Call;
use crate::clock::Clock;
use crate::directory::{Directory, Peer};
use crate::error::{Error, Reason, Result};
use crate::pki::tls::{ServerExpectation, client_config};
use crate::pki::{NodeIdentity, TrustHandle};
use crate::types::{CertificatePin, Endpoint, HomeCommunityId};
use crate::wire::{ASSERTION, REQUEST_ID};

/// How long a TCP connection and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Channels to other nodes.
pub struct Peers {
    directory: Arc<Directory>,
    identity: NodeIdentity,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    channels: Mutex<HashMap<(Endpoint, CertificatePin), Channel>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Peers of the directory, called with this node's certificate.
    pub fn new(
        directory: Arc<Directory>,
        identity: NodeIdentity,
        trust: Arc<TrustHandle>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            directory,
            identity,
            trust,
            clock,
            channels: Mutex::default(),
        }
    }

    /// The community, if it takes part.
    ///
    /// # Errors
    /// [`Reason::UnknownCommunity`].
    pub fn peer(&self, home: &HomeCommunityId) -> Result<Arc<Peer>> {
        self.directory
            .snapshot()
            .peer(home)
            .cloned()
            .ok_or_else(|| {
                Error::field(
                    Reason::UnknownCommunity,
                    "home_community_id",
                    "no such community",
                )
            })
    }

    /// A channel to a community. Connects when first used, and again after a failure.
    ///
    /// # Errors
    /// [`Reason::CommunityUnavailable`] if the directory has no endpoint or certificate for it.
    pub fn channel(&self, peer: &Peer) -> Result<Channel> {
        let (Some(endpoint), Some(pin)) = (&peer.endpoint, peer.pins.last()) else {
            let message = "the directory has no endpoint or certificate for the community";
            return Err(Error::new(Reason::CommunityUnavailable, message));
        };
        let key = (endpoint.clone(), *pin);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = connect(endpoint, *pin, &self.identity, &self.trust, &self.clock)?;
        // One channel a community: what an older directory named is dropped.
        channels.retain(|(known, _), _| known != endpoint);
        channels.insert(key, channel.clone());
        Ok(channel)
    }
}

/// A lazy channel to `endpoint`, whose server must show the certificate `pin`.
///
/// # Errors
/// [`Reason::CommunityUnavailable`] if TLS cannot be configured for the name.
pub fn connect(
    endpoint: &Endpoint,
    pin: CertificatePin,
    identity: &NodeIdentity,
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
) -> Result<Channel> {
    let name = server_name(endpoint)?;
    let expect = ServerExpectation {
        name: name.clone(),
        pin: Some(pin),
    };
    let config = client_config(identity, Arc::clone(trust), Arc::clone(clock), expect)
        .map_err(|error| unusable(&error))?;
    channel(endpoint, name, config)
}

/// The name a server's certificate must hold.
///
/// # Errors
/// [`Reason::CommunityUnavailable`] if it cannot be one.
pub fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>> {
    ServerName::try_from(endpoint.host().to_owned()).map_err(|error| unusable(&error))
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::CommunityUnavailable, "the endpoint cannot be used")
        .caused_by(error.to_string())
}

/// A lazy channel over this TLS configuration.
///
/// # Errors
/// [`Reason::CommunityUnavailable`] if the endpoint cannot be used.
pub fn channel(
    endpoint: &Endpoint,
    name: ServerName<'static>,
    config: Arc<rustls::ClientConfig>,
) -> Result<Channel> {
    let connector = TlsConnector::from(config);
    let authority = endpoint.authority();
    let dial = service_fn(move |_: Uri| {
        let (connector, name, authority) = (connector.clone(), name.clone(), authority.clone());
        async move {
            let tcp = TcpStream::connect(&authority).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(name, tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(tls))
        }
    });
    // The scheme is http because TLS is ours; tonic would otherwise insist on its own.
    let channel = TonicEndpoint::from_shared(format!("http://{}", endpoint.authority()))
        .map_err(|error| unusable(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(dial);
    Ok(channel)
}

/// A request to another node on behalf of a call: the person's assertion unchanged, the request id,
/// and what is left of the deadline.
pub fn relayed<T>(call: &Call, message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = own(message, timeout);
    if let Some(assertion) = &call.caller().assertion
        && let Ok(value) = assertion.parse()
    {
        request.metadata_mut().insert(ASSERTION, value);
    }
    if let Ok(value) = call.request_id().parse() {
        request.metadata_mut().insert(REQUEST_ID, value);
    }
    request
}

/// A request to another node for this node's own purposes.
pub fn own<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}
