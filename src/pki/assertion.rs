//! The person's assertion that travels with a call: a JWS that says who acts, in which role, why.
//!
//! Compact serialisation (RFC 7515), `alg` ES256 or RS256, `typ` [`TOKEN_TYPE`], and the signer's
//! certificate chain in `x5c`. The signer is either the person, with an HPKI authentication
//! certificate, or the institution, vouching for a member of its staff with its own certificate.
//! Any vendor can make one; the claims are listed at [`Claims`]. Replay is refused elsewhere, by
//! `jti`: this module is pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::identity::NodeIdentity;
use super::signature::KeyKind;
use super::trust::TrustHandle;
use super::{Certified, Profiles, Refusal, Usage};
use crate::types::{HomeCommunityId, InstitutionCode, PersonRole, PurposeOfUse, Relation};

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
    /// `jti`: a nonce, at least 16 characters; seen once.
    pub nonce: String,
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
        }
    }
}

/// An assertion that was accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedAssertion {
    /// What it says.
    pub claims: Claims,
    /// Who signed: [`Usage::Person`] or, vouching, [`Usage::Institution`].
    pub signer: Arc<Certified>,
}

impl VerifiedAssertion {
    /// Whether the role is proven by hcRole; otherwise the institution vouches for it.
    pub fn role_is_certified(&self) -> bool {
        self.signer.usage == Usage::Person
    }
}

/// Time limits of verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssertionPolicy {
    /// Longest time from `iat` to `exp`.
    pub max_lifetime: Duration,
    /// Tolerated difference of clocks.
    pub skew: Duration,
}

impl Default for AssertionPolicy {
    /// 15 minutes, 60 seconds.
    fn default() -> Self {
        Self {
            max_lifetime: Duration::from_mins(15),
            skew: Duration::from_mins(1),
        }
    }
}

/// Verifies `token` for the community `audience` under the default [`AssertionPolicy`].
///
/// # Errors
/// [`AssertionRefusal`].
pub fn verify(
    token: &str,
    trust: &TrustHandle,
    audience: &HomeCommunityId,
    now: Timestamp,
) -> Result<VerifiedAssertion, AssertionRefusal> {
    AssertionPolicy::default().verify(token, trust, audience, now)
}

impl AssertionPolicy {
    /// Verifies `token` for the community `audience`: size, header, certificate, signature, then
    /// claims. Nothing of the claims is believed before the signature.
    ///
    /// # Errors
    /// [`AssertionRefusal`].
    pub fn verify(
        &self,
        token: &str,
        trust: &TrustHandle,
        audience: &HomeCommunityId,
        now: Timestamp,
    ) -> Result<VerifiedAssertion, AssertionRefusal> {
        if token.len() > LARGEST_TOKEN {
            return Err(AssertionRefusal::TooLarge { bytes: token.len() });
        }
        let (message, signature) = token
            .rsplit_once('.')
            .ok_or(AssertionRefusal::Malformed { what: "parts" })?;
        let (head, payload) = message
            .split_once('.')
            .ok_or(AssertionRefusal::Malformed { what: "parts" })?;
        let header = read_header(head)?;
        let chain = read_chain(&header)?;
        let (signer, leaf) = judge_signer(&chain, trust, now)?;
        let key = decoding_key(&leaf, header.alg)?;
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, header.alg) {
            Ok(true) => {}
            _ => return Err(AssertionRefusal::Signature),
        }
        let claims = read_claims(payload, trust.current().profiles())?;
        self.check_times(&claims, now)?;
        if !claims.audience.contains(audience) {
            return Err(AssertionRefusal::Audience);
        }
        check_against_signer(&claims, &signer)?;
        Ok(VerifiedAssertion { claims, signer })
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), AssertionRefusal> {
        let (issued, expires) = (claims.issued_at.as_second(), claims.expires_at.as_second());
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (now, skew) = (now.as_second(), seconds(self.skew));
        if issued > now.saturating_add(skew) {
            return Err(AssertionRefusal::NotYetValid);
        }
        if expires.saturating_add(skew) < now {
            return Err(AssertionRefusal::Expired);
        }
        let lifetime = expires.saturating_sub(issued);
        if lifetime <= 0 || lifetime > seconds(self.max_lifetime) {
            return Err(AssertionRefusal::LivesTooLong);
        }
        Ok(())
    }
}

fn read_header(head: &str) -> Result<Header, AssertionRefusal> {
    let bytes = URL_SAFE_NO_PAD
        .decode(head)
        .map_err(|_| AssertionRefusal::Malformed { what: "header" })?;
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|_| AssertionRefusal::Malformed { what: "header" })?;
    if header.typ.as_deref() != Some(TOKEN_TYPE) {
        return Err(AssertionRefusal::Header { what: "typ" });
    }
    if header.crit.is_some() || header.zip.is_some() || header.enc.is_some() {
        return Err(AssertionRefusal::Header { what: "crit" });
    }
    if header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some() {
        return Err(AssertionRefusal::Header {
            what: "jwk, jku or x5u",
        });
    }
    if !matches!(header.alg, Algorithm::ES256 | Algorithm::RS256) {
        return Err(AssertionRefusal::Algorithm);
    }
    Ok(header)
}

fn read_chain(header: &Header) -> Result<Vec<CertificateDer<'static>>, AssertionRefusal> {
    let texts = header
        .x5c
        .as_ref()
        .ok_or(AssertionRefusal::Header { what: "x5c" })?;
    texts
        .iter()
        .map(|text| STANDARD.decode(text).map(CertificateDer::from))
        .collect::<Result<_, _>>()
        .map_err(|_| AssertionRefusal::Malformed { what: "x5c" })
}

/// The usage that a certificate's policy speaks of; a person's if it speaks of none, so that the
/// refusal says what is missing.
fn claimed_usage(leaf: &Certificate, profiles: &Profiles) -> Usage {
    let mut policies = leaf.extensions.policies.iter().flatten();
    match policies.any(|policy| profiles.find(Usage::Institution, policy).is_some()) {
        true => Usage::Institution,
        false => Usage::Person,
    }
}

/// Judges the signer for its claimed usage.
fn judge_signer(
    chain: &[CertificateDer<'_>],
    trust: &TrustHandle,
    now: Timestamp,
) -> Result<(Arc<Certified>, Certificate), AssertionRefusal> {
    let first = chain.first().ok_or(Refusal::NoCertificate)?;
    let store = trust.current();
    let profiles = store.profiles();
    let leaf = Certificate::read(first, profiles.limits().certificate_bytes)?;
    let usage = claimed_usage(&leaf, profiles);
    Ok((trust.judge(chain, usage, now)?, leaf))
}

fn decoding_key(leaf: &Certificate, alg: Algorithm) -> Result<DecodingKey, AssertionRefusal> {
    match (&leaf.key.kind, alg) {
        (KeyKind::Rsa { .. }, Algorithm::RS256) => Ok(DecodingKey::from_rsa_der(&leaf.key.bits)),
        (KeyKind::Ec { curve }, Algorithm::ES256) if &**curve == "P-256" => {
            Ok(DecodingKey::from_ec_der(&leaf.key.bits))
        }
        _ => Err(AssertionRefusal::Algorithm),
    }
}

fn read_claims(payload: &str, profiles: &Profiles) -> Result<Claims, AssertionRefusal> {
    let bytes = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| AssertionRefusal::Malformed { what: "claims" })?;
    let wire: Wire = serde_json::from_slice(&bytes)
        .map_err(|_| AssertionRefusal::Malformed { what: "claims" })?;
    Claims::from_wire(wire, profiles)
}

fn code<T: FromStr>(claim: &'static str, text: &str) -> Result<T, AssertionRefusal> {
    text.parse().map_err(|_| AssertionRefusal::Claim { claim })
}

fn bounded(claim: &'static str, text: String, least: usize) -> Result<String, AssertionRefusal> {
    let shown = text.chars().all(|c| !super::certificate::is_unsafe(c));
    if shown && (least..=LONGEST_TEXT).contains(&text.len()) {
        Ok(text)
    } else {
        Err(AssertionRefusal::Claim { claim })
    }
}

impl Claims {
    fn from_wire(wire: Wire, profiles: &Profiles) -> Result<Self, AssertionRefusal> {
        let time = |claim, seconds| {
            Timestamp::from_second(seconds).map_err(|_| AssertionRefusal::Claim { claim })
        };
        let role = bounded("role", wire.role, 1)?;
        if profiles.role(&role).is_none() && PersonRole::from_str(&role).is_err() {
            return Err(AssertionRefusal::Claim { claim: "role" });
        }
        if !(1..=MOST_AUDIENCES).contains(&wire.aud.len()) {
            return Err(AssertionRefusal::Claim { claim: "aud" });
        }
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
        }
    }

    /// The role as one the gateway decides by, if it is one of those.
    pub fn person_role(&self) -> Option<PersonRole> {
        self.role.parse().ok()
    }
}

/// A claim must not say what the certificate denies. A person speaks for themselves and in a role
/// of hcRole; an institution for its own staff, in any role (whether it may is `access`'s to say).
fn check_against_signer(claims: &Claims, signer: &Certified) -> Result<(), AssertionRefusal> {
    let contradiction = |claim| Err(AssertionRefusal::Contradiction { claim });
    match signer.usage {
        Usage::Person => {
            let serial = signer.subject.serial_number.as_deref();
            if serial != Some(claims.issuer.as_str()) {
                return contradiction("iss");
            }
            if claims.subject != claims.issuer {
                return contradiction("sub");
            }
            let code = signer.institution_code();
            if code.is_some_and(|code| code != claims.institution.as_str()) {
                return contradiction("institution");
            }
            match signer.has_role(&claims.role) {
                true => Ok(()),
                false => Err(AssertionRefusal::RoleNotCertified),
            }
        }
        Usage::Institution | Usage::Server => {
            if signer.institution_code() != Some(claims.issuer.as_str()) {
                return contradiction("iss");
            }
            match claims.institution.as_str() == claims.issuer {
                true => Ok(()),
                false => contradiction("institution"),
            }
        }
    }
}

/// Why an assertion cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// Neither RSA nor ECDSA P-256.
    #[error("assertions are signed with RSA or ECDSA P-256 keys, not {0}")]
    Key(Box<str>),
    /// The certificate has neither an institution code nor a subscriber number to sign as.
    #[error("certificate has no institution code or subscriber number")]
    NoIssuer,
    /// The cryptographic library or the random source failed.
    #[error("signing failed")]
    Failed,
    /// A time outside the calendar.
    #[error("lifetime is out of range")]
    Lifetime,
}

/// Signs assertions with one certificate.
pub struct AssertionSigner {
    key: Key,
    chain: Vec<String>,
    issuer: String,
}

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for AssertionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionSigner({})", self.issuer)
    }
}

impl AssertionSigner {
    /// A signer with `identity`: the institution's own certificate (issuer: its 10-digit code) or a
    /// person's (issuer: the subscriber number); `profiles` tells which by its policy.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn from_identity(
        identity: &NodeIdentity,
        profiles: &Profiles,
    ) -> Result<Self, SigningError> {
        let leaf = identity.leaf();
        let subject = super::rules::subject(leaf).map_err(|_| SigningError::NoIssuer)?;
        let issuer = match claimed_usage(leaf, profiles) {
            Usage::Person => subject.serial_number,
            Usage::Institution | Usage::Server => subject.institution_code,
        };
        let issuer = issuer.ok_or(SigningError::NoIssuer)?;
        let chain = identity
            .chain()
            .iter()
            .map(|der| STANDARD.encode(der))
            .collect();
        Ok(Self {
            key: read_key(identity)?,
            chain,
            issuer,
        })
    }

    /// The `iss` this signer signs as.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs `statement` as of `now`, for `lifetime`, with a fresh nonce.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn issue(
        &self,
        statement: Statement,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, SigningError> {
        let mut nonce = [0u8; 16];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| SigningError::Failed)?;
        self.sign(&Claims {
            issuer: self.issuer.clone(),
            subject: statement.subject,
            role: statement.role,
            purpose: statement.purpose,
            relation: statement.relation,
            institution: statement.institution,
            audience: statement.audience,
            issued_at: now,
            expires_at: now
                .checked_add(lifetime)
                .map_err(|_| SigningError::Lifetime)?,
            nonce: URL_SAFE_NO_PAD.encode(nonce),
        })
    }

    /// Signs `claims` as they are; what contradicts the certificate is for the verifier to refuse.
    ///
    /// # Errors
    /// [`SigningError::Failed`].
    pub fn sign(&self, claims: &Claims) -> Result<String, SigningError> {
        let alg = match self.key {
            Key::Ec(_) => Algorithm::ES256,
            Key::Rsa(_) => Algorithm::RS256,
        };
        let mut header = Header::new(alg);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.x5c = Some(self.chain.clone());
        let encode = |json: Result<Vec<u8>, serde_json::Error>| {
            json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
                .map_err(|_| SigningError::Failed)
        };
        let head = encode(serde_json::to_vec(&header))?;
        let payload = encode(serde_json::to_vec(&claims.to_wire()))?;
        let message = format!("{head}.{payload}");
        let signature = self.key.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => {
                let signature = pair
                    .sign(&random, message)
                    .map_err(|_| SigningError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SigningError::Failed)?;
                Ok(signature)
            }
        }
    }
}

fn read_key(identity: &NodeIdentity) -> Result<Key, SigningError> {
    let key = identity.key();
    let der = key.secret_der();
    let read = match (&identity.leaf().key.kind, key) {
        (KeyKind::Ec { curve }, _) if &**curve == "P-256" => {
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Key::Ec)
        }
        (KeyKind::Rsa { .. }, PrivateKeyDer::Pkcs1(_)) => RsaKeyPair::from_der(der).map(Key::Rsa),
        (KeyKind::Rsa { .. }, _) => RsaKeyPair::from_pkcs8(der).map(Key::Rsa),
        _ => return Err(SigningError::Key(identity.leaf().key.text().into())),
    };
    read.map_err(|_| SigningError::Failed)
}
