//! The search index: in memory, rebuilt from the patient table at start, kept current by the
//! committer (a [`Follower`]). Nothing personal is persisted by it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::{AppliedWrite, Follower, Row as _, Sequence, Store, StoreError};
use crate::types::{LinkageId, PatientIdentifier};

use super::compare::{NameKey, Traits};
use super::matching::cluster::{self, Hashed};
use super::matching::keys;
use super::tables::PatientRow;
use super::traits::{identifier, traits};

/// A patient's tag: keyed hash of the identifier.
pub(crate) type PatientTag = [u8; 16];

/// Postings a key may have before it alone is too common to block on.
const MAX_POSTINGS: usize = 2_000;

/// Parts of the patient table by the first byte of the tag.
const PARTS: usize = 256;
/// Records put under one taking of the lock while the index is filled.
const FILL_AT_ONCE: usize = 256;

/// One record, as the index knows it.
pub(crate) struct Entry {
    pub(crate) tag: PatientTag,
    /// The identifier and its community, once the record is committed. A record without is one whose
    /// feed is still on its way to the disk: matching sees it, queries do not.
    pub(crate) shown: Option<(PatientIdentifier, Arc<str>)>,
    pub(crate) linkage: LinkageId,
    pub(crate) traits: Traits,
    pub(crate) not_same: Vec<PatientTag>,
}

/// Records under one key: most keys have one.
#[derive(Debug)]
enum Postings {
    One(u32),
    Many(Vec<u32>),
}

impl Postings {
    fn ids(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }

    fn push(&mut self, id: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, id]),
            Self::Many(ids) => ids.push(id),
        }
    }

    /// Whether anything is left without `id`.
    fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::One(only) => *only != id,
            Self::Many(ids) => {
                ids.retain(|other| *other != id);
                !ids.is_empty()
            }
        }
    }
}

impl Entry {
    fn new(
        tag: PatientTag,
        shown: Option<(PatientIdentifier, Arc<str>)>,
        linkage: LinkageId,
        traits: Traits,
        not_same: Vec<PatientTag>,
    ) -> Self {
        Self {
            tag,
            shown,
            linkage,
            traits,
            not_same,
        }
    }
}

/// Everything searchable.
#[derive(Default)]
pub(crate) struct Index {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_tag: HashMap<PatientTag, u32>,
    by_linkage: HashMap<LinkageId, Postings>,
    postings: HashMap<u64, Postings, BuildHasherDefault<Hashed>>,
}

impl Index {
    /// The record with this tag.
    pub(crate) fn get(&self, tag: &PatientTag) -> Option<&Entry> {
        self.at(*self.by_tag.get(tag)?)
    }

    /// The records of a person.
    pub(crate) fn members(&self, linkage: LinkageId) -> impl Iterator<Item = &Entry> {
        self.by_linkage
            .get(&linkage)
            .into_iter()
            .flat_map(Postings::ids)
            .filter_map(|id| self.at(*id))
    }

    /// The linkage id of a committed record.
    pub(crate) fn linkage(&self, tag: &PatientTag) -> Option<LinkageId> {
        self.get(tag)
            .filter(|entry| entry.shown.is_some())
            .map(|entry| entry.linkage)
    }

    /// The committed identifiers of a person, with their communities.
    pub(crate) fn identifiers(&self, linkage: LinkageId) -> Vec<(PatientIdentifier, Arc<str>)> {
        self.members(linkage)
            .filter_map(|entry| entry.shown.clone())
            .collect()
    }

    /// Records sharing at least one linking key; each once.
    pub(crate) fn candidates(&self, traits: &Traits) -> Vec<&Entry> {
        self.up_to(&linking_keys(traits), cluster::MAX_POSTINGS)
    }

    /// Records under any of these keys; each once. A key with too many postings is passed over.
    pub(crate) fn under(&self, keys: &[u64]) -> Vec<&Entry> {
        self.up_to(keys, MAX_POSTINGS)
    }

    fn up_to(&self, keys: &[u64], most: usize) -> Vec<&Entry> {
        let mut seen = HashSet::new();
        keys.iter()
            .filter_map(|key| self.postings.get(key).map(Postings::ids))
            .filter(|ids| ids.len() <= most)
            .flatten()
            .filter(|id| seen.insert(**id))
            .filter_map(|id| self.at(*id))
            .collect()
    }

    /// Whether one of these keys is too common to search by.
    pub(crate) fn too_common(&self, keys: &[u64]) -> bool {
        keys.iter().any(|key| {
            self.postings
                .get(key)
                .is_some_and(|postings| postings.ids().len() > MAX_POSTINGS)
        })
    }

    /// Adds or replaces a record.
    pub(crate) fn put(
        &mut self,
        tag: PatientTag,
        shown: Option<(PatientIdentifier, Arc<str>)>,
        linkage: LinkageId,
        traits: Traits,
        not_same: Vec<PatientTag>,
    ) {
        self.replace(Entry::new(tag, shown, linkage, traits, not_same));
    }

    /// Adds or replaces a record; one that is known just so is only shown.
    fn replace(&mut self, entry: Entry) {
        if let Some(id) = self.by_tag.get(&entry.tag)
            && let Some(Some(known)) = self.entries.get_mut(*id as usize)
            && known.linkage == entry.linkage
            && known.traits == entry.traits
            && known.not_same == entry.not_same
        {
            known.shown = entry.shown;
            return;
        }
        self.insert(entry);
    }

    /// Takes memory for so many records and keys at once.
    fn reserve(&mut self, records: usize, keys: usize) {
        self.entries.reserve(records);
        self.by_tag.reserve(records);
        self.by_linkage.reserve(records);
        // About half of the keys are those of one record only; the others are shared.
        self.postings.reserve(keys / 2);
    }

    fn insert(&mut self, entry: Entry) {
        let keys = all_keys(&entry.traits);
        self.insert_under(entry, &keys);
    }

    fn insert_under(&mut self, entry: Entry, keys: &[u64]) {
        self.remove(&entry.tag);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        for key in keys {
            add_to(&mut self.postings, *key, id);
        }
        self.by_tag.insert(entry.tag, id);
        add_to(&mut self.by_linkage, entry.linkage, id);
        if let Some(slot) = self.entries.get_mut(id as usize) {
            *slot = Some(entry);
        }
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, tag: &PatientTag) {
        let Some(id) = self.by_tag.remove(tag) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        // Made again: kept, they would be half of what a record takes.
        for key in all_keys(&entry.traits) {
            drop_from(&mut self.postings, &key, id);
        }
        drop_from(&mut self.by_linkage, &entry.linkage, id);
        self.free.push(id);
    }

    fn at(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize).and_then(Option::as_ref)
    }
}

fn add_to<K: Hash + Eq, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, Postings, S>,
    key: K,
    id: u32,
) {
    map.entry(key)
        .and_modify(|postings| postings.push(id))
        .or_insert(Postings::One(id));
}

fn drop_from<K: Hash + Eq, S: std::hash::BuildHasher>(
    map: &mut HashMap<K, Postings, S>,
    key: &K,
    id: u32,
) {
    if let Some(postings) = map.get_mut(key)
        && !postings.remove(id)
    {
        map.remove(key);
    }
}

fn hash(kind: u8, parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Keys under which two records of one person are likely to meet; each needs two facts.
fn linking_keys(traits: &Traits) -> Vec<u64> {
    keys::keys(traits).into_iter().map(|(_, key)| key).collect()
}

/// What a search may go by alone, and the number that keeps its keys apart.
#[derive(Clone, Copy)]
enum By {
    Whole,
    Policy,
    Phone,
    Birth,
    Family,
    Given,
}

/// The less telling keys of a record, the most telling first: a whole name, a policy, a telephone, a
/// birth date, a family name, a given name.
const PLANS: [By; 6] = [
    By::Whole,
    By::Policy,
    By::Phone,
    By::Birth,
    By::Family,
    By::Given,
];

fn keys_by(traits: &Traits, by: By) -> Vec<u64> {
    let of_names = |of: fn(&NameKey) -> String| {
        let names = traits.names().map(|(script, name)| (script, of(name)));
        let known = names.filter(|(_, name)| !name.is_empty());
        known
            .map(|(script, name)| hash(by as u8, (script, name)))
            .collect()
    };
    match by {
        By::Whole => of_names(NameKey::joined),
        By::Family => of_names(|name| name.family.to_string()),
        By::Given => of_names(|name| name.given.to_string()),
        By::Policy => {
            let policies = traits.policies.iter();
            policies
                .map(|policy| hash(by as u8, &policy.number))
                .collect()
        }
        By::Phone => traits
            .phones
            .iter()
            .map(|phone| hash(by as u8, phone))
            .collect(),
        By::Birth => traits
            .birth
            .iter()
            .map(|birth| hash(by as u8, birth))
            .collect(),
    }
}

/// Every key of a record, each once: those by which it is linked, and those by which a person may be
/// searched with little.
fn all_keys(traits: &Traits) -> Vec<u64> {
    let mut keys = linking_keys(traits);
    keys.extend(PLANS.iter().flat_map(|by| keys_by(traits, *by)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The keys a search goes by, the most telling first: each list is tried until one finds somebody.
pub(crate) fn plans(traits: &Traits) -> Vec<Vec<u64>> {
    let mut plans = vec![linking_keys(traits)];
    plans.extend(PLANS.iter().map(|by| keys_by(traits, *by)));
    plans.retain(|keys| !keys.is_empty());
    plans
}

/// The index behind its lock.
#[derive(Default)]
pub(crate) struct Search(RwLock<Index>);

impl Search {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a record whose feed failed before it was committed.
    pub(crate) fn forget_pending(&self, tag: &PatientTag) {
        let mut index = self.write();
        if index.get(tag).is_some_and(|entry| entry.shown.is_none()) {
            index.remove(tag);
        }
    }

    /// Puts every row of the patient table. Computing what is searched by takes most of the time,
    /// so all processors do it.
    ///
    /// # Errors
    /// What reading the table reports.
    pub(crate) fn fill(&self, store: &Store) -> Result<(), StoreError> {
        // A tag is a keyed hash: every first byte has as many as another.
        let (next, room) = (AtomicU16::new(0), Once::new());
        let fill = || -> Result<(), StoreError> {
            let mut entries = Vec::with_capacity(FILL_AT_ONCE);
            while let Ok(part) = u8::try_from(next.fetch_add(1, Ordering::Relaxed)) {
                let (mut rows, mut keys) = (0, 0);
                store.scan_under::<PatientRow>(&[part], &mut |found| {
                    if let Some(entry) = prepare(&found.row) {
                        let under = all_keys(&entry.traits);
                        (rows, keys) = (rows + 1, keys + under.len());
                        entries.push((entry, under));
                    }
                    if entries.len() == FILL_AT_ONCE {
                        self.insert_all(&mut entries);
                    }
                    Ok(())
                })?;
                room.call_once(|| self.write().reserve(rows * PARTS, keys * PARTS));
            }
            self.insert_all(&mut entries);
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(fill)).collect();
            workers.into_iter().try_for_each(|worker| {
                let panicked = || StoreError::Index("filling the search index panicked".to_owned());
                worker.join().unwrap_or_else(|_| Err(panicked()))
            })
        })
    }

    fn insert_all(&self, entries: &mut Vec<(Entry, Vec<u64>)>) {
        let mut index = self.write();
        for (entry, keys) in entries.drain(..) {
            index.insert_under(entry, &keys);
        }
    }

    /// Puts a row of the patient table.
    pub(crate) fn put_row(&self, row: &PatientRow) {
        match prepare(row) {
            Some(entry) => self.write().replace(entry),
            None => {
                if let Ok(tag) = PatientTag::try_from(row.tag.as_slice()) {
                    self.write().remove(&tag);
                }
            }
        }
    }
}

/// What is searched by; `None` for a record that is withdrawn, or not readable.
fn prepare(row: &PatientRow) -> Option<Entry> {
    let tag = PatientTag::try_from(row.tag.as_slice()).ok()?;
    let linkage = <[u8; 16]>::try_from(row.linkage.as_slice()).ok()?;
    let patient = row.patient.as_ref().filter(|patient| !patient.inactive)?;
    let known = patient
        .demographics
        .as_ref()
        .map(traits)
        .unwrap_or_default();
    let not_same = row
        .not_same
        .iter()
        .filter_map(|tag| tag.as_slice().try_into().ok());
    let Ok(identifier) = identifier(patient.identifier.as_ref(), "identifier") else {
        tracing::error!("a patient row without a readable identifier");
        return None;
    };
    let shown = Some((identifier, patient.home_community_id.as_str().into()));
    let linkage = LinkageId::from_bytes(linkage);
    Some(Entry::new(tag, shown, linkage, known, not_same.collect()))
}

impl Follower for Search {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        for write in writes
            .iter()
            .filter(|write| write.table == PatientRow::TABLE)
        {
            match (
                write.row::<PatientRow>(),
                PatientTag::try_from(write.key.as_ref()),
            ) {
                (Ok(Some(row)), _) => self.put_row(&row),
                (Ok(None), Ok(tag)) => self.write().remove(&tag),
                _ => tracing::error!("a patient row could not be indexed"),
            }
        }
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Search")
    }
}
