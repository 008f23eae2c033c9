//! What is accepted, and the rules of form and time.

use super::*;
use crate::pki::der;

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
            t.serial = vec![0];
        }),
        case("negative serial", Kind::Institution, "serial-number", |t| {
            t.serial = vec![0x80];
        }),
        case("20 octets", Kind::Institution, "ok", |t| {
            t.serial = vec![0x7f; 20];
        }),
        case("21 octets", Kind::Institution, "serial-number", |t| {
            t.serial = vec![0x7f; 21];
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
