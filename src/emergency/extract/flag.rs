//! Flag: 重大警告.

use crate::wire::pb::emergency::{ClinicalStatus, SummarySection};

use super::bundle::{Place, Reading};
use super::elements::{Concept, concept_detail, period};
use super::item::new;

/// Reads a Flag.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let flag = place.resource;
    let clinical = match flag.text_of("status") {
        "entered-in-error" => return Reading::Nothing,
        "active" => ClinicalStatus::Active,
        "inactive" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let concept = Concept::of(flag.get("code"));
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let mut item = new(place, SummarySection::Alert, &concept, String::new());
    (item.start, item.end) = period(flag.get("period"));
    item.clinical_status = clinical.into();
    let categories = flag.get("category").items().iter().take(4);
    item.details = categories
        .filter_map(|category| concept_detail("category", "区分", &Concept::of(category)))
        .collect();
    Reading::Items(vec![item])
}
