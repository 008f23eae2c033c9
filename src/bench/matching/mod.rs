//! `renkei bench matching`: records fed one by one, in random order, to the engine the service
//! uses, and what came of it against the truth.

mod file;
mod score;
#[cfg(test)]
mod tests;
mod union;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::identity::matching::cluster::{Matcher, Skew};
use crate::identity::matching::decide;
use crate::identity::matching::keys::Route;
use crate::identity::matching::model::Model;
use crate::identity::matching::record::Traits;
use crate::identity::traits_of;

pub(super) use self::file::{Fact, Truth};
use self::score::{Score, ratio};
use self::union::Union;

/// What is measured.
#[derive(Clone, Debug)]
pub struct MatchingSettings {
    /// Records, JSON Lines.
    pub records: PathBuf,
    /// The truth, CSV.
    pub truth: PathBuf,
    /// Seed of the order in which records are fed.
    pub seed: u64,
    /// Only so many people, the first of the truth.
    pub people: Option<usize>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model's version.
    pub model: String,
    /// Seed of the order.
    pub seed: u64,
    /// Records fed.
    pub records: u64,
    /// People they are of.
    pub people: u64,
    /// Automatic links, after clustering.
    pub(crate) automatic: Score,
    /// False automatic links, by what the two people are to each other.
    pub false_links: BTreeMap<&'static str, u64>,
    /// Pairs of persons for stewards.
    pub(crate) review: Review,
    /// If one threshold alone decided.
    pub(crate) threshold: Threshold,
    /// Of the true pairs with a tag, the part linked automatically, and their number.
    pub recall_by_tag: BTreeMap<String, (f64, u64)>,
    /// Records a second, one thread: normalising, matching, linking.
    pub records_per_second: f64,
    /// Pairs compared for each record.
    pub candidates_per_record: f64,
    /// The fullest keys of each route.
    pub skew: BTreeMap<String, [usize; 3]>,
}

/// Pairs of persons for stewards.
#[derive(Debug, Serialize)]
pub(crate) struct Review {
    /// Pairs of persons.
    pub(crate) pairs: u64,
    /// For each thousand records.
    pub(crate) per_thousand: f64,
    /// The part that is one person.
    pub(crate) right: f64,
    /// Recall when stewards have decided rightly.
    pub(crate) recall: f64,
    /// The pairs of two persons, by what they are to each other.
    pub(crate) wrong: BTreeMap<&'static str, u64>,
}

/// The best single threshold.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Threshold {
    /// Bits.
    pub(crate) bits: f32,
    /// Clusters at it.
    pub(crate) clusters: Score,
    /// Pairs at it, as scored, without clustering.
    pub(crate) pairs: Score,
}

impl Report {
    /// The figures for people: a label and a text each.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = self.summary();
        for (tag, (recall, pairs)) in &self.recall_by_tag {
            let text = format!("{} of {pairs}", percent(*recall));
            lines.push((format!("recall {tag}"), text));
        }
        for (route, [keys, fullest, over]) in &self.skew {
            let text = format!("{keys}, the fullest has {fullest}, {over} over the cap");
            lines.push((format!("keys {route}"), text));
        }
        lines
    }

    fn summary(&self) -> Vec<(String, String)> {
        let Self {
            automatic,
            review,
            threshold,
            ..
        } = self;
        let mut lines = Vec::new();
        let mut add = |label: &str, text: String| lines.push((label.to_owned(), text));
        let (records, people) = (self.records, self.people);
        add("model", self.model.clone());
        add(
            "records",
            format!("{records} of {people} people, order {}", self.seed),
        );
        let recall = percent(automatic.recall);
        add(
            "automatic",
            format!("recall {recall}, false links {}", automatic.wrong),
        );
        add("false links", kinds(&self.false_links));
        let (pairs, right) = (review.per_thousand, percent(review.right));
        add(
            "review",
            format!("{pairs:.1} pairs of persons for each 1,000 records, {right} right"),
        );
        add("wrong in review", kinds(&review.wrong));
        add("with review", format!("recall {}", percent(review.recall)));
        let (clusters, pairs) = (threshold.clusters.f1, threshold.pairs.f1);
        let bits = threshold.bits;
        add(
            "best threshold",
            format!("{bits} bits: clusters F1 {clusters:.4}, pairs F1 {pairs:.4}"),
        );
        let (speed, compared) = (self.records_per_second, self.candidates_per_record);
        add(
            "speed",
            format!("{speed:.0} records/s on one thread, {compared:.2} pairs compared for each"),
        );
        lines
    }
}

fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}

fn kinds(kinds: &BTreeMap<&'static str, u64>) -> String {
    let each: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if each.is_empty() {
        "none".to_owned()
    } else {
        each.join(", ")
    }
}

/// The records of a file as matching compares them, for learning.
///
/// # Errors
/// A file that cannot be read.
pub fn learning_set(file: &Path) -> Result<Vec<Traits>> {
    let facts = file::records(file)?;
    Ok(facts
        .iter()
        .map(|fact| traits_of(&fact.demographics))
        .collect())
}

/// Records and truth in one order.
struct Input {
    traits: Vec<Traits>,
    truth: Vec<Truth>,
    /// Seconds that normalising took.
    normalising: f64,
}

/// Feeds the records and says what came of it.
///
/// # Errors
/// A file that cannot be read, or a record without truth.
pub fn matching(settings: &MatchingSettings) -> Result<Report> {
    let input = load(settings)?;
    let model = Model::shipped();
    let (records, truth) = (input.traits, input.truth);
    let count = records.len() as u64;
    let started = Instant::now();
    let mut matcher = Matcher::new(model);
    let (mut doubts, mut scores) = (Vec::new(), Vec::new());
    for traits in records {
        let fed = matcher.feed(traits);
        doubts.extend(
            fed.doubts
                .into_iter()
                .map(|(other, bits)| (bits, other, fed.record)),
        );
        scores.extend(
            fed.scores
                .into_iter()
                .map(|(other, bits)| (bits, other, fed.record)),
        );
    }
    let took = started.elapsed().as_secs_f64() + input.normalising;
    let clusters: Vec<u32> = (0..)
        .take(truth.len())
        .map(|record| matcher.person_of(record))
        .collect();
    let people: HashSet<&str> = truth.iter().map(|truth| truth.person.as_str()).collect();
    let tags = score::by_tag(&clusters, &truth).into_iter();
    let skew = matcher.skew().into_iter();
    #[expect(clippy::cast_precision_loss, reason = "figures, not accounts")]
    let speed = count as f64 / took;
    Ok(Report {
        model: model.version.clone(),
        seed: settings.seed,
        records: count,
        people: people.len() as u64,
        automatic: score::clusters(&clusters, &truth),
        false_links: score::false_pairs(&clusters, &truth),
        review: review(&doubts, &clusters, &truth),
        threshold: threshold(&mut scores, &matcher, &truth),
        recall_by_tag: tags
            .map(|(tag, (found, all))| (tag, (ratio(found, all), all)))
            .collect(),
        records_per_second: speed,
        candidates_per_record: ratio(matcher.compared(), count),
        skew: skew
            .map(|(route, skew): (Route, Skew)| {
                (format!("{route:?}"), [skew.keys, skew.fullest, skew.over])
            })
            .collect(),
    })
}

fn load(settings: &MatchingSettings) -> Result<Input> {
    let (facts, truth) = facts(settings)?;
    let started = Instant::now();
    let traits = facts.iter().map(|fact| traits_of(&fact.demographics));
    let traits = traits.collect();
    Ok(Input {
        traits,
        truth,
        normalising: started.elapsed().as_secs_f64(),
    })
}

/// The records in random order, each with what is true of it.
pub(super) fn facts(settings: &MatchingSettings) -> Result<(Vec<Fact>, Vec<Truth>)> {
    let mut truths = file::truth(&settings.truth)?;
    let mut facts = file::records(&settings.records)?;
    if let Some(people) = settings.people {
        let mut first: Vec<String> = truths.values().map(|truth| truth.person.clone()).collect();
        first.sort_unstable();
        first.dedup();
        first.truncate(people);
        truths.retain(|_, truth| first.binary_search(&truth.person).is_ok());
        facts.retain(|fact| truths.contains_key(&fact.id));
    }
    ensure!(!facts.is_empty(), "there are no records");
    facts.shuffle(&mut StdRng::seed_from_u64(settings.seed));
    let mut truth = Vec::with_capacity(facts.len());
    for fact in &facts {
        let missing = || format!("record {} is not in the truth", fact.id);
        truth.push(truths.remove(&fact.id).with_context(missing)?);
    }
    Ok((facts, truth))
}

/// What came of records that were linked elsewhere: `clusters` has for each record the first of its
/// person's, `doubts` the pairs of records that stewards are asked about.
pub(super) struct Outcome {
    pub(super) automatic: Score,
    pub(super) false_links: BTreeMap<&'static str, u64>,
    pub(super) review: Review,
}

impl Outcome {
    pub(super) fn of(clusters: &[u32], doubts: &[(f32, u32, u32)], truth: &[Truth]) -> Self {
        Self {
            automatic: score::clusters(clusters, truth),
            false_links: score::false_pairs(clusters, truth),
            review: review(doubts, clusters, truth),
        }
    }
}

/// Pairs of persons, each by its best pair of records; decided rightly, they join persons.
fn review(doubts: &[(f32, u32, u32)], clusters: &[u32], truth: &[Truth]) -> Review {
    let of = |record: u32| clusters.get(record as usize).copied().unwrap_or(record);
    let mut persons = HashMap::<(u32, u32), (f32, u32, u32)>::new();
    for doubt in doubts {
        let (a, b) = (of(doubt.1), of(doubt.2));
        if a != b {
            let best = persons.entry((a.min(b), a.max(b))).or_insert(*doubt);
            if doubt.0 > best.0 {
                *best = *doubt;
            }
        }
    }
    let mut joined = Union::new(clusters.len());
    let (mut right, mut wrong) = (0_u64, BTreeMap::new());
    for (record, cluster) in (0_u32..).zip(clusters) {
        joined.join(record, *cluster);
    }
    for (_, a, b) in persons.values() {
        let (Some(x), Some(y)) = (truth.get(*a as usize), truth.get(*b as usize)) else {
            continue;
        };
        if x.person == y.person {
            right += 1;
            joined.join(*a, *b);
        } else {
            *wrong.entry(score::kind(x, y)).or_default() += 1;
        }
    }
    let decided: Vec<u32> = (0..)
        .take(clusters.len())
        .map(|record| joined.root(record))
        .collect();
    let pairs = persons.len() as u64;
    Review {
        pairs,
        per_thousand: 1000.0 * ratio(pairs, clusters.len() as u64),
        right: ratio(right, pairs),
        recall: score::clusters(&decided, truth).recall,
        wrong,
    }
}

/// Thresholds tried, in bits.
const THRESHOLDS: std::ops::RangeInclusive<i8> = -12..=12;

fn threshold(scores: &mut [(f32, u32, u32)], matcher: &Matcher<'_>, truth: &[Truth]) -> Threshold {
    scores.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let real = score::clusters(&vec![0; truth.len()], truth).right;
    let same = |a: u32, b: u32| {
        let person = |record: u32| truth.get(record as usize).map(|truth| &truth.person);
        person(a) == person(b)
    };
    let mut best = Threshold::default();
    let mut union = Union::new(truth.len());
    let (mut at, mut right, mut wrong) = (0, 0, 0);
    for bits in THRESHOLDS.rev().map(f32::from) {
        while let Some((_, a, b)) = scores.get(at).filter(|(score, ..)| *score >= bits).copied() {
            at += 1;
            (right, wrong) = if same(a, b) {
                (right + 1, wrong)
            } else {
                (right, wrong + 1)
            };
            union.join_unless(a, b, |x, y| contradict(matcher.records(), x, y));
        }
        let clusters: Vec<u32> = (0..)
            .take(truth.len())
            .map(|record| union.root(record))
            .collect();
        let clusters = score::clusters(&clusters, truth);
        if clusters.f1 > best.clusters.f1 {
            best = Threshold {
                bits,
                clusters,
                pairs: Score::new(right, wrong, real - right),
            };
        }
    }
    best
}

fn contradict(records: &[Traits], a: u32, b: u32) -> bool {
    let both = records.get(a as usize).zip(records.get(b as usize));
    both.is_some_and(|(a, b)| decide::contradict(a, b))
}
