//! How much is too much.

use super::Rule;

/// More than so many look like misuse. An institution's, not a law of nature: `[misuse]` sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Patients that a person asks about in an hour.
    pub enumeration_per_hour: u32,
    /// The same in a day.
    pub enumeration_per_day: u32,
    /// Questions of a person in an hour that find nobody.
    pub guesses_per_hour: u32,
    /// Refusals of a person in an hour.
    pub refusals_per_hour: u32,
    /// The same in a day.
    pub refusals_per_day: u32,
    /// Records and documents shown to a person in an hour.
    pub disclosed_per_hour: u32,
    /// Calls of a person in a minute.
    pub calls_per_minute: u32,
    /// Break-glass grants of a person in a day.
    pub break_glass_per_day: u32,
    /// Those of all people of an institution.
    pub institution_break_glass_per_day: u32,
    /// Patients shown to a person in a day on a relation that only the person claims.
    pub claimed_relations_per_day: u32,
    /// Purposes that a person states for one patient in an hour.
    pub purposes_per_patient: u32,
    /// Patients that a person looks at in a day at an unusual hour, or for an unusual purpose.
    pub unusual_patients_per_day: u32,
    /// People of one institution who are shown something of one patient in a day.
    pub readers_per_patient: u32,
    /// Patients of whom a person has restricted items shown in a day.
    pub restricted_per_day: u32,
    /// Removals by a person in an hour.
    pub removals_per_hour: u32,
    /// Days that are looked at before anything is called unusual.
    pub baseline_days: u32,
    /// An hour or a purpose is unusual if fewer people of the role than this part of one are there, or
    /// act so, on such a day on average, percent; and fewer than this part of their busiest hour.
    pub unusual_percent: u32,
    /// How far the institutions' clocks are before UTC, minutes.
    pub utc_offset_minutes: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // `spec` security-bars P-05: 50 unrelated patients a user and hour.
            enumeration_per_hour: 50,
            enumeration_per_day: 300,
            guesses_per_hour: 30,
            refusals_per_hour: 10,
            refusals_per_day: 30,
            disclosed_per_hour: 1_000,
            calls_per_minute: 120,
            break_glass_per_day: 5,
            institution_break_glass_per_day: 20,
            claimed_relations_per_day: 20,
            purposes_per_patient: 2,
            unusual_patients_per_day: 3,
            readers_per_patient: 20,
            restricted_per_day: 6,
            removals_per_hour: 20,
            baseline_days: 14,
            unusual_percent: 20,
            utc_offset_minutes: 9 * 60,
        }
    }
}

impl Limits {
    pub(super) fn of(&self, rule: Rule) -> u64 {
        u64::from(match rule {
            Rule::Enumeration => self.enumeration_per_hour,
            Rule::EnumerationOfDay => self.enumeration_per_day,
            Rule::Guessing => self.guesses_per_hour,
            Rule::Refusals => self.refusals_per_hour,
            Rule::RefusalsOfDay => self.refusals_per_day,
            Rule::Volume => self.disclosed_per_hour,
            Rule::Speed => self.calls_per_minute,
            Rule::BreakGlass => self.break_glass_per_day,
            Rule::BreakGlassOfInstitution => self.institution_break_glass_per_day,
            Rule::ClaimedRelation => self.claimed_relations_per_day,
            Rule::Purposes => self.purposes_per_patient,
            Rule::UnusualPurpose | Rule::UnusualHour => self.unusual_patients_per_day,
            Rule::Readers => self.readers_per_patient,
            Rule::Restricted => self.restricted_per_day,
            Rule::Removals => self.removals_per_hour,
        })
    }
}
