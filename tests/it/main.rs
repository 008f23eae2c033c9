//! Integration tests: everything from outside of the crate, as one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests panic on failure"
)]

mod architecture;
mod audit;
mod audit_chaos;
mod audit_durable;
mod audit_foreign;
mod audit_methods;
mod audit_random;
mod audit_sinks;
mod audit_witness;
mod demo;
mod deploy;
mod documents_corpus;
mod documents_read;
mod durability;
mod edge;
mod edge_full;
mod edge_handshakes;
mod edge_limits;
mod edge_reload;
mod edge_tls;
mod edge_token;
mod emergency;
mod emergency_care;
mod emergency_cases;
mod emergency_identify;
mod emergency_kept;
mod emergency_notices;
mod errors;
mod federation;
mod federation_clocks;
mod federation_direct;
mod federation_directory;
mod federation_discovery;
mod federation_forward;
mod federation_locator;
mod federation_watch;
mod federation_wide;
mod full_disk;
mod idempotency;
mod idempotency_table;
mod identities;
mod linkage;
mod on_demand;
mod policy;
mod proto_lint;
mod purge;
mod registry;
mod shared;
mod storage;
mod store_command;
mod store_versions;
mod support;
mod two_worlds;
