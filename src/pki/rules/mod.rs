//! The rules of [`super::judge()`], each a pure function over facts, profile and time.

mod chain;
mod profile;
mod subject;

use jiff::Timestamp;

use super::certificate::Certificate;
use super::certified::Remark;
use super::profile::Profiles;
use super::refusal::{Place, Refusal, refuse_if};
use super::signature::KeyKind;

pub(crate) use chain::{authority_purposes, name_constraints, path_lengths, policy};
pub(crate) use profile::{
    extended_key_usage, institution_code, key_usage, purpose_name, roles, subject_complete,
    validity_length,
};
pub(crate) use subject::{is_institution_code, readable, subject};

/// Version, serial number, algorithm identifiers (RFC 5280 §4.1).
pub(crate) fn form(certificate: &Certificate, depth: usize) -> Result<(), Refusal> {
    let place = Place::at(depth);
    let version = certificate.version;
    refuse_if(version != 3, place, || Refusal::Version { place, version })?;
    // 20 octets, and one more for the sign.
    let serial = certificate.serial.as_slice();
    let positive = serial.first().is_some_and(|octet| octet & 0x80 == 0)
        && serial.iter().any(|octet| *octet != 0);
    let long = serial.len() > 21 || (serial.len() == 21 && serial.first() != Some(&0));
    refuse_if(!positive || long, place, || Refusal::SerialNumber { place })?;
    refuse_if(!certificate.algorithms_agree, place, || {
        Refusal::AlgorithmsDiffer { place }
    })
}

/// Signature algorithm and key against the profile's lists in force at `now`: no SHA-1, no MD5, no
/// small key.
pub(crate) fn algorithms(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (place, accepted) = (Place::at(depth), profiles.algorithms().at(now));
    let algorithm = &certificate.signature_algorithm.0;
    let listed = accepted.signatures.contains(algorithm);
    refuse_if(!listed, place, || Refusal::SignatureAlgorithm {
        place,
        algorithm: algorithm.clone(),
    })?;
    let fits = match &certificate.key.kind {
        KeyKind::Rsa { bits, exponent_ok } => {
            *exponent_ok && (accepted.rsa_min_bits..=accepted.rsa_max_bits).contains(bits)
        }
        KeyKind::Ec { curve } => accepted.curves.contains(curve),
        KeyKind::Other { .. } => false,
    };
    refuse_if(!fits, place, || Refusal::Key {
        place,
        key: certificate.key.text().into(),
    })
}

/// A remark if the key is an RSA key below the advised size.
pub(crate) fn key_remark(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
    now: Timestamp,
) -> Option<Remark> {
    let advised = profiles.algorithms().at(now).rsa_advised_bits;
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
    let found = &certificate.extensions;
    let named = |oid: Option<&String>| oid.map(String::as_str).unwrap_or_default().into();
    let twice = found.duplicate.as_ref();
    refuse_if(twice.is_some(), place, || Refusal::DuplicateExtension {
        place,
        oid: named(twice),
    })?;
    let unknown = found.unknown_critical.first();
    refuse_if(unknown.is_some(), place, || {
        Refusal::UnknownCriticalExtension {
            place,
            oid: named(unknown),
        }
    })
}

/// The extensions named by the profile are present and critical.
pub(crate) fn critical(
    certificate: &Certificate,
    depth: usize,
    wanted: &[Box<str>],
) -> Result<(), Refusal> {
    let (place, found) = (Place::at(depth), &certificate.extensions.critical);
    let missing = wanted.iter().find(|name| !found.contains(&&***name));
    refuse_if(missing.is_some(), place, || Refusal::NotCritical {
        place,
        extension: missing.cloned().unwrap_or_default(),
    })
}

/// notBefore ≤ now ≤ notAfter, both inclusive, to the second.
pub(crate) fn validity(
    certificate: &Certificate,
    depth: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let place = Place::at(depth);
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    refuse_if(now.as_second() < not_before.as_second(), place, || {
        Refusal::NotYetValid { place, not_before }
    })?;
    refuse_if(now.as_second() > not_after.as_second(), place, || {
        Refusal::Expired { place, not_after }
    })
}

/// An end entity is no CA: basicConstraints absent or cA false, no keyCertSign.
pub(crate) fn end_entity(certificate: &Certificate) -> Result<(), Refusal> {
    let authority =
        is_authority(certificate) || certificate.extensions.has_key_usage("keyCertSign");
    refuse_if(authority, Place::EndEntity, || {
        Refusal::AuthorityAsEndEntity
    })
}

fn is_authority(certificate: &Certificate) -> bool {
    certificate
        .extensions
        .basic_constraints
        .is_some_and(|(authority, _)| authority)
}

/// A signing certificate (署名用) never authenticates (HPKI signing policy 1.91).
pub(crate) fn not_signing(certificate: &Certificate) -> Result<(), Refusal> {
    let extensions = &certificate.extensions;
    let signing =
        extensions.has_key_usage("nonRepudiation") && !extensions.has_key_usage("digitalSignature");
    refuse_if(signing, Place::EndEntity, || Refusal::SigningCertificate)
}

/// What makes a certificate a CA: form, algorithms, extensions, readable name, cA, keyCertSign,
/// criticality.
pub(crate) fn authority(
    certificate: &Certificate,
    depth: usize,
    profiles: &Profiles,
    now: Timestamp,
) -> Result<(), Refusal> {
    form(certificate, depth)?;
    algorithms(certificate, depth, profiles, now)?;
    extensions(certificate, depth)?;
    readable(certificate, depth)?;
    let place = Place::at(depth);
    refuse_if(!is_authority(certificate), place, || {
        Refusal::NotAuthority { place }
    })?;
    let signs = certificate.extensions.has_key_usage("keyCertSign");
    refuse_if(!signs, place, || Refusal::KeyCertSign { place })?;
    profiles
        .iter()
        .try_for_each(|profile| critical(certificate, depth, &profile.ca_critical))
}
