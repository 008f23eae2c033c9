//! The registry: register, query, find one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::access::{Permit, Sensitivity};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::store::{Store, Versioned};
use crate::types::{
    DocumentUniqueId, EntryUuid, HomeCommunityId, PatientIdentifier, RepositoryUniqueId,
};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::filter;
use super::profile::Profile;
use super::register::Turns;
use super::tables::{EntryRow, UniqueRow};
use super::validate::{Rules, Transaction, ValidSubmission, confidentiality_of, validate};

/// Entries on a page at most.
pub const MAX_PAGE: usize = 500;
/// Entries of one patient examined in one page: a patient with more needs several pages.
const MAX_EXAMINED: usize = 5_000;
/// Submissions examined when only sets are asked for.
const PAGE_DEFAULT: usize = 100;

/// Document metadata and content of this node.
#[derive(Debug)]
pub struct Documents {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rules: Rules,
    pub(super) turns: Turns,
}

/// One entry with what a decision needs to know of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The metadata.
    pub entry: pb::DocumentEntry,
    /// The blob's name; empty if the document is elsewhere.
    pub(super) blob: Vec<u8>,
    /// Ledger sequence of the entry.
    pub sequence: u64,
}

impl Found {
    /// Whether it is flagged UNDELIVERED (未提供): never given to another community.
    pub fn is_undelivered(&self) -> bool {
        self.entry
            .national_flags
            .contains(&i32::from(cpb::NationalFlag::Undelivered))
    }

    /// Whether `permit` lets it out.
    pub fn is_covered(&self, permit: &Permit) -> bool {
        permit.covers(&self.sensitivity()) && !(permit.leaves_community() && self.is_undelivered())
    }

    /// What a decision asks of it.
    pub fn sensitivity(&self) -> Sensitivity<'_> {
        Sensitivity {
            codes: [
                code(self.entry.class_code.as_ref()),
                code(self.entry.type_code.as_ref()),
            ],
            confidentiality: confidentiality_of(&self.entry),
        }
    }
}

/// One page of a query.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Matching entries that the permit covers.
    pub entries: Vec<pb::DocumentEntry>,
    /// The token of the next page; empty at the end.
    pub next: String,
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

    fn unique_tag(&self, unique_id: &DocumentUniqueId) -> Vec<u8> {
        self.store
            .keys()
            .tag("unique-id", unique_id.as_str().as_bytes())
            .as_bytes()
            .to_vec()
    }

    /// A patient's entries that answer `filter` and that the permit covers (`FindDocuments`), a page
    /// at a time.
    ///
    /// # Errors
    /// A malformed filter or page token; the store.
    pub fn find(
        &self,
        permit: &Permit,
        patient: &PatientIdentifier,
        filter: &pb::DocumentFilter,
        page_size: usize,
        page_token: &str,
    ) -> Result<Page> {
        filter::check(filter)?;
        let prefix = self.store.keys().patient_tag(patient);
        let after = self.resume(&prefix, page_token)?;
        let size = if page_size == 0 {
            PAGE_DEFAULT
        } else {
            page_size.min(MAX_PAGE)
        };
        let rows = self.store.by_index::<EntryRow>(
            EntryRow::BY_PATIENT,
            &prefix,
            after.as_deref(),
            MAX_EXAMINED,
        )?;
        let exhausted = rows.len() < MAX_EXAMINED;
        let mut page = Page::default();
        let mut last = None;
        let mut left = 0;
        for (key, versioned) in rows {
            if page.entries.len() == size {
                left += 1;
                break;
            }
            let sequence = versioned.version.0;
            last = Some(key);
            let Some(found) = found(versioned) else {
                continue;
            };
            if found.is_covered(permit) && filter::matches(&found.entry, sequence, filter) {
                page.entries.push(found.entry);
            }
        }
        if let Some(last) = last.filter(|_| left > 0 || !exhausted) {
            page.next = self.token(&last);
        }
        Ok(page)
    }

    /// A page token: the last key seen, with a keyed hash so that only this node's are taken.
    fn token(&self, key: &[u8]) -> String {
        let tag = self.store.keys().tag("page-token", key);
        URL_SAFE_NO_PAD.encode([tag.as_bytes(), key].concat())
    }

    fn resume(&self, prefix: &[u8], token: &str) -> Result<Option<Vec<u8>>> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            Error::field(
                Reason::InvalidToken,
                "page_token",
                "is not a token of this query",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let (tag, key) = bytes.split_at_checked(16).ok_or_else(wrong)?;
        let expected = self.store.keys().tag("page-token", key);
        if tag != expected.as_bytes() || !key.starts_with(prefix) {
            return Err(wrong());
        }
        Ok(Some(key.to_vec()))
    }

    /// The entry with this entryUUID.
    ///
    /// # Errors
    /// The store.
    pub fn by_uuid(&self, uuid: &EntryUuid) -> Result<Option<Found>> {
        Ok(self.store.get::<EntryRow>(uuid.as_bytes())?.and_then(found))
    }

    /// The entry of the document with this uniqueId.
    ///
    /// # Errors
    /// The store.
    pub fn by_unique_id(&self, unique_id: &DocumentUniqueId) -> Result<Option<Found>> {
        let unique = self.store.get::<UniqueRow>(&self.unique_tag(unique_id))?;
        let Some(unique) = unique else {
            return Ok(None);
        };
        // Several entries may be of the same bytes: the one in force speaks for the document.
        let mut best = None;
        for holder in unique.row.holders() {
            let Some(row) = self.store.get::<EntryRow>(holder)? else {
                continue;
            };
            let in_force = row.row.entry.as_ref().is_some_and(|entry| {
                entry.availability_status() == pb::AvailabilityStatus::Approved
            });
            let superseded = row.row.superseded;
            if in_force || best.is_none() || !superseded {
                best = Some(row);
            }
            if in_force {
                break;
            }
        }
        Ok(best.and_then(found))
    }
}

fn code(code: Option<&cpb::CodedValue>) -> &str {
    code.map_or("", |code| code.code.as_str())
}

fn found(versioned: Versioned<EntryRow>) -> Option<Found> {
    let sequence = versioned.version.0;
    let EntryRow { entry, blob, .. } = versioned.row;
    entry.map(|entry| Found {
        entry,
        blob,
        sequence,
    })
}
