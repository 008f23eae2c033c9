//! Certificates and revocation lists written byte for byte.
//!
//! rcgen, the usual library, cannot write these: a revocation list with a directoryName issuing
//! distribution point or an authority key identifier of the full form, two values of one attribute
//! in a name, and for the refusal corpus anything malformed. So the DER is written here.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use super::{DevError, KeyAlgorithm};
use crate::pki::certificate::oid;
use crate::pki::der::{self, tag};

/// A key pair of the development PKI.
pub(crate) struct DevKey {
    pair: Pair,
    algorithm: KeyAlgorithm,
    pkcs8: Zeroizing<Vec<u8>>,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl DevKey {
    pub(crate) fn generate(algorithm: KeyAlgorithm) -> Result<Self, DevError> {
        let failed = |_| DevError::Crypto;
        let pkcs8 = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                let pair = EcdsaKeyPair::generate(curve(algorithm)).map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
                let size = match algorithm {
                    KeyAlgorithm::Rsa2048 => KeySize::Rsa2048,
                    _ => KeySize::Rsa3072,
                };
                let pair = RsaKeyPair::generate(size).map_err(failed)?;
                let document: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                document.as_ref().to_vec()
            }
        };
        Self::from_pkcs8(&pkcs8, algorithm)
    }

    pub(crate) fn from_pkcs8(pkcs8: &[u8], algorithm: KeyAlgorithm) -> Result<Self, DevError> {
        let failed = |_| DevError::Crypto;
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                Pair::Ec(EcdsaKeyPair::from_pkcs8(curve(algorithm), pkcs8).map_err(failed)?)
            }
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
                Pair::Rsa(RsaKeyPair::from_pkcs8(pkcs8).map_err(failed)?)
            }
        };
        Ok(Self {
            pair,
            algorithm,
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
        })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Content of the subjectPublicKey BIT STRING.
    fn public_bits(&self) -> &[u8] {
        match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let algorithm = match self.algorithm {
            KeyAlgorithm::EcdsaP256 => [
                der::oid("1.2.840.10045.2.1"),
                der::oid("1.2.840.10045.3.1.7"),
            ],
            KeyAlgorithm::EcdsaP384 => [der::oid("1.2.840.10045.2.1"), der::oid("1.3.132.0.34")],
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
                [der::oid("1.2.840.113549.1.1.1"), vec![tag::NULL, 0]]
            }
        };
        der::sequence([
            der::sequence(algorithm),
            der::bit_string(self.public_bits()),
        ])
    }

    /// SHA-1 of the public key bits (RFC 5280 §4.2.1.2 method 1): a name, not a protection.
    pub(crate) fn key_id(&self) -> Vec<u8> {
        use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
        digest(&SHA1_FOR_LEGACY_USE_ONLY, self.public_bits())
            .as_ref()
            .to_vec()
    }

    /// `AlgorithmIdentifier` of the signatures this key makes.
    pub(crate) fn signature_algorithm(&self) -> Vec<u8> {
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => der::sequence([der::oid("1.2.840.10045.4.3.2")]),
            KeyAlgorithm::EcdsaP384 => der::sequence([der::oid("1.2.840.10045.4.3.3")]),
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
                der::sequence([der::oid("1.2.840.113549.1.1.11"), vec![tag::NULL, 0]])
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, DevError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| DevError::Crypto)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| DevError::Crypto)?;
                Ok(signature)
            }
        }
    }
}

fn curve(algorithm: KeyAlgorithm) -> &'static aws_lc_rs::signature::EcdsaSigningAlgorithm {
    match algorithm {
        KeyAlgorithm::EcdsaP384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        _ => &ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) oid: &'static str,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Extension {
    pub(crate) fn new(oid: &'static str, critical: bool, value: Vec<u8>) -> Self {
        Self {
            oid,
            critical,
            value,
        }
    }

    fn to_der(&self) -> Vec<u8> {
        let mut parts = vec![der::oid(self.oid)];
        if self.critical {
            parts.push(vec![tag::BOOLEAN, 1, 0xff]);
        }
        parts.push(der::element(tag::OCTET_STRING, &self.value));
        der::sequence(parts)
    }
}

/// Everything in a certificate but the signature.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// 0 is v1, 2 is v3.
    pub(crate) version: u8,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
    /// `AlgorithmIdentifier` inside, if another than the key's; for the refusal corpus.
    pub(crate) inner_algorithm: Option<Vec<u8>>,
    /// `AlgorithmIdentifier` outside, likewise.
    pub(crate) outer_algorithm: Option<Vec<u8>>,
}

impl Template {
    /// The certificate, signed with `key`.
    pub(crate) fn sign(&self, key: &DevKey) -> Result<Vec<u8>, DevError> {
        let own = key.signature_algorithm();
        let version = der::element(tag::INTEGER, &[self.version]);
        let mut parts = Vec::new();
        if self.version != 0 {
            parts.push(der::element(tag::constructed(0), &version));
        }
        parts.push(der::element(tag::INTEGER, &self.serial));
        parts.push(self.inner_algorithm.clone().unwrap_or_else(|| own.clone()));
        parts.push(self.issuer.clone());
        parts.push(der::sequence([time(self.not_before), time(self.not_after)]));
        parts.push(self.subject.clone());
        parts.push(self.spki.clone());
        if !self.extensions.is_empty() {
            let list = der::sequence(self.extensions.iter().map(Extension::to_der));
            parts.push(der::element(tag::constructed(3), &list));
        }
        let tbs = der::sequence(parts);
        let signature = key.sign(&tbs)?;
        let outer = self.outer_algorithm.clone().unwrap_or(own);
        Ok(der::sequence([tbs, outer, der::bit_string(&signature)]))
    }
}

/// One entry of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) serial: Vec<u8>,
    pub(crate) revoked_at: Timestamp,
    /// reasonCode (RFC 5280 §5.3.1); 5 is cessationOfOperation.
    pub(crate) reason: u8,
    /// More extensions; for the refusal corpus.
    pub(crate) extensions: Vec<Extension>,
}

/// Everything in a revocation list but the signature.
#[derive(Clone, Debug)]
pub(crate) struct ListTemplate {
    pub(crate) issuer: Vec<u8>,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Option<Timestamp>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) extensions: Vec<Extension>,
    /// `AlgorithmIdentifier`, if another than the key's; for the refusal corpus.
    pub(crate) algorithm: Option<Vec<u8>>,
    /// Without its version, as if of version 1; for the refusal corpus.
    pub(crate) unversioned: bool,
    /// `AlgorithmIdentifier` outside, if another than inside; likewise.
    pub(crate) outer_algorithm: Option<Vec<u8>>,
}

impl ListTemplate {
    /// The list, signed with `key`.
    pub(crate) fn sign(&self, key: &DevKey) -> Result<Vec<u8>, DevError> {
        let algorithm = self
            .algorithm
            .clone()
            .unwrap_or_else(|| key.signature_algorithm());
        let mut parts = Vec::new();
        if !self.unversioned {
            parts.push(der::element(tag::INTEGER, &[1]));
        }
        parts.push(algorithm.clone());
        parts.push(self.issuer.clone());
        parts.push(time(self.this_update));
        parts.extend(self.next_update.map(time));
        if !self.entries.is_empty() {
            let entries = self.entries.iter().map(|entry| {
                let reason = der::element(tag::ENUMERATED, &[entry.reason]);
                let reason = Extension::new("2.5.29.21", false, reason);
                let more = entry.extensions.iter();
                let extensions = std::iter::once(&reason).chain(more).map(Extension::to_der);
                der::sequence([
                    der::unsigned(&entry.serial),
                    time(entry.revoked_at),
                    der::sequence(extensions),
                ])
            });
            parts.push(der::sequence(entries));
        }
        if !self.extensions.is_empty() {
            let list = der::sequence(self.extensions.iter().map(Extension::to_der));
            parts.push(der::element(tag::constructed(0), &list));
        }
        let tbs = der::sequence(parts);
        let signature = key.sign(&tbs)?;
        let outer = self.outer_algorithm.clone().unwrap_or(algorithm);
        Ok(der::sequence([tbs, outer, der::bit_string(&signature)]))
    }
}

/// `UTCTime` to 2049, `GeneralizedTime` after (RFC 5280 §4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let zoned = at.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&zoned.year()) {
        let text = zoned.strftime("%y%m%d%H%M%SZ").to_string();
        der::element(tag::UTC_TIME, text.as_bytes())
    } else {
        let text = zoned.strftime("%Y%m%d%H%M%SZ").to_string();
        der::element(tag::GENERALIZED_TIME, text.as_bytes())
    }
}

/// A distinguished name of (attribute OID, value): country and serialNumber `PrintableString`, all
/// others `UTF8String`, in this order, one RDN each (fact sheet §1.3, §1.5).
pub(crate) fn name<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    der::sequence(attributes.into_iter().map(|(id, value)| {
        let string = match id {
            oid::COUNTRY | oid::SERIAL_NUMBER => tag::PRINTABLE_STRING,
            _ => tag::UTF8_STRING,
        };
        let attribute = der::sequence([der::oid(id), der::element(string, value.as_bytes())]);
        der::set_of(vec![attribute])
    }))
}

/// The extensions of the profile.
pub(crate) mod extension {
    use std::net::IpAddr;

    use super::Extension;
    use crate::pki::der::{self, tag};

    pub(crate) fn authority() -> Extension {
        let value = der::sequence([[tag::BOOLEAN, 1, 0xff]]);
        Extension::new("2.5.29.19", true, value)
    }

    pub(crate) fn key_usage(bits: &[u8]) -> Extension {
        Extension::new("2.5.29.15", true, der::named_bits(bits))
    }

    pub(crate) fn subject_key(id: &[u8]) -> Extension {
        Extension::new("2.5.29.14", false, der::element(tag::OCTET_STRING, id))
    }

    /// The full form: key identifier, and issuer and serial number of the issuer's certificate.
    pub(crate) fn authority_key(id: &[u8], issuer: &[u8], serial: &[u8]) -> Extension {
        let directory = der::element(tag::constructed(4), issuer);
        let value = der::sequence([
            der::element(tag::primitive(0), id),
            der::element(tag::constructed(1), &directory),
            der::element(tag::primitive(2), serial),
        ]);
        Extension::new("2.5.29.35", false, value)
    }

    /// certificatePolicies with a cPSuri qualifier, critical as HPKI has it.
    pub(crate) fn policies<'a>(
        policies: impl IntoIterator<Item = &'a str>,
        cps: &str,
    ) -> Extension {
        let list = policies.into_iter().map(|policy| {
            let uri = der::element(tag::IA5_STRING, cps.as_bytes());
            let qualifier = der::sequence([der::oid("1.3.6.1.5.5.7.2.1"), uri]);
            der::sequence([der::oid(policy), der::sequence([qualifier])])
        });
        Extension::new("2.5.29.32", true, der::sequence(list))
    }

    pub(crate) fn extended_key_usage<'a>(purposes: impl IntoIterator<Item = &'a str>) -> Extension {
        let list = purposes.into_iter().map(|purpose| match purpose {
            "clientAuth" => der::oid("1.3.6.1.5.5.7.3.2"),
            "serverAuth" => der::oid("1.3.6.1.5.5.7.3.1"),
            other => der::oid(other),
        });
        Extension::new("2.5.29.37", false, der::sequence(list))
    }

    pub(crate) fn alternative_names(
        directory: Option<&[u8]>,
        dns: &[String],
        ips: &[IpAddr],
    ) -> Option<Extension> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        names.extend(directory.map(|name| der::element(tag::constructed(4), name)));
        names.extend(
            dns.iter()
                .map(|name| der::element(tag::primitive(2), name.as_bytes())),
        );
        names.extend(ips.iter().map(|ip| match ip {
            IpAddr::V4(four) => der::element(tag::primitive(7), &four.octets()),
            IpAddr::V6(six) => der::element(tag::primitive(7), &six.octets()),
        }));
        if names.is_empty() {
            return None;
        }
        Some(Extension::new("2.5.29.17", false, der::sequence(names)))
    }

    /// A `GeneralName` of a directory name.
    pub(crate) fn directory(name: &[u8]) -> Vec<u8> {
        der::element(tag::constructed(4), name)
    }

    /// A `GeneralName` of a URI.
    pub(crate) fn uri(uri: &str) -> Vec<u8> {
        der::element(tag::primitive(6), uri.as_bytes())
    }

    /// cRLDistributionPoints, one point for each `GeneralName`.
    pub(crate) fn distribution_points(names: impl IntoIterator<Item = Vec<u8>>) -> Extension {
        let points = names
            .into_iter()
            .map(|name| der::sequence([point_name(&name)]));
        Extension::new("2.5.29.31", false, der::sequence(points))
    }

    fn point_name(name: &[u8]) -> Vec<u8> {
        let full_name = der::element(tag::constructed(0), name);
        der::element(tag::constructed(0), &full_name)
    }

    /// issuingDistributionPoint, critical, with onlyContainsCACerts: as the HPKI SARL has it.
    pub(crate) fn authorities_only(point: &[u8]) -> Extension {
        let value = der::sequence([point_name(point), der::element(tag::primitive(2), &[0xff])]);
        Extension::new("2.5.29.28", true, value)
    }

    pub(crate) fn crl_number(number: u64) -> Extension {
        Extension::new("2.5.29.20", false, der::unsigned(&number.to_be_bytes()))
    }

    pub(crate) fn directory_attributes(value: Vec<u8>) -> Extension {
        Extension::new("2.5.29.9", false, value)
    }
}
