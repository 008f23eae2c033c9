//! What a decision gives: a permit that services demand, and break-glass grants.

use std::sync::Arc;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::planted::planted;
use crate::types::{InstitutionCode, PurposeOfUse};

use super::decide::Lens;
use super::policy::{Obligation, PolicyVersion};
use super::{Action, Caller, DocumentFacts};

/// Leave to do one thing. Made only by [`super::decide`]; services take it by reference, so that no
/// door can skip the decision.
#[derive(Clone, Debug)]
#[must_use]
pub struct Permit {
    action: Action,
    obligations: Vec<Obligation>,
    version: PolicyVersion,
    lens: Option<Arc<Lens>>,
}

impl Permit {
    pub(super) fn new(
        action: Action,
        obligations: Vec<Obligation>,
        version: PolicyVersion,
        lens: Option<Arc<Lens>>,
    ) -> Self {
        Self {
            action,
            obligations,
            version,
            lens,
        }
    }

    /// What it is for.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What it obliges to.
    pub fn obligations(&self) -> &[Obligation] {
        &self.obligations
    }

    /// The version of the policies that gave it.
    pub fn version(&self) -> &PolicyVersion {
        &self.version
    }

    /// Whether it rests on a break-glass grant.
    pub fn under_grant(&self) -> bool {
        self.obligations.contains(&Obligation::BreakGlass)
    }

    /// Whether a document like this is covered: the same decision, with the document.
    pub fn covers(&self, document: &DocumentFacts) -> bool {
        self.lens
            .as_ref()
            .is_some_and(|lens| lens.judge(document).is_ok())
    }

    /// Whether the patient's wishes permit a document like this: more than that they do not forbid it.
    pub fn is_consented(&self, document: &DocumentFacts) -> bool {
        self.lens
            .as_ref()
            .is_some_and(|lens| lens.is_consented(document))
    }

    /// Whether this permit still gives all that `before` has shown.
    pub fn still_gives(&self, before: &Self) -> bool {
        match (&self.lens, &before.lens) {
            (Some(now), Some(before)) => now.still_gives(before),
            _ => true,
        }
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
            && (self.institution == caller.participant.code
                || planted("the grant of another institution taken"))
            && caller
                .person
                .as_ref()
                .is_some_and(|person| person.subject == self.subject)
    }
}
