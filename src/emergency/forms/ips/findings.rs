//! Results, procedures, what the patient is able to.

use crate::wire::pb::emergency::{ClinicalStatus, SummaryItem, VerificationStatus};

use super::super::text::{self, join};
use super::elements::{details, judged, reference, value, value_concept, when};
use super::json::{Json, list, text as string};
use super::resources::{
    Around, CATEGORY, EFFECTIVE, Members, PERFORMED, body_sites, head, named, notes, status,
};

pub(super) fn observation(item: &SummaryItem, around: Around<'_>, category: &str) -> Members {
    let preliminary = item.verification_status() == VerificationStatus::Unconfirmed;
    let laboratory = category == "laboratory";
    let profile = match laboratory {
        true => "Observation-results-laboratory-pathology-uv-ips",
        false => "",
    };
    let performers = around.performers.iter().map(|one| reference(one));
    let said = item.value.clone().unwrap_or_default();
    let mut members = head("Observation", profile, item);
    members.extend([
        (
            "status",
            string(if preliminary { "preliminary" } else { "final" }),
        ),
        ("category", list([status(CATEGORY, category)])),
        ("code", named(item)),
        ("subject", reference(around.patient)),
        when(&EFFECTIVE, item),
        ("performer", list(performers)),
        value(&said),
    ]);
    members.extend(judged(&said));
    members.push(("note", notes(item, around)));
    members
}

pub(super) fn procedure(item: &SummaryItem, around: Around<'_>) -> Members {
    let status = match item.clinical_status() {
        ClinicalStatus::Resolved => "completed",
        ClinicalStatus::Active | ClinicalStatus::Recurrence => "in-progress",
        ClinicalStatus::OnHold => "on-hold",
        ClinicalStatus::Inactive | ClinicalStatus::Remission => "stopped",
        ClinicalStatus::Unspecified => "unknown",
    };
    let outcome = details(item, "outcome").next();
    let mut members = head("Procedure", "Procedure-uv-ips", item);
    members.extend([
        ("status", string(status)),
        ("code", named(item)),
        ("subject", reference(around.patient)),
        when(&PERFORMED, item),
        ("bodySite", body_sites(item)),
        ("outcome", outcome.map_or(Json::None, value_concept)),
        ("note", notes(item, around)),
    ]);
    members
}

/// The section of functional status takes no Observation: a `ClinicalImpression` has it in words.
pub(super) fn impression(item: &SummaryItem, around: Around<'_>) -> Members {
    let said = item.value.as_ref().map(text::value).unwrap_or_default();
    let summary = join([text::display(item, around.language), said], ": ");
    let mut members = head("ClinicalImpression", "", item);
    members.extend([
        ("status", string("completed")),
        ("code", named(item)),
        ("subject", reference(around.patient)),
        when(&EFFECTIVE, item),
        ("summary", string(summary)),
        ("note", notes(item, around)),
    ]);
    members
}
