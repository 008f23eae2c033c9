//! Each rule by itself; and [`hidden`]: twenty patterns of misuse in a month of ordinary work.

mod hidden;
mod work;

use super::*;
use crate::wire::pb::common as cpb;

fn event(number: u64, second: i64, verb: &str, person: &str, patient: &str) -> AuditEvent {
    AuditEvent {
        sequence: number,
        recorded: Some(prost_types::Timestamp {
            seconds: second,
            nanos: 0,
        }),
        method: format!("renkei.x.v1.X/{verb}"),
        action: Action::Execute.into(),
        outcome: Outcome::Success.into(),
        disclosed_count: 1,
        patient_tag: patient.to_owned(),
        institution: Some(cpb::InstitutionRef {
            institution_id: "1312345678".into(),
            ..Default::default()
        }),
        person: Some(cpb::PersonRef {
            subject: person.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn found(events: impl IntoIterator<Item = AuditEvent>) -> Vec<Finding> {
    let mut detector = Detector::default();
    let all = events
        .into_iter()
        .flat_map(|event| detector.observe(&event));
    all.collect()
}

/// The rules that found something.
fn rules(events: impl IntoIterator<Item = AuditEvent>) -> Vec<Rule> {
    let mut rules: Vec<_> = found(events).into_iter().map(|one| one.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn many_patients_in_an_hour_are_noticed_and_many_questions_about_one_are_not() {
    let ask = |number: u64, second: u64, patient: &str| {
        let second = i64::try_from(second).unwrap();
        event(number, second, "QueryRegistry", "d", patient)
    };
    assert_eq!(found((0..500).map(|n| ask(n, n * 5, "a"))), []);
    let others = (0..51).map(|n| ask(n, n * 5, &format!("p{n}")));
    let found_now = found(others);
    assert_eq!(found_now.len(), 1);
    assert_eq!(found_now[0].rule, Rule::Enumeration);
    assert_eq!(found_now[0].who, "1312345678/d");
    assert_eq!((found_now[0].count, found_now[0].evidence), (51, (0, 50)));
    // The same over a day, and by two people.
    let slow = (0..200).map(|n| ask(n, n * 100, &format!("p{n}")));
    assert_eq!(found(slow), []);
    let slow = (0..301).map(|n| ask(n, n * 100, &format!("p{n}")));
    assert_eq!(rules(slow), [Rule::EnumerationOfDay]);
    let two = (0..80_u64).map(|n| {
        let person = ["d", "e"][usize::try_from(n % 2).unwrap()];
        event(n, 10, "SearchPatients", person, "")
    });
    assert_eq!(found(two), []);
}

#[test]
fn refusals_volume_and_break_glass_have_their_limits() {
    let denied = |n: u64, second: i64| AuditEvent {
        outcome: Outcome::Denied.into(),
        disclosed_count: 0,
        ..event(n, second, "RetrieveDocuments", "d", "a")
    };
    assert_eq!(found((0..10).map(|n| denied(n, 5))), []);
    let found_now = found((0..11).map(|n| denied(n, 5)));
    assert_eq!(found_now[0].rule, Rule::Refusals);
    let slowly = (0..31_u64).map(|n| denied(n, i64::try_from(n).unwrap() * 800));
    assert_eq!(rules(slowly), [Rule::RefusalsOfDay]);
    let read = |n| AuditEvent {
        disclosed_count: 100,
        ..event(n, 5, "RetrieveDocuments", "d", "a")
    };
    assert_eq!(found((0..10).map(read)), []);
    assert_eq!(found((0..11).map(read))[0].rule, Rule::Volume);
    let opened = |n: u64| event(n, 5, "OpenBreakGlass", "d", "a");
    assert_eq!(found((0..5).map(opened)), []);
    assert_eq!(found((0..6).map(opened))[0].rule, Rule::BreakGlass);
    let by_all =
        (0..21_u64).map(|n| event(n, 5, "OpenBreakGlass", &format!("d{n}"), &n.to_string()));
    assert_eq!(found(by_all)[0].rule, Rule::BreakGlassOfInstitution);
}

#[test]
fn guesses_haste_and_removals_have_their_limits() {
    let nothing = |n: u64| AuditEvent {
        disclosed_count: 0,
        ..event(n, i64::try_from(n).unwrap() * 60, "SearchPatients", "d", "")
    };
    assert_eq!(rules((0..30).map(nothing)), []);
    assert_eq!(rules((0..31).map(nothing)), [Rule::Guessing]);
    let call = |n: u64| AuditEvent {
        disclosed_count: 0,
        ..event(n, 5, "GetConsent", "d", "a")
    };
    assert_eq!(rules((0..120).map(call)), []);
    assert_eq!(rules((0..121).map(call)), [Rule::Speed]);
    let remove = |n: u64| AuditEvent {
        action: Action::Delete.into(),
        disclosed_count: 0,
        ..event(n, i64::try_from(n).unwrap() * 60, "DeleteObjects", "d", "a")
    };
    assert_eq!(rules((0..20).map(remove)), []);
    assert_eq!(rules((0..21).map(remove)), [Rule::Removals]);
}

/// A relation is evidence only if somebody else knows of it, a purpose only if it is one.
#[test]
fn claims_are_counted() {
    let claimed = |n: u64, relation: &str| AuditEvent {
        relation: relation.to_owned(),
        relation_claimed: true,
        ..event(
            n,
            i64::try_from(n).unwrap() * 600,
            "GetSummary",
            "d",
            &format!("p{n}"),
        )
    };
    let many = |count, relation: &str| rules((0..count).map(|n| claimed(n, relation)));
    assert_eq!(many(20, "treating"), []);
    assert_eq!(many(21, "treating"), [Rule::ClaimedRelation]);
    assert_eq!(many(40, "emergency"), []);
    let known = (0..40).map(|n| AuditEvent {
        relation_claimed: false,
        ..claimed(n, "treating")
    });
    assert_eq!(rules(known), []);
    let stating = |purposes: &[i32]| {
        let all = purposes.iter().zip(0..).map(|(purpose, n)| AuditEvent {
            purpose: *purpose,
            outcome: Outcome::Denied.into(),
            disclosed_count: 0,
            ..event(n, 5, "QueryRegistry", "d", "a")
        });
        rules(all)
    };
    assert_eq!(stating(&[1, 2, 1, 2, 1]), []);
    assert_eq!(stating(&[1, 2, 5]), [Rule::Purposes]);
    let of_three = (1..=3).map(|n| AuditEvent {
        purpose: n,
        ..event(1, 5, "QueryRegistry", "d", &format!("p{n}"))
    });
    assert_eq!(rules(of_three), [], "each for another patient");
}

#[test]
fn readers_of_one_patient_and_restricted_items_are_counted() {
    let read = |n: u64| event(n, 5, "RetrieveDocuments", &format!("d{n}"), "a");
    assert_eq!(found((0..20).map(read)), []);
    let found_now = found((0..21).map(read));
    assert_eq!(found_now[0].rule, Rule::Readers);
    assert_eq!(found_now[0].who, "1312345678", "no patient in it");
    let restricted = |n: u64| AuditEvent {
        restricted_confirmed: true,
        ..event(
            n,
            i64::try_from(n).unwrap() * 600,
            "GetSummary",
            "d",
            &format!("p{n}"),
        )
    };
    assert_eq!(rules((0..6).map(restricted)), []);
    assert_eq!(rules((0..7).map(restricted)), [Rule::Restricted]);
}

/// Systems ask for everybody, and nobody is remembered without bound.
#[test]
fn systems_are_left_alone_and_memory_is_bounded() {
    let system = (0..200).map(|n| event(n, 5, "QueryIdentifiers", "", &format!("p{n}")));
    assert_eq!(found(system), []);
    let mut detector = Detector::default();
    for n in 0..60_000_u64 {
        let second = i64::try_from(n).unwrap();
        detector.observe(&event(n, second, "QueryRegistry", &format!("d{n}"), "a"));
        assert!(detector.watched.len() <= MAX_WATCHED);
    }
    let mut one = Detector::default();
    for n in 0..10_000_u64 {
        one.observe(&event(n, 5, "QueryRegistry", "d", &format!("p{n}")));
    }
    let remembered = |past: &Past| past.seen.len().max(past.about.len());
    assert!(
        one.watched
            .values()
            .all(|past| remembered(past) <= MAX_REMEMBERED)
    );
}

/// After a restart what was learned is not learned twice, and what was counted is counted again.
#[test]
fn a_detector_goes_on_after_a_restart() {
    let at_work = |n: u64| {
        let (day, hour) = (n / 8, 1 + n % 8);
        let second = i64::try_from(day * 86_400 + hour * 3_600).unwrap();
        event(n, second, "QueryRegistry", "d", "a")
    };
    let mut whole = Detector::default();
    (0..400).for_each(|n| assert_eq!(whole.observe(&at_work(n)), []));
    let mut first = Detector::default();
    (0..300).for_each(|n| assert_eq!(first.observe(&at_work(n)), []));
    let kept = Baselines::from_json(&first.baselines().to_json()).unwrap();
    let mut second = Detector::new(MisuseSettings::default(), kept, 300);
    (290..400).for_each(|n| assert_eq!(second.observe(&at_work(n)), []));
    assert_eq!(second.baselines().to_json(), whole.baselines().to_json());
    assert_eq!(second.baselines().len(), 1);
}
