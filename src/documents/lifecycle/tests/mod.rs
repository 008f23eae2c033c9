//! What changes do to a registry, on a real store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests panic on failure"
)]

mod model;
mod removal;
mod replacement;
mod update;

use crate::error::{Error, Reason};
use crate::store::{Commit, Options, Schema, Store};
use crate::types::EntryUuid;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::profile::Profile;
use super::super::tables::{AssociationRow, EntryRow, FolderRow, SubmissionRow};
use super::super::validate::{Rules, Transaction, validate};
use super::*;

use pb::AssociationType as Type;

/// A registry for tests.
pub(super) struct Registry {
    _folder: tempfile::TempDir,
    pub(super) store: std::sync::Arc<Store>,
    runtime: tokio::runtime::Runtime,
    next: u64,
    pub(super) submitter: &'static str,
}

/// What a submission led to.
pub(super) type Outcome = std::result::Result<Vec<(String, String)>, Vec<(Reason, String)>>;

impl Registry {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let schema = crate::documents::tables(Schema::default());
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        Self {
            _folder: folder,
            store,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            next: 1,
            submitter: "1319999999",
        }
    }

    fn tag(&self, id: &str) -> Vec<u8> {
        let tag = self.store.keys().tag("unique-id", id.as_bytes());
        tag.as_bytes().to_vec()
    }

    /// Makes a change, or says everything that is wrong with it.
    pub(super) fn submit(&self, submission: pb::Submission, transaction: Transaction) -> Outcome {
        let rules = Rules {
            home: "urn:oid:1.2.3".parse().unwrap(),
            repository: Some("1.2.3.1".parse().unwrap()),
            max_document_bytes: 1_000,
            profile: Profile::default(),
        };
        let told = |error: Error| {
            let all = std::iter::once(&error).chain(error.others());
            let all = all.map(|one| (one.reason(), one.wrong_field().unwrap_or("").to_owned()));
            all.collect::<Vec<_>>()
        };
        let valid = validate(submission, &rules, transaction).map_err(told)?;
        let patient = self.store.keys().patient_tag(&valid.patient);
        let origin = Origin {
            now: "2024-03-01T00:00:00Z".parse().unwrap(),
            patient: &patient,
            submitter: self.submitter,
            persist_snapshots: false,
            made_of: &[],
        };
        let tag = |id: &str| self.tag(id);
        let plan = super::submit(&self.store, &tag, origin, &valid, &[]).map_err(told)?;
        self.commit(plan.writes);
        let assigned = valid.assigned.into_iter();
        Ok(assigned.map(|id| (id.symbolic_id, id.entry_uuid)).collect())
    }

    fn commit(&self, writes: Vec<Write>) {
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = self.runtime.block_on(self.store.commit(commit)).unwrap();
    }

    pub(super) fn remove(&self, uuids: &[&str]) -> std::result::Result<(), Vec<Reason>> {
        let uuids: Vec<EntryUuid> = uuids.iter().map(|uuid| uuid.parse().unwrap()).collect();
        let tag = |id: &str| self.tag(id);
        let now = "2024-03-01T00:00:00Z".parse().unwrap();
        let plan = remove_metadata(&self.store, &tag, now, self.submitter, &uuids);
        let told = |error: Error| {
            let all = std::iter::once(&error).chain(error.others());
            all.map(Error::reason).collect::<Vec<_>>()
        };
        self.commit(plan.map_err(told)?);
        Ok(())
    }

    /// A new OID.
    pub(super) fn oid(&mut self) -> String {
        self.next += 1;
        format!("1.2.3.99.{}", self.next)
    }

    /// A submission with a set.
    pub(super) fn submission(&mut self) -> pb::Submission {
        pb::Submission {
            submission_set: Some(pb::SubmissionSet {
                entry_uuid: "set".into(),
                unique_id: self.oid(),
                source_id: "1.2.3".into(),
                patient_id: patient("1"),
                submission_time: "20240201120000".into(),
                content_type_code: code(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(super) fn entry(&mut self, id: &str) -> pb::DocumentEntry {
        pb::DocumentEntry {
            entry_uuid: id.into(),
            unique_id: self.oid(),
            patient_id: patient("1"),
            source_patient_id: patient("1"),
            class_code: code(),
            type_code: code(),
            format_code: code(),
            healthcare_facility_type_code: code(),
            practice_setting_code: code(),
            confidentiality_codes: code()
                .map(|code| cpb::CodedValue {
                    code: "N".into(),
                    ..code
                })
                .into_iter()
                .collect(),
            authors: vec![pb::Author {
                institutions: vec![pb::MetadataOrganization {
                    name: "病院".into(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            creation_time: "20240131".into(),
            language_code: "ja-JP".into(),
            mime_type: "application/pdf".into(),
            hash: "a".repeat(40),
            size: Some(10),
            ..Default::default()
        }
    }

    /// Registers a document with what relates it to others; its UUID.
    pub(super) fn document(
        &mut self,
        relations: Vec<pb::Association>,
    ) -> std::result::Result<String, Vec<(Reason, String)>> {
        let mut submission = self.submission();
        submission.entries.push(self.entry("doc"));
        submission.associations = relations;
        let assigned = self.submit(submission, Transaction::Provide)?;
        Ok(named(&assigned, "doc"))
    }

    /// Registers a folder with these documents in it.
    pub(super) fn folder(&mut self, documents: &[&str]) -> String {
        let mut submission = self.submission();
        submission.folders.push(pb::Folder {
            entry_uuid: "folder".into(),
            unique_id: self.oid(),
            patient_id: patient("1"),
            codes: code().into_iter().collect(),
            title: Some(cpb::InternationalString {
                values: vec![cpb::LocalizedString {
                    value: "フォルダ".into(),
                    language: String::new(),
                }],
            }),
            ..Default::default()
        });
        let members = documents
            .iter()
            .map(|to| association(Type::HasMember, "folder", to));
        submission.associations = members.collect();
        let assigned = self.submit(submission, Transaction::Provide).unwrap();
        named(&assigned, "folder")
    }

    pub(super) fn row(&self, uuid: &str) -> Option<EntryRow> {
        let uuid: EntryUuid = uuid.parse().unwrap();
        let row = self.store.get::<EntryRow>(uuid.as_bytes()).unwrap();
        row.map(|row| row.row)
    }

    pub(super) fn is_approved(&self, uuid: &str) -> bool {
        is_approved_entry(&self.row(uuid).unwrap())
    }

    /// All associations with this end, approved ones only.
    pub(super) fn to(&self, uuid: &str) -> Vec<AssociationRow> {
        let mut state = State::new(&self.store);
        let uuid: EntryUuid = uuid.parse().unwrap();
        let rows = state.to(uuid.as_bytes()).unwrap();
        rows.into_iter().filter(is_approved_association).collect()
    }

    /// Everything that touches an object, whatever its status.
    pub(super) fn touching(&self, uuid: &str) -> Vec<AssociationRow> {
        let mut state = State::new(&self.store);
        let uuid: EntryUuid = uuid.parse().unwrap();
        [
            state.from(uuid.as_bytes()).unwrap(),
            state.to(uuid.as_bytes()).unwrap(),
        ]
        .concat()
    }

    /// The folders that hold a document.
    pub(super) fn folders_of(&self, uuid: &str) -> Vec<String> {
        let mut folders: Vec<String> = self
            .to(uuid)
            .into_iter()
            .filter(|row| kind_of(row) == Type::HasMember)
            .filter(|row| self.store.get::<FolderRow>(&row.source).unwrap().is_some())
            .map(|row| uuid_of(&row.source).unwrap().to_string())
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// The set that brought an entry, and the association that makes it a member.
    pub(super) fn membership(&self, uuid: &str) -> (String, String) {
        let rows = self.to(uuid);
        let row = rows
            .iter()
            .find(|row| {
                self.store
                    .get::<SubmissionRow>(&row.source)
                    .unwrap()
                    .is_some()
            })
            .unwrap();
        let text = |bytes: &[u8]| uuid_of(bytes).unwrap().to_string();
        (text(&row.source), text(&row.uuid))
    }
}

pub(super) fn named(assigned: &[(String, String)], id: &str) -> String {
    let found = assigned.iter().find(|(symbolic, _)| symbolic == id);
    found.unwrap().1.clone()
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
pub(super) fn patient(id: &str) -> Option<cpb::Identifier> {
    Some(cpb::Identifier {
        assigning_authority: "1.2.3.4".into(),
        value: id.into(),
        ..Default::default()
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
fn code() -> Option<cpb::CodedValue> {
    Some(cpb::CodedValue {
        code: "c".into(),
        system: "1.2".into(),
        ..Default::default()
    })
}

pub(super) fn association(kind: Type, source: &str, target: &str) -> pb::Association {
    pb::Association {
        association_type: kind.into(),
        source_object: source.into(),
        target_object: target.into(),
        ..Default::default()
    }
}
