//! The identity service: feed, resolve, search, review.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::consent::Persons;
use crate::error::{Error, Reason, Result};
use crate::store::{Expect, Idempotency, Store, Versioned, Write};
use crate::types::{LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::compare::{Comparison, Proof, Traits, Verdict, compare};
use super::evidence::{evidence, grade};
use super::search::{Entry, PatientTag, Search, plans};
use super::tables::{PatientRow, ReviewRow};
use super::traits;

/// Attempts at a change before giving up to others that came first.
const ATTEMPTS: usize = 8;
/// Records of one person read at most.
const MAX_MEMBERS: usize = 1_000;
/// Candidates returned at most, whatever the page size.
const MAX_MATCHES: usize = 100;

/// Patients of this node, and the persons they are.
#[derive(Debug)]
pub struct Identity {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    search: Arc<Search>,
}

/// A record matching can see before it is committed.
struct Reservation {
    search: Arc<Search>,
    tag: PatientTag,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.search.forget_pending(&self.tag);
    }
}

/// What the matcher made of a record.
struct Placement {
    linkage: LinkageId,
    outcome: pb::FeedOutcome,
    evidence: Option<pb::MatchEvidence>,
    reviews: Vec<(PatientTag, Comparison)>,
}

impl Identity {
    /// Opens identity over `store`: builds the search index from the patient table and follows the
    /// ledger from there.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn open(store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let search = Arc::new(Search::default());
        search.fill(&store)?;
        store.follow(Arc::clone(&search) as Arc<dyn crate::store::Follower>);
        Ok(Self {
            store,
            clock,
            search,
        })
    }

    /// Adds or revises a record (ITI-8, ITI-44, ITI-104) and links it.
    ///
    /// # Errors
    /// Malformed demographics; a concurrent change that keeps coming first; the store.
    pub async fn feed(
        &self,
        permit: &Permit,
        call: &Call,
        identifier: &PatientIdentifier,
        patient: &pb::Patient,
        idempotency: Option<Idempotency>,
        attach: &(dyn Fn() -> Vec<Write> + Sync),
    ) -> Result<pb::FeedPatientResponse> {
        permit.require(&[Action::AssertIdentity])?;
        let demographics = patient
            .demographics
            .as_ref()
            .ok_or_else(|| Error::missing("patient.demographics"))?;
        traits::check(demographics, "patient.demographics")?;
        let tag = self.store.keys().patient_tag(identifier);
        call.note(|record| record.patient = Some(tag.to_vec()));
        for _ in 0..ATTEMPTS {
            let known = self.store.get::<PatientRow>(&tag)?;
            let idempotency = idempotency.clone();
            match self
                .try_feed(call, tag, patient, known, idempotency, attach())
                .await
            {
                Err(error) if error.reason() == Reason::ConcurrentChange => {}
                done => return done,
            }
        }
        Err(Error::new(
            Reason::ConcurrentChange,
            "the record keeps changing; repeat the feed",
        ))
    }

    #[expect(clippy::too_many_lines, reason = "one transaction, told in its order")]
    async fn try_feed(
        &self,
        call: &Call,
        tag: PatientTag,
        patient: &pb::Patient,
        known: Option<Versioned<PatientRow>>,
        idempotency: Option<Idempotency>,
        mut writes: Vec<Write>,
    ) -> Result<pb::FeedPatientResponse> {
        let before = known.as_ref().and_then(|known| known.row.patient.as_ref());
        let unchanged = before.is_some_and(|before| {
            before.demographics == patient.demographics && before.inactive == patient.inactive
        });
        let traits = patient
            .demographics
            .as_ref()
            .map(traits::traits)
            .unwrap_or_default();
        let not_same: Vec<Vec<u8>> = known
            .as_ref()
            .map(|known| known.row.not_same.clone())
            .unwrap_or_default();
        let placement = match &known {
            // A withdrawn record is not matched again.
            Some(known) if unchanged || patient.inactive => Placement {
                linkage: linkage_of(&known.row)?,
                outcome: if unchanged {
                    pb::FeedOutcome::Unchanged
                } else {
                    pb::FeedOutcome::Withdrawn
                },
                evidence: known.row.evidence.clone(),
                reviews: Vec::new(),
            },
            _ => self.place(
                tag,
                &traits,
                &not_same,
                known.as_ref().map(|known| &known.row),
            )?,
        };
        let now = self.clock.now();
        let mut stored = patient.clone();
        stored.recorded = Some(crate::wire::timestamp(now));
        let row = PatientRow {
            tag: tag.to_vec(),
            patient: Some(stored),
            linkage: placement.linkage.to_bytes().to_vec(),
            evidence: placement.evidence.clone(),
            not_same,
        };
        let expect = known
            .as_ref()
            .map_or(Expect::Absent, |known| Expect::Version(known.version));
        let mut review_task_ids = Vec::new();
        if !unchanged {
            writes.push(Write::put(&row).expecting(expect));
            for (other, comparison) in &placement.reviews {
                let (write, id) = self.review(&tag, other, comparison, now)?;
                writes.extend(write);
                review_task_ids.push(id);
            }
        }
        call.note(|record| record.items = 1);
        let response = pb::FeedPatientResponse {
            linkage_id: placement.linkage.to_string(),
            outcome: placement.outcome.into(),
            evidence: placement.evidence,
            review_task_ids,
            ..pb::FeedPatientResponse::default()
        };
        // Forgotten again unless the commit shows it, also if this call is dropped.
        let _reservation = Reservation {
            search: Arc::clone(&self.search),
            tag,
        };
        let committed = call
            .commit(&self.store, now, writes, idempotency, response)
            .await;
        let mut response = committed?;
        response.version = self
            .store
            .get::<PatientRow>(&tag)?
            .map_or(0, |stored| stored.version.0);
        Ok(response)
    }

    /// Decides which person a new or changed record is, and reserves the answer in the index, so
    /// that two feeds of one person at the same moment meet.
    fn place(
        &self,
        tag: PatientTag,
        traits: &Traits,
        not_same: &[Vec<u8>],
        known: Option<&PatientRow>,
    ) -> Result<Placement> {
        let mut index = self.search.write();
        let mut same: BTreeMap<LinkageId, (f64, Comparison, Proof)> = BTreeMap::new();
        let mut reviews: Vec<(PatientTag, LinkageId, Comparison)> = Vec::new();
        for entry in index
            .candidates(traits)
            .into_iter()
            .filter(|entry| entry.tag != tag)
        {
            let forbidden = not_same.iter().any(|other| other == entry.tag.as_slice())
                || entry.not_same.contains(&tag);
            let comparison = compare(traits, &entry.traits);
            match comparison.verdict {
                Verdict::Same(proof) if !forbidden => {
                    let best = same
                        .get(&entry.linkage)
                        .map_or(f64::MIN, |(bits, ..)| *bits);
                    if comparison.bits > best {
                        same.insert(entry.linkage, (comparison.bits, comparison.clone(), proof));
                    }
                    reviews.push((entry.tag, entry.linkage, comparison));
                }
                Verdict::Review if !forbidden => {
                    reviews.push((entry.tag, entry.linkage, comparison));
                }
                Verdict::Same(_) | Verdict::Review | Verdict::Distinct => {}
            }
        }
        // Never a person who holds a record that contradicts this one (INV-5: no chaining).
        same.retain(|linkage, _| {
            !index
                .members(*linkage)
                .any(|member| member.tag != tag && compare(traits, &member.traits).contradicts())
        });
        let own = known.map(linkage_of).transpose()?;
        let alone = own.is_none_or(|own| index.members(own).all(|member| member.tag == tag));
        let best = same
            .iter()
            .max_by(|a, b| a.1.0.total_cmp(&b.1.0))
            .map(|(linkage, (_, comparison, proof))| (*linkage, comparison.clone(), *proof));
        // A link, once made, is not moved by a revision: only a record alone may join others.
        let (linkage, chosen) = match (own, alone, best) {
            (_, true, Some((linkage, comparison, proof))) => (linkage, Some((comparison, proof))),
            (Some(own), ..) => (own, None),
            (None, ..) => (LinkageId::random(&mut rand::rng()), None),
        };
        reviews.retain(|(_, other, _)| *other != linkage);
        let evidence = chosen
            .as_ref()
            .map(|(comparison, proof)| evidence(comparison, Some(*proof)));
        let outcome = if chosen.is_some() {
            pb::FeedOutcome::Linked
        } else if reviews.is_empty() {
            pb::FeedOutcome::NewPerson
        } else {
            pb::FeedOutcome::Review
        };
        if known.is_none() {
            // Two feeds of one person at the same moment meet here. A known record is not touched
            // before its revision is committed.
            index.put(tag, None, linkage, traits.clone(), Vec::new());
        }
        let evidence = evidence.or_else(|| known.and_then(|known| known.evidence.clone()));
        let reviews = reviews
            .into_iter()
            .map(|(tag, _, comparison)| (tag, comparison))
            .collect();
        Ok(Placement {
            linkage,
            outcome,
            evidence,
            reviews,
        })
    }

    /// A review task for a pair, unless one is open or decided already.
    fn review(
        &self,
        tag: &PatientTag,
        other: &PatientTag,
        comparison: &Comparison,
        now: jiff::Timestamp,
    ) -> Result<(Option<Write>, String)> {
        let (first, second) = ReviewRow::pair(tag, other);
        let key = [first.as_slice(), second.as_slice()].concat();
        if let Some(known) = self.store.get::<ReviewRow>(&key)? {
            return Ok((None, task_id(&known.row.id)));
        }
        let id = uuid::Uuid::now_v7().as_bytes().to_vec();
        let text = task_id(&id);
        let row = ReviewRow {
            first,
            second,
            id,
            evidence: Some(evidence(comparison, None)),
            state: pb::ReviewState::Open.into(),
            created_ms: now.as_millisecond(),
            decisions: Vec::new(),
        };
        Ok((Some(Write::put(&row)), text))
    }

    /// The stored record of an identifier, if it is known and active.
    ///
    /// # Errors
    /// The store.
    pub fn record(&self, identifier: &PatientIdentifier) -> Result<Option<pb::Patient>> {
        Ok(self.row(identifier)?.and_then(|row| row.patient))
    }

    /// The person an identifier belongs to.
    pub fn linkage(&self, identifier: &PatientIdentifier) -> Option<LinkageId> {
        self.search
            .read()
            .linkage(&self.store.keys().patient_tag(identifier))
    }

    /// A person's identifiers with their communities (ITI-9); none if the linkage id is nobody's.
    pub fn identifiers(&self, linkage: LinkageId) -> Vec<(PatientIdentifier, Arc<str>)> {
        let mut identifiers = self.search.read().identifiers(linkage);
        identifiers.sort();
        identifiers
    }

    fn row(&self, identifier: &PatientIdentifier) -> Result<Option<PatientRow>> {
        let versioned = self
            .store
            .get::<PatientRow>(&self.store.keys().patient_tag(identifier))?;
        let row = versioned.map(|versioned| versioned.row);
        Ok(row.filter(|row| {
            row.patient
                .as_ref()
                .is_some_and(|patient| !patient.inactive)
        }))
    }

    /// A person's records (ITI-9 reads their identifiers).
    ///
    /// # Errors
    /// The store.
    pub fn records(&self, linkage: LinkageId) -> Result<Vec<pb::Patient>> {
        let prefix = linkage.to_bytes();
        let rows = self.store.by_index::<PatientRow>(
            PatientRow::BY_LINKAGE,
            &prefix,
            None,
            MAX_MEMBERS,
        )?;
        let patients = rows
            .into_iter()
            .filter_map(|(_, versioned)| versioned.row.patient);
        Ok(patients.filter(|patient| !patient.inactive).collect())
    }

    /// A person with all records, or `None` if the linkage id is nobody's.
    ///
    /// # Errors
    /// The store.
    pub fn person(&self, linkage: LinkageId) -> Result<Option<pb::Person>> {
        let records = self.records(linkage)?;
        let Some(first) = records.first() else {
            return Ok(None);
        };
        Ok(Some(pb::Person {
            linkage_id: linkage.to_string(),
            demographics: first.demographics.clone(),
            records,
            former_linkage_ids: Vec::new(),
        }))
    }

    /// Ranks persons by how well they agree with `wanted` (ITI-21, ITI-47, ITI-119).
    ///
    /// # Errors
    /// [`Reason::MissingField`] if there is nothing to search by; [`Reason::TooManyResults`] if what
    /// there is is too common; the store.
    pub fn search(&self, wanted: &pb::Demographics) -> Result<Vec<pb::MatchCandidate>> {
        let traits = traits::traits(wanted);
        // One item alone, such as a birth date, would list people rather than find one.
        if traits.items() < 2 {
            let message = "needs two items at least, such as a name and a birth date";
            return Err(Error::field(Reason::MissingField, "criteria", message));
        }
        let plans = plans(&traits);
        let best = self.rank(&traits, &plans)?;
        let mut found = Vec::new();
        for (linkage, comparison) in best {
            let Some(person) = self.person(linkage)? else {
                continue;
            };
            found.push(pb::MatchCandidate {
                person: Some(person),
                score: score(comparison.bits),
                grade: grade(&comparison).into(),
                evidence: Some(evidence(&comparison, None)),
            });
        }
        Ok(found)
    }

    fn rank(&self, traits: &Traits, plans: &[Vec<u64>]) -> Result<Vec<(LinkageId, Comparison)>> {
        let index = self.search.read();
        let mut best: BTreeMap<LinkageId, Comparison> = BTreeMap::new();
        for keys in plans {
            for entry in index.under(keys) {
                consider(&mut best, traits, entry);
            }
            if !best.is_empty() {
                break;
            }
        }
        if best.is_empty() && plans.iter().any(|keys| index.too_common(keys)) {
            return Err(Error::new(
                Reason::TooManyResults,
                "too many people match; add an item",
            ));
        }
        let mut ranked: Vec<_> = best.into_iter().collect();
        ranked.sort_by(|a, b| b.1.bits.total_cmp(&a.1.bits).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(MAX_MATCHES);
        Ok(ranked)
    }

    /// Open review tasks, oldest first.
    ///
    /// # Errors
    /// The store.
    pub fn review_tasks(&self, limit: usize) -> Result<Vec<pb::ReviewTask>> {
        let rows = self
            .store
            .by_index::<ReviewRow>(ReviewRow::BY_ID, &[], None, limit)?;
        let open = rows
            .into_iter()
            .map(|(_, versioned)| versioned)
            .filter(|versioned| versioned.row.state() == pb::ReviewState::Open);
        open.map(|versioned| self.task(versioned)).collect()
    }

    fn task(&self, versioned: Versioned<ReviewRow>) -> Result<pb::ReviewTask> {
        let row = versioned.row;
        let mut persons = Vec::new();
        for tag in [&row.first, &row.second] {
            let patient = self.store.get::<PatientRow>(tag)?;
            let linkage = patient
                .as_ref()
                .map(|patient| linkage_of(&patient.row))
                .transpose()?;
            if let Some(person) = linkage
                .map(|linkage| self.person(linkage))
                .transpose()?
                .flatten()
            {
                persons.push(person);
            }
        }
        Ok(pb::ReviewTask {
            task_id: task_id(&row.id),
            kind: pb::ReviewKind::PossibleDuplicate.into(),
            state: row.state,
            created: jiff::Timestamp::from_millisecond(row.created_ms)
                .ok()
                .map(crate::wire::timestamp),
            persons,
            evidence: row.evidence,
            decisions: row.decisions,
            version: versioned.version.0,
            ..pb::ReviewTask::default()
        })
    }
}

impl Persons for Identity {
    fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        let index = self.search.read();
        let linkage = index.linkage(&self.store.keys().patient_tag(patient));
        let mut all: Vec<_> = linkage
            .map(|linkage| index.identifiers(linkage))
            .unwrap_or_default()
            .into_iter()
            .map(|(identifier, _)| identifier)
            .collect();
        if !all.contains(patient) {
            all.push(patient.clone());
        }
        all
    }
}

fn consider(best: &mut BTreeMap<LinkageId, Comparison>, traits: &Traits, entry: &Entry) {
    let comparison = compare(traits, &entry.traits);
    // What is searched for must not be contradicted by what is known.
    if comparison.contradicts() || comparison.sex == super::compare::Level::Differ {
        return;
    }
    if comparison.bits <= 0.0 {
        return;
    }
    let better = best
        .get(&entry.linkage)
        .is_none_or(|known| comparison.bits > known.bits);
    if better {
        best.insert(entry.linkage, comparison);
    }
}

/// Bits of evidence as a score between 0 and 1: the probability that they are the same person among
/// a million.
fn score(bits: f64) -> f64 {
    let odds = (bits - 20.0).exp2();
    odds / (1.0 + odds)
}

fn linkage_of(row: &PatientRow) -> Result<LinkageId> {
    let bytes: [u8; 16] = row.linkage.as_slice().try_into().map_err(|_| {
        Error::new(
            Reason::IntegrityFailure,
            "a stored record has no linkage id",
        )
    })?;
    Ok(LinkageId::from_bytes(bytes))
}

fn task_id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes)
        .map(|id| id.to_string())
        .unwrap_or_default()
}
