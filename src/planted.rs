//! Faults planted on purpose, so that the tests can be seen to fail (bar S-06).
//!
//! In the program there are none: every question below is a constant that the compiler removes. Only
//! in unit tests the environment variable `RENKEI_PLANTED` names one; `tests/planted/run.sh` goes
//! through all of them.

/// Whether this defect is planted.
#[cfg(not(test))]
#[inline]
pub const fn planted(_defect: &str) -> bool {
    false
}

/// Whether this defect is planted.
#[cfg(test)]
pub fn planted(defect: &str) -> bool {
    use std::ffi::OsString;
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<OsString>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| std::env::var_os("RENKEI_PLANTED"))
        .as_ref()
        .is_some_and(|chosen| chosen == defect)
}
