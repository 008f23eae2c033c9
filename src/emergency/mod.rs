//! The minimal patient summary.
//!
//! [`extract`] takes facts out of one document, [`merge`] folds the facts of all documents into
//! one summary. Both are pure: no I/O and no clock.

pub mod extract;
pub mod merge;
