//! `renkei demo`: the main job in one command.

pub mod sample;
