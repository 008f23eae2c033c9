//! `bench handshake`: full mutual handshakes a second of a node's edge, against rustls alone with
//! the same keys: TLS 1.3, the client's handshake signature checked, nothing judged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::config::Listen;
use crate::pki::dev::{DevPki, IssueRequest, Kind};
use crate::pki::tls::{ServerExpectation, client_config};
use crate::pki::{NodeIdentity, TrustHandle, TrustOptions};

use super::{Figure, constant};

/// Both are measured so often in turn, so that neither has the quieter machine.
const ROUNDS: u32 = 4;

/// How to measure.
#[derive(Clone, Debug)]
pub struct HandshakeSettings {
    /// Clients at once.
    pub in_flight: Vec<usize>,
    /// Time for each figure, the floor's besides.
    pub time: Duration,
    /// JSON Lines instead of a table.
    pub json: bool,
}

/// Measures and prints.
///
/// # Errors
/// If a server cannot be set up, or a handshake fails.
pub async fn handshake(settings: &HandshakeSettings) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Pair {
        server,
        client,
        trust,
        connector,
    } = pair(&clock)?;

    let stop = CancellationToken::new();
    let edge = edge(&server, &trust, &clock, &stop).await?;
    let bare = bare(&server, &client, &stop).await?;
    for in_flight in &settings.in_flight {
        let part = settings.time / ROUNDS;
        let (mut real, mut floor) = (0, 0);
        run(&connector, edge, *in_flight, part / 2).await?;
        run(&connector, bare, *in_flight, part / 2).await?;
        for _ in 0..ROUNDS {
            floor += run(&connector, bare, *in_flight, part).await?;
            real += run(&connector, edge, *in_flight, part).await?;
        }
        print(*in_flight, real, floor, settings);
    }
    stop.cancel();
    Ok(())
}

/// Two sides that accept each other.
pub(super) struct Pair {
    pub(super) server: NodeIdentity,
    pub(super) client: NodeIdentity,
    trust: Arc<TrustHandle>,
    /// As the client, to the server at `localhost`.
    pub(super) connector: TlsConnector,
}

/// A server and a client with certificates of their own.
///
/// # Errors
/// If they cannot be made.
pub(super) fn pair(clock: &Arc<dyn Clock>) -> Result<Pair> {
    let mut pki = DevPki::in_memory(Arc::clone(clock))?;
    let server = IssueRequest::new(Kind::Gateway, "node", "node.example.jp").dns("localhost");
    let server = pki.issue(&server)?.identity()?;
    let client = IssueRequest::new(Kind::Institution, "client", "Hospital").institution(
        "1319999999",
        "Hospital",
        "病院",
    );
    let client = pki.issue(&client)?.identity()?;
    let trust = TrustHandle::new(pki.trust_store(TrustOptions::default())?);
    let expect = ServerExpectation {
        name: "localhost".try_into()?,
        pins: vec![server.pin()],
    };
    let config = client_config(&client, Arc::clone(&trust), Arc::clone(clock), expect)?;
    Ok(Pair {
        server,
        client,
        trust,
        connector: TlsConnector::from(config),
    })
}

fn print(in_flight: usize, real: u64, floor: u64, settings: &HandshakeSettings) {
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let rate = |count: u64| count as f64 / settings.time.as_secs_f64();
    let figure = Figure {
        suite: "handshake",
        case: format!("handshake.full@{in_flight}"),
        value: rate(real),
        unit: "handshakes/s",
        floor: rate(floor),
        floor_name: "bare rustls",
        ratio: rate(real) / rate(floor),
        n: real,
        config: json!({
            "in_flight": in_flight,
            "key": "P-256",
            "resumption": "off",
            "client_on_same_machine": true,
        }),
    };
    figure.print(settings.json);
}

/// A node's edge, with room for the bench.
async fn edge(
    server: &NodeIdentity,
    trust: &Arc<TrustHandle>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<SocketAddr> {
    let limits = Listen {
        max_connections_per_address: 65_536,
        max_connections_per_certificate: 65_536,
        max_connections_per_institution: 65_536,
        drain_timeout_ms: 0,
        ..Listen::default()
    };
    let edge = constant::edge(server, trust, clock, limits, stop.clone())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(edge.serve_until_stopped(listener));
    Ok(address)
}

/// rustls and tokio, and nothing else.
async fn bare(
    server: &NodeIdentity,
    client: &NodeIdentity,
    stop: &CancellationToken,
) -> Result<SocketAddr> {
    let acceptor = bare_acceptor(server, client)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((tcp, _)) = accepted else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(()) = tcp.set_nodelay(true) else {
                    return;
                };
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    return;
                };
                if tls.write_all(&[0]).await.is_ok() && tls.flush().await.is_ok() {
                    // Until the client goes.
                    drop(tls.read(&mut [0]).await);
                }
            });
        }
    });
    Ok(address)
}

/// rustls with the server's key, checking the client's handshake signature and nothing else.
pub(super) fn bare_acceptor(server: &NodeIdentity, client: &NodeIdentity) -> Result<TlsAcceptor> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(SignatureOnly {
        key: client.leaf().spki.clone(),
        provider: Arc::clone(&provider),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(server.certified_key())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands for `time`; gives how often. A handshake counts when the server has spoken, which
/// it does only after it has seen the client's certificate.
async fn run(
    connector: &TlsConnector,
    to: SocketAddr,
    in_flight: usize,
    time: Duration,
) -> Result<u64> {
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    for _ in 0..in_flight {
        let connector = connector.clone();
        clients.spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                let tcp = TcpStream::connect(to).await?;
                tcp.set_nodelay(true)?;
                // Ends with a reset, so that no port waits for its time.
                tcp.set_zero_linger()?;
                let mut tls = connector.connect("localhost".try_into()?, tcp).await?;
                tls.read_exact(&mut [0]).await?;
                count += 1;
            }
            Ok::<u64, anyhow::Error>(count)
        });
    }
    let mut all = 0;
    while let Some(client) = clients.join_next().await {
        all += client.context("a client panicked")??;
    }
    Ok(all)
}

/// Checks the handshake signature against the one client's key, as rustls always does, and takes
/// the certificate as it is.
#[derive(Debug)]
struct SignatureOnly {
    key: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for SignatureOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(self.key.as_slice());
        let algorithms = self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
