//! Records that were merged away, in memory: few, and asked for on every decision about a person.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::store::{AppliedWrite, Follower, Row as _, Sequence, Store, StoreError};
use crate::types::{LinkageId, PatientIdentifier};

use super::search::PatientTag;
use super::tables::PatientRow;
use super::traits::identifier;

/// Rows read at once while the map is filled.
const PAGE: usize = 512;

/// One record that was merged away.
#[derive(Clone)]
pub(crate) struct MergedRecord {
    /// The record it was merged into.
    pub(crate) survivor: PatientTag,
    /// The person of both.
    pub(crate) linkage: LinkageId,
    /// Its identifier, and the community that fed it.
    pub(crate) identifier: (PatientIdentifier, Arc<str>),
    /// Records a steward holds apart from it.
    pub(crate) not_same: Vec<PatientTag>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Subsumed {
    records: HashMap<PatientTag, MergedRecord>,
    by_linkage: BTreeMap<LinkageId, Vec<PatientTag>>,
}

/// What a row says of merging; the rest of it is not decoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(bytes = "vec", tag = "6")]
    merged_into: Vec<u8>,
}

impl Subsumed {
    /// The record with this tag, if it was merged away.
    pub(crate) fn get(&self, tag: &PatientTag) -> Option<&MergedRecord> {
        self.records.get(tag)
    }

    /// The record that a record answers to: itself, if it was not merged away.
    pub(crate) fn root(&self, tag: PatientTag) -> PatientTag {
        let mut root = tag;
        // No longer than there are merges: a chain never closes.
        for _ in 0..self.records.len() {
            match self.records.get(&root) {
                Some(record) => root = record.survivor,
                None => break,
            }
        }
        root
    }

    /// The records of a person that were merged away.
    pub(crate) fn of(
        &self,
        linkage: LinkageId,
    ) -> impl Iterator<Item = (&PatientTag, &MergedRecord)> {
        let tags = self.by_linkage.get(&linkage).into_iter().flatten();
        tags.filter_map(|tag| self.records.get_key_value(tag))
    }

    fn put(&mut self, tag: PatientTag, record: MergedRecord) {
        self.remove(&tag);
        self.by_linkage.entry(record.linkage).or_default().push(tag);
        self.records.insert(tag, record);
    }

    fn remove(&mut self, tag: &PatientTag) {
        if let Some(record) = self.records.remove(tag)
            && let Some(tags) = self.by_linkage.get_mut(&record.linkage)
        {
            tags.retain(|other| other != tag);
            if tags.is_empty() {
                self.by_linkage.remove(&record.linkage);
            }
        }
    }
}

/// The map behind its lock.
#[derive(Default)]
pub(crate) struct Merged(RwLock<Subsumed>);

impl Merged {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Subsumed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the records that were merged away.
    ///
    /// # Errors
    /// What reading the table reports.
    pub(crate) fn fill(&self, store: &Store) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let index = PatientRow::BY_SURVIVOR;
            let page = store.by_index::<PatientRow>(index, &[], after.as_deref(), PAGE)?;
            for (_, found) in &page {
                self.put_row(&found.row);
            }
            match page.into_iter().last() {
                Some((cursor, _)) => after = Some(cursor),
                None => return Ok(()),
            }
        }
    }

    fn put_row(&self, row: &PatientRow) {
        let Ok(record) = row.record() else {
            tracing::error!("a patient row that cannot be read");
            return;
        };
        let mut merged = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = identifier(row.identifier(), "identifier").ok();
        match (record.merged, known) {
            (Some((survivor, _)), Some(known)) => {
                let community = row
                    .patient
                    .as_ref()
                    .map(|one| one.home_community_id.as_str());
                let one = MergedRecord {
                    survivor,
                    linkage: record.linkage,
                    identifier: (known, community.unwrap_or_default().into()),
                    not_same: record.not_same.into_iter().collect(),
                };
                merged.put(record.tag, one);
            }
            _ => merged.remove(&record.tag),
        }
    }
}

impl Follower for Merged {
    fn applied(&self, _: Sequence, writes: &[AppliedWrite]) {
        use prost::Message as _;
        let patients = writes
            .iter()
            .filter(|write| write.table == PatientRow::TABLE);
        for write in patients {
            let Ok(tag) = PatientTag::try_from(write.key.as_ref()) else {
                continue;
            };
            let merged = write
                .value
                .as_ref()
                .and_then(|value| Head::decode(value.as_ref()).ok())
                .is_some_and(|head| !head.merged_into.is_empty());
            if merged && let Ok(Some(row)) = write.row::<PatientRow>() {
                self.put_row(&row);
            } else if self.read().get(&tag).is_some() {
                let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
                all.remove(&tag);
            }
        }
    }
}

impl std::fmt::Debug for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Merged")
    }
}
