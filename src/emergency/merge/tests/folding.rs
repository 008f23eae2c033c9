//! What is one fact, and what is too old.

use crate::wire::pb::common::{Confidentiality, NationalFlag};
use crate::wire::pb::emergency::{SummaryPriority, VerificationStatus};

use super::*;

#[test]
fn the_same_fact_of_two_regions_is_one_with_both_sources() {
    let one = with(
        item(SummarySection::Problem, "I10", "a", "2026-01-01"),
        |item| {
            item.start = "2020-05".to_owned();
        },
    );
    let other = with(
        item(SummarySection::Problem, "I10", "b", "2026-02-01"),
        |item| {
            item.start = "2018".to_owned();
            item.codes.push(code("urn:oid:9", "own"));
            item.verification_status = VerificationStatus::Confirmed.into();
        },
    );
    let merged = merged(vec![vec![one.clone(), one], vec![other]]);
    let [item] = merged.items.as_slice() else {
        panic!("{merged:?}")
    };
    assert_eq!(
        homes(item),
        ["urn:oid:2.1", "urn:oid:2.0"],
        "newest first, each once"
    );
    assert_eq!(item.start, "2018");
    assert_eq!(item.codes.len(), 2);
    assert_eq!(item.verification_status(), VerificationStatus::Confirmed);
    assert_eq!(item.priority(), SummaryPriority::A);
    assert_eq!(item.sources[0].as_of.unwrap().seconds, now().as_second());
    assert_eq!((item.item_id.len(), item.conflict_group.as_str()), (32, ""));
}

#[test]
fn what_is_not_the_same_stays_apart() {
    let base = item(SummarySection::Problem, "I10", "a", "2026-01-01");
    let others = [
        item(SummarySection::Problem, "I11", "b", ""),
        item(SummarySection::Alert, "I10", "b", ""),
        with(base.clone(), |item| {
            item.codes[0].system = "urn:oid:1.3".to_owned();
        }),
        with(base.clone(), |item| {
            item.details.push(detail("prefix-modifier", "左"));
        }),
        with(base.clone(), |item| {
            item.verification_status = VerificationStatus::Unconfirmed.into();
        }),
        with(base.clone(), |item| {
            item.confidentiality = Confidentiality::Restricted.into();
        }),
        with(base.clone(), |item| item.codes.clear()),
    ];
    for other in others {
        let merged = merged(vec![vec![base.clone()], vec![other.clone()]]);
        assert_eq!(merged.items.len(), 2, "{other:?}");
    }
}

#[test]
fn a_common_icd_code_does_not_make_two_diagnoses_one() {
    let with_own = |own: &str| {
        with(item(SummarySection::Problem, "I10", own, ""), |item| {
            item.codes.push(code("urn:oid:medis", own));
        })
    };
    let only_icd = item(SummarySection::Problem, "I10", "c", "");
    assert_eq!(
        merged(vec![vec![with_own("A")], vec![with_own("B")]])
            .items
            .len(),
        2
    );
    assert_eq!(
        merged(vec![vec![with_own("A")], vec![only_icd.clone()]])
            .items
            .len(),
        1
    );
    let either = merged(vec![vec![with_own("A"), only_icd], vec![with_own("B")]]);
    assert_eq!(either.items.len(), 3, "it may be either");
}

#[test]
fn uncoded_facts_fold_by_their_text() {
    let text = |text: &str, document: &str| {
        with(item(SummarySection::Allergy, "", document, ""), |item| {
            item.codes = vec![code(
                "http://medis.or.jp/CodeSystem/master-disease-keyNumber",
                "99999999",
            )];
            text.clone_into(&mut item.display);
        })
    };
    let merged = merged(vec![
        vec![text("ラテックス ゴム", "a"), text("そば", "a")],
        vec![text("ﾗﾃｯｸｽゴム", "b")],
    ]);
    assert_eq!(merged.items.len(), 2, "99999999 is no code");
}

#[test]
fn results_are_a_series() {
    let merged = merged(vec![
        vec![
            result("4.1", "2026-03-01T09:00:00+09:00", "a"),
            result("3.9", "2025-12-01", "b"),
        ],
        vec![
            result("5.80", "2026-03-20", "c"),
            result("5.8", "2026-03-20T08:30:00+09:00", "d"),
        ],
    ]);
    let [item] = merged.items.as_slice() else {
        panic!("{merged:?}")
    };
    assert_eq!(number(item.value.as_ref()), "5.8");
    assert_eq!(
        item.start, "2026-03-20T08:30:00+09:00",
        "the more precise date"
    );
    assert_eq!(
        item.sources.len(),
        2,
        "the same value, known to the day and to the minute"
    );
    let [past] = item.past_values.as_slice() else {
        panic!()
    };
    assert_eq!(
        (number(past.value.as_ref()), past.effective.as_str()),
        ("4.1", "2026-03-01T09:00:00+09:00")
    );
    assert_eq!(
        past.source.as_ref().unwrap().home_community_id,
        "urn:oid:2.0"
    );
}

#[test]
fn repeated_prescriptions_are_one_medication_while_the_dose_is_the_same() {
    let prescribed = |start: &str, end: &str, dose: &str| {
        with(
            item(SummarySection::Medication, "warfarin", start, start),
            |item| {
                start.clone_into(&mut item.start);
                end.clone_into(&mut item.end);
                item.details = vec![detail("dose", dose)];
            },
        )
    };
    let merged = merged(vec![vec![
        prescribed("2026-01-10", "2026-02-08", "1 mg"),
        prescribed("2026-02-10", "2026-03-11", "1 mg"),
        prescribed("2026-03-12", "2026-04-10", "2 mg"),
    ]]);
    let spans: Vec<_> = merged
        .items
        .iter()
        .map(|item| (item.start.as_str(), item.end.as_str()))
        .collect();
    assert_eq!(
        spans,
        [("2026-03-12", "2026-04-10"), ("2026-01-10", "2026-03-11")]
    );
    assert_eq!(merged.items[1].sources.len(), 2);
}

#[test]
fn two_operations_are_two() {
    let operation = |date: &str, document: &str| {
        with(
            item(SummarySection::Procedure, "K597", document, ""),
            |item| date.clone_into(&mut item.start),
        )
    };
    let merged = merged(vec![
        vec![operation("2022", "a"), operation("2024-05-01", "b")],
        vec![operation("2022-03-01", "c")],
    ]);
    let starts: Vec<_> = merged
        .items
        .iter()
        .map(|item| item.start.as_str())
        .collect();
    assert_eq!(
        starts,
        ["2024-05-01", "2022-03-01"],
        "the more precise date of the same"
    );
}

#[test]
fn windows_leave_out_what_is_old() {
    let dated = |section: SummarySection, date: &str| {
        let item = item(section, "x", "a", "");
        merged(vec![vec![with(item, |item| {
            date.clone_into(&mut item.start);
        })]])
    };
    for (section, inside, outside) in [
        (SummarySection::Medication, "2026-01-01", "2025-12-31"),
        (SummarySection::Dispense, "2026-02-15", "2026-02-14"),
        (SummarySection::Procedure, "2021-04", "2021-03"),
        (SummarySection::Encounter, "2026-01-01", "2025-12-31"),
    ] {
        assert_eq!(dated(section, inside).items.len(), 1, "{section:?}");
        let old = dated(section, outside);
        let aged = AgedOut {
            section: section.into(),
            count: 1,
        };
        assert_eq!(
            (old.items.len(), old.aged_out),
            (0, vec![aged]),
            "{section:?}"
        );
        assert_eq!(
            dated(section, "").items.len(),
            1,
            "{section:?} without a date"
        );
    }
    for section in [
        SummarySection::Allergy,
        SummarySection::Contraindication,
        SummarySection::Problem,
        SummarySection::PastProblem,
        SummarySection::Device,
        SummarySection::Alert,
        SummarySection::Result,
    ] {
        assert_eq!(dated(section, "1960").items.len(), 1, "{section:?}");
    }
}

#[test]
fn a_drug_does_not_age_while_its_supply_lasts() {
    let supplied = |section: SummarySection, date: &str, supply: &str| {
        let drug = with(item(section, "warfarin", "a", date), |item| {
            date.clone_into(&mut item.start);
            item.details = vec![detail("supply", supply)];
        });
        merged(vec![vec![drug]]).items.len()
    };
    // 101 days ago.
    for (supply, shown) in [
        ("120 日", 1),
        ("17 wk", 1),
        ("120.0 d", 1),
        ("5 日", 0),
        ("< 120 日", 0),
        ("120 錠", 0),
        ("9999999 日", 0),
    ] {
        let medication = supplied(SummarySection::Medication, "2025-12-21", supply);
        assert_eq!(medication, shown, "{supply}");
    }
    assert_eq!(supplied(SummarySection::Dispense, "2026-01-15", "60 日"), 1);
    assert_eq!(supplied(SummarySection::Dispense, "2026-01-15", "14 日"), 0);
    assert_eq!(supplied(SummarySection::Medication, "2020", "9999 日"), 0);
}

#[test]
fn what_goes_on_does_not_age() {
    let taken = with(
        item(SummarySection::Medication, "x", "a", "2026-03-01"),
        |item| {
            item.start = "2019".to_owned();
        },
    );
    let dialysis = with(
        item(SummarySection::Procedure, "y", "a", "2020-01-01"),
        |item| {
            item.start = "2015".to_owned();
            item.clinical_status = ClinicalStatus::Active.into();
        },
    );
    assert_eq!(merged(vec![vec![taken, dialysis]]).items.len(), 2);
}

#[test]
fn the_order_is_that_of_danger() {
    let criticality = |item: SummaryItem, value: i32| with(item, |item| item.criticality = value);
    let all = vec![
        item(SummarySection::Immunization, "i", "a", ""),
        with(result("1", "2026-01-01", "a"), |item| {
            item.codes = vec![code("x", "older")];
        }),
        with(result("1", "2026-02-01", "a"), |item| {
            item.codes = vec![code("x", "newer")];
        }),
        item(SummarySection::PastProblem, "past", "a", ""),
        item(SummarySection::Problem, "p", "a", ""),
        criticality(item(SummarySection::Allergy, "low", "a", ""), 1),
        criticality(item(SummarySection::Allergy, "high", "a", ""), 2),
        item(SummarySection::Contraindication, "c", "a", ""),
        item(SummarySection::Alert, "alert", "a", ""),
    ];
    let merged = merged(vec![all]);
    let order: Vec<_> = merged
        .items
        .iter()
        .map(|item| item.codes[0].code.as_str())
        .collect();
    assert_eq!(
        order,
        [
            "alert", "c", "high", "low", "p", "newer", "older", "past", "i"
        ]
    );
}

#[test]
fn undelivered_and_mistaken_facts_are_dropped() {
    let flagged = with(item(SummarySection::Problem, "x", "a", ""), |item| {
        item.national_flags = vec![NationalFlag::Undelivered.into()];
    });
    let mistaken = with(item(SummarySection::Problem, "y", "a", ""), |item| {
        item.verification_status = VerificationStatus::EnteredInError.into();
    });
    assert_eq!(merged(vec![vec![flagged, mistaken]]), Merged::default());
}

#[test]
fn documents_are_listed_once_and_newest_first() {
    use crate::wire::pb::common::DocumentRef;
    let document = |id: &str, time: &str, used: bool| ListedDocument {
        document: Some(DocumentRef {
            document_unique_id: id.to_owned(),
            ..DocumentRef::default()
        }),
        creation_time: time.to_owned(),
        used,
        ..ListedDocument::default()
    };
    let part = Part {
        home_community_id: "urn:oid:2.0".to_owned(),
        documents: vec![
            document("old", "2025", false),
            document("new", "2026", false),
            document("new", "2026", true),
        ],
        ..Part::default()
    };
    let documents = merge(vec![part], now()).documents;
    let ids: Vec<_> = documents
        .iter()
        .map(|of| {
            (
                of.document.as_ref().unwrap().document_unique_id.as_str(),
                of.used,
            )
        })
        .collect();
    assert_eq!(ids, [("new", true), ("old", false)]);
    assert_eq!(
        documents[0].document.as_ref().unwrap().home_community_id,
        "urn:oid:2.0"
    );
}
