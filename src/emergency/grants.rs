//! Break-glass: opened with a reason, bound to one person and one patient, over by itself,
//! reviewed afterwards (`spec` japan §5.3).

use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::access::{Action, Call, Grant, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Frame, Store, Versioned, Write};
use crate::types::{LinkageId, PatientIdentifier, Redacted};
use crate::wire::pb::common as cpb;
use crate::wire::pb::emergency as pb;

use super::tables::GrantRow;

/// The longest a grant lasts, and how long if nothing is asked: 24 hours.
const MAX_HOURS: i64 = 24;
/// A review is due after this many days.
const REVIEW_DAYS: i64 = 7;
/// Characters of a reason that says something.
const MIN_REASON: usize = 10;
/// Characters of a reason at most.
const MAX_REASON: usize = 1_000;
/// Notices on a page.
const MAX_NOTICES: usize = 500;
/// Notices looked at for one.
const MAX_LOOKED_AT: usize = 5_000;

/// The break-glass grants of this node.
#[derive(Debug)]
pub struct Grants {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl Grants {
    /// Grants kept in `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Opens a grant for a person, as it is known now by `patients`; its notice is in the review queue in
    /// the same frame.
    ///
    /// # Errors
    /// A missing reason or declaration; the store.
    pub async fn open(
        &self,
        permit: &Permit,
        call: &Call,
        linkage: LinkageId,
        patients: &[PatientIdentifier],
        request: &pb::OpenBreakGlassRequest,
    ) -> Result<pb::OpenBreakGlassResponse> {
        permit.require(&[Action::BreakGlass])?;
        check(request)?;
        let now = self.clock.now();
        let asked = request
            .duration
            .as_ref()
            .map_or(i64::MAX, |asked| asked.seconds.max(60));
        let seconds = asked.min(MAX_HOURS * 3600);
        let expires = now
            .checked_add(seconds.seconds())
            .map_err(Error::internal)?;
        let id = uuid::Uuid::new_v4().to_string();
        let notice = Self::notice(call, request, &id, now)?;
        let keys = self.store.keys();
        let tags = patients.iter().map(|one| keys.patient_tag(one).to_vec());
        let row = GrantRow {
            id: id.clone(),
            linkage: linkage.to_bytes().to_vec(),
            notice: Some(notice),
            opened_ms: now.as_millisecond(),
            expires_ms: expires.as_millisecond(),
            closed: false,
            institution: code(call.caller()),
            patients: tags.collect(),
        };
        call.note(|record| {
            record.grant = Some(id.clone());
            record.reason = Some(Redacted(request.reason_text.clone()));
            record.items = 1;
        });
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        let response = pb::OpenBreakGlassResponse {
            grant_id: id,
            expires: Some(crate::wire::timestamp(expires)),
        };
        let writes = vec![Write::put(&row).expecting(Expect::Absent)];
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    fn notice(
        call: &Call,
        request: &pb::OpenBreakGlassRequest,
        id: &str,
        now: Timestamp,
    ) -> Result<pb::AccessNotice> {
        let caller = call.caller();
        let institution = cpb::InstitutionRef {
            institution_id: code(caller),
            home_community_id: caller.participant.community.to_string(),
            ..cpb::InstitutionRef::default()
        };
        let due = now
            .checked_add((REVIEW_DAYS * 24).hours())
            .map_err(Error::internal)?;
        Ok(pb::AccessNotice {
            notice_id: id.to_owned(),
            grant_id: id.to_owned(),
            institution: Some(institution),
            person: Some(cpb::PersonRef {
                subject: subject(caller),
                role: caller.role().code().to_owned(),
                ..cpb::PersonRef::default()
            }),
            reason: request.reason,
            reason_text: request.reason_text.clone(),
            opened: Some(crate::wire::timestamp(now)),
            review: pb::ReviewStatus::Pending.into(),
            review_due: Some(crate::wire::timestamp(due)),
            ..pb::AccessNotice::default()
        })
    }

    fn row(&self, id: &str) -> Result<Option<Versioned<GrantRow>>> {
        Ok(self.store.get::<GrantRow>(id.as_bytes())?)
    }

    /// A grant for the decision, if it is one for this person, and those of the person's identifiers that
    /// it covers. A grant is not carried over by a merge or a link (`spec` identity-and-fhir §4.2): what
    /// was not known to be of the person when it was opened needs a new one.
    ///
    /// # Errors
    /// The uniform refusal if there is no such grant for this patient, or it covers none of `patients`;
    /// the store.
    pub fn find(
        &self,
        id: &str,
        linkage: LinkageId,
        patients: &[PatientIdentifier],
    ) -> Result<(Grant, Vec<PatientIdentifier>)> {
        let row = self.row(id)?.map(|row| row.row);
        let row = row.filter(|row| row.linkage == linkage.to_bytes());
        let Some(row) = row else {
            return Err(Error::not_permitted());
        };
        let keys = self.store.keys();
        let known = |one: &PatientIdentifier| {
            let tag = keys.patient_tag(one);
            row.patients.iter().any(|known| *known == tag)
        };
        let covered: Vec<_> = patients.iter().filter(|one| known(one)).cloned().collect();
        if covered.is_empty() {
            return Err(Error::not_permitted());
        }
        let notice = row.notice.unwrap_or_default();
        let grant = Grant {
            institution: notice
                .institution
                .and_then(|from| from.institution_id.parse().ok()),
            subject: notice
                .person
                .map(|person| person.subject)
                .unwrap_or_default(),
            expires: Timestamp::from_millisecond(row.expires_ms).unwrap_or(Timestamp::MIN),
            closed: row.closed,
        };
        Ok((grant, covered))
    }

    /// Ends a grant before its time. Only who opened it may.
    ///
    /// # Errors
    /// The uniform refusal; [`Reason::WrongState`] if it is closed already; the store.
    pub async fn close(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::CloseBreakGlassRequest,
    ) -> Result<pb::CloseBreakGlassResponse> {
        permit.require(&[Action::BreakGlass])?;
        let Some(Versioned { version, mut row }) = self.row(&request.grant_id)? else {
            return Err(Error::not_permitted());
        };
        let mut notice = row.notice.take().unwrap_or_default();
        let mine = notice
            .person
            .as_ref()
            .is_some_and(|person| person.subject == subject(call.caller()))
            && notice
                .institution
                .as_ref()
                .is_some_and(|from| from.institution_id == code(call.caller()));
        if !mine {
            return Err(Error::not_permitted());
        }
        let now = self.clock.now();
        call.note(|record| record.grant = Some(request.grant_id.clone()));
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
            return Ok(first);
        }
        if row.closed {
            return Err(Error::new(
                Reason::WrongState,
                "the grant is closed already",
            ));
        }
        let closed = Some(crate::wire::timestamp(now));
        notice.ended = closed;
        notice.explanation.clone_from(&request.explanation);
        row.notice = Some(notice);
        row.closed = true;
        let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
        let response = pb::CloseBreakGlassResponse { closed };
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }

    /// A page of an institution's notices with these judgements (none: with any), newest first, and the
    /// token of the next one. A page may be empty and not the last: it looks at some thousand at most.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`]; the store.
    pub fn notices(
        &self,
        permit: &Permit,
        institution: &str,
        request: &pb::ListAccessNoticesRequest,
    ) -> Result<(Vec<pb::AccessNotice>, String)> {
        permit.require(&[Action::ReadAudit])?;
        let prefix = GrantRow::of_institution(institution);
        let size = match request.page_size as usize {
            0 => MAX_NOTICES,
            asked => asked.min(MAX_NOTICES),
        };
        let mut after = page_after(&request.page_token, &prefix)?;
        let (now, mut notices) = (self.clock.now(), Vec::new());
        for _ in 0..MAX_LOOKED_AT / MAX_NOTICES {
            let (index, from) = (GrantRow::BY_INSTITUTION, after.as_deref());
            let rows = self
                .store
                .by_index::<GrantRow>(index, &prefix, from, MAX_NOTICES)?;
            let is_last = rows.len() < MAX_NOTICES;
            for (cursor, row) in rows {
                let notice = row.row.notice.map(|notice| aged(notice, now));
                let wanted = |notice: &pb::AccessNotice| {
                    request.reviews.is_empty() || request.reviews.contains(&notice.review)
                };
                notices.extend(notice.filter(wanted));
                after = Some(cursor);
                if notices.len() == size {
                    let next = after.as_deref().unwrap_or_default();
                    return Ok((notices, HEXLOWER.encode(next)));
                }
            }
            if is_last {
                return Ok((notices, String::new()));
            }
        }
        let next = after.as_deref().unwrap_or_default();
        Ok((notices, HEXLOWER.encode(next)))
    }

    /// The notices of the grants that a frame opened.
    ///
    /// # Errors
    /// A row that cannot be read.
    pub fn opened_in(frame: &Frame) -> Result<Vec<pb::AccessNotice>> {
        let mut opened = Vec::new();
        for write in &frame.writes {
            let row = write.row::<GrantRow>()?;
            let notice = row.filter(|row| !row.closed).and_then(|row| row.notice);
            // A review writes the row again.
            let new = |notice: &pb::AccessNotice| notice.review() == pb::ReviewStatus::Pending;
            opened.extend(notice.filter(new));
        }
        Ok(opened)
    }

    /// Whether an access has been judged. One that nothing is known of has not.
    ///
    /// # Errors
    /// The store.
    pub fn is_judged(&self, id: &str) -> Result<bool> {
        let notice = self.row(id)?.and_then(|row| row.row.notice);
        Ok(notice.is_some_and(|notice| notice.review() != pb::ReviewStatus::Pending))
    }

    /// The accesses whose review came to be overdue after `from` and until `to`, or was so for one more
    /// `again`; each with how often it has been so. Goes through all grants. Blocking.
    ///
    /// # Errors
    /// The store.
    pub fn overdue(
        &self,
        from: Timestamp,
        to: Timestamp,
        again: SignedDuration,
    ) -> Result<Vec<(i128, pb::AccessNotice)>> {
        let mut overdue = Vec::new();
        self.store.scan::<GrantRow>(&mut |found| {
            let notice = found.row.notice;
            let pending = |notice: &pb::AccessNotice| notice.review() == pb::ReviewStatus::Pending;
            let Some(notice) = notice.filter(pending) else {
                return Ok(());
            };
            let due = notice.review_due.as_ref();
            if let Some(due) = due.and_then(crate::wire::from_timestamp)
                && let Some(time) = times_due(due, from, to, again)
            {
                overdue.push((time, notice));
            }
            Ok(())
        })?;
        Ok(overdue)
    }

    /// Records a privacy officer's judgement of an access.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; a missing judgement; the store.
    pub async fn review(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::ReviewAccessRequest,
    ) -> Result<pb::ReviewAccessResponse> {
        permit.require(&[Action::ReadAudit])?;
        if matches!(
            request.review(),
            pb::ReviewStatus::Unspecified
                | pb::ReviewStatus::Overdue
                // It would be as if nobody had looked, and told of as if it were new.
                | pb::ReviewStatus::Pending
        ) {
            return Err(Error::missing("review"));
        }
        let Some(Versioned { version, mut row }) = self.row(&request.notice_id)? else {
            return Err(Error::field(
                Reason::NotFound,
                "notice_id",
                "no such notice",
            ));
        };
        let now = self.clock.now();
        let mut notice = row.notice.take().unwrap_or_default();
        let own = notice
            .institution
            .as_ref()
            .is_some_and(|from| from.institution_id == code(call.caller()));
        if !own {
            return Err(Error::field(
                Reason::NotFound,
                "notice_id",
                "no such notice",
            ));
        }
        let opened_by = notice.person.as_ref().map(|person| person.subject.as_str());
        if opened_by == Some(subject(call.caller()).as_str()) {
            let message = "an access is not judged by who made it";
            return Err(Error::new(Reason::WrongState, message));
        }
        notice.review = request.review;
        notice.review_comment.clone_from(&request.comment);
        notice.reviewed_by = Some(cpb::PersonRef {
            subject: subject(call.caller()),
            role: call.caller().role().code().to_owned(),
            ..cpb::PersonRef::default()
        });
        row.notice = Some(notice.clone());
        call.note(|record| record.grant = Some(request.notice_id.clone()));
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
        let response = pb::ReviewAccessResponse {
            notice: Some(notice),
        };
        call.commit(&self.store, now, writes, idempotency, response)
            .await
    }
}

fn code(caller: &crate::access::Caller) -> String {
    caller
        .participant
        .code
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn subject(caller: &crate::access::Caller) -> String {
    caller
        .person
        .as_ref()
        .map(|person| person.subject.clone())
        .unwrap_or_default()
}

/// A notice that nobody judged in time is told as overdue.
fn aged(mut notice: pb::AccessNotice, now: Timestamp) -> pb::AccessNotice {
    let due = notice.review_due.as_ref();
    let due = due.and_then(crate::wire::from_timestamp);
    if notice.review() == pb::ReviewStatus::Pending && due.is_some_and(|due| due < now) {
        notice.review = pb::ReviewStatus::Overdue.into();
    }
    notice
}

/// Where a page begins: behind a place among the institution's own.
fn page_after(token: &str, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = HEXLOWER.decode(token.as_bytes()).ok();
    let place = place.filter(|place| place.starts_with(prefix));
    place.map(Some).ok_or_else(|| {
        let message = "is not a token of this query";
        Error::field(Reason::InvalidToken, "page_token", message)
    })
}

/// For which time, from 1 on, something is due that was due at `due` and again after every `again`: the
/// last one after `from` and until `to`.
fn times_due(
    due: Timestamp,
    from: Timestamp,
    to: Timestamp,
    again: SignedDuration,
) -> Option<i128> {
    let late = to.duration_since(due);
    if late.is_negative() {
        return None;
    }
    let times = late.as_nanos() / again.as_nanos().max(1);
    let last = due.as_nanosecond() + times * again.as_nanos();
    (last > from.as_nanosecond()).then_some(times + 1)
}

fn check(request: &pb::OpenBreakGlassRequest) -> Result<()> {
    if request.reason() == pb::BreakGlassReason::Unspecified {
        return Err(Error::missing("reason"));
    }
    let length = request.reason_text.trim().chars().count();
    if !(MIN_REASON..=MAX_REASON).contains(&length) {
        let message = format!("must say why, in {MIN_REASON} to {MAX_REASON} characters");
        return Err(Error::field(Reason::InvalidField, "reason_text", message));
    }
    if !request.declares_consent_impossible {
        return Err(Error::field(
            Reason::MissingField,
            "declares_consent_impossible",
            "must be declared: break-glass is for when consent cannot be had",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Commit, Options, Schema};

    #[tokio::test]
    async fn a_grant_covers_what_was_known_when_it_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema::new().table::<GrantRow>();
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let grants = Grants::new(Arc::clone(&store), Arc::new(SystemClock));
        let id = |value: &str| PatientIdentifier::new("1.2.3", value).unwrap();
        let (survivor, subsumed) = (id("7"), id("8"));
        let linkage = LinkageId::from_bytes([1; 16]);
        let row = GrantRow {
            id: "g-1".to_owned(),
            linkage: linkage.to_bytes().to_vec(),
            patients: vec![store.keys().patient_tag(&survivor).to_vec()],
            ..GrantRow::default()
        };
        let commit = Commit {
            writes: vec![Write::put(&row)],
            ..Commit::default()
        };
        let _committed = store.commit(commit).await.unwrap();
        // After a merge the person is known by both.
        let both = [survivor.clone(), subsumed.clone()];
        let (_, covered) = grants.find("g-1", linkage, &both).unwrap();
        assert_eq!(covered, std::slice::from_ref(&survivor));
        let refused = |linkage, patients: &[PatientIdentifier]| {
            let error = grants.find("g-1", linkage, patients).unwrap_err();
            assert_eq!(error.reason(), Reason::NotPermitted);
        };
        refused(linkage, &[subsumed]);
        refused(linkage, &[]);
        refused(LinkageId::from_bytes([2; 16]), &[survivor]);
        store.close().await.unwrap();
    }

    #[test]
    fn a_review_is_due_again_and_again() {
        let at = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
        let week = SignedDuration::from_hours(7 * 24);
        let due = |from, to| times_due(at(100), at(from), at(to), week);
        assert_eq!(due(0, 99), None);
        assert_eq!(due(0, 100), Some(1));
        assert_eq!(due(99, 100), Some(1), "the end is in it");
        assert_eq!(due(100, 101), None, "the beginning is not");
        assert_eq!(due(101, 267), None);
        assert_eq!(due(101, 268), Some(2));
        assert_eq!(due(0, 1_000), Some(6), "told once, as often as it is late");
        assert_eq!(due(1_000, 0), None, "a clock that went back");
    }

    #[test]
    fn a_page_is_of_the_own_institution() {
        let own = GrantRow::of_institution("1312345678");
        let other = GrantRow::of_institution("1312345679");
        assert_eq!(page_after("", &own).unwrap(), None);
        let token = HEXLOWER.encode(&own);
        assert_eq!(page_after(&token, &own).unwrap(), Some(own.clone()));
        for wrong in [HEXLOWER.encode(&other), "xy".to_owned()] {
            let error = page_after(&wrong, &own).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidToken);
        }
    }
}
