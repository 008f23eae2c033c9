//! The development PKI: a root, an issuing CA and certificates of HPKI shape, for development,
//! demonstration and tests. DEVELOPMENT ONLY: its keys lie beside its certificates.
//!
//! What it issues is data (`certs-dev/profile.toml`). It uses the *test* policy OIDs, which no
//! production profile accepts.

mod files;
mod issue;
mod profile;
pub(crate) mod template;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use zeroize::Zeroizing;

use self::files::State;
use self::profile::DevProfile;
use self::template::DevKey;
use super::{IdentityError, NodeIdentity, Profiles, TrustError, TrustOptions, TrustStore};
use crate::clock::Clock;

pub use self::files::Record;

/// Why the development PKI did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// A file cannot be read or written.
    #[error("{path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder already holds a PKI.
    #[error("{0:?} already holds a development PKI")]
    Exists(PathBuf),
    /// The folder holds no PKI, or a damaged one.
    #[error("{path:?} holds no usable development PKI: {reason}")]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        reason: Box<str>,
    },
    /// The embedded profile is wrong.
    #[error("certs-dev/profile.toml: {0}")]
    Profile(Box<str>),
    /// A name that is no file name of letters, digits, `.`, `_` and `-`.
    #[error(
        "{0:?} is not a usable name: 1 to 64 of a-z, 0-9, '.', '_', '-', not starting with '.'"
    )]
    Name(Box<str>),
    /// A certificate of this name was issued already.
    #[error("a certificate named {0:?} was issued already")]
    NameTaken(Box<str>),
    /// No certificate of this name or serial number.
    #[error("no certificate named or numbered {0:?} was issued here")]
    Unknown(Box<str>),
    /// A value that the certificate cannot hold.
    #[error("{what} {value:?} is not usable: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// The value.
        value: Box<str>,
        /// Why not.
        why: &'static str,
    },
    /// The cryptographic library failed.
    #[error("key generation or signing failed")]
    Crypto,
    /// What was made cannot be used as an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What was made cannot be used as a trust store.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

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
    key: Zeroizing<Vec<u8>>,
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

/// A CA of the development PKI.
pub(crate) struct Authority {
    pub(crate) der: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    /// Content octets of its serial number.
    pub(crate) serial: Vec<u8>,
    pub(crate) key: DevKey,
}

/// A root, an issuing CA, their revocation lists and what was issued; on disk or in memory only.
pub struct DevPki {
    folder: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    profile: DevProfile,
    pub(crate) root: Authority,
    pub(crate) issuing: Authority,
    state: State,
    root_crl: Vec<u8>,
    issuing_crl: Vec<u8>,
}

impl fmt::Debug for DevPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DevPki({:?}, {} issued)",
            self.folder,
            self.state.certificates.len()
        )
    }
}

/// Added to the names of a foreign PKI.
const FOREIGN: &str = " (foreign)";

impl DevPki {
    /// Makes a new PKI in `folder`, which must not hold one. `foreign` gives its CAs other names,
    /// for certificates that are to be refused.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn create(folder: &Path, clock: Arc<dyn Clock>, foreign: bool) -> Result<Self, DevError> {
        files::refuse_existing(folder)?;
        let mut pki = Self::in_memory_named(clock, if foreign { FOREIGN } else { "" })?;
        pki.folder = Some(folder.to_owned());
        files::write_authorities(folder, &pki.root, &pki.issuing)?;
        pki.save()?;
        Ok(pki)
    }

    /// Opens the PKI in `folder`.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        let state = files::read_state(folder)?;
        let (root, issuing) = files::read_authorities(folder)?;
        let (root_crl, issuing_crl) = files::read_crls(folder)?;
        let profile = DevProfile::embedded()?;
        let folder = Some(folder.to_owned());
        Ok(Self {
            folder,
            clock,
            profile,
            root,
            issuing,
            state,
            root_crl,
            issuing_crl,
        })
    }

    /// A new PKI that touches no disk. Two of them have the same names and different keys.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        Self::in_memory_named(clock, "")
    }

    /// A new PKI of other names that touches no disk.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn in_memory_foreign(clock: Arc<dyn Clock>) -> Result<Self, DevError> {
        Self::in_memory_named(clock, FOREIGN)
    }

    fn in_memory_named(clock: Arc<dyn Clock>, suffix: &str) -> Result<Self, DevError> {
        let profile = DevProfile::embedded()?;
        let mut state = State::default();
        let now = clock.now();
        let root = issue::root(&profile, suffix, now)?;
        let issuing = issue::issuing(&profile, suffix, &root, now, state.take_serial())?;
        let mut pki = Self {
            folder: None,
            clock,
            profile,
            root,
            issuing,
            state,
            root_crl: Vec::new(),
            issuing_crl: Vec::new(),
        };
        pki.sign_crls()?;
        Ok(pki)
    }

    /// Issues a certificate; writes `names/<name>.cert.pem` (with the issuing CA's certificate) and
    /// `names/<name>.key.pem` (mode 600) if this PKI is on disk.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn issue(&mut self, request: &IssueRequest) -> Result<Issued, DevError> {
        files::check_name(&request.name)?;
        if self
            .state
            .certificates
            .iter()
            .any(|known| known.name == request.name)
        {
            return Err(DevError::NameTaken(request.name.as_str().into()));
        }
        let serial = self.state.take_serial();
        let key = DevKey::generate(request.key)?;
        let template = self.template(request, serial, &key)?;
        let der = template.sign(&self.issuing.key)?;
        let mut issued = Issued {
            name: request.name.clone(),
            serial: super::certificate::hex(&template.serial),
            chain: vec![
                CertificateDer::from(der),
                CertificateDer::from(self.issuing.der.clone()),
            ],
            files: None,
            key: Zeroizing::new(key.pkcs8().to_vec()),
        };
        if let Some(folder) = &self.folder {
            issued.files = Some(files::write_issued(folder, &issued)?);
        }
        self.state.certificates.push(Record {
            name: request.name.clone(),
            serial,
            kind: request.kind.name().to_owned(),
            variant: request.variant.name().to_owned(),
            common_name: request.common_name.clone(),
            not_after: template.not_after.to_string(),
            spki_sha256: super::certificate::hex(&super::certificate::sha256(&key.spki())),
            revoked_at: None,
        });
        self.save()?;
        Ok(issued)
    }

    /// The certificate `request` describes, before its signature.
    pub(crate) fn template(
        &self,
        request: &IssueRequest,
        serial: u64,
        key: &DevKey,
    ) -> Result<template::Template, DevError> {
        issue::end_entity(
            &self.profile,
            &self.issuing,
            request,
            serial,
            key,
            self.clock.now(),
        )
    }

    /// An issuing CA's certificate under the root for `key`, before its signature.
    #[cfg(test)]
    pub(crate) fn authority_template(
        &self,
        key: &DevKey,
        serial: u64,
    ) -> Result<template::Template, DevError> {
        issue::issuing_template(
            &self.profile,
            "",
            &self.root,
            key,
            (self.clock.now(), serial),
        )
    }

    /// Puts a certificate, by name or serial number, on the issuing CA's revocation list, which is
    /// renewed. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`DevError::Unknown`], or a file error.
    pub fn revoke(&mut self, name_or_serial: &str) -> Result<Record, DevError> {
        let wanted = name_or_serial.trim_start_matches("0x");
        let now = self.clock.now();
        let record = self
            .state
            .certificates
            .iter_mut()
            .find(|known| {
                known.name == name_or_serial
                    || u64::from_str_radix(wanted, 16).is_ok_and(|serial| serial == known.serial)
            })
            .ok_or_else(|| DevError::Unknown(name_or_serial.into()))?;
        record.revoked_at.get_or_insert_with(|| now.to_string());
        let record = record.clone();
        self.refresh()?;
        Ok(record)
    }

    /// Puts the issuing CA itself on the root's list: everything it issued is then refused.
    ///
    /// # Errors
    /// A file error.
    pub fn revoke_issuing(&mut self) -> Result<(), DevError> {
        let now = self.clock.now();
        self.state
            .issuing_revoked_at
            .get_or_insert_with(|| now.to_string());
        self.refresh()
    }

    /// Renews both revocation lists, with the next numbers and from now on.
    ///
    /// # Errors
    /// A file error.
    pub fn refresh(&mut self) -> Result<(), DevError> {
        self.sign_crls()?;
        self.save()
    }

    fn sign_crls(&mut self) -> Result<(), DevError> {
        let now = self.clock.now();
        self.state.crl_number += 1;
        self.root_crl = self.root_crl_template(now)?.sign(&self.root.key)?;
        self.issuing_crl = self.issuing_crl_template(now)?.sign(&self.issuing.key)?;
        Ok(())
    }

    pub(crate) fn root_crl_template(
        &self,
        now: Timestamp,
    ) -> Result<template::ListTemplate, DevError> {
        issue::root_crl(&self.profile, &self.root, &self.issuing, &self.state, now)
    }

    pub(crate) fn issuing_crl_template(
        &self,
        now: Timestamp,
    ) -> Result<template::ListTemplate, DevError> {
        issue::issuing_crl(&self.profile, &self.root, &self.issuing, &self.state, now)
    }

    fn save(&self) -> Result<(), DevError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        files::write_crl(&files::root_crl(folder), &self.root_crl)?;
        files::write_crl(&files::issuing_crl(folder), &self.issuing_crl)?;
        files::write_state(folder, &self.state)
    }

    /// What was issued, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.state.certificates
    }

    /// The root certificate.
    pub fn root_certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.root.der.clone())
    }

    /// The issuing CA's certificate.
    pub fn issuing_certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.issuing.der.clone())
    }

    /// Both revocation lists: the root's, then the issuing CA's.
    pub fn crls(&self) -> [CertificateRevocationListDer<'static>; 2] {
        [
            self.root_crl.clone().into(),
            self.issuing_crl.clone().into(),
        ]
    }

    /// A trust store of this PKI under the test profiles.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn trust_store(&self, options: TrustOptions) -> Result<TrustStore, DevError> {
        let profiles =
            Profiles::test().map_err(|error| DevError::Profile(error.to_string().into()))?;
        let store = TrustStore::from_der(
            &[self.root_certificate()],
            &[self.issuing_certificate()],
            &self.crls(),
            profiles,
            options,
        )?;
        Ok(store)
    }

    /// How long a revocation list lives.
    pub fn crl_lifetime(&self) -> SignedDuration {
        SignedDuration::from_hours(self.profile.crl_hours)
    }
}

/// Where a PKI in `folder` keeps what a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The root certificate.
    pub root: PathBuf,
    /// The issuing CA's certificate.
    pub issuing: PathBuf,
    /// The folder of revocation lists.
    pub crls: PathBuf,
    /// The folder of issued certificates and keys.
    pub names: PathBuf,
}

impl Layout {
    /// The layout of `folder`.
    pub fn of(folder: &Path) -> Self {
        Self {
            root: folder.join("root.cert.pem"),
            issuing: folder.join("issuing.cert.pem"),
            crls: folder.join("crls"),
            names: folder.join("names"),
        }
    }

    /// Loads a trust store from this layout, under the test profiles.
    ///
    /// # Errors
    /// [`TrustError`], or [`DevError::Profile`].
    pub fn trust_store(&self, options: TrustOptions) -> Result<TrustStore, DevError> {
        let profiles =
            Profiles::test().map_err(|error| DevError::Profile(error.to_string().into()))?;
        let (roots, issuing, crls) = (
            [self.root.clone()],
            [self.issuing.clone()],
            [self.crls.clone()],
        );
        Ok(TrustStore::load(
            &roots, &issuing, &crls, profiles, options,
        )?)
    }
}
