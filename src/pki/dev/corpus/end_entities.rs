//! Every rule of the end entity, kept and violated.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::{Level, Maker, at, id, policy, remove, set, usage_of};
use crate::pki::certificate::oid;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::{DevKey, Extension, Template, extension, name};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};
use crate::pki::{Profiles, hc_role};

type Change = Box<dyn Fn(&mut Template)>;

/// A variant: its name, the kinds it is made of, the rule that refuses it, what is changed.
struct Variant {
    name: &'static str,
    kinds: &'static [Kind],
    expected: Option<&'static str>,
    change: Change,
}

const EVERY: &[Kind] = &[Kind::Institution, Kind::Gateway, Kind::Person];
const ORGANISATIONS: &[Kind] = &[Kind::Institution, Kind::Gateway];
const PERSON: &[Kind] = &[Kind::Person];

fn kept(
    name: &'static str,
    kinds: &'static [Kind],
    change: impl Fn(&mut Template) + 'static,
) -> Variant {
    Variant {
        name,
        kinds,
        expected: None,
        change: Box::new(change),
    }
}

fn broken(
    name: &'static str,
    kinds: &'static [Kind],
    rule: &'static str,
    change: impl Fn(&mut Template) + 'static,
) -> Variant {
    Variant {
        expected: Some(rule),
        ..kept(name, kinds, change)
    }
}

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    let groups = [
        form(),
        algorithms(),
        keys()?,
        extensions(),
        times(maker.now)?,
        usages(),
        purposes(),
        policies(),
        roles()?,
        subjects(),
    ];
    for variant in groups.into_iter().flatten() {
        for kind in variant.kinds {
            let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
            let mut template = maker.pki.template(&Maker::request(*kind), 77, &key)?;
            (variant.change)(&mut template);
            let der = template.sign(&maker.pki.issuing.key)?;
            let chain = vec![CertificateDer::from(der), maker.pki.issuing_certificate()];
            let name = format!("leaf/{}/{kind}", variant.name);
            let usage = usage_of(*kind);
            maker.add(name, Level::EndEntity, usage, variant.expected, chain);
        }
    }
    octets(maker)?;
    kinds(maker)
}

fn form() -> Vec<Variant> {
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

fn algorithms() -> Vec<Variant> {
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

/// Another public key.
pub(super) fn public_key(algorithm: Vec<u8>, bits: Vec<u8>) -> impl Fn(&mut Template) {
    move |t| t.spki = der::sequence([algorithm.clone(), der::bit_string(&bits)])
}

pub(super) fn rsa(bits: usize, exponent: &[u8]) -> impl Fn(&mut Template) + use<> {
    let mut modulus = vec![0xc1; bits / 8 - 1];
    modulus.push(1);
    let public = der::sequence([der::unsigned(&modulus), der::unsigned(exponent)]);
    let id = der::sequence([der::oid("1.2.840.113549.1.1.1"), vec![tag::NULL, 0]]);
    public_key(id, public)
}

pub(super) fn curve(oid: &str, octets: usize) -> impl Fn(&mut Template) + use<> {
    let id = der::sequence([der::oid("1.2.840.10045.2.1"), der::oid(oid)]);
    public_key(id, [vec![4], vec![7; octets]].concat())
}

const USUAL_EXPONENT: &[u8] = &[1, 0, 1];

fn keys() -> Result<Vec<Variant>, DevError> {
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

fn extensions() -> Vec<Variant> {
    let unknown = |critical| {
        move |t: &mut Template| {
            let unknown = Extension::new("1.2.392.1", critical, vec![tag::NULL, 0]);
            t.extensions.push(unknown);
        }
    };
    vec![
        kept("extension/unknown", EVERY, unknown(false)),
        broken(
            "extension/unknown-critical",
            EVERY,
            "unknown-critical-extension",
            unknown(true),
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

fn times(now: Timestamp) -> Result<Vec<Variant>, DevError> {
    let lives = |from: i64, until: i64| -> Result<_, DevError> {
        let (from, until) = (at(now, from)?, at(now, until)?);
        Ok(move |t: &mut Template| {
            t.not_before = from;
            t.not_after = until;
        })
    };
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

fn usages() -> Vec<Variant> {
    let bits = |bits: &'static [u8]| move |t: &mut Template| set(t, extension::key_usage(bits));
    vec![
        broken(
            "key-usage/non-repudiation",
            EVERY,
            "signing-certificate",
            bits(&[1]),
        ),
        broken("key-usage/both", EVERY, "key-usage", bits(&[0, 1])),
        kept(
            "key-usage/key-encipherment-too",
            ORGANISATIONS,
            bits(&[0, 2]),
        ),
        broken(
            "key-usage/key-encipherment-too",
            PERSON,
            "key-usage",
            bits(&[0, 2]),
        ),
        broken(
            "key-usage/key-encipherment-only",
            EVERY,
            "key-usage",
            bits(&[2]),
        ),
        broken("key-usage/key-agreement", EVERY, "key-usage", bits(&[0, 4])),
        broken("key-usage/crl-sign", EVERY, "key-usage", bits(&[0, 6])),
        broken(
            "authority/key-cert-sign",
            EVERY,
            "authority-as-end-entity",
            bits(&[0, 5]),
        ),
        broken("authority/ca-true", EVERY, "authority-as-end-entity", |t| {
            set(t, extension::authority());
        }),
        kept("authority/ca-false", EVERY, |t| {
            set(
                t,
                Extension::new(id::BASIC_CONSTRAINTS, true, vec![0x30, 0]),
            );
        }),
    ]
}

fn purposes() -> Vec<Variant> {
    const RULE: &str = "extended-key-usage";
    let purposes = |list: &'static [&'static str]| {
        move |t: &mut Template| set(t, extension::extended_key_usage(list.iter().copied()))
    };
    let none = |t: &mut Template| remove(t, id::EXTENDED_KEY_USAGE);
    vec![
        broken("purpose/absent", ORGANISATIONS, RULE, none),
        kept("purpose/absent", PERSON, none),
        broken(
            "purpose/server-only",
            &[Kind::Institution, Kind::Person],
            RULE,
            purposes(&["serverAuth"]),
        ),
        kept(
            "purpose/server-only",
            &[Kind::Gateway],
            purposes(&["serverAuth"]),
        ),
        broken(
            "purpose/client-only",
            &[Kind::Gateway],
            RULE,
            purposes(&["clientAuth"]),
        ),
        kept(
            "purpose/client-only",
            &[Kind::Institution, Kind::Person],
            purposes(&["clientAuth"]),
        ),
        kept(
            "purpose/both",
            EVERY,
            purposes(&["clientAuth", "serverAuth"]),
        ),
        broken("purpose/any", EVERY, RULE, purposes(&["2.5.29.37.0"])),
        broken(
            "purpose/e-mail",
            EVERY,
            RULE,
            purposes(&["1.3.6.1.5.5.7.3.4"]),
        ),
    ]
}

/// certificatePolicies of `list`.
pub(super) fn policy_list(list: &[&'static str]) -> Extension {
    extension::policies(list.iter().copied(), policy::CPS)
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn policies() -> Vec<Variant> {
    let asserts = |list: &'static [&'static str]| move |t: &mut Template| set(t, policy_list(list));
    let qualified = |critical: bool| {
        move |t: &mut Template| {
            let qualifier = der::sequence([der::oid("1.2.392.9"), vec![tag::NULL, 0]]);
            let own = der::sequence([der::oid(policy::ORGANISATION), der::sequence([qualifier])]);
            set(
                t,
                Extension::new(id::POLICIES, critical, der::sequence([own])),
            );
        }
    };
    const NOT_ACCEPTED: &str = "policy-not-accepted";
    const MALFORMED: &str = "policy-malformed";
    vec![
        broken("policy/absent", EVERY, "policy-missing", |t| {
            remove(t, id::POLICIES);
        }),
        broken("policy/any", EVERY, "any-policy", asserts(&[policy::ANY])),
        kept(
            "policy/any-too",
            ORGANISATIONS,
            asserts(&[policy::ANY, policy::ORGANISATION]),
        ),
        kept(
            "policy/any-too",
            PERSON,
            asserts(&[policy::ANY, policy::PERSON]),
        ),
        broken(
            "policy/of-a-person",
            ORGANISATIONS,
            NOT_ACCEPTED,
            asserts(&[policy::PERSON]),
        ),
        broken(
            "policy/of-an-organisation",
            PERSON,
            NOT_ACCEPTED,
            asserts(&[policy::ORGANISATION]),
        ),
        kept(
            "policy/both",
            EVERY,
            asserts(&[policy::PERSON, policy::ORGANISATION]),
        ),
        broken(
            "policy/signing",
            EVERY,
            NOT_ACCEPTED,
            asserts(&[policy::SIGNING]),
        ),
        broken(
            "policy/organisation-production",
            ORGANISATIONS,
            NOT_ACCEPTED,
            asserts(&[policy::ORGANISATION_PRODUCTION]),
        ),
        broken(
            "policy/person-production",
            PERSON,
            NOT_ACCEPTED,
            asserts(&[policy::PERSON_PRODUCTION]),
        ),
        broken("policy/unknown", EVERY, NOT_ACCEPTED, asserts(&["1.2.3.4"])),
        broken(
            "policy/twice",
            ORGANISATIONS,
            MALFORMED,
            asserts(&[policy::ORGANISATION, policy::ORGANISATION]),
        ),
        broken("policy/none", EVERY, MALFORMED, asserts(&[])),
        broken(
            "policy/unknown-qualifier",
            ORGANISATIONS,
            MALFORMED,
            qualified(true),
        ),
        broken(
            "policy/unknown-qualifier-not-critical",
            ORGANISATIONS,
            "not-critical",
            qualified(false),
        ),
    ]
}

/// hcRole with these names.
fn role_list(list: &[&str]) -> Result<Extension, DevError> {
    let profiles = Profiles::test().map_err(|error| DevError::Profile(error.to_string().into()))?;
    let value = hc_role::encode(list.iter().copied(), profiles.role_scheme());
    Ok(extension::directory_attributes(value))
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn roles() -> Result<Vec<Variant>, DevError> {
    let has = |list: &[&str]| -> Result<_, DevError> {
        let extension = role_list(list)?;
        Ok(move |t: &mut Template| set(t, extension.clone()))
    };
    let raw = |value: Vec<u8>| {
        move |t: &mut Template| set(t, extension::directory_attributes(value.clone()))
    };
    let none = |t: &mut Template| remove(t, id::SUBJECT_DIRECTORY_ATTRIBUTES);
    let other = der::sequence([der::sequence([
        der::oid("1.3.6.1.5.5.7.9.1"),
        der::set_of(vec![]),
    ])]);
    let many: Vec<String> = (0..17).map(|n| format!("role {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    Ok(vec![
        broken("role/missing", ORGANISATIONS, "hc-role-missing", none),
        kept("role/missing", PERSON, none),
        broken(
            "role/another-attribute-only",
            ORGANISATIONS,
            "hc-role-missing",
            raw(other),
        ),
        broken(
            "role/unknown",
            EVERY,
            "hc-role-unknown",
            has(&["Space Port"])?,
        ),
        broken(
            "role/other-case",
            PERSON,
            "hc-role-unknown",
            has(&["medical doctor"])?,
        ),
        kept(
            "role/two",
            PERSON,
            has(&["Medical Doctor", "Director of Clinic"])?,
        ),
        broken(
            "role/twice",
            PERSON,
            "hc-role-duplicate",
            has(&["Dentist", "Dentist"])?,
        ),
        broken(
            "role/of-a-person",
            ORGANISATIONS,
            "hc-role-kind",
            has(&["Medical Doctor"])?,
        ),
        broken(
            "role/of-an-institution",
            PERSON,
            "hc-role-kind",
            has(&["Insurance Pharmacy"])?,
        ),
        broken("role/seventeen", EVERY, "hc-role-malformed", has(&many)?),
        broken(
            "role/no-attribute",
            EVERY,
            "hc-role-malformed",
            raw(vec![0x30, 2, 5, 0]),
        ),
        broken(
            "role/cut-short",
            EVERY,
            "hc-role-malformed",
            raw(vec![0x30, 3, 0x30, 1, 6]),
        ),
    ])
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn subjects() -> Vec<Variant> {
    const TEXT: &str = "subject-text";
    const AMBIGUOUS: &str = "subject-ambiguous";
    // The Japanese name speaks of the subscriber number too, so it goes with the subject.
    let named = |list: Vec<(&'static str, String)>| {
        move |t: &mut Template| {
            t.subject = name(list.iter().map(|(oid, value)| (*oid, value.as_str())));
            if t.extensions
                .iter()
                .any(|known| known.oid == id::ALTERNATIVE_NAMES)
            {
                remove(t, id::ALTERNATIVE_NAMES);
            }
        }
    };
    let text = |value: &str| named(vec![(oid::COMMON_NAME, value.to_owned())]);
    let unit = |value: &str| (oid::ORGANISATIONAL_UNIT, value.to_owned());
    let common = || (oid::COMMON_NAME, "a".to_owned());
    let directory = |serial: &str| {
        let name = name([(oid::COUNTRY, "JP"), (oid::SERIAL_NUMBER, serial)]);
        der::element(tag::constructed(4), &name)
    };
    let named_twice = der::sequence([directory("RD00000077"), directory("RD00000077")]);
    let of_another = der::sequence([directory("RD00000078")]);
    let alternative = |value: Vec<u8>| {
        move |t: &mut Template| {
            set(
                t,
                Extension::new(id::ALTERNATIVE_NAMES, false, value.clone()),
            );
        }
    };
    let dns = |name: &str| {
        let names = der::sequence([der::element(tag::primitive(2), name.as_bytes())]);
        alternative(names)
    };
    let bmp = der::sequence([der::oid(oid::COMMON_NAME), der::element(0x1e, &[0x4e, 0])]);
    let bmp = der::sequence([der::set_of(vec![bmp])]);
    vec![
        kept("subject/common-name-only", EVERY, text("a")),
        kept("subject/japanese", EVERY, text("連携病院　内科")),
        broken("subject/nul", EVERY, TEXT, text("a\0b")),
        broken("subject/bidi-override", EVERY, TEXT, text("a\u{202e}b")),
        broken("subject/bidi-isolate", EVERY, TEXT, text("a\u{2066}b")),
        broken("subject/zero-width", EVERY, TEXT, text("a\u{200b}b")),
        broken("subject/line-feed", EVERY, TEXT, text("a\nb")),
        broken(
            "subject/257-characters",
            EVERY,
            TEXT,
            text(&"x".repeat(257)),
        ),
        kept("subject/256-characters", EVERY, text(&"x".repeat(256))),
        broken("subject/bmp-string", EVERY, TEXT, move |t| {
            t.subject.clone_from(&bmp);
        }),
        broken(
            "subject/nul-in-dns-name",
            EVERY,
            TEXT,
            dns("a.example\0.jp"),
        ),
        broken(
            "subject/two-common-names",
            EVERY,
            AMBIGUOUS,
            named(vec![common(), common()]),
        ),
        broken(
            "subject/two-codes",
            EVERY,
            AMBIGUOUS,
            named(vec![unit("1312345678"), unit("1312345679"), common()]),
        ),
        kept(
            "subject/two-units",
            EVERY,
            named(vec![unit("1312345678"), unit("Surgery"), common()]),
        ),
        broken(
            "subject/two-japanese-names",
            EVERY,
            AMBIGUOUS,
            alternative(named_twice),
        ),
        broken(
            "subject/japanese-name-of-another",
            EVERY,
            AMBIGUOUS,
            alternative(of_another),
        ),
        broken(
            "subject/no-common-name",
            EVERY,
            "subject-incomplete",
            named(vec![unit("1312345678")]),
        ),
        broken("subject/empty", EVERY, "subject-incomplete", named(vec![])),
    ]
}

/// What is wrong with the bytes, not with the content.
fn octets(maker: &mut Maker) -> Result<(), DevError> {
    for kind in [Kind::Institution, Kind::Gateway, Kind::Person] {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let template = maker.pki.template(&Maker::request(kind), 77, &key)?;
        let der = template.sign(&maker.pki.issuing.key)?;
        let mut flipped = der.clone();
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        let variants: [(&str, &'static str, Vec<u8>); 6] = [
            (
                "octets/one-more",
                "malformed",
                [der.as_slice(), &[0]].concat(),
            ),
            (
                "octets/one-less",
                "malformed",
                der.split_last()
                    .map(|(_, rest)| rest.to_vec())
                    .unwrap_or_default(),
            ),
            ("octets/none", "malformed", Vec::new()),
            (
                "octets/text",
                "malformed",
                b"-----BEGIN CERTIFICATE-----".to_vec(),
            ),
            (
                "octets/one-mebibyte",
                "certificate-size",
                vec![0x30; 1 << 20],
            ),
            ("signature/last-bit-flipped", "signature", flipped),
        ];
        for (name, rule, der) in variants {
            let chain = vec![CertificateDer::from(der), maker.pki.issuing_certificate()];
            let name = format!("leaf/{name}/{kind}");
            maker.add(name, Level::EndEntity, usage_of(kind), Some(rule), chain);
        }
    }
    Ok(())
}

/// Each kind of certificate for each use.
fn kinds(maker: &mut Maker) -> Result<(), DevError> {
    use crate::pki::Usage::{Institution, Person, Server};
    const POLICY: Option<&str> = Some("policy-not-accepted");
    const PURPOSE: Option<&str> = Some("extended-key-usage");
    for (kind, usage, expected) in [
        (Kind::Institution, Institution, None),
        (Kind::Institution, Server, PURPOSE),
        (Kind::Institution, Person, POLICY),
        (Kind::Gateway, Institution, None),
        (Kind::Gateway, Server, None),
        (Kind::Gateway, Person, POLICY),
        (Kind::Operator, Institution, None),
        (Kind::Operator, Server, PURPOSE),
        (Kind::Person, Person, None),
        (Kind::Person, Institution, POLICY),
        (Kind::Person, Server, POLICY),
    ] {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let template = maker.pki.template(&Maker::request(kind), 77, &key)?;
        let der = template.sign(&maker.pki.issuing.key)?;
        // Without the issuing CA, which is configured.
        let chain = vec![CertificateDer::from(der)];
        let name = format!("leaf/kind/{kind}-as-{usage}");
        maker.add(name, Level::EndEntity, usage, expected, chain);
    }
    Ok(())
}
