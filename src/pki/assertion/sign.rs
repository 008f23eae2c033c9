//! Signing.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header};
use rustls_pki_types::PrivateKeyDer;

use super::{Claims, Statement, TOKEN_TYPE, claimed_usage};
use crate::pki::signature::KeyKind;
use crate::pki::{NodeIdentity, Profiles, Usage, rules};
use crate::types::CertificateThumbprint;

/// Why an assertion cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// Neither RSA nor ECDSA P-256.
    #[error("assertions are signed with RSA or ECDSA P-256 keys, not {0}")]
    Key(Box<str>),
    /// The certificate has neither an institution code nor a subscriber number to sign as.
    #[error("certificate has no institution code or subscriber number")]
    NoIssuer,
    /// The cryptographic library or the random source failed.
    #[error("signing failed")]
    Failed,
    /// A time outside the calendar.
    #[error("lifetime is out of range")]
    Lifetime,
}

/// Signs assertions with one certificate.
pub struct AssertionSigner {
    key: Key,
    chain: Vec<String>,
    issuer: String,
    own: CertificateThumbprint,
}

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for AssertionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionSigner({})", self.issuer)
    }
}

impl AssertionSigner {
    /// A signer with `identity`: the institution's own certificate (issuer: its 10-digit code) or a
    /// person's (issuer: the subscriber number); `profiles` tells which by its policy.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn from_identity(
        identity: &NodeIdentity,
        profiles: &Profiles,
    ) -> Result<Self, SigningError> {
        let leaf = identity.leaf();
        let subject = rules::subject(leaf).map_err(|_| SigningError::NoIssuer)?;
        let issuer = match claimed_usage(leaf, profiles) {
            Usage::Person => subject.serial_number,
            Usage::Institution | Usage::Server => subject.institution_code,
        };
        let issuer = issuer.ok_or(SigningError::NoIssuer)?;
        let chain = identity
            .chain()
            .iter()
            .map(|der| STANDARD.encode(der))
            .collect();
        Ok(Self {
            key: read_key(identity)?,
            chain,
            issuer,
            own: CertificateThumbprint::from_bytes(leaf.fingerprint),
        })
    }

    /// The signer's own certificate: what presents its assertions unless another is named.
    pub fn thumbprint(&self) -> CertificateThumbprint {
        self.own
    }

    /// The `iss` this signer signs as.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs `statement` as of `now`, for `lifetime`, with a fresh nonce.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn issue(
        &self,
        statement: Statement,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, SigningError> {
        let mut nonce = [0u8; 16];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| SigningError::Failed)?;
        self.sign(&Claims {
            issuer: self.issuer.clone(),
            subject: statement.subject,
            role: statement.role,
            purpose: statement.purpose,
            relation: statement.relation,
            institution: statement.institution,
            audience: statement.audience,
            issued_at: now,
            expires_at: now
                .checked_add(lifetime)
                .map_err(|_| SigningError::Lifetime)?,
            nonce: URL_SAFE_NO_PAD.encode(nonce),
            presenter: statement.presenter.unwrap_or(self.own),
            one_time: statement.one_time,
        })
    }

    /// Signs `claims` as they are; what contradicts the certificate is for the verifier to refuse.
    ///
    /// # Errors
    /// [`SigningError::Failed`].
    pub fn sign(&self, claims: &Claims) -> Result<String, SigningError> {
        let alg = match self.key {
            Key::Ec(_) => Algorithm::ES256,
            Key::Rsa(_) => Algorithm::RS256,
        };
        let mut header = Header::new(alg);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.x5c = Some(self.chain.clone());
        let encode = |json: Result<Vec<u8>, serde_json::Error>| {
            json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
                .map_err(|_| SigningError::Failed)
        };
        let head = encode(serde_json::to_vec(&header))?;
        let payload = encode(serde_json::to_vec(&claims.to_wire()))?;
        let message = format!("{head}.{payload}");
        let signature = self.key.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
impl AssertionSigner {
    /// Signs any octets.
    pub(crate) fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.key.sign(message)
    }
}

impl Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => {
                let signature = pair
                    .sign(&random, message)
                    .map_err(|_| SigningError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SigningError::Failed)?;
                Ok(signature)
            }
        }
    }
}

fn read_key(identity: &NodeIdentity) -> Result<Key, SigningError> {
    let key = identity
        .key()
        .ok_or_else(|| SigningError::Key("a key in a token".into()))?;
    let der = key.secret_der();
    let read = match (&identity.leaf().key.kind, key) {
        (KeyKind::Ec { curve }, _) if &**curve == "P-256" => {
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Key::Ec)
        }
        (KeyKind::Rsa { .. }, PrivateKeyDer::Pkcs1(_)) => RsaKeyPair::from_der(der).map(Key::Rsa),
        (KeyKind::Rsa { .. }, _) => RsaKeyPair::from_pkcs8(der).map(Key::Rsa),
        _ => return Err(SigningError::Key(identity.leaf().key.text().into())),
    };
    read.map_err(|_| SigningError::Failed)
}
