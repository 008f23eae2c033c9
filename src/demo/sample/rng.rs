//! A small seeded generator: the same seed gives the same sample on every machine and release.

/// `SplitMix64`. Not for secrets; chosen because its output never changes with a dependency.
pub(super) struct Rng(u64);

impl Rng {
    /// One stream a concern, so that changing how documents are made leaves people as they were.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; 0 for an empty range.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        let width = usize::try_from(high.saturating_sub(low)).unwrap_or(0);
        low + i32::try_from(self.below(width + 1)).unwrap_or(0)
    }

    /// True in `percent` of a hundred calls.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One item of `list`, or `otherwise` if the list is empty.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T], otherwise: &'a T) -> &'a T {
        list.get(self.below(list.len())).unwrap_or(otherwise)
    }

    /// `count` decimal digits, the first not zero.
    pub(super) fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|place| {
                if place == 0 {
                    self.between(1, 9)
                } else {
                    self.between(0, 9)
                }
                .to_string()
            })
            .collect()
    }

    /// A UUID of version 4 shape.
    pub(super) fn uuid(&mut self) -> uuid::Uuid {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_u128(bits)
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::Random)
            .into_uuid()
    }
}
