//! Takes the facts of the minimum data set out of one document.
//!
//! Pure and total: any octets give an answer, none a panic. Codes, texts, dates and numbers are
//! kept as the source wrote them; what is not understood is counted, never guessed at, and
//! narrative text is never read. Read are FHIR R4 document and collection Bundles in JSON (IPS and
//! JP-CLINS 3文書6情報; what family and doctor wrote for the emergency, 医療的ケア, is such a Bundle too) and the
//! coded diagnoses and results of CDA R2. Everything else is to be listed as a document.
//!
//! What must never leave its community (未提供) is dropped here, whatever the caller does later;
//! everything else is taken with its flags and confidentiality, for the access decision to judge.

mod allergy;
mod bundle;
mod care;
mod cda;
pub(super) mod codes;
mod condition;
mod device;
mod directive;
mod elements;
mod flag;
mod immunization;
mod item;
mod json;
mod medication;
mod observation;
mod observation_kind;
mod procedure;
mod section;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::wire::pb;
use crate::wire::pb::common::NationalFlag;
use crate::wire::pb::emergency::{AbsenceStatement, SummaryItem};
use crate::xml::NotXml;

/// Octets of the largest document that is read. A Bundle with embedded PDF may have several MiB.
pub const MAX_CONTENT: usize = 16 << 20;
/// Items taken from one document; what is beyond counts as not taken.
pub const MAX_ITEMS: usize = 2_000;

/// A document to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// XDSDocumentEntry.mimeType.
    pub mime_type: &'a str,
    /// XDSDocumentEntry.formatCode, informative: what the document is, it says itself.
    pub format_code: &'a str,
    /// The metadata that it is registered with.
    pub entry: &'a pb::documents::DocumentEntry,
    /// The document itself.
    pub content: &'a [u8],
    /// When the region was asked for it.
    pub as_of: jiff::Timestamp,
}

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// The facts, in the order of the document. `item_id`, `priority` and `conflict_group` are
    /// empty: they belong to a summary, see [`merge`](crate::emergency::merge::merge).
    pub items: Vec<SummaryItem>,
    /// What the document states to be absent.
    pub absences: Vec<AbsenceStatement>,
    /// Entries that may say something about the patient, but were not understood or came after
    /// [`MAX_ITEMS`]. While it is not 0, the document is to be listed as not wholly understood.
    pub not_taken: usize,
    /// Whether the document was understood at all.
    pub outcome: Outcome,
}

/// Whether a document was understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It was read; perhaps it says nothing.
    #[default]
    Readable,
    /// Nothing was taken from it.
    NotUnderstood(NotUnderstood),
}

/// Why nothing was taken from a document. Never has any of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUnderstood {
    /// A format that is listed, not read: PDF, images, HL7 v2.
    UnknownFormat,
    /// A CDA document with nothing coded in it: narrative text is not read.
    NarrativeOnly,
    /// Larger than [`MAX_CONTENT`].
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
    /// Not well-formed, nested too deeply, or with too many parts.
    Malformed,
    /// JSON or XML, but not a FHIR Bundle of type document or collection, nor a CDA document.
    UnknownStructure,
    /// XML with a document type definition, which is refused unread.
    Doctype,
}

impl From<NotXml> for NotUnderstood {
    fn from(why: NotXml) -> Self {
        match why {
            NotXml::Malformed => Self::Malformed,
            NotXml::NotUtf8 => Self::NotUtf8,
            NotXml::Doctype => Self::Doctype,
            NotXml::TooLarge => Self::TooLarge,
        }
    }
}

impl NotUnderstood {
    /// The stable code for `ListedDocument.reason`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownFormat | Self::UnknownStructure => "UNKNOWN_FORMAT",
            Self::NarrativeOnly => "NARRATIVE_ONLY",
            Self::TooLarge => "TOO_LARGE",
            Self::NotUtf8 | Self::Malformed | Self::Doctype => "UNREADABLE",
        }
    }

    /// A reason with this code; of several, the most general.
    pub(in crate::emergency) fn of_code(code: &str) -> Self {
        match code {
            "NARRATIVE_ONLY" => Self::NarrativeOnly,
            "TOO_LARGE" => Self::TooLarge,
            "UNREADABLE" => Self::Malformed,
            _ => Self::UnknownFormat,
        }
    }
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownFormat => "a format that is listed, not read",
            Self::NarrativeOnly => "cda: listed, not read, as nothing in it is coded",
            Self::TooLarge => "larger than the limit",
            Self::NotUtf8 => "not UTF-8",
            Self::Malformed => "not well-formed, or nested too deeply",
            Self::UnknownStructure => "neither a FHIR document nor a CDA document",
            Self::Doctype => "has a document type definition",
        })
    }
}

impl From<NotUnderstood> for Extracted {
    fn from(reason: NotUnderstood) -> Self {
        Self {
            outcome: Outcome::NotUnderstood(reason),
            ..Self::default()
        }
    }
}

/// Takes what it can out of `document`.
#[must_use]
pub fn extract(document: &Source<'_>) -> Extracted {
    let undelivered = document
        .entry
        .national_flags
        .contains(&NationalFlag::Undelivered.into());
    if undelivered {
        return Extracted::default();
    }
    if document.content.len() > MAX_CONTENT {
        return NotUnderstood::TooLarge.into();
    }
    let read = match Format::of(document.mime_type) {
        Some(Format::Json) => bundle::read(document),
        Some(Format::Xml) => cda::read(document),
        None => Err(NotUnderstood::UnknownFormat),
    };
    read.unwrap_or_else(Extracted::from)
}

enum Format {
    Json,
    Xml,
}

impl Format {
    /// By the media type without its parameters.
    fn of(mime_type: &str) -> Option<Self> {
        let media = mime_type.split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "application/fhir+json" | "application/json" | "application/json+fhir" => {
                Some(Self::Json)
            }
            "text/xml" | "application/xml" | "application/hl7-v3+xml" | "application/x-hl7" => {
                Some(Self::Xml)
            }
            _ => None,
        }
    }
}

/// The document as text, without a byte order mark.
fn utf8<'a>(document: &Source<'a>) -> Result<&'a str, NotUnderstood> {
    let text = std::str::from_utf8(document.content).map_err(|_| NotUnderstood::NotUtf8)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
