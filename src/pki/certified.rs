//! What a judged certificate says: the only form in which the rest of the gateway sees one.

use jiff::Timestamp;

use super::path::OrdinaryEnd;
use super::profile::HcRole;
use super::refusal::{Place, Refusal, Usage, refuse_if};
use crate::types::{CertificateNumber, CertificatePin};

/// The subject of a certificate, as far as the gateway uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Organisation (O), the institution's name in romaji.
    pub organisation: Option<String>,
    /// Common name (CN): system name, or a person's name in romaji.
    pub common_name: Option<String>,
    /// All organisational units (OU), in order.
    pub organisational_units: Vec<String>,
    /// The 10-digit 医療機関コード among the OUs.
    pub institution_code: Option<String>,
    /// Subscriber number (serialNumber, 2.5.4.5).
    pub serial_number: Option<String>,
    /// Organisation in Japanese, from the directoryName of subjectAltName.
    pub organisation_japanese: Option<String>,
    /// Common name in Japanese, from the directoryName of subjectAltName.
    pub common_name_japanese: Option<String>,
    /// The whole name as text, RFC 4514 style but in certificate order.
    pub text: String,
}

/// Something accepted that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Remark {
    /// An RSA key below the advised size.
    #[error("{place} has an RSA key of {bits} bits; {advised} are advised")]
    RsaBelowAdvised {
        /// Which certificate.
        place: Place,
        /// Its size.
        bits: usize,
        /// The advised size.
        advised: usize,
    },
    /// A revocation list past nextUpdate, used within the grace period: raise an alarm.
    #[error(
        "revocation list for {place} was due at {next_update} and is used within the grace period"
    )]
    CrlInGrace {
        /// Which certificate.
        place: Place,
        /// The list's nextUpdate.
        next_update: Timestamp,
    },
}

/// A certificate that [`super::judge()`] accepted, and what it certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certified {
    /// What it was judged for.
    pub usage: Usage,
    /// The profile it follows.
    pub profile: String,
    /// The holder.
    pub subject: Subject,
    /// The issuer's name as text.
    pub issuer: String,
    /// Issuer and serial number, the other way to register a certificate.
    pub number: CertificateNumber,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the public key: the registered pin.
    pub spki_sha256: CertificatePin,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    /// The policy OID that survived the path.
    pub policy: String,
    /// Roles of hcRole; empty means no professional role.
    pub roles: Vec<HcRole>,
    /// DNS names of subjectAltName.
    pub dns_names: Vec<String>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity, inclusive.
    pub not_after: Timestamp,
    /// Until when this verdict may be cached: the earliest notAfter of the path or end of a
    /// revocation list's life (grace included).
    pub verdict_valid_until: Timestamp,
    /// When the first list used is too late for any but emergencies.
    pub(crate) ordinary: Option<OrdinaryEnd>,
    /// CRL numbers used, as decimal text, from the end entity's upward.
    pub crl_numbers: Vec<String>,
    /// What was accepted with a remark.
    pub remarks: Vec<Remark>,
}

impl Certified {
    /// The 10-digit institution code, if the certificate carries one.
    pub fn institution_code(&self) -> Option<&str> {
        self.subject.institution_code.as_deref()
    }

    /// Until when the lists used serve for more than emergencies.
    pub fn ordinary_until(&self) -> Timestamp {
        self.ordinary.map_or(Timestamp::MAX, |end| end.at)
    }

    /// The judgement for calls that are no emergency: their grace of late lists is shorter.
    ///
    /// # Errors
    /// [`Refusal::CrlExpired`].
    pub fn serves_ordinary(&self, now: Timestamp) -> Result<(), Refusal> {
        let late = self.ordinary.filter(|end| now > end.at);
        late.map_or(Ok(()), |end| {
            refuse_if(true, end.place, || Refusal::CrlExpired {
                place: end.place,
                next_update: end.next_update,
            })
        })
    }

    /// Whether hcRole holds the role called `name`.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.name() == name)
    }
}
