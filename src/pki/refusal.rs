//! Why a certificate is refused: one variant a rule, with the facts; and what it was judged for.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

use super::planted;

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// The client side of mutual TLS: an institution's system, or a gateway calling another.
    Institution,
    /// The listening side of mutual TLS: a gateway.
    Server,
    /// A person's authentication certificate, in an assertion.
    Person,
}

impl Usage {
    /// The stable name: `institution`, `server` or `person`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Institution => "institution",
            Self::Server => "server",
            Self::Person => "person",
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which certificate of the path a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The certificate that was presented for judgement.
    EndEntity,
    /// The n-th CA certificate above it, counted from 1.
    Authority(usize),
}

impl Place {
    /// The place at `depth`: 0 is the end entity.
    pub(crate) fn at(depth: usize) -> Self {
        if depth == 0 {
            Self::EndEntity
        } else {
            Self::Authority(depth)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndEntity => f.write_str("end-entity certificate"),
            Self::Authority(depth) => write!(f, "CA certificate {depth}"),
        }
    }
}

/// Why a certificate is not accepted. One variant is one rule; [`Refusal::rule`] names it.
///
/// Messages hold names from certificates, never patient data; they are for operators and logs. A
/// peer is told no more than the TLS alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No certificate was presented.
    #[error("no certificate was presented")]
    NoCertificate,
    /// More certificates than the limit, or no path within it.
    #[error("chain of {count} certificates is longer than {limit}")]
    ChainTooLong {
        /// How many were presented.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A certificate larger than the limit.
    #[error("certificate of {bytes} bytes is larger than {limit}")]
    CertificateTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a DER X.509 certificate, or an extension that does not parse (RFC 5280 §4.1).
    #[error("malformed certificate: {what}")]
    Malformed {
        /// What does not parse.
        what: Box<str>,
    },
    /// Not a version 3 certificate.
    #[error("{place} is of version {version}, not 3")]
    Version {
        /// Which certificate.
        place: Place,
        /// The version found.
        version: u32,
    },
    /// Serial number zero, negative or longer than 20 octets (RFC 5280 §4.1.2.2).
    #[error("{place} has an unacceptable serial number")]
    SerialNumber {
        /// Which certificate.
        place: Place,
    },
    /// The signed and the outer algorithm identifiers differ (RFC 5280 §4.1.1.2).
    #[error("{place} names two different signature algorithms")]
    AlgorithmsDiffer {
        /// Which certificate.
        place: Place,
    },
    /// A signature algorithm outside the profile, such as one of SHA-1 or MD5.
    #[error("{place} is signed with {algorithm}, which is not accepted")]
    SignatureAlgorithm {
        /// Which certificate.
        place: Place,
        /// The algorithm's name or OID.
        algorithm: Box<str>,
    },
    /// A key type, curve or size outside the profile.
    #[error("{place} has a key of {key}, which is not accepted")]
    Key {
        /// Which certificate.
        place: Place,
        /// The key, such as `RSA 1024`.
        key: Box<str>,
    },
    /// The same extension twice (RFC 5280 §4.2).
    #[error("{place} has extension {oid} twice")]
    DuplicateExtension {
        /// Which certificate.
        place: Place,
        /// The extension.
        oid: Box<str>,
    },
    /// A critical extension this gateway does not process (RFC 5280 §4.2).
    #[error("{place} has the unknown critical extension {oid}")]
    UnknownCriticalExtension {
        /// Which certificate.
        place: Place,
        /// The extension.
        oid: Box<str>,
    },
    /// An extension that the profile wants critical is not.
    #[error("{place} has extension {extension} absent or not critical")]
    NotCritical {
        /// Which certificate.
        place: Place,
        /// The extension's name.
        extension: Box<str>,
    },
    /// Judged before notBefore.
    #[error("{place} is not valid before {not_before}")]
    NotYetValid {
        /// Which certificate.
        place: Place,
        /// Its notBefore.
        not_before: Timestamp,
    },
    /// Judged after notAfter.
    #[error("{place} expired at {not_after}")]
    Expired {
        /// Which certificate.
        place: Place,
        /// Its notAfter.
        not_after: Timestamp,
    },
    /// Validity longer than the profile allows, or reversed.
    #[error("validity of {days} days is outside the profile's {limit}")]
    ValidityTooLong {
        /// Days between notBefore and notAfter.
        days: i64,
        /// The profile's limit.
        limit: i64,
    },
    /// A CA certificate presented as an end entity.
    #[error("a CA certificate was presented as an end entity")]
    AuthorityAsEndEntity,
    /// keyUsage holds nonRepudiation only: a signing certificate (署名用), which the HPKI policy
    /// forbids to use for login.
    #[error(
        "this is a signing certificate (keyUsage nonRepudiation); an authentication certificate is needed"
    )]
    SigningCertificate,
    /// keyUsage absent, or not what the profile says.
    #[error("keyUsage {found} does not fit the profile: {expected}")]
    KeyUsage {
        /// The bits found.
        found: Box<str>,
        /// What the profile wants.
        expected: Box<str>,
    },
    /// Extended key usage absent or without the purpose needed (RFC 5280 §4.2.1.12); of a CA, one
    /// that names purposes but not this one.
    #[error("extendedKeyUsage {found} of {place} does not allow use as {usage}")]
    ExtendedKeyUsage {
        /// Which certificate.
        place: Place,
        /// The purposes found.
        found: Box<str>,
        /// What the certificate was presented for.
        usage: Usage,
    },
    /// A subject value with control, bidirectional or NUL characters, too long, or of another
    /// string type than `PrintableString` and `UTF8String`.
    #[error("subject attribute {attribute} of {place} holds characters that are not accepted")]
    SubjectText {
        /// Which certificate.
        place: Place,
        /// The attribute's OID.
        attribute: Box<str>,
    },
    /// A single-valued subject attribute that appears more than once.
    #[error("subject attribute {attribute} appears more than once")]
    SubjectAmbiguous {
        /// The attribute's name.
        attribute: Box<str>,
    },
    /// A subject attribute that the profile requires is absent.
    #[error("subject has no {attribute}")]
    SubjectIncomplete {
        /// The attribute's name.
        attribute: Box<str>,
    },
    /// No 10-digit institution code in OU although the profile requires one.
    #[error("subject has no 10-digit institution code in OU")]
    InstitutionCodeMissing,
    /// No certificate of the issuer among trust store and presented chain, up to a trusted root.
    #[error("no trusted issuer found for {place}: {issuer}")]
    IssuerUnknown {
        /// Which certificate has no issuer.
        place: Place,
        /// The issuer's name.
        issuer: Box<str>,
    },
    /// Authority key identifier does not fit any candidate issuer of that name.
    #[error("authority key identifier of {place} does not fit its issuer")]
    AuthorityKeyIdentifier {
        /// Which certificate.
        place: Place,
    },
    /// The issuer's key did not make this signature.
    #[error("signature of {place} is not by its issuer's key")]
    Signature {
        /// Which certificate.
        place: Place,
    },
    /// More signature checks needed than the limit: a maze of certificates.
    #[error("more than {limit} signature checks are needed to find a path")]
    PathTooComplex {
        /// The limit.
        limit: usize,
    },
    /// An issuer that is not a CA (RFC 5280 §6.1.4 k).
    #[error("{place} is not a CA certificate")]
    NotAuthority {
        /// Which certificate.
        place: Place,
    },
    /// An issuer without keyCertSign (RFC 5280 §6.1.4 n).
    #[error("{place} may not sign certificates (keyCertSign is absent)")]
    KeyCertSign {
        /// Which certificate.
        place: Place,
    },
    /// More intermediate certificates than pathLenConstraint allows (RFC 5280 §6.1.4 m).
    #[error("{place} allows {allowed} CA certificates below it, not {found}")]
    PathLength {
        /// Which certificate.
        place: Place,
        /// Its pathLenConstraint.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// A name outside the constraints of a CA (RFC 5280 §4.2.1.10).
    #[error("name {name} is outside the name constraints of {place}")]
    NameConstraints {
        /// The CA that constrains.
        place: Place,
        /// The name.
        name: Box<str>,
    },
    /// No certificatePolicies although an explicit policy is required.
    #[error("{place} has no certificate policies")]
    PolicyMissing {
        /// Which certificate.
        place: Place,
    },
    /// certificatePolicies, policyMappings or policyConstraints that RFC 5280 forbids: the same policy
    /// twice, none at all, anyPolicy mapped, an empty constraint, a qualifier nobody knows in a
    /// critical extension.
    #[error("the policies of {place} are malformed: {what}")]
    PolicyMalformed {
        /// Which certificate.
        place: Place,
        /// What is wrong.
        what: &'static str,
    },
    /// Only anyPolicy, which is not accepted.
    #[error("{place} asserts anyPolicy only, which is not accepted")]
    AnyPolicy {
        /// Which certificate.
        place: Place,
    },
    /// No accepted policy survives the whole path (RFC 5280 §6.1.5 g).
    #[error("no accepted policy survives the path for use as {usage}: end entity asserts {found}")]
    PolicyNotAccepted {
        /// What the certificate was presented for.
        usage: Usage,
        /// The policies of the end entity.
        found: Box<str>,
    },
    /// No hcRole although the profile requires one.
    #[error("no hcRole")]
    HcRoleMissing,
    /// subjectDirectoryAttributes or hcRole does not follow ISO 17090-2.
    #[error("malformed hcRole: {what}")]
    HcRoleMalformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The same attribute or the same role twice.
    #[error("duplicate hcRole")]
    HcRoleDuplicate,
    /// A role name that is not in the profile's table.
    #[error("unknown hcRole {role:?}")]
    HcRoleUnknown {
        /// The name.
        role: Box<str>,
    },
    /// A role of the wrong kind: a person's in an organisation certificate, or the reverse.
    #[error("hcRole {role:?} does not belong in this kind of certificate")]
    HcRoleKind {
        /// The name.
        role: Box<str>,
    },
    /// No revocation list of the issuer covers the certificate: refused, not skipped.
    #[error("no revocation list covers {place}, issued by {issuer}")]
    CrlMissing {
        /// Which certificate.
        place: Place,
        /// Its issuer.
        issuer: Box<str>,
    },
    /// The revocation list is past nextUpdate and the grace period.
    #[error("revocation list for {place} was due for renewal at {next_update}")]
    CrlExpired {
        /// Which certificate.
        place: Place,
        /// The list's nextUpdate.
        next_update: Timestamp,
    },
    /// The revocation list's thisUpdate lies in the future.
    #[error("revocation list for {place} is not valid before {this_update}")]
    CrlNotYetValid {
        /// Which certificate.
        place: Place,
        /// The list's thisUpdate.
        this_update: Timestamp,
    },
    /// The issuer may not sign revocation lists (RFC 5280 §6.3.3 f).
    #[error("the issuer of {place} may not sign revocation lists (cRLSign is absent)")]
    CrlSign {
        /// Which certificate's issuer.
        place: Place,
    },
    /// On the issuer's revocation list.
    #[error("{place} was revoked at {revoked_at}")]
    Revoked {
        /// Which certificate.
        place: Place,
        /// When, by the list.
        revoked_at: Timestamp,
    },
    /// A server certificate without the name that was called.
    #[error("certificate is not for the server name {name}")]
    ServerName {
        /// The name called.
        name: Box<str>,
    },
    /// A certificate whose key is not the registered one.
    #[error("certificate key {found} is not the registered one")]
    Pin {
        /// SHA-256 of the key presented.
        found: crate::types::CertificatePin,
    },
}

impl Refusal {
    /// The stable name of the rule, for metrics, audit and tests.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::ChainTooLong { .. } => "chain-length",
            Self::CertificateTooLarge { .. } => "certificate-size",
            Self::Malformed { .. } => "malformed",
            Self::Version { .. } => "version",
            Self::SerialNumber { .. } => "serial-number",
            Self::AlgorithmsDiffer { .. } => "algorithms-differ",
            Self::SignatureAlgorithm { .. } => "signature-algorithm",
            Self::Key { .. } => "key",
            Self::DuplicateExtension { .. } => "duplicate-extension",
            Self::UnknownCriticalExtension { .. } => "unknown-critical-extension",
            Self::NotCritical { .. } => "not-critical",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Expired { .. } => "expired",
            Self::ValidityTooLong { .. } => "validity-too-long",
            Self::AuthorityAsEndEntity => "authority-as-end-entity",
            Self::SigningCertificate => "signing-certificate",
            Self::KeyUsage { .. } => "key-usage",
            Self::ExtendedKeyUsage { .. } => "extended-key-usage",
            Self::SubjectText { .. } => "subject-text",
            Self::SubjectAmbiguous { .. } => "subject-ambiguous",
            Self::SubjectIncomplete { .. } => "subject-incomplete",
            Self::InstitutionCodeMissing => "institution-code-missing",
            Self::IssuerUnknown { .. } => "issuer-unknown",
            Self::AuthorityKeyIdentifier { .. } => "authority-key-identifier",
            Self::Signature { .. } => "signature",
            Self::PathTooComplex { .. } => "path-too-complex",
            Self::NotAuthority { .. } => "not-authority",
            Self::KeyCertSign { .. } => "key-cert-sign",
            Self::PathLength { .. } => "path-length",
            Self::NameConstraints { .. } => "name-constraints",
            Self::PolicyMissing { .. } => "policy-missing",
            Self::PolicyMalformed { .. } => "policy-malformed",
            Self::AnyPolicy { .. } => "any-policy",
            Self::PolicyNotAccepted { .. } => "policy-not-accepted",
            Self::HcRoleMissing => "hc-role-missing",
            Self::HcRoleMalformed { .. } => "hc-role-malformed",
            Self::HcRoleDuplicate => "hc-role-duplicate",
            Self::HcRoleUnknown { .. } => "hc-role-unknown",
            Self::HcRoleKind { .. } => "hc-role-kind",
            Self::CrlMissing { .. } => "crl-missing",
            Self::CrlExpired { .. } => "crl-expired",
            Self::CrlNotYetValid { .. } => "crl-not-yet-valid",
            Self::CrlSign { .. } => "crl-sign",
            Self::Revoked { .. } => "revoked",
            Self::ServerName { .. } => "server-name",
            Self::Pin { .. } => "pin",
        }
    }
}

/// Refuses with `refusal` if a rule is `broken` at `place`. Every rule refuses through here, so that
/// a planted defect can take out exactly one (`tests/mutate/pki.sh`).
///
/// # Errors
/// The refusal.
pub(crate) fn refuse_if(
    broken: bool,
    place: Place,
    refusal: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    if !broken {
        return Ok(());
    }
    let refusal = refusal();
    if planted::is_left_out(refusal.rule(), place) {
        return Ok(());
    }
    Err(refusal)
}
