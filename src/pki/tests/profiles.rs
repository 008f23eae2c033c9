//! Every rule that a profile sets, kept and violated.

use super::*;
use crate::pki::certificate::oid;
use crate::pki::der;
use crate::pki::dev::template::name;
use crate::pki::hc_role;

const CN: &str = oid::COMMON_NAME;
const OU: &str = oid::ORGANISATIONAL_UNIT;
const PERSON: &str = "1.2.392.100495.1.5.1.2.0.1";

fn policies(list: &[&str]) -> Extension {
    extension::policies(list.iter().copied(), "http://127.0.0.1/")
}

fn roles(list: &[&str]) -> Extension {
    let profiles = Profiles::test().unwrap();
    let value = hc_role::encode(list.iter().copied(), profiles.role_scheme());
    extension::directory_attributes(value)
}

#[test]
fn key_usage() {
    let bits = |bits: &'static [u8]| move |t: &mut Template| set(t, extension::key_usage(bits));
    run(vec![
        case("absent", Kind::Institution, "not-critical", |t| {
            drop_extension(t, KEY_USAGE);
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
    run(vec![
        case("absent", Kind::Institution, "extended-key-usage", |t| {
            drop_extension(t, EKU);
        }),
        case("absent", Kind::Gateway, "extended-key-usage", |t| {
            drop_extension(t, EKU);
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
            purposes(&["2.5.29.37.0"]),
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
    run(vec![
        case("absent", Kind::Institution, "policy-missing", |t| {
            drop_extension(t, POLICY);
        }),
        case("anyPolicy", Kind::Institution, "any-policy", |t| {
            set(t, policies(&[oid::ANY_POLICY]));
        }),
        case("anyPolicy too", Kind::Institution, "ok", |t| {
            set(t, policies(&[oid::ANY_POLICY, INSTITUTION]));
        }),
        case("another's", Kind::Institution, "policy-not-accepted", |t| {
            set(t, policies(&[PERSON]));
        }),
        case("both", Kind::Institution, "ok", |t| {
            set(t, policies(&[PERSON, INSTITUTION]));
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
            drop_extension(t, ROLES);
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
        move |t: &mut Template| {
            t.subject = name(list.iter().copied());
            // It speaks of the subscriber number of the former subject.
            drop_extension(t, "2.5.29.17");
        }
    };
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
            drop_extension(t, "2.5.29.17");
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
            dn(&[(OU, "1312345678"), (OU, "Surgery"), (CN, "a")]),
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
fn profiles_are_data() {
    let lab = Lab::new();
    let text = include_str!("../profiles.toml");
    let required = text.replace(
        r#"institution_code = "optional""#,
        r#"institution_code = "required""#,
    );
    let judged = |text: &str, change: &dyn Fn(&mut Template)| {
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &[lab.pki.issuing_certificate()],
            &lab.pki.crls(),
            Profiles::parse(text, "test").unwrap(),
            TrustOptions::default(),
        )
        .unwrap();
        let chain = lab.altered(Kind::Institution, change);
        rule(&judge(&chain, &store, Usage::Institution, lab.now()))
    };
    let nameless = |t: &mut Template| {
        t.subject = name([(CN, "a")]);
        drop_extension(t, "2.5.29.17");
    };
    assert_eq!(judged(text, &nameless), "ok");
    assert_eq!(judged(&required, &nameless), "institution-code-missing");
    assert_eq!(judged(&required, &|_| {}), "ok");
    let lenient = text.replace(
        r#"hc_role = { absent = "refuse""#,
        r#"hc_role = { absent = "accept""#,
    );
    assert_eq!(judged(&lenient, &|t| drop_extension(t, ROLES)), "ok");
}

#[test]
fn mistakes_in_a_profile_file_are_seen() {
    let text = include_str!("../profiles.toml");
    let person = r#""renkei-test-person"]"#;
    for (from, to) in [
        ("max_validity_days = 732", "max_validity_dayz = 732"),
        (person, r#""renkei-test-nobody"]"#),
        (person, r#""renkei-test-organisation"]"#),
    ] {
        assert!(text.contains(from));
        assert!(
            Profiles::parse(&text.replace(from, to), "test").is_err(),
            "{to}"
        );
    }
    assert!(Profiles::parse(text, "none").is_err());
    let table = Profiles::hpki().unwrap();
    let kinds = |kind| {
        table
            .roles()
            .iter()
            .filter(|role| role.kind() == kind)
            .count()
    };
    assert_eq!(kinds(crate::pki::RoleKind::National), 27);
    assert_eq!(kinds(crate::pki::RoleKind::Manager), 5);
}

/// Bars: T-15, T-16.
#[test]
fn algorithms_narrow_at_their_date_and_verdicts_end_there() {
    let lab = Lab::new();
    let text = include_str!("../profiles.toml").replace(
        "# --- Limits against",
        "[[algorithms.from]]\ndate = \"2026-07-01T00:00:00Z\"\ncurves = [\"P-384\"]\nrsa_min_bits = 3072\n\n\
         [[algorithms.from]]\ndate = \"2026-06-20T00:00:00Z\"\nrsa_min_bits = 2050\n\n# --- Limits against",
    );
    let store = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[lab.pki.issuing_certificate()],
        &lab.pki.crls(),
        Profiles::parse(&text, "test").unwrap(),
        TrustOptions {
            crl_grace: days(60),
            ..TrustOptions::default()
        },
    )
    .unwrap();
    let chain = lab.altered(Kind::Institution, |_| {});
    let judged = |at: &str| judge(&chain, &store, Usage::Institution, at.parse().unwrap());
    let now = lab.now().to_string();
    let first = judged(&now).unwrap();
    let last_second: Timestamp = "2026-06-19T23:59:59Z".parse().unwrap();
    assert!(
        first.verdict_valid_until <= last_second,
        "{}",
        first.verdict_valid_until
    );
    assert_eq!(rule(&judged("2026-06-30T23:59:59Z")), "ok");
    let after = judged("2026-07-01T00:00:00Z");
    assert!(matches!(after, Err(Refusal::Key { .. })), "{after:?}");
    // Weak RSA by the earlier change, given out of order.
    let rsa = |t: &mut Template| {
        let mut modulus = vec![0xc1; 255];
        modulus.push(1);
        let public = der::sequence([der::unsigned(&modulus), der::unsigned(&[1, 0, 1])]);
        let id = der::sequence([der::oid("1.2.840.113549.1.1.1"), vec![5, 0]]);
        t.spki = der::sequence([id, der::bit_string(&public)]);
    };
    let chain = lab.altered(Kind::Institution, rsa);
    let judged = |at: &str| judge(&chain, &store, Usage::Institution, at.parse().unwrap());
    let noted = judged(&now).unwrap();
    assert_eq!(noted.remarks.len(), 1, "RSA 2048 is noted");
    assert_eq!(rule(&judged("2026-06-20T00:00:00Z")), "key");
}
