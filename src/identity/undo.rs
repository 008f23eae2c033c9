//! The steward's work list: taking decisions back, giving tasks to people, and tasks that sources make.

use crate::access::{Action, Call, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Write};
use crate::types::{HomeCommunityId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::changes::{Ask, Changed};
use super::decide::{note, with_reason};
use super::linkage::Operation;
use super::placement::{Doubt, pair_of};
use super::review::Task;
use super::service::Identity;
use super::tables::ReviewRow;
use super::text;
use super::view::View;

impl Identity {
    /// Takes a decision back: what it changed is as it was, and the task is open again.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if it was taken back already; the store.
    pub async fn undo(
        &self,
        ask: Ask<'_>,
        decision_id: &str,
        only: Option<&HomeCommunityId>,
    ) -> Result<pb::UndoReviewDecisionResponse> {
        ask.permit.require(&[Action::Steward])?;
        with_reason(&ask)?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let (task, id) = self.decided(decision_id, only)?;
        note(&ask, &task.row);
        let mut row = task.row.clone();
        let waits = row.what() == pb::ReviewKind::Approval && row.proposal.is_some();
        row.state = match waits {
            true => pb::ReviewState::AwaitingApproval.into(),
            false => pb::ReviewState::Open.into(),
        };
        if !waits {
            row.proposal = None;
        }
        for record in &mut row.decisions {
            record.undone = true;
        }
        let mut writes = vec![Write::put(&row).expecting(Expect::Version(task.version))];
        let mut effects = pb::ChangeEffects::default();
        if let Some((former, kind)) = self.decided_event(id)? {
            let (event, view) = self.former(former)?;
            let changed = taken_back(&view, &row, kind)?;
            let operation = Operation::Reverse(event);
            let judged = self.judge(&ask, view, &operation, inverse(kind), now)?;
            effects = judged.effects;
            writes.extend(judged.writes);
            writes.extend(changed.iter().flat_map(|changed| (ask.attach)(changed)));
        }
        let community = &ask.call.caller().participant.community;
        let after = Task {
            version: task.version,
            row,
        };
        let response = pb::UndoReviewDecisionResponse {
            task: Some(self.task(&after, community)?),
            effects: Some(effects),
        };
        if ask.preview {
            return Ok(response);
        }
        let idempotency = ask.idempotency.cloned();
        let committed = ask
            .call
            .commit_holding(&self.store, now, writes, idempotency, response, gate)
            .await;
        let mut response = committed?;
        if let Some(task) = &mut response.task {
            task.version = self.task_version(&after.row)?;
        }
        Ok(response)
    }

    /// The task with this decision, which must be the last and in force.
    fn decided(&self, id: &str, only: Option<&HomeCommunityId>) -> Result<(Task, [u8; 16])> {
        let none = || {
            let message = "no such decision is known here";
            Error::field(Reason::NotFound, "decision_id", message)
        };
        let id = *uuid::Uuid::parse_str(id).map_err(|_| none())?.as_bytes();
        let index = ReviewRow::BY_DECISION;
        let rows = self.store.by_index::<ReviewRow>(index, &id, None, 1)?;
        let (_, task) = rows.into_iter().next().ok_or_else(none)?;
        if let Some(only) = only
            && !self.concerns(&task.row, &only.to_string())?
        {
            return Err(none());
        }
        let last = task.row.decisions.last();
        let in_force = last.is_some_and(|last| last.decision_id == text(&id) && !last.undone);
        if !in_force {
            let message = "was taken back already, or another decision followed";
            return Err(Error::field(Reason::WrongState, "decision_id", message));
        }
        Ok((task, id))
    }

    /// The change of persons that a decision was, if it was one.
    fn decided_event(&self, id: [u8; 16]) -> Result<Option<([u8; 16], pb::PersonEventKind)>> {
        let found = self.store.get::<super::tables::LinkEventRow>(&id)?;
        Ok(found.map(|found| (id, found.row.kind())))
    }

    /// Opens a task about two records that a source links and a steward holds apart. The steward's
    /// word holds meanwhile.
    ///
    /// # Errors
    /// The store.
    pub async fn contradicted(
        &self,
        permit: &Permit,
        call: &Call,
        first: &PatientIdentifier,
        second: &PatientIdentifier,
    ) -> Result<()> {
        permit.require(&[Action::AssertIdentity])?;
        let keys = self.store.keys();
        let (first, second) = (keys.patient_tag(first), keys.patient_tag(second));
        let doubt = Doubt {
            other: Some(second),
            kind: pb::ReviewKind::Contradiction,
            evidence: pb::MatchEvidence {
                rule: "linked-by-source".to_owned(),
                model_version: super::evidence::model_version(),
                ..pb::MatchEvidence::default()
            },
        };
        call.note(|record| record.patient = Some(first.to_vec()));
        let now = self.clock.now();
        let (write, _) = self.review(&first, &doubt, now)?;
        let writes = write.into_iter().collect();
        call.commit(&self.store, now, writes, None, ()).await
    }

    /// Gives a task to a steward, or back to all.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::WrongState`] if it is decided; the store.
    pub async fn assign(
        &self,
        ask: Ask<'_>,
        task_id: &str,
        assignee: &str,
        only: Option<&HomeCommunityId>,
    ) -> Result<pb::AssignReviewTaskResponse> {
        ask.permit.require(&[Action::Steward])?;
        if assignee.len() > 64 {
            let message = "is longer than 64 bytes";
            return Err(Error::field(
                Reason::InvalidField,
                "assignee_subject",
                message,
            ));
        }
        let now = self.clock.now();
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let task = self.task_row(task_id, only)?;
        note(&ask, &task.row);
        if task.row.is_closed() {
            let message = "the task is decided already";
            return Err(Error::field(Reason::WrongState, "task_id", message));
        }
        let mut row = task.row.clone();
        assignee.clone_into(&mut row.assignee);
        let state = row.state();
        let free = matches!(state, pb::ReviewState::Open | pb::ReviewState::Assigned);
        if free {
            row.state = match assignee.is_empty() {
                true => pb::ReviewState::Open.into(),
                false => pb::ReviewState::Assigned.into(),
            };
        }
        let writes = vec![Write::put(&row).expecting(Expect::Version(task.version))];
        let community = &ask.call.caller().participant.community;
        let after = Task {
            version: task.version,
            row,
        };
        let response = pb::AssignReviewTaskResponse {
            task: Some(self.task(&after, community)?),
        };
        let idempotency = ask.idempotency.cloned();
        let committed = ask
            .call
            .commit(&self.store, now, writes, idempotency, response)
            .await;
        let mut response = committed?;
        if let Some(task) = &mut response.task {
            task.version = self.task_version(&after.row)?;
        }
        Ok(response)
    }
}

/// What taking a decision back is about, for those who must be told.
fn taken_back(view: &View, row: &ReviewRow, kind: pb::PersonEventKind) -> Result<Option<Changed>> {
    if row.what() == pb::ReviewKind::Approval {
        return Ok(None);
    }
    let (first, second) = pair_of(row)?;
    let both = view.identifier(&first).zip(view.identifier(&second));
    Ok(match (kind, both) {
        (pb::PersonEventKind::Linked, Some((first, second))) => {
            Some(Changed::Unlinked(first, second, false))
        }
        _ => None,
    })
}

/// What taking an event of this kind back is in the history.
fn inverse(kind: pb::PersonEventKind) -> pb::PersonEventKind {
    use pb::PersonEventKind as K;
    match kind {
        K::Linked => K::Unlinked,
        K::Unlinked | K::Split => K::Linked,
        K::Merged => K::Unmerged,
        other => other,
    }
}
