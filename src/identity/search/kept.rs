//! The search index as the last run kept it, so that a start need not read, decrypt and normalise
//! every patient's record, nor compute its keys. Sealed and bound to a frame by the store
//! ([`Derived`]); brought up to date from the ledger, or made anew.
//!
//! ```text
//! piece: kind 1, then
//!   r  domains: number, then of each authority and community · place of the first record · records
//!      until the end, each places behind the one before · tag 16 · linkage id 16 · length · packed,
//!      with the number of the domain in this piece
//!   n, k  what leads from tags and persons, and from keys, to places: see `postings/kept.rs`
//!   t  places that were touched meanwhile, until the end
//! ```
//!
//! It is written beside running feeds, piece by piece. A place whose record came, went or changed
//! since that began is named at the end, and is empty when the index is taken again: what frames did
//! is read from the ledger from there on, and what no frame did was never committed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest;

use crate::identity::compare::{NameKey, Policy, Traits};
use crate::identity::matching::chosen;
use crate::identity::matching::normalize::address::Place;
use crate::identity::matching::normalize::date::BirthDate;
use crate::identity::matching::normalize::kana;
use crate::identity::matching::normalize::number::PolicyNumber;
use crate::store::{Derived, Follower as _, Kept, NotKept, Sequence, Store, StoreError};
use crate::types::{AssigningAuthority, LinkageId};

use super::index::{Domains, Index, Kind, Slot, Taken};
use super::packed::{FORM, Reader, number, text};
use super::plans::all_keys;
use super::postings::LAYOUT;
use super::{Search, in_parallel, threads};

/// Raised whenever [`traits`](crate::identity::traits::traits) makes something else of the same
/// record: what was kept is then made anew. A test fails when it should have been.
pub(super) const NORMALISATION: u32 = 1;
/// Version of the pieces.
const PIECES: u8 = 2;
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
    context.update(&[FORM, PIECES]);
    for number in LAYOUT {
        context.update(&number.to_be_bytes());
    }
    for key in all_keys(&example()) {
        context.update(&key.to_be_bytes());
    }
    // What kana are looked up by, each behind one of every row that changes it.
    for before in ['ア', 'カ', 'キ', 'ク', 'ケ', 'コ'] {
        for letter in '\u{30A1}'..='\u{30FE}' {
            context.update(kana::skeleton(&format!("{before}{letter}")).as_bytes());
            context.update(b"\0");
        }
    }
    for table in [
        include_str!("../matching/data/kanji_variants.txt"),
        // Names in one piece are split behind family names.
        include_str!("../matching/data/frequencies.txt"),
    ] {
        context.update(&(table.len() as u64).to_be_bytes());
        context.update(table.as_bytes());
    }
    if let Some(mark) = chosen::mark() {
        context.update(&mark.to_be_bytes());
    }
    let mut making = [0; 32];
    making.copy_from_slice(context.finish().as_ref());
    making
});

/// A record with a key of every kind. Keys are hashes by a function that is not promised to stay:
/// those of another are not to be believed.
pub(super) fn example() -> Traits {
    let name = |family: &str, given: &str| {
        vec![NameKey {
            family: family.into(),
            given: given.into(),
        }]
    };
    Traits {
        birth: Some(BirthDate {
            year: 1980,
            month: 2,
            day: 29,
        }),
        kanji: name("山田", "太郎"),
        kana: name("ヤマダ", "タロウ"),
        romaji: name("yamada", "taro"),
        phones: vec![312_345_678],
        places: vec![Place {
            prefecture: 13,
            city: 101,
            town: 7,
            numbers: [1, 2, 3, 0],
            postal: 1_000_013,
        }],
        policies: vec![Policy {
            number: PolicyNumber {
                insurer: 6_139_463,
                symbol: "12".into(),
                number: "345".into(),
            },
            branch: Some(1),
        }],
        ..Traits::default()
    }
}

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
            index.touched = Some(HashSet::new());
            (applied, std::mem::take(&mut index.changes))
        };
        let kept = self.write_all(store, sequence);
        let mut index = self.write();
        index.touched = None;
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
        let mut pieces = Keeping::of(self);
        store.keep_derived(&derived(), sequence, &mut || pieces.next())
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
        let domains = Mutex::new(Domains::default());
        let work = || load(&kept, &domains);
        let all = in_parallel(threads(), &work, || NotKept("loading it panicked"))?;
        let domains = domains.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.write() = Index::of_kept(all, domains);
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

/// The pieces of an index, one after the other: the records, then what leads to them, then which of
/// them were touched meanwhile.
pub(super) struct Keeping<'s> {
    search: &'s Search,
    /// Places that were seen.
    places: usize,
    /// Parts that were seen of what leads to them.
    parts: usize,
    ready: VecDeque<Vec<u8>>,
    ended: bool,
}

impl<'s> Keeping<'s> {
    pub(super) fn of(search: &'s Search) -> Self {
        Self {
            search,
            places: 0,
            parts: 0,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next piece; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while self.ready.is_empty() && !self.ended {
            self.look();
        }
        self.ready.pop_front()
    }

    /// Looks once at the index.
    fn look(&mut self) {
        let index = self.search.read();
        let slots = index.slots(self.places, AT_ONCE);
        if !slots.is_empty() {
            self.ready.push_back(records(&index, self.places, slots));
            self.places += slots.len();
        } else if let Some((kind, pieces)) = index.leads(self.parts) {
            let pieces = pieces.into_iter();
            self.ready
                .extend(pieces.map(|piece| [&[kind as u8], piece.as_slice()].concat()));
            self.parts += 1;
        } else {
            let mut piece = vec![Kind::Touched as u8];
            for place in index.touched.iter().flatten() {
                number(&mut piece, u64::from(*place));
            }
            self.ready.push_back(piece);
            self.ended = true;
        }
    }
}

/// Those of some records that are committed.
fn records(index: &Index, first: usize, slots: &[Option<Slot>]) -> Vec<u8> {
    let mut domains: BTreeMap<u64, u64> = BTreeMap::new();
    let mut records = Vec::new();
    let mut before = 0;
    for (behind, slot) in slots.iter().enumerate() {
        let Some(slot) = slot else { continue };
        let mut reader = Reader(&slot.packed);
        let domain = reader.number().and_then(|domain| domain.checked_sub(1));
        let Some(domain) = domain else { continue };
        let here = domains.len() as u64;
        let here = *domains.entry(domain).or_insert(here);
        number(&mut records, (behind - before) as u64);
        before = behind;
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
    piece.push(Kind::Records as u8);
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
    number(&mut piece, first as u64);
    piece.extend_from_slice(&records);
    piece
}

fn load(kept: &Kept, domains: &Mutex<Domains>) -> Result<Taken, NotKept> {
    let mut taken = Taken::default();
    while let Some(piece) = kept.next()? {
        take_piece(&mut taken, domains, &piece)
            .ok_or(NotKept("it is not what this program wrote"))?;
    }
    Ok(taken)
}

fn take_piece(taken: &mut Taken, domains: &Mutex<Domains>, piece: &[u8]) -> Option<()> {
    let (kind, rest) = piece.split_first()?;
    let mut reader = Reader(rest);
    match *kind {
        kind if kind == Kind::Records as u8 => take_records(taken, domains, reader),
        kind if kind == Kind::Names as u8 => taken.names.take(reader),
        kind if kind == Kind::Keys as u8 => taken.keys.take(reader),
        kind if kind == Kind::Touched as u8 => {
            while !reader.0.is_empty() {
                taken.touched.push(u32::try_from(reader.number()?).ok()?);
            }
            Some(())
        }
        _ => None,
    }
}

fn take_records(taken: &mut Taken, domains: &Mutex<Domains>, mut reader: Reader<'_>) -> Option<()> {
    let count = reader.number()?;
    let mut here = Vec::new();
    {
        let mut domains = domains.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..count {
            let authority: AssigningAuthority = reader.text()?.parse().ok()?;
            here.push(domains.number(&authority, reader.text()?));
        }
    }
    let mut place = u32::try_from(reader.number()?).ok()?;
    while !reader.0.is_empty() {
        place = place.checked_add(u32::try_from(reader.number()?).ok()?)?;
        let (tag, linkage) = (reader.fixed()?, reader.fixed()?);
        let length = usize::try_from(reader.number()?).ok()?;
        let mut rest = Reader(reader.take(length)?);
        let domain = usize::try_from(rest.number()?.checked_sub(1)?).ok()?;
        let mut packed = Vec::with_capacity(rest.0.len() + 2);
        number(&mut packed, here.get(domain)? + 1);
        packed.extend_from_slice(rest.0);
        let slot = Slot {
            tag,
            linkage: LinkageId::from_bytes(linkage),
            packed: packed.into_boxed_slice(),
        };
        taken.slots.push((place, slot));
    }
    Some(())
}
