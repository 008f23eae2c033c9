//! Whatever the octets are, there is an answer.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::demo::sample::{DocumentKind, Sample, SampleConfig};

use super::*;

#[test]
fn limits_hold() {
    let huge = vec![b' '; MAX_CONTENT + 1];
    let why = read_as("application/json", &entry(), &huge).outcome;
    assert_eq!(why, Outcome::NotUnderstood(NotUnderstood::TooLarge));
    let deep = format!("{}{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(
        read(&deep).outcome,
        Outcome::NotUnderstood(NotUnderstood::Malformed)
    );
    let many: Vec<_> = (0..MAX_ITEMS + 5)
        .map(|at| format!(r#"{{"resourceType":"Condition","code":{{"text":"{at}"}}}}"#))
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let extracted = read(&bundle(&many));
    assert_eq!((extracted.items.len(), extracted.not_taken), (MAX_ITEMS, 5));
}

#[test]
fn texts_are_cut_and_codes_are_not() {
    let long = "あ".repeat(5_000);
    let item = only(&format!(
        r#"{{"resourceType":"Condition","code":{{"text":"{long}\u0007","coding":[{{"code":"{long}"}},{{"code":"ok"}}]}}}}"#
    ));
    assert_eq!(item.display.chars().count(), 1_025);
    assert!(item.display.ends_with('…'));
    assert_eq!(item.codes, [code("", "ok", "")]);
}

#[test]
fn what_many_refer_to_is_not_copied_without_bound() {
    let settings = r#"{"type":{"text":"x"},"valueCode":[{"text":"TEXT"}]},"#
        .replace("TEXT", &"y".repeat(1_000));
    let device = format!(
        r#"{{"resourceType":"Device","type":{{"text":"x"}},"property":[{}{{}}]}}"#,
        settings.repeat(60)
    );
    let used = r#"{"resourceType":"DeviceUseStatement","device":{"reference":"urn:uuid:0"}}"#;
    let resources: Vec<_> = std::iter::once(device.as_str())
        .chain((0..1_900).map(|_| used))
        .collect();
    let extracted = read(&bundle(&resources));
    let octets: usize = extracted
        .items
        .iter()
        .map(prost::Message::encoded_len)
        .sum();
    assert!(octets < 17 << 20, "{octets}");
    assert_eq!(extracted.items.len() + extracted.not_taken, 1_900);
}

#[test]
fn a_number_in_disguise_is_a_text() {
    let item = only(
        r#"{"resourceType":"Observation","status":"final","category":[{"coding":[{"code":"laboratory"}]}],
        "code":{"text":"x"},"valueQuantity":{"value":"\u00001; drop"},"valueString":"y"}"#,
    );
    assert_eq!(
        item.value.unwrap().value,
        Some(pb::emergency::item_value::Value::Text("y".to_owned()))
    );
}

fn good() -> Value {
    static GOOD: LazyLock<Value> = LazyLock::new(|| {
        let sample = Sample::generate(&SampleConfig {
            patients: 20,
            ..SampleConfig::default()
        });
        let document = sample
            .documents_of(sample.scenario.emergency)
            .find(|document| document.kind == DocumentKind::DischargeSummary)
            .unwrap();
        serde_json::from_slice(&document.content).unwrap()
    });
    GOOD.clone()
}

/// Every place of a document, as pointers.
fn places(value: &Value, at: &str, to: &mut Vec<String>) {
    to.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, inner)| {
                places(inner, &format!("{at}/{}", name.replace('/', "~1")), to);
            });
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(number, inner)| places(inner, &format!("{at}/{number}"), to));
        }
        _ => {}
    }
}

fn wrong() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([[[]]])),
        Just(json!({ "coding": "x", "text": [], "reference": {} })),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn octets_never_panic(content in any::<Vec<u8>>(), xml in any::<bool>()) {
        let mime = if xml { "text/xml" } else { "application/json" };
        let _ = read_as(mime, &entry(), &content);
    }

    #[test]
    fn wrong_types_never_panic(changes in prop::collection::vec((any::<Index>(), wrong()), 1..12)) {
        let mut document = good();
        for (at, value) in changes {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            let place = at.get(&all);
            if let Some(target) = document.pointer_mut(place) {
                *target = value;
            }
        }
        let extracted = read(&document.to_string());
        prop_assert!(extracted.items.len() <= MAX_ITEMS);
        for item in &extracted.items {
            prop_assert!(!item.display.is_empty());
            prop_assert_eq!(item.sources.len(), 1);
        }
    }

    #[test]
    fn torn_documents_never_panic(at in any::<Index>(), octet in any::<u8>()) {
        let mut content = good().to_string().into_bytes();
        let at = at.index(content.len());
        content[at] = octet;
        let _ = read_as("application/json", &entry(), &content);
        content.truncate(at);
        let torn = read_as("application/json", &entry(), &content);
        prop_assert_ne!(torn.outcome, Outcome::Readable);
    }
}
