//! Signature algorithms and public keys, and the one signature check for certificates and CRLs.

use aws_lc_rs::signature::{self as aws, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::der::{self, tag};

/// A signature algorithm by the name the profile lists it under, or its OID if it is none of those
/// this gateway can check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureAlgorithm(pub(crate) Box<str>);

const PKCS1: &str = "1.2.840.113549.1.1.";

impl SignatureAlgorithm {
    pub(crate) fn read(identifier: &AlgorithmIdentifier<'_>) -> Self {
        let oid = identifier.algorithm.to_id_string();
        let parameters = identifier.parameters.as_ref();
        let null_or_absent =
            parameters.is_none_or(|any| u32::from(tag::NULL) == any.tag().0 && any.data.is_empty());
        let name = match (oid.as_str(), null_or_absent) {
            ("1.2.840.113549.1.1.11", true) => "sha256WithRSAEncryption",
            ("1.2.840.113549.1.1.12", true) => "sha384WithRSAEncryption",
            ("1.2.840.113549.1.1.13", true) => "sha512WithRSAEncryption",
            ("1.2.840.113549.1.1.10", _) => parameters
                .and_then(|any| pss_name(any.data))
                .unwrap_or("rsassaPss-other"),
            ("1.2.840.10045.4.3.2", _) if parameters.is_none() => "ecdsa-with-SHA256",
            ("1.2.840.10045.4.3.3", _) if parameters.is_none() => "ecdsa-with-SHA384",
            ("1.2.840.113549.1.1.5" | "1.3.14.3.2.29", _) => "sha1WithRSAEncryption",
            ("1.2.840.113549.1.1.4", _) => "md5WithRSAEncryption",
            ("1.2.840.10045.4.1", _) => "ecdsa-with-SHA1",
            (other, _) => other,
        };
        Self(name.into())
    }
}

/// RSASSA-PSS with one hash for message and MGF1 and a salt of its length (RFC 4055 §3.1): the only
/// form aws-lc checks. `content` is inside the parameter SEQUENCE.
fn pss_name(content: &[u8]) -> Option<&'static str> {
    let known: [(&str, &str, u8); 3] = [
        ("2.16.840.1.101.3.4.2.1", "rsassaPss-sha256", 32),
        ("2.16.840.1.101.3.4.2.2", "rsassaPss-sha384", 48),
        ("2.16.840.1.101.3.4.2.3", "rsassaPss-sha512", 64),
    ];
    known.into_iter().find_map(|(oid, name, salt)| {
        let hashes = [
            der::sequence([der::oid(oid), vec![tag::NULL, 0]]),
            der::sequence([der::oid(oid)]),
        ];
        hashes
            .iter()
            .any(|hash| {
                let mask = der::sequence([der::oid("1.2.840.113549.1.1.8"), hash.clone()]);
                let expected = [
                    der::element(tag::constructed(0), hash),
                    der::element(tag::constructed(1), &mask),
                    der::element(tag::constructed(2), &der::unsigned(&[salt])),
                ]
                .concat();
                content == expected
            })
            .then_some(name)
    })
}

/// A public key as far as the profile judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) kind: KeyKind,
    /// Content of the subjectPublicKey BIT STRING: `RSAPublicKey` DER, or the EC point.
    pub(crate) bits: Vec<u8>,
}

/// Kind and size of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa {
        bits: usize,
        /// Whether the public exponent is odd and at least 65537.
        exponent_ok: bool,
    },
    Ec {
        curve: Box<str>,
    },
    Other {
        oid: Box<str>,
    },
}

impl PublicKey {
    pub(crate) fn read(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        let oid = spki.algorithm.algorithm.to_id_string();
        let kind = match (oid.as_str(), spki.parsed()) {
            (oid, Ok(Parsed::RSA(rsa))) if oid == format!("{PKCS1}1") => {
                let leading = rsa.modulus.iter().take_while(|octet| **octet == 0).count();
                let significant = rsa.modulus.get(leading..).unwrap_or_default();
                let unused = significant
                    .first()
                    .map_or(0, |octet| octet.leading_zeros() as usize);
                let exponent = rsa.try_exponent().unwrap_or(0);
                KeyKind::Rsa {
                    bits: (significant.len() * 8).saturating_sub(unused),
                    exponent_ok: exponent >= 65_537 && exponent % 2 == 1,
                }
            }
            ("1.2.840.10045.2.1", _) => {
                let curve = spki
                    .algorithm
                    .parameters
                    .as_ref()
                    .and_then(|any| any.as_oid().ok());
                let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
                let name = match curve.as_str() {
                    "1.2.840.10045.3.1.7" => "P-256",
                    "1.3.132.0.34" => "P-384",
                    other => other,
                };
                KeyKind::Ec { curve: name.into() }
            }
            (other, _) => KeyKind::Other { oid: other.into() },
        };
        Self {
            kind,
            bits: spki.subject_public_key.data.to_vec(),
        }
    }

    /// `RSA 2048`, `EC P-256`, …
    pub(crate) fn text(&self) -> String {
        match &self.kind {
            KeyKind::Rsa {
                bits,
                exponent_ok: true,
            } => format!("RSA {bits}"),
            KeyKind::Rsa {
                bits,
                exponent_ok: false,
            } => format!("RSA {bits} with a weak exponent"),
            KeyKind::Ec { curve } => format!("EC {curve}"),
            KeyKind::Other { oid } => format!("type {oid}"),
        }
    }

    /// Whether this key made `signature` over `message` with `algorithm`.
    pub(crate) fn verifies(
        &self,
        algorithm: &SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.algorithm(&algorithm.0).is_some_and(|verification| {
            UnparsedPublicKey::new(verification, &self.bits)
                .verify(message, signature)
                .is_ok()
        })
    }

    fn algorithm(&self, name: &str) -> Option<&'static dyn VerificationAlgorithm> {
        let curve = match &self.kind {
            KeyKind::Rsa { .. } => None,
            KeyKind::Ec { curve } => Some(&**curve),
            KeyKind::Other { .. } => return None,
        };
        Some(match (name, curve) {
            ("sha256WithRSAEncryption", None) => &aws::RSA_PKCS1_2048_8192_SHA256,
            ("sha384WithRSAEncryption", None) => &aws::RSA_PKCS1_2048_8192_SHA384,
            ("sha512WithRSAEncryption", None) => &aws::RSA_PKCS1_2048_8192_SHA512,
            ("rsassaPss-sha256", None) => &aws::RSA_PSS_2048_8192_SHA256,
            ("rsassaPss-sha384", None) => &aws::RSA_PSS_2048_8192_SHA384,
            ("rsassaPss-sha512", None) => &aws::RSA_PSS_2048_8192_SHA512,
            ("ecdsa-with-SHA256", Some("P-256")) => &aws::ECDSA_P256_SHA256_ASN1,
            ("ecdsa-with-SHA384", Some("P-256")) => &aws::ECDSA_P256_SHA384_ASN1,
            ("ecdsa-with-SHA256", Some("P-384")) => &aws::ECDSA_P384_SHA256_ASN1,
            ("ecdsa-with-SHA384", Some("P-384")) => &aws::ECDSA_P384_SHA384_ASN1,
            _ => return None,
        })
    }
}
