//! Immunization: 予防接種.

use crate::wire::pb::emergency::SummarySection;

use super::bundle::{Place, Reading};
use super::elements::{Concept, first_date, text_detail};
use super::item::{absence, new, notes};

/// Reads an Immunization that was given.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let immunization = place.resource;
    if immunization.text_of("status") != "completed" {
        return Reading::Nothing;
    }
    let concept = Concept::of(immunization.get("vaccineCode"));
    let recorded = first_date(immunization, &["recorded"]);
    if let Some(absent) = absence(
        place,
        SummarySection::Immunization,
        &concept,
        recorded.clone(),
    ) {
        return absent;
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let mut item = new(place, SummarySection::Immunization, &concept, recorded);
    item.start = first_date(immunization, &["occurrenceDateTime"]);
    let when = text_detail(
        "occurrence",
        "接種時期",
        immunization.text_of("occurrenceString"),
    );
    let lot = text_detail("lot", "ロット", immunization.text_of("lotNumber"));
    let note = text_detail("note", "備考", &notes(immunization));
    item.details = when.into_iter().chain(lot).chain(note).collect();
    Reading::Items(vec![item])
}
