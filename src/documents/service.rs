//! The registry and repository: what they are made of, and registering.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::types::{HomeCommunityId, RepositoryUniqueId};
use crate::wire::pb::documents as pb;

use super::profile::Profile;
use super::register::Turns;
use super::validate::{Rules, Transaction, ValidSubmission, validate};

/// Document metadata and content of this node.
#[derive(Debug)]
pub struct Documents {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rules: Rules,
    pub(super) turns: Turns,
}

impl Documents {
    /// The registry and repository over `store`.
    ///
    /// # Errors
    /// If the configuration's identifiers are malformed.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, config: &Config) -> Result<Self> {
        let wrong = |error| Error::internal(error);
        let wrong_profile = |message: String| Error::internal(message);
        let rules = Rules {
            home: config.home().map_err(wrong)?,
            repository: config.repository().map_err(wrong)?,
            max_document_bytes: config.documents.max_document_bytes,
            profile: match &config.documents.profile {
                Some(path) => Profile::load(path).map_err(wrong_profile)?,
                None => Profile::default(),
            },
        };
        Ok(Self {
            store,
            clock,
            rules,
            turns: Turns::default(),
        })
    }

    /// The community whose documents these are.
    pub fn home(&self) -> &HomeCommunityId {
        &self.rules.home
    }

    /// The repository here, if there is one.
    pub fn repository(&self) -> Option<&RepositoryUniqueId> {
        self.rules.repository.as_ref()
    }

    /// Checks a submission's metadata.
    ///
    /// # Errors
    /// Every rule broken.
    pub(super) fn validate(
        &self,
        submission: pb::Submission,
        transaction: Transaction,
    ) -> Result<ValidSubmission> {
        validate(submission, &self.rules, transaction)
    }
}
