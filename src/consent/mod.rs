//! Recorded consent: what patients said, kept whole and with its history.
//!
//! Evaluation is `access`'s ([`crate::access::evaluate`]).

mod guard;
mod service;

pub use guard::{About, Guard, Persons};
pub use service::Consents;

use crate::store::Schema;

/// Adds consent's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema.table::<service::ConsentRow>()
}
