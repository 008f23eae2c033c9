//! JSON that keeps decimals as they are written and members in their order, which `serde_json`'s
//! tree does not: `2.40` is not `2.4` (FHIR R4, decimal).

use super::super::text::clean;

/// A JSON value. What says nothing is left out of objects and lists, as FHIR asks.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::emergency) enum Json {
    /// Nothing.
    None,
    Bool(bool),
    /// A decimal as written, checked by [`decimal`].
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
}

impl Json {
    fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Bool(_) | Self::Number(_) => false,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Object(members) => members.is_empty(),
        }
    }

    /// Writes it behind `out`.
    pub(in crate::emergency) fn write(&self, out: &mut String) {
        match self {
            Self::None => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => string(text, out),
            Self::List(list) => {
                for (at, value) in list.iter().enumerate() {
                    out.push(if at == 0 { '[' } else { ',' });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push(if at == 0 { '{' } else { ',' });
                    string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// An object of the members that say something.
pub(in crate::emergency) fn object(
    members: impl IntoIterator<Item = (&'static str, Json)>,
) -> Json {
    let said = members.into_iter().filter(|(_, value)| !value.is_empty());
    Json::Object(said.collect())
}

/// A list of the values that say something.
pub(in crate::emergency) fn list(values: impl IntoIterator<Item = Json>) -> Json {
    Json::List(values.into_iter().filter(|one| !one.is_empty()).collect())
}

/// A text.
pub(in crate::emergency) fn text(text: impl AsRef<str>) -> Json {
    Json::Text(clean(text.as_ref()))
}

/// XHTML and other text that is not to be changed any more.
pub(in crate::emergency) fn verbatim(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

/// A number, if `number` is a decimal as FHIR writes them.
pub(in crate::emergency) fn decimal(number: &str) -> Option<Json> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let valid = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.trim_start_matches(['+', '-'])));
    valid.then(|| Json::Number(number.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_kept_as_written() {
        for good in ["0", "2.40", "-0.5", "1e-3", "100"] {
            assert_eq!(decimal(good), Some(Json::Number(good.to_owned())), "{good}");
        }
        for bad in ["", "-", "02", "1.", ".5", "1,5", "NaN", "１", "1e", "1 "] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
        let mut out = String::new();
        let value = decimal("2.40").unwrap();
        object([("b", value), ("a", text("x\"\u{7}")), ("none", text(" "))]).write(&mut out);
        assert_eq!(out, r#"{"b":2.40,"a":"x\""}"#);
    }
}
