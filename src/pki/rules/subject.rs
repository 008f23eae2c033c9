//! The rules of the subject.

use crate::pki::certificate::{Attribute, Certificate, DistinguishedName, is_unsafe, oid};
use crate::pki::certified::Subject;
use crate::pki::refusal::refuse_if;
use crate::pki::{Place, Refusal};

/// Longest accepted subject attribute, in characters (RFC 5280 ub-name is 32,768; ours is smaller).
const LONGEST_ATTRIBUTE: usize = 256;

/// Every name of the subject is text that can be shown and compared.
pub(crate) fn readable(certificate: &Certificate, depth: usize) -> Result<(), Refusal> {
    let place = Place::at(depth);
    let names = [&certificate.subject].into_iter();
    let mut attributes = names
        .chain(&certificate.extensions.directory_names)
        .flat_map(|name| &name.attributes);
    let unreadable = attributes.find(|attribute| !is_readable(attribute));
    let in_dns = certificate
        .extensions
        .dns_names()
        .any(|dns| dns.chars().any(is_unsafe));
    refuse_if(unreadable.is_some() || in_dns, place, || {
        Refusal::SubjectText {
            place,
            attribute: unreadable.map_or("subjectAltName", |bad| &bad.oid).into(),
        }
    })
}

/// The subject: readable text, single values once, one Japanese name of the same subscriber.
pub(crate) fn subject(certificate: &Certificate) -> Result<Subject, Refusal> {
    readable(certificate, 0)?;
    let name = &certificate.subject;
    let units: Vec<String> = name
        .values(oid::ORGANISATIONAL_UNIT)
        .map(str::to_owned)
        .collect();
    let mut codes = units.iter().filter(|unit| is_institution_code(unit));
    let institution_code = codes.next().cloned();
    once(codes.next().is_none(), "institution code")?;
    let directory = &certificate.extensions.directory_names;
    once(directory.len() < 2, "subjectAltName")?;
    let japanese = directory.first();
    let from_japanese = |oid: &str| match japanese {
        Some(dn) => single(dn, oid),
        None => Ok(None),
    };
    single(name, oid::COUNTRY)?;
    let serial_number = single(name, oid::SERIAL_NUMBER)?;
    let in_japanese = from_japanese(oid::SERIAL_NUMBER)?;
    let same = in_japanese.is_none() || in_japanese == serial_number;
    once(same, "serialNumber of subjectAltName")?;
    Ok(Subject {
        organisation: single(name, oid::ORGANISATION)?,
        common_name: single(name, oid::COMMON_NAME)?,
        organisational_units: units,
        institution_code,
        serial_number,
        organisation_japanese: from_japanese(oid::ORGANISATION)?,
        common_name_japanese: from_japanese(oid::COMMON_NAME)?,
        text: name.text(),
    })
}

fn once(kept: bool, attribute: &str) -> Result<(), Refusal> {
    refuse_if(!kept, Place::EndEntity, || Refusal::SubjectAmbiguous {
        attribute: attribute.into(),
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
    once(values.next().is_none(), oid)?;
    Ok(first)
}
