//! Allergies, contraindications, problems.

use crate::wire::pb::emergency::{
    ClinicalStatus, Criticality, SummaryItem, SummarySection, VerificationStatus,
};

use super::super::text::{self, join};
use super::elements::{date_time, detail, details, known, reference, value_concept};
use super::json::{Json, list, object, text as string};
use super::resources::{Around, Members, body_sites, head, named, notes, recorded, status};

pub(super) fn allergy(item: &SummaryItem, around: Around<'_>) -> Members {
    // ait-1 asks for a status; what is not stated to be over is current, as in the merge.
    let clinical = match item.clinical_status() {
        ClinicalStatus::Inactive | ClinicalStatus::Remission | ClinicalStatus::OnHold => "inactive",
        ClinicalStatus::Resolved => "resolved",
        ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
            "active"
        }
    };
    let verified = verification(item);
    let categories = detail(item, "category");
    let allowed = ["food", "medication", "environment", "biologic"];
    let categories = categories.split(' ').filter(|one| allowed.contains(one));
    let criticality = match item.criticality() {
        Criticality::High => "high",
        Criticality::Low => "low",
        Criticality::Unspecified => "",
    };
    let kind = detail(item, "type");
    let kind = ["allergy", "intolerance"]
        .into_iter()
        .find(|one| *one == kind);
    let mut members = head("AllergyIntolerance", "AllergyIntolerance-uv-ips", item);
    members.extend([
        (
            "clinicalStatus",
            known(
                "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                clinical,
                "",
            ),
        ),
        (
            "verificationStatus",
            status(
                "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
                verified,
            ),
        ),
        ("type", string(kind.unwrap_or_default())),
        ("category", list(categories.map(string))),
        ("criticality", string(criticality)),
        ("code", named(item)),
        ("patient", reference(around.patient)),
        ("onsetDateTime", date_time(&item.start)),
        ("recordedDate", recorded(item)),
        ("note", notes(item, around)),
        ("reaction", list([reaction(item)])),
    ]);
    members
}

/// All that is said about how the patient reacted, as one reaction: which symptom was of which
/// occasion the summary does not keep.
fn reaction(item: &SummaryItem) -> Json {
    let mut symptoms: Vec<_> = details(item, "reaction").map(value_concept).collect();
    let course = join(details(item, "description").map(text::bare), "; ");
    if symptoms.is_empty() && !course.is_empty() {
        symptoms.push(object([("text", string(&course))]));
    }
    if symptoms.is_empty() {
        return Json::None;
    }
    let mut severities = details(item, "severity").map(text::bare);
    let severity = severities.next().filter(|_| severities.next().is_none());
    let severity = severity.unwrap_or_default();
    let severity = ["mild", "moderate", "severe"]
        .into_iter()
        .find(|one| *one == severity);
    object([
        ("manifestation", list(symptoms)),
        ("description", string(course)),
        ("severity", string(severity.unwrap_or_default())),
    ])
}

fn verification(item: &SummaryItem) -> &'static str {
    match item.verification_status() {
        VerificationStatus::Confirmed => "confirmed",
        VerificationStatus::Unconfirmed => "unconfirmed",
        VerificationStatus::Refuted => "refuted",
        VerificationStatus::EnteredInError => "entered-in-error",
        VerificationStatus::Unspecified | VerificationStatus::PatientStated => "",
    }
}

pub(super) fn condition(item: &SummaryItem, around: Around<'_>) -> Members {
    let past = item.section() == SummarySection::PastProblem;
    // con-3 asks for a status of what is on a problem list.
    let clinical = match item.clinical_status() {
        ClinicalStatus::Unspecified if past => "inactive",
        ClinicalStatus::Unspecified | ClinicalStatus::Active => "active",
        ClinicalStatus::Inactive | ClinicalStatus::OnHold => "inactive",
        ClinicalStatus::Resolved => "resolved",
        ClinicalStatus::Recurrence => "recurrence",
        ClinicalStatus::Remission => "remission",
    };
    // con-4: what is active has no end.
    let ended = ["inactive", "resolved", "remission"].contains(&clinical);
    let end = if ended {
        date_time(&item.end)
    } else {
        Json::None
    };
    let mut members = head("Condition", "Condition-uv-ips", item);
    members.extend([
        (
            "clinicalStatus",
            known(
                "http://terminology.hl7.org/CodeSystem/condition-clinical",
                clinical,
                "",
            ),
        ),
        (
            "verificationStatus",
            status(
                "http://terminology.hl7.org/CodeSystem/condition-ver-status",
                verification(item),
            ),
        ),
        (
            "category",
            list([known(
                "http://terminology.hl7.org/CodeSystem/condition-category",
                "problem-list-item",
                "Problem List Item",
            )]),
        ),
        (
            "severity",
            details(item, "severity")
                .next()
                .map_or(Json::None, value_concept),
        ),
        ("code", named(item)),
        ("bodySite", body_sites(item)),
        ("subject", reference(around.patient)),
        ("onsetDateTime", date_time(&item.start)),
        ("abatementDateTime", end),
        ("recordedDate", recorded(item)),
        ("note", notes(item, around)),
    ]);
    members
}
