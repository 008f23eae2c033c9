//! What a document says of itself: its type, its patient, its date. Of a FHIR Bundle as JSON and of a
//! CDA header; other forms say nothing that is read here.

use serde_json::Value;

use super::Findings;
use crate::xml::{Element, NotXml, parse};

/// What a document says of itself.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Codes of its type.
    pub(super) types: Vec<String>,
    /// Identifiers of the one patient it is about.
    pub(super) patient: Vec<Id>,
    /// As digits, at least to the day, or empty.
    pub(super) date: String,
}

/// An identifier of a patient in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    /// OID of the assigning authority; `None` if it is a URI of another form, or is not stated.
    pub(super) authority: Option<String>,
    /// The value.
    pub(super) value: String,
}

impl Id {
    /// An OID, bare or as `urn:oid:`, is an authority that can be compared.
    fn new(system: &str, value: &str) -> Option<Self> {
        let oid = system.strip_prefix("urn:oid:").unwrap_or(system);
        let dotted = oid.contains('.') && oid.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        (!value.is_empty()).then(|| Self {
            authority: dotted.then(|| oid.to_owned()),
            value: value.to_owned(),
        })
    }
}

/// What a JSON document says; `None` if there is nothing to compare.
pub(super) fn json(content: &[u8], declared: &str, found: &mut Findings) -> Option<Said> {
    // Depth is bounded by the parser, size by what is kept of a document.
    let Ok(resource) = serde_json::from_slice::<Value>(content) else {
        found.wrong.push("the JSON cannot be read".to_owned());
        return None;
    };
    match kind(&resource) {
        "Bundle" => Some(bundle(&resource, found)),
        "" => {
            if declared == "application/fhir+json" {
                found.wrong.push("the JSON is no FHIR resource".to_owned());
            }
            None
        }
        _ => {
            let text = "a FHIR resource that is no Bundle is not compared with the metadata";
            found.unchecked.push(text.to_owned());
            None
        }
    }
}

fn kind(resource: &Value) -> &str {
    text(resource, "resourceType")
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let items = value.get(name).and_then(Value::as_array);
    items.map(Vec::as_slice).unwrap_or_default()
}

fn resource(entry: &Value) -> &Value {
    entry.get("resource").unwrap_or(&Value::Null)
}

fn bundle(bundle: &Value, found: &mut Findings) -> Said {
    let entries = items(bundle, "entry");
    let mut said = Said::default();
    if text(bundle, "type") != "document" {
        said.patient = identifiers(the_patient(entries));
        return said;
    }
    let first = entries.first().map_or(&Value::Null, resource);
    if kind(first) != "Composition" {
        let text = "the document Bundle does not begin with a Composition";
        found.wrong.push(text.to_owned());
        return said;
    }
    let codings = first.get("type").map(|kind| items(kind, "coding"));
    let codings = codings.unwrap_or_default().iter();
    said.types = codings.map(|one| text(one, "code").to_owned()).collect();
    let date = text(first, "date").chars().take(10);
    said.date = date.filter(char::is_ascii_digit).collect();
    said.patient = match first.get("subject") {
        Some(subject) => of_subject(subject, first, entries),
        None => identifiers(the_patient(entries)),
    };
    said
}

/// Who a Composition says that it is about: the Patient referred to, or an identifier alone. Others in
/// the Bundle, such as the mother of a newborn, are not asked.
fn of_subject(subject: &Value, composition: &Value, entries: &[Value]) -> Vec<Id> {
    let reference = text(subject, "reference");
    let reference = reference.split("/_history/").next().unwrap_or_default();
    let patient = match reference.strip_prefix('#') {
        Some(id) => {
            let mut contained = items(composition, "contained").iter();
            contained.find(|inner| text(inner, "id") == id)
        }
        None => entries
            .iter()
            .find(|entry| is_at(entry, reference))
            .map(resource),
    };
    match patient.filter(|patient| kind(patient) == "Patient") {
        Some(patient) => identifiers(Some(patient)),
        None => subject.get("identifier").and_then(id).into_iter().collect(),
    }
}

/// Whether a reference means this entry: by its fullUrl, or as `Patient/id`.
fn is_at(entry: &Value, reference: &str) -> bool {
    let id = text(resource(entry), "id");
    let relative = reference.strip_prefix("Patient/");
    !reference.is_empty() && text(entry, "fullUrl") == reference
        || relative.is_some_and(|wanted| wanted == id && kind(resource(entry)) == "Patient")
}

/// The Patient of a Bundle that names no subject: its first resource (JP-CLINS), or the only one.
fn the_patient(entries: &[Value]) -> Option<&Value> {
    let first = entries.first().map(resource);
    if let Some(first) = first.filter(|first| kind(first) == "Patient") {
        return Some(first);
    }
    let resources = entries.iter().map(resource);
    let mut patients = resources.filter(|resource| kind(resource) == "Patient");
    patients.next().filter(|_| patients.next().is_none())
}

fn identifiers(patient: Option<&Value>) -> Vec<Id> {
    let ids = patient.map(|patient| items(patient, "identifier"));
    ids.unwrap_or_default().iter().filter_map(id).collect()
}

fn id(identifier: &Value) -> Option<Id> {
    Id::new(text(identifier, "system"), text(identifier, "value"))
}

/// What a CDA header says; `None` if there is nothing to compare.
pub(super) fn xml(content: &[u8], found: &mut Findings) -> Option<Said> {
    let root = match parse(content) {
        Ok(root) => root,
        // Another encoding or a deep document is no fault of it.
        Err(NotXml::TooLarge | NotXml::NotUtf8) => {
            let text = "the XML is too deep, or not in UTF-8: it is not compared with the metadata";
            found.unchecked.push(text.to_owned());
            return None;
        }
        Err(NotXml::Doctype) => {
            found.wrong.push("the XML has a document type".to_owned());
            return None;
        }
        Err(NotXml::Malformed) => {
            found.wrong.push("the XML cannot be read".to_owned());
            return None;
        }
    };
    if root.namespace == "http://hl7.org/fhir" {
        let text = "FHIR as XML is not compared with the metadata";
        found.unchecked.push(text.to_owned());
    }
    root.is("urn:hl7-org:v3", "ClinicalDocument")
        .then(|| header(&root, found))
}

fn header(root: &Element, found: &mut Findings) -> Said {
    let value = |element: Option<&Element>, name: &str| {
        let value = element.map(|element| element.value(name));
        value.unwrap_or_default().to_owned()
    };
    if root.all("recordTarget").count() > 1 {
        let text = "the document is about several patients";
        found.wrong.push(text.to_owned());
    }
    let role = root
        .child("recordTarget")
        .and_then(|target| target.child("patientRole"));
    let ids = role.into_iter().flat_map(|role| role.all("id"));
    let code = value(root.child("code"), "code");
    Said {
        types: Some(code)
            .filter(|code| !code.is_empty())
            .into_iter()
            .collect(),
        date: value(root.child("effectiveTime"), "value"),
        patient: ids
            .filter_map(|id| Id::new(id.value("root"), id.value("extension")))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patients(bundle: &Value) -> Vec<String> {
        let mut found = Findings::default();
        let said = json(bundle.to_string().as_bytes(), "", &mut found).unwrap();
        assert!(found.wrong.is_empty(), "{found:?}");
        said.patient.into_iter().map(|id| id.value).collect()
    }

    fn person(id: &str) -> Value {
        serde_json::json!({"fullUrl": format!("urn:uuid:{id}"), "resource": {"resourceType":
            "Patient", "id": id, "identifier": [{"system": "urn:oid:1.2.3", "value": id}]}})
    }

    #[test]
    fn only_the_subject_of_the_composition_is_asked() {
        let about = |subject: Value, others: &[&str]| {
            let mut composition = serde_json::json!({"resourceType": "Composition",
                "contained": [{"resourceType": "Patient", "id": "in",
                    "identifier": [{"value": "contained"}]}]});
            if !subject.is_null() {
                composition["subject"] = subject;
            }
            let mut entries = vec![serde_json::json!({ "resource": composition })];
            entries.extend(others.iter().map(|other| person(other)));
            patients(
                &serde_json::json!({"resourceType": "Bundle", "type": "document",
                "entry": entries}),
            )
        };
        let to = |reference: &str| serde_json::json!({ "reference": reference });
        assert_eq!(about(to("urn:uuid:b"), &["a", "b"]), ["b"]);
        assert_eq!(about(to("Patient/b"), &["a", "b"]), ["b"]);
        assert_eq!(about(to("Patient/b/_history/2"), &["a", "b"]), ["b"]);
        assert_eq!(about(to("#in"), &["a", "b"]), ["contained"]);
        assert!(
            about(to("urn:uuid:c"), &["a"]).is_empty(),
            "it is not there"
        );
        let alone = serde_json::json!({"identifier": {"value": "0001"}});
        assert_eq!(about(alone, &["a"]), ["0001"]);
        assert_eq!(about(Value::Null, &["a"]), ["a"]);
        assert!(about(Value::Null, &["a", "b"]).is_empty(), "which of them?");
    }

    #[test]
    fn a_collection_is_about_its_first_patient() {
        let of = |entries: Vec<Value>| {
            patients(
                &serde_json::json!({"resourceType": "Bundle", "type": "collection",
                "entry": entries}),
            )
        };
        let other = serde_json::json!({"resource": {"resourceType": "Condition"}});
        assert_eq!(of(vec![person("a"), person("b")]), ["a"]);
        assert_eq!(of(vec![other.clone(), person("b")]), ["b"]);
        assert!(of(vec![other, person("a"), person("b")]).is_empty());
    }

    #[test]
    fn an_oid_is_an_authority_in_either_form() {
        let authority = |system| Id::new(system, "1").unwrap().authority;
        assert_eq!(authority("urn:oid:1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(authority("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(authority("http://b.example/patients"), None);
        assert_eq!(authority(""), None);
        assert_eq!(Id::new("1.2.3", ""), None);
    }
}
