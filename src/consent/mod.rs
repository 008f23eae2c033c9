//! Consent directives, and their evaluation as a pure function.
