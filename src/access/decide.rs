//! The decision: one pure function, no I/O (INV-3).

use jiff::Timestamp;

use crate::types::{Confidentiality, HomeCommunityId, PersonRole, PurposeOfUse, Relation};

use super::directives::{Answer, Directive, Question, evaluate};
use super::{Caller, Grant, ParticipantKind, Permit};

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Assert an identity: feed, revise, merge.
    AssertIdentity,
    /// Resolve an identifier the caller already has (PIX).
    QueryIdentifiers,
    /// Search people by demographics (PDQ).
    SearchPatients,
    /// Decide doubtful links.
    Steward,
    /// Register documents of the own community.
    SubmitDocuments,
    /// List a patient's documents.
    FindDocuments,
    /// Read a document.
    ReadDocument,
    /// Identify an emergency patient by little.
    IdentifyEmergency,
    /// Read the minimal summary.
    ReadSummary,
    /// Declare that consent cannot be had.
    BreakGlass,
    /// Record or withdraw a patient's consent.
    RecordConsent,
    /// Read a patient's recorded consent.
    ReadConsent,
    /// Read the audit of the own institution, review break-glass.
    ReadAudit,
    /// Read who takes part.
    ReadDirectory,
    /// Change who takes part.
    ApplyDirectory,
    /// Look at the node.
    Operate,
    /// Tell the locator about holdings, deliver what was stored for forwarding.
    Exchange,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = &[
        Self::AssertIdentity,
        Self::QueryIdentifiers,
        Self::SearchPatients,
        Self::Steward,
        Self::SubmitDocuments,
        Self::FindDocuments,
        Self::ReadDocument,
        Self::IdentifyEmergency,
        Self::ReadSummary,
        Self::BreakGlass,
        Self::RecordConsent,
        Self::ReadConsent,
        Self::ReadAudit,
        Self::ReadDirectory,
        Self::ApplyDirectory,
        Self::Operate,
        Self::Exchange,
    ];

    /// Whether what leaves is a patient's clinical data, so that consent is asked.
    fn is_clinical(self) -> bool {
        matches!(
            self,
            Self::FindDocuments | Self::ReadDocument | Self::ReadSummary
        )
    }
}

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub action: Action,
    /// The deciding node's community.
    pub home: &'a HomeCommunityId,
    /// The hub above the deciding node, if it has one.
    pub parent: Option<&'a HomeCommunityId>,
    /// The patient's directives in force here. Empty also for calls without a patient.
    pub directives: &'a [Directive],
    /// Whether enrolment is taken as consent across communities.
    pub opt_out_network: bool,
    /// A break-glass grant presented with the call, already found in the store.
    pub grant: Option<&'a Grant>,
    /// This node only passes the question on: the disclosing node decides on what nobody said;
    /// what is known here to be denied is denied here.
    pub relaying: bool,
    /// Class and confidentiality of the document, once known.
    pub document: Option<Sensitivity<'a>>,
    /// Now.
    pub now: Timestamp,
}

/// What a decision asks of a document.
#[derive(Clone, Copy, Debug)]
pub struct Sensitivity<'a> {
    /// Its class code and type code: a directive may name either.
    pub codes: [&'a str; 2],
    /// How confidential it is.
    pub confidentiality: Confidentiality,
}

/// Why a call is refused: for the audit and the operator, never for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// The role may not do this.
    #[error("role may not do this")]
    Role,
    /// The purpose does not fit the action or the role.
    #[error("purpose does not fit")]
    Purpose,
    /// The institution is not registered for the role.
    #[error("institution not registered for the role")]
    RegisteredRole,
    /// The institution is not registered for the purpose.
    #[error("institution not registered for the purpose")]
    RegisteredPurpose,
    /// Kind of institution: not an emergency hospital, not a gateway.
    #[error("kind of institution")]
    Kind,
    /// No relation to the patient is asserted.
    #[error("no relation to the patient")]
    Relation,
    /// The patient said no.
    #[error("consent denied")]
    ConsentDenied,
    /// The patient has not said yes, and the network is opt-in.
    #[error("no consent")]
    NoConsent,
    /// The document is above what the role may read.
    #[error("confidentiality")]
    Confidentiality,
    /// The grant is of another institution, person or patient, or over.
    #[error("break-glass grant")]
    Grant,
}

impl Denial {
    /// The stable name in the audit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Role => "ROLE",
            Self::Purpose => "PURPOSE",
            Self::RegisteredRole => "REGISTERED_ROLE",
            Self::RegisteredPurpose => "REGISTERED_PURPOSE",
            Self::Kind => "KIND",
            Self::Relation => "RELATION",
            Self::ConsentDenied => "CONSENT_DENIED",
            Self::NoConsent => "NO_CONSENT",
            Self::Confidentiality => "CONFIDENTIALITY",
            Self::Grant => "GRANT",
        }
    }
}

/// What a role may read at most, and what it may do for which purposes (`spec` japan §5.4).
struct Rights {
    ceiling: Confidentiality,
    actions: &'static [Action],
    purposes: &'static [PurposeOfUse],
}

const CLINICAL: &[Action] = &[
    Action::AssertIdentity,
    Action::QueryIdentifiers,
    Action::SearchPatients,
    Action::SubmitDocuments,
    Action::FindDocuments,
    Action::ReadDocument,
    Action::IdentifyEmergency,
    Action::ReadSummary,
    Action::BreakGlass,
    Action::RecordConsent,
    Action::ReadConsent,
    Action::ReadDirectory,
];

const TREATING: &[PurposeOfUse] = &[
    PurposeOfUse::Treatment,
    PurposeOfUse::Emergency,
    PurposeOfUse::CareCoordination,
    PurposeOfUse::Disaster,
];

#[expect(clippy::too_many_lines, reason = "a table reads best whole")]
fn rights(role: PersonRole) -> Rights {
    use Action as A;
    use Confidentiality as C;
    use PurposeOfUse as P;
    let rights = |ceiling, actions, purposes| Rights {
        ceiling,
        actions,
        purposes,
    };
    match role {
        PersonRole::Physician | PersonRole::Dentist => {
            rights(C::VeryRestricted, CLINICAL, TREATING)
        }
        PersonRole::Nurse | PersonRole::PublicHealthNurse | PersonRole::Midwife => {
            rights(C::Restricted, CLINICAL, TREATING)
        }
        PersonRole::Pharmacist => rights(C::Normal, CLINICAL, TREATING),
        PersonRole::EmergencyTechnician => rights(
            C::Normal,
            &[
                A::IdentifyEmergency,
                A::ReadSummary,
                A::BreakGlass,
                A::ReadDirectory,
            ],
            &[P::Emergency, P::Disaster],
        ),
        PersonRole::LaboratoryTechnologist | PersonRole::Radiographer => rights(
            C::Normal,
            &[
                A::QueryIdentifiers,
                A::SubmitDocuments,
                A::FindDocuments,
                A::ReadDocument,
            ],
            &[P::Treatment],
        ),
        PersonRole::CareWorker => rights(
            C::Normal,
            &[
                A::QueryIdentifiers,
                A::FindDocuments,
                A::ReadDocument,
                A::ReadDirectory,
            ],
            &[P::CareCoordination],
        ),
        PersonRole::Clerk => rights(
            C::Normal,
            &[
                A::AssertIdentity,
                A::QueryIdentifiers,
                A::SearchPatients,
                A::RecordConsent,
                A::ReadConsent,
                A::ReadDirectory,
            ],
            &[P::Payment, P::Operations, P::Treatment],
        ),
        PersonRole::PrivacyOfficer => rights(
            C::Normal,
            &[
                A::ReadAudit,
                A::RecordConsent,
                A::ReadConsent,
                A::ReadDirectory,
            ],
            &[P::Operations],
        ),
        PersonRole::DataSteward => rights(
            C::Normal,
            &[
                A::Steward,
                A::QueryIdentifiers,
                A::SearchPatients,
                A::ReadDirectory,
            ],
            &[P::Operations],
        ),
        PersonRole::System => rights(
            C::Normal,
            &[
                A::AssertIdentity,
                A::QueryIdentifiers,
                A::SubmitDocuments,
                A::ReadDirectory,
                A::Exchange,
            ],
            &[P::Operations],
        ),
        PersonRole::Operator => rights(
            C::Normal,
            &[A::Operate, A::ApplyDirectory, A::ReadDirectory],
            &[P::Operations],
        ),
    }
}

/// Decides.
///
/// # Errors
/// The internal reason of a refusal. The caller only ever sees the uniform
/// [`crate::error::Error::not_permitted`].
pub fn decide(facts: &Facts<'_>) -> Result<Permit, Denial> {
    let caller = facts.caller;
    let role = caller.role();
    let rights = rights(role);
    registered(caller, role)?;
    if !rights.actions.contains(&facts.action) {
        return Err(Denial::Role);
    }
    if !rights.purposes.contains(&caller.purpose) {
        return Err(Denial::Purpose);
    }
    kind(facts)?;
    if let Some(document) = facts.document
        && document.confidentiality > rights.ceiling
    {
        return Err(Denial::Confidentiality);
    }
    let mut permit = Permit::new(facts.action, rights.ceiling);
    permit.leaves_community = caller.participant.community != *facts.home;
    if facts.action.is_clinical() {
        permit.under_grant = consent(facts)?;
        permit.hidden_classes = hidden_classes(facts);
    }
    Ok(permit)
}

fn registered(caller: &Caller, role: PersonRole) -> Result<(), Denial> {
    let participant = &caller.participant;
    if caller.person.is_some()
        && !participant.roles.is_empty()
        && !participant.roles.contains(&role)
    {
        return Err(Denial::RegisteredRole);
    }
    if !participant.purposes.is_empty()
        && caller.person.is_some()
        && !participant.purposes.contains(&caller.purpose)
    {
        return Err(Denial::RegisteredPurpose);
    }
    Ok(())
}

fn kind(facts: &Facts<'_>) -> Result<(), Denial> {
    let participant = &facts.caller.participant;
    let own = participant.community == *facts.home;
    let fits = match facts.action {
        Action::Exchange => exchanges(facts),
        // An operator operates the nodes of their own community.
        Action::ApplyDirectory | Action::Operate => {
            own && participant.kind == ParticipantKind::Operator
        }
        // A region takes writes from its own institutions only (INV-4); the hub also from the
        // gateways below it, which speak for theirs.
        Action::AssertIdentity | Action::SubmitDocuments | Action::RecordConsent => {
            own || facts.parent.is_none() && facts.caller.is_gateway_itself()
        }
        Action::IdentifyEmergency | Action::BreakGlass => {
            receives_emergencies(facts.caller) && facts.caller.purpose == PurposeOfUse::Emergency
        }
        Action::FindDocuments | Action::ReadDocument | Action::ReadSummary => reads(facts, own)?,
        Action::QueryIdentifiers
        | Action::SearchPatients
        | Action::Steward
        | Action::ReadConsent
        | Action::ReadAudit
        | Action::ReadDirectory => true,
    };
    if fits { Ok(()) } else { Err(Denial::Kind) }
}

/// A region exchanges with its parent only; the hub with the gateways below it.
fn exchanges(facts: &Facts<'_>) -> bool {
    let community = &facts.caller.participant.community;
    facts.caller.is_gateway_itself()
        && match facts.parent {
            Some(parent) => community == parent,
            None => community != facts.home,
        }
}

/// Who may ask for clinical data at all, before the patient's wishes are asked.
fn reads(facts: &Facts<'_>, own: bool) -> Result<bool, Denial> {
    match facts.caller.purpose {
        // Nothing has been declared: this version has no disaster mode.
        PurposeOfUse::Disaster => return Err(Denial::Purpose),
        PurposeOfUse::Emergency if !receives_emergencies(facts.caller) => {
            return Err(Denial::Kind);
        }
        _ => {}
    }
    // Another community's institutions ask through the hub, where denials of all regions are known.
    let through_hub = facts.parent.is_none() || facts.caller.relay.as_ref() == facts.parent;
    Ok(own || through_hub)
}

fn receives_emergencies(caller: &Caller) -> bool {
    use ParticipantKind as K;
    let participant = &caller.participant;
    participant.emergency && matches!(participant.kind, K::Hospital | K::FireDepartment)
}

/// Whether the patient's wishes, or an emergency, let clinical data out. Says whether it rests on
/// a break-glass grant.
fn consent(facts: &Facts<'_>) -> Result<bool, Denial> {
    let caller = facts.caller;
    if caller.relation() == Relation::None {
        return Err(Denial::Relation);
    }
    let question = Question {
        institution: caller.participant.code.as_ref(),
        community: &caller.participant.community,
        codes: facts
            .document
            .as_ref()
            .map(|document| document.codes.as_slice()),
        now: facts.now,
    };
    let answer = evaluate(facts.directives, &question);
    if let Some(grant) = facts.grant {
        if !grant.covers(caller, facts.now) {
            return Err(Denial::Grant);
        }
        return match answer {
            Answer::Denied {
                even_in_emergency: true,
            } => Err(Denial::ConsentDenied),
            _ => Ok(true),
        };
    }
    let own_community = caller.participant.community == *facts.home;
    match answer {
        Answer::Denied { .. } => Err(Denial::ConsentDenied),
        Answer::Permitted => Ok(false),
        Answer::EmergencyOnly if caller.purpose == PurposeOfUse::Emergency => Ok(false),
        Answer::EmergencyOnly | Answer::Silent
            if own_community || facts.opt_out_network || facts.relaying =>
        {
            Ok(false)
        }
        Answer::EmergencyOnly | Answer::Silent => Err(Denial::NoConsent),
    }
}

/// What the directives say of one class or type code.
fn hidden(facts: &Facts<'_>, code: &str) -> Answer {
    let question = Question {
        institution: facts.caller.participant.code.as_ref(),
        community: &facts.caller.participant.community,
        codes: Some(&[code]),
        now: facts.now,
    };
    evaluate(facts.directives, &question)
}

/// Classes a denial takes out of a list that is otherwise permitted.
fn hidden_classes(facts: &Facts<'_>) -> Vec<String> {
    let mut classes: Vec<String> = facts
        .directives
        .iter()
        .flat_map(|directive| directive.classes.iter())
        .filter(|class| match hidden(facts, class) {
            Answer::Denied { even_in_emergency } => facts.grant.is_none() || even_in_emergency,
            Answer::Permitted | Answer::Silent | Answer::EmergencyOnly => false,
        })
        .cloned()
        .collect();
    classes.sort();
    classes.dedup();
    classes
}
