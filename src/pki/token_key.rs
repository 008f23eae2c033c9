//! A TLS private key in a PKCS#11 token: each handshake is one `C_Sign`, and the key never leaves
//! the token.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use cryptoki::error::Error as CallError;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::certificate::Certificate;
use super::der;
use super::signature::KeyKind;
use crate::token::{Login, Token, TokenError, TokenKey};

/// The key of one certificate.
#[derive(Clone, Debug)]
pub(super) struct KeyInToken {
    token: Arc<Token>,
    /// The certificate's public key.
    public: Vec<u8>,
    algorithm: SignatureAlgorithm,
    /// What it signs with, best first: those of TLS 1.3.
    schemes: &'static [SignatureScheme],
}

impl KeyInToken {
    /// Finds the private key. That it is the one of `leaf` is not known before it has signed:
    /// [`KeyInToken::is_of_its_certificate`].
    ///
    /// # Errors
    /// [`TokenError`]; `None` if no key of the certificate's kind is used in TLS 1.3.
    pub(super) fn open(
        settings: &TokenKey,
        leaf: &Certificate,
    ) -> Result<Option<Self>, TokenError> {
        let (algorithm, schemes): (_, &[SignatureScheme]) = match &leaf.key.kind {
            KeyKind::Rsa { .. } => (
                SignatureAlgorithm::RSA,
                &[
                    SignatureScheme::RSA_PSS_SHA256,
                    SignatureScheme::RSA_PSS_SHA384,
                    SignatureScheme::RSA_PSS_SHA512,
                ],
            ),
            KeyKind::Ec { curve } if &**curve == "P-256" => (
                SignatureAlgorithm::ECDSA,
                &[SignatureScheme::ECDSA_NISTP256_SHA256],
            ),
            KeyKind::Ec { curve } if &**curve == "P-384" => (
                SignatureAlgorithm::ECDSA,
                &[SignatureScheme::ECDSA_NISTP384_SHA384],
            ),
            _ => return Ok(None),
        };
        let kind = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Sign(true),
        ];
        Ok(Some(Self {
            token: Arc::new(Token::open(settings, kind)?),
            public: leaf.spki.clone(),
            algorithm,
            schemes,
        }))
    }

    /// Has it sign something with each scheme, and verifies that with the certificate's public key.
    ///
    /// # Errors
    /// The token's.
    pub(super) fn is_of_its_certificate(&self, leaf: &Certificate) -> Result<bool, Error> {
        let challenge = b"is this the certificate's key?";
        for scheme in self.schemes {
            let verified_as: &dyn VerificationAlgorithm = match *scheme {
                SignatureScheme::ECDSA_NISTP256_SHA256 => &ECDSA_P256_SHA256_ASN1,
                SignatureScheme::ECDSA_NISTP384_SHA384 => &ECDSA_P384_SHA384_ASN1,
                SignatureScheme::RSA_PSS_SHA256 => &RSA_PSS_2048_8192_SHA256,
                SignatureScheme::RSA_PSS_SHA384 => &RSA_PSS_2048_8192_SHA384,
                _ => &RSA_PSS_2048_8192_SHA512,
            };
            let signature = self.sign(*scheme, challenge)?;
            let public = UnparsedPublicKey::new(verified_as, &leaf.key.bits);
            if public.verify(challenge, &signature).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        let answer = self.token.ask(|login| request(login, scheme, message));
        let answer = answer.map_err(|error| {
            tracing::error!(%error, "the token with the TLS key");
            unusable()
        })?;
        let signature = answer.map_err(|error| {
            tracing::error!(%error, "the token did not sign a handshake");
            unusable()
        })?;
        match self.algorithm {
            SignatureAlgorithm::ECDSA => Ok(ecdsa_der(&signature)),
            _ => Ok(signature),
        }
    }
}

fn unusable() -> Error {
    Error::General("the token with the private key did not sign".into())
}

fn request(
    Login { session, key }: &Login,
    scheme: SignatureScheme,
    message: &[u8],
) -> Result<Vec<u8>, CallError> {
    let hashed = |algorithm| digest::digest(algorithm, message);
    let pss = |hash_alg, mgf, length: std::ffi::c_ulong| PkcsPssParams {
        hash_alg,
        mgf,
        s_len: length.into(),
    };
    let (sha256, sha384, sha512) = (
        MechanismType::SHA256,
        MechanismType::SHA384,
        MechanismType::SHA512,
    );
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => {
            let hash = hashed(&digest::SHA256);
            session.sign(&Mechanism::Ecdsa, *key, hash.as_ref())
        }
        SignatureScheme::ECDSA_NISTP384_SHA384 => {
            let hash = hashed(&digest::SHA384);
            session.sign(&Mechanism::Ecdsa, *key, hash.as_ref())
        }
        SignatureScheme::RSA_PSS_SHA256 => {
            let how = pss(sha256, PkcsMgfType::MGF1_SHA256, 32);
            session.sign(&Mechanism::Sha256RsaPkcsPss(how), *key, message)
        }
        SignatureScheme::RSA_PSS_SHA384 => {
            let how = pss(sha384, PkcsMgfType::MGF1_SHA384, 48);
            session.sign(&Mechanism::Sha384RsaPkcsPss(how), *key, message)
        }
        SignatureScheme::RSA_PSS_SHA512 => {
            let how = pss(sha512, PkcsMgfType::MGF1_SHA512, 64);
            session.sign(&Mechanism::Sha512RsaPkcsPss(how), *key, message)
        }
        _ => Err(CallError::InvalidValue),
    }
}

/// PKCS#11 gives r and s side by side, each as long as the order; TLS wants them as two INTEGERs
/// (RFC 8446, 4.2.3).
fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    der::sequence([r, s].map(|number| {
        let digits = number.iter().position(|octet| *octet != 0);
        let digits = digits.map_or(&[0][..], |first| number.get(first..).unwrap_or_default());
        let negative = digits.first().is_some_and(|octet| *octet >= 0x80);
        let sign: &[u8] = if negative { &[0] } else { &[] };
        der::nest(der::tag::INTEGER, [sign, digits])
    }))
}

impl SigningKey for KeyInToken {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.schemes.iter().find(|own| offered.contains(own))?;
        Some(Box::new(OneSignature {
            key: self.clone(),
            scheme: *scheme,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.public.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

#[derive(Debug)]
struct OneSignature {
    key: KeyInToken,
    scheme: SignatureScheme,
}

impl Signer for OneSignature {
    /// A token takes milliseconds, some of them many: other tasks go to other threads meanwhile.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let on_many = Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        if on_many {
            tokio::task::block_in_place(|| self.key.sign(self.scheme, message))
        } else {
            self.key.sign(self.scheme, message)
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_side_by_side_become_two_integers() {
        assert_eq!(
            ecdsa_der(&[0x00, 0x7f, 0x80, 0x01]),
            [0x30, 8, 2, 1, 0x7f, 2, 3, 0, 0x80, 0x01]
        );
        assert_eq!(ecdsa_der(&[0, 0, 0, 1]), [0x30, 6, 2, 1, 0, 2, 1, 1]);
    }
}
