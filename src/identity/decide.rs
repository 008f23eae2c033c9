//! The steward's work list: deciding; four eyes on a split.

use crate::access::{Action, Call};
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Write};
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::changes::{Ask, Changed, Judged, actor};
use super::linkage::{EventId, Operation, Refusal, plan};
use super::placement::pair_of;
use super::review::{Task, tags_of};
use super::search::PatientTag;
use super::service::Identity;
use super::tables::{Proposal, ReviewRow, TagGroup, sixteen};
use super::view::View;
use super::{new_event, refused, text};

/// Decisions of one task at most: a task that is undone again and again needs a meeting.
const MAX_DECISIONS: usize = 100;

/// What a steward decides about which task.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The task.
    pub task_id: &'a str,
    /// What.
    pub decision: pb::ReviewDecision,
    /// The version of the task that was looked at.
    pub version: u64,
    /// For a split: the persons to make.
    pub groups: &'a [Vec<PatientIdentifier>],
}

/// What becomes of a task.
struct Verdict {
    state: pb::ReviewState,
    /// The change of persons that the decision is, if it is one, with its kind.
    judged: Option<Judged>,
    changed: Option<Changed>,
    proposal: Option<Proposal>,
    assignee: Option<String>,
}

impl Verdict {
    fn only(state: pb::ReviewState) -> Self {
        Self {
            state,
            judged: None,
            changed: None,
            proposal: None,
            assignee: None,
        }
    }
}

impl Identity {
    /// A task, with what deciding it for "same person" would do.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; the store.
    pub fn review_task(
        &self,
        ask: Ask<'_>,
        id: &str,
        only: Option<&HomeCommunityId>,
    ) -> Result<pb::ReviewTask> {
        ask.permit.require(&[Action::Steward])?;
        let community = &ask.call.caller().participant.community;
        let task = self.task_row(id, only)?;
        let mut shown = self.task(&task, community)?;
        if !task.row.is_closed() {
            let now = self.clock.now();
            let same = operation(&task.row, pb::ReviewDecision::SamePerson)?;
            let proposed = operation(&task.row, pb::ReviewDecision::Approve)?;
            if let Some((operation, kind)) = proposed.or(same) {
                let view = self.view_of(&task.row, &operation)?;
                let judged = self.judge(&ask, view, &operation, kind, now);
                shown.effects = judged.ok().map(|judged| judged.effects);
            }
        }
        Ok(shown)
    }

    /// Decides a task. A split is proposed by one person and done when another approves.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; [`Reason::ConcurrentChange`] if the task changed since it was looked at;
    /// [`Reason::WrongState`] if the decision does not fit; [`Reason::HeldApart`];
    /// [`Reason::SecondPersonNeeded`]; the store.
    pub async fn decide(
        &self,
        ask: Ask<'_>,
        decision: &Decision<'_>,
        only: Option<&HomeCommunityId>,
    ) -> Result<pb::DecideReviewTaskResponse> {
        ask.permit.require(&[Action::Steward])?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let task = self.task_row(decision.task_id, only)?;
        note(&ask, &task.row);
        if task.version.0 != decision.version {
            let message = "the task changed; look at it again";
            return Err(Error::field(Reason::ConcurrentChange, "version", message));
        }
        if task.row.is_closed() || task.row.decisions.len() >= MAX_DECISIONS {
            let message = "the task is decided already";
            return Err(Error::field(Reason::WrongState, "task_id", message));
        }
        let verdict = self.verdict(&ask, &task.row, decision, now)?;
        let event = verdict.judged.as_ref().map(|judged| judged.event.id);
        let id = event.unwrap_or_else(new_event);
        let row = decided_row(&ask, &task.row, decision.decision, &verdict, id, now);
        let mut writes = vec![Write::put(&row).expecting(Expect::Version(task.version))];
        let mut effects = pb::ChangeEffects::default();
        if let Some(judged) = verdict.judged {
            effects = judged.effects;
            writes.extend(judged.writes);
            writes.extend(
                verdict
                    .changed
                    .iter()
                    .flat_map(|changed| (ask.attach)(changed)),
            );
        }
        let community = &ask.call.caller().participant.community;
        let after = Task {
            version: task.version,
            row,
        };
        let response = pb::DecideReviewTaskResponse {
            task: Some(self.task(&after, community)?),
            effects: Some(effects),
            decision_id: if ask.preview {
                String::new()
            } else {
                text(&id)
            },
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

    fn verdict(
        &self,
        ask: &Ask<'_>,
        row: &ReviewRow,
        decision: &Decision<'_>,
        now: jiff::Timestamp,
    ) -> Result<Verdict> {
        use pb::ReviewDecision as D;
        use pb::ReviewState as S;
        let waits = row.state() == S::AwaitingApproval;
        match decision.decision {
            D::AskInstitution if !waits => Ok(Verdict::only(S::Waiting)),
            D::CannotDecide if !waits => Ok(Verdict {
                assignee: Some(String::new()),
                ..Verdict::only(S::Open)
            }),
            D::Split if !waits => {
                with_reason(ask)?;
                let proposal = self.proposal(ask, row, decision.groups)?;
                Ok(Verdict {
                    proposal: Some(proposal),
                    ..Verdict::only(S::AwaitingApproval)
                })
            }
            D::Reject if waits => {
                with_reason(ask)?;
                second_person(ask.call, row)?;
                let approval = row.what() == pb::ReviewKind::Approval;
                Ok(Verdict::only(if approval { S::Decided } else { S::Open }))
            }
            D::Approve if waits => {
                second_person(ask.call, row)?;
                self.act(ask, row, D::Approve, now)
            }
            D::SamePerson | D::DifferentPersons if !waits => {
                self.act(ask, row, decision.decision, now)
            }
            D::Unspecified => Err(Error::missing("decision")),
            _ => Err(unfit()),
        }
    }

    /// A decision that changes persons, or confirms them as they are.
    fn act(
        &self,
        ask: &Ask<'_>,
        row: &ReviewRow,
        decision: pb::ReviewDecision,
        now: jiff::Timestamp,
    ) -> Result<Verdict> {
        let Some((operation, kind)) = operation(row, decision)? else {
            // A chart that is of one person after all.
            let same = decision == pb::ReviewDecision::SamePerson;
            return match same {
                true => Ok(Verdict::only(pb::ReviewState::Decided)),
                false => Err(unfit()),
            };
        };
        let view = self.view_of(row, &operation)?;
        // What is so already is only confirmed.
        let mut unused = || LinkageId::random(&mut rand::rng());
        match plan(&view.state, &operation, [0; 16], &mut unused) {
            Err(Refusal::Linked) if decision == pb::ReviewDecision::SamePerson => {
                return Ok(Verdict::only(pb::ReviewState::Decided));
            }
            Err(Refusal::Marked) if decision == pb::ReviewDecision::DifferentPersons => {
                return Ok(Verdict::only(pb::ReviewState::Decided));
            }
            Err(Refusal::Linked) => {
                let message = "the two are linked: propose a split";
                return Err(Error::field(Reason::WrongState, "decision", message));
            }
            _ => {}
        }
        let changed = changed(&view, &operation);
        Ok(Verdict {
            judged: Some(self.judge(ask, view, &operation, kind, now)?),
            changed,
            ..Verdict::only(pb::ReviewState::Decided)
        })
    }

    fn view_of(&self, row: &ReviewRow, operation: &Operation) -> Result<View> {
        match operation {
            Operation::Split { linkage, .. } => View::load(&self.store, &[*linkage], &[]),
            _ => View::load(&self.store, &[], &tags_of(row)?),
        }
    }

    /// The split that a steward proposes, judged, but not done. Without groups: the chart, or the second
    /// record, leaves its person.
    fn proposal(
        &self,
        ask: &Ask<'_>,
        row: &ReviewRow,
        groups: &[Vec<PatientIdentifier>],
    ) -> Result<Proposal> {
        let tags = tags_of(row)?;
        let leaves = tags.last().copied().ok_or_else(unfit)?;
        let view = View::load(&self.store, &[], &tags)?;
        let leaves = view.state.root(leaves).ok_or_else(unfit)?;
        let linkage = leaves.linkage;
        let groups = if groups.is_empty() {
            let members = view.state.members(linkage);
            let roots = members.filter(|one| one.merged.is_none() && one.tag != leaves.tag);
            let stay: Vec<PatientTag> = roots.map(|one| one.tag).collect();
            if stay.is_empty() {
                let message = "the record is alone; ask the institution for a new identifier";
                return Err(Error::field(Reason::WrongState, "decision", message));
            }
            vec![stay, vec![leaves.tag]]
        } else {
            self.tags_of_groups(groups)
        };
        propose(ask, &view, linkage, &groups)
    }

    fn tags_of_groups(&self, groups: &[Vec<PatientIdentifier>]) -> Vec<Vec<PatientTag>> {
        let keys = self.store.keys();
        let tags = |group: &Vec<PatientIdentifier>| -> Vec<PatientTag> {
            group.iter().map(|one| keys.patient_tag(one)).collect()
        };
        groups.iter().map(tags).collect()
    }

    /// Proposes to split a person: a task for a second person.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`]; [`Reason::InvalidField`] if the groups are not a division of the
    /// person; the store.
    pub async fn propose_split(
        &self,
        ask: Ask<'_>,
        linkage: LinkageId,
        groups: &[Vec<PatientIdentifier>],
    ) -> Result<pb::SplitPersonResponse> {
        ask.permit.require(&[Action::Steward])?;
        with_reason(&ask)?;
        let (gate, now) = (self.gate(true).await, self.clock.now());
        if let Some(first) = ask.call.repeated(&self.store, ask.idempotency, now)? {
            return Ok(first);
        }
        let linkage = self.living(linkage)?;
        let view = View::load(&self.store, &[linkage], &[])?;
        let proposal = propose(&ask, &view, linkage, &self.tags_of_groups(groups))?;
        let id = new_event();
        let row = ReviewRow {
            first: id.to_vec(),
            second: linkage.to_bytes().to_vec(),
            id: id.to_vec(),
            state: pb::ReviewState::AwaitingApproval.into(),
            created_ms: now.as_millisecond(),
            kind: pb::ReviewKind::Approval.into(),
            priority: 70,
            proposal: Some(proposal),
            ..ReviewRow::default()
        };
        note(&ask, &row);
        let Some((operation, kind)) = operation(&row, pb::ReviewDecision::Approve)? else {
            return Err(unfit());
        };
        let judged = self.judge(&ask, view, &operation, kind, now)?;
        let response = pb::SplitPersonResponse {
            effects: Some(judged.effects),
            approval_task_id: if ask.preview {
                String::new()
            } else {
                text(&id)
            },
            ..pb::SplitPersonResponse::default()
        };
        if ask.preview {
            return Ok(response);
        }
        let writes = vec![Write::put(&row).expecting(Expect::Absent)];
        let idempotency = ask.idempotency.cloned();
        ask.call
            .commit_holding(&self.store, now, writes, idempotency, response, gate)
            .await
    }
}

/// The audit names the first record that a task is about.
pub(super) fn note(ask: &Ask<'_>, row: &ReviewRow) {
    let about = match row.what() {
        pb::ReviewKind::Approval => {
            let groups = row.proposal.iter().flat_map(|one| &one.groups);
            groups.flat_map(|group| &group.tags).next().cloned()
        }
        _ => Some(row.first.clone()),
    };
    ask.call.note(|record| {
        record.patient = about;
        record.items = 1;
    });
}

pub(super) fn unfit() -> Error {
    let message = "does not fit the task as it is";
    Error::field(Reason::WrongState, "decision", message)
}

pub(super) fn with_reason(ask: &Ask<'_>) -> Result<()> {
    match ask.reason.trim().is_empty() {
        true => Err(Error::missing("reason")),
        false => Ok(()),
    }
}

/// Four eyes: who proposed a split does not decide it.
fn second_person(call: &Call, row: &ReviewRow) -> Result<()> {
    let first = row
        .proposal
        .as_ref()
        .and_then(|proposal| proposal.by.as_ref());
    let now = actor(call);
    let known = first.zip(now.as_ref());
    if known.is_none_or(|(first, now)| may_be_one(first, now)) {
        let message = "another person must approve a split";
        return Err(Error::new(Reason::SecondPersonNeeded, message));
    }
    Ok(())
}

/// Whether two who acted may be one human. Who signs with a certificate of their own has one subject at
/// every institution, and is one pair of eyes. Two whom their institutions give the same number are taken
/// for one: a third can approve.
fn may_be_one(first: &cpb::PersonRef, now: &cpb::PersonRef) -> bool {
    first.subject == now.subject
}

fn propose(
    ask: &Ask<'_>,
    view: &View,
    linkage: LinkageId,
    groups: &[Vec<PatientTag>],
) -> Result<Proposal> {
    let operation = Operation::Split {
        linkage,
        groups: groups.to_vec(),
    };
    let mut unused = || LinkageId::random(&mut rand::rng());
    plan(&view.state, &operation, [0; 16], &mut unused).map_err(refused)?;
    let groups = groups.iter().map(|group| TagGroup {
        tags: group.iter().map(|tag| tag.to_vec()).collect(),
    });
    Ok(Proposal {
        linkage: linkage.to_bytes().to_vec(),
        groups: groups.collect(),
        by: actor(ask.call),
        reason: ask.reason.to_owned(),
    })
}

/// What an operation is about, for those who must be told.
fn changed(view: &View, operation: &Operation) -> Option<Changed> {
    let named = |tag: &PatientTag| view.identifier(tag);
    match operation {
        Operation::Link { first, second } => Some(Changed::Linked(named(first)?, named(second)?)),
        Operation::Separate { first, second } => {
            Some(Changed::Unlinked(named(first)?, named(second)?, true))
        }
        Operation::Split { groups, .. } => {
            let group = |group: &Vec<PatientTag>| group.iter().filter_map(named).collect();
            Some(Changed::Split(groups.iter().map(group).collect()))
        }
        _ => None,
    }
}

/// The task with one decision more.
fn decided_row(
    ask: &Ask<'_>,
    row: &ReviewRow,
    decision: pb::ReviewDecision,
    verdict: &Verdict,
    id: EventId,
    now: jiff::Timestamp,
) -> ReviewRow {
    let mut row = row.clone();
    row.state = verdict.state.into();
    // What was approved is kept: taking it back leaves the proposal to be decided again.
    if decision != pb::ReviewDecision::Approve {
        row.proposal.clone_from(&verdict.proposal);
    }
    if let Some(assignee) = &verdict.assignee {
        row.assignee.clone_from(assignee);
    }
    row.decisions.push(pb::ReviewDecisionRecord {
        decision_id: text(&id),
        decision: decision.into(),
        decided_by: actor(ask.call),
        decided: Some(crate::wire::timestamp(now)),
        reason: ask.reason.to_owned(),
        undone: false,
    });
    row
}

/// The operation that a decision about a task is, if it is one.
fn operation(
    row: &ReviewRow,
    decision: pb::ReviewDecision,
) -> Result<Option<(Operation, pb::PersonEventKind)>> {
    use pb::PersonEventKind as K;
    use pb::ReviewDecision as D;
    if decision == D::Approve {
        let Some(proposal) = &row.proposal else {
            return Ok(None);
        };
        let groups = proposal.groups.iter();
        let groups = groups.map(|group| group.tags.iter().map(|tag| sixteen(tag)).collect());
        let operation = Operation::Split {
            linkage: LinkageId::from_bytes(sixteen(&proposal.linkage)?),
            groups: groups.collect::<Result<_>>()?,
        };
        return Ok(Some((operation, K::Split)));
    }
    if row.what() == pb::ReviewKind::Approval {
        return Ok(None);
    }
    let (first, second) = pair_of(row)?;
    if first == second {
        return Ok(None);
    }
    Ok(match decision {
        D::SamePerson => Some((Operation::Link { first, second }, K::Linked)),
        D::DifferentPersons => Some((Operation::Separate { first, second }, K::Separated)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_human_at_two_institutions_is_no_second_person() {
        let steward = |subject: &str, institution: &str| cpb::PersonRef {
            subject: subject.to_owned(),
            institution: Some(cpb::InstitutionRef {
                institution_id: institution.to_owned(),
                ..cpb::InstitutionRef::default()
            }),
            ..cpb::PersonRef::default()
        };
        let first = steward("S-1", "1312345678");
        assert!(may_be_one(&first, &steward("S-1", "1312345678")));
        assert!(may_be_one(&first, &steward("S-1", "1412345675")));
        assert!(!may_be_one(&first, &steward("S-2", "1312345678")));
    }
}
