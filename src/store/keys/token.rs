//! A root key in a PKCS#11 token: an AES-256 secret key that may encrypt and decrypt and never
//! leaves it. Every wrapping is one `C_Encrypt` with `CKM_AES_GCM`, so a store asks its token a few
//! times when it opens and when keys are rotated or purged, and never for data.

use std::fmt::{self, Debug};

use cryptoki::error::{Error as CallError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use zeroize::Zeroizing;

use super::super::crypto::{NONCE_BYTES, Secret, TAG_BYTES};
use super::super::error::StoreError;
use super::root::RootKey;
use super::tag::Random;
use crate::token::{Login, Token, TokenError, TokenKey, failed};

/// The token that holds the root key.
pub(crate) struct TokenRoot(Token);

impl Debug for TokenRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRoot")
    }
}

impl TokenRoot {
    /// Opens a session and finds the key.
    ///
    /// # Errors
    /// [`StoreError::Token`] naming what failed; [`StoreError::Missing`] if the token or the key
    /// is not there; [`StoreError::KeyExposed`] if others may read the PIN file.
    pub(super) fn open(settings: &TokenKey) -> Result<Self, StoreError> {
        let kind = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Extractable(false),
        ];
        Ok(Self(Token::open(settings, kind)?))
    }
}

impl From<TokenError> for StoreError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NoToken => Self::Missing("the root key's token"),
            TokenError::NoKey => Self::Missing("the root key in its token"),
            TokenError::Ambiguous(_) => Self::Token("telling apart two of one label"),
            TokenError::PinExposed { mode } => Self::KeyExposed { mode },
            TokenError::Pin(error) => {
                tracing::error!(%error, "the PIN of the root key's token");
                Self::Token("reading the PIN file")
            }
            TokenError::Call { what, source } => {
                tracing::error!(error = %source, what, "the root key's token");
                Self::Token(what)
            }
        }
    }
}

impl RootKey for TokenRoot {
    fn wrap(
        &self,
        context: &[u8],
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<Vec<u8>, StoreError> {
        let mut chosen = [0; NONCE_BYTES];
        random.fill(&mut chosen)?;
        let what = "wrapping a key in the token";
        let answer = self.0.ask(|Login { session, key }| {
            // A token may choose the nonce itself, and says it in the same place.
            let mut nonce = chosen;
            let parameters = GcmParams::new(&mut nonce, context, 128.into())?;
            let sealed = session.encrypt(&Mechanism::AesGcm(parameters), *key, secret.as_ref())?;
            Ok((nonce, sealed))
        })?;
        let (nonce, sealed) = answer.map_err(failed(what))?;
        if sealed.len() != secret.len() + TAG_BYTES {
            return Err(StoreError::Token(what));
        }
        let mut wrapped = nonce.to_vec();
        wrapped.extend_from_slice(&sealed);
        Ok(wrapped)
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Option<Secret>, StoreError> {
        let Some((nonce, sealed)) = wrapped.split_at_checked(NONCE_BYTES) else {
            return Ok(None);
        };
        let answer = self.0.ask(|Login { session, key }| {
            let mut nonce = nonce.to_vec();
            let parameters = GcmParams::new(&mut nonce, context, 128.into())?;
            session.decrypt(&Mechanism::AesGcm(parameters), *key, sealed)
        })?;
        match answer {
            Ok(plain) => {
                let plain = Zeroizing::new(plain);
                let secret: Option<[u8; 32]> = plain.as_slice().try_into().ok();
                Ok(secret.map(Zeroizing::new))
            }
            // How tokens say that the tag does not verify: another key, or other bytes.
            Err(CallError::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                // SoftHSM's word for a tag that does not verify.
                | RvError::GeneralError,
                _,
            )) => Ok(None),
            Err(error) => Err(failed("unwrapping a key in the token")(error).into()),
        }
    }

    fn bytes(&self) -> Option<&Secret> {
        None
    }
}
