//! Small documents written by hand, the sample documents, and hostile ones.

mod cda;
mod clinical;
mod document;
mod hostile;
mod sample;
mod values;

use crate::wire::pb::common::CodedValue;
use crate::wire::pb::documents::{Author, DocumentEntry, MetadataOrganization};

use super::*;

const CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
const INDICATION: &str = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_ehrshrs_indication";

fn entry() -> DocumentEntry {
    DocumentEntry {
        unique_id: "2.25.1".to_owned(),
        repository_unique_id: "1.2.3.4".to_owned(),
        home_community_id: "urn:oid:1.2.3".to_owned(),
        authors: vec![Author {
            institutions: vec![MetadataOrganization {
                name: "登録病院".to_owned(),
                id: "1311234567".to_owned(),
                assigning_authority: String::new(),
            }],
            ..Author::default()
        }],
        ..DocumentEntry::default()
    }
}

fn as_of() -> jiff::Timestamp {
    "2026-04-01T00:00:00Z".parse().unwrap()
}

fn read_as(mime_type: &str, entry: &DocumentEntry, content: &[u8]) -> Extracted {
    extract(&Source {
        mime_type,
        format_code: "",
        entry,
        content,
        as_of: as_of(),
    })
}

fn read(content: &str) -> Extracted {
    read_as("application/fhir+json", &entry(), content.as_bytes())
}

/// A document Bundle of a Composition with `sections`, a Patient, and `resources`, the n-th of which
/// has the address `urn:uuid:n`.
fn bundle_with(sections: &str, resources: &[&str]) -> String {
    let entries: Vec<_> = resources
        .iter()
        .enumerate()
        .map(|(at, resource)| format!(r#",{{"fullUrl":"urn:uuid:{at}","resource":{resource}}}"#))
        .collect();
    format!(
        r#"{{"resourceType":"Bundle","type":"document","timestamp":"2026-03-20T10:00:00+09:00","entry":[
        {{"fullUrl":"urn:uuid:c","resource":{{"resourceType":"Composition","status":"final",
          "date":"2026-03-20","subject":{{"reference":"urn:uuid:p"}},"section":[{sections}]}}}},
        {{"fullUrl":"urn:uuid:p","resource":{{"resourceType":"Patient"}}}}{}]}}"#,
        entries.concat()
    )
}

fn bundle(resources: &[&str]) -> String {
    bundle_with("", resources)
}

/// The only item of a document with only this resource.
fn only(resource: &str) -> SummaryItem {
    let extracted = read(&bundle(&[resource]));
    assert_eq!(extracted.outcome, Outcome::Readable);
    assert_eq!(extracted.items.len(), 1, "{extracted:?}");
    extracted.items.into_iter().next().unwrap()
}

fn nothing(resource: &str) -> usize {
    let extracted = read(&bundle(&[resource]));
    assert_eq!(extracted.outcome, Outcome::Readable);
    assert_eq!(extracted.items, [], "{resource}");
    assert_eq!(extracted.absences, [], "{resource}");
    extracted.not_taken
}

fn code(system: &str, code: &str, display: &str) -> CodedValue {
    CodedValue {
        code: code.to_owned(),
        system: system.to_owned(),
        display_name: display.to_owned(),
        system_version: String::new(),
    }
}

/// The words of the details called `name`.
fn details(item: &SummaryItem, name: &str) -> Vec<String> {
    use crate::wire::pb::emergency::item_value::Value;
    let of = |detail: &crate::wire::pb::emergency::ItemDetail| {
        let value = detail.value.as_ref()?.value.as_ref()?;
        (detail.name.as_ref()?.code == name).then(|| match value {
            Value::Quantity(quantity) => format!("{} {}", quantity.value, quantity.ucum),
            Value::Coded(code) => code.display_name.clone(),
            Value::Text(text) => text.clone(),
        })
    };
    item.details.iter().filter_map(of).collect()
}
