//! Faults planted on purpose, so that the tests can be seen to fail (bar S-06).
//!
//! Without the feature `planted-defects` there are none, and every question below is a constant
//! that the compiler removes. With it, the environment variable `RENKEI_PLANTED` names one defect;
//! `tests/planted/run.sh` goes through all of them. Such a build is refused in release.

#[cfg(all(feature = "planted-defects", not(debug_assertions)))]
compile_error!("`planted-defects` breaks the program on purpose: never in a release build");

/// Whether this defect is planted.
#[cfg(not(feature = "planted-defects"))]
#[inline]
pub const fn planted(_defect: &str) -> bool {
    false
}

/// Whether this defect is planted.
#[cfg(feature = "planted-defects")]
pub fn planted(defect: &str) -> bool {
    use std::ffi::OsString;
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<OsString>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| std::env::var_os("RENKEI_PLANTED"))
        .as_ref()
        .is_some_and(|chosen| chosen == defect)
}
