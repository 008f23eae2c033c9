//! Condition: 傷病名 and 既往歴.

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::{ClinicalStatus, ItemDetail, SummarySection, VerificationStatus};

use super::allergy::{clinical_status, verification_status};
use super::bundle::{Place, Reading};
use super::codes;
use super::elements::{Concept, concept_detail, first_date, period, text_detail};
use super::item::{absence, new, notes, restrict};
use super::json::Json;
use super::section::Filing;

/// Modifiers of one diagnosis; the claim system allows twenty.
const MAX_MODIFIERS: usize = 20;
/// 修飾語 の疑い of the national table.
const SUSPECTED: &str = "8002";

/// Reads a Condition.
///
/// It is past if it is inactive or resolved, or filed under 既往歴. A suffix の疑い makes it
/// unconfirmed, whatever its verification status says. Refuted ones are kept and marked.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let condition = place.resource;
    let stated = verification_status(condition.get("verificationStatus"));
    if stated == VerificationStatus::EnteredInError {
        return Reading::Nothing;
    }
    let mut concept = Concept::of(condition.get("code"));
    let recorded = first_date(condition, &["recordedDate"]);
    if let Some(absent) = absence(place, SummarySection::Problem, &concept, recorded.clone()) {
        let refuted = stated == VerificationStatus::Refuted;
        return if refuted {
            Reading::NotUnderstood
        } else {
            absent
        };
    }
    if concept.is_empty() {
        return Reading::NotUnderstood;
    }
    let before = modifiers(condition, "PrefixModifier");
    let after = modifiers(condition, "PostfixModifier");
    concept.text = full_name(&concept.display(), &before, &after);
    let suspected = after
        .iter()
        .any(|modifier| modifier.has_code(&[SUSPECTED]) || modifier.display().ends_with("疑い"));
    let (start, end) = course(condition);
    let clinical = match clinical_status(condition.get("clinicalStatus")) {
        ClinicalStatus::Unspecified if !end.is_empty() => ClinicalStatus::Resolved,
        stated => stated,
    };
    let over = [ClinicalStatus::Inactive, ClinicalStatus::Resolved].contains(&clinical);
    let filed = Filing::Section(SummarySection::PastProblem);
    let section = if over || place.filings().contains(&filed) {
        SummarySection::PastProblem
    } else {
        SummarySection::Problem
    };
    let mut item = new(place, section, &concept, recorded);
    item.start = start;
    item.end = end;
    item.clinical_status = clinical.into();
    item.verification_status = match stated {
        VerificationStatus::Confirmed | VerificationStatus::Unspecified if suspected => {
            VerificationStatus::Unconfirmed.into()
        }
        stated => stated.into(),
    };
    item.details = details(condition, &before, &after);
    if codes::restricted_diagnosis(&item.codes) {
        restrict(&mut item, Confidentiality::Restricted);
    }
    Reading::Items(vec![item])
}

/// Onset and abatement.
fn course(condition: &Json<'_>) -> (String, String) {
    let onset = first_date(condition, &["onsetDateTime"]);
    let abatement = first_date(condition, &["abatementDateTime"]);
    let (from, _) = period(condition.get("onsetPeriod"));
    let (begun, ended) = period(condition.get("abatementPeriod"));
    let end = [abatement, ended, begun]
        .into_iter()
        .find(|date| !date.is_empty());
    (
        if onset.is_empty() { from } else { onset },
        end.unwrap_or_default(),
    )
}

/// 病名修飾語, on the code as JP Core has it, or on the Condition.
fn modifiers(condition: &Json<'_>, kind: &str) -> Vec<Concept> {
    let on_code = condition.get("code").get("extension").items().iter();
    on_code
        .chain(condition.get("extension").items())
        .filter(|extension| {
            let url = extension.text_of("url");
            url.contains(kind) && url.contains("Disease")
        })
        .map(|extension| Concept::of(extension.get("valueCodeableConcept")))
        .filter(|concept| !concept.is_empty())
        .take(MAX_MODIFIERS)
        .collect()
}

/// The name with its modifiers, unless the text has them already.
fn full_name(name: &str, before: &[Concept], after: &[Concept]) -> String {
    let missing = |modifiers: &[Concept]| -> String {
        let texts = modifiers.iter().map(Concept::display);
        texts.filter(|text| !name.contains(text.as_str())).collect()
    };
    format!("{}{name}{}", missing(before), missing(after))
}

fn details(condition: &Json<'_>, before: &[Concept], after: &[Concept]) -> Vec<ItemDetail> {
    let prefixes = before
        .iter()
        .filter_map(|of| concept_detail("prefix-modifier", "修飾語", of));
    let suffixes = after
        .iter()
        .filter_map(|of| concept_detail("postfix-modifier", "修飾語", of));
    let sites = condition.get("bodySite").items().iter().take(4);
    let sites = sites.filter_map(|site| concept_detail("body-site", "部位", &Concept::of(site)));
    let severity = concept_detail(
        "severity",
        "重症度",
        &Concept::of(condition.get("severity")),
    );
    let note = text_detail("note", "備考", &notes(condition));
    prefixes
        .chain(suffixes)
        .chain(sites)
        .chain(severity)
        .chain(note)
        .collect()
}
