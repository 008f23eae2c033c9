//! The person's assertion that travels with a call: a JWS that says who acts, in which role, why.
//!
//! Compact serialisation (RFC 7515), `alg` ES256 or RS256, `typ` [`TOKEN_TYPE`], and the signer's
//! certificate chain in `x5c`. The signer is either the person, with an HPKI authentication
//! certificate, or the institution, vouching for a member of its staff with its own certificate.
//! Any vendor can make one: `docs/assertion.md`. It is bound to the certificate that presents it
//! (`cnf`), so that stolen it is of no use, and one that says it is for one time is taken once
//! ([`Nonces`]).

mod replay;
mod sign;
mod verify;

use std::str::FromStr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, is_unsafe, sha256};
use super::{Profiles, Refusal, Usage, planted};
use crate::types::{
    CertificateThumbprint, HomeCommunityId, InstitutionCode, PersonRole, PurposeOfUse, Relation,
};

pub use replay::{Nonces, Presentation};
pub use sign::{AssertionSigner, SigningError};
pub use verify::{AssertionPolicy, VerifiedAssertion, verify};

/// The `typ` header: tokens made for something else are not taken for assertions (RFC 8725 §3.11).
pub const TOKEN_TYPE: &str = "ehr-assertion+jwt";

/// The largest token read.
pub const LARGEST_TOKEN: usize = 16 * 1024;

/// Longest `sub`, `role` and `jti`, in bytes; shortest `jti`.
const LONGEST_TEXT: usize = 128;
const SHORTEST_NONCE: usize = 16;

/// The most communities a token may be for.
const MOST_AUDIENCES: usize = 64;

/// What an assertion says. JSON names are the JWT claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: the signer: the institution's 10-digit code if it vouches, or the person's
    /// subscriber number (serialNumber of the certificate).
    pub issuer: String,
    /// `sub`: the institution's identifier of the person, or again the person's subscriber number.
    /// Never a name.
    pub subject: String,
    /// `role`: a role name of hcRole (fact sheet §1.9) or a local role ([`PersonRole`]).
    pub role: String,
    /// `purpose`: purpose of use.
    pub purpose: PurposeOfUse,
    /// `relation`: how the person stands to the patient.
    pub relation: Relation,
    /// `institution`: where the person acts, 10 digits.
    pub institution: InstitutionCode,
    /// `aud`: communities that may take this assertion.
    pub audience: Vec<HomeCommunityId>,
    /// `iat`, to the second.
    pub issued_at: Timestamp,
    /// `exp`, to the second.
    pub expires_at: Timestamp,
    /// `jti`: a nonce, at least 16 characters, never used twice by one signer.
    pub nonce: String,
    /// `cnf`, member `x5t#S256` (RFC 7800, RFC 8705): the certificate of the connection that may
    /// present it. Gateways pass it on; each checks the connection it comes by.
    pub presenter: CertificateThumbprint,
    /// `one_time`: for one call only; otherwise for every call until it expires.
    pub one_time: bool,
}

/// What a signer states; [`AssertionSigner::issue`] adds issuer, times and nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// As [`Claims::subject`].
    pub subject: String,
    /// As [`Claims::role`].
    pub role: String,
    /// As [`Claims::purpose`].
    pub purpose: PurposeOfUse,
    /// As [`Claims::relation`].
    pub relation: Relation,
    /// As [`Claims::institution`].
    pub institution: InstitutionCode,
    /// As [`Claims::audience`].
    pub audience: Vec<HomeCommunityId>,
    /// As [`Claims::presenter`]; the signer's own certificate if none is named.
    pub presenter: Option<CertificateThumbprint>,
    /// As [`Claims::one_time`].
    pub one_time: bool,
}

/// `cnf` of RFC 7800, with the member of RFC 8705.
#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

/// The claims as JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    sub: String,
    role: String,
    purpose: String,
    relation: String,
    institution: String,
    aud: Vec<String>,
    iat: i64,
    exp: i64,
    jti: String,
    cnf: Option<Confirmation>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    one_time: bool,
}

/// Why an assertion is not accepted. [`AssertionRefusal::rule`] names the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssertionRefusal {
    /// Larger than [`LARGEST_TOKEN`].
    #[error("assertion of {bytes} bytes is larger than {LARGEST_TOKEN}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a compact JWS with a JSON header and JSON claims.
    #[error("malformed assertion: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// A header that is not allowed: another `typ`, `crit`, an embedded key or a key's address.
    #[error("assertion header {what} is not accepted")]
    Header {
        /// Which.
        what: &'static str,
    },
    /// An `alg` other than ES256 and RS256, or one that does not fit the certificate's key.
    #[error("assertion algorithm is not accepted or does not fit the key")]
    Algorithm,
    /// The signer's certificate is refused.
    #[error("signer of the assertion: {0}")]
    Signer(#[from] Refusal),
    /// The signature is not by the certificate's key.
    #[error("signature of the assertion does not fit its certificate")]
    Signature,
    /// A claim that is missing, empty, too long or not of its code set.
    #[error("claim {claim} is not acceptable")]
    Claim {
        /// Which.
        claim: &'static str,
    },
    /// Issued in the future.
    #[error("assertion is issued in the future")]
    NotYetValid,
    /// Past `exp`.
    #[error("assertion has expired")]
    Expired,
    /// `exp` further from `iat` than allowed, or before it.
    #[error("assertion is valid for longer than allowed")]
    LivesTooLong,
    /// Not for this community.
    #[error("assertion is not for this community")]
    Audience,
    /// `iss`, `sub` or `institution` contradicts the certificate.
    #[error("claim {claim} contradicts the signer's certificate")]
    Contradiction {
        /// Which.
        claim: &'static str,
    },
    /// A person claims a role that the certificate does not hold.
    #[error("role is not certified by the signer's certificate")]
    RoleNotCertified,
    /// No `cnf`: whoever got hold of it could use it.
    #[error("assertion is not bound to a certificate (cnf with x5t#S256)")]
    Unbound,
    /// Presented by another certificate than the one it is bound to.
    #[error("assertion is bound to another certificate than the one that presents it")]
    Presenter,
    /// For one time, and used before.
    #[error("assertion is for one time and was used before")]
    Replayed,
    /// For one time, and issued before this node began to remember.
    #[error("assertion is for one time and older than this node's memory")]
    BeforeMemory,
    /// For one time, and there are too many of this signer's, or of all, to remember more.
    #[error("too many assertions for one time; use one for several calls")]
    TooMany,
}

impl AssertionRefusal {
    /// The stable name of the rule; of the certificate rule if the signer is refused.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "assertion-size",
            Self::Malformed { .. } => "assertion-malformed",
            Self::Header { .. } => "assertion-header",
            Self::Algorithm => "assertion-algorithm",
            Self::Signer(refusal) => refusal.rule(),
            Self::Signature => "assertion-signature",
            Self::Claim { .. } => "assertion-claim",
            Self::NotYetValid => "assertion-not-yet-valid",
            Self::Expired => "assertion-expired",
            Self::LivesTooLong => "assertion-lives-too-long",
            Self::Audience => "assertion-audience",
            Self::Contradiction { .. } => "assertion-contradiction",
            Self::RoleNotCertified => "assertion-role-not-certified",
            Self::Unbound => "assertion-unbound",
            Self::Presenter => "assertion-presenter",
            Self::Replayed => "assertion-replayed",
            Self::BeforeMemory => "assertion-before-memory",
            Self::TooMany => "assertion-too-many",
        }
    }
}

/// The thumbprint of a certificate, to bind an assertion to.
pub fn thumbprint(certificate: &CertificateDer<'_>) -> CertificateThumbprint {
    CertificateThumbprint::from_bytes(sha256(certificate))
}

/// Refuses with `refusal` if a rule is `broken`: as [`super::refusal::refuse_if`] for certificates.
fn refuse_if(
    broken: bool,
    refusal: impl FnOnce() -> AssertionRefusal,
) -> Result<(), AssertionRefusal> {
    if !broken {
        return Ok(());
    }
    let refusal = refusal();
    match planted::is_rule_left_out(refusal.rule()) {
        true => Ok(()),
        false => Err(refusal),
    }
}

/// The rules that can be left out for a mutation run; what does not decode cannot.
#[cfg(test)]
pub(crate) const RULES: [&str; 14] = [
    "assertion-size",
    "assertion-header",
    "assertion-signature",
    "assertion-claim",
    "assertion-not-yet-valid",
    "assertion-expired",
    "assertion-lives-too-long",
    "assertion-audience",
    "assertion-contradiction",
    "assertion-role-not-certified",
    "assertion-presenter",
    "assertion-replayed",
    "assertion-before-memory",
    "assertion-too-many",
];

fn code<T: FromStr>(claim: &'static str, text: &str) -> Result<T, AssertionRefusal> {
    text.parse().map_err(|_| AssertionRefusal::Claim { claim })
}

fn bounded(claim: &'static str, text: String, least: usize) -> Result<String, AssertionRefusal> {
    let shown = text.chars().all(|c| !is_unsafe(c));
    let fits = shown && (least..=LONGEST_TEXT).contains(&text.len());
    refuse_if(!fits, || AssertionRefusal::Claim { claim })?;
    Ok(text)
}

impl Claims {
    fn from_wire(wire: Wire, profiles: &Profiles) -> Result<Self, AssertionRefusal> {
        let time = |claim, seconds| {
            Timestamp::from_second(seconds).map_err(|_| AssertionRefusal::Claim { claim })
        };
        let role = bounded("role", wire.role, 1)?;
        let unknown = profiles.role(&role).is_none() && PersonRole::from_str(&role).is_err();
        refuse_if(unknown, || AssertionRefusal::Claim { claim: "role" })?;
        let bounded_list = (1..=MOST_AUDIENCES).contains(&wire.aud.len());
        refuse_if(!bounded_list, || AssertionRefusal::Claim { claim: "aud" })?;
        let presenter = wire.cnf.ok_or(AssertionRefusal::Unbound)?;
        Ok(Self {
            issuer: bounded("iss", wire.iss, 1)?,
            subject: bounded("sub", wire.sub, 1)?,
            role,
            purpose: code("purpose", &wire.purpose)?,
            relation: code("relation", &wire.relation)?,
            institution: code("institution", &wire.institution)?,
            audience: wire
                .aud
                .iter()
                .map(|aud| code("aud", aud))
                .collect::<Result<_, _>>()?,
            issued_at: time("iat", wire.iat)?,
            expires_at: time("exp", wire.exp)?,
            nonce: bounded("jti", wire.jti, SHORTEST_NONCE)?,
            presenter: code("cnf", &presenter.thumbprint)?,
            one_time: wire.one_time,
        })
    }

    fn to_wire(&self) -> Wire {
        Wire {
            iss: self.issuer.clone(),
            sub: self.subject.clone(),
            role: self.role.clone(),
            purpose: self.purpose.code().to_owned(),
            relation: self.relation.code().to_owned(),
            institution: self.institution.as_str().to_owned(),
            aud: self.audience.iter().map(ToString::to_string).collect(),
            iat: self.issued_at.as_second(),
            exp: self.expires_at.as_second(),
            jti: self.nonce.clone(),
            cnf: Some(Confirmation {
                thumbprint: self.presenter.to_string(),
            }),
            one_time: self.one_time,
        }
    }

    /// The role as one the gateway decides by, if it is one of those.
    pub fn person_role(&self) -> Option<PersonRole> {
        self.role.parse().ok()
    }
}

/// The usage that a certificate's policy speaks of; a person's if it speaks of none, so that the
/// refusal says what is missing.
fn claimed_usage(leaf: &Certificate, profiles: &Profiles) -> Usage {
    let mut policies = leaf.extensions.policies.iter().flatten();
    if policies.any(|policy| profiles.find(Usage::Institution, policy).is_some()) {
        Usage::Institution
    } else {
        Usage::Person
    }
}
