//! The summary as a document: FHIR IPS, a page for the browser, a page for the printer.
//!
//! Pure functions from what was merged to octets: the same summary gives the same document, on any
//! day and at any node. What could not be asked, is withheld or was not understood is in each form
//! (INV-6), and in a form for the patient nothing that the patient has not been told (未告知).

mod gaps;
mod html;
mod ips;
mod page;
mod pdf;
mod plain;
#[cfg(test)]
mod tests;
mod text;
mod words;
mod writer;

use super::merge::is_denied;
use crate::error::{Error, Reason, Result};
use crate::wire::pb::common::{Completeness, NationalFlag};
use crate::wire::pb::emergency::{
    AbsenceReason, EmergencySummary, GetSummaryResponse, SummaryForm, SummaryItem,
};

pub(super) use ips::json;
pub use words::Language;

/// The name of a section, Japanese and English.
pub(super) fn section_name(
    section: crate::wire::pb::emergency::SummarySection,
) -> (&'static str, &'static str) {
    let name = words::section(section);
    (name.ja, name.en)
}

/// Octets of the largest document; what a call can carry.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// How the document is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Main language.
    pub language: Language,
    /// It will be handed to the patient: without 未告知, and without the list of documents, whose
    /// titles may tell it.
    pub for_patient: bool,
}

/// A written document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Its octets.
    pub octets: Vec<u8>,
    /// Its media type.
    pub mime_type: &'static str,
}

// Has the patient's data in it, which is not for logs (INV-8).
impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (octets, mime_type) = (self.octets.len(), self.mime_type);
        write!(f, "Document({octets} octets of {mime_type})")
    }
}

/// Writes `answer` as `form`.
///
/// # Errors
/// [`Reason::TooManyResults`] for one of more than [`MAX_DOCUMENT`] octets.
pub fn document(
    form: SummaryForm,
    answer: &GetSummaryResponse,
    options: Options,
) -> Result<Document> {
    let (mut summary, completeness) = (
        answer.summary.clone().unwrap_or_default(),
        answer.completeness.clone().unwrap_or_default(),
    );
    if options.for_patient {
        hide_uninformed(&mut summary);
    }
    let whole = Whole {
        summary: &summary,
        completeness: &completeness,
        options,
    };
    let (octets, mime_type) = match form {
        SummaryForm::Unspecified | SummaryForm::FhirIps => {
            (ips::bundle(&whole), "application/fhir+json")
        }
        SummaryForm::Html => (
            html::write(&page::Page::of(&whole)),
            "text/html; charset=utf-8",
        ),
        SummaryForm::Pdf => (pdf::write(&page::Page::of(&whole)), "application/pdf"),
    };
    if octets.len() > MAX_DOCUMENT {
        let message = "the document is larger than a call can carry; ask for the summary";
        return Err(Error::new(Reason::TooManyResults, message));
    }
    Ok(Document { octets, mime_type })
}

/// What `summary` says as plain text, of `day`.
pub fn plain(
    summary: &EmergencySummary,
    completeness: &Completeness,
    options: Options,
    day: &str,
) -> String {
    let whole = Whole {
        summary,
        completeness,
        options,
    };
    plain::write(&page::Page::of(&whole), day)
}

/// A summary with how complete it is, and how it is to be written.
#[derive(Clone, Copy)]
struct Whole<'a> {
    summary: &'a EmergencySummary,
    completeness: &'a Completeness,
    options: Options,
}

impl<'a> Whole<'a> {
    /// The items of the document, in their order.
    fn items(&self) -> impl Iterator<Item = &'a SummaryItem> + use<'a> {
        self.summary.items.iter()
    }
}

/// Takes out what the patient has not been told (未告知), and what would tell of it: statements that it
/// makes untrue, and marks of a contradiction whose other side is gone.
fn hide_uninformed(summary: &mut EmergencySummary) {
    let (hidden, shown): (Vec<_>, Vec<_>) = std::mem::take(&mut summary.items)
        .into_iter()
        .partition(is_uninformed);
    summary.items = shown;
    summary.absences.retain(|absence| {
        let untrue = hidden.iter().any(|item| is_denied(item, absence));
        absence.reason() != AbsenceReason::StatedNone || !untrue
    });
    let groups: Vec<String> = hidden
        .into_iter()
        .map(|item| item.conflict_group)
        .filter(|group| !group.is_empty())
        .collect();
    for group in groups {
        let mut left = summary
            .items
            .iter_mut()
            .filter(|item| item.conflict_group == group);
        // Two that are left still contradict each other, or may.
        if let (Some(only), None) = (left.next(), left.next()) {
            only.conflict_group.clear();
        }
    }
}

/// Whether the patient has not been told.
fn is_uninformed(item: &SummaryItem) -> bool {
    let flag = i32::from(NationalFlag::Uninformed);
    item.national_flags.contains(&flag)
}
