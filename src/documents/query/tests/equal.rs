//! Queries of random registries find what looking at everything finds.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::oracle::{self, Oracle};
use super::{World, queries, variable};
use crate::error::Reason;
use crate::wire::pb::documents as pb;

/// Entries of the registry, and queries of each kind.
fn scale() -> (usize, usize) {
    match variable("RENKEI_TIER").as_deref() {
        None | Some("quick") => (1_000, 25),
        Some(_) => (10_000, 100),
    }
}

/// For every stored query and random parameters, the results are those of a brute-force filter, on
/// pages of any size, in order, each once, counted.
#[test]
fn every_stored_query_finds_what_a_brute_force_filter_finds() {
    let seed = variable("RENKEI_SEED").map_or(7, |seed| seed.parse().unwrap());
    let (count, times) = scale();
    let world = World::new(seed, count);
    let hidden = oracle::hidden(&world.registry);
    // Kinds have randomness of their own, so that they can be tried side by side.
    let next = AtomicUsize::new(0);
    let try_kinds = || {
        let mut tried = Tried::default();
        loop {
            let kind = next.fetch_add(1, Ordering::Relaxed);
            if kind >= queries::KINDS {
                return tried;
            }
            tried.add(&try_kind(&world, &hidden, seed, kind, times));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let tried = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(try_kinds)).collect();
        let mut all = Tried::default();
        for one in started {
            all.add(&one.join().unwrap());
        }
        all
    });
    let Tried {
        asked,
        pages,
        found,
        several,
    } = tried;
    assert_eq!(asked, queries::KINDS * times);
    println!(
        "bar queries: seed {seed}, {asked} queries of {count} entries on {pages} pages, {found} found, \
         {several} refused"
    );
}

/// How much was tried.
#[derive(Default)]
struct Tried {
    asked: usize,
    pages: usize,
    found: usize,
    several: usize,
}

impl Tried {
    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.pages += other.pages;
        self.found += other.found;
        self.several += other.several;
    }
}

/// Asks queries of one kind and compares what they find.
fn try_kind(
    world: &World,
    hidden: &HashSet<String>,
    seed: u64,
    kind: usize,
    times: usize,
) -> Tried {
    let mut rng = StdRng::seed_from_u64((seed ^ 0xABCD) + ((kind as u64) << 32));
    let mut tried = Tried::default();
    for turn in 0..times {
        let query = queries::random(&mut rng, &world.registry, kind);
        let name = format!("seed {seed}, kind {kind}, turn {turn}: {query:?}");
        let request = queries::request(&mut rng, query);
        let stored = request.query.as_ref().unwrap();
        let oracle = Oracle {
            registry: &world.registry,
            hidden,
            all_levels: stored.metadata_level() == pb::MetadataLevel::All,
        };
        let expected = oracle.find(stored.query.as_ref().unwrap());
        tried.asked += 1;
        match world.pages(&request) {
            Ok((got, counted)) => {
                let once: BTreeSet<String> = got.iter().cloned().collect();
                assert_eq!(once.len(), got.len(), "each once: {name}");
                assert_eq!(once, expected, "{name}");
                assert_eq!(counted, expected.len() as u64, "{name}");
                tried.found += got.len();
                tried.pages += got.len().div_ceil(request.page_size as usize);
            }
            Err(error) => {
                assert_eq!(error.reason(), Reason::ResultNotSinglePatient, "{name}");
                assert!(oracle.several_people(&expected), "{name}");
                tried.several += 1;
            }
        }
    }
    let found = tried.found;
    assert!(found > 0, "seed {seed}: kind {kind} found nothing at all");
    tried
}
