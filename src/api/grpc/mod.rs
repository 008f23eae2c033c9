//! gRPC: one file a service.

mod documents;
mod door;
mod identity;
pub mod status;
