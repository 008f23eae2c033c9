//! Paths: who issued whom, how long, and how many ways there are.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::line::{Line, forget_issuer};
use super::{Level, Maker, Trusted, id, set, usage_of};
use crate::pki::Usage;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::{DevKey, Extension};
use crate::pki::dev::{DevError, DevPki, KeyAlgorithm, Kind};

const KINDS: [Kind; 3] = [Kind::Institution, Kind::Gateway, Kind::Person];

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    nobody(maker)?;
    strangers(maker)?;
    lengths(maker)?;
    limits(maker)?;
    maze(maker)?;
    renewed(maker)?;
    roots(maker)
}

fn nobody(maker: &mut Maker) -> Result<(), DevError> {
    for kind in KINDS {
        let name = format!("leaf/path/nothing-presented/{kind}");
        let usage = usage_of(kind);
        maker.add(
            name,
            Level::EndEntity,
            usage,
            Some("no-certificate"),
            Vec::new(),
        );
        let own = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let mut alone = maker.pki.template(&Maker::request(kind), 77, &own)?;
        alone.issuer.clone_from(&alone.subject);
        forget_issuer(&mut alone);
        let chain = vec![CertificateDer::from(alone.sign(&own)?)];
        let name = format!("leaf/path/self-signed/{kind}");
        maker.add(name, Level::EndEntity, usage, Some("issuer-unknown"), chain);
        for (name, authority) in [
            ("the-root", maker.pki.root_certificate()),
            ("the-issuing-ca", maker.pki.issuing_certificate()),
        ] {
            let name = format!("leaf/path/{name}-itself/{kind}");
            let rule = Some("authority-as-end-entity");
            maker.add(name, Level::EndEntity, usage, rule, vec![authority]);
        }
    }
    Ok(())
}

/// CAs of other names, and of the same names with other keys.
fn strangers(maker: &mut Maker) -> Result<(), DevError> {
    let foreign = DevPki::in_memory_foreign(Arc::clone(&maker.clock))?;
    let double = DevPki::in_memory(Arc::clone(&maker.clock))?;
    for kind in KINDS {
        let usage = usage_of(kind);
        let own = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        for (name, expected, pki, forget) in [
            ("another-ca", "issuer-unknown", &foreign, false),
            (
                "a-ca-of-the-same-name",
                "authority-key-identifier",
                &double,
                false,
            ),
            (
                "a-ca-of-the-same-name-by-name-only",
                "signature",
                &double,
                true,
            ),
        ] {
            let mut template = pki.template(&Maker::request(kind), 77, &own)?;
            if forget {
                forget_issuer(&mut template);
            }
            let der = template.sign(&pki.issuing.key)?;
            let mut chain = vec![CertificateDer::from(der)];
            // By name only, it has no issuer but the one of that name that is trusted.
            if !forget {
                chain.push(pki.issuing_certificate());
            }
            let name = format!("leaf/path/{name}/{kind}");
            maker.add(name, Level::EndEntity, usage, Some(expected), chain);
        }
        // An end entity as a CA.
        let above = maker.pki.template(&Maker::request(kind), 77, &own)?;
        let own_der = above.sign(&maker.pki.issuing.key)?;
        let mut below = maker.pki.template(&Maker::request(kind), 79, &own)?;
        below.issuer.clone_from(&above.subject);
        forget_issuer(&mut below);
        let chain = vec![
            CertificateDer::from(below.sign(&own)?),
            CertificateDer::from(own_der),
        ];
        let name = format!("authority/path/an-end-entity/{kind}");
        maker.add(name, Level::Authority, usage, Some("not-authority"), chain);
    }
    Ok(())
}

/// Lines of one to four CAs below the root; five certificates are the limit.
fn lengths(maker: &mut Maker) -> Result<(), DevError> {
    for kind in KINDS {
        for (length, expected) in [(1, None), (2, None), (3, None), (4, Some("chain-length"))] {
            let line = Line::new(maker, kind, length)?;
            let name = format!("authority/path/{length}-cas/{kind}");
            line.configured(maker, &name, expected)?;
        }
        let root = maker.pki.root_certificate();
        let line = Line::new(maker, kind, 1)?;
        let mut chain = vec![line.leaf(maker)?];
        chain.extend(std::iter::repeat_n(root, 19));
        let name = format!("leaf/path/twenty-presented/{kind}");
        let rule = Some("chain-length");
        maker.add(name, Level::EndEntity, usage_of(kind), rule, chain);
    }
    Ok(())
}

/// basicConstraints with pathLenConstraint `limit`.
fn path_length(limit: u8) -> Extension {
    let value = der::sequence([vec![tag::BOOLEAN, 1, 0xff], vec![tag::INTEGER, 1, limit]]);
    Extension::new(id::BASIC_CONSTRAINTS, true, value)
}

/// pathLenConstraint of the highest CA over lines of one to three.
fn limits(maker: &mut Maker) -> Result<(), DevError> {
    for (length, limit, self_issued, expected) in [
        (1, 0, false, None),
        (2, 0, false, Some("path-length")),
        (2, 1, false, None),
        (3, 1, false, Some("path-length")),
        (3, 2, false, None),
        (2, 0, true, None),
    ] {
        for kind in [Kind::Institution, Kind::Person] {
            let mut line = Line::new(maker, kind, length)?;
            let highest = line.nodes.first().map(|node| node.template.subject.clone());
            for (index, node) in line.nodes.iter_mut().enumerate() {
                if index == 0 {
                    set(&mut node.template, path_length(limit));
                }
                if let (true, Some(name)) = (self_issued, &highest) {
                    node.template.subject.clone_from(name);
                    node.list.issuer.clone_from(name);
                }
            }
            line.name_issuers();
            let issued = if self_issued { "-self-issued" } else { "" };
            let name = format!("authority/path/limit-{limit}-of-{length}{issued}/{kind}");
            line.configured(maker, &name, expected)?;
        }
    }
    Ok(())
}

/// CAs of one name and key, configured, of which none leads to the root. The small maze is one that
/// a judge without the limit could still walk through.
fn maze(maker: &mut Maker) -> Result<(), DevError> {
    for (size, kind) in [
        (5, Kind::Institution),
        (5, Kind::Person),
        (50, Kind::Institution),
        (50, Kind::Person),
    ] {
        let line = Line::new(maker, kind, 1)?;
        let Some(node) = line.nodes.first() else {
            continue;
        };
        let mut authorities = Vec::new();
        for serial in 1..=size {
            let mut authority = node.template.clone();
            authority.serial = vec![serial];
            authority.issuer.clone_from(&authority.subject);
            forget_issuer(&mut authority);
            authorities.push(CertificateDer::from(authority.sign(&node.key)?));
        }
        let mut leaf = line.leaf.clone();
        forget_issuer(&mut leaf);
        let chain = vec![CertificateDer::from(leaf.sign(&node.key)?)];
        let name = format!("authority/path/maze-of-{size}/{kind}");
        let rule = Some("path-too-complex");
        let case = maker.add(name, Level::Authority, usage_of(kind), rule, chain);
        case.trusted.authorities = authorities;
        case.trusted.lists.truncate(1);
    }
    Ok(())
}

/// A CA certificate renewed with the same key: the expired one comes first.
fn renewed(maker: &mut Maker) -> Result<(), DevError> {
    for kind in KINDS {
        let line = Line::new(maker, kind, 1)?;
        let Some(node) = line.nodes.first() else {
            continue;
        };
        let mut expired = node.template.clone();
        expired.not_after = maker.at(-1)?;
        let expired = CertificateDer::from(expired.sign(&maker.pki.root.key)?);
        let mut authorities = vec![expired];
        authorities.extend(line.authorities(maker)?);
        let trusted = Trusted {
            roots: vec![maker.pki.root_certificate()],
            lists: line.lists(maker)?,
            authorities,
            renewals: Vec::new(),
        };
        let chain = vec![line.leaf(maker)?];
        let name = format!("authority/path/renewed/{kind}");
        let case = maker.add(name, Level::Authority, usage_of(kind), None, chain);
        case.trusted = trusted;
    }
    Ok(())
}

/// What may stand at the top.
fn roots(maker: &mut Maker) -> Result<(), DevError> {
    let issuing = maker.pki.issuing_certificate();
    let usage = Usage::Institution;
    let own = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
    let template = maker
        .pki
        .template(&Maker::request(Kind::Institution), 77, &own)?;
    let chain = vec![
        CertificateDer::from(template.sign(&maker.pki.issuing.key)?),
        issuing.clone(),
    ];
    for (name, expected, roots) in [
        ("none", "no-root", vec![]),
        ("not-self-signed", "root-not-self-signed", vec![issuing]),
        (
            "an-end-entity",
            "not-authority",
            chain.iter().take(1).cloned().collect(),
        ),
    ] {
        let name = format!("authority/root/{name}");
        let case = maker.add(name, Level::Authority, usage, Some(expected), chain.clone());
        case.trusted.roots = roots;
    }
    Ok(())
}
