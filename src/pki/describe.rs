//! What a certificate says of itself, unjudged; for `renkei pki show`.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::certificate::{Certificate, DistinguishedName};
use super::names::Name;
use super::profile::Profiles;
use super::refusal::Refusal;
use super::{hc_role, rules};
use crate::types::{CertificateNumber, CertificatePin};

/// The largest certificate described.
const LARGEST: usize = 1 << 20;

/// A certificate's content. Nothing here is believed: see [`super::judge()`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Subject as text.
    pub subject: String,
    /// Directory names of subjectAltName, as text: the Japanese names.
    pub directory_names: Vec<String>,
    /// Issuer as text.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Issuer (RFC 4514) and serial number, by which it may be registered.
    pub number: CertificateNumber,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Key, such as `EC P-256`.
    pub key: String,
    /// Signature algorithm.
    pub signature_algorithm: String,
    /// SHA-256 of the public key, by which a participant is registered.
    pub pin: CertificatePin,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// Whether it is a CA's.
    pub authority: bool,
    /// keyUsage.
    pub key_usage: Vec<&'static str>,
    /// extendedKeyUsage, by name where it has one.
    pub extended_key_usage: Vec<String>,
    /// certificatePolicies.
    pub policies: Vec<String>,
    /// hcRole: name, and Japanese name if it is in the role table.
    pub roles: Vec<(String, Option<String>)>,
    /// What is wrong with hcRole, if it does not decode.
    pub role_problem: Option<String>,
    /// DNS names and addresses of subjectAltName.
    pub server_names: Vec<String>,
    /// Where its revocation list is published.
    pub distribution_points: Vec<String>,
    /// Names of the critical extensions.
    pub critical: Vec<String>,
}

/// Describes a certificate.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::CertificateTooLarge`].
pub fn describe(der: &CertificateDer<'_>, profiles: &Profiles) -> Result<Description, Refusal> {
    let certificate = Certificate::read(der, LARGEST)?;
    let extensions = &certificate.extensions;
    let decoded = match &extensions.directory_attributes {
        Some(value) => hc_role::decode(value, profiles.role_scheme()),
        None => Ok(Vec::new()),
    };
    let role_problem = decoded.as_ref().err().map(ToString::to_string);
    let roles = decoded.unwrap_or_default().into_iter().map(|name| {
        let japanese = profiles.role(&name).map(|role| role.japanese().to_owned());
        (name, japanese)
    });
    let server_names = extensions
        .alternative_names
        .iter()
        .filter_map(|name| match name {
            Name::Dns(_) | Name::Ip(_) => Some(name.text()),
            _ => None,
        });
    let unknown = extensions.unknown_critical.iter().cloned();
    let critical = extensions
        .critical
        .iter()
        .map(|name| (*name).to_owned())
        .chain(unknown);
    let purposes = extensions.extended_key_usage.iter().flatten();
    Ok(Description {
        subject: certificate.subject.text(),
        directory_names: extensions
            .directory_names
            .iter()
            .map(DistinguishedName::text)
            .collect(),
        issuer: certificate.issuer.text(),
        serial: HEXLOWER.encode(&certificate.serial),
        number: certificate.number(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        key: certificate.key.text(),
        signature_algorithm: certificate.signature_algorithm.0.to_string(),
        pin: CertificatePin::from_bytes(certificate.spki_sha256),
        fingerprint: HEXLOWER.encode(&certificate.fingerprint),
        authority: extensions
            .basic_constraints
            .is_some_and(|(authority, _)| authority),
        key_usage: extensions.key_usage.clone().unwrap_or_default(),
        extended_key_usage: purposes
            .map(|oid| rules::purpose_name(oid).to_owned())
            .collect(),
        policies: extensions.policies.clone().unwrap_or_default(),
        roles: roles.collect(),
        role_problem,
        server_names: server_names.collect(),
        distribution_points: extensions
            .distribution_points
            .iter()
            .map(Name::text)
            .collect(),
        critical: critical.collect(),
    })
}
