//! Slices: for each role and action, the policies whose scope can match.
//!
//! A policy whose scope names another role or action is false whatever the facts are, and a false
//! policy decides nothing; so a slice gives the same answer as the whole set, in a fraction of the
//! time. A test compares the two.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy::{
    ActionConstraint, Authorizer, Decision, Effect, Entities, EntityUid, Policy, PolicySet,
    PrincipalConstraint, Request,
};

use super::facts::{Asked, uid};
use crate::access::decide::Action;
use crate::types::PersonRole;

struct Slice {
    set: PolicySet,
    permits: bool,
    principal: EntityUid,
    action: EntityUid,
}

/// The slices of a set.
pub(super) struct Slices {
    authorizer: Authorizer,
    by: HashMap<(PersonRole, Action), Slice>,
    record: EntityUid,
}

/// What a slice said.
pub(super) struct Answered {
    pub(super) permitted: bool,
    pub(super) because: Vec<String>,
    /// Whether any policy permits this role this action, for whatever purpose.
    pub(super) may_be_permitted: bool,
}

impl Slices {
    /// Cuts a set.
    ///
    /// # Errors
    /// A name that is none.
    pub(super) fn cut(policies: &[Policy], entities: &Entities) -> Result<Self, String> {
        let mut by = HashMap::new();
        for role in PersonRole::ALL {
            for action in Action::ALL {
                let (principal, act) = (uid("Role", role.code())?, uid("Action", action.name())?);
                let matching: Vec<Policy> = policies
                    .iter()
                    .filter(|policy| may_match(policy, &principal, &act, entities))
                    .cloned()
                    .collect();
                let permits = matching
                    .iter()
                    .any(|policy| policy.effect() == Effect::Permit);
                let slice = Slice {
                    set: PolicySet::from_policies(matching).map_err(|error| error.to_string())?,
                    permits,
                    principal,
                    action: act,
                };
                by.insert((*role, *action), slice);
            }
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            by,
            record: uid("Records", "here")?,
        })
    }

    /// Evaluates the slice of a role and an action.
    ///
    /// # Errors
    /// What went wrong. Cedar leaves a policy out that it cannot evaluate; that could be one that
    /// forbids, so here any failure is a failure of the whole (fail closed, bar Z-14).
    pub(super) fn evaluate(
        &self,
        role: PersonRole,
        action: Action,
        asked: &Asked,
        entities: &Entities,
    ) -> Result<Answered, String> {
        let slice = self.by.get(&(role, action));
        let slice = slice.ok_or("there is no slice for this role and action")?;
        let evaluated = catch_unwind(AssertUnwindSafe(|| -> Result<_, String> {
            let context = asked.context()?;
            let request = Request::new(
                slice.principal.clone(),
                slice.action.clone(),
                self.record.clone(),
                context,
                None,
            )
            .map_err(|error| error.to_string())?;
            Ok(self
                .authorizer
                .is_authorized(&request, &slice.set, entities))
        }));
        let response = evaluated.map_err(|_| "the evaluation panicked".to_owned())??;
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        let reasons = response.diagnostics().reason();
        let mut because: Vec<String> = reasons
            .map(|id| AsRef::<str>::as_ref(id).to_owned())
            .collect();
        because.sort_unstable();
        Ok(Answered {
            permitted: response.decision() == Decision::Allow,
            because,
            may_be_permitted: slice.permits,
        })
    }
}

fn may_match(
    policy: &Policy,
    principal: &EntityUid,
    action: &EntityUid,
    entities: &Entities,
) -> bool {
    let below =
        |one: &EntityUid, group: &EntityUid| one == group || entities.is_ancestor_of(group, one);
    let role = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Eq(uid) => uid == *principal,
        PrincipalConstraint::In(group) => below(principal, &group),
        PrincipalConstraint::Is(kind) => kind == *principal.type_name(),
        PrincipalConstraint::IsIn(kind, group) => {
            kind == *principal.type_name() && below(principal, &group)
        }
    };
    let act = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == *action,
        ActionConstraint::In(groups) => groups.iter().any(|group| below(action, group)),
    };
    role && act
}
