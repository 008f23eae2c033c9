//! The steps of the main job. Each checks what it did, and says what it checked.

mod across;
mod emergency;
mod failure;
mod load;
mod refusals;

pub(super) use across::{consent, find_and_retrieve, linkage, queries};
pub(super) use emergency::{audit, break_glass, summary};
pub(super) use failure::region_down;
pub(super) use load::{directory, load_with_hub_killed};
pub(super) use refusals::{Strangers, bad_input, certificates};

use anyhow::{Result, bail};

/// Says so if something expected is not so.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { bail!(what()) }
}

/// A call must fail with this code and reason.
fn refused<T>(
    result: Result<tonic::Response<T>, tonic::Status>,
    code: tonic::Code,
    reason: &str,
) -> Result<()> {
    use tonic_types::StatusExt as _;
    let Err(status) = result else {
        bail!("a call that must be refused ({reason}) was served")
    };
    let details = status.get_error_details();
    let said = details.error_info().map_or("", |info| info.reason.as_str());
    ensure(status.code() == code && said == reason, || {
        format!(
            "expected {code:?} {reason}, got {:?} {said}: {}",
            status.code(),
            status.message()
        )
    })
}
