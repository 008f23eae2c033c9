//! PKCS#11 tokens (an HSM, a card, SoftHSM): one key in one token, with a session that is opened
//! anew when it is lost, since tokens are pulled out, restarted, and close their sessions when they
//! are idle. The store's root key and the node's TLS key may be in one.

use std::fmt::{self, Debug};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CallError, RvError};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Where a key in a token is found; also how the configuration says it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// The token's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label (`CKA_LABEL`).
    pub key: String,
    /// A file with the user PIN, readable by its owner only.
    pub pin_file: PathBuf,
}

impl Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({} in {})", self.key, self.token)
    }
}

/// Why a token or a key in it cannot be used. The library's words name functions and codes, never
/// key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No token has the label.
    #[error("no token has the label")]
    NoToken,
    /// The token has no such key.
    #[error("the token has no such key with the label")]
    NoKey,
    /// Labels must be unique.
    #[error("several {0} have the label")]
    Ambiguous(&'static str),
    /// Others than its owner may read the PIN file.
    #[error("the PIN file has mode {mode:03o}; it must be readable by its owner only")]
    PinExposed {
        /// Its permission bits.
        mode: u32,
    },
    /// The PIN file cannot be read.
    #[error("the PIN file: {0}")]
    Pin(#[from] io::Error),
    /// The PKCS#11 library refused or failed.
    #[error("{what}: {source}")]
    Call {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        source: CallError,
    },
}

/// Names what was asked of the library when it failed.
pub(crate) fn failed(what: &'static str) -> impl Fn(CallError) -> TokenError {
    move |source| TokenError::Call { what, source }
}

/// One key in a token.
pub(crate) struct Token {
    settings: TokenKey,
    /// What the key is, besides its label.
    kind: Vec<Attribute>,
    /// Stays loaded: modules do not like to be unloaded.
    library: Pkcs11,
    login: Mutex<Option<Login>>,
}

/// An open session and the key in it.
pub(crate) struct Login {
    pub(crate) session: Session,
    pub(crate) key: ObjectHandle,
}

impl Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.settings)
    }
}

impl Token {
    /// Opens a session and finds the key of this `kind` and the label in `settings`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(crate) fn open(settings: &TokenKey, kind: Vec<Attribute>) -> Result<Self, TokenError> {
        let library =
            Pkcs11::new(&settings.module).map_err(failed("loading the PKCS#11 module"))?;
        let token = Self {
            settings: settings.clone(),
            kind,
            library,
            login: Mutex::new(None),
        };
        let login = token.log_in()?;
        *token.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login);
        Ok(token)
    }

    /// Asks the token; if the session turns out to be lost, once more in a new one. One request at a
    /// time. What the token itself answers is in the inner result.
    ///
    /// # Errors
    /// [`TokenError`] if no session could be had.
    pub(crate) fn ask<T>(
        &self,
        request: impl Fn(&Login) -> Result<T, CallError>,
    ) -> Result<Result<T, CallError>, TokenError> {
        let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(login) = &*login {
            match request(login) {
                Err(error) if is_lost(&error) => {
                    tracing::warn!(%error, token = ?self.settings, "a session is opened anew");
                }
                answer => return Ok(answer),
            }
        }
        // The old session goes first: a module that was started anew counts its handles from the
        // beginning, and the old one's number may become the new one's.
        *login = None;
        let fresh = self.log_in()?;
        let answer = request(&fresh);
        *login = Some(fresh);
        Ok(answer)
    }

    fn log_in(&self) -> Result<Login, TokenError> {
        let pin = self.pin()?;
        match self
            .library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        {
            // Another part of this process uses the same library.
            Ok(()) | Err(CallError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed("starting the PKCS#11 module")(error)),
        }
        let session = self
            .library
            .open_ro_session(self.slot()?)
            .map_err(failed("opening a session with the token"))?;
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(CallError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed("logging in to the token")(error)),
        }
        let mut wanted = self.kind.clone();
        wanted.push(Attribute::Token(true));
        wanted.push(Attribute::Label(self.settings.key.clone().into_bytes()));
        let keys = session
            .find_objects(&wanted)
            .map_err(failed("looking for the key in the token"))?;
        match keys.as_slice() {
            [key] => Ok(Login { key: *key, session }),
            [] => Err(TokenError::NoKey),
            _ => Err(TokenError::Ambiguous("keys")),
        }
    }

    /// The slot of the one token of the label.
    fn slot(&self) -> Result<Slot, TokenError> {
        let slots = self
            .library
            .get_slots_with_initialized_token()
            .map_err(failed("listing tokens"))?;
        let mut found = None;
        for slot in slots {
            let info = self
                .library
                .get_token_info(slot)
                .map_err(failed("reading a token"))?;
            if info.label().trim_end() == self.settings.token && found.replace(slot).is_some() {
                return Err(TokenError::Ambiguous("tokens"));
            }
        }
        found.ok_or(TokenError::NoToken)
    }

    fn pin(&self) -> Result<AuthPin, TokenError> {
        let path = &self.settings.pin_file;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(TokenError::PinExposed { mode });
            }
        }
        let text = Zeroizing::new(fs::read_to_string(path)?);
        Ok(AuthPin::new(text.trim_end().into()))
    }
}

/// Whether the session, or what was known in it, is gone.
fn is_lost(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Pkcs11(
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
