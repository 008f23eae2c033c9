//! The directory service: apply, adopt, watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prost::Message as _;
use tokio::sync::{Mutex, watch};

use crate::access::{Action, Call, Participant, ParticipantKind, Permit};
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::store::{Commit, IndexKey, Outcome, Row, Store, TableId, Write};
use crate::types::{CertificatePin, HomeCommunityId};
use crate::wire::pb::directory as pb;

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

/// The version in force.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VersionRow {
    #[prost(uint64, tag = "1")]
    version: u64,
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
    store: Arc<Store>,
    home: HomeCommunityId,
    presets: Presets,
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    /// One change at a time, so that the snapshot in force is the one committed last. The
    /// version row's precondition is what makes it right if another process writes too.
    changing: Mutex<()>,
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
                })
            }),
            authorities: config.authorities().map_err(wrong)?,
        };
        let home = config.home().map_err(wrong)?;
        let directory = Self {
            store,
            home,
            presets,
            current: ArcSwap::default(),
            changed: watch::Sender::new(0),
            changing: Mutex::new(()),
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
        let version = self
            .store
            .get::<VersionRow>(b"version")?
            .map_or(0, |row| row.row.version);
        let mut directory = pb::Directory {
            version,
            ..pb::Directory::default()
        };
        self.store.scan::<MemberRow>(&mut |member| {
            directory.communities.extend(member.row.community);
            directory.institutions.extend(member.row.institution);
            Ok(())
        })?;
        Ok(directory)
    }

    /// Adds or replaces members; answers with the new version.
    ///
    /// # Errors
    /// A malformed member, which changes nothing; [`Reason::ConcurrentChange`] if the version is
    /// not the expected one; the store.
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
        let before = self.read()?;
        if request.expected_version != 0 && request.expected_version != before.version {
            let message = "the directory changed since; read it again";
            return Err(Error::new(Reason::ConcurrentChange, message));
        }
        let validate_only = request.validate_only;
        let after = merged(before.clone(), request);
        Snapshot::build(&after)?;
        let response = pb::ApplyDirectoryResponse {
            version: after.version,
            ..Default::default()
        };
        if validate_only {
            return Ok(response);
        }
        let writes = difference(&before, &after);
        call.note(|record| record.items = u32::try_from(writes.len()).unwrap_or(u32::MAX));
        let response = call
            .commit(&self.store, now, writes, idempotency, response)
            .await?;
        self.put_in_force(&self.read()?)?;
        Ok(response)
    }

    /// Takes over the directory of the parent, if it is another version than the one in force.
    ///
    /// # Errors
    /// A malformed directory, which changes nothing; the store.
    pub async fn adopt(&self, theirs: &pb::Directory) -> Result<()> {
        let _one = self.changing.lock().await;
        let before = self.read()?;
        if before.version == theirs.version {
            return Ok(());
        }
        Snapshot::build(theirs)?;
        let commit = Commit {
            writes: difference(&before, theirs),
            ..Commit::default()
        };
        let outcome = self.store.commit(commit).await?;
        debug_assert!(matches!(outcome, Outcome::Committed { .. }));
        self.put_in_force(theirs)
    }

    /// Applies a directory at start, as configured, unless it is in force already.
    ///
    /// # Errors
    /// As [`Directory::adopt`].
    pub async fn preload(&self, request: pb::ApplyDirectoryRequest) -> Result<()> {
        let before = self.read()?;
        let mut after = merged(before.clone(), request);
        if difference(&before, &after).len() <= 1 {
            return Ok(());
        }
        after.version = before.version.saturating_add(1);
        self.adopt(&after).await
    }

    fn put_in_force(&self, directory: &pb::Directory) -> Result<()> {
        let mut snapshot = Snapshot::build(directory)?;
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

/// The rows that turn one directory into another.
fn difference(before: &pb::Directory, after: &pb::Directory) -> Vec<Write> {
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
    let version = Write::put(&VersionRow {
        version: after.version,
    });
    changed.chain(gone).chain([version]).collect()
}
