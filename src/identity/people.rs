//! Who somebody is: reading persons, their identifiers and records, and finding them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::{Action, Permit};
use crate::consent::Persons;
use crate::error::{Error, Reason, Result};
use crate::types::{HomeCommunityId, LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::compare::{Comparison, Level, Traits, compare};
use super::evidence::{evidence, grade};
use super::narrow::Narrowing;
use super::pseudonym;
use super::search::{Entry, plans};
use super::service::Identity;
use super::tables::{PatientRow, RetiredRow, sixteen};
use super::traits;
use super::view::{members, patients};

/// Candidates returned at most, whatever the page size.
const MAX_MATCHES: usize = 100;
/// Former linkage ids told at most.
const MAX_FORMER: usize = 100;
/// Retired linkage ids followed at most.
const MAX_HOPS: usize = 64;

/// Whom an identifier or linkage id names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The person.
    pub linkage: LinkageId,
    /// The identifier that it was merged into, if it was merged away.
    pub superseded_by: Option<PatientIdentifier>,
}

impl Identity {
    /// The id by which a community knows a person (bar P-08).
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn pseudonym(&self, linkage: LinkageId, community: &HomeCommunityId) -> Result<String> {
        let hidden = pseudonym::hide(self.store.keys(), linkage, community)?;
        Ok(hidden.to_string())
    }

    /// The person that a community knows by this id.
    ///
    /// # Errors
    /// [`Reason::InvalidField`] if it is no linkage id at all.
    pub fn named(&self, id: &str, community: &HomeCommunityId) -> Result<LinkageId> {
        pseudonym::show(self.store.keys(), id, community)
    }

    /// A retired linkage id as the one its records went to.
    ///
    /// # Errors
    /// The store.
    pub fn living(&self, linkage: LinkageId) -> Result<LinkageId> {
        let mut living = linkage;
        for _ in 0..MAX_HOPS {
            match self.store.get::<RetiredRow>(&living.to_bytes())? {
                Some(found) => living = LinkageId::from_bytes(sixteen(&found.row.into)?),
                None => break,
            }
        }
        Ok(living)
    }

    /// The stored record of an identifier, if it is known and active.
    ///
    /// # Errors
    /// The store.
    pub fn record(&self, identifier: &PatientIdentifier) -> Result<Option<pb::Patient>> {
        let tag = self.store.keys().patient_tag(identifier);
        let found = self.store.get::<PatientRow>(&tag)?;
        let patient = found.and_then(|found| found.row.patient);
        Ok(patient.filter(|patient| !patient.inactive))
    }

    /// The stored record of an identifier, also if it was withdrawn or merged away.
    ///
    /// # Errors
    /// The store.
    pub fn stored(&self, identifier: &PatientIdentifier) -> Result<Option<pb::Patient>> {
        let tag = self.store.keys().patient_tag(identifier);
        let found = self.store.get::<PatientRow>(&tag)?;
        Ok(found.and_then(|found| found.row.patient))
    }

    /// Who is there already that a registration may be of, and what feeding it would lead to. A record
    /// that is known under the identifier itself is no duplicate.
    ///
    /// # Errors
    /// Malformed demographics; as [`Identity::search`].
    pub fn duplicates(
        &self,
        permit: &Permit,
        identifier: Option<&PatientIdentifier>,
        patient: &pb::Patient,
    ) -> Result<(pb::FeedOutcome, Vec<pb::MatchCandidate>)> {
        permit.require(&[Action::SearchPatients])?;
        super::service::checked(patient)?;
        let demographics = patient.demographics.clone().unwrap_or_default();
        let tag = identifier.map(|one| self.store.keys().patient_tag(one));
        let (outcome, persons) = self.foresee(tag, &traits::traits(&demographics));
        let own = identifier.and_then(|one| self.linkage(one));
        let mut found = self.search(&demographics)?;
        let likely = [pb::MatchGrade::Certain, pb::MatchGrade::Probable];
        let foreseen: Vec<String> = persons.iter().map(ToString::to_string).collect();
        found.retain(|one| {
            let id = one.person.as_ref().map(|person| person.linkage_id.as_str());
            let id = id.unwrap_or_default();
            let itself = own.is_some_and(|own| own.to_string() == id);
            let expected = foreseen.iter().any(|one| one == id);
            !itself && (likely.contains(&one.grade()) || expected)
        });
        Ok((outcome, found))
    }

    /// The person an identifier belongs to; of one merged away, the survivor's.
    pub fn linkage(&self, identifier: &PatientIdentifier) -> Option<LinkageId> {
        self.resolve(identifier).map(|resolved| resolved.linkage)
    }

    /// The person an identifier belongs to, and what it was merged into.
    pub fn resolve(&self, identifier: &PatientIdentifier) -> Option<Resolved> {
        let tag = self.store.keys().patient_tag(identifier);
        let root = self.merged.read().root(tag);
        let index = self.search.read();
        let linkage = index.linkage(&root)?;
        let survivor = index.get(&root).and_then(Entry::shown);
        Some(Resolved {
            linkage,
            superseded_by: survivor.filter(|_| root != tag).map(|(one, _)| one),
        })
    }

    /// A person's identifiers with their communities (ITI-9); none if the linkage id is nobody's.
    pub fn identifiers(&self, linkage: LinkageId) -> Vec<(PatientIdentifier, Arc<str>)> {
        let mut identifiers = self.search.read().identifiers(linkage);
        identifiers.sort();
        identifiers
    }

    /// Every identifier a person is or was known by, those merged away included: documents, consents
    /// and holdings stay filed under them.
    pub fn known_as(&self, linkage: LinkageId) -> Vec<PatientIdentifier> {
        let active = self.search.read().identifiers(linkage);
        let mut all: Vec<_> = active.into_iter().map(|(one, _)| one).collect();
        let merged = self.merged.read();
        all.extend(merged.of(linkage).map(|(_, one)| one.identifier.0.clone()));
        all.sort();
        all
    }

    /// A person's active records (ITI-9 reads their identifiers).
    ///
    /// # Errors
    /// The store.
    pub fn records(&self, linkage: LinkageId) -> Result<Vec<pb::Patient>> {
        let all = patients(members(&self.store, linkage)?);
        Ok(all.filter(|patient| !patient.inactive).collect())
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
        let index = RetiredRow::BY_INTO;
        let prefix = linkage.to_bytes();
        let former = self
            .store
            .by_index::<RetiredRow>(index, &prefix, None, MAX_FORMER)?;
        let former = former
            .into_iter()
            .map(|(_, found)| Ok(LinkageId::from_bytes(sixteen(&found.row.linkage)?).to_string()));
        Ok(Some(pb::Person {
            linkage_id: linkage.to_string(),
            demographics: first.demographics.clone(),
            former_linkage_ids: former.collect::<Result<_>>()?,
            records,
        }))
    }

    /// Ranks persons by how well they agree with `wanted` (ITI-21, ITI-47, ITI-119).
    ///
    /// # Errors
    /// [`Reason::MissingField`] if there is nothing to search by; [`Reason::TooManyResults`] if what
    /// there is is too common; the store.
    pub fn search(&self, wanted: &pb::Demographics) -> Result<Vec<pb::MatchCandidate>> {
        self.search_among(wanted, &Narrowing::default())
    }

    /// As [`Identity::search`], only among those that `narrowing` fits; those it fits better rank
    /// higher, though their score does not say so.
    ///
    /// # Errors
    /// As [`Identity::search`].
    pub fn search_among(
        &self,
        wanted: &pb::Demographics,
        narrowing: &Narrowing,
    ) -> Result<Vec<pb::MatchCandidate>> {
        let traits = traits::traits(wanted);
        // One item alone, such as a birth date, would list people rather than find one.
        if traits.items() + narrowing.items(&traits) < 2 {
            let message = "needs two items at least, such as a name and a birth date";
            return Err(Error::field(Reason::MissingField, "criteria", message));
        }
        let plans = plans(&traits);
        let best = self.rank(&traits, &plans, narrowing)?;
        let mut found = Vec::new();
        for (linkage, comparison) in best {
            found.extend(self.candidate(linkage, &comparison)?);
        }
        Ok(found)
    }

    fn candidate(
        &self,
        linkage: LinkageId,
        comparison: &Comparison,
    ) -> Result<Option<pb::MatchCandidate>> {
        let person = self.person(linkage)?;
        Ok(person.map(|person| pb::MatchCandidate {
            person: Some(person),
            score: score(comparison.bits),
            grade: grade(comparison).into(),
            evidence: Some(evidence(comparison, None)),
        }))
    }

    fn rank(
        &self,
        traits: &Traits,
        plans: &[Vec<u64>],
        narrowing: &Narrowing,
    ) -> Result<Vec<(LinkageId, Comparison)>> {
        let index = self.search.read();
        let narrowed = narrowing.is_any();
        let mut best: BTreeMap<LinkageId, Ranked> = BTreeMap::new();
        for keys in plans {
            let entries = match narrowed {
                true => index.under_common(keys),
                false => index.under(keys),
            };
            for entry in entries {
                consider(&mut best, traits, narrowing, entry);
            }
            if !best.is_empty() {
                break;
            }
        }
        let too_common = |keys: &Vec<u64>| match narrowed {
            true => index.very_common(keys),
            false => index.too_common(keys),
        };
        if best.is_empty() && plans.iter().any(too_common) {
            return Err(Error::new(
                Reason::TooManyResults,
                "too many people match; add an item",
            ));
        }
        let mut ranked: Vec<_> = best.into_iter().collect();
        // Equals are cut by their random ids: what tells them apart must have counted by now.
        ranked.sort_by(|a, b| b.1.bits.total_cmp(&a.1.bits).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(MAX_MATCHES);
        let ranked = ranked.into_iter();
        Ok(ranked.map(|(one, found)| (one, found.comparison)).collect())
    }
}

impl Persons for Identity {
    fn identifiers_of(&self, patient: &PatientIdentifier) -> Vec<PatientIdentifier> {
        let linkage = self.linkage(patient);
        let mut all = linkage.map(|one| self.known_as(one)).unwrap_or_default();
        if !all.contains(patient) {
            all.push(patient.clone());
        }
        all
    }

    fn knows(&self, patient: &PatientIdentifier) -> bool {
        self.linkage(patient).is_some()
    }
}

/// How well a person agrees, by the record that agrees best.
struct Ranked {
    /// Bits of the comparison, and of what is no key.
    bits: f64,
    comparison: Comparison,
}

fn consider(
    best: &mut BTreeMap<LinkageId, Ranked>,
    traits: &Traits,
    narrowing: &Narrowing,
    entry: Entry<'_>,
) {
    let known = entry.traits();
    if !narrowing.fits(&known) {
        return;
    }
    let comparison = compare(traits, &known);
    // What is searched for must not be contradicted by what is known.
    if comparison.contradicts() || comparison.sex == Level::Differ {
        return;
    }
    if comparison.bits <= 0.0 {
        return;
    }
    let bits = comparison.bits + narrowing.bits(&known);
    let before = best.get(&entry.linkage());
    if before.is_none_or(|before| bits > before.bits) {
        best.insert(entry.linkage(), Ranked { bits, comparison });
    }
}

/// Bits of evidence as a score between 0 and 1: the probability that they are the same person among
/// a million.
fn score(bits: f64) -> f64 {
    let odds = (bits - 20.0).exp2();
    odds / (1.0 + odds)
}
