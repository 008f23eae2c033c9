//! The running network of a demo, and its callers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use crate::pki::TrustHandle;
use crate::types::{HomeCommunityId, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::admin::admin_service_client::AdminServiceClient;
use crate::wire::pb::admin::{GetNodeInfoRequest, GetStatusRequest};

use super::actor::{Caller, Link};
use super::process::Process;
use super::sample::{Sample, SampleInstitution, SampleRecord};
use super::world::{Actor, Node, World};

/// Waiting for what happens in the background (directory, outbox).
const SETTLE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Processes, files, sample.
pub(super) struct Network {
    /// The files.
    pub world: World,
    /// The people and documents.
    pub sample: Sample,
    /// The hub.
    pub hub: Process,
    /// The regions.
    pub regions: Vec<Process>,
    trust: Arc<TrustHandle>,
    home: HomeCommunityId,
}

impl Network {
    /// Starts the hub, then the regions under it.
    ///
    /// # Errors
    /// If a node does not start.
    pub(super) async fn start(world: World, sample: Sample) -> Result<Self> {
        let folder = world.root().join("nodes");
        let hub = Process::start(&folder, "hub", &world.hub_config("127.0.0.1:0")?).await?;
        let mut starting = tokio::task::JoinSet::new();
        for (index, region) in world.regions.iter().enumerate() {
            let config = world.region_config(region, "127.0.0.1:0", &hub.address)?;
            let (folder, name) = (folder.clone(), region.name.clone());
            starting.spawn(async move { (index, Process::start(&folder, &name, &config).await) });
        }
        let mut started = starting.join_all().await;
        started.sort_by_key(|(index, _)| *index);
        let regions = started
            .into_iter()
            .map(|(_, process)| process)
            .collect::<Result<_>>()?;
        let trust = world.trust()?;
        let home = world.hub.home.parse()?;
        Ok(Self {
            world,
            sample,
            hub,
            regions,
            trust,
            home,
        })
    }

    fn server(&self, region: Option<usize>) -> Result<(&Node, &str)> {
        match region {
            None => Ok((&self.world.hub, self.hub.address.as_str())),
            Some(index) => {
                let node = self.world.regions.get(index).context("no such region")?;
                let process = self.regions.get(index).context("no such region")?;
                Ok((node, process.address.as_str()))
            }
        }
    }

    /// A caller of the hub (`None`) or a region, with a certificate of the world.
    ///
    /// # Errors
    /// If the certificate cannot be read.
    pub(super) fn caller(
        &self,
        region: Option<usize>,
        certificate: &str,
        person: Option<&Actor<'_>>,
    ) -> Result<Caller> {
        let identity = self.world.identity(certificate)?;
        self.caller_with(region, &identity, person)
    }

    /// A caller with any identity.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn caller_with(
        &self,
        region: Option<usize>,
        identity: &crate::pki::NodeIdentity,
        person: Option<&Actor<'_>>,
    ) -> Result<Caller> {
        let (node, address) = self.server(region)?;
        let clock = self.world.clock();
        let link = Link {
            address,
            pin: node.pin,
            identity,
            trust: &self.trust,
            clock: &clock,
        };
        Caller::new(&link, person, &self.home)
    }

    /// Somebody without a certificate, at the hub.
    ///
    /// # Errors
    /// If the address is malformed.
    pub(super) fn anonymous(&self) -> Result<Caller> {
        let (node, address) = self.server(None)?;
        Caller::anonymous(address, node.pin, &self.trust, &self.world.clock())
    }

    /// The system of an institution, at its own gateway.
    ///
    /// # Errors
    /// If its certificate cannot be read.
    pub(super) fn system(&self, region: usize, institution: &SampleInstitution) -> Result<Caller> {
        self.caller(Some(region), &format!("inst-{}", institution.code), None)
    }

    /// A physician of an institution treating the patient, at its own gateway.
    ///
    /// # Errors
    /// If its certificate cannot be read.
    pub(super) fn physician(
        &self,
        region: usize,
        institution: &SampleInstitution,
    ) -> Result<Caller> {
        let person = Actor {
            subject: "D-1001",
            role: PersonRole::Physician,
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: &institution.code,
        };
        self.caller(
            Some(region),
            &format!("inst-{}", institution.code),
            Some(&person),
        )
    }

    /// An emergency physician of an institution, at the hub.
    ///
    /// # Errors
    /// If its certificate cannot be read.
    pub(super) fn emergency(&self, institution: &SampleInstitution) -> Result<Caller> {
        let person = Actor {
            subject: "E-2001",
            role: PersonRole::Physician,
            purpose: PurposeOfUse::Emergency,
            relation: Relation::EmergencyPatient,
            institution: &institution.code,
        };
        self.caller(None, &format!("inst-{}", institution.code), Some(&person))
    }

    /// The privacy officer of an institution, at the hub or a region.
    ///
    /// # Errors
    /// If its certificate cannot be read.
    pub(super) fn officer(
        &self,
        region: Option<usize>,
        institution: &SampleInstitution,
    ) -> Result<Caller> {
        let person = Actor {
            subject: "P-3001",
            role: PersonRole::PrivacyOfficer,
            purpose: PurposeOfUse::Operations,
            relation: Relation::None,
            institution: &institution.code,
        };
        self.caller(region, &format!("inst-{}", institution.code), Some(&person))
    }

    /// The institution of a record.
    ///
    /// # Errors
    /// If the sample does not hold together.
    pub(super) fn institution(&self, record: &SampleRecord) -> Result<&SampleInstitution> {
        self.sample
            .institution(record)
            .context("a record without institution")
    }

    /// An emergency hospital of a region.
    ///
    /// # Errors
    /// If the region has none.
    pub(super) fn emergency_hospital(&self, region: usize) -> Result<&SampleInstitution> {
        let region = self.sample.regions.get(region).context("no such region")?;
        region
            .institutions
            .iter()
            .find(|from| from.emergency)
            .context("no emergency hospital")
    }

    /// The record of a person in a region.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn record(&self, truth: usize, region: usize) -> Result<&SampleRecord> {
        let person = self.sample.person(truth).context("no such person")?;
        let record = person.records.iter().find(|record| record.region == region);
        record.with_context(|| format!("person {truth} has no record in region {region}"))
    }

    /// Waits until every region has the directory of this version.
    ///
    /// # Errors
    /// If it takes too long.
    pub(super) async fn directory_everywhere(&self, version: u64) -> Result<()> {
        for region in 0..self.regions.len() {
            let operator = self.caller(Some(region), "operator", None)?;
            let mut admin = AdminServiceClient::new(operator.channel.clone());
            let until = Instant::now() + SETTLE;
            loop {
                let info = admin
                    .get_node_info(operator.request(GetNodeInfoRequest {}))
                    .await?;
                if info.into_inner().directory_version >= version {
                    break;
                }
                if Instant::now() > until {
                    bail!("region {region} did not take over the directory");
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until no region has anything left to tell the hub.
    ///
    /// # Errors
    /// If it takes too long.
    pub(super) async fn outboxes_empty(&self) -> Result<()> {
        for region in 0..self.regions.len() {
            let operator = self.caller(Some(region), "operator", None)?;
            let mut admin = AdminServiceClient::new(operator.channel.clone());
            let until = Instant::now() + SETTLE;
            loop {
                let status = admin
                    .get_status(operator.request(GetStatusRequest {}))
                    .await?;
                let queued = status.into_inner().queued_notices;
                if queued == 0 {
                    break;
                }
                if Instant::now() > until {
                    bail!("region {region} still has {queued} notices for the hub");
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}
