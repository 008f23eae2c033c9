//! What sections say in words: XHTML, for whoever does not read the entries.

use maud::{Markup, html};

use super::super::Whole;
use super::super::page::{Block, Row, warnings};
use super::super::words::Language;
use super::json::{Json, object, text as string, verbatim};

/// A block of the page as narrative.
pub(super) fn of(block: &Block, language: Language) -> Json {
    let rows = html! {
        ul { @for one in &block.rows { li { (row(one)) } } }
    };
    narrative(&rows, language)
}

/// Of what moment the document is, and what must be known before it is read.
pub(super) fn head(whole: &Whole<'_>, age: &str) -> Json {
    let patient = whole.summary.patient.clone().unwrap_or_default();
    let said = html! {
        p { (age) }
        @for warning in warnings(whole, &patient) { p { b { (warning) } } }
    };
    narrative(&said, whole.options.language)
}

fn row(row: &Row) -> Markup {
    html! {
        @for mark in &row.marks { b { "[" (mark) "] " } }
        b { (row.lead) }
        @for text in [&row.facts, &row.details] {
            @if !text.is_empty() { " " (text) }
        }
        @if !row.sources.is_empty() { " – " i { (row.sources) } }
    }
}

fn narrative(inside: &Markup, language: Language) -> Json {
    let tag = language.tag();
    // Nothing but elements that are written alike in HTML and XHTML.
    let div = html! {
        div xmlns="http://www.w3.org/1999/xhtml" lang=(tag) xml:lang=(tag) { (inside) }
    };
    object([
        ("status", string("generated")),
        ("div", verbatim(div.into_string())),
    ])
}
