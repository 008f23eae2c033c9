//! Items of the summary as FHIR R4 resources, in the profiles of IPS 2.0.1 where there is one.

use crate::wire::pb::emergency::{SummaryItem, SummarySection, VerificationStatus};

use super::super::text;
use super::super::words::{self, Language};
use super::elements::{Choice, concept, date_time, details, known, meta, value_concept};
use super::json::{Json, list, object, text as string};
use super::{care, clinical, drugs, findings};

pub(super) const EFFECTIVE: Choice = Choice {
    date: "effectiveDateTime",
    absent: "_effectiveDateTime",
    period: "effectivePeriod",
};
pub(super) const PERFORMED: Choice = Choice {
    date: "performedDateTime",
    absent: "_performedDateTime",
    period: "performedPeriod",
};
pub(super) const TIMING: Choice = Choice {
    date: "timingDateTime",
    absent: "_timingDateTime",
    period: "timingPeriod",
};
pub(super) const CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

/// What resources refer to.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Address of the Patient.
    pub(super) patient: &'a str,
    /// Addresses of the Organizations that the item is from.
    pub(super) performers: &'a [String],
    /// Address of the Device, if the item is one.
    pub(super) device: &'a str,
    pub(super) language: Language,
    /// Remark about a contradiction; empty if there is none.
    pub(super) remark: &'a str,
}

pub(super) type Members = Vec<(&'static str, Json)>;

/// The resource that `item` is an entry of its section by; none for what is in the narrative only.
pub(super) fn resource(item: &SummaryItem, around: Around<'_>) -> Option<Json> {
    use SummarySection as S;
    let members = match item.section() {
        S::Allergy | S::Contraindication => clinical::allergy(item, around),
        S::Problem | S::PastProblem => clinical::condition(item, around),
        S::Medication => drugs::medication(item, around),
        S::Dispense => drugs::dispense(item, around),
        S::Result | S::Infection | S::BloodType => {
            findings::observation(item, around, "laboratory")
        }
        S::Vital => findings::observation(item, around, "vital-signs"),
        S::SocialHistory => findings::observation(item, around, "social-history"),
        S::Pregnancy => findings::observation(item, around, ""),
        S::Procedure => findings::procedure(item, around),
        S::Device => care::device_use(item, around),
        S::Alert => return care::flag(item, around),
        S::Immunization => drugs::immunization(item, around),
        S::AdvanceDirective => care::directive(item, around),
        S::Care => care::care_plan(item, around),
        S::FunctionalStatus => findings::impression(item, around),
        S::Unspecified
        | S::Contact
        | S::Encounter
        | S::Document
        | S::CareTeam
        | S::Communication
        | S::Checkup => return None,
    };
    Some(object(members))
}

/// Whether what is in `section` becomes an Observation.
pub(super) fn is_observed(section: SummarySection) -> bool {
    use SummarySection as S;
    matches!(
        section,
        S::Result | S::Infection | S::BloodType | S::Vital | S::SocialHistory | S::Pregnancy
    )
}

pub(super) fn head(kind: &str, profile: &str, item: &SummaryItem) -> Members {
    vec![
        ("resourceType", string(kind)),
        (
            "meta",
            meta(profile, item.confidentiality(), &item.national_flags),
        ),
    ]
}

/// What it is, as `CodeableConcept`.
pub(super) fn named(item: &SummaryItem) -> Json {
    concept(&item.codes, &item.display)
}

/// Remarks: the contradiction, the word of patient or family, notes of the source.
pub(super) fn notes(item: &SummaryItem, around: Around<'_>) -> Json {
    let stated = item.verification_status() == VerificationStatus::PatientStated;
    let stated = stated.then(|| words::verification(VerificationStatus::PatientStated));
    let stated = stated.flatten().map(|words| words.both(around.language));
    let said = ["note", "approval"]
        .into_iter()
        .flat_map(|name| details(item, name));
    let said = said.map(text::bare);
    let all = std::iter::once(around.remark.to_owned())
        .chain(stated)
        .chain(said);
    list(all.map(|note| object([("text", string(note))])))
}

/// When the newest source wrote it down.
pub(super) fn recorded(item: &SummaryItem) -> Json {
    let dates = item
        .sources
        .iter()
        .map(|source| date_time(&source.recorded));
    dates
        .into_iter()
        .find(|date| *date != Json::None)
        .unwrap_or(Json::None)
}

pub(super) fn body_sites(item: &SummaryItem) -> Json {
    list(details(item, "body-site").map(value_concept))
}

pub(super) fn status(system: &str, code: &str) -> Json {
    match code {
        "" => Json::None,
        code => known(system, code, ""),
    }
}
