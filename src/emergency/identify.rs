//! Identify an emergency patient by little: at most five candidates, nothing shown of them that is
//! not needed to choose.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{Timestamp, ToSpan as _};
use unicode_normalization::UnicodeNormalization as _;

use crate::access::{Action, Call, Permit};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::identity::matching::normalize::date;
use crate::identity::{Identity, identifier};
use crate::types::{LinkageId, PartialDate};
use crate::wire::pb::emergency as pb;
use crate::wire::pb::identity as ipb;

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
        let shown: Vec<_> = found.into_iter().take(MAX_CANDIDATES).collect();
        call.note(|record| record.items = u32::try_from(shown.len()).unwrap_or(u32::MAX));
        // Answered from the hub's own index: nobody else was asked, nothing is missing.
        let here = crate::federation::completeness(Vec::new());
        let next_questions = next_questions(subject, shown.len());
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
        let mut found = self.identity.search(&wanted)?;
        found.retain(|candidate| age_fits(candidate, items, self.clock.now()));
        // An address named in part is no key, but it orders those who share a name.
        found.sort_by(|a, b| rank(b, &items.address).total_cmp(&rank(a, &items.address)));
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

/// A birth date as it is written (`YYYY`, `YYYY-MM`, `YYYY-MM-DD`), or as it is spoken (昭和25年3月5日).
fn birth_date(given: &str) -> Result<(String, String)> {
    let given = given.trim();
    if given.is_empty() || given.parse::<PartialDate>().is_ok() {
        return Ok((given.to_owned(), String::new()));
    }
    if date::birth_date(given).is_none() {
        let message = "must be a date such as 1950-04-01, 1950 or 昭和25年4月1日";
        let field = "four_items.birth_date";
        return Err(Error::field(Reason::InvalidField, field, message));
    }
    Ok((String::new(), given.to_owned()))
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

fn age_fits(candidate: &ipb::MatchCandidate, items: &pb::FourItems, now: Timestamp) -> bool {
    let (Some(from), Some(to)) = (
        items.age_from.or(items.age_to),
        items.age_to.or(items.age_from),
    ) else {
        return true;
    };
    let person = candidate
        .person
        .as_ref()
        .and_then(|person| person.demographics.as_ref());
    let birth = person.and_then(|demographics| demographics.birth_date.parse::<PartialDate>().ok());
    let Some(birth) = birth else { return true };
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let age = i64::from(year) - i64::from(birth.year());
    // A birthday may be still to come this year.
    (i64::from(from)..=i64::from(to) + 1).contains(&age)
}

fn fold(text: &str) -> String {
    text.nfkc().filter(|c| !c.is_whitespace()).collect()
}

fn address_fits(candidate: &ipb::MatchCandidate, wanted: &str) -> bool {
    let wanted = fold(wanted);
    let person = candidate.person.iter();
    let records = person.flat_map(|person| &person.records);
    !wanted.is_empty()
        && records
            .filter_map(|record| record.demographics.as_ref())
            .flat_map(|demographics| &demographics.addresses)
            .any(|address| {
                let whole = fold(&format!(
                    "{}{}{}{}",
                    address.state,
                    address.city,
                    address.lines.concat(),
                    address.text
                ));
                whole.contains(&wanted)
            })
}

/// Bits of evidence, and seven more for an address that fits: one municipality in a hundred or so.
fn rank(candidate: &ipb::MatchCandidate, address: &str) -> f64 {
    let bits = candidate
        .evidence
        .as_ref()
        .map_or(0.0, |evidence| evidence.bits);
    bits + if address_fits(candidate, address) {
        7.0
    } else {
        0.0
    }
}

fn next_questions(
    subject: &pb::identify_patient_request::Subject,
    found: usize,
) -> Vec<pb::NextQuestion> {
    let pb::identify_patient_request::Subject::FourItems(items) = subject else {
        return Vec::new();
    };
    if found == 1 {
        return Vec::new();
    }
    let missing = [
        (
            "birth_date",
            items.birth_date.is_empty(),
            "生年月日 (birth date)",
        ),
        ("address", items.address.is_empty(), "住所 (address)"),
        (
            "telephone",
            items.telephone.is_empty(),
            "電話番号 (telephone)",
        ),
        (
            "administrative_gender",
            items.administrative_gender == 0,
            "性別 (sex)",
        ),
    ];
    missing
        .into_iter()
        .filter(|(_, missing, _)| *missing)
        .map(|(field, _, text)| pb::NextQuestion {
            field: field.to_owned(),
            text: text.to_owned(),
        })
        .collect()
}
