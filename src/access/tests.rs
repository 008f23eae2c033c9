use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::types::{
    CertificatePin, Confidentiality, HomeCommunityId, PersonRole, PurposeOfUse, Relation,
};

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
        relay: None,
        assertion: None,
    }
}

fn physician() -> Caller {
    caller(PersonRole::Physician, PurposeOfUse::Treatment)
}

struct Case {
    caller: Caller,
    action: Action,
    directives: Vec<Directive>,
    opt_out: bool,
    grant: Option<Grant>,
    relaying: bool,
    confidentiality: Option<Confidentiality>,
    home: &'static str,
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
            confidentiality: None,
            home: "urn:oid:1.9",
        }
    }

    fn decide(&self) -> Result<Permit, Denial> {
        let home: HomeCommunityId = self.home.parse().unwrap();
        decide(&Facts {
            caller: &self.caller,
            action: self.action,
            home: &home,
            directives: &self.directives,
            opt_out_network: self.opt_out,
            grant: self.grant.as_ref(),
            relaying: self.relaying,
            document: self.confidentiality.map(|confidentiality| Sensitivity {
                codes: ["18842-5", "18842-5"],
                confidentiality,
            }),
            parent: None,
            now: now(),
        })
    }

    fn denial(&self) -> Denial {
        self.decide().unwrap_err()
    }
}

fn deny(emergency: bool) -> Directive {
    Directive {
        stance: Stance::Deny,
        grantees: vec![],
        classes: vec![],
        from: None,
        until: None,
        emergency,
    }
}

fn sensitivity(class: &str) -> Sensitivity<'_> {
    Sensitivity {
        codes: [class, ""],
        confidentiality: Confidentiality::Normal,
    }
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
    case.directives = vec![Directive {
        stance: Stance::Permit,
        ..deny(false)
    }];
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
    case.directives = vec![deny(false)];
    assert_eq!(case.denial(), Denial::ConsentDenied);
}

#[test]
fn who_passes_a_question_on_enforces_denials_only() {
    let mut case = Case::new(physician(), Action::FindDocuments);
    case.opt_out = false;
    case.relaying = true;
    assert!(case.decide().is_ok());
    case.directives = vec![deny(false)];
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
fn confidentiality_is_bounded_by_role() {
    let nurse = caller(PersonRole::Nurse, PurposeOfUse::Treatment);
    let mut case = Case::new(nurse, Action::ReadDocument);
    case.confidentiality = Some(Confidentiality::Restricted);
    assert!(case.decide().is_ok());
    case.confidentiality = Some(Confidentiality::VeryRestricted);
    assert_eq!(case.denial(), Denial::Confidentiality);
}

#[test]
fn break_glass_overrides_an_ordinary_refusal_only() {
    let mut case = Case::new(
        caller(PersonRole::Physician, PurposeOfUse::Emergency),
        Action::ReadSummary,
    );
    case.directives = vec![deny(false)];
    assert_eq!(case.denial(), Denial::ConsentDenied);
    case.grant = Some(grant());
    assert!(case.decide().unwrap().under_grant());
    case.directives = vec![deny(true)];
    assert_eq!(case.denial(), Denial::ConsentDenied);
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
    let decide = |caller: &Caller, action| {
        let (home, parent) = (
            "urn:oid:1.9".parse().unwrap(),
            "urn:oid:1.1".parse().unwrap(),
        );
        decide(&Facts {
            caller,
            action,
            home: &home,
            parent: Some(&parent),
            directives: &[],
            opt_out_network: true,
            grant: None,
            relaying: false,
            document: None,
            now: now(),
        })
    };
    let mut stranger = physician();
    for action in [
        Action::AssertIdentity,
        Action::SubmitDocuments,
        Action::RecordConsent,
    ] {
        assert_eq!(decide(&stranger, action).unwrap_err(), Denial::Kind);
    }
    assert_eq!(
        decide(&stranger, Action::ReadDocument).unwrap_err(),
        Denial::Kind
    );
    stranger.relay = Some("urn:oid:1.1".parse().unwrap());
    assert!(decide(&stranger, Action::ReadDocument).is_ok());
    stranger.relay = Some("urn:oid:1.7".parse().unwrap());
    assert!(decide(&stranger, Action::ReadDocument).is_err());
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
    assert_eq!(treatment.denial(), Denial::Kind);
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
        classes: vec!["psy".into()],
        ..deny(false)
    }];
    let permit = case.decide().unwrap();
    assert!(!permit.covers(&sensitivity("psy")));
    assert!(permit.covers(&sensitivity("other")));
}

#[test]
fn every_role_has_an_answer_for_every_action() {
    let mut permitted = 0;
    for role in PersonRole::ALL {
        for action in Action::ALL {
            for purpose in PurposeOfUse::ALL {
                permitted +=
                    usize::from(Case::new(caller(*role, *purpose), *action).decide().is_ok());
            }
        }
    }
    assert!(permitted > 0);
    // Only gateways exchange, only operators operate.
    for role in PersonRole::ALL {
        let case = Case::new(caller(*role, PurposeOfUse::Operations), Action::Exchange);
        assert!(case.decide().is_err());
    }
}
