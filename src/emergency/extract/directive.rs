//! Consent and `DocumentReference` as 事前指示. Plain ones only: nothing is read into provisions.

use crate::wire::pb::emergency::{ClinicalStatus, SummarySection};

use super::bundle::{Place, Reading};
use super::elements::{Concept, concept_detail, first_date, period, shown, text_detail};
use super::item::{new, status};
use super::section::Filing;

const FILED: Filing = Filing::Section(SummarySection::AdvanceDirective);

/// Reads a Consent of scope `adr` (advance directive), or one that is filed as such. Of any other
/// scope it is for the consent service.
pub(super) fn consent(place: &Place<'_, '_, '_>) -> Reading {
    let consent = place.resource;
    let directive = Concept::of(consent.get("scope")).has_code(&["adr"]);
    if !directive && !place.filings().contains(&FILED) {
        return Reading::Nothing;
    }
    let clinical = match status(consent.get("status")) {
        "active" => ClinicalStatus::Active,
        "inactive" => ClinicalStatus::Inactive,
        "entered-in-error" | "rejected" | "draft" | "proposed" => return Reading::Nothing,
        _ => ClinicalStatus::Unspecified,
    };
    let categories: Vec<_> = consent
        .get("category")
        .items()
        .iter()
        .take(4)
        .map(Concept::of)
        .collect();
    let named = categories
        .iter()
        .find(|category| !category.is_empty())
        .cloned();
    let provision = consent.get("provision");
    let concept = named.unwrap_or_else(|| Concept::of(consent.get("scope")));
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let recorded = first_date(consent, &["dateTime"]);
    let mut item = new(
        place,
        SummarySection::AdvanceDirective,
        &concept,
        recorded.clone(),
    );
    let (start, end) = period(provision.get("period"));
    item.start = if start.is_empty() { recorded } else { start };
    item.end = end;
    item.clinical_status = clinical.into();
    let others = categories.iter().skip(1);
    item.details = others
        .filter_map(|category| concept_detail("category", "区分", category))
        .chain(text_detail("provision", "意思", provision.text_of("type")))
        .collect();
    Reading::Items(vec![item])
}

/// Reads a `DocumentReference` that is filed as advance directive: that it exists, and what it is
/// called. Any other is an attachment.
pub(super) fn document(place: &Place<'_, '_, '_>) -> Reading {
    let document = place.resource;
    if !place.filings().contains(&FILED) {
        return Reading::NotUnderstood;
    }
    match document.text_of("status") {
        "entered-in-error" | "superseded" => return Reading::Nothing,
        _ => {}
    }
    let mut concept = Concept::of(document.get("type"));
    let description = shown(document.text_of("description"));
    if !description.is_empty() {
        concept.text = description;
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let date = first_date(document, &["date"]);
    let mut item = new(
        place,
        SummarySection::AdvanceDirective,
        &concept,
        date.clone(),
    );
    item.start = date;
    Reading::Items(vec![item])
}
