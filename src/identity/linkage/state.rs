//! Records and persons, and events that change them.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::search::PatientTag;
use crate::types::LinkageId;

use super::EventId;

/// A record, as far as linking asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its identifier's keyed hash.
    pub(crate) tag: PatientTag,
    /// Its assigning authority.
    pub(crate) domain: String,
    /// The person it is of.
    pub(crate) linkage: LinkageId,
    /// The event that put it there.
    pub(crate) moved_by: EventId,
    /// The record it was merged into, and the event that did.
    pub(crate) merged: Option<(PatientTag, EventId)>,
    /// Records that are not of the same person.
    pub(crate) not_same: BTreeSet<PatientTag>,
}

/// A record that came to another person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The record.
    pub(crate) tag: PatientTag,
    /// Where it was; nowhere if it is new.
    pub(crate) from: Option<LinkageId>,
    /// Where it is.
    pub(crate) to: LinkageId,
    /// [`Record::moved_by`] before.
    pub(crate) before: EventId,
    /// [`Record::moved_by`] after: this event, or the one before the event that is taken back.
    pub(crate) after: EventId,
}

/// What an operation changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its id.
    pub(crate) id: EventId,
    /// Domain of a new record.
    pub(crate) domain: String,
    /// Records that came to another person.
    pub(crate) moves: Vec<Move>,
    /// Records merged away, each with its survivor.
    pub(crate) merged: Vec<(PatientTag, PatientTag)>,
    /// Records that are no longer merged away, each with its former survivor.
    pub(crate) unmerged: Vec<(PatientTag, PatientTag)>,
    /// Pairs that are not one person from now on.
    pub(crate) marked: Vec<(PatientTag, PatientTag)>,
    /// Pairs that may be one person again.
    pub(crate) unmarked: Vec<(PatientTag, PatientTag)>,
    /// Linkage ids that nobody has any more, each with the one that most of it went to.
    pub(crate) retired: Vec<(LinkageId, LinkageId)>,
    /// Linkage ids that are in use again: their records came back.
    pub(crate) restored: Vec<LinkageId>,
    /// A merge left records behind that a steward holds apart from the survivor's.
    pub(crate) contradicts: bool,
}

/// Records and retired linkage ids: all there are, or those that an operation concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The records.
    pub(crate) records: BTreeMap<PatientTag, Record>,
    /// Retired linkage ids, each with the one it went into.
    pub(crate) retired: BTreeMap<LinkageId, LinkageId>,
}

impl State {
    /// The records of a person, subsumed ones included.
    pub(crate) fn members(&self, linkage: LinkageId) -> impl Iterator<Item = &Record> {
        let records = self.records.values();
        records.filter(move |record| record.linkage == linkage)
    }

    /// A linkage id, or the one that a retired id went into.
    pub(crate) fn living(&self, linkage: LinkageId) -> LinkageId {
        let mut living = linkage;
        for _ in 0..=self.retired.len() {
            match self.retired.get(&living) {
                Some(into) => living = *into,
                None => break,
            }
        }
        living
    }

    /// The record that a record answers to: itself, or the last of its survivors.
    pub(crate) fn root(&self, tag: PatientTag) -> Option<&Record> {
        let mut record = self.records.get(&tag)?;
        // No longer than there are records: a chain of merges never closes.
        for _ in 0..self.records.len() {
            match &record.merged {
                Some((survivor, _)) => record = self.records.get(survivor)?,
                None => return Some(record),
            }
        }
        None
    }

    /// A record and all that were merged into it.
    pub(crate) fn chain(&self, root: &Record) -> Vec<&Record> {
        let members = self.members(root.linkage);
        members
            .filter(|record| self.root(record.tag).is_some_and(|of| of.tag == root.tag))
            .collect()
    }

    /// Changes the state as the event says.
    pub(crate) fn apply(&mut self, event: &Event) {
        for (a, b) in &event.unmarked {
            self.mark(*a, *b, false);
        }
        for (subsumed, _) in &event.unmerged {
            if let Some(record) = self.records.get_mut(subsumed) {
                record.merged = None;
            }
        }
        for step in &event.moves {
            let record = self.records.entry(step.tag).or_insert_with(|| Record {
                tag: step.tag,
                domain: event.domain.clone(),
                linkage: step.to,
                moved_by: step.after,
                merged: None,
                not_same: BTreeSet::new(),
            });
            record.linkage = step.to;
            record.moved_by = step.after;
        }
        for (subsumed, survivor) in &event.merged {
            if let Some(record) = self.records.get_mut(subsumed) {
                record.merged = Some((*survivor, event.id));
            }
        }
        for (a, b) in &event.marked {
            self.mark(*a, *b, true);
        }
        for linkage in &event.restored {
            self.retired.remove(linkage);
        }
        self.retired.extend(event.retired.iter().copied());
    }

    fn mark(&mut self, a: PatientTag, b: PatientTag, set: bool) {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(record) = self.records.get_mut(&one) {
                if set {
                    record.not_same.insert(other);
                } else {
                    record.not_same.remove(&other);
                }
            }
        }
    }
}
