use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::access::caller::ParticipantKind;
use crate::access::classes::{Classes, DataClass};
use crate::access::decide::GrantState;
use crate::access::directives::ConsentState;
use crate::types::{Confidentiality, PurposeOfUse, Relation};

const GOOD: &str = r#"
@id("read")
permit (principal == Role::"Medical Doctor", action == Action::"ReadDocument", resource)
when { context.purpose == Purpose::"TREAT" };
"#;

fn load(text: &str) -> Result<Policies, PolicyError> {
    let entities = include_str!("../../../policies/entities.json");
    Policies::load(&[("test.cedar".to_owned(), text.to_owned())], entities)
}

fn complaint(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let document = (
        select(vec![
            Confidentiality::Normal,
            Confidentiality::Restricted,
            Confidentiality::VeryRestricted,
        ]),
        proptest::collection::vec(select(DataClass::ALL), 1..3),
        any::<[bool; 4]>(),
    );
    let document = document.prop_map(|(level, classes, flags)| AskedDocument {
        level,
        classes: classes.into_iter().collect::<Classes>(),
        named: flags[0],
        undelivered: flags[1],
        uninformed: flags[2],
        own: flags[3],
    });
    let facts = (
        select(PurposeOfUse::ALL),
        select(ParticipantKind::ALL),
        select(Relation::ALL),
        select(ConsentState::ALL),
        select(GrantState::ALL),
        any::<[bool; 14]>(),
        proptest::option::of(document),
    );
    facts.prop_map(
        |(purpose, kind, relation, consent, grant, flags, document)| Asked {
            purpose,
            kind,
            relation,
            consent,
            grant,
            person: flags[0],
            role_registered: flags[1],
            purpose_registered: flags[2],
            emergency_institution: flags[3],
            own_community: flags[4],
            hub: flags[5],
            gateway_itself: flags[6],
            linked_gateway: flags[7],
            through_hub: flags[8],
            relaying: flags[9],
            enrolment_is_consent: flags[10],
            disaster: flags[11],
            related: flags[12],
            patient: flags[13],
            document,
        },
    )
}

fn some_asked() -> Asked {
    Asked {
        purpose: PurposeOfUse::Treatment,
        kind: ParticipantKind::Hospital,
        relation: Relation::Treating,
        consent: ConsentState::Permitted,
        grant: GrantState::None,
        person: true,
        role_registered: true,
        purpose_registered: true,
        emergency_institution: true,
        own_community: true,
        hub: true,
        gateway_itself: false,
        linked_gateway: false,
        through_hub: true,
        relaying: false,
        enrolment_is_consent: false,
        disaster: false,
        related: false,
        patient: true,
        document: None,
    }
}

#[test]
fn the_default_set_is_valid_and_each_policy_says_what_it_is_for() {
    let policies = Policies::built_in().unwrap();
    assert!(policies.policies().count() > 30);
    for policy in policies.policies() {
        assert!(!policy.doc.is_empty(), "{} has no @doc", policy.id);
    }
    assert_eq!(policies.version().as_str().len(), 32);
}

#[test]
fn a_set_that_is_wrong_is_refused_whole() {
    assert!(load(GOOD).is_ok());
    let cases = [
        ("permit (principal, action, resource);", "@id"),
        (
            "@id(\"x\") permit (principal, action, resource) when { context.puprose == Purpose::\"TREAT\" };",
            "puprose",
        ),
        (
            "@id(\"x\") permit (principal, action, resource) when { context.purpose == Purpose::\"TRAET\" };",
            "TRAET",
        ),
        (
            "@id(\"x\") permit (principal, action, resource) when { context.purpose == \"TREAT\" };",
            "",
        ),
        (
            "@id(\"x\") permit (principal == Role::\"Wizard\", action, resource);",
            "Wizard",
        ),
        (
            "@id(\"x\") permit (principal in RoleGroup::\"wizards\", action, resource);",
            "wizards",
        ),
        (
            "@id(\"x\") permit (principal, action == Action::\"Conjure\", resource);",
            "Conjure",
        ),
        (
            "@id(\"x\") @reason(\"BECAUSE\") forbid (principal, action, resource);",
            "BECAUSE",
        ),
        (
            "@id(\"x\") @obligation(\"dance\") permit (principal, action, resource);",
            "dance",
        ),
        (
            "@id(\"x\") permit (principal, action, resource) when { context.document.named };",
            "document",
        ),
        ("@id(\"x\") permit (principal, action, resource", ""),
    ];
    for (text, expected) in cases {
        let said = complaint(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    assert!(complaint(&[GOOD, GOOD].concat()).contains("twice"));
}

#[test]
fn another_set_has_another_version() {
    let (one, same) = (load(GOOD).unwrap(), load(GOOD).unwrap());
    assert_eq!(one.version(), same.version());
    let other = load(&GOOD.replace("TREAT", "COORD")).unwrap();
    assert_ne!(one.version(), other.version());
}

/// Cedar leaves out a policy that fails to evaluate. If it forbids, that would open a door.
#[test]
fn a_policy_that_fails_denies() {
    let overflow = r#"
@id("breaks")
forbid (principal, action, resource)
when { context has document && context.document.level + 9223372036854775807 > 0 };
"#;
    let policies = load(&[GOOD, overflow].concat()).unwrap();
    let ask = |asked: &Asked| policies.ask(PersonRole::Physician, Action::ReadDocument, asked);
    assert!(ask(&some_asked()).unwrap().permitted);
    let document = AskedDocument {
        level: Confidentiality::Restricted,
        classes: Classes::NONE.with(DataClass::Notes),
        named: true,
        undelivered: false,
        uninformed: false,
        own: false,
    };
    let asked = Asked {
        document: Some(document),
        ..some_asked()
    };
    let failed = ask(&asked).unwrap_err();
    assert!(failed.contains("breaks"), "{failed}");
    assert_eq!(
        policies.verdicts.len(),
        1,
        "what got no verdict is not kept"
    );
}

#[test]
fn a_fault_is_told_and_a_decision_that_takes_too_long_is_none() {
    use crate::access::{Denial, Facts, decide};
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let handle = PolicyHandle::new(Policies::built_in().unwrap(), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let caller = crate::access::tests::operator();
    let home = caller.participant.community.clone();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let facts = Facts::alone(&caller, Action::Operate, &home, now);
    let handle = Arc::new(handle);
    assert!(decide(&handle, &facts).is_ok());
    assert_eq!(told.load(Ordering::Relaxed), 0);
    let handle = Arc::into_inner(handle).unwrap().with_limit(Duration::ZERO);
    let handle = Arc::new(handle);
    assert_eq!(decide(&handle, &facts).unwrap_err(), Denial::Fault);
    assert_eq!((told.load(Ordering::Relaxed), handle.faults()), (1, 1));
}

/// What is kept is what would be said, and no more is kept than is allowed.
#[test]
fn a_verdict_that_is_kept_is_the_one_that_would_be_given() {
    let policies = Policies {
        verdicts: Cache::new(16),
        ..Policies::built_in().unwrap()
    };
    proptest!(|(
        asked in any_asked(),
        role in select(PersonRole::ALL),
        action in select(Action::ALL),
    )| {
        let first = policies.ask(role, action, &asked).unwrap();
        let again = policies.ask(role, action, &asked).unwrap();
        let fresh = policies.evaluate(role, action, &asked).unwrap();
        for kept in [first, again] {
            prop_assert_eq!(kept.permitted, fresh.permitted);
            prop_assert_eq!(kept.denial, fresh.denial);
            prop_assert_eq!(&kept.obligations, &fresh.obligations);
            prop_assert_eq!(&kept.because, &fresh.because);
        }
        prop_assert!(policies.verdicts.len() as u64 <= policies.verdicts.capacity());
    });
}

/// The context made for every decision is what the schema promises to policies.
#[test]
fn the_facts_fit_the_schema() {
    use cedar_policy::{Request, Schema};
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
    proptest!(|(asked in any_asked())| {
        let request = Request::new(
            facts::uid("Role", "Clerk").unwrap(),
            facts::uid("Action", "ReadDocument").unwrap(),
            facts::uid("Records", "here").unwrap(),
            asked.context().unwrap(),
            Some(&schema),
        );
        prop_assert!(request.is_ok(), "{:?}", request.err());
    });
}

/// Slices answer as the whole set does.
#[test]
fn a_slice_answers_as_the_whole() {
    use cedar_policy::{Authorizer, Decision, PolicySet, Request};
    use std::str::FromStr as _;
    let policies = Policies::built_in().unwrap();
    let text: String = load::DEFAULT.iter().map(|(_, text)| *text).collect();
    let whole = PolicySet::from_str(&text).unwrap();
    proptest!(|(
        asked in any_asked(),
        role in select(PersonRole::ALL),
        action in select(Action::ALL),
    )| {
        let request = Request::new(
            facts::uid("Role", role.code()).unwrap(),
            facts::uid("Action", action.name()).unwrap(),
            facts::uid("Records", "here").unwrap(),
            asked.context().unwrap(),
            None,
        )
        .unwrap();
        let response = Authorizer::new().is_authorized(&request, &whole, &policies.entities);
        let sliced = policies.ask(role, action, &asked).unwrap();
        prop_assert_eq!(response.decision() == Decision::Allow, sliced.permitted);
        prop_assert_eq!(response.diagnostics().reason().count(), sliced.because.len());
    });
}
