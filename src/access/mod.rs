//! Who may do what: the one decision point, and break-glass grants (INV-3).
//!
//! [`decide`] does no I/O. What it rests on is gathered by the gateway: the caller by `api::authn`,
//! the directives by `consent`, the grant by `emergency`. The policies are files (`policies/`).

mod call;
mod caller;
mod classes;
mod commit;
mod decide;
mod directives;
mod exposure;
mod lease;
pub mod matrix;
mod methods;
mod pass;
mod permit;
pub mod policy;
mod scenario;
pub mod two_people;

#[cfg(test)]
mod tests;

pub use call::Call;
pub use caller::{Caller, Participant, ParticipantKind, Person};
pub use classes::{Classes, DataClass};
pub use decide::{Action, Denial, Facts, GrantState, View, decide};
pub use directives::{
    Answer, ConsentState, Days, Directive, Discloser, DocumentFacts, Grantee, Question, Stance,
    evaluate,
};
pub use exposure::Exposure;
pub use lease::Lease;
pub use methods::{METHODS, declared, is_emergency, is_served_on_a_full_disk};
pub use pass::Pass;
pub use permit::{Grant, Permit};
pub use policy::{Obligation, Policies, PolicyHandle, PolicyVersion};
pub use scenario::{Case, Cases, Explanation, Scenario, ScenarioDocument};
