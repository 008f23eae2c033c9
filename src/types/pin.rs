//! The fingerprint by which a registered certificate is known.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a certificate pin: 64 hexadecimal digits")]
pub struct InvalidPin;

/// SHA-256 of a certificate's subjectPublicKeyInfo; 64 hexadecimal digits as text. It survives a
/// renewal with the same key, and names one key holder whatever the DN says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificatePin([u8; 32]);

impl CertificatePin {
    /// The pin with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CertificatePin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidPin);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(index * 2..index * 2 + 2).ok_or(InvalidPin)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidPin)?;
        }
        Ok(Self(bytes))
    }
}
