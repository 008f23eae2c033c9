//! What happened: one event for every call, in the same ledger frame as the change it reports, or
//! durable before the first byte it discloses (INV-2).

mod event;
mod read;
mod record;

pub use event::purpose;
pub use read::{Audit, Filter};
pub use record::{Outcome, Record, Who};
