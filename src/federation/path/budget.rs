//! How much more than asked for may be sent: a share of the calls.

use crate::planted::planted;

/// The most that is saved up, in calls: after a long calm a burst of retries is still small.
const MOST: f64 = 10.0;

/// A budget for calls beyond those asked for.
#[derive(Debug)]
pub(super) struct Budget {
    share: f64,
    saved: f64,
}

impl Budget {
    /// Up to `share` (0 to 1) of the calls; one is free at the beginning.
    pub(super) fn new(share: f64) -> Self {
        Self { share, saved: 1.0 }
    }

    /// A call was asked for.
    pub(super) fn offered(&mut self) {
        self.saved = (self.saved + self.share).min(MOST);
    }

    /// Takes one more call, if there is one.
    pub(super) fn take(&mut self) -> bool {
        let may = self.has();
        if may {
            self.saved -= 1.0;
        }
        may
    }

    /// Whether [`Self::take`] would give one.
    pub(super) fn has(&self) -> bool {
        // Shares such as 0.2 do not add up exactly.
        self.saved >= 1.0 - 1e-9 || planted("retries without a budget")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_its_share_and_what_was_saved() {
        let mut budget = Budget::new(0.2);
        let mut taken = 0;
        for _ in 0..1_000 {
            budget.offered();
            taken += u32::from(budget.take());
        }
        assert!((200..=201).contains(&taken), "{taken}");
        for _ in 0..1_000 {
            budget.offered();
        }
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }
}
