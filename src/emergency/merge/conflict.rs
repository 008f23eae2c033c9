//! What contradicts: found and marked, never settled.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{AbsenceReason, AbsenceStatement, SummaryItem, SummarySection};

use super::absence::is_denied;
use super::date::Span;
use super::hash;
use super::identity::{
    Certainty, Course, criticality_differs, distinguishing, keys, plain, value_key,
};

/// A `conflict_group` that begins so also has the `STATED_NONE` statement about the section of its
/// items as a member: one source says “none known”, another knows one.
pub const NONE_KNOWN_GROUP: &str = "conflict-none-";
const GROUP: &str = "conflict-";
/// Items of one code that are compared, each with each.
const MAX_COMPARED: usize = 64;

/// Sections that speak about the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Allergies,
    Problems,
    Medications,
    Other(SummarySection),
}

impl Family {
    fn of(section: SummarySection) -> Self {
        match section {
            SummarySection::Allergy | SummarySection::Contraindication => Self::Allergies,
            SummarySection::Problem | SummarySection::PastProblem => Self::Problems,
            SummarySection::Medication | SummarySection::Dispense => Self::Medications,
            other => Self::Other(other),
        }
    }
}

/// Gives the items that contradict each other, or a statement of absence, a common group.
pub(super) fn mark(items: &mut [SummaryItem], absences: &[AbsenceStatement]) {
    let mut groups = Groups::new(items.len() + absences.len());
    let mut about: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        let family = Family::of(item.section());
        for key in keys(item) {
            about.entry((family, key)).or_default().push(at);
        }
    }
    for same in about.values() {
        let same: Vec<_> = same.iter().take(MAX_COMPARED).copied().collect();
        for (count, one) in same.iter().enumerate() {
            for other in same.iter().skip(count + 1) {
                let pair = items.get(*one).zip(items.get(*other));
                if pair.is_some_and(|(one, other)| contradict(one, other)) {
                    groups.join(*one, *other);
                }
            }
        }
    }
    let bloods = items.iter().enumerate();
    let bloods: Vec<_> = bloods
        .filter(|(_, item)| item.section() == SummarySection::BloodType)
        .map(|(at, item)| (at, blood(item)))
        .take(MAX_COMPARED)
        .collect();
    for (count, (one, of_one)) in bloods.iter().enumerate() {
        for (other, of_other) in bloods.iter().skip(count + 1) {
            if of_one.differs(of_other) {
                groups.join(*one, *other);
            }
        }
    }
    let none = |absence: &&AbsenceStatement| absence.reason() == AbsenceReason::StatedNone;
    let stated = absences
        .iter()
        .enumerate()
        .filter(|(_, absence)| none(absence));
    for (number, absence) in stated.take(MAX_COMPARED) {
        for (at, item) in items.iter().enumerate() {
            if is_denied(item, absence) {
                groups.join(at, items.len() + number);
            }
        }
    }
    name(items, &mut groups, absences.len());
}

/// Leaves out what is refuted where nothing of its kind is stated. What matches nothing by its code may
/// still refute what another source codes differently, so that it is shown beside it.
pub(super) fn keep_refutations(items: &mut Vec<SummaryItem>) {
    let refuted = |item: &SummaryItem| Certainty::of(item) == Certainty::Refuted;
    let stated: BTreeSet<Family> = items
        .iter()
        .filter(|item| !refuted(item))
        .map(|item| Family::of(item.section()))
        .collect();
    items.retain(|item| {
        !refuted(item)
            || !item.conflict_group.is_empty()
            || stated.contains(&Family::of(item.section()))
    });
}

/// Writes the groups of more than one member into the items.
fn name(items: &mut [SummaryItem], groups: &mut Groups, absences: usize) {
    let count = items.len();
    let mut members: BTreeMap<usize, (Vec<String>, usize)> = BTreeMap::new();
    for at in 0..count + absences {
        let (ids, others) = members.entry(groups.root(at)).or_default();
        match items.get(at) {
            Some(item) => ids.push(item.item_id.clone()),
            None => *others += 1,
        }
    }
    for (at, item) in items.iter_mut().enumerate() {
        let Some((ids, others)) = members.get_mut(&groups.root(at)) else {
            continue;
        };
        if ids.len() + *others > 1 {
            ids.sort_unstable();
            let begin = if *others > 0 { NONE_KNOWN_GROUP } else { GROUP };
            item.conflict_group = format!("{begin}{}", hash(ids.concat().as_bytes()));
        }
    }
}

/// A blood type in words, whatever code system it is in: each part only where it is surely read.
struct Blood {
    abo: Option<String>,
    rh_positive: Option<bool>,
}

impl Blood {
    fn differs(&self, other: &Self) -> bool {
        let abo = self.abo.as_ref().zip(other.abo.as_ref());
        let rh = self.rh_positive.zip(other.rh_positive);
        abo.is_some_and(|(one, other)| one != other) || rh.is_some_and(|(one, other)| one != other)
    }
}

/// Reads `A型`, `AB`, `O Rh(+)`, `Rh陰性`; nothing of a refuted one.
fn blood(item: &SummaryItem) -> Blood {
    let said = match item.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::Text(text)) => plain(text),
        Some(Value::Coded(code)) => plain(&code.display_name),
        Some(Value::Quantity(_)) | None => String::new(),
    };
    let known = Certainty::of(item) != Certainty::Refuted;
    let said = if known { said.as_str() } else { "" };
    let end = said.find(|letter: char| !"abo".contains(letter));
    let (abo, rest) = said.split_at(end.unwrap_or(said.len()));
    let ends = ["型", "rh", "("];
    let whole = rest.is_empty() || ends.iter().any(|end| rest.starts_with(*end));
    let known = ["a", "b", "o", "ab"].contains(&abo) && whole;
    let has = |words: &[&str]| words.iter().any(|word| rest.contains(*word));
    let (positive, negative) = (
        has(&["+", "positive", "陽性"]),
        has(&["-", "negative", "陰性"]),
    );
    Blood {
        abo: known.then(|| abo.to_owned()),
        rh_positive: (rest.contains("rh") && positive != negative).then_some(positive),
    }
}

/// Whether two items about the same thing cannot both be so.
fn contradict(one: &SummaryItem, other: &SummaryItem) -> bool {
    let certainty = (Certainty::of(one), Certainty::of(other));
    if certainty.0 != certainty.1
        && (certainty.0 == Certainty::Refuted || certainty.1 == Certainty::Refuted)
    {
        return true;
    }
    let values = [one, other].map(|item| item.value.as_ref().map(value_key).unwrap_or_default());
    let values_differ = values.first() != values.last();
    match Family::of(one.section()) {
        Family::Allergies => {
            criticality_differs(one.criticality(), other.criticality())
                || courses_differ(one, other)
        }
        Family::Medications => stopped_and_taken(one, other),
        Family::Problems | Family::Other(SummarySection::Device | SummarySection::Alert) => {
            // Left is no contradiction of right.
            distinguishing(one) == distinguishing(other) && courses_differ(one, other)
        }
        Family::Other(SummarySection::BloodType) => values_differ,
        // Two values of one time.
        Family::Other(section) if super::rules::of(section).former_values.is_some() => {
            values_differ
                && distinguishing(one) == distinguishing(other)
                && Span::of(&one.start).is_some()
                && Span::of(&one.start) == Span::of(&other.start)
        }
        Family::Other(_) => false,
    }
}

/// Whether one says that it is over and the other that it goes on, and it did not come back since.
fn courses_differ(one: &SummaryItem, other: &SummaryItem) -> bool {
    let over = |item: &SummaryItem| matches!(Course::of(item), Course::Over | Course::Stopped);
    let (ended, current) = match (over(one), over(other)) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        (true, true) | (false, false) => return false,
    };
    let episodes = Span::of(&ended.end).zip(Span::of(&current.start));
    episodes.is_none_or(|(end, start)| end.latest.date() >= start.earliest.date())
}

/// Whether one is stopped or paused, and the other is taken or was handed over.
fn stopped_and_taken(one: &SummaryItem, other: &SummaryItem) -> bool {
    let halted = |item: &SummaryItem| matches!(Course::of(item), Course::Stopped | Course::OnHold);
    let taken = |item: &SummaryItem| match Course::of(item) {
        Course::Current => true,
        Course::Over => item.section() == SummarySection::Dispense,
        Course::OnHold | Course::Remission | Course::Stopped => false,
    };
    halted(one) && taken(other) || taken(one) && halted(other)
}

/// Disjoint sets.
struct Groups {
    parents: Vec<usize>,
}

impl Groups {
    fn new(count: usize) -> Self {
        Self {
            parents: (0..count).collect(),
        }
    }

    fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while let Some(parent) = self.parents.get(at).copied().filter(|parent| *parent != at) {
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(place) = self.parents.get_mut(at) {
                *place = above;
            }
            at = above;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if let Some(place) = self.parents.get_mut(one.max(other)) {
            *place = one.min(other);
        }
    }
}
