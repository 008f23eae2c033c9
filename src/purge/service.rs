//! Propose, agree, take back, list; and carry out.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::access::two_people::{self, Approver, person};
use crate::access::{Action, Call, Permit};
use crate::audit::{Outcome, Record, Who};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::identity::identifier_message;
use crate::store::{Commit, Expect, Store, Tag, Versioned, Write};
use crate::types::{HomeCommunityId, PatientIdentifier, PersonRole, PurposeOfUse, Redacted};
use crate::wire::pb::admin as pb;

use super::tables::{PurgeRow, PurgedPatientRow};

/// Characters of the reference of a decision.
const MAX_DECISION: usize = 200;
/// Proposals on a page.
const MAX_PAGE: usize = 200;
/// Proposals looked at for one page.
const MAX_LOOKED_AT: usize = 2_000;
/// The method that an event of the carrying out is of.
const APPROVE: &str = "renkei.admin.v1.AdminService/ApprovePurge";

/// The proposals at this node.
#[derive(Debug)]
pub struct Purges {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    home: HomeCommunityId,
    wanted: Arc<Notify>,
    /// Counts what was carried out, for those who wait for it.
    done: watch::Sender<u64>,
}

/// Wakes whoever carries out, when the frame of an approval is there: also if its call is gone.
#[derive(Debug)]
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Purges {
    /// Proposals kept in `store`, of the node of `home`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, home: HomeCommunityId) -> Self {
        Self {
            store,
            clock,
            home,
            wanted: Arc::default(),
            done: watch::Sender::default(),
        }
    }

    /// Proposes that the keys of `patient` be destroyed.
    ///
    /// # Errors
    /// [`Reason::MissingField`] or [`Reason::InvalidField`], naming the field; the store.
    pub async fn propose(
        &self,
        permit: &Permit,
        call: &Call,
        patient: &PatientIdentifier,
        request: &pb::ProposePurgeRequest,
    ) -> Result<pb::Purge> {
        permit.require(&[Action::Purge])?;
        let now = self.clock.now();
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        let first: Option<pb::ProposePurgeResponse> =
            call.repeated(&self.store, idempotency.as_ref(), now)?;
        if let Some(first) = first {
            return self.told(&id_of(first.purge), now);
        }
        let tag = self.about(call, patient);
        let row = proposal(call, tag, request, now)?;
        let about = PurgedPatientRow {
            id: row.id.clone(),
            patient: row.patient.clone(),
            identifier: Some(identifier_message(patient)),
        };
        call.note(|record| record.grant = Some(row.id.clone()));
        let writes = vec![
            Write::put(&row).expecting(Expect::Absent),
            Write::put(&about).expecting(Expect::Absent),
        ];
        let response = pb::ProposePurgeResponse {
            purge: Some(named(&row.id)),
        };
        let response = call
            .commit(&self.store, now, writes, idempotency, response)
            .await?;
        self.told(&id_of(response.purge), now)
    }

    /// Agrees to what another person proposed, and waits as long as the call may for it to be done.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::InvalidField`] if the proposal is about another patient;
    /// [`Reason::SecondPersonNeeded`]; [`Reason::WrongState`] if it is decided, taken back or too old; the
    /// store.
    pub async fn approve(
        &self,
        permit: &Permit,
        call: &Call,
        patient: &PatientIdentifier,
        request: &pb::ApprovePurgeRequest,
    ) -> Result<pb::Purge> {
        permit.require(&[Action::Purge])?;
        let now = self.clock.now();
        let until = Instant::now() + call.downstream_budget();
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        let first: Option<pb::ApprovePurgeResponse> =
            call.repeated(&self.store, idempotency.as_ref(), now)?;
        if let Some(first) = first {
            return self.settled(&id_of(first.purge), until).await;
        }
        let tag = self.about(call, patient);
        let Versioned { version, row } = self.row(&request.purge_id)?;
        call.note(|record| record.grant = Some(row.id.clone()));
        let row = agree(call, tag, row, now)?;
        let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
        let response = pb::ApprovePurgeResponse {
            purge: Some(named(&row.id)),
        };
        let wake = Wake(Arc::clone(&self.wanted));
        let response = call
            .commit_holding(&self.store, now, writes, idempotency, response, wake)
            .await?;
        self.settled(&id_of(response.purge), until).await
    }

    /// Takes back a proposal: one person suffices, since nothing is destroyed then.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if it does not wait for a second person; the store.
    pub async fn withdraw(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::WithdrawPurgeRequest,
    ) -> Result<pb::Purge> {
        permit.require(&[Action::Purge])?;
        let now = self.clock.now();
        let idempotency = call.idempotency(&self.store, &request.idempotency_key, request, now)?;
        let first: Option<pb::WithdrawPurgeResponse> =
            call.repeated(&self.store, idempotency.as_ref(), now)?;
        if let Some(first) = first {
            return self.told(&id_of(first.purge), now);
        }
        let Versioned { version, mut row } = self.row(&request.purge_id)?;
        call.note(|record| {
            record.grant = Some(row.id.clone());
            record.patient = Some(row.patient.clone());
        });
        if row.state(now) != pb::PurgeState::Proposed {
            let message = "only what waits for a second person can be taken back";
            return Err(Error::field(Reason::WrongState, "purge_id", message));
        }
        row.withdrawn = true;
        let writes = vec![Write::put(&row).expecting(Expect::Version(version))];
        let response = pb::WithdrawPurgeResponse {
            purge: Some(named(&row.id)),
        };
        let response = call
            .commit(&self.store, now, writes, idempotency, response)
            .await?;
        self.told(&id_of(response.purge), now)
    }

    /// A page of the proposals in these states (none: in any), newest first, and the token of the next
    /// one. A page may be empty and not the last: it looks at some thousand at most.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`]; the store.
    pub fn list(
        &self,
        permit: &Permit,
        request: &pb::ListPurgesRequest,
    ) -> Result<(Vec<pb::Purge>, String)> {
        permit.require(&[Action::Purge])?;
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            asked => asked.min(MAX_PAGE),
        };
        let mut after = page_after(&request.page_token)?;
        let (now, mut purges) = (self.clock.now(), Vec::new());
        for _ in 0..MAX_LOOKED_AT / MAX_PAGE {
            let rows = self.store.by_index::<PurgeRow>(
                PurgeRow::BY_TIME,
                &[],
                after.as_deref(),
                MAX_PAGE,
            )?;
            let is_last = rows.len() < MAX_PAGE;
            for (cursor, found) in rows {
                let state = i32::from(found.row.state(now));
                if request.states.is_empty() || request.states.contains(&state) {
                    purges.push(self.tell(found.row, now)?);
                }
                after = Some(cursor);
                if purges.len() == size {
                    return Ok((purges, token(after.as_deref())));
                }
            }
            if is_last {
                return Ok((purges, String::new()));
            }
        }
        Ok((purges, token(after.as_deref())))
    }

    /// Waits until something may have been approved.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Carries out what was approved first, if anything was. One caller at a time.
    ///
    /// # Errors
    /// The store; the approval stays, and is to be carried out again.
    pub async fn carry_out_next(&self) -> Result<bool> {
        let mut due = self
            .store
            .by_index::<PurgeRow>(PurgeRow::DUE, &[], None, 1)?;
        let Some((_, Versioned { version, mut row })) = due.pop() else {
            return Ok(false);
        };
        let tag = Tag::from_slice(&row.patient)
            .ok_or_else(|| Error::internal("a purge without a patient"))?;
        let store = Arc::clone(&self.store);
        let purged = tokio::task::spawn_blocking(move || match store.key_made(tag)? {
            Some(made) if made <= version => store.purge(&[tag]).map(|purged| purged.rows),
            // The keys that this is about are destroyed: it was broken off after that. What came under the
            // identifier since then is somebody's who was not agreed on.
            _ => store.clear_after_purge().map(|()| 0),
        });
        let rows = purged.await.map_err(Error::internal)??;
        let now = self.clock.now();
        row.done = true;
        if let Some(purge) = &mut row.purge {
            purge.done = Some(crate::wire::timestamp(now));
            purge.rows = rows;
        }
        let commit = Commit {
            writes: vec![Write::put(&row).expecting(Expect::Version(version))],
            audit: vec![self.event(&row, rows).close(Outcome::Success, now)],
            ..Commit::default()
        };
        let _committed = self.store.commit(commit).await?;
        self.done.send_modify(|done| *done += 1);
        Ok(true)
    }

    /// The event of the carrying out, which is the node's own act.
    fn event(&self, row: &PurgeRow, rows: u64) -> Record {
        let who = Who {
            institution: None,
            community: self.home.clone(),
            subject: None,
            role: PersonRole::System,
            purpose: PurposeOfUse::Operations,
            relation: None,
            relay: None,
        };
        let mut record = Record::new(who, APPROVE, row.id.clone());
        record.patient = Some(row.patient.clone());
        record.grant = Some(row.id.clone());
        record.items = u32::try_from(rows).unwrap_or(u32::MAX);
        record
    }

    /// Notes whom a call is about; the patient's tag.
    fn about(&self, call: &Call, patient: &PatientIdentifier) -> Tag {
        let tag = self.store.keys().patient_tag(patient);
        call.note(|record| record.patient = Some(tag.to_vec()));
        Tag::from_bytes(tag)
    }

    /// As it is when it is done, or when the time is over.
    async fn settled(&self, id: &str, until: Instant) -> Result<pb::Purge> {
        let mut done = self.done.subscribe();
        loop {
            let Versioned { row, .. } = self.row(id)?;
            let changed = tokio::time::timeout_at(until, done.changed());
            if row.done || !matches!(changed.await, Ok(Ok(()))) {
                return self.told(id, self.clock.now());
            }
        }
    }

    fn told(&self, id: &str, now: Timestamp) -> Result<pb::Purge> {
        self.tell(self.row(id)?.row, now)
    }

    fn tell(&self, row: PurgeRow, now: Timestamp) -> Result<pb::Purge> {
        let about = self.store.get::<PurgedPatientRow>(row.id.as_bytes())?;
        let state = row.state(now);
        Ok(pb::Purge {
            patient_id: about.and_then(|about| about.row.identifier),
            state: state.into(),
            ..row.purge.unwrap_or_default()
        })
    }

    fn row(&self, id: &str) -> Result<Versioned<PurgeRow>> {
        let known = self.store.get::<PurgeRow>(id.as_bytes())?;
        known.ok_or_else(|| Error::field(Reason::NotFound, "purge_id", "no such proposal"))
    }
}

fn proposal(
    call: &Call,
    tag: Tag,
    request: &pb::ProposePurgeRequest,
    now: Timestamp,
) -> Result<PurgeRow> {
    if request.reason() == pb::PurgeReason::Unspecified {
        return Err(Error::missing("reason"));
    }
    let decision = request.decision.trim();
    if decision.is_empty() || decision.chars().count() > MAX_DECISION {
        let message = format!("must have 1 to {MAX_DECISION} characters");
        return Err(Error::field(Reason::InvalidField, "decision", message));
    }
    call.note(|record| record.reason = Some(Redacted(decision.to_owned())));
    let expires = now
        .checked_add(two_people::PROPOSAL)
        .map_err(Error::internal)?;
    let id = uuid::Uuid::new_v4().to_string();
    Ok(PurgeRow {
        patient: tag.as_bytes().to_vec(),
        purge: Some(pb::Purge {
            purge_id: id.clone(),
            reason: request.reason,
            decision: decision.to_owned(),
            approvers: vec![person(call.caller())],
            proposed: Some(crate::wire::timestamp(now)),
            expires: Some(crate::wire::timestamp(expires)),
            ..pb::Purge::default()
        }),
        id,
        approvers: vec![Approver::of(call.caller()).stored()],
        proposed_ms: now.as_millisecond(),
        ..PurgeRow::default()
    })
}

/// The proposal, once the caller has agreed that it is about this patient.
fn agree(call: &Call, tag: Tag, mut row: PurgeRow, now: Timestamp) -> Result<PurgeRow> {
    if row.patient != tag.as_bytes() {
        let message = "is not whom the proposal is about";
        return Err(Error::field(Reason::InvalidField, "patient_id", message));
    }
    if row.withdrawn {
        let message = "the proposal was taken back";
        return Err(Error::field(Reason::WrongState, "purge_id", message));
    }
    let (caller, proposed) = (call.caller(), row.proposed_ms);
    let second = two_people::second(&row.approvers, proposed, caller, now, "purge_id")?;
    row.approvers.push(second);
    row.approved_ms = now.as_millisecond();
    if let Some(purge) = &mut row.purge {
        purge.approvers.push(person(caller));
        purge.approved = Some(crate::wire::timestamp(now));
    }
    Ok(row)
}

/// What a repeat of the request is answered by: the proposal's id, and so what became of it meanwhile.
fn named(id: &str) -> pb::Purge {
    pb::Purge {
        purge_id: id.to_owned(),
        ..pb::Purge::default()
    }
}

fn id_of(purge: Option<pb::Purge>) -> String {
    purge.unwrap_or_default().purge_id
}

fn token(after: Option<&[u8]>) -> String {
    HEXLOWER.encode(after.unwrap_or_default())
}

fn page_after(token: &str) -> Result<Option<Vec<u8>>> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = HEXLOWER.decode(token.as_bytes()).map(Some);
    place.map_err(|_| {
        let message = "is not a token of this query";
        Error::field(Reason::InvalidToken, "page_token", message)
    })
}
