//! Which section an Observation is of: by its code where it is one of a few, else by its category.

use crate::wire::pb::emergency::SummarySection;

use super::codes::{JLAC10, LOINC, system};
use super::elements::Concept;

/// Codes that tell the section, whatever the category says. A JLAC10 code is told by how it begins
/// (analyte, 5 characters); the analytes are from general knowledge, to be replaced by the national
/// table once that is loaded as data.
const BY_CODE: &[(&str, &str, SummarySection)] = &[
    // 感染症: HBs, HCV, HIV, 梅毒 (`spec` japan §4.3).
    (JLAC10, "5E07", SummarySection::Infection),
    (JLAC10, "5F01", SummarySection::Infection),
    (JLAC10, "5F36", SummarySection::Infection),
    (JLAC10, "5F50", SummarySection::Infection),
    (JLAC10, "5F51", SummarySection::Infection),
    (JLAC10, "5F52", SummarySection::Infection),
    (JLAC10, "5F53", SummarySection::Infection),
    (JLAC10, "5F54", SummarySection::Infection),
    (JLAC10, "5F55", SummarySection::Infection),
    (JLAC10, "5F56", SummarySection::Infection),
    (LOINC, "5195-3", SummarySection::Infection),
    (LOINC, "5196-1", SummarySection::Infection),
    (LOINC, "16128-1", SummarySection::Infection),
    (LOINC, "13955-0", SummarySection::Infection),
    (LOINC, "56888-1", SummarySection::Infection),
    (LOINC, "7917-8", SummarySection::Infection),
    (LOINC, "20507-0", SummarySection::Infection),
    (LOINC, "24312-1", SummarySection::Infection),
    // 血液型.
    (JLAC10, "5H010", SummarySection::BloodType),
    (JLAC10, "5H020", SummarySection::BloodType),
    (LOINC, "882-1", SummarySection::BloodType),
    (LOINC, "883-9", SummarySection::BloodType),
    (LOINC, "10331-7", SummarySection::BloodType),
    // 妊娠.
    (LOINC, "82810-3", SummarySection::Pregnancy),
    (LOINC, "11778-8", SummarySection::Pregnancy),
    (LOINC, "11779-6", SummarySection::Pregnancy),
    (LOINC, "49051-6", SummarySection::Pregnancy),
    // 身体計測, 血圧, 脈拍 of health checks.
    (JLAC10, "9A", SummarySection::Vital),
    (JLAC10, "9N001", SummarySection::Vital),
    (JLAC10, "9N006", SummarySection::Vital),
    (JLAC10, "9N011", SummarySection::Vital),
    (JLAC10, "9N016", SummarySection::Vital),
];

/// Observation.category, HL7 and JP Core.
const BY_CATEGORY: &[(&str, SummarySection)] = &[
    ("laboratory", SummarySection::Result),
    ("vital-signs", SummarySection::Vital),
    ("social-history", SummarySection::SocialHistory),
    ("functional-status", SummarySection::FunctionalStatus),
];

/// The section of an Observation; none if neither code nor category tells.
pub(super) fn section(code: &Concept, categories: &[Concept]) -> Option<SummarySection> {
    let known = |given_system: &str, value: &str| {
        let of = system(given_system);
        BY_CODE
            .iter()
            .find(|(table, begin, _)| {
                *table == of && (value == *begin || of == JLAC10 && value.starts_with(begin))
            })
            .map(|(_, _, section)| *section)
    };
    let by_code = code
        .codes
        .iter()
        .find_map(|coded| known(&coded.system, &coded.code));
    let by_category = || {
        BY_CATEGORY
            .iter()
            .find(|(name, _)| {
                categories
                    .iter()
                    .any(|category| category.has_code(&[*name]))
            })
            .map(|(_, section)| *section)
    };
    by_code.or_else(by_category)
}
