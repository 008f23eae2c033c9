//! Nodes in this process, or as processes of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use renkei::clock::{Clock, SystemClock};
use renkei::config::Config;
use renkei::demo::actor::{Caller, Link};
use renkei::demo::sample::{Sample, SampleConfig, SampleInstitution, SampleRecord};
use renkei::demo::world::{self, Actor, World};
use renkei::gateway::Gateway;
use renkei::pki::{NodeIdentity, TrustHandle};
use renkei::store::Options;
use renkei::store::disk::{Disk, RealDisk};
use renkei::wire::pb::admin::admin_service_client::AdminServiceClient;
use renkei::wire::pb::admin::{GetNodeInfoRequest, GetStatusRequest, GetStatusResponse};
use renkei::wire::pb::directory as dpb;
use renkei::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::eventually;
use super::process::Process;

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// The hub.
    Hub,
    /// A region; of a network of one node, that node.
    Region(usize),
}

/// A network to be.
pub(crate) struct Setup {
    regions: usize,
    standalone: bool,
    clock: Arc<dyn Clock>,
    overrides: Vec<(String, String)>,
    processes: bool,
    disk: Arc<dyn Disk>,
}

/// An override as the environment would have it.
fn overriding(key: &str, value: &str) -> (String, String) {
    let name = format!("RENKEI__{}", key.to_uppercase().replace('.', "__"));
    (name, value.to_owned())
}

impl Setup {
    /// A hub and regions under it.
    pub(crate) fn federation(regions: usize) -> Self {
        Self {
            regions,
            standalone: false,
            clock: Arc::new(SystemClock),
            overrides: Vec::new(),
            processes: false,
            disk: Arc::new(RealDisk),
        }
    }

    /// One node that is everything. Its directory knows a second community, which nobody runs.
    pub(crate) fn standalone() -> Self {
        Self {
            standalone: true,
            ..Self::federation(2)
        }
    }

    /// Everything lives by this clock.
    pub(crate) fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Every node's files are on this disk.
    pub(crate) fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Every node is a process of its own, and lives by the system's clock.
    pub(crate) fn by_process(self) -> Self {
        Self {
            processes: true,
            ..self
        }
    }

    /// Overrides a key of every node's configuration, such as `listen.drain_timeout_ms`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.push(overriding(key, value));
        self
    }

    /// Starts the nodes; the directory is in force everywhere afterwards.
    pub(crate) async fn start(self) -> Network {
        self.start_with(|_| {}).await
    }

    /// As [`Setup::start`], with a change to the world before any node starts.
    pub(crate) async fn start_with(self, change: impl FnOnce(&mut World)) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let mut prepared = prepare(&folder, self.regions, Arc::clone(&self.clock));
        change(&mut prepared.world);
        let trust = prepared.world.trust().unwrap();
        let mut network = Network {
            world: prepared.world,
            sample: prepared.sample,
            standalone: self.standalone,
            clock: self.clock,
            clocks: BTreeMap::new(),
            overrides: self.overrides,
            processes: self.processes,
            disk: self.disk,
            trust,
            slots: BTreeMap::new(),
            folder,
        };
        if self.standalone {
            network.open(At::Region(0), None).await;
        } else {
            network.open(At::Hub, None).await;
            for index in 0..self.regions {
                network.open(At::Region(index), None).await;
            }
        }
        network.apply_directory(|_| {}).await;
        network
    }
}

/// A world and what it was made of.
pub(crate) struct Prepared {
    pub(crate) world: World,
    pub(crate) sample: Sample,
}

/// Makes the smallest sample and its world under `folder`.
pub(crate) fn prepare(folder: &TempDir, regions: usize, clock: Arc<dyn Clock>) -> Prepared {
    let today = clock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let sample = Sample::generate(&SampleConfig {
        regions,
        patients: SampleConfig::MIN_PATIENTS,
        reference_date: today,
        ..SampleConfig::default()
    });
    let world = World::create(&folder.path().join("world"), &sample, clock).unwrap();
    Prepared { world, sample }
}

/// Nodes that run, their files, and who may call them.
pub(crate) struct Network {
    pub(crate) world: World,
    pub(crate) sample: Sample,
    pub(crate) clock: Arc<dyn Clock>,
    /// Nodes with a clock of their own.
    clocks: BTreeMap<At, Arc<dyn Clock>>,
    standalone: bool,
    overrides: Vec<(String, String)>,
    processes: bool,
    disk: Arc<dyn Disk>,
    trust: Arc<TrustHandle>,
    slots: BTreeMap<At, Slot>,
    /// Gone with the network.
    folder: TempDir,
}

struct Slot {
    address: SocketAddr,
    running: Option<Running>,
}

enum Running {
    Here(Here),
    Process(Box<Process>),
}

struct Here {
    gateway: Arc<Gateway>,
    stop: CancellationToken,
    task: JoinHandle<renkei::error::Result<()>>,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Network {
    async fn open(&mut self, at: At, address: Option<SocketAddr>) {
        let (address, running) = if self.processes {
            self.spawn(at, address).await
        } else {
            self.open_here(at, address).await
        };
        let running = Some(running);
        self.slots.insert(at, Slot { address, running });
    }

    async fn spawn(&self, at: At, address: Option<SocketAddr>) -> (SocketAddr, Running) {
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let environment: Vec<_> = self
            .overrides_of(at)
            .map(|(name, value)| (name.as_str(), Path::new(value)))
            .collect();
        let name = self.node(at).name.clone();
        let folder = self.folder.path().join("nodes");
        let config = self.config(at, address);
        let process = Process::start_in(&folder, &name, &config, &environment).await;
        (
            process.address.parse().unwrap(),
            Running::Process(Box::new(process)),
        )
    }

    /// What is overridden at a node; a hub has no parent.
    fn overrides_of(&self, at: At) -> impl Iterator<Item = &(String, String)> {
        let parents = move |name: &str| at == At::Hub && name.starts_with("RENKEI__PARENT__");
        let all = self.overrides.iter();
        all.filter(move |(name, _)| !parents(name))
    }

    async fn open_here(&self, at: At, address: Option<SocketAddr>) -> (SocketAddr, Running) {
        let listener = match address {
            Some(address) => TcpListener::bind(address).await.unwrap(),
            None => TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let address = listener.local_addr().unwrap();
        let overrides: Vec<_> = self.overrides_of(at).cloned().collect();
        let config = Config::parse(&self.config(at, address), overrides).unwrap();
        let options = Options {
            clock: Arc::clone(self.clocks.get(&at).unwrap_or(&self.clock)),
            disk: Arc::clone(&self.disk),
            ..Options::default()
        };
        let gateway = Gateway::open(config, options, None).await.unwrap();
        let stop = CancellationToken::new();
        let serving = renkei::server::run(Arc::clone(&gateway), listener, stop.clone());
        let running = Here {
            gateway,
            stop,
            task: tokio::spawn(serving),
        };
        (address, Running::Here(running))
    }

    fn config(&self, at: At, address: SocketAddr) -> String {
        let address = address.to_string();
        match at {
            At::Hub => self.world.hub_config(&address).unwrap(),
            At::Region(index) if self.standalone => self
                .world
                .standalone_config(&self.world.regions[index], &address)
                .unwrap(),
            At::Region(index) => self
                .world
                .region_config(
                    &self.world.regions[index],
                    &address,
                    &self.address(At::Hub).to_string(),
                )
                .unwrap(),
        }
    }

    /// Applies the world's directory through the interface, changed as wanted, and waits until it
    /// is in force everywhere.
    pub(crate) async fn apply_directory(
        &self,
        change: impl FnOnce(&mut dpb::ApplyDirectoryRequest),
    ) {
        // Nobody listens on the discard port of this machine.
        let nowhere = "127.0.0.1:9".to_owned();
        let address = |at| {
            self.slots
                .get(&at)
                .map_or_else(|| nowhere.clone(), |slot| slot.address.to_string())
        };
        let regions: Vec<String> = (0..self.world.regions.len())
            .map(|index| address(At::Region(index)))
            .collect();
        let mut request = self.world.directory(&address(At::Hub), &regions).unwrap();
        if self.standalone {
            request.communities.remove(0);
        }
        change(&mut request);
        let top = if self.standalone {
            At::Region(0)
        } else {
            At::Hub
        };
        let operator = self.operator(top);
        let mut client = DirectoryServiceClient::new(operator.channel.clone());
        let applied = client.apply_directory(operator.request(request)).await;
        let version = applied.unwrap().into_inner().version;
        for at in self.slots.keys() {
            self.directory_at(*at, version).await;
        }
    }

    async fn directory_at(&self, at: At, version: u64) {
        let operator = &self.operator(at);
        eventually("the directory is in force", || async {
            let mut client = AdminServiceClient::new(operator.channel.clone());
            let info = client
                .get_node_info(operator.request(GetNodeInfoRequest {}))
                .await
                .unwrap();
            (info.into_inner().directory_version >= version).then_some(())
        })
        .await;
    }

    /// Waits until the regions have told the hub everything.
    pub(crate) async fn settled(&self) {
        for at in self.slots.keys().filter(|at| **at != At::Hub) {
            let operator = &self.operator(*at);
            eventually("the hub was told everything", || async {
                let mut client = AdminServiceClient::new(operator.channel.clone());
                let status = client
                    .get_status(operator.request(GetStatusRequest {}))
                    .await
                    .unwrap();
                (status.into_inner().queued_notices == 0).then_some(())
            })
            .await;
        }
    }

    /// Where a node listens.
    pub(crate) fn address(&self, at: At) -> SocketAddr {
        self.slots[&at].address
    }

    /// The names and files of a node.
    pub(crate) fn node(&self, at: At) -> &world::Node {
        match at {
            At::Hub => &self.world.hub,
            At::Region(index) => &self.world.regions[index],
        }
    }

    /// Whom clients trust.
    pub(crate) fn trust(&self) -> Arc<TrustHandle> {
        Arc::clone(&self.trust)
    }

    fn here(&self, at: At) -> &Here {
        match self.slots[&at].running.as_ref().expect("the node runs") {
            Running::Here(here) => here,
            Running::Process(_) => panic!("the node is a process of its own"),
        }
    }

    /// The services of a node that runs here.
    pub(crate) fn gateway(&self, at: At) -> &Arc<Gateway> {
        &self.here(at).gateway
    }

    /// The token that stops a node that runs here.
    pub(crate) fn stopper(&self, at: At) -> CancellationToken {
        self.here(at).stop.clone()
    }

    /// The process of a node that is one.
    pub(crate) fn process(&self, at: At) -> &Process {
        match self.slots[&at].running.as_ref().expect("the node runs") {
            Running::Process(process) => process,
            Running::Here(_) => panic!("the node is no process of its own"),
        }
    }

    /// What a node tells its operator over the interface.
    pub(crate) async fn status(&self, at: At) -> GetStatusResponse {
        let operator = self.operator(at);
        let mut client = AdminServiceClient::new(operator.channel.clone());
        let request = operator.request(GetStatusRequest {});
        client.get_status(request).await.unwrap().into_inner()
    }

    /// Stops one node cleanly.
    pub(crate) async fn stop_node(&mut self, at: At) {
        let slot = self.slots.get_mut(&at).unwrap();
        match slot.running.take().expect("the node runs") {
            Running::Here(mut here) => {
                here.stop.cancel();
                (&mut here.task).await.unwrap().unwrap();
            }
            Running::Process(process) => process.stop().await,
        }
    }

    /// Kills a node that is a process of its own (SIGKILL).
    pub(crate) async fn kill_node(&mut self, at: At) {
        let slot = self.slots.get_mut(&at).unwrap();
        match slot.running.take().expect("the node runs") {
            Running::Process(mut process) => process.kill().await,
            Running::Here(_) => panic!("the node is no process of its own"),
        }
    }

    /// Overrides a key of the configuration of nodes that are started from now on.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.overrides.push(overriding(key, value));
    }

    /// A node lives by this clock when it is started again.
    pub(crate) fn give_clock(&mut self, at: At, clock: Arc<dyn Clock>) {
        self.clocks.insert(at, clock);
    }

    /// Starts a stopped node again, on its address and data.
    pub(crate) async fn start_node(&mut self, at: At) {
        let address = self.slots[&at].address;
        self.open(at, Some(address)).await;
    }

    /// Stops every node cleanly, the regions first.
    pub(crate) async fn stop(mut self) {
        let all: Vec<At> = self.slots.keys().copied().rev().collect();
        for at in all {
            if self.slots[&at].running.is_some() {
                self.stop_node(at).await;
            }
        }
    }

    /// The audience of assertions: the community that is the network.
    fn network_home(&self) -> &str {
        if self.standalone {
            &self.world.regions[0].home
        } else {
            &self.world.hub.home
        }
    }

    /// A caller with any identity.
    pub(crate) fn caller_with(
        &self,
        at: At,
        identity: &NodeIdentity,
        person: Option<&Actor<'_>>,
        audience: &str,
    ) -> Caller {
        let address = self.address(at).to_string();
        let link = Link {
            address: &address,
            pin: self.node(at).pin,
            identity,
            trust: &self.trust,
            clock: &self.clock,
        };
        Caller::new(&link, person, &audience.parse().unwrap()).unwrap()
    }

    /// A caller with a certificate of the world's.
    pub(crate) fn caller(&self, at: At, name: &str, person: Option<&Actor<'_>>) -> Caller {
        let identity = self.world.identity(name).unwrap();
        self.caller_with(at, &identity, person, self.network_home())
    }

    /// Somebody without a certificate.
    pub(crate) fn anonymous(&self, at: At) -> Caller {
        let address = self.address(at).to_string();
        Caller::anonymous(&address, self.node(at).pin, &self.trust, &self.clock).unwrap()
    }

    /// The operator, at any node.
    pub(crate) fn operator(&self, at: At) -> Caller {
        self.caller(at, "operator", None)
    }

    /// Another operator, at any node.
    pub(crate) fn second_operator(&self, at: At) -> Caller {
        self.caller(at, "operator-2", None)
    }

    /// The system of an institution.
    pub(crate) fn system(&self, at: At, institution: &SampleInstitution) -> Caller {
        self.caller(at, &format!("inst-{}", institution.code), None)
    }

    /// A person of the institution they name, with the institution's certificate.
    pub(crate) fn acting(&self, at: At, person: &Actor<'_>) -> Caller {
        self.caller(at, &format!("inst-{}", person.institution), Some(person))
    }

    /// The record of a person in a region.
    pub(crate) fn record(&self, truth: usize, region: usize) -> &SampleRecord {
        let person = self.sample.person(truth).unwrap();
        let record = person.records.iter().find(|record| record.region == region);
        record.expect("the person is known in the region")
    }

    /// The institution of a record.
    pub(crate) fn institution(&self, record: &SampleRecord) -> &SampleInstitution {
        self.sample.institution(record).unwrap()
    }

    /// Emergency hospitals of a region.
    pub(crate) fn emergency_hospitals(&self, region: usize) -> Vec<&SampleInstitution> {
        self.sample.regions[region]
            .institutions
            .iter()
            .filter(|institution| institution.emergency)
            .collect()
    }
}
