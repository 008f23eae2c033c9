//! The wide-area linkage id (広域連携ID).

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: no I, L, O, U, so that it survives being read out over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 26 characters carry 128 bits (130, the first two zero); one check character follows.
const BODY: usize = 26;
/// 37 is the smallest prime above 36, so every single error and transposition shows.
const CHECK_ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";

/// Why a text is not a linkage id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a linkage id, or its check character is wrong")]
pub struct InvalidLinkageId;

/// The id that ties one person's patient identifiers together across regions (INV-5).
///
/// 128 random bits, never derived from the person, never reused. Written as 26 base-32 characters
/// and a check character.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkageId(u128);

impl LinkageId {
    /// A new random id.
    pub fn random(rng: &mut (impl rand::Rng + ?Sized)) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id of these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    fn check_character(self) -> char {
        let index = usize::try_from(self.0 % 37).unwrap_or(0);
        char::from(CHECK_ALPHABET.get(index).copied().unwrap_or(b'0'))
    }
}

impl fmt::Display for LinkageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(BODY + 1);
        for position in (0..BODY).rev() {
            let digit = usize::try_from((self.0 >> (position * 5)) & 31).unwrap_or(0);
            text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
        }
        text.push(self.check_character());
        f.write_str(&text)
    }
}

impl fmt::Debug for LinkageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[linkage id]")
    }
}

impl FromStr for LinkageId {
    type Err = InvalidLinkageId;

    fn from_str(text: &str) -> Result<Self, InvalidLinkageId> {
        let upper = text.to_ascii_uppercase();
        let mut characters = upper.bytes();
        if upper.len() != BODY + 1 {
            return Err(InvalidLinkageId);
        }
        let mut value: u128 = 0;
        for byte in characters.by_ref().take(BODY) {
            let digit = ALPHABET
                .iter()
                .position(|c| *c == byte)
                .ok_or(InvalidLinkageId)?;
            if value >> 123 != 0 {
                return Err(InvalidLinkageId);
            }
            value = (value << 5) | u128::try_from(digit).unwrap_or(0);
        }
        let id = Self(value);
        match characters.next() {
            Some(check) if char::from(check) == id.check_character() => Ok(id),
            _ => Err(InvalidLinkageId),
        }
    }
}
