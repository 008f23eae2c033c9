//! How much is too much.

use crate::config::MisuseSettings;

use super::Rule;

impl MisuseSettings {
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
