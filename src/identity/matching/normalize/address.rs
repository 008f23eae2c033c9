//! Addresses: prefecture, municipality, town, and the numbers behind them. Building and room are
//! left out.

use std::hash::{BuildHasher as _, BuildHasherDefault};

use super::{is_dash, is_separator, kanji, nfkc};

/// Prefectures, in the order of their numbers 1–47 (都道府県番号).
#[rustfmt::skip]
const PREFECTURES: [&str; 47] = [
    "北海道", "青森県", "岩手県", "宮城県", "秋田県", "山形県", "福島県", "茨城県", "栃木県", "群馬県", "埼玉県", "千葉県",
    "東京都", "神奈川県", "新潟県", "富山県", "石川県", "福井県", "山梨県", "長野県", "岐阜県", "静岡県", "愛知県", "三重県",
    "滋賀県", "京都府", "大阪府", "兵庫県", "奈良県", "和歌山県", "鳥取県", "島根県", "岡山県", "広島県", "山口県", "徳島県",
    "香川県", "愛媛県", "高知県", "福岡県", "佐賀県", "長崎県", "熊本県", "大分県", "宮崎県", "鹿児島県", "沖縄県",
];

/// Municipalities whose name holds 市, 区, 町, 村 or 郡 before its end.
#[rustfmt::skip]
const WITH_MARKS_INSIDE: [&str; 28] = [
    "四日市市", "廿日市市", "八日市市", "十日町市", "町田市", "大町市", "村山市", "東村山市", "武蔵村山市", "羽村市", "村上市", "田村市",
    "市川市", "市原市", "野々市市", "余市町", "玉村町", "大村市", "中村市", "郡山市", "大和郡山市", "郡上市", "小郡市", "蒲郡市",
    "今市市", "下市町", "市川三郷町", "上市町",
];

/// A place as far as an address tells. Zero, or an empty list, is unknown. Names are kept as hashes:
/// they are only ever compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// 1–47.
    pub prefecture: u8,
    /// Municipality.
    pub city: u32,
    /// Municipality and town (町名, 大字), without 丁目.
    pub town: u32,
    /// Up to four numbers: 丁目, 番, 号, or 番地 and 枝番; what follows may be a room.
    pub numbers: [u16; 4],
    /// Seven digits.
    pub postal: u32,
}

impl Place {
    /// Whether it names a house, not only a town.
    pub fn is_street(&self) -> bool {
        self.town != 0 && self.numbers.first().is_some_and(|first| *first != 0)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.prefecture == 0 && self.city == 0 && self.town == 0 && self.postal == 0
    }
}

/// A postal code; 0 if it has not seven digits.
pub fn postal(text: &str) -> u32 {
    let digits: String = nfkc(text).chars().filter(char::is_ascii_digit).collect();
    if digits.len() == 7 {
        digits.parse().unwrap_or(0)
    } else {
        0
    }
}

/// A place, of an address on one line (prefecture, municipality, the rest) and a postal code.
pub fn place(text: &str, postal_code: &str) -> Place {
    let folded = folded(text);
    let (prefecture, rest) = split_prefecture(&folded);
    let rest = without_county(rest);
    let (area, numbers) = rest.split_at(first_number(rest));
    let area = area.trim_end_matches('-');
    let city = municipality(area);
    let mut place = Place {
        prefecture,
        city: hash(city),
        town: if area.len() > city.len() {
            hash(area)
        } else {
            0
        },
        numbers: [0; 4],
        postal: postal(postal_code),
    };
    for (slot, number) in place.numbers.iter_mut().zip(leading_numbers(numbers)) {
        *slot = number;
    }
    place
}

/// Where the house number begins. A number before 以 belongs to the town: postal data have towns such
/// as 次に664番地以降がくる場合.
fn first_number(text: &str) -> usize {
    let mut from = 0;
    loop {
        let Some(rest) = text.get(from..) else {
            return text.len();
        };
        let Some(at) = rest.find(|c: char| c.is_ascii_digit()) else {
            return text.len();
        };
        let number = rest.get(at..).unwrap_or_default();
        let behind = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        if !behind.starts_with('以') {
            return from + at;
        }
        from = text.len() - behind.len();
    }
}

/// A name as 32 bits; 0 only for the empty one.
fn hash(name: &str) -> u32 {
    if name.is_empty() {
        return 0;
    }
    // FNV-1a: the same in every process, so that what is shown with a link can be checked again.
    let mut hash = 0x811C_9DC5_u32;
    for byte in name.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

/// NFKC, variants folded, no blanks; 大字 and 字 dropped; ヶ, が, ガ as ケ; 二十三番地, ２３番地 and 23の as
/// `23-`.
fn folded(text: &str) -> String {
    let text = nfkc(text);
    let characters: Vec<char> = text
        .chars()
        .filter(|c| !is_separator(*c) || *c == ' ')
        .collect();
    let mut key = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let rest = characters.get(at..).unwrap_or_default();
        let in_number = key.ends_with(|last: char| last.is_ascii_digit());
        let skipped = if rest.starts_with(&['大', '字']) {
            2
        } else if c == '字' {
            1
        } else if in_number {
            unit(rest)
        } else {
            0
        };
        if skipped > 0 {
            if in_number {
                key.push('-');
            }
            at += skipped;
            continue;
        }
        if let Some((number, length)) = numeral(rest) {
            key.push_str(&number.to_string());
            at += length;
            continue;
        }
        at += 1;
        match c {
            ' ' if in_number => key.push('/'),
            ' ' => {}
            'ヶ' | 'が' | 'ガ' | 'ヵ' => key.push('ケ'),
            'ノ' | '之' => key.push('の'),
            c => key.push(kanji::fold_variant(c)),
        }
    }
    key
}

/// How many characters of a unit behind a number stand here: 丁目, 番地の, 番, 号, の, dashes.
fn unit(rest: &[char]) -> usize {
    const UNITS: [&[char]; 9] = [
        &['番', '地', 'の'],
        &['番', '地', 'ノ'],
        &['丁', '目'],
        &['番', '地'],
        &['番'],
        &['号'],
        &['の'],
        &['ノ'],
        &['ー'],
    ];
    if rest.first().is_some_and(|c| is_dash(*c)) {
        return 1;
    }
    UNITS
        .iter()
        .find(|unit| rest.starts_with(unit))
        .map_or(0, |unit| unit.len())
}

/// A number in kanji before 丁目, 番 or 号, and how many characters it has. A numeral in a town's
/// name (一番町, 三条) stays.
fn numeral(rest: &[char]) -> Option<(u32, usize)> {
    let length = rest
        .iter()
        .take_while(|c| digit(**c).is_some() || matches!(c, '十' | '百' | '廿' | '卅'))
        .count();
    let behind = rest.get(length..)?;
    let unit = behind.starts_with(&['丁', '目']) || behind.starts_with(&['番', '地']);
    if length == 0 || length > 5 || !unit {
        return None;
    }
    let (mut value, mut current) = (0, 0);
    for c in rest.get(..length)? {
        match c {
            '百' => (value, current) = (value + current.max(1) * 100, 0),
            '十' => (value, current) = (value + current.max(1) * 10, 0),
            '廿' => value += 20,
            '卅' => value += 30,
            other => current = current * 10 + digit(*other)?,
        }
    }
    Some((value + current, length))
}

fn digit(c: char) -> Option<u32> {
    "〇一二三四五六七八九"
        .chars()
        .zip(0..)
        .find(|(numeral, _)| *numeral == c)
        .map(|(_, value)| value)
}

fn split_prefecture(text: &str) -> (u8, &str) {
    let known = (1..).zip(PREFECTURES);
    let mut found = known.filter_map(|(number, name)| Some((number, text.strip_prefix(name)?)));
    found
        .next()
        .unwrap_or_else(|| (0, without_unknown_prefecture(text)))
}

/// A 県 that is none of the 47 (a mistyped one, or of test data) must not part two addresses either.
fn without_unknown_prefecture(text: &str) -> &str {
    let place = text
        .char_indices()
        .skip(2)
        .take(2)
        .find(|(_, c)| *c == '県');
    place
        .and_then(|(at, c)| text.get(at + c.len_utf8()..))
        .unwrap_or(text)
}

/// Counties (郡) are often left out. One is at most five characters long.
fn without_county(text: &str) -> &str {
    if WITH_MARKS_INSIDE.iter().any(|name| text.starts_with(name)) {
        return text;
    }
    text.char_indices()
        .skip(1)
        .take(5)
        .take_while(|(_, c)| !matches!(c, '市' | '区' | '町' | '村'))
        .find(|(_, c)| *c == '郡')
        .and_then(|(at, c)| text.get(at + c.len_utf8()..))
        .unwrap_or(text)
}

/// The municipality at the beginning: to 市, 区, 町 or 村, or to the 区 of a large city. Cut wrongly at
/// times, but always the same way; empty if there is none.
fn municipality(area: &str) -> &str {
    if let Some(name) = WITH_MARKS_INSIDE
        .iter()
        .find(|name| area.starts_with(**name))
    {
        return area.get(..name.len()).unwrap_or_default();
    }
    let mark = |c: char| matches!(c, '市' | '区' | '町' | '村');
    let Some((at, c)) = area.char_indices().skip(1).take(7).find(|(_, c)| mark(*c)) else {
        return "";
    };
    let end = at + c.len_utf8();
    if c != '市' {
        return area.get(..end).unwrap_or_default();
    }
    let behind = area.get(end..).unwrap_or_default();
    let ward = behind
        .char_indices()
        .skip(1)
        .take(4)
        .find(|(_, c)| *c == '区');
    let end = end + ward.map_or(0, |(at, c)| at + c.len_utf8());
    area.get(..end).unwrap_or_default()
}

fn leading_numbers(text: &str) -> impl Iterator<Item = u16> {
    // A blank (`/`) or a letter ends the house number: the building follows.
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '-'))
        .unwrap_or(text.len());
    text.get(..end)
        .unwrap_or_default()
        .split('-')
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(u16::MAX))
}

/// How two places compare; the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// The same house.
    Street,
    /// The same town, and numbers of which all but one are equal: mistyped, or not wholly given.
    StreetNear,
    /// The same town, or the same postal code; the house is not known of one.
    Town,
    /// The same town and another house.
    TownOther,
    /// The same municipality.
    City,
    /// The same prefecture.
    Prefecture,
    /// Elsewhere.
    Apart,
    /// Too little is known of one.
    Unknown,
}

/// Compares two places.
pub fn compare(a: &Place, b: &Place) -> Nearness {
    if a.is_empty() || b.is_empty() {
        return Nearness::Unknown;
    }
    let both = |x: u32, y: u32| x != 0 && y != 0;
    let same = |x: u32, y: u32| both(x, y) && x == y;
    let prefectures = a.prefecture != 0 && b.prefecture != 0;
    if prefectures && a.prefecture != b.prefecture {
        return Nearness::Apart;
    }
    if same(a.town, b.town) {
        return numbers(a, b);
    }
    if same(a.postal, b.postal) {
        // Numbers of two towns that are equal say nothing; those that differ say two houses.
        return numbers(a, b).max(Nearness::Town);
    }
    if same(a.city, b.city) {
        return Nearness::City;
    }
    if prefectures {
        return Nearness::Prefecture;
    }
    if both(a.city, b.city) {
        Nearness::Apart
    } else {
        Nearness::Unknown
    }
}

fn numbers(a: &Place, b: &Place) -> Nearness {
    let count = |place: &Place| place.numbers.iter().take_while(|one| **one != 0).count();
    let (ours, theirs) = (count(a), count(b));
    // The fourth is a room, if anything.
    let compared = ours.min(theirs).min(3);
    if compared == 0 {
        return Nearness::Town;
    }
    let pairs = || a.numbers.iter().zip(&b.numbers).take(compared);
    let unlike = pairs().filter(|(x, y)| x != y).count();
    match (compared, unlike) {
        (1, 0) if ours == theirs => Nearness::Street,
        // 84番地11 against 84番地.
        (1, 0) => Nearness::StreetNear,
        (_, 0) => Nearness::Street,
        (2.., 1) if pairs().all(|(x, y)| matches!(x.abs_diff(*y), 0 | 1 | 10)) => {
            Nearness::StreetNear
        }
        _ => Nearness::TownOther,
    }
}

/// The key a house is looked up by: town and the first two numbers.
pub fn street_key(place: &Place) -> Option<u64> {
    let [first, second, ..] = place.numbers;
    let key = BuildHasherDefault::<std::hash::DefaultHasher>::default()
        .hash_one((place.town, first, second));
    place.is_street().then_some(key)
}
