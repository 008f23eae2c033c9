//! What was kept of a region's answers, judged again for whoever asks now.

use crate::access::{DocumentFacts, Permit};
use crate::documents::facts_of;
use crate::federation::contributions::without;
use crate::types::Confidentiality;
use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::documents::{Author, DocumentEntry};
use crate::wire::pb::federation as fpb;

use super::compose::confidentiality;

/// The metadata that a decision asks for, and no more.
pub(super) fn judged_by(entry: &DocumentEntry) -> DocumentEntry {
    let authors = entry.authors.iter().map(|author| Author {
        institutions: author.institutions.clone(),
        ..Author::default()
    });
    DocumentEntry {
        unique_id: entry.unique_id.clone(),
        class_code: entry.class_code.clone(),
        type_code: entry.type_code.clone(),
        practice_setting_code: entry.practice_setting_code.clone(),
        confidentiality_codes: entry.confidentiality_codes.clone(),
        national_flags: entry.national_flags.clone(),
        authors: authors.collect(),
        service_start_time: entry.service_start_time.clone(),
        creation_time: entry.creation_time.clone(),
        ..DocumentEntry::default()
    }
}

/// As much of what was kept as `permit`, given now, lets be shown: documents that it does not cover are
/// not there, as they would not be if the region was asked; of the others the items that it does not
/// cover are withheld.
pub(super) fn shown(
    permit: &Permit,
    kept: fpb::GetSummaryItemsResponse,
) -> fpb::GetSummaryItemsResponse {
    let covered: Vec<(String, DocumentFacts)> = kept
        .judged
        .iter()
        .filter_map(|judged| judged.entry.as_ref())
        .map(|entry| (entry.unique_id.clone(), facts_of(entry)))
        .filter(|(_, facts)| permit.covers(facts))
        .collect();
    let facts = |id: &str| {
        let found = covered.iter().find(|(known, _)| known == id);
        found.map(|(_, facts)| facts)
    };
    let mut said = without(kept, |id| facts(id).is_none());
    let before = said.items.len();
    let flag = i32::from(NationalFlag::Uninformed);
    said.items.retain(|item| {
        let mut of = item
            .sources
            .iter()
            .filter_map(|source| source.document.as_ref());
        let level: Confidentiality = confidentiality(item);
        // `without` has left only what is of a document that is covered.
        of.all(|document| {
            facts(&document.document_unique_id).is_some_and(|facts| {
                permit.covers(&DocumentFacts {
                    confidentiality: level.max(facts.confidentiality),
                    uninformed: facts.uninformed || item.national_flags.contains(&flag),
                    ..facts.clone()
                })
            })
        })
    });
    said.partly_withheld |= said.items.len() < before;
    said
}
