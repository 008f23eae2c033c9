//! Birth dates: ISO, wareki, partial ones that stay partial, and placeholders that are none.

use super::nfkc;

/// A birth date as far as known. Month and day are 0 if unknown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BirthDate {
    /// Gregorian year.
    pub year: i16,
    /// 1–12, 0 if unknown.
    pub month: u8,
    /// 1–31, 0 if unknown or the month is.
    pub day: u8,
}

impl BirthDate {
    /// Whether it is known to the day.
    pub fn is_full(self) -> bool {
        self.day != 0
    }

    /// Whether what both know agrees.
    pub fn compatible(self, other: Self) -> bool {
        let part = |a: u8, b: u8| a == 0 || b == 0 || a == b;
        self.year == other.year && part(self.month, other.month) && part(self.day, other.day)
    }

    /// Days since an epoch of its own, for differences; 30.4 days a month.
    pub fn ordinal(self) -> i32 {
        i32::from(self.year) * 3652 / 10 + i32::from(self.month) * 304 / 10 + i32::from(self.day)
    }
}

/// Never shown: a birth date is patient data.
impl std::fmt::Debug for BirthDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[date]")
    }
}

/// Eras: letter, first character in kanji, and the Gregorian year of year 1.
const ERAS: [(char, &str, i16); 5] = [
    ('M', "明治", 1868),
    ('T', "大正", 1912),
    ('S', "昭和", 1926),
    ('H', "平成", 1989),
    ('R', "令和", 2019),
];

/// Dates systems write when they know none.
const PLACEHOLDERS: [(i16, u8, u8); 4] = [(1900, 1, 1), (1800, 1, 1), (1868, 1, 1), (9999, 12, 31)];

/// A birth date: `YYYY[-MM[-DD]]`, `YYYYMMDD`, `YYYY/MM/DD`, or wareki (`S20.8.15`, 昭和20年8月15日,
/// 令和元年). A month or day of 00 is unknown. `None` for placeholders and what cannot be a date.
pub fn birth_date(text: &str) -> Option<BirthDate> {
    let text = nfkc(text);
    let text = text.trim().replace('元', "1");
    let (base, rest) = era(&text).map_or((0, text.as_str()), |(base, rest)| (base, rest));
    let parts: Vec<&str> = rest
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect();
    let (year, month, day) = match parts.as_slice() {
        [whole] if base == 0 && matches!(whole.len(), 6 | 8) => (
            whole.get(..4)?.parse().ok()?,
            whole.get(4..6)?.parse().ok()?,
            whole.get(6..8).map_or(Some(0), |day| day.parse().ok())?,
        ),
        [year] => (year.parse::<i16>().ok()?, 0, 0),
        [year, month] => (year.parse().ok()?, month.parse().ok()?, 0),
        [year, month, day, ..] => (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?),
        [] => return None,
    };
    let year = if base == 0 {
        year
    } else {
        base.checked_add(year)?.checked_sub(1)?
    };
    let day = if month == 0 { 0 } else { day };
    let sane = (1800..=2200).contains(&year) && month <= 12 && day <= 31;
    (sane && !PLACEHOLDERS.contains(&(year, month, day))).then_some(BirthDate { year, month, day })
}

/// Days from 1970-01-01 to a day written `YYYY-MM-DD`; 0 if it is not one.
pub fn days(text: &str) -> i32 {
    let day = text.parse::<jiff::civil::Date>();
    let epoch = jiff::civil::date(1970, 1, 1);
    day.map_or(0, |day| {
        epoch.duration_until(day).as_hours().try_into().unwrap_or(0) / 24
    })
}

fn era(text: &str) -> Option<(i16, &str)> {
    ERAS.iter().find_map(|(letter, name, year)| {
        let rest = text
            .strip_prefix(*name)
            .or_else(|| text.strip_prefix(*letter))
            .or_else(|| text.strip_prefix(letter.to_ascii_lowercase()));
        rest.map(|rest| (*year, rest))
    })
}

/// Whether two years are one year of two eras (昭和20 and 平成20: 63 years), or one off by the change
/// of an era. Both eras must be such as people alive are born in.
pub fn era_mistake(a: i16, b: i16) -> bool {
    matches!((a - b).abs(), 14 | 30 | 44 | 63 | 77 | 93 | 107)
}
