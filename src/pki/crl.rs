//! Revocation lists (RFC 5280 §5): read once, verified against their issuer when loaded.
//!
//! A list is hostile input: size is limited, indirect, delta and partial-reason lists and unknown
//! critical extensions are refused, an issuing distribution point is honoured.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use x509_parser::extensions::{DistributionPointName, IssuingDistributionPoint, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::certificate::{Certificate, DistinguishedName, timestamp};
use super::der;
use super::names::Name;
use super::profile::{Algorithms, Limits};
use super::signature::SignatureAlgorithm;

/// Why a revocation list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Larger than the limit.
    #[error("revocation list of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a DER `CertificateList`, or a part that does not parse.
    #[error("malformed revocation list: {0}")]
    Malformed(Box<str>),
    /// A critical extension that is not processed; an indirect, delta or partial-reason list.
    #[error("revocation list of a kind that is not accepted: {0}")]
    Unsupported(Box<str>),
    /// No nextUpdate: its freshness could not be judged.
    #[error("revocation list without nextUpdate")]
    NoNextUpdate,
    /// No CRL number: replay of an older list could not be seen.
    #[error("revocation list without a number")]
    NoNumber,
    /// A signature algorithm outside the profile.
    #[error("revocation list signed with {0}, which is not accepted")]
    SignatureAlgorithm(Box<str>),
    /// No configured CA of the issuer's name, with cRLSign, made its signature.
    #[error("revocation list of {issuer} is not signed by a configured CA that may sign lists")]
    Signer {
        /// The issuer's name.
        issuer: Box<str>,
    },
    /// Its number is lower than that of the list already in force.
    #[error("revocation list of {issuer} has number {found}, lower than {known} already in force")]
    NumberWentBack {
        /// The issuer's name.
        issuer: Box<str>,
        /// The number of the new list.
        found: Box<str>,
        /// The number in force.
        known: Box<str>,
    },
}

/// What part of an issuer's certificates a list covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    users_only: bool,
    authorities_only: bool,
    /// Names of the issuing distribution point; empty if none is given.
    points: Vec<Name>,
}

impl Scope {
    /// RFC 5280 §6.3.3 (b)(2).
    fn covers(&self, certificate: &Certificate) -> bool {
        let authority = certificate
            .extensions
            .basic_constraints
            .is_some_and(|(authority, _)| authority);
        let named = &certificate.extensions.distribution_points;
        let excluded = if authority {
            self.users_only
        } else {
            self.authorities_only
        };
        !excluded
            && (self.points.is_empty() || self.points.iter().any(|point| named.contains(point)))
    }
}

/// A verified revocation list.
#[derive(Clone, Debug)]
pub(crate) struct Crl {
    pub(crate) issuer: DistinguishedName,
    /// Hash of the public key that made the signature.
    pub(crate) signer: [u8; 32],
    pub(crate) scope: Scope,
    /// The number without leading zeros, big-endian.
    pub(crate) number: Vec<u8>,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    revoked: HashMap<Box<[u8]>, Timestamp>,
}

fn malformed(what: &str) -> CrlError {
    CrlError::Malformed(what.into())
}

fn trimmed(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or_default()
}

impl Crl {
    /// Reads `der` and verifies it against `authorities`.
    ///
    /// # Errors
    /// [`CrlError`], all but `NumberWentBack`.
    pub(crate) fn load<'a>(
        der: &[u8],
        authorities: impl Iterator<Item = &'a Certificate>,
        algorithms: &Algorithms,
        limits: &Limits,
    ) -> Result<Self, CrlError> {
        if der.len() > limits.crl_bytes {
            return Err(CrlError::TooLarge {
                bytes: der.len(),
                limit: limits.crl_bytes,
            });
        }
        let algorithms_agree =
            der::algorithms_agree(der).map_err(|_| malformed("not a certificate list"))?;
        let (rest, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|_| malformed("not a certificate list"))?;
        let tbs = &parsed.tbs_cert_list;
        if !rest.is_empty() || parsed.signature_value.unused_bits != 0 {
            return Err(malformed("octets after the list"));
        }
        if tbs.version.map(|version| version.0) != Some(1) {
            return Err(CrlError::Unsupported("version 1".into()));
        }
        let algorithm = SignatureAlgorithm::read(&parsed.signature_algorithm);
        if !algorithms_agree {
            return Err(malformed("two different signature algorithms"));
        }
        if !algorithms.signatures.contains(&algorithm.0) {
            return Err(CrlError::SignatureAlgorithm(algorithm.0));
        }
        let issuer = DistinguishedName::read(&tbs.issuer);
        let signer = authorities
            .filter(|authority| authority.subject.der == issuer.der)
            .filter(|authority| authority.extensions.has_key_usage("cRLSign"))
            .find(|authority| {
                let signature = &parsed.signature_value.data;
                authority.key.verifies(&algorithm, tbs.as_ref(), signature)
            })
            .ok_or_else(|| CrlError::Signer {
                issuer: issuer.text().into(),
            })?;
        let (scope, number) = read_extensions(&parsed)?;
        let time = |time| timestamp(time).map_err(|_| malformed("time out of range"));
        Ok(Self {
            issuer,
            signer: signer.spki_sha256,
            scope,
            number,
            this_update: time(tbs.this_update)?,
            next_update: time(tbs.next_update.ok_or(CrlError::NoNextUpdate)?)?,
            revoked: tbs
                .revoked_certificates
                .iter()
                .map(read_entry)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether this list, signed by `issuer`'s key, speaks of `certificate`.
    pub(crate) fn covers(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        self.issuer.der == certificate.issuer.der
            && self.signer == issuer.spki_sha256
            && self.scope.covers(certificate)
    }

    /// When `serial` was revoked, if it was.
    pub(crate) fn revoked_at(&self, serial: &[u8]) -> Option<Timestamp> {
        self.revoked.get(trimmed(serial)).copied()
    }

    /// Whether `other` covers the same certificates, so that only one of the two is in force.
    pub(crate) fn same_scope(&self, other: &Self) -> bool {
        self.issuer.der == other.issuer.der
            && self.signer == other.signer
            && self.scope == other.scope
    }

    /// Orders by CRL number.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        (self.number.len(), &self.number) < (other.number.len(), &other.number)
    }

    /// The number in decimal, or hexadecimal if it exceeds 64 bits.
    pub(crate) fn number_text(&self) -> String {
        if self.number.len() <= 8 {
            let value = self
                .number
                .iter()
                .fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
            value.to_string()
        } else {
            format!("0x{}", HEXLOWER.encode(&self.number))
        }
    }

    /// How many certificates are on it.
    pub(crate) fn revoked_count(&self) -> usize {
        self.revoked.len()
    }
}

fn read_extensions(list: &CertificateRevocationList<'_>) -> Result<(Scope, Vec<u8>), CrlError> {
    let mut scope = Scope::default();
    let mut number = None;
    let mut seen = Vec::new();
    for extension in list.extensions() {
        let id = extension.oid.to_id_string();
        if seen.contains(&id) || der::whole(extension.value).is_err() {
            return Err(CrlError::Malformed(format!("extension {id}").into()));
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => {
                return Err(CrlError::Malformed(format!("extension {id}").into()));
            }
            ParsedExtension::IssuingDistributionPoint(point) => scope = read_scope(point)?,
            ParsedExtension::CRLNumber(value) => number = Some(value.to_bytes_be()),
            ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::IssuerAlternativeName(_)
            | ParsedExtension::AuthorityInfoAccess(_) => {}
            _ if id == "2.5.29.27" => return Err(CrlError::Unsupported("delta".into())),
            _ if extension.critical => {
                return Err(CrlError::Unsupported(
                    format!("unknown critical extension {id}").into(),
                ));
            }
            _ => {}
        }
        seen.push(id);
    }
    Ok((scope, trimmed(&number.ok_or(CrlError::NoNumber)?).to_vec()))
}

fn read_scope(point: &IssuingDistributionPoint<'_>) -> Result<Scope, CrlError> {
    if point.indirect_crl {
        return Err(CrlError::Unsupported("indirect".into()));
    }
    if point.only_some_reasons.is_some() || point.only_contains_attribute_certs {
        return Err(CrlError::Unsupported("partial".into()));
    }
    let points = match &point.distribution_point {
        None => Vec::new(),
        Some(DistributionPointName::FullName(names)) => names.iter().map(Name::read).collect(),
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => {
            return Err(CrlError::Unsupported("relative distribution point".into()));
        }
    };
    if point.distribution_point.is_some() && points.is_empty() {
        return Err(malformed("empty distribution point"));
    }
    Ok(Scope {
        users_only: point.only_contains_user_certs,
        authorities_only: point.only_contains_ca_certs,
        points,
    })
}

fn read_entry(entry: &RevokedCertificate<'_>) -> Result<(Box<[u8]>, Timestamp), CrlError> {
    for extension in entry.extensions() {
        let known = matches!(
            extension.parsed_extension(),
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_)
        );
        if extension.critical && !known {
            return Err(CrlError::Unsupported(
                "unknown critical entry extension".into(),
            ));
        }
    }
    let when = timestamp(entry.revocation_date).map_err(|_| malformed("time out of range"))?;
    Ok((trimmed(entry.raw_serial()).into(), when))
}
