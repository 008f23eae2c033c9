//! The policies: Cedar files, validated against a typed schema, compiled into slices.
//!
//! The files in `policies/` of the repository are the default set; a node may be given a folder of
//! its own (`[access] policies`). The schema is not part of that: it says what facts there are, and
//! those are made here. Cedar's own rule holds: one `forbid` that applies beats every `permit`.

mod facts;
mod handle;
mod load;
mod memory;
mod slices;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cedar_policy::Entities;

use super::decide::{Action, Denial};
use crate::types::PersonRole;

pub(super) use facts::{Asked, AskedDocument};
pub use handle::{Fault, PolicyHandle};
pub use load::PolicyError;
use memory::Memory;
use slices::Slices;

/// The schema.
pub const SCHEMA: &str = include_str!("../../../policies/renkei.cedarschema");

/// What a permit obliges to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obligation {
    /// It rests on break-glass: marked in the audit, told to the privacy officer, reviewed.
    BreakGlass,
    /// It rests on a declared disaster: marked, and told to the patient.
    Disaster,
}

impl Obligation {
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "break-glass" => Some(Self::BreakGlass),
            "disaster" => Some(Self::Disaster),
            _ => None,
        }
    }
}

/// The version of a policy set: the first 16 bytes of SHA-256 over its files, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyVersion(std::sync::Arc<str>);

impl PolicyVersion {
    /// The text recorded with every decision.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A policy, as people and the decision point need it.
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    /// Its `@id`.
    pub id: String,
    /// The file it is in.
    pub file: String,
    /// Whether it forbids.
    pub forbids: bool,
    /// What it says, in Japanese (`@doc`).
    pub doc: String,
    /// Why it forbids (`@reason`).
    reason: Denial,
    /// What it obliges to (`@obligation`).
    obligation: Option<Obligation>,
}

/// A policy set in force: loaded, validated, cut into slices. Immutable.
pub struct Policies {
    version: PolicyVersion,
    info: BTreeMap<String, PolicyInfo>,
    slices: Slices,
    entities: Entities,
    memory: Memory,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies")
            .field("version", &self.version)
            .field("policies", &self.info.len())
            .finish_non_exhaustive()
    }
}

/// What the policies say of a question.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Permitted.
    pub permitted: bool,
    /// Why not, the most telling reason first.
    pub denial: Option<Denial>,
    /// What a permit obliges to.
    pub obligations: Vec<Obligation>,
    /// Ids of the policies that decided.
    pub because: Vec<String>,
}

impl Policies {
    /// Its version.
    pub fn version(&self) -> &PolicyVersion {
        &self.version
    }

    /// Its policies, by id.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.info.values()
    }

    /// What is known of a policy.
    pub fn policy(&self, id: &str) -> Option<&PolicyInfo> {
        self.info.get(id)
    }

    /// Asks, or remembers the answer. A question that got no verdict is asked again.
    ///
    /// # Errors
    /// As [`Policies::ask`].
    pub(super) fn recall(
        &self,
        role: PersonRole,
        action: Action,
        asked: &Asked,
    ) -> Result<Arc<Verdict>, String> {
        let question = (role, action, *asked);
        if let Some(known) = self.memory.get(&question) {
            return Ok(known);
        }
        let verdict = Arc::new(self.ask(role, action, asked)?);
        self.memory.put(question, &verdict);
        Ok(verdict)
    }

    /// Asks.
    ///
    /// # Errors
    /// What went wrong in the evaluation. A policy that cannot be evaluated may be one that forbids,
    /// so there is no verdict then.
    pub(super) fn ask(
        &self,
        role: PersonRole,
        action: Action,
        asked: &Asked,
    ) -> Result<Verdict, String> {
        let response = self.slices.evaluate(role, action, asked, &self.entities)?;
        let known = |id: &str| {
            let unknown = || format!("policy {id} is not known");
            self.info.get(id).ok_or_else(unknown)
        };
        let decided: Vec<&PolicyInfo> = response
            .because
            .iter()
            .map(|id| known(id))
            .collect::<Result<_, _>>()?;
        let obligations = decided.iter().filter_map(|policy| policy.obligation);
        let mut obligations: Vec<Obligation> = obligations.collect();
        obligations.sort_unstable();
        obligations.dedup();
        let denial = (!response.permitted).then(|| {
            let forbidden = decided.iter().map(|policy| policy.reason).min();
            // No policy permits the role this at all: that is told before what forbids it besides.
            let role = (!response.may_be_permitted).then_some(Denial::Role);
            let first = forbidden.into_iter().chain(role).min();
            // Nothing forbids it, and what permits it is for another purpose.
            first.unwrap_or(Denial::Purpose)
        });
        Ok(Verdict {
            permitted: response.permitted,
            denial,
            obligations,
            because: response.because,
        })
    }
}
