//! Drugs prescribed and dispensed, vaccines.

use crate::wire::pb::emergency::{ClinicalStatus, SummaryItem};

use super::super::text;
use super::super::words::Language;
use super::elements::{date_time, detail, details, not_known, reference, value_concept, when};
use super::json::{Json, list, object, text as string};
use super::resources::{Around, EFFECTIVE, Members, head, named, notes, recorded};

/// The dosage in words, as the source has it.
fn dosage(item: &SummaryItem, language: Language) -> Json {
    let as_written = SummaryItem {
        details: item
            .details
            .iter()
            .filter(|one| {
                let said = [
                    "dosage",
                    "dose",
                    "rate",
                    "route",
                    "as-needed",
                    "do-not-perform",
                ];
                said.contains(&text::code_of(one))
            })
            .cloned()
            .collect(),
        ..SummaryItem::default()
    };
    let written = text::details(&as_written, language);
    let route = details(item, "route")
        .next()
        .map_or(Json::None, value_concept);
    list([object([("text", string(written)), ("route", route)])])
}

pub(super) fn medication(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Active | ClinicalStatus::Recurrence => "active",
        ClinicalStatus::Resolved => "completed",
        ClinicalStatus::Inactive | ClinicalStatus::Remission => "stopped",
        ClinicalStatus::OnHold => "on-hold",
        ClinicalStatus::Unspecified => "unknown",
    };
    let mut members = head("MedicationStatement", "MedicationStatement-uv-ips", item);
    members.extend([
        ("status", string(status)),
        ("medicationCodeableConcept", named(item)),
        ("subject", reference(around.patient)),
        when(&EFFECTIVE, item),
        ("dateAsserted", recorded(item)),
        ("note", notes(item, around)),
        ("dosage", dosage(item, around.language)),
    ]);
    members
}

pub(super) fn dispense(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Resolved => "completed",
        ClinicalStatus::Inactive | ClinicalStatus::Remission => "stopped",
        ClinicalStatus::OnHold => "on-hold",
        ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
            "unknown"
        }
    };
    let mut members = head("MedicationDispense", "", item);
    members.extend([
        ("status", string(status)),
        ("medicationCodeableConcept", named(item)),
        ("subject", reference(around.patient)),
        ("whenHandedOver", date_time(&item.start)),
        ("note", notes(item, around)),
        ("dosageInstruction", dosage(item, around.language)),
    ]);
    members
}

pub(super) fn immunization(item: &SummaryItem, around: Around<'_>) -> Members {
    let said = detail(item, "occurrence");
    let when = match (date_time(&item.start), said.is_empty()) {
        (Json::None, true) => ("_occurrenceDateTime", not_known()),
        (Json::None, false) => ("occurrenceString", string(said)),
        (date, _) => ("occurrenceDateTime", date),
    };
    let mut members = head("Immunization", "Immunization-uv-ips", item);
    members.extend([
        ("status", string("completed")),
        ("vaccineCode", named(item)),
        ("patient", reference(around.patient)),
        when,
        ("lotNumber", string(detail(item, "lot"))),
        ("note", notes(item, around)),
    ]);
    members
}
