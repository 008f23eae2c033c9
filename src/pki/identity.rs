//! A node's own certificate and private key.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use super::certificate::Certificate;
use super::token_key::KeyInToken;
use super::trust::read_certificates;
use super::{Refusal, TrustError};
use crate::token::{TokenError, TokenKey};
use crate::types::CertificatePin;

/// Largest own certificate; the same as the limit for peers.
const LARGEST_CERTIFICATE: usize = 65_536;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate file cannot be used.
    #[error(transparent)]
    Certificate(#[from] TrustError),
    /// The end-entity certificate does not parse.
    #[error("own certificate: {0}")]
    Refused(#[from] Refusal),
    /// The key file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner may read the key file.
    #[error("private key {path:?} may be read by others (mode {mode:03o}); set it to 600")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an unencrypted PEM private key of a kind in use.
    #[error("no usable private key in {origin}: {reason}")]
    Key {
        /// The file, or where it came from.
        origin: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// The token that holds the private key, or the key in it, cannot be used.
    #[error("the private key's token: {0}")]
    Token(#[from] TokenError),
    /// The token does not sign.
    #[error("the private key in the token: {0}")]
    Signing(#[from] rustls::Error),
    /// The key belongs to another certificate.
    #[error("private key does not belong to the certificate of {subject}")]
    Mismatch {
        /// The certificate's subject.
        subject: Box<str>,
    },
}

/// A certificate chain with the private key of its first certificate.
///
/// `Debug` shows the subject only.
#[derive(Clone)]
pub struct NodeIdentity(Arc<Inner>);

struct Inner {
    leaf: Certificate,
    chain: Vec<CertificateDer<'static>>,
    /// Absent if it is in a token.
    key: Option<PrivateKeyDer<'static>>,
    signing: Arc<dyn SigningKey>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(key) = &mut self.key {
            key.zeroize();
        }
    }
}

impl NodeIdentity {
    /// Loads `cert_chain_pem` (own certificate first, then the CA certificates below the root) and
    /// `key_pem` (PKCS#8, PKCS#1 or SEC1, not encrypted).
    ///
    /// # Errors
    /// [`IdentityError`]; among others if group or others may read the key, and if it belongs to
    /// another certificate.
    pub fn load(cert_chain_pem: &Path, key_pem: &Path) -> Result<Self, IdentityError> {
        let chain = read_certificates(cert_chain_pem)?;
        refuse_readable(key_pem)?;
        let text = fs::read(key_pem)
            .map(Zeroizing::new)
            .map_err(|source| IdentityError::Io {
                path: key_pem.to_owned(),
                source,
            })?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| IdentityError::Key {
            origin: key_pem.display().to_string().into(),
            reason: format!("{error:?}").into(),
        })?;
        Self::from_der(chain, key)
    }

    /// Loads `cert_chain_pem` as [`NodeIdentity::load`] does; its private key is in a token and
    /// stays there.
    ///
    /// # Errors
    /// [`IdentityError`]; among others if the key, asked to sign, turns out to be another's.
    pub fn in_token(cert_chain_pem: &Path, key: &TokenKey) -> Result<Self, IdentityError> {
        let chain = read_certificates(cert_chain_pem)?;
        let first = chain.first().ok_or(Refusal::NoCertificate)?;
        let leaf = Certificate::read(first, LARGEST_CERTIFICATE)?;
        let signing = KeyInToken::open(key, &leaf)?.ok_or_else(|| IdentityError::Key {
            origin: format!("{key:?}").into(),
            reason: format!("{} is not used in TLS 1.3", leaf.key.text()).into(),
        })?;
        if !signing.is_of_its_certificate(&leaf)? {
            return Err(IdentityError::Mismatch {
                subject: leaf.subject.text().into(),
            });
        }
        Ok(Self(Arc::new(Inner {
            leaf,
            chain,
            key: None,
            signing: Arc::new(signing),
        })))
    }

    /// Makes an identity from DER.
    ///
    /// # Errors
    /// [`IdentityError`], all but the file variants.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let first = chain.first().ok_or(Refusal::NoCertificate)?;
        let leaf = Certificate::read(first, LARGEST_CERTIFICATE)?;
        let signing =
            aws_lc_rs::sign::any_supported_type(&key).map_err(|error| IdentityError::Key {
                origin: "identity".into(),
                reason: error.to_string().into(),
            })?;
        let public = signing.public_key();
        if public.is_none_or(|spki| spki.as_ref() != leaf.spki.as_slice()) {
            return Err(IdentityError::Mismatch {
                subject: leaf.subject.text().into(),
            });
        }
        Ok(Self(Arc::new(Inner {
            leaf,
            chain,
            key: Some(key),
            signing,
        })))
    }

    /// The chain sent to peers, own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// The pin under which peers register this identity.
    pub fn pin(&self) -> CertificatePin {
        CertificatePin::from_bytes(self.0.leaf.spki_sha256)
    }

    /// The subject's name as text.
    pub fn subject(&self) -> String {
        self.0.leaf.subject.text()
    }

    pub(crate) fn leaf(&self) -> &Certificate {
        &self.0.leaf
    }

    /// The private key, unless it is in a token.
    pub(crate) fn key(&self) -> Option<&PrivateKeyDer<'static>> {
        self.0.key.as_ref()
    }

    /// The pair for rustls. Its own consistency check is not used: webpki, behind it, refuses a
    /// critical certificatePolicies. [`NodeIdentity::from_der`] has compared key and certificate.
    pub(crate) fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::new(self.0.chain.clone(), Arc::clone(&self.0.signing))
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeIdentity({})", self.subject())
    }
}

/// The identity in force: replaced on reload, so that new connections, in and out, show the new
/// certificate while those open go on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdentityHandle(Arc<InForce>);

#[derive(Debug)]
struct InForce {
    identity: ArcSwap<NodeIdentity>,
    certified: ArcSwap<CertifiedKey>,
}

impl IdentityHandle {
    /// A handle with `identity` in force.
    pub fn new(identity: NodeIdentity) -> Self {
        Self(Arc::new(InForce {
            certified: ArcSwap::from_pointee(identity.certified_key()),
            identity: ArcSwap::from_pointee(identity),
        }))
    }

    /// The identity in force.
    pub fn current(&self) -> NodeIdentity {
        NodeIdentity::clone(&self.0.identity.load())
    }

    /// Puts `identity` in force.
    pub fn replace(&self, identity: NodeIdentity) {
        self.0.certified.store(Arc::new(identity.certified_key()));
        self.0.identity.store(Arc::new(identity));
    }
}

impl From<&NodeIdentity> for IdentityHandle {
    fn from(identity: &NodeIdentity) -> Self {
        Self::new(identity.clone())
    }
}

impl From<&Self> for IdentityHandle {
    fn from(handle: &Self) -> Self {
        handle.clone()
    }
}

impl ResolvesServerCert for IdentityHandle {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified.load_full())
    }
}

impl ResolvesClientCert for IdentityHandle {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Refuses a key file that group or others may read, on systems with such bits.
fn refuse_readable(path: &Path) -> Result<(), IdentityError> {
    let metadata = fs::metadata(path).map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
    }
    #[cfg(not(unix))]
    drop(metadata);
    Ok(())
}
