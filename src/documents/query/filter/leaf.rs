//! Whether one attribute of an object is one of those wanted.

use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::super::text::{Pattern, xcn};

fn same(wanted: &cpb::CodedValue, code: &cpb::CodedValue) -> bool {
    wanted.code == code.code && (wanted.system.is_empty() || wanted.system == code.system)
}

pub(super) fn one_of(wanted: &[cpb::CodedValue], code: Option<&cpb::CodedValue>) -> bool {
    wanted.is_empty() || hit(wanted, code)
}

fn hit(wanted: &[cpb::CodedValue], code: Option<&cpb::CodedValue>) -> bool {
    code.is_some_and(|code| wanted.iter().any(|wanted| same(wanted, code)))
}

fn list_hit(list: &pb::CodeList, codes: &[cpb::CodedValue]) -> bool {
    list.any_of
        .iter()
        .any(|wanted| codes.iter().any(|code| same(wanted, code)))
}

/// Several lists of alternatives are joined by AND.
pub(super) fn all_lists(lists: &[pb::CodeList], codes: &[cpb::CodedValue]) -> bool {
    lists
        .iter()
        .all(|list| list.any_of.is_empty() || list_hit(list, codes))
}

pub(super) fn codes(wanted: &pb::DocumentFilter, entry: &pb::DocumentEntry) -> bool {
    one_of(&wanted.class_codes, entry.class_code.as_ref())
        && one_of(&wanted.type_codes, entry.type_code.as_ref())
        && one_of(
            &wanted.practice_setting_codes,
            entry.practice_setting_code.as_ref(),
        )
        && one_of(
            &wanted.healthcare_facility_type_codes,
            entry.healthcare_facility_type_code.as_ref(),
        )
        && one_of(&wanted.format_codes, entry.format_code.as_ref())
        && all_lists(&wanted.event_codes, &entry.event_codes)
        && all_lists(&wanted.confidentiality_codes, &entry.confidentiality_codes)
}

/// None stated means stable only (ITI-18 §3.18.4.1.2.3.6.2); what is not stated in an entry is
/// stable too.
pub(super) fn object_type(wanted: &[i32], entry: &pb::DocumentEntry) -> bool {
    let on_demand = entry.object_type() == pb::ObjectType::OnDemand;
    let asked = |kind: pb::ObjectType| wanted.contains(&kind.into());
    match on_demand {
        true => asked(pb::ObjectType::OnDemand),
        false => wanted.is_empty() || asked(pb::ObjectType::Stable),
    }
}

/// What is not stated is online.
pub(super) fn availability(wanted: &[i32], entry: &pb::DocumentEntry) -> bool {
    wanted.is_empty() || wanted.contains(&availability_of(entry))
}

fn availability_of(entry: &pb::DocumentEntry) -> i32 {
    match entry.document_availability() {
        pb::DocumentAvailability::Unspecified => pb::DocumentAvailability::Online.into(),
        stated => stated.into(),
    }
}

pub(super) fn institutions(wanted: &[String], entry: &pb::DocumentEntry) -> bool {
    wanted.is_empty() || of_institution(wanted, entry)
}

fn of_institution(wanted: &[String], entry: &pb::DocumentEntry) -> bool {
    let institutions = entry.authors.iter().flat_map(|author| &author.institutions);
    institutions
        .into_iter()
        .any(|institution| wanted.contains(&institution.id))
}

pub(super) fn authored(patterns: &[Pattern], authors: &[pb::Author]) -> bool {
    let people = authors.iter().filter_map(|author| author.person.as_ref());
    people
        .map(xcn)
        .any(|person| patterns.iter().any(|pattern| pattern.matches(&person)))
}

/// One of the list is among the entry's reference ids, as far as its parts are given.
pub(super) fn refers(list: &pb::ReferenceIdList, entry: &pb::DocumentEntry) -> bool {
    let part = |wanted: &str, given: &str| wanted.is_empty() || wanted == given;
    list.any_of.iter().any(|wanted| {
        entry.reference_ids.iter().any(|given| {
            wanted.id == given.id
                && part(&wanted.assigning_authority, &given.assigning_authority)
                && part(&wanted.type_code, &given.type_code)
                && part(&wanted.home_community_id, &given.home_community_id)
        })
    })
}

/// Whether the entry has anything of what must not be there.
pub(super) fn excluded(
    not: &pb::DocumentFilter,
    people: &[Pattern],
    entry: &pb::DocumentEntry,
) -> bool {
    let any = |lists: &[pb::CodeList], codes: &[cpb::CodedValue]| {
        lists.iter().any(|list| list_hit(list, codes))
    };
    let kind = match entry.object_type() {
        pb::ObjectType::OnDemand => pb::ObjectType::OnDemand,
        _ => pb::ObjectType::Stable,
    };
    hit(&not.class_codes, entry.class_code.as_ref())
        || hit(&not.type_codes, entry.type_code.as_ref())
        || hit(
            &not.practice_setting_codes,
            entry.practice_setting_code.as_ref(),
        )
        || hit(
            &not.healthcare_facility_type_codes,
            entry.healthcare_facility_type_code.as_ref(),
        )
        || hit(&not.format_codes, entry.format_code.as_ref())
        || any(&not.event_codes, &entry.event_codes)
        || any(&not.confidentiality_codes, &entry.confidentiality_codes)
        || authored(people, &entry.authors)
        || not.object_types.contains(&kind.into())
        || not
            .document_availabilities
            .contains(&availability_of(entry))
        || of_institution(&not.author_institution_ids, entry)
        || not.mime_types.contains(&entry.mime_type)
}
