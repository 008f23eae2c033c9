//! On-demand documents (ITI-61, ITI-43): made when they are retrieved, by whoever of this node makes
//! documents of the kind; kept as stable ones, snapshots of their entry, where the entry says so.

use std::fmt::Debug;

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use jiff::tz::TimeZone;

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Result};
use crate::identity::identifier;
use crate::types::{EntryUuid, PatientIdentifier};
use crate::wire::pb::documents as pb;
use pb::retrieved_part::Part;

use super::Documents;
use super::query::Found;
use super::register::Brought;
use super::retrieve::{CHUNK, document_ref};
use super::tables::{AssociationRow, EntryRow, SubmissionRow};

/// The id of a snapshot within its submission.
const SNAPSHOT: &str = "snapshot";

/// Makes the documents of some on-demand entries.
pub trait Maker: Debug + Send + Sync {
    /// Whether it makes the documents of this entry.
    fn makes(&self, entry: &pb::DocumentEntry) -> bool;

    /// Makes one. Blocking.
    ///
    /// # Errors
    /// The store.
    fn make(&self, order: &Order<'_>) -> Result<Made>;
}

/// A document that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Leave to read it; and it says which of the patient's other documents may go into it.
    pub permit: &'a Permit,
    /// Its entry. What goes into it is not more confidential than this says.
    pub found: &'a Found,
    /// Every identifier of the patient.
    pub patients: &'a [PatientIdentifier],
}

/// A document that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its octets.
    pub octets: Bytes,
    /// The entries whose documents something of it is from.
    pub made_of: Vec<EntryUuid>,
}

/// A document that was made, with the names under which it is given out.
#[derive(Debug)]
pub struct Fresh {
    entry: pb::DocumentEntry,
    octets: Bytes,
    /// `NewDocumentUniqueId`.
    unique_id: String,
    /// The entry of the snapshot, if it is kept.
    snapshot: Option<pb::DocumentEntry>,
}

impl Fresh {
    /// The snapshot, if it is kept.
    pub fn snapshot(&self) -> Option<&pb::DocumentEntry> {
        self.snapshot.as_ref()
    }

    /// The pieces in which it is sent.
    pub fn parts(&self, request_index: u32) -> impl Iterator<Item = pb::RetrievedPart> {
        let kept = self.snapshot.as_ref();
        let header = pb::RetrievedHeader {
            request_index,
            document: Some(document_ref(&self.entry)),
            mime_type: self.entry.mime_type.clone(),
            size: Some(self.octets.len() as u64),
            range: None,
            new_document_unique_id: self.unique_id.clone(),
            new_repository_unique_id: kept
                .map(|entry| entry.repository_unique_id.clone())
                .unwrap_or_default(),
        };
        let trailer = pb::RetrievedTrailer {
            request_index,
            size: self.octets.len() as u64,
            hash: hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.octets),
            hash_sha256: hex(&digest::SHA256, &self.octets),
        };
        let chunks = (0..self.octets.len()).step_by(CHUNK).map(|from| {
            let to = self.octets.len().min(from + CHUNK);
            Part::Chunk(self.octets.slice(from..to))
        });
        std::iter::once(Part::Header(header))
            .chain(chunks)
            .chain([Part::Trailer(trailer)])
            .map(|part| pb::RetrievedPart { part: Some(part) })
    }
}

impl Documents {
    /// Gives a document that was made its names; keeps it, durably, if its entry says so and is in
    /// force. One that is kept already, of the same octets from the same documents, is not kept twice.
    ///
    /// # Errors
    /// What a provided document may break; the store.
    pub async fn fresh(
        &self,
        permit: &Permit,
        call: &Call,
        found: &Found,
        made: Made,
    ) -> Result<Fresh> {
        permit.require(&[Action::ReadDocument])?;
        let in_force = found.entry.availability_status() == pb::AvailabilityStatus::Approved;
        let snapshot = match found.persist_snapshots && in_force {
            true => Some(self.kept(call, found, &made).await?),
            false => None,
        };
        let kept = snapshot.as_ref().map(|entry| entry.unique_id.clone());
        Ok(Fresh {
            entry: found.entry.clone(),
            octets: made.octets,
            unique_id: kept.unwrap_or_else(new_oid),
            snapshot,
        })
    }

    async fn kept(&self, call: &Call, found: &Found, made: &Made) -> Result<pb::DocumentEntry> {
        let uuid: EntryUuid = found.entry.entry_uuid.parse().map_err(Error::internal)?;
        let made_of = sources(uuid, made);
        if let Some(known) = self.snapshot_like(&uuid, made, &made_of)? {
            return Ok(known);
        }
        let row = self.store.get::<EntryRow>(uuid.as_bytes())?;
        let row = row.ok_or_else(|| Error::internal("the entry is gone"))?.row;
        let set = self.store.get::<SubmissionRow>(&row.submission)?;
        let set = set.and_then(|set| set.row.set).unwrap_or_default();
        let submission = self.snapshot_of(found, set, &made.octets);
        // An event of its own: the caller's is about what leaves.
        let call = call.for_part();
        let patient = identifier(found.entry.patient_id.as_ref(), "patient_id")?;
        let tag = self.store.keys().patient_tag(&patient).to_vec();
        call.note(|record| record.patient = Some(tag));
        // What is wrong with it is not the reader's fault.
        let mut provision = self.begin(submission).map_err(Error::internal)?;
        provision.document(SNAPSHOT).await?;
        for from in (0..made.octets.len()).step_by(CHUNK) {
            let to = made.octets.len().min(from + CHUNK);
            provision.chunk(made.octets.slice(from..to)).await?;
        }
        let brought = Brought {
            submitter: row.submitter,
            made_of,
            ..Brought::default()
        };
        let registered = provision
            .register(&call, brought, None, &|_| Vec::new())
            .await?;
        let entry = registered.entries.into_iter().next();
        entry.ok_or_else(|| Error::internal("a snapshot was registered without an entry"))
    }

    /// The snapshot in force that has these octets, from these documents.
    fn snapshot_like(
        &self,
        uuid: &EntryUuid,
        made: &Made,
        made_of: &[Vec<u8>],
    ) -> Result<Option<pb::DocumentEntry>> {
        let sha256 = hex(&digest::SHA256, &made.octets);
        let mut like = None;
        let is_snapshot = pb::AssociationType::IsSnapshotOf;
        super::query::rows::<AssociationRow>(
            &self.store,
            AssociationRow::BY_TARGET,
            uuid.as_bytes(),
            |row| {
                let association = row.row.association.as_ref();
                if like.is_some() || association.is_none_or(|a| a.association_type() != is_snapshot)
                {
                    return Ok(());
                }
                let known = self.store.get::<EntryRow>(&row.row.source)?;
                like = known.map(|known| known.row).and_then(|known| {
                    let entry = known.entry.filter(|entry| {
                        entry.availability_status() == pb::AvailabilityStatus::Approved
                            && entry.hash_sha256 == sha256
                    });
                    entry.filter(|_| known.made_of == made_of && !known.superseded)
                });
                Ok(())
            },
        )?;
        Ok(like)
    }

    /// The submission of a snapshot: a set like the one that brought the entry, and an entry like it.
    fn snapshot_of(&self, found: &Found, set: pb::SubmissionSet, octets: &Bytes) -> pb::Submission {
        let now = self.clock.now().to_zoned(TimeZone::UTC);
        let now = now.strftime("%Y%m%d%H%M%S").to_string();
        let set = pb::SubmissionSet {
            entry_uuid: "set".to_owned(),
            unique_id: new_oid(),
            submission_time: now.clone(),
            patient_id: found.entry.patient_id.clone(),
            ..set
        };
        let entry = pb::DocumentEntry {
            entry_uuid: SNAPSHOT.to_owned(),
            logical_id: String::new(),
            version: 0,
            unique_id: new_oid(),
            object_type: pb::ObjectType::Stable.into(),
            creation_time: now,
            hash: hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets),
            hash_sha256: hex(&digest::SHA256, octets),
            size: Some(octets.len() as u64),
            ..found.entry.clone()
        };
        let relation = pb::Association {
            entry_uuid: "relation".to_owned(),
            association_type: pb::AssociationType::IsSnapshotOf.into(),
            source_object: SNAPSHOT.to_owned(),
            target_object: found.entry.entry_uuid.clone(),
            ..pb::Association::default()
        };
        pb::Submission {
            submission_set: Some(set),
            entries: vec![entry],
            folders: Vec::new(),
            associations: vec![relation],
        }
    }
}

/// What a snapshot is of: its on-demand entry, and all whose documents went into it.
fn sources(entry: EntryUuid, made: &Made) -> Vec<Vec<u8>> {
    let uuids = made.made_of.iter().chain([&entry]);
    let mut sources: Vec<Vec<u8>> = uuids.map(|uuid| uuid.as_bytes().to_vec()).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// The hash of a document, in lower-case hex digits.
fn hex(algorithm: &'static digest::Algorithm, octets: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(algorithm, octets).as_ref())
}

/// A new OID that nobody has: a UUID under 2.25 (X.667).
fn new_oid() -> String {
    format!("2.25.{}", uuid::Uuid::new_v4().as_u128())
}
