//! Every rule of a CA certificate, kept and violated: with the CA configured, and with the CA only
//! presented by the peer.

use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::changes::{asserts, curve, key_usage, lives, policy_list, rsa, unknown_extension, uses};
use super::line::Line;
use super::{Maker, id, policy, remove, set, usage_of};
use crate::pki::certificate::oid;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::{Extension, Template, extension, name};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};

type Change = Box<dyn Fn(&mut Line, &mut Template)>;

/// A variant of a line of one CA.
struct Variant {
    name: &'static str,
    expected: Option<&'static str>,
    change: Change,
}

/// A change of the CA, and of the end entity (first argument).
fn kept(name: &'static str, change: impl Fn(&mut Template) + 'static) -> Variant {
    Variant {
        name,
        expected: None,
        change: Box::new(move |_, authority| change(authority)),
    }
}

fn broken(
    name: &'static str,
    rule: &'static str,
    change: impl Fn(&mut Template) + 'static,
) -> Variant {
    Variant {
        expected: Some(rule),
        ..kept(name, change)
    }
}

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    let groups = [
        certificates(),
        names(),
        policies(),
        times(maker.now)?,
        constraints(),
    ];
    for variant in groups.into_iter().flatten() {
        for kind in [Kind::Institution, Kind::Person] {
            let line = changed(maker, kind, &variant)?;
            let name = format!("authority/{}/{kind}", variant.name);
            line.configured(maker, &name, variant.expected)?;
            // Presented, a CA has no list that anybody loaded.
            let without = variant.expected.unwrap_or("crl-missing");
            line.presented(maker, &name, without)?;
        }
    }
    keys(maker)?;
    unsigned(maker)?;
    lists_of_others(maker)
}

fn changed(maker: &Maker, kind: Kind, variant: &Variant) -> Result<Line, DevError> {
    let mut line = Line::new(maker, kind, 1)?;
    if let Some(mut node) = line.nodes.pop() {
        (variant.change)(&mut line, &mut node.template);
        node.list.issuer.clone_from(&node.template.subject);
        line.nodes.push(node);
    }
    line.name_issuers();
    Ok(line)
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn certificates() -> Vec<Variant> {
    let algorithm = |oid: &'static str| {
        move |t: &mut Template| {
            let identifier = der::sequence([der::oid(oid)]);
            t.inner_algorithm = Some(identifier.clone());
            t.outer_algorithm = Some(identifier);
        }
    };
    let relaxed = |oid: &'static str| {
        move |t: &mut Template| {
            let known = t.extensions.iter_mut().filter(|known| known.oid == oid);
            known.for_each(|known| known.critical = false);
        }
    };
    vec![
        kept("as-issued", |_| {}),
        broken("version-1", "version", |t| t.version = 0),
        broken("serial-zero", "serial-number", |t| t.serial = vec![0]),
        broken("serial-negative", "serial-number", |t| {
            t.serial = vec![0x80];
        }),
        broken("algorithms-differ", "algorithms-differ", |t| {
            t.inner_algorithm = Some(der::sequence([der::oid("1.2.840.10045.4.3.3")]));
        }),
        broken(
            "sha1",
            "signature-algorithm",
            algorithm("1.2.840.10045.4.1"),
        ),
        broken(
            "md5",
            "signature-algorithm",
            algorithm("1.2.840.113549.1.1.4"),
        ),
        broken(
            "sha512-ecdsa",
            "signature-algorithm",
            algorithm("1.2.840.10045.4.3.4"),
        ),
        broken("rsa-1024", "key", rsa(1024, &[1, 0, 1])),
        broken("p-521", "key", curve("1.3.132.0.35", 132)),
        broken("extension-twice", "duplicate-extension", |t| {
            t.extensions.push(extension::key_usage(&[5, 6]));
        }),
        kept("unknown-extension", unknown_extension(false)),
        broken(
            "unknown-critical-extension",
            "unknown-critical-extension",
            unknown_extension(true),
        ),
        broken("no-basic-constraints", "not-authority", |t| {
            remove(t, id::BASIC_CONSTRAINTS);
        }),
        broken("ca-false", "not-authority", |t| {
            set(
                t,
                Extension::new(id::BASIC_CONSTRAINTS, true, vec![0x30, 0]),
            );
        }),
        broken(
            "basic-constraints-not-critical",
            "not-critical",
            relaxed(id::BASIC_CONSTRAINTS),
        ),
        broken(
            "key-usage-not-critical",
            "not-critical",
            relaxed(id::KEY_USAGE),
        ),
        broken("no-key-usage", "key-cert-sign", |t| {
            remove(t, id::KEY_USAGE);
        }),
        broken("no-key-cert-sign", "key-cert-sign", key_usage(&[6])),
        kept("purpose-client", uses(&["clientAuth"])),
        kept("purpose-any", uses(&["2.5.29.37.0"])),
        broken(
            "purpose-e-mail",
            "extended-key-usage",
            uses(&["1.3.6.1.5.5.7.3.4"]),
        ),
        broken(
            "purpose-time-stamping",
            "extended-key-usage",
            uses(&["1.3.6.1.5.5.7.3.8"]),
        ),
    ]
}

fn names() -> Vec<Variant> {
    let named = |list: &'static [(&'static str, &'static str)]| {
        move |t: &mut Template| t.subject = name(list.iter().copied())
    };
    const CN: &str = oid::COMMON_NAME;
    const OU: &str = oid::ORGANISATIONAL_UNIT;
    const O: &str = oid::ORGANISATION;
    vec![
        kept(
            "two-units-no-common-name",
            named(&[(O, "A"), (OU, "B"), (OU, "C")]),
        ),
        kept("japanese-name", named(&[(O, "連携標本"), (CN, "認証局")])),
        broken("nul-in-name", "subject-text", named(&[(CN, "A\0B")])),
        broken("bidi-in-name", "subject-text", named(&[(CN, "A\u{202e}B")])),
        broken("wrong-authority-key", "authority-key-identifier", |t| {
            let issuer = t.issuer.clone();
            set(t, extension::authority_key(&[9; 20], &issuer, &[1]));
        }),
        broken("wrong-serial-of-issuer", "authority-key-identifier", |t| {
            let (issuer, directory) = (t.issuer.clone(), |name: &[u8]| {
                der::element(tag::constructed(4), name)
            });
            let value = der::sequence([
                der::element(tag::constructed(1), &directory(&issuer)),
                der::element(tag::primitive(2), &[7]),
            ]);
            set(t, Extension::new(id::AUTHORITY_KEY, false, value));
        }),
        broken("unknown-issuer", "issuer-unknown", |t| {
            t.issuer = name([(CN, "Nobody")]);
        }),
    ]
}

fn mappings(pairs: &[(&str, &str)]) -> Extension {
    let pairs = pairs
        .iter()
        .map(|(from, to)| der::sequence([der::oid(from), der::oid(to)]));
    Extension::new(id::POLICY_MAPPINGS, true, der::sequence(pairs))
}

fn policies() -> Vec<Variant> {
    let maps = |pairs: &'static [(&'static str, &'static str)]| {
        move |t: &mut Template| set(t, mappings(pairs))
    };
    let limited = |number: u8, value: u8| {
        move |t: &mut Template| {
            let skip = der::element(tag::primitive(number), &[value]);
            let value = der::sequence([skip]);
            set(t, Extension::new(id::POLICY_CONSTRAINTS, true, value));
        }
    };
    const ORGANISATION: &str = policy::ORGANISATION;
    const PERSON: &str = policy::PERSON;
    vec![
        broken("no-policies", "policy-missing", |t| remove(t, id::POLICIES)),
        broken("any-policy", "any-policy", asserts(&[policy::ANY])),
        kept(
            "any-policy-too",
            asserts(&[policy::ANY, ORGANISATION, PERSON]),
        ),
        broken(
            "signing-policy-only",
            "policy-not-accepted",
            asserts(&[policy::SIGNING]),
        ),
        broken(
            "production-policies-only",
            "policy-not-accepted",
            asserts(&[policy::ORGANISATION_PRODUCTION, policy::PERSON_PRODUCTION]),
        ),
        broken(
            "policy-twice",
            "policy-malformed",
            asserts(&[ORGANISATION, ORGANISATION, PERSON]),
        ),
        broken("empty-policies", "policy-malformed", asserts(&[])),
        broken(
            "any-policy-mapped",
            "policy-malformed",
            maps(&[(policy::ANY, ORGANISATION)]),
        ),
        broken(
            "mapped-to-any-policy",
            "policy-malformed",
            maps(&[(ORGANISATION, policy::ANY)]),
        ),
        broken(
            "policies-mapped-away",
            "policy-not-accepted",
            maps(&[(ORGANISATION, "1.2.3"), (PERSON, "1.2.3")]),
        ),
        broken("foreign-policy-mapped-here", "policy-not-accepted", |t| {
            set(t, policy_list(&["1.2.3"]));
            set(t, mappings(&[("1.2.3", ORGANISATION), ("1.2.3", PERSON)]));
        }),
        kept("another-policy-mapped", maps(&[(policy::SIGNING, "1.2.3")])),
        kept("requires-explicit-policy", limited(0, 0)),
        kept("inhibits-mapping", limited(1, 0)),
        broken("empty-policy-constraints", "policy-malformed", |t| {
            let nothing = der::sequence(Vec::<Vec<u8>>::new());
            set(t, Extension::new(id::POLICY_CONSTRAINTS, true, nothing));
        }),
        kept("inhibits-any-policy", |t| {
            let skip = der::element(tag::INTEGER, &[0]);
            set(t, Extension::new(id::INHIBIT_ANY_POLICY, true, skip));
        }),
    ]
}

fn times(now: Timestamp) -> Result<Vec<Variant>, DevError> {
    let lives = |from, until| lives(now, from, until);
    Ok(vec![
        kept("starts-now", lives(0, 10)?),
        kept("ends-now", lives(-10, 0)?),
        kept("thirty-years", lives(-10, 946_080_000)?),
        broken("starts-in-a-second", "not-yet-valid", lives(1, 10)?),
        broken("ended-a-second-ago", "expired", lives(-10, -1)?),
    ])
}

/// nameConstraints of permitted and excluded `GeneralName`s.
fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Extension {
    let subtrees = |names: &[Vec<u8>], number| {
        let subtrees: Vec<Vec<u8>> = names.iter().map(|name| der::sequence([name])).collect();
        (!names.is_empty()).then(|| der::nest(tag::constructed(number), subtrees))
    };
    let parts = [subtrees(permitted, 0), subtrees(excluded, 1)];
    let value = der::sequence(parts.into_iter().flatten());
    Extension::new(id::NAME_CONSTRAINTS, true, value)
}

/// The names of an end entity that a constraint is tried on.
#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn constraints() -> Vec<Variant> {
    let dns = |text: &str| der::element(tag::primitive(2), text.as_bytes());
    let mail = |text: &str| der::element(tag::primitive(1), text.as_bytes());
    let uri = |text: &str| der::element(tag::primitive(6), text.as_bytes());
    let ip = |octets: &[u8]| der::element(tag::primitive(7), octets);
    let directory =
        |list: &[(&str, &str)]| der::element(tag::constructed(4), &name(list.iter().copied()));
    let network = ip(&[10, 0, 0, 0, 255, 0, 0, 0]);
    let address = ip(&Ipv4Addr::new(10, 9, 8, 7).octets());
    let outside = ip(&Ipv4Addr::new(11, 0, 0, 1).octets());
    let japan = directory(&[(oid::COUNTRY, "JP")]);
    let elsewhere = directory(&[(oid::COUNTRY, "DE")]);
    let host = "https://gw.example.jp/fhir";
    let below = |base: Vec<u8>, name: Vec<u8>| (vec![base], vec![], vec![name]);
    let without = |base: Vec<u8>, name: Vec<u8>| (vec![], vec![base], vec![name]);
    const RULE: Option<&str> = Some("name-constraints");
    let table = [
        (
            "dns-permitted",
            None,
            below(dns("example.jp"), dns("gw.example.jp")),
        ),
        (
            "dns-outside",
            RULE,
            below(dns("example.jp"), dns("gw.badexample.jp")),
        ),
        (
            "dns-excluded",
            RULE,
            without(dns("example.jp"), dns("gw.example.jp")),
        ),
        (
            "dns-not-excluded",
            None,
            without(dns("example.jp"), dns("gw.other.jp")),
        ),
        (
            "wildcard-permitted",
            None,
            below(dns("example.jp"), dns("*.example.jp")),
        ),
        (
            "wildcard-outside",
            RULE,
            below(dns("gw.example.jp"), dns("*.example.jp")),
        ),
        (
            "wildcard-over-excluded",
            RULE,
            without(dns("a.example.jp"), dns("*.example.jp")),
        ),
        (
            "uri-permitted",
            None,
            below(uri("gw.example.jp"), uri(host)),
        ),
        (
            "uri-below-permitted",
            None,
            below(uri(".example.jp"), uri(host)),
        ),
        (
            "uri-below-a-host",
            RULE,
            below(uri("example.jp"), uri(host)),
        ),
        (
            "uri-excluded",
            RULE,
            without(uri("gw.example.jp"), uri(host)),
        ),
        (
            "uri-below-excluded",
            RULE,
            without(uri(".example.jp"), uri(host)),
        ),
        (
            "uri-of-an-address",
            RULE,
            below(uri(".example.jp"), uri("https://10.0.0.1/")),
        ),
        (
            "uri-without-a-host",
            RULE,
            without(uri(".example.jp"), uri("urn:oid:1.2.3")),
        ),
        (
            "ip-permitted",
            None,
            below(network.clone(), address.clone()),
        ),
        ("ip-outside", RULE, below(network.clone(), outside)),
        ("ip-excluded", RULE, without(network, address)),
        (
            "mail-constrained",
            RULE,
            below(mail("example.jp"), mail("a@example.jp")),
        ),
        (
            "directory-permitted",
            None,
            below(japan.clone(), dns("a.jp")),
        ),
        (
            "directory-outside",
            RULE,
            below(elsewhere.clone(), dns("a.jp")),
        ),
        ("directory-excluded", RULE, without(japan, dns("a.jp"))),
        (
            "directory-not-excluded",
            None,
            without(elsewhere, dns("a.jp")),
        ),
    ];
    let variants = table.into_iter().map(|(name, expected, row)| {
        let (permitted, excluded, names) = row;
        Variant {
            name,
            expected,
            change: Box::new(move |line, authority| {
                set(authority, name_constraints(&permitted, &excluded));
                let value = der::sequence(&names);
                set(
                    &mut line.leaf,
                    Extension::new(id::ALTERNATIVE_NAMES, false, value),
                );
            }),
        }
    });
    variants.collect()
}

/// Every kind of key that a CA may have.
fn keys(maker: &mut Maker) -> Result<(), DevError> {
    for algorithm in [
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::Rsa3072,
    ] {
        let line = Line::with_keys(maker, Kind::Institution, &[algorithm])?;
        line.configured(maker, &format!("authority/key-{algorithm}"), None)?;
    }
    Ok(())
}

/// A CA certificate that the root did not sign, though it says so.
fn unsigned(maker: &mut Maker) -> Result<(), DevError> {
    for kind in [Kind::Institution, Kind::Person] {
        let line = Line::new(maker, kind, 1)?;
        let stranger = Line::new(maker, kind, 1)?;
        let (Some(node), Some(other)) = (line.nodes.first(), stranger.nodes.first()) else {
            continue;
        };
        let forged = node.template.sign(&other.key)?.into();
        let flawed = vec![0x30; 70_000].into();
        let cut: Vec<u8> = node.template.sign(&maker.pki.root.key)?;
        let cut = [cut.as_slice(), &[0]].concat().into();
        for (name, expected, authority) in [
            ("forged", "signature", forged),
            ("too-large", "certificate-size", flawed),
            ("one-octet-more", "malformed", cut),
        ] {
            let chain = vec![line.leaf(maker)?, authority];
            let name = format!("authority/{name}/{kind}/presented");
            let usage = usage_of(kind);
            maker.add(name, super::Level::Authority, usage, Some(expected), chain);
        }
    }
    Ok(())
}

/// A CA that may not sign lists, and one whose list another of its name signed.
fn lists_of_others(maker: &mut Maker) -> Result<(), DevError> {
    for kind in [Kind::Institution, Kind::Person] {
        let mut line = Line::new(maker, kind, 1)?;
        for node in &mut line.nodes {
            set(&mut node.template, extension::key_usage(&[5]));
        }
        let authorities = line.authorities(maker)?;
        let chain = vec![line.leaf(maker)?];
        let [arl, _] = maker.pki.crls();
        let case = maker.add(
            format!("authority/no-crl-sign/{kind}/configured"),
            super::Level::EndEntity,
            usage_of(kind),
            Some("crl-sign"),
            chain,
        );
        case.trusted.authorities = authorities;
        case.trusted.lists = vec![arl];
    }
    Ok(())
}
