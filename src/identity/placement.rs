//! Which person a record is: the matcher's answer, within what stewards said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Result;
use crate::store::Write;
use crate::types::LinkageId;
use crate::wire::pb::identity as pb;

use super::compare::{Comparison, Proof, Traits, Verdict, compare};
use super::evidence::evidence;
use super::matching::cluster::join;
use super::search::{Entry, Index, PatientTag, Search};
use super::service::Identity;
use super::tables::{PatientRow, ReviewRow, sixteen};

/// A record matching can see before it is committed.
pub(super) struct Reservation {
    search: Arc<Search>,
    tag: PatientTag,
}

impl Reservation {
    pub(super) fn new(search: &Arc<Search>, tag: PatientTag) -> Self {
        Self {
            search: Arc::clone(search),
            tag,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.search.forget_pending(&self.tag);
    }
}

/// Something a steward must look at.
pub(super) struct Doubt {
    /// The other record; the same one if it is about a chart.
    pub(super) other: Option<PatientTag>,
    /// Why.
    pub(super) kind: pb::ReviewKind,
    /// What agrees and what does not.
    pub(super) evidence: pb::MatchEvidence,
}

/// What the matcher made of a record.
pub(super) struct Placement {
    pub(super) linkage: LinkageId,
    pub(super) outcome: pb::FeedOutcome,
    pub(super) evidence: Option<pb::MatchEvidence>,
    pub(super) reviews: Vec<Doubt>,
    /// Other persons that a new record shows to be this one.
    pub(super) absorbed: Vec<Absorbed>,
}

/// A person that goes into another, because a new record is of both.
pub(super) struct Absorbed {
    /// The record that the new one agrees with.
    pub(super) tag: PatientTag,
    /// Why.
    pub(super) evidence: pb::MatchEvidence,
}

impl Placement {
    /// A known record stays where it is.
    pub(super) fn staying(row: &PatientRow, unchanged: bool) -> Result<Self> {
        Ok(Self {
            linkage: row.record()?.linkage,
            outcome: match unchanged {
                true => pb::FeedOutcome::Unchanged,
                false => pb::FeedOutcome::Withdrawn,
            },
            evidence: row.evidence.clone(),
            reviews: Vec::new(),
            absorbed: Vec::new(),
        })
    }
}

impl Identity {
    /// Decides which person a new or changed record is, and reserves the answer in the index, so
    /// that two feeds of one person at the same moment meet.
    pub(super) fn place(
        &self,
        tag: PatientTag,
        traits: &Traits,
        known: Option<&PatientRow>,
    ) -> Result<Placement> {
        let own = known.map(PatientRow::record).transpose()?;
        let own_linkage = own.as_ref().map(|own| own.linkage);
        let mut index = self.search.write();
        let forbidden = match &own {
            Some(own) => self.forbidden(&index, own.linkage),
            None => BTreeSet::new(),
        };
        let mut found = candidates(&index, tag, traits, &forbidden);
        self.leave_held_apart(&index, &mut found.same);
        let alone = own_linkage.is_none_or(|own| index.members(own).all(|one| one.tag() == tag));
        // A link, once made, is not moved by a revision: only a record alone may join others, and
        // only a new one brings others together.
        let mut joined = match alone {
            true => joined(&index, tag, traits, &mut found.same),
            false => Vec::new(),
        };
        let absorbed = joined.split_off(joined.len().min(1));
        let absorbed: Vec<_> = if known.is_none() {
            absorbed
        } else {
            Vec::new()
        };
        let chosen = joined.pop();
        let linkage = match (&chosen, own_linkage) {
            (Some(link), _) => link.linkage,
            (None, Some(own)) => own,
            (None, None) => LinkageId::random(&mut rand::rng()),
        };
        let gone = |other: &LinkageId| absorbed.iter().any(|link| link.linkage == *other);
        found
            .reviews
            .retain(|(_, other, _)| *other != linkage && !gone(other));
        let outcome = if chosen.is_some() {
            pb::FeedOutcome::Linked
        } else if found.reviews.is_empty() {
            pb::FeedOutcome::NewPerson
        } else {
            pb::FeedOutcome::Review
        };
        let mut reviews: Vec<Doubt> = found
            .reviews
            .into_iter()
            .map(|(tag, _, comparison)| Doubt {
                other: Some(tag),
                kind: pb::ReviewKind::PossibleDuplicate,
                evidence: evidence(&comparison, None),
            })
            .collect();
        reviews.extend(contradicted(&index, tag, linkage, traits));
        // One that another feed committed since it was read is not hidden again: this feed will find
        // itself late when it is committed, and what it reserved is then forgotten.
        let committed = index.get(&tag).is_some_and(Entry::is_committed);
        if known.is_none() && !committed {
            // Two feeds of one person at the same moment meet here. A known record is not touched
            // before its revision is committed.
            index.reserve(tag, linkage, traits.clone());
        }
        let chosen = chosen.map(|link| link.evidence());
        let absorbed = absorbed.into_iter().map(|link| Absorbed {
            tag: link.tag,
            evidence: link.evidence(),
        });
        Ok(Placement {
            linkage,
            outcome,
            evidence: chosen.or_else(|| known.and_then(|known| known.evidence.clone())),
            reviews,
            absorbed: absorbed.collect(),
        })
    }

    /// What feeding a record would lead to; nothing is reserved.
    pub(super) fn foresee(
        &self,
        tag: Option<PatientTag>,
        traits: &Traits,
    ) -> (pb::FeedOutcome, BTreeSet<LinkageId>) {
        let index = self.search.read();
        let tag = tag.unwrap_or_default();
        let mut found = candidates(&index, tag, traits, &BTreeSet::new());
        self.leave_held_apart(&index, &mut found.same);
        found.same.retain(|linkage, _| {
            let mut members = index.members(*linkage);
            !members.any(|one| compare(traits, &one.traits()).contradicts())
        });
        let outcome = if !found.same.is_empty() {
            pb::FeedOutcome::Linked
        } else if found.reviews.is_empty() {
            pb::FeedOutcome::NewPerson
        } else {
            pb::FeedOutcome::Review
        };
        let doubtful = found.reviews.iter().map(|(_, linkage, _)| *linkage);
        let persons = found.same.keys().copied().chain(doubtful);
        (outcome, persons.collect())
    }

    /// The persons that stewards hold apart from this one: negative knowledge is of whole persons, and
    /// survives the merging away of the record it was said of.
    fn forbidden(&self, index: &Index, own: LinkageId) -> BTreeSet<LinkageId> {
        let merged = self.merged.read();
        let active = index.members(own).flat_map(Entry::not_same);
        let gone = merged
            .of(own)
            .flat_map(|(_, record)| record.not_same.iter());
        active
            .chain(gone)
            .filter_map(|tag| {
                let active = index.get(tag).map(Entry::linkage);
                active.or_else(|| merged.get(tag).map(|record| record.linkage))
            })
            .collect()
    }

    /// Leaves out persons that stewards hold apart from each other: of a record that seems to be of
    /// both, one is wrong, and nothing says which. They stay among the doubts.
    fn leave_held_apart(&self, index: &Index, same: &mut BTreeMap<LinkageId, Link>) {
        if same.len() < 2 {
            return;
        }
        let persons: BTreeSet<LinkageId> = same.keys().copied().collect();
        same.retain(|linkage, _| self.forbidden(index, *linkage).is_disjoint(&persons));
    }

    /// A review task about a record, unless there is one already.
    ///
    /// # Errors
    /// The store.
    pub(super) fn review(
        &self,
        tag: &PatientTag,
        doubt: &Doubt,
        now: jiff::Timestamp,
    ) -> Result<(Option<Write>, String)> {
        let other = doubt.other.as_ref().unwrap_or(tag);
        let (first, second) = ReviewRow::pair(tag, other);
        let key = [first.as_slice(), second.as_slice()].concat();
        let known = self.store.get::<ReviewRow>(&key)?;
        let mut decisions = Vec::new();
        if let Some(known) = known {
            // A pair is asked about once; a chart each time it changes its person.
            if doubt.kind == pb::ReviewKind::PossibleDuplicate || !known.row.is_closed() {
                return Ok((None, super::text(&known.row.id)));
            }
            decisions = known.row.decisions;
        }
        let id = super::new_event().to_vec();
        let task = super::text(&id);
        let row = ReviewRow {
            first,
            second,
            id,
            evidence: Some(doubt.evidence.clone()),
            state: pb::ReviewState::Open.into(),
            created_ms: now.as_millisecond(),
            decisions,
            kind: doubt.kind.into(),
            priority: priority(doubt),
            ..ReviewRow::default()
        };
        Ok((Some(Write::put(&row)), task))
    }
}

/// How urgent a doubt is, 0 to 100: a chart of two people and a contradicted link may harm now, a
/// missed link shows less. Of pairs, the likelier first.
fn priority(doubt: &Doubt) -> u32 {
    match doubt.kind {
        pb::ReviewKind::Overlay => 90,
        pb::ReviewKind::Contradiction => 80,
        pb::ReviewKind::Approval => 70,
        pb::ReviewKind::SuspectChange => 60,
        pb::ReviewKind::PossibleDuplicate | pb::ReviewKind::Unspecified => {
            // Whole bits from 0 to 50.
            (0..50u32)
                .find(|bits| doubt.evidence.bits < f64::from(*bits))
                .unwrap_or(50)
        }
    }
}

/// Who a record may be.
#[derive(Default)]
struct Candidates {
    same: BTreeMap<LinkageId, Link>,
    reviews: Vec<(PatientTag, LinkageId, Comparison)>,
}

/// A person that a record may be linked to, by the record that agrees best.
struct Link {
    linkage: LinkageId,
    tag: PatientTag,
    comparison: Comparison,
    proof: Proof,
}

impl Link {
    fn evidence(&self) -> pb::MatchEvidence {
        evidence(&self.comparison, Some(self.proof))
    }
}

/// The persons a record joins, best first: none that contradicts it or one before (INV-5: no
/// chaining).
fn joined(
    index: &Index,
    tag: PatientTag,
    traits: &Traits,
    same: &mut BTreeMap<LinkageId, Link>,
) -> Vec<Link> {
    let mut best: Vec<(LinkageId, f64)> = same
        .iter()
        .map(|(linkage, link)| (*linkage, link.comparison.bits))
        .collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let members = |linkage: LinkageId| {
        let members = index.members(linkage).filter(|one| one.tag() != tag);
        members.map(Entry::traits).collect::<Vec<_>>()
    };
    let persons = join(
        traits,
        best.into_iter().map(|(linkage, _)| linkage),
        members,
    );
    persons
        .into_iter()
        .filter_map(|linkage| same.remove(&linkage))
        .collect()
}

fn candidates(
    index: &Index,
    tag: PatientTag,
    traits: &Traits,
    forbidden: &BTreeSet<LinkageId>,
) -> Candidates {
    let mut found = Candidates::default();
    let entries = index.candidates(traits).into_iter();
    for entry in entries.filter(|entry| entry.tag() != tag) {
        let linkage = entry.linkage();
        if forbidden.contains(&linkage) {
            continue;
        }
        let comparison = compare(traits, &entry.traits());
        match comparison.verdict {
            Verdict::Same(proof) => {
                let best = found.same.get(&linkage);
                if best.is_none_or(|best| comparison.bits > best.comparison.bits) {
                    let link = Link {
                        linkage,
                        tag: entry.tag(),
                        comparison: comparison.clone(),
                        proof,
                    };
                    found.same.insert(linkage, link);
                }
                found.reviews.push((entry.tag(), linkage, comparison));
            }
            Verdict::Review => found.reviews.push((entry.tag(), linkage, comparison)),
            Verdict::Distinct => {}
        }
    }
    found
}

/// A record of the same person that what is known now contradicts.
fn contradicted(
    index: &Index,
    tag: PatientTag,
    linkage: LinkageId,
    traits: &Traits,
) -> Option<Doubt> {
    let mut members = index.members(linkage).filter(|one| one.tag() != tag);
    members.find_map(|member| {
        let comparison = compare(traits, &member.traits());
        comparison.contradicts().then(|| Doubt {
            other: Some(member.tag()),
            kind: pb::ReviewKind::Contradiction,
            evidence: evidence(&comparison, None),
        })
    })
}

/// The tags of a task that is about records.
pub(super) fn pair_of(row: &ReviewRow) -> Result<(PatientTag, PatientTag)> {
    Ok((sixteen(&row.first)?, sixteen(&row.second)?))
}

#[cfg(test)]
mod tests {
    use super::super::service::{Fed, Prepared};
    use super::super::{identifier_message, tables};
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Commit, Options, Schema, Store, StoreError};
    use crate::types::PatientIdentifier;

    fn hanako(id: &PatientIdentifier) -> pb::Patient {
        let telephone = pb::Telecom {
            value: "090-0000-0011".to_owned(),
            ..Default::default()
        };
        let address = pb::Address {
            text: "東京都文京区見本町3-7-1".to_owned(),
            ..Default::default()
        };
        pb::Patient {
            identifier: Some(identifier_message(id)),
            demographics: Some(pb::Demographics {
                names: vec![pb::PersonName {
                    family: "佐藤".to_owned(),
                    given: vec!["花子".to_owned()],
                    ..Default::default()
                }],
                birth_date: "1950-04-01".to_owned(),
                administrative_gender: pb::AdministrativeGender::Female.into(),
                telecoms: vec![telephone],
                addresses: vec![address],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A record that is of two persons whom a steward held apart, as far as one can see, is of neither
    /// before a steward has looked again.
    #[tokio::test]
    async fn a_record_of_two_who_are_held_apart_joins_neither() {
        let folder = tempfile::tempdir().unwrap();
        let schema = tables(Schema::new());
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let identity = Identity::open(Arc::clone(&store), Arc::new(SystemClock)).unwrap();
        let id = |value: &str| PatientIdentifier::new("1.2.3", value).unwrap();
        let tag = |value: &str| store.keys().patient_tag(&id(value));
        let row = |value: &str, linkage: u8, other: &str| PatientRow {
            tag: tag(value).to_vec(),
            patient: Some(hanako(&id(value))),
            linkage: [linkage; 16].to_vec(),
            not_same: vec![tag(other).to_vec()],
            ..PatientRow::default()
        };
        let commit = Commit {
            writes: vec![Write::put(&row("a", 1, "b")), Write::put(&row("b", 2, "a"))],
            ..Commit::default()
        };
        let _committed = store.commit(commit).await.unwrap();
        let persons = [1, 2].map(|number| LinkageId::from_bytes([number; 16]));
        let demographics = hanako(&id("c")).demographics.unwrap();
        let traits = super::super::traits_of(&demographics);
        let (foreseen, of) = identity.foresee(None, &traits);
        assert_eq!(foreseen, pb::FeedOutcome::Review);
        assert_eq!(of, BTreeSet::from(persons));
        let placed = identity.place(tag("c"), &traits, None).unwrap();
        assert_eq!(placed.outcome, pb::FeedOutcome::Review);
        assert!(!persons.contains(&placed.linkage) && placed.absorbed.is_empty());
        let others = placed.reviews.iter().map(|doubt| doubt.other);
        let both = BTreeSet::from([Some(tag("a")), Some(tag("b"))]);
        assert_eq!(others.collect::<BTreeSet<_>>(), both);
        store.close().await.unwrap();
    }

    /// Feeds of one new record that all read "not known" before the first of them was committed: those
    /// that come late leave nothing behind, whenever they were placed.
    #[tokio::test]
    async fn a_feed_that_comes_late_does_not_hide_the_record_that_came_first() {
        let folder = tempfile::tempdir().unwrap();
        let schema = tables(Schema::new());
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let identity = Identity::open(Arc::clone(&store), Arc::new(SystemClock)).unwrap();
        let id = PatientIdentifier::new("1.2.3", "7").unwrap();
        let patient = pb::Patient {
            identifier: Some(identifier_message(&id)),
            demographics: Some(pb::Demographics {
                names: vec![pb::PersonName {
                    family: "佐藤".to_owned(),
                    given: vec!["花子".to_owned()],
                    ..Default::default()
                }],
                birth_date: "1950-04-01".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let tag = store.keys().patient_tag(&id);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let feed = || match identity.prepare(tag, &patient, None, false, now).unwrap() {
            Fed::Ready(prepared) => *prepared,
            Fed::NeedsGate => panic!("a new record moves nobody"),
        };
        let commit = |writes| {
            store.commit(Commit {
                writes,
                ..Commit::default()
            })
        };
        let (first, second) = (feed(), feed());
        let Prepared {
            writes, response, ..
        } = first;
        let _committed = commit(writes).await.unwrap();
        let third = feed();
        for late in [second, third] {
            let Prepared {
                writes,
                reservation,
                ..
            } = late;
            let refused = commit(writes).await;
            assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
            drop(reservation);
            let linkage = identity.linkage(&id).map(|known| known.to_string());
            assert_eq!(linkage.as_ref(), Some(&response.linkage_id));
        }
        store.close().await.unwrap();
    }
}
