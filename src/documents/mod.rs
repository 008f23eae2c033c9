//! Document metadata and content: registry and repository.

mod provide;
mod query;
mod referrals;
mod retrieve;
mod service;
pub(crate) mod tables;
mod validate;
mod watch;

#[cfg(test)]
mod tests;

pub use provide::Provision;
pub use query::{Found, MAX_PAGE, Page};
pub use referrals::{Letter, Listed};
pub use retrieve::{Parts, Range, document_ref};
pub use service::Documents;
pub use watch::{Notice, Subscription};

use crate::store::Schema;

/// Adds the tables of documents to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::EntryRow>()
        .table::<tables::UniqueRow>()
        .table::<tables::SubmissionRow>()
        .table::<tables::FolderRow>()
        .table::<tables::AssociationRow>()
        .table::<referrals::ReferralRow>()
}
