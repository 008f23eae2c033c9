//! Recorded consent: what patients said, kept whole and with its history.
//!
//! Evaluation is `access`'s ([`crate::access::evaluate`]).

mod changes;
pub mod fhir;
mod guard;
mod service;
mod terms;

pub use guard::{About, Declared, Grounds, Guard, Persons};
pub use service::Consents;

use crate::store::Schema;

/// Adds consent's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema.table::<service::ConsentRow>()
}
