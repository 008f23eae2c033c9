//! The store in processes of its own, which are killed, starved, traced, and cut off from their disk.
//!
//! `RENKEI_TIER=quick|full|soak` chooses how much, `RENKEI_SEED=n` tries one seed again.

mod forgetting;
mod forgetting_disk;
mod kill;
mod limits;
mod receipts;
mod trace;
mod trace_log;
mod uploads;
mod worker;

use crate::support::tier::{Dice, count, variable};

/// A line of the summary that the full tier shows.
fn summary(bars: &str, text: &str) {
    println!("bar {bars}: {text}");
}

/// Says that a test has checked nothing.
fn skip(why: &str) {
    println!("SKIPPED: {why}");
    eprintln!("\n!!! SKIPPED, NOTHING WAS CHECKED: {why}\n");
}
