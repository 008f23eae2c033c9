//! Who takes part: communities, institutions, their certificates and endpoints.
//!
//! Operators apply it at the hub; regions adopt the hub's, which it signs. A certificate is bound to a member by its
//! pin or its number (issuer and serial), never by its DN alone (`spec` japan §1.7).

mod authn;
mod hours;
mod service;
mod signed;
mod snapshot;
mod suspended;
mod suspicion;

#[cfg(test)]
mod signed_tests;
#[cfg(test)]
mod tests;

pub use authn::{Arrival, Authenticator, Peer as CertifiedPeer, Unauthenticated};
pub use hours::planned_absence;
pub use service::Directory;
pub use signed::{KEPT, RENEWED};
pub use snapshot::{Answers, Peer, Snapshot};
pub use suspicion::Suspicion;

use crate::store::Schema;

/// Adds the directory's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<service::MemberRow>()
        .table::<service::VersionRow>()
        .table::<suspended::SuspendedRow>()
}
