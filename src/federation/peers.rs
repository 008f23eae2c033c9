//! Connections to other nodes: one channel a community, over TLS judged by `pki` and pinned by the
//! directory. Nothing is dialled that the directory (or the configuration's parent) does not name
//! and the outgoing policy does not allow.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as TonicEndpoint, Uri};
use tower::service_fn;

use crate::access::Call;
use crate::clock::Clock;
use crate::directory::{Directory, Peer, Snapshot};
use crate::edge::Clocks;
use crate::error::{Error, Reason, Result};
use crate::pki::tls::{
    ServerExpectation, bare_client_config, client_config, emergency_client_config, refusal_of,
};
use crate::pki::{IdentityHandle, TrustHandle, Usage};
use crate::types::{CertificatePin, Endpoint, HomeCommunityId};
use crate::wire::{ASSERTION, REQUEST_ID};

use super::dial::Dialler;
use super::line::Line;
use super::links::{Links, Shown};

/// How long a TCP connection and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is asked whether it is still one, and how long that may take: one that leads
/// nowhere any more is made anew within ten seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a server's certificate is refused when one of the clocks is wrong by much.
const OUT_OF_TIME: [&str; 3] = ["expired", "not-yet-valid", "crl-not-yet-valid"];

/// What a channel goes to: an endpoint, the certificates its server may show, and what it is for.
type Target = (Endpoint, Vec<CertificatePin>, Traffic);

/// What a channel is for. Each has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Traffic {
    Ordinary,
    /// Calls of the emergency class.
    Emergency,
    /// Streams that stay open: a connection has room for so many at once, and others must not wait for it.
    Following,
}

/// Channels to other nodes.
pub struct Peers {
    directory: Arc<Directory>,
    identity: IdentityHandle,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    dialler: Dialler,
    links: Arc<Links>,
    clocks: Arc<Clocks>,
    channels: Mutex<HashMap<Target, Channel>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Peers of the directory, called with this node's certificate. Connections join `links`; the times that
    /// peers tell go to `clocks`.
    pub fn new(
        directory: Arc<Directory>,
        identity: IdentityHandle,
        trust: Arc<TrustHandle>,
        clock: Arc<dyn Clock>,
        dialler: Dialler,
        (links, clocks): (Arc<Links>, Arc<Clocks>),
    ) -> Self {
        Self {
            directory,
            identity,
            trust,
            clock,
            dialler,
            links,
            clocks,
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

    /// Whom this node trusts, and the time it lives in.
    pub(super) fn judges(&self) -> (&TrustHandle, jiff::Timestamp) {
        (self.trust.as_ref(), self.clock.now())
    }

    /// A channel to a community. Connects when first used, and again after a failure.
    ///
    /// # Errors
    /// [`Reason::CommunityUnavailable`] if the directory has no endpoint or certificate for it, or has
    /// expired.
    pub fn channel(&self, peer: &Peer) -> Result<Line> {
        self.channel_for(peer, Traffic::Ordinary)
    }

    /// As [`Peers::channel`], for calls of the emergency class only: the revocation lists of the
    /// server's certificate may be as late as emergencies allow.
    ///
    /// # Errors
    /// As [`Peers::channel`].
    pub fn emergency_channel(&self, peer: &Peer) -> Result<Line> {
        self.channel_for(peer, Traffic::Emergency)
    }

    /// As [`Peers::channel`], for streams that stay open.
    ///
    /// # Errors
    /// As [`Peers::channel`].
    pub fn following_channel(&self, peer: &Peer) -> Result<Line> {
        self.channel_for(peer, Traffic::Following)
    }

    fn channel_for(&self, peer: &Peer, traffic: Traffic) -> Result<Line> {
        let Some(endpoint) = peer.endpoint.as_ref().filter(|_| !peer.pins.is_empty()) else {
            let message = "the directory has no endpoint or certificate for the community";
            return Err(Error::new(Reason::CommunityUnavailable, message));
        };
        // Checked at each use: a channel from before is no leave to go on.
        if !self
            .directory
            .snapshot()
            .may_call(&peer.home, self.clock.now())
        {
            let message = "the directory has expired, and where the community is with it";
            return Err(Error::new(Reason::CommunityUnavailable, message));
        }
        let line = |channel| Line::new(channel, peer.home.clone(), Arc::clone(&self.clocks));
        let key = (endpoint.clone(), peer.pins.clone(), traffic);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&key) {
            return Ok(line(channel.clone()));
        }
        let name = server_name(endpoint)?;
        let expect = ServerExpectation {
            name: name.clone(),
            pins: peer.pins.clone(),
        };
        let (trust, clock) = (Arc::clone(&self.trust), Arc::clone(&self.clock));
        let emergency = traffic == Traffic::Emergency;
        let config = if emergency {
            emergency_client_config(&self.identity, trust, clock, expect)
        } else {
            client_config(&self.identity, trust, clock, expect)
        };
        let config = config.map_err(|error| unusable(&error))?;
        let join = Join {
            links: Arc::clone(&self.links),
            clocks: Some((Arc::clone(&self.clocks), peer.home.clone())),
            emergency,
        };
        let channel = channel_in(endpoint, name, config, &self.dialler, join)?;
        // One channel a community and line: what an older directory named is dropped.
        channels.retain(|(known, pins, _), _| known != endpoint || *pins == peer.pins);
        channels.insert(key, channel.clone());
        Ok(line(channel))
    }

    /// When the certificate ends that the community's gateway shows; unknown without a connection.
    pub fn certificate_expires(&self, peer: &Peer) -> Option<jiff::Timestamp> {
        let shown = self.links.shown_at(peer.endpoint.as_ref()?)?;
        let now = self.clock.now();
        let judged = self.trust.judge(&shown.chain, Usage::Server, now).ok()?;
        Some(judged.not_after)
    }

    /// A TLS connection to what is no node, such as a log collector: within the outgoing policy, with
    /// this node's certificate, to a server whose certificate is accepted, has the host's name and, if
    /// there are `pins`, is one of these. It is judged when it is made, not again.
    ///
    /// # Errors
    /// The network's; a refusal of the policy or of the certificate.
    pub async fn bare(
        &self,
        endpoint: &Endpoint,
        pins: &[CertificatePin],
    ) -> io::Result<Box<dyn Wire>> {
        let name = ServerName::try_from(endpoint.host().to_owned()).map_err(io::Error::other)?;
        let expect = ServerExpectation {
            name: name.clone(),
            pins: pins.to_vec(),
        };
        let (trust, clock) = (Arc::clone(&self.trust), Arc::clone(&self.clock));
        let config = bare_client_config(&self.identity, trust, clock, expect);
        let connector = TlsConnector::from(config.map_err(io::Error::other)?);
        let tcp = self.dialler.connect(endpoint.host(), endpoint.port());
        let tls = connector.connect(name, tcp.await?).await?;
        Ok(Box::new(tls))
    }

    /// Closes every connection whose server's certificate is not accepted any more, or that goes to
    /// what the directory does not name any more. Gives how many.
    pub fn rejudge(&self) -> usize {
        let snapshot = self.directory.snapshot();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|(endpoint, pins, _), _| {
            let named =
                |peer: &Arc<Peer>| peer.endpoint.as_ref() == Some(endpoint) && peer.pins == *pins;
            snapshot.peers().iter().any(named)
        });
        drop(channels);
        self.links.rejudge(|shown| self.ended(&snapshot, shown))
    }

    fn ended(&self, snapshot: &Snapshot, shown: &Shown) -> Option<&'static str> {
        let now = self.clock.now();
        let judged = if shown.emergency {
            let (trust, chain) = (&self.trust, &shown.chain);
            trust.judge_for_emergency(chain, Usage::Server, now)
        } else {
            self.trust.judge(&shown.chain, Usage::Server, now)
        };
        let certified = match judged {
            Ok(certified) => certified,
            Err(refusal) => return Some(refusal.rule()),
        };
        let named = snapshot.peers().iter().any(|peer| {
            let here = peer.endpoint.as_ref() == Some(&shown.endpoint);
            here && snapshot.may_call(&peer.home, now) && peer.pins.contains(&certified.spki_sha256)
        });
        (!named).then_some("not-registered")
    }
}

/// What is read from and written to, whatever is below.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A lazy channel to `endpoint`, whose server must show the certificate `pin`; for clients, which
/// go where a person points them.
///
/// # Errors
/// [`Reason::CommunityUnavailable`] if TLS cannot be configured for the name.
pub fn connect(
    endpoint: &Endpoint,
    pin: CertificatePin,
    identity: impl Into<IdentityHandle>,
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
) -> Result<Channel> {
    let name = server_name(endpoint)?;
    let expect = ServerExpectation {
        name: name.clone(),
        pins: vec![pin],
    };
    let config = client_config(identity, Arc::clone(trust), Arc::clone(clock), expect)
        .map_err(|error| unusable(&error))?;
    channel(endpoint, name, config, &Dialler::open())
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

/// A lazy channel over this TLS configuration, which nobody cuts.
///
/// # Errors
/// [`Reason::CommunityUnavailable`] if the endpoint cannot be used.
pub fn channel(
    endpoint: &Endpoint,
    name: ServerName<'static>,
    config: Arc<rustls::ClientConfig>,
    dialler: &Dialler,
) -> Result<Channel> {
    let join = Join {
        links: Arc::default(),
        clocks: None,
        emergency: false,
    };
    channel_in(endpoint, name, config, dialler, join)
}

/// Among which links a channel's connections are, which can close them; and who is told if the server's
/// certificate is out of its time.
struct Join {
    links: Arc<Links>,
    clocks: Option<(Arc<Clocks>, HomeCommunityId)>,
    emergency: bool,
}

impl Join {
    fn untrusted(&self, target: &Endpoint, rule: &'static str) {
        self.links.untrusted(target, rule);
        if let Some((clocks, home)) = &self.clocks
            && OUT_OF_TIME.contains(&rule)
        {
            clocks.doubted(home);
        }
    }
}

fn channel_in(
    endpoint: &Endpoint,
    name: ServerName<'static>,
    config: Arc<rustls::ClientConfig>,
    dialler: &Dialler,
    join: Join,
) -> Result<Channel> {
    let connector = TlsConnector::from(config);
    let (dialler, target, join) = (dialler.clone(), endpoint.clone(), Arc::new(join));
    let dial = service_fn(move |_: Uri| {
        let (connector, name) = (connector.clone(), name.clone());
        let (dialler, join, target) = (dialler.clone(), Arc::clone(&join), target.clone());
        async move {
            let tcp = dialler.connect(target.host(), target.port()).await?;
            let tls = connector.connect(name, tcp).await.inspect_err(|error| {
                if let Some(refusal) = refusal_of(error) {
                    join.untrusted(&target, refusal.rule());
                }
            })?;
            let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = Shown {
                endpoint: target,
                chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
                emergency: join.emergency,
            };
            Ok::<_, io::Error>(TokioIo::new(join.links.join(tls, shown)))
        }
    });
    // The scheme is http because TLS is ours; tonic would otherwise insist on its own.
    let channel = TonicEndpoint::from_shared(format!("http://{}", endpoint.authority()))
        .map_err(|error| unusable(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
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
