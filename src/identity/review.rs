//! The steward's work list: reading it.

use crate::access::{Action, Permit};
use crate::error::{Error, Reason, Result};
use crate::store::{Row as _, Versioned};
use crate::types::{HomeCommunityId, LinkageId};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::compare::compare;
use super::evidence::evidence;
use super::placement::pair_of;
use super::search::PatientTag;
use super::service::Identity;
use super::tables::{PatientRow, ReviewRow, sixteen};
use super::{text, traits};

/// Tasks looked at for one list at most.
const MAX_TASKS: usize = 10_000;
/// Tasks on a page at most.
const MAX_PAGE: usize = 200;

/// A task as it is stored.
pub(super) type Task = Versioned<ReviewRow>;

impl Identity {
    /// Tasks by priority, then age. Of a community other than this node's, those that concern its own
    /// records.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`]; the store.
    pub fn review_tasks(
        &self,
        permit: &Permit,
        request: &pb::ListReviewTasksRequest,
        only: Option<&HomeCommunityId>,
        shown_to: &HomeCommunityId,
    ) -> Result<pb::ListReviewTasksResponse> {
        permit.require(&[Action::Steward])?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                data_encoding::HEXLOWER
                    .decode(token.as_bytes())
                    .map_err(|_| {
                        let message = "is not a token of this list";
                        Error::field(Reason::InvalidToken, "page_token", message)
                    })?,
            ),
        };
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let index = ReviewRow::BY_RANK;
        let rows = self
            .store
            .by_index::<ReviewRow>(index, &[], None, MAX_TASKS)?;
        let mut response = pb::ListReviewTasksResponse::default();
        let mut last = Vec::new();
        for (cursor, task) in rows {
            if !self.wanted(&task.row, request, only)? {
                continue;
            }
            response.total_size += 1;
            if after.as_ref().is_some_and(|after| cursor <= *after) {
                continue;
            }
            if response.tasks.len() < size {
                response.tasks.push(self.task(&task, shown_to)?);
                last = cursor;
            } else if response.next_page_token.is_empty() {
                response.next_page_token = data_encoding::HEXLOWER.encode(&last);
            }
        }
        Ok(response)
    }

    fn wanted(
        &self,
        row: &ReviewRow,
        request: &pb::ListReviewTasksRequest,
        only: Option<&HomeCommunityId>,
    ) -> Result<bool> {
        let states = match request.states.is_empty() {
            true => !row.is_closed(),
            false => request.states.contains(&row.state),
        };
        let kinds = request.kinds.is_empty() || request.kinds.contains(&row.what().into());
        let assignee = &request.assignee_subject;
        let whose = assignee.is_empty() || *assignee == row.assignee;
        if !(states && kinds && whose && row.priority >= request.min_priority) {
            return Ok(false);
        }
        let home = &request.home_community_id;
        let named = home.is_empty() || self.concerns(row, home)?;
        Ok(named && only.map_or(Ok(true), |only| self.concerns(row, &only.to_string()))?)
    }

    /// Whether a task is about a record of this community.
    ///
    /// # Errors
    /// The store.
    pub(super) fn concerns(&self, row: &ReviewRow, community: &str) -> Result<bool> {
        for tag in self.tags_of(row)? {
            let found = self.store.get::<PatientRow>(&tag)?;
            let patient = found.and_then(|found| found.row.patient);
            if patient.is_some_and(|patient| patient.home_community_id == community) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The records a task is about.
    ///
    /// # Errors
    /// The store.
    pub(super) fn tags_of(&self, row: &ReviewRow) -> Result<Vec<PatientTag>> {
        if row.what() == pb::ReviewKind::Approval {
            let groups = row.proposal.iter().flat_map(|one| &one.groups);
            let tags = groups.flat_map(|group| &group.tags);
            return tags.map(|tag| sixteen(tag)).collect();
        }
        let (first, second) = pair_of(row)?;
        Ok(match first == second {
            true => vec![first],
            false => vec![first, second],
        })
    }

    /// A task by its id, side by side. `only`, as for the list.
    ///
    /// # Errors
    /// [`Reason::NotFound`]; the store.
    pub(super) fn task_row(&self, id: &str, only: Option<&HomeCommunityId>) -> Result<Task> {
        let none = || Error::field(Reason::NotFound, "task_id", "no such task is known here");
        let id = uuid::Uuid::parse_str(id).map_err(|_| none())?;
        let index = ReviewRow::BY_ID;
        let rows = self
            .store
            .by_index::<ReviewRow>(index, id.as_bytes(), None, 1)?;
        let (_, task) = rows.into_iter().next().ok_or_else(none)?;
        match only {
            Some(only) if !self.concerns(&task.row, &only.to_string())? => Err(none()),
            _ => Ok(task),
        }
    }

    /// A task with the persons it is about, and what agrees and does not agree now.
    ///
    /// # Errors
    /// The store.
    pub(super) fn task(&self, task: &Task, shown_to: &HomeCommunityId) -> Result<pb::ReviewTask> {
        let row = &task.row;
        let mut persons = Vec::new();
        let mut seen = Vec::new();
        let tags = self.tags_of(row)?;
        for tag in &tags {
            let Some(found) = self.store.get::<PatientRow>(tag)? else {
                continue;
            };
            let linkage = found.row.record()?.linkage;
            if seen.contains(&linkage) {
                continue;
            }
            seen.push(linkage);
            if let Some(person) = self.person(linkage)? {
                persons.push(self.shown(person, shown_to)?);
            }
        }
        let assignee = cpb::PersonRef {
            subject: row.assignee.clone(),
            ..cpb::PersonRef::default()
        };
        Ok(pb::ReviewTask {
            task_id: text(&row.id),
            kind: row.what().into(),
            state: row.state,
            priority: row.priority,
            created: jiff::Timestamp::from_millisecond(row.created_ms)
                .ok()
                .map(crate::wire::timestamp),
            assignee: (!row.assignee.is_empty()).then_some(assignee),
            persons,
            evidence: self.side_by_side(&tags)?.or_else(|| row.evidence.clone()),
            decisions: row.decisions.clone(),
            version: task.version.0,
            ..pb::ReviewTask::default()
        })
    }

    /// Two records compared as they are now.
    fn side_by_side(&self, tags: &[PatientTag]) -> Result<Option<pb::MatchEvidence>> {
        let [first, second] = tags else {
            return Ok(None);
        };
        let mut both = Vec::new();
        for tag in [first, second] {
            let found = self.store.get::<PatientRow>(tag)?;
            let patient = found.and_then(|found| found.row.patient);
            both.extend(patient.and_then(|patient| patient.demographics));
        }
        let [a, b] = both.as_slice() else {
            return Ok(None);
        };
        let comparison = compare(&traits::traits(a), &traits::traits(b));
        Ok(Some(evidence(&comparison, None)))
    }

    /// A person with the linkage ids that a community knows.
    ///
    /// # Errors
    /// If a pseudonym cannot be made.
    pub fn shown(&self, mut person: pb::Person, to: &HomeCommunityId) -> Result<pb::Person> {
        let hide = |id: &String| -> Result<String> {
            let linkage: LinkageId = id.parse().map_err(Error::internal)?;
            self.pseudonym(linkage, to)
        };
        person.linkage_id = hide(&person.linkage_id)?;
        let former = person.former_linkage_ids.iter().map(hide);
        person.former_linkage_ids = former.collect::<Result<_>>()?;
        Ok(person)
    }

    /// A task's row key, for its precondition.
    pub(super) fn task_version(&self, row: &ReviewRow) -> Result<u64> {
        let found = self.store.get::<ReviewRow>(&row.key())?;
        Ok(found.map_or(0, |found| found.version.0))
    }
}
