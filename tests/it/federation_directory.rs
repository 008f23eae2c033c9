//! The directory between hub and regions: what operators see of a region, how one joins, and what a
//! region does without its hub.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use renkei::demo::world::ClientProfile;
use renkei::wire::pb::directory as pb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::calls::find_here;
use crate::support::process::PROGRAM;
use crate::support::{At, Network, Setup, eventually, physician};

/// What operators see must be true by then.
const TRUE_WITHIN: Duration = Duration::from_secs(10);

/// How a region is, as the hub tells its operator.
async fn seen(network: &Network, region: usize) -> pb::RegionHealth {
    let operator = network.operator(At::Hub);
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let request = operator.request(pb::GetRegionStatusRequest {
        home_community_ids: vec![network.node(At::Region(region)).home.clone()],
        probe: true,
    });
    let answer = client.get_region_status(request).await.unwrap();
    answer.into_inner().regions.remove(0)
}

/// The region is seen as it is within the time that operators are promised.
async fn is_seen(network: &Network, what: &'static str, reachable: bool) {
    let changed = Instant::now();
    eventually(what, || async {
        let region = seen(network, 1).await;
        (region.reachable == reachable).then_some(())
    })
    .await;
    let took = changed.elapsed();
    println!("{what}: seen after {took:?}");
    assert!(took <= TRUE_WITHIN, "{what}: {took:?}");
}

async fn signal(id: u32, name: &str) {
    let told = Command::new("kill").args([name, &id.to_string()]).status();
    assert!(told.await.unwrap().success());
}

/// Passes connections on to a node, until it is cut: then it takes none, and carries nothing more.
struct Proxy {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Proxy {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let (mut tasks, is_cut) = (JoinSet::new(), Arc::clone(&cut));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let is_cut = Arc::clone(&is_cut);
                connections.spawn(async move {
                    if is_cut.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(node).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = until(&is_cut) => {}
                    }
                    // What is open stays open and silent, as after a cable was pulled.
                    while is_cut.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
            }
        });
        Self {
            address,
            cut,
            tasks,
        }
    }
}

async fn until(cut: &AtomicBool) {
    while !cut.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_becomes_of_a_region() {
    let mut network = Setup::federation(2).by_process().start().await;
    let first = seen(&network, 1).await;
    assert!(first.reachable && first.last_failure_reason.is_empty());
    assert!(first.certificate_expires.is_some() && first.directory_version > 0);
    assert!(seen(&network, 0).await.reachable);

    let id = network.process(At::Region(1)).id();
    signal(id, "-STOP").await;
    is_seen(&network, "a paused region", false).await;
    assert!(seen(&network, 0).await.reachable, "the other goes on");
    signal(id, "-CONT").await;
    is_seen(&network, "a region that goes on", true).await;

    signal(id, "-KILL").await;
    is_seen(&network, "a killed region", false).await;
    network.start_node(At::Region(1)).await;
    is_seen(&network, "a region that returned", true).await;

    let proxy = Proxy::to(network.address(At::Region(1))).await;
    let home = network.node(At::Region(1)).home.clone();
    let (there, away) = (home.clone(), home);
    let address = proxy.address;
    network
        .apply_directory(move |directory| {
            let mut communities = directory.communities.iter_mut();
            let region = communities.find(|one| one.home_community_id == there);
            region.unwrap().endpoints[0].address = format!("https://{address}");
        })
        .await;
    is_seen(&network, "a region behind a proxy", true).await;
    proxy.cut.store(true, Ordering::SeqCst);
    is_seen(&network, "a region that is cut off", false).await;
    proxy.cut.store(false, Ordering::SeqCst);
    is_seen(&network, "a region that is joined again", true).await;

    // Away as it said: still not reachable, and told apart.
    signal(network.process(At::Region(1)).id(), "-STOP").await;
    let now = network.clock.now();
    let time = |hours: i64| {
        let hours = jiff::SignedDuration::from_hours(hours);
        Some(renkei::wire::timestamp(now + hours))
    };
    let window = pb::MaintenanceWindow {
        starts: time(-1),
        ends: time(1),
        note: String::new(),
    };
    let operator = network.operator(At::Hub);
    let mut client = DirectoryServiceClient::new(operator.channel.clone());
    let request = operator.request(pb::GetCommunityRequest {
        home_community_id: away,
    });
    let community = client.get_community(request).await.unwrap().into_inner();
    let mut community = community.community.unwrap();
    community.maintenance_windows = vec![window];
    let request = operator.request(pb::ApplyDirectoryRequest {
        communities: vec![community],
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    });
    client.apply_directory(request).await.unwrap();
    let region = seen(&network, 1).await;
    assert!(!region.reachable && region.planned_absence);
    assert!(!seen(&network, 0).await.planned_absence);
    signal(network.process(At::Region(1)).id(), "-CONT").await;
    drop(proxy.tasks);
    network.stop().await;
}

/// Runs `renkei directory`; exit status, and the JSON objects it prints.
async fn directory(profile: &str, arguments: &[&str]) -> (i32, Vec<Value>) {
    let command = Command::new(PROGRAM)
        .args(["--json", "directory", "--as", profile])
        .args(arguments)
        .output();
    let output = command.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code().unwrap(), lines.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_has_joined_when_both_ways_work() {
    let mut network = Setup::federation(2).start().await;
    let hub = network.address(At::Hub).to_string();
    let profile = ClientProfile {
        name: "joining",
        certificate: "operator",
        server: network.node(At::Hub),
        address: &hub,
        person: None,
    };
    let profile = network.world.write_profile(&profile).unwrap();
    let profile = profile.to_str().unwrap();
    let region = network.node(At::Region(1));
    let file = json!({"community": [{
        "home_community_id": region.home,
        "name_ja": "改名した地域",
        "kind": "region",
        "endpoint": format!("https://{}", network.address(At::Region(1))),
        "gateway_pins": [region.pin.to_string()],
        "assigning_authorities": region.authorities,
        "repositories": [region.repository],
        "service_hours": [{"weekdays": [1, 2, 3, 4, 5, 6, 7], "opens": "00:00", "closes": "24:00"}],
    }]});
    let path = network.world.root().join("joining.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let path = path.to_str().unwrap();

    let (status, said) = directory(profile, &["join", path]).await;
    assert_eq!((status, said.len()), (0, 2), "{said:?}");
    let version = &said[0]["version"];
    let joined = &said[1]["regions"][0];
    assert_eq!(joined["reachable"], true, "{joined}");
    assert_eq!(&joined["directory_version"], version, "{joined}");

    // From the hub to the region nothing works; and then nothing is known of the other way.
    network.stop_node(At::Region(1)).await;
    let (status, said) = directory(profile, &["join", "--wait", "1", path]).await;
    assert_eq!(status, 3, "{said:?}");
    assert_ne!(said[1]["regions"][0]["reachable"], true);

    // From the region to the hub nothing works: it does not accept the hub's certificate as its
    // parent's, though it answers the hub, which the directory that it has kept names.
    network.set("parent.certificate_pin", &"ab".repeat(32));
    network.set("parent.endpoint", "https://127.0.0.1:9");
    network.set("parent.home_community_id", "urn:oid:2.999.7.7");
    network.start_node(At::Region(1)).await;
    let (status, said) = directory(profile, &["join", "--wait", "1", path]).await;
    assert_eq!(status, 3, "{said:?}");
    let region = &said[1]["regions"][0];
    assert_eq!(region["reachable"], true, "{region}");
    assert_ne!(region["directory_version"], said[0]["version"], "{region}");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_starts_and_serves_its_own_without_its_hub() {
    // bars: F-19, the directory's part
    let mut network = Setup::federation(2).start().await;
    let truth = network.sample.scenario.cross_region;
    let held = network.load_person(truth).await;
    assert!(held > 0);
    let directory = &network.gateway(At::Region(0)).directory;
    let (version, expires) = (directory.snapshot().version(), directory.expires());
    let left = expires.unwrap().duration_since(network.clock.now());
    assert!(left > jiff::SignedDuration::from_hours(71), "{left:?}");

    network.stop_node(At::Hub).await;
    network.stop_node(At::Region(0)).await;
    network.start_node(At::Region(0)).await;
    let directory = &network.gateway(At::Region(0)).directory;
    assert_eq!(directory.snapshot().version(), version);
    assert_eq!(directory.expires(), expires);
    let record = network.record(truth, 0);
    let institution = network.institution(record);
    let doctor = network.acting(At::Region(0), &physician(&institution.code));
    let here = find_here(&doctor, network.patient(record)).await.unwrap();
    assert!(!here.into_inner().objects.unwrap().entries.is_empty());
    network.stop().await;
}
