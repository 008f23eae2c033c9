//! Identifiers of the field: OIDs, homeCommunityId, patient identifiers, document identifiers.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Why a text is not an identifier. Never holds the text itself: it may be a patient's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not an OID in dotted-decimal form of at most 64 characters.
    #[error("is not an object identifier in dotted-decimal form of at most 64 characters")]
    Oid,
    /// Not `urn:oid:` and an OID.
    #[error("is not `urn:oid:` followed by an object identifier")]
    HomeCommunityId,
    /// Not a UUID, bare or as `urn:uuid:`.
    #[error("is not a UUID (`urn:uuid:…`)")]
    Uuid,
    /// Empty, longer than 255 bytes, or with control characters or `^`, `&`.
    #[error("is empty, longer than 255 bytes, or has characters an identifier may not have")]
    LocalId,
    /// Not `id^^^&oid&ISO`.
    #[error("is not a patient identifier of the form `id^^^&oid&ISO`")]
    Cx,
    /// Not a uniqueId: an OID, optionally `^` and an extension, at most 256 characters.
    #[error("is not a uniqueId: an identifier of at most 256 printable characters")]
    UniqueId,
    /// Not ten digits (two for the prefecture 01–47 and one for the fee table first).
    #[error("is not a 10-digit institution code (医療機関コード)")]
    InstitutionCode,
}

/// An object identifier in dotted-decimal form, such as `1.2.840.10008`; at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Box<str>);

impl Oid {
    /// The dotted-decimal text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Oid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let arc_ok = |arc: &str| {
            !arc.is_empty()
                && arc.bytes().all(|byte| byte.is_ascii_digit())
                && (arc == "0" || !arc.starts_with('0'))
        };
        let mut arcs = text.split('.');
        let root_ok = matches!(arcs.next(), Some("0" | "1" | "2"));
        let mut rest = 0;
        let rest_ok = arcs.inspect(|_| rest += 1).all(arc_ok);
        if text.len() <= 64 && root_ok && rest_ok && rest > 0 {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::Oid)
        }
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The community a record comes from; `urn:oid:<OID>` on the wire (homeCommunityId, ITI TF-3
/// §4.2.3.2.12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomeCommunityId(Oid);

impl HomeCommunityId {
    /// The OID without `urn:oid:`.
    pub fn oid(&self) -> &Oid {
        &self.0
    }
}

impl FromStr for HomeCommunityId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let oid = text
            .strip_prefix("urn:oid:")
            .ok_or(InvalidId::HomeCommunityId)?;
        oid.parse()
            .map(Self)
            .map_err(|_| InvalidId::HomeCommunityId)
    }
}

impl fmt::Display for HomeCommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "urn:oid:{}", self.0)
    }
}

macro_rules! oid_newtype {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Oid);

        impl $name {
            /// The OID.
            pub fn oid(&self) -> &Oid {
                &self.0
            }

            /// The dotted-decimal text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix("urn:oid:").unwrap_or(text).parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

oid_newtype! {
    /// The domain in which a patient identifier is unique (assigning authority, CX-4); an OID,
    /// with or without `urn:oid:` when read.
    AssigningAuthority
}

oid_newtype! {
    /// The repository that holds a document (repositoryUniqueId); an OID.
    RepositoryUniqueId
}

/// A patient's identifier inside one assigning authority (CX-1), byte-exact: leading zeros count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPatientId(Box<str>);

impl LocalPatientId {
    /// The identifier as the institution writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalPatientId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ok = |c: char| !c.is_control() && c != '^' && c != '&' && c != '|' && c != '~';
        if text.is_empty() || text.len() > 255 || !text.chars().all(ok) || text.trim() != text {
            return Err(InvalidId::LocalId);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for LocalPatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A patient's identifier with its domain (HL7 CX; `id^^^&oid&ISO` as text).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatientIdentifier {
    /// The domain.
    pub authority: AssigningAuthority,
    /// The identifier inside it.
    pub id: LocalPatientId,
}

/// Root of the patient numbers of institutions, up to the code.
const PATIENT_NUMBERS: &str = "1.2.392.100495.20.3.51.1";

impl PatientIdentifier {
    /// Joins a domain and an identifier.
    ///
    /// # Errors
    /// The part that has not its form.
    pub fn new(authority: &str, id: &str) -> Result<Self, InvalidId> {
        Ok(Self {
            authority: authority.parse()?,
            id: id.parse()?,
        })
    }

    /// Whether its domain is the patient numbers of this institution (`spec` japan §2: the root of
    /// patient numbers, `1` and the ten-digit code).
    pub fn is_of(&self, institution: &InstitutionCode) -> bool {
        let code = self.authority.as_str().strip_prefix(PATIENT_NUMBERS);
        code == Some(institution.as_str())
    }

    /// Whether its domain is the patient numbers of one institution, whichever.
    pub fn is_of_an_institution(&self) -> bool {
        self.authority.as_str().starts_with(PATIENT_NUMBERS)
    }

    /// The CX text `id^^^&oid&ISO`. Patient data: never for a log.
    pub fn to_cx(&self) -> String {
        format!("{}^^^&{}&ISO", self.id.as_str(), self.authority)
    }
}

impl FromStr for PatientIdentifier {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (id, rest) = text.split_once("^^^").ok_or(InvalidId::Cx)?;
        let mut parts = rest.split('&');
        let (Some(_namespace), Some(oid), Some("ISO"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidId::Cx);
        };
        Self::new(oid, id)
    }
}

/// The registry's identifier of an entry (entryUUID); `urn:uuid:…` on the wire, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryUuid(Uuid);

impl EntryUuid {
    /// A new random identifier.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// A UUID read back from a row.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for EntryUuid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bare = text.strip_prefix("urn:uuid:").unwrap_or(text);
        if bare.len() != 36 {
            return Err(InvalidId::Uuid);
        }
        Uuid::try_parse(bare).map(Self).map_err(|_| InvalidId::Uuid)
    }
}

impl fmt::Display for EntryUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "urn:uuid:{}", self.0.as_hyphenated())
    }
}

/// The identifier its author gave a document (XDSDocumentEntry.uniqueId): an OID, optionally `^`
/// and an extension; at most 256 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentUniqueId(Box<str>);

impl DocumentUniqueId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentUniqueId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let printable = |c: char| c.is_ascii_graphic();
        if text.is_empty() || text.chars().count() > 256 || !text.chars().all(printable) {
            return Err(InvalidId::UniqueId);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for DocumentUniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A 医療機関コード in its 10-digit form: prefecture (2), fee table (1), seven digits.
///
/// The check digit is not enforced: every sample code of the national FHIR guides fails it, so a
/// wrong one is a warning ([`InstitutionCode::check_digit_ok`]), never a refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstitutionCode(Box<str>);

impl InstitutionCode {
    /// The ten digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the last digit is the check digit over the nine before it (weights 2, 1 from the
    /// right, digits of products added).
    pub fn check_digit_ok(&self) -> bool {
        let digits: Vec<u32> = self.0.chars().filter_map(|c| c.to_digit(10)).collect();
        let Some((check, body)) = digits.split_last() else {
            return false;
        };
        let sum: u32 = body
            .iter()
            .rev()
            .enumerate()
            .map(|(index, digit)| {
                let product = digit * if index % 2 == 0 { 2 } else { 1 };
                product / 10 + product % 10
            })
            .sum();
        (10 - sum % 10) % 10 == *check
    }
}

impl FromStr for InstitutionCode {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        let prefecture = text.get(..2).and_then(|two| two.parse::<u8>().ok());
        match (digits, prefecture) {
            (true, Some(1..=47)) => Ok(Self(text.into())),
            _ => Err(InvalidId::InstitutionCode),
        }
    }
}

impl fmt::Display for InstitutionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
