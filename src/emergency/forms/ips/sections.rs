//! The sections of an International Patient Summary, as data (IPS 2.0.1).

use crate::wire::pb::emergency::SummarySection;

use super::super::words::{self, Words, words};

/// Code system of sections that the IPS does not know; unknown sections are allowed.
pub(super) const LOCAL: &str = "urn:renkei:summary-section";
pub(super) const LOINC: &str = "http://loinc.org";

/// A section of the document.
pub(super) struct Section {
    pub(super) system: &'static str,
    pub(super) code: &'static str,
    /// What its code is called in its system.
    pub(super) display: &'static str,
    pub(super) title: Words,
    /// What of the summary goes into it.
    pub(super) of: &'static [SummarySection],
    /// There even when there is nothing to say.
    pub(super) required: bool,
    /// By which codes a source says that there is none; none if there is no such code.
    pub(super) none: Option<Absent>,
}

/// A resource that states absence: SNOMED CT code and its name.
#[derive(Clone, Copy)]
pub(super) struct Absent {
    pub(super) code: &'static str,
    pub(super) display: &'static str,
}

const fn section(
    code: &'static str,
    display: &'static str,
    title: Words,
    of: &'static [SummarySection],
) -> Section {
    Section {
        system: LOINC,
        code,
        display,
        title,
        of,
        required: false,
        none: None,
    }
}

const fn local(code: &'static str, of: SummarySection, list: &'static [SummarySection]) -> Section {
    Section {
        system: LOCAL,
        ..section(code, "", words::section(of), list)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "made to be made into another"
)]
const fn none(section: Section, code: &'static str, display: &'static str) -> Section {
    Section {
        none: Some(Absent { code, display }),
        ..section
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "made to be made into another"
)]
const fn required(section: Section) -> Section {
    Section {
        required: true,
        ..section
    }
}

use SummarySection as S;

/// All sections, in the order of the document: what kills first.
pub(super) const SECTIONS: &[Section] = &[
    required(none(
        section(
            "48765-2",
            "Allergies and adverse reactions Document",
            words("アレルギー・薬剤禁忌", "Allergies and intolerances"),
            &[S::Contraindication, S::Allergy],
        ),
        "716186003",
        "No known allergy",
    )),
    section("104605-1", "Alert", words::section(S::Alert), &[S::Alert]),
    required(none(
        section(
            "11450-4",
            "Problem list - Reported",
            words::section(S::Problem),
            &[S::Problem],
        ),
        "160245001",
        "No current problems or disability",
    )),
    required(none(
        section(
            "10160-0",
            "History of Medication use Narrative",
            words("処方・調剤", "Medication summary"),
            &[S::Medication, S::Dispense],
        ),
        "787481004",
        "No known medications",
    )),
    none(
        section(
            "46264-8",
            "History of medical device use",
            words::section(S::Device),
            &[S::Device],
        ),
        "787483001",
        "No known device use",
    ),
    section(
        "18776-5",
        "Plan of care note",
        words::section(S::Care),
        &[S::Care],
    ),
    section(
        "10162-6",
        "History of pregnancies Narrative",
        words::section(S::Pregnancy),
        &[S::Pregnancy],
    ),
    section(
        "30954-2",
        "Relevant diagnostic tests/laboratory data note",
        words("検査結果・感染症・血液型", "Results"),
        &[S::Result, S::Infection, S::BloodType],
    ),
    none(
        section(
            "47519-4",
            "History of Procedures Document",
            words::section(S::Procedure),
            &[S::Procedure],
        ),
        "787480003",
        "No known procedures",
    ),
    section(
        "8716-3",
        "Vital signs note",
        words::section(S::Vital),
        &[S::Vital],
    ),
    section(
        "47420-5",
        "Functional status assessment note",
        words::section(S::FunctionalStatus),
        &[S::FunctionalStatus],
    ),
    section(
        "42348-3",
        "Advance healthcare directives",
        words::section(S::AdvanceDirective),
        &[S::AdvanceDirective],
    ),
    section(
        "11348-0",
        "History of Past illness note",
        words::section(S::PastProblem),
        &[S::PastProblem],
    ),
    none(
        section(
            "11369-6",
            "History of Immunization note",
            words::section(S::Immunization),
            &[S::Immunization],
        ),
        "787482006",
        "No known immunizations",
    ),
    section(
        "29762-2",
        "Social history note",
        words::section(S::SocialHistory),
        &[S::SocialHistory],
    ),
    local("contacts", S::Contact, &[S::Contact]),
    local("care-team", S::CareTeam, &[S::CareTeam]),
    local("visits", S::Encounter, &[S::Encounter]),
    local("communication", S::Communication, &[S::Communication]),
    local("check-ups", S::Checkup, &[S::Checkup]),
    local("other", S::Unspecified, &[S::Document, S::Unspecified]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_its_place() {
        for number in 0..=25 {
            let section = S::try_from(number).unwrap();
            let places = SECTIONS.iter().filter(|one| one.of.contains(&section));
            assert_eq!(places.count(), 1, "{section:?}");
        }
        let required = SECTIONS.iter().filter(|one| one.required);
        let codes: Vec<_> = required.map(|one| one.code).collect();
        assert_eq!(codes, ["48765-2", "11450-4", "10160-0"]);
    }
}
