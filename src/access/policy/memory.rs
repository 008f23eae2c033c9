//! Verdicts given before. What the policies say is a function of the role, the action and what is
//! asked, and a set in force never changes, so the verdict that is remembered is the one that would be
//! given again. The documents of a patient differ in much that no policy may ask about (their days,
//! their codes): most decisions about them are the same question.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Verdict;
use super::facts::Asked;
use crate::access::decide::Action;
use crate::types::PersonRole;

/// Verdicts remembered at most; beyond it, all are forgotten and asked for again (INV-7).
pub(super) const MOST: usize = 8_192;

/// All that a verdict depends on, under one set of policies.
pub(super) type Question = (PersonRole, Action, Asked);

/// The verdicts of one set of policies.
#[derive(Debug)]
pub(super) struct Memory {
    most: usize,
    verdicts: RwLock<HashMap<Question, Arc<Verdict>>>,
}

impl Memory {
    /// A memory of at most `most` verdicts.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            verdicts: RwLock::default(),
        }
    }

    pub(super) fn get(&self, question: &Question) -> Option<Arc<Verdict>> {
        let verdicts = self.verdicts.read().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(question).cloned()
    }

    pub(super) fn put(&self, question: Question, verdict: &Arc<Verdict>) {
        if self.most == 0 {
            return;
        }
        let mut verdicts = self
            .verdicts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= self.most {
            verdicts.clear();
        }
        verdicts.insert(question, Arc::clone(verdict));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let verdicts = self.verdicts.read().unwrap_or_else(PoisonError::into_inner);
        verdicts.len()
    }
}
