//! Verification: size, header, certificate, signature, then claims.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use rustls_pki_types::CertificateDer;

use super::replay::ONE_TIME_SKEW;
use super::{AssertionRefusal, Claims, LARGEST_TOKEN, TOKEN_TYPE, Wire, claimed_usage, refuse_if};
use crate::pki::certificate::Certificate;
use crate::pki::signature::KeyKind;
use crate::pki::{Certified, Profiles, Refusal, TrustHandle, Usage};
use crate::types::{CertificateThumbprint, HomeCommunityId};

/// An assertion that was accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedAssertion {
    /// What it says.
    pub claims: Claims,
    /// Who signed: [`Usage::Person`] or, vouching, [`Usage::Institution`]. The signer's revocation
    /// list may be as late as for emergencies; see [`Certified::serves_ordinary`].
    pub signer: Arc<Certified>,
}

impl VerifiedAssertion {
    /// Checks that the connection with certificate `presenter` is the one it is bound to (RFC 8705).
    ///
    /// # Errors
    /// [`AssertionRefusal::Presenter`].
    pub fn check_presenter(&self, presenter: &Certified) -> Result<(), AssertionRefusal> {
        let thumbprint = CertificateThumbprint::from_bytes(presenter.fingerprint);
        let another = self.claims.presenter != thumbprint;
        refuse_if(another, || AssertionRefusal::Presenter)
    }

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
        let bytes = token.len();
        refuse_if(bytes > LARGEST_TOKEN, || AssertionRefusal::TooLarge {
            bytes,
        })?;
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
        let made = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, header.alg);
        refuse_if(!matches!(made, Ok(true)), || AssertionRefusal::Signature)?;
        let claims = read_claims(payload, trust.current().profiles())?;
        self.check_times(&claims, now)?;
        let meant = claims.audience.contains(audience);
        refuse_if(!meant, || AssertionRefusal::Audience)?;
        check_against_signer(&claims, &signer)?;
        Ok(VerifiedAssertion { claims, signer })
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), AssertionRefusal> {
        let (issued, expires) = (claims.issued_at.as_second(), claims.expires_at.as_second());
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let now = now.as_second();
        // One for one time is made for the moment: a clock ahead would let it live over a restart.
        let ahead = if claims.one_time {
            ONE_TIME_SKEW
        } else {
            self.skew
        };
        let early = issued > now.saturating_add(seconds(ahead));
        refuse_if(early, || AssertionRefusal::NotYetValid)?;
        let late = expires.saturating_add(seconds(self.skew)) < now;
        refuse_if(late, || AssertionRefusal::Expired)?;
        let lifetime = expires.saturating_sub(issued);
        let long = lifetime <= 0 || lifetime > seconds(self.max_lifetime);
        refuse_if(long, || AssertionRefusal::LivesTooLong)
    }
}

fn read_header(head: &str) -> Result<Header, AssertionRefusal> {
    let bytes = URL_SAFE_NO_PAD
        .decode(head)
        .map_err(|_| AssertionRefusal::Malformed { what: "header" })?;
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|_| AssertionRefusal::Malformed { what: "header" })?;
    let refuse = |broken, what| refuse_if(broken, || AssertionRefusal::Header { what });
    refuse(header.typ.as_deref() != Some(TOKEN_TYPE), "typ")?;
    let processed = header.crit.is_some() || header.zip.is_some() || header.enc.is_some();
    refuse(processed, "crit")?;
    let another = header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some();
    refuse(another, "jwk, jku or x5u")?;
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
    Ok((trust.judge_for_emergency(chain, usage, now)?, leaf))
}

/// The key for `alg`: the certificate's, and ES256 or RS256 as that is. No other algorithm has one.
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

/// A claim must not say what the certificate denies. A person speaks for themselves and in a role
/// of hcRole; an institution for its own staff, in any role (whether it may is `access`'s to say).
fn check_against_signer(claims: &Claims, signer: &Certified) -> Result<(), AssertionRefusal> {
    let denied = |broken, claim| refuse_if(broken, || AssertionRefusal::Contradiction { claim });
    match signer.usage {
        Usage::Person => {
            let serial = signer.subject.serial_number.as_deref();
            denied(serial != Some(claims.issuer.as_str()), "iss")?;
            denied(claims.subject != claims.issuer, "sub")?;
            let code = signer.institution_code();
            let elsewhere = code.is_some_and(|code| code != claims.institution.as_str());
            denied(elsewhere, "institution")?;
            let certified = signer.has_role(&claims.role);
            refuse_if(!certified, || AssertionRefusal::RoleNotCertified)
        }
        Usage::Institution | Usage::Server => {
            let code = signer.institution_code();
            denied(code != Some(claims.issuer.as_str()), "iss")?;
            denied(claims.institution.as_str() != claims.issuer, "institution")
        }
    }
}
