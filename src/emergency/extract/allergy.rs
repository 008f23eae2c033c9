//! `AllergyIntolerance`: アレルギー and 薬剤禁忌.

use crate::wire::pb::emergency::{
    ClinicalStatus, Criticality, ItemDetail, SummarySection, VerificationStatus,
};

use super::bundle::{Place, Reading};
use super::elements::{Concept, concept_detail, first_date, period, text_detail};
use super::item::{absence, new, notes, status};
use super::json::Json;

/// Reactions of one allergy, and manifestations of one reaction.
const MAX_REACTIONS: usize = 8;

/// Reads an `AllergyIntolerance`.
///
/// It is a contraindication (薬剤禁忌) if its category has `medication` and its criticality is
/// `high`, and an allergy otherwise: the rule of JP-CLINS (R2011). Refuted ones are kept and marked,
/// for somebody else may list the same; entered in error, they are dropped.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let allergy = place.resource;
    let verification = verification_status(allergy.get("verificationStatus"));
    if verification == VerificationStatus::EnteredInError {
        return Reading::Nothing;
    }
    let mut concept = Concept::of(allergy.get("code"));
    if concept.is_empty() {
        let reactions = allergy.get("reaction").items().iter();
        let substances = reactions.map(|reaction| Concept::of(reaction.get("substance")));
        concept = substances
            .into_iter()
            .find(|found| !found.is_empty())
            .unwrap_or_default();
    }
    let recorded = first_date(allergy, &["recordedDate", "lastOccurrence"]);
    if let Some(absent) = absence(place, SummarySection::Allergy, &concept, recorded.clone()) {
        return if is_held(clinical_status(allergy.get("clinicalStatus")), verification) {
            absent
        } else {
            Reading::NotUnderstood
        };
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let criticality = match allergy.text_of("criticality") {
        "high" => Criticality::High,
        "low" => Criticality::Low,
        _ => Criticality::Unspecified,
    };
    let categories: Vec<_> = allergy
        .get("category")
        .items()
        .iter()
        .map(Json::text)
        .collect();
    let forbidden = criticality == Criticality::High && categories.contains(&"medication");
    let section = if forbidden {
        SummarySection::Contraindication
    } else {
        SummarySection::Allergy
    };
    let mut item = new(place, section, &concept, recorded);
    let (start, end) = period(allergy.get("onsetPeriod"));
    let onset = first_date(allergy, &["onsetDateTime"]);
    item.start = if onset.is_empty() { start } else { onset };
    item.end = end;
    item.clinical_status = clinical_status(allergy.get("clinicalStatus")).into();
    item.verification_status = verification.into();
    item.criticality = criticality.into();
    item.details = details(allergy, &categories);
    Reading::Items(vec![item])
}

/// Whether a statement that there is none is made now, and for sure: one that is over, refuted or only
/// supposed is no statement of absence (INV-6).
fn is_held(clinical: ClinicalStatus, verification: VerificationStatus) -> bool {
    let over = matches!(
        clinical,
        ClinicalStatus::Inactive | ClinicalStatus::Resolved | ClinicalStatus::Remission
    );
    let unsure = matches!(
        verification,
        VerificationStatus::Unconfirmed
            | VerificationStatus::Refuted
            | VerificationStatus::EnteredInError
    );
    !over && !unsure
}

fn details(allergy: &Json<'_>, categories: &[&str]) -> Vec<ItemDetail> {
    let words = [
        text_detail("category", "区分", &categories.join(" ")),
        text_detail("type", "種類", allergy.text_of("type")),
    ];
    let reactions = allergy.get("reaction").items().iter().take(MAX_REACTIONS);
    let of_reaction = |reaction: &Json<'_>| {
        let manifestations = reaction
            .get("manifestation")
            .items()
            .iter()
            .take(MAX_REACTIONS);
        let mut details: Vec<_> = manifestations
            .filter_map(|found| concept_detail("reaction", "症状", &Concept::of(found)))
            .collect();
        details.extend(text_detail(
            "severity",
            "重症度",
            reaction.text_of("severity"),
        ));
        details.extend(text_detail(
            "description",
            "経過",
            reaction.text_of("description"),
        ));
        details
    };
    let note = text_detail("note", "備考", &notes(allergy));
    words
        .into_iter()
        .flatten()
        .chain(reactions.flat_map(of_reaction))
        .chain(note)
        .collect()
}

/// `AllergyIntolerance.clinicalStatus` and Condition.clinicalStatus.
pub(super) fn clinical_status(value: &Json<'_>) -> ClinicalStatus {
    match status(value) {
        "active" => ClinicalStatus::Active,
        "inactive" => ClinicalStatus::Inactive,
        "resolved" => ClinicalStatus::Resolved,
        "recurrence" | "relapse" => ClinicalStatus::Recurrence,
        "remission" => ClinicalStatus::Remission,
        _ => ClinicalStatus::Unspecified,
    }
}

/// `AllergyIntolerance.verificationStatus` and Condition.verificationStatus.
pub(super) fn verification_status(value: &Json<'_>) -> VerificationStatus {
    match status(value) {
        "confirmed" => VerificationStatus::Confirmed,
        "unconfirmed" | "provisional" | "differential" | "presumed" => {
            VerificationStatus::Unconfirmed
        }
        "refuted" => VerificationStatus::Refuted,
        "entered-in-error" => VerificationStatus::EnteredInError,
        _ => VerificationStatus::Unspecified,
    }
}
