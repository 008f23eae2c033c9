//! The wire contract: generated protobuf, and its conversion to and from [`crate::types`].

/// Everything generated from `proto/`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

/// The descriptors of everything in `proto/`, with comments; for server reflection and linting.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
