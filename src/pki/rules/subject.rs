//! The rules of the subject.

use crate::pki::Refusal;
use crate::pki::certificate::{Attribute, Certificate, DistinguishedName, is_unsafe, oid};
use crate::pki::certified::Subject;

/// Longest accepted subject attribute, in characters (RFC 5280 ub-name is 32,768; ours is smaller).
const LONGEST_ATTRIBUTE: usize = 256;

/// Subject: readable text, single values once.
pub(crate) fn subject(certificate: &Certificate) -> Result<Subject, Refusal> {
    let name = &certificate.subject;
    for dn in [name]
        .into_iter()
        .chain(&certificate.extensions.directory_names)
    {
        if let Some(bad) = dn
            .attributes
            .iter()
            .find(|attribute| !is_readable(attribute))
        {
            return Err(Refusal::SubjectText {
                attribute: bad.oid.as_str().into(),
            });
        }
    }
    if certificate
        .extensions
        .dns_names()
        .any(|dns| dns.chars().any(is_unsafe))
    {
        return Err(Refusal::SubjectText {
            attribute: "subjectAltName".into(),
        });
    }
    let units: Vec<String> = name
        .values(oid::ORGANISATIONAL_UNIT)
        .map(str::to_owned)
        .collect();
    let mut codes = units.iter().filter(|unit| is_institution_code(unit));
    let institution_code = codes.next().cloned();
    if codes.next().is_some() {
        return Err(Refusal::SubjectAmbiguous {
            attribute: "institution code".into(),
        });
    }
    let japanese = certificate.extensions.directory_names.first();
    let from_japanese = |oid: &str| match japanese {
        Some(dn) => single(dn, oid),
        None => Ok(None),
    };
    single(name, oid::COUNTRY)?;
    Ok(Subject {
        organisation: single(name, oid::ORGANISATION)?,
        common_name: single(name, oid::COMMON_NAME)?,
        organisational_units: units,
        institution_code,
        serial_number: single(name, oid::SERIAL_NUMBER)?,
        organisation_japanese: from_japanese(oid::ORGANISATION)?,
        common_name_japanese: from_japanese(oid::COMMON_NAME)?,
        text: name.text(),
    })
}

fn is_readable(attribute: &Attribute) -> bool {
    attribute.value.as_ref().is_some_and(|value| {
        !value.chars().any(is_unsafe) && value.chars().count() <= LONGEST_ATTRIBUTE
    })
}

/// Ten digits: 医療機関コード with prefecture and score table.
pub(crate) fn is_institution_code(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn single(name: &DistinguishedName, oid: &str) -> Result<Option<String>, Refusal> {
    let mut values = name.values(oid);
    let first = values.next().map(str::to_owned);
    match values.next() {
        Some(_) => Err(Refusal::SubjectAmbiguous {
            attribute: oid.into(),
        }),
        None => Ok(first),
    }
}
