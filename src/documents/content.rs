//! Whether a document is what its metadata says: its kind by its first octets, and what a FHIR
//! document Bundle or a CDA header says of patient, type and date. Octets are read, never altered.
//!
//! Bounded: the first octets of a document are looked at ([`MAX_HEAD`]), all of XML and JSON up to a
//! bound of the community's; what is larger is judged by its kind alone, and that is said. Findings
//! name fields, never values of a patient (INV-8).

use tokio::sync::Semaphore;

use crate::types::{Dtm, MimeType};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

mod said;

use said::{Id, Said};

/// Octets of any document that are looked at.
pub(super) const MAX_HEAD: usize = 1 << 20;

/// Documents longer than [`MAX_HEAD`] that are read at one time: JSON takes many times its size in
/// memory while it is looked at (INV-7).
pub(super) static LARGE: Semaphore = Semaphore::const_new(2);

/// What was found about a document.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is not as its metadata says.
    pub(super) wrong: Vec<String>,
    /// What could not be compared with it: never a reason to refuse, but said.
    pub(super) unchecked: Vec<String>,
}

impl Findings {
    /// The look at it failed.
    pub(super) fn failed() -> Self {
        Self {
            wrong: vec!["the content could not be looked at".to_owned()],
            unchecked: Vec::new(),
        }
    }
}

/// How many octets of a document are kept for the look at it, by how it begins: `most` of XML and
/// JSON, which state their patient.
pub(super) fn kept(begin: &[u8], most: usize) -> usize {
    let begin = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin);
    match begin.iter().find(|octet| !octet.is_ascii_whitespace()) {
        Some(b'<' | b'{' | b'[') => most.max(MAX_HEAD),
        _ => MAX_HEAD,
    }
}

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

/// Everything about a document that its metadata says otherwise, or that could not be compared.
/// `head` are its first octets, all of them if it is `whole`.
pub(super) fn findings(head: &[u8], whole: bool, entry: &pb::DocumentEntry) -> Findings {
    let kind = sniff(head);
    let mut found = Findings::default();
    let declared = entry.mime_type.parse::<MimeType>();
    let declared = declared.map(|mime| mime.essence()).unwrap_or_default();
    if !is_as_declared(kind, &declared) {
        found.wrong.push(format!(
            "the content is {}, mimeType says {declared}",
            kind.name()
        ));
        return found;
    }
    let said = match kind {
        Kind::Pdf if whole && !has_end_of_pdf(head) => {
            let text = "the PDF has no end: it may be cut off";
            found.wrong.push(text.to_owned());
            None
        }
        Kind::Dicom if !has_meta_information(head) => {
            let text = "the DICOM file has no meta information";
            found.wrong.push(text.to_owned());
            None
        }
        Kind::Json | Kind::Xml if !whole => {
            let text = "the document is larger than is read: its patient, type and date are not \
                        compared with the metadata";
            found.unchecked.push(text.to_owned());
            None
        }
        Kind::Json => said::json(head, &declared, &mut found),
        Kind::Xml => said::xml(head, &mut found),
        _ => None,
    };
    if let Some(said) = said {
        compare(&said, entry, &mut found);
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
fn compare(said: &Said, entry: &pb::DocumentEntry, found: &mut Findings) {
    let metadata = [entry.type_code.as_ref(), entry.class_code.as_ref()];
    let mut codes = metadata
        .into_iter()
        .flatten()
        .map(|code| code.code.as_str());
    if !said.types.is_empty() && !codes.any(|code| said.types.iter().any(|said| said == code)) {
        let text = "the document's type is neither typeCode nor classCode";
        found.wrong.push(text.to_owned());
    }
    compare_patient(&said.patient, entry, found);
    if let (Some(said), Ok(created)) = (
        said.date.get(..8).and_then(days),
        entry.creation_time.parse::<Dtm>(),
    ) && created.as_str().len() >= 8
    {
        // creationTime is UTC, the document's own date often local: a day apart is the same.
        let created = created.as_str().get(..8).and_then(days);
        if created.is_some_and(|created| (created - said).abs() > 1) {
            let text = "the document's date is not creationTime";
            found.wrong.push(text.to_owned());
        }
    }
}

/// A patient's number means something under its assigning authority only: `0001` is somebody else in
/// each hospital. Where one side states no OID there is only the number, which is said.
fn compare_patient(said: &[Id], entry: &pb::DocumentEntry, found: &mut Findings) {
    if said.is_empty() {
        let text = "the document names no patient that can be compared with the metadata";
        found.unchecked.push(text.to_owned());
        return;
    }
    let ids: [Option<&cpb::Identifier>; 2] =
        [entry.patient_id.as_ref(), entry.source_patient_id.as_ref()];
    let alike = |oid_too: bool| {
        ids.into_iter().flatten().any(|id| {
            let same = |said: &Id| match &said.authority {
                Some(oid) if !id.assigning_authority.is_empty() => *oid == id.assigning_authority,
                _ => !oid_too,
            };
            said.iter().any(|said| said.value == id.value && same(said))
        })
    };
    if alike(true) {
        return;
    }
    if alike(false) {
        let text = "the document's patient is compared by value only: no OID says whose it is";
        found.unchecked.push(text.to_owned());
    } else {
        let text = "the document's patient is neither patientId nor sourcePatientId";
        found.wrong.push(text.to_owned());
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
                assigning_authority: "1.2.3".into(),
                value: "0001".into(),
                ..Default::default()
            }),
            creation_time: "20240131150000".into(),
            ..Default::default()
        }
    }

    /// What is wrong, and then what could not be compared.
    fn of(content: &[u8], mime: &str) -> Vec<String> {
        let found = findings(content, true, &entry(mime));
        [found.wrong, found.unchecked].concat()
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

    fn bundle(code: &str, date: &str, (system, patient): (&str, &str)) -> Vec<u8> {
        serde_json::json!({"resourceType": "Bundle", "type": "document", "entry": [
            {"resource": {"resourceType": "Composition", "type": {"coding": [{"code": code}]},
                "subject": {"reference": "urn:uuid:p"}, "date": date}},
            {"fullUrl": "urn:uuid:p", "resource": {"resourceType": "Patient",
                "identifier": [{"system": system, "value": patient}]}},
            {"fullUrl": "urn:uuid:m", "resource": {"resourceType": "Patient",
                "identifier": [{"system": "urn:oid:1.2.3", "value": "0001"}]}},
        ]})
        .to_string()
        .into_bytes()
    }

    fn cda(code: &str, date: &str, (root, patient): (&str, &str)) -> Vec<u8> {
        format!(
            "<ClinicalDocument xmlns='urn:hl7-org:v3'><code code='{code}'/><effectiveTime value='{date}'/>\
             <recordTarget><patientRole><id root='{root}' extension='{patient}'/></patientRole>\
             </recordTarget></ClinicalDocument>"
        )
        .into_bytes()
    }

    const JSON: &str = "application/fhir+json";
    const OWN: (&str, &str) = ("1.2.3", "0001");
    const OWN_URN: (&str, &str) = ("urn:oid:1.2.3", "0001");

    #[test]
    fn what_a_document_says_of_itself_is_compared() {
        for (mime, content) in [
            (
                JSON,
                bundle("18842-5", "2024-02-01T00:00:00+09:00", OWN_URN),
            ),
            ("text/xml", cda("18842-5", "20240201000000+0900", OWN)),
        ] {
            assert!(of(&content, mime).is_empty(), "{:?}", of(&content, mime));
        }
        for (mime, content) in [
            (
                JSON,
                bundle("57133-1", "2024-03-01", ("urn:oid:1.2.3", "0002")),
            ),
            ("text/xml", cda("57133-1", "20240301", ("1.2.3", "0002"))),
        ] {
            let found = of(&content, mime);
            assert_eq!(found.len(), 3, "{found:?}");
            assert!(
                found.iter().all(|text| !text.contains("0002")),
                "no value of a patient"
            );
        }
    }

    #[test]
    fn the_same_number_of_another_hospital_is_another_patient() {
        let b = ("urn:oid:1.2.4", "0001");
        for (mime, content) in [
            (JSON, bundle("18842-5", "2024-01-31", b)),
            ("text/xml", cda("18842-5", "20240131", ("1.2.4", "0001"))),
        ] {
            let found = findings(&content, true, &entry(mime));
            assert!(found.unchecked.is_empty(), "{found:?}");
            assert_eq!(found.wrong.len(), 1, "{found:?}");
            assert!(found.wrong[0].contains("neither patientId"), "{found:?}");
        }
        let two = String::from_utf8(cda("18842-5", "20240131", OWN)).unwrap();
        let two = two.replace("</ClinicalDocument>", "<recordTarget/></ClinicalDocument>");
        let found = findings(two.as_bytes(), true, &entry("text/xml"));
        assert!(found.wrong[0].contains("several patients"), "{found:?}");
    }

    #[test]
    fn what_cannot_be_compared_is_said_and_is_not_wrong() {
        let head = bundle("57133-1", "2024-03-01", ("urn:oid:1.2.3", "0002"));
        let nobody = br#"{"resourceType": "Bundle", "type": "collection"}"#;
        let uri = bundle("18842-5", "2024-01-31", ("http://b.example", "0001"));
        let bare = cda("18842-5", "20240131", ("", "0001"));
        let cases: [(&[u8], bool, &str, &str); 8] = [
            (&head[..20], false, JSON, "larger than is read"),
            (b"<a", false, "text/xml", "larger than is read"),
            (nobody, true, JSON, "names no patient"),
            (&uri, true, JSON, "by value only"),
            (&bare, true, "text/xml", "by value only"),
            (b"<a>\xff</a>", true, "text/xml", "not in UTF-8"),
            (
                br#"{"resourceType": "Observation"}"#,
                true,
                JSON,
                "no Bundle",
            ),
            (
                b"<Bundle xmlns='http://hl7.org/fhir'/>",
                true,
                "text/xml",
                "as XML",
            ),
        ];
        for (content, whole, mime, why) in cases {
            let found = findings(content, whole, &entry(mime));
            assert!(found.wrong.is_empty(), "{found:?}");
            assert!(
                found.unchecked.len() == 1 && found.unchecked[0].contains(why),
                "{why}: {found:?}"
            );
        }
    }

    #[test]
    fn more_is_kept_of_what_states_its_patient() {
        let most = 4 * MAX_HEAD;
        for begin in [b"<".as_slice(), b" {", b"\xef\xbb\xbf\n["] {
            assert_eq!(kept(begin, most), most);
        }
        for begin in [b"%PDF-".as_slice(), b"", b" "] {
            assert_eq!(kept(begin, most), MAX_HEAD);
        }
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
