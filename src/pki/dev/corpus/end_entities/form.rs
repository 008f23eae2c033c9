//! Form, algorithms, keys, extensions and times of an end entity.

use jiff::Timestamp;

use super::{EVERY, ORGANISATIONS, PERSON, Variant, broken, kept};
use crate::pki::der::{self, tag};
use crate::pki::dev::corpus::changes::{curve, lives, public_key, rsa, unknown_extension};
use crate::pki::dev::corpus::{id, remove, set};
use crate::pki::dev::template::{DevKey, Extension, Template, extension};
use crate::pki::dev::{DevError, KeyAlgorithm};

pub(super) fn form() -> Vec<Variant> {
    let serial = |octets: Vec<u8>| move |t: &mut Template| t.serial.clone_from(&octets);
    vec![
        kept("form/as-issued", EVERY, |_| {}),
        broken("form/version-1", EVERY, "version", |t| t.version = 0),
        broken("form/version-2", EVERY, "version", |t| t.version = 1),
        broken("form/serial-zero", EVERY, "serial-number", serial(vec![0])),
        broken(
            "form/serial-negative",
            EVERY,
            "serial-number",
            serial(vec![0x80]),
        ),
        broken(
            "form/serial-21-octets",
            EVERY,
            "serial-number",
            serial(vec![0x7f; 21]),
        ),
        kept("form/serial-20-octets", EVERY, serial(vec![0x7f; 20])),
        broken("form/algorithms-differ", EVERY, "algorithms-differ", |t| {
            t.inner_algorithm = Some(der::sequence([der::oid("1.2.840.10045.4.3.3")]));
        }),
    ]
}

/// Claims another signature algorithm, inside and outside.
fn signed_with(oid: &'static str, null: bool) -> impl Fn(&mut Template) {
    move |t| {
        let parameters = if null { vec![tag::NULL, 0] } else { Vec::new() };
        let identifier = der::sequence([der::oid(oid), parameters]);
        t.inner_algorithm = Some(identifier.clone());
        t.outer_algorithm = Some(identifier);
    }
}

pub(super) fn algorithms() -> Vec<Variant> {
    const RULE: &str = "signature-algorithm";
    vec![
        broken(
            "algorithm/sha1-rsa",
            EVERY,
            RULE,
            signed_with("1.2.840.113549.1.1.5", true),
        ),
        broken(
            "algorithm/md5-rsa",
            EVERY,
            RULE,
            signed_with("1.2.840.113549.1.1.4", true),
        ),
        broken(
            "algorithm/sha1-ecdsa",
            EVERY,
            RULE,
            signed_with("1.2.840.10045.4.1", false),
        ),
        broken(
            "algorithm/sha512-ecdsa",
            ORGANISATIONS,
            RULE,
            signed_with("1.2.840.10045.4.3.4", false),
        ),
        broken(
            "algorithm/ed25519",
            ORGANISATIONS,
            RULE,
            signed_with("1.3.101.112", false),
        ),
        broken(
            "algorithm/pss-without-parameters",
            ORGANISATIONS,
            RULE,
            signed_with("1.2.840.113549.1.1.10", false),
        ),
        broken(
            "algorithm/ecdsa-with-parameters",
            ORGANISATIONS,
            RULE,
            signed_with("1.2.840.10045.4.3.2", true),
        ),
        broken(
            "signature/rsa-of-an-ec-issuer",
            EVERY,
            "signature",
            signed_with("1.2.840.113549.1.1.11", true),
        ),
        broken(
            "signature/sha384-that-is-sha256",
            EVERY,
            "signature",
            signed_with("1.2.840.10045.4.3.3", false),
        ),
    ]
}

const USUAL_EXPONENT: &[u8] = &[1, 0, 1];

pub(super) fn keys() -> Result<Vec<Variant>, DevError> {
    let other = DevKey::generate(KeyAlgorithm::EcdsaP384)?.spki();
    let ed25519 = public_key(der::sequence([der::oid("1.3.101.112")]), vec![9; 32]);
    Ok(vec![
        broken("key/rsa-1024", EVERY, "key", rsa(1024, USUAL_EXPONENT)),
        broken("key/rsa-2040", EVERY, "key", rsa(2040, USUAL_EXPONENT)),
        kept("key/rsa-2048", EVERY, rsa(2048, USUAL_EXPONENT)),
        kept("key/rsa-3072", EVERY, rsa(3072, USUAL_EXPONENT)),
        kept("key/rsa-4096", EVERY, rsa(4096, USUAL_EXPONENT)),
        broken("key/rsa-4104", EVERY, "key", rsa(4104, USUAL_EXPONENT)),
        broken("key/rsa-exponent-3", EVERY, "key", rsa(2048, &[3])),
        broken("key/rsa-even-exponent", EVERY, "key", rsa(2048, &[1, 0, 2])),
        kept("key/p-384", EVERY, move |t| t.spki.clone_from(&other)),
        broken("key/p-521", EVERY, "key", curve("1.3.132.0.35", 132)),
        broken("key/p-224", EVERY, "key", curve("1.3.132.0.33", 56)),
        broken("key/secp256k1", EVERY, "key", curve("1.3.132.0.10", 64)),
        broken("key/ed25519", EVERY, "key", ed25519),
    ])
}

pub(super) fn extensions() -> Vec<Variant> {
    vec![
        kept("extension/unknown", EVERY, unknown_extension(false)),
        broken(
            "extension/unknown-critical",
            EVERY,
            "unknown-critical-extension",
            unknown_extension(true),
        ),
        broken("extension/twice", EVERY, "duplicate-extension", |t| {
            t.extensions.extend(t.extensions.first().cloned());
        }),
        broken("extension/octets-after-it", EVERY, "malformed", |t| {
            set(
                t,
                Extension::new(id::KEY_USAGE, true, vec![3, 2, 7, 0x80, 0]),
            );
        }),
        broken("extension/not-its-type", EVERY, "malformed", |t| {
            set(
                t,
                Extension::new(id::BASIC_CONSTRAINTS, true, vec![2, 1, 1]),
            );
        }),
        broken("extension/no-key-usage", EVERY, "not-critical", |t| {
            remove(t, id::KEY_USAGE);
        }),
        broken(
            "extension/key-usage-not-critical",
            EVERY,
            "not-critical",
            |t| {
                let mut usage = extension::key_usage(&[0]);
                usage.critical = false;
                set(t, usage);
            },
        ),
        broken(
            "extension/policies-not-critical",
            EVERY,
            "not-critical",
            |t| {
                let policies = t.extensions.iter_mut();
                policies
                    .filter(|known| known.oid == id::POLICIES)
                    .for_each(|known| known.critical = false);
            },
        ),
        broken(
            "extension/wrong-authority-key",
            EVERY,
            "authority-key-identifier",
            |t| {
                let issuer = t.issuer.clone();
                set(t, extension::authority_key(&[9; 20], &issuer, &[1]));
            },
        ),
        kept("extension/no-authority-key", EVERY, |t| {
            remove(t, id::AUTHORITY_KEY);
        }),
    ]
}

const DAY: i64 = 86_400;

pub(super) fn times(now: Timestamp) -> Result<Vec<Variant>, DevError> {
    let lives = |from, until| lives(now, from, until);
    Ok(vec![
        kept("validity/starts-now", EVERY, lives(0, 10)?),
        broken(
            "validity/starts-in-a-second",
            EVERY,
            "not-yet-valid",
            lives(1, 10)?,
        ),
        kept("validity/ends-now", EVERY, lives(-10, 0)?),
        broken(
            "validity/ended-a-second-ago",
            EVERY,
            "expired",
            lives(-10, -1)?,
        ),
        kept("validity/732-days", ORGANISATIONS, lives(-DAY, 731 * DAY)?),
        broken(
            "validity/733-days",
            ORGANISATIONS,
            "validity-too-long",
            lives(-DAY, 732 * DAY)?,
        ),
        kept("validity/1830-days", PERSON, lives(-DAY, 1829 * DAY)?),
        broken(
            "validity/1831-days",
            PERSON,
            "validity-too-long",
            lives(-DAY, 1830 * DAY)?,
        ),
        broken(
            "validity/past-2050",
            EVERY,
            "validity-too-long",
            lives(-DAY, 20_000 * DAY)?,
        ),
    ])
}
