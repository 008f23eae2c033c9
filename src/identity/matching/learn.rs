//! Weights learned from records alone, without knowing who is who (`renkei identity learn`).
//!
//! Frequencies of names are counted. What strangers' values agree in is counted over random pairs,
//! with floors for what is too rare to be seen so. How one person's values agree is estimated by
//! expectation maximisation over pairs found by three pairs of facts, never by an address or a
//! policy, where it would learn "same household": each field only from the pairs that were not found
//! by it. Household members, twins and doubles are too few to be learned: their columns are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use super::keys::{self, Route};
use super::model::{
    AGES, FIELDS, Field, KINDS, Model, SHARED_LINE_BITS, TABLES, Weight, age, levels, shared_house,
};
use super::rarity::NAME_KINDS;
use super::record::{NameKey, Traits};
use super::relate::{NameLevel, relate};

/// Rounds of expectation maximisation; the weights stand still after about ten.
const ROUNDS: usize = 12;
/// Pairs that the column before counts as: what is hardly ever seen keeps its weight.
const FAITH: f64 = 30.0;
/// Random pairs compared for each record.
const RANDOM_PAIRS: usize = 20;
/// Names listed of each kind; the rest are as rare as the floor says.
const LISTED: usize = 1500;
/// Records one key may have.
const MAX_POSTINGS: usize = 100;

/// Facts that pairs are found by, and the fields that are not learned from them.
const BLOCKS: [(&[Route], &[Field]); 3] = [
    (
        &[Route::BirthFamilyKanji, Route::BirthFamilyKana],
        &[Field::Birth, Field::Family],
    ),
    (
        &[Route::BirthGivenKanji, Route::BirthGivenKana],
        &[Field::Birth, Field::Given],
    ),
    (
        &[Route::NameDay, Route::NameYear],
        &[Field::Family, Field::Given, Field::Order],
    ),
];

/// A learned model, as its two files.
#[derive(Debug)]
pub struct Learned {
    /// `weights.txt`.
    pub weights: String,
    /// `frequencies.txt`.
    pub frequencies: String,
}

/// One pair that was found: its levels, its age, and the names' rarity for strangers.
struct Pair {
    levels: [Option<usize>; FIELDS],
    age: usize,
    names: [f32; 2],
    namesake: bool,
    shared_house: bool,
    unlearned: &'static [Field],
}

/// Learns from several sets of records; pairs are only sought within a set.
pub fn learn(sets: &[Vec<Traits>], start: &Model, version: &str) -> Learned {
    let frequencies = frequencies(sets);
    let mut weights = start.weights.clone();
    strangers(sets, &mut weights);
    let population = sets.iter().map(Vec::len).max().unwrap_or(1);
    let mut prior = start.prior;
    if let Some(strangers) = prior.get_mut(1) {
        // Of whom a candidate was taken: here, the people of one set.
        *strangers = count(population).log2();
    }
    let pairs: Vec<Pair> = sets.iter().flat_map(|set| found(set, start)).collect();
    for _ in 0..ROUNDS {
        maximise(&pairs, &prior, &start.weights, &mut weights);
    }
    Learned {
        weights: write_weights(start, &weights, version),
        frequencies,
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts of records as shares"
)]
fn count(number: usize) -> f32 {
    number as f64 as f32
}

fn found(set: &[Traits], model: &Model) -> Vec<Pair> {
    let block = |route: Route| {
        BLOCKS
            .iter()
            .position(|(routes, _)| routes.contains(&route))
    };
    let mut postings = BTreeMap::<(usize, u64), Vec<usize>>::new();
    for (at, traits) in set.iter().enumerate() {
        for (route, key) in keys::keys(traits) {
            if let Some(block) = block(route) {
                postings.entry((block, key)).or_default().push(at);
            }
        }
    }
    // A pair that one block finds in both scripts is one pair.
    let mut seen = BTreeSet::<(usize, usize, usize)>::new();
    for ((block, _), records) in postings
        .iter()
        .filter(|(_, records)| records.len() <= MAX_POSTINGS)
    {
        for (at, a) in records.iter().enumerate() {
            seen.extend(records.iter().skip(at + 1).map(|b| (*block, *a, *b)));
        }
    }
    let pairs = seen.into_iter().filter_map(|(block, a, b)| {
        let (_, unlearned) = BLOCKS.get(block)?;
        Some(pair(set.get(a)?, set.get(b)?, model, unlearned))
    });
    pairs.collect()
}

fn pair(a: &Traits, b: &Traits, model: &Model, unlearned: &'static [Field]) -> Pair {
    let relation = relate(a, b);
    let names = model.frequencies.coincidences(a, b, &relation);
    Pair {
        levels: levels(&relation),
        age: age(relation.days),
        names: [names.0, names.1],
        namesake: relation.namesake(),
        shared_house: shared_house(&relation),
        unlearned,
    }
}

/// One round: who is likely one person, and how such agree.
fn maximise(
    pairs: &[Pair],
    prior: &[f32; KINDS],
    start: &[Vec<Weight>; FIELDS],
    weights: &mut [Vec<Weight>; FIELDS],
) {
    let mut counts: Vec<Vec<[f64; AGES]>> = weights
        .iter()
        .map(|table| vec![[0.0; AGES]; table.len()])
        .collect();
    for pair in pairs {
        let likely = pair.likely(prior, weights);
        for (at, level) in pair.levels.iter().enumerate() {
            let learned = TABLES
                .get(at)
                .is_some_and(|(field, ..)| !pair.unlearned.contains(field));
            let count = level.and_then(|level| counts.get_mut(at)?.get_mut(level));
            if let (true, Some(count)) = (learned, count) {
                // The last column is of pairs of unknown age: of all.
                for slot in [pair.age, AGES - 1] {
                    if let Some(slot) = count.get_mut(slot) {
                        *slot += likely;
                    }
                }
            }
        }
    }
    for (((table, start), counts), (field, ..)) in
        weights.iter_mut().zip(start).zip(&counts).zip(TABLES)
    {
        let ages = matches!(field, Field::Address | Field::Phone | Field::Policy);
        for age in 0..AGES {
            let of = if ages { age } else { AGES - 1 };
            let seen = |count: &[f64; AGES]| count.get(of).copied().unwrap_or_default();
            let all: f64 = counts.iter().map(seen).sum();
            for ((weight, start), count) in table.iter_mut().zip(start).zip(counts) {
                if let (Some(bits), Some(start)) =
                    (weight.matching.get_mut(age), start.matching.get(age))
                {
                    let before = f64::from(start.exp2()) * FAITH;
                    #[expect(clippy::cast_possible_truncation, reason = "a probability")]
                    let share = ((seen(count) + before) / (all + FAITH)) as f32;
                    *bits = share.log2();
                }
            }
        }
    }
}

impl Pair {
    /// The probability that it is one person.
    fn likely(&self, prior: &[f32; KINDS], weights: &[Vec<Weight>; FIELDS]) -> f64 {
        let mut kinds = *prior;
        for (at, level) in self.levels.iter().enumerate() {
            let Some(weight) = level.and_then(|level| weights.get(at)?.get(level)) else {
                continue;
            };
            let [matching, stranger, others @ ..] = &mut kinds;
            *matching += weight.matching.get(self.age).copied().unwrap_or_default();
            let [of_stranger, of_others @ ..] = weight.other;
            *stranger += match self.names.get(at) {
                Some(rarity) => of_stranger + rarity,
                None if self.shared_house && at == Field::Phone as usize => SHARED_LINE_BITS,
                None if self.namesake => weight.namesake,
                None => of_stranger,
            };
            for (kind, bits) in others.iter_mut().zip(of_others) {
                *kind += bits;
            }
        }
        let most = kinds.iter().copied().fold(f32::MIN, f32::max);
        let odds = kinds.map(|bits| f64::from(bits - most).exp2());
        odds.first().copied().unwrap_or_default() / odds.iter().sum::<f64>()
    }
}

/// How strangers agree, over pairs at a fixed distance in each set: random, since sets are not in
/// the order of people, and neither of one family nor of one given name: such may be one person. Never below the shares before: care homes, switchboards and typing errors
/// make rare coincidences commoner than a sample shows.
fn strangers(sets: &[Vec<Traits>], weights: &mut [Vec<Weight>; FIELDS]) {
    let mut counts: Vec<Vec<f32>> = weights.iter().map(|table| vec![0.0; table.len()]).collect();
    for set in sets {
        for step in 1..=RANDOM_PAIRS {
            let distance = set.len() * step / (RANDOM_PAIRS + 2);
            for (a, b) in set.iter().zip(set.iter().skip(distance.max(1))) {
                let relation = relate(a, b);
                if relation.namesake() || relation.given <= NameLevel::Masked {
                    continue;
                }
                for (table, level) in counts.iter_mut().zip(levels(&relation)) {
                    if let Some(count) = level.and_then(|level| table.get_mut(level)) {
                        *count += 1.0;
                    }
                }
            }
        }
    }
    for ((table, counts), (field, ..)) in weights.iter_mut().zip(&counts).zip(TABLES) {
        if matches!(field, Field::Family | Field::Given | Field::Order) {
            continue;
        }
        let all: f32 = counts.iter().sum();
        for (weight, count) in table.iter_mut().zip(counts) {
            if let (Some(stranger), true) = (weight.other.first_mut(), all > 0.0) {
                *stranger = stranger.max((count / all).max(f32::MIN_POSITIVE).log2());
            }
        }
    }
}

/// How often each name occurs, in bits, the commonest first; `*` is for all that are not listed.
fn frequencies(sets: &[Vec<Traits>]) -> String {
    let mut text = String::from(
        "# How rare a name is: kind, name as it is compared, bits (-log2 of its share of all people).\n\
         # `*` is for every name that is not listed. Made by `renkei identity learn`.\n",
    );
    for (at, (_, kind)) in NAME_KINDS.iter().enumerate() {
        let mut counts = HashMap::<&str, u32>::new();
        for traits in sets.iter().flatten() {
            let names: &[NameKey] = if at % 2 == 0 {
                &traits.kanji
            } else {
                &traits.kana
            };
            for name in names {
                let part: &str = if at < 2 { &name.family } else { &name.given };
                if !part.is_empty() {
                    *counts.entry(part).or_default() += 1;
                }
            }
        }
        let all: f64 = counts.values().copied().map(f64::from).sum();
        let mut names: Vec<(&str, u32)> = counts.into_iter().collect();
        names.sort_unstable_by(|x, y| y.1.cmp(&x.1).then(x.0.cmp(y.0)));
        names.truncate(LISTED);
        let bits = |count: u32| -(f64::from(count) / all).log2();
        let floor = names.last().map_or(16.0, |(_, count)| bits(*count) + 1.0);
        for (name, bits) in [("*", floor)]
            .into_iter()
            .chain(names.iter().map(|(name, count)| (*name, bits(*count))))
        {
            let _infallible = writeln!(text, "{kind} {name} {bits:.1}");
        }
    }
    text
}

fn write_weights(start: &Model, weights: &[Vec<Weight>; FIELDS], version: &str) -> String {
    let share = |bits: f32| format!("{:.3e}", bits.exp2());
    let mut text = format!(
        "# What a level of agreement is worth, as probabilities. Learned by `renkei identity learn`;\n\
         # the columns of household, twin and double, and the priors, are facts about the country.\n\
         version {version}\n\
         # Bits to link automatically, and to show to a steward.\n\
         link {}\nreview {}\n\
         # People there are for one person: match, stranger, household, twin, double.\nprior",
        start.link_bits, start.review_bits
    );
    for bits in start.prior {
        let _infallible = write!(text, " {}", share(bits));
    }
    text.push_str(
        "\n# field level match(to 1 year/to 4/more/unknown) stranger household twin double\n\
         # and stranger of the same family name. A stranger's name is multiplied with its frequency.\n",
    );
    for ((_, field, names), table) in TABLES.iter().zip(weights) {
        for (level, weight) in names.iter().zip(table) {
            let ages = weight.matching.map(share).join("/");
            let others = weight.other.map(share).join(" ");
            let namesake = share(weight.namesake);
            let _infallible = writeln!(text, "{field} {level} {ages} {others} {namesake}");
        }
    }
    text
}
