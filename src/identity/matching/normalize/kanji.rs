//! Names and place names in kanji.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{is_separator, nfkc};

/// What a character becomes that a system could not write (外字): any one character.
pub const MASK: char = '●';

/// Characters put for one that a system could not write.
const MASKS: &[char] = &['●', '■', '〓', '?', '□', '◆', '\u{FFFD}'];

static FOLDED: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let families = include_str!("../data/kanji_variants.txt").lines();
    let mut folded = HashMap::new();
    for family in families.filter(|line| !line.starts_with('#')) {
        let mut members = family.chars();
        if let Some(representative) = members.next() {
            folded.extend(members.map(|variant| (variant, representative)));
        }
    }
    folded
});

/// A character's representative among its variants (異体字).
pub fn fold_variant(c: char) -> char {
    if c < '\u{2E80}' {
        return c;
    }
    FOLDED.get(&c).copied().unwrap_or(c)
}

/// A name in kanji: NFKC, variants folded, variation selectors and separators dropped, mask marks
/// and private-use characters made one ([`MASK`]), letters upper case.
pub fn key(text: &str) -> String {
    nfkc(text)
        .chars()
        .filter(|c| !is_separator(*c))
        .map(fold)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

fn fold(c: char) -> char {
    match c {
        '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFD}' => MASK,
        'ぁ'..='ゖ' | 'ァ'..='ヶ' => c,
        c if MASKS.contains(&c) => MASK,
        c => fold_variant(c),
    }
}

/// Whether two keys agree when a mask stands for any one character. At least one character of each
/// must be known.
pub fn agree(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    (a.contains(MASK) || b.contains(MASK))
        && a.chars().count() == b.chars().count()
        && a.chars().any(|c| c != MASK)
        && b.chars().any(|c| c != MASK)
        && a.chars()
            .zip(b.chars())
            .all(|(x, y)| x == y || x == MASK || y == MASK)
}
