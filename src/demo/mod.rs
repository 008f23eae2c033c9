//! `renkei demo`: the main job in one command, over real processes, sockets and files.

pub mod actor;
pub(crate) mod folder;
pub mod messages;
mod network;
mod process;
mod report;
mod run;
pub mod sample;
mod steps;
pub mod world;

pub use run::{Settings, run};
