//! The rules of [`super::judge()`], each a pure function over facts, profile and time.

mod chain;
mod profile;
mod subject;

use jiff::Timestamp;

use super::certificate::Certificate;
use super::certified::Remark;
use super::profile::Profiles;
use super::refusal::{Place, Refusal};
use super::signature::KeyKind;

pub(crate) use chain::{name_constraints, path_lengths, policy};
pub(crate) use profile::{
    extended_key_usage, institution_code, key_usage, purpose_name, roles, validity_length,
};
pub(crate) use subject::{is_institution_code, subject};

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
    let found = &certificate.extensions.critical;
    let missing = wanted.iter().find(|name| !found.contains(&&***name));
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
