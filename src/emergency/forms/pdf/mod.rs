//! The page for a printer: A4, black on white.
//!
//! No font is in the file. Latin letters are in Helvetica, which every reader has; Japanese ones in a
//! font of the character collection Adobe-Japan1, encoded by the predefined `UniJIS-UTF16-H`
//! (ISO 32000-1 §9.7.5.2): a reader without that font takes another Japanese one. A letter that
//! the collection does not have is not shown; the HTML form has it.

mod layout;
mod metrics;
#[cfg(test)]
mod tests;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, TextRenderingMode};
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::page::Page;
use layout::{SHEET, Sheet};

const CATALOG: Ref = Ref::new(1);
const TREE: Ref = Ref::new(2);
const INFO: Ref = Ref::new(3);
const LATIN: Ref = Ref::new(4);
const LATIN_BOLD: Ref = Ref::new(5);
const JAPANESE: Ref = Ref::new(6);
const JAPANESE_CID: Ref = Ref::new(7);
const DESCRIPTOR: Ref = Ref::new(8);
/// Number of the first object of the sheets; each has two.
const SHEETS: i32 = 9;

const FONT: Name<'static> = Name(b"HeiseiKakuGo-W5");
const NAMES: [Name<'static>; 3] = [Name(b"L"), Name(b"B"), Name(b"J")];

/// The page as PDF 1.7.
pub(super) fn write(page: &Page) -> Vec<u8> {
    let sheets = layout::sheets(page);
    let mut pdf = Pdf::new();
    let mut catalog = pdf.catalog(CATALOG);
    catalog.pages(TREE);
    catalog.lang(TextStr(page.language.tag()));
    catalog.finish();
    // Without the name: titles are kept in histories.
    pdf.document_info(INFO).title(TextStr(&page.title));
    fonts(&mut pdf);
    let numbers: Vec<(Ref, Ref)> = (SHEETS..)
        .step_by(2)
        .zip(&sheets)
        .map(|(number, _)| (Ref::new(number), Ref::new(number + 1)))
        .collect();
    let count = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    pdf.pages(TREE)
        .kids(numbers.iter().map(|(sheet, _)| *sheet))
        .count(count);
    for (sheet, (of_page, of_content)) in sheets.iter().zip(numbers) {
        let mut leaf = pdf.page(of_page);
        leaf.media_box(Rect::new(0.0, 0.0, SHEET.0, SHEET.1));
        leaf.parent(TREE).contents(of_content);
        let mut resources = leaf.resources();
        let mut list = resources.fonts();
        for (name, font) in NAMES.into_iter().zip([LATIN, LATIN_BOLD, JAPANESE]) {
            list.pair(name, font);
        }
        list.finish();
        resources.finish();
        leaf.finish();
        pdf.stream(of_content, &content(sheet));
    }
    pdf.finish()
}

fn fonts(pdf: &mut Pdf) {
    for (font, name) in [(LATIN, "Helvetica"), (LATIN_BOLD, "Helvetica-Bold")] {
        pdf.type1_font(font)
            .base_font(Name(name.as_bytes()))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    pdf.type0_font(JAPANESE)
        .base_font(FONT)
        .encoding_predefined(Name(b"UniJIS-UTF16-H"))
        .descendant_font(JAPANESE_CID);
    let mut cid = pdf.cid_font(JAPANESE_CID);
    cid.subtype(CidFontType::Type0)
        .base_font(FONT)
        .system_info(SystemInfo {
            registry: Str(b"Adobe"),
            ordering: Str(b"Japan1"),
            supplement: 6,
        })
        .font_descriptor(DESCRIPTOR)
        .default_width(1000.0);
    // Half-width letters, katakana among them.
    cid.widths().same(231, 632, 500.0);
    cid.finish();
    pdf.font_descriptor(DESCRIPTOR)
        .name(FONT)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(-92.0, -250.0, 1010.0, 922.0))
        .italic_angle(0.0)
        .ascent(752.0)
        .descent(-221.0)
        .cap_height(737.0)
        .stem_v(114.0);
}

fn content(sheet: &Sheet) -> Vec<u8> {
    let mut content = Content::new();
    for rule in &sheet.rules {
        content
            .set_line_width(rule.thick)
            .move_to(rule.from.0, rule.from.1)
            .line_to(rule.to.0, rule.to.1)
            .stroke();
    }
    for run in &sheet.runs {
        let mut x = run.x;
        for (part, latin) in parts(&run.text) {
            let name = match (latin, run.bold) {
                (true, false) => NAMES[0],
                (true, true) => NAMES[1],
                (false, _) => NAMES[2],
            };
            content.begin_text().set_font(name, run.size);
            // The Japanese font comes in one weight: bold is its outline drawn too.
            let heavy = run.bold && !latin;
            content.set_text_rendering_mode(if heavy {
                TextRenderingMode::FillStroke
            } else {
                TextRenderingMode::Fill
            });
            content.set_line_width(run.size * 0.03);
            content.set_text_matrix([1.0, 0.0, 0.0, 1.0, x, run.y]);
            content.show(Str(&encoded(&part, latin)));
            content.end_text();
            x += metrics::width(&part, run.size, run.bold);
        }
    }
    content.finish().to_vec()
}

/// The text in parts of one font each.
fn parts(text: &str) -> Vec<(String, bool)> {
    let mut parts: Vec<(String, bool)> = Vec::new();
    for letter in text.chars() {
        let latin = metrics::is_latin(letter);
        match parts.last_mut() {
            Some((part, same)) if *same == latin => part.push(letter),
            Some(_) | None => parts.push((letter.to_string(), latin)),
        }
    }
    parts
}

fn encoded(part: &str, latin: bool) -> Vec<u8> {
    if latin {
        return part.as_bytes().to_vec();
    }
    part.encode_utf16().flat_map(u16::to_be_bytes).collect()
}
