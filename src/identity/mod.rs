//! Patients: demographics, matching, cross-references between assigning authorities.

mod changes;
pub mod compare;
mod decide;
mod demands;
mod evidence;
mod history;
mod linkage;
mod load;
pub mod matching;
mod merged;
mod narrow;
mod overlay;
mod people;
mod placement;
mod pseudonym;
mod review;
mod search;
mod service;
pub(crate) mod tables;
mod traits;
mod undo;
mod view;
mod watch;

pub use changes::{Ask, Changed, Reach, Touched};
pub use decide::Decision;
pub use demands::Demands;
pub use history::Told;
pub use load::{BATCH, Load, LoadItem};
pub use matching::chosen::choose as choose_model;
pub use narrow::{ADDRESS_BITS, Narrowing};
pub use people::Resolved;
pub use service::{Identity, Still};
pub use traits::{identifier, identifier_message, traits as traits_of};
pub use watch::{Interest, SetChange};

use crate::error::{Error, Reason};
use crate::store::Schema;

use self::linkage::{EventId, Refusal};

/// Adds identity's tables to a schema.
pub fn tables(schema: Schema) -> Schema {
    schema
        .table::<tables::PatientRow>()
        .table::<tables::ReviewRow>()
        .table::<tables::LinkEventRow>()
        .table::<tables::RetiredRow>()
        .table::<tables::LoadRow>()
}

/// The id of a new event or task.
fn new_event() -> EventId {
    *uuid::Uuid::now_v7().as_bytes()
}

/// An id of 16 bytes as text.
fn text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes)
        .map(|id| id.to_string())
        .unwrap_or_default()
}

/// A refusal as a caller sees it.
fn refused(refusal: Refusal) -> Error {
    let reason = match refusal {
        Refusal::Unknown => Reason::UnknownPatient,
        Refusal::Same | Refusal::OtherDomain | Refusal::Groups => Reason::InvalidField,
        Refusal::Subsumed | Refusal::Linked | Refusal::NotLinked | Refusal::Merged => {
            Reason::WrongState
        }
        Refusal::Marked => Reason::HeldApart,
    };
    Error::new(reason, refusal.to_string())
}
