//! Failures as gRPC status with google.rpc details: the one place where they are mapped.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{Error, ErrorKind, Reason};
use crate::wire::pb::documents as dpb;

/// `google.rpc.ErrorInfo.domain`.
pub const DOMAIN: &str = "renkei";
/// The type of the detail that lists the IHE errors.
const REGISTRY_ERRORS: &str = "type.googleapis.com/renkei.documents.v1.RegistryErrorList";

/// The gRPC code of a kind.
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Precondition => Code::FailedPrecondition,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status a caller gets. The cause stays here; it is logged by the caller of this function.
pub fn status(error: &Error) -> Status {
    let reason = error.reason();
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("ihe_code".to_owned(), reason.ihe_code().to_owned())]);
    details.set_error_info(reason.name(), DOMAIN, metadata);
    if let Some(field) = error.wrong_field() {
        details.add_bad_request_violation(field, error.message());
    }
    for field in error.more_wrong_fields() {
        details.add_bad_request_violation(field, error.message());
    }
    let retry = error.retry_hint().or_else(|| {
        matches!(
            reason,
            Reason::Overloaded | Reason::ShuttingDown | Reason::ConcurrentChange
        )
        .then_some(Duration::from_millis(200))
    });
    if let Some(after) = retry {
        details.set_retry_info(Some(after));
    }
    for other in error.others() {
        if let Some(field) = other.wrong_field() {
            details.add_bad_request_violation(field, other.message());
        }
    }
    let status = Status::with_error_details(code(error.kind()), error.to_string(), details);
    if error.is_of_registry() {
        with_registry_errors(status, error)
    } else {
        status
    }
}

/// The IHE errors of a failure, each with its code, its text and the place of the fault.
pub fn registry_errors(error: &Error) -> dpb::RegistryErrorList {
    let one = |error: &Error| dpb::RegistryError {
        code: error.reason().ihe_code().to_owned(),
        context: error.message().to_owned(),
        location: error.wrong_field().unwrap_or_default().to_owned(),
        severity: dpb::RegistryErrorSeverity::Error.into(),
    };
    dpb::RegistryErrorList {
        errors: std::iter::once(error)
            .chain(error.others())
            .map(one)
            .collect(),
    }
}

/// Adds the list to the details of a status, which `tonic_types` has no place for.
fn with_registry_errors(status: Status, error: &Error) -> Status {
    let Ok(mut rich) = tonic_types::pb::Status::decode(status.details()) else {
        return status;
    };
    rich.details.push(prost_types::Any {
        type_url: REGISTRY_ERRORS.to_owned(),
        value: registry_errors(error).encode_to_vec(),
    });
    Status::with_details(
        status.code(),
        status.message().to_owned(),
        rich.encode_to_vec().into(),
    )
}

/// What is wrong with a request that tonic itself has refused, which it does without details; none
/// if it has not.
pub fn undecoded(answer: &http::Response<tonic::body::Body>) -> Option<Error> {
    let code = answer.headers().get("grpc-status")?;
    let (reason, message) = match Code::from_bytes(code.as_bytes()) {
        Code::Ok => return None,
        Code::OutOfRange => (Reason::MessageTooLarge, "a message is larger than is taken"),
        Code::Unimplemented => (
            Reason::NotImplemented,
            "the compression of the message is not taken",
        ),
        Code::DeadlineExceeded => (
            Reason::DeadlineExceeded,
            "the request did not arrive in time",
        ),
        _ => (Reason::InvalidField, "the message cannot be decoded"),
    };
    Some(Error::new(reason, message))
}

/// The catalogue as Markdown: `docs/errors.md` is this text.
pub fn catalogue() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Errors\n\nEvery failure carries `google.rpc.ErrorInfo` with a stable reason (domain `renkei`) \
         and, where a field is wrong, `google.rpc.BadRequest` with its path. Generated from \
         `src/error.rs`; a test compares the two.\n\n| reason | gRPC code | IHE code | meaning |\n\
         |---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let line = writeln!(
            text,
            "| `{}` | {:?} | `{}` | {} |",
            reason.name(),
            code(reason.kind()),
            reason.ihe_code(),
            reason.meaning().trim()
        );
        debug_assert!(line.is_ok(), "writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::vars().any(|(name, _)| name == "RENKEI_UPDATE_SNAPSHOTS") {
            std::fs::write(path, catalogue()).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            documented,
            catalogue(),
            "run with RENKEI_UPDATE_SNAPSHOTS=1 and commit"
        );
    }

    #[test]
    fn details_name_reason_and_field() {
        let error = Error::field(Reason::MissingHash, "entries[0].hash", "is required");
        let status = status(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "MISSING_HASH");
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "entries[0].hash"
        );
    }

    #[test]
    fn an_internal_error_tells_nothing() {
        let status = status(&Error::internal("patient 0001 broke it"));
        assert_eq!(
            (status.code(), status.message()),
            (Code::Internal, "internal error")
        );
    }

    #[test]
    fn reason_names_are_unique() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
