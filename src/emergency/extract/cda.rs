//! CDA R2: coded diagnoses and results; nothing else of a CDA is coded in Japan in one way.
//!
//! Narrative is never read. Sections that may matter but have nothing coded that is understood
//! count as not taken, so that the reader is sent to the document.

use crate::wire::pb::common::{CodedValue, Confidentiality, InstitutionRef, NationalFlag};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    ClinicalStatus, ItemSource, ItemValue, Quantity, SummaryItem, SummarySection,
};

use super::elements::{Concept, date, shown, token};
use super::item::{
    at_most, confidentiality, document_confidentiality, document_ref, from_source,
    registered_institution, restrict, wire_time,
};
use super::section::{Filing, filing};
use super::{Extracted, MAX_ITEMS, NotUnderstood, Source, codes, observation_kind};
use crate::xml::{Element, parse};

/// Namespace of HL7 v3.
const HL7: &str = "urn:hl7-org:v3";
/// Root of 医療機関コード.
const INSTITUTIONS: &str = "1.2.392.100495.20.3.23";
/// Codes of an observation that says: this is a diagnosis, a problem, a finding. LOINC and SNOMED CT.
const DIAGNOSIS: &[&str] = &[
    "29308-4",
    "75326-9",
    "55607006",
    "282291009",
    "64572001",
    "404684003",
];
/// Sections in sections.
const MAX_NESTING: usize = 8;

/// What holds for all of a document, or of a section.
struct Header {
    source: ItemSource,
    flags: Vec<i32>,
    confidentiality: Confidentiality,
}

/// Reads a CDA document.
pub(super) fn read(document: &Source<'_>) -> Result<Extracted, NotUnderstood> {
    let root = parse(document.content)?;
    if !root.is(HL7, "ClinicalDocument") {
        return Err(NotUnderstood::UnknownStructure);
    }
    let header = header(document, &root);
    let mut extracted = Extracted::default();
    if let Some(body) = root.down(&["component", "structuredBody"]) {
        sections(&header, body, &mut extracted, 0);
    }
    if extracted.items.is_empty() {
        return Err(NotUnderstood::NarrativeOnly);
    }
    at_most(&mut extracted, MAX_ITEMS);
    Ok(extracted)
}

fn header(document: &Source<'_>, root: &Element) -> Header {
    let author = root.down(&["author", "assignedAuthor", "representedOrganization"]);
    let custodian = [
        "custodian",
        "assignedCustodian",
        "representedCustodianOrganization",
    ];
    let registered = registered_institution(document.entry);
    let stated = author
        .and_then(institution)
        .or_else(|| root.down(&custodian).and_then(institution))
        .filter(|stated| stated.institution_id != registered.institution_id);
    let stated = stated.map(|stated| InstitutionRef {
        home_community_id: document.entry.home_community_id.clone(),
        ..stated
    });
    let level = root
        .own_child("confidentialityCode")
        .map_or("", |code| code.value("code"));
    let mut flags = document.entry.national_flags.clone();
    flags.retain(|flag| *flag != i32::from(NationalFlag::Unspecified));
    Header {
        source: ItemSource {
            institution: Some(stated.unwrap_or(registered)),
            home_community_id: document.entry.home_community_id.clone(),
            document: Some(document_ref(document.entry)),
            recorded: root
                .own_child("effectiveTime")
                .map(time)
                .unwrap_or_default(),
            as_of: Some(wire_time(document.as_of)),
            ..ItemSource::default()
        },
        flags,
        confidentiality: document_confidentiality(document.entry).max(confidentiality(level)),
    }
}

fn institution(organization: &Element) -> Option<InstitutionRef> {
    let id = organization
        .own("id")
        .find(|id| id.value("root") == INSTITUTIONS)?;
    Some(InstitutionRef {
        institution_id: token(id.value("extension")),
        name: organization
            .own_child("name")
            .map(|name| shown(&name.text))
            .unwrap_or_default(),
        ..InstitutionRef::default()
    })
}

/// Reads the sections of a body or of a section.
fn sections(header: &Header, outer: &Element, extracted: &mut Extracted, nesting: usize) {
    if nesting == MAX_NESTING {
        extracted.not_taken += 1;
        return;
    }
    for section in outer
        .own("component")
        .filter_map(|part| part.own_child("section"))
    {
        if has_subject(section) {
            extracted.not_taken += own_parts(section).max(1);
            continue;
        }
        let header = &within(header, section);
        let code = section.own_child("code");
        let of = code.and_then(|code| filing(code.value("codeSystem"), code.value("code")));
        match of {
            Some(Filing::Section(of)) => section_entries(header, of, section, extracted),
            Some(Filing::FamilyHistory) => {}
            // What it is about is not known: it may say something of the patient.
            None => extracted.not_taken += own_parts(section),
        }
        if of != Some(Filing::FamilyHistory) {
            sections(header, section, extracted, nesting + 1);
        }
    }
}

/// What holds in `section`: it is never less confidential than what it is in.
fn within(header: &Header, section: &Element) -> Header {
    let level = section
        .own_child("confidentialityCode")
        .map_or("", |code| code.value("code"));
    Header {
        source: header.source.clone(),
        flags: header.flags.clone(),
        confidentiality: header.confidentiality.max(confidentiality(level)),
    }
}

/// Whether it names a subject: somebody else, for the patient is the subject of what names none.
fn has_subject(element: &Element) -> bool {
    element.own_child("subject").is_some()
}

/// Entries of a section, or its narrative if it has none.
fn own_parts(section: &Element) -> usize {
    let narrative = usize::from(section.own_child("text").is_some());
    section.own("entry").count().max(narrative)
}

fn section_entries(header: &Header, of: SummarySection, section: &Element, to: &mut Extracted) {
    let mut any = false;
    for entry in section.own("entry") {
        any = true;
        let members: Vec<_> = match of {
            _ if entry.children.iter().any(has_subject) => Vec::new(),
            SummarySection::Problem | SummarySection::PastProblem => diagnoses(header, of, entry),
            SummarySection::Result => results(header, entry),
            _ => Vec::new(),
        };
        if members.is_empty() || to.items.len() >= MAX_ITEMS {
            to.not_taken += 1;
            continue;
        }
        for member in members {
            match member {
                Some(item) => to.items.push(item),
                None => to.not_taken += 1,
            }
        }
    }
    // Narrative that nothing coded stands for.
    if !any && section.own_child("text").is_some() {
        to.not_taken += 1;
    }
}

/// Diagnoses of an entry: an observation, or the problem concern of C-CDA. None for a member that is
/// not understood.
fn diagnoses(
    header: &Header,
    section: SummarySection,
    entry: &Element,
) -> Vec<Option<SummaryItem>> {
    let concerns = entry
        .own("act")
        .flat_map(|act| act.own("entryRelationship"));
    let inner = concerns.filter(|relation| relation.value("typeCode") == "SUBJ");
    let observations = entry
        .own("observation")
        .chain(inner.flat_map(|of| of.own("observation")));
    observations
        .map(|observation| diagnosis(header, section, observation))
        .collect()
}

fn diagnosis(
    header: &Header,
    section: SummarySection,
    observation: &Element,
) -> Option<SummaryItem> {
    let kind = observation
        .own_child("code")
        .map_or("", |code| code.value("code"));
    if !is_stated(observation) || !DIAGNOSIS.contains(&kind) {
        return None;
    }
    let concept = Concept {
        codes: vec![coded(observation.own_child("value")?)?],
        text: String::new(),
    };
    let mut item = from_source(
        section,
        &concept,
        source(header, observation),
        header.flags.clone(),
        header.confidentiality,
    );
    let (start, end) = observation
        .own_child("effectiveTime")
        .map(interval)
        .unwrap_or_default();
    if !end.is_empty() {
        item.section = SummarySection::PastProblem.into();
        item.clinical_status = ClinicalStatus::Resolved.into();
    }
    item.start = start;
    item.end = end;
    if codes::restricted_diagnosis(&item.codes) {
        restrict(&mut item, Confidentiality::Restricted);
    }
    Some(item)
}

/// Results of an entry: an observation, or those of an organizer. None for a member that is not
/// understood.
fn results(header: &Header, entry: &Element) -> Vec<Option<SummaryItem>> {
    let batteries = entry
        .own("organizer")
        .flat_map(|organizer| organizer.own("component"));
    let observations = entry
        .own("observation")
        .chain(batteries.flat_map(|of| of.own("observation")));
    observations
        .map(|observation| result(header, observation))
        .collect()
}

fn result(header: &Header, observation: &Element) -> Option<SummaryItem> {
    if !is_stated(observation) {
        return None;
    }
    let concept = Concept {
        codes: vec![coded(observation.own_child("code")?)?],
        text: String::new(),
    };
    let section = observation_kind::section(&concept, &[]).unwrap_or(SummarySection::Result);
    let mut item = from_source(
        section,
        &concept,
        source(header, observation),
        header.flags.clone(),
        header.confidentiality,
    );
    let interpretation = observation.own_child("interpretationCode");
    item.value = Some(ItemValue {
        value: Some(value(observation.own_child("value")?)?),
        reference_range: String::new(),
        interpretation: interpretation
            .map(|of| token(of.value("code")))
            .unwrap_or_default(),
    });
    (item.start, item.end) = observation
        .own_child("effectiveTime")
        .map(interval)
        .unwrap_or_default();
    if section == SummarySection::Infection {
        restrict(&mut item, Confidentiality::Restricted);
    }
    Some(item)
}

/// Whether something is stated as having been, and not negated.
fn is_stated(observation: &Element) -> bool {
    let status = observation
        .own_child("statusCode")
        .map_or("", |status| status.value("code"));
    observation.value("moodCode") == "EVN"
        && observation.value("classCode") == "OBS"
        && observation.value("negationInd") != "true"
        && observation.value("nullFlavor").is_empty()
        && !has_subject(observation)
        && ["", "completed", "active"].contains(&status)
}

fn source(header: &Header, observation: &Element) -> ItemSource {
    let id = observation.own_child("id");
    let id = id.map(|id| token(&format!("{} {}", id.value("root"), id.value("extension"))));
    ItemSource {
        entry_id: id.unwrap_or_default(),
        ..header.source.clone()
    }
}

/// A code; none with a null flavor, or of another type than CD and CE.
fn coded(element: &Element) -> Option<CodedValue> {
    let type_name = element.value_local("type");
    let of_code = ["", "CD", "CE", "CV"].contains(&local(type_name));
    let code = token(element.value("code"));
    let known = of_code && element.value("nullFlavor").is_empty() && !code.is_empty();
    known.then(|| CodedValue {
        code,
        system: token(element.value("codeSystem")),
        display_name: shown(element.value("displayName")),
        system_version: token(element.value("codeSystemVersion")),
    })
}

/// The value of a result: PQ, CD, CE or ST.
fn value(element: &Element) -> Option<Value> {
    match local(element.value_local("type")) {
        "PQ" => {
            let number = token(element.value("value"));
            let decimal = number.parse::<f64>().is_ok_and(f64::is_finite)
                && number
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            decimal.then(|| {
                Value::Quantity(Quantity {
                    value: number,
                    ucum: token(element.value("unit")),
                    ..Quantity::default()
                })
            })
        }
        "CD" | "CE" | "CV" => coded(element).map(Value::Coded),
        "ST" => Some(shown(&element.text))
            .filter(|text| !text.is_empty())
            .map(Value::Text),
        _ => None,
    }
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

/// Begin and end of an IVL; a mere value is the begin.
fn interval(element: &Element) -> (String, String) {
    let of = |name| element.own_child(name).map(time).unwrap_or_default();
    let value = time(element);
    (if value.is_empty() { of("low") } else { value }, of("high"))
}

/// An HL7 v3 time stamp as a FHIR date: to the day, if it has a time without an offset.
fn time(element: &Element) -> String {
    let stamp = element.value("value");
    let (digits, offset) = match stamp.find(['+', '-']) {
        Some(at) => stamp.split_at_checked(at).unwrap_or((stamp, "")),
        None => (stamp, ""),
    };
    let whole = digits.split('.').next().unwrap_or_default();
    if !whole.is_ascii() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return String::new();
    }
    let part = |from: usize, to: usize| whole.get(from..to).unwrap_or_default();
    let day = [part(0, 4), part(4, 6), part(6, 8)];
    let known: Vec<_> = day.into_iter().filter(|part| !part.is_empty()).collect();
    let day = known.join("-");
    let seconds = if whole.len() == 12 {
        "00"
    } else {
        part(12, 14)
    };
    let zone = offset.get(..3).zip(offset.get(3..5));
    match zone {
        Some((hours, minutes)) if !seconds.is_empty() => date(&format!(
            "{day}T{}:{}:{seconds}{hours}:{minutes}",
            part(8, 10),
            part(10, 12)
        )),
        Some(_) | None => date(&day),
    }
}
