//! What is shown of failures.

use std::collections::HashMap;

use bytes::Bytes;
use prost_types::Any;

use super::*;
use crate::wire::pb::documents::RegistryError;

fn line(error: impl Into<anyhow::Error>) -> String {
    Failure::of(&error.into()).line()
}

fn refused(code: Code, reason: &str, field: &str, what: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "renkei", HashMap::new());
    if !field.is_empty() {
        details.add_bad_request_violation(field, what);
    }
    Status::with_error_details(code, format!("{field}: {what}"), details)
}

#[test]
fn field_reason_and_hint_are_on_one_line() {
    let status = refused(
        Code::InvalidArgument,
        "MISSING_HASH",
        "entries[0].hash",
        "is required",
    );
    assert_eq!(
        line(status),
        "error: entries[0].hash: is required [MISSING_HASH]"
    );

    let status = refused(
        Code::NotFound,
        "UNKNOWN_PATIENT",
        "patient_id",
        "is not known",
    );
    let shown = line(status);
    assert!(
        shown.contains("[UNKNOWN_PATIENT]; hint: feed the patient first"),
        "{shown}"
    );
    assert_eq!(shown.lines().count(), 1);
}

#[test]
fn what_was_being_done_comes_first() {
    let status = refused(
        Code::NotFound,
        "UNKNOWN_PATIENT",
        "patient_id",
        "is not known",
    );
    let error = anyhow::Error::new(status).context("letter.xml");
    let failure = Failure::of(&error);
    assert!(
        failure.message.starts_with("letter.xml: patient_id"),
        "{failure:?}"
    );
    assert_eq!(failure.reason.as_deref(), Some("UNKNOWN_PATIENT"));
}

#[test]
fn a_retry_says_when() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
    let status = Status::with_error_details(Code::Unavailable, "draining", details);
    let failure = Failure::of(&status.into());
    assert_eq!(failure.retry_after_ms, Some(7_000));
    assert_eq!(
        failure.line(),
        "error: draining [UNAVAILABLE]; hint: try again in 7 s"
    );
}

#[test]
fn registry_errors_are_listed() {
    let list = RegistryErrorList {
        errors: vec![RegistryError {
            code: "XDSDuplicateUniqueIdInRegistry".into(),
            context: "registered already".into(),
            location: "2.25.1".into(),
            ..RegistryError::default()
        }],
    };
    let wire = tonic_types::pb::Status {
        code: Code::AlreadyExists.into(),
        message: "refused".into(),
        details: vec![Any {
            type_url: "type.googleapis.com/renkei.documents.v1.RegistryErrorList".into(),
            value: list.encode_to_vec(),
        }],
    };
    let details = Bytes::from(wire.encode_to_vec());
    let status = Status::with_details(Code::AlreadyExists, "refused", details);
    assert_eq!(
        line(status),
        "error: refused; XDSDuplicateUniqueIdInRegistry registered already (2.25.1) [ALREADY_EXISTS]"
    );
}

#[test]
fn our_own_failures_keep_their_hint() {
    let problem = Problem::new("no client profile").hint("give one with --as");
    assert_eq!(
        line(problem),
        "error: no client profile; hint: give one with --as"
    );
    let error = anyhow::Error::new(Problem::new("line 2: unknown field")).context("a.toml");
    assert_eq!(line(error), "error: a.toml: line 2: unknown field");
}

#[test]
fn a_server_cannot_steer_the_terminal() {
    assert!(!line(Status::internal("a\x1b[2Jb")).contains('\x1b'));
}

#[test]
fn json_has_stable_names() {
    let status = refused(Code::PermissionDenied, "NOT_PERMITTED", "", "not permitted");
    let json = serde_json::to_value(Failure::of(&status.into())).unwrap();
    assert_eq!(json["code"], "PERMISSION_DENIED");
    assert_eq!(json["reason"], "NOT_PERMITTED");
    assert_eq!(json["violations"], serde_json::json!([]));
}
