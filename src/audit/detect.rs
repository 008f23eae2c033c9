//! Looking for misuse by those who are entitled: one pure function over the stream of events. It
//! refuses nothing; it tells an operator whom to ask, with the places of the events in the log.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use jiff::Timestamp;

use crate::wire::from_timestamp;
use crate::wire::pb::audit::{AuditEvent, Outcome};

/// People and institutions watched at once; those quiet for longest are forgotten first (INV-7).
const MAX_WATCHED: usize = 20_000;
/// Events of one kind remembered of one of them.
const MAX_REMEMBERED: usize = 2_048;
const HOUR_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;

/// What looks like misuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A person asks about more patients in an hour than anybody treats.
    Enumeration,
    /// A person is refused again and again: another purpose, role or relation is tried each time.
    Refusals,
    /// A person has more shown in an hour than anybody reads.
    Volume,
    /// A person declares emergencies without consent more often than they happen.
    BreakGlass,
    /// As that, an institution.
    BreakGlassOfInstitution,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 5] = [
        Self::Enumeration,
        Self::Refusals,
        Self::Volume,
        Self::BreakGlass,
        Self::BreakGlassOfInstitution,
    ];

    /// The stable code of its alarm.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Enumeration => "MISUSE_ENUMERATION",
            Self::Refusals => "MISUSE_REFUSALS",
            Self::Volume => "MISUSE_VOLUME",
            Self::BreakGlass => "MISUSE_BREAK_GLASS",
            Self::BreakGlassOfInstitution => "MISUSE_BREAK_GLASS_INSTITUTION",
        }
    }

    /// More than so many, within so many seconds.
    const fn limit(self) -> (u64, i64) {
        match self {
            // `spec` security-bars P-05: 50 unrelated patients a user and hour.
            Self::Enumeration => (50, HOUR_SECONDS),
            Self::Refusals => (10, HOUR_SECONDS),
            Self::Volume => (1_000, HOUR_SECONDS),
            Self::BreakGlass => (5, DAY_SECONDS),
            Self::BreakGlassOfInstitution => (20, DAY_SECONDS),
        }
    }
}

/// Something that looks like misuse, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub rule: Rule,
    /// Who: the institution's code, and the person's identifier there.
    pub who: String,
    /// How many in the time of the rule.
    pub count: u64,
    /// The first and the last event it rests on, by their places in the log.
    pub evidence: (u64, u64),
}

/// One event as a rule sees it.
#[derive(Clone, Debug)]
struct Seen {
    at: i64,
    index: u64,
    weight: u64,
    patient: String,
}

/// Watches events as they come.
#[derive(Debug, Default)]
pub struct Detector {
    watched: HashMap<(Rule, String), VecDeque<Seen>>,
}

impl Detector {
    /// Looks at the next event, whose place is `event.sequence`. Gives what has come to look like
    /// misuse by it.
    pub fn observe(&mut self, event: &AuditEvent) -> Vec<Finding> {
        let Some(at) = event.recorded.as_ref().and_then(from_timestamp) else {
            return Vec::new();
        };
        let institution = event.institution.as_ref();
        let institution = institution.map_or("", |one| one.institution_id.as_str());
        let subject = event.person.as_ref().map_or("", |one| one.subject.as_str());
        // Systems and gateways ask about everybody: they are bounded by quotas.
        if institution.is_empty() || subject.is_empty() {
            return Vec::new();
        }
        let person = format!("{institution}/{subject}");
        let mut found = Vec::new();
        for (rule, weight) in rules(event) {
            let who = match rule {
                Rule::BreakGlassOfInstitution => institution.to_owned(),
                _ => person.clone(),
            };
            let seen = Seen {
                at: at.as_second(),
                index: event.sequence,
                weight,
                patient: event.patient_tag.clone(),
            };
            found.extend(self.note(rule, who, seen));
        }
        self.forget(at);
        found
    }

    fn note(&mut self, rule: Rule, who: String, seen: Seen) -> Option<Finding> {
        let (limit, within) = rule.limit();
        let past = self.watched.entry((rule, who.clone())).or_default();
        past.push_back(seen);
        let newest = past.back().map_or(0, |last| last.at);
        while past.len() > MAX_REMEMBERED
            || past
                .front()
                .is_some_and(|first| first.at <= newest - within)
        {
            past.pop_front();
        }
        let count = match rule {
            Rule::Enumeration => distinct(past),
            _ => past.iter().map(|one| one.weight).sum(),
        };
        let evidence = (past.front()?.index, past.back()?.index);
        (count > limit).then_some(Finding {
            rule,
            who,
            count,
            evidence,
        })
    }

    /// Forgets those who have been quiet for longer than their rule looks back, and if there are too
    /// many still, those quiet for longest.
    fn forget(&mut self, now: Timestamp) {
        if self.watched.len() <= MAX_WATCHED {
            return;
        }
        let now = now.as_second();
        let last = |past: &VecDeque<Seen>| past.back().map_or(i64::MIN, |last| last.at);
        self.watched
            .retain(|(rule, _), past| last(past) > now - rule.limit().1);
        if self.watched.len() > MAX_WATCHED {
            let mut ages: BTreeMap<i64, usize> = BTreeMap::new();
            for past in self.watched.values() {
                *ages.entry(last(past)).or_default() += 1;
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
            self.watched.retain(|_, past| last(past) > until);
        }
    }
}

/// Questions, each about another patient; a search names nobody, and counts by itself.
fn distinct(past: &VecDeque<Seen>) -> u64 {
    let named: HashSet<&str> = past
        .iter()
        .map(|one| one.patient.as_str())
        .filter(|patient| !patient.is_empty())
        .collect();
    let unnamed = past.iter().filter(|one| one.patient.is_empty()).count();
    (named.len() + unnamed) as u64
}

/// What an event counts for, and how much.
fn rules(event: &AuditEvent) -> Vec<(Rule, u64)> {
    let verb = event.method.rsplit('/').next().unwrap_or_default();
    let asks = [
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
    let mut rules = Vec::new();
    if asks.contains(&verb) {
        rules.push((Rule::Enumeration, 1));
    }
    if event.outcome() == Outcome::Denied {
        rules.push((Rule::Refusals, 1));
    }
    if event.disclosed_count > 0 {
        rules.push((Rule::Volume, u64::from(event.disclosed_count)));
    }
    if verb == "OpenBreakGlass" && event.outcome() == Outcome::Success {
        rules.push((Rule::BreakGlass, 1));
        rules.push((Rule::BreakGlassOfInstitution, 1));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;

    fn event(number: u64, second: i64, verb: &str, person: &str, patient: &str) -> AuditEvent {
        AuditEvent {
            sequence: number,
            recorded: Some(prost_types::Timestamp {
                seconds: second,
                nanos: 0,
            }),
            method: format!("renkei.x.v1.X/{verb}"),
            outcome: Outcome::Success.into(),
            patient_tag: patient.to_owned(),
            institution: Some(cpb::InstitutionRef {
                institution_id: "1312345678".into(),
                ..Default::default()
            }),
            person: Some(cpb::PersonRef {
                subject: person.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn found(events: impl IntoIterator<Item = AuditEvent>) -> Vec<Finding> {
        let mut detector = Detector::default();
        let all = events
            .into_iter()
            .flat_map(|event| detector.observe(&event));
        all.collect()
    }

    #[test]
    fn many_patients_in_an_hour_are_noticed_and_many_questions_about_one_are_not() {
        let ask = |number: u64, second, patient: &str| {
            event(number, second, "QueryRegistry", "d", patient)
        };
        let one = (0..500).map(|n| ask(n, 10, "a"));
        assert_eq!(found(one), []);
        let others = (0..51).map(|n| ask(n, 10, &format!("p{n}")));
        let found_now = found(others);
        assert_eq!(found_now.len(), 1);
        assert_eq!(found_now[0].rule, Rule::Enumeration);
        assert_eq!(found_now[0].who, "1312345678/d");
        assert_eq!((found_now[0].count, found_now[0].evidence), (51, (0, 50)));
        // The same over a day, and by two people.
        let slow = (0..200_u64).map(|n| ask(n, i64::try_from(n).unwrap() * 100, &format!("p{n}")));
        assert_eq!(found(slow), []);
        let two = (0..80_u64).map(|n| {
            let person = ["d", "e"][usize::try_from(n % 2).unwrap()];
            event(n, 10, "SearchPatients", person, "")
        });
        assert_eq!(found(two), []);
    }

    #[test]
    fn refusals_volume_and_break_glass_have_their_limits() {
        let denied = |n| AuditEvent {
            outcome: Outcome::Denied.into(),
            ..event(n, 5, "RetrieveDocuments", "d", "a")
        };
        assert_eq!(found((0..10).map(denied)), []);
        assert_eq!(found((0..11).map(denied))[0].rule, Rule::Refusals);
        let read = |n| AuditEvent {
            disclosed_count: 100,
            ..event(n, 5, "RetrieveDocuments", "d", "a")
        };
        assert_eq!(found((0..10).map(read)), []);
        assert_eq!(found((0..11).map(read))[0].rule, Rule::Volume);
        let opened = |n: u64| event(n, 5, "OpenBreakGlass", "d", "a");
        assert_eq!(found((0..5).map(opened)), []);
        assert_eq!(found((0..6).map(opened))[0].rule, Rule::BreakGlass);
        let by_all = (0..21_u64).map(|n| event(n, 5, "OpenBreakGlass", &format!("d{n}"), "a"));
        assert_eq!(found(by_all)[0].rule, Rule::BreakGlassOfInstitution);
    }

    /// Systems ask for everybody, and nobody is remembered without bound.
    #[test]
    fn systems_are_left_alone_and_memory_is_bounded() {
        let system = (0..200).map(|n| event(n, 5, "QueryIdentifiers", "", &format!("p{n}")));
        assert_eq!(found(system), []);
        let mut detector = Detector::default();
        for n in 0..50_000_u64 {
            let second = i64::try_from(n).unwrap();
            detector.observe(&event(n, second, "QueryRegistry", &format!("d{n}"), "a"));
        }
        assert!(detector.watched.len() <= MAX_WATCHED + 1);
    }
}
