//! A consent's terms, read into what is evaluated. What cannot be honoured is refused, never ignored:
//! a wish that is half understood is a wish misunderstood.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::access::{Classes, DataClass, Days, Directive, Discloser, Grantee, Stance};
use crate::error::{Error, Reason, Result};
use crate::types::{Confidentiality, PartialDate, PurposeOfUse};
use crate::wire::pb::common as cpb;
use crate::wire::pb::consent as pb;

/// Parties, codes or classes in one consent at most: it is evaluated with every call.
const MAX_PARTS: usize = 500;

/// Days are those of Japan.
const JAPAN: jiff::tz::Offset = jiff::tz::Offset::constant(9);

/// Reads a consent that is to be recorded: its model must be stated too, and fit what it says.
///
/// # Errors
/// As [`directive`]; a class that no document is ever found to have, since a refusal of it would
/// refuse nothing.
pub(super) fn acceptable(consent: &pb::Consent) -> Result<Directive> {
    let directive = directive(consent)?;
    model(consent, directive.stance)?;
    let mut classes = directive.classes.iter();
    match classes.find(|class| !class.is_of_documents()) {
        None => Ok(directive),
        Some(class) => Err(invalid(
            "data_classes",
            format!(
                "has {}, which documents are not told apart by; name their kinds in document_codes",
                class.name()
            ),
        )),
    }
}

/// Reads a consent.
///
/// # Errors
/// The field that is missing, malformed, or says what cannot be honoured.
pub(super) fn directive(consent: &pb::Consent) -> Result<Directive> {
    let stance = match consent.effect() {
        pb::ConsentEffect::Permit => Stance::Permit,
        pb::ConsentEffect::Deny => Stance::Deny,
        pb::ConsentEffect::Unspecified => return Err(Error::missing("consent.effect")),
    };
    bounds(consent)?;
    let permits = stance == Stance::Permit;
    if !permits && consent.confidentiality_ceiling != 0 {
        let field = "consent.confidentiality_ceiling";
        let message = "bounds a permit; a refusal covers every level";
        return Err(Error::field(Reason::InvalidField, field, message));
    }
    let until = time(consent.valid_to.as_ref(), "valid_to")?;
    let until = match (permits, of_age(consent)?) {
        (true, Some(day)) => Some(until.map_or(day, |until| until.min(day))),
        _ => until,
    };
    let implied = consent.model() == pb::ConsentModel::Implied;
    Ok(Directive {
        stance,
        grantees: parties(&consent.grantees, "grantees")?,
        excepted: parties(&consent.excepted_grantees, "excepted_grantees")?,
        disclosers: disclosers(consent)?,
        codes: codes(consent)?,
        classes: classes(consent)?,
        ceiling: ceiling(consent)?,
        purposes: purposes(consent)?,
        within: match implied && permits {
            true if consent.home_community_id.is_empty() => {
                return Err(Error::missing("consent.home_community_id"));
            }
            true => Some(parse(&consent.home_community_id, "home_community_id")?),
            false => None,
        },
        days: days(consent.data_period.as_ref())?,
        from: time(consent.valid_from.as_ref(), "valid_from")?,
        until,
        emergency: match stance {
            Stance::Permit => consent.emergency_preconsent == Some(true),
            Stance::Deny => consent.emergency_preconsent == Some(false),
        },
    })
}

/// When a guardian's permit ends: on the day from which the patient decides alone. What a guardian
/// refused stays refused until the patient says otherwise.
pub(super) fn of_age(consent: &pb::Consent) -> Result<Option<Timestamp>> {
    let Some(proxy) = &consent.proxy else {
        return Ok(None);
    };
    if proxy.name.trim().is_empty() {
        return Err(Error::missing("consent.proxy.name"));
    }
    let related = proxy.relationship.as_ref();
    if related.is_none_or(|relationship| relationship.code.is_empty()) {
        return Err(Error::missing("consent.proxy.relationship"));
    }
    if proxy.ends_on.is_empty() {
        return Ok(None);
    }
    let field = "proxy.ends_on";
    let day: Date = parse(&proxy.ends_on, field)?;
    let midnight = day.to_datetime(jiff::civil::Time::midnight());
    let instant = JAPAN.to_timestamp(midnight);
    instant
        .map(Some)
        .map_err(|error| invalid(field, error.to_string()))
}

fn invalid(field: &str, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::field(Reason::InvalidField, format!("consent.{field}"), message)
}

fn parse<T>(text: &str, field: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| invalid(field, error.to_string()))
}

fn bounds(consent: &pb::Consent) -> Result<()> {
    let parts = [
        ("grantees", consent.grantees.len()),
        ("excepted_grantees", consent.excepted_grantees.len()),
        ("disclosers", consent.disclosers.len()),
        ("data_classes", consent.data_classes.len()),
        ("document_codes", consent.document_codes.len()),
        ("purposes", consent.purposes.len()),
    ];
    match parts.into_iter().find(|(_, length)| *length > MAX_PARTS) {
        Some((field, _)) => Err(invalid(field, format!("has more than {MAX_PARTS} entries"))),
        None => Ok(()),
    }
}

/// How it was asked for must fit what it says: a permit by list that names nobody would be one for
/// everybody.
fn model(consent: &pb::Consent, stance: Stance) -> Result<()> {
    use pb::ConsentModel as M;
    let permits = stance == Stance::Permit;
    let each = |part: fn(&pb::Party) -> bool| {
        !consent.grantees.is_empty() && consent.grantees.iter().all(part)
    };
    match consent.model() {
        M::Unspecified => Err(Error::missing("consent.model")),
        M::InstitutionList | M::PerInstitution
            if permits && !each(|party| !party.institution_id.is_empty()) =>
        {
            Err(invalid(
                "grantees",
                "must name an institution each, by this model",
            ))
        }
        M::PerPerson if permits && !each(|party| !party.person_subject.is_empty()) => Err(invalid(
            "grantees",
            "must name a person each, by this model",
        )),
        M::Community | M::InstitutionList | M::PerInstitution | M::PerPerson | M::Implied => Ok(()),
    }
}

fn parties(parties: &[pb::Party], field: &str) -> Result<Vec<Grantee>> {
    parties.iter().map(|party| grantee(party, field)).collect()
}

fn grantee(party: &pb::Party, field: &str) -> Result<Grantee> {
    fn given<T>(text: &str, field: &str) -> Result<Option<T>>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        (!text.is_empty()).then(|| parse(text, field)).transpose()
    }
    let institution = given(&party.institution_id, field)?;
    let person = (!party.person_subject.is_empty()).then(|| party.person_subject.clone());
    if person.is_some() && institution.is_none() {
        let message = "a person is one of an institution, which must be named too";
        return Err(invalid(field, message));
    }
    Ok(Grantee {
        community: given(&party.home_community_id, field)?,
        institution,
        person,
        role: given(&party.role, field)?,
    })
}

fn disclosers(consent: &pb::Consent) -> Result<Vec<Discloser>> {
    let field = "disclosers";
    let one = |party: &pb::Party| {
        if !party.person_subject.is_empty() || !party.role.is_empty() {
            return Err(invalid(
                field,
                "a discloser is a community or an institution",
            ));
        }
        match (&*party.institution_id, &*party.home_community_id) {
            ("", "") => Err(invalid(field, "names nobody")),
            ("", home) => Ok(Discloser::Community(parse(home, field)?)),
            (code, _) => Ok(Discloser::Institution(parse(code, field)?)),
        }
    };
    consent.disclosers.iter().map(one).collect()
}

fn codes(consent: &pb::Consent) -> Result<Vec<String>> {
    let one = |code: &cpb::CodedValue| match code.code.is_empty() {
        true => Err(invalid("document_codes", "has an entry without a code")),
        false => Ok(code.code.clone()),
    };
    consent.document_codes.iter().map(one).collect()
}

fn classes(consent: &pb::Consent) -> Result<Classes> {
    let one = |class: &i32| {
        let known = pb::DataClass::try_from(*class).ok().and_then(data_class);
        known.ok_or_else(|| invalid("data_classes", "has a class that is not known"))
    };
    consent.data_classes.iter().map(one).collect()
}

/// A data class from its message.
pub(super) fn data_class(class: pb::DataClass) -> Option<DataClass> {
    use DataClass as D;
    use pb::DataClass as P;
    Some(match class {
        P::Unspecified => return None,
        P::Demographics => D::Demographics,
        P::Notes => D::Notes,
        P::Medication => D::Medication,
        P::Allergy => D::Allergy,
        P::Problem => D::Problem,
        P::Result => D::Result,
        P::Imaging => D::Imaging,
        P::Procedure => D::Procedure,
        P::Checkup => D::Checkup,
        P::Care => D::Care,
        P::EmergencySummary => D::EmergencySummary,
        P::Psychiatry => D::Psychiatry,
        P::SexualHealth => D::SexualHealth,
        P::Genetics => D::Genetics,
        P::Perinatal => D::Perinatal,
        P::Abuse => D::Abuse,
    })
}

fn ceiling(consent: &pb::Consent) -> Result<Confidentiality> {
    let known = cpb::Confidentiality::try_from(consent.confidentiality_ceiling);
    match known {
        Err(_) => Err(invalid("confidentiality_ceiling", "is not a level")),
        Ok(cpb::Confidentiality::Restricted) => Ok(Confidentiality::Restricted),
        Ok(cpb::Confidentiality::VeryRestricted) => Ok(Confidentiality::VeryRestricted),
        Ok(_) => Ok(Confidentiality::Normal),
    }
}

fn purposes(consent: &pb::Consent) -> Result<Vec<PurposeOfUse>> {
    let one = |purpose: &i32| {
        let known = cpb::PurposeOfUse::try_from(*purpose).ok();
        known
            .and_then(crate::wire::purpose_of_use)
            .ok_or_else(|| invalid("purposes", "has a purpose that is not known"))
    };
    consent.purposes.iter().map(one).collect()
}

/// A bound of validity. One that cannot be read would mean "for ever", so it is refused.
fn time(time: Option<&prost_types::Timestamp>, field: &str) -> Result<Option<Timestamp>> {
    let Some(time) = time else { return Ok(None) };
    let read = crate::wire::from_timestamp(time);
    read.map(Some)
        .ok_or_else(|| invalid(field, "is not a time"))
}

fn days(period: Option<&cpb::Period>) -> Result<Option<Days>> {
    let Some(period) = period else {
        return Ok(None);
    };
    let bound = |text: &str, last: bool| -> Result<Option<Date>> {
        if text.is_empty() {
            return Ok(None);
        }
        let day: PartialDate = parse(text.get(..10).unwrap_or(text), "data_period")?;
        let month = day.month().unwrap_or(if last { 12 } else { 1 });
        let whole = match day.to_date() {
            Some(date) => Ok(date),
            None => Date::new(day.year(), month, 1)
                .map(|first| if last { first.last_of_month() } else { first }),
        };
        whole
            .map(Some)
            .map_err(|error| invalid("data_period", error.to_string()))
    };
    let (first, last) = (bound(&period.start, false)?, bound(&period.end, true)?);
    match (first, last) {
        (None, None) => Err(invalid("data_period", "has no bound")),
        (Some(first), Some(last)) if last < first => {
            Err(invalid("data_period", "ends before it begins"))
        }
        _ => Ok(Some(Days { first, last })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit() -> pb::Consent {
        pb::Consent {
            effect: pb::ConsentEffect::Permit.into(),
            model: pb::ConsentModel::Community.into(),
            ..Default::default()
        }
    }

    fn deny() -> pb::Consent {
        pb::Consent {
            effect: pb::ConsentEffect::Deny.into(),
            ..permit()
        }
    }

    fn reason(consent: &pb::Consent) -> Reason {
        acceptable(consent).unwrap_err().reason()
    }

    #[test]
    fn what_is_not_said_or_not_understood_is_refused() {
        assert!(acceptable(&deny()).is_ok());
        assert_eq!(reason(&pb::Consent::default()), Reason::MissingField);
        let unmodelled = pb::Consent { model: 0, ..deny() };
        assert_eq!(reason(&unmodelled), Reason::MissingField);
        let wrong = [
            pb::Consent {
                data_classes: vec![99],
                ..deny()
            },
            pb::Consent {
                data_classes: vec![0],
                ..deny()
            },
            pb::Consent {
                data_classes: vec![pb::DataClass::Result.into(), pb::DataClass::Allergy.into()],
                ..deny()
            },
            pb::Consent {
                purposes: vec![0],
                ..deny()
            },
            pb::Consent {
                confidentiality_ceiling: 5,
                ..deny()
            },
            pb::Consent {
                confidentiality_ceiling: 77,
                ..permit()
            },
            pb::Consent {
                document_codes: vec![cpb::CodedValue::default()],
                ..deny()
            },
            pb::Consent {
                disclosers: vec![pb::Party::default()],
                ..deny()
            },
            pb::Consent {
                data_period: Some(cpb::Period::default()),
                ..permit()
            },
            pb::Consent {
                data_period: Some(cpb::Period {
                    start: "2025-02".into(),
                    end: "2025-01".into(),
                }),
                ..permit()
            },
            pb::Consent {
                grantees: vec![pb::Party {
                    person_subject: "D-1".into(),
                    ..Default::default()
                }],
                ..permit()
            },
            pb::Consent {
                grantees: vec![pb::Party {
                    role: "Wizard".into(),
                    ..Default::default()
                }],
                ..permit()
            },
        ];
        for (index, consent) in wrong.iter().enumerate() {
            assert_eq!(reason(consent), Reason::InvalidField, "case {index}");
        }
    }

    #[test]
    fn a_model_must_name_whom_it_is_for() {
        let with = |model: pb::ConsentModel, grantees| pb::Consent {
            model: model.into(),
            grantees,
            ..permit()
        };
        let institution = pb::Party {
            institution_id: "1310000001".into(),
            ..Default::default()
        };
        let person = pb::Party {
            person_subject: "D-1".into(),
            ..institution.clone()
        };
        use pb::ConsentModel as M;
        for model in [M::InstitutionList, M::PerInstitution, M::PerPerson] {
            assert_eq!(
                reason(&with(model, vec![])),
                Reason::InvalidField,
                "{model:?}"
            );
        }
        assert!(acceptable(&with(M::InstitutionList, vec![institution.clone()])).is_ok());
        assert_eq!(
            reason(&with(M::PerPerson, vec![institution])),
            Reason::InvalidField
        );
        assert!(acceptable(&with(M::PerPerson, vec![person])).is_ok());
        assert_eq!(reason(&with(M::Implied, vec![])), Reason::MissingField);
        let implied = pb::Consent {
            home_community_id: "urn:oid:1.2.3".into(),
            ..with(M::Implied, vec![])
        };
        assert!(acceptable(&implied).unwrap().within.is_some());
    }

    #[test]
    fn a_guardians_permit_ends_when_the_ward_is_of_age() {
        let mut consent = permit();
        consent.proxy = Some(pb::Proxy {
            name: "保護者".into(),
            relationship: Some(cpb::CodedValue {
                code: "MTH".into(),
                ..Default::default()
            }),
            legal_guardian: true,
            ends_on: "2026-04-02".into(),
        });
        let midnight: Timestamp = "2026-04-01T15:00:00Z".parse().unwrap();
        assert_eq!(directive(&consent).unwrap().until, Some(midnight));
        consent.valid_to = Some(crate::wire::timestamp(
            "2025-01-01T00:00:00Z".parse().unwrap(),
        ));
        assert!(acceptable(&consent).unwrap().until.unwrap() < midnight);
        // What was refused for the ward stays refused.
        let refusal = pb::Consent {
            effect: pb::ConsentEffect::Deny.into(),
            valid_to: None,
            ..consent.clone()
        };
        assert_eq!(directive(&refusal).unwrap().until, None);
        consent.proxy.as_mut().unwrap().relationship = None;
        assert_eq!(reason(&consent), Reason::MissingField);
    }

    #[test]
    fn periods_are_whole_days_with_both_ends() {
        let of = |start: &str, end: &str| {
            let period = cpb::Period {
                start: start.into(),
                end: end.into(),
            };
            let consent = pb::Consent {
                data_period: Some(period),
                ..permit()
            };
            let days = directive(&consent).unwrap().days.unwrap();
            let text = |day: Option<Date>| day.map(|day| day.to_string()).unwrap_or_default();
            (text(days.first), text(days.last))
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of("2024", "2024"), pair("2024-01-01", "2024-12-31"));
        assert_eq!(of("2024-02", ""), pair("2024-02-01", ""));
        assert_eq!(of("", "2024-02"), pair("", "2024-02-29"));
    }

    #[test]
    fn emergency_is_read_by_effect() {
        let emergency = |consent: pb::Consent, preconsent| {
            let consent = pb::Consent {
                emergency_preconsent: preconsent,
                ..consent
            };
            directive(&consent).unwrap().emergency
        };
        assert!(!emergency(deny(), None));
        assert!(emergency(deny(), Some(false)));
        assert!(emergency(permit(), Some(true)));
        assert!(!emergency(permit(), None));
    }
}
