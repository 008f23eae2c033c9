//! Everything that is wrong with a request, collected with the place of each fault.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, Reason, Result};

/// Faults of one request that are reported; the rest would be more of the same.
const MAX_FAULTS: usize = 100;

/// Faults found so far, and where the check is.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    place: Vec<String>,
    found: Vec<Error>,
}

impl Faults {
    /// Goes into a part of the request: faults found from here on are placed under `part`.
    pub(crate) fn enter(&mut self, part: impl Into<String>) {
        self.place.push(part.into());
    }

    /// Comes out of the part entered last.
    pub(crate) fn leave(&mut self) {
        self.place.pop();
    }

    /// Goes to another part of the request; where it was before.
    pub(crate) fn go(&mut self, place: Vec<String>) -> Vec<String> {
        std::mem::replace(&mut self.place, place)
    }

    /// The path of a field of the part under check.
    pub(crate) fn path(&self, field: &str) -> String {
        let mut parts: Vec<&str> = self.place.iter().map(String::as_str).collect();
        parts.push(field);
        parts.retain(|part| !part.is_empty());
        parts.join(".")
    }

    /// A fault of the field `field` of the part under check.
    pub(crate) fn add(&mut self, reason: Reason, field: &str, message: impl Into<String>) {
        let path = self.path(field);
        self.push(Error::field(reason, path, message.into()));
    }

    /// A required field that is empty.
    pub(crate) fn missing(&mut self, field: &str) {
        self.add(Reason::MissingField, field, "is required");
    }

    /// A field without its form.
    pub(crate) fn invalid(&mut self, field: &str, message: impl Into<String>) {
        self.add(Reason::InvalidField, field, message);
    }

    /// A failure that names its field relative to the part under check.
    pub(crate) fn error(&mut self, error: Error) {
        let place = self.path("");
        let error = if place.is_empty() {
            error
        } else {
            error.within(&place)
        };
        self.push(error);
    }

    fn push(&mut self, error: Error) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(error);
        }
    }

    /// The value of a field that must be there and have its form.
    pub(crate) fn required<T>(&mut self, field: &str, value: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if value.is_empty() {
            self.missing(field);
            return None;
        }
        self.parsed(Reason::InvalidField, field, value)
    }

    /// The value of a field that may be absent, but has its form if it is not.
    pub(crate) fn optional<T>(&mut self, field: &str, value: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if value.is_empty() {
            return None;
        }
        self.parsed(Reason::InvalidField, field, value)
    }

    /// The value of a field, or a fault of this reason.
    pub(crate) fn parsed<T>(&mut self, reason: Reason, field: &str, value: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let error: T::Err = error;
                self.add(reason, field, error.to_string());
                None
            }
        }
    }

    /// How many were found.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All faults as one failure.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub(crate) fn result(self) -> Result<()> {
        Error::all(self.found).map_or(Ok(()), Err)
    }
}
