//! Patient matching: pure, deterministic, in memory.
//!
//! normalise → find candidates under capped keys → relate field by field → weigh → guard → cluster
//! without contradictions → a verdict with its explanation. Neither the service nor the store is
//! known here, so that `bench matching` drives the very engine the service does.

pub mod chosen;
pub mod cluster;
pub mod decide;
pub mod keys;
pub mod learn;
pub mod model;
pub mod normalize;
pub mod rarity;
pub mod record;
pub mod relate;
