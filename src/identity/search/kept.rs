//! The search index as the last run kept it, so that a start need not read, decrypt and normalise
//! every patient's record. Sealed and bound to a frame by the store ([`Derived`]); brought up to
//! date from the ledger, or made anew.
//!
//! ```text
//! piece: domains: number, then of each authority and community · records until the end, each
//!   tag 16 · linkage id 16 · length · packed, with the number of the domain in this piece
//! ```
//!
//! The keys are not kept but computed again. It is written beside running feeds, some records at a
//! time: only those are in it that no frame has changed since that began, and for the others the
//! ledger is read from there on.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest;

use crate::store::{Derived, Follower as _, Kept, NotKept, Sequence, Store, StoreError};
use crate::types::{AssigningAuthority, LinkageId};

use super::index::{Brought, Builder, Index, Part, Slot};
use super::packed::{FORM, Reader, number, text};
use super::{Search, in_parallel, threads};

/// Raised whenever [`traits`](crate::identity::traits::traits) makes something else of the same
/// record: what was kept is then made anew. A test fails when it should have been.
pub(super) const NORMALISATION: u32 = 1;
/// Places looked at under one taking of the lock, and records in one piece.
const AT_ONCE: usize = 1_024;
/// Frames that are read to bring it up to date: with more, the patient table is as quick.
const MOST_BEHIND: u64 = 100_000;
/// Changes of records, and frames, from which on it is worth keeping anew.
const CHANGES: u64 = 1_000;
const FRAMES: u64 = 10_000;
/// Records below which there is nothing to save.
const FEWEST: usize = 1_000;

/// What is kept at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// How often the key table had been changed: a change may take its key.
    generation: u64,
    sequence: Sequence,
}

static MAKING: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&NORMALISATION.to_be_bytes());
    context.update(&[FORM]);
    for table in [
        include_str!("../matching/data/kanji_variants.txt"),
        // Names in one piece are split behind family names.
        include_str!("../matching/data/frequencies.txt"),
    ] {
        context.update(&(table.len() as u64).to_be_bytes());
        context.update(table.as_bytes());
    }
    let mut making = [0; 32];
    making.copy_from_slice(context.finish().as_ref());
    making
});

pub(super) fn derived() -> Derived {
    Derived {
        name: "search",
        making: *MAKING,
    }
}

impl Search {
    /// Keeps the index for the next start, if enough has changed since it was kept. Blocks.
    ///
    /// # Errors
    /// What writing reports. What was kept before stays then.
    pub(crate) fn keep(&self, store: &Store) -> Result<bool, StoreError> {
        let mut last = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = store.keys().generation();
        let (sequence, changes) = {
            let mut index = self.write();
            // A frame behind it may be applied in part: it is read again at the start.
            let applied = Sequence(self.applied.load(Ordering::Acquire));
            let is_new = last.is_none_or(|last| {
                let behind = applied.0.saturating_sub(last.sequence.0);
                last.generation != generation || index.changes >= CHANGES || behind >= FRAMES
            });
            if index.len() < FEWEST || !is_new {
                return Ok(false);
            }
            index.since = Some(HashSet::new());
            (applied, std::mem::take(&mut index.changes))
        };
        let kept = self.write_all(store, sequence);
        let mut index = self.write();
        index.since = None;
        match kept {
            Ok(()) => {
                *last = Some(Last {
                    generation,
                    sequence,
                });
                Ok(true)
            }
            Err(error) => {
                index.changes += changes;
                Err(error)
            }
        }
    }

    fn write_all(&self, store: &Store, sequence: Sequence) -> Result<(), StoreError> {
        let mut from = 0;
        store.keep_derived(&derived(), sequence, &mut || {
            let (piece, seen) = self.next_piece(from)?;
            from = seen;
            Some(piece)
        })
    }

    /// The records in the next places, and where to go on; `None` if there are no more places.
    pub(super) fn next_piece(&self, from: usize) -> Option<(Vec<u8>, usize)> {
        let index = self.read();
        let slots = index.slots(from, AT_ONCE);
        (!slots.is_empty()).then(|| (piece(&index, slots), from + slots.len()))
    }

    /// Takes what was kept and brings it up to date. Returns whether there was anything that could
    /// be believed; if not, the index is empty.
    pub(super) fn restore(&self, store: &Store) -> bool {
        let began = Instant::now();
        match self.take(store) {
            Ok((sequence, behind)) => {
                let (records, milliseconds) = (self.read().len(), began.elapsed().as_millis());
                tracing::info!(records, behind, milliseconds, "search index restored");
                let mut last = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(Last {
                    generation: store.keys().generation(),
                    sequence,
                });
                true
            }
            Err(reason) => {
                tracing::info!(%reason, "the search index is made from the patient table");
                *self.write() = Index::default();
                false
            }
        }
    }

    /// Returns the frame it was kept at, and how many frames it was behind.
    fn take(&self, store: &Store) -> Result<(Sequence, u64), NotKept> {
        let kept = store.derived(&derived())?;
        let to = store.last_sequence();
        let behind = to.0.saturating_sub(kept.sequence.0);
        if behind > MOST_BEHIND {
            return Err(NotKept("it is too far behind"));
        }
        let builder = Builder::default();
        let work = || load(&kept, builder.part());
        let all = in_parallel(threads(), &work, || NotKept("loading it panicked"))?;
        *self.write() = builder.finish(all);
        self.applied.store(kept.sequence.0, Ordering::Release);
        if behind == 0 {
            return Ok((kept.sequence, 0));
        }
        for frame in store.read_frames(kept.sequence.next()) {
            let frame = frame.map_err(|_| NotKept("the ledger since cannot be read"))?;
            if frame.sequence > to {
                break;
            }
            self.applied(frame.sequence, &frame.writes);
        }
        Ok((kept.sequence, behind))
    }
}

/// Those of some records that are committed and were not changed since it is being kept.
fn piece(index: &Index, slots: &[Option<Slot>]) -> Vec<u8> {
    let mut domains: BTreeMap<u64, u64> = BTreeMap::new();
    let mut records = Vec::new();
    for slot in slots.iter().flatten() {
        let mut reader = Reader(&slot.packed);
        let domain = reader.number().and_then(|domain| domain.checked_sub(1));
        let changed = index.since.as_ref();
        let changed = changed.is_some_and(|since| since.contains(&slot.tag));
        let Some(domain) = domain.filter(|_| !changed) else {
            continue;
        };
        let here = domains.len() as u64;
        let here = *domains.entry(domain).or_insert(here);
        records.extend_from_slice(&slot.tag);
        records.extend_from_slice(&slot.linkage.to_bytes());
        let mut head = Vec::new();
        number(&mut head, here + 1);
        number(&mut records, (head.len() + reader.0.len()) as u64);
        records.extend_from_slice(&head);
        records.extend_from_slice(reader.0);
    }
    let mut by_place: Vec<(u64, u64)> = domains.iter().map(|(of, here)| (*here, *of)).collect();
    by_place.sort_unstable();
    let mut piece = Vec::with_capacity(records.len() + 256);
    number(&mut piece, by_place.len() as u64);
    for (_, domain) in by_place {
        let (authority, community) = match index.domain(domain) {
            Some((authority, community)) => (authority.to_string(), &**community),
            // Cannot be; it would not parse, and all be made anew.
            None => (String::new(), ""),
        };
        text(&mut piece, &authority);
        text(&mut piece, community);
    }
    piece.extend_from_slice(&records);
    piece
}

fn load(kept: &Kept, mut part: Part<'_>) -> Result<Brought, NotKept> {
    while let Some(piece) = kept.next()? {
        take_piece(&mut part, &piece).ok_or(NotKept("it is not what this program wrote"))?;
    }
    Ok(part.end())
}

fn take_piece(part: &mut Part<'_>, piece: &[u8]) -> Option<()> {
    let mut reader = Reader(piece);
    let count = reader.number()?;
    let mut domains = Vec::new();
    for _ in 0..count {
        let authority: AssigningAuthority = reader.text()?.parse().ok()?;
        domains.push(part.domain(&authority, reader.text()?));
    }
    while !reader.0.is_empty() {
        let (tag, linkage) = (reader.fixed()?, reader.fixed()?);
        let length = usize::try_from(reader.number()?).ok()?;
        let mut rest = Reader(reader.take(length)?);
        let here = usize::try_from(rest.number()?.checked_sub(1)?).ok()?;
        let mut packed = Vec::with_capacity(rest.0.len() + 2);
        number(&mut packed, domains.get(here)? + 1);
        packed.extend_from_slice(rest.0);
        part.add_packed(Slot {
            tag,
            linkage: LinkageId::from_bytes(linkage),
            packed: packed.into_boxed_slice(),
        })?;
    }
    Some(())
}
