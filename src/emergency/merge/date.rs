//! Dates of the record as spans: what is known to the year may be any day of it.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use crate::types::PartialDate;
use crate::wire::pb::emergency::{ItemSource, SummaryItem};

/// All that a date may mean, by the clock in Japan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// The earliest moment.
    pub(super) earliest: DateTime,
    /// The latest moment, to the second.
    pub(super) latest: DateTime,
}

/// The day in Japan.
pub(in crate::emergency) fn day(time: Timestamp) -> Date {
    local(time).date()
}

fn local(time: Timestamp) -> DateTime {
    // Japan has had no other offset since 1951.
    TimeZone::fixed(Offset::constant(9)).to_datetime(time)
}

impl Span {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or RFC 3339; none if it is none of these.
    pub(super) fn of(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse::<Timestamp>() {
            let moment = local(time);
            return Some(Self {
                earliest: moment,
                latest: moment,
            });
        }
        let partial: PartialDate = text.parse().ok()?;
        let first = match (partial.month(), partial.to_date()) {
            (_, Some(date)) => date,
            (month, None) => Date::new(partial.year(), month.unwrap_or(1), 1).ok()?,
        };
        let last = match (partial.month(), partial.to_date()) {
            (_, Some(date)) => date,
            (Some(_), None) => first.last_of_month(),
            (None, None) => first.last_of_year(),
        };
        Some(Self {
            earliest: first.at(0, 0, 0, 0),
            latest: last.at(23, 59, 59, 0),
        })
    }

    /// Whether both may mean the same day.
    pub(super) fn may_be_same_day(self, other: Self) -> bool {
        self.earliest.date() <= other.latest.date() && other.earliest.date() <= self.latest.date()
    }

    /// Whether both may mean the same moment.
    pub(super) fn may_be_same(self, other: Self) -> bool {
        self.earliest <= other.latest && other.earliest <= self.latest
    }

    /// What both may mean; this one if they contradict.
    pub(super) fn narrowed(self, other: Self) -> Self {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
        };
        if both.earliest <= both.latest {
            both
        } else {
            self
        }
    }
}

/// When an item is of: its start, else its end, else when it was recorded last. None sorts first.
pub(super) fn of_item(item: &SummaryItem) -> Option<DateTime> {
    let own = Span::of(&item.start).or_else(|| Span::of(&item.end));
    own.or_else(|| newest(&item.sources))
        .map(|span| span.earliest)
}

/// When the last of `sources` was recorded.
pub(super) fn newest(sources: &[ItemSource]) -> Option<Span> {
    sources
        .iter()
        .filter_map(|source| Span::of(&source.recorded))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_the_year_may_be_any_day_of_it() {
        let year = Span::of("2024").unwrap();
        let month = Span::of("2024-02").unwrap();
        let day = Span::of("2024-02-29").unwrap();
        let moment = Span::of("2024-02-29T15:30:00Z").unwrap();
        assert!(year.may_be_same_day(month) && month.may_be_same_day(day));
        assert_eq!(month.latest.date(), day.latest.date());
        assert!(
            !day.may_be_same_day(moment),
            "it was past midnight in Japan"
        );
        assert_eq!(year.narrowed(day), day);
        for bad in ["", "2024-13", "R6.2.1", "2024-02-30", "20240201"] {
            assert_eq!(Span::of(bad), None, "{bad}");
        }
    }
}
