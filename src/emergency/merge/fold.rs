//! The same fact of several sources becomes one item.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use prost::Message;

use crate::wire::pb::common::{CodedValue, Confidentiality};
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{
    AgedOut, ClinicalStatus, Criticality, ItemSource, SummaryItem, SummarySection,
    VerificationStatus,
};

use super::date::{Span, newest};
use super::identity::{
    Certainty, Course, Keys, criticality_differs, distinguishing, do_not_differ, keys, value_key,
};
use super::rules::{self, SectionRule};
use super::series;

/// Days between the end of one prescription and the next of the same dose that are still one
/// medication: a monthly visit, and some days.
const REFILL_GAP_DAYS: i64 = 35;
/// Days of supply that are believed of one prescription or dispensing.
const MAX_SUPPLY_DAYS: i64 = 366;
/// Clusters of one code that an item is compared with; beyond, it stands for itself.
const MAX_CANDIDATES: usize = 64;

/// Codes, and details, of one folded item.
const MAX_FOLDED: usize = 128;

/// Items that are one fact, or one series of values.
struct Cluster {
    rule: SectionRule,
    keys: Keys,
    course: Course,
    certainty: Certainty,
    criticality: Criticality,
    distinguishing: Vec<(String, String)>,
    value: String,
    /// When it began, as far as the members agree; of a medication, from the first to the last.
    start: Option<Span>,
    end: Option<Span>,
    members: Vec<SummaryItem>,
}

/// Folds `items`, whatever their order, and leaves out what is too old. Gives how many those are,
/// by section.
pub(super) fn fold(
    mut items: Vec<SummaryItem>,
    now: Timestamp,
) -> (Vec<SummaryItem>, Vec<AgedOut>) {
    items.sort_by_cached_key(|item| {
        let start = Span::of(&item.start).or_else(|| newest(&item.sources));
        // The most closely coded first: the others then find whether they are of one or of many.
        let keys = Reverse(keys(item).len());
        (item.section, keys, start, item.encode_to_vec())
    });
    items.dedup();
    let mut clusters: Vec<Cluster> = Vec::new();
    // By section, confidentiality and key, the clusters that an item may belong to.
    let mut known: BTreeMap<(i32, bool, bool, String, String), Vec<usize>> = BTreeMap::new();
    for item in items {
        let keys = keys(&item);
        let restricted = item.confidentiality >= Confidentiality::Restricted.into();
        let very = item.confidentiality >= Confidentiality::VeryRestricted.into();
        let place = |(system, code): &(String, String)| {
            (item.section, restricted, very, system.clone(), code.clone())
        };
        let places: Vec<_> = keys.iter().map(place).collect();
        let mut candidates: Vec<_> = places
            .iter()
            .filter_map(|place| known.get(place))
            .flatten()
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        let at = choose(&clusters, &candidates, &item, &keys).unwrap_or(clusters.len());
        match clusters.get_mut(at) {
            Some(cluster) => cluster.add(item, keys),
            None => clusters.push(Cluster::new(item, keys)),
        }
        for place in places {
            let list = known.entry(place).or_default();
            if !list.contains(&at) && list.len() < MAX_CANDIDATES {
                list.push(at);
            }
        }
    }
    let mut too_old: BTreeMap<i32, u32> = BTreeMap::new();
    clusters.retain(|cluster| {
        let inside = cluster.is_inside(now);
        if !inside {
            let count = too_old.entry(cluster.rule.section.into()).or_default();
            *count = count.saturating_add(1);
        }
        inside
    });
    let aged_out = too_old
        .into_iter()
        .map(|(section, count)| AgedOut { section, count })
        .collect();
    (
        clusters.into_iter().flat_map(Cluster::into_items).collect(),
        aged_out,
    )
}

/// The cluster that `item` belongs to: one of just its codes, or the only one that fits. What is
/// coded so coarsely that it may be one of several stands for itself.
fn choose(
    clusters: &[Cluster],
    candidates: &[usize],
    item: &SummaryItem,
    keys: &Keys,
) -> Option<usize> {
    let mut fitting = candidates
        .iter()
        .take(MAX_CANDIDATES)
        .filter_map(|at| Some((*at, clusters.get(*at)?)))
        .filter(|(_, cluster)| cluster.takes(item, keys));
    let (first, of_first) = fitting.next()?;
    let mut differ = false;
    if of_first.keys == *keys {
        return Some(first);
    }
    for (at, cluster) in fitting {
        if cluster.keys == *keys {
            return Some(at);
        }
        differ |= !do_not_differ(&cluster.keys, &of_first.keys);
    }
    (!differ).then_some(first)
}

impl Cluster {
    fn new(item: SummaryItem, keys: Keys) -> Self {
        Self {
            rule: rules::of(item.section()),
            keys,
            course: Course::of(&item),
            certainty: Certainty::of(&item),
            criticality: item.criticality(),
            distinguishing: distinguishing(&item),
            value: item.value.as_ref().map(value_key).unwrap_or_default(),
            start: Span::of(&item.start),
            end: end_of(&item),
            members: vec![item],
        }
    }

    /// Whether `item`, which shares a key, is the same fact.
    fn takes(&self, item: &SummaryItem, keys: &Keys) -> bool {
        if !do_not_differ(&self.keys, keys) || self.distinguishing != distinguishing(item) {
            return false;
        }
        if self.rule.former_values.is_some() {
            let refuted = |certainty| certainty == Certainty::Refuted;
            return refuted(self.certainty) == refuted(Certainty::of(item));
        }
        self.course == Course::of(item)
            && self.certainty == Certainty::of(item)
            && !criticality_differs(self.criticality, item.criticality())
            && self.value == item.value.as_ref().map(value_key).unwrap_or_default()
            && self.agrees_in_time(item)
    }

    fn agrees_in_time(&self, item: &SummaryItem) -> bool {
        let (start, end) = (Span::of(&item.start), Span::of(&item.end));
        let same = |one: Option<Span>, other: Option<Span>| {
            one.zip(other)
                .is_none_or(|(one, other)| one.may_be_same_day(other))
        };
        match self.rule.section {
            SummarySection::Medication => {
                let near = |last: Option<Span>, next: Option<Span>| {
                    last.zip(next).is_none_or(|(last, next)| {
                        let refill = last.latest.date().saturating_add(REFILL_GAP_DAYS.days());
                        next.earliest.date() <= refill
                    })
                };
                near(self.end, start) && near(end_of(item), self.start)
            }
            SummarySection::BloodType => true,
            // What goes on is one, whenever it is said to have begun.
            SummarySection::Alert
            | SummarySection::Allergy
            | SummarySection::Contraindication
            | SummarySection::Problem
            | SummarySection::Device
                if self.course != Course::Over && self.course != Course::Stopped =>
            {
                true
            }
            _ => same(self.start, start) && same(self.end, end),
        }
    }

    fn add(&mut self, item: SummaryItem, keys: Keys) {
        self.keys.extend(keys);
        self.criticality = self.criticality.max(item.criticality());
        let (start, end) = (Span::of(&item.start), end_of(&item));
        if self.rule.section == SummarySection::Medication {
            let first = self.start.into_iter().chain(start).min();
            self.start = first;
            self.end = self.end.max(end);
        } else {
            let both = |one: Option<Span>, other: Option<Span>| match (one, other) {
                (Some(one), Some(other)) => Some(one.narrowed(other)),
                (one, other) => one.or(other),
            };
            self.start = both(self.start, start);
            self.end = both(self.end, end);
        }
        self.members.push(item);
    }

    /// Whether a member is young enough. What has no date is.
    fn is_inside(&self, now: Timestamp) -> bool {
        let Some(first) = self.rule.max_age.first_day(now) else {
            return true;
        };
        self.members
            .iter()
            .any(|member| last_day(member).is_none_or(|last| last >= first))
    }

    fn into_items(self) -> Vec<SummaryItem> {
        match self.rule.former_values {
            Some(former) => series::items(self.members, former),
            None => vec![one(self.members)],
        }
    }
}

/// The end of an item; of a medication without one, when it was last said to be taken.
fn end_of(item: &SummaryItem) -> Option<Span> {
    let end = Span::of(&item.end);
    if item.section() == SummarySection::Medication {
        return end.or_else(|| Span::of(&item.start).max(newest(&item.sources)));
    }
    end
}

/// The last day that `item` says something about, for the window; none if it says none, or goes on.
fn last_day(item: &SummaryItem) -> Option<Date> {
    let day = |span: Span| span.latest.date();
    let (start, end) = (Span::of(&item.start), Span::of(&item.end));
    if end.is_some() {
        return end.map(day);
    }
    let recorded = newest(&item.sources);
    match item.section() {
        // Dialysis that goes on does not age.
        SummarySection::Procedure if item.clinical_status() == ClinicalStatus::Active => None,
        SummarySection::Procedure => start.map(day),
        // Taken when it was asserted, whenever it began, and as long as the supply lasts.
        SummarySection::Medication => supplied(start.map(day).max(recorded.map(day)), item),
        SummarySection::Dispense => supplied(start.or(recorded).map(day), item),
        _ => start.or(recorded).map(day),
    }
}

/// The day on which the supply that `item` states (処方日数) ends, if it begins on `from`.
fn supplied(from: Option<Date>, item: &SummaryItem) -> Option<Date> {
    let stated = item.details.iter().filter_map(|detail| {
        detail.name.as_ref().filter(|name| name.code == "supply")?;
        match detail.value.as_ref()?.value.as_ref()? {
            Value::Text(text) => days(text),
            Value::Quantity(_) | Value::Coded(_) => None,
        }
    });
    let days = stated.max().unwrap_or_default();
    from.map(|from| from.saturating_add(days.days()))
}

/// Days of a duration as it is shown, `120 日` or `12 wk`; none of another unit, or with a comparator.
fn days(shown: &str) -> Option<i64> {
    let (number, unit) = shown.split_once(' ')?;
    let each = match unit {
        "d" | "day" | "days" | "日" | "日分" => 1,
        "wk" | "week" | "weeks" | "週" | "週間" => 7,
        _ => return None,
    };
    let whole: u16 = number.split('.').next()?.parse().ok()?;
    Some((i64::from(whole) * each).min(MAX_SUPPLY_DAYS))
}

/// One item of several that say the same.
pub(super) fn one(mut members: Vec<SummaryItem>) -> SummaryItem {
    // The one recorded last speaks for all.
    members.sort_by_cached_key(|item| (Reverse(newest(&item.sources)), item.encode_to_vec()));
    let start = start(&members);
    let open = members.iter().any(|item| item.end.is_empty());
    let ends = members
        .iter()
        .map(|item| item.end.clone())
        .filter(|end| !end.is_empty());
    let end = ends.max_by_key(|end| (Span::of(end), end.len(), end.clone()));
    let mut members = members.into_iter();
    let Some(mut item) = members.next() else {
        return SummaryItem::default();
    };
    for other in members {
        absorb(&mut item, other);
    }
    // A medication is open while one prescription is; of a past fact any source may know the end.
    let keep_open = open && item.section() == SummarySection::Medication;
    item.end = if keep_open {
        String::new()
    } else {
        end.unwrap_or_default()
    };
    item.start = start;
    item.sources = sources(item.sources);
    item.national_flags.sort_unstable();
    item.national_flags.dedup();
    item
}

/// The most precise start, if none contradicts it; else the earliest.
fn start(members: &[SummaryItem]) -> String {
    let starts = members.iter().map(|item| item.start.as_str());
    let known: Vec<_> = starts
        .filter_map(|start| Some((Span::of(start)?, start)))
        .collect();
    let precise = known.iter().max_by_key(|(_, start)| (start.len(), *start));
    let agreed = precise.filter(|(span, _)| known.iter().all(|(of, _)| of.may_be_same_day(*span)));
    let earliest = || {
        known
            .iter()
            .min_by_key(|(span, start)| (span.earliest, Reverse(start.len()), *start))
    };
    agreed
        .or_else(earliest)
        .map(|(_, start)| (*start).to_owned())
        .unwrap_or_default()
}

/// Adds what `other` says to `item`.
fn absorb(item: &mut SummaryItem, other: SummaryItem) {
    for code in other.codes {
        let same = |known: &CodedValue| known.code == code.code && known.system == code.system;
        if item.codes.len() < MAX_FOLDED && !item.codes.iter().any(same) {
            item.codes.push(code);
        }
    }
    for detail in other.details {
        if item.details.len() < MAX_FOLDED && !item.details.contains(&detail) {
            item.details.push(detail);
        }
    }
    for past in other.past_values {
        if item.past_values.len() < MAX_FOLDED && !item.past_values.contains(&past) {
            item.past_values.push(past);
        }
    }
    if item.display_en.is_empty() {
        item.display_en = other.display_en;
    }
    if item.clinical_status() == ClinicalStatus::Unspecified {
        item.clinical_status = other.clinical_status;
    }
    let confirmed = i32::from(VerificationStatus::Confirmed);
    if [item.verification_status, other.verification_status].contains(&confirmed) {
        item.verification_status = confirmed;
    }
    item.criticality = item.criticality.max(other.criticality);
    item.confidentiality = item.confidentiality.max(other.confidentiality);
    item.needs_confirmation |= other.needs_confirmation;
    item.national_flags.extend(other.national_flags);
    item.sources.extend(other.sources);
}

/// The sources, newest first, each once and with the latest date of asking.
pub(super) fn sources(mut sources: Vec<ItemSource>) -> Vec<ItemSource> {
    sources.sort_by_cached_key(|source| {
        let asked = source.as_of.map(|time| (time.seconds, time.nanos));
        let rest = ItemSource {
            as_of: None,
            ..source.clone()
        }
        .encode_to_vec();
        (Reverse(Span::of(&source.recorded)), rest, Reverse(asked))
    });
    sources.dedup_by(|later, kept| {
        ItemSource {
            as_of: kept.as_of,
            ..later.clone()
        } == *kept
    });
    sources
}
