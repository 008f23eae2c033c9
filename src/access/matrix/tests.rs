//! bars: Z-01. The matrix against a model written from japan.md §5 alone, in plain Rust.

use super::*;
use Action as A;
use PersonRole as R;
use PurposeOfUse as P;

/// What a role may do, for which purposes (§5.4), before institution, patient and document.
#[expect(clippy::too_many_lines, reason = "a table")]
fn role_allows(role: R, action: A, purpose: P) -> bool {
    let treating = matches!(
        purpose,
        P::Treatment | P::Emergency | P::CareCoordination | P::Disaster
    );
    let emergency_staff = matches!(
        role,
        R::Physician | R::Dentist | R::Nurse | R::Pharmacist | R::EmergencyTechnician
    );
    match action {
        A::IdentifyEmergency if emergency_staff => {
            return matches!(purpose, P::Emergency | P::Disaster);
        }
        A::BreakGlass if emergency_staff => return purpose == P::Emergency,
        A::IdentifyEmergency | A::BreakGlass => return false,
        _ => {}
    }
    match role {
        R::Physician
        | R::Dentist
        | R::Nurse
        | R::PublicHealthNurse
        | R::Midwife
        | R::Pharmacist => {
            treating
                && matches!(
                    action,
                    A::AssertIdentity
                        | A::QueryIdentifiers
                        | A::SearchPatients
                        | A::SubmitDocuments
                        | A::FindDocuments
                        | A::ReadDocument
                        | A::ReadSummary
                        | A::RecordConsent
                        | A::ReadConsent
                        | A::ReadDirectory
                )
        }
        R::EmergencyTechnician => {
            matches!(purpose, P::Emergency | P::Disaster)
                && matches!(action, A::ReadSummary | A::ReadDirectory)
        }
        R::LaboratoryTechnologist | R::Radiographer => {
            purpose == P::Treatment
                && matches!(
                    action,
                    A::QueryIdentifiers | A::SubmitDocuments | A::FindDocuments | A::ReadDocument
                )
        }
        R::CareWorker => {
            purpose == P::CareCoordination
                && matches!(
                    action,
                    A::QueryIdentifiers | A::FindDocuments | A::ReadDocument | A::ReadDirectory
                )
        }
        R::Clerk => {
            matches!(purpose, P::Treatment | P::Payment | P::Operations)
                && matches!(
                    action,
                    A::AssertIdentity
                        | A::QueryIdentifiers
                        | A::SearchPatients
                        | A::RecordConsent
                        | A::ReadConsent
                        | A::ReadDirectory
                )
        }
        R::PrivacyOfficer => {
            purpose == P::Operations
                && matches!(
                    action,
                    A::ReadAudit | A::RecordConsent | A::ReadConsent | A::ReadDirectory
                )
        }
        R::DataSteward => {
            purpose == P::Operations
                && matches!(
                    action,
                    A::Steward | A::QueryIdentifiers | A::SearchPatients | A::ReadDirectory
                )
        }
        R::System => {
            purpose == P::Operations
                && matches!(
                    action,
                    A::AssertIdentity
                        | A::QueryIdentifiers
                        | A::SubmitDocuments
                        | A::ReadDirectory
                        | A::Exchange
                )
        }
        R::Operator => {
            purpose == P::Operations
                && matches!(
                    action,
                    A::Operate
                        | A::ApplyDirectory
                        | A::ReadDirectory
                        | A::DeclareDisaster
                        | A::Purge
                )
        }
    }
}

fn model(cell: Cell) -> bool {
    use ConsentState as C;
    let Cell {
        action,
        role,
        purpose,
        relation,
        consent,
        standing,
    } = cell;
    if !role_allows(role, action, purpose) {
        return false;
    }
    let own = standing == Standing::Own;
    if purpose == P::Disaster
        && !matches!(
            action,
            A::ReadSummary | A::IdentifyEmergency | A::ReadDirectory
        )
    {
        return false;
    }
    match action {
        // The cells are decided at a hub, which takes writes from gateways below it.
        A::AssertIdentity | A::SubmitDocuments => own || role == R::System,
        // Of the own community's institutions, this one has a record of the patient; of others none.
        A::RecordConsent
        | A::ReadConsent
        | A::ReadAudit
        | A::Operate
        | A::ApplyDirectory
        | A::DeclareDisaster
        | A::Purge => own,
        A::QueryIdentifiers | A::SearchPatients => {
            own || role == R::DataSteward || !matches!(consent, C::Denied | C::DeniedAlways)
        }
        A::FindDocuments | A::ReadDocument | A::ReadSummary => {
            if relation == Relation::None || consent == C::DeniedAlways {
                return false;
            }
            match standing {
                Standing::Own => consent != C::Denied,
                Standing::BreakGlass => action == A::ReadSummary,
                Standing::Other => match consent {
                    C::Permitted => true,
                    C::EmergencyOnly => matches!(purpose, P::Emergency | P::Disaster),
                    C::Silent => purpose == P::Disaster,
                    C::Denied | C::DeniedAlways => false,
                },
            }
        }
        _ => true,
    }
}

#[test]
fn every_cell_is_as_the_rules_say() {
    let policies = Policies::built_in().unwrap();
    let (mut cells, mut permitted) = (0, 0);
    for standing in Standing::ALL {
        for action in Action::ALL {
            for role in PersonRole::ALL {
                for purpose in PurposeOfUse::ALL {
                    for relation in Relation::ALL {
                        for consent in ConsentState::ALL {
                            let cell = Cell {
                                action: *action,
                                role: *role,
                                purpose: *purpose,
                                relation: *relation,
                                consent: *consent,
                                standing: *standing,
                            };
                            let outcome = cell.outcome(&policies);
                            assert_ne!(outcome, Err(Denial::Fault), "{cell:?}");
                            assert_eq!(outcome.is_ok(), model(cell), "{cell:?}: {outcome:?}");
                            cells += 1;
                            permitted += usize::from(outcome.is_ok());
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cells, 3 * 19 * 15 * 9 * 5 * 5);
    assert!(
        permitted > 1_000 && permitted < cells / 5,
        "{permitted} of {cells}"
    );
}

#[test]
fn the_document_is_that_of_the_default_policies() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/authorization-matrix.md");
    let kept = std::fs::read_to_string(path).unwrap();
    let made = document(&Policies::built_in().unwrap());
    let differs = kept
        .lines()
        .zip(made.lines())
        .find(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "make it again with `renkei policy matrix > docs/authorization-matrix.md`: {differs:?}"
    );
}

#[test]
fn the_cases_of_the_default_policies_hold() {
    let cases: crate::access::Cases =
        toml::from_str(include_str!("../../../policies/cases.toml")).unwrap();
    let policies = Policies::built_in().unwrap();
    assert!(cases.case.len() > 20);
    for case in &cases.case {
        assert_eq!(case.check(&policies), Ok(None), "{}", case.name);
    }
}
