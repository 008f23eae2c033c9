//! The development PKI: a root, an issuing CA and certificates of HPKI shape, for development,
//! demonstration and tests. DEVELOPMENT ONLY: its keys lie beside its certificates.
//!
//! What it issues is data (`certs-dev/profile.toml`). It uses the *test* policy OIDs, which no
//! production profile accepts.

pub mod corpus;
mod files;
mod issue;
mod profile;
mod request;
pub(crate) mod template;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use self::files::State;
use self::profile::DevProfile;
use self::template::DevKey;
use super::{IdentityError, Profiles, TrustError, TrustOptions, TrustStore};
use crate::clock::Clock;

pub use self::files::Record;
pub use self::request::{IssueRequest, Issued, KeyAlgorithm, Kind, Variant};

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
            serial: HEXLOWER.encode(&template.serial),
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
            spki_sha256: HEXLOWER.encode(&super::certificate::sha256(&key.spki())),
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
