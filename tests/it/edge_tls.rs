//! TLS as others see it: what is not offered, what is refused, and what this node refuses when it
//! connects itself.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use renkei::clock::{Clock, SystemClock};
use renkei::pki::NodeIdentity;
use renkei::pki::dev::{DevPki, IssueRequest, Kind, Variant};
use renkei::pki::tls::{ServerExpectation, client_config, server_config};
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use rustls::HandshakeKind;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::edge_limits::counter;
use crate::support::process::Process;
use crate::support::raw::{HEALTH, PREFACE, SETTINGS, frame, institution, whole};
use crate::support::{At, Network, Prepared, Setup, eventually, prepare};

const HERE: At = At::Region(0);

/// What OpenSSL's client says of a connection with these arguments; `None` if it is not installed.
async fn openssl(network: &Network, arguments: &[&str]) -> Option<String> {
    let address = network.address(HERE).to_string();
    let code = &network.sample.regions[0].institutions[0].code;
    let (certificate, key) = network.world.files(&format!("inst-{code}"));
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &address, "-cert"])
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .args(arguments)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => {
            eprintln!("SKIPPED: openssl cannot be run ({error})");
            None
        }
    }
}

/// Bars: T-23, T-24, T-25, T-27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_modern_tls_is_offered() {
    let network = Setup::standalone().start().await;
    let good = ["-tls1_3", "-alpn", "h2"];
    let Some(said) = openssl(&network, &good).await else {
        return;
    };
    for (wanted, what) in [
        ("TLSv1.3", "version"),
        ("ALPN protocol: h2", "protocol"),
        ("Compression: NONE", "no compression"),
        ("Secure Renegotiation IS NOT supported", "no renegotiation"),
    ] {
        assert!(said.contains(wanted), "{what}: {said}");
    }
    // A node sends no session ticket, so that there is nothing to resume.
    assert!(
        !said.contains("Post-Handshake New Session Ticket"),
        "{said}"
    );
    let all = "ALL:@SECLEVEL=0";
    for arguments in [
        vec!["-tls1_2", "-alpn", "h2"],
        vec!["-tls1_2", "-cipher", all],
        vec!["-tls1_1", "-cipher", all],
        vec!["-tls1", "-cipher", all],
        vec!["-tls1_3", "-alpn", "http/1.1"],
        vec![
            "-tls1_3",
            "-alpn",
            "h2",
            "-ciphersuites",
            "TLS_AES_128_CCM_8_SHA256",
        ],
        vec![
            "-tls1_3",
            "-alpn",
            "h2",
            "-ciphersuites",
            "TLS_AES_128_CCM_SHA256",
        ],
        vec!["-tls1_3", "-alpn", "h2", "-groups", "ffdhe2048"],
        vec!["-tls1_3", "-alpn", "h2", "-groups", "P-521"],
    ] {
        let said = openssl(&network, &arguments).await.unwrap();
        let refused = said.contains("Cipher is (NONE)") || said.contains("alert no application");
        assert!(refused, "{arguments:?}: {said}");
    }
    network.stop().await;
}

/// A client that would resume and send early data if it could.
fn eager(network: &Network) -> Arc<rustls::ClientConfig> {
    let expect = ServerExpectation {
        name: "127.0.0.1".try_into().unwrap(),
        pins: vec![network.node(HERE).pin],
    };
    let (trust, clock) = (network.trust(), Arc::clone(&network.clock));
    let config = client_config(&institution(network, 0), trust, clock, expect).unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    config.resumption = Resumption::in_memory_sessions(64);
    config.enable_early_data = true;
    Arc::new(config)
}

/// Bars: T-26, T-28.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_resumed_and_nothing_comes_early() {
    let mut network = Setup::standalone()
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let connector = TlsConnector::from(eager(&network));
    let connect = |network: &Network| {
        let (connector, address) = (connector.clone(), network.address(HERE));
        async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = "127.0.0.1".try_into().unwrap();
            let mut tls = connector.connect(name, tcp).await?;
            let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &whole(HEALTH, 1)].concat();
            tls.write_all(&bytes).await?;
            tls.flush().await?;
            // The first frame of the server; a ticket would have come before it.
            let mut head = [0; 9];
            tls.read_exact(&mut head).await?;
            Ok::<_, std::io::Error>(tls)
        }
    };
    for turn in 0..3 {
        let tls = connect(&network).await.unwrap();
        let session = tls.get_ref().1;
        assert_eq!(session.tls13_tickets_received(), 0, "{turn}");
        assert_eq!(
            session.handshake_kind(),
            Some(HandshakeKind::Full),
            "{turn}"
        );
        assert!(!session.is_early_data_accepted(), "{turn}");
    }
    let code = network.sample.regions[0].institutions[0].code.clone();
    network.world.pki().revoke(&format!("inst-{code}")).unwrap();
    network.gateway(HERE).reload(false).await.unwrap();
    assert!(
        connect(&network).await.is_err(),
        "verified again, and refused"
    );
    network.stop().await;
}

/// A server with this identity that completes the handshake and then says nothing.
async fn fake(network: &Network, identity: &NodeIdentity) -> SocketAddr {
    let (trust, clock) = (network.trust(), Arc::clone(&network.clock));
    let acceptor = TlsAcceptor::from(server_config(identity, trust, clock).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let mut rest = Vec::new();
                    drop(tls.read_to_end(&mut rest).await);
                }
            });
        }
    });
    address
}

/// What the operator is told of the second community when its gateway is at `address` and its
/// registered certificates are `pins`.
async fn region(
    network: &Network,
    address: &str,
    pins: &[renkei::types::CertificatePin],
) -> dpb::RegionHealth {
    let pins = pins.iter().map(|pin| dpb::CertificatePin {
        spki_sha256: pin.to_string(),
        ..Default::default()
    });
    network
        .apply_directory(|directory| {
            let community = &mut directory.communities[1];
            community.endpoints[0].address = format!("https://{address}");
            community.gateway_certificates = pins.collect();
        })
        .await;
    let operator = network.operator(HERE);
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let request = operator.request(dpb::GetRegionStatusRequest::default());
    let answer = client.get_region_status(request).await.unwrap();
    answer.into_inner().regions.remove(0)
}

/// Bars: T-34.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_with_a_bad_certificate_is_refused_and_told_of() {
    let mut made: Vec<(&str, NodeIdentity)> = Vec::new();
    let network =
        Setup::standalone()
            .set("outgoing.networks", "[\"127.0.0.0/8\"]")
            .start_with(|world| {
                let request = |name: &str| {
                    IssueRequest::new(Kind::Gateway, name, "gateway.example.jp").dns("localhost")
                };
                let local = "127.0.0.1".parse().unwrap();
                for (name, variant) in [
                    ("expired", Variant::Expired),
                    ("signing-only", Variant::SigningOnly),
                    ("wrong-policy", Variant::WrongPolicy),
                    ("revoked", Variant::Ok),
                    ("good", Variant::Ok),
                ] {
                    let request = request(name).ip(local).variant(variant);
                    made.push((
                        name,
                        world.pki().issue(&request).unwrap().identity().unwrap(),
                    ));
                }
                world.pki().revoke("revoked").unwrap();
                let other = world.pki().issue(&request("wrong-name")).unwrap();
                made.push(("wrong-name", other.identity().unwrap()));
                let mut foreign = DevPki::in_memory_foreign(world.clock()).unwrap();
                let issued = foreign.issue(&request("foreign").ip(local)).unwrap();
                made.push(("foreign", issued.identity().unwrap()));
                let client = IssueRequest::new(Kind::Institution, "client", "Hospital")
                    .institution("1319999999", "Hospital", "病院");
                let issued = world.pki().issue(&client).unwrap();
                made.push(("not-a-server", issued.identity().unwrap()));
            })
            .await;
    for (name, identity) in &made {
        let address = fake(&network, identity).await.to_string();
        let told = region(&network, &address, &[identity.pin()]).await;
        assert!(!told.reachable, "{name}");
        if *name == "good" {
            assert_ne!(
                told.last_failure_reason, "PEER_UNTRUSTED",
                "it says nothing"
            );
            // The certificate is good, but registered for nobody here, or for somebody else.
            let told = region(&network, &address, &[network.world.regions[1].pin]).await;
            assert_eq!(told.last_failure_reason, "PEER_UNTRUSTED");
            // Two are registered, as in a rollover.
            let pins = [identity.pin(), made[0].1.pin()];
            let told = region(&network, &address, &pins).await;
            assert_ne!(told.last_failure_reason, "PEER_UNTRUSTED");
        } else {
            assert_eq!(told.last_failure_reason, "PEER_UNTRUSTED", "{name}");
        }
    }
    assert_eq!(made.len(), 8);
    assert!(counter(&network, "outgoing_untrusted") >= 8);
    network.stop().await;
}

/// Bars: T-29, T-34: a connection to a region ends with the region's certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_revoked_region_is_cut() {
    let mut network = Setup::federation(1)
        .set("reload.interval_ms", "3600000")
        .start()
        .await;
    let hub = Arc::clone(network.gateway(At::Hub));
    let before = hub.edge.counters.outgoing_cut.get();
    let operator = network.operator(At::Hub);
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let request = dpb::GetRegionStatusRequest::default;
    let answer = client
        .get_region_status(operator.request(request()))
        .await
        .unwrap();
    assert!(answer.into_inner().regions[0].reachable);
    network.world.pki().revoke("region-0").unwrap();
    hub.reload(false).await.unwrap();
    assert_eq!(hub.edge.counters.outgoing_cut.get(), before + 1);
    let told = eventually("the region is refused", || async {
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let answer = client
            .get_region_status(operator.request(request()))
            .await
            .ok()?;
        let region = answer.into_inner().regions.remove(0);
        (region.last_failure_reason == "PEER_UNTRUSTED").then_some(region)
    })
    .await;
    assert!(!told.reachable);
    network.stop().await;
}

/// Bars: F-26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_inside_is_not_connected_to() {
    let network = Setup::standalone()
        .set("outgoing.networks", "[]")
        .start()
        .await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let pin = network.world.regions[1].pin;
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.1.2.3",
    ] {
        let told = region(&network, &format!("{host}:{port}"), &[pin]).await;
        assert_eq!(told.last_failure_reason, "ENDPOINT_FORBIDDEN", "{host}");
    }
    assert!(counter(&network, "outgoing_refused") >= 5);
    let untouched = tokio::select! {
        biased;
        _ = trap.accept() => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(untouched);
    network.stop().await;
}

/// Bars: N-11: out of descriptors, a node neither ends nor spins, and recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_survives_having_no_descriptors_left() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Prepared { world, sample: _ } = prepare(&folder, 1, clock);
    let config = world
        .standalone_config(&world.regions[0], "127.0.0.1:0")
        .unwrap();
    let process = Process::start(&folder.path().join("nodes"), "node", &config).await;
    let id = process.id();
    let used = std::fs::read_dir(format!("/proc/{id}/fd")).map(Iterator::count);
    let limit = |count: usize| {
        let limited = Command::new("prlimit")
            .args(["--pid", &id.to_string(), &format!("--nofile={count}:")])
            .status();
        limited.is_ok_and(|status| status.success())
    };
    let Ok(used) = used else {
        eprintln!("SKIPPED: there is no /proc");
        return;
    };
    if !limit(used + 4) {
        eprintln!("SKIPPED: prlimit cannot be run");
        return;
    }
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(TcpStream::connect(&process.address).await.unwrap());
    }
    eventually("the node has noticed", || async {
        process.log().contains("accept failed").then_some(())
    })
    .await;
    let before = process.cpu();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A loop that spins uses the whole second.
    assert!(
        process.cpu().saturating_sub(before) < Duration::from_millis(500),
        "it spins"
    );
    drop(open);
    let mut tcp = eventually("it accepts again", || async {
        let mut tcp = TcpStream::connect(&process.address).await.ok()?;
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.ok()?;
        let mut answer = [0; 7];
        tcp.read_exact(&mut answer).await.ok()?;
        (answer[0] == 21).then_some(tcp)
    })
    .await;
    tcp.shutdown().await.ok();
    process.stop().await;
}
