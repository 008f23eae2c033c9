//! The identity service: what it is made of, and the feed.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Idempotency, Row as _, Sequence, Store, Versioned, Write};
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::linkage::{Operation, State, plan};
use super::merged::Merged;
use super::overlay;
use super::placement::{Doubt, Placement, Reservation};
use super::search::{PatientTag, Search};
use super::tables::{LinkEventRow, PatientRow};
use super::traits;
use super::view::View;
use super::watch::Applied;

/// Attempts at a change before giving up to others that came first.
const ATTEMPTS: usize = 8;

/// Patients of this node, and the persons they are.
#[derive(Debug)]
pub struct Identity {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) search: Arc<Search>,
    pub(super) merged: Arc<Merged>,
    pub(super) applied: Arc<Applied>,
    /// Feeds share it, changes of persons have it alone, each until its frame is applied: nobody
    /// joins a person while its linkage id is being retired.
    gate: Arc<RwLock<()>>,
}

/// Leave to change persons, held until the frame is applied.
pub(super) enum Gate {
    /// Beside other feeds.
    Shared(#[expect(dead_code, reason = "held, not read")] OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(#[expect(dead_code, reason = "held, not read")] OwnedRwLockWriteGuard<()>),
}

/// No record changes as long as this is held.
#[must_use]
pub struct Still {
    _gate: Gate,
}

/// One feed, as it will be committed.
pub(super) struct Prepared {
    pub(super) writes: Vec<Write>,
    pub(super) response: pb::FeedPatientResponse,
    /// Forgotten again unless the commit shows it, also if the call is dropped.
    pub(super) reservation: Reservation,
}

/// What a feed came to, before anything is written.
pub(super) enum Fed {
    /// As it will be committed.
    Ready(Box<Prepared>),
    /// It moves a whole person: nobody else may feed meanwhile.
    NeedsGate,
}

impl Identity {
    /// Opens identity over `store`: takes the search index that was kept, or builds it from the
    /// patient table, and follows the ledger from there.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn open(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let search = Arc::new(Search::default());
        search.open(&store)?;
        store.follow(Arc::clone(&search) as Arc<dyn crate::store::Follower>);
        let merged = Arc::new(Merged::default());
        merged.fill(&store)?;
        store.follow(Arc::clone(&merged) as Arc<dyn crate::store::Follower>);
        let applied = Applied::at(store.last_sequence());
        store.follow(Arc::clone(&applied) as Arc<dyn crate::store::Follower>);
        Ok(Self {
            store,
            clock,
            search,
            merged,
            applied,
            gate: Arc::new(RwLock::new(())),
        })
    }

    /// Keeps the search index for the next start, if enough has changed since; returns whether it
    /// did. Blocks.
    ///
    /// # Errors
    /// The store; what was kept before stays then.
    pub fn keep_search(&self) -> Result<bool> {
        Ok(self.search.keep(&self.store)?)
    }

    /// Records in the search index, and the bytes it takes without what the allocator adds.
    pub fn search_size(&self) -> (usize, usize) {
        let index = self.search.read();
        (index.len(), index.bytes())
    }

    /// Waits until this call may feed, or, alone, change persons.
    pub(super) async fn gate(&self, alone: bool) -> Gate {
        let gate = Arc::clone(&self.gate);
        match alone {
            true => Gate::Alone(gate.write_owned().await),
            false => Gate::Shared(gate.read_owned().await),
        }
    }

    /// Waits until no record is being changed, and lets none change as long as it is held: what is told
    /// of persons meanwhile is seen by every change after, and every change before is seen by it.
    pub async fn still(&self) -> Still {
        Still {
            _gate: self.gate(true).await,
        }
    }

    /// Adds or revises a record (ITI-8, ITI-44, ITI-104) and links it. What `attach` gives for the
    /// identifiers whose records change, others' that move with it among them, is written with it.
    ///
    /// # Errors
    /// Malformed demographics; [`Reason::WrongState`] if the identifier was merged away; a
    /// concurrent change that keeps coming first; the store.
    pub async fn feed(
        &self,
        permit: &Permit,
        call: &Call,
        identifier: &PatientIdentifier,
        patient: &pb::Patient,
        idempotency: Option<Idempotency>,
        attach: &(dyn Fn(&[PatientIdentifier]) -> Vec<Write> + Sync),
    ) -> Result<pb::FeedPatientResponse> {
        permit.require(&[Action::AssertIdentity])?;
        checked(patient)?;
        let tag = self.store.keys().patient_tag(identifier);
        call.note(|record| record.patient = Some(tag.to_vec()));
        let mut alone = false;
        for _ in 0..ATTEMPTS {
            let gate = self.gate(alone).await;
            let now = self.clock.now();
            if let Some(first) = call.repeated(&self.store, idempotency.as_ref(), now)? {
                return self.with_version(&tag, first);
            }
            let known = self.store.get::<PatientRow>(&tag)?;
            let prepared = match self.prepare(tag, patient, known.as_ref(), alone, now)? {
                Fed::Ready(prepared) => prepared,
                Fed::NeedsGate => {
                    alone = true;
                    continue;
                }
            };
            let Prepared {
                mut writes,
                response,
                reservation,
            } = *prepared;
            writes.extend(attach(&changed(&writes)?));
            call.note(|record| record.items = 1);
            let key = idempotency.clone();
            let committed = call
                .commit_holding(&self.store, now, writes, key, response, (gate, reservation))
                .await;
            match committed {
                Err(error) if error.reason() == Reason::ConcurrentChange => {}
                Err(error) => return Err(error),
                Ok(response) => return self.with_version(&tag, response),
            }
        }
        Err(Error::new(
            Reason::ConcurrentChange,
            "the record keeps changing; repeat the feed",
        ))
    }

    /// Whether a record was written since the frame `since`, or is not there.
    ///
    /// # Errors
    /// The store.
    pub fn has_changed(&self, identifier: &PatientIdentifier, since: Sequence) -> Result<bool> {
        let tag = self.store.keys().patient_tag(identifier);
        let stored = self.store.get::<PatientRow>(&tag)?;
        Ok(stored.is_none_or(|stored| stored.version > since))
    }

    /// The response with the record's version now: a frame cannot hold its own sequence.
    fn with_version(
        &self,
        tag: &[u8],
        mut response: pb::FeedPatientResponse,
    ) -> Result<pb::FeedPatientResponse> {
        let stored = self.store.get::<PatientRow>(tag)?;
        response.version = stored.map_or(0, |stored| stored.version.0);
        Ok(response)
    }

    /// What feeding the record would write.
    ///
    /// # Errors
    /// As [`Identity::feed`].
    pub(super) fn prepare(
        &self,
        tag: PatientTag,
        patient: &pb::Patient,
        known: Option<&Versioned<PatientRow>>,
        alone: bool,
        now: jiff::Timestamp,
    ) -> Result<Fed> {
        let before = known.and_then(|known| known.row.patient.as_ref());
        let unchanged = before.is_some_and(|before| {
            before.demographics == patient.demographics
                && (before.inactive == patient.inactive || before.replaced_by.is_some())
        });
        let merged = known.is_some_and(|known| !known.row.merged_into.is_empty());
        if merged && !unchanged {
            return Err(merged_away());
        }
        let demographics = patient.demographics.as_ref();
        let traits = demographics.map(traits::traits).unwrap_or_default();
        let placement = match known {
            // A withdrawn record is not matched again.
            Some(known) if unchanged || patient.inactive => {
                Placement::staying(&known.row, unchanged)?
            }
            _ => self.place(tag, &traits, known.map(|known| &known.row))?,
        };
        let reservation = Reservation::new(&self.search, tag);
        let mut writes = Vec::new();
        let mut review_task_ids = Vec::new();
        let mut linkage = placement.linkage;
        if !unchanged {
            let own = known.map(|known| known.row.record()).transpose()?;
            let joins = own.as_ref().is_some_and(|own| own.linkage != linkage);
            if (joins || !placement.absorbed.is_empty()) && !alone {
                return Ok(Fed::NeedsGate);
            }
            let mut stored = patient.clone();
            stored.recorded = Some(crate::wire::timestamp(now));
            let row = PatientRow {
                tag: tag.to_vec(),
                patient: Some(stored),
                evidence: placement.evidence.clone(),
                ..known.map_or_else(PatientRow::default, |known| known.row.clone())
            };
            linkage = self.write_feed(&mut writes, row, known, &placement, now)?;
            let doubts = overlay::doubts(known.map(|known| &known.row), &traits);
            let doubts = placement.reviews.iter().chain(doubts.as_ref());
            review_task_ids = self.doubts(&mut writes, &tag, doubts, now)?;
        }
        let response = pb::FeedPatientResponse {
            linkage_id: linkage.to_string(),
            outcome: placement.outcome.into(),
            evidence: placement.evidence,
            review_task_ids,
            warnings: traits::warnings(patient),
            ..pb::FeedPatientResponse::default()
        };
        Ok(Fed::Ready(Box::new(Prepared {
            writes,
            response,
            reservation,
        })))
    }

    /// The tasks that doubts about a record are; gives their ids.
    fn doubts<'a>(
        &self,
        writes: &mut Vec<Write>,
        tag: &PatientTag,
        doubts: impl Iterator<Item = &'a Doubt>,
        now: jiff::Timestamp,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for doubt in doubts {
            let (write, id) = self.review(tag, doubt, now)?;
            writes.extend(write);
            ids.push(id);
        }
        Ok(ids)
    }

    /// The rows of a feed that says something new: the record, those that move with it, the event.
    fn write_feed(
        &self,
        writes: &mut Vec<Write>,
        mut row: PatientRow,
        known: Option<&Versioned<PatientRow>>,
        placement: &Placement,
        now: jiff::Timestamp,
    ) -> Result<LinkageId> {
        let linkage = placement.linkage;
        let id = super::new_event();
        let Some(known) = known else {
            let tag = super::tables::sixteen(&row.tag)?;
            let domain = row.identifier().map(|one| one.assigning_authority.clone());
            let add = Operation::Add {
                tag,
                domain: domain.unwrap_or_default(),
                joins: Some(linkage),
            };
            let mut state = State::default();
            let event = plan(&state, &add, id, &mut || linkage).map_err(super::refused)?;
            state.apply(&event);
            if let Some(record) = state.records.get(&tag) {
                row.take(record, None);
            }
            writes.push(Write::put(&row).expecting(Expect::Absent));
            let mut event = LinkEventRow::new(&event, pb::PersonEventKind::Added, now);
            event.evidence.clone_from(&placement.evidence);
            writes.push(Write::put(&event));
            self.absorb(writes, placement, now)?;
            return Ok(linkage);
        };
        let own = known.row.record()?;
        if own.linkage != linkage {
            let mut view = View::load(&self.store, &[own.linkage, linkage], &[own.tag])?;
            view.replace(row.clone());
            let join = Operation::Join {
                tag: own.tag,
                to: linkage,
            };
            // What a steward marked meanwhile holds: then the record stays where it is.
            if let Ok(event) = plan(&view.state, &join, id, &mut || linkage) {
                writes.extend(view.apply(&event)?);
                let mut event = LinkEventRow::new(&event, pb::PersonEventKind::Linked, now);
                event.evidence.clone_from(&placement.evidence);
                writes.push(Write::put(&event));
                return Ok(linkage);
            }
        }
        let withdrawn = row.patient.as_ref().is_some_and(|patient| patient.inactive);
        let kind = match withdrawn {
            true => pb::PersonEventKind::Withdrawn,
            false => pb::PersonEventKind::Revised,
        };
        writes.push(Write::put(&row).expecting(Expect::Version(known.version)));
        writes.push(Write::put(&LinkEventRow::of_record(id, &row, kind, now)));
        Ok(own.linkage)
    }
}

impl Identity {
    /// The rows of the persons that a new record shows to be one with its own: each goes into that
    /// one, by an event of its own.
    fn absorb(
        &self,
        writes: &mut Vec<Write>,
        placement: &Placement,
        now: jiff::Timestamp,
    ) -> Result<()> {
        if placement.absorbed.is_empty() {
            return Ok(());
        }
        let to = placement.linkage;
        let tags: Vec<_> = placement.absorbed.iter().map(|one| one.tag).collect();
        let mut view = View::load(&self.store, &[to], &tags)?;
        for absorbed in &placement.absorbed {
            let join = Operation::Join {
                tag: absorbed.tag,
                to,
            };
            // What a steward marked holds: then the two stay two persons.
            let planned = plan(&view.state, &join, super::new_event(), &mut || to);
            if let Ok(event) = planned {
                writes.extend(view.apply(&event)?);
                let mut event = LinkEventRow::new(&event, pb::PersonEventKind::Linked, now);
                event.evidence = Some(absorbed.evidence.clone());
                writes.push(Write::put(&event));
            }
        }
        Ok(())
    }
}

/// The rules a record must keep.
///
/// # Errors
/// Malformed demographics.
pub(super) fn checked(patient: &pb::Patient) -> Result<()> {
    let demographics = patient.demographics.as_ref();
    let demographics = demographics.ok_or_else(|| Error::missing("patient.demographics"))?;
    traits::check(demographics, "patient.demographics")
}

fn merged_away() -> Error {
    let message = "the identifier was merged away; take the merge back first";
    Error::field(Reason::WrongState, "patient.identifier", message)
}

/// The identifiers of the records that these rows change.
pub(super) fn changed(writes: &[Write]) -> Result<Vec<PatientIdentifier>> {
    let rows = writes
        .iter()
        .filter(|write| write.table == PatientRow::TABLE);
    let mut identifiers = Vec::new();
    for value in rows.filter_map(|write| write.value.as_deref()) {
        let row = PatientRow::decode(value).map_err(Error::internal)?;
        let patient = row.patient.as_ref();
        let id = patient.and_then(|patient| patient.identifier.as_ref());
        identifiers.push(traits::identifier(id, "identifier").map_err(Error::internal)?);
    }
    Ok(identifiers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::Options;

    /// Whether a future is not ready yet.
    async fn waits(future: impl Future + Unpin) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }

    /// A feed holds its place from before it looks up what it must take back until its frame is applied.
    #[tokio::test]
    async fn nothing_changes_while_persons_are_told_of_and_nobody_is_told_of_while_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let schema = crate::gateway::schema();
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let identity = Identity::open(store, Arc::new(SystemClock)).unwrap();
        let (one, other) = (identity.gate(false).await, identity.gate(false).await);
        let mut still = std::pin::pin!(identity.still());
        assert!(waits(&mut still).await, "two feeds are under way");
        drop(one);
        assert!(waits(&mut still).await, "one is");
        drop(other);
        let held = still.await;
        let mut feed = std::pin::pin!(identity.gate(false));
        assert!(waits(&mut feed).await, "a feed waits for what is told");
        drop(held);
        drop(feed.await);
    }
}
