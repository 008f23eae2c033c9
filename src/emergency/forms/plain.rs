//! The page as plain text, without its header and footer: for a document that has its own.

use super::page::{Page, Row};
use super::text::clean;

/// Title, day, warnings, then block by block; a line for each fact and one for where it comes from. The
/// same facts on the same day give the same text.
pub(super) fn write(page: &Page, day: &str) -> String {
    let mut lines = vec![page.title.clone(), day.to_owned()];
    lines.extend(page.warnings.iter().cloned());
    for block in &page.blocks {
        lines.extend([String::new(), format!("■ {}", block.title)]);
        for row in &block.rows {
            lines.push(fact(row));
            if !row.sources.is_empty() {
                lines.push(format!("  出典: {}", row.sources));
            }
        }
    }
    // What is one line stays one: no text of a source makes a heading.
    let lines: Vec<_> = lines.iter().map(|line| clean_end(line)).collect();
    lines.join("\n") + "\n"
}

fn fact(row: &Row) -> String {
    let mut said = "・".to_owned();
    for mark in &row.marks {
        said.extend(["【", mark, "】"]);
    }
    let parts = [&row.lead, &row.facts, &row.details];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    for (at, part) in parts.iter().enumerate() {
        said.extend([if at == 0 { "" } else { "; " }, part.as_str()]);
    }
    said
}

/// Without control characters, but with the blanks that it begins with.
fn clean_end(line: &str) -> String {
    let begin = line.len() - line.trim_start_matches(' ').len();
    [line.get(..begin).unwrap_or_default(), &clean(line)].concat()
}
