//! One rule of the profile left out, to show that a test notices (bars T-40, S-06): as a defect of
//! [`crate::planted`], and inside unit tests for one thread.
//!
//! A defect is named by the rule and where it is left out, `expired@leaf` or `expired@authority`; of a
//! revocation list or an assertion by the rule alone. In the program every rule is in force, and what
//! is here are constants.

use super::Place;

/// Whether `rule` is left out for the certificate at `place`.
#[cfg(not(test))]
pub(crate) const fn is_left_out(_rule: &str, _place: Place) -> bool {
    false
}

/// Whether `rule`, which speaks of no certificate of the path, is left out.
#[cfg(not(test))]
pub(crate) const fn is_rule_left_out(_rule: &str) -> bool {
    false
}

/// Whether `rule` is left out for the certificate at `place`.
#[cfg(test)]
pub(crate) fn is_left_out(rule: &str, place: Place) -> bool {
    let level = match place {
        Place::EndEntity => "leaf",
        Place::Authority(_) => "authority",
    };
    is_rule_left_out(&format!("{rule}@{level}"))
}

/// Whether `rule`, which speaks of no certificate of the path, is left out.
#[cfg(test)]
pub(crate) fn is_rule_left_out(rule: &str) -> bool {
    if LEFT_OUT.with_borrow(|left_out| left_out.as_deref() == Some(rule)) {
        return true;
    }
    crate::planted::planted(rule)
}

#[cfg(test)]
thread_local! {
    static LEFT_OUT: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Does `what` on this thread with the rule `defect` left out.
#[cfg(test)]
pub(crate) fn without<T>(defect: &str, what: impl FnOnce() -> T) -> T {
    LEFT_OUT.with_borrow_mut(|left_out| *left_out = Some(defect.to_owned()));
    let done = what();
    LEFT_OUT.with_borrow_mut(|left_out| *left_out = None);
    done
}
