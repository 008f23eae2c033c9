//! A certificate read once into owned facts; the only reader of certificates besides `crl`.
//!
//! x509-parser does the ASN.1; this module adds the strictness it lacks (one element per extension
//! with nothing after it, no duplicate extension) and keeps what the rules need.

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::der;
use super::extensions::{Extensions, read_extensions};
use super::refusal::{Place, Refusal, refuse_if};
use super::signature::{PublicKey, SignatureAlgorithm};
use crate::types::{CertificateNumber, IssuerName};

/// One attribute of a distinguished name: OID, and text if it is a text we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) oid: String,
    pub(crate) value: Option<String>,
}

/// A distinguished name: its DER, by which names are compared, and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DistinguishedName {
    pub(crate) der: Vec<u8>,
    pub(crate) attributes: Vec<Attribute>,
    /// How many of the attributes each RDN holds, in order.
    sizes: Vec<usize>,
}

impl DistinguishedName {
    pub(crate) fn read(name: &X509Name<'_>) -> Self {
        let attributes = name
            .iter_attributes()
            .map(|attribute| Attribute {
                oid: attribute.attr_type().to_id_string(),
                value: attribute.as_str().ok().map(str::to_owned),
            })
            .collect();
        Self {
            der: name.as_raw().to_vec(),
            attributes,
            sizes: name.iter_rdn().map(|rdn| rdn.iter().count()).collect(),
        }
    }

    /// The RDNs in certificate order: OID and text of each attribute. A value that is no text is
    /// told by an empty one, which no registration can name.
    fn rdns(&self) -> Vec<Vec<(&str, &str)>> {
        let mut attributes = self.attributes.iter();
        let sizes = self.sizes.iter();
        let rdn = sizes.map(|size| {
            let rdn = attributes.by_ref().take(*size);
            rdn.map(|one| (one.oid.as_str(), one.value.as_deref().unwrap_or_default()))
                .collect()
        });
        rdn.collect()
    }

    /// The values of attribute `oid`, in order.
    pub(crate) fn values(&self, oid: &str) -> impl Iterator<Item = &str> {
        self.attributes
            .iter()
            .filter(move |attribute| attribute.oid == oid)
            .filter_map(|attribute| attribute.value.as_deref())
    }

    /// `C=JP, O=…` in certificate order; control characters are shown escaped.
    pub(crate) fn text(&self) -> String {
        let parts = self.attributes.iter().map(|attribute| {
            let name = match attribute.oid.as_str() {
                oid::COUNTRY => "C",
                oid::ORGANISATION => "O",
                oid::ORGANISATIONAL_UNIT => "OU",
                oid::COMMON_NAME => "CN",
                oid::SERIAL_NUMBER => "serialNumber",
                other => other,
            };
            let value = attribute.value.as_deref().unwrap_or("#");
            let value: String = value
                .chars()
                .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
                .take(200)
                .collect();
            format!("{name}={value}")
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Control, bidirectional-override and invisible characters: never in a name we show or match.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(
            c,
            '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{00ad}' | '\u{061c}'
        )
}

/// OIDs of name attributes and extensions.
pub(crate) mod oid {
    pub(crate) const COMMON_NAME: &str = "2.5.4.3";
    pub(crate) const SERIAL_NUMBER: &str = "2.5.4.5";
    pub(crate) const COUNTRY: &str = "2.5.4.6";
    pub(crate) const ORGANISATION: &str = "2.5.4.10";
    pub(crate) const ORGANISATIONAL_UNIT: &str = "2.5.4.11";
    pub(crate) const SUBJECT_DIRECTORY_ATTRIBUTES: &str = "2.5.29.9";
    pub(crate) const ANY_POLICY: &str = "2.5.29.32.0";
    pub(crate) const CPS_URI: &str = "1.3.6.1.5.5.7.2.1";
    pub(crate) const USER_NOTICE: &str = "1.3.6.1.5.5.7.2.2";
}

/// A certificate's facts.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) signature_algorithm: SignatureAlgorithm,
    pub(crate) algorithms_agree: bool,
    pub(crate) version: u32,
    /// Content octets of the serial number, as encoded.
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: DistinguishedName,
    pub(crate) subject: DistinguishedName,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) spki: Vec<u8>,
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) key: PublicKey,
    pub(crate) extensions: Extensions,
}

pub(crate) fn malformed(what: &str) -> Refusal {
    Refusal::Malformed { what: what.into() }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let computed = digest::digest(&digest::SHA256, bytes);
    out.iter_mut()
        .zip(computed.as_ref())
        .for_each(|(to, from)| *to = *from);
    out
}

/// A certificate's or list's time as a timestamp.
pub(crate) fn timestamp(time: ASN1Time) -> Result<Timestamp, Refusal> {
    Timestamp::from_second(time.timestamp()).map_err(|_| malformed("time out of range"))
}

impl Certificate {
    /// Reads one DER certificate.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::CertificateTooLarge`].
    pub(crate) fn read(der: &CertificateDer<'_>, limit: usize) -> Result<Self, Refusal> {
        Self::read_at(der, limit, Place::EndEntity)
    }

    /// As [`Certificate::read`], of the certificate presented at `place`.
    pub(crate) fn read_at(
        der: &CertificateDer<'_>,
        limit: usize,
        place: Place,
    ) -> Result<Self, Refusal> {
        let bytes = der.len();
        refuse_if(bytes > limit, place, || Refusal::CertificateTooLarge {
            bytes,
            limit,
        })?;
        let algorithms_agree =
            der::algorithms_agree(der).map_err(|_| malformed("not an X.509 certificate"))?;
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| malformed("not an X.509 certificate"))?;
        if !rest.is_empty() || parsed.signature_value.unused_bits != 0 {
            return Err(malformed("octets after the certificate"));
        }
        let tbs = &parsed.tbs_certificate;
        let spki = tbs.subject_pki.raw;
        Ok(Self {
            fingerprint: sha256(der),
            signed: tbs.as_ref().to_vec(),
            signature: parsed.signature_value.data.to_vec(),
            signature_algorithm: SignatureAlgorithm::read(&parsed.signature_algorithm),
            algorithms_agree,
            version: tbs.version.0 + 1,
            serial: tbs.raw_serial().to_vec(),
            issuer: DistinguishedName::read(&tbs.issuer),
            subject: DistinguishedName::read(&tbs.subject),
            not_before: timestamp(tbs.validity.not_before)?,
            not_after: timestamp(tbs.validity.not_after)?,
            spki: spki.to_vec(),
            spki_sha256: sha256(spki),
            key: PublicKey::read(&tbs.subject_pki),
            extensions: read_extensions(tbs.extensions())?,
        })
    }

    /// Issuer and serial number, by which the certificate may be registered.
    pub(crate) fn number(&self) -> CertificateNumber {
        CertificateNumber::new(IssuerName::from_rdns(self.issuer.rdns()), &self.serial)
    }

    /// Whether issuer and subject are the same name (RFC 5280 §6.1: self-issued).
    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer.der == self.subject.der
    }
}
