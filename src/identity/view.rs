//! The persons a change concerns, out of the store and back.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Store, Versioned, Write};
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::linkage::{Event, State};
use super::search::PatientTag;
use super::tables::{PatientRow, RetiredRow, sixteen};
use super::traits::identifier;

/// Records of one person at most; one more is an error, never a silent gap.
pub(super) const MAX_MEMBERS: usize = 1_000;
/// Retired ids followed at most.
const MAX_HOPS: usize = 256;

/// Some persons, whole, with the rows they come from.
pub(super) struct View {
    rows: BTreeMap<PatientTag, Versioned<PatientRow>>,
    /// What a change is judged against.
    pub(super) state: State,
}

impl View {
    /// The persons of these linkage ids and of these records, whole; of retired ids also the ones they
    /// went into.
    ///
    /// # Errors
    /// [`Reason::TooManyResults`] if a person has more records than are handled; the store.
    pub(super) fn load(store: &Store, linkages: &[LinkageId], tags: &[PatientTag]) -> Result<Self> {
        let mut view = Self {
            rows: BTreeMap::new(),
            state: State::default(),
        };
        let mut wanted: Vec<LinkageId> = linkages.to_vec();
        for tag in tags {
            if let Some(found) = store.get::<PatientRow>(tag)? {
                wanted.push(found.row.record()?.linkage);
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(linkage) = wanted.pop() {
            if !seen.insert(linkage) || seen.len() > MAX_HOPS {
                continue;
            }
            if let Some(retired) = store.get::<RetiredRow>(&linkage.to_bytes())? {
                let into = LinkageId::from_bytes(sixteen(&retired.row.into)?);
                view.state.retired.insert(linkage, into);
                wanted.push(into);
            }
            for found in members(store, linkage)? {
                let record = found.row.record()?;
                view.rows.insert(record.tag, found);
                view.state.records.insert(record.tag, record);
            }
        }
        Ok(view)
    }

    /// Puts a changed record in place of the stored one, to be written with the rest.
    pub(super) fn replace(&mut self, row: PatientRow) {
        if let Ok(tag) = sixteen(&row.tag)
            && let Some(known) = self.rows.get_mut(&tag)
        {
            known.row = row;
        }
    }

    /// Whether the record is known and neither withdrawn nor merged away.
    pub(super) fn is_active(&self, tag: &PatientTag) -> bool {
        let row = self.rows.get(tag).map(|found| &found.row);
        let patient = row.and_then(|row| row.patient.as_ref());
        patient.is_some_and(|patient| !patient.inactive)
    }

    /// A record's identifier.
    pub(super) fn identifier(&self, tag: &PatientTag) -> Option<PatientIdentifier> {
        let row = self.rows.get(tag)?;
        identifier(row.row.identifier(), "identifier").ok()
    }

    /// The identifiers of a person, those merged away included.
    pub(super) fn identifiers(&self, linkage: LinkageId) -> Vec<PatientIdentifier> {
        let members = self.state.members(linkage);
        members
            .filter_map(|record| self.identifier(&record.tag))
            .collect()
    }

    /// The communities whose records these are.
    pub(super) fn communities(&self, linkages: &[LinkageId]) -> BTreeSet<String> {
        let records = linkages.iter().flat_map(|one| self.state.members(*one));
        let rows = records.filter_map(|record| self.rows.get(&record.tag));
        let patients = rows.filter_map(|found| found.row.patient.as_ref());
        patients
            .map(|patient| patient.home_community_id.clone())
            .collect()
    }

    /// Changes the view as the event says; gives the rows to write.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the event is about records that are not in the view.
    pub(super) fn apply(&mut self, event: &Event) -> Result<Vec<Write>> {
        let before = self.state.clone();
        self.state.apply(event);
        let mut writes = Vec::new();
        let moved = event.moves.iter().map(|step| step.tag);
        let moved: BTreeSet<PatientTag> = moved.collect();
        for (tag, record) in &self.state.records {
            if before.records.get(tag) == Some(record) && !moved.contains(tag) {
                continue;
            }
            let survivor = record.merged.and_then(|(survivor, _)| {
                let row = self.rows.get(&survivor)?;
                row.row.identifier().cloned()
            });
            let found = self.rows.get_mut(tag).ok_or_else(|| {
                Error::new(Reason::Internal, "internal error")
                    .caused_by("an event about a record that was not loaded")
            })?;
            found.row.take(record, survivor);
            writes.push(Write::put(&found.row).expecting(Expect::Version(found.version)));
        }
        for (linkage, into) in &event.retired {
            writes.push(Write::put(&RetiredRow {
                linkage: linkage.to_bytes().to_vec(),
                into: into.to_bytes().to_vec(),
                by: event.id.to_vec(),
            }));
        }
        for linkage in &event.restored {
            writes.push(Write::delete::<RetiredRow>(linkage.to_bytes()));
        }
        Ok(writes)
    }
}

/// The records of a person, those withdrawn or merged away included.
///
/// # Errors
/// [`Reason::TooManyResults`] if there are more than are handled; the store.
pub(super) fn members(store: &Store, linkage: LinkageId) -> Result<Vec<Versioned<PatientRow>>> {
    let prefix = linkage.to_bytes();
    let index = PatientRow::BY_LINKAGE;
    let rows = store.by_index::<PatientRow>(index, &prefix, None, MAX_MEMBERS + 1)?;
    if rows.len() > MAX_MEMBERS {
        let message = "the person has more records than can be handled at once";
        return Err(Error::new(Reason::TooManyResults, message));
    }
    Ok(rows.into_iter().map(|(_, found)| found).collect())
}

/// The rows of these records that are patients, for showing.
pub(super) fn patients(rows: Vec<Versioned<PatientRow>>) -> impl Iterator<Item = pb::Patient> {
    rows.into_iter().filter_map(|found| found.row.patient)
}
