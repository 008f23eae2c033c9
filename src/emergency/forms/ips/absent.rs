//! What is not there: resources for what sources state to be absent, reasons for the rest.

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::{AbsenceReason, AbsenceStatement};

use super::super::super::extract::codes;
use super::super::Whole;
use super::super::gaps::Nothing;
use super::super::text;
use super::super::words::{self, Words};
use super::Document;
use super::elements::{known, meta, not_known, reference};
use super::json::{Json, list, object, text as string, verbatim};
use super::sections::Section;

const EMPTY: &str = "http://terminology.hl7.org/CodeSystem/list-empty-reason";
const SNOMED: &str = "http://snomed.info/sct";

impl Document<'_> {
    /// Resources for what sources state to be absent. A general statement beside items that it
    /// contradicts stays in the narrative.
    pub(super) fn absences(
        &mut self,
        section: &'static Section,
        nothing_else: bool,
    ) -> Vec<String> {
        let Some(general) = section.none else {
            return Vec::new();
        };
        let stated = self
            .whole
            .statements(section.of, &[AbsenceReason::StatedNone]);
        let mut addresses = Vec::new();
        for (at, absence) in stated.into_iter().enumerate() {
            let scope = scope(absence);
            if scope.is_none() && !nothing_else {
                continue;
            }
            let (code, display) = scope.unwrap_or((general.code, general.display));
            let resource = self.absent(section, known(SNOMED, code, display));
            let address = self.add(&format!("absence {} {at}", section.code), resource);
            self.provenance(&address, &absence.sources);
            addresses.push(address);
        }
        addresses
    }

    #[expect(clippy::too_many_lines, reason = "one resource for each section")]
    fn absent(&mut self, section: &Section, code: Json) -> Json {
        let patient = reference(&self.patient);
        let kind = |kind: &str, profile: &str| {
            let profile = meta(profile, Confidentiality::Normal, &[]);
            [("resourceType", string(kind)), ("meta", profile)]
        };
        let current = |system: &str| known(system, "active", "");
        match section.code {
            "48765-2" => object(
                kind("AllergyIntolerance", "AllergyIntolerance-uv-ips")
                    .into_iter()
                    .chain([
                        (
                            "clinicalStatus",
                            current(
                                "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                            ),
                        ),
                        ("code", code),
                        ("patient", patient),
                    ]),
            ),
            "11450-4" => object(kind("Condition", "Condition-uv-ips").into_iter().chain([
                (
                    "clinicalStatus",
                    current("http://terminology.hl7.org/CodeSystem/condition-clinical"),
                ),
                ("code", code),
                ("subject", patient),
            ])),
            "10160-0" => object(
                kind("MedicationStatement", "MedicationStatement-uv-ips")
                    .into_iter()
                    .chain([
                        ("status", string("unknown")),
                        ("medicationCodeableConcept", code),
                        ("subject", patient),
                        ("_effectiveDateTime", not_known()),
                    ]),
            ),
            "47519-4" => object(kind("Procedure", "Procedure-uv-ips").into_iter().chain([
                ("status", string("unknown")),
                ("code", code),
                ("subject", patient),
                ("_performedDateTime", not_known()),
            ])),
            "11369-6" => object(
                kind("Immunization", "Immunization-uv-ips")
                    .into_iter()
                    .chain([
                        ("status", string("not-done")),
                        ("vaccineCode", code),
                        ("patient", patient),
                        ("_occurrenceDateTime", not_known()),
                    ]),
            ),
            _ => {
                let device = object(
                    kind("Device", "Device-uv-ips")
                        .into_iter()
                        .chain([("type", code), ("patient", patient.clone())]),
                );
                let device = self.add("no device", device);
                object(
                    kind("DeviceUseStatement", "DeviceUseStatement-uv-ips")
                        .into_iter()
                        .chain([
                            ("status", string("active")),
                            ("subject", patient),
                            ("_timingDateTime", not_known()),
                            ("device", reference(&device)),
                        ]),
                )
            }
        }
    }
}

/// The code of a statement that is about a part only, such as food.
fn scope(absence: &AbsenceStatement) -> Option<(&'static str, &'static str)> {
    let found = absence.codes.iter().find_map(codes::absent);
    match found.map_or("", |absent| absent.category) {
        "medication" => Some(("409137002", "No known drug allergy")),
        "food" => Some(("429625007", "No known food allergy")),
        "environment" => Some(("428607008", "No known environmental allergy")),
        _ => None,
    }
}

/// Why a required section has no entry.
pub(super) fn empty_reason(whole: &Whole<'_>, section: &Section, nothing: bool) -> Json {
    let (code, why): (&str, Words) = match whole.nothing(section.of) {
        // There are items, but none that may be shown yet.
        _ if !nothing => ("withheld", words::CONFIRM),
        Nothing::Stated => ("nilknown", words::STATED_NONE),
        Nothing::NotStated(why) if why == words::WITHHELD => ("withheld", why),
        Nothing::NotStated(why) if why == words::NOBODY => ("notasked", why),
        Nothing::NotStated(why) => ("unavailable", why),
    };
    let mut names = whole
        .missing()
        .map(|one| whole.region_name(&one.home_community_id));
    let mut said = why.both(whole.options.language);
    if why == words::PERHAPS {
        let named = text::join(names.by_ref(), ", ");
        said = text::join([said, named], ": ");
    }
    if why == words::TOO_OLD {
        said = format!("{said}: {}", whole.aged_out(section.of));
    }
    let coding = object([("system", string(EMPTY)), ("code", string(code))]);
    object([("coding", list([coding])), ("text", verbatim(said))])
}
