//! The page for a browser: one file that needs nothing else, reads on a phone, and prints on A4 in
//! black and white.
//!
//! No script and nothing from elsewhere: the page forbids it to itself (Content-Security-Policy,
//! its style by hash), so that not even text that got past the escaping could do something.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::page::{Block, Page, Row};

const STYLE: &str = include_str!("page.css");

/// The page as HTML.
pub(super) fn write(page: &Page) -> Vec<u8> {
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    );
    let first = page.blocks.iter().filter(|block| block.first);
    let others = page.blocks.iter().filter(|block| !block.first);
    let whole = html! {
        (DOCTYPE)
        html lang=(page.language.tag()) {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                // Without the name: titles are kept in histories.
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header class="header" {
                    h1 { (page.title) }
                    p class="patient" { (page.patient) }
                    @for line in &page.header { p { (line) } }
                    p class="age" { (page.age) }
                    @if !page.warnings.is_empty() {
                        ul class="warnings" role="alert" {
                            @for warning in &page.warnings { li { "⚠ " (warning) } }
                        }
                    }
                }
                main {
                    @for one in first { (block(one)) }
                    div class="blocks" { @for one in others { (block(one)) } }
                }
                footer { @for line in &page.footer { p { (line) } } }
            }
        }
    };
    whole.into_string().into_bytes()
}

fn block(block: &Block) -> Markup {
    html! {
        section class=(if block.first { "first" } else { "block" }) {
            h2 { (block.title) }
            ul class="rows" { @for one in &block.rows { li { (row(one)) } } }
        }
    }
}

fn row(row: &Row) -> Markup {
    html! {
        @for mark in &row.marks { span class="mark" { (mark) } }
        @if !row.lead.is_empty() { span class="lead" { (row.lead) } }
        @if !row.facts.is_empty() { " " span class="facts" { (row.facts) } }
        @if !row.details.is_empty() { div class="details" { (row.details) } }
        @if !row.sources.is_empty() { div class="sources" { (row.sources) } }
    }
}
