//! The root key: a file of 32 bytes, or a key that never leaves a PKCS#11 token.

use std::fmt::{self, Debug};
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::super::crypto::{SealKey, Secret, derive, unwrap_key, wrap_key};
use super::super::disk::{Disk, make_small, read_small};
use super::super::error::{IoContext as _, StoreError};
use super::tag::Random;

/// What the keys of epochs are wrapped under.
pub(crate) trait RootKey: Debug + Send + Sync {
    /// Seals `secret`; `context` has to be given again to open it.
    fn wrap(
        &self,
        context: &[u8],
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<Vec<u8>, StoreError>;

    /// Opens what [`RootKey::wrap`] sealed; `None` if it was another key or context.
    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Option<Secret>, StoreError>;

    /// The key itself, if it is one that can be read: stores of format 1 derived theirs from it.
    fn bytes(&self) -> Option<&Secret>;
}

/// A root key held in memory, from a file.
pub(crate) struct FileRoot {
    secret: Secret,
    key: SealKey,
}

impl Debug for FileRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileRoot")
    }
}

impl FileRoot {
    fn new(secret: Secret) -> Result<Self, StoreError> {
        let key = SealKey::new(&*derive(secret.as_ref(), b"", &[b"renkei 2 root wrap"])?)?;
        Ok(Self { secret, key })
    }

    /// Reads the key file; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::KeyExposed`] if others than its owner may read it; [`StoreError::Corrupt`]
    /// if it is not 32 bytes; [`StoreError::Io`].
    pub(super) fn read(path: &Path, disk: &dyn Disk) -> Result<Option<Self>, StoreError> {
        let mode = match disk.mode(path) {
            Ok(mode) => mode,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).during("looking for the root key"),
        };
        if mode & 0o077 != 0 {
            return Err(StoreError::KeyExposed { mode });
        }
        let bytes = Zeroizing::new(read_small(disk, path, 4096).during("reading the root key")?);
        let root: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| StoreError::corrupt("root key", 0, "is not 32 bytes"))?;
        Self::new(Zeroizing::new(root)).map(Some)
    }

    /// Makes a key file.
    pub(super) fn make(
        path: &Path,
        disk: &dyn Disk,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let mut root = Zeroizing::new([0; 32]);
        random.fill(root.as_mut())?;
        make_small(disk, path, root.as_ref()).during("writing the root key")?;
        Self::new(root)
    }
}

impl RootKey for FileRoot {
    fn wrap(
        &self,
        context: &[u8],
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<Vec<u8>, StoreError> {
        wrap_key(&self.key, context, secret, random)
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Option<Secret>, StoreError> {
        Ok(unwrap_key(&self.key, context, wrapped))
    }

    fn bytes(&self) -> Option<&Secret> {
        Some(&self.secret)
    }
}
