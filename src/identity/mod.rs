//! Patients: demographics, matching, cross-references between assigning authorities.

pub mod compare;
mod evidence;
pub mod matching;
mod search;
mod service;
pub(crate) mod tables;
mod traits;

pub use service::Identity;
pub use traits::{identifier, identifier_message, traits as traits_of};

use crate::store::Schema;

/// Adds identity's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::PatientRow>()
        .table::<tables::ReviewRow>()
}
