//! Whose documents are here: what the parent's locator is told, and compared with.

use std::collections::HashSet;

use crate::error::Result;
use crate::identity::identifier;
use crate::store::{Commit, Row as _, Write};
use crate::types::PatientIdentifier;

use super::Documents;
use super::tables::EntryRow;

/// More octets than follow the patient's in a cursor over entries by patient: past all of the patient's.
const PAST: [u8; 48] = [u8::MAX; 48];

/// Patients in an order that changes do not change, and where to go on; nowhere after the last.
pub type Patients = (Vec<PatientIdentifier>, Option<Vec<u8>>);

impl Documents {
    /// Up to `limit` patients of whom entries are registered here, whatever their status, each once.
    ///
    /// # Errors
    /// The store.
    pub fn patients(&self, after: Option<&[u8]>, limit: usize) -> Result<Patients> {
        let mut patients = Vec::new();
        let mut after = after.map(<[u8]>::to_vec);
        while patients.len() < limit {
            let (store, index) = (&self.store, EntryRow::BY_PATIENT);
            let mut next = store.by_index::<EntryRow>(index, &[], after.as_deref(), 1)?;
            let Some((_, found)) = next.pop() else {
                return Ok((patients, None));
            };
            let patient = found.row.entry.and_then(|entry| entry.patient_id);
            // What is registered has a patient; a row of another kind has nothing to tell.
            if let Ok(patient) = identifier(patient.as_ref(), "patient_id") {
                patients.push(patient);
            }
            let mut past = found.row.patient;
            past.extend_from_slice(&PAST);
            after = Some(past);
        }
        Ok((patients, after))
    }

    /// Commits the rows that `rows` gives for whether entries of the patient are registered here: none is
    /// registered or removed meanwhile. Gives whether there are.
    ///
    /// # Errors
    /// The store.
    pub async fn tell(
        &self,
        patient: &PatientIdentifier,
        rows: impl FnOnce(bool) -> Vec<Write>,
    ) -> Result<bool> {
        let tag = self.store.keys().patient_tag(patient);
        let _turn = self.turns.of(std::iter::once(tag.as_slice())).await;
        let (store, index) = (&self.store, EntryRow::BY_PATIENT);
        let held = !store.by_index::<EntryRow>(index, &tag, None, 1)?.is_empty();
        let writes = rows(held);
        if !writes.is_empty() {
            let commit = Commit {
                writes,
                ..Commit::default()
            };
            let _committed = self.store.commit(commit).await?;
        }
        Ok(held)
    }

    /// Whether `writes`, which nothing of the patient comes before, leave no entry of the patient. One that
    /// also writes entries is taken to leave some.
    pub(super) fn none_is_left(&self, patient: &[u8], writes: &[Write]) -> Result<bool> {
        let entries = || writes.iter().filter(|write| write.table == EntryRow::TABLE);
        if entries().any(|write| write.value.is_some()) {
            return Ok(false);
        }
        let gone: HashSet<&[u8]> = entries().map(|write| write.key.as_slice()).collect();
        let (store, index) = (&self.store, EntryRow::BY_PATIENT);
        // If there are more than go, one stays.
        let there = store.by_index::<EntryRow>(index, patient, None, gone.len() + 1)?;
        let goes = |row: &EntryRow| gone.contains(row.key().as_slice());
        Ok(there.iter().all(|(_, found)| goes(&found.row)))
    }
}
