//! The directory as calls use it: immutable, replaced whole.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::access::{Participant, ParticipantKind};
use crate::error::{Error, Reason, Result};
use crate::pki::Certified;
use crate::types::{
    AssigningAuthority, CertificateNumber, CertificatePin, Endpoint, HomeCommunityId,
    InstitutionCode, PersonRole, RepositoryUniqueId,
};
use crate::wire::pb::directory as pb;

/// A community another node may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub home: HomeCommunityId,
    /// Its name, for people.
    pub name: String,
    /// Where its gateway listens, if it is known.
    pub endpoint: Option<Endpoint>,
    /// Certificates its gateway may show.
    pub pins: Vec<CertificatePin>,
    /// It does not feed the hub, and answers who asks whether it knows a patient (ITI-55).
    pub discovers: bool,
    /// It answers other regions that ask for lists of documents (ITI-38), and for documents (ITI-39). What
    /// a community does not say of itself at all is not held against it.
    pub answers: Answers,
}

/// What a community answers of its documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Lists of them.
    pub lists: bool,
    /// Documents.
    pub documents: bool,
}

/// A registered certificate and the time it may be used.
#[derive(Clone, Debug)]
struct Registered {
    participant: Arc<Participant>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// The certificate profile it must follow.
    profile: Option<Box<str>>,
    /// This certificate alone does not take part.
    suspended: bool,
    /// The configuration names it, whatever the directory says.
    configured: bool,
}

impl Registered {
    /// The participant, if the certificate may be used now.
    fn usable(&self, certified: &Certified, now: Timestamp) -> Option<&Arc<Participant>> {
        let started = self.from.is_none_or(|from| from <= now);
        let ended = self.until.is_some_and(|until| until <= now);
        let profile = self.profile.as_deref();
        let fits = profile.is_none_or(|profile| profile == certified.profile);
        (started && !ended && fits && !self.suspended).then_some(&self.participant)
    }
}

/// Who takes part, at one version.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    version: u64,
    peers: HashMap<HomeCommunityId, Arc<Peer>>,
    certificates: HashMap<CertificatePin, Registered>,
    numbered: HashMap<CertificateNumber, Registered>,
    authorities: HashMap<AssigningAuthority, HomeCommunityId>,
    repositories: HashMap<RepositoryUniqueId, HomeCommunityId>,
    institutions: HashMap<InstitutionCode, Arc<Participant>>,
    /// Whose node this is, and until when it may believe the directory about others.
    home: Option<HomeCommunityId>,
    expires: Option<Timestamp>,
    /// The peer that the configuration names, whatever the directory says.
    configured: Option<HomeCommunityId>,
}

impl Snapshot {
    /// Builds a snapshot.
    ///
    /// # Errors
    /// The first member that is malformed, with the field's path.
    pub fn build(directory: &pb::Directory) -> Result<Self> {
        let mut snapshot = Self {
            version: directory.version,
            ..Self::default()
        };
        for (index, community) in directory.communities.iter().enumerate() {
            snapshot
                .community(community)
                .map_err(|error| error.within(&format!("communities[{index}]")))?;
        }
        for (index, institution) in directory.institutions.iter().enumerate() {
            snapshot
                .institution(institution)
                .map_err(|error| error.within(&format!("institutions[{index}]")))?;
        }
        Ok(snapshot)
    }

    fn community(&mut self, community: &pb::Community) -> Result<()> {
        let home: HomeCommunityId = parse("home_community_id", &community.home_community_id)?;
        super::hours::check(community)?;
        if community.status() != pb::MemberStatus::Active {
            return Ok(());
        }
        for authority in &community.assigning_authorities {
            let authority: AssigningAuthority = oid("assigning_authorities", &authority.oid)?;
            if self
                .authorities
                .get(&authority)
                .is_some_and(|owner| *owner != home)
            {
                let message = "is owned by another community already";
                return Err(Error::field(
                    Reason::ForeignDomain,
                    "assigning_authorities",
                    message,
                ));
            }
            self.authorities.insert(authority, home.clone());
        }
        for repository in &community.repository_unique_ids {
            self.repositories
                .insert(oid("repository_unique_ids", repository)?, home.clone());
        }
        let endpoint = community
            .endpoints
            .iter()
            .find(|endpoint| endpoint.protocol() != pb::Protocol::IheSoap)
            .map(|endpoint| parse("endpoints", &endpoint.address))
            .transpose()?;
        let participant = Arc::new(Participant {
            code: None,
            kind: ParticipantKind::Gateway,
            community: home.clone(),
            emergency: false,
            roles: Vec::new(),
            purposes: Vec::new(),
        });
        // A gateway is also called, and whom to call is known by the key.
        if let Some(unpinned) = community
            .gateway_certificates
            .iter()
            .position(|certificate| certificate.spki_sha256.is_empty())
        {
            let field = format!("gateway_certificates[{unpinned}].spki_sha256");
            return Err(Error::field(Reason::MissingField, field, "is required"));
        }
        let pins = self.register(&community.gateway_certificates, &participant)?;
        let unsaid = community.capabilities.is_empty();
        let has = |one| community.capabilities().any(|capability| capability == one);
        let name = community
            .name
            .as_ref()
            .map(|name| name.ja.clone())
            .unwrap_or_default();
        let peer = Arc::new(Peer {
            home: home.clone(),
            name,
            endpoint,
            pins,
            discovers: has(pb::Capability::DiscoverPatient) && !has(pb::Capability::FeedsPatients),
            answers: Answers {
                lists: unsaid || has(pb::Capability::FindDocuments),
                documents: unsaid || has(pb::Capability::RetrieveDocuments),
            },
        });
        self.peers.insert(home, peer);
        Ok(())
    }

    fn institution(&mut self, institution: &pb::Institution) -> Result<()> {
        let code: InstitutionCode = parse("institution_id", &institution.institution_id)?;
        let community: HomeCommunityId =
            parse("home_community_id", &institution.home_community_id)?;
        // Who belongs to a community that does not take part does not either.
        let taking_part = self.peers.contains_key(&community);
        if institution.status() != pb::MemberStatus::Active || !taking_part {
            return Ok(());
        }
        let roles = institution
            .allowed_roles
            .iter()
            .map(|role| parse::<PersonRole>("allowed_roles", role));
        let purposes = institution.allowed_purposes().map(|purpose| {
            crate::wire::purpose_of_use(purpose)
                .ok_or_else(|| Error::field(Reason::InvalidField, "allowed_purposes", "is unknown"))
        });
        let participant = Arc::new(Participant {
            kind: kind(institution.kind())?,
            community,
            emergency: institution.emergency,
            roles: roles.collect::<Result<_>>()?,
            purposes: purposes.collect::<Result<_>>()?,
            code: Some(code.clone()),
        });
        self.register(&institution.certificates, &participant)?;
        self.institutions.insert(code, participant);
        Ok(())
    }

    fn register(
        &mut self,
        certificates: &[pb::CertificatePin],
        participant: &Arc<Participant>,
    ) -> Result<Vec<CertificatePin>> {
        let mut pins = Vec::new();
        for certificate in certificates {
            let registered = Registered {
                participant: Arc::clone(participant),
                from: time(certificate.not_before.as_ref())?,
                until: time(certificate.not_after.as_ref())?,
                profile: match certificate.profile.as_str() {
                    "" => None,
                    profile => Some(profile.into()),
                },
                suspended: certificate.status() != pb::MemberStatus::Active
                    && certificate.status() != pb::MemberStatus::Unspecified,
                configured: false,
            };
            let (pin, number) = identified(certificate)?;
            let taken = [
                pin.and_then(|pin| self.certificates.get(&pin)),
                number.as_ref().and_then(|number| self.numbered.get(number)),
            ];
            let another = |taken: &Registered| taken.participant != *participant;
            if taken.into_iter().flatten().any(another) {
                let message = "a certificate is registered for two members";
                return Err(Error::field(Reason::InvalidField, "certificates", message));
            }
            if let Some(pin) = pin {
                if !registered.suspended {
                    pins.push(pin);
                }
                self.certificates.insert(pin, registered);
            } else if let Some(number) = number {
                self.numbered.insert(number, registered);
            }
        }
        Ok(pins)
    }

    /// It is a node's of `home`, which may believe it about other communities until `expires`; its own
    /// members go on being served.
    pub(super) fn belongs(&mut self, home: HomeCommunityId, expires: Option<Timestamp>) {
        self.home = Some(home);
        self.expires = expires;
    }

    /// Until when it may be believed; for ever if it is this node's own.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Whether the directory may be believed about who was registered so.
    fn believed(&self, registered: &Registered, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
            || registered.configured
            || self.home.as_ref() == Some(&registered.participant.community)
    }

    /// Adds a participant that the configuration names, unless the directory already does.
    pub(super) fn preset(&mut self, pin: CertificatePin, participant: Participant) {
        let entry = self.certificates.entry(pin);
        let entry = entry.and_modify(|registered| registered.configured = true);
        entry.or_insert_with(|| Registered {
            participant: Arc::new(participant),
            from: None,
            until: None,
            profile: None,
            suspended: false,
            configured: true,
        });
    }

    /// Adds the peer that the configuration names (the parent), unless the directory already does.
    pub(super) fn preset_peer(&mut self, peer: Peer) {
        self.configured = Some(peer.home.clone());
        self.peers
            .entry(peer.home.clone())
            .or_insert_with(|| Arc::new(peer));
    }

    /// Adds assigning authorities the configuration gives this community.
    pub(super) fn preset_authority(
        &mut self,
        authority: AssigningAuthority,
        home: HomeCommunityId,
    ) {
        self.authorities.entry(authority).or_insert(home);
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The participant whose registered certificate this is, if it may be used now. A certificate
    /// registered both by its key and by its number must be usable by both.
    pub fn participant(&self, certified: &Certified, now: Timestamp) -> Option<Arc<Participant>> {
        let by_key = self.certificates.get(&certified.spki_sha256);
        let by_number = self.numbered.get(&certified.number);
        let registered = by_key.into_iter().chain(by_number);
        let mut registered = registered.filter(|one| self.believed(one, now));
        let first = registered.next()?.usable(certified, now)?;
        let agreed = registered.all(|other| other.usable(certified, now) == Some(first));
        agreed.then(|| Arc::clone(first))
    }

    /// An institution by its 10-digit code.
    pub fn by_code(&self, code: &InstitutionCode) -> Option<&Arc<Participant>> {
        self.institutions.get(code)
    }

    /// The community that owns an assigning authority.
    pub fn owner(&self, authority: &AssigningAuthority) -> Option<&HomeCommunityId> {
        self.authorities.get(authority)
    }

    /// The assigning authorities that a community owns.
    pub fn authorities_of(
        &self,
        home: &HomeCommunityId,
    ) -> impl Iterator<Item = &AssigningAuthority> {
        let owned = self
            .authorities
            .iter()
            .filter(move |(_, owner)| *owner == home);
        owned.map(|(authority, _)| authority)
    }

    /// The community a repository belongs to.
    pub fn repository(&self, repository: &RepositoryUniqueId) -> Option<&HomeCommunityId> {
        self.repositories.get(repository)
    }

    /// A community to call.
    pub fn peer(&self, home: &HomeCommunityId) -> Option<&Arc<Peer>> {
        self.peers.get(home)
    }

    /// Whether the directory may be believed about where a community is and by which key it is known: one
    /// that has expired binds whom this node calls as it binds who calls it.
    pub fn may_call(&self, home: &HomeCommunityId, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
            || self.configured.as_ref() == Some(home)
            || self.home.as_ref() == Some(home)
    }

    /// Every community, in the order of their ids.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        let mut peers: Vec<_> = self.peers.values().cloned().collect();
        peers.sort_by(|a, b| a.home.cmp(&b.home));
        peers
    }
}

fn kind(kind: pb::InstitutionKind) -> Result<ParticipantKind> {
    use pb::InstitutionKind as I;
    match kind {
        I::Hospital => Ok(ParticipantKind::Hospital),
        I::Clinic | I::DentalClinic | I::Laboratory => Ok(ParticipantKind::Clinic),
        I::Pharmacy => Ok(ParticipantKind::Pharmacy),
        I::VisitingNursing | I::Care => Ok(ParticipantKind::Care),
        I::FireDepartment => Ok(ParticipantKind::FireDepartment),
        I::Operator => Ok(ParticipantKind::Operator),
        I::Gateway | I::Portal | I::Municipality | I::Unspecified => Err(Error::field(
            Reason::InvalidField,
            "kind",
            "is not a kind of institution taken here",
        )),
    }
}

/// By what a registered certificate is known: its key, or its issuer and serial number.
pub(super) fn identified(
    certificate: &pb::CertificatePin,
) -> Result<(Option<CertificatePin>, Option<CertificateNumber>)> {
    let (issuer, serial) = (&certificate.issuer, &certificate.serial_number);
    let wrong = |message: String| Error::field(Reason::InvalidField, "certificates", message);
    match (
        certificate.spki_sha256.is_empty(),
        issuer.is_empty() && serial.is_empty(),
    ) {
        (false, true) => Ok((Some(parse("certificates", &certificate.spki_sha256)?), None)),
        (true, false) => {
            let number = CertificateNumber::parse(issuer, serial);
            Ok((
                None,
                Some(number.map_err(|error| wrong(error.to_string()))?),
            ))
        }
        _ => Err(wrong(
            "has either spki_sha256, or issuer and serial_number".to_owned(),
        )),
    }
}

/// A bound of a certificate's use. One that cannot be read would mean "for ever".
fn time(time: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>> {
    let Some(time) = time else { return Ok(None) };
    let read = crate::wire::from_timestamp(time);
    read.map(Some).ok_or_else(|| {
        Error::field(
            Reason::InvalidField,
            "certificates",
            "has a bound that is no time",
        )
    })
}

fn parse<T>(field: &'static str, text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidField, field, error.to_string()))
}

fn oid<T>(field: &'static str, text: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Error::field(Reason::InvalidOid, field, error.to_string()))
}
