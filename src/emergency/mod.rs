//! The minimal patient summary (救急時医療情報): identify with little, break the glass, merge what the
//! regions hold.

mod care;
mod choice;
pub mod compose;
mod disasters;
pub mod extract;
pub mod forms;
mod grants;
mod heard;
mod identify;
mod kept;
pub mod merge;
mod on_demand;
mod questions;
mod readings;
mod service;
mod summary;
mod tables;

pub use care::CareRecords;
pub use disasters::Disasters;
pub use grants::Grants;
pub use identify::Candidates;
pub use service::{Emergency, Parts, asked_patients};
pub use summary::Asking;

use crate::store::Schema;

/// Adds the tables of emergency access to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::GrantRow>()
        .table::<tables::DisasterRow>()
        .table::<tables::ReadingRow>()
        .table::<care::CareRow>()
}
