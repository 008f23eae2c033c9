//! Planted defects: one rule of the profile left out, to show that a test notices (bars T-40, S-06).
//!
//! Compiled into tests, and into the program only with the feature `planted-defects`, which no
//! release has. Without it every rule is in force and this file is a constant.

use super::Place;

/// The environment variable that names the defect of a build with the feature: a rule and where it
/// is left out, `expired@leaf` or `expired@authority`, or for a revocation list or an assertion the
/// rule alone.
#[cfg(feature = "planted-defects")]
const VARIABLE: &str = "RENKEI_PLANTED_DEFECT";

/// Whether `rule` is left out for the certificate at `place`.
#[cfg(not(any(test, feature = "planted-defects")))]
pub(crate) const fn is_left_out(_rule: &str, _place: Place) -> bool {
    false
}

/// Whether `rule`, which speaks of no certificate of the path, is left out.
#[cfg(not(any(test, feature = "planted-defects")))]
pub(crate) const fn is_rule_left_out(_rule: &str) -> bool {
    false
}

/// Whether `rule` is left out for the certificate at `place`.
#[cfg(any(test, feature = "planted-defects"))]
pub(crate) fn is_left_out(rule: &str, place: Place) -> bool {
    let level = match place {
        Place::EndEntity => "leaf",
        Place::Authority(_) => "authority",
    };
    active::is(&format!("{rule}@{level}"))
}

/// Whether `rule`, which speaks of no certificate of the path, is left out.
#[cfg(any(test, feature = "planted-defects"))]
pub(crate) fn is_rule_left_out(rule: &str) -> bool {
    active::is(rule)
}

#[cfg(test)]
pub(crate) use active::without;

#[cfg(any(test, feature = "planted-defects"))]
mod active {
    #[cfg(test)]
    thread_local! {
        static LEFT_OUT: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
    }

    /// Does `what` on this thread with the defect `defect` planted.
    #[cfg(test)]
    pub(crate) fn without<T>(defect: &str, what: impl FnOnce() -> T) -> T {
        LEFT_OUT.with_borrow_mut(|left_out| *left_out = Some(defect.to_owned()));
        let done = what();
        LEFT_OUT.with_borrow_mut(|left_out| *left_out = None);
        done
    }

    pub(super) fn is(defect: &str) -> bool {
        #[cfg(test)]
        if LEFT_OUT.with_borrow(|left_out| left_out.as_deref() == Some(defect)) {
            return true;
        }
        from_environment() == Some(defect)
    }

    #[cfg(feature = "planted-defects")]
    #[expect(
        clippy::disallowed_methods,
        reason = "a defect is no setting of a node"
    )]
    fn from_environment() -> Option<&'static str> {
        static DEFECT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        DEFECT
            .get_or_init(|| std::env::var(super::VARIABLE).ok())
            .as_deref()
    }

    #[cfg(not(feature = "planted-defects"))]
    const fn from_environment() -> Option<&'static str> {
        None
    }
}
