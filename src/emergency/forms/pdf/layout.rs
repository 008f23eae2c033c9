//! Where everything stands on the sheets. Pure: no PDF yet, so that it can be judged by tests.

use super::super::page::{Block, Page, Row};
use super::super::text::join;
use super::super::words;
use super::metrics::wrap;

/// A4, in points.
pub(super) const SHEET: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 30.0;
/// Kept free at the foot of each sheet for its number and whose it is.
const FOOT: f32 = 14.0;
const GUTTER: f32 = 14.0;
/// Distance of lines, in sizes.
const LEADING: f32 = 1.28;

/// A line of text; `x` and `y` of the begin of its base line, from the lower left corner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) size: f32,
    pub(super) bold: bool,
    pub(super) text: String,
}

/// A straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) from: (f32, f32),
    pub(super) to: (f32, f32),
    pub(super) thick: f32,
}

/// What is on one sheet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sheet {
    pub(super) runs: Vec<Run>,
    pub(super) rules: Vec<Rule>,
}

/// A line before it has a place.
struct Line {
    text: String,
    size: f32,
    bold: bool,
    indent: f32,
}

/// Lays `page` out: head, warnings and the first block over the whole width, the rest in two columns.
pub(super) fn sheets(page: &Page) -> Vec<Sheet> {
    let mut pen = Pen::new();
    pen.paragraph(&page.title, 8.0, true);
    pen.paragraph(&page.patient, 16.0, true);
    for line in &page.header {
        pen.paragraph(line, 9.0, false);
    }
    pen.paragraph(&page.age, 9.0, true);
    pen.rule(1.0);
    for warning in &page.warnings {
        pen.marked(vec![(format!("! {warning}"), 9.5, true)]);
    }
    for block in page.blocks.iter().filter(|block| block.first) {
        pen.block(block);
    }
    pen.split();
    for block in page.blocks.iter().filter(|block| !block.first) {
        pen.block(block);
    }
    pen.gap(4.0);
    for line in &page.footer {
        pen.paragraph(line, 6.5, false);
    }
    let mut sheets = pen.sheets;
    number(&mut sheets, page);
    sheets
}

/// Writes at the foot of each sheet whose it is and which it is, for sheets get separated.
fn number(sheets: &mut [Sheet], page: &Page) {
    let count = sheets.len();
    let label = words::PAGE.main(page.language);
    for (at, sheet) in sheets.iter_mut().enumerate() {
        let number = at + 1;
        let text = format!(
            "{label} {number}/{count}   {}   {}",
            page.title, page.patient
        );
        let room = SHEET.0 - 2.0 * MARGIN;
        let first = wrap(&text, 7.0, false, room).into_iter().next();
        sheet.runs.push(Run {
            x: MARGIN,
            y: MARGIN - 6.0,
            size: 7.0,
            bold: false,
            text: first.unwrap_or_default(),
        });
    }
}

/// Where the next line goes.
struct Pen {
    sheets: Vec<Sheet>,
    /// Columns that the text is in, and which of them it is at.
    columns: u8,
    column: u8,
    /// Where the columns begin on this sheet.
    top: f32,
    y: f32,
}

impl Pen {
    fn new() -> Self {
        let top = SHEET.1 - MARGIN;
        Self {
            sheets: vec![Sheet::default()],
            columns: 1,
            column: 0,
            top,
            y: top,
        }
    }

    /// From here on in two columns.
    fn split(&mut self) {
        self.gap(4.0);
        self.columns = 2;
        self.column = 0;
        self.top = self.y;
    }

    fn width(&self) -> f32 {
        let columns = f32::from(self.columns);
        (SHEET.0 - 2.0 * MARGIN - GUTTER * (columns - 1.0)) / columns
    }

    fn left(&self) -> f32 {
        MARGIN + f32::from(self.column) * (self.width() + GUTTER)
    }

    fn bottom() -> f32 {
        MARGIN + FOOT
    }

    fn sheet(&mut self) -> Option<&mut Sheet> {
        self.sheets.last_mut()
    }

    /// Goes to the next column or sheet, unless `height` still fits in this one.
    fn room(&mut self, height: f32) {
        if self.y - height >= Self::bottom() {
            return;
        }
        if self.column + 1 < self.columns {
            self.column += 1;
        } else {
            self.sheets.push(Sheet::default());
            self.column = 0;
            self.top = SHEET.1 - MARGIN;
        }
        self.y = self.top;
    }

    fn gap(&mut self, height: f32) {
        self.y -= height;
    }

    fn rule(&mut self, thick: f32) {
        self.gap(2.0);
        let (left, width, y) = (self.left(), self.width(), self.y);
        let rule = Rule {
            from: (left, y),
            to: (left + width, y),
            thick,
        };
        if let Some(sheet) = self.sheet() {
            sheet.rules.push(rule);
        }
        self.gap(2.0);
    }

    fn paragraph(&mut self, text: &str, size: f32, bold: bool) {
        let lines = self.lines(text, size, bold, 0.0);
        self.put(lines);
    }

    fn lines(&self, text: &str, size: f32, bold: bool, indent: f32) -> Vec<Line> {
        let wrapped = wrap(text, size, bold, self.width() - indent);
        let line = |text| Line {
            text,
            size,
            bold,
            indent,
        };
        wrapped.into_iter().map(line).collect()
    }

    /// Places lines, together if a column has room for them.
    fn put(&mut self, lines: Vec<Line>) {
        let height: f32 = lines.iter().map(|line| line.size * LEADING).sum();
        if height <= SHEET.1 - MARGIN - Self::bottom() {
            self.room(height);
        }
        for line in lines {
            self.room(line.size * LEADING);
            self.y -= line.size * LEADING;
            let run = Run {
                x: self.left() + line.indent,
                y: self.y + line.size * (LEADING - 1.0),
                size: line.size,
                bold: line.bold,
                text: line.text,
            };
            if let Some(sheet) = self.sheet() {
                sheet.runs.push(run);
            }
        }
    }

    /// Paragraphs with a heavy bar beside them, which no printer loses.
    fn marked(&mut self, paragraphs: Vec<(String, f32, bool)>) {
        for (text, size, bold) in paragraphs {
            for line in self.lines(&text, size, bold, 8.0) {
                let height = line.size * LEADING;
                self.put(vec![line]);
                let (x, y) = (self.left() + 2.0, self.y);
                let rule = Rule {
                    from: (x, y),
                    to: (x, y + height),
                    thick: 3.0,
                };
                if let Some(sheet) = self.sheet() {
                    sheet.rules.push(rule);
                }
            }
        }
    }

    fn block(&mut self, block: &Block) {
        self.gap(3.0);
        let size = if block.first { 11.0 } else { 9.5 };
        // A title does not stand alone at the foot of a column.
        self.room(size * LEADING + 26.0);
        self.paragraph(&block.title, size, true);
        self.rule(if block.first { 2.0 } else { 1.0 });
        for row in &block.rows {
            self.row(row, block.first);
        }
        if block.first {
            self.rule(2.0);
        }
    }

    fn row(&mut self, row: &Row, first: bool) {
        let mut marks = String::new();
        for mark in &row.marks {
            marks.extend(["[", mark, "] "]);
        }
        let lead = format!("{marks}{}", row.lead);
        let said = join([&row.facts, &row.details], "; ");
        if first {
            self.marked(vec![
                (lead, 10.5, true),
                (said, 8.5, false),
                (row.sources.clone(), 7.0, false),
            ]);
        } else {
            let mut lines = self.lines(&lead, 9.0, true, 0.0);
            let rest = join([said, row.sources.clone()], "  -  ");
            lines.extend(self.lines(&rest, 7.5, false, 6.0));
            self.put(lines);
        }
        self.gap(1.5);
    }
}
