//! `MedicationRequest`, `MedicationStatement`, `MedicationDispense`: 処方 and 調剤.

use crate::wire::pb::emergency::{ClinicalStatus, ItemDetail, SummaryItem, SummarySection};

use super::bundle::{Place, Reading};
use super::elements::{
    Concept, concept_detail, first_date, period, quantity_text, range_text, ratio_text, text_detail,
};
use super::item::{absence, new, notes};
use super::json::Json;

/// Dosage instructions of one medication.
const MAX_DOSAGES: usize = 8;

/// Reads a `MedicationRequest`.
///
/// Orders that were drafted, cancelled before anything was given, or only proposed say nothing
/// about what the patient takes. `doNotPerform` is kept as stopped.
pub(super) fn request(place: &Place<'_, '_, '_>) -> Reading {
    let request = place.resource;
    let proposed = ["proposal", "plan", "option"].contains(&request.text_of("intent"));
    let clinical = match request.text_of("status") {
        "entered-in-error" | "cancelled" | "draft" => return Reading::Nothing,
        _ if proposed => return Reading::Nothing,
        _ if request.get("doNotPerform").bool() == Some(true) => ClinicalStatus::Inactive,
        "active" => ClinicalStatus::Active,
        "on-hold" => ClinicalStatus::OnHold,
        "completed" => ClinicalStatus::Resolved,
        "stopped" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let authored = first_date(request, &["authoredOn"]);
    medication(place, SummarySection::Medication, &authored, |item| {
        let (start, end) = bounds(request.get("dosageInstruction"));
        item.start = if start.is_empty() {
            authored.clone()
        } else {
            start
        };
        item.end = end;
        item.clinical_status = clinical.into();
        item.details = dosages(request.get("dosageInstruction"));
        let supply = request.get("dispenseRequest");
        item.details
            .extend(amount("quantity", "処方量", supply.get("quantity")));
        item.details.extend(amount(
            "supply",
            "日数",
            supply.get("expectedSupplyDuration"),
        ));
        if request.get("doNotPerform").bool() == Some(true) {
            item.details
                .extend(text_detail("do-not-perform", "使用しない指示", "true"));
        }
    })
}

/// Reads a `MedicationStatement`. What is only intended is not taken.
pub(super) fn statement(place: &Place<'_, '_, '_>) -> Reading {
    let statement = place.resource;
    let clinical = match statement.text_of("status") {
        "entered-in-error" | "intended" => return Reading::Nothing,
        "active" => ClinicalStatus::Active,
        "on-hold" => ClinicalStatus::OnHold,
        "completed" => ClinicalStatus::Resolved,
        "stopped" | "not-taken" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let asserted = first_date(statement, &["dateAsserted"]);
    medication(place, SummarySection::Medication, &asserted, |item| {
        let (start, end) = period(statement.get("effectivePeriod"));
        let effective = first_date(statement, &["effectiveDateTime"]);
        item.start = if start.is_empty() { effective } else { start };
        item.end = end;
        item.clinical_status = clinical.into();
        item.details = dosages(statement.get("dosage"));
    })
}

/// Reads a `MedicationDispense`. Only what was, or may have been, handed over.
pub(super) fn dispense(place: &Place<'_, '_, '_>) -> Reading {
    let dispense = place.resource;
    let clinical = match dispense.text_of("status") {
        "entered-in-error" | "cancelled" | "declined" | "preparation" => return Reading::Nothing,
        "completed" => ClinicalStatus::Resolved,
        "on-hold" => ClinicalStatus::OnHold,
        "stopped" => ClinicalStatus::Inactive,
        _ => ClinicalStatus::Unspecified,
    };
    let handed = first_date(dispense, &["whenHandedOver", "whenPrepared"]);
    medication(place, SummarySection::Dispense, &handed, |item| {
        item.start.clone_from(&handed);
        item.clinical_status = clinical.into();
        item.details = dosages(dispense.get("dosageInstruction"));
        item.details
            .extend(amount("quantity", "調剤量", dispense.get("quantity")));
        item.details
            .extend(amount("supply", "日数", dispense.get("daysSupply")));
    })
}

fn medication(
    place: &Place<'_, '_, '_>,
    section: SummarySection,
    recorded: &str,
    fill: impl FnOnce(&mut SummaryItem),
) -> Reading {
    let mut concept = Concept::of(place.resource.get("medicationCodeableConcept"));
    if concept.is_empty()
        && let Some(medication) = place.target("medicationReference")
    {
        concept = Concept::of(medication.get("code"));
    }
    let named = place.resource.get("medicationReference").text_of("display");
    if concept.is_empty() && !named.is_empty() {
        concept.text = super::elements::shown(named);
    }
    if let Some(absent) = absence(
        place,
        SummarySection::Medication,
        &concept,
        recorded.to_owned(),
    ) {
        return absent;
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let mut item = new(place, section, &concept, recorded.to_owned());
    fill(&mut item);
    item.details
        .extend(text_detail("note", "備考", &notes(place.resource)));
    Reading::Items(vec![item])
}

/// First start and last end of the dosage instructions, where they are dates.
fn bounds(dosages: &Json<'_>) -> (String, String) {
    let periods = dosages.items().iter().take(MAX_DOSAGES);
    let periods: Vec<_> = periods
        .map(|dosage| period(dosage.get("timing").get("repeat").get("boundsPeriod")))
        .collect();
    let starts = periods
        .iter()
        .map(|(start, _)| start)
        .filter(|start| !start.is_empty());
    // One open end leaves the whole open.
    let open = periods.iter().any(|(_, end)| end.is_empty());
    let last = periods.iter().map(|(_, end)| end).max().filter(|_| !open);
    (
        starts.min().cloned().unwrap_or_default(),
        last.cloned().unwrap_or_default(),
    )
}

fn dosages(list: &Json<'_>) -> Vec<ItemDetail> {
    list.items()
        .iter()
        .take(MAX_DOSAGES)
        .flat_map(dosage)
        .collect()
}

/// One dosage instruction as details, in its order.
fn dosage(dosage: &Json<'_>) -> Vec<ItemDetail> {
    let timing = Concept::of(dosage.get("timing").get("code"));
    let usage = dosage.text_of("text");
    let usage = if usage.is_empty() {
        concept_detail("dosage", "用法", &timing)
    } else {
        text_detail("dosage", "用法", usage)
    };
    let rates = dosage.get("doseAndRate").items().iter().take(MAX_DOSAGES);
    let doses = rates.flat_map(|rate| {
        [
            text_detail("dose", "1回量", &quantity_text(rate.get("doseQuantity"))),
            text_detail("dose", "1回量", &range_text(rate.get("doseRange"))),
            text_detail("rate", "投与量", &ratio_text(rate.get("rateRatio"))),
            text_detail("rate", "投与速度", &quantity_text(rate.get("rateQuantity"))),
            text_detail("rate", "投与速度", &range_text(rate.get("rateRange"))),
        ]
    });
    let as_needed = dosage.get("asNeededBoolean").bool() == Some(true);
    let needed = Concept::of(dosage.get("asNeededCodeableConcept"));
    let rest = [
        concept_detail("route", "投与経路", &Concept::of(dosage.get("route"))),
        concept_detail("as-needed", "頓用", &needed),
        text_detail("as-needed", "頓用", if as_needed { "true" } else { "" }),
    ];
    usage
        .into_iter()
        .chain(doses.flatten())
        .chain(rest.into_iter().flatten())
        .collect()
}

fn amount(name: &str, label: &str, value: &Json<'_>) -> Option<ItemDetail> {
    text_detail(name, label, &quantity_text(value))
}
