//! What all items have: source, flags, confidentiality.

use crate::wire::pb::common::{Confidentiality, DocumentRef, InstitutionRef, NationalFlag};
use crate::wire::pb::documents::DocumentEntry;
use crate::wire::pb::emergency::{AbsenceStatement, ItemSource, SummaryItem, SummarySection};

use super::Extracted;
use super::bundle::{Place, Reading};
use super::codes;
use super::elements::{Concept, shown};
use super::json::Json;

/// Names of the code system of national flags end so; the guide has it with a misspelt `http:/` too.
const FLAGS: &str = "JP_ehrshrs_indication";
/// Names of the extension that has the 10-digit institution code end so; two URLs are in use.
const INSTITUTION_EXTENSION: &str = "_InstitutionNumber";
/// Names of the identifier system of institutions end so; two URLs are in use.
const INSTITUTION_SYSTEM: &str = "insurance-medical-institution-no";
/// Sensitivity labels of HL7 v3 `ActCode` that make something restricted.
const SENSITIVE: &[&str] = &[
    "ETH", "GDIS", "HIV", "PSY", "SDV", "SEX", "SPI", "STD", "SUD",
];

/// An item of `section` that `concept` names, with its source; everything else is empty.
pub(super) fn new(
    place: &Place<'_, '_, '_>,
    section: SummarySection,
    concept: &Concept,
    recorded: String,
) -> SummaryItem {
    let flags = place
        .bundle
        .flags
        .iter()
        .copied()
        .chain(flags_of(place.resource));
    from_source(
        section,
        concept,
        place.source(recorded, &concept.text),
        flags.map(i32::from).collect(),
        place
            .bundle
            .confidentiality
            .max(confidentiality_of(place.resource)),
    )
}

/// An item of `section` that `concept` names.
pub(super) fn from_source(
    section: SummarySection,
    concept: &Concept,
    source: ItemSource,
    mut flags: Vec<i32>,
    confidentiality: Confidentiality,
) -> SummaryItem {
    flags.sort_unstable();
    flags.dedup();
    let mut item = SummaryItem {
        section: section.into(),
        codes: concept.codes.clone(),
        display: concept.display(),
        display_en: concept.display_en(),
        sources: vec![source],
        national_flags: flags,
        confidentiality: confidentiality.into(),
        ..SummaryItem::default()
    };
    // 未告知 is V by default (`spec` japan §3.4); the flag stays beside it.
    if item
        .national_flags
        .contains(&NationalFlag::Uninformed.into())
    {
        restrict(&mut item, Confidentiality::VeryRestricted);
    }
    item
}

/// Raises the confidentiality of `item` to `to`; never lowers it.
pub(super) fn restrict(item: &mut SummaryItem, to: Confidentiality) {
    item.confidentiality = item.confidentiality.max(to.into());
}

/// The statement of absence that `concept` is, if one of its codes says so.
pub(super) fn absence(
    place: &Place<'_, '_, '_>,
    section: SummarySection,
    concept: &Concept,
    recorded: String,
) -> Option<Reading> {
    let (code, absent) = concept
        .codes
        .iter()
        .find_map(|code| Some((code, codes::absent(code)?)))?;
    Some(Reading::Absent(AbsenceStatement {
        section: absent.section.unwrap_or(section).into(),
        reason: absent.reason.into(),
        codes: vec![code.clone()],
        sources: vec![place.source(recorded, &concept.text)],
        home_community_ids: Vec::new(),
    }))
}

/// The national flags of a resource.
pub(super) fn flags_of(resource: &Json<'_>) -> Vec<NationalFlag> {
    let tags = resource.get("meta").get("tag").items();
    let mut flags: Vec<_> = tags
        .iter()
        .filter(|tag| tag.text_of("system").ends_with(FLAGS))
        .filter_map(|tag| match tag.text_of("code") {
            "LTS" => Some(NationalFlag::LongTermStorage),
            "UNINFORMED" => Some(NationalFlag::Uninformed),
            "UNDELIVERED" => Some(NationalFlag::Undelivered),
            _ => None,
        })
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// The confidentiality that a resource's security labels state.
pub(super) fn confidentiality_of(resource: &Json<'_>) -> Confidentiality {
    let labels = resource.get("meta").get("security").items();
    let level = |label: &Json<'_>| {
        let code = label.text_of("code");
        if label.text_of("system").ends_with("v3-ActCode") && SENSITIVE.contains(&code) {
            return Confidentiality::Restricted;
        }
        confidentiality(code)
    };
    labels
        .iter()
        .map(level)
        .max()
        .unwrap_or(Confidentiality::Unspecified)
}

/// The level of a code of HL7 v3 Confidentiality.
pub(super) fn confidentiality(code: &str) -> Confidentiality {
    match code {
        "U" => Confidentiality::Unrestricted,
        "L" => Confidentiality::Low,
        "M" => Confidentiality::Moderate,
        "N" => Confidentiality::Normal,
        "R" => Confidentiality::Restricted,
        "V" => Confidentiality::VeryRestricted,
        _ => Confidentiality::Unspecified,
    }
}

/// The confidentiality that a document is registered with.
pub(super) fn document_confidentiality(entry: &DocumentEntry) -> Confidentiality {
    let levels = entry
        .confidentiality_codes
        .iter()
        .map(|code| confidentiality(&code.code));
    levels.max().unwrap_or(Confidentiality::Unspecified)
}

/// The document that `entry` describes.
pub(super) fn document_ref(entry: &DocumentEntry) -> DocumentRef {
    DocumentRef {
        home_community_id: entry.home_community_id.clone(),
        repository_unique_id: entry.repository_unique_id.clone(),
        document_unique_id: entry.unique_id.clone(),
    }
}

/// The institution that registered the document; authorInstitution is mandatory in Japan.
pub(super) fn registered_institution(entry: &DocumentEntry) -> InstitutionRef {
    let institutions = entry.authors.iter().flat_map(|author| &author.institutions);
    let mut registered = InstitutionRef {
        home_community_id: entry.home_community_id.clone(),
        ..InstitutionRef::default()
    };
    if let Some(first) = institutions.into_iter().next() {
        registered.name = shown(&first.name);
        if first.id.contains('.') {
            registered.oid.clone_from(&first.id);
        } else {
            registered.institution_id.clone_from(&first.id);
        }
    }
    registered
}

/// An institution code: ten letters or digits.
fn institution_code(text: &str) -> Option<String> {
    let valid = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then(|| text.to_owned())
}

/// The code in the extension that every JP-CLINS resource but Patient has.
pub(super) fn institution_extension(resource: &Json<'_>) -> Option<String> {
    let extensions = resource.get("extension").items();
    extensions
        .iter()
        .filter(|extension| extension.text_of("url").ends_with(INSTITUTION_EXTENSION))
        .find_map(|extension| institution_code(extension.get("valueIdentifier").text_of("value")))
}

/// The code of an Organization.
pub(super) fn organization_code(organization: &Json<'_>) -> Option<String> {
    let identifiers = organization.get("identifier").items();
    identifiers
        .iter()
        .filter(|identifier| identifier.text_of("system").ends_with(INSTITUTION_SYSTEM))
        .find_map(|identifier| institution_code(identifier.text_of("value")))
}

/// The code that Bundle.identifier begins with: `1311234567^2024^…`.
pub(super) fn bundle_institution(bundle: &Json<'_>) -> Option<String> {
    let identifier = bundle.get("identifier");
    let ours = identifier.text_of("system").ends_with("/bundle-identifier");
    let (code, _) = identifier
        .text_of("value")
        .split_once('^')
        .filter(|_| ours)?;
    institution_code(code)
}

/// An instant on the wire.
pub(super) fn wire_time(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// Cuts `extracted` to `limit` items, and counts what is cut off.
pub(super) fn at_most(extracted: &mut Extracted, limit: usize) {
    let over = extracted.items.len().saturating_sub(limit);
    extracted.items.truncate(limit);
    let absences = extracted.absences.len().saturating_sub(limit);
    extracted.absences.truncate(limit);
    extracted.not_taken += over + absences;
}

/// The code of a status that is a `CodeableConcept` (clinicalStatus) or a code (status).
pub(super) fn status<'j>(value: &'j Json<'_>) -> &'j str {
    let coded = value.get("coding").items().first();
    coded.map_or(value.text(), |coding| coding.text_of("code"))
}

/// The texts of the notes of a resource.
pub(super) fn notes(resource: &Json<'_>) -> String {
    let notes = resource.get("note").items();
    let texts: Vec<_> = notes
        .iter()
        .map(|note| shown(note.text_of("text")))
        .filter(|text| !text.is_empty())
        .take(8)
        .collect();
    texts.join("\n")
}
