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

/// An environment variable of the test run.
fn variable(name: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

/// The count for the tier that was chosen.
fn count(quick: u64, full: u64, soak: u64) -> u64 {
    match variable("RENKEI_TIER").as_deref() {
        None | Some("quick") => quick,
        Some("full") => full,
        Some("soak") => soak,
        Some(other) => panic!("RENKEI_TIER={other}: quick, full or soak"),
    }
}

/// A line of the summary that the full tier shows.
fn summary(bars: &str, text: &str) {
    println!("bar {bars}: {text}");
}

/// Says that a test has checked nothing.
fn skip(why: &str) {
    println!("SKIPPED: {why}");
    eprintln!("\n!!! SKIPPED, NOTHING WAS CHECKED: {why}\n");
}

/// splitmix64: enough to choose moments, and the same for the same seed.
struct Dice(u64);

impl Dice {
    /// From `RENKEI_SEED`, or by chance; printed, so that a failure can be had again.
    fn new() -> Self {
        let chosen = variable("RENKEI_SEED").map(|seed| seed.parse().unwrap());
        let seed = chosen
            .unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(nanoseconds()));
        println!("RENKEI_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

fn nanoseconds() -> u32 {
    use renkei::clock::{Clock as _, SystemClock};
    SystemClock.now().subsec_nanosecond().unsigned_abs()
}
