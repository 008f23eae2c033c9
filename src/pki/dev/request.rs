//! What is asked of the development PKI, and what it gives.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::files;
use crate::pki::{IdentityError, NodeIdentity};

macro_rules! names {
    ($(#[doc = $doc:literal])+ $type:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $name:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[doc = $vdoc])+ $variant,)+ }

        impl $type {
            /// Every value's name, as the command line takes it.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
                }
            }
        }
    };
}

names! {
    /// What a development certificate is for.
    Kind {
        /// A hospital, clinic, pharmacy or care office: client side of TLS, signs for its staff.
        Institution = "institution",
        /// A gateway: both sides of TLS.
        Gateway = "gateway",
        /// A person: signs assertions.
        Person = "person",
        /// A node's operator at the command line: client side of TLS.
        Operator = "operator",
    }
}

names! {
    /// What is wrong with a development certificate, on purpose.
    Variant {
        /// Nothing.
        Ok = "ok",
        /// A signing certificate: keyUsage nonRepudiation only, signing policy.
        SigningOnly = "signing-only",
        /// Expired at the last midnight of Japan.
        Expired = "expired",
        /// A policy that the issuing CA does not assert.
        WrongPolicy = "wrong-policy",
    }
}

names! {
    /// Kinds of key.
    KeyAlgorithm {
        /// ECDSA P-256.
        EcdsaP256 = "p256",
        /// ECDSA P-384.
        EcdsaP384 = "p384",
        /// RSA 2048, as HPKI cards have it.
        Rsa2048 = "rsa2048",
        /// RSA 3072.
        Rsa3072 = "rsa3072",
    }
}

/// What certificate to issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    /// File name, without ending.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// CN: system name, or a person's name in romaji.
    pub common_name: String,
    /// A person's name in Japanese.
    pub common_name_japanese: Option<String>,
    /// 10-digit 医療機関コード, put in OU.
    pub institution_code: Option<String>,
    /// O: institution's name in romaji.
    pub organisation: Option<String>,
    /// The institution's name in Japanese.
    pub organisation_japanese: Option<String>,
    /// DNS names, for a gateway.
    pub dns_names: Vec<String>,
    /// IP addresses, for a gateway.
    pub ips: Vec<IpAddr>,
    /// hcRole; the kind's own if none.
    pub role: Option<String>,
    /// Days of validity; the kind's own if none.
    pub validity_days: Option<i64>,
    /// What is wrong on purpose.
    pub variant: Variant,
    /// Kind of key.
    pub key: KeyAlgorithm,
}

impl IssueRequest {
    /// A request for a certificate of `kind`, with file name `name` and CN `common_name`; nothing
    /// wrong with it, ECDSA P-256.
    pub fn new(kind: Kind, name: impl Into<String>, common_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            common_name: common_name.into(),
            common_name_japanese: None,
            institution_code: None,
            organisation: None,
            organisation_japanese: None,
            dns_names: Vec::new(),
            ips: Vec::new(),
            role: None,
            validity_days: None,
            variant: Variant::Ok,
            key: KeyAlgorithm::EcdsaP256,
        }
    }

    /// With the institution's 10-digit code, name in romaji and name in Japanese.
    pub fn institution(mut self, code: &str, romaji: &str, japanese: &str) -> Self {
        self.institution_code = Some(code.to_owned());
        self.organisation = Some(romaji.to_owned());
        self.organisation_japanese = Some(japanese.to_owned());
        self
    }

    /// With a DNS name.
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.dns_names.push(name.into());
        self
    }

    /// With an IP address.
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ips.push(ip);
        self
    }

    /// With this hcRole.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Wrong in this way.
    pub fn variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// With this kind of key.
    pub fn key(mut self, key: KeyAlgorithm) -> Self {
        self.key = key;
        self
    }
}

/// A certificate just issued, with its key.
#[derive(Clone)]
pub struct Issued {
    /// Its name in the PKI.
    pub name: String,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// The certificate, then the issuing CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Where it was written: certificate chain and key.
    pub files: Option<(PathBuf, PathBuf)>,
    pub(super) key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({}, serial {})", self.name, self.serial)
    }
}

impl Issued {
    /// The private key, PKCS#8.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }

    /// The identity for TLS and signing.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn identity(&self) -> Result<NodeIdentity, IdentityError> {
        NodeIdentity::from_der(self.chain.clone(), self.key())
    }

    /// The chain in PEM.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| files::pem("CERTIFICATE", der))
            .collect()
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(files::pem("PRIVATE KEY", &self.key))
    }
}
