//! A root key in a PKCS#11 token (an HSM, a card, SoftHSM): an AES-256 secret key that never leaves
//! it. Every wrapping is one `C_Encrypt` with `CKM_AES_GCM`, so a store asks its token a few times
//! when it opens and when keys are rotated or purged, and never for data.

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::super::crypto::{NONCE_BYTES, Secret, TAG_BYTES};
use super::super::disk::{Disk, read_small};
use super::super::error::{IoContext as _, StoreError};
use super::root::RootKey;
use super::tag::Random;

/// Where a root key in a token is found.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The token's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label (`CKA_LABEL`): an AES-256 secret key with `CKA_ENCRYPT` and `CKA_DECRYPT`.
    pub key: String,
    /// A file with the user PIN, readable by its owner only.
    pub pin_file: PathBuf,
}

impl Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({} in {})", self.key, self.token)
    }
}

/// An open session with the token that holds the root key.
pub(crate) struct TokenRoot {
    session: Mutex<Session>,
    key: ObjectHandle,
}

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
    pub(super) fn open(settings: &TokenKey, disk: &dyn Disk) -> Result<Self, StoreError> {
        let pin = pin(settings, disk)?;
        let library =
            Pkcs11::new(&settings.module).map_err(failed("loading the PKCS#11 module"))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another store of this process uses the same library.
            Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed("starting the PKCS#11 module")(error)),
        }
        let slots = library
            .get_slots_with_initialized_token()
            .map_err(failed("listing tokens"))?;
        let mut found = None;
        for slot in slots {
            let info = library
                .get_token_info(slot)
                .map_err(failed("reading a token"))?;
            if info.label().trim_end() == settings.token && found.replace(slot).is_some() {
                return Err(StoreError::Token("telling apart two tokens of one label"));
            }
        }
        let slot = found.ok_or(StoreError::Missing("the root key's token"))?;
        let session = library
            .open_ro_session(slot)
            .map_err(failed("opening a session with the token"))?;
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed("logging in to the token")(error)),
        }
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Extractable(false),
            Attribute::Label(settings.key.clone().into_bytes()),
        ];
        let keys = session
            .find_objects(&wanted)
            .map_err(failed("looking for the root key in the token"))?;
        match keys.as_slice() {
            [key] => Ok(Self {
                key: *key,
                session: Mutex::new(session),
            }),
            [] => Err(StoreError::Missing("the root key in its token")),
            _ => Err(StoreError::Token("several keys have the root key's label")),
        }
    }
}

fn pin(settings: &TokenKey, disk: &dyn Disk) -> Result<AuthPin, StoreError> {
    let mode = disk
        .mode(&settings.pin_file)
        .during("looking for the token's PIN")?;
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyExposed { mode });
    }
    let bytes = read_small(disk, &settings.pin_file, 4096).during("reading the token's PIN")?;
    let bytes = Zeroizing::new(bytes);
    let text =
        std::str::from_utf8(&bytes).map_err(|_| StoreError::Token("the PIN is not UTF-8"))?;
    Ok(AuthPin::new(text.trim_end().into()))
}

fn failed(what: &'static str) -> impl Fn(TokenError) -> StoreError {
    move |error| {
        // The library's words name functions and codes, never key material.
        tracing::error!(%error, what, "the root key's token");
        StoreError::Token(what)
    }
}

impl RootKey for TokenRoot {
    fn wrap(
        &self,
        context: &[u8],
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce)?;
        let what = "wrapping a key in the token";
        let parameters = GcmParams::new(&mut nonce, context, 128.into()).map_err(failed(what))?;
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = session
            .encrypt(&Mechanism::AesGcm(parameters), self.key, secret.as_ref())
            .map_err(failed(what))?;
        if sealed.len() != secret.len() + TAG_BYTES {
            return Err(StoreError::Token(what));
        }
        // A token may choose the nonce itself, and says it in the same place.
        let mut wrapped = nonce.to_vec();
        wrapped.extend_from_slice(&sealed);
        Ok(wrapped)
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Option<Secret>, StoreError> {
        let Some((nonce, sealed)) = wrapped.split_at_checked(NONCE_BYTES) else {
            return Ok(None);
        };
        let mut nonce = nonce.to_vec();
        let what = "unwrapping a key in the token";
        let parameters = GcmParams::new(&mut nonce, context, 128.into()).map_err(failed(what))?;
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        match session.decrypt(&Mechanism::AesGcm(parameters), self.key, sealed) {
            Ok(plain) => {
                let plain = Zeroizing::new(plain);
                let secret: Option<[u8; 32]> = plain.as_slice().try_into().ok();
                Ok(secret.map(Zeroizing::new))
            }
            // How tokens say that the tag does not verify: another key, or other bytes.
            Err(TokenError::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                // SoftHSM's word for a tag that does not verify.
                | RvError::GeneralError,
                _,
            )) => Ok(None),
            Err(error) => Err(failed(what)(error)),
        }
    }

    fn bytes(&self) -> Option<&Secret> {
        None
    }
}
