//! The minimal patient summary (救急時医療情報): identify with little, break the glass, merge what the
//! regions hold.

pub mod compose;
mod disasters;
pub mod extract;
pub mod forms;
mod grants;
mod heard;
mod identify;
pub mod merge;
mod on_demand;
mod service;
mod tables;

pub use disasters::Disasters;
pub use grants::Grants;
pub use identify::Candidates;
pub use service::{Emergency, asked_patients};

use crate::store::Schema;

/// Adds the tables of emergency access to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::GrantRow>()
        .table::<tables::DisasterRow>()
}
