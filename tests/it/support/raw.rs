//! An HTTP/2 client that sends whatever it is told: frames by hand over real mutual TLS, so that a
//! test can do what no well-kept client does. Loopback only, everything bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use renkei::clock::Clock;
use renkei::pki::tls::{ServerExpectation, client_config};
use renkei::pki::{NodeIdentity, TrustHandle};
use renkei::types::CertificatePin;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{At, Network};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `ENHANCE_YOUR_CALM`.
pub(crate) const CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What takes longer has failed.
const LIMIT: Duration = Duration::from_mins(1);

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) content: Vec<u8>,
}

impl Frame {
    /// The error code of `RST_STREAM` or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.content.get(at..at + 4).expect("an error code");
        u32::from_be_bytes(bytes.try_into().unwrap())
    }
}

/// How a connection ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Error code of the GOAWAY, if there was one.
    pub(crate) goaway: Option<u32>,
    /// Streams reset, and why.
    pub(crate) resets: Vec<(u32, u32)>,
    /// Octets of DATA.
    pub(crate) data: usize,
    /// Whether it was closed in time.
    pub(crate) closed: bool,
}

impl Ended {
    /// Whether the node cut it for what was sent: before all of `most` was, or with an error. On a
    /// busy machine the sockets may take everything before the node has read to its limit.
    pub(crate) fn was_cut(&self, sent: usize, most: usize) -> bool {
        self.closed && (sent < most || self.goaway.is_some_and(|code| code != 0))
    }
}

/// A frame to send.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// A header as HPACK: literal, not indexed (RFC 7541 §6.2.2), lengths below 127.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).ok().filter(|l| *l < 127).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The header block of a gRPC call.
pub(crate) fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // POST and https are in the static table.
    let mut block = vec![0x83, 0x87];
    block.extend(literal(":path", path));
    block.extend(literal(":authority", "localhost"));
    block.extend(literal("content-type", "application/grpc"));
    block.extend(literal("te", "trailers"));
    for (name, value) in more {
        block.extend(literal(name, value));
    }
    block
}

/// A path that any registered caller may call, and that only answers.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// A path whose answer stays open.
pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A whole call of [`HEALTH`] or [`WATCH`]: headers, then an empty message.
pub(crate) fn whole(path: &str, stream: u32) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &call(path, &[]));
    bytes.extend(frame(DATA, END_STREAM, stream, &[0; 5]));
    bytes
}

/// The node of the first region, as a client sees it: what attackers in threads of their own need.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pin: CertificatePin,
    trust: Arc<TrustHandle>,
    clock: Arc<dyn Clock>,
    institutions: Arc<[NodeIdentity]>,
}

impl Target {
    /// The node of the first region of `network`.
    pub(crate) fn of(network: &Network) -> Self {
        let at = At::Region(0);
        let count = network.sample.regions[0].institutions.len();
        Self {
            address: network.address(at),
            pin: network.node(at).pin,
            trust: network.trust(),
            clock: Arc::clone(&network.clock),
            institutions: (0..count).map(|one| institution(network, one)).collect(),
        }
    }

    /// The identity of an institution's system.
    pub(crate) fn institution(&self, index: usize) -> &NodeIdentity {
        &self.institutions[index % self.institutions.len()]
    }

    /// What a client with this identity connects with.
    pub(crate) fn config(&self, identity: &NodeIdentity) -> Arc<ClientConfig> {
        let expect = ServerExpectation {
            name: "127.0.0.1".try_into().unwrap(),
            pins: vec![self.pin],
        };
        let (trust, clock) = (Arc::clone(&self.trust), Arc::clone(&self.clock));
        client_config(identity, trust, clock, expect).unwrap()
    }

    /// A TLS connection with this certificate, from an address of this machine; nothing is sent yet.
    pub(crate) async fn connect(
        &self,
        identity: &NodeIdentity,
        from: Option<[u8; 4]>,
    ) -> io::Result<Raw> {
        Raw::over(self.config(identity), tcp(self.address, from).await?).await
    }

    /// A connection of an institution on which a first call has been served.
    pub(crate) async fn warm(&self, index: usize, from: Option<[u8; 4]>) -> io::Result<Raw> {
        let mut raw = self.connect(self.institution(index), from).await?;
        let asked = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &whole(HEALTH, 1)].concat();
        raw.send(&asked).await?;
        match raw.served(1).await {
            true => Ok(raw),
            false => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// The connection.
pub(crate) struct Raw {
    pub(crate) tls: TlsStream<TcpStream>,
}

impl Raw {
    /// A TLS connection with this certificate; nothing is sent yet.
    pub(crate) async fn connect(network: &Network, identity: &NodeIdentity) -> io::Result<Self> {
        Self::connect_from(network, identity, None).await
    }

    /// As [`Raw::connect`], from an address of this machine.
    pub(crate) async fn connect_from(
        network: &Network,
        identity: &NodeIdentity,
        from: Option<[u8; 4]>,
    ) -> io::Result<Self> {
        Target::of(network).connect(identity, from).await
    }

    async fn over(config: Arc<ClientConfig>, tcp: TcpStream) -> io::Result<Self> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Self { tls })
    }

    /// The system of an institution of the first region.
    pub(crate) async fn institution(network: &Network, index: usize) -> Self {
        let identity = institution(network, index);
        Self::connect(network, &identity).await.unwrap()
    }

    /// Preface and empty SETTINGS.
    pub(crate) async fn begin(&mut self) {
        self.begin_with(&[]).await;
    }

    /// Preface and SETTINGS with these values.
    pub(crate) async fn begin_with(&mut self, settings: &[(u16, u32)]) {
        let mut content = Vec::new();
        for (identifier, value) in settings {
            content.extend(identifier.to_be_bytes());
            content.extend(value.to_be_bytes());
        }
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &content)].concat();
        // A node under attack may have hung up already: what is read next tells.
        let _may_be_gone = self.send(&bytes).await.is_ok();
    }

    /// Sends, and sees that it leaves.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sending = async {
            self.tls.write_all(bytes).await?;
            self.tls.flush().await
        };
        tokio::time::timeout(LIMIT, sending).await?
    }

    /// The next frame; none once the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.tls.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut content = vec![0; length as usize];
            self.tls.read_exact(&mut content).await.ok()?;
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                content,
            })
        };
        tokio::time::timeout(LIMIT, reading).await.expect("in time")
    }

    /// The next frame that `wanted` wants; none once the connection is closed.
    pub(crate) async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The gRPC status of a stream, from the headers that end it.
    pub(crate) async fn served(&mut self, stream: u32) -> bool {
        let end = |frame: &Frame| frame.stream == stream && frame.flags & END_STREAM != 0;
        self.find(end)
            .await
            .is_some_and(|frame| frame.kind == HEADERS)
    }

    /// Reads until the connection is closed, or for so long.
    pub(crate) async fn until_closed(&mut self, limit: Duration) -> Ended {
        let mut ended = Ended::default();
        let reading = async {
            while let Some(frame) = self.frame().await {
                match frame.kind {
                    GOAWAY => ended.goaway = Some(frame.code()),
                    RST_STREAM => ended.resets.push((frame.stream, frame.code())),
                    DATA => ended.data += frame.content.len(),
                    // Answered, as a node that says goodbye asks whether it was heard.
                    PING if frame.flags == 0 => {
                        let answer = self::frame(PING, 1, 0, &frame.content);
                        drop(self.send(&answer).await);
                    }
                    _ => {}
                }
            }
        };
        let closed = tokio::time::timeout(limit, reading).await.is_ok();
        ended.closed = closed;
        ended
    }
}

/// A TCP connection from an address of this machine.
pub(crate) async fn tcp(to: SocketAddr, from: Option<[u8; 4]>) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect(to).await;
    };
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// The identity of an institution's system.
pub(crate) fn institution(network: &Network, index: usize) -> NodeIdentity {
    let code = &network.sample.regions[0].institutions[index].code;
    network.world.identity(&format!("inst-{code}")).unwrap()
}
