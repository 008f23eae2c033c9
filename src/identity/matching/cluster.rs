//! Records fed one by one, and the persons they are: the engine over memory alone, as `bench
//! matching` and `identity learn` drive it. The service does the same over its search index.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::decide::{Comparison, Verdict, compare, contradict};
use super::keys::{self, Route};
use super::model::Model;
use super::record::Traits;

/// Records under one key that are compared. A key with more says too little: every route's keys
/// name two facts, and other routes remain.
pub const MAX_POSTINGS: usize = 500;
/// Records of one person from which on no two persons are joined without a steward.
const MAX_MEMBERS: usize = 64;

/// A pair a steward should look at: the other record, and its bits.
pub type Doubt = (u32, f32);

/// What became of a record that was fed.
#[derive(Debug, Default)]
pub struct Fed {
    /// The record's number, from 0.
    pub record: u32,
    /// Doubtful pairs with records of other persons.
    pub doubts: Vec<Doubt>,
    /// Every pair compared that is not hopeless, with its bits: what thresholds are tried on.
    pub scores: Vec<Doubt>,
}

/// Bits below which a pair is not worth telling.
const HOPELESS_BITS: f32 = -16.0;

/// How a route's keys are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Keys.
    pub keys: usize,
    /// Records under the fullest one.
    pub fullest: usize,
    /// Keys with more records than are compared.
    pub over: usize,
}

/// Records and persons.
pub struct Matcher<'m> {
    model: &'m Model,
    records: Vec<Traits>,
    person: Vec<u32>,
    members: HashMap<u32, Vec<u32>>,
    postings: HashMap<u64, Vec<u32>, BuildHasherDefault<Hashed>>,
    routes: Vec<(Route, u64)>,
    compared: u64,
}

/// Hashes what is a hash already.
#[derive(Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<'m> Matcher<'m> {
    /// No records yet.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            records: Vec::new(),
            person: Vec::new(),
            members: HashMap::new(),
            postings: HashMap::default(),
            routes: Vec::new(),
            compared: 0,
        }
    }

    /// Takes a record, links it, and says what is doubtful.
    pub fn feed(&mut self, traits: Traits) -> Fed {
        let record = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        let keys = keys::keys(&traits);
        let mut found = self.judge(&traits, &keys);
        // Best first; of equals the older, so that a repeated run does the same.
        found.sort_by(|x, y| y.1.bits().total_cmp(&x.1.bits()).then(x.0.cmp(&y.0)));
        let scores = found
            .iter()
            .map(|(other, comparison)| (*other, comparison.bits()))
            .collect();
        found.retain(|(_, comparison)| comparison.verdict != Verdict::Distinct);
        let links = found
            .iter()
            .filter(|(_, comparison)| comparison.verdict == Verdict::Same);
        let links = links.filter_map(|(other, _)| self.person.get(*other as usize).copied());
        let joined = join(&traits, links, |person| self.traits_of(person));
        let person = joined.first().copied().unwrap_or(record);
        self.records.push(traits);
        self.person.push(person);
        self.members.entry(person).or_default().push(record);
        for other in joined.iter().skip(1) {
            self.absorb(person, *other);
        }
        for (_, key) in &keys {
            self.postings.entry(*key).or_default().push(record);
        }
        self.routes.extend(keys);
        let doubts = found
            .iter()
            .filter(|(other, _)| self.person_of(*other) != person);
        let doubts = doubts
            .map(|(other, comparison)| (*other, comparison.bits()))
            .collect();
        Fed {
            record,
            doubts,
            scores,
        }
    }

    /// The candidates of a record that may be its person.
    fn judge(&mut self, traits: &Traits, keys: &[keys::Key]) -> Vec<(u32, Comparison)> {
        let mut candidates: Vec<u32> = keys
            .iter()
            .filter_map(|(_, key)| self.postings.get(key))
            .filter(|postings| postings.len() <= MAX_POSTINGS)
            .flatten()
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        self.compared += candidates.len() as u64;
        let compared = candidates.into_iter().filter_map(|other| {
            let comparison = compare(self.model, traits, self.records.get(other as usize)?);
            (comparison.bits() > HOPELESS_BITS).then_some((other, comparison))
        });
        compared.collect()
    }

    fn absorb(&mut self, person: u32, other: u32) {
        let moved = self.members.remove(&other).unwrap_or_default();
        for record in &moved {
            if let Some(of) = self.person.get_mut(*record as usize) {
                *of = person;
            }
        }
        self.members.entry(person).or_default().extend(moved);
    }

    fn traits_of(&self, person: u32) -> Vec<&Traits> {
        let members = self.members.get(&person).into_iter().flatten();
        members
            .filter_map(|record| self.records.get(*record as usize))
            .collect()
    }

    /// The person a record is, by the number of one of its records.
    pub fn person_of(&self, record: u32) -> u32 {
        self.person.get(record as usize).copied().unwrap_or(record)
    }

    /// The records fed, in order.
    pub fn records(&self) -> &[Traits] {
        &self.records
    }

    /// Pairs compared so far.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// How the keys of each route are spread.
    pub fn skew(&self) -> BTreeMap<Route, Skew> {
        let mut routes: Vec<&(Route, u64)> = self.routes.iter().collect();
        routes.sort_unstable();
        routes.dedup();
        let mut skew = BTreeMap::<Route, Skew>::new();
        for (route, key) in routes {
            let records = self.postings.get(key).map_or(0, Vec::len);
            let of = skew.entry(*route).or_default();
            of.keys += 1;
            of.fullest = of.fullest.max(records);
            of.over += usize::from(records > MAX_POSTINGS);
        }
        skew
    }
}

/// Which persons a record joins, of those it may be linked to, best first: none that holds a record
/// that contradicts it, or that contradicts one of a person joined before (INV-5: no chaining).
pub fn join<P: Copy + PartialEq, T: Borrow<Traits>>(
    record: &Traits,
    links: impl Iterator<Item = P>,
    members: impl Fn(P) -> Vec<T>,
) -> Vec<P> {
    let mut joined: Vec<P> = Vec::new();
    let mut refused: Vec<P> = Vec::new();
    let mut together: Vec<T> = Vec::new();
    for person in links {
        if joined.contains(&person) || refused.contains(&person) {
            continue;
        }
        let theirs = members(person);
        let refuses = |one: &Traits| theirs.iter().any(|other| contradict(one, other.borrow()));
        let full = !joined.is_empty() && together.len() + theirs.len() > MAX_MEMBERS;
        if full || refuses(record) || together.iter().any(|one| refuses(one.borrow())) {
            refused.push(person);
        } else {
            together.extend(theirs);
            joined.push(person);
        }
    }
    joined
}
