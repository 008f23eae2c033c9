//! How much of a test is done: `RENKEI_TIER=quick|full|soak`, quick if unset.

/// An environment variable of the test run.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

/// The count for the tier that was chosen.
pub(crate) fn count(quick: u64, full: u64, soak: u64) -> u64 {
    match variable("RENKEI_TIER").as_deref() {
        None | Some("quick") => quick,
        Some("full") => full,
        Some("soak") => soak,
        Some(other) => panic!("RENKEI_TIER={other}: quick, full or soak"),
    }
}

/// splitmix64: enough to choose by, and the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From `RENKEI_SEED`, or by chance; printed, so that a failure can be had again.
    pub(crate) fn new() -> Self {
        let chosen = variable("RENKEI_SEED").map(|seed| seed.parse().unwrap());
        let seed = chosen
            .unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(nanoseconds()));
        println!("RENKEI_SEED={seed}");
        Self(seed)
    }

    /// Dice of their own for the `number`th of many.
    pub(crate) fn of(&self, number: u64) -> Self {
        let mut dice = Self(self.0 ^ number.wrapping_mul(0x2545_F491_4F6C_DD1D));
        dice.below(1);
        dice
    }

    /// Below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    /// A place in, or just behind, `length` octets.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64 + 1)).unwrap()
    }

    /// An octet.
    pub(crate) fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn nanoseconds() -> u32 {
    use renkei::clock::{Clock as _, SystemClock};
    SystemClock.now().subsec_nanosecond().unsigned_abs()
}
