//! The state of the audit log behind some frame: what following the ledger leads to. The same code
//! runs beside a node (with files) and in an offline verification (without).

use std::collections::HashMap;

use prost::Message as _;

use crate::error::Result;
use crate::store::{Frame, Keys};

use super::derived::Link;
use super::leaf::{index_of, of_frame};
use super::map::{Head, PatientMap, PatientTag, chained};
use super::merkle::{Frontier, Hash, sha256};

/// Of an audit event, what it is found by: the fields of `AuditEvent` with these numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct FoundBy {
    #[prost(message, optional, tag = "4")]
    institution: Option<InstitutionId>,
    #[prost(string, tag = "7")]
    method: String,
    #[prost(string, tag = "14")]
    patient_tag: String,
}

/// The method whose events say only that others witnessed.
const WITNESSING: &str = "renkei.audit.v1.AuditService/CosignCheckpoint";

#[derive(Clone, PartialEq, prost::Message)]
struct InstitutionId {
    #[prost(string, tag = "1")]
    institution_id: String,
}

/// What an institution's events are found under.
pub(super) type InstitutionKey = [u8; 16];

/// The key of an institution.
pub(super) fn institution_key(code: &str) -> InstitutionKey {
    let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        sha256(&[b"institution", code.as_bytes()]);
    key
}

/// A patient's tag from its digits; `None` if it is not one.
pub fn patient_tag(digits: &str) -> Option<PatientTag> {
    let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// The tree, the map, and the ends of all chains.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The tree.
    pub tree: Frontier,
    /// The map of patients.
    pub patients: PatientMap,
    pub(super) institutions: HashMap<InstitutionKey, u64>,
    pub(super) links: u64,
    pub(super) last_hash: Hash,
    /// The size of the tree when the last thing happened but witnessing.
    pub(super) worth_witnessing: u64,
}

/// What a frame adds.
#[derive(Debug)]
pub struct Added {
    /// Its leaf hash.
    pub leaf: Hash,
    pub(super) links: Vec<Link>,
}

impl State {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Adds the next frame of the ledger.
    ///
    /// # Errors
    /// If there are more patients than a map holds. That the frame is the next one is up to the
    /// caller.
    pub fn add(&mut self, frame: &Frame, keys: &Keys) -> Result<Added> {
        let (leaf, commitments) = of_frame(keys, frame);
        let index = index_of(frame.sequence);
        let mut links = Vec::with_capacity(commitments.len());
        for ((record, commitment), place) in frame.audit.iter().zip(&commitments).zip(0..) {
            // What is no event is found under nothing; its leaf is there all the same.
            let found_by = FoundBy::decode(record.clone()).unwrap_or_default();
            if found_by.method != WITNESSING {
                self.worth_witnessing = index + 1;
            }
            let mut link = Link {
                index,
                number: 0,
                patient_before: 0,
                institution_before: 0,
                place,
            };
            if let Some(tag) = patient_tag(&found_by.patient_tag) {
                let before = self.patients.get(&tag).copied();
                let head = before.unwrap_or_else(|| Head::none(tag));
                let next = Head {
                    tag,
                    count: head.count + 1,
                    last: index,
                    chain: chained(&head.chain, index, place, commitment),
                    link: self.links,
                };
                self.patients.put(next)?;
                link.number = next.count;
                link.patient_before = before.map_or(0, |head| head.link + 1);
            }
            let code = found_by.institution.unwrap_or_default().institution_id;
            if !code.is_empty() {
                let before = self.institutions.insert(institution_key(&code), self.links);
                link.institution_before = before.map_or(0, |link| link + 1);
            }
            links.push(link);
            self.links += 1;
        }
        self.tree.push(leaf);
        self.last_hash = frame.hash;
        Ok(Added { leaf, links })
    }

    /// The root of the map, and how many patients are in it.
    pub fn map_root(&mut self) -> (u64, Hash) {
        (self.patients.len() as u64, self.patients.root())
    }
}
