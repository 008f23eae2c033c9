//! PIX and PDQ: whom an identifier names, who is meant by a description, what became of a person.

use std::sync::Arc;

use super::super::door::Answer;
use crate::access::{Action, Call};
use crate::config::Capability;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::gateway::Gateway;
use crate::identity::{Demands, identifier, identifier_message};
use crate::types::{AssigningAuthority, LinkageId, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::super::shown::{MAX_SHOWN, findable, missed, show_one, shown};
use super::count;

/// Events of a history on a page.
const MAX_EVENTS: usize = 200;

fn unknown() -> Error {
    Error::field(
        Reason::UnknownPatient,
        "identifier",
        "the patient is not known here",
    )
}

/// PIX (ITI-9). The six outcomes are in the comment of the method in the interface.
pub(super) fn query(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::QueryIdentifiersRequest,
) -> Answer<pb::QueryIdentifiersResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::QueryIdentifiers)?;
        permit.require(&[Action::QueryIdentifiers])?;
        use pb::query_identifiers_request::Subject;
        let subject = request.subject.as_ref();
        let (linkage, asked, superseded_by) =
            match subject.ok_or_else(|| Error::missing("subject"))? {
                Subject::Identifier(id) => {
                    let id = identifier(Some(id), "identifier")?;
                    owned(&gateway, &id)?;
                    wanted_domains(&gateway, "target_domains", &request.target_domains)?;
                    let tag = gateway.store.keys().patient_tag(&id);
                    call.note(|record| record.patient = Some(tag.to_vec()));
                    let resolved = gateway.identity.resolve(&id);
                    let resolved = resolved.ok_or_else(|| missed(&gateway, &call, unknown()))?;
                    (resolved.linkage, Some(id), resolved.superseded_by)
                }
                Subject::LinkageId(id) => {
                    wanted_domains(&gateway, "target_domains", &request.target_domains)?;
                    (linkage_id(&gateway, &call, id)?, None, None)
                }
            };
        let known = gateway.identity.identifiers(linkage);
        let ids: Vec<PatientIdentifier> = known.iter().map(|(id, _)| id.clone()).collect();
        if known.is_empty() || !findable(&gateway, &call, Action::QueryIdentifiers, &ids)? {
            return Err(missed(&gateway, &call, unknown()));
        }
        show_one(&gateway, &call, linkage, &ids)?;
        let wanted = |id: &PatientIdentifier| {
            let domains = &request.target_domains;
            let domain =
                domains.is_empty() || domains.iter().any(|one| one == id.authority.as_str());
            domain && Some(id) != asked.as_ref()
        };
        let community = &call.caller().participant.community;
        let mut response = pb::QueryIdentifiersResponse {
            linkage_id: gateway.identity.pseudonym(linkage, community)?,
            superseded_by: superseded_by.as_ref().map(identifier_message),
            ..pb::QueryIdentifiersResponse::default()
        };
        // Sorted, so those of one domain are adjacent; never cut off (case 6).
        for (id, community) in known.iter().filter(|(id, _)| wanted(id)) {
            response.identifiers.push(identifier_message(id));
            response.home_community_ids.push(community.to_string());
        }
        call.note(|record| record.items = count(response.identifiers.len()));
        Ok(response)
    })
}

/// Case 4: the domain of the identifier asked for must be somebody's.
fn owned(gateway: &Gateway, id: &PatientIdentifier) -> Result<()> {
    if gateway.directory.snapshot().owner(&id.authority).is_some() {
        return Ok(());
    }
    let field = "identifier.assigning_authority";
    let message = "no community owns this assigning authority";
    Err(Error::field(Reason::UnknownAuthority, field, message))
}

/// Case 5: so must every domain that identifiers are wanted of; all that are not are named.
fn wanted_domains(gateway: &Gateway, list: &str, domains: &[String]) -> Result<()> {
    let directory = gateway.directory.snapshot();
    let mut unknown = Vec::new();
    for (index, domain) in domains.iter().enumerate() {
        let field = format!("{list}[{index}]");
        let authority: AssigningAuthority =
            domain.parse().map_err(|error: crate::types::InvalidId| {
                Error::field(Reason::InvalidOid, field.clone(), error.to_string())
            })?;
        if directory.owner(&authority).is_none() {
            unknown.push(field);
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let message = "no community owns this domain";
    Err(Error::fields(Reason::UnknownTargetDomain, unknown, message))
}

/// The person that the caller's community knows by this id; of a retired one, whom it went to.
fn linkage_id(gateway: &Gateway, call: &Call, text: &str) -> Result<LinkageId> {
    let community = &call.caller().participant.community;
    let named = gateway.identity.named(text, community);
    let living = named.and_then(|named| gateway.identity.living(named));
    living.map_err(|error| match error.kind() {
        ErrorKind::NotFound => missed(gateway, call, error),
        _ => error,
    })
}

/// The candidates with the linkage ids that the caller's community knows.
fn under_own_ids(
    gateway: &Gateway,
    call: &Call,
    found: Vec<pb::MatchCandidate>,
) -> Result<Vec<pb::MatchCandidate>> {
    let community = &call.caller().participant.community;
    let show = |mut one: pb::MatchCandidate| {
        let person = one.person.take();
        one.person = person
            .map(|person| gateway.identity.shown(person, community))
            .transpose()?;
        Ok(one)
    };
    found.into_iter().map(show).collect()
}

/// PDQ (ITI-21): who is meant by what is known of them. Pages are of one list of five at most, made
/// anew for each page and always in the same order.
pub(super) fn search(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::SearchPatientsRequest,
) -> Answer<pb::SearchPatientsResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
        permit.require(&[Action::SearchPatients])?;
        let demands = Demands::of(&request)?;
        let domains = demands.domains().iter().map(ToString::to_string);
        wanted_domains(&gateway, "return_domains", &domains.collect::<Vec<_>>())?;
        let first = first_of_page(&request.page_token)?;
        let size = match request.page_size as usize {
            0 => MAX_SHOWN,
            size => size.min(MAX_SHOWN),
        };
        let criteria = request.criteria.unwrap_or_default();
        let mut matches = meant(&gateway, criteria, &demands)?;
        matches.retain(|found| found.score >= request.min_score);
        let matches = shown(&gateway, &call, matches)?;
        let total = matches.len();
        let page: Vec<_> = matches.into_iter().skip(first).take(size).collect();
        let next = first + page.len();
        call.note(|record| record.items = count(page.len()));
        Ok(pb::SearchPatientsResponse {
            matches: under_own_ids(&gateway, &call, page)?,
            next_page_token: match next < total {
                true => next.to_string(),
                false => String::new(),
            },
            total_size: total as u64,
        })
    })
}

/// A page's token is the place of its first person in the list.
fn first_of_page(token: &str) -> Result<usize> {
    if token.is_empty() {
        return Ok(0);
    }
    let place = token.parse::<usize>().ok();
    place
        .filter(|place| (1..MAX_SHOWN).contains(place))
        .ok_or_else(|| {
            let message = "is not a token of this query";
            Error::field(Reason::InvalidToken, "page_token", message)
        })
}

/// Everybody whom all of it holds of, the most likely first.
fn meant(
    gateway: &Gateway,
    criteria: pb::PatientCriteria,
    demands: &Demands,
) -> Result<Vec<pb::MatchCandidate>> {
    let mut wanted = demographics(criteria);
    let described = wanted != pb::Demographics::default();
    let meets = |one: &pb::MatchCandidate| {
        let person = one.person.as_ref();
        person.is_some_and(|person| demands.met_by(person))
    };
    let mut found = match demands.identifiers().first() {
        Some(id) if !described => by_identifier(gateway, id)?,
        _ => gateway.identity.search(&wanted)?,
    };
    found.retain(meets);
    if demands.begin() {
        // The beginning of a name is under no key: who is there by everything else?
        wanted.names.clear();
        let more = match gateway.identity.search(&wanted) {
            Err(error) if error.reason() == Reason::MissingField => Vec::new(),
            // Those of exactly that name are told, where the rest cannot be looked through.
            Err(error) if error.reason() == Reason::TooManyResults && !found.is_empty() => {
                Vec::new()
            }
            other => other?,
        };
        add(&mut found, more.into_iter().filter(meets));
    }
    Ok(found)
}

/// Adds those who are not there yet.
fn add(found: &mut Vec<pb::MatchCandidate>, more: impl Iterator<Item = pb::MatchCandidate>) {
    let id = |one: &pb::MatchCandidate| one.person.as_ref().map(|one| one.linkage_id.clone());
    for one in more {
        if found.iter().all(|known| id(known) != id(&one)) {
            found.push(one);
        }
    }
}

/// Search criteria as the demographics they describe.
fn demographics(criteria: pb::PatientCriteria) -> pb::Demographics {
    let name = pb::PersonName {
        family: criteria.family,
        given: (!criteria.given.is_empty())
            .then_some(criteria.given)
            .into_iter()
            .collect(),
        text: criteria.name_text,
        ..pb::PersonName::default()
    };
    let named = !(name.family.is_empty() && name.given.is_empty() && name.text.is_empty());
    let telecom = pb::Telecom {
        value: criteria.telecom,
        ..pb::Telecom::default()
    };
    pb::Demographics {
        names: named.then_some(name).into_iter().collect(),
        birth_date: criteria.birth_date,
        administrative_gender: criteria.administrative_gender,
        addresses: criteria.address.into_iter().collect(),
        telecoms: (!telecom.value.is_empty())
            .then_some(telecom)
            .into_iter()
            .collect(),
        coverages: criteria.coverage.into_iter().collect(),
        ..pb::Demographics::default()
    }
}

/// `$match` (ITI-119): ranks, stores nothing.
pub(super) fn matching(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::MatchPatientRequest,
) -> Answer<pb::MatchPatientResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
        permit.require(&[Action::SearchPatients])?;
        let patient = request.patient.ok_or_else(|| Error::missing("patient"))?;
        let wanted = patient.demographics.unwrap_or_default();
        let mut candidates = match patient.identifier.as_ref() {
            Some(id) => by_identifier(&gateway, &identifier(Some(id), "patient.identifier")?)?,
            None => Vec::new(),
        };
        let described = wanted != pb::Demographics::default();
        if !described && patient.identifier.is_none() {
            return Err(Error::missing("patient.demographics"));
        }
        // An identifier that names nobody is not told from one of somebody hidden.
        if candidates.is_empty() && described {
            candidates = gateway.identity.search(&wanted)?;
        }
        let mut candidates = shown(&gateway, &call, candidates)?;
        let certain = |one: &&pb::MatchCandidate| one.grade() == pb::MatchGrade::Certain;
        let certain = candidates.iter().filter(certain).count();
        let attributes_requested = match certain != 1 && candidates.len() > 1 {
            true => missing(&wanted),
            false => Vec::new(),
        };
        if request.only_certain_matches {
            // Nothing if more than one could be certain.
            candidates.retain(|one| certain == 1 && one.grade() == pb::MatchGrade::Certain);
        }
        let size = match request.count as usize {
            0 => MAX_SHOWN,
            size => size.min(MAX_SHOWN),
        };
        candidates.truncate(size);
        call.note(|record| record.items = count(candidates.len()));
        Ok(pb::MatchPatientResponse {
            candidates: under_own_ids(&gateway, &call, candidates)?,
            attributes_requested,
        })
    })
}

/// The person of an identifier that is known.
fn by_identifier(gateway: &Gateway, id: &PatientIdentifier) -> Result<Vec<pb::MatchCandidate>> {
    let linkage = gateway.identity.linkage(id);
    let person = linkage
        .map(|one| gateway.identity.person(one))
        .transpose()?;
    let found = person.flatten().map(|person| pb::MatchCandidate {
        person: Some(person),
        score: 1.0,
        grade: pb::MatchGrade::Certain.into(),
        evidence: Some(pb::MatchEvidence {
            rule: "identifier".to_owned(),
            ..pb::MatchEvidence::default()
        }),
    });
    Ok(found.into_iter().collect())
}

/// Attributes that were not given and would tell candidates apart.
fn missing(wanted: &pb::Demographics) -> Vec<String> {
    let given = [
        ("birth_date", !wanted.birth_date.is_empty()),
        ("address", !wanted.addresses.is_empty()),
        ("telecom", !wanted.telecoms.is_empty()),
        ("insurance", !wanted.coverages.is_empty()),
    ];
    let missing = given.into_iter().filter(|(_, given)| !given);
    missing.map(|(name, _)| name.to_owned()).collect()
}

/// Before a registration: is the person there already?
pub(super) fn duplicates(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::CheckDuplicatesRequest,
) -> Answer<pb::CheckDuplicatesResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
        let patient = request.patient.ok_or_else(|| Error::missing("patient"))?;
        let id = patient.identifier.as_ref();
        let id = id
            .filter(|id| !id.value.is_empty())
            .map(|id| identifier(Some(id), "patient.identifier"))
            .transpose()?;
        let (outcome, found) = gateway
            .identity
            .duplicates(&permit, id.as_ref(), &patient)?;
        // Without an identifier the caller's domains are those of its community.
        let domain = patient.identifier.map(|id| id.assigning_authority);
        let domain = domain.filter(|domain| !domain.is_empty());
        let community = call.caller().participant.community.to_string();
        let own = |record: &pb::Patient| match (&domain, &record.identifier) {
            (Some(domain), Some(id)) => id.assigning_authority == *domain,
            _ => record.home_community_id == community,
        };
        let before = found.len();
        let found = shown(&gateway, &call, found)?;
        // What is foreseen must not tell of somebody hidden.
        let outcome = match found.len() == before {
            true => outcome,
            false => pb::FeedOutcome::NewPerson,
        };
        let found = under_own_ids(&gateway, &call, found)?;
        call.note(|record| record.items = count(found.len()));
        let (same_domain, elsewhere) = found.into_iter().partition(|one| {
            let records = one.person.iter().flat_map(|person| &person.records);
            records.into_iter().any(own)
        });
        Ok(pb::CheckDuplicatesResponse {
            same_domain,
            elsewhere,
            expected_outcome: outcome.into(),
        })
    })
}

pub(super) fn get(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetPatientRequest,
) -> Answer<pb::GetPatientResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::SearchPatients)?;
        permit.require(&[Action::SearchPatients])?;
        use pb::get_patient_request::Subject;
        let subject = request.subject.as_ref();
        let (linkage, record) = match subject.ok_or_else(|| Error::missing("subject"))? {
            Subject::Identifier(id) => {
                let id = identifier(Some(id), "identifier")?;
                let tag = gateway.store.keys().patient_tag(&id);
                call.note(|record| record.patient = Some(tag.to_vec()));
                let linkage = gateway.identity.linkage(&id);
                let linkage = linkage.ok_or_else(|| missed(&gateway, &call, unknown()))?;
                (linkage, gateway.identity.stored(&id)?)
            }
            Subject::LinkageId(id) => (linkage_id(&gateway, &call, id)?, None),
        };
        let person = gateway.identity.person(linkage)?;
        let person = person.ok_or_else(|| missed(&gateway, &call, unknown()))?;
        let ids = gateway.identity.known_as(linkage);
        if !findable(&gateway, &call, Action::SearchPatients, &ids)? {
            return Err(missed(&gateway, &call, unknown()));
        }
        show_one(&gateway, &call, linkage, &ids)?;
        call.note(|record| record.items = count(person.records.len()));
        let community = &call.caller().participant.community;
        Ok(pb::GetPatientResponse {
            person: Some(gateway.identity.shown(person, community)?),
            record,
        })
    })
}

/// Who was linked to whom on any day, by whom, and why.
pub(super) fn history(
    gateway: Arc<Gateway>,
    call: Arc<Call>,
    request: pb::GetPersonHistoryRequest,
) -> Answer<pb::GetPersonHistoryResponse> {
    Box::pin(async move {
        gateway.serves(Capability::Identity)?;
        let permit = gateway.guard.authorize(&call, Action::Steward)?;
        permit.require(&[Action::Steward])?;
        use pb::get_person_history_request::Subject;
        let community = &call.caller().participant.community;
        let subject = request.subject.as_ref();
        let (tag, linkage) = match subject.ok_or_else(|| Error::missing("subject"))? {
            Subject::Identifier(id) => {
                let id = identifier(Some(id), "identifier")?;
                super::changes::steward_of(&gateway, &call, &[&id])?;
                let tag = gateway.store.keys().patient_tag(&id);
                call.note(|record| record.patient = Some(tag.to_vec()));
                (Some(tag), None)
            }
            Subject::LinkageId(id) => {
                let linkage = gateway.identity.named(id, community)?;
                let known = gateway.identity.known_as(gateway.identity.living(linkage)?);
                super::changes::steward_of(&gateway, &call, &known.iter().collect::<Vec<_>>())?;
                (None, Some(linkage))
            }
        };
        let as_of = request.as_of.as_ref().map(time).transpose()?;
        let mut told = gateway.identity.history(tag, linkage, as_of, community)?;
        let from = match request.page_token.as_str() {
            "" => 0,
            token => token.parse::<usize>().map_err(|_| {
                let message = "is not a token of this query";
                Error::field(Reason::InvalidToken, "page_token", message)
            })?,
        };
        let size = match request.page_size as usize {
            0 => MAX_EVENTS,
            size => size.min(MAX_EVENTS),
        };
        let total = told.events.len();
        let events: Vec<_> = told.events.drain(..).skip(from).take(size).collect();
        let next = from + events.len();
        call.note(|record| record.items = count(events.len()));
        Ok(pb::GetPersonHistoryResponse {
            events,
            identifiers: told.identifiers,
            next_page_token: match next < total {
                true => next.to_string(),
                false => String::new(),
            },
        })
    })
}

fn time(stamp: &prost_types::Timestamp) -> Result<jiff::Timestamp> {
    jiff::Timestamp::new(stamp.seconds, stamp.nanos)
        .map_err(|error| Error::field(Reason::InvalidField, "as_of", error.to_string()))
}
