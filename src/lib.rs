//! Renkei (連携): an EHR interconnection gateway.
//!
//! One binary plays every role: national hub, regional gateway, hub-hosted region. See
//! `ARCHITECTURE.md` for the data flow and for which module may use which.

pub mod access;
pub mod api;
pub mod audit;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod demo;
pub mod directory;
pub mod documents;
pub mod edge;
pub mod emergency;
pub mod error;
pub mod federation;
pub mod gateway;
pub mod identity;
pub mod pki;
pub mod planted;
pub mod purge;
pub mod server;
pub mod store;
pub mod token;
pub mod types;
pub mod wire;
pub mod xml;
