//! The demo's network on disk: a development PKI, one configuration a node, the directory.
//!
//! Integration tests build the same network, so that what they show is what the demo runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::clock::Clock;
use crate::pki::dev::{DevPki, IssueRequest, Kind, Layout, Variant};
use crate::pki::{NodeIdentity, Profiles, TrustHandle, TrustOptions, TrustStore};
use crate::types::{CertificatePin, PersonRole, PurposeOfUse, Relation};
use crate::wire::pb::directory as pb;

use super::sample::{InstitutionKind, Sample, SampleInstitution};

/// The arc for examples (ITU-T X.660); no real network has it.
const ARC: &str = "2.999";

/// One node's names and files.
#[derive(Clone, Debug)]
pub struct Node {
    /// File name of certificate and configuration, such as `region-0`.
    pub name: String,
    /// homeCommunityId.
    pub home: String,
    /// Name for people.
    pub title: String,
    /// repositoryUniqueId; empty for the hub.
    pub repository: String,
    /// The domains of its institutions' patient ids.
    pub authorities: Vec<String>,
    /// Its certificate's pin.
    pub pin: CertificatePin,
}

/// The network.
pub struct World {
    root: PathBuf,
    pki: DevPki,
    clock: Arc<dyn Clock>,
    /// The hub.
    pub hub: Node,
    /// The regions, in the order of the sample.
    pub regions: Vec<Node>,
    institutions: BTreeMap<String, (usize, SampleInstitution)>,
}

impl World {
    /// Makes the network's files under `root`, which must be empty or absent.
    ///
    /// # Errors
    /// If a file or certificate cannot be made.
    pub fn create(root: &Path, sample: &Sample, clock: Arc<dyn Clock>) -> Result<Self> {
        let folder = root.join("pki");
        std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let mut pki = DevPki::create(&folder, Arc::clone(&clock), false)?;
        let hub = node(&mut pki, "hub", 0, "全国ハブ", Vec::new())?;
        let mut regions = Vec::new();
        let mut institutions = BTreeMap::new();
        for (index, region) in sample.regions.iter().enumerate() {
            let authorities = region
                .institutions
                .iter()
                .map(SampleInstitution::patient_id_oid)
                .collect();
            let name = format!("region-{index}");
            regions.push(node(
                &mut pki,
                &name,
                index + 1,
                &region.name_ja,
                authorities,
            )?);
            for institution in &region.institutions {
                let request = IssueRequest::new(
                    Kind::Institution,
                    format!("inst-{}", institution.code),
                    &institution.name_romaji,
                )
                .institution(
                    &institution.code,
                    &institution.name_romaji,
                    &institution.name_ja,
                );
                pki.issue(&request)?;
                institutions.insert(institution.code.clone(), (index, institution.clone()));
            }
        }
        // Two, since some things take two people's word.
        for (name, holder) in [
            ("operator", "Network operator"),
            ("operator-2", "Second network operator"),
        ] {
            pki.issue(&IssueRequest::new(Kind::Operator, name, holder))?;
        }
        Ok(Self {
            root: root.to_owned(),
            pki,
            clock,
            hub,
            regions,
            institutions,
        })
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The PKI, to issue or revoke more.
    pub fn pki(&mut self) -> &mut DevPki {
        &mut self.pki
    }

    /// One more region, which has no institutions, with one domain of patient ids.
    ///
    /// # Errors
    /// If its certificate cannot be made.
    pub fn add_region(&mut self, title: &str) -> Result<()> {
        let number = self.regions.len() + 1;
        let name = format!("region-{}", number - 1);
        let authority = format!("{ARC}.4.{number}");
        let region = node(&mut self.pki, &name, number, title, vec![authority])?;
        self.regions.push(region);
        Ok(())
    }

    /// How many certificates were issued.
    pub fn pki_records(&self) -> usize {
        self.pki.records().len()
    }

    fn layout(&self) -> Layout {
        Layout::of(&self.root.join("pki"))
    }

    /// The certificate and key file of a name.
    pub fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        let names = self.layout().names;
        (
            names.join(format!("{name}.cert.pem")),
            names.join(format!("{name}.key.pem")),
        )
    }

    /// The identity of a name issued by this PKI.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn identity(&self, name: &str) -> Result<NodeIdentity> {
        let (certificate, key) = self.files(name);
        Ok(NodeIdentity::load(&certificate, &key)?)
    }

    /// The trust a client of this network needs.
    ///
    /// # Errors
    /// If the PKI's files cannot be read.
    pub fn trust(&self) -> Result<Arc<TrustHandle>> {
        let layout = self.layout();
        let store = TrustStore::load(
            &[layout.root],
            &[layout.issuing],
            &[layout.crls],
            Profiles::test()?,
            TrustOptions::default(),
        )?;
        Ok(TrustHandle::new(store))
    }

    /// The time the network lives in.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The hub's configuration, as TOML.
    ///
    /// # Errors
    /// If the operator's certificate cannot be read.
    pub fn hub_config(&self, address: &str) -> Result<String> {
        let capabilities = r#"["identity", "federation", "emergency", "directory"]"#;
        self.config(&self.hub, capabilities, address, "")
    }

    /// A region's configuration, as TOML.
    ///
    /// # Errors
    /// If the operator's certificate cannot be read.
    pub fn region_config(&self, region: &Node, address: &str, hub: &str) -> Result<String> {
        let capabilities = r#"["identity", "registry", "repository", "federation"]"#;
        let authorities = toml_list(&region.authorities);
        let more = format!(
            "\n[parent]\nhome_community_id = \"{}\"\nendpoint = \"https://{hub}\"\n\
             certificate_pin = \"{}\"\n\n[identity]\nassigning_authorities = {authorities}\n\n\
             [documents]\nrepository_unique_id = \"{}\"\n",
            self.hub.home, self.hub.pin, region.repository
        );
        self.config(region, capabilities, address, &more)
    }

    /// The configuration of one node that is everything and stands alone, as TOML.
    ///
    /// # Errors
    /// If the operator's certificate cannot be read.
    pub fn standalone_config(&self, region: &Node, address: &str) -> Result<String> {
        let capabilities =
            r#"["identity", "registry", "repository", "federation", "emergency", "directory"]"#;
        let authorities = toml_list(&region.authorities);
        let more = format!(
            "\n[identity]\nassigning_authorities = {authorities}\n\n[documents]\n\
             repository_unique_id = \"{}\"\n",
            region.repository
        );
        self.config(region, capabilities, address, &more)
    }

    fn config(&self, node: &Node, capabilities: &str, address: &str, more: &str) -> Result<String> {
        let layout = self.layout();
        let (certificate, key) = self.files(&node.name);
        let operator = self.identity("operator")?.pin();
        let second = self.identity("operator-2")?.pin();
        let data = self.root.join("data").join(&node.name);
        Ok(format!(
            "# Written by `renkei demo`. Development only.\n[node]\nhome_community_id = \"{}\"\n\
             name = \"{}\"\ndata_dir = {}\ncapabilities = {capabilities}\n\n[listen]\n\
             address = \"{address}\"\ndrain_timeout_ms = 3000\n\n[outgoing]\nnetworks = [\"127.0.0.0/8\"]\n\n[tls]\ncertificate = {}\n\
             key = {}\nroots = [{}]\nintermediates = [{}]\ncrls = [{}]\ntest_profile = true\n\
             operators = [\"{operator}\", \"{second}\"]\n\n[consent]\ncross_community = \"opt-out\"\n\n\
             [store]\nreserve_mib = 1\n\n[log]\nformat = \"json\"\nfilter = \"warn\"\n{more}",
            node.home,
            node.title,
            quoted(&data),
            quoted(&certificate),
            quoted(&key),
            quoted(&layout.root),
            quoted(&layout.issuing),
            quoted(&layout.crls),
        ))
    }

    /// The directory of the network, its regions at these addresses.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn directory(&self, hub: &str, regions: &[String]) -> Result<pb::ApplyDirectoryRequest> {
        let mut communities = vec![community(&self.hub, pb::CommunityKind::Hub, hub)];
        for (region, address) in self.regions.iter().zip(regions) {
            communities.push(community(region, pb::CommunityKind::Region, address));
        }
        let mut institutions = Vec::new();
        for (code, (region, institution)) in &self.institutions {
            let home = self
                .regions
                .get(*region)
                .map(|node| node.home.clone())
                .unwrap_or_default();
            let identity = self.identity(&format!("inst-{code}"))?;
            institutions.push(pb::Institution {
                institution_id: code.clone(),
                name: Some(pb::BilingualName {
                    ja: institution.name_ja.clone(),
                    en: institution.name_romaji.clone(),
                }),
                home_community_id: home,
                kind: kind(institution.kind).into(),
                emergency: institution.emergency,
                certificates: vec![pin(identity.pin())],
                ..pb::Institution::default()
            });
        }
        Ok(pb::ApplyDirectoryRequest {
            communities,
            institutions,
            idempotency_key: uuid::Uuid::new_v4().to_string(),
            ..pb::ApplyDirectoryRequest::default()
        })
    }

    /// Issues one more certificate, with something wrong on purpose.
    ///
    /// # Errors
    /// If it cannot be issued.
    pub fn issue_variant(&mut self, name: &str, variant: Variant) -> Result<NodeIdentity> {
        let request = IssueRequest::new(Kind::Institution, name, "Demonstration Hospital")
            .institution("1319999999", "Demonstration Hospital", "見本病院")
            .variant(variant);
        Ok(self.pki.issue(&request)?.identity()?)
    }

    /// Writes a client profile for the command line, so that a person can go on by hand.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_profile(&self, profile: &ClientProfile<'_>) -> Result<PathBuf> {
        let layout = self.layout();
        let (certificate, key) = self.files(profile.certificate);
        let audience = [self.hub.home.clone()];
        let file = ProfileFile {
            endpoint: format!("https://{}", profile.address),
            certificate,
            key,
            roots: vec![layout.root],
            intermediates: vec![layout.issuing],
            crls: vec![layout.crls],
            test_profile: true,
            server_pin: profile.server.pin.to_string(),
            community: profile.server.home.clone(),
            person: profile.person.as_ref().map(|person| PersonFile {
                subject: person.subject,
                role: person.role.code(),
                purpose: person.purpose.code(),
                relation: person.relation.code(),
                institution: person.institution,
                audience: &audience,
            }),
        };
        let folder = self.root.join("clients");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.toml", profile.name));
        std::fs::write(&path, toml::to_string(&file)?)?;
        Ok(path)
    }
}

/// A client profile to be written.
pub struct ClientProfile<'a> {
    /// File name without ending.
    pub name: &'a str,
    /// Name of the certificate.
    pub certificate: &'a str,
    /// The node to call.
    pub server: &'a Node,
    /// Its address.
    pub address: &'a str,
    /// The person calling; none for a system.
    pub person: Option<Actor<'a>>,
}

/// A person at an institution.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Staff number.
    pub subject: &'a str,
    /// Role.
    pub role: PersonRole,
    /// Purpose.
    pub purpose: PurposeOfUse,
    /// Relation to the patient.
    pub relation: Relation,
    /// 10-digit code of the institution.
    pub institution: &'a str,
}

#[derive(Serialize)]
struct ProfileFile<'a> {
    endpoint: String,
    certificate: PathBuf,
    key: PathBuf,
    roots: Vec<PathBuf>,
    intermediates: Vec<PathBuf>,
    crls: Vec<PathBuf>,
    test_profile: bool,
    server_pin: String,
    community: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<PersonFile<'a>>,
}

#[derive(Serialize)]
struct PersonFile<'a> {
    subject: &'a str,
    role: &'a str,
    purpose: &'a str,
    relation: &'a str,
    institution: &'a str,
    audience: &'a [String],
}

fn node(
    pki: &mut DevPki,
    name: &str,
    number: usize,
    title: &str,
    authorities: Vec<String>,
) -> Result<Node> {
    let request = IssueRequest::new(Kind::Gateway, name, format!("{name}.example.jp"))
        .dns("localhost")
        .ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let pin = pki.issue(&request)?.identity()?.pin();
    Ok(Node {
        name: name.to_owned(),
        home: format!("urn:oid:{ARC}.1.{number}"),
        title: title.to_owned(),
        repository: if number == 0 {
            String::new()
        } else {
            format!("{ARC}.3.{number}")
        },
        authorities,
        pin,
    })
}

fn pin(pin: CertificatePin) -> pb::CertificatePin {
    pb::CertificatePin {
        spki_sha256: pin.to_string(),
        ..pb::CertificatePin::default()
    }
}

fn community(node: &Node, kind: pb::CommunityKind, address: &str) -> pb::Community {
    let authority = |oid: &String| pb::AssigningAuthority {
        oid: oid.clone(),
        ..pb::AssigningAuthority::default()
    };
    pb::Community {
        home_community_id: node.home.clone(),
        name: Some(pb::BilingualName {
            ja: node.title.clone(),
            en: node.name.clone(),
        }),
        kind: kind.into(),
        assigning_authorities: node.authorities.iter().map(authority).collect(),
        endpoints: vec![pb::Endpoint {
            address: format!("https://{address}"),
            protocol: pb::Protocol::Grpc.into(),
            ..pb::Endpoint::default()
        }],
        gateway_certificates: vec![pin(node.pin)],
        repository_unique_ids: (!node.repository.is_empty())
            .then(|| node.repository.clone())
            .into_iter()
            .collect(),
        ..pb::Community::default()
    }
}

fn kind(kind: InstitutionKind) -> pb::InstitutionKind {
    match kind {
        InstitutionKind::Hospital => pb::InstitutionKind::Hospital,
        InstitutionKind::Clinic => pb::InstitutionKind::Clinic,
        InstitutionKind::Pharmacy => pb::InstitutionKind::Pharmacy,
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn toml_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}
