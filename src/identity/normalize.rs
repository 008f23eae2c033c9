//! From demographics as received to what matching compares.
//!
//! Pure functions. The stored value is never changed: what is made here is a key (`spec` japan
//! §6, matching §4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfkc_quick};

static KANJI: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let mut folded = HashMap::new();
    for line in include_str!("kanji_variants.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let mut family = line.chars();
        let Some(representative) = family.next() else {
            continue;
        };
        folded.extend(family.map(|variant| (variant, representative)));
    }
    folded
});

/// Given names that only say that there is none yet, folded (`spec` japan §6.4).
const PLACEHOLDERS: &[&str] = &[
    "ベビー",
    "ベビ一",
    "児",
    "ジ",
    "赤チヤン",
    "アカチヤン",
    "長男",
    "長女",
    "次男",
    "次女",
    "第1子",
    "第2子",
    "男児",
    "女児",
    "不明",
    "フメイ",
];

/// Characters that stand for one that a system could not write (外字).
const MASKS: &[char] = &['●', '■', '〓', '?', '？', '□'];

/// The text in NFKC. Most is so already, which takes a tenth of the time to see.
fn nfkc(text: &str) -> Cow<'_, str> {
    match is_nfkc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfkc().collect()),
    }
}

fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '・' | '･' | '·')
}

/// A name in kanji: NFKC, variants folded, variation selectors and separators dropped, mask marks
/// made one character (`●`).
pub fn kanji_key(text: &str) -> String {
    nfkc(text)
        .chars()
        .filter(|c| !is_variation_selector(*c) && !is_separator(*c))
        .map(|c| {
            if MASKS.contains(&c) {
                '●'
            } else {
                KANJI.get(&c).copied().unwrap_or(c)
            }
        })
        .flat_map(char::to_uppercase)
        .collect()
}

/// A name in kana: full-width katakana, small kana large, ヂヅヲヰヱ to ジズオイエ, separators
/// dropped. The strong key: long vowels stay, since オオノ and オノ are often different people.
pub fn kana_key(text: &str) -> String {
    nfkc(text)
        .chars()
        .filter(|c| !is_separator(*c))
        .map(to_katakana)
        .map(fold_kana)
        .collect()
}

fn to_katakana(c: char) -> char {
    match c {
        'ぁ'..='ゖ' => char::from_u32(u32::from(c) + 0x60).unwrap_or(c),
        other => other,
    }
}

fn fold_kana(c: char) -> char {
    match c {
        'ァ' => 'ア',
        'ィ' | 'ヰ' => 'イ',
        'ゥ' => 'ウ',
        'ェ' | 'ヱ' => 'エ',
        'ォ' | 'ヲ' => 'オ',
        'ッ' => 'ツ',
        'ャ' => 'ヤ',
        'ュ' => 'ユ',
        'ョ' => 'ヨ',
        'ヮ' => 'ワ',
        'ヵ' => 'カ',
        'ヶ' => 'ケ',
        'ヂ' => 'ジ',
        'ヅ' => 'ズ',
        '-' | '‐' | '−' | '―' => 'ー',
        other => other,
    }
}

/// A name in the alphabet: upper case, letters only, long vowels and spelling families folded
/// (OH, OO, OU → O; TSU/TU, SHI/SI, CHI/TI, JI/ZI, FU/HU; M before B, M, P → N).
pub fn romaji_key(text: &str) -> String {
    let plain: String = text
        .nfkd()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let mut key = plain;
    for (from, to) in [
        ("TSU", "TU"),
        ("SHI", "SI"),
        ("CHI", "TI"),
        ("JI", "ZI"),
        ("FU", "HU"),
        ("SH", "SY"),
        ("CH", "TY"),
        ("J", "ZY"),
        ("MB", "NB"),
        ("MM", "NM"),
        ("MP", "NP"),
        ("OU", "O"),
        ("OO", "O"),
        ("OH", "O"),
        ("UU", "U"),
    ] {
        key = key.replace(from, to);
    }
    key
}

/// Whether a folded given name is none at all (newborns, unknown).
pub fn is_placeholder_given(key: &str) -> bool {
    key.is_empty()
        || PLACEHOLDERS.contains(&key)
        || key.ends_with("ベビー")
        || key.ends_with("ノ児")
        || key.ends_with("ノコ")
}

/// Whether two kanji keys agree, a mask mark standing for any one character.
pub fn kanji_agree(a: &str, b: &str) -> bool {
    a == b
        || (a.contains('●') || b.contains('●'))
            && a.chars().count() == b.chars().count()
            && a.chars().any(|c| c != '●')
            && b.chars().any(|c| c != '●')
            && a.chars()
                .zip(b.chars())
                .all(|(x, y)| x == y || x == '●' || y == '●')
}

/// A telephone number: digits only, +81 as 0; `None` if it has not 10 or 11 digits.
pub fn phone_key(text: &str) -> Option<String> {
    let digits: String = nfkc(text).chars().filter(char::is_ascii_digit).collect();
    let national = match text.nfkc().next() {
        Some('+') => format!("0{}", digits.strip_prefix("81")?),
        _ => digits,
    };
    matches!(national.len(), 10 | 11).then_some(national)
}

/// A street address: municipality to house number, folded, without prefecture and building; `None`
/// if there is no number in it (a town alone corroborates nothing).
pub fn address_key(text: &str) -> Option<String> {
    let folded: String = nfkc(text).chars().filter(|c| !c.is_whitespace()).collect();
    let folded = folded
        .replace("丁目", "-")
        .replace("番地", "-")
        .replace("大字", "")
        .replace('字', "");
    let characters: Vec<char> = without_prefecture(&folded).chars().collect();
    let mut key = String::new();
    let mut numbers = 0;
    let mut in_number = false;
    for (index, c) in characters.iter().enumerate() {
        let next_is_dash = characters.get(index + 1) == Some(&'-');
        let c = match c {
            '番' | '号' | 'の' | 'ノ' | '−' | '‐' | '―' | 'ー' if in_number => '-',
            'ヶ' | 'が' | 'ガ' => 'ケ',
            // 二丁目 is 2-; a numeral inside a town's name (一番町) stays.
            other if next_is_dash => kanji_digit(*other).unwrap_or(*other),
            other => KANJI.get(other).copied().unwrap_or(*other),
        };
        if c.is_ascii_digit() {
            numbers += u32::from(!in_number);
            in_number = true;
        } else if c == '-' {
            in_number = false;
            if key.ends_with('-') {
                continue;
            }
        } else if numbers >= 2 {
            break; // the building
        } else {
            in_number = false;
        }
        key.push(c);
    }
    let key = key.trim_end_matches('-').to_owned();
    (numbers >= 1).then_some(key)
}

/// Prefectures are often left out, so they are left out of the key: the third or fourth character
/// is 都, 道, 府 or 県.
fn without_prefecture(text: &str) -> &str {
    text.char_indices()
        .skip(2)
        .take(2)
        .find(|(_, c)| matches!(c, '都' | '道' | '府' | '県'))
        .and_then(|(at, c)| text.get(at + c.len_utf8()..))
        .unwrap_or(text)
}

fn kanji_digit(c: char) -> Option<char> {
    let digit = "一二三四五六七八九"
        .chars()
        .position(|numeral| numeral == c)?;
    char::from_digit(u32::try_from(digit + 1).ok()?, 10)
}

/// The household's policy: insurer number, symbol and number, folded (保険者番号・記号・番号). `None` if
/// insurer or number is missing.
pub fn policy_key(insurer: &str, symbol: &str, number: &str) -> Option<String> {
    let fold = |text: &str| -> String {
        nfkc(text)
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_uppercase)
            .collect()
    };
    let insurer = fold(insurer).trim_start_matches('0').to_owned();
    let number = fold(number).trim_start_matches('0').to_owned();
    if insurer.is_empty() || number.is_empty() {
        return None;
    }
    Some(format!("{insurer}|{}|{number}", fold(symbol)))
}

/// A branch (枝番): two digits. Empty is not `00`: cards issued before 2021 have none.
pub fn branch_key(branch: &str) -> Option<String> {
    let digits: String = nfkc(branch).chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        1 => Some(format!("0{digits}")),
        2 => Some(digits),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kanji_variants_agree() {
        for (a, b) in [
            ("髙橋", "高橋"),
            ("齋藤", "斉藤"),
            ("渡邊", "渡辺"),
            ("山﨑", "山崎"),
            ("𠮷田", "吉田"),
            ("葛\u{E0100}城", "葛城"),
            ("佐藤　花子", "佐藤花子"),
        ] {
            assert_eq!(kanji_key(a), kanji_key(b), "{a} {b}");
        }
        assert_ne!(kanji_key("佐藤"), kanji_key("佐籐"));
        assert!(kanji_agree(&kanji_key("●橋"), &kanji_key("髙橋")));
        assert!(!kanji_agree(&kanji_key("●橋"), &kanji_key("高木")));
    }

    #[test]
    fn kana_forms_agree_but_long_vowels_do_not() {
        for (a, b) in [
            ("ｼｮｳｲﾁ", "ショウイチ"),
            ("しょういち", "シヨウイチ"),
            ("ミヅキ", "ミズキ"),
        ] {
            assert_eq!(kana_key(a), kana_key(b), "{a} {b}");
        }
        assert_ne!(kana_key("オオノ"), kana_key("オノ"));
        assert_ne!(kana_key("ヤマザキ"), kana_key("ヤマサキ"));
    }

    #[test]
    fn romaji_families_agree() {
        for (a, b) in [
            ("Ohtani", "Ootani"),
            ("Tsuzuki", "Tuzuki"),
            ("Shinji", "Sinzi"),
            ("Homma", "Honma"),
        ] {
            assert_eq!(romaji_key(a), romaji_key(b), "{a} {b}");
        }
    }

    #[test]
    fn evidence_keys() {
        assert_eq!(
            phone_key("０３−１２３４−５６７８").as_deref(),
            Some("0312345678")
        );
        assert_eq!(
            phone_key("+81-90-1234-5678").as_deref(),
            Some("09012345678")
        );
        assert_eq!(phone_key("内線12"), None);
        assert_eq!(
            address_key("青葉県みなと市一番町二丁目3番地4号 ハイツ201"),
            address_key("青葉県みなと市一番町2-3-4")
        );
        assert_eq!(address_key("青葉県みなと市"), None);
        assert_eq!(
            address_key("みなと市一番町2-3-4"),
            address_key("青葉県みなと市一番町2-3-4")
        );
        assert_ne!(
            address_key("千葉県八千代市一番町五丁目1-2"),
            address_key("千葉県八千代市一番町六丁目1-2")
        );
        assert_eq!(
            policy_key("06139463", "１２", "００３４"),
            policy_key("6139463", "12", "34")
        );
        assert_eq!(policy_key("06139463", "", ""), None);
        assert_eq!(branch_key(""), None);
        assert_eq!(branch_key("1"), branch_key("０１"));
    }

    #[test]
    fn hostile_text_is_harmless() {
        let long = "あ\u{202E}\u{0}".repeat(10_000);
        for text in ["", "\u{E0100}", "●", &long] {
            let _ = (
                kanji_key(text),
                kana_key(text),
                romaji_key(text),
                address_key(text),
            );
            assert!(phone_key(text).is_none());
        }
    }
}
