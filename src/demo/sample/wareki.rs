//! Birth dates as institutions write them.

use jiff::civil::{Date, date};

/// First day, name and letter of each era, newest first.
const ERAS: [(Date, &str, &str); 5] = [
    (date(2019, 5, 1), "令和", "R"),
    (date(1989, 1, 8), "平成", "H"),
    (date(1926, 12, 25), "昭和", "S"),
    (date(1912, 7, 30), "大正", "T"),
    (date(1868, 1, 25), "明治", "M"),
];

/// The spellings met in feeds.
#[derive(Clone, Copy)]
pub(super) enum Spelling {
    /// `1970-03-02`
    Iso,
    /// `19700302`
    Compact,
    /// `昭和45年3月2日`
    Era,
    /// `S45.3.2`
    EraLetter,
}

/// `day` in the given spelling; a day before Meiji falls back to ISO.
pub(super) fn spell(day: Date, spelling: Spelling) -> String {
    let era = ERAS.iter().find(|(start, ..)| *start <= day);
    match (spelling, era) {
        (Spelling::Era, Some((start, name, _))) => {
            let year = day.year() - start.year() + 1;
            let year = if year == 1 {
                "元".to_owned()
            } else {
                year.to_string()
            };
            format!("{name}{year}年{}月{}日", day.month(), day.day())
        }
        (Spelling::EraLetter, Some((start, _, letter))) => {
            let year = day.year() - start.year() + 1;
            format!("{letter}{year}.{}.{}", day.month(), day.day())
        }
        (Spelling::Compact, _) => day.strftime("%Y%m%d").to_string(),
        _ => day.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_change_on_the_right_day() {
        assert_eq!(spell(date(1970, 3, 2), Spelling::Era), "昭和45年3月2日");
        assert_eq!(spell(date(1989, 1, 7), Spelling::EraLetter), "S64.1.7");
        assert_eq!(spell(date(1989, 1, 8), Spelling::Era), "平成元年1月8日");
        assert_eq!(spell(date(2019, 5, 1), Spelling::EraLetter), "R1.5.1");
        assert_eq!(spell(date(1970, 3, 2), Spelling::Compact), "19700302");
        assert_eq!(spell(date(1970, 3, 2), Spelling::Iso), "1970-03-02");
    }
}
