//! What contradicts stands side by side.

use crate::wire::pb::emergency::{Criticality, VerificationStatus};

use super::*;

/// The conflict groups, empty ones too, of two items of two regions.
fn groups(one: SummaryItem, other: SummaryItem) -> Vec<String> {
    let merged = merged(vec![vec![one], vec![other]]);
    merged
        .items
        .iter()
        .map(|item| item.conflict_group.clone())
        .collect()
}

fn assert_conflict(one: &SummaryItem, other: &SummaryItem) {
    let groups = groups(one.clone(), other.clone());
    assert_eq!(groups.len(), 2, "both are kept");
    assert!(
        groups[0].starts_with("conflict-") && groups[0] == groups[1],
        "{groups:?}"
    );
}

fn assert_peace(one: &SummaryItem, other: &SummaryItem) {
    let groups = groups(one.clone(), other.clone());
    assert!(groups.iter().all(String::is_empty), "{groups:?}");
}

fn period(item: SummaryItem, start: &str, end: &str) -> SummaryItem {
    with(item, |item| {
        start.clone_into(&mut item.start);
        end.clone_into(&mut item.end);
    })
}

#[test]
fn resolved_against_active() {
    for section in [
        SummarySection::Allergy,
        SummarySection::Problem,
        SummarySection::Device,
    ] {
        let active = status(item(section, "x", "a", ""), ClinicalStatus::Active);
        let resolved = status(item(section, "x", "b", ""), ClinicalStatus::Resolved);
        assert_conflict(&active, &resolved);
    }
    let past = status(
        item(SummarySection::PastProblem, "x", "a", ""),
        ClinicalStatus::Resolved,
    );
    let active = item(SummarySection::Problem, "x", "b", "");
    assert_conflict(&past, &active);
    let over = period(past.clone(), "2019", "2020");
    assert_peace(&over, &period(active.clone(), "2024", ""));
    assert_conflict(&over, &period(active.clone(), "2018", ""));
    assert_peace(&past, &item(SummarySection::Problem, "y", "b", ""));
    let left = with(past, |item| item.details = vec![detail("body-site", "左")]);
    assert_peace(
        &left,
        &with(active, |item| {
            item.details = vec![detail("body-site", "右")];
        }),
    );
}

#[test]
fn a_drug_stopped_yesterday() {
    let prescribed = period(
        status(
            item(SummarySection::Medication, "warfarin", "a", "2026-03-18"),
            ClinicalStatus::Active,
        ),
        "2026-03-18",
        "2026-04-16",
    );
    let stopped = period(
        status(
            item(SummarySection::Medication, "warfarin", "b", "2026-03-31"),
            ClinicalStatus::Inactive,
        ),
        "2026-01-01",
        "2026-03-31",
    );
    assert_conflict(&prescribed, &stopped);
    let dispensed = status(
        item(SummarySection::Dispense, "warfarin", "c", "2026-03-18"),
        ClinicalStatus::Resolved,
    );
    assert_conflict(&dispensed, &stopped);
    let completed = status(prescribed.clone(), ClinicalStatus::Resolved);
    assert_peace(
        &completed,
        &with(prescribed, |item| item.sources[0].entry_id.push('2')),
    );
}

#[test]
fn regions_disagree_how_dangerous_an_allergy_is() {
    let of = |section, criticality: Criticality, document| {
        with(item(section, "J01C", document, ""), |item| {
            item.criticality = criticality.into();
        })
    };
    let high = of(SummarySection::Contraindication, Criticality::High, "a");
    assert_conflict(&high, &of(SummarySection::Allergy, Criticality::Low, "b"));
    assert_peace(
        &high,
        &of(SummarySection::Allergy, Criticality::Unspecified, "b"),
    );
}

#[test]
fn refuted_is_shown_only_beside_what_it_may_refute() {
    let refuted = with(item(SummarySection::Allergy, "J01C", "a", ""), |item| {
        item.verification_status = VerificationStatus::Refuted.into();
    });
    assert_conflict(&refuted, &item(SummarySection::Allergy, "J01C", "b", ""));
    let other = item(SummarySection::Contraindication, "other", "b", "");
    assert_eq!(
        groups(refuted.clone(), other),
        ["", ""],
        "it may be the same under another code"
    );
    let problem = item(SummarySection::Problem, "other", "b", "");
    assert_eq!(groups(refuted, problem), [""]);
}

#[test]
fn two_values_of_one_moment() {
    let merged = merged(vec![
        vec![
            result("3.1", "2026-03-20T09:00:00+09:00", "a"),
            result("4.0", "2026-01-01", "a"),
        ],
        vec![result("5.9", "2026-03-20T00:00:00Z", "b")],
    ]);
    let [one, other] = merged.items.as_slice() else {
        panic!("{merged:?}")
    };
    assert_eq!(one.conflict_group, other.conflict_group);
    assert!(!one.conflict_group.is_empty());
    assert_eq!(one.past_values.len() + other.past_values.len(), 1);
    let blood = |value: &str, document: &str| {
        with(
            item(SummarySection::BloodType, "ABO", document, ""),
            |item| item.value = Some(quantity(value)),
        )
    };
    assert_conflict(&blood("1", "a"), &blood("2", "b"));
}

#[test]
fn blood_types_of_other_code_systems_are_compared() {
    let blood = |code: &str, text: &str| {
        let of = item(SummarySection::BloodType, code, code, "");
        with(of, |item| {
            item.value = Some(ItemValue {
                value: Some(Value::Text(text.to_owned())),
                ..ItemValue::default()
            });
        })
    };
    for (one, other) in [
        ("A型", "B"),
        ("O Rh(+)", "AB型"),
        ("Rh(+)", "O Rh(-)"),
        ("Rh陽性", "Rh陰性"),
    ] {
        assert_conflict(&blood("5H010", one), &blood("883-9", other));
    }
    for (one, other) in [
        ("A型", "Ａ"),
        ("A", "Rh(-)"),
        ("AB", "abnormal"),
        ("O Rh(+)", "O"),
        ("A", "不明"),
    ] {
        assert_peace(&blood("5H010", one), &blood("883-9", other));
    }
}

fn with_absence(items: Vec<SummaryItem>, absence: AbsenceStatement) -> Merged {
    let listed = Part {
        home_community_id: "urn:oid:2.0".to_owned(),
        items,
        ..Part::default()
    };
    let denied = Part {
        home_community_id: "urn:oid:2.1".to_owned(),
        absences: vec![absence],
        ..Part::default()
    };
    merge(vec![listed, denied], now())
}

#[test]
fn none_known_against_one_listed() {
    let snomed = |value: &str| vec![code("http://snomed.info/sct", value)];
    let penicillin = item(SummarySection::Contraindication, "J01C", "a", "");
    let egg = with(item(SummarySection::Allergy, "egg", "a", ""), |item| {
        item.details = vec![detail("category", "food")];
    });
    let merged = with_absence(
        vec![penicillin.clone(), egg.clone()],
        none_known(SummarySection::Allergy, snomed("716186003"), "b"),
    );
    assert_eq!(merged.absences.len(), 1, "the statement is kept too");
    assert_eq!(
        merged.absences[0].sources[0].home_community_id,
        "urn:oid:2.1"
    );
    assert!(merged.items[0].conflict_group.starts_with(NONE_KNOWN_GROUP));
    assert_eq!(
        merged.items[0].conflict_group,
        merged.items[1].conflict_group
    );

    let drugs = with_absence(
        vec![penicillin, egg.clone()],
        none_known(SummarySection::Allergy, snomed("409137002"), "b"),
    );
    let groups: Vec<_> = drugs
        .items
        .iter()
        .map(|item| item.conflict_group.is_empty())
        .collect();
    assert_eq!(
        groups,
        [false, true],
        "no known drug allergy says nothing about eggs"
    );

    let gone = status(egg, ClinicalStatus::Resolved);
    let peace = with_absence(
        vec![gone],
        none_known(SummarySection::Allergy, snomed("716186003"), "b"),
    );
    assert_eq!(peace.items[0].conflict_group, "");
    let unasked = AbsenceStatement {
        reason: AbsenceReason::Unknown.into(),
        ..none_known(SummarySection::Problem, Vec::new(), "b")
    };
    let unknown = with_absence(vec![item(SummarySection::Problem, "x", "a", "")], unasked);
    assert_eq!(
        unknown.items[0].conflict_group, "",
        "not known is no statement about the patient"
    );
}

#[test]
fn absences_fold_with_all_who_state_them() {
    let part = |home: &str, system: &str| Part {
        home_community_id: home.to_owned(),
        absences: vec![none_known(
            SummarySection::Allergy,
            vec![code(system, "716186003")],
            home,
        )],
        ..Part::default()
    };
    let parts = vec![
        part("urn:oid:2.0", "http://snomed.info/sct"),
        part("urn:oid:2.1", "urn:oid:2.16.840.1.113883.6.96"),
    ];
    let merged = merge(parts, now());
    assert_eq!(merged.absences.len(), 1);
    assert_eq!(merged.absences[0].sources.len(), 2);
}
