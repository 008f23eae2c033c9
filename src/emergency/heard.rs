//! What is heard of a patient, held against who is known.

use jiff::Timestamp;
use unicode_normalization::UnicodeNormalization as _;

use super::merge::day;
use crate::error::{Error, Reason, Result};
use crate::identity::ADDRESS_BITS;
use crate::identity::matching::normalize::date;
use crate::types::PartialDate;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::identity as ipb;

pub(super) fn linkage_of(candidate: &ipb::MatchCandidate) -> &str {
    let person = candidate.person.as_ref();
    person.map_or("", |person| person.linkage_id.as_str())
}

pub(super) fn is_likely(candidate: &ipb::MatchCandidate) -> bool {
    matches!(
        candidate.grade(),
        ipb::MatchGrade::Certain | ipb::MatchGrade::Probable
    )
}

/// A birth date as it is written (`YYYY`, `YYYY-MM`, `YYYY-MM-DD`), or as it is spoken (昭和25年3月5日).
pub(super) fn birth_date(given: &str) -> Result<(String, String)> {
    let given = given.trim();
    if given.is_empty() || given.parse::<PartialDate>().is_ok() {
        return Ok((given.to_owned(), String::new()));
    }
    if date::birth_date(given).is_none() {
        let message = "must be a date such as 1950-04-01, 1950 or 昭和25年4月1日";
        let field = "four_items.birth_date";
        return Err(Error::field(Reason::InvalidField, field, message));
    }
    Ok((String::new(), given.to_owned()))
}

/// The years somebody of this age may be born in, the first and the last.
pub(super) fn born(items: &pb::FourItems, now: Timestamp) -> Option<(i64, i64)> {
    let from = items.age_from.or(items.age_to)?;
    let to = items.age_to.or(items.age_from)?;
    let year = i64::from(day(now).year());
    // A birthday may be still to come this year.
    Some((year - i64::from(to) - 1, year - i64::from(from)))
}

/// Whether any of a person's records that tell a birth date tells one of these years.
pub(super) fn age_fits(candidate: &ipb::MatchCandidate, born: Option<(i64, i64)>) -> bool {
    let Some((from, to)) = born else { return true };
    let records = candidate.person.iter().flat_map(|person| &person.records);
    let mut years = records
        .filter_map(|record| record.demographics.as_ref())
        .filter_map(|known| known.birth_date.parse::<PartialDate>().ok())
        .map(|birth| i64::from(birth.year()))
        .peekable();
    years.peek().is_none() || years.any(|year| (from..=to).contains(&year))
}

fn fold(text: &str) -> String {
    text.nfkc().filter(|c| !c.is_whitespace()).collect()
}

fn address_fits(candidate: &ipb::MatchCandidate, wanted: &str) -> bool {
    let wanted = fold(wanted);
    let person = candidate.person.iter();
    let records = person.flat_map(|person| &person.records);
    !wanted.is_empty()
        && records
            .filter_map(|record| record.demographics.as_ref())
            .flat_map(|demographics| &demographics.addresses)
            .any(|address| {
                let whole = fold(&format!(
                    "{}{}{}{}",
                    address.state,
                    address.city,
                    address.lines.concat(),
                    address.text
                ));
                whole.contains(&wanted)
            })
}

/// Bits of evidence, and more for an address that fits.
pub(super) fn rank(candidate: &ipb::MatchCandidate, address: &str) -> f64 {
    let bits = candidate
        .evidence
        .as_ref()
        .map_or(0.0, |evidence| evidence.bits);
    bits + if address_fits(candidate, address) {
        ADDRESS_BITS
    } else {
        0.0
    }
}
