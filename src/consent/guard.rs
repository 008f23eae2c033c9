//! The one way to a permit: gathers what a decision rests on, decides, notes the refusal.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

use crate::access::{
    Action, Call, Caller, Denial, DocumentFacts, Facts, Grant, Lease, Permit, PolicyHandle, Stance,
    View, decide, declared,
};
use crate::clock::Clock;
use crate::config::ConsentDefault;
use crate::error::Result;
use crate::types::{HomeCommunityId, PatientIdentifier, PurposeOfUse, Relation};

use super::Consents;

/// What a call is about, as far as the decision asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The patient; the guard adds every other identifier of the person known here.
    pub patients: &'a [PatientIdentifier],
    /// A break-glass grant found for the call.
    pub grant: Option<&'a Grant>,
    /// The question is only passed on; others disclose.
    pub relaying: bool,
    /// The document.
    pub document: Option<&'a DocumentFacts>,
    /// The community whose data it is, if it is not this node's, and the person's identifiers there: what
    /// it said before is judged as it would judge it. A permission counts only if it was recorded there,
    /// since others do not reach it; a refusal counts wherever it was recorded.
    pub holder: Option<(&'a HomeCommunityId, &'a [PatientIdentifier])>,
}

/// As [`About`], kept until the answer has left.
#[derive(Debug)]
struct Subject {
    patients: Vec<PatientIdentifier>,
    grant: Option<Grant>,
    relaying: bool,
    passed: bool,
    document: Option<DocumentFacts>,
    holder: Option<(HomeCommunityId, Vec<PatientIdentifier>)>,
}

/// Whether the call came with the hub's leave for this action on these patients.
fn passed(call: &Call, action: Action, patients: &[PatientIdentifier]) -> bool {
    call.pass()
        .is_some_and(|pass| pass.covers(action, patients))
}

/// Decides calls at this node.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Grounds>);

/// What decisions at a node rest on.
#[derive(Debug)]
pub struct Grounds {
    /// The rules.
    pub policies: Arc<PolicyHandle>,
    /// What patients said.
    pub consents: Arc<Consents>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The node's community.
    pub home: HomeCommunityId,
    /// The hub above it.
    pub parent: Option<HomeCommunityId>,
    /// Who is who.
    pub persons: Arc<dyn Persons>,
    /// Disasters.
    pub disasters: Arc<dyn Declared>,
    /// What holds where nothing is recorded.
    pub default: ConsentDefault,
}

/// Who is who: a wish recorded under one of a person's identifiers holds for all of them.
pub trait Persons: Debug + Send + Sync {
    /// Every identifier known here of the person whom `patient` names, that one included.
    fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier>;

    /// Whether the identifier is, or once was, somebody's.
    fn knows(&self, patient: &PatientIdentifier) -> bool;
}

/// Declared disasters.
pub trait Declared: Debug + Send + Sync {
    /// Whether one is in force for the caller's institution.
    fn covers(&self, caller: &Caller, now: Timestamp) -> bool;
}

impl Guard {
    /// A guard on these grounds.
    pub fn new(grounds: Grounds) -> Self {
        Self(Arc::new(grounds))
    }

    /// Every identifier known here of the person whom `patient` names, that one included: the one
    /// place where queries learn of merges and links.
    pub fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        self.0.persons.identifiers_of(patient)
    }

    /// Whether the identifier is, or once was, somebody's.
    pub fn knows(&self, patient: &PatientIdentifier) -> bool {
        self.0.persons.knows(patient)
    }

    /// Whether the calling institution has a record of the patient who is known by these identifiers.
    pub fn is_related(&self, caller: &Caller, patients: &[PatientIdentifier]) -> bool {
        related(&self.0.home, caller, patients)
    }

    /// Decides a call that concerns no one patient.
    ///
    /// # Errors
    /// As [`Guard::authorize_for`].
    pub fn authorize(&self, call: &Call, action: Action) -> Result<Permit> {
        self.authorize_for(call, action, About::default())
    }

    /// Decides a call. Where clinical data is asked for, the answer rests on the decision until it
    /// has left: a change of the patient's wishes meanwhile is judged again.
    ///
    /// # Errors
    /// The uniform [`crate::error::Reason::NotPermitted`], whatever the reason (which goes to the
    /// audit); the store, if the consents cannot be read: no answer is no permit.
    pub fn authorize_for(&self, call: &Call, action: Action, about: About<'_>) -> Result<Permit> {
        let decision = self.judge(call, action, about)?;
        decision.map_err(|denial| call.refuse(denial))
    }

    /// Whether the call may be given this too: a part of an answer, which is left out if not.
    ///
    /// # Errors
    /// The store.
    pub fn allows(&self, call: &Call, action: Action, about: About<'_>) -> Result<bool> {
        let decision = self.judge(call, action, about)?;
        if let Err(denial) = &decision {
            let name = denial.name();
            call.note(|record| record.denial = Some(name));
        }
        Ok(decision.is_ok())
    }

    /// A permit for a part of an answer, or none: then the part is left out.
    ///
    /// # Errors
    /// The store.
    pub fn permit_for_part(
        &self,
        call: &Call,
        action: Action,
        about: About<'_>,
    ) -> Result<Option<Permit>> {
        self.judge(call, action, about).map(Result::ok)
    }

    /// What the call may be shown of a patient's documents, each judged as [`Guard::authorize_for`]
    /// would judge it, with the patient's wishes read once. What was shown is judged again when they
    /// change before the answer has left.
    ///
    /// # Errors
    /// The uniform [`crate::error::Reason::NotPermitted`] for a method that is not declared for it;
    /// the store.
    pub fn view(&self, call: &Call, action: Action, patient: &PatientIdentifier) -> Result<View> {
        let inner = &self.0;
        self.declared(call, action)
            .map_err(|denial| call.refuse(denial))?;
        let subject = Subject {
            patients: inner.person(std::slice::from_ref(patient)),
            grant: None,
            relaying: false,
            passed: passed(call, action, std::slice::from_ref(patient)),
            document: None,
            holder: None,
        };
        inner.note_relation(call, &subject);
        // From before the wishes are read, so that no change slips between.
        let waiter = inner.consents.changes(&subject.patients);
        let view = inner.view(call.caller(), action, &subject)?;
        let (inner, caller) = (Arc::clone(inner), call.caller().clone());
        let (notices, before) = (waiter.receiver(), view.clone());
        call.rests_on(Lease::new(notices, move || {
            // Kept as long as the lease is.
            let _waiter = &waiter;
            let again = inner.view(&caller, action, &subject);
            again.is_ok_and(|now| now.still_gives(&before))
        }));
        Ok(view)
    }

    /// Notes the policies in force; whether the method may ask for this.
    fn declared(&self, call: &Call, action: Action) -> Result<(), Denial> {
        let version = self.0.policies.current().version().to_string();
        call.note(|record| record.policy = Some(version));
        match declared(call.method()).contains(&action) {
            true => Ok(()),
            false => Err(Denial::Undeclared),
        }
    }

    fn judge(
        &self,
        call: &Call,
        action: Action,
        about: About<'_>,
    ) -> Result<Result<Permit, Denial>> {
        let inner = &self.0;
        if let Err(denial) = self.declared(call, action) {
            return Ok(Err(denial));
        }
        let subject = Subject {
            patients: inner.person(about.patients),
            grant: about.grant.cloned(),
            relaying: about.relaying,
            passed: passed(call, action, about.patients),
            document: about.document.cloned(),
            holder: about
                .holder
                .map(|(home, patients)| (home.clone(), patients.to_vec())),
        };
        inner.note_relation(call, &subject);
        // From before the wishes are read, so that no change slips between.
        let waiter = (action.is_clinical() && !subject.patients.is_empty())
            .then(|| inner.consents.changes(&subject.patients));
        let decision = inner.decide(call.caller(), action, &subject)?;
        if let (Some(waiter), Ok(permit)) = (waiter, &decision) {
            let (inner, caller) = (Arc::clone(inner), call.caller().clone());
            let (notices, before) = (waiter.receiver(), permit.clone());
            call.rests_on(Lease::new(notices, move || {
                // Kept as long as the lease is.
                let _waiter = &waiter;
                let again = inner.decide(&caller, action, &subject);
                matches!(again, Ok(Ok(now)) if now.still_gives(&before))
            }));
        }
        Ok(decision)
    }
}

impl Grounds {
    /// Notes for the audit if nothing but the person's word is for the relation to the patient: the
    /// institution has no record of the patient. Only the hub and the institution's own community
    /// know all its records, and the hub not who has them in a domain that a whole community shares.
    fn note_relation(&self, call: &Call, subject: &Subject) {
        let caller = call.caller();
        let shared = subject.patients.iter();
        let shared = shared
            .filter(|patient| !patient.is_of_an_institution())
            .count();
        let knows =
            caller.participant.community == self.home || (self.parent.is_none() && shared == 0);
        let claims = !matches!(caller.relation(), Relation::None | Relation::Myself);
        if knows
            && claims
            && !subject.patients.is_empty()
            && !related(&self.home, caller, &subject.patients)
        {
            call.note(|record| record.relation_claimed = true);
        }
    }

    fn person(&self, patients: &[PatientIdentifier]) -> Vec<PatientIdentifier> {
        let all = patients.iter();
        let mut patients: Vec<PatientIdentifier> = all
            .flat_map(|patient| self.persons.identifiers_of(patient))
            .collect();
        patients.sort();
        patients.dedup();
        patients
    }

    fn decide(
        &self,
        caller: &Caller,
        action: Action,
        subject: &Subject,
    ) -> Result<Result<Permit, Denial>> {
        self.on_facts(caller, action, subject, |facts| {
            decide(&self.policies, facts)
        })
    }

    fn view(&self, caller: &Caller, action: Action, subject: &Subject) -> Result<View> {
        self.on_facts(caller, action, subject, |facts| {
            View::new(&self.policies, facts)
        })
    }

    /// Gathers what a decision rests on, for `judge`.
    fn on_facts<T>(
        &self,
        caller: &Caller,
        action: Action,
        subject: &Subject,
        judge: impl FnOnce(&Facts<'_>) -> T,
    ) -> Result<T> {
        let mut directives = match action.asks_consent() {
            true => self.consents.directives(&subject.patients)?,
            false => Vec::new(),
        };
        if let Some((_, patients)) = subject.holder.as_ref().filter(|_| action.asks_consent()) {
            directives.retain(|directive| directive.stance == Stance::Deny);
            directives.extend(self.consents.directives(patients)?);
        }
        let now = self.clock.now();
        let facts = Facts {
            caller,
            action,
            home: subject.holder.as_ref().map_or(&self.home, |(home, _)| home),
            parent: self.parent.as_ref(),
            directives: &directives,
            opt_out_network: self.default == ConsentDefault::OptOut,
            grant: subject.grant.as_ref(),
            relaying: subject.relaying,
            passed: subject.passed,
            disaster: caller.purpose == PurposeOfUse::Disaster
                && self.disasters.covers(caller, now),
            patient: !subject.patients.is_empty(),
            related: related(&self.home, caller, &subject.patients),
            document: subject.document.as_ref(),
            now,
        };
        Ok(judge(&facts))
    }
}

/// Whether the calling institution has a record of the patient: a number of its own, or one of a
/// domain that its whole community shares.
fn related(home: &HomeCommunityId, caller: &Caller, patients: &[PatientIdentifier]) -> bool {
    let participant = &caller.participant;
    let own = participant.community == *home;
    let code = participant.code.as_ref();
    patients.iter().any(|patient| {
        code.is_some_and(|code| patient.is_of(code)) || (own && !patient.is_of_an_institution())
    })
}
