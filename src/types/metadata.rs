//! Values of document metadata: hashes, media types, languages.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// Why a text is not such a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    /// Not a SHA-1.
    #[error("is not a SHA-1 of 40 hexadecimal digits")]
    Sha1,
    /// Not a media type.
    #[error("is not a media type")]
    MimeType,
    /// Not a language tag.
    #[error("is not a language tag (RFC 5646)")]
    Language,
}

/// The SHA-1 of a document's octets (XDSDocumentEntry.hash); 40 hexadecimal digits, lower case when
/// printed (ITI TF-3 §4.2.3.2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha1Hash([u8; 20]);

impl Sha1Hash {
    /// Of a document that is assembled when it is first retrieved: the SHA-1 of nothing.
    pub const EMPTY: Self = Self([
        0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18,
        0x90, 0xaf, 0xd8, 0x07, 0x09,
    ]);

    /// The 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for Sha1Hash {
    type Err = InvalidMetadata;

    fn from_str(text: &str) -> Result<Self, InvalidMetadata> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(InvalidMetadata::Sha1)
    }
}

impl fmt::Display for Sha1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A media type, `type/subtype`, with parameters or without (RFC 6838; at most 127 bytes).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MimeType(Box<str>);

impl MimeType {
    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `type/subtype` in lower case, without parameters: what is compared.
    pub fn essence(&self) -> String {
        let end = self.0.find(';').unwrap_or(self.0.len());
        self.0
            .get(..end)
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }
}

impl FromStr for MimeType {
    type Err = InvalidMetadata;

    fn from_str(text: &str) -> Result<Self, InvalidMetadata> {
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
        };
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let printable = parameters
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        match essence.trim_end().split_once('/') {
            Some((kind, subtype))
                if token(kind) && token(subtype) && printable && text.len() <= 127 =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidMetadata::MimeType),
        }
    }
}

/// A language (RFC 5646): subtags of 1 to 8 letters or digits, the first of letters. Compared without
/// case.
#[derive(Clone, Debug)]
pub struct LanguageTag(Box<str>);

impl LanguageTag {
    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for LanguageTag {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for LanguageTag {}

impl FromStr for LanguageTag {
    type Err = InvalidMetadata;

    fn from_str(text: &str) -> Result<Self, InvalidMetadata> {
        let mut parts = text.split('-');
        let first = parts.next().unwrap_or_default();
        let first_ok =
            (1..=8).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
        let rest_ok = parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if first_ok && rest_ok && text.len() <= 64 {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMetadata::Language)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_compared_as_bytes_and_printed_in_lower_case() {
        let upper: Sha1Hash = "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709".parse().unwrap();
        assert_eq!(upper, Sha1Hash::EMPTY);
        assert_eq!(
            upper.to_string(),
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        for bad in ["", "da39", "zz39a3ee5e6b4b0d3255bfef95601890afd80709"] {
            assert_eq!(bad.parse::<Sha1Hash>(), Err(InvalidMetadata::Sha1), "{bad}");
        }
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        let with: MimeType = "Text/XML; charset=UTF-8".parse().unwrap();
        assert_eq!(with.essence(), "text/xml");
        for bad in ["", "pdf", "a/b/c", "/b", "a/", "a b/c", "text/あ"] {
            assert!(bad.parse::<MimeType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn languages_have_the_form_of_rfc_5646() {
        let of = |text: &str| text.parse::<LanguageTag>();
        assert_eq!(of("ja-JP").unwrap(), of("ja-jp").unwrap());
        for good in ["en", "zh-Hant-TW", "de-CH-1996", "x-private"] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in ["", "ja_JP", "-ja", "ja-", "日本語", "123", "abcdefghi"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
