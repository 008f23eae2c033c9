//! The result depends on what was said, not on the order in which it arrived.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::wire::pb::common::DocumentRef;

use super::*;

fn any_item() -> impl Strategy<Value = SummaryItem> {
    // Few of each, so that they meet: fact and series, aging and not, two of one family.
    let section = prop::sample::select(vec![2, 3, 4, 5, 8, 9, 17, 22]);
    let about = (
        section,
        0..3_usize,
        prop::option::of(0..2_usize),
        0..2_usize,
    );
    let course = (0..4_i32, 0..4_i32, 0..3_i32, 4..6_i32);
    let dates = prop::sample::select(vec![
        "",
        "2024",
        "2026-01",
        "2026-03-01",
        "2026-03-01T09:00:00+09:00",
        "x",
    ]);
    let values = prop::option::of(prop::sample::select(vec!["1", "1.0", "2"]));
    let details = prop::collection::vec(prop::sample::select(vec!["dose", "reaction"]), 0..3);
    (
        about,
        course,
        (dates.clone(), dates.clone(), dates),
        values,
        details,
    )
        .prop_map(
            |((section, about, own, text), course, dates, value, details)| SummaryItem {
                section,
                codes: (about > 0)
                    .then(|| code("urn:oid:1.2", &format!("c{about}")))
                    .into_iter()
                    .chain(own.map(|own| code("urn:oid:1.3", &format!("o{own}"))))
                    .collect(),
                display: format!("t{text}"),
                clinical_status: course.0,
                verification_status: course.1,
                criticality: course.2,
                confidentiality: course.3,
                start: dates.0.to_owned(),
                end: dates.1.to_owned(),
                value: value.map(quantity),
                details: details.into_iter().map(|name| detail(name, "x")).collect(),
                sources: vec![source(&format!("d{text}"), dates.2)],
                ..SummaryItem::default()
            },
        )
}

fn any_part() -> impl Strategy<Value = Part> {
    let items = prop::collection::vec(any_item(), 0..12);
    let codes = prop::sample::select(vec!["716186003", "409137002", "787481004"]);
    let absences = prop::collection::vec((0..26_i32, 0..7_i32, codes), 0..3);
    (0..3_u8, items, absences).prop_map(|(home, items, absences)| Part {
        home_community_id: format!("urn:oid:2.{home}"),
        items,
        absences: absences
            .into_iter()
            .map(|(section, reason, value)| AbsenceStatement {
                section,
                reason,
                codes: vec![code("http://snomed.info/sct", value)],
                sources: vec![source("n", "2026-01-01")],
                home_community_ids: Vec::new(),
            })
            .collect(),
        documents: vec![ListedDocument {
            document: Some(DocumentRef {
                document_unique_id: format!("1.{home}"),
                ..DocumentRef::default()
            }),
            used: home > 0,
            ..ListedDocument::default()
        }],
    })
}

fn shuffled() -> impl Strategy<Value = (Vec<Part>, Vec<Part>)> {
    prop::collection::vec(any_part(), 0..5).prop_flat_map(|parts| {
        let turned = parts
            .iter()
            .map(|part| {
                let part = part.clone();
                let rest = Part {
                    items: Vec::new(),
                    absences: Vec::new(),
                    ..part.clone()
                };
                (
                    Just(part.items).prop_shuffle(),
                    Just(part.absences).prop_shuffle(),
                )
                    .prop_map(move |(items, absences)| Part {
                        items,
                        absences,
                        ..rest.clone()
                    })
            })
            .collect::<Vec<_>>();
        (Just(parts), turned)
            .prop_flat_map(|(parts, turned)| (Just(parts), Just(turned).prop_shuffle()))
    })
}

proptest! {
    // A failure prints its case, shrunk, with the seed that repeats it.
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_does_not_matter((parts, turned) in shuffled()) {
        let one = merge(parts, now());
        prop_assert_eq!(&one, &merge(turned, now()));
    }

    #[test]
    fn nothing_is_lost_and_ids_are_unique(parts in prop::collection::vec(any_part(), 0..5)) {
        let said: BTreeSet<_> = parts
            .iter()
            .flat_map(|part| part.items.iter().map(|item| (item.section, item.sources[0].entry_id.clone())))
            .collect();
        let merged = merge(parts, now());
        let ids: BTreeSet<_> = merged.items.iter().map(|item| &item.item_id).collect();
        prop_assert_eq!(ids.len(), merged.items.len());
        for item in &merged.items {
            prop_assert!(!item.sources.is_empty());
            for source in &item.sources {
                prop_assert!(said.contains(&(item.section, source.entry_id.clone())));
                prop_assert!(source.as_of.is_some() && !source.home_community_id.is_empty());
            }
            let group = &item.conflict_group;
            let members = merged.items.iter().filter(|other| other.conflict_group == *group).count();
            prop_assert!(group.is_empty() || members > 1 || group.starts_with(NONE_KNOWN_GROUP));
        }
    }

    #[test]
    fn a_summary_folds_into_itself(mut parts in prop::collection::vec(any_part(), 0..5)) {
        // Whether something without a date is old cannot be told after it was folded with what has one.
        for source in parts.iter_mut().flat_map(|part| &mut part.items).flat_map(|item| &mut item.sources) {
            source.recorded = "2026-03-15".to_owned();
        }
        let once = merge(parts, now());
        let again = Part {
            items: once.items.clone(),
            absences: once.absences.clone(),
            documents: once.documents.clone(),
            home_community_id: "urn:oid:2.9".to_owned(),
        };
        let twice = merge(vec![again], now());
        let sources = |merged: &Merged| -> BTreeSet<_> {
            let all = merged.items.iter().flat_map(|item| item.sources.iter());
            all.map(|source| (source.home_community_id.clone(), source.entry_id.clone(), source.recorded.clone())).collect()
        };
        prop_assert!(twice.items.len() <= once.items.len());
        prop_assert_eq!(sources(&once), sources(&twice));
        prop_assert_eq!(once.absences, twice.absences);
    }
}
