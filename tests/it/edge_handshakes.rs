//! Handshakes that no well-kept client makes: bent, stalled, replayed, endless.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use renkei::audit::Filter;
use renkei::pki::NodeIdentity;
use renkei::pki::tls::server_config;
use rustls::client::{ClientConnection, ResolvesClientCert, Resumption};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::edge_limits::counter;
use crate::support::raw::{HEALTH, PREFACE, SETTINGS, Target, frame, tcp, whole};
use crate::support::shake::{self, Sent, Shaken, shake};
use crate::support::tier::{self, Dice};
use crate::support::{At, Network, Setup, eventually};

const HERE: At = At::Region(0);
/// Handshakes at once.
const AT_ONCE: u64 = 8;

fn edge_count(counts: &HashMap<String, u64>, name: &str) -> u64 {
    counts[&format!("edge.{name}")]
}

/// One handshake with something bent: the `ClientHello`, or, encrypted as it should be, one record of
/// certificate, signature and Finished.
async fn bent(target: &Target, config: &Arc<ClientConfig>, mut dice: Dice) {
    let source = [127, 2, dice.octet(), 1 + dice.octet() / 2];
    let tcp = tcp(target.address, Some(source)).await.unwrap();
    let hello = dice.below(2) == 0;
    let inside = (!hello).then(|| dice.clone());
    let mut first = true;
    let alter = |mut bytes: Vec<u8>| {
        if hello && first {
            // Record type, version and length are bent only together with what follows: TLS 1.3 has
            // no use for the version, so that alone it makes no difference.
            shake::bend_record(&mut dice, &mut bytes);
            return Sent::Stop(bytes);
        }
        first = false;
        Sent::On(bytes)
    };
    let shaken = if hello {
        half_closed(tcp, config, alter).await
    } else {
        shake(tcp, Arc::clone(config), inside, alter).await
    };
    assert!(shaken.closed, "not closed: {shaken:?}");
}

/// As [`shake`], but what was sent last is followed by the end of the stream, so that the node does not
/// wait for the rest of what was cut.
async fn half_closed(
    mut tcp: TcpStream,
    config: &Arc<ClientConfig>,
    mut alter: impl FnMut(Vec<u8>) -> Sent,
) -> Shaken {
    let bytes = hello(config);
    let (Sent::On(bytes) | Sent::Stop(bytes)) = alter(bytes);
    let mut shaken = Shaken::default();
    let ending = async {
        tcp.write_all(&bytes).await?;
        tcp.shutdown().await?;
        tcp.read_to_end(&mut shaken.said).await
    };
    shaken.closed = tokio::time::timeout(Duration::from_secs(30), ending)
        .await
        .is_ok();
    shaken
}

/// The first flight of a client.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut client = ClientConnection::new(Arc::clone(config), here()).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// The rules by which handshakes were refused, as logged, and how often each.
fn rules(network: &Network) -> BTreeMap<String, u64> {
    let mut rules = BTreeMap::new();
    for line in network.process(HERE).log().lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        if line["fields"]["message"] == "a connection was refused" {
            let rule = line["fields"]["rule"].as_str().unwrap_or_default();
            *rules.entry(rule.to_owned()).or_insert(0) += 1;
        }
    }
    rules
}

/// Bars: T-37 (mutated handshakes): 2,000, or 200,000 at the full tier. None gets in, none does harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bent_handshakes_do_no_harm() {
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    let dice = Dice::new();
    let total = tier::count(2_000, 200_000, 1_000_000);
    let before = network.status(HERE).await.counts;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..AT_ONCE {
        let (target, dice, next) = (target.clone(), dice.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let config = Arc::new(shake::config(target.institution(0)));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return;
                }
                bent(&target, &config, dice.of(number)).await;
            }
        });
    }
    tasks.join_all().await;
    let ended = |counts: &HashMap<String, u64>| {
        edge_count(counts, "handshakes_refused") + edge_count(counts, "handshake_timeouts")
    };
    let after = eventually("every handshake was refused", || async {
        let after = network.status(HERE).await.counts;
        (ended(&after) - ended(&before) >= total).then_some(after)
    })
    .await;
    let rules = rules(&network);
    println!(
        "T-37 {total} bent handshakes in {:.0} s; refused by {rules:?}",
        began.elapsed().as_secs_f64()
    );
    // Those of the operator, who was asked in between, and no others.
    let done = edge_count(&after, "handshakes") - edge_count(&before, "handshakes");
    let asked = edge_count(&after, "accepted") - edge_count(&before, "accepted") - total;
    assert_eq!(done, asked, "a bent handshake got through");
    assert!(rules.len() >= 4, "bent deep enough: {rules:?}");
    assert!(!network.process(HERE).log().contains("panicked"));
    assert!(target.warm(1, None).await.is_ok(), "others are served");
    network.stop().await;
}

/// Where the bytes of a handshake can be held back: before, in, and after each record.
fn stalls(flights: &[u8]) -> Vec<usize> {
    let (mut stalls, mut at) = (vec![0], 0);
    while let Some([_, _, _, high, low]) = flights.get(at..at + 5) {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        stalls.extend([at + 3, at + 5 + length / 2]);
        at += 5 + length;
        stalls.push(at);
    }
    assert_eq!(at, flights.len(), "records");
    // A signature is now and then an octet or two shorter.
    stalls.retain(|stall| stall + 8 < flights.len());
    stalls
}

/// Bars: T-35: stalled in each handshake message, a connection is closed in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_stall_nowhere() {
    const LIMIT: Duration = Duration::from_secs(3);
    let network = Setup::standalone()
        .set("listen.handshake_timeout_ms", "3000")
        .start()
        .await;
    let target = Target::of(&network);
    let mut config = shake::config(target.institution(0));
    // So that ClientHello, Certificate, CertificateVerify and Finished are many records.
    config.max_fragment_size = Some(128);
    let config = Arc::new(config);
    let mut flights = Vec::new();
    let whole = tcp(target.address, None).await.unwrap();
    let shaken = shake(whole, Arc::clone(&config), None, |bytes| {
        flights.extend_from_slice(&bytes);
        Sent::On(bytes)
    });
    assert!(shaken.await.done, "nothing held back, it is done");
    let stalls = stalls(&flights);
    assert!(stalls.len() > 30, "{stalls:?}");
    let before = counter(&network, "handshake_timeouts");
    let mut tasks = JoinSet::new();
    for stall in stalls.iter().copied() {
        let (target, config) = (target.clone(), Arc::clone(&config));
        tasks.spawn(async move {
            let from = [127, 3, 1, u8::try_from(stall % 200 + 1).unwrap()];
            let tcp = tcp(target.address, Some(from)).await.unwrap();
            let mut left = stall;
            let alter = |mut bytes: Vec<u8>| {
                if bytes.len() < left {
                    left -= bytes.len();
                    return Sent::On(bytes);
                }
                bytes.truncate(left);
                Sent::Stop(bytes)
            };
            (stall, shake(tcp, config, None, alter).await)
        });
    }
    for _ in 0..5 {
        assert!(target.warm(1, None).await.is_ok(), "others are served");
    }
    for (stall, shaken) in tasks.join_all().await {
        assert!(shaken.closed, "stalled after {stall} octets: {shaken:?}");
        let bound = LIMIT + Duration::from_secs(4);
        assert!(shaken.lived < bound, "after {stall}: {:?}", shaken.lived);
    }
    let timeouts = counter(&network, "handshake_timeouts") - before;
    assert_eq!(timeouts, stalls.len() as u64);
    network.stop().await;
}

/// A server as careless as the node is not: it gives tickets, and takes early data.
async fn careless(network: &Network) -> std::net::SocketAddr {
    let identity = network.world.identity(&network.node(HERE).name).unwrap();
    let (trust, clock) = (network.trust(), Arc::clone(&network.clock));
    let config = server_config(&identity, trust, clock).unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    config.session_storage = ServerSessionMemoryCache::new(32);
    config.send_tls13_tickets = 2;
    config.max_early_data_size = 16 << 10;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut tls = acceptor.accept(tcp).await.unwrap();
            let mut early = Vec::new();
            if let Some(mut data) = tls.get_mut().1.early_data() {
                data.read_to_end(&mut early).unwrap();
            }
            let said = u8::try_from(early.len().min(255)).unwrap();
            tls.write_all(&[said]).await.unwrap();
            tls.flush().await.unwrap();
            drop(tls.read_u8().await);
        }
    });
    address
}

fn here() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").unwrap()
}

/// A client that sends `early` before the handshake is done if it has a ticket; gives the first octet
/// of the answer.
async fn eager(
    address: std::net::SocketAddr,
    config: &Arc<ClientConfig>,
    early: &[u8],
) -> (std::io::Result<u8>, ClientConnection) {
    let mut client = ClientConnection::new(Arc::clone(config), here()).unwrap();
    if let Some(mut data) = client.early_data() {
        data.write_all(early).unwrap();
    }
    let asking = async {
        let mut tcp = TcpStream::connect(address).await?;
        let mut buffer = vec![0; 16 << 10];
        loop {
            let mut out = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut out)?;
            }
            tcp.write_all(&out).await?;
            let mut first = [0];
            if client
                .reader()
                .read(&mut first)
                .is_ok_and(|count| count == 1)
            {
                return Ok(first[0]);
            }
            let count = tcp.read(&mut buffer).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let mut came = &buffer[..count];
            while !came.is_empty() {
                client.read_tls(&mut came)?;
                client
                    .process_new_packets()
                    .map_err(std::io::Error::other)?;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), asking).await;
    (
        answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
        client,
    )
}

/// The extensions of the `ServerHello` that `said` begins with (RFC 8446 §4.1.3).
fn server_hello_extensions(said: &[u8]) -> Vec<u16> {
    assert_eq!((said[0], said[5]), (22, 2), "a ServerHello");
    let session = 5 + 4 + 2 + 32;
    let mut at = session + 1 + usize::from(said[session]) + 2 + 1;
    let number = |at: usize| u16::from_be_bytes([said[at], said[at + 1]]);
    let end = at + 2 + usize::from(number(at));
    at += 2;
    let mut found = Vec::new();
    while at < end {
        found.push(number(at));
        at += 4 + usize::from(number(at + 2));
    }
    found
}

/// Bars: T-26: a first flight with early data in it, recorded and played again 1,000 times, reaches
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_is_never_taken_however_often_it_comes() {
    const PRE_SHARED_KEY: u16 = 41;
    let network = Setup::standalone().start().await;
    let target = Target::of(&network);
    let careless = careless(&network).await;
    let mut config = Arc::unwrap_or_clone(target.config(target.institution(0)));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let early = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &whole(HEALTH, 1)].concat();

    // A ticket; then proof that what it opens is taken by a server that takes such.
    let mut taken = Vec::new();
    for _ in 0..2 {
        let (answer, _) = eager(careless, &config, &early).await;
        taken.push(answer.unwrap());
    }
    assert_eq!(taken[0], 0, "without a ticket");
    assert!(taken[1] > 0, "a careless server takes it: {taken:?}");

    let mut client = ClientConnection::new(Arc::clone(&config), here()).unwrap();
    let mut writer = client.early_data().expect("a second ticket");
    writer.write_all(&early).unwrap();
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    assert!(flight.len() > early.len() + 200);

    let events = || {
        let audit = &network.gateway(HERE).audit;
        let events = audit.events(&Filter::default(), usize::MAX).unwrap();
        let calls = events
            .iter()
            .filter(|event| event.method != "edge/Handshake");
        calls.count()
    };
    let (calls, done) = (events(), counter(&network, "handshakes"));
    for number in 0..1_000_u32 {
        let [.., high, low] = number.to_be_bytes();
        let from = [127, 4, high + 1, low.clamp(1, 254)];
        let mut tcp = tcp(target.address, Some(from)).await.unwrap();
        tcp.write_all(&flight).await.unwrap();
        let mut said = vec![0; 5];
        tcp.read_exact(&mut said).await.unwrap();
        said.resize(5 + usize::from(u16::from_be_bytes([said[3], said[4]])), 0);
        tcp.read_exact(&mut said[5..]).await.unwrap();
        let extensions = server_hello_extensions(&said);
        assert!(!extensions.contains(&PRE_SHARED_KEY), "{extensions:?}");
    }
    assert_eq!(counter(&network, "handshakes"), done);
    assert_eq!(events(), calls, "a call was reached");
    assert_eq!(network.gateway(HERE).edge.admission.in_flight(), 0);
    // The same client, alive: it loses its connection, or has a whole handshake without early data.
    let (answer, client) = eager(target.address, &config, &early).await;
    println!("T-26 alive: {answer:?}");
    assert!(!client.is_early_data_accepted());
    assert_ne!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    network.stop().await;
}

/// A client's certificate with 16 MiB behind it.
#[derive(Debug)]
struct Endless(Arc<CertifiedKey>);

impl Endless {
    fn new(identity: &NodeIdentity, config: &ClientConfig) -> Self {
        let usual = config.client_auth_cert_resolver.resolve(&[], &[]).unwrap();
        let mut chain = identity.chain().to_vec();
        let rest = (16 << 20) - 64 - chain.iter().map(|der| der.len() + 8).sum::<usize>();
        for _ in 0..16 {
            chain.push(CertificateDer::from(vec![0x30; rest / 16 - 8]));
        }
        Self(Arc::new(CertifiedKey::new(chain, Arc::clone(&usual.key))))
    }
}

impl ResolvesClientCert for Endless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A `ClientHello` that says it has 16 MiB, for as long as the node takes it.
async fn endless_hello(target: &Target) -> usize {
    let mut tcp = tcp(target.address, None).await.unwrap();
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + (16 << 10), 7);
    let mut sent = 0;
    while sent < 16 << 20 && tcp.write_all(&record).await.is_ok() {
        sent += record.len();
        record[5..9].fill(7);
    }
    let mut rest = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut rest)).await);
    sent
}

/// Bars: T-22: a handshake of 16 MiB is refused before it costs anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_of_sixteen_mebibytes_costs_little() {
    const TIMES: u32 = 10;
    let network = Setup::standalone().by_process().start().await;
    let target = Target::of(&network);
    let identity = target.institution(0).clone();
    let mut config = shake::config(&identity);
    config.client_auth_cert_resolver = Arc::new(Endless::new(&identity, &config));
    let config = Arc::new(config);
    let process = network.process(HERE);
    let (mut before, mut most) = ((process.cpu(), process.memory()), 0);
    // The first of them brings the node's threads to life and is not measured.
    for turn in 0..=TIMES {
        let tcp = tcp(target.address, None).await.unwrap();
        let mut flight = 0;
        let alter = |bytes: Vec<u8>| {
            flight += bytes.len();
            Sent::On(bytes)
        };
        let shaken = shake(tcp, Arc::clone(&config), None, alter).await;
        assert!(shaken.closed && flight > 15 << 20, "{flight} {shaken:?}");
        let sent = endless_hello(&target).await;
        assert!(sent < 16 << 20, "{sent} octets were taken");
        most = most.max(process.memory());
        if turn == 0 {
            before = (process.cpu(), process.memory());
            most = before.1;
        }
    }
    let cpu = process.cpu().saturating_sub(before.0) / (2 * TIMES);
    println!(
        "T-22 16 MiB: {cpu:?} of processor time each, + {} KiB",
        (most - before.1) >> 10
    );
    assert!(cpu <= Duration::from_millis(100), "{cpu:?}");
    assert!(most - before.1 <= 8 << 20, "{}", most - before.1);
    eventually("each was refused", || async {
        let counts = network.status(HERE).await.counts;
        let refused = edge_count(&counts, "handshakes_refused");
        (refused >= u64::from(2 * TIMES)).then_some(())
    })
    .await;
    assert!(target.warm(1, None).await.is_ok(), "others are served");
    network.stop().await;
}
