//! Observation: 検査, 感染症, バイタル, 血液型, 妊娠, 生活歴.

use crate::wire::pb::common::Confidentiality;
use crate::wire::pb::emergency::{
    ItemDetail, ItemValue, SummaryItem, SummarySection, VerificationStatus,
};

use super::bundle::{Place, Reading};
use super::elements::{
    Concept, concept_detail, first_date, period, range_text, shown, text_detail, value,
};
use super::item::{new, notes, restrict};
use super::json::Json;
use super::observation_kind;
use super::section::Filing;

/// Components of one Observation; a blood pressure has two.
const MAX_COMPONENTS: usize = 64;

/// Reads an Observation: one item, or one for each component (blood pressure).
///
/// Without a value it says nothing; a panel's members are Observations of their own. Preliminary
/// results are marked unconfirmed.
pub(super) fn read(place: &Place<'_, '_, '_>) -> Reading {
    let observation = place.resource;
    let verification = match observation.text_of("status") {
        "entered-in-error" | "cancelled" | "registered" => return Reading::Nothing,
        "preliminary" => VerificationStatus::Unconfirmed,
        _ => VerificationStatus::Unspecified,
    };
    let code = Concept::of(observation.get("code"));
    let Some(section) = section(place, &code) else {
        return Reading::NotUnderstood;
    };
    let mut items = Vec::new();
    let value = read_value(observation);
    let valued = value.is_some();
    items.extend(value.and_then(|value| item(place, section, &code, value)));
    for component in observation
        .get("component")
        .items()
        .iter()
        .take(MAX_COMPONENTS)
    {
        let code = Concept::of(component.get("code"));
        let part = read_value(component).and_then(|value| item(place, section, &code, value));
        items.extend(part);
    }
    for item in &mut items {
        item.verification_status = verification.into();
    }
    if !items.is_empty() {
        return Reading::Items(items);
    }
    let panel = !observation.get("hasMember").items().is_empty();
    if panel && !valued {
        Reading::Nothing
    } else {
        Reading::NotUnderstood
    }
}

/// The section, by the code, the category, or where it is filed.
fn section(place: &Place<'_, '_, '_>, code: &Concept) -> Option<SummarySection> {
    let filings = place.filings();
    let infection = Filing::Section(SummarySection::Infection);
    if filings.contains(&infection) {
        return Some(SummarySection::Infection);
    }
    let categories: Vec<_> = place
        .resource
        .get("category")
        .items()
        .iter()
        .map(Concept::of)
        .collect();
    observation_kind::section(code, &categories).or_else(|| {
        // Sections that hold nothing but Observations of their kind.
        [
            SummarySection::Result,
            SummarySection::Vital,
            SummarySection::Pregnancy,
            SummarySection::FunctionalStatus,
            SummarySection::SocialHistory,
        ]
        .into_iter()
        .find(|section| filings.contains(&Filing::Section(*section)))
    })
}

fn item(
    place: &Place<'_, '_, '_>,
    section: SummarySection,
    code: &Concept,
    value: ItemValue,
) -> Option<SummaryItem> {
    if code.is_empty() {
        return None;
    }
    let observation = place.resource;
    let issued = first_date(observation, &["issued"]);
    let mut item = new(place, section, code, issued);
    let (start, end) = period(observation.get("effectivePeriod"));
    let effective = first_date(observation, &["effectiveDateTime", "effectiveInstant"]);
    item.start = if effective.is_empty() {
        start
    } else {
        effective
    };
    item.end = end;
    item.value = Some(value);
    item.details = details(observation);
    if section == SummarySection::Infection {
        restrict(&mut item, Confidentiality::Restricted);
    }
    Some(item)
}

fn read_value(from: &Json<'_>) -> Option<ItemValue> {
    let ranges = from.get("referenceRange").items().iter().take(4);
    let ranges: Vec<_> = ranges
        .map(|range| {
            let text = shown(range.text_of("text"));
            if text.is_empty() {
                range_text(range)
            } else {
                text
            }
        })
        .filter(|text| !text.is_empty())
        .collect();
    let interpretations = from.get("interpretation").items();
    let interpretation = interpretations.first().map(Concept::of).unwrap_or_default();
    Some(ItemValue {
        value: Some(value(from)?),
        reference_range: ranges.join("; "),
        interpretation: interpretation
            .codes
            .first()
            .map_or(interpretation.text.clone(), |code| code.code.clone()),
    })
}

fn details(observation: &Json<'_>) -> Vec<ItemDetail> {
    let method = concept_detail("method", "測定法", &Concept::of(observation.get("method")));
    let site = concept_detail(
        "body-site",
        "部位",
        &Concept::of(observation.get("bodySite")),
    );
    let note = text_detail("note", "備考", &notes(observation));
    method.into_iter().chain(site).chain(note).collect()
}
