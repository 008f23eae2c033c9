//! The default policies, from outside: what they permit and why they refuse.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use super::*;
use crate::types::{
    CertificatePin, Confidentiality, HomeCommunityId, PersonRole, PurposeOfUse, Relation,
};

/// The default policies; a question without a verdict fails the test.
static POLICIES: LazyLock<Arc<PolicyHandle>> = LazyLock::new(|| {
    let policies = Policies::built_in().unwrap();
    Arc::new(PolicyHandle::new(policies, |fault| panic!("{fault:?}")))
});

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn caller(role: PersonRole, purpose: PurposeOfUse) -> Caller {
    Caller {
        participant: Arc::new(Participant {
            code: Some("1310000001".parse().unwrap()),
            kind: ParticipantKind::Hospital,
            community: "urn:oid:1.2.3".parse().unwrap(),
            emergency: true,
            roles: vec![],
            purposes: vec![],
        }),
        person: Some(Person {
            subject: "staff-1".into(),
            role,
            relation: Relation::Treating,
        }),
        purpose,
        pin: CertificatePin::from_bytes([0; 32]),
        holder: "CN=test".into(),
        relay: None,
        assertion: None,
        until: None,
    }
}

pub(super) fn operator() -> Caller {
    let mut operator = caller(PersonRole::Operator, PurposeOfUse::Operations);
    let participant = Arc::make_mut(&mut operator.participant);
    participant.kind = ParticipantKind::Operator;
    participant.code = None;
    operator.person = None;
    operator
}

pub(super) fn physician() -> Caller {
    caller(PersonRole::Physician, PurposeOfUse::Treatment)
}

struct Case {
    caller: Caller,
    action: Action,
    directives: Vec<Directive>,
    opt_out: bool,
    grant: Option<Grant>,
    relaying: bool,
    disaster: bool,
    document: Option<DocumentFacts>,
    home: &'static str,
    parent: Option<&'static str>,
}

impl Case {
    fn new(caller: Caller, action: Action) -> Self {
        Self {
            caller,
            action,
            directives: vec![],
            opt_out: true,
            grant: None,
            relaying: false,
            disaster: false,
            document: None,
            home: "urn:oid:1.9",
            parent: None,
        }
    }

    fn decide(&self) -> Result<Permit, Denial> {
        let home: HomeCommunityId = self.home.parse().unwrap();
        let parent: Option<HomeCommunityId> = self.parent.map(|parent| parent.parse().unwrap());
        decide(
            &POLICIES,
            &Facts {
                parent: parent.as_ref(),
                directives: &self.directives,
                opt_out_network: self.opt_out,
                grant: self.grant.as_ref(),
                relaying: self.relaying,
                disaster: self.disaster,
                document: self.document.as_ref(),
                ..Facts::alone(&self.caller, self.action, &home, now())
            },
        )
    }

    fn denial(&self) -> Denial {
        self.decide().unwrap_err()
    }
}

fn deny() -> Directive {
    Directive::new(Stance::Deny)
}

fn permit() -> Directive {
    Directive::new(Stance::Permit)
}

fn document(kind: &'static str, confidentiality: Confidentiality) -> DocumentFacts {
    DocumentFacts {
        codes: [String::new(), kind.to_owned()],
        classes: Classes::of_document([kind, ""], "", [].into_iter()),
        confidentiality,
        undelivered: false,
        uninformed: false,
        authors: vec!["1310000009".parse().unwrap()],
        day: None,
        directed: None,
    }
}

fn note() -> DocumentFacts {
    document("18842-5", Confidentiality::Normal)
}

fn grant() -> Grant {
    Grant {
        institution: Some("1310000001".parse().unwrap()),
        subject: "staff-1".into(),
        expires: "2026-01-02T00:00:00Z".parse().unwrap(),
        closed: false,
    }
}

#[test]
fn a_treating_physician_may_read() {
    let case = Case::new(physician(), Action::ReadDocument);
    assert!(case.decide().is_ok());
}

#[test]
fn an_opt_in_network_needs_a_permit() {
    let mut case = Case::new(physician(), Action::FindDocuments);
    case.opt_out = false;
    assert_eq!(case.denial(), Denial::NoConsent);
    case.directives = vec![permit()];
    assert!(case.decide().is_ok());
    case.directives.clear();
    case.home = "urn:oid:1.2.3";
    assert!(
        case.decide().is_ok(),
        "the own community's enrolment covers its own institutions"
    );
}

#[test]
fn opting_out_is_honoured() {
    let mut case = Case::new(physician(), Action::FindDocuments);
    for directives in [vec![deny()], vec![permit(), deny()], vec![deny(), permit()]] {
        case.directives = directives;
        assert_eq!(case.denial(), Denial::ConsentDenied);
    }
    let mut over = deny();
    over.until = Some(now());
    case.directives = vec![over];
    assert!(case.decide().is_ok(), "it has ended");
}

#[test]
fn who_passes_a_question_on_enforces_denials_only() {
    let mut case = Case::new(physician(), Action::FindDocuments);
    case.opt_out = false;
    case.relaying = true;
    assert!(case.decide().is_ok());
    case.directives = vec![deny()];
    assert_eq!(case.denial(), Denial::ConsentDenied);
}

#[test]
fn a_system_reads_no_clinical_data() {
    let mut system = physician();
    Arc::make_mut(&mut system.participant).community = "urn:oid:1.9".parse().unwrap();
    system.person = None;
    system.purpose = PurposeOfUse::Operations;
    assert!(
        Case::new(system.clone(), Action::AssertIdentity)
            .decide()
            .is_ok()
    );
    for action in [
        Action::FindDocuments,
        Action::ReadDocument,
        Action::ReadSummary,
    ] {
        assert_eq!(Case::new(system.clone(), action).denial(), Denial::Role);
    }
}

#[test]
fn purpose_and_relation_are_asked() {
    let research = caller(PersonRole::Physician, PurposeOfUse::Research);
    assert_eq!(
        Case::new(research, Action::ReadDocument).denial(),
        Denial::Purpose
    );
    let mut stranger = physician();
    stranger.person.as_mut().unwrap().relation = Relation::None;
    assert_eq!(
        Case::new(stranger, Action::ReadDocument).denial(),
        Denial::Relation
    );
}

#[test]
fn confidentiality_is_bounded_by_role_and_by_what_consent_names() {
    let mut case = Case::new(
        caller(PersonRole::Nurse, PurposeOfUse::Treatment),
        Action::ReadDocument,
    );
    let mut ask = |level, ceiling| {
        case.document = Some(document("18842-5", level));
        case.directives = vec![Directive {
            ceiling,
            ..permit()
        }];
        case.decide().map(|_| ())
    };
    use Confidentiality as C;
    assert!(ask(C::Normal, C::Normal).is_ok());
    assert_eq!(ask(C::Restricted, C::Normal), Err(Denial::Confidentiality));
    assert!(ask(C::Restricted, C::Restricted).is_ok());
    assert_eq!(
        ask(C::VeryRestricted, C::VeryRestricted),
        Err(Denial::Confidentiality)
    );
    case.caller = physician();
    assert!(case.decide().is_ok());
    // Without a consent that names it, nobody but its author sees it.
    case.directives.clear();
    assert_eq!(case.denial(), Denial::Confidentiality);
    let mut own = document("18842-5", C::VeryRestricted);
    own.authors = vec!["1310000001".parse().unwrap()];
    case.document = Some(own);
    assert!(case.decide().is_ok());
}

#[test]
fn roles_see_their_data_classes() {
    let seen = |role, purpose, kind| {
        let mut case = Case::new(caller(role, purpose), Action::ReadDocument);
        case.directives = vec![Directive {
            purposes: vec![purpose],
            ..permit()
        }];
        case.document = Some(document(kind, Confidentiality::Normal));
        case.decide().map(|_| ())
    };
    use PersonRole as R;
    use PurposeOfUse as P;
    let (notes, drugs, labs, unknown) = ("18842-5", "57833-6", "11502-2", "x");
    assert!(seen(R::Pharmacist, P::Treatment, drugs).is_ok());
    assert!(seen(R::Pharmacist, P::Treatment, labs).is_ok());
    for kind in [notes, unknown] {
        assert_eq!(
            seen(R::Pharmacist, P::Treatment, kind),
            Err(Denial::DataClass)
        );
        assert!(seen(R::Physician, P::Treatment, kind).is_ok());
    }
    let care = P::CareCoordination;
    assert_eq!(seen(R::CareWorker, care, drugs), Err(Denial::DataClass));
    assert!(seen(R::CareWorker, care, "60591-5").is_ok());
    assert!(seen(R::Radiographer, P::Treatment, "18747-6").is_ok());
    assert_eq!(
        seen(R::Radiographer, P::Treatment, drugs),
        Err(Denial::DataClass)
    );
    assert_eq!(seen(R::Clerk, P::Treatment, drugs), Err(Denial::Role));
}

#[test]
fn national_flags_are_lifted_by_nothing() {
    let mut case = Case::new(
        caller(PersonRole::Physician, PurposeOfUse::Emergency),
        Action::ReadSummary,
    );
    case.grant = Some(grant());
    case.document = Some(DocumentFacts {
        undelivered: true,
        ..note()
    });
    assert_eq!(case.denial(), Denial::Undelivered);
    case.home = "urn:oid:1.2.3";
    assert!(case.decide().is_ok(), "the own community has it anyway");
    case.document = Some(DocumentFacts {
        uninformed: true,
        ..note()
    });
    assert!(case.decide().is_ok());
    case.caller.person.as_mut().unwrap().relation = Relation::Myself;
    assert_eq!(case.denial(), Denial::Uninformed);
}

#[test]
fn break_glass_overrides_an_ordinary_refusal_only() {
    let mut case = Case::new(
        caller(PersonRole::Physician, PurposeOfUse::Emergency),
        Action::ReadSummary,
    );
    case.directives = vec![deny()];
    assert_eq!(case.denial(), Denial::ConsentDenied);
    case.grant = Some(grant());
    let permit = case.decide().unwrap();
    assert!(permit.under_grant());
    assert_eq!(permit.obligations(), [Obligation::BreakGlass]);
    case.directives = vec![Directive {
        emergency: true,
        ..deny()
    }];
    assert_eq!(case.denial(), Denial::ConsentDenied);
    // It opens the summary, not documents.
    case.directives.clear();
    for action in [Action::FindDocuments, Action::ReadDocument] {
        case.action = action;
        assert_eq!(case.denial(), Denial::Grant);
    }
}

#[test]
fn a_grant_is_bound_to_person_institution_time_and_purpose() {
    let emergency = caller(PersonRole::Physician, PurposeOfUse::Emergency);
    let mut case = Case::new(emergency, Action::ReadSummary);
    for wrong in [
        Grant {
            subject: "staff-2".into(),
            ..grant()
        },
        Grant {
            institution: Some("1310000002".parse().unwrap()),
            ..grant()
        },
        Grant {
            expires: now(),
            ..grant()
        },
        Grant {
            closed: true,
            ..grant()
        },
    ] {
        case.grant = Some(wrong);
        assert_eq!(case.denial(), Denial::Grant);
    }
    let mut ordinary = Case::new(physician(), Action::ReadSummary);
    ordinary.grant = Some(grant());
    assert_eq!(ordinary.denial(), Denial::Grant);
}

#[test]
fn emergency_actions_need_an_emergency_institution() {
    let mut clinic = caller(PersonRole::Physician, PurposeOfUse::Emergency);
    Arc::make_mut(&mut clinic.participant).kind = ParticipantKind::Clinic;
    for action in [
        Action::IdentifyEmergency,
        Action::BreakGlass,
        Action::ReadSummary,
    ] {
        assert_eq!(Case::new(clinic.clone(), action).denial(), Denial::Kind);
    }
}

#[test]
fn a_region_takes_writes_from_its_own_only_and_reads_through_the_hub_only() {
    let mut case = Case::new(physician(), Action::ReadDocument);
    case.parent = Some("urn:oid:1.1");
    for action in [
        Action::AssertIdentity,
        Action::SubmitDocuments,
        Action::RecordConsent,
        Action::ReadDocument,
    ] {
        case.action = action;
        assert_eq!(case.denial(), Denial::Kind);
    }
    case.caller.relay = Some("urn:oid:1.1".parse().unwrap());
    assert!(case.decide().is_ok());
    case.caller.relay = Some("urn:oid:1.7".parse().unwrap());
    assert!(case.decide().is_err());
}

#[test]
fn gateways_exchange_with_those_they_are_linked_to() {
    let mut gateway = physician();
    let participant = Arc::make_mut(&mut gateway.participant);
    participant.kind = ParticipantKind::Gateway;
    participant.code = None;
    gateway.person = None;
    gateway.purpose = PurposeOfUse::Operations;
    let mut case = Case::new(gateway, Action::Exchange);
    assert!(case.decide().is_ok(), "the hub, with a gateway below it");
    case.parent = Some("urn:oid:1.1");
    assert_eq!(case.denial(), Denial::Kind);
    case.parent = Some("urn:oid:1.2.3");
    assert!(case.decide().is_ok(), "a region, with its parent");
    Arc::make_mut(&mut case.caller.participant).kind = ParticipantKind::Hospital;
    assert_eq!(case.denial(), Denial::Kind);
}

#[test]
fn an_emergency_purpose_needs_an_emergency_institution_everywhere() {
    let mut pharmacy = caller(PersonRole::Pharmacist, PurposeOfUse::Emergency);
    Arc::make_mut(&mut pharmacy.participant).kind = ParticipantKind::Pharmacy;
    let case = Case::new(pharmacy, Action::FindDocuments);
    assert_eq!(case.denial(), Denial::Kind);
    let disaster = caller(PersonRole::Physician, PurposeOfUse::Disaster);
    assert_eq!(
        Case::new(disaster, Action::ReadSummary).denial(),
        Denial::Purpose
    );
    let treatment = Case::new(physician(), Action::BreakGlass);
    assert_eq!(treatment.denial(), Denial::Purpose);
    let midwife = caller(PersonRole::Midwife, PurposeOfUse::Emergency);
    assert_eq!(
        Case::new(midwife, Action::BreakGlass).denial(),
        Denial::Role
    );
}

#[test]
fn registration_limits_roles_and_purposes() {
    let mut limited = physician();
    Arc::make_mut(&mut limited.participant).roles = vec![PersonRole::Pharmacist];
    assert_eq!(
        Case::new(limited, Action::ReadDocument).denial(),
        Denial::RegisteredRole
    );
    let mut limited = physician();
    Arc::make_mut(&mut limited.participant).purposes = vec![PurposeOfUse::Payment];
    assert_eq!(
        Case::new(limited, Action::ReadDocument).denial(),
        Denial::RegisteredPurpose
    );
}

#[test]
fn a_class_denied_is_taken_out_of_lists() {
    let mut case = Case::new(physician(), Action::FindDocuments);
    case.directives = vec![Directive {
        classes: Classes::NONE.with(DataClass::Notes),
        ..deny()
    }];
    let permit = case.decide().unwrap();
    assert!(!permit.covers(&note()));
    assert!(permit.covers(&document("11502-2", Confidentiality::Normal)));
    // And one of a permit that is no longer about documents covers none.
    let other = Case::new(physician(), Action::QueryIdentifiers);
    assert!(!other.decide().unwrap().covers(&note()));
}

#[test]
fn a_list_shows_what_reading_would_give() {
    let list = Case::new(physician(), Action::FindDocuments);
    let permit = list.decide().unwrap();
    use Confidentiality as C;
    for level in [C::Normal, C::Restricted, C::VeryRestricted] {
        for kind in ["18842-5", "11502-2", "x"] {
            let mut read = Case::new(physician(), Action::ReadDocument);
            read.document = Some(document(kind, level));
            let listed = permit.covers(read.document.as_ref().unwrap());
            assert_eq!(listed, read.decide().is_ok(), "{kind} {level:?}");
        }
    }
}

#[test]
fn disaster_mode_is_for_where_it_was_declared_and_for_the_summary() {
    let disaster = caller(PersonRole::Physician, PurposeOfUse::Disaster);
    let mut case = Case::new(disaster, Action::ReadSummary);
    assert_eq!(case.denial(), Denial::Purpose);
    case.disaster = true;
    case.opt_out = false;
    let permit = case.decide().unwrap();
    assert_eq!(permit.obligations(), [Obligation::Disaster]);
    for action in [Action::FindDocuments, Action::ReadDocument] {
        case.action = action;
        assert_eq!(case.denial(), Denial::Purpose);
    }
    case.action = Action::IdentifyEmergency;
    assert!(case.decide().is_ok());
    case.action = Action::ReadSummary;
    case.directives = vec![deny()];
    assert_eq!(case.denial(), Denial::ConsentDenied);
}

#[test]
fn a_directed_document_is_read_by_its_addressee_until_the_referral_is_over() {
    let directed = |code: &str, until: Timestamp| {
        let readers = vec![(code.parse().unwrap(), until)];
        Some(DocumentFacts {
            directed: Some(readers),
            ..note()
        })
    };
    let later = now() + jiff::SignedDuration::from_hours(1);
    let mut case = Case::new(physician(), Action::ReadDocument);
    case.home = "urn:oid:1.2.3";
    case.document = Some(note());
    assert!(case.decide().is_ok(), "an ordinary one");
    case.document = directed("1310000001", later);
    assert!(case.decide().is_ok(), "the addressee");
    case.document = directed("1310000001", now());
    assert_eq!(case.denial(), Denial::Referral);
    case.document = directed("1310000002", later);
    assert_eq!(case.denial(), Denial::Referral);
    // A list is judged as the document is.
    let document = case.document.take().unwrap();
    let given = case.decide().unwrap();
    assert!(!given.covers(&document) && given.covers(&note()));
    case.document = Some(document);
    case.directives = vec![permit()];
    assert!(case.decide().is_ok(), "the patient wants it read");
    case.directives.clear();
    case.document.as_mut().unwrap().authors = vec!["1310000001".parse().unwrap()];
    assert!(case.decide().is_ok(), "it wrote it");
}
