//! Identify an emergency patient by little: at most five candidates, nothing shown of them that is
//! not needed to choose.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{Timestamp, ToSpan as _};

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::identity::{Identity, Narrowing, identifier};
use crate::types::LinkageId;
use crate::wire::pb::emergency as pb;
use crate::wire::pb::identity as ipb;

use super::heard::{age_fits, birth_date, born, is_likely, linkage_of, rank};
use super::questions::next_questions;

/// Candidates shown.
const MAX_CANDIDATES: usize = 5;
/// References remembered; the oldest is forgotten first.
const MAX_REFERENCES: usize = 10_000;
/// Minutes a reference may be used.
const REFERENCE_MINUTES: i64 = 30;

/// Candidates shown to callers, by a random reference that says nothing.
#[derive(Debug)]
pub struct Candidates {
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    references: Mutex<References>,
}

/// A candidate as it was shown: to whom, how certain, until when it may be used.
#[derive(Clone, Debug)]
struct Shown {
    linkage: LinkageId,
    grade: ipb::MatchGrade,
    to: String,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct References {
    by_reference: HashMap<String, Shown>,
    order: VecDeque<String>,
}

impl Candidates {
    /// Candidates among the patients of `identity`.
    pub fn new(identity: Arc<Identity>, clock: Arc<dyn Clock>) -> Self {
        Self {
            identity,
            clock,
            references: Mutex::default(),
        }
    }

    /// Finds candidates.
    ///
    /// # Errors
    /// Nothing to search by; too many matches; the store.
    pub fn identify(
        &self,
        permit: &Permit,
        call: &Call,
        request: &pb::IdentifyPatientRequest,
    ) -> Result<pb::IdentifyPatientResponse> {
        permit.require(&[Action::IdentifyEmergency])?;
        use pb::identify_patient_request::Subject;
        let subject = request
            .subject
            .as_ref()
            .ok_or_else(|| Error::missing("subject"))?;
        let found = match subject {
            Subject::LinkageId(id) => self.certain(self.named(call, id)?)?,
            Subject::PatientId(id) => {
                let identifier = identifier(Some(id), "patient_id")?;
                self.certain(self.identity.linkage(&identifier))?
            }
            Subject::InsuredPerson(coverage) => self.identity.search(&ipb::Demographics {
                coverages: vec![coverage.clone()],
                birth_date: request.birth_date.clone(),
                ..ipb::Demographics::default()
            })?,
            Subject::FourItems(items) => self.by_four_items(items)?,
        };
        let more = found.len() > MAX_CANDIDATES;
        // Of all: who is meant may be among those that are not shown.
        let next_questions = next_questions(request, &found);
        let shown: Vec<_> = found.into_iter().take(MAX_CANDIDATES).collect();
        call.note(|record| record.items = u32::try_from(shown.len()).unwrap_or(u32::MAX));
        // Answered from the hub's own index: nobody else was asked, nothing is missing.
        let here = crate::federation::completeness(Vec::new());
        let candidates = shown
            .into_iter()
            .map(|found| self.candidate(call, found))
            .collect();
        Ok(pb::IdentifyPatientResponse {
            candidates,
            next_questions,
            more,
            completeness: Some(here),
        })
    }

    /// The person that the caller's community knows by this id, if it is one.
    fn named(&self, call: &Call, id: &str) -> Result<Option<LinkageId>> {
        let community = &call.caller().participant.community;
        let named = self.identity.named(id, community).ok();
        named.map(|one| self.identity.living(one)).transpose()
    }

    fn certain(&self, linkage: Option<LinkageId>) -> Result<Vec<ipb::MatchCandidate>> {
        let person = linkage
            .map(|linkage| self.identity.person(linkage))
            .transpose()?
            .flatten();
        Ok(person
            .map(|person| ipb::MatchCandidate {
                person: Some(person),
                score: 1.0,
                grade: ipb::MatchGrade::Certain.into(),
                evidence: None,
            })
            .into_iter()
            .collect())
    }

    fn by_four_items(&self, items: &pb::FourItems) -> Result<Vec<ipb::MatchCandidate>> {
        if items.name.trim().is_empty() && items.birth_date.is_empty() {
            return Err(Error::missing("four_items.name"));
        }
        let (birth_date, birth_date_text) = birth_date(&items.birth_date)?;
        let wanted = ipb::Demographics {
            names: (!items.name.trim().is_empty())
                .then(|| ipb::PersonName {
                    text: items.name.trim().to_owned(),
                    ..ipb::PersonName::default()
                })
                .into_iter()
                .collect(),
            birth_date,
            birth_date_text,
            administrative_gender: items.administrative_gender,
            telecoms: (!items.telephone.is_empty())
                .then(|| ipb::Telecom {
                    value: items.telephone.clone(),
                    ..Default::default()
                })
                .into_iter()
                .collect(),
            ..ipb::Demographics::default()
        };
        let born = born(items, self.clock.now());
        // An age and an address named in part are no keys, but they tell those apart who share a name:
        // before a list of them is cut.
        let narrowing = Narrowing::new(born, &items.address);
        let mut found = self.identity.search_among(&wanted, &narrowing)?;
        if items.administrative_gender != 0 && !found.iter().any(is_likely) {
            found.extend(self.of_another_sex(wanted, &narrowing, &found)?);
        }
        found.retain(|candidate| age_fits(candidate, born));
        found.sort_by(|a, b| rank(b, &items.address).total_cmp(&rank(a, &items.address)));
        Ok(found)
    }

    /// Who fits everything but the sex, for that is noted wrongly too; never shown as certain.
    fn of_another_sex(
        &self,
        wanted: ipb::Demographics,
        narrowing: &Narrowing,
        known: &[ipb::MatchCandidate],
    ) -> Result<Vec<ipb::MatchCandidate>> {
        let rest = ipb::Demographics {
            administrative_gender: ipb::AdministrativeGender::Unspecified.into(),
            ..wanted
        };
        let mut found = match self.identity.search_among(&rest, narrowing) {
            Ok(found) => found,
            // Too little to search by, without the sex.
            Err(error)
                if matches!(
                    error.reason(),
                    Reason::MissingField | Reason::InvalidField | Reason::TooManyResults
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        found.retain(|one| {
            !known
                .iter()
                .any(|other| linkage_of(other) == linkage_of(one))
        });
        for candidate in &mut found {
            candidate.set_grade(ipb::MatchGrade::Possible);
        }
        Ok(found)
    }

    fn candidate(&self, call: &Call, found: ipb::MatchCandidate) -> pb::EmergencyCandidate {
        let grade = found.grade();
        let person = found.person.unwrap_or_default();
        let demographics = person.demographics.unwrap_or_default();
        let municipality = demographics
            .addresses
            .first()
            .map(|address| format!("{}{}", address.state, address.city))
            .unwrap_or_default();
        let reference = person
            .linkage_id
            .parse::<LinkageId>()
            .map(|linkage| self.remember(call, linkage, grade))
            .unwrap_or_default();
        pb::EmergencyCandidate {
            candidate_ref: reference,
            names: demographics.names,
            birth_date: demographics.birth_date,
            administrative_gender: demographics.administrative_gender,
            municipality,
            grade: found.grade,
            score: found.score,
            evidence: found
                .evidence
                .map(|evidence| evidence.fields)
                .unwrap_or_default(),
        }
    }

    fn remember(&self, call: &Call, linkage: LinkageId, grade: ipb::MatchGrade) -> String {
        let reference = uuid::Uuid::new_v4().to_string();
        let mut references = self
            .references
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if references.order.len() >= MAX_REFERENCES
            && let Some(oldest) = references.order.pop_front()
        {
            references.by_reference.remove(&oldest);
        }
        let expires = self.clock.now().saturating_add(REFERENCE_MINUTES.minutes());
        let value = Shown {
            linkage,
            grade,
            to: owner(call),
            until: expires.unwrap_or(Timestamp::MAX),
        };
        references.by_reference.insert(reference.clone(), value);
        references.order.push_back(reference.clone());
        reference
    }

    /// The person a reference, linkage id or patient identifier names, and how certain that is.
    ///
    /// # Errors
    /// [`Reason::UnknownPatient`], also for a reference given to another institution or too old.
    pub fn resolve(
        &self,
        call: &Call,
        patient: Option<&pb::PatientRef>,
    ) -> Result<(LinkageId, ipb::MatchGrade)> {
        use pb::patient_ref::Subject;
        let unknown = || {
            Error::field(
                Reason::UnknownPatient,
                "patient",
                "names nobody known here; identify again",
            )
        };
        let subject = patient.and_then(|patient| patient.subject.as_ref());
        match subject.ok_or_else(|| Error::missing("patient"))? {
            Subject::LinkageId(id) => {
                let linkage = self.named(call, id)?.ok_or_else(unknown)?;
                Ok((linkage, ipb::MatchGrade::Certain))
            }
            Subject::PatientId(id) => {
                let identifier = identifier(Some(id), "patient.patient_id")?;
                let linkage = self.identity.linkage(&identifier).ok_or_else(unknown)?;
                Ok((linkage, ipb::MatchGrade::Certain))
            }
            Subject::CandidateRef(reference) => {
                let references = self
                    .references
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let shown = references.by_reference.get(reference);
                shown
                    .filter(|shown| shown.to == owner(call) && self.clock.now() < shown.until)
                    .map(|shown| Ok((self.identity.living(shown.linkage)?, shown.grade)))
                    .ok_or_else(unknown)?
            }
        }
    }
}

/// Whom a reference was given to: the institution.
fn owner(call: &Call) -> String {
    call.caller()
        .participant
        .code
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::identity::identifier_message;
    use crate::identity::tables::PatientRow;
    use crate::store::{Commit, Options, Store, Write};
    use crate::types::PatientIdentifier;

    /// A record of 佐藤 花子, the last in the order of linkage ids for the highest number.
    fn namesake(store: &Store, number: u16, born: i32, city: &str) -> Write {
        let id = PatientIdentifier::new("1.2.3", &number.to_string()).unwrap();
        let mut linkage = [0; 16];
        linkage[..2].copy_from_slice(&number.to_be_bytes());
        let address = ipb::Address {
            state: "東京都".to_owned(),
            city: city.to_owned(),
            lines: vec![format!("見本町{}丁目", number % 9 + 1)],
            ..ipb::Address::default()
        };
        let demographics = ipb::Demographics {
            names: vec![ipb::PersonName {
                family: "佐藤".to_owned(),
                given: vec!["花子".to_owned()],
                ..ipb::PersonName::default()
            }],
            birth_date: format!("{born}-04-01"),
            administrative_gender: ipb::AdministrativeGender::Female.into(),
            addresses: vec![address],
            ..ipb::Demographics::default()
        };
        Write::put(&PatientRow {
            tag: store.keys().patient_tag(&id).to_vec(),
            patient: Some(ipb::Patient {
                identifier: Some(identifier_message(&id)),
                demographics: Some(demographics),
                ..ipb::Patient::default()
            }),
            linkage: linkage.to_vec(),
            ..PatientRow::default()
        })
    }

    #[tokio::test]
    async fn one_of_five_hundred_of_one_name_is_found_by_age_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let schema = crate::identity::tables(crate::store::Schema::new());
        let (store, _) = Store::open(folder.path(), schema, Options::default()).unwrap();
        let clock = Arc::new(ManualClock::at("2026-06-01T00:00:00Z".parse().unwrap()));
        let identity = Arc::new(Identity::open(Arc::clone(&store), clock.clone()).unwrap());
        // All others are of the age or of the place, none of both.
        let mut writes: Vec<_> = (0..250)
            .map(|number| namesake(&store, number, 1950, "港区"))
            .chain((250..500).map(|number| namesake(&store, number, 1990, "文京区")))
            .collect();
        writes.push(namesake(&store, 500, 1951, "文京区"));
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        let _committed = store.commit(commit).await.unwrap();
        let candidates = Candidates::new(identity, clock);
        for name in ["佐藤 花子", "佐藤"] {
            let heard = pb::FourItems {
                name: name.to_owned(),
                age_from: Some(70),
                age_to: Some(80),
                address: "文京区".to_owned(),
                ..pb::FourItems::default()
            };
            let found = candidates.by_four_items(&heard).unwrap();
            let first = found[0].person.as_ref().unwrap();
            let first = first.demographics.as_ref().unwrap();
            assert_eq!(first.birth_date, "1951-04-01", "{name}");
            assert_eq!(first.addresses[0].city, "文京区", "{name}");
        }
        store.close().await.unwrap();
    }
}
