//! Mutual TLS over loopback.

use std::net::SocketAddr;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::pki::tls::{self, ServerExpectation};
use crate::pki::{NodeIdentity, TrustHandle};

struct Server {
    address: SocketAddr,
    outcome: tokio::sync::mpsc::Receiver<Result<Certified, String>>,
}

/// A server that certifies each peer, reports it, and answers one octet.
async fn serve(lab: &Lab, identity: &NodeIdentity, trust: Arc<TrustHandle>) -> Server {
    let clock = lab.clock.clone();
    let config = tls::server_config(identity, Arc::clone(&trust), clock.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, outcome) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((socket, _)) = listener.accept().await {
            let result = match acceptor.accept(socket).await {
                Ok(mut stream) => {
                    let peer = stream.get_ref().1.peer_certificates();
                    let peer = tls::certify_peer(peer, &trust, Usage::Institution, &*clock);
                    stream.write_all(b"!").await.unwrap();
                    stream.shutdown().await.ok();
                    peer.map(|peer| Certified::clone(&peer))
                        .map_err(|r| r.rule().to_owned())
                }
                Err(error) => Err(tls::refusal_of(&error)
                    .map_or_else(|| error.to_string(), |refusal| refusal.rule().to_owned())),
            };
            sender.send(result).await.unwrap();
        }
    });
    Server { address, outcome }
}

async fn dial(
    server: &mut Server,
    config: Arc<rustls::ClientConfig>,
) -> (Result<u8, std::io::Error>, Result<Certified, String>) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let client = async {
        let mut stream = TlsConnector::from(config).connect(name, socket).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.read_u8().await
    };
    let answer = client.await;
    (answer, server.outcome.recv().await.unwrap())
}

fn expect(name: &str) -> ServerExpectation {
    ServerExpectation {
        name: ServerName::try_from(name.to_owned()).unwrap(),
        pins: Vec::new(),
    }
}

/// Bars: T-01, T-02, T-04, T-06, T-08, T-14.
#[tokio::test]
async fn only_a_certified_client_gets_in() {
    let mut lab = Lab::new();
    let gateway = lab
        .pki
        .issue(&Lab::request(Kind::Gateway, "gw"))
        .unwrap()
        .identity()
        .unwrap();
    let issue = |lab: &mut Lab, name: &str, variant| {
        let request = Lab::request(Kind::Institution, name).variant(variant);
        lab.pki.issue(&request).unwrap().identity().unwrap()
    };
    let good = issue(&mut lab, "good", Variant::Ok);
    let signing = issue(&mut lab, "signing", Variant::SigningOnly);
    let expired = issue(&mut lab, "expired", Variant::Expired);
    let policy = issue(&mut lab, "policy", Variant::WrongPolicy);
    let revoked = issue(&mut lab, "revoked", Variant::Ok);
    lab.pki.revoke("revoked").unwrap();
    let mut foreign = DevPki::in_memory_foreign(lab.clock.clone()).unwrap();
    let stranger = foreign
        .issue(&Lab::request(Kind::Institution, "x"))
        .unwrap();
    let stranger = stranger.identity().unwrap();
    let trust = TrustHandle::new(lab.trust());
    let mut server = serve(&lab, &gateway, Arc::clone(&trust)).await;
    let config = |identity: &NodeIdentity| {
        let clock = lab.clock.clone();
        tls::client_config(identity, Arc::clone(&trust), clock, expect("localhost")).unwrap()
    };
    for _ in 0..2 {
        let (answer, peer) = dial(&mut server, config(&good)).await;
        assert_eq!(answer.unwrap(), b'!');
        assert_eq!(peer.unwrap().spki_sha256, good.pin());
    }
    for (identity, rule) in [
        (&stranger, "issuer-unknown"),
        (&signing, "signing-certificate"),
        (&revoked, "revoked"),
        (&expired, "expired"),
        (&policy, "policy-not-accepted"),
    ] {
        let (answer, peer) = dial(&mut server, config(identity)).await;
        assert!(answer.is_err(), "{rule}");
        assert_eq!(peer.unwrap_err(), rule);
    }
    let nobody =
        tls::anonymous_client_config(Arc::clone(&trust), lab.clock.clone(), expect("localhost"));
    let (answer, peer) = dial(&mut server, nobody.unwrap()).await;
    assert!(answer.is_err());
    assert!(peer.unwrap_err().contains("no certificates"));
}

/// Bars: T-34.
#[tokio::test]
async fn the_server_is_judged_by_name_pin_and_profile() {
    let mut lab = Lab::new();
    let client = lab
        .pki
        .issue(&Lab::request(Kind::Institution, "c"))
        .unwrap();
    let client = client.identity().unwrap();
    let gateway = lab
        .pki
        .issue(&Lab::request(Kind::Gateway, "gw"))
        .unwrap()
        .identity()
        .unwrap();
    let trust = TrustHandle::new(lab.trust());
    let mut server = serve(&lab, &gateway, Arc::clone(&trust)).await;
    for (name, pin, wanted) in [
        ("localhost", Some(gateway.pin()), None),
        ("127.0.0.1", None, None),
        ("elsewhere.example", None, Some("server-name")),
        ("127.0.0.2", None, Some("server-name")),
        ("localhost", Some(client.pin()), Some("pin")),
    ] {
        let expectation = ServerExpectation {
            pins: pin.into_iter().collect(),
            ..expect(name)
        };
        let clock = lab.clock.clone();
        let config = tls::client_config(&client, Arc::clone(&trust), clock, expectation).unwrap();
        let (answer, _) = dial(&mut server, config).await;
        let rule = answer
            .as_ref()
            .err()
            .and_then(|e| tls::refusal_of(e))
            .map(Refusal::rule);
        assert_eq!(rule, wanted, "{name}: {answer:?}");
        assert_eq!(answer.is_ok(), wanted.is_none());
    }
    // An institution's certificate does not serve.
    let mut server = serve(&lab, &client, Arc::clone(&trust)).await;
    let clock = lab.clock.clone();
    let config = tls::client_config(&gateway, Arc::clone(&trust), clock, expect("localhost"));
    let (answer, _) = dial(&mut server, config.unwrap()).await;
    assert_eq!(
        tls::refusal_of(&answer.unwrap_err()).unwrap().rule(),
        "extended-key-usage"
    );
}

#[tokio::test]
async fn a_reload_is_in_force_for_the_next_handshake() {
    let mut lab = Lab::new();
    let gateway = lab
        .pki
        .issue(&Lab::request(Kind::Gateway, "gw"))
        .unwrap()
        .identity()
        .unwrap();
    let client = lab
        .pki
        .issue(&Lab::request(Kind::Institution, "c"))
        .unwrap();
    let client = client.identity().unwrap();
    let trust = TrustHandle::new(lab.trust());
    let mut server = serve(&lab, &gateway, Arc::clone(&trust)).await;
    let clock = lab.clock.clone();
    let config = tls::client_config(&client, Arc::clone(&trust), clock, expect("localhost"));
    let config = config.unwrap();
    let (answer, _) = dial(&mut server, Arc::clone(&config)).await;
    assert!(answer.is_ok());
    lab.pki.revoke("c").unwrap();
    trust.replace(lab.trust());
    let (answer, peer) = dial(&mut server, config).await;
    assert!(
        answer.is_err(),
        "a resumed session would not have been judged again"
    );
    assert_eq!(peer.unwrap_err(), "revoked");
}

/// Bars: T-39.
#[test]
fn a_key_of_another_certificate_or_readable_by_others_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-06-15T03:00:00Z".parse().unwrap()));
    let mut pki = DevPki::create(folder.path(), clock.clone(), false).unwrap();
    let (a_cert, a_key) = pki
        .issue(&Lab::request(Kind::Institution, "a"))
        .unwrap()
        .files
        .unwrap();
    let (_, b_key) = pki
        .issue(&Lab::request(Kind::Institution, "b"))
        .unwrap()
        .files
        .unwrap();
    assert!(NodeIdentity::load(&a_cert, &a_key).is_ok());
    let mismatch = NodeIdentity::load(&a_cert, &b_key).unwrap_err();
    assert!(
        mismatch.to_string().contains("does not belong"),
        "{mismatch}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&a_key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let readable = NodeIdentity::load(&a_cert, &a_key).unwrap_err();
        assert!(readable.to_string().contains("640"), "{readable}");
    }
    // What is on disk is what was made: reopened, it issues and revokes on.
    drop(pki);
    let mut pki = DevPki::open(folder.path(), clock.clone()).unwrap();
    assert!(
        pki.issue(&Lab::request(Kind::Institution, "a")).is_err(),
        "name taken"
    );
    let issued = pki.issue(&Lab::request(Kind::Institution, "c")).unwrap();
    pki.revoke("b").unwrap();
    let layout = crate::pki::dev::Layout::of(folder.path());
    let store = layout.trust_store(TrustOptions::default()).unwrap();
    assert!(judge(&issued.chain, &store, Usage::Institution, clock.now()).is_ok());
    assert_eq!(
        store
            .crl_status()
            .iter()
            .map(|list| list.revoked)
            .sum::<usize>(),
        1
    );
}
