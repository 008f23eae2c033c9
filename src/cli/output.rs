//! What a command prints: text and tables for people, the wire's messages as JSON for scripts.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Result;
use comfy_table::presets::UTF8_NO_BORDERS;
use comfy_table::{ContentArrangement, ContentLineStyle, LineStyle};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::json::{self, Wire};

/// Width of the labels of [`Text::field`], columns.
const LABEL_WIDTH: usize = 17;

/// The widest table on a terminal whose width nobody told, columns.
const WIDEST: usize = 160;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// All that was asked for.
    All,
    /// Only a part: a region did not answer, or some of several inputs failed.
    InPart,
    /// It was done and found faults: a check that failed.
    Failed,
}

/// Where a command prints to, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// JSON, or text for people.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the output is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints an answer: the message itself as one line of JSON, or what `human` makes of it.
    pub(crate) fn answer<M: Wire>(self, message: &M, human: impl FnOnce(&mut Text)) -> Result<()> {
        self.json(message)?;
        self.human(human)
    }

    /// Prints a message as one line of JSON; nothing to people.
    pub(crate) fn json<M: Wire>(self, message: &M) -> Result<()> {
        match self.json {
            true => write(&format!("{}\n", json::value(message)?)),
            false => Ok(()),
        }
    }

    /// Prints any other object as one line of JSON; nothing to people.
    pub(crate) fn object(self, object: &impl Serialize) -> Result<()> {
        match self.json {
            true => write(&format!("{}\n", serde_json::to_string(object)?)),
            false => Ok(()),
        }
    }

    /// Prints text to people; nothing as JSON.
    pub(crate) fn human(self, show: impl FnOnce(&mut Text)) -> Result<()> {
        if self.json {
            return Ok(());
        }
        let mut text = Text {
            widest: widest(),
            ..Text::default()
        };
        show(&mut text);
        write(&text.shown)
    }
}

/// Tells people something beside the answer, on stderr, whichever form the answer has.
pub(crate) fn note(text: &str) {
    // Whoever closed stderr does not want to know.
    drop(writeln!(io::stderr(), "{}", plain(text)));
}

/// Whether a progress bar would be seen.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal()
}

#[cfg(not(test))]
fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Tests read what is printed.
#[cfg(test)]
#[expect(clippy::unnecessary_wraps, reason = "stands in for what can fail")]
fn write(text: &str) -> Result<()> {
    PRINTED.with_borrow_mut(|printed| printed.push_str(text));
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// What this test has printed.
    pub(crate) static PRINTED: std::cell::RefCell<String> = const {
        std::cell::RefCell::new(String::new())
    };
}

/// Text for people, built up line by line. Values come from elsewhere: control characters are
/// replaced, so that a record cannot steer the terminal.
#[derive(Debug, Default)]
pub(crate) struct Text {
    shown: String,
    /// An empty line is due before the next one.
    gap: bool,
    /// Tables wider than this are shown as records.
    widest: Option<usize>,
}

impl Text {
    /// A line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.put(&plain(line.as_ref()));
    }

    /// An empty line between what is there and what comes, if both are something.
    pub(crate) fn gap(&mut self) {
        self.gap = !self.shown.is_empty();
    }

    /// A label and its value; nothing if the value is empty.
    pub(crate) fn field(&mut self, label: &str, value: impl AsRef<str>) {
        let value = plain(value.as_ref());
        if !value.is_empty() {
            self.put(&format!("{label:LABEL_WIDTH$} {value}"));
        }
    }

    /// A table; nothing if it has no rows.
    pub(crate) fn table(&mut self, table: &Table) {
        if !table.rows.is_empty() {
            self.put(&table.render(self.widest));
        }
    }

    fn put(&mut self, lines: &str) {
        if std::mem::take(&mut self.gap) {
            self.shown.push('\n');
        }
        self.shown.push_str(lines);
        self.shown.push('\n');
    }

    /// What was written so far.
    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.shown
    }
}

/// A table. Columns are as wide as their widest cell, in terminal columns: a kanji takes two.
/// Nothing is cut off; columns without any value are left out.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headers.
    pub(crate) fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        Self {
            headers: headers.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The table as text, lines without trailing blanks, no newline after the last; as records one
    /// below the other if it would be wider than `widest`.
    pub(crate) fn render(&self, widest: Option<usize>) -> String {
        let table = self.columns();
        match widest {
            Some(widest) if table.lines().any(|line| line.width() > widest) => self.records(),
            _ => table,
        }
    }

    fn records(&self) -> String {
        let record = |row: &Vec<String>| {
            let named = self.headers.iter().zip(row);
            let lines = named
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(header, cell)| format!("{header:LABEL_WIDTH$} {cell}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        self.rows
            .iter()
            .map(record)
            .collect::<Vec<_>>()
            .join("\n\n")
    }

    fn columns(&self) -> String {
        let kept: Vec<usize> = (0..self.headers.len())
            .filter(|&column| self.rows.iter().any(|row| !cell(row, column).is_empty()))
            .collect();
        let style = UTF8_NO_BORDERS
            .header_lines(ContentLineStyle::none())
            .header_separator(LineStyle::none().fill('─').junction('─'))
            .content_lines(ContentLineStyle::none())
            .row_separator(LineStyle::none());
        let mut table = comfy_table::Table::new();
        table
            .load_style(style)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(
                kept.iter()
                    .filter_map(|&column| self.headers.get(column).copied()),
            );
        for row in &self.rows {
            table.add_row(kept.iter().map(|&column| cell(row, column)));
        }
        let lines: Vec<String> = table
            .lines()
            .map(|line| {
                line.strip_prefix(' ')
                    .unwrap_or(&line)
                    .trim_end()
                    .to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

/// The widest table that fits the terminal: as the environment says, or as is usual. No limit when
/// the output goes elsewhere, so that a row stays a line for `grep`.
fn widest() -> Option<usize> {
    let told = std::env::var_os("COLUMNS");
    let told = told.and_then(|columns| columns.to_str()?.parse().ok());
    io::stdout().is_terminal().then(|| told.unwrap_or(WIDEST))
}

fn cell(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

/// `text` without characters that would steer a terminal or reorder what is read: control
/// characters and the bidirectional ones become U+FFFD. Line breaks become blanks.
pub(crate) fn plain(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_width_on_screen() {
        let mut table = Table::new(["Name", "Kana", "Born"]);
        // Full width, half width with a voiced sound mark, a variant selector, and Latin letters.
        table.row(["山田 太郎", "ﾔﾏﾀﾞ ﾀﾛｳ", "1950-04-01"].map(String::from));
        table.row(["葛\u{e0100}城 一", "カツラギ　ハジメ", "1951-04-01"].map(String::from));
        table.row(["Smith", "スミス", "1952-04-01"].map(String::from));
        let text = table.render(None);
        let columns: Vec<usize> = text
            .lines()
            .filter_map(|line| line.find("19").map(|at| line[..at].width()))
            .collect();
        assert_eq!(columns.len(), 3, "{text}");
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn nothing_is_cut_and_empty_columns_go() {
        let long = "長い".repeat(200);
        let mut table = Table::new(["Title", "Comment"]);
        table.row([long.clone(), String::new()]);
        let text = table.render(None);
        assert!(text.contains(&long));
        assert!(!text.contains("Comment"));
    }

    #[test]
    fn what_is_too_wide_becomes_records() {
        let mut table = Table::new(["Name", "Title"]);
        table.row(["山田", "紹介状"].map(String::from));
        table.row(["佐藤", ""].map(String::from));
        let narrow = "Name              山田\nTitle             紹介状\n\nName              佐藤";
        assert_eq!(table.render(Some(10)), narrow);
        assert!(table.render(Some(40)).contains("Title\n"));
    }

    #[test]
    fn a_record_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c d");
        let mut text = Text::default();
        text.field("Title", "\x07x");
        assert!(!text.as_str().contains('\x07'));
    }

    #[test]
    fn gaps_are_only_between_things() {
        let mut text = Text::default();
        text.gap();
        text.line("a");
        text.gap();
        text.table(&Table::new(["x"]));
        text.field("b", "");
        assert_eq!(text.as_str(), "a\n");
        text.field("b", "c");
        assert_eq!(text.as_str(), "a\n\nb                 c\n");
    }
}
