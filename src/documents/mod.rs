//! Document metadata and content: registry and repository.

mod count;
mod filter;
mod provide;
mod retrieve;
mod service;
pub(crate) mod tables;
mod validate;

#[cfg(test)]
mod tests;

pub use provide::Provision;
pub use retrieve::{Parts, document_ref};
pub use service::{Documents, Found, MAX_PAGE, Page};

use crate::store::Schema;

/// Adds the tables of documents to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::EntryRow>()
        .table::<tables::UniqueRow>()
        .table::<tables::SubmissionRow>()
}
