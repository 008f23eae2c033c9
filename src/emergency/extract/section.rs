//! Sections of a Composition: what is filed where, and what is stated to be empty.

use std::collections::HashMap;

use crate::wire::pb::common::CodedValue;
use crate::wire::pb::emergency::{AbsenceReason, AbsenceStatement, ItemSource, SummarySection};

use super::MAX_ITEMS;
use super::codes::{LOINC, system};
use super::elements::{Concept, coding};
use super::json::Json;

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filing {
    /// A section of the summary.
    Section(SummarySection),
    /// Of relatives, not of the patient.
    FamilyHistory,
}

/// LOINC codes of sections: IPS, C-CDA, HL7J-CDA.
const LOINC_SECTIONS: &[(&str, Filing)] = &[
    ("104605-1", Filing::Section(SummarySection::Alert)),
    ("48765-2", Filing::Section(SummarySection::Allergy)),
    ("11450-4", Filing::Section(SummarySection::Problem)),
    ("10160-0", Filing::Section(SummarySection::Medication)),
    ("30954-2", Filing::Section(SummarySection::Result)),
    ("47519-4", Filing::Section(SummarySection::Procedure)),
    ("46264-8", Filing::Section(SummarySection::Device)),
    ("18776-5", Filing::Section(SummarySection::Care)),
    ("8716-3", Filing::Section(SummarySection::Vital)),
    ("42348-3", Filing::Section(SummarySection::AdvanceDirective)),
    ("11348-0", Filing::Section(SummarySection::PastProblem)),
    ("47420-5", Filing::Section(SummarySection::FunctionalStatus)),
    ("10162-6", Filing::Section(SummarySection::Pregnancy)),
    ("11369-6", Filing::Section(SummarySection::Immunization)),
    ("29762-2", Filing::Section(SummarySection::SocialHistory)),
    ("10157-6", Filing::FamilyHistory),
];

/// Codes of `http://jpfhir.jp/fhir/clins/CodeSystem/document-section` (`spec` japan §4.2).
const CLINS_SECTIONS: &[(&str, Filing)] = &[
    ("340", Filing::Section(SummarySection::Problem)),
    ("342", Filing::Section(SummarySection::Problem)),
    ("360", Filing::Section(SummarySection::Problem)),
    ("370", Filing::Section(SummarySection::PastProblem)),
    ("410", Filing::Section(SummarySection::AdvanceDirective)),
    ("430", Filing::Section(SummarySection::Medication)),
    ("444", Filing::Section(SummarySection::Medication)),
    ("510", Filing::Section(SummarySection::Allergy)),
    ("520", Filing::Section(SummarySection::Infection)),
    ("530", Filing::Section(SummarySection::Immunization)),
    ("550", Filing::FamilyHistory),
    ("620", Filing::Section(SummarySection::Result)),
    ("640", Filing::Section(SummarySection::SocialHistory)),
    ("730", Filing::Section(SummarySection::Procedure)),
    ("810", Filing::Section(SummarySection::Device)),
];

/// What the section with this code is about.
pub(super) fn filing(given_system: &str, code: &str) -> Option<Filing> {
    let table = if system(given_system) == LOINC {
        LOINC_SECTIONS
    } else if given_system.ends_with("/document-section") {
        CLINS_SECTIONS
    } else {
        return None;
    };
    table
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, filing)| *filing)
}

/// What the sections of a Composition say.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// By reference as given, where it is filed.
    filed: HashMap<String, Vec<Filing>>,
    /// Sections that are empty for a stated reason.
    empty: Vec<(SummarySection, AbsenceReason, CodedValue)>,
}

impl Sections {
    /// Reads the sections of `composition`, nested ones too; JSON bounds the depth.
    pub(super) fn of(composition: &Json<'_>) -> Self {
        let mut sections = Self::default();
        sections.read(composition.get("section").items(), None);
        sections
    }

    fn read(&mut self, list: &[Json<'_>], outer: Option<Filing>) {
        for section in list {
            let codings = section.get("code").get("coding").items();
            let here = codings
                .iter()
                .filter_map(coding)
                .find_map(|code| filing(&code.system, &code.code))
                .or(outer);
            if let Some(here) = here {
                self.file(section, here);
            }
            self.read(section.get("section").items(), here);
        }
    }

    fn file(&mut self, section: &Json<'_>, here: Filing) {
        let entries = section.get("entry").items();
        for entry in entries {
            let filed = self
                .filed
                .entry(entry.text_of("reference").to_owned())
                .or_default();
            if !filed.contains(&here) {
                filed.push(here);
            }
        }
        let Filing::Section(summary_section) = here else {
            return;
        };
        let why = Concept::of(section.get("emptyReason"));
        // A reason beside entries contradicts itself (cmp-2): the entries count.
        if let Some((reason, code)) = reason(why).filter(|_| entries.is_empty()) {
            self.empty.push((summary_section, reason, code));
        }
    }

    /// Where the resource with these addresses is filed.
    pub(super) fn filings(&self, addresses: &[&str]) -> Vec<Filing> {
        addresses
            .iter()
            .filter_map(|address| self.filed.get(*address))
            .flatten()
            .copied()
            .collect()
    }

    /// The absences that empty sections state.
    pub(super) fn absences(&self, source: &ItemSource) -> Vec<AbsenceStatement> {
        let statement = |(section, reason, code): &(SummarySection, AbsenceReason, CodedValue)| {
            AbsenceStatement {
                section: (*section).into(),
                reason: (*reason).into(),
                codes: vec![code.clone()],
                sources: vec![source.clone()],
                home_community_ids: Vec::new(),
            }
        };
        self.empty.iter().take(MAX_ITEMS).map(statement).collect()
    }
}

/// A reason of `http://terminology.hl7.org/CodeSystem/list-empty-reason`, with its code.
fn reason(why: Concept) -> Option<(AbsenceReason, CodedValue)> {
    why.codes.into_iter().find_map(|code| {
        let reason = match code.code.as_str() {
            "nilknown" => AbsenceReason::StatedNone,
            "unavailable" | "notasked" => AbsenceReason::Unknown,
            "withheld" => AbsenceReason::Withheld,
            _ => return None,
        };
        Some((reason, code))
    })
}
