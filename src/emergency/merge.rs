//! Folds what the regions said into one summary.
//!
//! Nothing is decided between sources: the same fact of several is one item with all of them, and
//! what contradicts stands side by side in one `conflict_group`. The result depends on what was
//! said, never on the order in which it arrived.

mod absence;
mod conflict;
mod date;
mod fold;
mod identity;
mod rules;
mod series;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use prost::Message;

use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::emergency::{
    AbsenceStatement, AgedOut, ItemSource, ListedDocument, SummaryItem, VerificationStatus,
};

pub(super) use absence::is_denied;
pub use conflict::NONE_KNOWN_GROUP;
pub(super) use date::day;
pub use rules::{MaxAge, RULES, SectionRule};

/// What one region contributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// homeCommunityId of the region, `urn:oid:`; for sources that do not name theirs.
    pub home_community_id: String,
    /// Facts, extracted or merged before; ids, priorities and conflict groups are made anew.
    pub items: Vec<SummaryItem>,
    /// What is stated to be absent, or could not be asked for.
    pub absences: Vec<AbsenceStatement>,
    /// Documents of the region.
    pub documents: Vec<ListedDocument>,
}

/// The folded facts of all parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// By priority, section, criticality and date, the newest first.
    pub items: Vec<SummaryItem>,
    /// By section and reason.
    pub absences: Vec<AbsenceStatement>,
    /// Newest first.
    pub documents: Vec<ListedDocument>,
    /// How many facts of which sections were left out, older than the window of their section.
    pub aged_out: Vec<AgedOut>,
}

/// Folds `parts` into one, as seen at `now`.
///
/// Two facts are the same if they share section, confidentiality, a code (or, both uncoded, the
/// text), status, and what distinguishes them (side, dose, settings), and their dates do not
/// contradict. Facts of different confidentiality stay apart, so that one can be withheld without
/// the other. A refuted fact is shown only beside stated ones of its kind, which it may refute under
/// another code. The windows are in [`RULES`].
#[must_use]
pub fn merge(parts: Vec<Part>, now: Timestamp) -> Merged {
    let mut items = Vec::new();
    let mut absences = Vec::new();
    let mut documents = Vec::new();
    for part in parts {
        let home = part.home_community_id;
        items.extend(part.items.into_iter().map(|item| anew(item, &home, now)));
        absences.extend(part.absences.into_iter().map(|mut absence| {
            absence
                .sources
                .iter_mut()
                .for_each(|source| complete(source, &home, now));
            absence
        }));
        documents.extend(part.documents.into_iter().map(|mut document| {
            if let Some(reference) = &mut document.document
                && reference.home_community_id.is_empty()
            {
                reference.home_community_id.clone_from(&home);
            }
            document
        }));
    }
    items.retain(is_kept);
    let (mut items, aged_out) = fold::fold(items, now);
    items.iter_mut().for_each(identify);
    items.sort_by_cached_key(order);
    items.dedup_by(|one, other| one.item_id == other.item_id);
    let absences = absence::fold(absences);
    conflict::mark(&mut items, &absences);
    conflict::keep_refutations(&mut items);
    Merged {
        items,
        absences,
        documents: fold_documents(documents),
        aged_out,
    }
}

/// The item without what belongs to another summary, and with complete sources.
fn anew(mut item: SummaryItem, home: &str, now: Timestamp) -> SummaryItem {
    item.item_id.clear();
    item.conflict_group.clear();
    // Ids of another summary.
    item.derived_from.clear();
    item.priority = rules::of(item.section()).priority.into();
    let past = item
        .past_values
        .iter_mut()
        .filter_map(|past| past.source.as_mut());
    past.chain(&mut item.sources)
        .for_each(|source| complete(source, home, now));
    item
}

fn complete(source: &mut ItemSource, home: &str, now: Timestamp) {
    if source.home_community_id.is_empty() {
        home.clone_into(&mut source.home_community_id);
    }
    if source.as_of.is_none() {
        source.as_of = Some(prost_types::Timestamp {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        });
    }
}

/// What was entered in error, or must not have come here, is none of the summary's.
fn is_kept(item: &SummaryItem) -> bool {
    item.verification_status() != VerificationStatus::EnteredInError
        && !item
            .national_flags
            .contains(&NationalFlag::Undelivered.into())
}

/// Sets the id: a hash of all but the ids and the date of asking. Salted by the documents that the
/// item is from, it does not tell what the item says.
fn identify(item: &mut SummaryItem) {
    let mut content = item.clone();
    let past = content
        .past_values
        .iter_mut()
        .filter_map(|past| past.source.as_mut());
    past.chain(&mut content.sources)
        .for_each(|source| source.as_of = None);
    item.item_id = hash(&content.encode_to_vec());
}

/// 128 bits of SHA-256, in hex.
pub(super) fn hash(octets: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, octets);
    let (half, _) = hash.as_ref().split_at(16);
    HEXLOWER.encode(half)
}

/// Place in the summary: priority, section, criticality, then the newest first.
fn order(item: &SummaryItem) -> impl Ord + use<> {
    let rule = rules::of(item.section());
    (
        item.priority,
        rule.rank,
        Reverse(item.criticality),
        Reverse(date::of_item(item)),
        item.item_id.clone(),
    )
}

/// One of each document, newest first; used, if one says so.
fn fold_documents(mut documents: Vec<ListedDocument>) -> Vec<ListedDocument> {
    documents.sort_by_cached_key(|document| {
        let reference = document.document.clone().unwrap_or_default();
        let key = (
            reference.home_community_id,
            reference.repository_unique_id,
            reference.document_unique_id,
        );
        (
            Reverse(document.creation_time.clone()),
            key,
            !document.used,
            document.encode_to_vec(),
        )
    });
    documents.dedup_by(|later, kept| later.document == kept.document && later.document.is_some());
    documents
}
