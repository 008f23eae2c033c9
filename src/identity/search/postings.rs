//! From keys to the records under them, in little more than ten bytes for each.
//!
//! A key is a hash of 64 bits, evenly spread. Its lowest bits choose a bucket, which is a plain list of
//! the other bits and a record's number, in the order in which they came: most keys have one record or
//! a few, so nothing is spent on a list of each. The buckets are as many as keep them short; there
//! comes one more at a time (linear hashing), so no feed waits for all to be spread anew. What is
//! under a key that many share is in a list of its own.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Mutex;

use crate::identity::matching::cluster::Hashed;

mod kept;
pub(super) use kept::Pieces;

/// Parts that can be filled at once, chosen by the lowest bits of a key.
const SHARDS: u64 = 64;
/// Buckets a part has at least, chosen by the next bits.
const FEWEST: u64 = 1 << 10;
/// Bits of a key that its bucket tells, however many buckets there are.
const TOLD: u32 = SHARDS.ilog2() + FEWEST.ilog2();
/// Postings in a bucket, on average: looked through in some ten nanoseconds.
const IN_A_BUCKET: u64 = 32;
/// Postings of one key in a bucket; with more it gets a list.
const FEW: usize = 24;
/// Stands for a list in the place of a record's number.
const LISTED: u32 = u32::MAX;

/// What decides where a posting lies, for what is kept of them.
pub(super) const LAYOUT: [u64; 4] = [SHARDS, FEWEST, TOLD as u64, size_of::<Posting>() as u64];

/// Six bytes of the key that the bucket does not tell, and the record's number.
type Posting = [u8; 10];

fn posting(key: u64, record: u32) -> Posting {
    let mut posting = [0; 10];
    if let Some((first, last)) = posting.split_first_chunk_mut() {
        *first = head(key);
        last.copy_from_slice(&record.to_be_bytes());
    }
    posting
}

/// What a posting of a key begins with.
fn head(key: u64) -> [u8; 6] {
    let [_, _, head @ ..] = (key >> TOLD).to_be_bytes();
    head
}

/// Whether a posting is of the key with this head.
fn is_of(posting: &Posting, head: [u8; 6]) -> bool {
    posting.first_chunk() == Some(&head)
}

/// What a posting tells of its key.
fn rest(posting: &Posting) -> u64 {
    let mut rest = [0; 8];
    if let (Some(to), Some(from)) = (rest.last_chunk_mut::<6>(), posting.first_chunk()) {
        *to = *from;
    }
    u64::from_be_bytes(rest)
}

fn record(posting: &Posting) -> u32 {
    let number = posting.last_chunk();
    number.map_or(LISTED, |number| u32::from_be_bytes(*number))
}

/// Numbers of records by key. A record is put under a key once.
#[derive(Default)]
pub(super) struct Postings(Vec<Shard>);

impl Postings {
    /// Parts that are kept one by one.
    pub(super) fn parts() -> usize {
        shards()
    }

    fn shard(&self, key: u64) -> Option<&Shard> {
        self.0.get(usize::try_from(key % SHARDS).ok()?)
    }

    fn shard_mut(&mut self, key: u64) -> Option<&mut Shard> {
        if self.0.is_empty() {
            self.0.resize_with(shards(), Shard::default);
        }
        self.0.get_mut(usize::try_from(key % SHARDS).ok()?)
    }

    /// Appends the records under a key, oldest first; none if there are more than `most`.
    pub(super) fn append(&self, key: u64, most: usize, found: &mut Vec<u32>) {
        if let Some(shard) = self.shard(key) {
            shard.append(key, most, found);
        }
    }

    /// How many records are under a key.
    pub(super) fn count(&self, key: u64) -> usize {
        self.shard(key).map_or(0, |shard| shard.count(key))
    }

    /// Puts a record under a key.
    pub(super) fn insert(&mut self, key: u64, record: u32) {
        if let Some(shard) = self.shard_mut(key) {
            shard.make_room();
            shard.insert(key, record);
        }
    }

    /// Takes a record from under a key.
    pub(super) fn remove(&mut self, key: u64, record: u32) {
        if let Some(shard) = self.shard_mut(key) {
            shard.remove(key, record);
        }
    }

    /// All of what several threads gathered, by as many threads.
    pub(super) fn of(mut gathered: Vec<Gathered>) -> Self {
        let threads = gathered.len().max(1);
        let mut work: Vec<Vec<Vec<Pair>>> = Vec::with_capacity(shards());
        for shard in 0..shards() {
            let parts = gathered.iter_mut();
            let parts = parts.filter_map(|part| Some(std::mem::take(part.0.get_mut(shard)?)));
            work.push(parts.collect());
        }
        let mut all = Vec::new();
        all.resize_with(shards(), Shard::default);
        let jobs = Mutex::new(all.iter_mut().zip(work));
        let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((shard, parts)) = next() {
                        *shard = Shard::of(&parts);
                    }
                });
            }
        });
        drop(jobs);
        Self(all)
    }

    /// Bytes of memory that are taken, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Shard::bytes).sum()
    }

    /// Postings, those that stand for a list as well.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let in_lists = self.0.iter().flat_map(|shard| shard.common.values());
        let in_lists: usize = in_lists.map(Vec::len).sum();
        let in_buckets = self.0.iter().flat_map(|shard| &shard.buckets);
        let in_buckets: usize = in_buckets.map(Vec::len).sum();
        in_lists + in_buckets / size_of::<Posting>()
    }
}

fn shards() -> usize {
    usize::try_from(SHARDS).unwrap_or(1)
}

/// Upper half and lower half of a key, and a record: twelve bytes rather than sixteen.
type Pair = (u32, u32, u32);

/// Postings in the order in which they were found, apart by shard, to be loaded at once.
pub(super) struct Gathered(Vec<Vec<Pair>>);

impl Gathered {
    pub(super) fn new() -> Self {
        Self(vec![Vec::new(); shards()])
    }

    /// Takes memory for so many more.
    pub(super) fn reserve(&mut self, postings: usize) {
        for part in &mut self.0 {
            part.reserve(postings / shards());
        }
    }

    pub(super) fn push(&mut self, key: u64, record: u32) {
        let shard = usize::try_from(key % SHARDS).unwrap_or_default();
        let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default();
        let (upper, lower) = (half(key >> 32), half(key));
        if let Some(part) = self.0.get_mut(shard) {
            part.push((upper, lower, record));
        }
    }
}

/// The buckets of one part, and the lists of keys that many share.
#[derive(Default)]
struct Shard {
    buckets: Vec<Vec<u8>>,
    /// Postings in all buckets.
    held: u64,
    common: HashMap<u64, Vec<u32>, BuildHasherDefault<Hashed>>,
}

impl Shard {
    /// Of all postings at once: the memory of each bucket is taken in one piece.
    fn of(parts: &[Vec<Pair>]) -> Self {
        let pairs = || {
            let all = parts.iter().flatten();
            all.map(|(upper, lower, record)| {
                ((u64::from(*upper) << 32) | u64::from(*lower), *record)
            })
        };
        let total = parts.iter().map(Vec::len).sum::<usize>() as u64;
        let mut shard = Self::default();
        let buckets = (total / IN_A_BUCKET).max(FEWEST);
        shard.grow_to(buckets);
        let mut lengths = vec![0_usize; shard.buckets.len()];
        for (key, _) in pairs() {
            if let Some(length) = lengths.get_mut(shard.place(key)) {
                *length += 1;
            }
        }
        for (bucket, length) in shard.buckets.iter_mut().zip(lengths) {
            // A bucket with more has keys that get lists.
            let most = 2 * usize::try_from(IN_A_BUCKET).unwrap_or(0);
            bucket.reserve_exact(length.min(most) * size_of::<Posting>());
        }
        for (key, record) in pairs() {
            shard.insert(key, record);
        }
        for bucket in &mut shard.buckets {
            // Not for less: it would be copied to save what the allocator rounds up to anyway.
            if bucket.capacity() - bucket.len() > bucket.capacity() / 8 {
                bucket.shrink_to_fit();
            }
        }
        for list in shard.common.values_mut() {
            list.shrink_to_fit();
        }
        shard
    }

    fn grow_to(&mut self, buckets: u64) {
        let buckets = usize::try_from(buckets).unwrap_or(usize::MAX);
        self.buckets.resize_with(buckets, Vec::new);
    }

    /// The bucket of a key: as many bits of it as there are whole doublings, and one more for the
    /// buckets that were split since.
    fn place(&self, key: u64) -> usize {
        let key = key / SHARDS;
        let whole = (self.buckets.len().max(1) as u64).ilog2();
        let place = key & ((2 << whole) - 1);
        let place = match place < self.buckets.len() as u64 {
            true => place,
            false => key & ((1 << whole) - 1),
        };
        usize::try_from(place).unwrap_or_default()
    }

    /// Splits the bucket whose turn it is, if there are too many postings for the buckets there are.
    fn make_room(&mut self) {
        if self.buckets.is_empty() {
            self.grow_to(FEWEST);
        }
        let buckets = self.buckets.len() as u64;
        if self.held < buckets * IN_A_BUCKET {
            return;
        }
        // The new bucket's number but for the highest bit: those that have that bit go there.
        let whole = buckets.ilog2();
        let bit = 1_u64 << (whole + SHARDS.ilog2() - TOLD);
        let from = usize::try_from(buckets - (1 << whole)).unwrap_or_default();
        let Some(old) = self.buckets.get_mut(from) else {
            return;
        };
        let (all, _) = old.as_chunks::<{ size_of::<Posting>() }>();
        let moves = |posting: &&Posting| rest(posting) & bit != 0;
        let new = all.iter().filter(moves).flatten().copied().collect();
        let stays = all.iter().filter(|posting| !moves(posting));
        let stays: Vec<u8> = stays.flatten().copied().collect();
        *old = stays;
        self.buckets.push(new);
    }

    fn bucket(&self, key: u64) -> &[Posting] {
        let bucket = self.buckets.get(self.place(key));
        bucket.map_or(&[], |bucket| bucket.as_chunks().0)
    }

    fn append(&self, key: u64, most: usize, found: &mut Vec<u32>) {
        let (before, head) = (found.len(), head(key));
        let of_key = self.bucket(key).iter();
        let of_key = of_key.filter(|posting| is_of(posting, head));
        found.extend(of_key.map(record));
        if found.get(before) == Some(&LISTED) {
            found.truncate(before);
            let list = self.common.get(&key).map_or(&[][..], Vec::as_slice);
            if list.len() <= most {
                found.extend_from_slice(list);
            }
        } else if found.len() - before > most {
            found.truncate(before);
        }
    }

    fn count(&self, key: u64) -> usize {
        let head = head(key);
        let of_key = self.bucket(key).iter();
        let mut of_key = of_key.filter(|posting| is_of(posting, head));
        match of_key.next().map(record) {
            None => 0,
            Some(LISTED) => self.common.get(&key).map_or(0, Vec::len),
            Some(_) => 1 + of_key.count(),
        }
    }

    fn insert(&mut self, key: u64, number: u32) {
        let place = self.place(key);
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        let head = head(key);
        let of_key = bucket.as_chunks::<{ size_of::<Posting>() }>().0.iter();
        let of_key = of_key.filter(|posting| is_of(posting, head));
        let (mut count, mut listed) = (0, false);
        for known in of_key {
            count += 1;
            listed |= record(known) == LISTED;
        }
        if listed {
            self.common.entry(key).or_default().push(number);
            return;
        }
        if count == FEW {
            let mut list = Vec::with_capacity(2 * FEW);
            keep(bucket, |posting| {
                let of_key = is_of(posting, head);
                if of_key {
                    list.push(record(posting));
                }
                !of_key
            });
            list.push(number);
            self.common.insert(key, list);
            self.held -= FEW as u64;
            push(bucket, posting(key, LISTED));
        } else {
            push(bucket, posting(key, number));
        }
        self.held += 1;
    }

    fn remove(&mut self, key: u64, number: u32) {
        let place = self.place(key);
        let mut gone = number;
        if let Some(list) = self.common.get_mut(&key) {
            list.retain(|other| *other != number);
            if !list.is_empty() {
                return;
            }
            self.common.remove(&key);
            gone = LISTED;
        }
        let gone = posting(key, gone);
        if let Some(bucket) = self.buckets.get_mut(place) {
            let before = bucket.len();
            keep(bucket, |posting| *posting != gone);
            self.held -= ((before - bucket.len()) / size_of::<Posting>()) as u64;
        }
    }

    fn bytes(&self) -> usize {
        let headers = self.buckets.capacity() * size_of::<Vec<u8>>();
        let buckets = self.buckets.iter().map(Vec::capacity).sum::<usize>();
        let lists = self.common.values();
        let lists = lists.map(|list| list.capacity() * size_of::<u32>());
        // A place in the map, and its mark.
        let heads = self.common.capacity() * (size_of::<(u64, Vec<u32>)>() + 1);
        headers + buckets + heads + lists.sum::<usize>()
    }
}

/// Appends to a bucket. Not twice the memory: the allocator rounds up by itself, and there are many.
fn push(bucket: &mut Vec<u8>, posting: Posting) {
    bucket.reserve_exact(posting.len());
    bucket.extend_from_slice(&posting);
}

/// Keeps the postings that `wanted` names, in their order.
fn keep(bucket: &mut Vec<u8>, mut wanted: impl FnMut(&Posting) -> bool) {
    let (all, _) = bucket.as_chunks::<{ size_of::<Posting>() }>();
    let Some(first) = all.iter().position(|posting| !wanted(posting)) else {
        return;
    };
    let (stay, rest) = all.split_at(first);
    let rest = rest.iter().skip(1).filter(|posting| wanted(posting));
    let kept = stay.iter().chain(rest).flatten().copied().collect();
    *bucket = kept;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn under(postings: &Postings, key: u64, most: usize) -> Vec<u32> {
        let mut found = vec![7];
        postings.append(key, most, &mut found);
        assert_eq!(found.first(), Some(&7), "what was there stays");
        found.split_off(1)
    }

    /// A few keys that many share, some that differ in their highest bit only, and many of one record.
    fn key(random: &mut StdRng) -> u64 {
        match random.random_range(0..10) {
            0..4 => mixed(random.random_range(0..8)),
            4 => mixed(random.random_range(0..8)) ^ (1 << 63),
            5 => random.random_range(0..64) << TOLD,
            _ => mixed(random.random_range(0..20_000)),
        }
    }

    fn mixed(number: u64) -> u64 {
        (number + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    }

    #[test]
    fn postings_are_what_a_plain_map_of_lists_is() {
        for seed in [1, 2, 3] {
            let random = &mut StdRng::seed_from_u64(seed);
            let mut model: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let mut postings = Postings::default();
            assert_eq!(postings.count(1), 0);
            for step in 0..200_000_u32 {
                let key = key(random);
                if random.random_bool(0.8) {
                    postings.insert(key, step);
                    model.entry(key).or_default().push(step);
                } else if let Some(list) = model.get_mut(&key) {
                    let gone = list.remove(random.random_range(0..list.len()));
                    postings.remove(key, gone);
                    // Not there any more, or never: nothing happens.
                    postings.remove(key, gone);
                    if list.is_empty() {
                        model.remove(&key);
                    }
                }
                let most = random.random_range(0..60);
                let list = model.get(&key).cloned().unwrap_or_default();
                assert_eq!(postings.count(key), list.len(), "seed {seed}, step {step}");
                let wanted = if list.len() > most { Vec::new() } else { list };
                assert_eq!(
                    under(&postings, key, most),
                    wanted,
                    "seed {seed}, step {step}"
                );
            }
            for (key, list) in &model {
                assert_eq!(&under(&postings, *key, usize::MAX), list, "seed {seed}");
            }
        }
    }

    #[test]
    fn loaded_at_once_or_one_by_one_it_is_the_same() {
        for (seed, count) in [(1, 0), (2, 10), (3, 400_000)] {
            let random = &mut StdRng::seed_from_u64(seed);
            let mut parts = vec![Gathered::new(), Gathered::new(), Gathered::new()];
            let mut model: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for number in 0..count {
                let key = key(random);
                parts[number as usize % 3].push(key, number);
                model.entry(key).or_default().push(number);
            }
            let mut postings = Postings::of(parts);
            for (key, list) in &model {
                let mut found = under(&postings, *key, usize::MAX);
                found.sort_unstable();
                assert_eq!(&found, list, "seed {seed}");
                assert_eq!(postings.count(*key), list.len());
            }
            // It goes on from there.
            for (key, list) in &mut model {
                postings.insert(*key, count);
                postings.remove(*key, list.remove(0));
                list.push(count);
                let mut found = under(&postings, *key, usize::MAX);
                found.sort_unstable();
                assert_eq!(&found, list, "seed {seed}");
            }
        }
    }

    #[test]
    fn it_takes_little_more_than_ten_bytes_for_each() {
        let mut postings = Postings::default();
        let count = 3_000_000_u32;
        for number in 0..count {
            postings.insert(mixed(u64::from(number)), number);
        }
        let each = postings.bytes() / count as usize;
        assert!((10..13).contains(&each), "{each} bytes for each");
    }
}
