//! The one way to a permit: gathers what a decision rests on, decides, notes the refusal.

use std::fmt::Debug;
use std::sync::Arc;

use crate::access::{Action, Call, Facts, Grant, Permit, Sensitivity, decide};
use crate::clock::Clock;
use crate::config::ConsentDefault;
use crate::error::Result;
use crate::types::{HomeCommunityId, PatientIdentifier};

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
    pub document: Option<Sensitivity<'a>>,
}

/// Decides calls at this node.
#[derive(Debug)]
pub struct Guard {
    consents: Arc<Consents>,
    clock: Arc<dyn Clock>,
    home: HomeCommunityId,
    parent: Option<HomeCommunityId>,
    persons: Arc<dyn Persons>,
    default: ConsentDefault,
}

/// Who is who: a wish recorded under one of a person's identifiers holds for all of them.
pub trait Persons: Debug + Send + Sync {
    /// Every identifier known here of the person this one belongs to, this one included.
    fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier>;
}

impl Guard {
    /// A guard over the recorded consents.
    pub fn new(
        consents: Arc<Consents>,
        clock: Arc<dyn Clock>,
        home: HomeCommunityId,
        parent: Option<HomeCommunityId>,
        persons: Arc<dyn Persons>,
        default: ConsentDefault,
    ) -> Self {
        Self {
            consents,
            clock,
            home,
            parent,
            persons,
            default,
        }
    }

    /// Every identifier known here of the person whom `patient` names, that one included: the one
    /// place where queries learn of merges and links.
    pub fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        self.persons.identifiers_of(patient)
    }

    /// Decides a call that concerns no one patient.
    ///
    /// # Errors
    /// As [`Guard::authorize_for`].
    pub fn authorize(&self, call: &Call, action: Action) -> Result<Permit> {
        self.authorize_for(call, action, About::default())
    }

    /// Decides a call.
    ///
    /// # Errors
    /// The uniform [`crate::error::Reason::NotPermitted`], whatever the reason (which goes to the
    /// audit); the store, if the consents cannot be read: no answer is no permit.
    pub fn authorize_for(&self, call: &Call, action: Action, about: About<'_>) -> Result<Permit> {
        let mut patients: Vec<PatientIdentifier> = about
            .patients
            .iter()
            .flat_map(|patient| self.identifiers_of(patient))
            .collect();
        patients.sort();
        patients.dedup();
        let directives = self.consents.directives(&patients)?;
        let decision = decide(&Facts {
            caller: call.caller(),
            action,
            home: &self.home,
            parent: self.parent.as_ref(),
            directives: &directives,
            opt_out_network: self.default == ConsentDefault::OptOut,
            grant: about.grant,
            relaying: about.relaying,
            document: about.document,
            now: self.clock.now(),
        });
        decision.map_err(|denial| call.refuse(denial))
    }
}
