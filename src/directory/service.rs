//! The directory service: apply, adopt, watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::{Mutex, watch};

use crate::access::{Action, Call, Participant, ParticipantKind, Permit};
use crate::config::{CheckDigits, Config};
use crate::error::{Error, Reason, Result};
use crate::store::{Commit, IndexKey, Row, Store, TableId, Write};
use crate::types::{CertificatePin, HomeCommunityId, InstitutionCode, Redacted};
use crate::wire::pb::directory as pb;

use super::signed::Issued;
use super::snapshot::{Peer, Snapshot};

/// A member: a community or an institution.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberRow {
    #[prost(message, optional, tag = "1")]
    community: Option<pb::Community>,
    #[prost(message, optional, tag = "2")]
    institution: Option<pb::Institution>,
}

impl Row for MemberRow {
    const TABLE: TableId = TableId(48);
    const NAME: &'static str = "member";

    fn key(&self) -> Vec<u8> {
        match (&self.community, &self.institution) {
            (Some(community), _) => format!("c{}", community.home_community_id).into_bytes(),
            (_, Some(institution)) => format!("i{}", institution.institution_id).into_bytes(),
            (None, None) => Vec::new(),
        }
    }

    fn index(&self) -> Vec<IndexKey> {
        Vec::new()
    }
}

/// The version in force, and what was taken over from the parent, if anything was.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VersionRow {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    /// The parent's version.
    #[prost(uint64, tag = "2")]
    pub(super) of_parent: u64,
    /// When the parent issued it, Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub(super) issued_ms: i64,
    /// Until when it may be used, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(super) expires_ms: i64,
}

impl VersionRow {
    /// Issued and expires, of what is the parent's.
    pub(super) fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let time = |millis| Timestamp::from_millisecond(millis).ok();
        let validity = time(self.issued_ms).zip(time(self.expires_ms));
        validity.filter(|_| self.of_parent > 0)
    }

    /// The same of another version, changed here.
    pub(super) fn changed(&self, version: u64) -> Self {
        Self {
            version,
            ..self.clone()
        }
    }
}

impl Row for VersionRow {
    const TABLE: TableId = TableId(49);
    const NAME: &'static str = "directory-version";

    fn key(&self) -> Vec<u8> {
        b"version".to_vec()
    }
}

/// Who takes part. Cheap to read; changes are committed, then put in force at once.
#[derive(Debug)]
pub struct Directory {
    pub(super) store: Arc<Store>,
    home: HomeCommunityId,
    presets: Presets,
    check_digits: CheckDigits,
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    /// One change at a time, so that the snapshot in force is the one committed last. The
    /// version row's precondition is what makes it right if another process writes too.
    pub(super) changing: Mutex<()>,
    /// The copy that was signed last.
    pub(super) issued: std::sync::Mutex<Option<Issued>>,
}

/// What the configuration says of the directory before anybody applied one.
#[derive(Debug)]
struct Presets {
    operators: Vec<CertificatePin>,
    parent: Option<Peer>,
    authorities: Vec<crate::types::AssigningAuthority>,
}

impl Directory {
    /// Opens the directory kept in `store`.
    ///
    /// # Errors
    /// If the stored directory or the configuration is malformed.
    pub fn open(store: Arc<Store>, config: &Config) -> Result<Self> {
        let wrong = |error| Error::internal(error);
        let presets = Presets {
            operators: config
                .tls
                .operators
                .iter()
                .filter_map(|pin| pin.parse().ok())
                .collect(),
            parent: config.parent.as_ref().and_then(|parent| {
                Some(Peer {
                    home: parent.home_community_id.parse().ok()?,
                    name: String::new(),
                    endpoint: parent.endpoint.parse().ok(),
                    pins: vec![parent.certificate_pin.parse().ok()?],
                    discovers: false,
                    answers: super::Answers::default(),
                })
            }),
            authorities: config.authorities().map_err(wrong)?,
        };
        let home = config.home().map_err(wrong)?;
        let directory = Self {
            store,
            home,
            presets,
            check_digits: config.directory.check_digits,
            current: ArcSwap::default(),
            changed: watch::Sender::new(0),
            changing: Mutex::new(()),
            issued: std::sync::Mutex::default(),
        };
        let stored = directory.read()?;
        directory.put_in_force(&stored)?;
        Ok(directory)
    }

    /// The directory in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells of every change: the version in force.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every member, and the version.
    ///
    /// # Errors
    /// The store.
    pub fn read(&self) -> Result<pb::Directory> {
        let mut directory = pb::Directory {
            version: self.version()?.version,
            ..pb::Directory::default()
        };
        self.store.scan::<MemberRow>(&mut |member| {
            directory.communities.extend(member.row.community);
            directory.institutions.extend(member.row.institution);
            Ok(())
        })?;
        Ok(directory)
    }

    pub(super) fn version(&self) -> Result<VersionRow> {
        let row = self.store.get::<VersionRow>(b"version")?;
        Ok(row.map(|row| row.row).unwrap_or_default())
    }

    /// Adds or replaces members; answers with the new version.
    ///
    /// # Errors
    /// A malformed member, which changes nothing; [`Reason::ConcurrentChange`] if the version is
    /// not the expected one; [`Reason::WrongState`] where a parent's directory is followed; the store.
    pub async fn apply(
        &self,
        permit: &Permit,
        call: &Call,
        request: pb::ApplyDirectoryRequest,
        now: jiff::Timestamp,
    ) -> Result<pb::ApplyDirectoryResponse> {
        permit.require(&[Action::ApplyDirectory])?;
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, &request, now)?;
        let _one = self.changing.lock().await;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        if self.version()?.of_parent > 0 {
            // The next version of the parent's would take its place.
            let message = "members are the parent's to change; here they are only suspended";
            return Err(Error::new(Reason::WrongState, message));
        }
        let before = self.read()?;
        if request.expected_version != 0 && request.expected_version != before.version {
            let message = "the directory changed since; read it again";
            return Err(Error::new(Reason::ConcurrentChange, message));
        }
        let validate_only = request.validate_only;
        let warnings = self.check_digits(&request)?;
        let after = merged(before.clone(), request);
        Snapshot::build(&after)?;
        let response = pb::ApplyDirectoryResponse {
            version: after.version,
            warnings,
        };
        if validate_only {
            return Ok(response);
        }
        let version = self.version()?.changed(after.version);
        let writes = difference(&before, &after, &version);
        call.note(|record| record.items = u32::try_from(writes.len()).unwrap_or(u32::MAX));
        let response = call
            .commit(&self.store, now, writes, idempotency, response)
            .await?;
        self.put_in_force(&self.read()?)?;
        Ok(response)
    }

    /// Institution codes whose check digit is wrong: a warning, or a refusal if so configured. The
    /// sample codes of the national FHIR guides are all wrong (`spec` japan §2.1).
    fn check_digits(&self, request: &pb::ApplyDirectoryRequest) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (index, institution) in request.institutions.iter().enumerate() {
            let code: Option<InstitutionCode> = institution.institution_id.parse().ok();
            let Some(code) = code.filter(|code| !code.check_digit_ok()) else {
                continue;
            };
            if self.check_digits == CheckDigits::Refuse {
                let field = format!("institutions[{index}].institution_id");
                let message = "has a wrong check digit";
                return Err(Error::field(Reason::InvalidField, field, message));
            }
            warnings.push(format!("institution {code}: the check digit is wrong"));
        }
        Ok(warnings)
    }

    /// Suspends an institution or one certificate of it, or lets it in again: in force for the next
    /// call at this node, and at the others as soon as they have the new version.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if the institution has left, or the parent put it out;
    /// [`Reason::MissingField`] without a reason; the store.
    pub async fn suspend(
        &self,
        permit: &Permit,
        call: &Call,
        request: pb::SuspendInstitutionRequest,
        now: jiff::Timestamp,
    ) -> Result<pb::SuspendInstitutionResponse> {
        permit.require(&[Action::ApplyDirectory])?;
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, &request, now)?;
        if request.reason.trim().is_empty() {
            return Err(Error::field(Reason::MissingField, "reason", "is required"));
        }
        let _one = self.changing.lock().await;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        let before = self.read()?;
        let mut after = before.clone();
        after.version = before.version.saturating_add(1);
        let institution = after
            .institutions
            .iter_mut()
            .find(|institution| institution.institution_id == request.institution_id)
            .ok_or_else(|| {
                let message = "no such institution";
                Error::field(Reason::NotFound, "institution_id", message)
            })?;
        let remembered = self.suspended(institution, &request)?;
        let institution = institution.clone();
        Snapshot::build(&after)?;
        call.note(|record| {
            record.items = 1;
            record.reason = Some(Redacted(request.reason.clone()));
        });
        let response = pb::SuspendInstitutionResponse {
            institution: Some(institution),
            // Known only when it is in force, and not the directory's to know.
            connections_closed: 0,
            version: after.version,
        };
        let version = self.version()?.changed(after.version);
        let mut writes = difference(&before, &after, &version);
        writes.extend(remembered);
        let response = call
            .commit(&self.store, now, writes, idempotency, response)
            .await?;
        self.put_in_force(&self.read()?)?;
        Ok(response)
    }

    /// Whether the configuration names a parent.
    pub(super) fn has_parent(&self) -> bool {
        self.presets.parent.is_some()
    }

    /// Applies a directory at start, as configured, unless it is in force already.
    ///
    /// # Errors
    /// A malformed directory, which changes nothing; the store.
    pub async fn preload(&self, request: pb::ApplyDirectoryRequest) -> Result<()> {
        let _one = self.changing.lock().await;
        let before = self.read()?;
        let after = merged(before.clone(), request);
        let version = self.version()?.changed(after.version);
        let writes = difference(&before, &after, &version);
        if writes.len() <= 1 {
            return Ok(());
        }
        Snapshot::build(&after)?;
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        self.put_in_force(&after)
    }

    pub(super) fn put_in_force(&self, directory: &pb::Directory) -> Result<()> {
        let mut snapshot = Snapshot::build(directory)?;
        let validity = self.version()?.validity();
        snapshot.belongs(self.home.clone(), validity.map(|(_, expires)| expires));
        for pin in &self.presets.operators {
            snapshot.preset(
                *pin,
                Self::preset(ParticipantKind::Operator, self.home.clone()),
            );
        }
        if let Some(parent) = &self.presets.parent {
            for pin in &parent.pins {
                snapshot.preset(
                    *pin,
                    Self::preset(ParticipantKind::Gateway, parent.home.clone()),
                );
            }
            snapshot.preset_peer(parent.clone());
        }
        for authority in &self.presets.authorities {
            snapshot.preset_authority(authority.clone(), self.home.clone());
        }
        self.current.store(Arc::new(snapshot));
        self.changed.send_replace(directory.version);
        Ok(())
    }

    fn preset(kind: ParticipantKind, community: HomeCommunityId) -> Participant {
        Participant {
            code: None,
            kind,
            community,
            emergency: false,
            roles: Vec::new(),
            purposes: Vec::new(),
        }
    }
}

/// `before` with the request's members in place of their former selves, one version later.
fn merged(before: pb::Directory, request: pb::ApplyDirectoryRequest) -> pb::Directory {
    let mut communities: BTreeMap<String, pb::Community> = BTreeMap::new();
    let mut institutions: BTreeMap<String, pb::Institution> = BTreeMap::new();
    for mut community in before.communities.into_iter().chain(request.communities) {
        if community.status() == pb::MemberStatus::Unspecified {
            community.status = pb::MemberStatus::Active.into();
        }
        communities.insert(community.home_community_id.clone(), community);
    }
    for mut institution in before.institutions.into_iter().chain(request.institutions) {
        if institution.status() == pb::MemberStatus::Unspecified {
            institution.status = pb::MemberStatus::Active.into();
        }
        institutions.insert(institution.institution_id.clone(), institution);
    }
    for retired in &request.retired_home_community_ids {
        if let Some(community) = communities.get_mut(retired) {
            community.status = pb::MemberStatus::Retired.into();
        }
    }
    for retired in &request.retired_institution_ids {
        if let Some(institution) = institutions.get_mut(retired) {
            institution.status = pb::MemberStatus::Retired.into();
        }
    }
    pb::Directory {
        version: before.version.saturating_add(1),
        communities: communities.into_values().collect(),
        institutions: institutions.into_values().collect(),
        ..pb::Directory::default()
    }
}

/// The rows that turn one directory into another, that of its version among them.
pub(super) fn difference(
    before: &pb::Directory,
    after: &pb::Directory,
    version: &VersionRow,
) -> Vec<Write> {
    let rows = |directory: &pb::Directory| -> BTreeMap<Vec<u8>, MemberRow> {
        let communities = directory
            .communities
            .iter()
            .cloned()
            .map(|community| MemberRow {
                community: Some(community),
                institution: None,
            });
        let institutions = directory
            .institutions
            .iter()
            .cloned()
            .map(|institution| MemberRow {
                community: None,
                institution: Some(institution),
            });
        communities
            .chain(institutions)
            .map(|row| (row.key(), row))
            .collect()
    };
    let (old, new) = (rows(before), rows(after));
    let changed = new
        .iter()
        .filter(|(key, row)| {
            old.get(*key)
                .is_none_or(|known| known.encode_to_vec() != row.encode_to_vec())
        })
        .map(|(_, row)| Write::put(row));
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .map(|key| Write::delete::<MemberRow>(key.clone()));
    changed.chain(gone).chain([Write::put(version)]).collect()
}
