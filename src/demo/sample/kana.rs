//! How kana arrives from old systems: half width, or without small letters.

const HALF: [(&str, &str); 4] = [
    (
        "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン",
        "ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜｦﾝ",
    ),
    ("ァィゥェォャュョッー", "ｧｨｩｪｫｬｭｮｯｰ"),
    (
        "ガギグゲゴザジズゼゾダヂヅデドバビブベボ",
        "ｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾊﾋﾌﾍﾎ",
    ),
    ("パピプペポ", "ﾊﾋﾌﾍﾎ"),
];
const MARKS: [&str; 4] = ["", "", "ﾞ", "ﾟ"];

const SMALL: [(char, char); 9] = [
    ('ァ', 'ア'),
    ('ィ', 'イ'),
    ('ゥ', 'ウ'),
    ('ェ', 'エ'),
    ('ォ', 'オ'),
    ('ャ', 'ヤ'),
    ('ュ', 'ユ'),
    ('ョ', 'ヨ'),
    ('ッ', 'ツ'),
];

/// Full-width katakana as half-width katakana; other characters stay.
pub(super) fn half_width(full: &str) -> String {
    full.chars().map(half_width_char).collect()
}

fn half_width_char(kana: char) -> String {
    HALF.iter()
        .zip(MARKS)
        .find_map(|((from, to), mark)| {
            let at = from.chars().position(|letter| letter == kana)?;
            to.chars().nth(at).map(|half| format!("{half}{mark}"))
        })
        .unwrap_or_else(|| kana.to_string())
}

/// Small kana made large, as systems without small letters send it.
pub(super) fn without_small(kana: &str) -> String {
    let enlarge = |letter| {
        SMALL
            .iter()
            .find(|(small, _)| *small == letter)
            .map(|(_, large)| *large)
    };
    kana.chars()
        .map(|letter| enlarge(letter).unwrap_or(letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    #[test]
    fn half_width_is_undone_by_nfkc() {
        for kana in ["ワタナベ", "リョウスケ", "ジュンコ", "パピプペポ", "オーノ"]
        {
            assert_eq!(half_width(kana).nfkc().collect::<String>(), kana);
        }
        assert_eq!(half_width("ショウジ"), "ｼｮｳｼﾞ");
        assert_eq!(without_small("リョウスケ"), "リヨウスケ");
    }
}
