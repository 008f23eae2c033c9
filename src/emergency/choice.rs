//! What of a summary is shown to a caller who asked for a part of it, or has not confirmed yet.

use std::collections::HashSet;

use crate::access::{Obligation, Permit};
use crate::documents::facts_of;
use crate::types::Confidentiality;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::federation::GetSummaryItemsResponse;

use super::compose::confidentiality;
use super::forms::section_name;
use super::merge::Merged;

/// Whether what is restricted is withheld from this reader until it is confirmed: where no consent names
/// it, but a grant or a disaster opens it (`spec` japan §4.6).
pub(super) fn asks_to_confirm(permit: &Permit) -> bool {
    let opened = [Obligation::BreakGlass, Obligation::Disaster];
    opened.iter().any(|one| permit.obligations().contains(one))
}

/// Takes the names of restricted documents away; that they are there is told.
pub(super) fn withhold_documents(said: &mut GetSummaryItemsResponse) {
    for (judged, document) in said.judged.iter().zip(&mut said.documents) {
        let facts = judged.entry.as_ref().map(facts_of);
        if facts.is_none_or(|facts| facts.confidentiality > Confidentiality::Normal) {
            document.title.clear();
            document.type_code = None;
            document.institution = None;
        }
    }
}

/// Withholds restricted items: only their section and region are told.
pub(super) fn withhold_items(items: &mut [pb::SummaryItem]) {
    let restricted = |item: &pb::SummaryItem| confidentiality(item) > Confidentiality::Normal;
    for item in items.iter_mut().filter(|item| restricted(item)) {
        let (display, display_en) = section_name(item.section());
        let sources = item.sources.iter().map(|source| pb::ItemSource {
            home_community_id: source.home_community_id.clone(),
            as_of: source.as_of,
            ..pb::ItemSource::default()
        });
        let mut sources: Vec<_> = sources.collect();
        sources.dedup();
        *item = pb::SummaryItem {
            item_id: std::mem::take(&mut item.item_id),
            section: item.section,
            priority: item.priority,
            display: display.to_owned(),
            display_en: display_en.to_owned(),
            sources,
            confidentiality: item.confidentiality,
            conflict_group: std::mem::take(&mut item.conflict_group),
            needs_confirmation: true,
            ..pb::SummaryItem::default()
        };
    }
}

/// Leaves `sections` only, if any are named. What contradicts what is left stays with it. Statements
/// about no section in particular stay, and documents that were not wholly read, since they may say
/// something of any section.
pub(super) fn only(sections: &[pb::SummarySection], merged: &mut Merged) {
    if sections.is_empty() {
        return;
    }
    let wanted = |item: &pb::SummaryItem| sections.contains(&item.section());
    let contradicted: HashSet<String> = merged
        .items
        .iter()
        .filter(|item| wanted(item) && !item.conflict_group.is_empty())
        .map(|item| item.conflict_group.clone())
        .collect();
    merged
        .items
        .retain(|item| wanted(item) || contradicted.contains(&item.conflict_group));
    merged.absences.retain(|absence| {
        let section = absence.section();
        section == pb::SummarySection::Unspecified || sections.contains(&section)
    });
    merged
        .aged_out
        .retain(|aged| sections.contains(&aged.section()));
    let listed = sections.contains(&pb::SummarySection::Document);
    merged
        .documents
        .retain(|document| listed || !document.used || !document.reason.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;

    fn item(section: pb::SummarySection, display: &str, group: &str) -> pb::SummaryItem {
        pb::SummaryItem {
            section: section.into(),
            display: display.to_owned(),
            conflict_group: group.to_owned(),
            ..pb::SummaryItem::default()
        }
    }

    fn merged() -> Merged {
        use pb::SummarySection::{Allergy, Contraindication, Problem, Unspecified};
        let absence = |section: pb::SummarySection| pb::AbsenceStatement {
            section: section.into(),
            ..pb::AbsenceStatement::default()
        };
        let document = |title: &str, used, reason: &str| pb::ListedDocument {
            title: title.to_owned(),
            used,
            reason: reason.to_owned(),
            ..pb::ListedDocument::default()
        };
        Merged {
            items: vec![
                item(Allergy, "a", "1"),
                item(Contraindication, "b", "1"),
                item(Contraindication, "c", ""),
                item(Problem, "d", ""),
            ],
            absences: vec![absence(Allergy), absence(Problem), absence(Unspecified)],
            documents: vec![
                document("read", true, ""),
                document("in part", true, "read in part"),
                document("not read", false, "UNREADABLE"),
            ],
            aged_out: [Allergy, Problem]
                .map(|section| pb::AgedOut {
                    section: section.into(),
                    count: 1,
                })
                .to_vec(),
        }
    }

    #[test]
    fn sections_are_chosen_and_contradictions_stay_whole() {
        let mut some = merged();
        only(&[pb::SummarySection::Allergy], &mut some);
        let shown: Vec<_> = some
            .items
            .iter()
            .map(|item| item.display.as_str())
            .collect();
        assert_eq!(shown, ["a", "b"]);
        let left: Vec<_> = some
            .absences
            .iter()
            .map(pb::AbsenceStatement::section)
            .collect();
        assert_eq!(
            left,
            [pb::SummarySection::Allergy, pb::SummarySection::Unspecified]
        );
        let aged: Vec<_> = some.aged_out.iter().map(pb::AgedOut::section).collect();
        assert_eq!(aged, [pb::SummarySection::Allergy]);
        let titles: Vec<_> = some
            .documents
            .iter()
            .map(|one| one.title.as_str())
            .collect();
        assert_eq!(titles, ["in part", "not read"]);
        let mut all = merged();
        only(&[], &mut all);
        assert_eq!(all, merged());
    }

    #[test]
    fn of_what_is_withheld_only_section_and_region_are_told() {
        let restricted = pb::SummaryItem {
            codes: vec![cpb::CodedValue {
                code: "F20".to_owned(),
                ..cpb::CodedValue::default()
            }],
            sources: vec![pb::ItemSource {
                home_community_id: "urn:oid:1.2".to_owned(),
                original_text: "統合失調症".to_owned(),
                institution: Some(cpb::InstitutionRef {
                    name: "精神科".to_owned(),
                    ..cpb::InstitutionRef::default()
                }),
                ..pb::ItemSource::default()
            }],
            confidentiality: cpb::Confidentiality::Restricted.into(),
            ..item(pb::SummarySection::Problem, "統合失調症", "")
        };
        let plain = item(pb::SummarySection::Problem, "高血圧症", "");
        let mut items = vec![restricted, plain.clone()];
        withhold_items(&mut items);
        assert_eq!(items[1], plain);
        assert!(items[0].needs_confirmation);
        let told = format!("{:?}", items[0]);
        for secret in ["統合失調症", "F20", "精神科"] {
            assert!(!told.contains(secret), "{told}");
        }
        assert!(told.contains("傷病名") && told.contains("urn:oid:1.2"));
    }
}
