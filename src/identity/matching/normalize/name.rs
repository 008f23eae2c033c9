//! Names as typed: notes and titles stripped, former names set apart, placeholders seen.

use super::{is_separator, nfkc};

/// Given names that only say that there is none yet, folded (`spec` japan §6.4).
const PLACEHOLDERS: &[&str] = &[
    "ベビー",
    "ベービー",
    "ベビ",
    "ベイビー",
    "BABY",
    "BABYBOY",
    "BABYGIRL",
    "児",
    "ジ",
    "コ",
    "子",
    "赤チヤン",
    "アカチヤン",
    "赤ちゃん",
    "あかちゃん",
    "あかちやん",
    "長男",
    "長女",
    "次男",
    "次女",
    "二男",
    "二女",
    "三男",
    "三女",
    "チヨウナン",
    "チヨウジヨ",
    "ジナン",
    "ジジヨ",
    "第1子",
    "第2子",
    "第3子",
    "第一子",
    "第二子",
    "第三子",
    "ダイ1シ",
    "ダイ2シ",
    "ダイイツシ",
    "ダイニシ",
    "男児",
    "女児",
    "男子",
    "女子",
    "男",
    "女",
    "ダンジ",
    "ジヨジ",
    "新生児",
    "シンセイジ",
    "不明",
    "フメイ",
    "不詳",
    "フシヨウ",
    "未定",
    "ミテイ",
    "未命名",
    "名無",
    "名前ナシ",
    "無名",
    "ナナシ",
    "UNKNOWN",
    "NONAME",
    "-",
    "ー",
];

/// Titles and remarks at the end of a name.
const TITLES: &[&str] = &[
    "様",
    "さま",
    "サマ",
    "ｻﾏ",
    "殿",
    "どの",
    "氏",
    "君",
    "くん",
    "さん",
    "サン",
    "ちゃん",
    "先生",
    "御中",
];

/// A name as typed, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The name.
    pub name: String,
    /// A former or other name that stood in brackets: 山田（旧姓鈴木）.
    pub other: Option<String>,
    /// Staff marked the record for people of the same name (同姓同名注意).
    pub namesake_warning: bool,
}

/// Takes titles, brackets and staff notes off a family or given name. A family name may be a
/// single 氏 or 君: a title is only taken off where something stays.
pub fn clean(text: &str) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let text = nfkc(text);
    let mut depth = 0_u32;
    let mut inside = String::new();
    for c in text.chars() {
        match c {
            '(' | '[' | '<' | '【' | '《' | '〈' | '「' | '『' | '〔' | '{' => depth += 1,
            ')' | ']' | '>' | '】' | '》' | '〉' | '」' | '』' | '〕' | '}' => {
                depth = depth.saturating_sub(1);
            }
            '*' | '※' | '★' | '☆' | '#' | '!' | '/' if depth == 0 => {}
            c if depth > 0 => inside.push(c),
            c => cleaned.name.push(c),
        }
    }
    cleaned.namesake_warning = ["同姓同名", "同名", "注意"]
        .iter()
        .any(|note| text.contains(note));
    if cleaned.namesake_warning {
        for note in [
            "同姓同名注意",
            "同姓同名",
            "同名注意",
            "同名あり",
            "同名有",
            "同名",
            "注意",
        ] {
            cleaned.name = cleaned.name.replace(note, "");
        }
    }
    cleaned.other = former(&inside);
    strip_title(&mut cleaned.name);
    cleaned
}

fn strip_title(name: &mut String) {
    let trimmed = name.trim().to_owned();
    let title = TITLES
        .iter()
        .filter_map(|title| trimmed.strip_suffix(title))
        .find(|rest| rest.chars().filter(|c| !is_separator(*c)).count() >= 2);
    // 君 and さん may end a name (千代君): taken off only behind a blank; 様 and 殿 always.
    let sure = trimmed.ends_with('様') || trimmed.ends_with('殿');
    *name = match title {
        Some(rest) if sure || rest.ends_with(is_separator) => rest.trim().to_owned(),
        _ => trimmed,
    };
}

/// The name in a bracket, if it says that it is a former or another one.
fn former(inside: &str) -> Option<String> {
    let inside = inside.trim();
    let name = ["旧姓", "旧氏", "旧", "通称名", "通称"]
        .iter()
        .find_map(|mark| inside.strip_prefix(mark))?
        .trim_start_matches([':', '・', ' ', '　']);
    let plausible = (1..=8).contains(&name.chars().count());
    plausible.then(|| name.to_owned())
}

/// Whether a folded given name is none at all (newborns, unknown).
pub fn is_placeholder(key: &str) -> bool {
    key.is_empty()
        || PLACEHOLDERS.contains(&key)
        || key.ends_with("ベビー")
        || key.ends_with("ノ児")
        || key.ends_with("の児")
        || key.ends_with("ノコ") && key.chars().count() > 4
        || key.starts_with("ベビー")
        || key.chars().all(|c| c == super::kanji::MASK)
}
