//! Integration tests: everything from outside of the crate, as one binary.

mod proto_lint;
