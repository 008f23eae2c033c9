//! What a refusal says.

use renkei::api::grpc::status::code;
use renkei::error::Reason;
use tonic::Status;
use tonic_types::StatusExt as _;

/// Code, reason and field of a status, as one line to compare.
pub(crate) fn said(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("-", |info| &info.reason);
    let field = details
        .bad_request()
        .and_then(|bad| bad.field_violations.first())
        .map_or("-", |violation| &violation.field);
    format!("{:?} {reason} {field}", status.code())
}

/// The line that [`said`] gives for a documented refusal; `-` for no field.
pub(crate) fn documented(reason: Reason, field: &str) -> String {
    format!("{:?} {} {field}", code(reason.kind()), reason.name())
}

/// A call must be refused for this reason, with the documented code; gives the status.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, Status>, reason: Reason) -> Status {
    let Err(status) = result else {
        panic!("a call that must be refused ({}) was served", reason.name());
    };
    let details = status.get_error_details();
    let given = details.error_info().map_or("-", |info| &info.reason);
    assert_eq!(
        (status.code(), given),
        (code(reason.kind()), reason.name()),
        "{status}"
    );
    status
}
