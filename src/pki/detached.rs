//! Signatures of a node over octets that travel beside them: compact JWS with detached content (RFC
//! 7515, appendix F). `typ` says what is signed, so that no signature passes for another's; `x5c` is the
//! node's certificate chain.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::certificate::Certificate;
use super::signature::KeyKind;
use super::{Certified, NodeIdentity, Refusal, TrustHandle, Usage};

/// The largest signature read, with its chain.
const LARGEST: usize = 16 * 1024;

/// How nodes sign: the algorithm of RFC 7518, as TLS names it, how it is verified, and for ECDSA how
/// many octets each of its two numbers has.
struct Means {
    alg: &'static str,
    scheme: SignatureScheme,
    verified: &'static dyn VerificationAlgorithm,
    width: Option<usize>,
}

const MEANS: [Means; 3] = [
    Means {
        alg: "ES256",
        scheme: SignatureScheme::ECDSA_NISTP256_SHA256,
        verified: &ECDSA_P256_SHA256_FIXED,
        width: Some(32),
    },
    Means {
        alg: "ES384",
        scheme: SignatureScheme::ECDSA_NISTP384_SHA384,
        verified: &ECDSA_P384_SHA384_FIXED,
        width: Some(48),
    },
    Means {
        alg: "PS256",
        scheme: SignatureScheme::RSA_PSS_SHA256,
        verified: &RSA_PSS_2048_8192_SHA256,
        width: None,
    },
];

/// The header. One with anything else in it, such as `crit` or `jku`, is not read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    x5c: Vec<String>,
}

/// Why a signature cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachedError {
    /// A kind of key that is not for this.
    #[error("a {0} key does not sign for a node")]
    Key(Box<str>),
    /// The key, or the token that it is in, does not sign.
    #[error("the node's key does not sign: {0}")]
    Signing(#[from] rustls::Error),
    /// It signed what cannot be read.
    #[error("the node's key gave no signature")]
    Unreadable,
}

/// Why a signature is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DetachedRefusal {
    /// There is none.
    #[error("there is no signature")]
    Absent,
    /// It is not of this form.
    #[error("malformed signature: {0}")]
    Malformed(&'static str),
    /// It is over something else than it is taken for.
    #[error("the signature is over another kind of thing")]
    Type,
    /// The signer's certificate is refused.
    #[error("signer: {0}")]
    Signer(#[from] Refusal),
    /// Another algorithm, or one that does not fit the key.
    #[error("the signature's algorithm is not accepted or does not fit the key")]
    Algorithm,
    /// It is not of this key over these octets.
    #[error("the signature does not fit")]
    Signature,
}

/// Signs `octets` as `identity`. May take a token milliseconds.
///
/// # Errors
/// [`DetachedError`].
pub fn sign(identity: &NodeIdentity, typ: &str, octets: &[u8]) -> Result<String, DetachedError> {
    let key = &identity.certified_key().key;
    let unfit = || DetachedError::Key(identity.leaf().key.text().into());
    let offered: Vec<SignatureScheme> = MEANS.iter().map(|means| means.scheme).collect();
    let signer = key.choose_scheme(&offered).ok_or_else(unfit)?;
    let means = MEANS.iter().find(|means| means.scheme == signer.scheme());
    let means = means.ok_or_else(unfit)?;
    let chain = identity.chain().iter();
    let header = Header {
        alg: means.alg.to_owned(),
        typ: typ.to_owned(),
        x5c: chain.map(|der| STANDARD.encode(der)).collect(),
    };
    let header = serde_json::to_vec(&header).map_err(|_| DetachedError::Unreadable)?;
    let head = URL_SAFE_NO_PAD.encode(header);
    let made = signer.sign(signed(&head, octets).as_bytes())?;
    let made = match means.width {
        None => made,
        Some(width) => fixed(&made, width).ok_or(DetachedError::Unreadable)?,
    };
    Ok(format!("{head}..{}", URL_SAFE_NO_PAD.encode(made)))
}

/// Verifies a signature over `octets`; gives who signed, as a server that is trusted now. Whether it
/// is the one that may is for the caller to say.
///
/// # Errors
/// [`DetachedRefusal`].
pub fn verify(
    signature: &str,
    typ: &str,
    octets: &[u8],
    trust: &TrustHandle,
    now: Timestamp,
) -> Result<Arc<Certified>, DetachedRefusal> {
    let malformed = DetachedRefusal::Malformed;
    if signature.is_empty() {
        return Err(DetachedRefusal::Absent);
    }
    if signature.len() > LARGEST {
        return Err(malformed("size"));
    }
    let (head, made) = signature.split_once("..").ok_or(malformed("parts"))?;
    let header = URL_SAFE_NO_PAD.decode(head).ok();
    let header: Option<Header> = header.and_then(|json| serde_json::from_slice(&json).ok());
    let header = header.ok_or(malformed("header"))?;
    if header.typ != typ {
        return Err(DetachedRefusal::Type);
    }
    let chain = header.x5c.iter().map(|text| STANDARD.decode(text));
    let chain: Result<Vec<_>, _> = chain.map(|der| der.map(CertificateDer::from)).collect();
    let chain = chain.map_err(|_| malformed("x5c"))?;
    let signer = trust.judge(&chain, Usage::Server, now)?;
    let limits = trust.current().profiles().limits().certificate_bytes;
    let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
    let leaf = Certificate::read(leaf, limits)?;
    let alg = match &leaf.key.kind {
        KeyKind::Rsa { .. } => "PS256",
        KeyKind::Ec { curve } if &**curve == "P-256" => "ES256",
        KeyKind::Ec { curve } if &**curve == "P-384" => "ES384",
        _ => return Err(DetachedRefusal::Algorithm),
    };
    let means = MEANS.iter().find(|means| means.alg == alg);
    let means = means.filter(|means| means.alg == header.alg);
    let means = means.ok_or(DetachedRefusal::Algorithm)?;
    let made = URL_SAFE_NO_PAD.decode(made);
    let made = made.map_err(|_| malformed("signature"))?;
    UnparsedPublicKey::new(means.verified, &leaf.key.bits)
        .verify(signed(head, octets).as_bytes(), &made)
        .map_err(|_| DetachedRefusal::Signature)?;
    Ok(signer)
}

fn signed(head: &str, octets: &[u8]) -> String {
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(octets))
}

/// An ECDSA signature as JWS has it, two numbers of a fixed width (RFC 7518 §3.4), from the DER that
/// TLS has (RFC 3279 §2.2.3).
fn fixed(der: &[u8], width: usize) -> Option<Vec<u8>> {
    let [0x30, length, numbers @ ..] = der else {
        return None;
    };
    let (r, rest) = number(numbers, width)?;
    let (s, rest) = number(rest, width)?;
    let whole = rest.is_empty() && numbers.len() == usize::from(*length);
    whole.then(|| [r, s].concat())
}

fn number(der: &[u8], width: usize) -> Option<(Vec<u8>, &[u8])> {
    let [0x02, length, rest @ ..] = der else {
        return None;
    };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = digits.get(zeros..)?;
    let mut number = vec![0; width.checked_sub(digits.len())?];
    number.extend_from_slice(digits);
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::pki::TrustOptions;
    use crate::pki::dev::{DevPki, IssueRequest, Kind};

    const TYPE: &str = "thing+jws";

    struct Sides {
        hub: NodeIdentity,
        hospital: NodeIdentity,
        trust: Arc<TrustHandle>,
        now: Timestamp,
    }

    fn sides() -> Sides {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut pki = DevPki::in_memory(Arc::clone(&clock)).unwrap();
        let hub = IssueRequest::new(Kind::Gateway, "hub", "hub.example.jp").dns("hub.example.jp");
        let hub = pki.issue(&hub).unwrap().identity().unwrap();
        let hospital = IssueRequest::new(Kind::Institution, "h", "Hospital").institution(
            "1319999999",
            "Hospital",
            "病院",
        );
        let hospital = pki.issue(&hospital).unwrap().identity().unwrap();
        let trust = TrustHandle::new(pki.trust_store(TrustOptions::default()).unwrap());
        let now = clock.now();
        Sides {
            hub,
            hospital,
            trust,
            now,
        }
    }

    #[test]
    fn what_a_node_signed_is_believed_and_nothing_else() {
        let all = sides();
        let made = sign(&all.hub, TYPE, b"octets").unwrap();
        let verify = |made: &str, typ: &str, octets: &[u8]| {
            let signer = verify(made, typ, octets, &all.trust, all.now);
            signer.map(|signer| signer.spki_sha256)
        };
        assert_eq!(verify(&made, TYPE, b"octets"), Ok(all.hub.pin()));
        let signature = Err(DetachedRefusal::Signature);
        assert_eq!(verify(&made, TYPE, b"octetz"), signature);
        assert_eq!(verify(&made, TYPE, b""), signature);
        assert_eq!(
            verify(&made, "other+jws", b"octets"),
            Err(DetachedRefusal::Type)
        );
        assert_eq!(verify("", TYPE, b"octets"), Err(DetachedRefusal::Absent));
        // Every octet counts, in the signature as in the header.
        for at in 0..made.len() {
            let mut bent = made.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap();
            // The last character of each part may hold bits that mean nothing.
            let refused = verify(&bent, TYPE, b"octets").is_err();
            assert!(refused || bent.len() == at + 1, "{at}: {bent}");
        }
        // A certificate that is no server's.
        let made = sign(&all.hospital, TYPE, b"octets").unwrap();
        let refused = verify(&made, TYPE, b"octets");
        assert!(
            matches!(refused, Err(DetachedRefusal::Signer(_))),
            "{refused:?}"
        );
        // Another's signature under the hub's name.
        let head = |made: &str| made.split_once("..").unwrap().0.to_owned();
        let (hub, hospital) = (sign(&all.hub, TYPE, b"octets").unwrap(), made);
        let mixed = format!("{}..{}", head(&hub), hospital.split_once("..").unwrap().1);
        assert_eq!(verify(&mixed, TYPE, b"octets"), signature);
    }

    #[test]
    fn a_header_with_more_in_it_is_not_read() {
        let all = sides();
        let made = sign(&all.hub, TYPE, b"octets").unwrap();
        let (head, signature) = made.split_once("..").unwrap();
        let json = URL_SAFE_NO_PAD.decode(head).unwrap();
        let mut header: serde_json::Value = serde_json::from_slice(&json).unwrap();
        header["crit"] = serde_json::json!(["b64"]);
        let head = URL_SAFE_NO_PAD.encode(header.to_string());
        let refused = verify(
            &format!("{head}..{signature}"),
            TYPE,
            b"octets",
            &all.trust,
            all.now,
        );
        assert_eq!(refused.err(), Some(DetachedRefusal::Malformed("header")));
    }

    #[test]
    fn numbers_keep_their_width() {
        let der = [0x30, 8, 2, 1, 7, 2, 3, 0, 0x80, 1];
        assert_eq!(fixed(&der, 2), Some(vec![0, 7, 0x80, 1]));
        assert_eq!(fixed(&der, 1), None, "too large");
        assert_eq!(fixed(&der[..9], 2), None, "cut off");
        assert_eq!(fixed(&[], 2), None);
    }
}
