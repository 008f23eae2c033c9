//! Revocation lists (RFC 5280 §5): read once, verified against their issuer when loaded.
//!
//! A list is hostile input: size is limited, indirect, delta and partial-reason lists and unknown
//! critical extensions are refused, an issuing distribution point is honoured.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::certificate::{Certificate, DistinguishedName, timestamp};
use super::der::{self, Element, tag};
use super::names::Name;
use super::planted;
use super::profile::Profiles;
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
    /// Version 1: it has no extensions, so no number.
    #[error("revocation list of version 1")]
    Version,
    /// The signed and the outer algorithm identifiers differ (RFC 5280 §5.1.1.2).
    #[error("revocation list names two different signature algorithms")]
    AlgorithmsDiffer,
    /// One that speaks for other issuers too.
    #[error("indirect revocation list, which is not accepted")]
    Indirect,
    /// One that only adds to another.
    #[error("delta revocation list, which is not accepted")]
    Delta,
    /// One of some reasons or of attribute certificates only.
    #[error("partial revocation list, which is not accepted")]
    Partial,
    /// A distribution point named relative to its issuer.
    #[error("revocation list with a relative distribution point, which is not accepted")]
    RelativePoint,
    /// A critical extension, of the list or of an entry, that is not processed.
    #[error("revocation list with the unknown critical extension {oid}")]
    UnknownCritical {
        /// The extension.
        oid: Box<str>,
    },
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

impl CrlError {
    /// The stable name of the rule, for metrics, logs and tests.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "list-size",
            Self::Malformed(_) => "list-malformed",
            Self::Version => "list-version",
            Self::AlgorithmsDiffer => "list-algorithms-differ",
            Self::Indirect => "list-indirect",
            Self::Delta => "list-delta",
            Self::Partial => "list-partial",
            Self::RelativePoint => "list-relative-point",
            Self::UnknownCritical { .. } => "list-unknown-critical-extension",
            Self::NoNextUpdate => "list-no-next-update",
            Self::NoNumber => "list-no-number",
            Self::SignatureAlgorithm(_) => "list-signature-algorithm",
            Self::Signer { .. } => "list-signer",
            Self::NumberWentBack { .. } => "list-number-went-back",
        }
    }
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
        profiles: &Profiles,
    ) -> Result<Self, CrlError> {
        let (bytes, limit) = (der.len(), profiles.limits().crl_bytes);
        refuse_list_if(bytes > limit, || CrlError::TooLarge { bytes, limit })?;
        let algorithms_agree =
            der::algorithms_agree(der).map_err(|_| malformed("not a certificate list"))?;
        let (rest, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|_| malformed("not a certificate list"))?;
        let tbs = &parsed.tbs_cert_list;
        let more = !rest.is_empty() || parsed.signature_value.unused_bits != 0;
        refuse_list_if(more, || malformed("octets after the list"))?;
        let second = tbs.version.map(|version| version.0) == Some(1);
        refuse_list_if(!second, || CrlError::Version)?;
        let algorithm = SignatureAlgorithm::read(&parsed.signature_algorithm);
        refuse_list_if(!algorithms_agree, || CrlError::AlgorithmsDiffer)?;
        // By the list that starts the profile, as for the CA that signed it.
        let accepted = profiles.algorithms().at(Timestamp::MIN).signatures;
        refuse_list_if(!accepted.contains(&algorithm.0), || {
            CrlError::SignatureAlgorithm(algorithm.0.clone())
        })?;
        let issuer = DistinguishedName::read(&tbs.issuer);
        let mut named: Vec<&Certificate> = authorities
            .filter(|authority| authority.subject.der == issuer.der)
            .collect();
        let signed = |authority: &&Certificate| {
            let signature = &parsed.signature_value.data;
            let may = authority.extensions.has_key_usage("cRLSign");
            may && authority.key.verifies(&algorithm, tbs.as_ref(), signature)
        };
        let signer = named.iter().position(signed);
        refuse_list_if(signer.is_none(), || CrlError::Signer {
            issuer: issuer.text().into(),
        })?;
        let signer = match signer.unwrap_or_default() {
            index if index < named.len() => named.swap_remove(index).spki_sha256,
            _ => [0; 32],
        };
        let (scope, number) = read_extensions(&parsed)?;
        let time = |time| timestamp(time).map_err(|_| malformed("time out of range"));
        let this_update = time(tbs.this_update)?;
        refuse_list_if(tbs.next_update.is_none(), || CrlError::NoNextUpdate)?;
        let next_update = time(tbs.next_update.unwrap_or(tbs.this_update))?;
        refuse_list_if(next_update < this_update, || malformed("times reversed"))?;
        Ok(Self {
            issuer,
            signer,
            scope,
            number,
            this_update,
            next_update,
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
        let bad = || CrlError::Malformed(format!("extension {id}").into());
        refuse_list_if(seen.contains(&id), bad)?;
        if der::whole(extension.value).is_err() {
            return Err(bad());
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(bad()),
            ParsedExtension::IssuingDistributionPoint(_) => scope = read_scope(extension.value)?,
            ParsedExtension::CRLNumber(value) => number = Some(value.to_bytes_be()),
            ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::IssuerAlternativeName(_)
            | ParsedExtension::AuthorityInfoAccess(_) => {}
            _ if id == "2.5.29.27" => refuse_list_if(true, || CrlError::Delta)?,
            _ => refuse_list_if(extension.critical, || CrlError::UnknownCritical {
                oid: id.as_str().into(),
            })?,
        }
        seen.push(id);
    }
    refuse_list_if(number.is_none(), || CrlError::NoNumber)?;
    Ok((scope, trimmed(&number.unwrap_or_default()).to_vec()))
}

/// issuingDistributionPoint (RFC 5280 §5.2.5), read here because the parser passes over parts that it
/// does not know: in a critical extension none may be.
fn read_scope(value: &[u8]) -> Result<Scope, CrlError> {
    let bad = |_| malformed("issuingDistributionPoint");
    let parts = der::whole(value)
        .and_then(|list| list.expect(tag::SEQUENCE)?.children())
        .map_err(bad)?;
    let mut scope = Scope::default();
    let mut before = None;
    for part in parts {
        let number = part.tag & 0x1f;
        let ordered = before.is_none_or(|before| before < number);
        refuse_list_if(!ordered, || malformed("issuingDistributionPoint"))?;
        before = Some(number);
        match part.tag {
            0xa0 => scope.points = read_point(part)?,
            0x81 => scope.users_only = read_flag(part)?,
            0x82 => scope.authorities_only = read_flag(part)?,
            0x83 => refuse_list_if(true, || CrlError::Partial)?,
            0x84 => refuse_list_if(read_flag(part)?, || CrlError::Indirect)?,
            0x85 => refuse_list_if(read_flag(part)?, || CrlError::Partial)?,
            _ => return Err(malformed("issuingDistributionPoint")),
        }
    }
    let nothing = scope.users_only && scope.authorities_only;
    refuse_list_if(nothing, || malformed("a list of nothing"))?;
    Ok(scope)
}

fn read_flag(part: Element<'_>) -> Result<bool, CrlError> {
    match part.content {
        [0xff] => Ok(true),
        [0] => Ok(false),
        _ => Err(malformed("issuingDistributionPoint")),
    }
}

/// The full names of a distribution point.
fn read_point(part: Element<'_>) -> Result<Vec<Name>, CrlError> {
    let bad = |_| malformed("issuingDistributionPoint");
    let name = part.only_child().map_err(bad)?;
    refuse_list_if(name.tag == tag::constructed(1), || CrlError::RelativePoint)?;
    let names = name.children().map_err(bad)?;
    let names: Result<Vec<Name>, _> = names.into_iter().map(Name::from_element).collect();
    let names = names.map_err(bad)?;
    refuse_list_if(names.is_empty(), || malformed("empty distribution point"))?;
    Ok(names)
}

fn read_entry(entry: &RevokedCertificate<'_>) -> Result<(Box<[u8]>, Timestamp), CrlError> {
    for extension in entry.extensions() {
        let known = matches!(
            extension.parsed_extension(),
            ParsedExtension::ReasonCode(_) | ParsedExtension::InvalidityDate(_)
        );
        refuse_list_if(extension.critical && !known, || CrlError::UnknownCritical {
            oid: extension.oid.to_id_string().into(),
        })?;
    }
    let when = timestamp(entry.revocation_date).map_err(|_| malformed("time out of range"))?;
    Ok((trimmed(entry.raw_serial()).into(), when))
}

/// Refuses a list with `error` if a rule is `broken`: as [`super::refusal::refuse_if`] for
/// certificates.
///
/// # Errors
/// The error.
pub(crate) fn refuse_list_if(
    broken: bool,
    error: impl FnOnce() -> CrlError,
) -> Result<(), CrlError> {
    if !broken {
        return Ok(());
    }
    let error = error();
    match planted::is_rule_left_out(error.rule()) {
        true => Ok(()),
        false => Err(error),
    }
}
