//! The decision: one function, no I/O (INV-3).
//!
//! The facts are gathered here and are the only thing policies see; the policies decide.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use crate::planted::planted;
use crate::types::{HomeCommunityId, PersonRole, PurposeOfUse, Relation};

use super::directives::{Answer, ConsentState, Directive, DocumentFacts, Question, evaluate};
use super::policy::{Asked, AskedDocument, Obligation, Policies, PolicyHandle};
use super::{Caller, Grant, Permit};

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
    /// Declare a disaster, agree to one, end one.
    DeclareDisaster,
    /// Propose that a patient's keys be destroyed, agree to it, see what was proposed.
    Purge,
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
        Self::DeclareDisaster,
        Self::Purge,
    ];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AssertIdentity => "AssertIdentity",
            Self::QueryIdentifiers => "QueryIdentifiers",
            Self::SearchPatients => "SearchPatients",
            Self::Steward => "Steward",
            Self::SubmitDocuments => "SubmitDocuments",
            Self::FindDocuments => "FindDocuments",
            Self::ReadDocument => "ReadDocument",
            Self::IdentifyEmergency => "IdentifyEmergency",
            Self::ReadSummary => "ReadSummary",
            Self::BreakGlass => "BreakGlass",
            Self::RecordConsent => "RecordConsent",
            Self::ReadConsent => "ReadConsent",
            Self::ReadAudit => "ReadAudit",
            Self::ReadDirectory => "ReadDirectory",
            Self::ApplyDirectory => "ApplyDirectory",
            Self::Operate => "Operate",
            Self::Exchange => "Exchange",
            Self::DeclareDisaster => "DeclareDisaster",
            Self::Purge => "Purge",
        }
    }

    /// Whether the patient's wishes are asked: for clinical data, and for being found at all.
    pub const fn asks_consent(self) -> bool {
        self.is_clinical() || matches!(self, Self::QueryIdentifiers | Self::SearchPatients)
    }

    /// Whether what leaves is a patient's clinical data, so that consent is asked.
    pub const fn is_clinical(self) -> bool {
        matches!(
            self,
            Self::FindDocuments | Self::ReadDocument | Self::ReadSummary
        )
    }
}

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
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
    /// A region asks, with the hub's pass for this patient and action: the hub has judged the question
    /// as if it came through it.
    pub passed: bool,
    /// A declared disaster is in force that covers the institution.
    pub disaster: bool,
    /// The question names a patient.
    pub patient: bool,
    /// The institution has a record of the patient of its own.
    pub related: bool,
    /// The document, once known.
    pub document: Option<&'a DocumentFacts>,
    /// Now.
    pub now: Timestamp,
}

#[cfg(test)]
impl<'a> Facts<'a> {
    /// A call about nobody, with nothing known for or against it.
    pub(crate) fn alone(
        caller: &'a Caller,
        action: Action,
        home: &'a HomeCommunityId,
        now: Timestamp,
    ) -> Self {
        Self {
            caller,
            action,
            home,
            parent: None,
            directives: &[],
            opt_out_network: false,
            grant: None,
            relaying: false,
            passed: false,
            disaster: false,
            patient: false,
            related: false,
            document: None,
            now,
        }
    }
}

/// What a break-glass grant that came with a call is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantState {
    /// None came.
    None,
    /// This person's, for this patient, not over.
    InForce,
    /// Anything else.
    Void,
}

impl GrantState {
    /// Every state.
    pub const ALL: &'static [Self] = &[Self::None, Self::InForce, Self::Void];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InForce => "in-force",
            Self::Void => "void",
        }
    }
}

macro_rules! denials {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $text:tt;)+) => {
        /// Why a call is refused: for the audit and the operator, never for the caller. Of several
        /// reasons, the first in this order is told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
        pub enum Denial {
            $($(#[doc = $doc])+ #[error($text)] $variant,)+
        }

        impl Denial {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name in the audit, and in `@reason` of a policy.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The reason of that name.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

denials! {
    /// No decision could be made: a panic, an error, too long. An alarm is on.
    Fault = "DECISION_FAILED", "no decision could be made";
    /// The method is not one that asks for this: it is not declared.
    Undeclared = "UNDECLARED", "the method does not declare this";
    /// The institution is not registered for the role.
    RegisteredRole = "REGISTERED_ROLE", "institution not registered for the role";
    /// The institution is not registered for the purpose.
    RegisteredPurpose = "REGISTERED_PURPOSE", "institution not registered for the purpose";
    /// The role may not do this.
    Role = "ROLE", "role may not do this";
    /// The purpose does not fit the action or the role.
    Purpose = "PURPOSE", "purpose does not fit";
    /// Kind of institution: not an emergency hospital, not a gateway.
    Kind = "KIND", "kind of institution";
    /// The grant is of another institution, person or patient, or over; or does not go so far.
    Grant = "GRANT", "break-glass grant";
    /// No relation to the patient is asserted.
    Relation = "RELATION", "no relation to the patient";
    /// The patient said no.
    ConsentDenied = "CONSENT_DENIED", "consent denied";
    /// The patient has not said yes, and the network is opt-in.
    NoConsent = "NO_CONSENT", "no consent";
    /// The document is above what the role may read, or no consent names it.
    Confidentiality = "CONFIDENTIALITY", "confidentiality";
    /// The document is of a class that the role does not read.
    DataClass = "DATA_CLASS", "data class";
    /// 未提供: never leaves its community.
    Undelivered = "UNDELIVERED", "undelivered";
    /// 未告知: never for the patient.
    Uninformed = "UNINFORMED", "uninformed";
    /// A policy of the node's own, without a reason of this list.
    Policy = "POLICY", "a policy forbids it";
    /// The patient's consent changed while the answer was under way.
    Withdrawn = "WITHDRAWN", "consent changed meanwhile";
    /// The patient is not known here; told as a refusal is.
    UnknownPatient = "UNKNOWN_PATIENT", "patient not known";
    /// The caller has had as many unrelated patients shown as an hour allows.
    Enumeration = "ENUMERATION", "too many patients";
    /// The document was sent by referral to others only, or to the caller by one that was taken back or is
    /// over, and nothing else gives it.
    Referral = "REFERRAL_OVER", "referral taken back or over";
}

/// Decides. Every call, facade and command passes here.
///
/// # Errors
/// The internal reason of a refusal. The caller only ever sees the uniform
/// [`crate::error::Error::not_permitted`].
pub fn decide(handle: &Arc<PolicyHandle>, facts: &Facts<'_>) -> Result<Permit, Denial> {
    let policies = handle.current();
    let obligations = judge(handle, &policies, facts)?;
    let clinical = facts.action.is_clinical();
    let lens = clinical.then(|| Arc::new(Lens::new(handle, &policies, facts)));
    Ok(Permit::new(
        facts.action,
        obligations,
        policies.version().clone(),
        lens,
    ))
}

/// What a caller may be shown of a patient's documents, one by one. It is no permit: of what is not
/// such a document it says nothing.
#[derive(Clone, Debug)]
pub struct View(Arc<Lens>);

impl View {
    /// What these facts let be shown; a document among them is left aside.
    pub fn new(handle: &Arc<PolicyHandle>, facts: &Facts<'_>) -> Self {
        Self(Arc::new(Lens::new(handle, &handle.current(), facts)))
    }

    /// Whether a document like this may be shown: the decision, with the document.
    ///
    /// # Errors
    /// Why not.
    pub fn shows(&self, document: &DocumentFacts) -> Result<(), Denial> {
        self.0.judge(document)
    }

    /// Whether all that was shown through `before` would be shown through this one.
    pub fn still_gives(&self, before: &Self) -> bool {
        self.0.still_gives(&before.0)
    }
}

/// Asks the policies, within the time a decision may take.
fn judge(
    handle: &PolicyHandle,
    policies: &Policies,
    facts: &Facts<'_>,
) -> Result<Vec<Obligation>, Denial> {
    if is_directed_elsewhere(facts) {
        return Err(Denial::Referral);
    }
    let asked = asked(facts);
    let started = Instant::now();
    let verdict = policies.ask(facts.caller.role(), facts.action, &asked);
    let verdict = match verdict {
        Ok(verdict) if started.elapsed() <= handle.limit() => verdict,
        Ok(_) if planted("a fault permits") => return Ok(Vec::new()),
        Ok(_) => {
            handle.fault(format!("a decision took longer than {:?}", handle.limit()));
            return Err(Denial::Fault);
        }
        Err(message) => {
            handle.fault(message);
            return Err(Denial::Fault);
        }
    };
    match verdict.permitted {
        true => Ok(verdict.obligations.clone()),
        false => Err(verdict.denial.unwrap_or(Denial::Policy)),
    }
}

/// Whether the document was sent by referral to others only (電子紹介状), and the caller has no ground of
/// its own: the patient, who wrote it, whom the patient permits and who acts in an emergency are judged by
/// the policies, as for any document.
fn is_directed_elsewhere(facts: &Facts<'_>) -> bool {
    let Some(document) = facts.document else {
        return false;
    };
    let Some(readers) = &document.directed else {
        return false;
    };
    let caller = facts.caller;
    let ground = match &caller.participant.code {
        Some(code) => {
            let mut readers = readers.iter();
            document.authors.contains(code)
                || readers.any(|(reader, until)| reader == code && facts.now < *until)
        }
        None => false,
    };
    let emergency = matches!(
        caller.purpose,
        PurposeOfUse::Emergency | PurposeOfUse::Disaster
    );
    let exempt = ground || emergency || caller.relation() == Relation::Myself;
    !exempt && consent(facts, caller.role()).state != ConsentState::Permitted
}

/// What a policy may ask, worked out of the facts.
pub(super) fn asked(facts: &Facts<'_>) -> Asked {
    let caller = facts.caller;
    let participant = &caller.participant;
    let role = caller.role();
    let person = caller.person.is_some();
    let Answer { state, named } = consent(facts, role);
    let own_community = participant.community == *facts.home;
    let hub = facts.parent.is_none();
    Asked {
        purpose: caller.purpose,
        kind: participant.kind,
        relation: caller.relation(),
        consent: state,
        grant: match facts.grant {
            None => GrantState::None,
            Some(grant) if grant.covers(caller, facts.now) => GrantState::InForce,
            Some(_) => GrantState::Void,
        },
        person,
        role_registered: !person
            || participant.roles.is_empty()
            || participant.roles.contains(&role),
        purpose_registered: !person
            || participant.purposes.is_empty()
            || participant.purposes.contains(&caller.purpose),
        emergency_institution: participant.emergency,
        own_community,
        hub,
        gateway_itself: caller.is_gateway_itself(),
        linked_gateway: match facts.parent {
            Some(parent) => participant.community == *parent,
            None => !own_community,
        },
        through_hub: hub || caller.relay.as_ref() == facts.parent || facts.passed,
        relaying: facts.relaying,
        enrolment_is_consent: facts.opt_out_network,
        disaster: facts.disaster,
        patient: facts.patient,
        related: facts.related,
        document: facts.document.map(|document| AskedDocument {
            level: document.confidentiality,
            classes: document.classes,
            named,
            undelivered: document.undelivered,
            uninformed: document.uninformed,
            own: participant
                .code
                .as_ref()
                .is_some_and(|code| document.authors.contains(code)),
        }),
    }
}

fn consent(facts: &Facts<'_>, role: PersonRole) -> Answer {
    let caller = facts.caller;
    if !facts.action.asks_consent() {
        return Answer {
            state: ConsentState::Silent,
            named: false,
        };
    }
    evaluate(
        facts.directives,
        &Question {
            institution: caller.participant.code.as_ref(),
            community: &caller.participant.community,
            person: caller.person.as_ref().map(|person| person.subject.as_str()),
            role,
            purpose: caller.purpose,
            home: facts.home,
            document: facts.document,
            now: facts.now,
        },
    )
}

/// What a permit looks through at single documents: the same question, with the document.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts are what they are")]
pub(super) struct Lens {
    handle: Arc<PolicyHandle>,
    policies: Arc<Policies>,
    caller: Caller,
    action: Action,
    home: HomeCommunityId,
    parent: Option<HomeCommunityId>,
    directives: Vec<Directive>,
    opt_out_network: bool,
    grant: Option<Grant>,
    relaying: bool,
    passed: bool,
    disaster: bool,
    patient: bool,
    related: bool,
    now: Timestamp,
    /// Verdicts of this one question, by document: documents of a patient are often alike.
    seen: Mutex<HashMap<DocumentFacts, Option<Denial>>>,
}

impl Lens {
    fn new(handle: &Arc<PolicyHandle>, policies: &Arc<Policies>, facts: &Facts<'_>) -> Self {
        Self {
            handle: Arc::clone(handle),
            policies: Arc::clone(policies),
            caller: facts.caller.clone(),
            action: facts.action,
            home: facts.home.clone(),
            parent: facts.parent.cloned(),
            directives: facts.directives.to_vec(),
            opt_out_network: facts.opt_out_network,
            grant: facts.grant.cloned(),
            relaying: facts.relaying,
            passed: facts.passed,
            disaster: facts.disaster,
            patient: facts.patient,
            related: facts.related,
            now: facts.now,
            seen: Mutex::default(),
        }
    }

    /// Whether the caller may be shown a document like this.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, document: &DocumentFacts) -> Result<(), Denial> {
        let known = self.seen().get(document).copied();
        let denial = known.unwrap_or_else(|| self.decide(document).err());
        if known.is_none() {
            self.seen().insert(document.clone(), denial);
        }
        denial.map_or(Ok(()), Err)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<DocumentFacts, Option<Denial>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every document that was shown through `before` would be shown through this one.
    pub(super) fn still_gives(&self, before: &Self) -> bool {
        let shown: Vec<DocumentFacts> = before
            .seen()
            .iter()
            .filter(|(_, denial)| denial.is_none())
            .map(|(document, _)| document.clone())
            .collect();
        shown.iter().all(|document| self.judge(document).is_ok())
    }

    fn decide(&self, document: &DocumentFacts) -> Result<(), Denial> {
        judge(&self.handle, &self.policies, &self.facts(document)).map(|_| ())
    }

    /// Whether the patient's wishes permit a document like this, not only do not forbid it.
    pub(super) fn is_consented(&self, document: &DocumentFacts) -> bool {
        let answer = consent(&self.facts(document), self.caller.role());
        answer.state == ConsentState::Permitted
    }

    fn facts<'a>(&'a self, document: &'a DocumentFacts) -> Facts<'a> {
        Facts {
            caller: &self.caller,
            action: self.action,
            home: &self.home,
            parent: self.parent.as_ref(),
            directives: &self.directives,
            opt_out_network: self.opt_out_network,
            grant: self.grant.as_ref(),
            relaying: self.relaying,
            passed: self.passed,
            disaster: self.disaster,
            patient: self.patient,
            related: self.related,
            document: Some(document),
            now: self.now,
        }
    }
}
