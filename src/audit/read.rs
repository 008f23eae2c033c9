//! Reading the audit back out of the ledger.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use prost::Message as _;

use crate::error::{Error, Result};
use crate::store::{Sequence, Store};
use crate::types::HomeCommunityId;
use crate::wire::pb::audit as pb;

/// What events are wanted. Empty conditions hold for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Keyed hashes of the patient's identifiers; any of them.
    pub patients: Vec<Vec<u8>>,
    /// The acting institution.
    pub institution: String,
    /// From this sequence on.
    pub from: u64,
    /// Only emergency access.
    pub emergency_only: bool,
    /// The request id.
    pub request_id: String,
}

impl Filter {
    fn holds(&self, event: &pb::AuditEvent, patients: &[String]) -> bool {
        let institution = || {
            event
                .institution
                .as_ref()
                .map_or("", |from| &from.institution_id)
        };
        (patients.is_empty() || patients.contains(&event.patient_tag))
            && (self.institution.is_empty() || self.institution == institution())
            && (!self.emergency_only || event.emergency)
            && (self.request_id.is_empty() || self.request_id == event.request_id)
    }
}

/// The audit of one node.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Arc<Store>,
    home: HomeCommunityId,
}

impl Audit {
    /// The audit kept in `store` by the community `home`.
    pub fn new(store: Arc<Store>, home: HomeCommunityId) -> Self {
        Self { store, home }
    }

    /// The events that `filter` describes, oldest first, at most `limit`. Reads the ledger from
    /// `filter.from`: call it off the async threads.
    ///
    /// # Errors
    /// If the ledger cannot be read; a frame that fails its checks is an error, never skipped.
    pub fn events(&self, filter: &Filter, limit: usize) -> Result<Vec<pb::AuditEvent>> {
        let patients: Vec<String> = filter
            .patients
            .iter()
            .map(|tag| HEXLOWER.encode(tag))
            .collect();
        let mut found = Vec::new();
        for frame in self.store.read_frames(Sequence(filter.from)) {
            let frame = frame?;
            for bytes in &frame.audit {
                let mut event = pb::AuditEvent::decode(bytes.clone()).map_err(Error::internal)?;
                event.sequence = frame.sequence.0;
                event.home_community_id = self.home.to_string();
                if filter.holds(&event, &patients) {
                    found.push(event);
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}
