//! Dates that stay as precise as they were given: a partial date is never padded.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

/// Why a text is not a date of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a date of the form YYYY, YYYY-MM or YYYY-MM-DD (DTM: YYYYMMDDhhmmss, any prefix)")]
pub struct InvalidDate;

/// A date known to the year, the month, or the day (`YYYY[-MM[-DD]]`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialDate {
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
}

impl PartialDate {
    /// A full date.
    pub fn full(date: Date) -> Self {
        Self {
            year: date.year(),
            month: Some(date.month()),
            day: Some(date.day()),
        }
    }

    /// The year.
    pub fn year(self) -> i16 {
        self.year
    }

    /// The month, if known.
    pub fn month(self) -> Option<i8> {
        self.month
    }

    /// The date, if known to the day.
    pub fn to_date(self) -> Option<Date> {
        Date::new(self.year, self.month?, self.day?).ok()
    }

    /// The first day it may be.
    pub fn first(self) -> Date {
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        Date::new(self.year, month, day).unwrap_or(Date::MIN)
    }

    /// The last day it may be.
    pub fn last(self) -> Date {
        let month = self.month.unwrap_or(12);
        match self.day {
            Some(day) => Date::new(self.year, month, day).unwrap_or(Date::MAX),
            None => Date::new(self.year, month, 1).map_or(Date::MAX, Date::last_of_month),
        }
    }

    /// Whether the two do not contradict each other as far as both are known.
    pub fn compatible(self, other: Self) -> bool {
        let part = |a: Option<i8>, b: Option<i8>| a.is_none() || b.is_none() || a == b;
        self.year == other.year && part(self.month, other.month) && part(self.day, other.day)
    }
}

impl FromStr for PartialDate {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let number = |part: &str, width: usize| -> Result<i16, InvalidDate> {
            if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(InvalidDate);
            }
            part.parse().map_err(|_| InvalidDate)
        };
        let mut parts = text.split('-');
        let year = number(parts.next().unwrap_or_default(), 4)?;
        let mut two = || -> Result<Option<i8>, InvalidDate> {
            parts
                .next()
                .map(|part| number(part, 2).and_then(|n| i8::try_from(n).map_err(|_| InvalidDate)))
                .transpose()
        };
        let (month, day) = (two()?, two()?);
        if parts.next().is_some() {
            return Err(InvalidDate);
        }
        Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).map_err(|_| InvalidDate)?;
        Ok(Self { year, month, day })
    }
}

impl fmt::Display for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.year)?;
        if let Some(month) = self.month {
            write!(f, "-{month:02}")?;
        }
        if let Some(day) = self.day {
            write!(f, "-{day:02}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[date]")
    }
}

/// An HL7 date-time in UTC, to the precision given: `YYYY[MM[DD[hh[mm[ss]]]]]` (ITI TF-3 §4.2.3.1.7,
/// DTM).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dtm(Box<str>);

impl Dtm {
    /// The digits as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The earliest instant it can mean, as 14 digits; sorts by time.
    pub fn earliest(&self) -> String {
        let fill = "00000101000000";
        format!("{}{}", self.0, fill.get(self.0.len()..).unwrap_or_default())
    }

    /// The latest instant it can mean, as 14 digits. The last day of a month is written 31:
    /// an upper bound for comparison, not a calendar date.
    pub fn latest(&self) -> String {
        let fill = "99991231235959";
        format!("{}{}", self.0, fill.get(self.0.len()..).unwrap_or_default())
    }
}

impl PartialOrd for Dtm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dtm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.earliest()
            .cmp(&other.earliest())
            .then_with(|| self.0.len().cmp(&other.0.len()))
    }
}

impl FromStr for Dtm {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !matches!(text.len(), 4 | 6 | 8 | 10 | 12 | 14) {
            return Err(InvalidDate);
        }
        let dtm = Self(text.into());
        let full = dtm.earliest();
        let part = |from: usize, to: usize| {
            full.get(from..to)
                .and_then(|digits| digits.parse::<i16>().ok())
                .ok_or(InvalidDate)
        };
        let small =
            |from, to| part(from, to).and_then(|n| i8::try_from(n).map_err(|_| InvalidDate));
        Date::new(part(0, 4)?, small(4, 6)?, small(6, 8)?).map_err(|_| InvalidDate)?;
        if small(8, 10)? > 23 || small(10, 12)? > 59 || small(12, 14)? > 60 {
            return Err(InvalidDate);
        }
        Ok(dtm)
    }
}
