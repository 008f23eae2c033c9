//! Whether a document is what its metadata says: its kind by its first octets, and what a FHIR
//! document Bundle or a CDA header says of patient, type and date. Octets are read, never altered.
//!
//! Bounded: only the first octets of a document are looked at ([`MAX_HEAD`]), and what is larger is
//! judged by its kind alone. Findings name fields, never values of a patient (INV-8).

use crate::types::{Dtm, MimeType};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use crate::xml::{Element, NotXml, parse};

/// Octets of a document that are looked at.
pub(super) const MAX_HEAD: usize = 1 << 20;

/// What a document is, by its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pdf,
    Dicom,
    Png,
    Jpeg,
    Gif,
    Tiff,
    Zip,
    Xml,
    Json,
    Text,
    Other,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Dicom => "DICOM",
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Zip => "ZIP",
            Self::Xml => "XML",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Other => "of no known kind",
        }
    }
}

/// Everything about a document that its metadata says otherwise. `head` are its first octets, all of
/// them if it is `whole`.
pub(super) fn findings(head: &[u8], whole: bool, entry: &pb::DocumentEntry) -> Vec<String> {
    let kind = sniff(head);
    let mut found = Vec::new();
    let declared = entry.mime_type.parse::<MimeType>();
    let declared = declared.map(|mime| mime.essence()).unwrap_or_default();
    if !is_as_declared(kind, &declared) {
        found.push(format!(
            "the content is {}, mimeType says {declared}",
            kind.name()
        ));
        return found;
    }
    match kind {
        Kind::Pdf if whole && !has_end_of_pdf(head) => {
            found.push("the PDF has no end: it may be cut off".to_owned());
        }
        Kind::Dicom if !has_meta_information(head) => {
            found.push("the DICOM file has no meta information".to_owned());
        }
        Kind::Json if whole => fhir(head, &declared, entry, &mut found),
        Kind::Xml if whole => xml(head, entry, &mut found),
        _ => {}
    }
    found
}

fn sniff(head: &[u8]) -> Kind {
    let magic: [(&[u8], Kind); 8] = [
        (b"\x89PNG\r\n\x1a\n", Kind::Png),
        (b"\xff\xd8\xff", Kind::Jpeg),
        (b"GIF8", Kind::Gif),
        (b"II*\0", Kind::Tiff),
        (b"MM\0*", Kind::Tiff),
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"%PDF-", Kind::Pdf),
    ];
    if let Some((_, kind)) = magic.iter().find(|(magic, _)| head.starts_with(magic)) {
        return *kind;
    }
    if head.get(128..132) == Some(b"DICM") {
        return Kind::Dicom;
    }
    // A PDF may have something before its header (ISO 32000-1 Annex H.3.4.1).
    let early = head.get(..1_024).unwrap_or(head);
    if early.windows(5).any(|octets| octets == b"%PDF-") {
        return Kind::Pdf;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    match text.iter().find(|octet| !octet.is_ascii_whitespace()) {
        Some(b'<') => Kind::Xml,
        Some(b'{' | b'[') => Kind::Json,
        _ if is_text(text) => Kind::Text,
        _ => Kind::Other,
    }
}

/// UTF-8, but for a character that the end of the head cuts off, and no control characters.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    valid && !head.contains(&0)
}

/// Whether octets of this kind may be called so. What is not known here is not judged.
fn is_as_declared(kind: Kind, declared: &str) -> bool {
    match declared {
        "application/pdf" => kind == Kind::Pdf,
        "application/dicom" => kind == Kind::Dicom,
        "image/png" => kind == Kind::Png,
        "image/jpeg" => kind == Kind::Jpeg,
        "image/gif" => kind == Kind::Gif,
        "image/tiff" => kind == Kind::Tiff,
        "application/zip" => kind == Kind::Zip,
        "text/xml" | "application/xml" => kind == Kind::Xml,
        "application/json" => kind == Kind::Json,
        // Older texts are in other encodings, which look like nothing.
        "text/plain" => matches!(kind, Kind::Text | Kind::Xml | Kind::Json | Kind::Other),
        other if other.ends_with("+xml") => kind == Kind::Xml,
        other if other.ends_with("+json") => kind == Kind::Json,
        _ => true,
    }
}

fn has_end_of_pdf(content: &[u8]) -> bool {
    let tail = content.len().saturating_sub(1_024);
    let tail = content.get(tail..).unwrap_or(content);
    tail.windows(5).any(|octets| octets == b"%%EOF")
}

/// Group 0002 begins right behind the magic (DICOM PS3.10 §7.1).
fn has_meta_information(content: &[u8]) -> bool {
    content.get(132..134) == Some(&[0x02, 0x00])
}

/// Compares what a document says of itself with its metadata.
fn compare(said: &Said, entry: &pb::DocumentEntry, found: &mut Vec<String>) {
    let metadata = [entry.type_code.as_ref(), entry.class_code.as_ref()];
    let mut codes = metadata
        .into_iter()
        .flatten()
        .map(|code| code.code.as_str());
    if !said.types.is_empty() && !codes.any(|code| said.types.iter().any(|said| said == code)) {
        found.push("the document's type is neither typeCode nor classCode".to_owned());
    }
    let ids: [Option<&cpb::Identifier>; 2] =
        [entry.patient_id.as_ref(), entry.source_patient_id.as_ref()];
    let mut ids = ids.into_iter().flatten().map(|id| id.value.as_str());
    if !said.patients.is_empty() && !ids.any(|id| said.patients.iter().any(|said| said == id)) {
        let text = "the document's patient is neither patientId nor sourcePatientId";
        found.push(text.to_owned());
    }
    if let (Some(said), Ok(created)) = (said.day(), entry.creation_time.parse::<Dtm>())
        && created.as_str().len() >= 8
    {
        // creationTime is UTC, the document's own date often local: a day apart is the same.
        let created = created.as_str().get(..8).and_then(days);
        if created.is_some_and(|created| (created - said).abs() > 1) {
            found.push("the document's date is not creationTime".to_owned());
        }
    }
}

/// What a document says of itself.
#[derive(Debug, Default)]
struct Said {
    types: Vec<String>,
    patients: Vec<String>,
    /// As digits, at least to the day, or empty.
    date: String,
}

impl Said {
    fn day(&self) -> Option<i32> {
        self.date.get(..8).and_then(days)
    }
}

/// A date of eight digits as a number of days.
fn days(digits: &str) -> Option<i32> {
    let part = |from, to| {
        digits
            .get(from..to)
            .and_then(|part| part.parse::<i16>().ok())
    };
    let small = |from, to| part(from, to).and_then(|part| i8::try_from(part).ok());
    let date = jiff::civil::Date::new(part(0, 4)?, small(4, 6)?, small(6, 8)?).ok()?;
    let since = date.since(jiff::civil::date(1, 1, 1)).ok()?;
    Some(since.get_days())
}

fn fhir(content: &[u8], declared: &str, entry: &pb::DocumentEntry, found: &mut Vec<String>) {
    // Depth is bounded by the parser, size by the head.
    let Ok(resource) = serde_json::from_slice::<serde_json::Value>(content) else {
        found.push("the JSON cannot be read".to_owned());
        return;
    };
    let is = |resource: &serde_json::Value, kind| {
        resource
            .get("resourceType")
            .is_some_and(|said| said == kind)
    };
    if !is(&resource, "Bundle") {
        if declared == "application/fhir+json"
            && !resource
                .get("resourceType")
                .is_some_and(serde_json::Value::is_string)
        {
            found.push("the JSON is no FHIR resource".to_owned());
        }
        return;
    }
    let entries = resource.get("entry").and_then(serde_json::Value::as_array);
    let resources = || {
        entries
            .into_iter()
            .flatten()
            .map(|entry| &entry["resource"])
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut said = Said::default();
    if resource.get("type").is_some_and(|kind| kind == "document") {
        match resources().next().filter(|first| is(first, "Composition")) {
            Some(composition) => {
                let codings = composition.pointer("/type/coding");
                let codings = codings.and_then(serde_json::Value::as_array);
                said.types = codings
                    .into_iter()
                    .flatten()
                    .map(|one| text(&one["code"]))
                    .collect();
                let date = text(&composition["date"]);
                said.date = date.chars().take(10).filter(char::is_ascii_digit).collect();
            }
            None => found.push("the document Bundle does not begin with a Composition".to_owned()),
        }
    }
    for patient in resources().filter(|resource| is(resource, "Patient")) {
        let ids = patient["identifier"].as_array();
        said.patients
            .extend(ids.into_iter().flatten().map(|id| text(&id["value"])));
    }
    compare(&said, entry, found);
}

fn xml(content: &[u8], entry: &pb::DocumentEntry, found: &mut Vec<String>) {
    let root = match parse(content) {
        Ok(root) => root,
        // Another encoding or a deep document is no fault of it.
        Err(NotXml::TooLarge | NotXml::NotUtf8) => return,
        Err(NotXml::Doctype) => {
            found.push("the XML has a document type".to_owned());
            return;
        }
        Err(NotXml::Malformed) => {
            found.push("the XML cannot be read".to_owned());
            return;
        }
    };
    if !root.is("urn:hl7-org:v3", "ClinicalDocument") {
        return;
    }
    let value = |element: Option<&Element>, name: &str| {
        element
            .and_then(|element| element.attribute(name))
            .map(str::to_owned)
    };
    let mut said = Said {
        types: value(root.child("code"), "code").into_iter().collect(),
        date: value(root.child("effectiveTime"), "value").unwrap_or_default(),
        ..Said::default()
    };
    for target in root.all("recordTarget") {
        let role = target.child("patientRole");
        let ids = role.into_iter().flat_map(|role| role.all("id"));
        said.patients
            .extend(ids.filter_map(|id| value(Some(id), "extension")));
    }
    compare(&said, entry, found);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(mime: &str) -> pb::DocumentEntry {
        let code = |code: &str| {
            Some(cpb::CodedValue {
                code: code.into(),
                ..Default::default()
            })
        };
        pb::DocumentEntry {
            mime_type: mime.into(),
            type_code: code("18842-5"),
            class_code: code("Z0002"),
            patient_id: Some(cpb::Identifier {
                value: "0001".into(),
                ..Default::default()
            }),
            creation_time: "20240131150000".into(),
            ..Default::default()
        }
    }

    fn of(content: &[u8], mime: &str) -> Vec<String> {
        findings(content, true, &entry(mime))
    }

    #[test]
    fn kinds_are_told_by_their_first_octets() {
        let mut dicom = vec![0; 128];
        dicom.extend_from_slice(b"DICM\x02\x00\x00\x00");
        let pdf = b"%PDF-1.4\n...\n%%EOF\n";
        for (content, mime) in [
            (pdf.as_slice(), "application/pdf"),
            (&dicom, "application/dicom"),
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            ("本文".as_bytes(), "text/plain"),
            (b"\x83\x65\x83\x58", "text/plain"),
            (b"<a/>", "text/xml; charset=UTF-8"),
            (b"\xef\xbb\xbf <a/>", "application/xml"),
            (b"{}", "application/json"),
            (b"\x00\x01", "application/octet-stream"),
        ] {
            assert!(
                of(content, mime).is_empty(),
                "{mime}: {:?}",
                of(content, mime)
            );
        }
        for (content, mime, why) in [
            (pdf.as_slice(), "text/plain", "is PDF"),
            (b"<a/>", "application/pdf", "is XML"),
            (b"%PDF-1.4 cut", "application/pdf", "no end"),
            (b"{}", "application/fhir+json", "no FHIR"),
            (b"{", "application/json", "cannot be read"),
            (b"<a>", "text/xml", "cannot be read"),
            (b"<!DOCTYPE a><a/>", "text/xml", "document type"),
            (&dicom[..132], "application/dicom", "meta information"),
        ] {
            let found = of(content, mime);
            assert!(
                found.len() == 1 && found[0].contains(why),
                "{mime}: {found:?}"
            );
        }
    }

    fn bundle(code: &str, date: &str, patient: &str) -> Vec<u8> {
        serde_json::json!({"resourceType": "Bundle", "type": "document", "entry": [
            {"resource": {"resourceType": "Composition", "type": {"coding": [{"code": code}]}, "date": date}},
            {"resource": {"resourceType": "Patient", "identifier": [{"value": patient}]}},
        ]})
        .to_string()
        .into_bytes()
    }

    fn cda(code: &str, date: &str, patient: &str) -> Vec<u8> {
        format!(
            "<ClinicalDocument xmlns='urn:hl7-org:v3'><code code='{code}'/><effectiveTime value='{date}'/>\
             <recordTarget><patientRole><id extension='{patient}'/></patientRole></recordTarget></ClinicalDocument>"
        )
        .into_bytes()
    }

    #[test]
    fn what_a_document_says_of_itself_is_compared() {
        let json = "application/fhir+json";
        for (mime, content) in [
            (json, bundle("18842-5", "2024-02-01T00:00:00+09:00", "0001")),
            ("text/xml", cda("18842-5", "20240201000000+0900", "0001")),
        ] {
            assert!(of(&content, mime).is_empty(), "{:?}", of(&content, mime));
        }
        for (mime, content) in [
            (json, bundle("57133-1", "2024-03-01", "0002")),
            ("text/xml", cda("57133-1", "20240301", "0002")),
        ] {
            let found = of(&content, mime);
            assert_eq!(found.len(), 3, "{found:?}");
            assert!(
                found.iter().all(|text| !text.contains("0002")),
                "no value of a patient"
            );
        }
        // What is only begun is judged by its kind alone.
        let head = bundle("57133-1", "2024-03-01", "0002");
        assert!(findings(&head[..20], false, &entry(json)).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(content in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            for mime in ["application/pdf", "application/dicom", "text/xml", "application/fhir+json"] {
                findings(&content, whole, &entry(mime));
            }
        }

        #[test]
        fn no_text_panics(text in "[{}<>/\"':,a-c0-9\\[\\]resourcTyBundl ]{0,60}") {
            for mime in ["text/xml", "application/fhir+json"] {
                findings(text.as_bytes(), true, &entry(mime));
            }
        }
    }
}
