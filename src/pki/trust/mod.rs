//! The trust store: roots, known CA certificates, revocation lists and profiles; never the
//! operating system's store. Immutable; a reload makes a new one with a new generation.

mod files;
mod handle;
mod renew;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use self::files::read_lists;
use super::Refusal;
use super::certificate::Certificate;
use super::crl::{Crl, CrlError, refuse_list_if};
use super::profile::Profiles;
use super::rules;

pub use files::read_certificates;
pub use handle::TrustHandle;
pub use renew::ImportedList;

/// Settings of a trust store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustOptions {
    /// How long past nextUpdate a revocation list still serves, with a remark. Zero: not at all.
    pub crl_grace: Duration,
    /// The same for calls of the emergency class; less than `crl_grace` counts as `crl_grace`.
    pub crl_grace_emergency: Duration,
}

/// Why a trust store cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file larger than any that is used.
    #[error("{path:?} is larger than {limit} octets")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file holds nothing of the kind expected.
    #[error("no {expected} in {path:?}")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// A PEM block does not decode.
    #[error("malformed PEM in {path:?}: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: Box<str>,
    },
    /// No root at all: nothing could be trusted.
    #[error("no root certificate is configured")]
    NoRoot,
    /// A root or CA certificate breaks a rule.
    #[error("CA certificate {subject}: {refusal}")]
    Authority {
        /// Its subject, or where it came from.
        subject: Box<str>,
        /// The rule.
        refusal: Refusal,
    },
    /// A root that is not self-signed.
    #[error("root certificate {subject} is not self-signed")]
    NotSelfSigned {
        /// Its subject.
        subject: Box<str>,
    },
    /// A revocation list is not taken.
    #[error("{origin}: {error}")]
    Crl {
        /// The file, or where it came from.
        origin: Box<str>,
        /// Why.
        error: CrlError,
    },
}

/// How one revocation list stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlStatus {
    /// Issuer's name.
    pub issuer: String,
    /// CRL number.
    pub number: String,
    /// When it was issued.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// How many certificates are on it.
    pub revoked: usize,
}

/// Roots, CA certificates, revocation lists and profiles of one moment; cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    crls: Vec<Crl>,
    profiles: Profiles,
    options: TrustOptions,
    generation: u64,
}

fn next_generation() -> u64 {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    GENERATION.fetch_add(1, Ordering::Relaxed)
}

impl TrustStore {
    /// Loads a trust store from PEM or DER files. A folder among `crls` stands for every file in
    /// it. All or nothing: one bad file and the store is not made, so that the old one stays.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn load(
        roots: &[PathBuf],
        intermediates: &[PathBuf],
        crls: &[PathBuf],
        profiles: Profiles,
        options: TrustOptions,
    ) -> Result<Self, TrustError> {
        let mut root_certificates = Vec::new();
        for path in roots {
            root_certificates.extend(read_certificates(path)?);
        }
        let mut ca_certificates = Vec::new();
        for path in intermediates {
            ca_certificates.extend(read_certificates(path)?);
        }
        let store = Self::from_der(&root_certificates, &ca_certificates, &[], profiles, options)?;
        let mut lists: Vec<Crl> = Vec::new();
        let limit = store.profiles().limits().crl_bytes;
        for path in crls {
            for (file, list) in read_lists(path, limit)? {
                let origin = file.display().to_string();
                let list = store
                    .read_crl(&list)
                    .map_err(|error| crl_error(&origin, error))?;
                keep_newest(&mut lists, list);
            }
        }
        Ok(store.with_lists(lists))
    }

    /// Makes a trust store from DER.
    ///
    /// # Errors
    /// [`TrustError`], all but the file variants.
    pub fn from_der(
        roots: &[CertificateDer<'_>],
        intermediates: &[CertificateDer<'_>],
        crls: &[CertificateRevocationListDer<'_>],
        profiles: Profiles,
        options: TrustOptions,
    ) -> Result<Self, TrustError> {
        if roots.is_empty() {
            return Err(TrustError::NoRoot);
        }
        let roots = roots
            .iter()
            .map(|der| read_root(der, &profiles))
            .collect::<Result<Vec<_>, _>>()?;
        let intermediates = intermediates
            .iter()
            .map(|der| read_authority(der, &profiles))
            .collect::<Result<Vec<_>, _>>()?;
        let generation = next_generation();
        let store = Self(Arc::new(Inner {
            roots,
            intermediates,
            crls: Vec::new(),
            profiles,
            options,
            generation,
        }));
        let mut lists = Vec::new();
        for der in crls {
            let list = store
                .read_crl(der)
                .map_err(|error| crl_error("revocation list", error))?;
            keep_newest(&mut lists, list);
        }
        Ok(store.with_lists(lists))
    }

    /// This store with `new` revocation lists put in place of those they renew. A list with a lower
    /// number than the one in force is refused, and then nothing changes.
    ///
    /// # Errors
    /// [`CrlError`].
    pub fn with_crls(&self, new: &[CertificateRevocationListDer<'_>]) -> Result<Self, CrlError> {
        let mut lists = self.0.crls.clone();
        for der in new {
            let list = self.read_crl(der)?;
            let known = lists.iter().find(|known| known.same_scope(&list));
            refuse_older(&list, known)?;
            keep_newest(&mut lists, list);
        }
        Ok(self.with_lists(lists))
    }

    /// Checks that no list of this store is older than the one `previous` holds for the same
    /// certificates; for a reload from files. A list that is missing altogether is no rollback:
    /// its issuer's certificates are refused then.
    ///
    /// # Errors
    /// [`CrlError::NumberWentBack`].
    pub fn check_not_older_than(&self, previous: &Self) -> Result<(), CrlError> {
        for known in &previous.0.crls {
            let newer = self.0.crls.iter().find(|list| list.same_scope(known));
            newer.map_or(Ok(()), |newer| refuse_older(newer, Some(known)))?;
        }
        Ok(())
    }

    fn with_lists(&self, crls: Vec<Crl>) -> Self {
        Self(Arc::new(Inner {
            roots: self.0.roots.clone(),
            intermediates: self.0.intermediates.clone(),
            crls,
            profiles: self.0.profiles.clone(),
            options: self.0.options,
            generation: next_generation(),
        }))
    }

    fn read_crl(&self, der: &[u8]) -> Result<Crl, CrlError> {
        let authorities = self.0.roots.iter().chain(&self.0.intermediates);
        Crl::load(der, authorities, &self.0.profiles)
    }

    /// The number of this state of trust, never given twice in one process: a verdict under one
    /// generation says nothing under another.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The profiles certificates are judged by.
    pub fn profiles(&self) -> &Profiles {
        &self.0.profiles
    }

    /// The settings.
    pub fn options(&self) -> TrustOptions {
        self.0.options
    }

    /// Every revocation list in force, for metrics and readiness.
    pub fn crl_status(&self) -> Vec<CrlStatus> {
        let status = |list: &Crl| CrlStatus {
            issuer: list.issuer.text(),
            number: list.number_text(),
            this_update: list.this_update,
            next_update: list.next_update,
            revoked: list.revoked_count(),
        };
        self.0.crls.iter().map(status).collect()
    }

    /// Names of the configured CAs no revocation list was signed by; their certificates are all
    /// refused, so a node with such a CA is not ready.
    pub fn authorities_without_crl(&self) -> Vec<String> {
        let authorities = self.0.roots.iter().chain(&self.0.intermediates);
        authorities
            .filter(|ca| !self.0.crls.iter().any(|list| list.signer == ca.spki_sha256))
            .map(|ca| ca.subject.text())
            .collect()
    }

    pub(crate) fn roots(&self) -> &[Certificate] {
        &self.0.roots
    }

    pub(crate) fn intermediates(&self) -> &[Certificate] {
        &self.0.intermediates
    }

    pub(crate) fn crls(&self) -> &[Crl] {
        &self.0.crls
    }
}

fn crl_error(origin: &str, error: CrlError) -> TrustError {
    TrustError::Crl {
        origin: origin.into(),
        error,
    }
}

/// A CRL number never goes back (RFC 5280 §5.2.3).
fn refuse_older(list: &Crl, known: Option<&Crl>) -> Result<(), CrlError> {
    let older = known.filter(|known| list.is_older_than(known));
    refuse_list_if(older.is_some(), || CrlError::NumberWentBack {
        issuer: list.issuer.text().into(),
        found: list.number_text().into(),
        known: older.map(Crl::number_text).unwrap_or_default().into(),
    })
}

fn keep_newest(lists: &mut Vec<Crl>, list: Crl) {
    match lists.iter_mut().find(|known| known.same_scope(&list)) {
        Some(known) if list.is_older_than(known) => {}
        Some(known) => *known = list,
        None => lists.push(list),
    }
}

fn read_authority(
    der: &CertificateDer<'_>,
    profiles: &Profiles,
) -> Result<Certificate, TrustError> {
    let limit = profiles.limits().certificate_bytes;
    let certificate = Certificate::read(der, limit).map_err(|refusal| TrustError::Authority {
        subject: "(unreadable)".into(),
        refusal,
    })?;
    // By the list that starts the profile: what narrows with time is judged with each path.
    match rules::authority(&certificate, 1, profiles, Timestamp::MIN) {
        Ok(()) => Ok(certificate),
        Err(refusal) => Err(TrustError::Authority {
            subject: certificate.subject.text().into(),
            refusal,
        }),
    }
}

fn read_root(der: &CertificateDer<'_>, profiles: &Profiles) -> Result<Certificate, TrustError> {
    let root = read_authority(der, profiles)?;
    let own = root
        .key
        .verifies(&root.signature_algorithm, &root.signed, &root.signature);
    if root.is_self_issued() && own {
        Ok(root)
    } else {
        Err(TrustError::NotSelfSigned {
            subject: root.subject.text().into(),
        })
    }
}
