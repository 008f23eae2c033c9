//! Folding, conflicts, windows and order.

mod conflicts;
mod folding;
mod properties;
mod sample;

use crate::wire::pb::common::{CodedValue, InstitutionRef};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AbsenceReason, ClinicalStatus, ItemDetail, ItemValue, Quantity, SummarySection,
};

use super::*;

fn now() -> Timestamp {
    "2026-04-01T03:00:00Z".parse().unwrap()
}

fn code(system: &str, value: &str) -> CodedValue {
    CodedValue {
        code: value.to_owned(),
        system: system.to_owned(),
        display_name: format!("{value}の名"),
        system_version: String::new(),
    }
}

fn source(document: &str, recorded: &str) -> ItemSource {
    ItemSource {
        institution: Some(InstitutionRef {
            institution_id: format!("inst-{document}"),
            ..InstitutionRef::default()
        }),
        entry_id: format!("urn:uuid:{document}"),
        recorded: recorded.to_owned(),
        ..ItemSource::default()
    }
}

/// An item of `section` about `value` in a code system, from `document`.
fn item(section: SummarySection, value: &str, document: &str, recorded: &str) -> SummaryItem {
    SummaryItem {
        section: section.into(),
        codes: vec![code("urn:oid:1.2", value)],
        display: format!("{value}の名"),
        sources: vec![source(document, recorded)],
        ..SummaryItem::default()
    }
}

fn with(mut item: SummaryItem, change: impl FnOnce(&mut SummaryItem)) -> SummaryItem {
    change(&mut item);
    item
}

fn status(item: SummaryItem, status: ClinicalStatus) -> SummaryItem {
    with(item, |item| item.clinical_status = status.into())
}

/// A result of `number`, measured at `when`.
fn result(number: &str, when: &str, document: &str) -> SummaryItem {
    with(item(SummarySection::Result, "K", document, when), |item| {
        when.clone_into(&mut item.start);
        item.value = Some(quantity(number));
    })
}

fn quantity(number: &str) -> ItemValue {
    ItemValue {
        value: Some(Value::Quantity(Quantity {
            value: number.to_owned(),
            ucum: "mmol/L".to_owned(),
            ..Quantity::default()
        })),
        ..ItemValue::default()
    }
}

fn number(value: Option<&ItemValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::Quantity(quantity)) => &quantity.value,
        _ => "",
    }
}

fn detail(name: &str, text: &str) -> ItemDetail {
    ItemDetail {
        name: Some(code("urn:renkei:summary-detail", name)),
        value: Some(ItemValue {
            value: Some(Value::Text(text.to_owned())),
            ..ItemValue::default()
        }),
    }
}

fn none_known(section: SummarySection, codes: Vec<CodedValue>, document: &str) -> AbsenceStatement {
    AbsenceStatement {
        section: section.into(),
        reason: AbsenceReason::StatedNone.into(),
        codes,
        sources: vec![source(document, "2026-01-01")],
        home_community_ids: Vec::new(),
    }
}

/// One part a region: `urn:oid:2.0`, `urn:oid:2.1`, ….
fn merged(regions: Vec<Vec<SummaryItem>>) -> Merged {
    let part = |(at, items)| Part {
        home_community_id: format!("urn:oid:2.{at}"),
        items,
        ..Part::default()
    };
    merge(regions.into_iter().enumerate().map(part).collect(), now())
}

/// The homes of the sources of an item.
fn homes(item: &SummaryItem) -> Vec<&str> {
    item.sources
        .iter()
        .map(|source| source.home_community_id.as_str())
        .collect()
}
