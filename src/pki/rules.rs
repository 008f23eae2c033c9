//! The rules of [`super::judge()`], each a pure function over facts, profile and time.

use jiff::Timestamp;

use super::certificate::{Attribute, Certificate, DistinguishedName, is_unsafe, oid};
use super::certified::{Remark, Subject};
use super::hc_role;
use super::names::Name;
use super::profile::{HcRole, Lenience, Presence, Profile, Profiles};
use super::refusal::{Place, Refusal, Usage};
use super::signature::KeyKind;

/// Longest accepted subject attribute, in characters (RFC 5280 ub-name is 32,768; ours is smaller).
const LONGEST_ATTRIBUTE: usize = 256;

/// Version, serial number, algorithm identifiers (RFC 5280 §4.1).
pub(crate) fn form(certificate: &Certificate, depth: usize) -> Result<(), Refusal> {
    let place = Place::at(depth);
    if certificate.version != 3 {
        return Err(Refusal::Version {
            place,
            version: certificate.version,
        });
    }
    // 20 octets, and one more for the sign.
    let serial = certificate.serial.as_slice();
    let positive = serial.first().is_some_and(|octet| octet & 0x80 == 0)
        && serial.iter().any(|octet| *octet != 0);
    if !positive || serial.len() > 21 || (serial.len() == 21 && serial.first() != Some(&0)) {
        return Err(Refusal::SerialNumber { place });
    }
    if !certificate.algorithms_agree {
        return Err(Refusal::AlgorithmsDiffer { place });
    }
    Ok(())
}

/// Signature algorithm and key against the profile's lists: no SHA-1, no MD5, no small key.
pub(crate) fn algorithms(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
) -> Result<(), Refusal> {
    let (place, accepted) = (Place::at(depth), profiles.algorithms());
    let algorithm = &certificate.signature_algorithm.0;
    if !accepted.signatures.contains(algorithm) {
        return Err(Refusal::SignatureAlgorithm {
            place,
            algorithm: algorithm.clone(),
        });
    }
    let fits = match &certificate.key.kind {
        KeyKind::Rsa { bits, exponent_ok } => {
            *exponent_ok && (accepted.rsa_min_bits..=accepted.rsa_max_bits).contains(bits)
        }
        KeyKind::Ec { curve } => accepted.curves.contains(curve),
        KeyKind::Other { .. } => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Refusal::Key {
            place,
            key: certificate.key.text().into(),
        })
    }
}

/// A remark if the key is an RSA key below the advised size.
pub(crate) fn key_remark(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
) -> Option<Remark> {
    let advised = profiles.algorithms().rsa_advised_bits;
    match certificate.key.kind {
        KeyKind::Rsa { bits, .. } if bits < advised => Some(Remark::RsaBelowAdvised {
            place: Place::at(depth),
            bits,
            advised,
        }),
        _ => None,
    }
}

/// No extension twice, no unknown critical one (RFC 5280 §4.2).
pub(crate) fn extensions(certificate: &Certificate, depth: usize) -> Result<(), Refusal> {
    let place = Place::at(depth);
    if let Some(oid) = &certificate.extensions.duplicate {
        return Err(Refusal::DuplicateExtension {
            place,
            oid: oid.as_str().into(),
        });
    }
    match certificate.extensions.unknown_critical.first() {
        Some(oid) => Err(Refusal::UnknownCriticalExtension {
            place,
            oid: oid.as_str().into(),
        }),
        None => Ok(()),
    }
}

/// The extensions named by the profile are present and critical.
pub(crate) fn critical(
    certificate: &Certificate,
    depth: usize,
    wanted: &[Box<str>],
) -> Result<(), Refusal> {
    let missing = wanted.iter().find(|name| {
        !certificate
            .extensions
            .critical
            .iter()
            .any(|found| *found == &***name)
    });
    match missing {
        Some(name) => Err(Refusal::NotCritical {
            place: Place::at(depth),
            extension: name.clone(),
        }),
        None => Ok(()),
    }
}

/// notBefore ≤ now ≤ notAfter, both inclusive, to the second.
pub(crate) fn validity(
    certificate: &Certificate,
    depth: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let place = Place::at(depth);
    if now.as_second() < certificate.not_before.as_second() {
        return Err(Refusal::NotYetValid {
            place,
            not_before: certificate.not_before,
        });
    }
    if now.as_second() > certificate.not_after.as_second() {
        return Err(Refusal::Expired {
            place,
            not_after: certificate.not_after,
        });
    }
    Ok(())
}

/// An end entity is no CA: basicConstraints absent or cA false, no keyCertSign.
pub(crate) fn end_entity(certificate: &Certificate) -> Result<(), Refusal> {
    let authority = certificate
        .extensions
        .basic_constraints
        .is_some_and(|(authority, _)| authority);
    if authority || certificate.extensions.has_key_usage("keyCertSign") {
        return Err(Refusal::AuthorityAsEndEntity);
    }
    Ok(())
}

/// A signing certificate (署名用) never authenticates (HPKI signing policy 1.91).
pub(crate) fn not_signing(certificate: &Certificate) -> Result<(), Refusal> {
    let extensions = &certificate.extensions;
    if extensions.has_key_usage("nonRepudiation") && !extensions.has_key_usage("digitalSignature") {
        return Err(Refusal::SigningCertificate);
    }
    Ok(())
}

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

/// What makes a certificate a CA: form, algorithms, extensions, cA, keyCertSign, criticality.
pub(crate) fn authority(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
) -> Result<(), Refusal> {
    form(certificate, depth)?;
    algorithms(certificate, depth, profiles)?;
    extensions(certificate, depth)?;
    let place = Place::at(depth);
    if !certificate
        .extensions
        .basic_constraints
        .is_some_and(|(authority, _)| authority)
    {
        return Err(Refusal::NotAuthority { place });
    }
    if !certificate.extensions.has_key_usage("keyCertSign") {
        return Err(Refusal::KeyCertSign { place });
    }
    profiles
        .iter()
        .try_for_each(|profile| critical(certificate, depth, &profile.ca_critical))
}

/// pathLenConstraint of every CA of `path` (RFC 5280 §6.1.4 l, m); self-issued ones do not count.
pub(crate) fn path_lengths(path: &[&Certificate]) -> Result<(), Refusal> {
    for (depth, certificate) in path.iter().enumerate().skip(1) {
        let Some((_, Some(allowed))) = certificate.extensions.basic_constraints else {
            continue;
        };
        let below = path
            .iter()
            .take(depth)
            .skip(1)
            .filter(|ca| !ca.is_self_issued())
            .count();
        if u32::try_from(below).unwrap_or(u32::MAX) > allowed {
            return Err(Refusal::PathLength {
                place: Place::at(depth),
                allowed,
                found: below,
            });
        }
    }
    Ok(())
}

/// Name constraints of every CA of `path` against everything below it.
pub(crate) fn name_constraints(path: &[&Certificate]) -> Result<(), Refusal> {
    for (depth, authority) in path.iter().enumerate().skip(1) {
        let Some(constraints) = &authority.extensions.name_constraints else {
            continue;
        };
        for (below, certificate) in path.iter().take(depth).enumerate() {
            if below > 0 && certificate.is_self_issued() {
                continue;
            }
            if let Some(name) = constraints.violated_by(certificate) {
                let (place, name) = (Place::at(depth), Name::text(&name).into());
                return Err(Refusal::NameConstraints { place, name });
            }
        }
    }
    Ok(())
}

/// Policy processing (RFC 5280 §6.1) with initial-explicit-policy, initial-any-policy-inhibit and
/// initial-policy-mapping-inhibit all true. Under these the valid policy tree is the intersection of
/// the policies of all certificates below the root, without those a CA maps away; policyConstraints
/// and inhibitAnyPolicy can tighten nothing further. The root, as trust anchor, is not looked at.
///
/// Returns the profile whose policy survives, and that policy.
pub(crate) fn policy<'p>(
    path: &[&Certificate],
    profiles: &'p Profiles,
    usage: Usage,
) -> Result<(&'p Profile, String), Refusal> {
    let mut surviving: Option<Vec<&String>> = None;
    let below_root = path.split_last().map_or(&[][..], |(_, below)| below);
    for (depth, certificate) in below_root.iter().enumerate().rev() {
        let place = Place::at(depth);
        let own = certificate.extensions.policies.as_ref();
        let own = own.ok_or(Refusal::PolicyMissing { place })?;
        let explicit: Vec<&String> = own
            .iter()
            .filter(|policy| *policy != oid::ANY_POLICY)
            .collect();
        if explicit.is_empty() {
            return Err(Refusal::AnyPolicy { place });
        }
        let mapped = &certificate.extensions.mapped_policies;
        let passes = |policy: &&String| {
            surviving
                .as_ref()
                .is_none_or(|above| above.contains(policy))
                && (depth == 0 || !mapped.contains(policy))
        };
        surviving = Some(explicit.into_iter().filter(passes).collect());
    }
    let accepted = surviving
        .unwrap_or_default()
        .into_iter()
        .find_map(|policy| {
            profiles
                .find(usage, policy)
                .map(|profile| (profile, policy.clone()))
        });
    accepted.ok_or_else(|| {
        let leaf = path
            .first()
            .and_then(|leaf| leaf.extensions.policies.as_ref());
        let found = leaf.map(|list| list.join(" ")).unwrap_or_default();
        Refusal::PolicyNotAccepted {
            usage,
            found: found.into(),
        }
    })
}

/// keyUsage holds every bit the profile requires and none it does not allow.
pub(crate) fn key_usage(certificate: &Certificate, profile: &Profile) -> Result<(), Refusal> {
    let found = certificate.extensions.key_usage.clone().unwrap_or_default();
    let required = profile
        .key_usage_required
        .iter()
        .all(|bit| found.contains(&&**bit));
    let allowed = found
        .iter()
        .all(|bit| profile.key_usage_allowed.iter().any(|ok| **ok == **bit));
    if required && allowed {
        return Ok(());
    }
    Err(Refusal::KeyUsage {
        found: if found.is_empty() {
            "(absent)".into()
        } else {
            found.join("+").into()
        },
        expected: profile.key_usage_required.join("+").into(),
    })
}

/// Extended key usage: one of the purposes the profile names; anyExtendedKeyUsage is none of them.
pub(crate) fn extended_key_usage(
    certificate: &Certificate,
    profile: &Profile,
    usage: Usage,
) -> Result<(), Refusal> {
    let Some(rule) = profile.extended_key_usage(usage) else {
        return Ok(());
    };
    let refused = |found: &str| Refusal::ExtendedKeyUsage {
        found: found.into(),
        usage,
    };
    match &certificate.extensions.extended_key_usage {
        None if rule.absent == Lenience::Accept => Ok(()),
        None => Err(refused("(absent)")),
        Some(found) => {
            let names: Vec<&str> = found.iter().map(|purpose| purpose_name(purpose)).collect();
            if rule
                .any_of
                .iter()
                .any(|purpose| names.contains(&&**purpose))
            {
                Ok(())
            } else {
                Err(refused(&names.join("+")))
            }
        }
    }
}

/// The usual name of an extended key usage, or its OID.
pub(crate) fn purpose_name(oid: &str) -> &str {
    match oid {
        "1.3.6.1.5.5.7.3.1" => "serverAuth",
        "1.3.6.1.5.5.7.3.2" => "clientAuth",
        "1.3.6.1.5.5.7.3.4" => "emailProtection",
        "2.5.29.37.0" => "anyExtendedKeyUsage",
        other => other,
    }
}

/// The roles of hcRole, by the profile's rule and the role table.
pub(crate) fn roles(
    certificate: &Certificate,
    profile: &Profile,
    profiles: &Profiles,
) -> Result<Vec<HcRole>, Refusal> {
    let names = match &certificate.extensions.directory_attributes {
        Some(value) => hc_role::decode(value, profiles.role_scheme())?,
        None => Vec::new(),
    };
    if names.is_empty() && profile.hc_role.absent == Lenience::Refuse {
        return Err(Refusal::HcRoleMissing);
    }
    let mut roles = Vec::new();
    for name in names {
        match profiles.role(&name) {
            Some(role) if profile.hc_role.kinds.contains(&role.kind()) => roles.push(role),
            Some(_) => return Err(Refusal::HcRoleKind { role: name.into() }),
            None if profile.hc_role.unknown == Lenience::Accept => {}
            None => return Err(Refusal::HcRoleUnknown { role: name.into() }),
        }
    }
    Ok(roles)
}

/// Validity no longer than the profile allows, and not reversed.
pub(crate) fn validity_length(certificate: &Certificate, profile: &Profile) -> Result<(), Refusal> {
    let seconds = certificate.not_after.as_second() - certificate.not_before.as_second();
    let (days, limit) = (seconds / 86_400, profile.max_validity_days);
    if seconds < 0 || days > limit {
        return Err(Refusal::ValidityTooLong { days, limit });
    }
    Ok(())
}

/// The institution code, where the profile requires one.
pub(crate) fn institution_code(subject: &Subject, profile: &Profile) -> Result<(), Refusal> {
    match (profile.institution_code, &subject.institution_code) {
        (Presence::Required, None) => Err(Refusal::InstitutionCodeMissing),
        _ => Ok(()),
    }
}
