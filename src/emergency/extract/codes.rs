//! Code systems and the few codes that mean something to us, as data.
//!
//! Everything else passes through as given. Code systems are compared after [`system`], as the
//! same one is written as URL, as `urn:oid:` and as bare OID.

use crate::wire::pb::common::CodedValue;
use crate::wire::pb::emergency::{AbsenceReason, SummarySection};

/// Units of measure.
pub(super) const UCUM: &str = "http://unitsofmeasure.org";
pub(super) const SNOMED: &str = "http://snomed.info/sct";
pub(super) const LOINC: &str = "http://loinc.org";
pub(super) const ICD10: &str = "http://hl7.org/fhir/sid/icd-10";
pub(super) const JLAC10: &str = "urn:oid:1.2.392.200119.4.504";
pub(super) const ATC: &str = "http://www.whocc.no/atc";
const ABSENT_UNKNOWN: &str = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips";

/// Other spellings of a code system. JP Core and JP-CLINS, HL7 OID registry, SS-MIX2.
const SYSTEMS: &[(&str, &str)] = &[
    ("2.16.840.1.113883.6.96", SNOMED),
    ("2.16.840.1.113883.6.1", LOINC),
    ("2.16.840.1.113883.6.3", ICD10),
    (
        "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full",
        ICD10,
    ),
    ("1.2.392.200119.4.504", JLAC10),
    (
        "http://medis.or.jp/CodeSystem/master-JLAC10-17digits",
        JLAC10,
    ),
    ("http://medis.or.jp/CodeSystem/master-JLAC10", JLAC10),
    ("2.16.840.1.113883.6.73", ATC),
    (
        "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown",
        ABSENT_UNKNOWN,
    ),
    (
        "1.2.392.100495.20.1.73",
        "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code",
    ),
    (
        "1.2.392.200119.4.403.1",
        "http://medis.or.jp/CodeSystem/master-HOT9",
    ),
];

/// The one spelling of a code system that we compare by.
pub(in crate::emergency) fn system(given: &str) -> &str {
    let bare = given.strip_prefix("urn:oid:").unwrap_or(given);
    SYSTEMS
        .iter()
        .find(|(other, _)| *other == bare)
        .map_or(given, |(_, ours)| *ours)
}

/// Whether the displays of a system are English as its maintainer wrote them.
pub(super) fn is_english(given: &str) -> bool {
    [SNOMED, LOINC].contains(&system(given))
}

/// Codes that say “there is no code”: MEDIS `99999999` and `0000999`, JLAC10 of 17 nines, JP-CLINS
/// `NOCODED`. Two of them never mean the same thing.
pub(in crate::emergency) fn says_uncoded(code: &str) -> bool {
    let nines = code.len() >= 7 && code.bytes().all(|byte| byte == b'9');
    nines || ["0000999", "0000000"].contains(&code) || code.eq_ignore_ascii_case("nocoded")
}

/// What two codes are compared by: system and code; none if it says nothing.
pub(in crate::emergency) fn key(code: &CodedValue) -> Option<(String, String)> {
    if code.code.is_empty() || says_uncoded(&code.code) {
        return None;
    }
    let system = system(&code.system);
    let value = match system {
        // `I48.0` and `I480` are one code.
        ICD10 => code.code.replace('.', ""),
        _ => code.code.clone(),
    };
    Some((system.to_owned(), value))
}

/// A code that states absence instead of naming something. IPS 2.0, and absent-unknown of IPS 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emergency) struct Absent {
    code: &'static str,
    /// None: the section that the resource would be of.
    pub(in crate::emergency) section: Option<SummarySection>,
    pub(in crate::emergency) reason: AbsenceReason,
    /// `AllergyIntolerance.category` that it is about; empty for all.
    pub(in crate::emergency) category: &'static str,
}

const fn none(code: &'static str, section: SummarySection, category: &'static str) -> Absent {
    Absent {
        code,
        section: Some(section),
        reason: AbsenceReason::StatedNone,
        category,
    }
}

const fn unknown(code: &'static str, section: SummarySection) -> Absent {
    Absent {
        code,
        section: Some(section),
        reason: AbsenceReason::Unknown,
        category: "",
    }
}

const ABSENT: &[Absent] = &[
    none("716186003", SummarySection::Allergy, ""),
    none("409137002", SummarySection::Allergy, "medication"),
    none("429625007", SummarySection::Allergy, "food"),
    none("428607008", SummarySection::Allergy, "environment"),
    none("787481004", SummarySection::Medication, ""),
    none("160245001", SummarySection::Problem, ""),
    none("787480003", SummarySection::Procedure, ""),
    none("787482006", SummarySection::Immunization, ""),
    none("787483001", SummarySection::Device, ""),
    none("no-known-allergies", SummarySection::Allergy, ""),
    none(
        "no-known-medication-allergies",
        SummarySection::Allergy,
        "medication",
    ),
    none("no-known-food-allergies", SummarySection::Allergy, "food"),
    none(
        "no-known-environmental-allergies",
        SummarySection::Allergy,
        "environment",
    ),
    none("no-known-medications", SummarySection::Medication, ""),
    none("no-known-problems", SummarySection::Problem, ""),
    none("no-known-procedures", SummarySection::Procedure, ""),
    none("no-known-immunizations", SummarySection::Immunization, ""),
    none("no-known-devices", SummarySection::Device, ""),
    unknown("no-allergy-info", SummarySection::Allergy),
    unknown("no-medication-info", SummarySection::Medication),
    unknown("no-problem-info", SummarySection::Problem),
    unknown("no-procedure-info", SummarySection::Procedure),
    unknown("no-immunization-info", SummarySection::Immunization),
    unknown("no-device-info", SummarySection::Device),
    Absent {
        code: "1287211007",
        section: None,
        reason: AbsenceReason::Unknown,
        category: "",
    },
];

/// What `code` states to be absent, if that is what it does.
pub(in crate::emergency) fn absent(code: &CodedValue) -> Option<Absent> {
    let known = [SNOMED, ABSENT_UNKNOWN].contains(&system(&code.system));
    ABSENT
        .iter()
        .find(|absent| known && absent.code == code.code)
        .copied()
}

/// What the codes of a denial limit it to, in Japanese and English; none if it is of everything. A
/// denial of one kind must never read as one of all.
pub(in crate::emergency) fn scope_words(
    codes: &[CodedValue],
) -> Option<(&'static str, &'static str)> {
    match codes.iter().find_map(absent)?.category {
        "medication" => Some(("薬剤アレルギーのみ", "drug allergies only")),
        "food" => Some(("食物アレルギーのみ", "food allergies only")),
        "environment" => Some(("環境アレルギーのみ", "environmental allergies only")),
        _ => None,
    }
}

/// ICD-10 of what is restricted by default: mental disorders without dementia, delirium and
/// developmental disorders; venereal disease; HIV; abortion. Categories of three characters, from
/// and to, both included (`spec` japan §3.4).
const RESTRICTED_ICD10: &[(&str, &str)] = &[
    ("A50", "A64"),
    ("B20", "B24"),
    ("F10", "F69"),
    ("F90", "F99"),
    ("O03", "O06"),
    ("Z21", "Z21"),
];

/// Whether a diagnosis is restricted by default.
pub(super) fn restricted_diagnosis(codes: &[CodedValue]) -> bool {
    codes
        .iter()
        .filter(|code| system(&code.system) == ICD10)
        .filter_map(|code| code.code.get(..3))
        .any(|category| {
            RESTRICTED_ICD10
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&category))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(system: &str, code: &str) -> CodedValue {
        CodedValue {
            code: code.to_owned(),
            system: system.to_owned(),
            ..CodedValue::default()
        }
    }

    #[test]
    fn spellings_of_a_system_are_one() {
        let url = code(
            "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full",
            "I48.0",
        );
        for other in [
            "2.16.840.1.113883.6.3",
            "urn:oid:2.16.840.1.113883.6.3",
            ICD10,
        ] {
            assert_eq!(key(&code(other, "I480")), key(&url));
        }
        assert_ne!(key(&code("urn:oid:1.2.3", "I480")), key(&url));
    }

    #[test]
    fn codes_for_uncoded_are_no_keys() {
        for value in ["99999999", "99999999999999999", "0000999", "NOCODED", ""] {
            assert_eq!(key(&code("x", value)), None);
        }
        assert!(key(&code("x", "999")).is_some());
    }

    #[test]
    fn restricted_diagnoses() {
        for (value, restricted) in [
            ("F329", true),
            ("F03", false),
            ("B24", true),
            ("I480", false),
            ("A539", true),
            ("精神", false),
        ] {
            assert_eq!(
                restricted_diagnosis(&[code(ICD10, value)]),
                restricted,
                "{value}"
            );
        }
    }
}
