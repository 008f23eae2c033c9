//! Directed exchange (電子紹介状): documents sent to one institution, which alone sees them listed, with a
//! receipt when they are fetched; taken back before that, or over at a time. From then on the referral is no
//! ground to read them, and an institution without another one is refused (`is_over`).
//!
//! | table | key | secondary keys |
//! |---|---|---|
//! | `referral` | id | 1: addressee, newest first; 2: sender, newest first; 3: addressee, tag of a document's uniqueId |

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{
    Expect, Idempotency, IndexKey, KeyBuilder, Row, TableId, Tag, Versioned, Write,
};
use crate::types::{InstitutionCode, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;
use pb::ReferralState as State;

use super::Documents;
use super::query::{Found, MAX_PAGE, Tokens};
use super::retrieve::document_ref;
use super::tables::{DirectedReader, EntryRow, UniqueRow};

/// How long a referral can be fetched if its sender does not say: 90 days.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long at most: a year.
const KEPT_AT_MOST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// Characters of a line for the addressee, or of a department's name.
const MAX_TEXT: usize = 1_000;
/// Referrals on a page if none are wanted in particular.
const PAGE_DEFAULT: usize = 100;
/// Addressees at one time of a document that only they read.
const MAX_READERS: usize = 200;
/// Rows looked at for one page.
const MAX_EXAMINED: usize = 5_000;

/// A referral. Its state is that of the last change: an end by time is seen when it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReferralRow {
    /// The id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// Keyed hash of the patient identifier.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) patient: Vec<u8>,
    /// 10-digit code of the sender.
    #[prost(string, tag = "3")]
    pub(crate) sender: String,
    /// 10-digit code of the addressee.
    #[prost(string, tag = "4")]
    pub(crate) addressee: String,
    /// When it was sent, Unix milliseconds.
    #[prost(int64, tag = "5")]
    pub(crate) sent_ms: i64,
    /// Keyed hashes of the documents' uniqueIds.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) documents: Vec<Vec<u8>>,
    /// The referral.
    #[prost(message, optional, tag = "7")]
    pub(crate) referral: Option<pb::Referral>,
    /// Why it was taken back.
    #[prost(string, tag = "8")]
    pub(crate) recalled_because: String,
}

impl ReferralRow {
    /// Secondary key: the referrals to one institution, the newest first.
    pub(crate) const BY_ADDRESSEE: u8 = 1;
    /// Secondary key: the referrals of one institution, the newest first.
    pub(crate) const BY_SENDER: u8 = 2;
    /// Secondary key: the referrals to one institution with one document.
    pub(crate) const BY_DOCUMENT: u8 = 3;

    /// Where it is at a time.
    fn state(&self, now: Timestamp) -> State {
        let Some(referral) = &self.referral else {
            return State::Unspecified;
        };
        let over = referral
            .expires
            .as_ref()
            .and_then(crate::wire::from_timestamp)
            .is_some_and(|expires| expires <= now);
        match referral.state() {
            State::Delivered if over => State::Expired,
            state => state,
        }
    }

    /// When it is over, Unix milliseconds.
    fn until_ms(&self) -> i64 {
        let referral = self.referral.as_ref();
        let expires = referral.and_then(|referral| referral.expires.as_ref());
        let expires = expires.and_then(crate::wire::from_timestamp);
        expires.map_or(0, Timestamp::as_millisecond)
    }

    /// It as of a time.
    fn as_of(&self, now: Timestamp) -> pb::Referral {
        let mut referral = self.referral.clone().unwrap_or_default();
        referral.state = self.state(now).into();
        referral
    }
}

/// The beginning of an institution's keys.
fn institution(code: &str) -> KeyBuilder {
    KeyBuilder::new().text(code)
}

impl Row for ReferralRow {
    const TABLE: TableId = TableId(44);
    const NAME: &'static str = "referral";

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn index(&self) -> Vec<IndexKey> {
        let sent = u64::try_from(self.sent_ms).unwrap_or(0);
        let of = |code: &str| institution(code).u64_descending(sent).build();
        let mut keys = vec![
            IndexKey::new(Self::BY_ADDRESSEE, of(&self.addressee)),
            IndexKey::new(Self::BY_SENDER, of(&self.sender)),
        ];
        keys.extend(self.documents.iter().map(|document| {
            let key = institution(&self.addressee).fixed(document).build();
            IndexKey::new(Self::BY_DOCUMENT, key)
        }));
        keys
    }

    fn subject(&self) -> Option<Tag> {
        Tag::from_slice(&self.patient)
    }
}

/// What is to be sent, with everything looked up.
#[derive(Debug)]
pub struct Letter<'a> {
    /// The request.
    pub request: &'a pb::SendReferralRequest,
    /// The patient.
    pub patient: &'a PatientIdentifier,
    /// The institution it is for.
    pub addressee: &'a InstitutionCode,
    /// The documents, each of which the sender may read.
    pub documents: &'a [Found],
}

/// A referral listed, and whom it is about.
#[derive(Debug)]
pub struct Listed {
    /// The referral.
    pub referral: pb::Referral,
    /// Keyed hash of the patient identifier.
    pub patient: Vec<u8>,
    place: Vec<u8>,
}

impl Documents {
    /// Sends documents to one institution of this community: there at once.
    ///
    /// # Errors
    /// [`Reason::NotPermitted`] for a caller who is no institution, and for a document that is never
    /// given out (未提供); a time or text out of bounds; the store.
    pub async fn send(
        &self,
        permit: &Permit,
        call: &Call,
        letter: &Letter<'_>,
        idempotency: Option<Idempotency>,
    ) -> Result<pb::SendReferralResponse> {
        permit.require(&[Action::SubmitDocuments])?;
        let sender = own(call)?;
        let request = letter.request;
        let now = self.clock.now();
        let expires = expiry(request.expires.as_ref(), now)?;
        for (field, text) in [
            ("attention", &request.attention),
            ("message", &request.message),
        ] {
            if text.chars().count() > MAX_TEXT {
                let message = format!("is longer than {MAX_TEXT} characters");
                return Err(Error::field(Reason::InvalidField, field, message));
            }
        }
        if letter.documents.iter().any(Found::is_undelivered) {
            return Err(Error::not_permitted());
        }
        let id = Uuid::new_v4();
        let sent = Some(crate::wire::timestamp(now));
        let referral = pb::Referral {
            referral_id: id.to_string(),
            sender: Some(self.institution_ref(&sender)),
            addressee: Some(self.institution_ref(letter.addressee)),
            attention: request.attention.clone(),
            patient_id: request.patient_id.clone(),
            documents: letter
                .documents
                .iter()
                .map(|found| document_ref(&found.entry))
                .collect(),
            state: State::Delivered.into(),
            sent,
            delivered: sent,
            fetched: None,
            expires: Some(crate::wire::timestamp(expires)),
            message: request.message.clone(),
        };
        let documents = referral.documents.iter();
        let documents = documents
            .map(|document| self.document_tag(document))
            .collect();
        let row = ReferralRow {
            id: id.as_bytes().to_vec(),
            patient: self.store.keys().patient_tag(letter.patient).to_vec(),
            sender: sender.as_str().to_owned(),
            addressee: letter.addressee.as_str().to_owned(),
            sent_ms: now.as_millisecond(),
            documents,
            referral: Some(referral.clone()),
            recalled_because: String::new(),
        };
        let response = pb::SendReferralResponse {
            referral: Some(referral),
        };
        let mut writes = vec![Write::put(&row).expecting(Expect::Absent)];
        if request.only_addressee {
            writes.extend(self.directed(&row, now)?);
        }
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    /// The entries of a referral's documents, from now on for its addressee only.
    fn directed(&self, sent: &ReferralRow, now: Timestamp) -> Result<Vec<Write>> {
        let until_ms = sent.until_ms();
        let mut writes = Vec::new();
        for (_, Versioned { version, mut row }) in self.entries_of_referral(sent)? {
            if row.submitter != sent.sender {
                return Err(Error::not_permitted());
            }
            let readers = &mut row.directed.get_or_insert_default().readers;
            readers.retain(|reader| reader.until_ms > now.as_millisecond());
            if readers.len() >= MAX_READERS {
                let message = format!("has {MAX_READERS} addressees already");
                return Err(Error::field(Reason::InvalidField, "documents", message));
            }
            readers.push(DirectedReader {
                institution: sent.addressee.clone(),
                until_ms,
            });
            writes.push(Write::put(&row).expecting(Expect::Version(version)));
        }
        Ok(writes)
    }

    /// The entries of a referral's documents, without the addressee whom it let read them.
    fn undirected(&self, sent: &ReferralRow) -> Result<Vec<Write>> {
        let until_ms = sent.until_ms();
        let mut writes = Vec::new();
        for (_, Versioned { version, mut row }) in self.entries_of_referral(sent)? {
            let Some(directed) = &mut row.directed else {
                continue;
            };
            let mut readers = directed.readers.iter();
            let place = readers.position(|reader| {
                reader.institution == sent.addressee && reader.until_ms == until_ms
            });
            if let Some(place) = place {
                directed.readers.remove(place);
                writes.push(Write::put(&row).expecting(Expect::Version(version)));
            }
        }
        Ok(writes)
    }

    /// Every entry, of every version, that has a document of the referral, each once.
    fn entries_of_referral(
        &self,
        sent: &ReferralRow,
    ) -> Result<BTreeMap<Vec<u8>, Versioned<EntryRow>>> {
        let mut entries = BTreeMap::new();
        for tag in &sent.documents {
            let unique = self.store.get::<UniqueRow>(tag)?;
            for holder in unique.iter().flat_map(|unique| unique.row.holders()) {
                if let Some(entry) = self.store.get::<EntryRow>(holder)? {
                    entries.insert(holder.to_vec(), entry);
                }
            }
        }
        Ok(entries)
    }

    fn institution_ref(&self, code: &InstitutionCode) -> cpb::InstitutionRef {
        cpb::InstitutionRef {
            institution_id: code.as_str().to_owned(),
            home_community_id: self.home().to_string(),
            ..Default::default()
        }
    }

    fn document_tag(&self, document: &cpb::DocumentRef) -> Vec<u8> {
        let id = document.document_unique_id.as_bytes();
        self.store.keys().tag("unique-id", id).as_bytes().to_vec()
    }

    /// The referrals to or from the caller's institution, the newest first, a page at a time.
    /// `may_see` is asked of each patient. An addressee does not see what was taken back or is over.
    ///
    /// # Errors
    /// [`Reason::NotPermitted`] for a caller who is no institution; [`Reason::InvalidToken`]; the
    /// store.
    pub fn referrals(
        &self,
        call: &Call,
        request: &pb::ListReferralsRequest,
        patient: Option<&PatientIdentifier>,
        mut may_see: impl FnMut(&pb::Referral) -> Result<bool>,
    ) -> Result<(Vec<Listed>, String)> {
        use prost::Message as _;
        let own = own(call)?;
        let sent = request.direction() == pb::ReferralDirection::Sent;
        let index = match sent {
            true => ReferralRow::BY_SENDER,
            false => ReferralRow::BY_ADDRESSEE,
        };
        let prefix = institution(own.as_str()).build();
        let asked = pb::ListReferralsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let query = [own.as_str().as_bytes(), &asked.encode_to_vec()].concat();
        let tokens = Tokens::new(self.store.keys(), query);
        let after = tokens.open(&request.page_token)?;
        let size = match request.page_size as usize {
            0 => PAGE_DEFAULT,
            size => size.min(MAX_PAGE),
        };
        let tag = patient.map(|patient| self.store.keys().patient_tag(patient).to_vec());
        let now = self.clock.now();
        let rows =
            self.store
                .by_index::<ReferralRow>(index, &prefix, after.as_deref(), MAX_EXAMINED)?;
        let mut last = (rows.len() == MAX_EXAMINED)
            .then(|| rows.last().map(|(place, _)| place.clone()))
            .flatten();
        let mut page: Vec<Listed> = Vec::new();
        for (place, Versioned { row, .. }) in rows {
            let referral = row.as_of(now);
            let state = referral.state();
            let gone = !sent && matches!(state, State::Recalled | State::Expired);
            let wanted = !gone
                && (request.states.is_empty() || request.states.contains(&referral.state))
                && tag.as_ref().is_none_or(|tag| *tag == row.patient);
            if !wanted || !may_see(&referral)? {
                continue;
            }
            if page.len() == size {
                last = page.last().map(|listed| listed.place.clone());
                break;
            }
            page.push(Listed {
                referral,
                patient: row.patient,
                place,
            });
        }
        let next = last.map(|place| tokens.token(&place)).unwrap_or_default();
        Ok((page, next))
    }

    /// Takes back a referral of the caller's institution that was not fetched.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if it is not the caller's; [`Reason::WrongState`] if it was fetched, is
    /// over, or was taken back before; the store.
    pub async fn recall(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::RecallReferralRequest,
        idempotency: Option<Idempotency>,
    ) -> Result<pb::RecallReferralResponse> {
        permit.require(&[Action::SubmitDocuments])?;
        let own = own(call)?;
        let now = self.clock.now();
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        if request.reason.chars().count() > MAX_TEXT {
            let message = format!("is longer than {MAX_TEXT} characters");
            return Err(Error::field(Reason::InvalidField, "reason", message));
        }
        let unknown = || {
            let message = "no such referral of this institution";
            Error::field(Reason::NotFound, "referral_id", message)
        };
        let id = Uuid::try_parse(&request.referral_id).map_err(|_| unknown())?;
        let known = self.store.get::<ReferralRow>(id.as_bytes())?;
        let known = known.filter(|known| known.row.sender == own.as_str());
        let Versioned { version, mut row } = known.ok_or_else(unknown)?;
        call.note(|record| record.patient = Some(row.patient.clone()));
        if row.state(now) != State::Delivered {
            let message = "it was fetched, is over, or was taken back before";
            return Err(Error::field(Reason::WrongState, "referral_id", message));
        }
        row.recalled_because.clone_from(&request.reason);
        let referral = row.referral.get_or_insert_default();
        referral.state = State::Recalled.into();
        let response = pb::RecallReferralResponse {
            referral: Some(referral.clone()),
        };
        let mut writes = self.undirected(&row)?;
        writes.push(Write::put(&row).expecting(Expect::Version(version)));
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    /// Whether a document was sent to an institution by referrals, none of which is in force any more.
    ///
    /// # Errors
    /// The store.
    pub fn is_over(&self, to: &InstitutionCode, document: &cpb::DocumentRef) -> Result<bool> {
        let now = self.clock.now();
        let states: Vec<State> = self
            .sent_to(to, document)?
            .iter()
            .map(|known| known.row.state(now))
            .collect();
        Ok(all_over(&states))
    }

    /// The referrals of a document to an institution.
    fn sent_to(
        &self,
        to: &InstitutionCode,
        document: &cpb::DocumentRef,
    ) -> Result<Vec<Versioned<ReferralRow>>> {
        let key = institution(to.as_str()).fixed(&self.document_tag(document));
        let index = ReferralRow::BY_DOCUMENT;
        let rows = self
            .store
            .by_index::<ReferralRow>(index, &key.build(), None, MAX_EXAMINED)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Notes that the caller's institution fetches these documents: the receipt of the referrals they
    /// came with. Durable before the documents leave.
    ///
    /// # Errors
    /// [`Reason::ConcurrentChange`] if a referral is being taken back; the store.
    pub async fn fetched(&self, call: &Call, documents: &[cpb::DocumentRef]) -> Result<()> {
        let Some(own) = call.caller().participant.code.clone() else {
            return Ok(());
        };
        let now = self.clock.now();
        for document in documents {
            for Versioned { version, mut row } in self.sent_to(&own, document)? {
                if row.state(now) != State::Delivered {
                    continue;
                }
                let one = call.for_part();
                one.note(|record| record.patient = Some(row.patient.clone()));
                let referral = row.referral.get_or_insert_default();
                referral.state = State::Fetched.into();
                referral.fetched = Some(crate::wire::timestamp(now));
                let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
                one.commit(&self.store, now, writes, None, pb::Referral::default())
                    .await?;
            }
        }
        Ok(())
    }
}

/// Whether referrals of one document to one institution, in these states, are all taken back or over.
/// One that was fetched has done its work: what was read is known.
fn all_over(states: &[State]) -> bool {
    let over = |state: &State| matches!(state, State::Recalled | State::Expired);
    !states.is_empty() && states.iter().all(over)
}

/// The caller's institution.
fn own(call: &Call) -> Result<InstitutionCode> {
    let code = call.caller().participant.code.clone();
    code.ok_or_else(Error::not_permitted)
}

fn expiry(asked: Option<&prost_types::Timestamp>, now: Timestamp) -> Result<Timestamp> {
    let after = |kept| now.saturating_add(kept).unwrap_or(Timestamp::MAX);
    let Some(asked) = asked else {
        return Ok(after(KEPT));
    };
    let expires = crate::wire::from_timestamp(asked);
    expires
        .filter(|expires| *expires > now && *expires <= after(KEPT_AT_MOST))
        .ok_or_else(|| {
            let message = "must be later than now, by a year at most";
            Error::field(Reason::InvalidField, "expires", message)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referral_is_over_at_its_time_unless_it_was_fetched() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut row = ReferralRow {
            referral: Some(pb::Referral {
                state: State::Delivered.into(),
                expires: Some(crate::wire::timestamp(now)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let before = now - SignedDuration::from_millis(1);
        assert_eq!(row.state(before), State::Delivered);
        assert_eq!(row.state(now), State::Expired);
        assert_eq!(row.as_of(now).state(), State::Expired);
        for state in [State::Fetched, State::Recalled] {
            row.referral.as_mut().unwrap().state = state.into();
            assert_eq!(row.state(now), state);
        }
    }

    #[test]
    fn one_referral_in_force_or_fetched_is_ground_enough() {
        use State::{Delivered, Expired, Fetched, Recalled};
        for states in [vec![Recalled], vec![Expired, Recalled]] {
            assert!(all_over(&states), "{states:?}");
        }
        for states in [
            vec![],
            vec![Delivered],
            vec![Recalled, Delivered],
            vec![Fetched, Expired],
        ] {
            assert!(!all_over(&states), "{states:?}");
        }
    }

    #[test]
    fn an_end_is_in_the_future_and_within_a_year() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |hours| {
            let time = now + SignedDuration::from_hours(hours);
            expiry(Some(&crate::wire::timestamp(time)), now).is_ok()
        };
        assert!(!at(0) && !at(-1) && at(1) && at(366 * 24) && !at(366 * 24 + 1));
        assert_eq!(expiry(None, now).unwrap(), now + KEPT);
    }
}
