//! A one-page PDF 1.5 with Japanese text in a standard CID font, written object by object.

use super::document::Scene;

/// A laboratory report.
pub(super) fn write(scene: &Scene<'_>) -> Vec<u8> {
    let record = scene.record;
    let mut lines = vec![
        "検体検査報告書".to_owned(),
        format!(
            "{}　{}",
            scene.institution.name_ja, scene.department.display_ja
        ),
        format!("患者番号　{}", record.local_id),
        format!(
            "患者氏名　{} {}　様",
            record.family_kanji, record.given_kanji
        ),
        format!("生年月日　{}", record.birth_date_text),
        format!(
            "採取日　{}　　担当医　{}",
            scene.written.date(),
            scene.doctor.0
        ),
        String::new(),
    ];
    lines.extend(scene.facts.results.iter().map(|reading| {
        let test = reading.test;
        let mark = reading.interpretation();
        format!(
            "{}　{} {}　{mark}　[{}]",
            test.name,
            reading.value(),
            test.unit,
            test.jlac10
        )
    }));
    document(&lines, "検体検査報告書", &scene.written.dtm_utc())
}

/// A PDF string of UTF-16BE in hexadecimal.
fn hex(text: &str) -> String {
    text.encode_utf16()
        .map(|unit| format!("{unit:04X}"))
        .collect::<Vec<_>>()
        .concat()
}

fn page_content(lines: &[String]) -> String {
    let shown: Vec<_> = lines
        .iter()
        .map(|line| format!("<{}> Tj T*\n", hex(line)))
        .collect();
    let shown = shown.concat();
    format!("BT\n/F1 12 Tf\n20 TL\n56 780 Td\n{shown}ET\n")
}

/// The file's objects, numbered from 1.
fn objects(lines: &[String], title: &str, created: &str) -> Vec<String> {
    let content = page_content(lines);
    vec![
        "<< /Type /Catalog /Pages 2 0 R /Lang (ja-JP) >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!(
            "<< /Length {} >>\nstream\n{content}endstream",
            content.len()
        ),
        "<< /Type /Font /Subtype /Type0 /BaseFont /HeiseiKakuGo-W5-UniJIS-UTF16-H \
         /Encoding /UniJIS-UTF16-H /DescendantFonts [6 0 R] >>"
            .to_owned(),
        "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiKakuGo-W5 /DW 1000 \
         /CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 5 >> \
         /FontDescriptor 7 0 R >>"
            .to_owned(),
        "<< /Type /FontDescriptor /FontName /HeiseiKakuGo-W5 /Flags 4 \
         /FontBBox [-92 -250 1010 922] /ItalicAngle 0 /Ascent 752 /Descent -221 \
         /CapHeight 737 /StemV 114 >>"
            .to_owned(),
        format!(
            "<< /Title <FEFF{}> /CreationDate (D:{created}Z) >>",
            hex(title)
        ),
    ]
}

fn document(lines: &[String], title: &str, created: &str) -> Vec<u8> {
    // The comment with high bytes tells transfer programs that the file is binary.
    let mut file = b"%PDF-1.5\n%\xE2\xE3\xCF\xD3\n".to_vec();
    let objects = objects(lines, title, created);
    let mut offsets = Vec::with_capacity(objects.len());
    for (number, object) in (1..).zip(&objects) {
        offsets.push(file.len());
        file.extend_from_slice(format!("{number} 0 obj\n{object}\nendobj\n").as_bytes());
    }
    let start = file.len();
    let size = objects.len() + 1;
    // Each entry is twenty bytes, its end of line included.
    let entries: Vec<_> = offsets
        .iter()
        .map(|at| format!("{at:010} 00000 n \n"))
        .collect();
    let entries = entries.concat();
    let tail = format!(
        "xref\n0 {size}\n0000000000 65535 f \n{entries}\
         trailer\n<< /Size {size} /Root 1 0 R /Info 8 0 R >>\nstartxref\n{start}\n%%EOF\n"
    );
    file.extend_from_slice(tail.as_bytes());
    file
}
