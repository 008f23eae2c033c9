//! Checking a report about a patient from outside: that every event is in the log as it is shown, and
//! that there are no others. Nothing is believed but the log's public key.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::error::{Error, Reason, Result};
use crate::wire::pb::audit as pb;

use super::leaf::{commitment, leaf_of};
use super::map::{self, Head, MapProof, PatientTag, chained};
use super::merkle::{Hash, root_by_inclusion};
use super::note::{Note, VerifierKey};
use super::state::patient_tag;

fn wrong(what: &'static str) -> Error {
    Error::new(Reason::IntegrityFailure, what)
}

fn hash(bytes: &[u8]) -> Result<Hash> {
    bytes
        .try_into()
        .map_err(|_| wrong("a hash is not 32 octets"))
}

fn hashes(all: &[bytes::Bytes]) -> Result<Vec<Hash>> {
    all.iter().map(|one| hash(one)).collect()
}

/// A report being checked, event by event.
#[derive(Debug)]
pub struct ReportCheck {
    key: VerifierKey,
    /// The tree that all proofs lead to: its size and root.
    tree: Option<(u64, Hash)>,
    /// Of each tag, what the events so far come to.
    heads: BTreeMap<PatientTag, Head>,
}

impl ReportCheck {
    /// A check against a log's public key.
    pub fn new(key: VerifierKey) -> Self {
        Self {
            key,
            tree: None,
            heads: BTreeMap::new(),
        }
    }

    /// Takes the next event, oldest first.
    ///
    /// # Errors
    /// [`Reason::IntegrityFailure`], with what does not fit: the event is not what is in the log, or
    /// one before it is missing.
    pub fn event(&mut self, proven: &pb::ProvenEvent) -> Result<()> {
        let missing = || wrong("an event is without its proof");
        let event = proven.event.as_ref().ok_or_else(missing)?;
        let opening = proven.opening.as_ref().ok_or_else(missing)?;
        let proof = proven.proof.as_ref().ok_or_else(missing)?;
        let salt = opening.salt.as_ref().try_into();
        let salt = salt.map_err(|_| wrong("a salt is not 16 octets"))?;
        let commitment = commitment(&salt, &opening.record);
        let all = hashes(&opening.commitments)?;
        let place = usize::try_from(opening.place).map_err(Error::internal)?;
        if all.get(place) != Some(&commitment) {
            return Err(wrong("a record is not the one that was committed to"));
        }
        let leaf = leaf_of(&hash(&opening.frame_hash)?, &all);
        let path = hashes(&proof.path)?;
        let root = root_by_inclusion(&leaf, proof.sequence, proof.size, &path);
        let tree = (
            proof.size,
            root.ok_or_else(|| wrong("an inclusion proof has a wrong length"))?,
        );
        if *self.tree.get_or_insert(tree) != tree {
            return Err(wrong("an event is not in the tree of the others"));
        }
        shown_as_recorded(event, &opening.record, proof.sequence)?;
        self.follow(event, opening.place, &commitment)
    }

    /// The event is the next one of its patient.
    fn follow(&mut self, event: &pb::AuditEvent, place: u32, commitment: &Hash) -> Result<()> {
        let tag =
            patient_tag(&event.patient_tag).ok_or_else(|| wrong("an event is about nobody"))?;
        let head = self.heads.entry(tag).or_insert_with(|| Head::none(tag));
        let before = (head.count > 0).then_some(head.last);
        if event.patient_event_number != head.count + 1 || event.patient_previous_sequence != before
        {
            return Err(wrong("an event of the patient is missing"));
        }
        *head = Head {
            count: head.count + 1,
            last: event.sequence,
            chain: chained(&head.chain, event.sequence, place, commitment),
            ..*head
        };
        Ok(())
    }

    /// Ends the check with the summary: the events were all there are. Returns how many.
    ///
    /// # Errors
    /// [`Reason::IntegrityFailure`], with what does not fit.
    pub fn finish(self, summary: &pb::ReportSummary) -> Result<u64> {
        let note: Note = summary.checkpoint.parse()?;
        if !note.is_signed_by(&self.key) {
            return Err(wrong("the checkpoint is not signed by the log's key"));
        }
        let checkpoint = note.checkpoint()?;
        if checkpoint.origin != self.key.name {
            return Err(wrong("the checkpoint is of another log"));
        }
        if self
            .tree
            .is_some_and(|tree| tree != (checkpoint.size, checkpoint.root))
        {
            return Err(wrong("the proofs do not lead to the checkpoint"));
        }
        let root = checkpoint.patients.map(|(_, root)| root);
        let root = root.ok_or_else(|| wrong("the checkpoint says nothing about patients"))?;
        let mut heads = self.heads;
        let mut count = 0;
        let proofs = summary.map_proof.iter().chain(&summary.more_map_proofs);
        let mut proved = 0;
        for proof in proofs {
            let (tag, said) = read_map_proof(proof, &root)?;
            let told = heads.remove(&tag).unwrap_or_else(|| Head::none(tag));
            if (said.count, said.last, said.chain) != (told.count, told.last, told.chain) {
                return Err(wrong(
                    "the events are not all that the log has of the patient",
                ));
            }
            proved += 1;
            count += said.count;
        }
        if proved == 0 || !heads.is_empty() {
            return Err(wrong("the number of a patient's events is not proved"));
        }
        if count != summary.event_count {
            return Err(wrong("the number of events is not the one that is proved"));
        }
        Ok(count)
    }
}

fn read_map_proof(proof: &pb::PatientMapProof, root: &Hash) -> Result<(PatientTag, Head)> {
    let tag = patient_tag(&proof.patient_tag).ok_or_else(|| wrong("a tag is malformed"))?;
    let found = match proof.leaf.is_empty() {
        true => None,
        false => Some(Head::decode(&proof.leaf).ok_or_else(|| wrong("a map leaf is malformed"))?),
    };
    let path = hashes(&proof.path)?;
    let said = map::verify(&MapProof { found, path }, &tag, root);
    let said = said.ok_or_else(|| wrong("the proof of a patient's number of events is wrong"))?;
    Ok((tag, said))
}

/// What is shown is the record, and what the log adds to it.
fn shown_as_recorded(event: &pb::AuditEvent, record: &[u8], sequence: u64) -> Result<()> {
    let recorded = pb::AuditEvent::decode(record).map_err(|_| wrong("a record does not decode"))?;
    let shown = pb::AuditEvent {
        sequence: recorded.sequence,
        home_community_id: recorded.home_community_id.clone(),
        patient_event_number: recorded.patient_event_number,
        patient_previous_sequence: recorded.patient_previous_sequence,
        ..event.clone()
    };
    if event.sequence != sequence || shown != recorded {
        return Err(wrong("an event is not shown as it was recorded"));
    }
    Ok(())
}
