//! Keyed hashes, and where randomness comes from.

use std::fmt::{self, Debug};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom as AwsRandom};
use data_encoding::HEXLOWER;

use super::super::error::StoreError;

/// A source of randomness for keys, nonces and file names.
pub trait Random: Debug + Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`StoreError::Crypto`] if the source fails.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), StoreError>;
}

/// The cryptographic library's generator.
#[derive(Clone, Debug, Default)]
pub struct SystemRandom(AwsRandom);

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.0
            .fill(bytes)
            .map_err(|_| StoreError::Crypto("random source"))
    }
}

/// A keyed hash of an identifier: equal for equal identifiers of one domain in one store,
/// meaningless without the store's key. May stand in keys, logs and file names (INV-8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub(super) [u8; 16]);

impl Tag {
    /// A tag read back from a row.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A tag read back from a row; `None` unless there are 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, to be stored in a row or a key.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}
