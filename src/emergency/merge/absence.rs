//! What is stated to be absent.

use std::collections::BTreeMap;

use crate::wire::pb::emergency::item_value::Value;
use crate::wire::pb::emergency::{AbsenceStatement, SummaryItem, SummarySection};

use super::super::extract::codes;
use super::fold::sources;
use super::identity::{Certainty, Course};

/// One of each statement, with all who made it.
pub(super) fn fold(absences: Vec<AbsenceStatement>) -> Vec<AbsenceStatement> {
    let mut folded: BTreeMap<_, AbsenceStatement> = BTreeMap::new();
    for mut absence in absences {
        absence.codes.sort_by(|one, other| {
            (
                &one.system,
                &one.code,
                &one.display_name,
                &one.system_version,
            )
                .cmp(&(
                    &other.system,
                    &other.code,
                    &other.display_name,
                    &other.system_version,
                ))
        });
        let codes: Vec<_> = absence
            .codes
            .iter()
            .map(|code| (codes::system(&code.system).to_owned(), code.code.clone()))
            .collect();
        let key = (absence.section, absence.reason, codes);
        match folded.get_mut(&key) {
            Some(known) => {
                // Displays and spellings may differ; the least stands for all.
                let displays = |of: &AbsenceStatement| -> Vec<_> {
                    of.codes
                        .iter()
                        .map(|code| (code.system.clone(), code.display_name.clone()))
                        .collect()
                };
                if displays(&absence) < displays(known) {
                    known.codes.clone_from(&absence.codes);
                }
                known.sources.extend(absence.sources);
                known.home_community_ids.extend(absence.home_community_ids);
            }
            None => {
                folded.insert(key, absence);
            }
        }
    }
    let finish = |mut absence: AbsenceStatement| {
        absence.sources = sources(absence.sources);
        absence.home_community_ids.sort_unstable();
        absence.home_community_ids.dedup();
        absence
    };
    folded.into_values().map(finish).collect()
}

/// Whether `item` is what `absence` says there is none of.
pub(in crate::emergency) fn is_denied(item: &SummaryItem, absence: &AbsenceStatement) -> bool {
    let sections: &[SummarySection] = match absence.section() {
        SummarySection::Allergy | SummarySection::Contraindication => {
            &[SummarySection::Allergy, SummarySection::Contraindication]
        }
        SummarySection::Medication | SummarySection::Dispense => {
            &[SummarySection::Medication, SummarySection::Dispense]
        }
        other => &[other],
    };
    // What is over, or was given, is no contradiction of what is said to be now.
    let of_now = match item.section() {
        SummarySection::Procedure | SummarySection::Dispense | SummarySection::Immunization => true,
        _ => ![Course::Over, Course::Stopped].contains(&Course::of(item)),
    };
    let scopes: Vec<_> = absence.codes.iter().filter_map(codes::absent).collect();
    let in_scope = scopes.is_empty()
        || scopes
            .iter()
            .any(|scope| scope.category.is_empty() || is_of_category(item, scope.category));
    sections.contains(&item.section())
        && of_now
        && in_scope
        && Certainty::of(item) != Certainty::Refuted
}

/// Whether an allergy is of a category; one that states none may be.
fn is_of_category(item: &SummaryItem, category: &str) -> bool {
    if item.section() == SummarySection::Contraindication {
        return category == "medication";
    }
    let stated = item.details.iter().find_map(|detail| {
        let name = detail
            .name
            .as_ref()
            .filter(|name| name.code == "category")?;
        (!name.code.is_empty()).then_some(detail.value.as_ref()?.value.as_ref()?)
    });
    match stated {
        Some(Value::Text(text)) => text.split(' ').any(|of| of == category),
        Some(_) | None => true,
    }
}
