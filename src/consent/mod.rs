//! Consent directives, and their evaluation as a pure function.

mod evaluate;

pub use evaluate::{Answer, Directive, Grantee, Question, Stance, evaluate};
