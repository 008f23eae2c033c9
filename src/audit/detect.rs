//! Looking for misuse by those who are entitled: one pure function over the stream of events. It
//! refuses nothing; it tells an operator whom to ask, with the places of the events in the log.
//!
//! Most rules count within a sliding time. Three know what is usual: [`Baselines`] learns at what hours
//! and for what purposes the people of a role work at an institution, and only what is far from that
//! counts. `docs/misuse.md` describes the rules for privacy officers.

mod baseline;
mod limits;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::config::MisuseSettings;
use crate::types::Relation;
use crate::wire::from_timestamp;
use crate::wire::pb::audit::{Action, AuditEvent, Outcome};

pub use baseline::Baselines;

use baseline::Presence;

/// Counts kept at once; those quiet for longest are forgotten first (INV-7).
const MAX_WATCHED: usize = 100_000;
/// Events remembered for one count.
const MAX_REMEMBERED: usize = 2_048;
/// How often those over are forgotten, in seconds of the events' time.
const FORGET_EVERY: i64 = 600;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What looks like misuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A person asks about more patients in an hour than anybody treats.
    Enumeration,
    /// As that, in a day: slowly.
    EnumerationOfDay,
    /// A person asks for what is not there again and again.
    Guessing,
    /// A person is refused again and again: another purpose, role or relation is tried each time.
    Refusals,
    /// As that, in a day: slowly.
    RefusalsOfDay,
    /// A person has more shown in an hour than anybody reads.
    Volume,
    /// A person calls faster than a person can.
    Speed,
    /// A person declares emergencies without consent more often than they happen.
    BreakGlass,
    /// As that, an institution.
    BreakGlassOfInstitution,
    /// A person sees patients on a relation that nobody but the person claims.
    ClaimedRelation,
    /// A person states one purpose after another for the same patient.
    Purposes,
    /// A person acts for a purpose for which the institution's people of that role do not.
    UnusualPurpose,
    /// A person looks at patients at an hour at which the institution's people of that role do not.
    UnusualHour,
    /// More people of an institution look at a patient than can be treating.
    Readers,
    /// A person has what is restricted shown again and again.
    Restricted,
    /// A person removes more than anybody corrects.
    Removals,
}

/// What of the events within a rule's time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// Their weights.
    Sum,
    /// The different things they are about.
    Different,
    /// The different things they are about, of the newest event's patient.
    DifferentOfPatient,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 16] = [
        Self::Enumeration,
        Self::EnumerationOfDay,
        Self::Guessing,
        Self::Refusals,
        Self::RefusalsOfDay,
        Self::Volume,
        Self::Speed,
        Self::BreakGlass,
        Self::BreakGlassOfInstitution,
        Self::ClaimedRelation,
        Self::Purposes,
        Self::UnusualPurpose,
        Self::UnusualHour,
        Self::Readers,
        Self::Restricted,
        Self::Removals,
    ];

    /// The stable code of its alarm.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Enumeration => "MISUSE_ENUMERATION",
            Self::EnumerationOfDay => "MISUSE_ENUMERATION_DAY",
            Self::Guessing => "MISUSE_GUESSING",
            Self::Refusals => "MISUSE_REFUSALS",
            Self::RefusalsOfDay => "MISUSE_REFUSALS_DAY",
            Self::Volume => "MISUSE_VOLUME",
            Self::Speed => "MISUSE_SPEED",
            Self::BreakGlass => "MISUSE_BREAK_GLASS",
            Self::BreakGlassOfInstitution => "MISUSE_BREAK_GLASS_INSTITUTION",
            Self::ClaimedRelation => "MISUSE_CLAIMED_RELATION",
            Self::Purposes => "MISUSE_PURPOSES",
            Self::UnusualPurpose => "MISUSE_UNUSUAL_PURPOSE",
            Self::UnusualHour => "MISUSE_UNUSUAL_HOUR",
            Self::Readers => "MISUSE_READERS",
            Self::Restricted => "MISUSE_RESTRICTED",
            Self::Removals => "MISUSE_REMOVALS",
        }
    }

    /// Within how many seconds is counted.
    const fn within(self) -> i64 {
        match self {
            Self::Speed => MINUTE,
            Self::Enumeration
            | Self::Guessing
            | Self::Refusals
            | Self::Volume
            | Self::Purposes
            | Self::Removals => HOUR,
            Self::EnumerationOfDay
            | Self::RefusalsOfDay
            | Self::BreakGlass
            | Self::BreakGlassOfInstitution
            | Self::ClaimedRelation
            | Self::UnusualPurpose
            | Self::UnusualHour
            | Self::Readers
            | Self::Restricted => DAY,
        }
    }

    /// The longest time that a rule counts within, in seconds: what has to be looked at again after a
    /// restart.
    pub const LONGEST: i64 = DAY;

    const fn counted(self) -> Counted {
        match self {
            Self::Enumeration
            | Self::EnumerationOfDay
            | Self::ClaimedRelation
            | Self::UnusualPurpose
            | Self::UnusualHour
            | Self::Readers
            | Self::Restricted => Counted::Different,
            Self::Purposes => Counted::DifferentOfPatient,
            Self::Guessing
            | Self::Refusals
            | Self::RefusalsOfDay
            | Self::Volume
            | Self::Speed
            | Self::BreakGlass
            | Self::BreakGlassOfInstitution
            | Self::Removals => Counted::Sum,
        }
    }
}

/// Something that looks like misuse, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub rule: Rule,
    /// Who: the institution's code, and the person's identifier there if it is one person.
    pub who: String,
    /// How many in the time of the rule.
    pub count: u64,
    /// The first and the last event it rests on, by their places in the log.
    pub evidence: (u64, u64),
}

/// One event as a rule sees it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: i64,
    index: u64,
    weight: u64,
    /// What is counted, hashed.
    what: u64,
    /// The patient, hashed.
    patient: u64,
}

/// What a rule remembers of somebody.
#[derive(Debug, Default)]
struct Past {
    seen: VecDeque<Seen>,
    /// The sum of their weights.
    sum: u64,
    /// How many are about each thing.
    about: HashMap<u64, u32>,
}

impl Past {
    fn push(&mut self, seen: Seen, within: i64) {
        self.sum += seen.weight;
        *self.about.entry(seen.what).or_default() += 1;
        self.seen.push_back(seen);
        let over = |past: &VecDeque<Seen>| {
            past.len() > MAX_REMEMBERED
                || past
                    .front()
                    .is_some_and(|first| first.at <= seen.at - within)
        };
        while over(&self.seen) {
            let Some(first) = self.seen.pop_front() else {
                return;
            };
            self.sum -= first.weight;
            if let Some(left) = self.about.get_mut(&first.what) {
                *left -= 1;
                if *left == 0 {
                    self.about.remove(&first.what);
                }
            }
        }
    }

    fn count(&self, counted: Counted, newest: Seen) -> u64 {
        match counted {
            Counted::Sum => self.sum,
            Counted::Different => self.about.len() as u64,
            Counted::DifferentOfPatient => {
                let own = self.seen.iter().filter(|one| one.patient == newest.patient);
                let mut all: Vec<u64> = own.map(|one| one.what).collect();
                all.sort_unstable();
                all.dedup();
                all.len() as u64
            }
        }
    }

    fn last(&self) -> i64 {
        self.seen.back().map_or(i64::MIN, |last| last.at)
    }
}

fn hashed(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Whom a count is of: a person, an institution, or an institution and a patient.
type Key = (Rule, u64);

/// Watches events as they come.
#[derive(Debug, Default)]
pub struct Detector {
    limits: MisuseSettings,
    baselines: Baselines,
    /// From this place in the log on, events are learned from; those before it were.
    unlearned: u64,
    watched: HashMap<Key, Past>,
    forgotten: i64,
}

/// An event, with what rules ask of it.
struct Case<'a> {
    event: &'a AuditEvent,
    at: i64,
    institution: &'a str,
    subject: &'a str,
    role: &'a str,
    patient: u64,
}

impl<'a> Case<'a> {
    /// `None` for what no person did. Systems and gateways ask about everybody: they are bounded by
    /// quotas.
    fn of(event: &'a AuditEvent) -> Option<Self> {
        let at = event.recorded.as_ref().and_then(from_timestamp)?;
        let institution = event.institution.as_ref()?.institution_id.as_str();
        let person = event.person.as_ref()?;
        let named = !institution.is_empty() && !person.subject.is_empty();
        // A search names nobody, and counts by itself.
        let patient = match event.patient_tag.as_str() {
            "" => hashed(event.sequence),
            tag => hashed(tag),
        };
        named.then_some(Self {
            event,
            at: at.as_second(),
            institution,
            subject: &person.subject,
            role: &person.role,
            patient,
        })
    }

    fn verb(&self) -> &'a str {
        self.event.method.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it asks about a patient.
    fn asks(&self) -> bool {
        const ASKING: [&str; 9] = [
            "SearchPatients",
            "MatchPatient",
            "CheckDuplicates",
            "IdentifyPatient",
            "QueryIdentifiers",
            "GetPatient",
            "QueryRegistry",
            "FindDocuments",
            "GetSummary",
        ];
        ASKING.contains(&self.verb())
    }

    /// Whether it asks about a patient, or shows something of one.
    fn looks(&self) -> bool {
        let reads = matches!(self.event.action(), Action::Read | Action::Execute);
        self.asks() || (reads && self.event.disclosed_count > 0)
    }

    fn who(&self, rule: Rule) -> (String, u64) {
        match rule {
            Rule::BreakGlassOfInstitution => {
                (self.institution.to_owned(), hashed(self.institution))
            }
            // The patient is in the key and not in the name: an alarm names no patient.
            Rule::Readers => (
                self.institution.to_owned(),
                hashed((self.institution, self.patient)),
            ),
            _ => (
                format!("{}/{}", self.institution, self.subject),
                hashed((self.institution, self.subject)),
            ),
        }
    }
}

impl Detector {
    /// A detector that goes on from what was learned of the events before `unlearned`.
    pub fn new(limits: MisuseSettings, baselines: Baselines, unlearned: u64) -> Self {
        Self {
            limits,
            baselines,
            unlearned,
            ..Self::default()
        }
    }

    /// What has been learned.
    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// Looks at the next event, whose place is `event.sequence`. Gives what has come to look like
    /// misuse by it.
    pub fn observe(&mut self, event: &AuditEvent) -> Vec<Finding> {
        let Some(case) = Case::of(event) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (rule, weight, what) in self.rules(&case) {
            let (who, key) = case.who(rule);
            let seen = Seen {
                at: case.at,
                index: event.sequence,
                weight,
                what,
                patient: case.patient,
            };
            found.extend(self.note((rule, key), who, seen));
        }
        self.forget(case.at);
        found
    }

    fn note(&mut self, key: Key, who: String, seen: Seen) -> Option<Finding> {
        let (rule, limit) = (key.0, self.limits.of(key.0));
        let past = self.watched.entry(key).or_default();
        past.push(seen, rule.within());
        let count = past.count(rule.counted(), seen);
        let evidence = (past.seen.front()?.index, past.seen.back()?.index);
        (count > limit).then_some(Finding {
            rule,
            who,
            count,
            evidence,
        })
    }

    /// What an event counts for, how much, and what of it is counted.
    fn rules(&mut self, case: &Case<'_>) -> Vec<(Rule, u64, u64)> {
        let (event, patient) = (case.event, case.patient);
        let mut rules = vec![(Rule::Speed, 1, 0)];
        if case.asks() {
            rules.push((Rule::Enumeration, 1, patient));
            rules.push((Rule::EnumerationOfDay, 1, patient));
            if event.disclosed_count == 0 && event.outcome() != Outcome::Denied {
                rules.push((Rule::Guessing, 1, 0));
            }
        }
        if event.outcome() == Outcome::Denied {
            rules.push((Rule::Refusals, 1, 0));
            rules.push((Rule::RefusalsOfDay, 1, 0));
        }
        if event.disclosed_count > 0 {
            rules.push((Rule::Volume, u64::from(event.disclosed_count), 0));
            rules.extend(shown(case));
        }
        if event.purpose != 0 && !event.patient_tag.is_empty() {
            rules.push((Rule::Purposes, 1, hashed(event.purpose)));
        }
        if event.outcome() == Outcome::Success {
            if case.verb() == "OpenBreakGlass" {
                rules.push((Rule::BreakGlass, 1, 0));
                rules.push((Rule::BreakGlassOfInstitution, 1, 0));
            }
            if event.action() == Action::Delete {
                rules.push((Rule::Removals, 1, 0));
            }
        }
        if case.looks() {
            rules.extend(self.unusual(case));
        }
        rules
    }

    /// What is far from what is usual; and learns from it.
    fn unusual(&mut self, case: &Case<'_>) -> Vec<(Rule, u64, u64)> {
        let presence = Presence {
            institution: case.institution,
            role: case.role,
            person: hashed((case.institution, case.subject)),
            at: case.at,
            purpose: case.event.purpose,
        };
        let mut rules = Vec::new();
        if self.baselines.is_unusual_hour(&presence, &self.limits) {
            rules.push((Rule::UnusualHour, 1, case.patient));
        }
        if self.baselines.is_unusual_purpose(&presence, &self.limits) {
            rules.push((Rule::UnusualPurpose, 1, case.patient));
        }
        if case.event.sequence >= self.unlearned {
            self.baselines.learn(&presence, &self.limits);
        }
        rules
    }

    /// Forgets those who have been quiet for longer than their rule looks back, and if there are too
    /// many still, those quiet for longest.
    fn forget(&mut self, now: i64) {
        if now - self.forgotten >= FORGET_EVERY || now < self.forgotten {
            self.forgotten = now;
            self.watched
                .retain(|(rule, _), past| past.last() > now - rule.within());
        }
        if self.watched.len() <= MAX_WATCHED {
            return;
        }
        let mut ages: BTreeMap<i64, usize> = BTreeMap::new();
        for past in self.watched.values() {
            *ages.entry(past.last()).or_default() += 1;
        }
        let mut over = self.watched.len() - MAX_WATCHED / 2;
        let mut until = i64::MIN;
        for (age, count) in ages {
            until = age;
            over = over.saturating_sub(count);
            if over == 0 {
                break;
            }
        }
        self.watched.retain(|_, past| past.last() > until);
    }
}

/// What something of a patient that was shown counts for.
fn shown(case: &Case<'_>) -> Vec<(Rule, u64, u64)> {
    let event = case.event;
    let mut rules = Vec::new();
    if !event.patient_tag.is_empty() && case.looks() {
        rules.push((Rule::Readers, 1, hashed(case.subject)));
    }
    if event.restricted_confirmed {
        rules.push((Rule::Restricted, 1, case.patient));
    }
    // An emergency patient is a stranger to the hospital by nature: break-glass has its own rules.
    let emergency = event.relation == Relation::EmergencyPatient.code();
    if event.relation_claimed && !emergency && !event.patient_tag.is_empty() {
        rules.push((Rule::ClaimedRelation, 1, case.patient));
    }
    rules
}
