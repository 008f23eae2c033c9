//! Document metadata and content: registry and repository.

mod codes;
mod content;
mod count;
pub mod ebxml;
mod faults;
mod holders;
mod lifecycle;
mod on_demand;
mod profile;
mod provide;
mod query;
mod referrals;
mod register;
mod retrieve;
mod service;
pub(crate) mod tables;
#[doc(hidden)]
pub mod targets;
mod validate;
mod watch;

#[cfg(test)]
mod tests;

pub use codes::{CodeInUse, codes_in_use};
pub use holders::Patients;
pub use on_demand::{Fresh, Made, Maker, Order};
pub use provide::Provision;
pub use query::{Found, MAX_PAGE, Page, facts_of};
pub use referrals::{Letter, Listed};
pub use register::{Attach, Checked, Withdrawn};
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
        .table::<tables::RemovedRow>()
        .table::<referrals::ReferralRow>()
}
