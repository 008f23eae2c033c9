//! Text as queries compare it: words of titles and comments, and LIKE patterns over authors.

use unicode_normalization::UnicodeNormalization as _;

use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

/// Characters of a LIKE pattern or a text searched for: what a query may say.
pub(super) const MAX_TEXT: usize = 256;
/// From katakana to the hiragana of the same sound.
const KANA_SHIFT: u32 = 0x60;

/// Text folded for searching: NFKC (full and half width, compatibility forms), lower case, hiragana
/// for katakana, one dash for all dashes and long vowel marks, no variation selectors.
pub(crate) fn fold(text: &str) -> String {
    text.nfkc()
        .filter(|c| !matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}'))
        .flat_map(char::to_lowercase)
        .map(fold_char)
        .collect()
}

fn fold_char(c: char) -> char {
    match c {
        'ァ'..='ヶ' | 'ヽ' | 'ヾ' => char::from_u32(u32::from(c) - KANA_SHIFT).unwrap_or(c),
        'ー' | '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    }
}

/// The words of a search, folded; all must be found.
pub(crate) fn words(text: &str) -> Vec<String> {
    fold(text).split_whitespace().map(str::to_owned).collect()
}

/// Whether every word stands somewhere in the texts.
pub(crate) fn has_words<'a>(
    words: &[String],
    texts: impl Iterator<Item = &'a cpb::InternationalString>,
) -> bool {
    if words.is_empty() {
        return true;
    }
    let folded: Vec<String> = texts
        .flat_map(|text| &text.values)
        .map(|text| fold(&text.value))
        .collect();
    words
        .iter()
        .all(|word| folded.iter().any(|text| text.contains(word)))
}

/// An SQL LIKE pattern: `%` is any run, `_` one character (ITI-18 §3.18.4.1.2.3.5).
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<char>);

impl Pattern {
    /// The pattern written as `text`.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether the whole of `text` fits. Linear in the product of the lengths at most.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut in_text) = (0, 0);
        // Where the last `%` is, and the text it has swallowed so far.
        let mut run: Option<(usize, usize)> = None;
        while let Some(c) = text.get(in_text) {
            match self.0.get(at) {
                Some('%') => {
                    run = Some((at, in_text));
                    at += 1;
                }
                Some(wanted) if *wanted == '_' || wanted == c => {
                    at += 1;
                    in_text += 1;
                }
                _ => {
                    let Some((percent, swallowed)) = run else {
                        return false;
                    };
                    run = Some((percent, swallowed + 1));
                    at = percent + 1;
                    in_text = swallowed + 1;
                }
            }
        }
        self.0.iter().skip(at).all(|c| *c == '%')
    }
}

/// A person as the HL7 v2 XCN string that patterns are compared with, without empty trailing parts.
pub(crate) fn xcn(person: &pb::MetadataPerson) -> String {
    let authority = match person.assigning_authority.as_str() {
        "" => String::new(),
        oid => format!("&{oid}&ISO"),
    };
    let parts: [&str; 9] = [
        &person.id,
        &person.family,
        &person.given,
        &person.middle,
        &person.suffix,
        &person.prefix,
        &person.degree,
        "",
        &authority,
    ];
    parts.join("^").trim_end_matches('^').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> cpb::InternationalString {
        cpb::InternationalString {
            values: vec![cpb::LocalizedString {
                value: text.into(),
                ..Default::default()
            }],
        }
    }

    #[test]
    fn japanese_text_is_found_however_it_is_written() {
        let title = text("退院時サマリー（循環器内科） CT Ｎｏ．１２");
        for found in [
            "サマリー",
            "ｻﾏﾘｰ",
            "さまりー",
            "サマリ−",
            "循環器　退院時",
            "ct no.12",
            "(循環器内科)",
        ] {
            assert!(has_words(&words(found), [&title].into_iter()), "{found}");
        }
        for absent in ["紹介状", "サマリー 紹介状", "循環機"] {
            assert!(!has_words(&words(absent), [&title].into_iter()), "{absent}");
        }
        assert!(has_words(&words(" 　"), std::iter::empty()));
    }

    #[test]
    fn like_patterns_are_against_the_whole() {
        let person = pb::MetadataPerson {
            id: "D-1".into(),
            family: "山田".into(),
            given: "太郎".into(),
            assigning_authority: "1.2.3".into(),
            ..Default::default()
        };
        let xcn = xcn(&person);
        assert_eq!(xcn, "D-1^山田^太郎^^^^^^&1.2.3&ISO");
        for (pattern, fits) in [
            ("%山田%", true),
            ("%^山_^%", true),
            ("D-1^山田^太郎%", true),
            ("%ISO", true),
            ("山田", false),
            ("%山_田%", false),
            ("%山田", false),
            ("%%", true),
            ("", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(&xcn), fits, "{pattern}");
        }
        assert!(Pattern::new("%").matches(""));
        assert!(Pattern::new("a%a%b").matches("aaab"));
        assert!(!Pattern::new("a%b").matches("ab "));
    }
}
