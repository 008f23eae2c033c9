//! Procedure: 手術, 透析.

use crate::wire::pb::emergency::{ClinicalStatus, ItemDetail, SummarySection};

use super::bundle::{Place, Reading};
use super::elements::{Concept, concept_detail, first_date, period, text_detail};
use super::item::{absence, new, notes};
use super::json::Json;

/// Reads a Procedure that was done, is going on, or was stopped midway.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let procedure = place.resource;
    let clinical = match procedure.text_of("status") {
        "entered-in-error" | "not-done" | "preparation" => return Reading::Nothing,
        "completed" => ClinicalStatus::Resolved,
        "in-progress" => ClinicalStatus::Active,
        "on-hold" => ClinicalStatus::OnHold,
        "stopped" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let concept = Concept::of(procedure.get("code"));
    if let Some(absent) = absence(place, SummarySection::Procedure, &concept, String::new()) {
        return absent;
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let mut item = new(place, SummarySection::Procedure, &concept, String::new());
    let (start, end) = period(procedure.get("performedPeriod"));
    let performed = first_date(procedure, &["performedDateTime"]);
    item.start = if performed.is_empty() {
        start
    } else {
        performed
    };
    item.end = end;
    item.clinical_status = clinical.into();
    item.details = details(procedure);
    Reading::Items(vec![item])
}

fn details(procedure: &Json<'_>) -> Vec<ItemDetail> {
    let sites = procedure.get("bodySite").items().iter().take(4);
    let sites = sites.filter_map(|site| concept_detail("body-site", "部位", &Concept::of(site)));
    let outcome = concept_detail("outcome", "転帰", &Concept::of(procedure.get("outcome")));
    let note = text_detail("note", "備考", &notes(procedure));
    sites.chain(outcome).chain(note).collect()
}
