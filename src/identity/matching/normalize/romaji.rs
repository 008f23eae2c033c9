//! Names in the alphabet, and kana written in it.

use unicode_normalization::UnicodeNormalization as _;

use super::MAX_CHARS;

/// Spellings of one sound, folded in this order (Hepburn, Kunrei, passport): the key is compared, not
/// shown.
const FAMILIES: &[(&str, &str)] = &[
    ("TSU", "TU"),
    ("SHI", "SI"),
    ("CHI", "TI"),
    ("JI", "ZI"),
    ("DZU", "ZU"),
    ("DU", "ZU"),
    ("FU", "HU"),
    ("SH", "SY"),
    ("CH", "TY"),
    ("JY", "ZY"),
    ("J", "ZY"),
    ("L", "R"),
    ("MB", "NB"),
    ("MM", "NM"),
    ("MP", "NP"),
    ("OU", "O"),
    ("OO", "O"),
    ("UU", "U"),
];

/// A name in the alphabet: upper case, letters only, spelling families and long vowels folded
/// (Ohtani, Ootani, Otani; Tsuzuki, Tuzuki; Shinji, Sinzi; Homma, Honma).
pub fn key(text: &str) -> String {
    let letters = text
        .chars()
        .take(MAX_CHARS)
        .nfkd()
        .filter(char::is_ascii_alphabetic);
    let mut key: String = letters.map(|c| c.to_ascii_uppercase()).collect();
    // What one folding makes, another may fold: until nothing changes. Each takes letters away that
    // none brings back.
    loop {
        let mut folded = key.clone();
        for (from, to) in FAMILIES {
            if folded.contains(from) {
                folded = folded.replace(from, to);
            }
        }
        folded = without_long_h(&folded);
        if folded == key {
            return key;
        }
        key = folded;
    }
}

/// Without the H of a long vowel (OH, UH before a consonant or at the end).
fn without_long_h(key: &str) -> String {
    let mut plain = String::with_capacity(key.len());
    let mut characters = key.chars().peekable();
    let mut before = ' ';
    while let Some(c) = characters.next() {
        let next = characters.peek().copied();
        let vowel_follows =
            next.is_some_and(|next| matches!(next, 'A' | 'I' | 'U' | 'E' | 'O' | 'Y'));
        if !(c == 'H' && matches!(before, 'O' | 'U') && !vowel_follows) {
            plain.push(c);
        }
        before = c;
    }
    plain
}

/// The alphabetic key of a kana key (small kana already large: シヨウ reads as ショウ).
pub fn of_kana(kana: &str) -> String {
    let mut text = String::with_capacity(kana.len());
    let mut characters = kana.chars().peekable();
    while let Some(c) = characters.next() {
        if c == 'ー' {
            continue;
        }
        if c == 'ツ' && characters.peek().is_some_and(|next| doubles(*next)) && !text.is_empty() {
            // ツ before a consonant may be ッ or つ; the key of an alphabetic name has both spellings,
            // and ツ is the commoner in names (マツダ).
            text.push_str("TU");
            continue;
        }
        let glide = characters.peek().copied().and_then(|next| match next {
            'ヤ' => Some('A'),
            'ユ' => Some('U'),
            'ヨ' => Some('O'),
            _ => None,
        });
        let syllable = syllable(c);
        match (glide, syllable.strip_suffix('I')) {
            (Some(vowel), Some(consonant)) if !consonant.is_empty() => {
                text.push_str(consonant);
                text.push('Y');
                text.push(vowel);
                characters.next();
            }
            _ => text.push_str(syllable),
        }
    }
    key(&text)
}

fn doubles(c: char) -> bool {
    !matches!(c, 'ア' | 'イ' | 'ウ' | 'エ' | 'オ' | 'ン')
}

#[rustfmt::skip]
fn syllable(c: char) -> &'static str {
    match c {
        'ア' => "A", 'イ' => "I", 'ウ' => "U", 'エ' => "E", 'オ' => "O",
        'カ' => "KA", 'キ' => "KI", 'ク' => "KU", 'ケ' => "KE", 'コ' => "KO",
        'サ' => "SA", 'シ' => "SI", 'ス' => "SU", 'セ' => "SE", 'ソ' => "SO",
        'タ' => "TA", 'チ' => "TI", 'ツ' => "TU", 'テ' => "TE", 'ト' => "TO",
        'ナ' => "NA", 'ニ' => "NI", 'ヌ' => "NU", 'ネ' => "NE", 'ノ' => "NO",
        'ハ' => "HA", 'ヒ' => "HI", 'フ' => "HU", 'ヘ' => "HE", 'ホ' => "HO",
        'マ' => "MA", 'ミ' => "MI", 'ム' => "MU", 'メ' => "ME", 'モ' => "MO",
        'ヤ' => "YA", 'ユ' => "YU", 'ヨ' => "YO",
        'ラ' => "RA", 'リ' => "RI", 'ル' => "RU", 'レ' => "RE", 'ロ' => "RO",
        'ワ' => "WA", 'ン' => "N",
        'ガ' => "GA", 'ギ' => "GI", 'グ' => "GU", 'ゲ' => "GE", 'ゴ' => "GO",
        'ザ' => "ZA", 'ジ' => "ZI", 'ズ' => "ZU", 'ゼ' => "ZE", 'ゾ' => "ZO",
        'ダ' => "DA", 'デ' => "DE", 'ド' => "DO",
        'バ' => "BA", 'ビ' => "BI", 'ブ' => "BU", 'ベ' => "BE", 'ボ' => "BO",
        'パ' => "PA", 'ピ' => "PI", 'プ' => "PU", 'ペ' => "PE", 'ポ' => "PO",
        _ => "",
    }
}
