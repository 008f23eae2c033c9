//! FHIR data types as wire messages: bounded, otherwise as given.

use crate::types::PartialDate;
use crate::wire::pb::common::CodedValue;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ItemDetail, ItemValue, Quantity};

use super::codes;
use super::json::Json;

/// Characters of a text to show; the rest is cut off and replaced by `…`.
const MAX_TEXT: usize = 1_024;
/// Octets of a code, system or decimal; a longer one is left out, as a part of it would be another.
const MAX_CODE: usize = 256;
/// Codings of one concept.
const MAX_CODINGS: usize = 16;
/// System of [`ItemDetail::name`]: names of our own, mostly those of FHIR elements.
pub(super) const DETAIL_SYSTEM: &str = "urn:renkei:summary-detail";

/// A text to show: bounded, without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut letters = text.trim().chars();
    let clean = |letter: char| {
        if letter.is_control() { ' ' } else { letter }
    };
    let mut kept: String = letters.by_ref().take(MAX_TEXT).map(clean).collect();
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

/// A code, system or address; empty if it is too long to be one.
pub(super) fn token(text: &str) -> String {
    let fits = text.len() <= MAX_CODE && !text.chars().any(char::is_control);
    if fits {
        text.trim().to_owned()
    } else {
        String::new()
    }
}

/// A FHIR date, dateTime or instant as given; empty if it is none (wareki, free text).
pub(super) fn date(text: &str) -> String {
    let partial = || text.parse::<PartialDate>().is_ok();
    let instant = || {
        text.len() <= 40
            && text.as_bytes().get(10) == Some(&b'T')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte))
            && text.parse::<jiff::Timestamp>().is_ok()
    };
    if partial() || instant() {
        text.to_owned()
    } else {
        String::new()
    }
}

/// The first of `names` in `resource` that is a date.
pub(super) fn first_date(resource: &Json<'_>, names: &[&str]) -> String {
    let mut dates = names.iter().map(|name| date(resource.text_of(name)));
    dates.find(|date| !date.is_empty()).unwrap_or_default()
}

/// Start and end of a Period.
pub(super) fn period(value: &Json<'_>) -> (String, String) {
    (date(value.text_of("start")), date(value.text_of("end")))
}

/// A Coding, if it has a code.
pub(super) fn coding(value: &Json<'_>) -> Option<CodedValue> {
    let code = token(value.text_of("code"));
    (!code.is_empty()).then(|| CodedValue {
        code,
        system: token(value.text_of("system")),
        display_name: shown(value.text_of("display")),
        system_version: token(value.text_of("version")),
    })
}

/// A `CodeableConcept`.
#[derive(Clone, Debug, Default)]
pub(super) struct Concept {
    /// Its codings that have a code.
    pub(super) codes: Vec<CodedValue>,
    /// `CodeableConcept.text` as given.
    pub(super) text: String,
}

impl Concept {
    /// Reads a `CodeableConcept`.
    pub(super) fn of(value: &Json<'_>) -> Self {
        let codings = value.get("coding").items();
        Self {
            codes: codings
                .iter()
                .filter_map(coding)
                .take(MAX_CODINGS)
                .collect(),
            text: shown(value.text_of("text")),
        }
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.text.is_empty()
    }

    /// Text to show: the text, or the first display, or the first code.
    pub(super) fn display(&self) -> String {
        let displays = self.codes.iter().map(|code| &code.display_name);
        let codes = self.codes.iter().map(|code| &code.code);
        std::iter::once(&self.text)
            .chain(displays)
            .chain(codes)
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_default()
    }

    /// English text to show: only what an international code system itself says in Latin letters.
    pub(super) fn display_en(&self) -> String {
        let english = |code: &&CodedValue| {
            codes::is_english(&code.system)
                && !code.display_name.is_empty()
                && code.display_name.is_ascii()
        };
        let found = self.codes.iter().find(english);
        found
            .map(|code| code.display_name.clone())
            .unwrap_or_default()
    }

    /// Whether one of its codes is among `codes`.
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes
            .iter()
            .any(|code| codes.contains(&code.code.as_str()))
    }

    /// As the value of an item; none if it says nothing.
    pub(super) fn value(&self) -> Option<Value> {
        // A coding carries the text as given, where it has no display of its own.
        match self.codes.first() {
            Some(code) => Some(Value::Coded(CodedValue {
                display_name: if self.text.is_empty() {
                    code.display_name.clone()
                } else {
                    self.text.clone()
                },
                ..code.clone()
            })),
            None => (!self.text.is_empty()).then(|| Value::Text(self.text.clone())),
        }
    }
}

/// A Quantity, if it has a value.
pub(super) fn quantity(value: &Json<'_>) -> Option<Quantity> {
    let number = token(value.get("value").number());
    let system = value.text_of("system");
    let code = token(value.text_of("code"));
    let ucum = system == codes::UCUM;
    let unit = shown(value.text_of("unit"));
    (!number.is_empty()).then(|| Quantity {
        value: number,
        comparator: comparator(value.text_of("comparator")),
        // A unit of another system (錠) is shown; it is not UCUM.
        unit: if unit.is_empty() && !ucum {
            code.clone()
        } else {
            unit
        },
        ucum: if ucum { code } else { String::new() },
    })
}

fn comparator(text: &str) -> String {
    let known = ["<", "<=", ">=", ">"].contains(&text);
    if known {
        text.to_owned()
    } else {
        String::new()
    }
}

/// A Quantity in words, `2.4 mg`.
pub(super) fn quantity_text(value: &Json<'_>) -> String {
    quantity(value)
        .map(|quantity| written(&quantity))
        .unwrap_or_default()
}

fn written(quantity: &Quantity) -> String {
    let unit = if quantity.unit.is_empty() {
        &quantity.ucum
    } else {
        &quantity.unit
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{}{}{space}{unit}", quantity.comparator, quantity.value)
}

/// A Range in words, `1.0 mg - 2.0 mg`; half of it if the other is open.
pub(super) fn range_text(range: &Json<'_>) -> String {
    let low = quantity_text(range.get("low"));
    let high = quantity_text(range.get("high"));
    match (low.is_empty(), high.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(">= {low}"),
        (true, false) => format!("<= {high}"),
        (false, false) => format!("{low} - {high}"),
    }
}

/// The `value[x]` of a resource or component, without interpretation; none if it has none.
pub(super) fn value(resource: &Json<'_>) -> Option<Value> {
    if let Some(quantity) = quantity(resource.get("valueQuantity")) {
        return Some(Value::Quantity(quantity));
    }
    if let Some(value) = Concept::of(resource.get("valueCodeableConcept")).value() {
        return Some(value);
    }
    let ratio = resource.get("valueRatio");
    let words = [
        shown(resource.text_of("valueString")),
        token(resource.get("valueInteger").number()),
        resource
            .get("valueBoolean")
            .bool()
            .map(|value| value.to_string())
            .unwrap_or_default(),
        range_text(resource.get("valueRange")),
        ratio_text(ratio),
        date(resource.text_of("valueDateTime")),
        token(resource.text_of("valueTime")),
    ];
    words
        .into_iter()
        .find(|text| !text.is_empty())
        .map(Value::Text)
}

/// A Ratio in words, `1 : 128`; empty unless both parts are there.
pub(super) fn ratio_text(ratio: &Json<'_>) -> String {
    let numerator = quantity_text(ratio.get("numerator"));
    let denominator = quantity_text(ratio.get("denominator"));
    if numerator.is_empty() || denominator.is_empty() {
        return String::new();
    }
    format!("{numerator} : {denominator}")
}

/// A detail called `name`, 日本語 `label`.
pub(super) fn detail(name: &str, label: &str, value: Value) -> ItemDetail {
    ItemDetail {
        name: Some(CodedValue {
            code: name.to_owned(),
            system: DETAIL_SYSTEM.to_owned(),
            display_name: label.to_owned(),
            system_version: String::new(),
        }),
        value: Some(ItemValue {
            value: Some(value),
            ..ItemValue::default()
        }),
    }
}

/// A detail in words; none if there are no words.
pub(super) fn text_detail(name: &str, label: &str, text: &str) -> Option<ItemDetail> {
    let text = shown(text);
    (!text.is_empty()).then(|| detail(name, label, Value::Text(text)))
}

/// A detail that is a concept; none if it says nothing.
pub(super) fn concept_detail(name: &str, label: &str, concept: &Concept) -> Option<ItemDetail> {
    Some(detail(name, label, concept.value()?))
}
