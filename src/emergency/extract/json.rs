//! JSON as a compact tree that keeps numbers as they were written.
//!
//! `serde_json` checks the grammar and the depth (128), but would round `2.40` to `2.4`. FHIR wants
//! the precision of decimals kept, so numbers are put in quotes before parsing and come out as
//! [`Json::Number`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Values in one document. A Bundle of 2,000 results has some 120,000; each costs at most 100 bytes.
const MAX_VALUES: usize = 600_000;
/// Begins the text of a quoted number.
const NUMBER: char = '\u{0}';
/// [`NUMBER`] in JSON, with the opening quote.
const OPEN_NUMBER: &str = "\"\\u0000";

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Sorted by key, without duplicates.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

static NULL: Json<'static> = Json::Null;

/// Why a text was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// Not JSON, nested too deeply, or with a name twice in one object.
    Malformed,
    /// More values than any document has.
    TooMany,
}

/// Puts every number in quotes, so that [`parse`] sees it as it was written.
///
/// # Errors
///
/// More values than [`MAX_VALUES`], or something that begins like a number and is none.
pub(super) fn quote_numbers(text: &str) -> Result<String, JsonError> {
    let mut quoted = String::with_capacity(text.len() + text.len() / 16);
    let mut values = 0_usize;
    let mut rest = text;
    while let Some(byte) = rest.bytes().next() {
        let length = match byte {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => number_length(rest),
            b'{' | b'[' | b',' => {
                values += 1;
                1
            }
            // Whole runs of what is neither; a character is never split, as all of these are ASCII.
            _ => rest
                .find([
                    '"', '-', '{', '[', ',', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
                ])
                .unwrap_or(rest.len()),
        };
        if values > MAX_VALUES {
            return Err(JsonError::TooMany);
        }
        let (token, after) = rest.split_at_checked(length).ok_or(JsonError::Malformed)?;
        if matches!(byte, b'-' | b'0'..=b'9') {
            if !is_number(token) {
                return Err(JsonError::Malformed);
            }
            quoted.push_str(OPEN_NUMBER);
            quoted.push_str(token);
            quoted.push('"');
        } else {
            quoted.push_str(token);
        }
        rest = after;
    }
    Ok(quoted)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Octets of the string that `text` begins with, quotes included; all of it if it does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    text.find(|letter: char| !matches!(letter, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
        .unwrap_or(text.len())
}

/// Reads what [`quote_numbers`] wrote.
///
/// # Errors
///
/// What is not JSON, is nested too deeply, or has a name twice in one object.
pub(super) fn parse(quoted: &str) -> Result<Json<'_>, JsonError> {
    serde_json::from_str(quoted).map_err(|_| JsonError::Malformed)
}

impl Json<'_> {
    /// The null that a missing member is.
    pub(super) fn null<'b>() -> &'b Self {
        &NULL
    }

    /// The member called `name`; null if there is none.
    pub(super) fn get(&self, name: &str) -> &Self {
        let Self::Object(members) = self else {
            return Self::null();
        };
        members
            .binary_search_by(|(key, _)| key.as_ref().cmp(name))
            .ok()
            .and_then(|at| members.get(at))
            .map_or(Self::null(), |(_, value)| value)
    }

    /// The members of a list; none if it is not one.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Object(_) => &[],
        }
    }

    /// The text; empty if it is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array(_) | Self::Object(_) => "",
        }
    }

    /// The text of the member called `name`; empty if there is none.
    pub(super) fn text_of(&self, name: &str) -> &str {
        self.get(name).text()
    }

    /// The number as it was written; empty if it is none.
    pub(super) fn number(&self) -> &str {
        match self {
            Self::Number(number) => number,
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::Array(_) | Self::Object(_) => "",
        }
    }

    /// The truth value, if it is one.
    pub(super) fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Null | Self::Number(_) | Self::Text(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// Whether it, or anything in it, has a member called `name`. Parsing bounds the depth.
    pub(super) fn has_inside(&self, name: &str) -> bool {
        match self {
            Self::Object(members) => members
                .iter()
                .any(|(of, value)| of.as_ref() == name || value.has_inside(name)),
            Self::Array(items) => items.iter().any(|item| item.has_inside(name)),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        // A quoted number has an escape, so it is never borrowed.
        Ok(
            match text.strip_prefix(NUMBER).filter(|text| is_number(text)) {
                Some(number) => Json::Number(number.to_owned()),
                None => Json::Text(Cow::Owned(text.to_owned())),
            },
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let twice = |pair: &[(Cow<'de, str>, Json<'de>)]| matches!(pair, [(one, _), (other, _)] if one == other);
        if members.windows(2).any(twice) {
            return Err(serde::de::Error::custom("a name twice in one object"));
        }
        members.shrink_to_fit();
        Ok(Json::Object(members))
    }
}

/// A name, borrowed if it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Tree)? {
            Json::Text(text) => Ok(Self(text)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                Err(serde::de::Error::custom("a name that is no text"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, JsonError> {
        let quoted = quote_numbers(text)?;
        parse(&quoted).map(|tree| format!("{tree:?}"))
    }

    #[test]
    fn numbers_keep_their_precision() {
        let quoted = quote_numbers(r#"{"a":2.40,"b":[-1e3,"x 1.0"]}"#).unwrap();
        let tree = parse(&quoted).unwrap();
        assert_eq!(tree.get("a").number(), "2.40");
        assert_eq!(tree.get("b").items()[0].number(), "-1e3");
        assert_eq!(tree.get("b").items()[1].text(), "x 1.0");
        assert!(tree.get("c").get("d").is_null());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "",
            "{",
            "01",
            "1.",
            "--1",
            "1 2",
            "{1:2}",
            "\"a",
            "\"\\",
            "tru1",
            "[1,]",
            "{\"a\":1,\"a\":2}",
            "nul",
            "1\"a\"",
            "[é]",
            "１",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(&"[".repeat(1 << 20)), Err(JsonError::TooMany));
        assert_eq!(
            read(&format!("{}{}", "[".repeat(200), "]".repeat(200))),
            Err(JsonError::Malformed)
        );
        assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{},:"\\0-9.eE+\-a-c \u{0}é]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let ours = read(&text).is_ok();
            // Stricter only about names: none twice.
            prop_assert!(theirs || !ours, "{text:?}");
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            drop(read(&text));
        }
    }
}
