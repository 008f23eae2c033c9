//! Facts of the summary in words, the same in every form.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::wire::pb::common::CodedValue;
use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{ItemDetail, ItemSource, ItemValue, Quantity, SummaryItem};
use crate::wire::pb::identity::{Address, NameUse, PersonName};

use super::words::{self, Language};

/// Text without what changes how other text is read: control characters, which XML has no place for,
/// and marks that turn the direction of writing, which could make a dose look like another.
pub(super) fn clean(text: &str) -> String {
    let misleads = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(
                letter,
                '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}' | '\u{2029}'
            )
            || matches!(letter, '\u{fffe}' | '\u{ffff}')
    };
    let spaced = text
        .chars()
        .map(|letter| if misleads(letter) { ' ' } else { letter });
    spaced.collect::<String>().trim().to_owned()
}

/// The parts that are not empty, with `between` between them.
pub(super) fn join<T: AsRef<str>>(parts: impl IntoIterator<Item = T>, between: &str) -> String {
    let mut joined = String::new();
    for part in parts {
        let part = part.as_ref();
        if part.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.push_str(between);
        }
        joined.push_str(part);
    }
    joined
}

/// A moment by the clock in Japan, to the minute.
pub(super) fn moment(time: Option<&prost_types::Timestamp>) -> String {
    let stamp = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    stamp.map(in_japan).unwrap_or_default()
}

fn in_japan(stamp: Timestamp) -> String {
    let zone = TimeZone::fixed(Offset::constant(9));
    stamp
        .to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M JST")
        .to_string()
}

/// A date of the record: as it is, or a moment by the clock in Japan.
pub(super) fn date(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| clean(text), in_japan)
}

/// `from – to`, as far as they are known.
pub(super) fn span(item: &SummaryItem) -> String {
    match (item.start.is_empty(), item.end.is_empty()) {
        (_, true) => date(&item.start),
        (true, false) => format!("– {}", date(&item.end)),
        (false, false) if item.start == item.end => date(&item.start),
        (false, false) => format!("{} – {}", date(&item.start), date(&item.end)),
    }
}

/// A code in words.
pub(super) fn coded(code: Option<&CodedValue>) -> String {
    let text = code.map(|code| match code.display_name.as_str() {
        "" => code.code.as_str(),
        display => display,
    });
    clean(text.unwrap_or_default())
}

/// What an item is called: in the main language first, the other one behind it if there is one.
pub(super) fn display(item: &SummaryItem, language: Language) -> String {
    let japanese = match item.display.as_str() {
        "" => coded(item.codes.first()),
        display => clean(display),
    };
    let english = clean(&item.display_en);
    if english == japanese {
        return japanese;
    }
    match language {
        Language::Japanese => join([japanese, english], " / "),
        Language::English => join([english, japanese], " / "),
    }
}

/// An amount: `<7.40 mg/dL`.
pub(super) fn quantity(amount: &Quantity) -> String {
    let unit = match amount.unit.as_str() {
        "" => &amount.ucum,
        unit => unit,
    };
    let number = clean(&format!("{}{}", amount.comparator, amount.value));
    join([number, clean(unit)], " ")
}

/// A value alone, without range and interpretation.
pub(super) fn bare(value: &ItemValue) -> String {
    match &value.value {
        Some(Value::Quantity(amount)) => quantity(amount),
        Some(Value::Coded(code)) => coded(Some(code)),
        Some(Value::Text(text)) => clean(text),
        None => String::new(),
    }
}

/// A value with what the source says about it: `7.40 mg/dL H (3.0 - 5.0)`.
pub(super) fn value(value: &ItemValue) -> String {
    let range = match clean(&value.reference_range) {
        range if range.is_empty() => range,
        range => format!("({range})"),
    };
    join([bare(value), clean(&value.interpretation), range], " ")
}

/// The details that the name does not have already.
pub(super) fn details(item: &SummaryItem, language: Language) -> String {
    let shown = item.details.iter().filter(|detail| {
        // Modifiers are part of the name of the disease.
        !code_of(detail).ends_with("fix-modifier")
    });
    join(shown.map(|one| detail(one, language)), "; ")
}

/// The code of a detail's name.
pub(super) fn code_of(detail: &ItemDetail) -> &str {
    detail.name.as_ref().map_or("", |name| name.code.as_str())
}

fn detail(detail: &ItemDetail, language: Language) -> String {
    let said = detail.value.as_ref().map(value).unwrap_or_default();
    let code = code_of(detail);
    match (code, said.as_str()) {
        ("as-needed", "true") => return words::AS_NEEDED.main(language).to_owned(),
        ("do-not-perform", "true") => return words::NOT_TO_USE.main(language).to_owned(),
        _ => {}
    }
    let english = words::detail(code).filter(|_| language == Language::English);
    let name = english.map_or_else(|| coded(detail.name.as_ref()), str::to_owned);
    if said.is_empty() {
        return String::new();
    }
    join([name, said], " ")
}

/// Where something comes from: institution and date, and the region if the institution has no name.
pub(super) fn source(source: &ItemSource, language: Language) -> String {
    let recorded = match date(&source.recorded) {
        none if none.is_empty() => none,
        date => format!("{date} {}", words::RECORDED.main(language)),
    };
    join([institution(source), recorded], " ")
}

/// The institution that recorded something, by its name, its code, or its region.
pub(super) fn institution(source: &ItemSource) -> String {
    let institution = source.institution.clone().unwrap_or_default();
    let known = [
        institution.name,
        institution.institution_id,
        source.home_community_id.clone(),
    ];
    let named = known.iter().find(|text| !text.is_empty());
    clean(named.map_or("", String::as_str))
}

/// The oldest moment at which the sources of an item were asked; none if one does not say.
pub(super) fn as_of(item: &SummaryItem) -> Option<prost_types::Timestamp> {
    let asked: Option<Vec<_>> = item.sources.iter().map(|source| source.as_of).collect();
    asked?.into_iter().min_by_key(|at| (at.seconds, at.nanos))
}

/// A whole name.
pub(super) fn name(name: &PersonName) -> String {
    let text = clean(&name.text);
    if !text.is_empty() {
        return text;
    }
    let given = name.given.iter().map(|part| clean(part));
    join(std::iter::once(clean(&name.family)).chain(given), " ")
}

/// All names, each once: those in use, then former ones, marked as such.
pub(super) fn names(names: &[PersonName], language: Language) -> (String, String) {
    let former = |one: &&PersonName| matches!(one.r#use(), NameUse::Old | NameUse::Maiden);
    let mut current: Vec<String> = Vec::new();
    let mut before: Vec<String> = Vec::new();
    for one in names {
        let list = if former(&one) {
            &mut before
        } else {
            &mut current
        };
        let text = name(one);
        if !list.contains(&text) {
            list.push(text);
        }
    }
    before.retain(|text| !text.is_empty() && !current.contains(text));
    let label = words::FORMER_NAME.main(language);
    let before = match before.is_empty() {
        true => String::new(),
        false => format!("{label}: {}", join(before, ", ")),
    };
    (join(current, "  "), before)
}

/// An address in one line.
pub(super) fn address(address: &Address) -> String {
    let text = clean(&address.text);
    if !text.is_empty() {
        return text;
    }
    let lines = address.lines.iter().map(|line| clean(line));
    let parts = [clean(&address.state), clean(&address.city)];
    join(parts.into_iter().chain(lines), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_turns_the_direction_of_writing() {
        assert_eq!(
            clean("ワルファリン\u{202e}gm 1.0\u{0}"),
            "ワルファリン gm 1.0"
        );
        assert_eq!(clean("𠮷田\u{e0100} 髙"), "𠮷田\u{e0100} 髙");
    }

    #[test]
    fn moments_are_of_japan_and_dates_are_kept() {
        assert_eq!(date("2026-03-31T15:30:00Z"), "2026-04-01 00:30 JST");
        assert_eq!(date("2026-03"), "2026-03");
        assert_eq!(moment(None), "");
    }
}
