//! Where a node may connect to. An endpoint comes from a directory that others wrote, so it is
//! treated as hostile (bar F-26): its name is resolved once, every address is judged, and the
//! connection goes to an address that was judged. Nothing is followed anywhere else: gRPC knows no
//! redirects, and the fetcher of revocation lists takes none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::edge::Counters;
use crate::types::{HostPattern, Network, is_public};

/// What resolving a name gives.
pub type Resolved<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Resolves names; the system's, or a test's.
pub trait Resolve: Send + Sync {
    /// The addresses of a host.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a>;
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Which hosts and addresses may be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks besides public addresses.
    pub networks: Vec<Network>,
    /// If not empty, the only hosts.
    pub hosts: Vec<HostPattern>,
}

impl Policy {
    /// Everything: for a client that a person points at a node.
    ///
    /// # Panics
    /// Never; the network is well formed.
    pub fn open() -> Self {
        let networks = "::/0".parse().into_iter().collect();
        Self {
            networks,
            hosts: Vec::new(),
        }
    }

    fn host(&self, host: &str) -> Result<(), Forbidden> {
        if self.hosts.is_empty() || self.hosts.iter().any(|known| known.matches(host)) {
            Ok(())
        } else {
            Err(Forbidden::Host)
        }
    }

    fn address(&self, address: SocketAddr) -> Result<(), Forbidden> {
        let ip = address.ip();
        if is_public(ip) || self.networks.iter().any(|network| network.contains(ip)) {
            Ok(())
        } else {
            Err(Forbidden::Address)
        }
    }
}

/// Why nothing was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The host is none of `outgoing.hosts`.
    #[error("the host is none of outgoing.hosts")]
    Host,
    /// An address it resolves to is neither public nor in `outgoing.networks`.
    #[error("the host has an address that is neither public nor in outgoing.networks")]
    Address,
}

impl Forbidden {
    /// The refusal in an error of [`Dialler::connect`], however deep.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(found) = error.downcast_ref::<Self>() {
            return Some(*found);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Self::of(io.get_ref()?);
        }
        Self::of(error.source()?)
    }
}

/// Opens TCP connections within a policy.
#[derive(Clone)]
pub struct Dialler {
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Dialler {
    /// A dialler within `policy`.
    pub fn new(policy: Policy, resolver: Arc<dyn Resolve>, counters: Arc<Counters>) -> Self {
        Self {
            policy: Arc::new(policy),
            resolver,
            counters,
        }
    }

    /// A dialler that goes everywhere, for clients.
    pub fn open() -> Self {
        Self::new(
            Policy::open(),
            Arc::new(SystemResolver),
            Arc::new(Counters::default()),
        )
    }

    /// A connection to `host`. One forbidden address among those it has, and there is none: a name
    /// that also leads inside is not to be trusted with the rest.
    ///
    /// # Errors
    /// The network's; [`Forbidden`] inside of `PermissionDenied`.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let refuse = |why: Forbidden| {
            self.counters.outgoing_refused.add();
            tracing::warn!(rule = %why, "an outgoing connection was refused");
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        };
        self.policy.host(host).map_err(refuse)?;
        let addresses = self.resolver.resolve(host, port).await?;
        for address in &addresses {
            self.policy.address(*address).map_err(refuse)?;
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::types::Endpoint;

    /// Answers with the next list each time; the last one stays.
    struct Answers(Vec<Vec<SocketAddr>>, AtomicUsize);

    impl Resolve for Answers {
        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolved<'a> {
            let turn = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
            let answer = self.0[turn].clone();
            Box::pin(async move { Ok(answer) })
        }
    }

    fn dialler(networks: &[&str], answers: Vec<Vec<SocketAddr>>) -> (Dialler, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let policy = Policy {
            networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            hosts: Vec::new(),
        };
        let resolver = Arc::new(Answers(answers, AtomicUsize::new(0)));
        (
            Dialler::new(policy, resolver, Arc::clone(&counters)),
            counters,
        )
    }

    /// Whether something connected to the listener.
    async fn touched(listener: &TcpListener) -> bool {
        tokio::select! {
            biased;
            accepted = listener.accept() => accepted.is_ok(),
            () = tokio::task::yield_now() => false,
        }
    }

    /// Bars: F-26.
    #[tokio::test]
    async fn forbidden_addresses_are_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counters = Arc::new(Counters::default());
        let system = Arc::new(SystemResolver);
        let real = Dialler::new(Policy::default(), system, Arc::clone(&counters));
        // Names and notations that the system's resolver takes for this machine or its networks.
        let hosts = [
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "fe80::1",
            "fd00::1",
        ];
        for host in hosts {
            let error = real.connect(host, port).await.unwrap_err();
            let unresolved = Forbidden::of(&error).is_none();
            assert!(
                !unresolved || error.kind() != io::ErrorKind::ConnectionRefused,
                "{host}: was dialled: {error}"
            );
        }
        assert!(counters.outgoing_refused.get() >= 10, "{counters:?}");
        assert!(!touched(&listener).await);
        // Most of them are not even endpoints.
        for odd in [
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "127.0.0.1.",
        ] {
            let text = format!("https://{odd}:7443");
            assert!(text.parse::<Endpoint>().is_err(), "{odd}");
        }
    }

    /// Bars: F-26 (rebinding, mixed answers).
    #[tokio::test]
    async fn a_name_is_resolved_once_and_judged_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inside = listener.local_addr().unwrap();
        let outside: SocketAddr = "203.0.113.1:1".parse().unwrap();
        let (mixed, counters) = dialler(&["203.0.113.0/24"], vec![vec![outside, inside]]);
        let error = mixed.connect("gateway.example.jp", 1).await.unwrap_err();
        assert_eq!(Forbidden::of(&error), Some(Forbidden::Address));
        assert_eq!(counters.outgoing_refused.get(), 1);
        assert!(!touched(&listener).await);
        // The second answer would lead elsewhere; it is not asked for.
        let (rebinding, _) = dialler(&["127.0.0.0/8"], vec![vec![inside], vec![outside]]);
        rebinding.connect("gateway.example.jp", 1).await.unwrap();
        assert!(touched(&listener).await);
    }

    /// Bars: F-26 (allow-list).
    #[tokio::test]
    async fn only_listed_hosts_are_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        let policy = Policy {
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            hosts: vec!["*.example.jp".parse().unwrap()],
        };
        let resolver = Arc::new(Answers(vec![vec![address]], AtomicUsize::new(0)));
        let listed = Dialler::new(policy, resolver, counters);
        let error = listed.connect("example.com", 1).await.unwrap_err();
        assert_eq!(Forbidden::of(&error), Some(Forbidden::Host));
        listed.connect("gateway.example.jp", 1).await.unwrap();
    }
}
