//! The registry: register, query, find one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::access::{Action, Call, Classes, DocumentFacts, Permit};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Idempotency, Store, Versioned, Write};
use crate::types::{
    DocumentUniqueId, EntryUuid, HomeCommunityId, PatientIdentifier, RepositoryUniqueId,
};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::filter;
use super::tables::{EntryRow, SubmissionRow, UniqueRow};
use super::validate::{Rules, ValidEntry, ValidSubmission, confidentiality_of, validate};

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
    rules: Rules,
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
    /// Whether `permit` lets it out.
    pub fn is_covered(&self, permit: &Permit) -> bool {
        permit.covers(&self.facts())
    }

    /// What a decision asks of it.
    pub fn facts(&self) -> DocumentFacts {
        let entry = &self.entry;
        let (class, kind) = (
            code(entry.class_code.as_ref()),
            code(entry.type_code.as_ref()),
        );
        let labels = entry.confidentiality_codes.iter();
        let authors = entry.authors.iter().flat_map(|author| &author.institutions);
        let flagged = |flag: cpb::NationalFlag| entry.national_flags.contains(&i32::from(flag));
        DocumentFacts {
            codes: [class.to_owned(), kind.to_owned()],
            classes: Classes::of_document(
                [kind, class],
                code(entry.practice_setting_code.as_ref()),
                labels.map(|label| label.code.as_str()),
            ),
            confidentiality: confidentiality_of(entry),
            undelivered: flagged(cpb::NationalFlag::Undelivered),
            uninformed: flagged(cpb::NationalFlag::Uninformed),
            authors: authors
                .filter_map(|institution| institution.id.parse().ok())
                .collect(),
            day: japanese_day(&entry.service_start_time)
                .or_else(|| japanese_day(&entry.creation_time)),
        }
    }
}

/// The day in Japan of a time in UTC, or of a day; `None` if it is less precise.
fn japanese_day(dtm: &str) -> Option<jiff::civil::Date> {
    let digits = |range: std::ops::Range<usize>| dtm.get(range)?.parse::<i16>().ok();
    let small = |range: std::ops::Range<usize>| i8::try_from(digits(range)?).ok();
    let date = jiff::civil::Date::new(digits(0..4)?, small(4..6)?, small(6..8)?).ok()?;
    let Some(hour) = small(8..10) else {
        return Some(date);
    };
    let minute = small(10..12).unwrap_or(0);
    let utc = date.to_datetime(jiff::civil::Time::new(hour, minute, 0, 0).ok()?);
    let japan = utc.checked_add(jiff::SignedDuration::from_hours(9)).ok()?;
    Some(japan.date())
}

/// One page of a query.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Matching entries that the permit covers.
    pub entries: Vec<pb::DocumentEntry>,
    /// The token of the next page; empty at the end.
    pub next: String,
    /// The newest change among the entries. Not the ledger's: that tells of others.
    pub sequence: u64,
}

impl Documents {
    /// The registry and repository over `store`.
    ///
    /// # Errors
    /// If the configuration's identifiers are malformed.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, config: &Config) -> Result<Self> {
        let wrong = |error| Error::internal(error);
        let rules = Rules {
            home: config.home().map_err(wrong)?,
            repository: config.repository().map_err(wrong)?,
            max_document_bytes: config.documents.max_document_bytes,
        };
        Ok(Self {
            store,
            clock,
            rules,
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
    /// The first rule broken.
    pub(super) fn validate(&self, submission: pb::Submission) -> Result<ValidSubmission> {
        validate(submission, &self.rules)
    }

    fn unique_tag(&self, unique_id: &DocumentUniqueId) -> Vec<u8> {
        self.store
            .keys()
            .tag("unique-id", unique_id.as_str().as_bytes())
            .as_bytes()
            .to_vec()
    }

    /// Registers a valid submission whose documents are durable: one frame, all or nothing
    /// (ITI-42 §3.42.4.1.3).
    ///
    /// # Errors
    /// [`Reason::DuplicateUniqueId`] if a uniqueId is registered already; the store.
    pub(super) async fn register(
        &self,
        permit: &Permit,
        call: &Call,
        submission: ValidSubmission,
        blobs: &[Vec<u8>],
        idempotency: Option<Idempotency>,
        attach: Vec<Write>,
    ) -> Result<pb::RegistrationResult> {
        permit.require(&[Action::SubmitDocuments])?;
        let now = self.clock.now();
        let patient = self.store.keys().patient_tag(&submission.patient).to_vec();
        let mut writes = attach;
        let mut result = pb::RegistrationResult::default();
        for (index, valid) in submission.entries.iter().enumerate() {
            let unique = self.unique_row(valid);
            writes.push(Write::put(&unique).expecting(Expect::Absent));
            let row = EntryRow {
                uuid: valid.uuid.as_bytes().to_vec(),
                patient: patient.clone(),
                entry: Some(valid.entry.clone()),
                blob: blobs.get(index).cloned().unwrap_or_default(),
                registered_ms: now.as_millisecond(),
            };
            writes.push(Write::put(&row).expecting(Expect::Absent));
            result.assigned_ids.push(pb::AssignedId {
                symbolic_id: valid.symbolic.clone(),
                entry_uuid: valid.uuid.to_string(),
            });
            result.entries.push(valid.entry.clone());
        }
        let set = SubmissionRow {
            uuid: submission.set_uuid.as_bytes().to_vec(),
            patient,
            set: Some(submission.set.clone()),
            entries: submission
                .entries
                .iter()
                .map(|entry| entry.uuid.as_bytes().to_vec())
                .collect(),
        };
        writes.push(Write::put(&set).expecting(Expect::Absent));
        call.note(|record| {
            record.items = u32::try_from(submission.entries.len()).unwrap_or(u32::MAX);
            record.documents = submission
                .entries
                .iter()
                .map(|entry| entry.uuid.to_string())
                .collect();
        });
        let committed = call
            .commit(&self.store, now, writes, idempotency, result)
            .await;
        committed.map_err(|error| match error.reason() {
            Reason::ConcurrentChange => Error::field(
                Reason::DuplicateUniqueId,
                "entries.unique_id",
                "a document, entry or submission set with this id is registered already",
            ),
            _ => error,
        })
    }

    fn unique_row(&self, valid: &ValidEntry) -> UniqueRow {
        UniqueRow {
            tag: self.unique_tag(&valid.unique_id),
            entry: valid.uuid.as_bytes().to_vec(),
        }
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
                page.sequence = page.sequence.max(sequence);
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
        Ok(self
            .store
            .get::<EntryRow>(&unique.row.entry)?
            .and_then(found))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_japan() {
        let day = |dtm| japanese_day(dtm).map(|day| day.to_string());
        assert_eq!(day("20250531150000").as_deref(), Some("2025-06-01"));
        assert_eq!(day("202505311459").as_deref(), Some("2025-05-31"));
        assert_eq!(day("20250531").as_deref(), Some("2025-05-31"));
        for vague in ["", "2025", "202505", "20251399"] {
            assert_eq!(day(vague), None, "{vague}");
        }
    }
}
