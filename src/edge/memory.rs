//! How much of its memory the node uses: what `server` measures and admission goes by.

use std::sync::atomic::{AtomicU64, Ordering};

/// Memory in use, and the ceiling of it, in bytes. Nothing measured yet counts as nothing used.
#[derive(Debug)]
pub struct Memory {
    used: AtomicU64,
    ceiling: AtomicU64,
    /// From here on calls are shed, in percent of the ceiling.
    from: u8,
}

/// Where no ordinary call is admitted any more, as a share of what lies between the beginning of
/// shedding and the ceiling.
const NONE_LEFT: u64 = 75;

impl Memory {
    /// Nothing measured; calls are shed from `percent` of the ceiling on.
    pub(super) fn new(percent: u8) -> Self {
        Self {
            used: AtomicU64::new(0),
            ceiling: AtomicU64::new(0),
            from: percent,
        }
    }

    /// Takes a measurement. A ceiling of 0 is none.
    pub fn measured(&self, used: u64, ceiling: u64) {
        self.used.store(used, Ordering::Relaxed);
        self.ceiling.store(ceiling, Ordering::Relaxed);
    }

    /// Use in percent of the ceiling.
    pub fn percent(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        let percent = used.saturating_mul(100);
        percent
            .checked_div(self.ceiling.load(Ordering::Relaxed))
            .unwrap_or(0)
    }

    /// Whether calls are shed.
    pub fn is_short(&self) -> bool {
        self.percent() >= u64::from(self.from)
    }

    /// How many of `limit` ordinary calls may be under way: all below the mark, fewer the closer
    /// the ceiling is, none shortly before it.
    pub(super) fn leaves(&self, limit: usize) -> usize {
        let (percent, from) = (self.percent(), u64::from(self.from));
        let range = 100_u64.saturating_sub(from) * NONE_LEFT / 100;
        let over = percent.saturating_sub(from);
        if percent < from {
            return limit;
        }
        let left = range.saturating_sub(over);
        let left = usize::try_from(left).unwrap_or(0);
        let range = usize::try_from(range).unwrap_or(0);
        (limit * left).checked_div(range).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_left_the_closer_the_ceiling_is() {
        let memory = Memory::new(80);
        assert!(!memory.is_short());
        assert_eq!(memory.leaves(100), 100, "nothing is measured");
        for (used, left) in [
            (0, 100),
            (79, 100),
            (80, 100),
            (83, 80),
            (90, 33),
            (94, 6),
            (95, 0),
            (100, 0),
            (150, 0),
        ] {
            memory.measured(used << 20, 100 << 20);
            assert_eq!(memory.leaves(100), left, "{used}");
            assert_eq!(memory.is_short(), used >= 80, "{used}");
        }
        memory.measured(5, 0);
        assert_eq!(memory.leaves(100), 100, "without a ceiling");
        let at_once = Memory::new(100);
        at_once.measured(100, 100);
        assert_eq!(at_once.leaves(100), 0);
    }
}
