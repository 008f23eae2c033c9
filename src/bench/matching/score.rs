//! Clusters and pairs against the truth.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::file::Truth;

/// How pairs came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Score {
    /// Pairs that are one person, and said to be.
    pub(crate) right: u64,
    /// Pairs that are said to be one person, and are not.
    pub(crate) wrong: u64,
    /// Pairs that are one person, and are not said to be.
    pub(crate) missed: u64,
    /// right / (right + wrong); 1 if there are none.
    pub(crate) precision: f64,
    /// right / (right + missed); 1 if there are none.
    pub(crate) recall: f64,
    /// Their harmonic mean.
    pub(crate) f1: f64,
}

impl Score {
    pub(super) fn new(right: u64, wrong: u64, missed: u64) -> Self {
        let part = |of: u64| {
            if right + of == 0 {
                1.0
            } else {
                ratio(right, right + of)
            }
        };
        Self {
            right,
            wrong,
            missed,
            precision: part(wrong),
            recall: part(missed),
            f1: if right + wrong + missed == 0 {
                1.0
            } else {
                ratio(2 * right, 2 * right + wrong + missed)
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn pairs(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}

/// All pairs of clusters, counted by what is in them.
pub(super) fn clusters(clusters: &[u32], truth: &[Truth]) -> Score {
    let (mut by_person, mut by_cluster, mut by_both) =
        (HashMap::new(), HashMap::new(), HashMap::new());
    for (cluster, truth) in clusters.iter().zip(truth) {
        *by_person.entry(truth.person.as_str()).or_insert(0_u64) += 1;
        *by_cluster.entry(*cluster).or_insert(0_u64) += 1;
        *by_both
            .entry((truth.person.as_str(), *cluster))
            .or_insert(0_u64) += 1;
    }
    let right: u64 = by_both.values().copied().map(pairs).sum();
    let said: u64 = by_cluster.values().copied().map(pairs).sum();
    let real: u64 = by_person.values().copied().map(pairs).sum();
    Score::new(right, said - right, real - right)
}

/// What two people of a false link are to each other.
pub(super) fn kind(a: &Truth, b: &Truth) -> &'static str {
    let same = |x: &str, y: &str| !x.is_empty() && x == y;
    if same(&a.twins, &b.twins) {
        "twin"
    } else if same(&a.namesakes, &b.namesakes) {
        "namesake"
    } else if same(&a.household, &b.household) {
        "family"
    } else {
        "stranger"
    }
}

/// The false pairs of clusters, by kind.
pub(super) fn false_pairs(clusters: &[u32], truth: &[Truth]) -> BTreeMap<&'static str, u64> {
    let mut members = HashMap::<u32, Vec<&Truth>>::new();
    for (cluster, truth) in clusters.iter().zip(truth) {
        members.entry(*cluster).or_default().push(truth);
    }
    let mut kinds = BTreeMap::new();
    for members in members.values() {
        for (at, a) in members.iter().enumerate() {
            for b in members.iter().skip(at + 1).filter(|b| b.person != a.person) {
                *kinds.entry(kind(a, b)).or_default() += 1;
            }
        }
    }
    kinds
}

/// Of the true pairs in which one record carries a tag, how many are in one cluster: (found, all).
pub(super) fn by_tag(clusters: &[u32], truth: &[Truth]) -> BTreeMap<String, (u64, u64)> {
    let mut persons = HashMap::<&str, Vec<usize>>::new();
    for (at, truth) in truth.iter().enumerate() {
        persons.entry(truth.person.as_str()).or_default().push(at);
    }
    let mut tags = BTreeMap::<String, (u64, u64)>::new();
    for records in persons.values() {
        for (at, a) in records.iter().enumerate() {
            for b in records.iter().skip(at + 1) {
                let found = u64::from(clusters.get(*a) == clusters.get(*b));
                let of = |at: &usize| {
                    truth
                        .get(*at)
                        .map(|truth| truth.tags.as_slice())
                        .unwrap_or_default()
                };
                let mut both: Vec<&String> = of(a).iter().chain(of(b)).collect();
                both.sort_unstable();
                both.dedup();
                for tag in both {
                    let count = tags.entry(tag.clone()).or_default();
                    *count = (count.0 + found, count.1 + 1);
                }
            }
        }
    }
    tags
}
