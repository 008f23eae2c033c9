//! Integration tests: everything from outside of the crate, as one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests panic on failure"
)]

mod proto_lint;
mod smoke;
mod support;
