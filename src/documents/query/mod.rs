//! The stored queries of the registry (ITI-18): checked (`plan`, `filter`), read by index (`reader`),
//! evaluated (`run`), put in order and given out page by page (`page`).

mod filter;
mod item;
mod page;
mod plan;
mod reader;
mod run;
mod text;

#[cfg(test)]
mod tests;

use prost::Message as _;

use crate::access::{Action, Call, Permit};
use crate::consent::Guard;
use crate::error::{Error, Result};
use crate::types::{DocumentUniqueId, EntryUuid, HomeCommunityId, PatientIdentifier};
use crate::wire::pb::documents as pb;

use super::Documents;
use super::tables::{EntryRow, UniqueRow};

pub use item::{Found, facts_of};
pub use page::MAX_PAGE;

pub(super) use filter::EntryFilter;
pub(super) use item::{FoundFolder, FoundSet, Item};
pub(super) use page::Tokens;
use page::{Collector, Order, Wanted};
use plan::Plan;
pub(super) use reader::{Reader, rows};

/// Whether a stored query to the registry of `home` has its form.
///
/// # Errors
/// As [`Plan::new`].
pub(super) fn check(query: &pb::StoredQuery, home: &HomeCommunityId) -> Result<()> {
    Plan::new(query, home).map(|_| ())
}

/// One page of a patient's entries.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Matching entries that the permit covers.
    pub entries: Vec<pb::DocumentEntry>,
    /// The token of the next page; empty at the end.
    pub next: String,
}

impl Documents {
    /// Answers a stored query with what the caller may know of, a page at a time. Notes for the
    /// audit whom and what the answer is about.
    ///
    /// # Errors
    /// A query that is not well formed; [`crate::error::Reason::NotPermitted`] if it is about a
    /// patient of whom the caller may know nothing;
    /// [`crate::error::Reason::ResultNotSinglePatient`];
    /// [`crate::error::Reason::TooManyResults`]; the store.
    pub fn query(
        &self,
        guard: &Guard,
        call: &Call,
        request: &pb::QueryRegistryRequest,
    ) -> Result<pb::QueryRegistryResponse> {
        let query = request.query.as_ref();
        let query = query.ok_or_else(|| Error::missing("query"))?;
        let plan = Plan::new(query, self.home())?;
        // What is committed from here on may be in the answer, or not.
        let applied = self.store.applied().0;
        let order = Order::new(request.sort_key(), request.ascending);
        let asked = pb::QueryRegistryRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let tokens = Tokens::new(self.store.keys(), asked.encode_to_vec());
        let size = request.page_size as usize;
        let wanted = Wanted::new(order, size, &request.page_token, &tokens)?;
        let mut results = Collector::new(wanted);
        let mut reader = Reader::new(self, guard, call);
        let patient = reader.run(&plan, &mut results)?;
        // Not the patient of an object that was looked at and is not shown.
        if let Some(patient) = patient {
            reader.about(&patient);
        }
        // The newest among the results, not the ledger's: that tells of others (bar Z-02).
        // Nothing newer than what was asked from: it is still there.
        let sequence = results.newest().max(plan.changed_since()).min(applied);
        let (items, next, counts) = results.finish();
        call.note(|record| record.items = u32::try_from(items.len()).unwrap_or(u32::MAX));
        let mut response = pb::QueryRegistryResponse {
            objects: Some(pb::RegistryObjects::default()),
            counts: Some(counts),
            sequence,
            ..Default::default()
        };
        if request.return_type() == pb::ReturnType::Count {
            return Ok(response);
        }
        let as_ref = request.return_type() == pb::ReturnType::ObjectRef;
        let objects = response.objects.get_or_insert_default();
        for item in items {
            item.put(objects, as_ref);
        }
        response.next_page_token = next.map(|place| tokens.token(&place)).unwrap_or_default();
        Ok(response)
    }

    /// The entries under one patient identifier that answer `filter` and that the permit covers, a
    /// page at a time, the newest first.
    ///
    /// # Errors
    /// A malformed filter or page token; the store.
    pub fn find(
        &self,
        permit: &Permit,
        patient: &PatientIdentifier,
        filter: &pb::DocumentFilter,
        page_size: usize,
        page_token: &str,
    ) -> Result<Page> {
        permit.require(&[
            Action::FindDocuments,
            Action::ReadDocument,
            Action::ReadSummary,
        ])?;
        let query = [patient.to_cx().into_bytes(), filter.encode_to_vec()].concat();
        let filter = EntryFilter::new(filter, None, &[], pb::MetadataLevel::Latest)?;
        let tag = self.store.keys().patient_tag(patient);
        let order = Order::new(pb::SortKey::Unspecified, false);
        let tokens = Tokens::new(self.store.keys(), query);
        let wanted = Wanted::new(order, page_size, page_token, &tokens)?;
        let mut results = Collector::new(wanted);
        rows::<EntryRow>(&self.store, EntryRow::BY_PATIENT, &tag, |row| {
            match Found::of(row) {
                Some(found) if filter.suits(&found) && found.is_covered(permit) => {
                    results.push(Item::Entry(Box::new(found)));
                }
                _ => {}
            }
            Ok(())
        })?;
        let (items, next, _) = results.finish();
        let mut objects = pb::RegistryObjects::default();
        for item in items {
            item.put(&mut objects, false);
        }
        Ok(Page {
            entries: objects.entries,
            next: next.map(|place| tokens.token(&place)).unwrap_or_default(),
        })
    }

    /// The entry with this entryUUID.
    ///
    /// # Errors
    /// The store.
    pub fn by_uuid(&self, uuid: &EntryUuid) -> Result<Option<Found>> {
        let row = self.store.get::<EntryRow>(uuid.as_bytes())?;
        Ok(row.and_then(Found::of))
    }

    /// The entry of the document with this uniqueId: of several of the same bytes, one whose document
    /// is here, that is in force, and is the latest.
    ///
    /// # Errors
    /// The store.
    pub fn by_unique_id(&self, unique_id: &DocumentUniqueId) -> Result<Option<Found>> {
        let unique = self.store.get::<UniqueRow>(&self.unique_tag(unique_id))?;
        let mut best: Option<Found> = None;
        for holder in unique.iter().flat_map(|unique| unique.row.holders()) {
            let row = self.store.get::<EntryRow>(holder)?;
            let Some(found) = row.and_then(Found::of) else {
                continue;
            };
            let rank = |found: &Found| {
                let status = found.entry.availability_status();
                let in_force = status == pb::AvailabilityStatus::Approved;
                (!found.blob.is_empty(), in_force, !found.superseded)
            };
            if best.as_ref().is_none_or(|best| rank(&found) >= rank(best)) {
                best = Some(found);
            }
        }
        Ok(best)
    }

    pub(super) fn unique_tag(&self, unique_id: &DocumentUniqueId) -> Vec<u8> {
        self.store
            .keys()
            .tag("unique-id", unique_id.as_str().as_bytes())
            .as_bytes()
            .to_vec()
    }
}
