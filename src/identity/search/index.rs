//! Everything searchable: each record packed, and found by its tag, its person, and its keys.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::compare::Traits;
use crate::identity::matching::cluster;
use crate::types::{AssigningAuthority, LinkageId, PatientIdentifier};

use super::PatientTag;
use super::packed::{Reader, number, pack, text, unpack};
use super::plans::{all_keys, linking_keys};
use super::postings::{Gathered, Pieces, Postings};

/// Postings a key may have before it alone is too common to block on.
const MAX_POSTINGS: usize = 2_000;
/// Postings that are gone through if more is known of who is sought than the keys say: a name that one
/// in five hundred has, among ten million.
const MAX_NARROWED: usize = 20_000;

/// An identifier and the community that fed it.
pub(crate) type Shown = (PatientIdentifier, Arc<str>);

/// A record as it comes.
pub(super) struct Known {
    pub(super) tag: PatientTag,
    /// The identifier and its community, once the record is committed. A record without is one whose
    /// feed is still on its way to the disk: matching sees it, queries do not.
    pub(super) shown: Option<Shown>,
    pub(super) linkage: LinkageId,
    pub(super) traits: Traits,
    pub(super) not_same: Vec<PatientTag>,
}

/// A record as it lies here.
pub(super) struct Slot {
    pub(super) tag: PatientTag,
    pub(super) linkage: LinkageId,
    /// Number of the domain + 1 and the identifier in it, or 0 · how many are not the same, and their
    /// tags · what matching knows.
    pub(super) packed: Box<[u8]>,
}

/// One record of the index.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'i> {
    index: &'i Index,
    slot: &'i Slot,
}

impl<'i> Entry<'i> {
    /// Its tag.
    pub(crate) fn tag(self) -> PatientTag {
        self.slot.tag
    }

    /// The person it belongs to.
    pub(crate) fn linkage(self) -> LinkageId {
        self.slot.linkage
    }

    /// Whether its feed is committed.
    pub(crate) fn is_committed(self) -> bool {
        self.slot.packed.first() != Some(&0)
    }

    /// Its identifier and community, once its feed is committed.
    pub(crate) fn shown(self) -> Option<Shown> {
        let mut reader = Reader(&self.slot.packed);
        let domain = reader.number()?.checked_sub(1)?;
        let (authority, community) = self.index.domains.get(domain)?;
        let id = reader.text()?.parse().ok()?;
        let authority = authority.clone();
        Some((PatientIdentifier { authority, id }, Arc::clone(community)))
    }

    /// What matching knows of it.
    pub(crate) fn traits(self) -> Traits {
        self.slot.traits()
    }

    /// The records a steward holds apart from it.
    pub(crate) fn not_same(self) -> impl Iterator<Item = &'i PatientTag> {
        let tail = tail(&self.slot.packed);
        let tags = tail.and_then(|tail| not_same(&mut Reader(tail)));
        tags.unwrap_or_default().iter()
    }
}

impl Slot {
    fn traits(&self) -> Traits {
        let known = tail(&self.packed).and_then(|tail| {
            let mut reader = Reader(tail);
            not_same(&mut reader)?;
            unpack(reader.0)
        });
        known.unwrap_or_else(|| {
            // What is here was packed by this process.
            tracing::error!("a record of the search index cannot be read");
            Traits::default()
        })
    }
}

/// What stands behind the identifier.
fn tail(packed: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(packed);
    if reader.number()? != 0 {
        reader.text()?;
    }
    Some(reader.0)
}

fn not_same<'b>(reader: &mut Reader<'b>) -> Option<&'b [PatientTag]> {
    let count = usize::try_from(reader.number()?).ok()?;
    let bytes = reader.take(count.checked_mul(size_of::<PatientTag>())?)?;
    Some(bytes.as_chunks().0)
}

/// Domains and communities, by number: few, and in every record.
#[derive(Default)]
pub(super) struct Domains {
    all: Vec<(AssigningAuthority, Arc<str>)>,
    numbers: BTreeMap<AssigningAuthority, Vec<u64>>,
}

impl Domains {
    pub(super) fn get(&self, domain: u64) -> Option<&(AssigningAuthority, Arc<str>)> {
        self.all.get(usize::try_from(domain).ok()?)
    }

    pub(super) fn number(&mut self, authority: &AssigningAuthority, community: &str) -> u64 {
        let known = self.numbers.get(authority).into_iter().flatten();
        let mut known = known.filter(|domain| {
            self.get(**domain)
                .is_some_and(|(_, other)| **other == *community)
        });
        if let Some(domain) = known.next() {
            return *domain;
        }
        let domain = self.all.len() as u64;
        self.all.push((authority.clone(), community.into()));
        self.numbers
            .entry(authority.clone())
            .or_default()
            .push(domain);
        domain
    }
}

fn packed(known: &Known, domains: &mut Domains) -> Box<[u8]> {
    let mut out = Vec::with_capacity(192);
    match &known.shown {
        None => out.push(0),
        Some((identifier, community)) => {
            let domain = domains.number(&identifier.authority, community);
            number(&mut out, domain + 1);
            text(&mut out, identifier.id.as_str());
        }
    }
    number(&mut out, known.not_same.len() as u64);
    out.extend(known.not_same.iter().flatten());
    pack(&mut out, &known.traits);
    out.into_boxed_slice()
}

/// What a kept piece has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Records, by their places.
    Records = b'r',
    /// What leads from tags and persons to places.
    Names = b'n',
    /// What leads from keys to places.
    Keys = b'k',
    /// Places that were touched while it was kept.
    Touched = b't',
}

/// What one thread took of an index that was kept.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) slots: Vec<(u32, Slot)>,
    pub(super) names: Pieces,
    pub(super) keys: Pieces,
    pub(super) touched: Vec<u32>,
}

/// Everything searchable.
#[derive(Default)]
pub(crate) struct Index {
    entries: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Of tags and of linkage ids; whose key it is, the record tells.
    names: Postings,
    keys: Postings,
    domains: Domains,
    /// Records that frames changed since the index was kept or made.
    pub(super) changes: u64,
    /// While the index is being kept: the places whose record came, went or changed since that began.
    pub(super) touched: Option<HashSet<u32>>,
}

fn tag_key(tag: &PatientTag) -> u64 {
    tag.first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

fn person_key(linkage: LinkageId) -> u64 {
    let bytes = linkage.to_bytes();
    bytes
        .last_chunk()
        .map_or(0, |last| u64::from_be_bytes(*last))
}

impl Index {
    /// The record with this tag.
    pub(crate) fn get(&self, tag: &PatientTag) -> Option<Entry<'_>> {
        self.at(self.place(tag)?)
    }

    fn place(&self, tag: &PatientTag) -> Option<u32> {
        let mut found = Vec::new();
        self.names.append(tag_key(tag), usize::MAX, &mut found);
        let mut found = found.into_iter();
        found.find(|id| self.at(*id).is_some_and(|entry| entry.slot.tag == *tag))
    }

    /// The records of a person.
    pub(crate) fn members(&self, linkage: LinkageId) -> impl Iterator<Item = Entry<'_>> {
        let mut found = Vec::new();
        self.names
            .append(person_key(linkage), usize::MAX, &mut found);
        found
            .into_iter()
            .filter_map(|id| self.at(id))
            .filter(move |entry| entry.slot.linkage == linkage)
    }

    /// The linkage id of a committed record.
    pub(crate) fn linkage(&self, tag: &PatientTag) -> Option<LinkageId> {
        self.get(tag)
            .filter(|entry| entry.is_committed())
            .map(Entry::linkage)
    }

    /// The committed identifiers of a person, with their communities.
    pub(crate) fn identifiers(&self, linkage: LinkageId) -> Vec<Shown> {
        self.members(linkage).filter_map(Entry::shown).collect()
    }

    /// Records sharing at least one linking key; each once.
    pub(crate) fn candidates(&self, traits: &Traits) -> Vec<Entry<'_>> {
        self.up_to(&linking_keys(traits), cluster::MAX_POSTINGS)
    }

    /// Records under any of these keys; each once. A key with too many postings is passed over.
    pub(crate) fn under(&self, keys: &[u64]) -> Vec<Entry<'_>> {
        self.up_to(keys, MAX_POSTINGS)
    }

    /// As [`Index::under`], for a search that leaves out most by what is no key.
    pub(crate) fn under_common(&self, keys: &[u64]) -> Vec<Entry<'_>> {
        self.up_to(keys, MAX_NARROWED)
    }

    fn up_to(&self, keys: &[u64], most: usize) -> Vec<Entry<'_>> {
        let mut found = Vec::new();
        for key in keys {
            self.keys.append(*key, most, &mut found);
        }
        let mut seen = HashSet::with_capacity(found.len());
        found.retain(|id| seen.insert(*id));
        found.into_iter().filter_map(|id| self.at(id)).collect()
    }

    /// Whether one of these keys is too common to search by.
    pub(crate) fn too_common(&self, keys: &[u64]) -> bool {
        keys.iter().any(|key| self.keys.count(*key) > MAX_POSTINGS)
    }

    /// Whether one of these keys is passed over by [`Index::under_common`] too.
    pub(crate) fn very_common(&self, keys: &[u64]) -> bool {
        keys.iter().any(|key| self.keys.count(*key) > MAX_NARROWED)
    }

    /// Adds a record that is not committed yet.
    pub(crate) fn reserve(&mut self, tag: PatientTag, linkage: LinkageId, traits: Traits) {
        self.put(&Known {
            tag,
            shown: None,
            linkage,
            traits,
            not_same: Vec::new(),
        });
    }

    /// Adds or replaces a record; one that is known just so is only shown.
    pub(super) fn put(&mut self, known: &Known) {
        let packed = packed(known, &mut self.domains);
        let place = self.place(&known.tag);
        let old = place.and_then(|id| self.entries.get_mut(id as usize)?.as_mut());
        if let Some(old) = old
            && old.linkage == known.linkage
            && tail(&old.packed) == tail(&packed)
        {
            old.packed = packed;
            self.touch(place);
            return;
        }
        self.remove(&known.tag);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.touch(Some(id));
        for key in all_keys(&known.traits) {
            self.keys.insert(key, id);
        }
        self.names.insert(tag_key(&known.tag), id);
        self.names.insert(person_key(known.linkage), id);
        if let Some(slot) = self.entries.get_mut(id as usize) {
            *slot = Some(Slot {
                tag: known.tag,
                linkage: known.linkage,
                packed,
            });
        }
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, tag: &PatientTag) {
        let Some(id) = self.place(tag) else {
            return;
        };
        let slot = self.entries.get_mut(id as usize).and_then(Option::take);
        let Some(slot) = slot else {
            return;
        };
        self.touch(Some(id));
        // Made again: kept, they would be half of what a record takes.
        for key in all_keys(&slot.traits()) {
            self.keys.remove(key, id);
        }
        self.names.remove(tag_key(tag), id);
        self.names.remove(person_key(slot.linkage), id);
        self.free.push(id);
    }

    fn touch(&mut self, place: Option<u32>) {
        if let (Some(touched), Some(place)) = (&mut self.touched, place) {
            touched.insert(place);
        }
    }

    /// One part of what leads to the records, in pieces, each with its kind; `None` behind the last.
    pub(super) fn leads(&self, part: usize) -> Option<(Kind, Vec<Vec<u8>>)> {
        let names = self.names.part(part).map(|pieces| (Kind::Names, pieces));
        names.or_else(|| {
            // As many of the one as of the other.
            let part = part.checked_sub(Postings::parts())?;
            self.keys.part(part).map(|pieces| (Kind::Keys, pieces))
        })
    }

    /// The index of what several threads took of one that was kept.
    pub(super) fn of_kept(all: Vec<Taken>, domains: Domains) -> Self {
        let touched: HashSet<u32> = all.iter().flat_map(|one| &one.touched).copied().collect();
        let (mut names, mut keys, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for one in all {
            names.push(one.names);
            keys.push(one.keys);
            slots.push(one.slots);
        }
        let places = slots.iter().flatten().map(|(id, _)| *id as usize + 1).max();
        let mut entries = Vec::new();
        entries.resize_with(places.unwrap_or(0), || None);
        for (id, slot) in slots.into_iter().flatten() {
            if let Some(place) = entries.get_mut(id as usize)
                && !touched.contains(&id)
            {
                *place = Some(slot);
            }
        }
        let free = (0..).zip(&entries).filter(|(_, slot)| slot.is_none());
        let free = free.map(|(id, _)| id).collect();
        let known = |id: u32| entries.get(id as usize).is_some_and(Option::is_some);
        Self {
            names: Postings::kept(names, &known),
            keys: Postings::kept(keys, &known),
            free,
            entries,
            domains,
            ..Self::default()
        }
    }

    fn at(&self, id: u32) -> Option<Entry<'_>> {
        let slot = self.entries.get(id as usize)?.as_ref()?;
        Some(Entry { index: self, slot })
    }

    /// Records here.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Postings in all lists.
    #[cfg(test)]
    pub(super) fn postings(&self) -> usize {
        self.names.len() + self.keys.len()
    }

    /// Records in their places from `from` on, at most so many places.
    pub(super) fn slots(&self, from: usize, most: usize) -> &[Option<Slot>] {
        let end = from.saturating_add(most).min(self.entries.len());
        self.entries.get(from..end).unwrap_or_default()
    }

    pub(super) fn domain(&self, domain: u64) -> Option<&(AssigningAuthority, Arc<str>)> {
        self.domains.get(domain)
    }

    /// Bytes of memory that are taken, without what the allocator adds.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.entries.capacity() * size_of::<Option<Slot>>();
        let packed = self.entries.iter().flatten();
        let packed = packed.map(|slot| slot.packed.len()).sum::<usize>();
        let free = self.free.capacity() * size_of::<u32>();
        slots + packed + free + self.names.bytes() + self.keys.bytes()
    }
}

/// Makes an index of many records at once, by several threads.
#[derive(Default)]
pub(super) struct Builder {
    next: AtomicU32,
    domains: Mutex<Domains>,
}

/// What one thread brings, with its numbers given by the builder.
pub(super) struct Part<'b> {
    builder: &'b Builder,
    brought: Brought,
}

/// What one thread brought.
pub(super) struct Brought {
    slots: Vec<(u32, Slot)>,
    names: Gathered,
    keys: Gathered,
}

impl Builder {
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            builder: self,
            brought: Brought {
                slots: Vec::new(),
                names: Gathered::new(),
                keys: Gathered::new(),
            },
        }
    }

    /// The index of what all threads brought.
    pub(super) fn finish(self, all: Vec<Brought>) -> Index {
        let (mut names, mut keys) = (Vec::new(), Vec::new());
        let mut entries = Vec::new();
        let records = all.iter().map(|one| one.slots.len()).sum();
        entries.resize_with(records, || None);
        for Brought {
            slots,
            names: of_names,
            keys: of_keys,
        } in all
        {
            for (id, slot) in slots {
                if let Some(place) = entries.get_mut(id as usize) {
                    *place = Some(slot);
                }
            }
            names.push(of_names);
            keys.push(of_keys);
        }
        Index {
            entries,
            names: Postings::of(names),
            keys: Postings::of(keys),
            domains: self
                .domains
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            ..Index::default()
        }
    }
}

impl Part<'_> {
    /// Takes memory for so many more records with so many keys.
    pub(super) fn reserve(&mut self, records: usize, keys: usize) {
        self.brought.slots.reserve(records);
        self.brought.names.reserve(2 * records);
        self.brought.keys.reserve(keys);
    }

    /// Adds a record that no other part has; gives the number of its keys.
    pub(super) fn add(&mut self, known: &Known) -> usize {
        let packed = {
            let domains = self.builder.domains.lock();
            packed(known, &mut domains.unwrap_or_else(PoisonError::into_inner))
        };
        let slot = Slot {
            tag: known.tag,
            linkage: known.linkage,
            packed,
        };
        self.push(slot, &known.traits)
    }

    fn push(&mut self, slot: Slot, traits: &Traits) -> usize {
        let id = self.builder.next.fetch_add(1, Ordering::Relaxed);
        let keys = all_keys(traits);
        for key in &keys {
            self.brought.keys.push(*key, id);
        }
        self.brought.names.push(tag_key(&slot.tag), id);
        self.brought.names.push(person_key(slot.linkage), id);
        self.brought.slots.push((id, slot));
        keys.len()
    }

    /// What it brought.
    pub(super) fn end(self) -> Brought {
        self.brought
    }
}
