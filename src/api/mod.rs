//! The doors. They translate; no rule lives here.

pub mod grpc;
