//! The summary as pure functions: one document into what a region says, and what all regions said
//! into one summary.

use jiff::Timestamp;

use crate::documents::document_ref;
use crate::federation::fanout::completeness;
use crate::types::Confidentiality;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents::DocumentEntry;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation::GetSummaryItemsResponse;

use super::extract::{Extracted, NotUnderstood, Outcome, Source, extract};
use super::merge::{Merged, Part, merge};

/// Reads `document` into `response`: its facts, as far as `covers` lets them pass by their
/// confidentiality and by whether the patient has not been told (未告知), what it states to be absent,
/// and the document itself as listed, with why it was not read.
pub fn read(
    document: &Source<'_>,
    covers: impl Fn(Confidentiality, bool) -> bool,
    response: &mut GetSummaryItemsResponse,
) {
    take(document.entry, extract(document), covers, response);
}

/// Puts what was read of the document of `entry` into `response`, as [`read`] does.
pub(super) fn take(
    entry: &DocumentEntry,
    extracted: Extracted,
    covers: impl Fn(Confidentiality, bool) -> bool,
    response: &mut GetSummaryItemsResponse,
) {
    // Items inside a document can be more confidential than the document.
    let flag = i32::from(cpb::NationalFlag::Uninformed);
    for item in extracted.items {
        if covers(confidentiality(&item), item.national_flags.contains(&flag)) {
            response.items.push(item);
        } else {
            response.partly_withheld = true;
        }
    }
    response.absences.extend(extracted.absences);
    let listed = match (extracted.outcome, extracted.not_taken) {
        (Outcome::Readable, 0) => listed(entry, true, String::new()),
        (Outcome::Readable, left) => {
            let reason = format!("read in part: {left} entries not understood");
            listed(entry, true, reason)
        }
        (Outcome::NotUnderstood(reason), _) => listed(entry, false, reason.code().to_owned()),
    };
    response.documents.push(listed);
}

/// Lists a document that is too large to be read.
pub(super) fn too_large(entry: &DocumentEntry, response: &mut GetSummaryItemsResponse) {
    let reason = NotUnderstood::TooLarge.code().to_owned();
    response.documents.push(listed(entry, false, reason));
}

/// What an item asks of its reader.
pub(super) fn confidentiality(item: &pb::SummaryItem) -> Confidentiality {
    match item.confidentiality() {
        cpb::Confidentiality::Restricted => Confidentiality::Restricted,
        cpb::Confidentiality::VeryRestricted => Confidentiality::VeryRestricted,
        cpb::Confidentiality::Unspecified
        | cpb::Confidentiality::Unrestricted
        | cpb::Confidentiality::Low
        | cpb::Confidentiality::Moderate
        | cpb::Confidentiality::Normal => Confidentiality::Normal,
    }
}

/// A document as it is listed beside the items, with why it was not read, or not wholly.
fn listed(entry: &DocumentEntry, used: bool, reason: String) -> pb::ListedDocument {
    let title = entry.title.as_ref().and_then(|title| title.values.first());
    let institution = entry
        .authors
        .iter()
        .flat_map(|author| &author.institutions)
        .next();
    pb::ListedDocument {
        document: Some(document_ref(entry)),
        title: title.map(|title| title.value.clone()).unwrap_or_default(),
        type_code: entry.type_code.clone(),
        mime_type: entry.mime_type.clone(),
        creation_time: entry.creation_time.clone(),
        institution: institution.map(|from| cpb::InstitutionRef {
            institution_id: from.id.clone(),
            name: from.name.clone(),
            home_community_id: entry.home_community_id.clone(),
            ..cpb::InstitutionRef::default()
        }),
        used,
        reason,
    }
}

/// What asking one region came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How it went.
    pub status: cpb::RegionStatus,
    /// What it said; none if it did not.
    pub said: Option<GetSummaryItemsResponse>,
    /// It was asked now and did not answer: what it said is of before.
    pub silent: bool,
}

/// What all regions said together.
#[derive(Clone, Debug, PartialEq)]
pub struct Composed {
    /// The facts, folded, what is not there, and the documents.
    pub merged: Merged,
    /// How complete it is.
    pub completeness: cpb::Completeness,
    /// Something is withheld.
    pub partly_withheld: bool,
}

/// Folds what the regions said, as seen at `now`, and names those that said nothing (INV-6).
#[must_use]
pub fn compose(replies: Vec<Reply>, now: Timestamp) -> Composed {
    let mut statuses = Vec::new();
    let mut parts = Vec::new();
    let mut partly_withheld = false;
    let (mut unreachable, mut withheld) = (Vec::new(), Vec::new());
    for Reply {
        status,
        said,
        silent,
    } in replies
    {
        let home = status.home_community_id.clone();
        if silent && said.is_some() {
            // Something is shown of it, and something newer may be there.
            unreachable.push(home.clone());
        }
        match said {
            Some(said) => {
                partly_withheld |= said.partly_withheld;
                parts.push(Part {
                    home_community_id: home,
                    items: said.items,
                    absences: said.absences,
                    documents: said.documents,
                });
            }
            None if status.state() == cpb::RegionState::RefusedByPolicy => withheld.push(home),
            None => unreachable.push(home),
        }
        statuses.push(status);
    }
    let mut merged = merge(parts, now);
    for (reason, home_community_ids) in [
        (pb::AbsenceReason::Unreachable, unreachable),
        (pb::AbsenceReason::Withheld, withheld),
    ] {
        if !home_community_ids.is_empty() {
            merged.absences.push(pb::AbsenceStatement {
                reason: reason.into(),
                home_community_ids,
                ..pb::AbsenceStatement::default()
            });
        }
    }
    Composed {
        merged,
        completeness: completeness(statuses),
        partly_withheld,
    }
}
