//! The machine against a model that thinks otherwise: placements as stacks, persons as sets.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};

use super::*;

/// Records of one life of the model; small, so that sequences meet.
const RECORDS: u8 = 18;
/// Domains they are of.
const DOMAINS: u8 = 4;
/// Operations of one life.
const LIFE: usize = 100;

fn tag(number: u8) -> PatientTag {
    [number + 1; 16]
}

fn domain(number: u8) -> String {
    format!("1.2.{}", number % DOMAINS)
}

fn id(number: usize) -> EventId {
    (number as u128 + 1).to_be_bytes()
}

/// The reference: what everybody would write who has never seen `plan`.
///
/// Where a record is, is the top of its stack of placements; taking an event back takes its
/// placement off the stack, if nothing lies on it.
#[derive(Clone, Debug, Default)]
struct Model {
    stacks: BTreeMap<PatientTag, Vec<(EventId, LinkageId)>>,
    into: BTreeMap<PatientTag, (PatientTag, EventId)>,
    apart: BTreeSet<(PatientTag, PatientTag)>,
    ended: BTreeMap<LinkageId, LinkageId>,
}

impl Model {
    fn place(&self, tag: &PatientTag) -> LinkageId {
        self.stacks[tag].last().unwrap().1
    }

    fn person(&self, linkage: LinkageId) -> BTreeSet<PatientTag> {
        let all = self.stacks.keys().copied();
        all.filter(|tag| self.place(tag) == linkage).collect()
    }

    fn top(&self, mut tag: PatientTag) -> PatientTag {
        while let Some((next, _)) = self.into.get(&tag) {
            tag = *next;
        }
        tag
    }

    /// A record with all that answers to it.
    fn with_chain(&self, top: PatientTag) -> BTreeSet<PatientTag> {
        let all = self.stacks.keys().copied();
        all.filter(|tag| self.top(*tag) == top).collect()
    }

    fn held_apart(&self, some: &BTreeSet<PatientTag>, others: &BTreeSet<PatientTag>) -> bool {
        some.iter()
            .any(|a| others.iter().any(|b| self.apart.contains(&pair(*a, *b))))
    }

    fn bring(&mut self, tags: &BTreeSet<PatientTag>, to: LinkageId, by: EventId) {
        for tag in tags {
            self.stacks.get_mut(tag).unwrap().push((by, to));
        }
    }

    /// Persons that have nobody any more, and where they went.
    fn close(&mut self, before: &BTreeMap<PatientTag, LinkageId>) {
        for linkage in before.values() {
            if self.person(*linkage).is_empty() && !self.ended.contains_key(linkage) {
                let first = before.iter().find(|(_, was)| *was == linkage).unwrap().0;
                self.ended.insert(*linkage, self.place(first));
            }
        }
        let used: Vec<_> = self.stacks.keys().map(|tag| self.place(tag)).collect();
        self.ended.retain(|linkage, _| !used.contains(linkage));
    }

    fn living(&self, mut linkage: LinkageId) -> LinkageId {
        while let Some(next) = self.ended.get(&linkage) {
            linkage = *next;
        }
        linkage
    }

    fn places(&self) -> BTreeMap<PatientTag, LinkageId> {
        let all = self.stacks.keys();
        all.map(|tag| (*tag, self.place(tag))).collect()
    }

    /// Does what the operation says; whether it is one that may be done.
    #[expect(clippy::too_many_lines, reason = "a model reads best whole")]
    fn act(
        &mut self,
        operation: &Operation,
        by: EventId,
        fresh: &mut dyn FnMut() -> LinkageId,
    ) -> bool {
        let before = self.places();
        match operation {
            Operation::Add { tag, joins, .. } => {
                let to = joins.unwrap_or_else(fresh);
                self.stacks.insert(*tag, vec![(by, to)]);
            }
            Operation::Merge { survivor, subsumed } => {
                let free = |tag| !self.into.contains_key(tag);
                if survivor == subsumed
                    || survivor[0] % DOMAINS != subsumed[0] % DOMAINS
                    || !free(survivor)
                    || !free(subsumed)
                {
                    return false;
                }
                let to = self.place(survivor);
                let (there, whole) = (self.person(to), self.person(self.place(subsumed)));
                let chain = self.with_chain(*subsumed);
                if there != whole {
                    if self.held_apart(&chain, &there) {
                        return false;
                    }
                    let goes = match self.held_apart(&whole, &there) {
                        true => chain,
                        false => whole,
                    };
                    self.bring(&goes, to, by);
                }
                self.into.insert(*subsumed, (*survivor, by));
            }
            Operation::Link { first, second } => {
                let (a, b) = (self.place(first), self.place(second));
                let (stay, go) = (self.person(a), self.person(b));
                if a == b || self.held_apart(&stay, &go) {
                    return false;
                }
                self.bring(&go, a, by);
            }
            Operation::Join { tag, to } => {
                let own = self.place(tag);
                let (go, stay) = (self.person(own), self.person(*to));
                if own == *to || self.held_apart(&go, &stay) {
                    return false;
                }
                self.bring(&go, *to, by);
            }
            Operation::Unlink {
                first,
                second,
                mark,
            } => {
                let (a, b) = (self.top(*first), self.top(*second));
                let together = self.place(&a) == self.place(&b);
                let known = self.apart.contains(&pair(a, b));
                if a == b || !together && (known || !mark) {
                    return false;
                }
                if together {
                    let to = fresh();
                    self.bring(&self.with_chain(b), to, by);
                }
                if *mark {
                    self.apart.insert(pair(a, b));
                }
            }
            Operation::Split { linkage, groups } => {
                let person = self.person(*linkage);
                let tops: BTreeSet<_> = person.iter().map(|tag| self.top(*tag)).collect();
                let mut named: Vec<_> = groups.iter().flatten().copied().collect();
                named.sort_unstable();
                if groups.len() < 2
                    || groups.iter().any(Vec::is_empty)
                    || named != tops.into_iter().collect::<Vec<_>>()
                {
                    return false;
                }
                for (index, group) in groups.iter().enumerate() {
                    if index > 0 {
                        let to = fresh();
                        for tag in group {
                            self.bring(&self.with_chain(*tag), to, by);
                        }
                    }
                    for other in &groups[..index] {
                        for (a, b) in other.iter().flat_map(|a| group.iter().map(|b| (*a, *b))) {
                            self.apart.insert(pair(a, b));
                        }
                    }
                }
            }
            Operation::Separate { first, second } => {
                let (a, b) = (self.top(*first), self.top(*second));
                if self.place(&a) == self.place(&b) || self.apart.contains(&pair(a, b)) {
                    return false;
                }
                self.apart.insert(pair(a, b));
            }
            Operation::Reverse(former) => self.take_back(former, fresh),
        }
        self.close(&before);
        true
    }

    fn take_back(&mut self, former: &Event, fresh: &mut dyn FnMut() -> LinkageId) {
        for (a, b) in &former.marked {
            self.apart.remove(&pair(*a, *b));
        }
        let mut free = Vec::new();
        for (subsumed, _) in &former.merged {
            if self
                .into
                .get(subsumed)
                .is_some_and(|(_, by)| *by == former.id)
            {
                self.into.remove(subsumed);
                free.push(*subsumed);
            }
        }
        let moved: Vec<_> = former
            .moves
            .iter()
            .map(|step| (step.tag, step.from))
            .collect();
        for (tag, from) in moved {
            let top = self.stacks[&tag].last().unwrap().0 == former.id;
            let (true, Some(from), false) = (top, from, self.into.contains_key(&tag)) else {
                continue;
            };
            let own = former.retired.iter().any(|(ended, _)| *ended == from);
            let from = if own { from } else { self.living(from) };
            let chain = self.with_chain(tag);
            let elsewhere = self.place(&tag) != from;
            let to = if elsewhere && self.held_apart(&chain, &self.person(from)) {
                match free.contains(&tag) {
                    true => fresh(),
                    false => continue,
                }
            } else {
                from
            };
            for follower in chain {
                let stack = self.stacks.get_mut(&follower).unwrap();
                let own = former.moves.iter().any(|step| step.tag == follower);
                if own && stack.last().unwrap().0 == former.id {
                    stack.pop();
                }
                // It is there by what put it where it was.
                let by = stack.last().unwrap().0;
                *stack.last_mut().unwrap() = (by, to);
            }
        }
    }
}

fn pair(a: PatientTag, b: PatientTag) -> (PatientTag, PatientTag) {
    (a.min(b), a.max(b))
}

/// Both, and what happened.
struct Both {
    state: State,
    model: Model,
    events: Vec<Event>,
    used: BTreeSet<LinkageId>,
    next: u128,
    rng: StdRng,
}

impl Both {
    fn new(seed: u64) -> Self {
        Self {
            state: State::default(),
            model: Model::default(),
            events: Vec::new(),
            used: BTreeSet::new(),
            next: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Does one operation in both; whether it was taken.
    fn act(&mut self, operation: &Operation) -> bool {
        let by = id(self.events.len() + usize::try_from(self.next).unwrap());
        let start = self.next;
        let give = |next: &mut u128| {
            *next += 1;
            LinkageId::from_bytes((1 << 100 | *next).to_be_bytes())
        };
        let mut next = start;
        let planned = plan(&self.state, operation, by, &mut || give(&mut next));
        let mut theirs = start;
        let taken = self.model.act(operation, by, &mut || give(&mut theirs));
        assert_eq!(planned.is_ok(), taken, "{operation:?} gave {planned:?}");
        self.next = next.max(theirs) + 1;
        let Ok(event) = planned else { return false };
        self.state.apply(&event);
        self.events.push(event);
        self.compare(operation);
        true
    }

    fn compare(&mut self, operation: &Operation) {
        let (state, model) = (&self.state, &self.model);
        let places: BTreeMap<_, _> = state.records.values().map(|r| (r.tag, r.linkage)).collect();
        assert_eq!(places, model.places(), "after {operation:?}");
        let into: BTreeMap<_, _> = state
            .records
            .values()
            .filter_map(|record| record.merged.map(|merged| (record.tag, merged)))
            .collect();
        assert_eq!(into, model.into, "after {operation:?}");
        let marks: BTreeSet<_> = state
            .records
            .values()
            .flat_map(|record| record.not_same.iter().map(|other| pair(record.tag, *other)))
            .collect();
        assert_eq!(marks, model.apart, "after {operation:?}");
        let ended: BTreeSet<_> = state.retired.keys().collect();
        assert_eq!(ended, model.ended.keys().collect(), "after {operation:?}");
        self.invariants(operation);
    }

    fn invariants(&mut self, operation: &Operation) {
        let state = &self.state;
        for record in state.records.values() {
            let root = state.root(record.tag).expect("chains end");
            assert_eq!(
                root.linkage, record.linkage,
                "a subsumed record is its survivor's"
            );
            assert!(
                !state.retired.contains_key(&record.linkage),
                "{operation:?}"
            );
            for other in &record.not_same {
                let other = &state.records[other];
                assert_ne!(
                    other.linkage, record.linkage,
                    "{operation:?}: marked, and linked"
                );
                assert!(other.not_same.contains(&record.tag), "marks are of both");
            }
        }
        // A retired id is not given out: what is in use and was retired came back by Reverse.
        let event = self.events.last().unwrap();
        for step in &event.moves {
            let new = self.used.insert(step.to);
            let back = matches!(operation, Operation::Reverse(_));
            assert!(new || back || event.restored.is_empty(), "{operation:?}");
        }
    }

    fn random(&mut self) -> Operation {
        let known = u8::try_from(self.state.records.len()).unwrap();
        let add = known < 4 || known < RECORDS && self.rng.random_ratio(1, 4);
        if add {
            let persons: Vec<_> = self.state.records.values().map(|r| r.linkage).collect();
            let joins = match self.rng.random_ratio(1, 3) {
                true if !persons.is_empty() => {
                    Some(persons[self.rng.random_range(0..persons.len())])
                }
                _ => None,
            };
            return Operation::Add {
                tag: tag(known),
                domain: domain(known + 1),
                joins,
            };
        }
        let mut pick = || tag(self.rng.random_range(0..known));
        let (first, second) = (pick(), pick());
        match self.rng.random_range(0..10) {
            0 => Operation::Link { first, second },
            1 => Operation::Join {
                tag: first,
                to: self.state.records[&second].linkage,
            },
            2..4 => {
                // Of the same domain, mostly.
                let own = first[0] - 1;
                let other = own % DOMAINS + second[0] / DOMAINS * DOMAINS;
                Operation::Merge {
                    survivor: first,
                    subsumed: tag(if other < known { other } else { own }),
                }
            }
            4 => Operation::Merge {
                survivor: first,
                subsumed: second,
            },
            5 => Operation::Unlink {
                first,
                second,
                mark: self.rng.random(),
            },
            6 => self.random_split(first),
            7 => Operation::Separate { first, second },
            _ => {
                let which = self.rng.random_range(0..self.events.len());
                Operation::Reverse(self.events[which].clone())
            }
        }
    }

    fn random_split(&mut self, of: PatientTag) -> Operation {
        let linkage = self.state.records[&of].linkage;
        let mut groups = vec![Vec::new(), Vec::new()];
        let tags: Vec<_> = self
            .state
            .members(linkage)
            .filter(|record| record.merged.is_none())
            .map(|record| record.tag)
            .collect();
        for tag in tags {
            let group = self.rng.random_range(0..2);
            groups[group].push(tag);
        }
        Operation::Split { linkage, groups }
    }
}

/// Random lives: the machine does what the model does, its invariants hold after every step, and the
/// state is the fold of the events. 100,000 operations in the full tier.
///
/// Bars: P-02, P-08.
#[test]
fn random_sequences_equal_the_model() {
    let operations = match std::env::var("RENKEI_TIER").as_deref() {
        Ok("full" | "soak") => 100_000,
        _ => 5_000,
    };
    let seed = std::env::var("RENKEI_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("RENKEI_SEED={seed}");
    let (mut taken, mut kinds) = (0, BTreeMap::<&str, usize>::new());
    for life in 0..operations / LIFE {
        let mut both = Both::new(seed.wrapping_add(life as u64));
        for _ in 0..LIFE {
            let operation = both.random();
            if both.act(&operation) {
                taken += 1;
                *kinds.entry(name(&operation)).or_default() += 1;
            }
        }
        let mut again = State::default();
        both.events.iter().for_each(|event| again.apply(event));
        assert_eq!(again, both.state, "rebuilt from its events");
    }
    println!("{operations} operations, {taken} taken: {kinds:?}");
    assert_eq!(kinds.len(), 8, "every kind was taken: {kinds:?}");
    assert!(taken * 3 > operations, "{taken} of {operations}");
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Add { .. } => "add",
        Operation::Merge { .. } => "merge",
        Operation::Join { .. } => "join",
        Operation::Link { .. } => "link",
        Operation::Unlink { .. } => "unlink",
        Operation::Split { .. } => "split",
        Operation::Separate { .. } => "separate",
        Operation::Reverse(_) => "reverse",
    }
}

/// Whatever came before, an operation that is taken back at once leaves everything as it was:
/// linkage ids, marks and merges.
///
/// Bars: P-02.
#[test]
fn taking_back_at_once_restores_exactly() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut both = Both::new(seed);
    let mut reversed = 0;
    for _ in 0..600 {
        let before = both.state.clone();
        let operation = both.random();
        if !both.act(&operation)
            || matches!(operation, Operation::Add { .. } | Operation::Reverse(_))
        {
            continue;
        }
        let event = both.events.last().unwrap().clone();
        assert!(both.act(&Operation::Reverse(event.clone())));
        assert_eq!(both.state.records, before.records, "{operation:?}");
        let lost = |linkage: &LinkageId| !both.state.retired.contains_key(linkage);
        assert!(!before.retired.keys().any(lost), "{operation:?}");
        reversed += 1;
        // And go on from the changed state.
        both.act(&operation);
    }
    assert!(reversed > 50, "{reversed}");
}

#[test]
fn a_merge_is_of_one_domain_and_happens_once() {
    let mut both = Both::new(1);
    for (number, of) in [(0, 1), (1, 2), (4, 1), (8, 1)] {
        assert!(both.act(&Operation::Add {
            tag: tag(number),
            domain: domain(of),
            joins: None,
        }));
    }
    let merge = |survivor, subsumed| Operation::Merge {
        survivor: tag(survivor),
        subsumed: tag(subsumed),
    };
    let refused = |both: &Both, operation: &Operation| {
        plan(&both.state, operation, id(99), &mut || panic!("no new id")).unwrap_err()
    };
    assert_eq!(refused(&both, &merge(0, 1)), Refusal::OtherDomain);
    assert_eq!(refused(&both, &merge(0, 0)), Refusal::Same);
    assert_eq!(refused(&both, &merge(0, 17)), Refusal::Unknown);
    assert!(both.act(&merge(4, 8)));
    assert!(both.act(&merge(0, 4)));
    assert_eq!(refused(&both, &merge(0, 8)), Refusal::Subsumed);
    assert_eq!(refused(&both, &merge(4, 0)), Refusal::Subsumed);
    assert_eq!(both.state.root(tag(8)).unwrap().tag, tag(0));
    let unlink = Operation::Unlink {
        first: tag(0),
        second: tag(8),
        mark: true,
    };
    assert_eq!(refused(&both, &unlink), Refusal::Merged);
}

/// A mark of a merged record holds for its survivor: it survives re-keying.
#[test]
fn a_mark_survives_the_merge_of_its_record() {
    let mut both = Both::new(1);
    for (number, of) in [(0, 1), (1, 2), (4, 1)] {
        both.act(&Operation::Add {
            tag: tag(number),
            domain: domain(of),
            joins: None,
        });
    }
    assert!(both.act(&Operation::Separate {
        first: tag(4),
        second: tag(1),
    }));
    assert!(both.act(&Operation::Merge {
        survivor: tag(0),
        subsumed: tag(4),
    }));
    let link = Operation::Link {
        first: tag(0),
        second: tag(1),
    };
    let refused = plan(&both.state, &link, id(99), &mut || panic!("no new id"));
    assert_eq!(refused.unwrap_err(), Refusal::Marked);
}
