//! The certificates and lists of the development PKI, by the profile.

use jiff::{SignedDuration, Timestamp};

use super::files::State;
use super::profile::DevProfile;
use super::template::{DevKey, Entry, ListTemplate, Template, extension, name};
use super::{Authority, DevError, IssueRequest, KeyAlgorithm, Kind, Variant};
use crate::pki::certificate::{is_unsafe, oid};
use crate::pki::{Profiles, der, hc_role, rules};

/// keyUsage bits.
const DIGITAL_SIGNATURE: u8 = 0;
const NON_REPUDIATION: u8 = 1;
const KEY_CERT_SIGN: u8 = 5;
const CRL_SIGN: u8 = 6;

/// reasonCode of every revocation here: cessationOfOperation, as HPKI lists mostly have it.
const CESSATION_OF_OPERATION: u8 = 5;

const DAY: i64 = 86_400;
const NINE_HOURS: i64 = 9 * 3_600;

fn at(second: i64) -> Result<Timestamp, DevError> {
    Timestamp::from_second(second).map_err(|_| DevError::Value {
        what: "validity",
        value: second.to_string().into(),
        why: "outside the calendar",
    })
}

/// The last midnight of Japan: HPKI certificates start then (15:00:00Z).
fn midnight(now: Timestamp) -> i64 {
    let local = now.as_second() + NINE_HOURS;
    local - local.rem_euclid(DAY) - NINE_HOURS
}

/// From the last midnight of Japan for `days` days, to 23:59:59 (14:59:59Z).
fn validity(now: Timestamp, days: i64) -> Result<(Timestamp, Timestamp), DevError> {
    let start = midnight(now);
    Ok((
        at(start)?,
        at(start.saturating_add(days.saturating_mul(DAY)) - 1)?,
    ))
}

/// Content octets of serial number `serial`.
fn serial_octets(serial: u64) -> Vec<u8> {
    let encoded = der::unsigned(&serial.to_be_bytes());
    encoded.get(2..).unwrap_or_default().to_vec()
}

/// The name of a CA: C, O, every OU, and CN if it has one.
fn authority_name(organisation: &str, units: &[String], common: Option<&str>) -> Vec<u8> {
    let mut attributes = vec![(oid::COUNTRY, "JP"), (oid::ORGANISATION, organisation)];
    attributes.extend(
        units
            .iter()
            .map(|unit| (oid::ORGANISATIONAL_UNIT, unit.as_str())),
    );
    attributes.extend(common.map(|common| (oid::COMMON_NAME, common)));
    name(attributes)
}

fn root_name(profile: &DevProfile, suffix: &str) -> Vec<u8> {
    let organisation = format!("{}{suffix}", profile.root.organisation);
    authority_name(&organisation, &profile.root.organisational_units, None)
}

/// The directoryName of a distribution point of the root: its name with a CN.
fn directory_point(profile: &DevProfile, common: &str) -> Vec<u8> {
    let units = &profile.root.organisational_units;
    extension::directory(&authority_name(
        &profile.root.organisation,
        units,
        Some(common),
    ))
}

/// The distribution point of the root's list for CAs.
fn arl_point(profile: &DevProfile) -> Vec<u8> {
    directory_point(profile, &profile.root.arl_name)
}

/// The self-signed root: two OUs and no CN, no policies, a Japanese directoryName.
pub(super) fn root(
    profile: &DevProfile,
    suffix: &str,
    now: Timestamp,
) -> Result<Authority, DevError> {
    let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
    let subject = root_name(profile, suffix);
    let japanese = name([
        (oid::COUNTRY, "JP"),
        (
            oid::ORGANISATION,
            profile.root.organisation_japanese.as_str(),
        ),
        (
            oid::ORGANISATIONAL_UNIT,
            profile.root.organisational_unit_japanese.as_str(),
        ),
    ]);
    let mut extensions = vec![
        extension::subject_key(&key.key_id()),
        extension::key_usage(&[KEY_CERT_SIGN, CRL_SIGN]),
        extension::authority(),
    ];
    extensions.extend(extension::alternative_names(Some(&japanese), &[], &[]));
    let own_points = [
        directory_point(profile, &profile.root.own_arl_name),
        extension::uri(&profile.root.own_arl_uri),
    ];
    extensions.push(extension::distribution_points(own_points));
    let (not_before, not_after) = validity(now, profile.root.validity_days)?;
    let template = Template {
        version: 2,
        serial: serial_octets(1),
        issuer: subject.clone(),
        subject: subject.clone(),
        not_before,
        not_after,
        spki: key.spki(),
        extensions,
        inner_algorithm: None,
        outer_algorithm: None,
    };
    let der = template.sign(&key)?;
    Ok(Authority {
        der,
        issuer: subject.clone(),
        subject,
        serial: template.serial,
        key,
    })
}

/// The issuing CA.
pub(super) fn issuing(
    profile: &DevProfile,
    suffix: &str,
    root: &Authority,
    now: Timestamp,
    serial: u64,
) -> Result<Authority, DevError> {
    let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
    let template = issuing_template(profile, suffix, root, &key, (now, serial))?;
    let der = template.sign(&root.key)?;
    let issuer = root.subject.clone();
    Ok(Authority {
        der,
        subject: template.subject,
        issuer,
        serial: template.serial,
        key,
    })
}

/// An issuing CA's certificate: critical policies with a cPSuri, the full authority key identifier,
/// two distribution points of which the first is a directoryName.
pub(super) fn issuing_template(
    profile: &DevProfile,
    suffix: &str,
    root: &Authority,
    key: &DevKey,
    (now, serial): (Timestamp, u64),
) -> Result<Template, DevError> {
    let own = &profile.issuing;
    let organisation = format!("{}{suffix}", own.organisation);
    let subject = authority_name(
        &organisation,
        &own.organisational_units,
        Some(&own.common_name),
    );
    let (not_before, not_after) = validity(now, own.validity_days)?;
    let points = [arl_point(profile), extension::uri(&profile.root.arl_uri)];
    Ok(Template {
        version: 2,
        serial: serial_octets(serial),
        issuer: root.subject.clone(),
        subject,
        not_before,
        not_after,
        spki: key.spki(),
        extensions: vec![
            extension::authority_key(&root.key.key_id(), &root.issuer, &root.serial),
            extension::subject_key(&key.key_id()),
            extension::key_usage(&[KEY_CERT_SIGN, CRL_SIGN]),
            extension::policies(own.policies.iter().map(String::as_str), &profile.cps),
            extension::authority(),
            extension::distribution_points(points),
        ],
        inner_algorithm: None,
        outer_algorithm: None,
    })
}

/// An end entity by `request`, in the order of extensions that HPKI certificates have.
pub(super) fn end_entity(
    profile: &DevProfile,
    issuing: &Authority,
    request: &IssueRequest,
    serial: u64,
    key: &DevKey,
    now: Timestamp,
) -> Result<Template, DevError> {
    check(request)?;
    let kind = profile.kind(request.kind);
    let days = request.validity_days.unwrap_or(kind.validity_days);
    let (not_before, not_after) = match request.variant {
        Variant::Expired => {
            let end = midnight(now);
            (at(end - 30 * DAY)?, at(end - 1)?)
        }
        _ => validity(now, days)?,
    };
    let number = format!("RD{serial:08}");
    Ok(Template {
        version: 2,
        serial: serial_octets(serial),
        issuer: issuing.subject.clone(),
        subject: subject(profile, request, &number),
        not_before,
        not_after,
        spki: key.spki(),
        extensions: end_entity_extensions(profile, issuing, request, &number, key)?,
        inner_algorithm: None,
        outer_algorithm: None,
    })
}

/// C, O, OU (code), OU (marker), CN, serialNumber.
fn subject(profile: &DevProfile, request: &IssueRequest, number: &str) -> Vec<u8> {
    let mut attributes = vec![(oid::COUNTRY, "JP")];
    let organisation = request.organisation.as_deref();
    attributes.extend(organisation.map(|value| (oid::ORGANISATION, value)));
    let code = request.institution_code.as_deref();
    attributes.extend(code.map(|value| (oid::ORGANISATIONAL_UNIT, value)));
    attributes.push((oid::ORGANISATIONAL_UNIT, &profile.marker));
    attributes.push((oid::COMMON_NAME, &request.common_name));
    attributes.push((oid::SERIAL_NUMBER, number));
    name(attributes)
}

/// The Japanese name, if there is anything Japanese to say.
fn japanese(request: &IssueRequest, number: &str) -> Option<Vec<u8>> {
    let organisation = request.organisation_japanese.as_deref();
    let common = request.common_name_japanese.as_deref();
    if organisation.is_none() && common.is_none() {
        return None;
    }
    let mut attributes = vec![(oid::COUNTRY, "JP")];
    attributes.extend(organisation.map(|value| (oid::ORGANISATION, value)));
    attributes.extend(common.map(|value| (oid::COMMON_NAME, value)));
    attributes.push((oid::SERIAL_NUMBER, number));
    Some(name(attributes))
}

fn end_entity_extensions(
    profile: &DevProfile,
    issuing: &Authority,
    request: &IssueRequest,
    number: &str,
    key: &DevKey,
) -> Result<Vec<super::template::Extension>, DevError> {
    let kind = profile.kind(request.kind);
    let (usage, policy) = match request.variant {
        Variant::SigningOnly => (NON_REPUDIATION, &profile.variant.signing_policy),
        Variant::WrongPolicy => (DIGITAL_SIGNATURE, &profile.variant.wrong_policy),
        Variant::Ok | Variant::Expired => (DIGITAL_SIGNATURE, &kind.policy),
    };
    let (issuer, serial) = (&issuing.issuer, &issuing.serial);
    let mut extensions = vec![
        extension::authority_key(&issuing.key.key_id(), issuer, serial),
        extension::subject_key(&key.key_id()),
        extension::key_usage(&[usage]),
    ];
    // A signing certificate has no extended key usage.
    if request.variant != Variant::SigningOnly && !kind.extended_key_usage.is_empty() {
        let purposes = kind.extended_key_usage.iter().map(String::as_str);
        extensions.push(extension::extended_key_usage(purposes));
    }
    let directory = japanese(request, number);
    extensions.extend(extension::alternative_names(
        directory.as_deref(),
        &request.dns_names,
        &request.ips,
    ));
    extensions.push(extension::distribution_points([extension::uri(
        &profile.issuing.crl_uri,
    )]));
    if let Some(role) = request.role.as_deref().or(kind.role.as_deref()) {
        let profiles =
            Profiles::test().map_err(|error| DevError::Profile(error.to_string().into()))?;
        let value = hc_role::encode([role], profiles.role_scheme());
        extensions.push(extension::directory_attributes(value));
    }
    extensions.push(extension::policies([policy.as_str()], &profile.cps));
    Ok(extensions)
}

/// Values that would make a certificate nobody can use, or that its string types cannot hold.
fn check(request: &IssueRequest) -> Result<(), DevError> {
    let refuse = |what, value: &str, why| {
        Err(DevError::Value {
            what,
            value: value.into(),
            why,
        })
    };
    if let Some(code) = &request.institution_code
        && !rules::is_institution_code(code)
    {
        return refuse("institution code", code, "it has ten digits");
    }
    let texts = [
        ("common name", Some(&request.common_name)),
        ("common name", request.common_name_japanese.as_ref()),
        ("organisation", request.organisation.as_ref()),
        ("organisation", request.organisation_japanese.as_ref()),
        ("role", request.role.as_ref()),
    ];
    for (what, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() || text.chars().count() > 128 || text.chars().any(is_unsafe) {
            return refuse(what, text, "1 to 128 visible characters");
        }
    }
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if let Some(dns) = request
        .dns_names
        .iter()
        .find(|dns| dns.is_empty() || !dns.chars().all(label))
    {
        return refuse("DNS name", dns, "letters, digits, '-' and '.' only");
    }
    let named = !request.dns_names.is_empty() || !request.ips.is_empty();
    if request.kind == Kind::Gateway && !named {
        return refuse(
            "gateway",
            &request.name,
            "it listens, so it needs a DNS name or address",
        );
    }
    if request
        .validity_days
        .is_some_and(|days| !(1..=36_500).contains(&days))
    {
        return refuse("validity", &request.name, "1 to 36500 days");
    }
    Ok(())
}

fn revoked_entry(serial: Vec<u8>, revoked_at: &str) -> Result<Entry, DevError> {
    let revoked_at = revoked_at.parse().map_err(|_| DevError::Value {
        what: "time of revocation",
        value: revoked_at.into(),
        why: "not a timestamp",
    })?;
    Ok(Entry {
        serial,
        revoked_at,
        reason: CESSATION_OF_OPERATION,
        extensions: Vec::new(),
    })
}

fn next_update(profile: &DevProfile, now: Timestamp) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_hours(profile.crl_hours))
        .ok()
}

/// The root's list for CAs, with the critical issuing distribution point.
pub(super) fn root_crl(
    profile: &DevProfile,
    root: &Authority,
    issuing: &Authority,
    state: &State,
    now: Timestamp,
) -> Result<ListTemplate, DevError> {
    let revoked = state.issuing_revoked_at.iter();
    let entries = revoked.map(|at| revoked_entry(issuing.serial.clone(), at));
    Ok(ListTemplate {
        issuer: root.subject.clone(),
        this_update: now,
        next_update: next_update(profile, now),
        entries: entries.collect::<Result<_, _>>()?,
        extensions: vec![
            extension::authority_key(&root.key.key_id(), &root.issuer, &root.serial),
            extension::crl_number(state.crl_number),
            extension::authorities_only(&arl_point(profile)),
        ],
        algorithm: None,
        unversioned: false,
        outer_algorithm: None,
    })
}

/// The issuing CA's list for end entities.
pub(super) fn issuing_crl(
    profile: &DevProfile,
    root: &Authority,
    issuing: &Authority,
    state: &State,
    now: Timestamp,
) -> Result<ListTemplate, DevError> {
    let entries = state.certificates.iter().filter_map(|record| {
        let revoked_at = record.revoked_at.as_ref()?;
        Some(revoked_entry(
            record.serial.to_be_bytes().to_vec(),
            revoked_at,
        ))
    });
    Ok(ListTemplate {
        issuer: issuing.subject.clone(),
        this_update: now,
        next_update: next_update(profile, now),
        entries: entries.collect::<Result<_, _>>()?,
        extensions: vec![
            extension::authority_key(&issuing.key.key_id(), &root.subject, &issuing.serial),
            extension::crl_number(state.crl_number),
        ],
        algorithm: None,
        unversioned: false,
        outer_algorithm: None,
    })
}
