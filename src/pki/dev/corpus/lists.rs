//! Revocation lists: what is loaded, and what they say of end entity and CA.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::line::Line;
use super::{Level, Maker, id, set, usage_of};
use crate::pki::Usage;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::{DevKey, Entry, Extension, ListTemplate, extension};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};

type Change = Box<dyn Fn(&mut ListTemplate)>;

const ISSUING_URI: &str = "http://127.0.0.1/renkei-dev/crl/issuing.crl";

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    templates(maker)?;
    signatures(maker)?;
    numbers(maker)?;
    revoked(maker)?;
    freshness(maker)?;
    missing(maker)
}

/// issuingDistributionPoint of `parts`.
fn scope(parts: Vec<Vec<u8>>) -> Extension {
    Extension::new(id::ISSUING_POINT, true, der::sequence(parts))
}

fn flag(number: u8) -> Vec<u8> {
    der::element(tag::primitive(number), &[0xff])
}

fn point(uri: &str) -> Vec<u8> {
    let names = der::element(tag::constructed(0), &extension::uri(uri));
    der::element(tag::constructed(0), &names)
}

fn put(list: &mut ListTemplate, extension: Extension) {
    list.extensions.retain(|known| known.oid != extension.oid);
    list.extensions.push(extension);
}

/// An end entity as issued, with the issuing CA.
fn leaf(maker: &Maker, kind: Kind) -> Result<Vec<CertificateDer<'static>>, DevError> {
    let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
    let template = maker.pki.template(&Maker::request(kind), 77, &key)?;
    let der = template.sign(&maker.pki.issuing.key)?;
    Ok(vec![
        CertificateDer::from(der),
        maker.pki.issuing_certificate(),
    ])
}

/// Which list of the chain is changed.
#[derive(Clone, Copy)]
enum Which {
    Users,
    Authorities,
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn variants() -> Vec<(&'static str, Option<&'static str>, Change)> {
    let with =
        |extension: Extension| -> Change { Box::new(move |list| put(list, extension.clone())) };
    let without = |oid: &'static str| -> Change {
        Box::new(move |list| list.extensions.retain(|known| known.oid != oid))
    };
    let entry = |critical: bool| -> Change {
        Box::new(move |list| {
            list.entries.push(Entry {
                serial: vec![9],
                revoked_at: list.this_update,
                reason: 1,
                extensions: vec![Extension::new("2.5.29.29", critical, vec![0x30, 0])],
            });
        })
    };
    let algorithm = |oid: &'static str| -> Change {
        Box::new(move |list| list.algorithm = Some(der::sequence([der::oid(oid)])))
    };
    let common = der::sequence([der::oid("2.5.4.3"), der::element(tag::UTF8_STRING, b"CRL1")]);
    let relative = der::element(tag::constructed(1), &common);
    let relative = der::element(tag::constructed(0), &relative);
    let reasons = |bits: &[u8]| with(scope(vec![der::element(tag::primitive(3), bits)]));
    vec![
        ("as-issued", None, Box::new(|_| {})),
        (
            "no-next-update",
            Some("list-no-next-update"),
            Box::new(|list| list.next_update = None),
        ),
        ("no-number", Some("list-no-number"), without(id::CRL_NUMBER)),
        (
            "delta",
            Some("list-delta"),
            with(Extension::new("2.5.29.27", true, vec![2, 1, 1])),
        ),
        (
            "delta-not-critical",
            Some("list-delta"),
            with(Extension::new("2.5.29.27", false, vec![2, 1, 1])),
        ),
        (
            "indirect",
            Some("list-indirect"),
            with(scope(vec![flag(4)])),
        ),
        (
            "attribute-certificates",
            Some("list-partial"),
            with(scope(vec![flag(5)])),
        ),
        ("some-reasons", Some("list-partial"), reasons(&[6, 0x40])),
        (
            "no-reasons-empty-bit-string",
            Some("list-partial"),
            reasons(&[0]),
        ),
        (
            "relative-point",
            Some("list-relative-point"),
            with(scope(vec![relative])),
        ),
        (
            "users-and-authorities",
            Some("list-malformed"),
            with(scope(vec![flag(1), flag(2)])),
        ),
        (
            "unknown-extension",
            None,
            with(Extension::new("1.2.392.1", false, vec![5, 0])),
        ),
        (
            "unknown-critical-extension",
            Some("list-unknown-critical-extension"),
            with(Extension::new("1.2.392.1", true, vec![5, 0])),
        ),
        (
            "entry-of-another-issuer",
            Some("list-unknown-critical-extension"),
            entry(true),
        ),
        ("entry-with-an-extension", None, entry(false)),
        (
            "number-twice",
            Some("list-malformed"),
            Box::new(|list| list.extensions.push(extension::crl_number(9))),
        ),
        (
            "sha1",
            Some("list-signature-algorithm"),
            algorithm("1.2.840.10045.4.1"),
        ),
        (
            "md5",
            Some("list-signature-algorithm"),
            algorithm("1.2.840.113549.1.1.4"),
        ),
        (
            "sha384-that-is-sha256",
            Some("list-signer"),
            algorithm("1.2.840.10045.4.3.3"),
        ),
        (
            "times-reversed",
            Some("list-malformed"),
            Box::new(|list| {
                list.next_update = list
                    .this_update
                    .checked_sub(jiff::SignedDuration::from_secs(1))
                    .ok();
            }),
        ),
        (
            "version-1",
            Some("list-version"),
            Box::new(|list| list.unversioned = true),
        ),
        (
            "algorithms-differ",
            Some("list-algorithms-differ"),
            Box::new(|list| {
                let other = der::sequence([der::oid("1.2.840.10045.4.3.3")]);
                list.outer_algorithm = Some(other);
            }),
        ),
        (
            "point-with-an-unknown-part",
            Some("list-malformed"),
            with(scope(vec![flag(9)])),
        ),
        (
            "point-out-of-order",
            Some("list-malformed"),
            with(scope(vec![flag(2), flag(1)])),
        ),
        (
            "another-name",
            Some("list-signer"),
            Box::new(|list| {
                list.issuer = crate::pki::dev::template::name([("2.5.4.3", "Nobody")]);
            }),
        ),
    ]
}

/// Each list of the chain changed: the issuing CA's, and the root's.
fn templates(maker: &mut Maker) -> Result<(), DevError> {
    for (name, expected, change) in variants() {
        for (which, title) in [(Which::Users, "users"), (Which::Authorities, "authorities")] {
            // The list of the root is one of CAs with a point of its own: another scope is another
            // list, which leaves the CA without one.
            let (mut list, key) = match which {
                Which::Users => (
                    maker.pki.issuing_crl_template(maker.now)?,
                    &maker.pki.issuing.key,
                ),
                Which::Authorities => {
                    (maker.pki.root_crl_template(maker.now)?, &maker.pki.root.key)
                }
            };
            change(&mut list);
            let list: CertificateRevocationListDer<'static> = list.sign(key)?.into();
            let chain = leaf(maker, Kind::Institution)?;
            let name = format!("list/{name}/{title}");
            let case = maker.add(name, Level::List, Usage::Institution, expected, chain);
            let index = match which {
                Which::Users => 1,
                Which::Authorities => 0,
            };
            if let Some(known) = case.trusted.lists.get_mut(index) {
                *known = list;
            }
        }
    }
    let points = [
        ("its-users", None, vec![flag(1)]),
        ("authorities-only", Some("crl-missing"), vec![flag(2)]),
        ("its-point", None, vec![point(ISSUING_URI)]),
        (
            "its-point-and-users",
            None,
            vec![point(ISSUING_URI), flag(1)],
        ),
        (
            "another-point",
            Some("crl-missing"),
            vec![point("http://127.0.0.1/other.crl")],
        ),
    ];
    for (name, expected, parts) in points {
        for kind in [Kind::Institution, Kind::Person] {
            let mut list = maker.pki.issuing_crl_template(maker.now)?;
            put(&mut list, scope(parts.clone()));
            let list = list.sign(&maker.pki.issuing.key)?.into();
            let chain = leaf(maker, kind)?;
            let name = format!("leaf/list-of-{name}/{kind}");
            let case = maker.add(name, Level::EndEntity, usage_of(kind), expected, chain);
            case.trusted.lists.truncate(1);
            case.trusted.lists.push(list);
        }
    }
    let mut users = maker.pki.root_crl_template(maker.now)?;
    put(&mut users, scope(vec![flag(1)]));
    let users = users.sign(&maker.pki.root.key)?.into();
    let chain = leaf(maker, Kind::Institution)?;
    let name = "authority/list-of-users-only".to_owned();
    let expected = Some("crl-missing");
    let case = maker.add(name, Level::Authority, Usage::Institution, expected, chain);
    if let Some(first) = case.trusted.lists.first_mut() {
        *first = users;
    }
    Ok(())
}

/// Forged, damaged and oversized lists.
fn signatures(maker: &mut Maker) -> Result<(), DevError> {
    let template = maker.pki.issuing_crl_template(maker.now)?;
    let good = template.sign(&maker.pki.issuing.key)?;
    let forged = template.sign(&maker.pki.root.key)?;
    let mut flipped = good.clone();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let parts = [template.sign(&maker.pki.issuing.key)?];
    let unsigned = parts
        .first()
        .map(|der| without_signature(der))
        .unwrap_or_default();
    let half = good.get(..good.len() / 2).unwrap_or_default().to_vec();
    for (name, expected, der) in [
        ("forged", "list-signer", forged),
        ("last-bit-flipped", "list-signer", flipped),
        ("empty-signature", "list-signer", unsigned),
        ("cut-short", "list-malformed", half),
        (
            "one-octet-more",
            "list-malformed",
            [good.as_slice(), &[0]].concat(),
        ),
        ("nothing", "list-malformed", Vec::new()),
        (
            "a-certificate",
            "list-malformed",
            maker.pki.root_certificate().to_vec(),
        ),
        ("thirty-three-mebibyte", "list-size", vec![0x30; 33 << 20]),
    ] {
        let chain = leaf(maker, Kind::Institution)?;
        let name = format!("list/{name}/users");
        let case = maker.add(name, Level::List, Usage::Institution, Some(expected), chain);
        case.trusted.lists.truncate(1);
        case.trusted.lists.push(der.into());
    }
    let mut line = Line::new(maker, Kind::Institution, 1)?;
    for node in &mut line.nodes {
        set(&mut node.template, extension::key_usage(&[5]));
    }
    line.configured(maker, "list/signer-without-crl-sign", Some("list-signer"))?;
    if let Some(case) = maker.cases.last_mut() {
        case.level = Level::List;
    }
    Ok(())
}

/// The list with an empty BIT STRING for a signature.
fn without_signature(list: &[u8]) -> Vec<u8> {
    let parts = der::whole(list).and_then(der::Element::children);
    let parts = parts.unwrap_or_default();
    let kept = parts.iter().take(2);
    let mut kept: Vec<Vec<u8>> = kept
        .map(|part| der::element(part.tag, part.content))
        .collect();
    kept.push(der::bit_string(&[]));
    der::sequence(kept)
}

/// A renewal with a higher, the same and a lower number.
fn numbers(maker: &mut Maker) -> Result<(), DevError> {
    for (name, expected, number) in [
        ("higher", None, 9u64),
        ("same", None, 5),
        ("lower", Some("list-number-went-back"), 4),
    ] {
        let mut known = maker.pki.issuing_crl_template(maker.now)?;
        put(&mut known, extension::crl_number(5));
        let mut renewal = known.clone();
        put(&mut renewal, extension::crl_number(number));
        let key = &maker.pki.issuing.key;
        let (known, renewal) = (known.sign(key)?.into(), renewal.sign(key)?.into());
        let chain = leaf(maker, Kind::Institution)?;
        let name = format!("list/number-{name}/users");
        let case = maker.add(name, Level::List, Usage::Institution, expected, chain);
        case.trusted.lists.truncate(1);
        case.trusted.lists.push(known);
        case.trusted.renewals.push(renewal);
    }
    Ok(())
}

/// The end entity, and the CA, on their lists; and another number on them.
fn revoked(maker: &mut Maker) -> Result<(), DevError> {
    let authority = maker.pki.issuing.serial.clone();
    for (name, expected, level, serial) in [
        ("revoked", Some("revoked"), Level::EndEntity, vec![77]),
        ("another-revoked", None, Level::EndEntity, vec![78]),
        ("revoked", Some("revoked"), Level::Authority, authority),
        ("another-revoked", None, Level::Authority, vec![0x7f]),
    ] {
        for kind in [Kind::Institution, Kind::Person] {
            // 8 is removeFromCRL: in a complete list it takes nothing back.
            for reason in [1, 6, 8] {
                let (mut list, key) = match level {
                    Level::Authority => {
                        (maker.pki.root_crl_template(maker.now)?, &maker.pki.root.key)
                    }
                    _ => (
                        maker.pki.issuing_crl_template(maker.now)?,
                        &maker.pki.issuing.key,
                    ),
                };
                list.entries.push(Entry {
                    serial: serial.clone(),
                    revoked_at: maker.now,
                    reason,
                    extensions: Vec::new(),
                });
                let list = list.sign(key)?.into();
                let chain = leaf(maker, kind)?;
                let name = format!("{level}/{name}/{kind}/reason-{reason}");
                let case = maker.add(name, level, usage_of(kind), expected, chain);
                let index = usize::from(level == Level::EndEntity);
                if let Some(known) = case.trusted.lists.get_mut(index) {
                    *known = list;
                }
            }
        }
    }
    Ok(())
}

/// Before, within and past the life of a list, with and without grace.
fn freshness(maker: &mut Maker) -> Result<(), DevError> {
    let life = maker.pki.crl_lifetime().as_secs();
    let grace = 86_400;
    for (name, expected, seconds, grace) in [
        ("at-next-update", None, life, 0),
        ("past-next-update", Some("crl-expired"), life + 1, 0),
        ("within-grace", None, life + 1, grace),
        ("at-the-end-of-grace", None, life + 86_400, grace),
        ("past-grace", Some("crl-expired"), life + 86_401, grace),
        ("issued-by-a-clock-ahead", None, -299, 0),
        ("issued-in-the-future", Some("crl-not-yet-valid"), -301, 0),
    ] {
        for level in [Level::EndEntity, Level::Authority] {
            let moved = maker.at(-seconds)?;
            let list: CertificateRevocationListDer<'static> = if level == Level::Authority {
                let list = maker.pki.root_crl_template(moved)?;
                list.sign(&maker.pki.root.key)?.into()
            } else {
                let list = maker.pki.issuing_crl_template(moved)?;
                list.sign(&maker.pki.issuing.key)?.into()
            };
            let chain = leaf(maker, Kind::Institution)?;
            let name = format!("{level}/list-{name}");
            let case = maker.add(name, level, Usage::Institution, expected, chain);
            case.grace = Duration::from_secs(grace);
            let index = usize::from(level == Level::EndEntity);
            if let Some(known) = case.trusted.lists.get_mut(index) {
                *known = list;
            }
        }
    }
    Ok(())
}

/// No list, of the one CA or the other.
fn missing(maker: &mut Maker) -> Result<(), DevError> {
    let [arl, crl] = maker.pki.crls();
    for kind in [Kind::Institution, Kind::Gateway, Kind::Person] {
        for (name, level, lists) in [
            ("no-list", Level::EndEntity, vec![]),
            ("no-list-of-users", Level::EndEntity, vec![arl.clone()]),
            (
                "no-list-of-authorities",
                Level::Authority,
                vec![crl.clone()],
            ),
        ] {
            let chain = leaf(maker, kind)?;
            let name = format!("{level}/{name}/{kind}");
            let case = maker.add(name, level, usage_of(kind), Some("crl-missing"), chain);
            case.trusted.lists = lists;
        }
    }
    Ok(())
}
