//! Everything is on the paper, where a printer reaches it.

use super::super::tests::{item, rich};
use super::super::{Options, Whole};
use super::layout::{Run, SHEET, Sheet, sheets};
use super::*;
use crate::wire::pb::emergency::{GetSummaryResponse, SummarySection};

/// The right end of a run.
fn end(run: &Run) -> f32 {
    run.x + metrics::width(&run.text, run.size, run.bold)
}

fn page(answer: &GetSummaryResponse) -> Page {
    Page::of(&Whole {
        summary: answer.summary.as_ref().unwrap(),
        completeness: answer.completeness.as_ref().unwrap(),
        options: Options::default(),
    })
}

fn crowded() -> GetSummaryResponse {
    let mut answer = rich();
    let summary = answer.summary.as_mut().unwrap();
    for at in 0..300 {
        let name = format!("病名{at}: {}", "長い名前".repeat(at % 40));
        summary.items.push(item(SummarySection::Problem, &name));
    }
    answer
}

fn text(sheets: &[Sheet]) -> String {
    let runs = sheets.iter().flat_map(|sheet| &sheet.runs);
    let all: String = runs.map(|run| run.text.as_str()).collect();
    all.chars()
        .filter(|letter| !letter.is_whitespace())
        .collect()
}

#[test]
fn nothing_is_off_the_paper_or_over_other_text() {
    for answer in [rich(), crowded()] {
        for sheet in sheets(&page(&answer)) {
            for run in &sheet.runs {
                assert!(run.x >= 28.0 && end(run) <= SHEET.0 - 28.0, "{run:?}");
                assert!(
                    run.y >= 20.0 && run.y + run.size <= SHEET.1 - 20.0,
                    "{run:?}"
                );
            }
            for (at, one) in sheet.runs.iter().enumerate() {
                for other in &sheet.runs[at + 1..] {
                    let beside = end(one) <= other.x || end(other) <= one.x;
                    let gap = (one.y - other.y).abs();
                    assert!(
                        beside || gap >= one.size.min(other.size) * 0.9,
                        "{one:?} {other:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn everything_of_the_page_is_on_the_paper() {
    for answer in [rich(), crowded()] {
        let page = page(&answer);
        let printed = text(&sheets(&page));
        for block in &page.blocks {
            for row in &block.rows {
                for part in [&row.lead, &row.facts, &row.details, &row.sources] {
                    let part = metrics::showable(part);
                    let part: String = part.chars().filter(|one| !one.is_whitespace()).collect();
                    assert!(printed.contains(&part), "{part}");
                }
            }
        }
        let warning = metrics::showable(&page.warnings[0]);
        let warning: String = warning.chars().filter(|one| !one.is_whitespace()).collect();
        assert!(printed.contains(&warning));
    }
}

#[test]
fn an_ordinary_summary_is_one_sheet_and_each_sheet_says_whose_it_is() {
    // Something of the sections that matter first; `rich` has something of all.
    let mut ordinary = rich();
    let summary = ordinary.summary.as_mut().unwrap();
    summary.items.retain(|item| {
        use SummarySection as S;
        let first = [
            S::Alert,
            S::Contraindication,
            S::Allergy,
            S::Problem,
            S::Medication,
        ];
        let then = [
            S::Dispense,
            S::Device,
            S::Care,
            S::Result,
            S::Procedure,
            S::Contact,
        ];
        first.contains(&item.section()) || then.contains(&item.section())
    });
    assert_eq!(sheets(&page(&ordinary)).len(), 1);
    assert!(sheets(&page(&rich())).len() <= 2);
    let many = sheets(&page(&crowded()));
    assert!(many.len() > 2);
    for (at, sheet) in many.iter().enumerate() {
        let foot = sheet.runs.last().unwrap();
        assert!(foot.text.contains("見本 太郎"), "{foot:?}");
        let number = format!("ページ {}/{}", at + 1, many.len());
        assert!(foot.text.starts_with(&number), "{foot:?}");
    }
    assert!(
        text(&many[..1]).contains("ペニシリン"),
        "allergies on the first"
    );
}

#[test]
fn the_file_is_well_formed() {
    let answer = crowded();
    let count = sheets(&page(&answer)).len();
    let file = write(&page(&answer));
    assert!(file.starts_with(b"%PDF-1.7") && file.ends_with(b"%%EOF"));
    let readable = String::from_utf8_lossy(&file);
    assert_eq!(readable.matches("/Type /Page\n").count(), count);
    assert!(readable.contains(&format!("/Count {count}")));
    assert!(readable.contains("UniJIS-UTF16-H") && readable.contains("/Ordering (Japan1)"));
    // The table of objects is where the file says, and points to objects.
    let at = readable.rsplit_once("startxref\n").unwrap().1;
    let at: usize = at.lines().next().unwrap().parse().unwrap();
    assert!(file[at..].starts_with(b"xref"));
    let table = String::from_utf8_lossy(&file[at..]).into_owned();
    let mut objects = 0;
    for line in table.lines().filter(|line| line.trim_end().ends_with(" n")) {
        objects += 1;
        let offset: usize = line[..10].parse().unwrap();
        let expected = format!("{objects} 0 obj");
        assert!(
            file[offset..].starts_with(expected.as_bytes()),
            "{expected}"
        );
    }
    assert_eq!(objects, 8 + 2 * count);
}
