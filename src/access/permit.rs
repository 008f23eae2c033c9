//! What a decision gives: a permit that services demand, and break-glass grants.

use jiff::Timestamp;

use crate::types::{Confidentiality, InstitutionCode, PurposeOfUse};

use crate::error::{Error, Result};

use super::{Action, Caller, Sensitivity};

/// Leave to do one thing. Made only by [`super::decide`]; services take it by reference, so that no
/// door can skip the decision.
#[derive(Clone, Debug)]
#[must_use]
pub struct Permit {
    action: Action,
    ceiling: Confidentiality,
    pub(super) under_grant: bool,
    pub(super) leaves_community: bool,
    pub(super) hidden_classes: Vec<String>,
}

impl Permit {
    pub(super) fn new(action: Action, ceiling: Confidentiality) -> Self {
        Self {
            action,
            ceiling,
            under_grant: false,
            leaves_community: false,
            hidden_classes: Vec::new(),
        }
    }

    /// What it is for.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The most confidential document it lets through.
    pub fn ceiling(&self) -> Confidentiality {
        self.ceiling
    }

    /// Whether it rests on a break-glass grant.
    pub fn under_grant(&self) -> bool {
        self.under_grant
    }

    /// Whether what it lets out goes to another community: then nothing flagged UNDELIVERED (未提供)
    /// may be part of it (`spec` japan §3.4).
    pub fn leaves_community(&self) -> bool {
        self.leaves_community
    }

    /// Whether a document like this is covered.
    pub fn covers(&self, document: &Sensitivity<'_>) -> bool {
        document.confidentiality <= self.ceiling
            && !self
                .hidden_classes
                .iter()
                .any(|hidden| document.codes.contains(&hidden.as_str()))
    }

    /// Says that the permit is one for any of these actions.
    ///
    /// # Errors
    /// [`Error::internal`] if it is for something else: a fault of the door that passes it on.
    pub fn require(&self, actions: &[Action]) -> Result<()> {
        if actions.contains(&self.action) {
            return Ok(());
        }
        Err(Error::internal("a permit for something else was passed on"))
    }
}

/// A break-glass grant in force: one person of one institution, one patient, until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The institution it was given to.
    pub institution: Option<InstitutionCode>,
    /// The person it was given to.
    pub subject: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Closed before its end.
    pub closed: bool,
}

impl Grant {
    /// Whether it is this caller's, for an emergency, and in force.
    pub fn covers(&self, caller: &Caller, now: Timestamp) -> bool {
        !self.closed
            && now < self.expires
            && caller.purpose == PurposeOfUse::Emergency
            && self.institution == caller.participant.code
            && caller
                .person
                .as_ref()
                .is_some_and(|person| person.subject == self.subject)
    }
}
