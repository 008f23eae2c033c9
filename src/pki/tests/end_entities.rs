//! Every rule of the end entity, kept and violated.

use super::*;
use crate::pki::certificate::oid;
use crate::pki::certified::Remark;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::name;
use crate::pki::hc_role;

type Change = Box<dyn Fn(&mut Template)>;

fn case(
    what: &'static str,
    kind: Kind,
    expected: &'static str,
    change: impl Fn(&mut Template) + 'static,
) -> (&'static str, Kind, &'static str, Change) {
    (what, kind, expected, Box::new(change))
}

fn usage_of(kind: Kind) -> Usage {
    match kind {
        Kind::Person => Usage::Person,
        Kind::Gateway => Usage::Server,
        Kind::Institution | Kind::Operator => Usage::Institution,
    }
}

fn run(cases: Vec<(&'static str, Kind, &'static str, Change)>) {
    let lab = Lab::new();
    for (what, kind, expected, change) in cases {
        let outcome = lab.judge(&lab.altered(kind, |t| change(t)), usage_of(kind));
        assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
    }
}

fn policies(list: &[&str]) -> Extension {
    extension::policies(list.iter().copied(), "http://127.0.0.1/")
}

fn roles(list: &[&str]) -> Extension {
    let profiles = Profiles::test().unwrap();
    let value = hc_role::encode(list.iter().copied(), profiles.role_scheme());
    extension::directory_attributes(value)
}

const INSTITUTION: &str = "1.2.392.100495.1.5.1.3.0.1";
const PERSON: &str = "1.2.392.100495.1.5.1.2.0.1";

#[test]
fn kinds_are_accepted_for_their_usage_only() {
    let mut lab = Lab::new();
    let expected = [
        (Kind::Institution, Usage::Institution, "ok"),
        (Kind::Institution, Usage::Server, "extended-key-usage"),
        (Kind::Institution, Usage::Person, "policy-not-accepted"),
        (Kind::Gateway, Usage::Institution, "ok"),
        (Kind::Gateway, Usage::Server, "ok"),
        (Kind::Gateway, Usage::Person, "policy-not-accepted"),
        (Kind::Operator, Usage::Institution, "ok"),
        (Kind::Person, Usage::Person, "ok"),
        (Kind::Person, Usage::Institution, "policy-not-accepted"),
        (Kind::Person, Usage::Server, "policy-not-accepted"),
    ];
    for (kind, usage, wanted) in expected {
        let chain = lab.issue(kind, Variant::Ok);
        assert_eq!(rule(&lab.judge(&chain, usage)), wanted, "{kind} as {usage}");
    }
}

#[test]
fn what_is_certified_is_what_was_issued() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Gateway, Variant::Ok);
    let certified = lab.judge(&chain, Usage::Server).unwrap();
    assert_eq!(certified.institution_code(), Some(CODE));
    assert_eq!(
        certified.subject.organisation.as_deref(),
        Some("Renkei Test Hospital")
    );
    assert_eq!(
        certified.subject.organisation_japanese.as_deref(),
        Some("連携試験病院")
    );
    assert_eq!(certified.policy, INSTITUTION);
    assert_eq!(certified.profile, "renkei-test-organisation");
    assert_eq!(certified.dns_names, ["localhost"]);
    assert_eq!(
        certified.spki_sha256.to_string(),
        lab.pki.records()[0].spki_sha256
    );
    assert_eq!(certified.crl_numbers, ["1", "1"]);
    assert!(certified.has_role("Regional Health Information Network"));
    assert!(certified.remarks.is_empty());
    let next_update = lab.now() + lab.pki.crl_lifetime();
    assert_eq!(certified.verdict_valid_until, next_update);
}

#[test]
fn variants_are_refused_with_their_own_reason() {
    let mut lab = Lab::new();
    for kind in [Kind::Institution, Kind::Gateway, Kind::Person] {
        for (variant, wanted) in [
            (Variant::SigningOnly, "signing-certificate"),
            (Variant::Expired, "expired"),
            (Variant::WrongPolicy, "policy-not-accepted"),
        ] {
            let chain = lab.issue(kind, variant);
            assert_eq!(
                rule(&lab.judge(&chain, usage_of(kind))),
                wanted,
                "{kind} {variant}"
            );
        }
    }
}

#[test]
fn production_profiles_refuse_every_development_certificate() {
    let mut lab = Lab::new();
    let store = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[lab.pki.issuing_certificate()],
        &lab.pki.crls(),
        Profiles::hpki().unwrap(),
        TrustOptions::default(),
    )
    .unwrap();
    for kind in [
        Kind::Institution,
        Kind::Gateway,
        Kind::Person,
        Kind::Operator,
    ] {
        for variant in [Variant::Ok, Variant::WrongPolicy] {
            let chain = lab.issue(kind, variant);
            let outcome = judge(&chain, &store, usage_of(kind), lab.now());
            assert_eq!(rule(&outcome), "policy-not-accepted", "{kind} {variant}");
        }
    }
}

#[test]
fn validity_is_inclusive_to_the_second() {
    let lab = Lab::new();
    let now = lab.now();
    let second = |n: i64| Timestamp::from_second(now.as_second() + n).unwrap();
    for (before, after, wanted) in [
        (0, 10, "ok"),
        (1, 10, "not-yet-valid"),
        (-10, 0, "ok"),
        (-10, -1, "expired"),
    ] {
        let chain = lab.altered(Kind::Institution, |template| {
            template.not_before = second(before);
            template.not_after = second(after);
        });
        assert_eq!(
            rule(&lab.judge(&chain, Usage::Institution)),
            wanted,
            "{before} {after}"
        );
    }
    run(vec![
        case("732 days", Kind::Institution, "ok", |t| {
            t.not_after = t.not_before + days(732);
        }),
        case("733 days", Kind::Institution, "validity-too-long", |t| {
            t.not_after = t.not_before + days(733);
        }),
        case("a person's five years", Kind::Person, "ok", |t| {
            t.not_after = t.not_before + days(1_826);
        }),
        case(
            "a person's six years",
            Kind::Person,
            "validity-too-long",
            |t| {
                t.not_after = t.not_before + days(2_200);
            },
        ),
    ]);
}

#[test]
fn form() {
    run(vec![
        case("version 1", Kind::Institution, "version", |t| t.version = 0),
        case("serial zero", Kind::Institution, "serial-number", |t| {
            t.serial = vec![0]
        }),
        case("negative serial", Kind::Institution, "serial-number", |t| {
            t.serial = vec![0x80]
        }),
        case("20 octets", Kind::Institution, "ok", |t| {
            t.serial = vec![0x7f; 20]
        }),
        case("21 octets", Kind::Institution, "serial-number", |t| {
            t.serial = vec![0x7f; 21]
        }),
        case(
            "algorithms differ",
            Kind::Institution,
            "algorithms-differ",
            |t| {
                t.inner_algorithm = Some(der::sequence([der::oid("1.2.840.10045.4.3.3")]));
            },
        ),
        case(
            "twice the same extension",
            Kind::Institution,
            "duplicate-extension",
            |t| {
                let first = t.extensions[0].clone();
                t.extensions.push(first);
            },
        ),
        case(
            "unknown critical extension",
            Kind::Institution,
            "unknown-critical-extension",
            |t| {
                t.extensions
                    .push(Extension::new("1.2.392.1", true, vec![5, 0]));
            },
        ),
        case("unknown extension", Kind::Institution, "ok", |t| {
            t.extensions
                .push(Extension::new("1.2.392.1", false, vec![5, 0]));
        }),
        case(
            "extension with octets after it",
            Kind::Institution,
            "malformed",
            |t| {
                set(t, Extension::new(KEY_USAGE, true, vec![3, 2, 7, 0x80, 0]));
            },
        ),
        case(
            "extension that does not parse",
            Kind::Institution,
            "malformed",
            |t| {
                set(t, Extension::new(BASIC, true, vec![2, 1, 1]));
            },
        ),
    ]);
}

#[test]
fn algorithms_and_keys() {
    let algorithm = |oid: &'static str, null: bool| {
        move |t: &mut Template| {
            let parameters = if null { vec![tag::NULL, 0] } else { Vec::new() };
            let identifier = der::sequence([der::oid(oid), parameters]);
            t.inner_algorithm = Some(identifier.clone());
            t.outer_algorithm = Some(identifier);
        }
    };
    let key = |algorithm: Vec<u8>, bits: Vec<u8>| {
        move |t: &mut Template| t.spki = der::sequence([algorithm.clone(), der::bit_string(&bits)])
    };
    let rsa = |bits: usize, exponent: &'static [u8]| {
        let mut modulus = vec![0xc1; bits / 8];
        modulus.push(1);
        modulus.remove(0);
        let public = der::sequence([der::unsigned(&modulus), der::unsigned(exponent)]);
        key(
            der::sequence([der::oid("1.2.840.113549.1.1.1"), vec![tag::NULL, 0]]),
            public,
        )
    };
    let curve = |oid: &str, octets: usize| {
        let id = der::sequence([der::oid("1.2.840.10045.2.1"), der::oid(oid)]);
        key(id, [vec![4], vec![7; octets]].concat())
    };
    let three: &[u8] = &[3];
    let usual: &[u8] = &[1, 0, 1];
    run(vec![
        case(
            "SHA-1 RSA",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.113549.1.1.5", true),
        ),
        case(
            "MD5",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.113549.1.1.4", true),
        ),
        case(
            "SHA-1 ECDSA",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.10045.4.1", false),
        ),
        case(
            "SHA-512 ECDSA",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.10045.4.3.4", false),
        ),
        case(
            "PSS of SHA-1",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.113549.1.1.10", false),
        ),
        case(
            "ECDSA with parameters",
            Kind::Institution,
            "signature-algorithm",
            algorithm("1.2.840.10045.4.3.2", true),
        ),
        case(
            "RSA signature of an EC issuer",
            Kind::Institution,
            "signature",
            algorithm("1.2.840.113549.1.1.11", true),
        ),
        case("RSA 1024", Kind::Institution, "key", rsa(1024, usual)),
        case("RSA 2048", Kind::Institution, "ok", rsa(2048, usual)),
        case("RSA 3072", Kind::Institution, "ok", rsa(3072, usual)),
        case("RSA 4096", Kind::Institution, "ok", rsa(4096, usual)),
        case("RSA 8192", Kind::Institution, "key", rsa(8192, usual)),
        case("exponent 3", Kind::Institution, "key", rsa(2048, three)),
        case("P-384", Kind::Institution, "ok", curve("1.3.132.0.34", 96)),
        case(
            "P-521",
            Kind::Institution,
            "key",
            curve("1.3.132.0.35", 132),
        ),
        case("P-224", Kind::Institution, "key", curve("1.3.132.0.33", 56)),
        case(
            "Ed25519",
            Kind::Institution,
            "key",
            key(der::sequence([der::oid("1.3.101.112")]), vec![9; 32]),
        ),
    ]);
}

#[test]
fn a_small_rsa_key_is_accepted_with_a_remark() {
    let mut lab = Lab::new();
    let request = Lab::request(Kind::Institution, "rsa").key(KeyAlgorithm::Rsa2048);
    let issued = lab.pki.issue(&request).unwrap();
    let certified = lab.judge(&issued.chain, Usage::Institution).unwrap();
    assert!(matches!(
        certified.remarks[..],
        [Remark::RsaBelowAdvised { bits: 2048, .. }]
    ));
    assert!(issued.identity().is_ok());
}

#[test]
fn key_usage() {
    let bits = |bits: &'static [u8]| move |t: &mut Template| set(t, extension::key_usage(bits));
    run(vec![
        case("absent", Kind::Institution, "not-critical", |t| {
            drop_extension(t, KEY_USAGE)
        }),
        case("not critical", Kind::Institution, "not-critical", |t| {
            let mut usage = extension::key_usage(&[0]);
            usage.critical = false;
            set(t, usage);
        }),
        case("digitalSignature", Kind::Person, "ok", bits(&[0])),
        case(
            "nonRepudiation",
            Kind::Person,
            "signing-certificate",
            bits(&[1]),
        ),
        case("both", Kind::Person, "key-usage", bits(&[0, 1])),
        case("both", Kind::Institution, "key-usage", bits(&[0, 1])),
        case(
            "keyEncipherment too",
            Kind::Institution,
            "ok",
            bits(&[0, 2]),
        ),
        case(
            "keyEncipherment too",
            Kind::Person,
            "key-usage",
            bits(&[0, 2]),
        ),
        case(
            "keyEncipherment only",
            Kind::Institution,
            "key-usage",
            bits(&[2]),
        ),
        case(
            "keyAgreement",
            Kind::Institution,
            "key-usage",
            bits(&[0, 4]),
        ),
        case(
            "keyCertSign",
            Kind::Institution,
            "authority-as-end-entity",
            bits(&[0, 5]),
        ),
    ]);
}

#[test]
fn extended_key_usage_and_basic_constraints() {
    let purposes = |list: &'static [&'static str]| {
        move |t: &mut Template| set(t, extension::extended_key_usage(list.iter().copied()))
    };
    const ANY: &str = "2.5.29.37.0";
    run(vec![
        case("absent", Kind::Institution, "extended-key-usage", |t| {
            drop_extension(t, EKU)
        }),
        case("absent", Kind::Gateway, "extended-key-usage", |t| {
            drop_extension(t, EKU)
        }),
        case("absent", Kind::Person, "ok", |t| drop_extension(t, EKU)),
        case(
            "serverAuth",
            Kind::Institution,
            "extended-key-usage",
            purposes(&["serverAuth"]),
        ),
        case(
            "serverAuth",
            Kind::Person,
            "extended-key-usage",
            purposes(&["serverAuth"]),
        ),
        case(
            "clientAuth",
            Kind::Gateway,
            "extended-key-usage",
            purposes(&["clientAuth"]),
        ),
        case("clientAuth", Kind::Person, "ok", purposes(&["clientAuth"])),
        case(
            "any",
            Kind::Institution,
            "extended-key-usage",
            purposes(&[ANY]),
        ),
        case(
            "more",
            Kind::Institution,
            "ok",
            purposes(&["clientAuth", "1.3.6.1.5.5.7.3.4"]),
        ),
        case("cA", Kind::Institution, "authority-as-end-entity", |t| {
            set(t, extension::authority());
        }),
        case("cA false", Kind::Institution, "ok", |t| {
            set(t, Extension::new(BASIC, true, vec![0x30, 0]));
        }),
    ]);
}

#[test]
fn policy() {
    const ANY: &str = oid::ANY_POLICY;
    run(vec![
        case("absent", Kind::Institution, "policy-missing", |t| {
            drop_extension(t, POLICY)
        }),
        case("anyPolicy", Kind::Institution, "any-policy", |t| {
            set(t, policies(&[ANY]))
        }),
        case("anyPolicy too", Kind::Institution, "ok", |t| {
            set(t, policies(&[ANY, INSTITUTION]));
        }),
        case("another's", Kind::Institution, "policy-not-accepted", |t| {
            set(t, policies(&[PERSON]));
        }),
        case("both", Kind::Institution, "ok", |t| {
            set(t, policies(&[PERSON, INSTITUTION]))
        }),
        case("not critical", Kind::Institution, "not-critical", |t| {
            let mut own = policies(&[INSTITUTION]);
            own.critical = false;
            set(t, own);
        }),
        case("production", Kind::Person, "policy-not-accepted", |t| {
            set(t, policies(&["1.2.392.100495.1.5.1.2.3.1"]));
        }),
    ]);
}

#[test]
fn hc_roles() {
    let own = |list: &'static [&'static str]| move |t: &mut Template| set(t, roles(list));
    run(vec![
        case("missing", Kind::Institution, "hc-role-missing", |t| {
            drop_extension(t, ROLES)
        }),
        case("missing", Kind::Person, "ok", |t| drop_extension(t, ROLES)),
        case(
            "unknown",
            Kind::Institution,
            "hc-role-unknown",
            own(&["Space Port"]),
        ),
        case(
            "unknown",
            Kind::Person,
            "hc-role-unknown",
            own(&["medical doctor"]),
        ),
        case(
            "two",
            Kind::Person,
            "ok",
            own(&["Medical Doctor", "Director of Clinic"]),
        ),
        case(
            "twice",
            Kind::Person,
            "hc-role-duplicate",
            own(&["Dentist", "Dentist"]),
        ),
        case(
            "a person's",
            Kind::Institution,
            "hc-role-kind",
            own(&["Medical Doctor"]),
        ),
        case(
            "an institution's",
            Kind::Person,
            "hc-role-kind",
            own(&["Insurance Pharmacy"]),
        ),
        case("malformed", Kind::Person, "hc-role-malformed", |t| {
            set(t, extension::directory_attributes(vec![0x30, 2, 5, 0]));
        }),
        case(
            "only another attribute",
            Kind::Institution,
            "hc-role-missing",
            |t| {
                let other = der::sequence([der::sequence([
                    der::oid("1.3.6.1.5.5.7.9.1"),
                    der::set_of(vec![]),
                ])]);
                set(t, extension::directory_attributes(other));
            },
        ),
    ]);
}

#[test]
fn subjects() {
    let dn = |list: &'static [(&'static str, &'static str)]| {
        move |t: &mut Template| t.subject = name(list.iter().copied())
    };
    const CN: &str = oid::COMMON_NAME;
    const OU: &str = oid::ORGANISATIONAL_UNIT;
    run(vec![
        case(
            "NUL",
            Kind::Institution,
            "subject-text",
            dn(&[(CN, "a\0b")]),
        ),
        case(
            "bidi",
            Kind::Institution,
            "subject-text",
            dn(&[(CN, "a\u{202e}b")]),
        ),
        case("long", Kind::Institution, "subject-text", |t| {
            t.subject = name([(CN, "x".repeat(257).as_str())]);
        }),
        case(
            "two CN",
            Kind::Institution,
            "subject-ambiguous",
            dn(&[(CN, "a"), (CN, "b")]),
        ),
        case(
            "two codes",
            Kind::Institution,
            "subject-ambiguous",
            dn(&[(OU, "1312345678"), (OU, "1312345679")]),
        ),
        case(
            "two OU",
            Kind::Institution,
            "ok",
            dn(&[(OU, "1312345678"), (OU, "Surgery")]),
        ),
        case("no code", Kind::Institution, "ok", dn(&[(CN, "a")])),
        case(
            "another string type",
            Kind::Institution,
            "subject-text",
            |t| {
                let value = der::element(0x1e, &[0x4e, 0x00]);
                let attribute = der::sequence([der::oid(CN), value]);
                t.subject = der::sequence([der::set_of(vec![attribute])]);
            },
        ),
        case(
            "NUL in a DNS name",
            Kind::Institution,
            "subject-text",
            |t| {
                let names = ["a.example\0.jp".to_owned()];
                t.extensions.retain(|known| known.oid != "2.5.29.17");
                t.extensions
                    .extend(extension::alternative_names(None, &names, &[]));
            },
        ),
    ]);
}

#[test]
fn limits_and_garbage() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Institution, Variant::Ok);
    let judged = |chain: &[CertificateDer<'_>]| rule(&lab.judge(chain, Usage::Institution));
    assert_eq!(judged(&[]), "no-certificate");
    assert_eq!(judged(&chain[..1]), "ok", "the issuing CA is configured");
    let root = lab.pki.root_certificate();
    let five = [
        chain.clone(),
        vec![root.clone(), root.clone(), root.clone()],
    ]
    .concat();
    assert_eq!(judged(&five), "ok");
    assert_eq!(judged(&[five, vec![root]].concat()), "chain-length");
    assert_eq!(
        judged(&[CertificateDer::from(vec![0x30; 70_000])]),
        "certificate-size"
    );
    assert_eq!(
        judged(&[CertificateDer::from(b"garbage".to_vec())]),
        "malformed"
    );
    let mut longer = chain[0].to_vec();
    longer.push(0);
    assert_eq!(judged(&[CertificateDer::from(longer)]), "malformed");
    for end in (0..chain[0].len()).step_by(3) {
        assert_eq!(
            judged(&[CertificateDer::from(chain[0][..end].to_vec())]),
            "malformed"
        );
    }
}

#[test]
fn no_flipped_octet_is_accepted() {
    let mut lab = Lab::new();
    let chain = lab.issue(Kind::Person, Variant::Ok);
    let trust = lab.trust();
    for index in 0..chain[0].len() {
        let mut damaged = chain[0].to_vec();
        damaged[index] ^= 0x04;
        let damaged = [CertificateDer::from(damaged)];
        assert!(
            judge(&damaged, &trust, Usage::Person, lab.now()).is_err(),
            "octet {index}"
        );
    }
}
