//! What is usual: at what hours the people of a role are at work at an institution, and for what
//! purposes they act. Learned from the events themselves, forgotten slowly, and kept over restarts. It
//! knows institutions, roles, hours and counts, and neither patients nor persons.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::config::MisuseSettings;

/// Roles of institutions known at most; the one that was quiet longest gives way (INV-7).
const MAX_PROFILES: usize = 5_000;
/// People and what they did within an hour; those beyond are not learned of.
const MAX_SEEN: usize = 200_000;
/// After so many days what was learned counts half.
const HALVED_AFTER: i64 = 56;
/// A role with fewer hours of work than this is not known yet.
const MIN_HOURS: u32 = 20;
/// Hours of a workday, then those of a day of the weekend.
const SLOTS: usize = 48;
/// Purposes of `renkei.common.v1.PurposeOfUse`, and room for more.
const PURPOSES: usize = 16;
const HOUR: i64 = 3_600;
const HOURS: i64 = 24;

/// Somebody at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence<'a> {
    pub(super) institution: &'a str,
    pub(super) role: &'a str,
    /// The person, hashed.
    pub(super) person: u64,
    /// Unix seconds.
    pub(super) at: i64,
    /// The number of the purpose.
    pub(super) purpose: i32,
}

/// A day and an hour where the institutions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Local {
    /// Days since 1970-01-01.
    day: i64,
    /// 0 to 23.
    hour: i64,
}

impl Local {
    fn of(at: i64, limits: &MisuseSettings) -> Self {
        let hours = (at + i64::from(limits.utc_offset_minutes) * 60).div_euclid(HOUR);
        Self {
            day: hours.div_euclid(HOURS),
            hour: hours.rem_euclid(HOURS),
        }
    }

    /// The hours around this one: who comes early or stays on is not at an unusual hour.
    fn around(self) -> [Self; 3] {
        [-1, 0, 1].map(|by| {
            let hours = self.day * HOURS + self.hour + by;
            Self {
                day: hours.div_euclid(HOURS),
                hour: hours.rem_euclid(HOURS),
            }
        })
    }

    fn slot(self) -> usize {
        let hour = usize::try_from(self.hour).unwrap_or(0);
        match is_weekend(self.day) {
            true => SLOTS / 2 + hour,
            false => hour,
        }
    }
}

/// 1970-01-01 was a Thursday.
fn is_weekend(day: i64) -> bool {
    matches!((day + 4).rem_euclid(7), 0 | 6)
}

/// What is usual for the people of a role at an institution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Profile {
    /// From which day on it is counted.
    since: i64,
    /// The last day on which somebody was there.
    last: i64,
    /// Hours that people were at work, by [`SLOTS`].
    hours: Vec<u32>,
    /// Hours in which people acted for each purpose.
    purposes: Vec<u32>,
}

impl Profile {
    fn new(day: i64) -> Self {
        Self {
            since: day,
            last: day,
            hours: vec![0; SLOTS],
            purposes: vec![0; PURPOSES],
        }
    }

    /// Days of the same kind as `day` since it is counted, at least one.
    fn days_like(&self, day: i64) -> i64 {
        let days = (day - self.since).clamp(0, 2 * HALVED_AFTER);
        let alike = (day - days..day).filter(|one| is_weekend(*one) == is_weekend(day));
        i64::try_from(alike.count()).unwrap_or(1).max(1)
    }

    fn at(&self, local: Local) -> u32 {
        self.hours.get(local.slot()).copied().unwrap_or(0)
    }

    fn is_known(&self, day: i64, limits: &MisuseSettings) -> bool {
        let known = day - self.since >= i64::from(limits.baseline_days);
        known && self.hours.iter().sum::<u32>() >= MIN_HOURS
    }

    /// Whether `count` hours, on `days` days, are few: of one person, and beside the busiest hour.
    fn is_few(&self, count: u32, days: i64, limits: &MisuseSettings) -> bool {
        let (count, percent) = (i64::from(count), i64::from(limits.unusual_percent));
        let busiest = self.hours.iter().max().copied().unwrap_or(0);
        count * 100 < days * percent && count * 100 < i64::from(busiest) * percent
    }

    /// What was learned long ago counts less and less.
    fn age(&mut self, day: i64) {
        if day - self.since < 2 * HALVED_AFTER {
            return;
        }
        self.since = day - HALVED_AFTER;
        self.hours.iter_mut().for_each(|count| *count /= 2);
        self.purposes.iter_mut().for_each(|count| *count /= 2);
    }
}

/// What is usual, for every role of every institution.
#[derive(Debug, Default)]
pub struct Baselines {
    profiles: HashMap<(String, String), Profile>,
    /// The hour that is being learned, and who was seen in it, for each purpose: nobody counts twice,
    /// so that nobody makes unusual things usual by doing them often.
    hour: i64,
    seen: HashSet<(u64, i32)>,
}

/// As it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept(Vec<(String, String, Profile)>);

impl Baselines {
    /// What was kept; `None` if it is not understood.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let Kept(all) = serde_json::from_slice(bytes).ok()?;
        let whole =
            |profile: &Profile| profile.hours.len() == SLOTS && profile.purposes.len() == PURPOSES;
        let profiles = all
            .into_iter()
            .filter(|(_, _, profile)| whole(profile))
            .take(MAX_PROFILES)
            .map(|(institution, role, profile)| ((institution, role), profile));
        Some(Self {
            profiles: profiles.collect(),
            ..Self::default()
        })
    }

    /// To be kept.
    pub fn to_json(&self) -> Vec<u8> {
        let mut all: Vec<_> = self
            .profiles
            .iter()
            .map(|((institution, role), profile)| {
                (institution.clone(), role.clone(), profile.clone())
            })
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        // Strings and numbers: nothing of it can fail to be written.
        serde_json::to_vec(&Kept(all)).unwrap_or_default()
    }

    /// How many roles are known.
    pub fn len(&self) -> usize {
        self.profiles.len()
    }

    /// Whether nothing has been learned.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    fn profile(&self, presence: &Presence<'_>) -> Option<&Profile> {
        let key = (presence.institution.to_owned(), presence.role.to_owned());
        self.profiles.get(&key)
    }

    /// Whether hardly anybody of the role is at work at this hour, or the one before or after.
    pub(super) fn is_unusual_hour(&self, presence: &Presence<'_>, limits: &MisuseSettings) -> bool {
        let local = Local::of(presence.at, limits);
        let Some(profile) = self.profile(presence) else {
            return false;
        };
        let few = |at: Local| profile.is_few(profile.at(at), profile.days_like(at.day), limits);
        profile.is_known(local.day, limits) && local.around().into_iter().all(few)
    }

    /// Whether hardly anybody of the role acts for this purpose.
    pub(super) fn is_unusual_purpose(
        &self,
        presence: &Presence<'_>,
        limits: &MisuseSettings,
    ) -> bool {
        let local = Local::of(presence.at, limits);
        let Some(profile) = self.profile(presence) else {
            return false;
        };
        let purpose = usize::try_from(presence.purpose).unwrap_or(PURPOSES);
        let Some(count) = profile.purposes.get(purpose).filter(|_| purpose > 0) else {
            return false;
        };
        let days = (local.day - profile.since).max(1);
        profile.is_known(local.day, limits) && profile.is_few(*count, days, limits)
    }

    /// Notes that somebody was at work.
    pub(super) fn learn(&mut self, presence: &Presence<'_>, limits: &MisuseSettings) {
        let local = Local::of(presence.at, limits);
        let hour = presence.at.div_euclid(HOUR);
        if hour != self.hour {
            self.hour = hour;
            self.seen.clear();
        }
        if self.seen.len() >= MAX_SEEN {
            return;
        }
        let here = self.seen.insert((presence.person, 0));
        let acts = self.seen.insert((presence.person, presence.purpose.max(1)));
        if !here && !acts {
            return;
        }
        let key = (presence.institution.to_owned(), presence.role.to_owned());
        if self.profiles.len() >= MAX_PROFILES && !self.profiles.contains_key(&key) {
            let quietest = self.profiles.iter().min_by_key(|(_, one)| one.last);
            if let Some(quietest) = quietest.map(|(key, _)| key.clone()) {
                self.profiles.remove(&quietest);
            }
        }
        let profile = self
            .profiles
            .entry(key)
            .or_insert_with(|| Profile::new(local.day));
        profile.age(local.day);
        profile.last = profile.last.max(local.day);
        if here && let Some(count) = profile.hours.get_mut(local.slot()) {
            *count = count.saturating_add(1);
        }
        let purpose = usize::try_from(presence.purpose).unwrap_or(PURPOSES);
        if acts && let Some(count) = profile.purposes.get_mut(purpose) {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday, 0 o'clock in Japan.
    const MONDAY: i64 = 1_767_538_800;
    const DAY: i64 = 24 * HOUR;

    fn presence(day: i64, hour: i64, person: u64, purpose: i32) -> Presence<'static> {
        Presence {
            institution: "1312345678",
            role: "Clerk",
            person,
            at: MONDAY + day * DAY + hour * HOUR,
            purpose,
        }
    }

    /// Three weeks of a clinic: two clerks, nine to six, Monday to Friday, payment.
    fn clinic() -> Baselines {
        let mut baselines = Baselines::default();
        for day in (0..21).filter(|day| day % 7 < 5) {
            for hour in 9..18 {
                for person in [1, 2] {
                    let one = presence(day, hour, person, 5);
                    baselines.learn(&one, &MisuseSettings::default());
                }
            }
        }
        baselines
    }

    #[test]
    fn an_hour_far_from_work_is_unusual() {
        let (baselines, limits) = (clinic(), MisuseSettings::default());
        let unusual = |day, hour| baselines.is_unusual_hour(&presence(day, hour, 1, 5), &limits);
        assert!(!unusual(21, 9) && !unusual(21, 17), "at work");
        assert!(!unusual(21, 8) && !unusual(21, 18), "early, or on");
        assert!(unusual(21, 3) && unusual(21, 22), "at night");
        assert!(unusual(26, 10) && unusual(27, 10), "at the weekend");
        let other = Presence {
            role: "General Nurse",
            ..presence(21, 3, 1, 5)
        };
        assert!(!baselines.is_unusual_hour(&other, &limits), "not known");
        let soon = MisuseSettings {
            baseline_days: 30,
            ..limits
        };
        let early = baselines.is_unusual_hour(&presence(21, 3, 1, 5), &soon);
        assert!(!early, "not for long enough");
    }

    #[test]
    fn a_purpose_of_nobody_is_unusual() {
        let (baselines, limits) = (clinic(), MisuseSettings::default());
        let unusual =
            |purpose| baselines.is_unusual_purpose(&presence(21, 10, 1, purpose), &limits);
        assert!(!unusual(5) && unusual(1) && !unusual(0), "none is stated");
    }

    /// Whoever comes every week is not unusual, though seldom there.
    #[test]
    fn who_is_seldom_there_is_not_unusual_for_it() {
        let (mut baselines, limits) = (Baselines::default(), MisuseSettings::default());
        for week in 0..5 {
            for hour in 9..17 {
                baselines.learn(&presence(week * 7, hour, 1, 1), &limits);
            }
        }
        let next = presence(35, 10, 1, 1);
        assert!(!baselines.is_unusual_hour(&next, &limits));
        assert!(!baselines.is_unusual_purpose(&next, &limits));
    }

    /// Nobody makes an hour usual alone by working through one night.
    #[test]
    fn a_busy_night_makes_no_custom() {
        let (mut baselines, limits) = (clinic(), MisuseSettings::default());
        for _ in 0..500 {
            baselines.learn(&presence(21, 3, 1, 5), &limits);
        }
        assert!(baselines.is_unusual_hour(&presence(22, 3, 1, 5), &limits));
    }

    #[test]
    fn what_was_learned_is_kept_and_bounded() {
        let baselines = clinic();
        let kept = baselines.to_json();
        let again = Baselines::from_json(&kept).unwrap();
        assert_eq!(again.profiles, baselines.profiles);
        assert_eq!(again.to_json(), kept);
        assert!(Baselines::from_json(b"x").is_none());
        assert!(!kept.windows(4).any(|four| four == b"pers"), "no persons");
        let mut many = Baselines::default();
        let names: Vec<String> = (0..MAX_PROFILES + 50).map(|n| n.to_string()).collect();
        for (name, day) in names.iter().zip(0..) {
            let one = Presence {
                institution: name,
                ..presence(day, 9, 1, 1)
            };
            many.learn(&one, &MisuseSettings::default());
        }
        assert_eq!(many.len(), MAX_PROFILES);
        assert!(!many.is_empty());
        let oldest = Presence {
            institution: "0",
            ..presence(0, 9, 1, 1)
        };
        assert!(many.profile(&oldest).is_none());
    }

    /// Old habits are forgotten: what was usual a year ago is not today.
    #[test]
    fn old_habits_are_forgotten() {
        let (mut baselines, limits) = (Baselines::default(), MisuseSettings::default());
        let work = |baselines: &mut Baselines, days: std::ops::Range<i64>, from: i64| {
            for day in days.filter(|day| day % 7 < 5) {
                for hour in from..from + 6 {
                    for person in 0..4 {
                        baselines.learn(&presence(day, hour, person, 1), &limits);
                    }
                }
            }
        };
        work(&mut baselines, 0..60, 0);
        assert!(!baselines.is_unusual_hour(&presence(60, 2, 1, 1), &limits));
        work(&mut baselines, 60..600, 10);
        assert!(baselines.is_unusual_hour(&presence(602, 2, 1, 1), &limits));
    }
}
