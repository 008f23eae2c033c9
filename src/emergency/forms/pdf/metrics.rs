//! How wide text is, and where lines break.

/// Widths of Helvetica from U+0020 to U+007E, in thousandths of its size; one of the 14 fonts whose
/// metrics every reader of PDF has (ISO 32000-1 §9.6.2.2).
const REGULAR: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
/// The same of Helvetica-Bold.
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667,
    611, 778, 722, 278, 556, 722, 611, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556,
    278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

/// Letters that do not begin a line, 行頭禁則.
const NOT_FIRST: &str =
    "、。，．・：；？！ー々〉》」』】〕）｝ゝゞァィゥェォッャュョヮぁぃぅぇぉっゃゅょゎ,.;:?!)]}%";

/// Whether a letter is written in Helvetica; all others are in the Japanese font.
pub(super) fn is_latin(letter: char) -> bool {
    (' '..='~').contains(&letter)
}

/// The text as the fonts can show it: one kind of dash, and letters without selectors of their
/// variants, which the encoding of the Japanese font does not know.
pub(super) fn showable(text: &str) -> String {
    let selector = |letter: &char| {
        ('\u{fe00}'..='\u{fe0f}').contains(letter) || ('\u{e0100}'..='\u{e01ef}').contains(letter)
    };
    let dash = |letter| match letter {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' => ' ',
        other => other,
    };
    text.chars()
        .filter(|letter| !selector(letter))
        .map(dash)
        .collect()
}

/// The width of `text` at `size`, in points.
pub(super) fn width(text: &str, size: f32, bold: bool) -> f32 {
    text.chars()
        .map(|letter| advance(letter, bold))
        .sum::<f32>()
        * size
        / 1000.0
}

fn advance(letter: char, bold: bool) -> f32 {
    let table = if bold { &BOLD } else { &REGULAR };
    let latin = is_latin(letter)
        .then(|| usize::try_from(u32::from(letter) - 32).ok())
        .flatten()
        .and_then(|at| table.get(at));
    match latin {
        Some(width) => f32::from(*width),
        // Half-width katakana.
        None if ('\u{ff61}'..='\u{ff9f}').contains(&letter) => 500.0,
        None => 1000.0,
    }
}

/// Breaks `text` into lines of at most `room` points: between Japanese letters, and at the spaces
/// of Latin words; a word that is too long for a line is cut.
pub(super) fn wrap(text: &str, size: f32, bold: bool, room: f32) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for piece in pieces(&showable(text)) {
        if width(&format!("{line}{piece}"), size, bold) <= room {
            line.push_str(&piece);
            continue;
        }
        if !line.trim().is_empty() {
            lines.push(line.trim_end().to_owned());
        }
        piece.trim_start().clone_into(&mut line);
        while width(&line, size, bold) > room {
            let (head, tail) = cut(&line, size, bold, room);
            lines.push(head);
            line = tail;
        }
    }
    if !line.trim().is_empty() {
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// What stays together on a line: a Latin word with the space behind it, or a Japanese letter with
/// what may not begin a line behind it.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut glued = false;
    for letter in text.chars() {
        let word = is_latin(letter) && letter != ' ';
        let follows = NOT_FIRST.contains(letter) || letter == ' ' || (word && glued);
        match pieces.last_mut() {
            Some(last) if follows => last.push(letter),
            Some(_) | None => pieces.push(letter.to_string()),
        }
        glued = word;
    }
    pieces
}

/// As much of `line` as fits, at least one letter, and the rest.
fn cut(line: &str, size: f32, bold: bool, room: f32) -> (String, String) {
    let mut head = String::new();
    for letter in line.chars() {
        if !head.is_empty() && width(&format!("{head}{letter}"), size, bold) > room {
            break;
        }
        head.push(letter);
    }
    let tail = line.get(head.len()..).unwrap_or_default().to_owned();
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_nothing_is_lost() {
        let text = "ワルファリンカリウム錠1mg「見本」, 1回量 2.5 mg; 用法 1日1回朝食後。 INR 2.0-3.0 pneumonoultramicroscopicsilicovolcanoconiosis";
        for room in [40.0, 80.0, 200.0, 900.0] {
            let lines = wrap(text, 9.0, false, room);
            let kept: String = lines.concat().split(' ').collect();
            assert_eq!(kept, text.split(' ').collect::<String>(), "{room}");
            for line in &lines {
                assert!(width(line, 9.0, false) <= room, "{line} at {room}");
            }
        }
    }

    #[test]
    fn a_line_does_not_begin_with_a_full_stop() {
        // Six letters of ten points: the seventh, a full stop, takes the sixth with it.
        let lines = wrap("心房細動あり。次", 10.0, false, 60.0);
        assert_eq!(lines, ["心房細動あ", "り。次"]);
    }

    #[test]
    fn widths() {
        assert!((width("A", 10.0, false) - 6.67).abs() < 0.001);
        assert!((width("漢ｱ", 10.0, false) - 15.0).abs() < 0.001);
        assert_eq!(showable("葛\u{e0100}–2"), "葛-2");
    }
}
