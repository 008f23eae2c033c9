//! Postings as they are kept for the next start: bucket by bucket, so that no key is computed for it,
//! neither when they are kept nor when they are taken again.
//!
//! ```text
//! piece: part · place of its first bucket · buckets: number, then of each its postings: number, ten
//!   bytes each · lists until the end, each key 8 · records: number, four bytes each
//! ```

use crate::identity::search::packed::{Reader, number};

use super::{LISTED, Posting, Postings, Shard, keep, posting, record, shards};

/// Bytes in a piece, about.
const PIECE: usize = 1 << 20;

/// What one thread took of what was kept.
#[derive(Default)]
pub(in crate::identity::search) struct Pieces {
    buckets: Vec<Run>,
    lists: Vec<(usize, u64, Vec<u32>)>,
}

/// Buckets of a part that stand beside each other.
struct Run {
    part: usize,
    first: usize,
    buckets: Vec<Vec<u8>>,
}

impl Postings {
    /// One part as it is now, in pieces; `None` behind the last. All pieces of a part must be of one
    /// moment: postings wander from bucket to bucket.
    pub(in crate::identity::search) fn part(&self, part: usize) -> Option<Vec<Vec<u8>>> {
        if part >= shards() {
            return None;
        }
        Some(
            self.0
                .get(part)
                .map_or_else(Vec::new, |shard| shard.pieces(part)),
        )
    }

    /// What all threads took, without the postings of records that are not `known`.
    pub(in crate::identity::search) fn kept(
        all: Vec<Pieces>,
        known: &(dyn Fn(u32) -> bool + Sync),
    ) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(shards(), Shard::default);
        for Pieces { buckets, lists } in all {
            for run in buckets {
                if let Some(shard) = parts.get_mut(run.part) {
                    shard.put_run(run);
                }
            }
            for (part, key, list) in lists {
                if let Some(shard) = parts.get_mut(part) {
                    shard.common.insert(key, list);
                }
            }
        }
        let half = parts.len().div_ceil(super::super::threads().max(1));
        std::thread::scope(|scope| {
            for some in parts.chunks_mut(half) {
                scope.spawn(|| some.iter_mut().for_each(|shard| shard.forget(known)));
            }
        });
        Self(parts)
    }
}

impl Pieces {
    /// Takes a piece; `None` if it is not what [`Postings::part`] made.
    pub(in crate::identity::search) fn take(&mut self, mut piece: Reader<'_>) -> Option<()> {
        let part = usize::try_from(piece.number()?).ok()?;
        let first = usize::try_from(piece.number()?).ok()?;
        let count = usize::try_from(piece.number()?).ok()?;
        let mut buckets = Vec::with_capacity(count.min(piece.0.len()));
        for _ in 0..count {
            let postings = usize::try_from(piece.number()?).ok()?;
            let bytes = postings.checked_mul(size_of::<Posting>())?;
            buckets.push(piece.take(bytes)?.to_vec());
        }
        self.buckets.push(Run {
            part,
            first,
            buckets,
        });
        while !piece.0.is_empty() {
            let key = u64::from_be_bytes(piece.fixed()?);
            let records = usize::try_from(piece.number()?).ok()?;
            let bytes = piece.take(records.checked_mul(size_of::<u32>())?)?;
            let (list, _) = bytes.as_chunks();
            let list = list.iter().map(|record| u32::from_be_bytes(*record));
            self.lists.push((part, key, list.collect()));
        }
        Some(())
    }
}

impl Shard {
    fn pieces(&self, part: usize) -> Vec<Vec<u8>> {
        let begin = |first: usize, count: usize| {
            let mut piece = Vec::with_capacity(PIECE + PIECE / 8);
            for head in [part, first, count] {
                number(&mut piece, head as u64);
            }
            piece
        };
        let mut pieces = Vec::new();
        let (mut first, mut rest) = (0, self.buckets.as_slice());
        while !rest.is_empty() {
            let mut bytes = 0;
            let full = rest.iter().position(|bucket| {
                bytes += bucket.len();
                bytes >= PIECE
            });
            let (some, left) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
            let mut piece = begin(first, some.len());
            for bucket in some {
                number(&mut piece, (bucket.len() / size_of::<Posting>()) as u64);
                piece.extend_from_slice(bucket);
            }
            pieces.push(piece);
            (first, rest) = (first + some.len(), left);
        }
        let mut piece = begin(first, 0);
        for (key, list) in &self.common {
            piece.extend_from_slice(&key.to_be_bytes());
            number(&mut piece, list.len() as u64);
            piece.extend(list.iter().flat_map(|record| record.to_be_bytes()));
            if piece.len() >= PIECE {
                pieces.push(std::mem::replace(&mut piece, begin(first, 0)));
            }
        }
        pieces.push(piece);
        pieces
    }

    fn put_run(&mut self, run: Run) {
        let end = run.first + run.buckets.len();
        if self.buckets.len() < end {
            self.buckets.resize_with(end, Vec::new);
        }
        let places = self.buckets.iter_mut().skip(run.first);
        for (place, bucket) in places.zip(run.buckets) {
            self.held += (bucket.len() / size_of::<Posting>()) as u64;
            *place = bucket;
        }
    }

    /// Takes out what leads to records that are not known.
    fn forget(&mut self, known: &dyn Fn(u32) -> bool) {
        let mut held = 0;
        for bucket in &mut self.buckets {
            keep(bucket, |one| {
                let record = record(one);
                record == LISTED || known(record)
            });
            held += (bucket.len() / size_of::<Posting>()) as u64;
        }
        self.held = held;
        let mut empty = Vec::new();
        for (key, list) in &mut self.common {
            list.retain(|record| known(*record));
            if list.is_empty() {
                empty.push(*key);
            }
        }
        for key in empty {
            self.common.remove(&key);
            let (place, gone) = (self.place(key), posting(key, LISTED));
            if let Some(bucket) = self.buckets.get_mut(place) {
                let before = bucket.len();
                keep(bucket, |one| *one != gone);
                self.held -= ((before - bucket.len()) / size_of::<Posting>()) as u64;
            }
        }
    }
}
