//! What happened: one event for every call, in the same ledger frame as the change it reports, or
//! durable before the first byte it discloses (INV-2); and the log of them, which can be checked
//! from outside (`docs/audit-log.md`).

pub mod check;
mod derived;
pub mod detect;
mod event;
pub mod fhir;
pub mod leaf;
mod log;
pub mod map;
pub mod merkle;
pub mod note;
mod read;
mod record;
mod signer;
mod state;
pub mod syslog;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod witness;

pub use event::{declared_event, is_declared, purpose};
pub use leaf::Receipt;
pub use log::{Log, LogOptions, Proven, Signed};
pub use read::{Audit, Filter, Page, Report, Told, event_of, inclusion_message, map_message};
pub use record::{Outcome, Record, Who};
pub use signer::Signer;
pub use state::{State, patient_tag};
