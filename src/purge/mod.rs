//! Destroying a patient's keys (完全消去): what [`crate::store::Store::purge`] does, behind the word of two
//! people (bars D-21, Z-15).
//!
//! ```text
//! ProposePurge ─► proposal, a day ─► ApprovePurge by another person ─► frame: approved
//!                  └ WithdrawPurge                                      └► carried out ─► frame: done
//! ```
//!
//! The approval is durable before it is acknowledged. What is approved and not done is carried out by the
//! running node, one after another, and again after a restart: destroying keys that are destroyed changes
//! nothing. The proposal stays as a record; whom it was about is sealed under the very key that it
//! destroys, so what stays is the keyed hash.

mod service;
mod tables;

#[cfg(test)]
mod tests;

pub use service::Purges;

use crate::store::Schema;

/// Adds the tables of purges to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::PurgeRow>()
        .table::<tables::PurgedPatientRow>()
}
