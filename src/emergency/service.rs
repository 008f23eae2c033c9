//! The summary at a responding node: what is stored there. What the hub makes of it is in `summary`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::access::{DocumentFacts, Permit};
use crate::clock::Clock;
use crate::consent::Guard;
use crate::documents::Documents;
use crate::error::{Error, Reason, Result};
use crate::federation::Federation;
use crate::identity::{Identity, identifier};
use crate::store::Store;
use crate::types::{Confidentiality, EntryUuid, LinkageId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as dpb;
use crate::wire::pb::federation as fpb;

use super::care::CareRecords;
use super::compose::{read, take, too_large};
use super::grants::Grants;
use super::identify::Candidates;
use super::kept::judged_by;
use super::readings::{Readings, source};

/// Documents read for one summary, newest first for each identifier.
pub(super) const MAX_DOCUMENTS: usize = 200;
/// Identifiers of one person asked about in a call.
const MAX_IDENTIFIERS: usize = 1_000;
/// A document larger than this is listed, not read.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Emergency access at this node.
#[derive(Debug)]
pub struct Emergency {
    /// Break-glass grants.
    pub grants: Grants,
    /// Candidates shown.
    pub candidates: Candidates,
    /// Care records.
    pub care: CareRecords,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identity: Arc<Identity>,
    pub(super) documents: Arc<Documents>,
    pub(super) federation: Arc<Federation>,
    pub(super) guard: Arc<Guard>,
    pub(super) max_age: Duration,
    readings: Arc<Readings>,
}

/// What emergency access stands on.
#[derive(Debug)]
pub struct Parts {
    /// Who a patient is.
    pub identity: Arc<Identity>,
    /// Documents here.
    pub documents: Arc<Documents>,
    /// The other communities.
    pub federation: Arc<Federation>,
    /// Who may.
    pub guard: Arc<Guard>,
    /// Documents are read for summaries when they are registered.
    pub precompute: bool,
    /// How old an answer may be for callers who do not say; zero: every region is asked.
    pub max_age: Duration,
}

impl Emergency {
    /// Emergency access over the node's services.
    pub fn new(store: &Arc<Store>, clock: &Arc<dyn Clock>, parts: Parts) -> Self {
        let Parts {
            identity,
            documents,
            federation,
            guard,
            precompute,
            max_age,
        } = parts;
        Self {
            grants: Grants::new(Arc::clone(store), Arc::clone(clock)),
            candidates: Candidates::new(Arc::clone(&identity), Arc::clone(clock)),
            care: CareRecords::new(Arc::clone(store), Arc::clone(clock), Arc::clone(&documents)),
            clock: Arc::clone(clock),
            readings: Arc::new(Readings::new(
                Arc::clone(store),
                Arc::clone(clock),
                Arc::clone(&documents),
                precompute,
            )),
            max_age,
            identity,
            documents,
            federation,
            guard,
        }
    }

    /// Reads documents for summaries as they are registered, until told to stop.
    pub async fn keep_reading(&self, stop: CancellationToken) {
        Arc::clone(&self.readings).keep(stop).await;
    }

    /// What this node's documents say of a patient, as far as the permit goes. Blocking.
    ///
    /// # Errors
    /// The store. A document that cannot be read is listed as such, never an error.
    pub fn items(
        &self,
        permit: &Permit,
        patients: &[PatientIdentifier],
    ) -> Result<fpb::GetSummaryItemsResponse> {
        let mut response = fpb::GetSummaryItemsResponse {
            as_of: Some(crate::wire::timestamp(self.clock.now())),
            ..fpb::GetSummaryItemsResponse::default()
        };
        for (patient, whose) in patients.iter().zip(0..) {
            let room = MAX_DOCUMENTS.saturating_sub(response.documents.len());
            if room == 0 {
                response.truncated = true;
                break;
            }
            let filter = dpb::DocumentFilter::default();
            let page = self.documents.find(permit, patient, &filter, room, "")?;
            response.truncated |= !page.next.is_empty();
            for entry in &page.entries {
                self.read(permit, entry, whose, &mut response)?;
            }
        }
        Ok(response)
    }

    /// Reads the document of an entry that the permit covers into `response`; `whose` is the place of its
    /// patient among those asked about.
    pub(super) fn read(
        &self,
        permit: &Permit,
        entry: &dpb::DocumentEntry,
        whose: u32,
        response: &mut fpb::GetSummaryItemsResponse,
    ) -> Result<()> {
        let uuid: EntryUuid = entry.entry_uuid.parse().map_err(Error::internal)?;
        let Some(found) = self.documents.by_uuid(&uuid)? else {
            return Ok(());
        };
        // What was made of other documents says nothing that they do not. What changed since it was
        // listed is judged as it is now.
        if !found.made_of().is_empty() || !found.is_covered(permit) {
            return Ok(());
        }
        response.judged.push(fpb::JudgedDocument {
            patient: whose,
            entry: Some(judged_by(&found.entry)),
        });
        if found.entry.size.unwrap_or(u64::MAX) > MAX_BYTES {
            too_large(entry, response);
            return Ok(());
        }
        let facts = found.facts();
        let covers = |level: Confidentiality, uninformed: bool| {
            permit.covers(&DocumentFacts {
                confidentiality: level.max(facts.confidentiality),
                uninformed: facts.uninformed || uninformed,
                ..facts.clone()
            })
        };
        if let Some(extracted) = self.readings.of(&uuid, &found)? {
            take(&found.entry, extracted, covers, response);
        } else {
            let content = self.documents.content(permit, &found, MAX_BYTES)?;
            let source = source(&found, &content, self.clock.now());
            read(&source, covers, response);
        }
        Ok(())
    }

    /// Every identifier of a person.
    ///
    /// # Errors
    /// The store; a person without records is unknown.
    pub fn patients(&self, linkage: LinkageId) -> Result<Vec<PatientIdentifier>> {
        self.federation.known_as(linkage)
    }
}

/// The identifiers a responding node is asked about.
///
/// # Errors
/// None, more than [`MAX_IDENTIFIERS`], or a malformed one.
pub fn asked_patients(patient_ids: &[cpb::Identifier]) -> Result<Vec<PatientIdentifier>> {
    if patient_ids.is_empty() {
        return Err(Error::missing("patient_ids"));
    }
    if patient_ids.len() > MAX_IDENTIFIERS {
        let message = format!("must name at most {MAX_IDENTIFIERS} identifiers");
        return Err(Error::field(Reason::InvalidField, "patient_ids", message));
    }
    patient_ids
        .iter()
        .map(|id| identifier(Some(id), "patient_ids"))
        .collect()
}
