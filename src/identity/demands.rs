//! What a search demands of a person beyond what ranking weighs. In a demographics query all that is
//! given must hold (ITI-21, ITI-47, ITI-78); ranking alone would let a rare surname make up for another
//! birth date.

use crate::error::{Error, Reason, Result};
use crate::types::{AssigningAuthority, PartialDate, PatientIdentifier};
use crate::wire::pb::identity as pb;

use super::compare::Traits;
use super::traits::{identifier, traits};

/// What must hold of every person that is told.
pub struct Demands {
    names: Names,
    identifiers: Vec<PatientIdentifier>,
    domains: Vec<AssigningAuthority>,
    born_from: Option<PartialDate>,
    born_to: Option<PartialDate>,
}

/// How names must agree.
enum Names {
    /// None was given, or what is similar will do: ranking has weighed it.
    Ranked,
    /// Begin so, in any script, small differences of writing folded.
    Begin(Box<Traits>),
    /// Be written so: family, given, whole.
    Written([String; 3]),
}

impl Demands {
    /// Reads them.
    ///
    /// # Errors
    /// Malformed identifiers, domains and dates, each by its field; [`Reason::NotImplemented`] for what
    /// is not kept here, since leaving it out would find others than were asked for.
    pub fn of(request: &pb::SearchPatientsRequest) -> Result<Self> {
        let criteria = request.criteria.as_ref();
        let criteria = criteria.ok_or_else(|| Error::missing("criteria"))?;
        if !criteria.mother_maiden_name.is_empty() {
            let message = "is not kept here: search without it";
            let field = "criteria.mother_maiden_name";
            return Err(Error::field(Reason::NotImplemented, field, message));
        }
        if request.include_inactive {
            let message =
                "records merged away or withdrawn are not searched; ask for them by identifier";
            return Err(Error::field(
                Reason::NotImplemented,
                "include_inactive",
                message,
            ));
        }
        let ids = criteria.identifiers.iter();
        let identifiers = ids.map(|id| identifier(Some(id), "criteria.identifiers"));
        Ok(Self {
            names: names(criteria)?,
            identifiers: identifiers.collect::<Result<_>>()?,
            domains: domains(&request.return_domains)?,
            born_from: date(&criteria.birth_date_from, "criteria.birth_date_from")?,
            born_to: date(&criteria.birth_date_to, "criteria.birth_date_to")?,
        })
    }

    /// The identifiers asked for.
    pub fn identifiers(&self) -> &[PatientIdentifier] {
        &self.identifiers
    }

    /// The domains of which an identifier is wanted.
    pub fn domains(&self) -> &[AssigningAuthority] {
        &self.domains
    }

    /// Whether names may be in nobody's keys because only their beginning was given.
    pub fn begin(&self) -> bool {
        matches!(self.names, Names::Begin(_))
    }

    /// Whether all of it holds of a person: each identifier is one of theirs, some record has the name,
    /// some record was born in time.
    pub fn met_by(&self, person: &pb::Person) -> bool {
        let records = || person.records.iter();
        let known: Vec<PatientIdentifier> = records()
            .filter_map(|record| identifier(record.identifier.as_ref(), "identifier").ok())
            .collect();
        let details = || records().filter_map(|record| record.demographics.as_ref());
        let domain = |wanted: &AssigningAuthority| known.iter().any(|id| id.authority == *wanted);
        self.identifiers.iter().all(|id| known.contains(id))
            && (self.domains.is_empty() || self.domains.iter().any(domain))
            && details().any(|one| self.named(one))
            && details().any(|one| self.born(one))
    }

    fn named(&self, known: &pb::Demographics) -> bool {
        match &self.names {
            Names::Ranked => true,
            Names::Begin(wanted) => begins(wanted, &traits(known)),
            Names::Written([family, given, whole]) => known.names.iter().any(|name| {
                let same = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
                let joined = [name.family.as_str(), &name.given.concat()].concat();
                same(family, &name.family)
                    && same(given, &name.given.concat())
                    && (same(whole, &name.text) || *whole == joined)
            }),
        }
    }

    fn born(&self, known: &pb::Demographics) -> bool {
        if self.born_from.is_none() && self.born_to.is_none() {
            return true;
        }
        let Ok(born) = known.birth_date.parse::<PartialDate>() else {
            return false;
        };
        // A date known in part may have been in time.
        self.born_from
            .is_none_or(|from| born.last() >= from.first())
            && self.born_to.is_none_or(|to| born.first() <= to.last())
    }
}

fn names(criteria: &pb::PatientCriteria) -> Result<Names> {
    let pb::PatientCriteria {
        family,
        given,
        name_text,
        ..
    } = criteria;
    let how = pb::TextMatch::try_from(criteria.name_match).map_err(|_| {
        let field = "criteria.name_match";
        Error::field(Reason::InvalidField, field, "is not a way to compare")
    })?;
    if family.is_empty() && given.is_empty() && name_text.is_empty() {
        return Ok(Names::Ranked);
    }
    Ok(match how {
        pb::TextMatch::Similar => Names::Ranked,
        pb::TextMatch::Exact => Names::Written([family.clone(), given.clone(), name_text.clone()]),
        pb::TextMatch::Unspecified | pb::TextMatch::StartsWith => {
            let name = pb::PersonName {
                family: family.clone(),
                given: Some(given.clone())
                    .into_iter()
                    .filter(|one| !one.is_empty())
                    .collect(),
                text: name_text.clone(),
                ..pb::PersonName::default()
            };
            Names::Begin(Box::new(traits(&pb::Demographics {
                names: vec![name],
                ..pb::Demographics::default()
            })))
        }
    })
}

/// Whether each name that is wanted is the beginning of a known one in its script. A name in one piece
/// may be split on one side only.
fn begins(wanted: &Traits, known: &Traits) -> bool {
    wanted.names().all(|(script, name)| {
        known.names().any(|(other, has)| {
            script == other
                && (has.family.starts_with(&*name.family) && has.given.starts_with(&*name.given)
                    || has.joined().starts_with(&name.joined()))
        })
    })
}

fn date(text: &str, field: &'static str) -> Result<Option<PartialDate>> {
    let wrong = |error: crate::types::InvalidDate| {
        Error::field(Reason::InvalidField, field, error.to_string())
    };
    (!text.is_empty())
        .then(|| text.parse().map_err(wrong))
        .transpose()
}

fn domains(domains: &[String]) -> Result<Vec<AssigningAuthority>> {
    let one = |(place, domain): (usize, &String)| {
        domain.parse().map_err(|error: crate::types::InvalidId| {
            let field = format!("return_domains[{place}]");
            Error::field(Reason::InvalidOid, field, error.to_string())
        })
    };
    domains.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;

    fn person() -> pb::Person {
        let name = |family: &str, given: &str| pb::PersonName {
            family: family.into(),
            given: vec![given.into()],
            ..Default::default()
        };
        pb::Person {
            records: vec![pb::Patient {
                identifier: Some(cpb::Identifier {
                    assigning_authority: "1.2.3".into(),
                    value: "7".into(),
                    ..Default::default()
                }),
                demographics: Some(pb::Demographics {
                    names: vec![name("髙橋", "花子"), name("タカハシ", "ハナコ")],
                    birth_date: "1950-02".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn met(change: impl FnOnce(&mut pb::PatientCriteria)) -> bool {
        let mut criteria = pb::PatientCriteria::default();
        change(&mut criteria);
        let request = pb::SearchPatientsRequest {
            criteria: Some(criteria),
            ..Default::default()
        };
        Demands::of(&request).unwrap().met_by(&person())
    }

    #[test]
    fn names_begin_as_folded_or_are_as_written() {
        let by = |family: &str, given: &str, how: pb::TextMatch| {
            met(|criteria| {
                criteria.family = family.into();
                criteria.given = given.into();
                criteria.name_match = how.into();
            })
        };
        use pb::TextMatch as M;
        assert!(by("高橋", "花", M::Unspecified));
        assert!(by("髙", "", M::StartsWith));
        assert!(by("ﾀｶﾊ", "", M::StartsWith));
        assert!(!by("橋", "", M::StartsWith));
        assert!(!by("高橋", "京", M::StartsWith));
        assert!(by("髙橋", "花子", M::Exact));
        assert!(!by("高橋", "花子", M::Exact));
        assert!(by("高梁", "花子", M::Similar), "ranking has weighed it");
        let whole = |text: &str, how: M| {
            met(|criteria| {
                criteria.name_text = text.into();
                criteria.name_match = how.into();
            })
        };
        assert!(whole("髙橋花", M::StartsWith) && whole("髙橋花子", M::Exact));
        assert!(!whole("髙橋花", M::Exact));
    }

    #[test]
    fn a_date_known_in_part_may_lie_within() {
        let born = |from: &str, to: &str| {
            met(|criteria| {
                criteria.birth_date_from = from.into();
                criteria.birth_date_to = to.into();
            })
        };
        assert!(born("1950-02-28", "") && born("", "1950-02-01") && born("1950", "1950"));
        assert!(!born("1950-03-01", "") && !born("", "1950-01-31") && !born("1951", ""));
    }

    #[test]
    fn every_identifier_and_some_domain_must_be_theirs() {
        let id = |value: &str| cpb::Identifier {
            assigning_authority: "1.2.3".into(),
            value: value.into(),
            ..Default::default()
        };
        assert!(met(|criteria| criteria.identifiers = vec![id("7")]));
        assert!(!met(
            |criteria| criteria.identifiers = vec![id("7"), id("8")]
        ));
        let within = |domains: &[&str]| {
            let request = pb::SearchPatientsRequest {
                criteria: Some(pb::PatientCriteria::default()),
                return_domains: domains.iter().map(|one| (*one).to_owned()).collect(),
                ..Default::default()
            };
            Demands::of(&request).unwrap().met_by(&person())
        };
        assert!(within(&[]) && within(&["1.2.9", "1.2.3"]) && !within(&["1.2.9"]));
    }

    #[test]
    fn what_is_not_kept_is_refused_and_not_left_out() {
        let refused = |request: &pb::SearchPatientsRequest| {
            let error = Demands::of(request).err().unwrap();
            (error.reason(), error.wrong_field().map(str::to_owned))
        };
        let with = |criteria| pb::SearchPatientsRequest {
            criteria: Some(criteria),
            ..Default::default()
        };
        let maiden = with(pb::PatientCriteria {
            mother_maiden_name: "山田".into(),
            ..Default::default()
        });
        let field = Some("criteria.mother_maiden_name".to_owned());
        assert_eq!(refused(&maiden), (Reason::NotImplemented, field));
        let inactive = pb::SearchPatientsRequest {
            include_inactive: true,
            ..with(pb::PatientCriteria::default())
        };
        assert_eq!(refused(&inactive).0, Reason::NotImplemented);
        for bad in [
            pb::PatientCriteria {
                birth_date_from: "yesterday".into(),
                ..Default::default()
            },
            pb::PatientCriteria {
                name_match: 99,
                ..Default::default()
            },
        ] {
            assert_eq!(refused(&with(bad)).0, Reason::InvalidField);
        }
    }
}
