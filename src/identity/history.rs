//! Who was linked to whom on any day, by whom, and why.

use std::collections::BTreeMap;

use crate::error::{Error, Reason, Result};
use crate::store::{Sequence, Versioned};
use crate::types::{HomeCommunityId, LinkageId};
use crate::wire::pb::common as cpb;
use crate::wire::pb::identity as pb;

use super::search::PatientTag;
use super::service::Identity;
use super::tables::{LinkEventRow, PatientRow, sixteen};

/// Events of one person at most; one more is an error, never a silent gap.
const MAX_EVENTS: usize = 10_000;

/// Up to when history is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// Everything.
    Now,
    /// What was recorded until then, Unix milliseconds.
    Time(i64),
    /// What was committed until then.
    Sequence(Sequence),
}

impl Until {
    fn holds(self, event: &Versioned<LinkEventRow>) -> bool {
        match self {
            Self::Now => true,
            Self::Time(ms) => event.row.recorded_ms <= ms,
            Self::Sequence(sequence) => event.version <= sequence,
        }
    }
}

/// What is told of a person.
#[derive(Debug, Default)]
pub struct Told {
    /// Everything that happened, oldest first.
    pub events: Vec<pb::PersonEvent>,
    /// The identifiers linked then.
    pub identifiers: Vec<cpb::Identifier>,
}

impl Identity {
    /// The history of a person: of a record wherever it was, or of a linkage id, also a retired one.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`] if nothing is known of it; [`Reason::TooManyResults`]; the store.
    pub fn history(
        &self,
        tag: Option<[u8; 16]>,
        linkage: Option<LinkageId>,
        as_of: Option<jiff::Timestamp>,
        community: &HomeCommunityId,
    ) -> Result<Told> {
        let until = as_of.map_or(Until::Now, |time| Until::Time(time.as_millisecond()));
        let mut events = BTreeMap::new();
        let mut linkages: Vec<LinkageId> = linkage.into_iter().collect();
        if let Some(tag) = tag {
            for event in self.events(LinkEventRow::BY_TAG, &tag)? {
                if until.holds(&event) {
                    for step in event.row.event()?.moves {
                        if step.tag == tag {
                            linkages.push(step.to);
                        }
                    }
                }
                events.insert((event.version, event.row.id.clone()), event);
            }
        }
        linkages.dedup();
        for linkage in &linkages {
            for event in self.events(LinkEventRow::BY_LINKAGE, &linkage.to_bytes())? {
                events.insert((event.version, event.row.id.clone()), event);
            }
        }
        events.retain(|_, event| until.holds(event));
        if events.is_empty() {
            let message = "the patient is not known here";
            return Err(Error::field(Reason::UnknownPatient, "subject", message));
        }
        // The person at that time: of a record, the last one it came to; of a retired id, nobody.
        let current = linkages.last().copied();
        let members = current.map(|one| self.members_at(one, until)).transpose()?;
        let mut told = Told::default();
        for event in events.into_values() {
            told.events.push(self.told(&event, community)?);
        }
        for member in members.unwrap_or_default() {
            told.identifiers.extend(self.identifier_of(&member)?);
        }
        Ok(told)
    }

    /// The records that were under a linkage id then, those merged away left out.
    pub(super) fn members_at(&self, linkage: LinkageId, until: Until) -> Result<Vec<PatientTag>> {
        let mut events = self.events(LinkEventRow::BY_LINKAGE, &linkage.to_bytes())?;
        events.retain(|event| until.holds(event));
        let mut members: BTreeMap<PatientTag, bool> = BTreeMap::new();
        let mut merged: BTreeMap<PatientTag, bool> = BTreeMap::new();
        for found in events {
            let kind = found.row.kind();
            let event = found.row.event()?;
            for (subsumed, _) in &event.unmerged {
                merged.insert(*subsumed, false);
            }
            for step in &event.moves {
                members.insert(step.tag, step.to == linkage);
            }
            for (subsumed, _) in &event.merged {
                merged.insert(*subsumed, true);
            }
            for tag in &found.row.tags {
                let tag = sixteen(tag)?;
                match kind {
                    pb::PersonEventKind::Withdrawn => merged.insert(tag, true),
                    pb::PersonEventKind::Revised => merged.insert(tag, false),
                    _ => None,
                };
            }
        }
        let gone = |tag: &PatientTag| merged.get(tag).copied().unwrap_or_default();
        let members = members.into_iter().filter(|(_, here)| *here);
        Ok(members
            .map(|(tag, _)| tag)
            .filter(|tag| !gone(tag))
            .collect())
    }

    /// The events under a key, in the order they were committed.
    fn events(&self, index: u8, key: &[u8]) -> Result<Vec<Versioned<LinkEventRow>>> {
        let rows = self
            .store
            .by_index::<LinkEventRow>(index, key, None, MAX_EVENTS + 1)?;
        if rows.len() > MAX_EVENTS {
            let message = "the person has a longer history than can be told at once";
            return Err(Error::new(Reason::TooManyResults, message));
        }
        let mut events: Vec<_> = rows.into_iter().map(|(_, found)| found).collect();
        events.sort_by(|a, b| (a.version, &a.row.id).cmp(&(b.version, &b.row.id)));
        Ok(events)
    }

    fn told(
        &self,
        found: &Versioned<LinkEventRow>,
        community: &HomeCommunityId,
    ) -> Result<pb::PersonEvent> {
        let row = &found.row;
        let mut identifiers = Vec::new();
        for tag in &row.tags {
            identifiers.extend(self.identifier_of(&sixteen(tag)?)?);
        }
        let linkages = row.linkages.iter().map(|one| {
            let linkage = LinkageId::from_bytes(sixteen(one)?);
            self.pseudonym(linkage, community)
        });
        let merges = [pb::PersonEventKind::Merged, pb::PersonEventKind::Unmerged];
        let merge = match row.undoes.is_empty() {
            true => &row.id,
            false => &row.undoes,
        };
        Ok(pb::PersonEvent {
            sequence: found.version.0,
            kind: row.kind,
            recorded: jiff::Timestamp::from_millisecond(row.recorded_ms)
                .ok()
                .map(crate::wire::timestamp),
            identifiers,
            linkage_ids: linkages.collect::<Result<_>>()?,
            evidence: row.evidence.clone(),
            actor: row.actor.clone(),
            reason: row.reason.clone(),
            merge_id: match merges.contains(&row.kind()) {
                true => super::text(merge),
                false => String::new(),
            },
        })
    }

    /// A record's identifier; `None` once it is erased.
    pub(super) fn identifier_of(&self, tag: &PatientTag) -> Result<Option<cpb::Identifier>> {
        let found = self.store.get::<PatientRow>(tag)?;
        Ok(found.and_then(|found| found.row.identifier().cloned()))
    }
}
