//! Who may do what: the one decision point, and break-glass grants (INV-3).
//!
//! [`decide`] is pure. What it rests on is gathered by the gateway: the caller by `api::authn`, the
//! directives by `consent`, the grant by `emergency`.

mod call;
mod caller;
mod commit;
mod decide;
mod directives;
mod permit;

#[cfg(test)]
mod tests;

pub use call::Call;
pub use caller::{Caller, Participant, ParticipantKind, Person};
pub use decide::{Action, Denial, Facts, Sensitivity, decide};
pub use directives::{Answer, Directive, Grantee, Question, Stance, evaluate};
pub use permit::{Grant, Permit};
