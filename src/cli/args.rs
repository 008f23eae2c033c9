//! How values are written on the command line.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::names::Named;
use super::output::note;
use crate::types::{InstitutionCode, LinkageId, Oid, PatientIdentifier};
use crate::wire::pb::common::{CodedValue, Identifier};

/// Dates without a time are days of this clock, as the network's are.
pub(crate) const JAPAN: Offset = Offset::constant(9);

/// A patient, by an identifier or by linkage id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PatientArg {
    /// An identifier of a domain.
    Identifier(Identifier),
    /// 広域連携ID.
    Linkage(String),
}

/// Help of every argument that takes a [`PatientArg`].
pub(crate) const PATIENT_HELP: &str = "Patient: ID^^^&OID&ISO (quote it), OID:ID, or a linkage id";

/// Help of every argument that takes an identifier.
pub(crate) const IDENTIFIER_HELP: &str = "Patient identifier: ID^^^&OID&ISO (quote it) or OID:ID";

impl FromStr for PatientArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<LinkageId>() {
            Ok(linkage) => Ok(Self::Linkage(linkage.to_string())),
            Err(_) => identifier(text).map(Self::Identifier),
        }
    }
}

/// An identifier: HL7 CX (`ID^^^&OID&ISO`), or `OID:ID`, which needs no quotes in a shell.
pub(crate) fn identifier(text: &str) -> Result<Identifier, String> {
    let parsed = match text.split_once(':') {
        Some((authority, id)) if authority.parse::<Oid>().is_ok() => {
            PatientIdentifier::new(authority, id)
        }
        _ => text.parse(),
    };
    let parsed = parsed.map_err(|error| format!("{error}; write ID^^^&OID&ISO or OID:ID"))?;
    Ok(Identifier {
        assigning_authority: parsed.authority.to_string(),
        value: parsed.id.as_str().to_owned(),
        ..Identifier::default()
    })
}

/// A code: `SYSTEM|CODE` or `SYSTEM|CODE|DISPLAY`.
pub(crate) fn code(text: &str) -> Result<CodedValue, String> {
    let mut parts = text.splitn(3, '|');
    match (parts.next(), parts.next()) {
        (Some(system), Some(code)) if !system.is_empty() && !code.is_empty() => Ok(CodedValue {
            code: code.to_owned(),
            system: system.to_owned(),
            display_name: parts.next().unwrap_or_default().to_owned(),
            ..CodedValue::default()
        }),
        _ => Err("is not SYSTEM|CODE or SYSTEM|CODE|DISPLAY".to_owned()),
    }
}

/// A span of time: `500ms`, `3s`, `2m`, `24h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text
        .parse()
        .map_err(|_| "is not a duration such as 500ms, 3s, 2m or 24h".to_owned())?;
    let positive = Duration::try_from(span).ok().filter(|span| !span.is_zero());
    positive.ok_or_else(|| "is not longer than nothing".to_owned())
}

/// A time: RFC 3339, or `YYYY-MM-DD` for the start of that day in Japan.
pub(crate) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let wrong =
        |_| "is not a date YYYY-MM-DD or a time such as 2026-04-01T09:00:00+09:00".to_owned();
    let time = match text.parse::<Date>() {
        Ok(day) if !text.contains(['T', 't', ' ']) => {
            JAPAN.to_timestamp(day.at(0, 0, 0, 0)).map_err(wrong)?
        }
        _ => text.parse::<Timestamp>().map_err(wrong)?,
    };
    Ok(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

/// A 10-digit institution code.
pub(crate) fn institution_code(text: &str) -> Result<String, String> {
    let code: InstitutionCode = text.parse().map_err(|error| format!("{error}"))?;
    Ok(code.as_str().to_owned())
}

/// Reads a value of a wire enum by its name without prefix, in any case; `UNSPECIFIED` is none.
pub(crate) fn one_of<E: Named>() -> impl TypedValueParser<Value = E> {
    PossibleValuesParser::new(E::all().map(E::word)).try_map(|text: String| {
        let word = text.to_ascii_uppercase();
        let mut all = E::all();
        all.find(|value| value.word() == word)
            .ok_or("is not a known value")
    })
}

/// How much of a list is wanted.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// At most so many results
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
}

/// Walks the pages of a list up to a limit.
#[derive(Debug)]
pub(crate) struct Pages {
    left: u32,
    /// Results to ask for now.
    pub(crate) size: u32,
    /// Token of the page to ask for now.
    pub(crate) token: String,
    more: bool,
}

/// The most that a node gives on a page.
const LARGEST_PAGE: u32 = 500;

impl Limit {
    /// The first page.
    pub(crate) fn pages(self) -> Pages {
        Pages {
            left: self.limit,
            size: self.limit.min(LARGEST_PAGE),
            token: String::new(),
            more: false,
        }
    }
}

impl Pages {
    /// Takes notice of a page's answer; whether another page is to be asked for.
    pub(crate) fn turn(&mut self, next_page_token: &str, results: usize) -> bool {
        next_page_token.clone_into(&mut self.token);
        self.left = self
            .left
            .saturating_sub(u32::try_from(results).unwrap_or(u32::MAX));
        self.size = self.left.min(LARGEST_PAGE);
        self.more = !next_page_token.is_empty();
        self.more && self.left > 0
    }

    /// Tells people if there is more than the limit let through; JSON has it in `next_page_token`.
    pub(crate) fn tell(&self) {
        if self.more {
            note("there is more: raise --limit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::emergency::BreakGlassReason;

    #[test]
    fn patients_are_written_in_three_ways() {
        let cx = PatientArg::from_str("0012^^^&1.2.392.1&ISO").unwrap();
        assert_eq!(cx, PatientArg::from_str("1.2.392.1:0012").unwrap());
        let PatientArg::Identifier(identifier) = cx else {
            panic!("not an identifier");
        };
        assert_eq!(identifier.value, "0012", "leading zeros stay");
        assert_eq!(identifier.assigning_authority, "1.2.392.1");

        let linkage = LinkageId::from_bytes([7; 16]).to_string();
        assert_eq!(
            PatientArg::from_str(&linkage.to_ascii_lowercase()).unwrap(),
            PatientArg::Linkage(linkage)
        );
        for wrong in ["0012", "0012^^^&x&ISO", "0012^^^&1.2&DNS", "1.2:", ":1"] {
            assert!(PatientArg::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn codes_have_a_system() {
        let found = code("2.16.840.1.113883.6.1|57133-1|診療情報提供書").unwrap();
        assert_eq!(found.code, "57133-1");
        assert_eq!(found.display_name, "診療情報提供書");
        assert!(code("57133-1").is_err());
        assert!(code("|57133-1").is_err());
    }

    #[test]
    fn times_and_durations() {
        assert_eq!(time("1970-01-02").unwrap().seconds, 15 * 3_600);
        assert_eq!(time("1970-01-01T00:00:01Z").unwrap().seconds, 1);
        assert!(time("1970-01-01T00:00:01").is_err(), "which clock?");
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("24h").unwrap(), Duration::from_hours(24));
        assert!(duration("-3s").is_err() && duration("0s").is_err() && duration("3").is_err());
    }

    #[test]
    fn enum_values_go_by_word_in_any_case() {
        let all: Vec<&str> = BreakGlassReason::all()
            .map(BreakGlassReason::word)
            .collect();
        assert_eq!(all.first(), Some(&"UNCONSCIOUS"));
        assert!(!all.contains(&"UNSPECIFIED"));
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn pages_end_with_the_list_or_the_limit() {
        let mut pages = Limit { limit: 600 }.pages();
        assert_eq!(pages.size, 500);
        assert!(pages.turn("next", 500));
        assert_eq!((pages.size, pages.token.as_str()), (100, "next"));
        assert!(!pages.turn("more", 100));
        assert!(pages.more);
        assert!(!pages.turn("", 100) && !pages.more);
    }
}
