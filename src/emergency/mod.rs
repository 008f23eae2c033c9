//! The minimal patient summary.
