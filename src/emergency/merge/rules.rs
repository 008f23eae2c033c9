//! Windows, priorities and order of the sections, as data.

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;

use crate::wire::pb::emergency::{SummaryPriority, SummarySection};

use super::date::day;

/// How far back a section goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Nothing ever is too old.
    Unlimited,
    /// Days before today.
    Days(u16),
    /// Months before today.
    Months(u16),
    /// Years before today.
    Years(u16),
}

impl MaxAge {
    /// The first day that is inside; none if all are. Days are those of Japan.
    pub fn first_day(self, now: Timestamp) -> Option<Date> {
        let today = day(now);
        let span = match self {
            Self::Unlimited => return None,
            Self::Days(days) => i64::from(days).days(),
            Self::Months(months) => i64::from(months).months(),
            Self::Years(years) => i64::from(years).years(),
        };
        Some(today.saturating_sub(span))
    }
}

/// The rule of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRule {
    /// Which section.
    pub section: SummarySection,
    /// How early it must be seen (`spec` japan §4.6).
    pub priority: SummaryPriority,
    /// Place among the sections of its priority, ascending: what kills first.
    pub rank: u8,
    /// How far back it goes (`spec` japan §4.4).
    pub max_age: MaxAge,
    /// A series of values in time: only the newest and this many before it are shown. None: each
    /// fact stands for itself.
    pub former_values: Option<usize>,
}

const fn rule(section: SummarySection, priority: SummaryPriority, rank: u8) -> SectionRule {
    SectionRule {
        section,
        priority,
        rank,
        max_age: MaxAge::Unlimited,
        former_values: None,
    }
}

const fn aged(rule: SectionRule, max_age: MaxAge) -> SectionRule {
    SectionRule { max_age, ..rule }
}

/// The newest and the previous value.
const fn series(rule: SectionRule) -> SectionRule {
    SectionRule {
        former_values: Some(1),
        ..rule
    }
}

use SummaryPriority::{A, B, C};

/// The rules of all sections.
///
/// Windows are those of the national 救急用サマリー: medication 3 months, dispensed 45 days, visits
/// 3 months, procedures 5 years, check-ups 5 years. Allergies, contraindications, problems, devices
/// and alerts never age out.
pub const RULES: &[SectionRule] = &[
    rule(SummarySection::Alert, A, 0),
    rule(SummarySection::Contraindication, A, 1),
    rule(SummarySection::Allergy, A, 2),
    rule(SummarySection::Problem, A, 3),
    aged(rule(SummarySection::Medication, A, 4), MaxAge::Months(3)),
    aged(rule(SummarySection::Dispense, A, 5), MaxAge::Days(45)),
    rule(SummarySection::Device, A, 6),
    rule(SummarySection::Care, A, 7),
    series(rule(SummarySection::Pregnancy, A, 8)),
    series(rule(SummarySection::Result, A, 9)),
    aged(rule(SummarySection::Procedure, A, 10), MaxAge::Years(5)),
    series(rule(SummarySection::Vital, A, 11)),
    series(rule(SummarySection::FunctionalStatus, A, 12)),
    rule(SummarySection::Contact, A, 13),
    rule(SummarySection::CareTeam, A, 14),
    aged(rule(SummarySection::Encounter, A, 15), MaxAge::Months(3)),
    series(rule(SummarySection::Infection, B, 16)),
    rule(SummarySection::AdvanceDirective, B, 17),
    rule(SummarySection::PastProblem, B, 18),
    rule(SummarySection::BloodType, B, 19),
    rule(SummarySection::Communication, B, 20),
    rule(SummarySection::Document, B, 21),
    rule(SummarySection::Immunization, C, 22),
    series(rule(SummarySection::SocialHistory, C, 23)),
    aged(rule(SummarySection::Checkup, C, 24), MaxAge::Years(5)),
];

/// The rule of `section`; last of all for one that has none.
pub(super) fn of(section: SummarySection) -> SectionRule {
    let known = RULES.iter().find(|rule| rule.section == section);
    known
        .copied()
        .unwrap_or(rule(SummarySection::Unspecified, C, u8::MAX))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn every_section_has_one_rule() {
        let mut ranks: Vec<_> = RULES.iter().map(|rule| rule.rank).collect();
        ranks.dedup();
        assert_eq!(ranks.len(), RULES.len());
        for number in 1..=25 {
            let section = SummarySection::try_from(number).unwrap();
            assert_eq!(
                RULES.iter().filter(|rule| rule.section == section).count(),
                1,
                "{section:?}"
            );
        }
        let mut by_priority: Vec<_> = RULES.iter().map(|rule| rule.priority).collect();
        by_priority.dedup();
        assert_eq!(by_priority, [A, B, C]);
    }

    #[test]
    fn windows_count_back_from_today_in_japan() {
        // Half past midnight of 1 June in Japan is still 31 May in UTC.
        let now: Timestamp = "2026-05-31T15:30:00Z".parse().unwrap();
        assert_eq!(MaxAge::Days(45).first_day(now), Some(date(2026, 4, 17)));
        assert_eq!(MaxAge::Months(3).first_day(now), Some(date(2026, 3, 1)));
        assert_eq!(MaxAge::Years(5).first_day(now), Some(date(2021, 6, 1)));
        assert_eq!(MaxAge::Unlimited.first_day(now), None);
    }
}
