//! Names in kana: a strong key (level A), a weak one (level B), and a skeleton to look up by.

use super::{is_dash, is_separator, nfkc};

/// The strong key: full-width katakana, small kana large (old claim systems have no small ones),
/// ヂヅヲヰヱ to ジズオイエ, ヴ to バ行, separators dropped. Long vowels stay: オオノ and オノ are often
/// different people.
pub fn key(text: &str) -> String {
    let text = nfkc(text);
    let mut key = String::with_capacity(text.len());
    // A voiced mark that joined nothing says nothing.
    let noise = |c: &char| is_separator(*c) || matches!(c, '\u{3099}' | '\u{309A}');
    let mut characters = text.chars().filter(|c| !noise(c)).peekable();
    while let Some(c) = characters.next() {
        let c = to_katakana(c);
        if c == 'ヴ' {
            let vowel = characters.peek().copied().map(to_katakana);
            let row = vowel.and_then(|vowel| match vowel {
                'ァ' | 'ア' => Some('バ'),
                'ィ' => Some('ビ'),
                'ェ' => Some('ベ'),
                'ォ' => Some('ボ'),
                _ => None,
            });
            if row.is_some() {
                characters.next();
            }
            key.push(row.unwrap_or('ブ'));
        } else {
            key.push(fold(c));
        }
    }
    key
}

/// Hiragana as katakana, and kanji that are typed for the katakana they look like.
fn to_katakana(c: char) -> char {
    match c {
        'ぁ'..='ゖ' => char::from_u32(u32::from(c) + 0x60).unwrap_or(c),
        '八' => 'ハ',
        '二' => 'ニ',
        '力' => 'カ',
        '工' => 'エ',
        '口' => 'ロ',
        '夕' => 'タ',
        '卜' => 'ト',
        '千' => 'チ',
        '三' => 'ミ',
        other => other,
    }
}

fn fold(c: char) -> char {
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
        '一' => 'ー',
        c if is_dash(c) => 'ー',
        other => other,
    }
}

/// The weak key, of a strong one: without long vowels (ー, ウ after オ段 and ウ段, オ after オ段, イ after
/// エ段, doubled vowels).
pub fn weak(key: &str) -> String {
    let mut weak = String::with_capacity(key.len());
    let mut before = None;
    for c in key.chars() {
        let long = c == 'ー'
            || matches!(
                (before.map(vowel), c),
                (Some('オ'), 'ウ' | 'オ')
                    | (Some('ウ'), 'ウ')
                    | (Some('エ'), 'イ' | 'エ')
                    | (Some('ア'), 'ア')
                    | (Some('イ'), 'イ')
            );
        if !long {
            weak.push(c);
            before = Some(c);
        }
    }
    weak
}

/// What names are looked up by, of a strong key: the weak key without voiced marks. Never a reason
/// to link.
pub fn skeleton(key: &str) -> String {
    weak(key).chars().map(unvoiced).collect()
}

/// The vowel of a large kana (カ is ア); ン and others are themselves.
fn vowel(c: char) -> char {
    match c {
        'ア' | 'カ' | 'サ' | 'タ' | 'ナ' | 'ハ' | 'マ' | 'ヤ' | 'ラ' | 'ワ' | 'ガ' | 'ザ'
        | 'ダ' | 'バ' | 'パ' => 'ア',
        'イ' | 'キ' | 'シ' | 'チ' | 'ニ' | 'ヒ' | 'ミ' | 'リ' | 'ギ' | 'ジ' | 'ビ' | 'ピ' => {
            'イ'
        }
        'ウ' | 'ク' | 'ス' | 'ツ' | 'ヌ' | 'フ' | 'ム' | 'ユ' | 'ル' | 'グ' | 'ズ' | 'ブ'
        | 'プ' => 'ウ',
        'エ' | 'ケ' | 'セ' | 'テ' | 'ネ' | 'ヘ' | 'メ' | 'レ' | 'ゲ' | 'ゼ' | 'デ' | 'ベ'
        | 'ペ' => 'エ',
        'オ' | 'コ' | 'ソ' | 'ト' | 'ノ' | 'ホ' | 'モ' | 'ヨ' | 'ロ' | 'ゴ' | 'ゾ' | 'ド'
        | 'ボ' | 'ポ' => 'オ',
        other => other,
    }
}

/// A kana without its voiced mark.
pub fn unvoiced(c: char) -> char {
    match c {
        'ガ' => 'カ',
        'ギ' => 'キ',
        'グ' => 'ク',
        'ゲ' => 'ケ',
        'ゴ' => 'コ',
        'ザ' => 'サ',
        // ヂ and ヅ are ジ and ズ in the key: their plain forms meet those of チ and ツ too.
        'ジ' | 'チ' => 'シ',
        'ズ' | 'ツ' => 'ス',
        'ゼ' => 'セ',
        'ゾ' => 'ソ',
        'ダ' => 'タ',
        'デ' => 'テ',
        'ド' => 'ト',
        'バ' | 'パ' => 'ハ',
        'ビ' | 'ピ' => 'ヒ',
        'ブ' | 'プ' => 'フ',
        'ベ' | 'ペ' => 'ヘ',
        'ボ' | 'ポ' => 'ホ',
        other => other,
    }
}

/// Whether a text, as received, is written in kana alone.
pub fn is_kana(text: &str) -> bool {
    let mut any = false;
    for c in text
        .chars()
        .take(super::MAX_CHARS)
        .filter(|c| !is_separator(*c))
    {
        any = true;
        let kana = matches!(c, 'ぁ'..='ゖ' | 'ァ'..='ヺ' | 'ー' | 'ｦ'..='ﾟ' | '゛' | '゜' | '\u{3099}' | '\u{309A}');
        if !kana {
            return false;
        }
    }
    any
}
