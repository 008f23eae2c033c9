//! Values that must not reach a log.

use std::fmt;

/// A value whose `Debug` prints `[redacted]` (INV-8): demographics, tokens, document content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T>(pub T);

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
