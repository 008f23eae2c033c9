//! From values as received to what is compared: pure functions over tables (`spec` matching §4,
//! japan §6). A stored value is never changed; what is made here is a key.

pub mod address;
pub mod date;
pub mod kana;
pub mod kanji;
pub mod name;
pub mod number;
pub mod romaji;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Characters read of one value. More than any name or address has; what follows says nothing.
pub const MAX_CHARS: usize = 128;

/// The first [`MAX_CHARS`] characters in NFKC. Kanji, full-width kana and ASCII are so already,
/// which is seen in a tenth of the time. Spaced voiced marks (カ゛) are composed too.
pub fn nfkc(text: &str) -> Cow<'_, str> {
    let text = match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    };
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let composed = text.chars().map(|c| match c {
        '\u{309B}' => '\u{3099}',
        '\u{309C}' => '\u{309A}',
        other => other,
    });
    Cow::Owned(composed.nfkc().take(MAX_CHARS).collect())
}

/// Whether a character stands for itself in NFKC, whatever follows.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~' | 'ぁ'..='ゖ' | 'ァ'..='ヶ' | 'ー' | '々' | '\u{4E00}'..='\u{9FFF}')
}

/// A character that only parts others: blanks, middle dots, invisible and direction marks.
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '・' | '·' | '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Any of the dashes that are typed for one another.
pub(super) fn is_dash(c: char) -> bool {
    matches!(c, '-' | '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' | '─' | '━')
}
