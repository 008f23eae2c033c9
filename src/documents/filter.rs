//! Whether an entry answers a stored query's filter (ITI-18 §3.18.4.1.2.3): conditions of one field
//! are alternatives, fields are joined by AND.

use crate::error::{Error, Reason, Result};
use crate::types::Dtm;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

/// Checks the filter's times before it is used.
///
/// # Errors
/// [`Reason::InvalidField`], naming the bound.
pub(crate) fn check(filter: &pb::DocumentFilter) -> Result<()> {
    for (field, range) in [
        ("creation_time", &filter.creation_time),
        ("service_start_time", &filter.service_start_time),
        ("service_stop_time", &filter.service_stop_time),
    ] {
        let Some(range) = range else { continue };
        for (end, value) in [("from", &range.from), ("to", &range.to)] {
            if !value.is_empty() && value.parse::<Dtm>().is_err() {
                let path = format!("filter.{field}.{end}");
                let message = "is not a date-time of the form YYYY[MM[DD[hh[mm[ss]]]]]";
                return Err(Error::field(Reason::InvalidField, path, message));
            }
        }
    }
    Ok(())
}

/// Whether `entry`, registered at `sequence`, answers `filter`.
pub(crate) fn matches(
    entry: &pb::DocumentEntry,
    sequence: u64,
    filter: &pb::DocumentFilter,
) -> bool {
    let statuses = if filter.statuses.is_empty() {
        entry.availability_status() == pb::AvailabilityStatus::Approved
    } else {
        filter.statuses.contains(&entry.availability_status)
    };
    statuses
        && one_of(&filter.class_codes, entry.class_code.as_ref())
        && one_of(&filter.type_codes, entry.type_code.as_ref())
        && one_of(
            &filter.practice_setting_codes,
            entry.practice_setting_code.as_ref(),
        )
        && one_of(
            &filter.healthcare_facility_type_codes,
            entry.healthcare_facility_type_code.as_ref(),
        )
        && one_of(&filter.format_codes, entry.format_code.as_ref())
        && all_lists(&filter.event_codes, &entry.event_codes)
        && all_lists(&filter.confidentiality_codes, &entry.confidentiality_codes)
        && within(filter.creation_time.as_ref(), &entry.creation_time)
        && within(
            filter.service_start_time.as_ref(),
            &entry.service_start_time,
        )
        && within(filter.service_stop_time.as_ref(), &entry.service_stop_time)
        && alternatives(&filter.object_types, &entry.object_type)
        && alternatives(&filter.mime_types, &entry.mime_type)
        && authors(filter, entry)
        && text(&filter.text, entry)
        && sequence >= filter.changed_since_sequence
}

fn alternatives<T: PartialEq>(wanted: &[T], value: &T) -> bool {
    wanted.is_empty() || wanted.contains(value)
}

fn same(wanted: &cpb::CodedValue, code: &cpb::CodedValue) -> bool {
    wanted.code == code.code && (wanted.system.is_empty() || wanted.system == code.system)
}

fn one_of(wanted: &[cpb::CodedValue], code: Option<&cpb::CodedValue>) -> bool {
    wanted.is_empty() || code.is_some_and(|code| wanted.iter().any(|wanted| same(wanted, code)))
}

/// Several lists of alternatives are joined by AND.
fn all_lists(lists: &[pb::CodeList], codes: &[cpb::CodedValue]) -> bool {
    lists.iter().all(|list| {
        list.any_of.is_empty()
            || list
                .any_of
                .iter()
                .any(|wanted| codes.iter().any(|code| same(wanted, code)))
    })
}

/// from ≤ time < to, each as precise as given (ITI-18 §3.18.4.1.2.3.2).
fn within(range: Option<&pb::TimeRange>, time: &str) -> bool {
    let Some(range) = range.filter(|range| !range.from.is_empty() || !range.to.is_empty()) else {
        return true;
    };
    let Ok(time) = time.parse::<Dtm>() else {
        return false;
    };
    let from = range
        .from
        .parse::<Dtm>()
        .map_or(true, |from| time.earliest() >= from.earliest());
    let to = range
        .to
        .parse::<Dtm>()
        .map_or(true, |to| time.earliest() < to.earliest());
    from && to
}

fn authors(filter: &pb::DocumentFilter, entry: &pb::DocumentEntry) -> bool {
    let institutions = filter.author_institution_ids.is_empty()
        || entry
            .authors
            .iter()
            .flat_map(|author| &author.institutions)
            .any(|institution| filter.author_institution_ids.contains(&institution.id));
    let persons = filter.author_persons.is_empty()
        || entry
            .authors
            .iter()
            .filter_map(|author| author.person.as_ref())
            .any(|person| {
                let name = format!("{}{}", person.family, person.given);
                filter
                    .author_persons
                    .iter()
                    .any(|wanted| name.contains(wanted.trim_matches('%')))
            });
    institutions && persons
}

fn text(wanted: &str, entry: &pb::DocumentEntry) -> bool {
    let wanted = wanted.to_lowercase();
    wanted.is_empty()
        || [&entry.title, &entry.comments]
            .into_iter()
            .flatten()
            .flat_map(|text| &text.values)
            .any(|text| text.value.to_lowercase().contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: &str) -> cpb::CodedValue {
        cpb::CodedValue {
            code: code.into(),
            system: "s".into(),
            ..cpb::CodedValue::default()
        }
    }

    fn entry() -> pb::DocumentEntry {
        pb::DocumentEntry {
            availability_status: pb::AvailabilityStatus::Approved.into(),
            class_code: Some(code("57133-1")),
            event_codes: vec![code("a"), code("b")],
            creation_time: "20240131".into(),
            ..pb::DocumentEntry::default()
        }
    }

    #[test]
    fn fields_are_anded_and_alternatives_ored() {
        let mut filter = pb::DocumentFilter {
            class_codes: vec![code("x"), code("57133-1")],
            ..Default::default()
        };
        assert!(matches(&entry(), 5, &filter));
        let list = |codes: &[&str]| pb::CodeList {
            any_of: codes.iter().map(|c| code(c)).collect(),
        };
        filter.event_codes = vec![list(&["a", "z"]), list(&["b"])];
        assert!(matches(&entry(), 5, &filter));
        filter.event_codes.push(list(&["z"]));
        assert!(!matches(&entry(), 5, &filter));
    }

    #[test]
    fn time_bounds_are_from_inclusive_to_exclusive() {
        let range = |from: &str, to: &str| pb::DocumentFilter {
            creation_time: Some(pb::TimeRange {
                from: from.into(),
                to: to.into(),
            }),
            ..Default::default()
        };
        assert!(matches(&entry(), 0, &range("20240131", "20240201")));
        assert!(matches(&entry(), 0, &range("2024", "")));
        assert!(!matches(&entry(), 0, &range("", "20240131")));
        assert!(check(&range("2024-01", "")).is_err());
    }

    #[test]
    fn only_approved_unless_asked() {
        let deprecated = pb::DocumentEntry {
            availability_status: pb::AvailabilityStatus::Deprecated.into(),
            ..entry()
        };
        assert!(!matches(&deprecated, 0, &pb::DocumentFilter::default()));
        let filter = pb::DocumentFilter {
            statuses: vec![pb::AvailabilityStatus::Deprecated.into()],
            ..Default::default()
        };
        assert!(matches(&deprecated, 0, &filter));
    }
}
