//! What makes two facts the same.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    ClinicalStatus, Criticality, ItemDetail, ItemValue, SummaryItem, VerificationStatus,
};

use super::super::extract::codes;

/// Details that distinguish: with another of these it is another fact. Others only describe.
const DISTINGUISHING: &[&str] = &[
    "prefix-modifier",
    "postfix-modifier",
    "body-site",
    "dosage",
    "dose",
    "rate",
    "route",
    "as-needed",
    "do-not-perform",
    "manufacturer",
    "model",
    "setting",
    "provision",
];

/// What a fact is about: system and code of each code, or the text if it has none.
pub(super) type Keys = BTreeSet<(String, String)>;

/// System of the text of an uncoded fact.
const TEXT: &str = "text";

/// What `item` is about.
pub(super) fn keys(item: &SummaryItem) -> Keys {
    let keys: Keys = item.codes.iter().filter_map(codes::key).collect();
    if keys.is_empty() {
        return Keys::from([(TEXT.to_owned(), plain(&item.display))]);
    }
    keys
}

/// Whether no code system names the two differently: `I10` alone is neither of two diagnoses that
/// both have it beside their own MEDIS codes.
pub(super) fn do_not_differ(one: &Keys, other: &Keys) -> bool {
    let systems: BTreeSet<_> = one.iter().map(|(system, _)| system).collect();
    systems.into_iter().all(|system| {
        let has = |keys: &Keys| keys.iter().any(|(of, _)| of == system);
        let shared = one.intersection(other).any(|(of, _)| of == system);
        shared || !has(other)
    })
}

/// A text as it is compared: width, case and spaces folded.
pub(super) fn plain(text: &str) -> String {
    let folded = text.nfkc().filter(|letter| !letter.is_whitespace());
    folded.flat_map(char::to_lowercase).collect()
}

/// The details that distinguish, in their order.
pub(super) fn distinguishing(item: &SummaryItem) -> Vec<(String, String)> {
    let of = |detail: &ItemDetail| {
        let name = detail.name.as_ref()?;
        let value = detail.value.as_ref().map(value_key).unwrap_or_default();
        DISTINGUISHING
            .contains(&name.code.as_str())
            // A setting is told apart by what it sets.
            .then(|| (format!("{} {}", name.code, name.display_name), value))
    };
    item.details.iter().filter_map(of).collect()
}

/// A value as it is compared: `2.40` and `2.4` of one unit are the same.
pub(super) fn value_key(value: &ItemValue) -> String {
    match &value.value {
        Some(Value::Quantity(quantity)) => {
            let unit = if quantity.ucum.is_empty() {
                &quantity.unit
            } else {
                &quantity.ucum
            };
            format!(
                "q {}{} {unit}",
                quantity.comparator,
                decimal(&quantity.value)
            )
        }
        Some(Value::Coded(code)) => match codes::key(code) {
            Some((system, code)) => format!("c {system} {code}"),
            None => format!("t {}", plain(&code.display_name)),
        },
        Some(Value::Text(text)) => format!("t {}", plain(text)),
        None => String::new(),
    }
}

/// A decimal without the zeros that only tell its precision.
fn decimal(text: &str) -> &str {
    if !text.contains('.') || text.contains(['e', 'E']) {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.')
}

/// Whether something still is, as far as it makes two facts different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Current,
    OnHold,
    Remission,
    Stopped,
    Over,
}

impl Course {
    /// Of a status; what is not stated is current.
    pub(super) fn of(item: &SummaryItem) -> Self {
        match item.clinical_status() {
            ClinicalStatus::Unspecified | ClinicalStatus::Active | ClinicalStatus::Recurrence => {
                Self::Current
            }
            ClinicalStatus::OnHold => Self::OnHold,
            ClinicalStatus::Remission => Self::Remission,
            ClinicalStatus::Inactive => Self::Stopped,
            ClinicalStatus::Resolved => Self::Over,
        }
    }
}

/// How sure something is, as far as it makes two facts different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    Stated,
    Suspected,
    Refuted,
}

impl Certainty {
    /// Of a status; what is not stated is as good as stated.
    pub(super) fn of(item: &SummaryItem) -> Self {
        match item.verification_status() {
            VerificationStatus::Unconfirmed => Self::Suspected,
            VerificationStatus::Refuted | VerificationStatus::EnteredInError => Self::Refuted,
            VerificationStatus::Unspecified
            | VerificationStatus::Confirmed
            | VerificationStatus::PatientStated => Self::Stated,
        }
    }
}

/// Whether one says that it is dangerous and the other that it is not.
pub(super) fn criticality_differs(one: Criticality, other: Criticality) -> bool {
    matches!(
        (one, other),
        (Criticality::Low, Criticality::High) | (Criticality::High, Criticality::Low)
    )
}
