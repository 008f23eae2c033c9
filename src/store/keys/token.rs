//! A root key in a PKCS#11 token (an HSM, a card, SoftHSM): an AES-256 secret key that never leaves
//! it. Every wrapping is one `C_Encrypt` with `CKM_AES_GCM`, so a store asks its token a few times
//! when it opens and when keys are rotated or purged, and never for data.

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
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

/// The token that holds the root key, with a session that is opened anew when it is lost: tokens are
/// pulled out, restarted, and close their sessions when they are idle.
pub(crate) struct TokenRoot {
    settings: TokenKey,
    disk: Arc<dyn Disk>,
    /// Stays loaded: modules do not like to be unloaded.
    library: Pkcs11,
    login: Mutex<Option<Login>>,
}

/// An open session and the key in it.
struct Login {
    session: Session,
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
    pub(super) fn open(settings: &TokenKey, disk: &Arc<dyn Disk>) -> Result<Self, StoreError> {
        let library =
            Pkcs11::new(&settings.module).map_err(failed("loading the PKCS#11 module"))?;
        let login = log_in(&library, settings, disk.as_ref())?;
        Ok(Self {
            login: Mutex::new(Some(login)),
            library,
            settings: settings.clone(),
            disk: Arc::clone(disk),
        })
    }

    /// Asks the token; if the session turns out to be lost, once more in a new one.
    fn ask<T>(
        &self,
        request: impl Fn(&Login) -> Result<T, TokenError>,
    ) -> Result<Result<T, TokenError>, StoreError> {
        let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(login) = &*login {
            match request(login) {
                Err(error) if is_lost(&error) => {
                    tracing::warn!(%error, "the session with the root key's token is opened anew");
                }
                answer => return Ok(answer),
            }
        }
        // The old session goes first: a module that was started anew counts its handles from the
        // beginning, and the old one's number may become the new one's.
        *login = None;
        let fresh = log_in(&self.library, &self.settings, self.disk.as_ref())?;
        let answer = request(&fresh);
        *login = Some(fresh);
        Ok(answer)
    }
}

/// Whether the session, or what was known in it, is gone.
fn is_lost(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::Pkcs11(
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::UserNotLoggedIn
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::TokenNotPresent
                | RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::CryptokiNotInitialized,
            _
        )
    )
}

fn log_in(library: &Pkcs11, settings: &TokenKey, disk: &dyn Disk) -> Result<Login, StoreError> {
    let pin = pin(settings, disk)?;
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another store of this process uses the same library.
        Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed("starting the PKCS#11 module")(error)),
    }
    let session = library
        .open_ro_session(slot_of(library, &settings.token)?)
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
        [key] => Ok(Login { key: *key, session }),
        [] => Err(StoreError::Missing("the root key in its token")),
        _ => Err(StoreError::Token("several keys have the root key's label")),
    }
}

/// The slot of the one token of this label.
fn slot_of(library: &Pkcs11, label: &str) -> Result<Slot, StoreError> {
    let slots = library
        .get_slots_with_initialized_token()
        .map_err(failed("listing tokens"))?;
    let mut found = None;
    for slot in slots {
        let info = library
            .get_token_info(slot)
            .map_err(failed("reading a token"))?;
        if info.label().trim_end() == label && found.replace(slot).is_some() {
            return Err(StoreError::Token("telling apart two tokens of one label"));
        }
    }
    found.ok_or(StoreError::Missing("the root key's token"))
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
        let mut chosen = [0; NONCE_BYTES];
        random.fill(&mut chosen)?;
        let what = "wrapping a key in the token";
        let answer = self.ask(|Login { session, key }| {
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
        let what = "unwrapping a key in the token";
        let answer = self.ask(|Login { session, key }| {
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
