//! What documents keep.
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `entry` | entryUUID | 1: patient tag, entryUUID; 2: logicalID, version |
//! | `unique` | tag of the uniqueId | – |
//! | `submission` | entryUUID of the SubmissionSet | 1: patient tag, entryUUID |
//! | `folder` | entryUUID | 1: patient tag, entryUUID; 2: logicalID, version |
//! | `removed` | patient tag | – |
//! | `association` | entryUUID | 1: sourceObject, entryUUID; 2: targetObject, entryUUID; 3: patient tag, entryUUID |
//!
//! Every version of an entry or folder is a row of its own. Fields that a store of the first version
//! does not have are empty in its rows.

use crate::store::{BlobId, IndexKey, KeyBuilder, Row, TableId, Tag};
use crate::types::EntryUuid;
use crate::wire::pb::documents as pb;

/// A DocumentEntry and where its document is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntryRow {
    /// entryUUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The metadata as registered.
    #[prost(message, optional, tag = "3")]
    pub(crate) entry: Option<pb::DocumentEntry>,
    /// The blob, if the document is in this repository.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) blob: Vec<u8>,
    /// When it was registered, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(crate) registered_ms: i64,
    /// entryUUID of the SubmissionSet that brought it, 16 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) submission: Vec<u8>,
    /// Who submitted it: only they may change it.
    #[prost(string, tag = "7")]
    pub(crate) submitter: String,
    /// A newer version of the same logicalID exists: hidden at `$MetadataLevel` 1.
    #[prost(bool, tag = "8")]
    pub(crate) superseded: bool,
    /// On-demand: each document made is kept as a stable one (`IsSnapshotOf`).
    #[prost(bool, tag = "9")]
    pub(crate) persist_snapshots: bool,
    /// A snapshot made here: entryUUIDs of its on-demand entry and of the entries whose documents it was
    /// made of, 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub(crate) made_of: Vec<Vec<u8>>,
    /// Sent by referral to its addressees only: who reads it beside submitter and authors.
    #[prost(message, optional, tag = "11")]
    pub(crate) directed: Option<Directed>,
}

/// The addressees of a document that was sent to them only.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Directed {
    /// Each with its time; none is left if all referrals were taken back.
    #[prost(message, repeated, tag = "1")]
    pub(crate) readers: Vec<DirectedReader>,
}

/// An addressee of a document that was sent to it only.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DirectedReader {
    /// 10-digit code of the addressee.
    #[prost(string, tag = "1")]
    pub(crate) institution: String,
    /// When the referral is over, Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub(crate) until_ms: i64,
}

impl EntryRow {
    /// Secondary key: the entries of one patient.
    pub(crate) const BY_PATIENT: u8 = 1;
    /// Secondary key: the versions of one logicalID, oldest first.
    pub(crate) const BY_LOGICAL: u8 = 2;
}

/// The secondary keys of an object that a patient has and that has versions.
fn keys(patient: &[u8], uuid: &[u8], logical: &str, version: u32) -> Vec<IndexKey> {
    let by_patient = KeyBuilder::new().fixed(patient).fixed(uuid).build();
    let mut keys = vec![IndexKey::new(1, by_patient)];
    // Absent where the registry did not assign one: such a row has one version only.
    if let Ok(logical) = logical.parse::<EntryUuid>() {
        let key = KeyBuilder::new().fixed(logical.as_bytes()).u32(version);
        keys.push(IndexKey::new(2, key.build()));
    }
    keys
}

impl Row for EntryRow {
    const TABLE: TableId = TableId(32);
    const NAME: &'static str = "entry";
    const INDEX_VERSION: u16 = 3;

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let entry = self.entry.as_ref();
        let logical = entry.map_or("", |entry| entry.logical_id.as_str());
        let version = entry.map_or(0, |entry| entry.version);
        keys(&self.patient, &self.uuid, logical, version)
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }

    fn blobs(&self) -> Vec<BlobId> {
        BlobId::from_slice(&self.blob).into_iter().collect()
    }
}

/// Who has a uniqueId. A SubmissionSet's or Folder's is had once; a document's by every entry and
/// version with the same bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UniqueRow {
    /// Keyed hash of the uniqueId.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    /// The object that had it first.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) entry: Vec<u8>,
    /// What kind of object has it ([`Kind`]).
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    /// Further entries that have it, in order of registration.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) more: Vec<Vec<u8>>,
    /// Keyed hash of the patient identifier; empty in rows of before it was noted.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) patient: Vec<u8>,
}

/// The kinds of objects of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A DocumentEntry.
    Entry,
    /// A SubmissionSet.
    Set,
    /// A Folder.
    Folder,
    /// An Association.
    Association,
}

impl Kind {
    /// The number kept in a row.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Entry => 0,
            Self::Set => 1,
            Self::Folder => 2,
            Self::Association => 3,
        }
    }
}

impl UniqueRow {
    /// All objects that have it, the first first.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.entry)
            .chain(&self.more)
            .map(Vec::as_slice)
    }
}

impl Row for UniqueRow {
    const TABLE: TableId = TableId(33);
    const NAME: &'static str = "unique";

    fn key(&self) -> Vec<u8> {
        self.tag.clone()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// What was removed of a patient last: for those who follow the ledger, and are told of what they might
/// have known of. The next removal takes its place.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RemovedRow {
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) patient: Vec<u8>,
    /// The entries, with what a decision or a filter asks of them.
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<EntryRow>,
    /// The sets that brought them: from and for whom.
    #[prost(message, repeated, tag = "3")]
    pub(crate) sets: Vec<SubmissionRow>,
}

impl RemovedRow {
    /// Adds an entry, and the set that brought it.
    pub(crate) fn add(&mut self, row: EntryRow, set: Option<pb::SubmissionSet>) {
        if self.sets.iter().all(|known| known.uuid != row.submission) {
            self.sets.push(SubmissionRow {
                uuid: row.submission.clone(),
                set: set.map(|set| pb::SubmissionSet {
                    source_id: set.source_id,
                    intended_recipients: set.intended_recipients,
                    ..pb::SubmissionSet::default()
                }),
                ..SubmissionRow::default()
            });
        }
        let entry = row.entry.map(|entry| pb::DocumentEntry {
            source_patient_id: None,
            source_patient_info: Vec::new(),
            legal_authenticator: None,
            title: None,
            comments: None,
            reference_ids: Vec::new(),
            uri: String::new(),
            extension_slots: Vec::new(),
            ..entry
        });
        self.entries.push(EntryRow {
            entry,
            blob: Vec::new(),
            ..row
        });
    }
}

impl Row for RemovedRow {
    const TABLE: TableId = TableId(37);
    const NAME: &'static str = "removed";

    fn key(&self) -> Vec<u8> {
        self.patient.clone()
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// A SubmissionSet with the entries it brought.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubmissionRow {
    /// entryUUID of the SubmissionSet, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The metadata as registered.
    #[prost(message, optional, tag = "3")]
    pub(crate) set: Option<pb::SubmissionSet>,
    /// entryUUIDs of its entries.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) entries: Vec<Vec<u8>>,
    /// When it was registered, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(crate) registered_ms: i64,
    /// Who submitted it.
    #[prost(string, tag = "6")]
    pub(crate) submitter: String,
}

impl SubmissionRow {
    /// Secondary key: the submissions of one patient.
    pub(crate) const BY_PATIENT: u8 = 1;
}

impl Row for SubmissionRow {
    const TABLE: TableId = TableId(34);
    const NAME: &'static str = "submission";

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = KeyBuilder::new()
            .fixed(&self.patient)
            .fixed(&self.uuid)
            .build();
        vec![IndexKey::new(Self::BY_PATIENT, key)]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// A Folder.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FolderRow {
    /// entryUUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The metadata as registered.
    #[prost(message, optional, tag = "3")]
    pub(crate) folder: Option<pb::Folder>,
    /// When it was registered, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) registered_ms: i64,
    /// entryUUID of the SubmissionSet that brought it.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) submission: Vec<u8>,
    /// Who submitted it.
    #[prost(string, tag = "6")]
    pub(crate) submitter: String,
    /// A newer version of the same logicalID exists.
    #[prost(bool, tag = "7")]
    pub(crate) superseded: bool,
}

impl FolderRow {
    /// Secondary key: the folders of one patient.
    pub(crate) const BY_PATIENT: u8 = 1;
    /// Secondary key: the versions of one logicalID, oldest first.
    pub(crate) const BY_LOGICAL: u8 = 2;
}

impl Row for FolderRow {
    const TABLE: TableId = TableId(35);
    const NAME: &'static str = "folder";

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let folder = self.folder.as_ref();
        let logical = folder.map_or("", |folder| folder.logical_id.as_str());
        let version = folder.map_or(0, |folder| folder.version);
        keys(&self.patient, &self.uuid, logical, version)
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// An Association.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AssociationRow {
    /// entryUUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) uuid: Vec<u8>,
    /// Keyed hash of the identifier of the submission's patient.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// The association as registered; its ends are `urn:uuid:`.
    #[prost(message, optional, tag = "3")]
    pub(crate) association: Option<pb::Association>,
    /// When it was registered, Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) registered_ms: i64,
    /// entryUUID of the SubmissionSet that brought it.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) submission: Vec<u8>,
    /// sourceObject, 16 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) source: Vec<u8>,
    /// targetObject, 16 bytes.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) target: Vec<u8>,
    /// Who submitted it.
    #[prost(string, tag = "8")]
    pub(crate) submitter: String,
}

impl AssociationRow {
    /// Secondary key: the associations whose source is this object.
    pub(crate) const BY_SOURCE: u8 = 1;
    /// Secondary key: the associations whose target is this object.
    pub(crate) const BY_TARGET: u8 = 2;
    /// Secondary key: the associations of one patient's submissions.
    pub(crate) const BY_PATIENT: u8 = 3;
}

impl Row for AssociationRow {
    const TABLE: TableId = TableId(36);
    const NAME: &'static str = "association";

    fn key(&self) -> Vec<u8> {
        self.uuid.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let key = |of: &[u8]| KeyBuilder::new().fixed(of).fixed(&self.uuid).build();
        vec![
            IndexKey::new(Self::BY_SOURCE, key(&self.source)),
            IndexKey::new(Self::BY_TARGET, key(&self.target)),
            IndexKey::new(Self::BY_PATIENT, key(&self.patient)),
        ]
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}
