//! How much is filed under some patients, for those who are about to join or part them.

use crate::error::Result;
use crate::types::PatientIdentifier;

use super::service::Documents;
use super::tables::EntryRow;

/// Entries counted of one patient at most.
const MAX_COUNTED: usize = 10_000;

impl Documents {
    /// The number of documents registered here for these patients, at most 10,000 of each.
    ///
    /// # Errors
    /// The store.
    pub fn count(&self, patients: &[PatientIdentifier]) -> Result<u32> {
        let mut count = 0;
        for patient in patients {
            let tag = self.store.keys().patient_tag(patient);
            let index = EntryRow::BY_PATIENT;
            let entries = self
                .store
                .by_index::<EntryRow>(index, &tag, None, MAX_COUNTED)?;
            count += entries.len();
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
