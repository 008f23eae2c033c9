//! What went wrong, told in one line for people and as one object for scripts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use prost::Message as _;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::output::plain;
use crate::pki::tls;
use crate::wire::pb::documents::RegistryErrorList;

/// A failure found on this side, with what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    hint: Option<String>,
}

impl Problem {
    /// A failure that needs no hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Problem {}

/// A field at fault. google.rpc.BadRequest.FieldViolation.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// Path of the field in the request.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) description: String,
}

/// An IHE error of a registry or repository.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RegistryProblem {
    code: String,
    context: String,
    location: String,
}

/// A failure as it is shown. The JSON form is `{"error": {…}}` with these names.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Failure {
    /// gRPC code (`INVALID_ARGUMENT`), or `CLIENT` for what failed on this side.
    pub(crate) code: String,
    /// Stable reason code (ErrorInfo.reason), if the node gave one.
    pub(crate) reason: Option<String>,
    /// Who defines the reason: `renkei` or `ihe.net`.
    pub(crate) domain: Option<String>,
    /// For people.
    pub(crate) message: String,
    /// Fields at fault.
    pub(crate) violations: Vec<Violation>,
    /// IHE errors.
    pub(crate) registry_errors: Vec<RegistryProblem>,
    /// When to try again, milliseconds.
    pub(crate) retry_after_ms: Option<u64>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Reads `error`, whatever made it.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(status) = error.downcast_ref::<Status>() {
            // What was being done, if somebody said so: `line 3 of patients.jsonl`.
            let doing = error.to_string();
            let doing = (doing != status.to_string()).then_some(doing);
            return Self::of_status(status, doing);
        }
        let hint = error
            .downcast_ref::<Problem>()
            .and_then(|problem| problem.hint.clone());
        let refusal = error.chain().find_map(tls::refusal_of);
        let mut failure = Self {
            code: "CLIENT".to_owned(),
            message: plain(&format!("{error:#}")),
            hint,
            ..Self::default()
        };
        if let Some(refusal) = refusal {
            // What lies between is the TLS library's way of carrying it.
            failure.message = plain(&format!("{error}: {refusal}"));
            failure.reason = Some(refusal.rule().to_owned());
            failure.hint = Some("the node's certificate is not accepted: check `roots`, `crls`, `server_pin` and `endpoint` of the profile".to_owned());
        }
        failure
    }

    fn of_status(status: &Status, doing: Option<String>) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.map(|info| info.reason.clone());
        let retry = details.retry_info().and_then(|retry| retry.retry_delay);
        Self {
            code: code_name(status.code()),
            message: message(status, doing),
            violations: violations(&details),
            registry_errors: registry_errors(status),
            retry_after_ms: retry.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            hint: hint(status, reason.as_deref(), retry),
            domain: info.map(|info| info.domain.clone()),
            reason,
        }
    }

    /// One line: what, which fields, why, what to do.
    pub(crate) fn line(&self) -> String {
        let mut parts = vec![format!("error: {}", self.message)];
        for violation in &self.violations {
            let stated = format!("{}: {}", violation.field, violation.description);
            if !self.message.ends_with(&stated) {
                parts.push(stated);
            }
        }
        for problem in &self.registry_errors {
            let location = match problem.location.as_str() {
                "" => String::new(),
                location => format!(" ({location})"),
            };
            parts.push(format!("{} {}{location}", problem.code, problem.context));
        }
        let mut line = parts.join("; ");
        let local = self.code == "CLIENT";
        if let Some(code) = self.reason.as_ref().or((!local).then_some(&self.code)) {
            line = format!("{line} [{code}]");
        }
        if let Some(hint) = &self.hint {
            line = format!("{line}; hint: {hint}");
        }
        plain(&line)
    }
}

/// `InvalidArgument` as `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").chars().enumerate() {
        if at > 0 && letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn message(status: &Status, doing: Option<String>) -> String {
    let mut message = match status.message() {
        "" => status.code().description().to_owned(),
        text => text.to_owned(),
    };
    // "transport error" says nothing; its deepest cause does.
    let mut deepest = status.source();
    while let Some(next) = deepest.and_then(Error::source) {
        deepest = Some(next);
    }
    if let Some(cause) = deepest.map(ToString::to_string)
        && !message.contains(&cause)
    {
        message = format!("{message}: {cause}");
    }
    match doing {
        Some(doing) => plain(&format!("{doing}: {message}")),
        None => plain(&message),
    }
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let bad_request = details.bad_request().into_iter();
    let fields = bad_request
        .flat_map(|bad| &bad.field_violations)
        .map(|at| (&at.field, &at.description));
    let preconditions = details.precondition_failure().into_iter();
    let states = preconditions
        .flat_map(|failure| &failure.violations)
        .map(|at| (&at.subject, &at.description));
    let quotas = details.quota_failure().into_iter();
    let limits = quotas
        .flat_map(|failure| &failure.violations)
        .map(|at| (&at.subject, &at.description));
    fields
        .chain(states)
        .chain(limits)
        .map(|(field, description)| Violation {
            field: plain(field),
            description: plain(description),
        })
        .collect()
}

fn registry_errors(status: &Status) -> Vec<RegistryProblem> {
    let Ok(wire) = tonic_types::pb::Status::decode(status.details()) else {
        return Vec::new();
    };
    let lists = wire
        .details
        .iter()
        .filter(|any| {
            any.type_url
                .ends_with("/renkei.documents.v1.RegistryErrorList")
        })
        .filter_map(|any| RegistryErrorList::decode(any.value.as_slice()).ok());
    lists
        .flat_map(|list| list.errors)
        .map(|error| RegistryProblem {
            code: plain(&error.code),
            context: plain(&error.context),
            location: plain(&error.location),
        })
        .collect()
}

/// What to do about it: by the reason, then by the code.
fn hint(status: &Status, reason: Option<&str>, retry: Option<Duration>) -> Option<String> {
    let text = match (reason, status.code()) {
        (Some("UNREGISTERED_CERTIFICATE"), _) => {
            "the operator registers its pin with `renkei directory apply`"
        }
        (Some("INVALID_ASSERTION"), _) => {
            "check `[person]` of the profile: `audience` must hold the node's homeCommunityId; and compare the clocks"
        }
        (Some("UNKNOWN_PATIENT" | "UNKNOWN_PATIENT_IDENTIFIER"), _) => {
            "feed the patient first: `renkei patient feed`"
        }
        (Some("UNKNOWN_AUTHORITY" | "UNKNOWN_SOURCE_DOMAIN" | "UNKNOWN_COMMUNITY"), _) => {
            "`renkei directory show` lists communities and their assigning authorities"
        }
        (Some("ROLE_NOT_SERVED"), _) => "ask another node, or switch the capability on there",
        (_, Code::PermissionDenied) => {
            "refused by policy, whether data exists or not: check --purpose, --role and --relation, and the patient's consent"
        }
        (_, Code::Unauthenticated) => {
            "the certificate or the assertion is not accepted: try `renkei token` and `renkei pki check`"
        }
        (_, Code::Aborted) => "it changed meanwhile: read it again and repeat",
        // The client library calls it cancelled when its own time is up.
        (_, Code::DeadlineExceeded | Code::Cancelled) => "give more time with --timeout",
        (_, Code::Unavailable | Code::ResourceExhausted) => match retry {
            Some(after) => return Some(format!("try again in {} s", after.as_secs().max(1))),
            None => "is the node running? try again",
        },
        (_, Code::Unknown | Code::Internal) if was_alerted(status) => {
            "the node refused this client's certificate: `renkei pki check` tells why"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether the far side broke the TLS connection off; in TLS 1.3 a refused client certificate shows
/// only after the handshake, as an alert.
fn was_alerted(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.to_string().contains("received fatal alert") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
