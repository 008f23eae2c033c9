//! The steward's work list: reading it.

use data_encoding::HEXLOWER;

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

/// Tasks looked at for one page, and counted, at most.
const MAX_TASKS: usize = 10_000;
/// Tasks read at once.
const CHUNK: usize = 500;
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
        let mut response = self.page(request, only, shown_to, MAX_TASKS)?;
        response.total_size = self.total(request, only)?;
        Ok(response)
    }

    /// A page, without the total: from its token on, of `most` tasks looked at. It may be empty and not
    /// the last.
    fn page(
        &self,
        request: &pb::ListReviewTasksRequest,
        only: Option<&HomeCommunityId>,
        shown_to: &HomeCommunityId,
        most: usize,
    ) -> Result<pb::ListReviewTasksResponse> {
        let prefix = part(&request.states);
        let mut after = page_after(&request.page_token, prefix)?;
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let mut response = pb::ListReviewTasksResponse::default();
        let mut left = most;
        while left > 0 {
            let (index, chunk) = (ReviewRow::BY_RANK, left.min(CHUNK));
            let from = after.as_deref();
            let rows = self
                .store
                .by_index::<ReviewRow>(index, prefix, from, chunk)?;
            let is_last = rows.len() < chunk;
            for (cursor, task) in rows {
                if self.wanted(&task.row, request, only)? {
                    if response.tasks.len() == size {
                        // One more than the page holds: the next begins with it.
                        response.next_page_token = token(after.as_deref());
                        return Ok(response);
                    }
                    response.tasks.push(self.task(&task, shown_to)?);
                }
                after = Some(cursor);
            }
            if is_last {
                return Ok(response);
            }
            left -= chunk;
        }
        response.next_page_token = token(after.as_deref());
        Ok(response)
    }

    /// How many tasks are wanted, of the first ones.
    fn total(
        &self,
        request: &pb::ListReviewTasksRequest,
        only: Option<&HomeCommunityId>,
    ) -> Result<u64> {
        let (index, prefix) = (ReviewRow::BY_RANK, part(&request.states));
        let rows = self
            .store
            .by_index::<ReviewRow>(index, prefix, None, MAX_TASKS)?;
        let mut total = 0;
        for (_, task) in rows {
            total += u64::from(self.wanted(&task.row, request, only)?);
        }
        Ok(total)
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
        for tag in tags_of(row)? {
            let found = self.store.get::<PatientRow>(&tag)?;
            let patient = found.and_then(|found| found.row.patient);
            if patient.is_some_and(|patient| patient.home_community_id == community) {
                return Ok(true);
            }
        }
        Ok(false)
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
        let tags = tags_of(row)?;
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

/// The part of the work list in which tasks of these states are: the open ones come first, and are what
/// is meant if no state is named.
fn part(states: &[i32]) -> &'static [u8] {
    let closed = |state: &&i32| {
        let state = pb::ReviewState::try_from(**state);
        matches!(
            state,
            Ok(pb::ReviewState::Decided | pb::ReviewState::Obsolete)
        )
    };
    match states.iter().filter(closed).count() {
        0 => &[0],
        all if all == states.len() => &[1],
        _ => &[],
    }
}

/// Where a page begins: behind a place in its part of the list.
fn page_after(token: &str, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = HEXLOWER.decode(token.as_bytes()).ok();
    let place = place.filter(|place| place.starts_with(prefix));
    place.map(Some).ok_or_else(|| {
        let message = "is not a token of this list";
        Error::field(Reason::InvalidToken, "page_token", message)
    })
}

fn token(place: Option<&[u8]>) -> String {
    HEXLOWER.encode(place.unwrap_or_default())
}

/// The records a task is about.
///
/// # Errors
/// [`Reason::IntegrityFailure`] if the row is not one this program wrote.
pub(super) fn tags_of(row: &ReviewRow) -> Result<Vec<PatientTag>> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Commit, Options, Schema, Store, Write};

    /// A task; every third is with somebody.
    fn row(number: u8, state: pb::ReviewState) -> ReviewRow {
        ReviewRow {
            first: vec![number; 16],
            second: vec![number + 100; 16],
            id: vec![number; 16],
            state: state.into(),
            priority: u32::from(number % 4),
            assignee: match number % 3 {
                0 => "S-1".to_owned(),
                _ => String::new(),
            },
            ..ReviewRow::default()
        }
    }

    #[tokio::test]
    async fn the_work_list_goes_on_behind_what_one_page_looks_at() {
        let folder = tempfile::tempdir().unwrap();
        let schema = crate::identity::tables(Schema::new());
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let identity = Identity::open(Arc::clone(&store), Arc::new(SystemClock)).unwrap();
        let open = (0..30).map(|number| row(number, pb::ReviewState::Open));
        let closed = (30..40).map(|number| row(number, pb::ReviewState::Decided));
        let commit = Commit {
            writes: open.chain(closed).map(|row| Write::put(&row)).collect(),
            ..Commit::default()
        };
        let _committed = store.commit(commit).await.unwrap();
        let here: HomeCommunityId = "urn:oid:1.2.3".parse().unwrap();
        let list = |states: &[pb::ReviewState], assignee: &str, page_size: u32| {
            let mut request = pb::ListReviewTasksRequest {
                states: states.iter().map(|state| (*state).into()).collect(),
                assignee_subject: assignee.to_owned(),
                page_size,
                ..Default::default()
            };
            let (mut ids, mut pages) = (Vec::new(), 0);
            loop {
                // Seven tasks are looked at for a page.
                let page = identity.page(&request, None, &here, 7).unwrap();
                ids.extend(page.tasks.into_iter().map(|task| task.task_id));
                pages += 1;
                assert!(pages < 50, "the list has an end");
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            let found = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), found, "each once");
            let total = identity.total(&request, None).unwrap();
            assert_eq!(total, found as u64);
            found
        };
        use pb::ReviewState as S;
        for size in [0, 1, 3, 7, 8] {
            assert_eq!(list(&[], "", size), 30);
            assert_eq!(list(&[], "S-1", size), 10);
            assert_eq!(list(&[S::Decided], "", size), 10);
            assert_eq!(list(&[S::Open, S::Decided], "", size), 40);
            assert_eq!(list(&[], "nobody", size), 0);
        }
        let elsewhere = page_after(&HEXLOWER.encode(&[1, 2]), part(&[])).unwrap_err();
        assert_eq!(elsewhere.reason(), Reason::InvalidToken);
        store.close().await.unwrap();
    }
}
