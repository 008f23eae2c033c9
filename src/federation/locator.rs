//! Who holds anything for a patient: fed by the communities, asked before any fan-out.

use std::sync::Arc;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::error::Result;
use crate::store::{Store, Tag, Write};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::federation as pb;

use super::contributions::Contributions;
use super::tables::HoldingRow;

/// Communities that can hold something for one patient identifier.
const MAX_HOLDERS: usize = 64;

/// The locator.
#[derive(Debug)]
pub struct Locator {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    contributions: Arc<Contributions>,
}

impl Locator {
    /// A locator kept in `store`; what communities withdraw is taken out of `contributions`.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        contributions: Arc<Contributions>,
    ) -> Self {
        Self {
            store,
            clock,
            contributions,
        }
    }

    /// Takes over what a community says it holds, and takes what it withdraws out of what is kept of
    /// its answers, in the same frame. Of what is held, older notices than known are passed over.
    ///
    /// # Errors
    /// The store.
    pub async fn notify(
        &self,
        permit: &Permit,
        call: &Call,
        home: &HomeCommunityId,
        notices: &[(PatientIdentifier, pb::HoldingNotice)],
        request: &pb::NotifyHoldingsRequest,
    ) -> Result<pb::NotifyHoldingsResponse> {
        permit.require(&[Action::Exchange])?;
        let now = self.clock.now();
        let withdraws = notices
            .iter()
            .any(|(_, notice)| !notice.withdrawn.is_empty());
        let turn = match withdraws {
            true => Some(self.contributions.turn().await),
            false => None,
        };
        let mut writes = Vec::new();
        for (patient, notice) in notices {
            let row = HoldingRow {
                patient: self.store.keys().patient_tag(patient).to_vec(),
                home_community_id: home.to_string(),
                notice: Some(pb::HoldingNotice {
                    // Done with below; the locator has no use for it.
                    withdrawn: Vec::new(),
                    ..notice.clone()
                }),
                confirmed_ms: now.as_millisecond(),
            };
            let known = self
                .store
                .get::<HoldingRow>(&crate::store::Row::key(&row))?;
            let newer = known
                .and_then(|known| known.row.notice)
                .is_none_or(|known| known.sequence <= notice.sequence);
            if newer {
                writes.push(Write::put(&row));
            }
        }
        let changed_count = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        writes.extend(self.contributions.without_withdrawn(home, notices)?);
        call.note(|record| record.items = changed_count);
        let response = pb::NotifyHoldingsResponse {
            changed_count,
            ..Default::default()
        };
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        call.commit_holding(&self.store, now, writes, idempotency, response, turn)
            .await
    }

    /// What this node seals the places of a subscription with: for `question`, and for no other.
    pub(super) fn seal(&self, question: &[u8], places: &[u8]) -> Tag {
        let length = question.len() as u64;
        let sealed = [&length.to_be_bytes(), question, places].concat();
        self.store.keys().tag("subscription-token", &sealed)
    }

    /// What communities hold for any of these identifiers of one person.
    ///
    /// # Errors
    /// The store.
    pub fn holdings(&self, patients: &[PatientIdentifier]) -> Result<Vec<pb::Holding>> {
        let mut holdings = Vec::new();
        for patient in patients {
            let rows = self.store.range::<HoldingRow>(
                &self.store.keys().patient_tag(patient),
                None,
                MAX_HOLDERS,
            )?;
            for (_, row) in rows {
                let row = row.row;
                let Some(notice) = row.notice else { continue };
                holdings.push(pb::Holding {
                    home_community_id: row.home_community_id,
                    patient_id: notice.patient_id,
                    confirmed: jiff::Timestamp::from_millisecond(row.confirmed_ms)
                        .ok()
                        .map(crate::wire::timestamp),
                    has_documents: notice.has_documents,
                    has_summary_items: notice.has_summary_items,
                    last_changed: notice.changed,
                    ..pb::Holding::default()
                });
            }
        }
        Ok(holdings)
    }
}
