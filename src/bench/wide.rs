//! A hub, in this process and whole, over very many regions, and one person of whom every one of them
//! has documents. For `bench fanout` and the tests of federation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::actor::{Caller, Link};
use crate::demo::folder::Folder;
use crate::demo::messages;
use crate::demo::sample::{Sample, SampleConfig};
use crate::demo::world::{Actor, Node, World};
use crate::federation::tables::HoldingRow;
use crate::gateway::Gateway;
use crate::identity::tables::PatientRow;
use crate::pki::{NodeIdentity, TrustHandle};
use crate::store::{Commit, Options, Write};
use crate::types::{HomeCommunityId, PatientIdentifier, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as fpb;
use crate::wire::pb::federation::initiating_gateway_service_client::InitiatingGatewayServiceClient;
use crate::wire::pb::federation::responding_gateway_service_client::RespondingGatewayServiceClient;
use crate::wire::pb::identity as ipb;

use super::regions::Region;

/// Nobody listens on the discard port of this machine.
const NOWHERE: &str = "127.0.0.1:9";
/// Patients written in one frame.
const A_FRAME: usize = 50;
/// The person's linkage id.
const LINKAGE: [u8; 16] = [7; 16];

/// The network's files: a hub, so many regions, and the region whose physician asks, which runs
/// nowhere.
pub struct Wide {
    world: World,
    sample: Sample,
    clock: Arc<dyn Clock>,
    regions: Vec<Region>,
    folder: Folder,
}

impl std::fmt::Debug for Wide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wide({} regions)", self.regions.len())
    }
}

impl Wide {
    /// Makes certificates and names of `count` regions; each takes `delay` of its number to answer.
    ///
    /// # Errors
    /// If a file or certificate cannot be made.
    pub fn new(count: usize, delay: impl Fn(usize) -> Duration) -> Result<Self> {
        let folder = Folder::new("wide")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sample = Sample::generate(&SampleConfig {
            regions: 1,
            patients: SampleConfig::MIN_PATIENTS,
            ..SampleConfig::default()
        });
        let root = folder.path().join("world");
        let mut world = World::create(&root, &sample, Arc::clone(&clock))?;
        let mut regions = Vec::with_capacity(count);
        for number in 0..count {
            world.add_region(&format!("地域{number}"))?;
            let node = world.regions.last().context("a region")?;
            let (certificate, key) = world.files(&node.name);
            regions.push(Region {
                home: node.home.clone(),
                certificate,
                key,
                delay: delay(number),
            });
        }
        Ok(Self {
            world,
            sample,
            clock,
            regions,
            folder,
        })
    }

    /// The regions.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The folder of the PKI.
    pub fn pki(&self) -> PathBuf {
        self.world.root().join("pki")
    }

    /// A folder for what else belongs to the run; gone with this.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Whom everybody here trusts.
    ///
    /// # Errors
    /// If the PKI's files cannot be read.
    pub fn trust(&self) -> Result<Arc<TrustHandle>> {
        self.world.trust()
    }

    /// The time everybody here lives in.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The nodes of the regions that answer.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.world.regions.iter().skip(1)
    }

    /// Starts the hub; its directory has the regions at these addresses, in their order.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn hub(&self, addresses: &[SocketAddr]) -> Result<Hub> {
        self.hub_with(addresses, &[]).await
    }

    /// As [`Wide::hub`], with settings as the environment would have them.
    ///
    /// # Errors
    /// As [`Wide::hub`].
    pub(super) async fn hub_with(
        &self,
        addresses: &[SocketAddr],
        settings: &[(&str, &str)],
    ) -> Result<Hub> {
        ensure!(
            addresses.len() == self.regions.len(),
            "an address for each region"
        );
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::parse(&self.world.hub_config("127.0.0.1:0")?, settings)?;
        let listener = TcpListener::bind(config.listen.address).await?;
        let address = listener.local_addr()?.to_string();
        let mut regions = vec![NOWHERE.to_owned()];
        regions.extend(addresses.iter().map(ToString::to_string));
        let directory = self.world.directory(&address, &regions)?;
        let options = Options {
            clock: Arc::clone(&self.clock),
            ..Options::default()
        };
        let gateway = Gateway::open(config, options, Some(directory)).await?;
        let patient = self.fill(&gateway).await?;
        let stop = CancellationToken::new();
        let serving = crate::server::run(Arc::clone(&gateway), listener, stop.clone());
        let server = tokio::spawn(serving);
        let caller = self.physician(&address)?;
        let homes = self.regions.iter().map(|region| region.home.parse());
        Ok(Hub {
            homes: homes.collect::<Result<_, _>>()?,
            gateway,
            caller,
            patient,
            address,
            stop,
            server,
        })
    }

    /// Somebody of an emergency hospital of the region that runs nowhere, who calls a node at `address`
    /// that has the hub's certificate.
    ///
    /// # Errors
    /// If there is no such hospital.
    pub(super) fn emergency_physician(&self, address: &str) -> Result<Caller> {
        let region = self.sample.regions.first().context("no region")?;
        let mut hospitals = region.institutions.iter();
        let hospital = hospitals.find(|one| one.emergency).context("no hospital")?;
        self.caller(
            address,
            &Actor {
                subject: "E-2001",
                role: PersonRole::Physician,
                purpose: PurposeOfUse::Emergency,
                relation: Relation::EmergencyPatient,
                institution: &hospital.code,
            },
        )
    }

    /// The certificate of the hub.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn hub_identity(&self) -> Result<NodeIdentity> {
        self.world.identity(&self.world.hub.name)
    }

    /// The people of the sample, and of whom a region of the world can have a record.
    pub(super) fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The holdings notice of a region about somebody, as it would have come.
    ///
    /// # Errors
    /// If there is no such region.
    pub(super) fn holding(
        &self,
        gateway: &Gateway,
        (number, identifier): (usize, &cpb::Identifier),
    ) -> Result<Write> {
        let node = self.nodes().nth(number).context("no such region")?;
        let now = self.clock.now();
        Ok(Write::put(&HoldingRow {
            patient: gateway
                .store
                .keys()
                .patient_tag(&known(identifier)?)
                .to_vec(),
            home_community_id: node.home.clone(),
            notice: Some(fpb::HoldingNotice {
                patient_id: Some(identifier.clone()),
                has_documents: true,
                has_summary_items: true,
                changed: Some(crate::wire::timestamp(now)),
                sequence: 1,
                withdrawn: Vec::new(),
            }),
            confirmed_ms: now.as_millisecond(),
        }))
    }

    /// A physician who treats the person, at the region that runs nowhere.
    fn physician(&self, hub: &str) -> Result<Caller> {
        let record = self.record()?;
        let institution = self.sample.institution(record).context("no institution")?;
        let physician = Actor {
            subject: "D-1001",
            role: PersonRole::Physician,
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: &institution.code,
        };
        self.caller(hub, &physician)
    }

    /// A person who calls a node with the hub's certificate, by the certificate of their institution.
    fn caller(&self, address: &str, person: &Actor<'_>) -> Result<Caller> {
        let identity = self
            .world
            .identity(&format!("inst-{}", person.institution))?;
        let trust = self.world.trust()?;
        let link = Link {
            address,
            pin: self.world.hub.pin,
            identity: &identity,
            trust: &trust,
            clock: &self.clock,
        };
        Caller::new(&link, Some(person), &self.world.hub.home.parse()?)
    }

    fn record(&self) -> Result<&crate::demo::sample::SampleRecord> {
        let person = self.sample.people.first().context("nobody")?;
        person.records.first().context("no record")
    }

    /// Puts the person and the holdings into the hub's store. Feeding them would measure matching.
    async fn fill(&self, gateway: &Gateway) -> Result<cpb::Identifier> {
        let record = self.record()?;
        let institution = self.sample.institution(record).context("no institution")?;
        let feed = messages::feed(institution, record);
        let patient = feed.patient.context("no patient")?;
        let named = patient.identifier.clone().context("no identifier")?;
        let mut writes = vec![patient_row(gateway, patient.clone(), LINKAGE)?];
        for (number, node) in self.nodes().enumerate() {
            let identifier = cpb::Identifier {
                assigning_authority: node.authorities.first().context("no domain")?.clone(),
                value: format!("{number:08}"),
                ..cpb::Identifier::default()
            };
            let patient = ipb::Patient {
                identifier: Some(identifier.clone()),
                ..patient.clone()
            };
            writes.push(patient_row(gateway, patient, LINKAGE)?);
            writes.push(self.holding(gateway, (number, &identifier))?);
        }
        for writes in writes.chunks(A_FRAME) {
            let commit = Commit {
                writes: writes.to_vec(),
                ..Commit::default()
            };
            let _committed = gateway.store.commit(commit).await?;
        }
        Ok(named)
    }
}

/// The row of a patient of this linkage id.
///
/// # Errors
/// If the patient has no identifier.
pub(super) fn patient_row(
    gateway: &Gateway,
    patient: ipb::Patient,
    linkage: [u8; 16],
) -> Result<Write> {
    let identifier = patient.identifier.as_ref().context("no identifier")?;
    let tag = gateway.store.keys().patient_tag(&known(identifier)?);
    Ok(Write::put(&PatientRow {
        tag: tag.to_vec(),
        patient: Some(patient),
        linkage: linkage.to_vec(),
        ..PatientRow::default()
    }))
}

/// An identifier, read.
pub(super) fn known(identifier: &cpb::Identifier) -> Result<PatientIdentifier> {
    Ok(PatientIdentifier {
        authority: identifier.assigning_authority.parse()?,
        id: identifier.value.parse()?,
    })
}

/// The hub, and a physician who asks it.
#[derive(Debug)]
pub struct Hub {
    /// Its services.
    pub gateway: Arc<Gateway>,
    pub(super) homes: Vec<HomeCommunityId>,
    pub(super) caller: Caller,
    pub(super) patient: cpb::Identifier,
    /// Where it listens.
    pub(super) address: String,
    stop: CancellationToken,
    server: JoinHandle<crate::error::Result<()>>,
}

/// A merged answer.
#[derive(Debug, Default)]
pub struct Merged {
    /// From the request to the last message.
    pub took: Duration,
    /// Documents of each community.
    pub documents: BTreeMap<String, usize>,
    /// How complete it says it is.
    pub completeness: cpb::Completeness,
}

impl Merged {
    /// Communities of which it tells this state.
    pub fn count(&self, state: cpb::RegionState) -> usize {
        let regions = self.completeness.regions.iter();
        regions.filter(|region| region.state() == state).count()
    }

    /// What it tells of a community.
    pub fn state(&self, home: &str) -> Option<cpb::RegionState> {
        let mut regions = self.completeness.regions.iter();
        let region = regions.find(|region| region.home_community_id == home);
        region.map(cpb::RegionStatus::state)
    }
}

impl Hub {
    /// Asks all regions through the hub.
    ///
    /// # Errors
    /// What the hub says; an answer that has no end.
    pub async fn find(&self, deadline: Duration) -> Result<Merged, Status> {
        use fpb::initiating_gateway_service_find_documents_response::Part;
        let mut client = InitiatingGatewayServiceClient::new(self.caller.channel.clone());
        let mut request = self
            .caller
            .request(fpb::InitiatingGatewayServiceFindDocumentsRequest {
                query: Some(query(&self.patient, "")),
                ..Default::default()
            });
        request.set_timeout(deadline);
        let started = Instant::now();
        let mut stream = client.find_documents(request).await?.into_inner();
        let mut merged = Merged::default();
        while let Some(message) = stream.next().await {
            match message?.part {
                Some(Part::Objects(objects)) => {
                    for entry in objects.entries {
                        *merged.documents.entry(entry.home_community_id).or_default() += 1;
                    }
                }
                Some(Part::Completeness(completeness)) => {
                    merged.completeness = completeness;
                    merged.took = started.elapsed();
                    return Ok(merged);
                }
                _ => {}
            }
        }
        Err(Status::data_loss("an answer without completeness"))
    }

    /// Asks one region with tonic's client alone, over the channel that the hub has to it, with the
    /// same metadata, and reads its answer to the end. Gives what it took.
    ///
    /// # Errors
    /// What the region says.
    pub async fn bare(&self, number: usize) -> Result<Duration> {
        let home = self.homes.get(number).context("no such region")?;
        let peers = &self.gateway.federation.peers;
        let channel = peers.channel(&*peers.peer(home)?)?;
        let request = fpb::RespondingGatewayServiceFindDocumentsRequest {
            query: Some(query(&self.patient, home.to_string().as_str())),
            return_type: dpb::ReturnType::LeafClass.into(),
            limit: 1_000,
            pass: None,
        };
        let started = Instant::now();
        let mut client = RespondingGatewayServiceClient::new(channel);
        let answer = client.find_documents(self.caller.request(request)).await?;
        let mut stream = answer.into_inner();
        while let Some(message) = stream.next().await {
            message?;
        }
        Ok(started.elapsed())
    }

    /// Stops it.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn end(self) -> Result<()> {
        drop(self.caller);
        self.stop.cancel();
        self.server.await.context("the hub panicked")??;
        Ok(())
    }
}

/// `FindDocuments` of a patient.
fn query(patient: &cpb::Identifier, home: &str) -> dpb::StoredQuery {
    let find = dpb::FindDocumentsQuery {
        patient_id: Some(patient.clone()),
        ..Default::default()
    };
    dpb::StoredQuery {
        query: Some(dpb::stored_query::Query::FindDocuments(find)),
        home_community_id: home.to_owned(),
        metadata_level: 0,
    }
}
