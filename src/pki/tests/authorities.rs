//! Every rule of the path and of the CAs on it.

use std::slice::from_ref;

use super::*;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::name;

fn subtree(tag_number: u8, content: &[u8]) -> Vec<u8> {
    der::sequence([der::element(tag_number, content)])
}

fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Extension {
    let mut parts = Vec::new();
    if !permitted.is_empty() {
        parts.push(der::nest(tag::constructed(0), permitted));
    }
    if !excluded.is_empty() {
        parts.push(der::nest(tag::constructed(1), excluded));
    }
    Extension::new("2.5.29.30", true, der::sequence(parts))
}

fn path_length(limit: u8) -> Extension {
    let value = der::sequence([vec![tag::BOOLEAN, 1, 0xff], vec![tag::INTEGER, 1, limit]]);
    Extension::new(BASIC, true, value)
}

fn policies(list: &[&str]) -> Extension {
    extension::policies(list.iter().copied(), "http://127.0.0.1/")
}

fn altered(what: &str, expected: &str, change: impl Fn(&mut Template)) {
    let lab = Lab::new();
    let mut branch = Branch::new(&lab, Kind::Institution);
    change(&mut branch.authority);
    // The leaf names its issuer as it now is.
    let (key, issuer) = (branch.key.key_id(), branch.authority.issuer.clone());
    let serial = branch.authority.serial.clone();
    set(
        &mut branch.leaf,
        extension::authority_key(&key, &issuer, &serial),
    );
    let outcome = branch.presented(&lab, Usage::Institution);
    assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
}

#[test]
fn a_presented_authority_must_be_one() {
    altered("as it should be, but without a list", "crl-missing", |_| {});
    altered("no basicConstraints", "not-authority", |t| {
        drop_extension(t, BASIC);
    });
    altered("cA false", "not-authority", |t| {
        set(t, Extension::new(BASIC, true, vec![0x30, 0]));
    });
    altered("basicConstraints not critical", "not-critical", |t| {
        let mut basic = extension::authority();
        basic.critical = false;
        set(t, basic);
    });
    altered("no keyUsage", "key-cert-sign", |t| {
        drop_extension(t, KEY_USAGE);
    });
    altered("no keyCertSign", "key-cert-sign", |t| {
        set(t, extension::key_usage(&[6]));
    });
    altered("no cRLSign", "crl-sign", |t| {
        set(t, extension::key_usage(&[5]));
    });
    altered("keyUsage not critical", "not-critical", |t| {
        let mut usage = extension::key_usage(&[5, 6]);
        usage.critical = false;
        set(t, usage);
    });
}

#[test]
fn a_presented_authority_must_keep_the_other_rules() {
    let lab = Lab::new();
    let (now, end) = (lab.now(), lab.now() + days(1));
    altered("expired", "expired", |t| {
        t.not_after = now - Duration::from_secs(1);
    });
    altered("not yet valid", "not-yet-valid", |t| t.not_before = end);
    altered("SHA-1", "signature-algorithm", |t| {
        let sha1 = der::sequence([der::oid("1.2.840.10045.4.1")]);
        t.inner_algorithm = Some(sha1.clone());
        t.outer_algorithm = Some(sha1);
    });
    altered("algorithms differ", "algorithms-differ", |t| {
        t.inner_algorithm = Some(der::sequence([der::oid("1.2.840.10045.4.3.3")]));
    });
    altered(
        "unknown critical extension",
        "unknown-critical-extension",
        |t| {
            t.extensions
                .push(Extension::new("1.2.392.1", true, vec![5, 0]));
        },
    );
    altered("twice the same extension", "duplicate-extension", |t| {
        t.extensions.push(extension::key_usage(&[5, 6]));
    });
    altered("version 1", "version", |t| t.version = 0);
    altered("serial zero", "serial-number", |t| t.serial = vec![0]);
    altered("no policies", "policy-missing", |t| {
        drop_extension(t, POLICY);
    });
    altered("anyPolicy", "any-policy", |t| {
        set(t, policies(&["2.5.29.32.0"]));
    });
    altered("another policy", "policy-not-accepted", |t| {
        set(t, policies(&["1.2.392.100495.1.5.1.3.3.1"]));
    });
    altered("wrong authority key", "authority-key-identifier", |t| {
        set(
            t,
            extension::authority_key(&[9; 20], &t.issuer.clone(), &[1]),
        );
    });
    altered(
        "wrong serial of its issuer",
        "authority-key-identifier",
        |t| {
            set(
                t,
                extension::authority_key(&lab.pki.root.key.key_id(), &t.issuer.clone(), &[7]),
            );
        },
    );
}

#[test]
fn authorities_that_break_a_rule_are_not_loaded() {
    let lab = Lab::new();
    let mut branch = Branch::new(&lab, Kind::Institution);
    let load = |roots: &[CertificateDer<'_>], others: &[CertificateDer<'_>]| {
        let profiles = Profiles::test().unwrap();
        let store = TrustStore::from_der(roots, others, &[], profiles, TrustOptions::default());
        store.map(|_| ()).map_err(|error| error.to_string())
    };
    let root = lab.pki.root_certificate();
    let issuing = lab.pki.issuing_certificate();
    assert!(load(from_ref(&root), from_ref(&issuing)).is_ok());
    assert!(load(&[], &[]).unwrap_err().contains("no root"));
    assert!(
        load(&[issuing], &[])
            .unwrap_err()
            .contains("not self-signed")
    );
    let forged = CertificateDer::from({
        let mut forged = branch.authority.clone();
        forged.issuer.clone_from(&forged.subject);
        forged.sign(&lab.pki.root.key).unwrap()
    });
    assert!(
        load(&[forged], &[])
            .unwrap_err()
            .contains("not self-signed")
    );
    let leaf = branch.leaf_der();
    assert!(
        load(from_ref(&root), &[leaf])
            .unwrap_err()
            .contains("not a CA")
    );
    let sha1 = der::sequence([der::oid("1.2.840.10045.4.1")]);
    branch.authority.inner_algorithm = Some(sha1.clone());
    branch.authority.outer_algorithm = Some(sha1);
    let weak = branch.authority_der(&lab);
    assert!(
        load(&[root], &[weak])
            .unwrap_err()
            .contains("ecdsa-with-SHA1")
    );
}

#[test]
fn a_configured_authority_with_its_list_is_accepted_and_revocable() {
    let lab = Lab::new();
    let mut branch = Branch::new(&lab, Kind::Institution);
    assert_eq!(rule(&branch.judged(&lab, Usage::Institution)), "ok");
    branch.list.entries.push(crate::pki::dev::template::Entry {
        serial: branch.leaf.serial.clone(),
        revoked_at: lab.now(),
        reason: 1,
        extensions: vec![],
    });
    assert_eq!(rule(&branch.judged(&lab, Usage::Institution)), "revoked");
}

#[test]
fn path_length_is_kept() {
    let lab = Lab::new();
    for (limit, expected) in [
        (Some(0), "path-length"),
        (Some(1), "crl-missing"),
        (None, "crl-missing"),
    ] {
        let mut upper = Branch::new(&lab, Kind::Institution);
        if let Some(limit) = limit {
            set(&mut upper.authority, path_length(limit));
        }
        let mut lower = Branch::new(&lab, Kind::Institution);
        lower.authority.subject = name([("2.5.4.3", "Lower")]);
        lower.authority.issuer.clone_from(&upper.authority.subject);
        let upper_name = upper.authority.issuer.clone();
        set(
            &mut lower.authority,
            extension::authority_key(&upper.key.key_id(), &upper_name, &upper.authority.serial),
        );
        lower.leaf.issuer.clone_from(&lower.authority.subject);
        drop_extension(&mut lower.leaf, AKI);
        let chain = [
            lower.leaf_der(),
            CertificateDer::from(lower.authority.sign(&upper.key).unwrap()),
            upper.authority_der(&lab),
        ];
        let outcome = judge(&chain, &lab.trust(), Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), expected, "{limit:?}: {outcome:?}");
    }
}

#[test]
fn a_path_is_no_longer_than_the_limit() {
    let lab = Lab::new();
    // root, CA 0, …, CA n - 1, leaf; all configured, only the leaf presented.
    for (count, expected) in [(3, "crl-missing"), (4, "chain-length")] {
        let mut authorities = Vec::new();
        let top = Branch::new(&lab, Kind::Institution);
        let mut above = (top.authority.issuer.clone(), None::<DevKey>);
        for index in 0..count {
            let key = DevKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
            let mut authority = lab.pki.authority_template(&key, 500 + index).unwrap();
            authority.issuer.clone_from(&above.0);
            authority.subject = name([("2.5.4.3", format!("CA {index}").as_str())]);
            drop_extension(&mut authority, AKI);
            let signer = above.1.as_ref().unwrap_or(&lab.pki.root.key);
            authorities.push(CertificateDer::from(authority.sign(signer).unwrap()));
            above = (authority.subject, Some(key));
        }
        let mut leaf = top.leaf.clone();
        leaf.issuer.clone_from(&above.0);
        drop_extension(&mut leaf, AKI);
        let chain = [CertificateDer::from(
            leaf.sign(above.1.as_ref().unwrap()).unwrap(),
        )];
        let store = TrustStore::from_der(
            &[lab.pki.root_certificate()],
            &authorities,
            &[],
            Profiles::test().unwrap(),
            TrustOptions::default(),
        );
        let outcome = judge(&chain, &store.unwrap(), Usage::Institution, lab.now());
        assert_eq!(rule(&outcome), expected, "{count}: {outcome:?}");
    }
}

#[test]
fn name_constraints_are_kept() {
    let lab = Lab::new();
    let dns = |text: &str| subtree(tag::primitive(2), text.as_bytes());
    let uri = |text: &str| subtree(tag::primitive(6), text.as_bytes());
    let directory = |dn: Vec<u8>| subtree(tag::constructed(4), &dn);
    let japan = name([("2.5.4.6", "JP")]);
    let france = name([("2.5.4.6", "FR")]);
    let address = |octets: &[u8]| subtree(tag::primitive(7), octets);
    let cases = [
        ("permitted", constraints(&[dns("localhost")], &[]), "ok"),
        (
            "not permitted",
            constraints(&[dns("example.jp")], &[]),
            "name-constraints",
        ),
        (
            "excluded",
            constraints(&[], &[dns("localhost")]),
            "name-constraints",
        ),
        (
            "address permitted",
            constraints(&[address(&[127, 0, 0, 0, 255, 0, 0, 0])], &[]),
            "ok",
        ),
        (
            "address outside",
            constraints(&[address(&[10, 0, 0, 0, 255, 0, 0, 0])], &[]),
            "name-constraints",
        ),
        (
            "directory permitted",
            constraints(&[directory(japan.clone())], &[]),
            "ok",
        ),
        (
            "directory outside",
            constraints(&[directory(france)], &[]),
            "name-constraints",
        ),
        (
            "directory excluded",
            constraints(&[], &[directory(japan)]),
            "name-constraints",
        ),
        (
            "a form the leaf does not have",
            constraints(&[uri("example.jp")], &[]),
            "ok",
        ),
    ];
    for (what, extension, expected) in cases {
        let mut branch = Branch::new(&lab, Kind::Gateway);
        set(&mut branch.authority, extension);
        let outcome = branch.judged(&lab, Usage::Server);
        assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
    }
}

#[test]
fn a_policy_mapped_away_does_not_pass() {
    let lab = Lab::new();
    let own = "1.2.392.100495.1.5.1.3.0.1";
    let mut branch = Branch::new(&lab, Kind::Institution);
    let pair = der::sequence([der::oid(own), der::oid("1.2.392.1")]);
    branch
        .authority
        .extensions
        .push(Extension::new("2.5.29.33", true, der::sequence([pair])));
    assert_eq!(
        rule(&branch.judged(&lab, Usage::Institution)),
        "policy-not-accepted"
    );
    // Only tightening what is tight already: accepted.
    let mut branch = Branch::new(&lab, Kind::Institution);
    let tight = der::sequence([vec![tag::primitive(0), 1, 0]]);
    branch
        .authority
        .extensions
        .push(Extension::new("2.5.29.36", true, tight));
    branch
        .authority
        .extensions
        .push(Extension::new("2.5.29.54", true, vec![2, 1, 0]));
    assert_eq!(rule(&branch.judged(&lab, Usage::Institution)), "ok");
}

#[test]
fn other_authorities_are_refused() {
    let mut lab = Lab::new();
    let mut same_names = Lab::new();
    let chain = same_names.issue(Kind::Institution, Variant::Ok);
    assert_eq!(
        rule(&lab.judge(&chain, Usage::Institution)),
        "authority-key-identifier"
    );
    let unmarked = same_names.altered(Kind::Institution, |t| drop_extension(t, AKI));
    assert_eq!(
        rule(&lab.judge(&unmarked[..1], Usage::Institution)),
        "signature"
    );
    let clock = lab.clock.clone();
    let mut foreign = DevPki::in_memory_foreign(clock).unwrap();
    let issued = foreign
        .issue(&Lab::request(Kind::Institution, "x"))
        .unwrap();
    let mut whole = issued.chain.clone();
    assert_eq!(
        rule(&lab.judge(&whole, Usage::Institution)),
        "issuer-unknown"
    );
    whole.push(foreign.root_certificate());
    assert_eq!(
        rule(&lab.judge(&whole, Usage::Institution)),
        "issuer-unknown"
    );
    let own = lab.issue(Kind::Institution, Variant::Ok);
    let issuing = lab.pki.issuing_certificate();
    assert_eq!(
        rule(&lab.judge(&[issuing], Usage::Institution)),
        "authority-as-end-entity"
    );
    let root = lab.pki.root_certificate();
    assert_eq!(
        rule(&lab.judge(&[root], Usage::Institution)),
        "authority-as-end-entity"
    );
    // Certificates that lead nowhere do no harm.
    let noise = [
        own[0].clone(),
        foreign.root_certificate(),
        chain[1].clone(),
        own[1].clone(),
    ];
    assert_eq!(rule(&lab.judge(&noise, Usage::Institution)), "ok");
}

#[test]
fn a_self_signed_certificate_and_one_issued_by_an_end_entity_are_refused() {
    let lab = Lab::new();
    let key = DevKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let mut own = lab
        .pki
        .template(&Lab::request(Kind::Institution, "x"), 5, &key)
        .unwrap();
    let issued = CertificateDer::from(own.sign(&lab.pki.issuing.key).unwrap());
    let mut below = lab
        .pki
        .template(&Lab::request(Kind::Institution, "y"), 6, &key)
        .unwrap();
    below.issuer.clone_from(&own.subject);
    drop_extension(&mut below, AKI);
    let chain = [CertificateDer::from(below.sign(&key).unwrap()), issued];
    assert_eq!(
        rule(&lab.judge(&chain, Usage::Institution)),
        "not-authority"
    );
    own.issuer.clone_from(&own.subject);
    let chain = [CertificateDer::from(own.sign(&key).unwrap())];
    assert_eq!(
        rule(&lab.judge(&chain, Usage::Institution)),
        "issuer-unknown"
    );
}

#[test]
fn a_maze_costs_a_bounded_number_of_signature_checks() {
    let lab = Lab::new();
    // Twenty CAs of one name and key, configured, of which none leads to the root.
    let mut maze = Vec::new();
    let branch = Branch::new(&lab, Kind::Institution);
    for serial in 1..=20u8 {
        let mut authority = branch.authority.clone();
        authority.serial = vec![serial];
        authority.issuer.clone_from(&authority.subject);
        drop_extension(&mut authority, AKI);
        maze.push(CertificateDer::from(authority.sign(&branch.key).unwrap()));
    }
    let store = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &maze,
        &[],
        Profiles::test().unwrap(),
        TrustOptions::default(),
    )
    .unwrap();
    let mut leaf = branch.leaf.clone();
    drop_extension(&mut leaf, AKI);
    let chain = [CertificateDer::from(leaf.sign(&branch.key).unwrap())];
    let outcome = judge(&chain, &store, Usage::Institution, lab.now());
    assert_eq!(rule(&outcome), "path-too-complex");
}

#[test]
fn the_second_of_two_paths_is_found() {
    let lab = Lab::new();
    // The CA's certificate was renewed with the same key; the expired one is presented first.
    let branch = Branch::new(&lab, Kind::Institution);
    let mut expired = branch.authority.clone();
    expired.not_after = lab.now() - Duration::from_secs(1);
    let expired = CertificateDer::from(expired.sign(&lab.pki.root.key).unwrap());
    let good = branch.authority_der(&lab);
    let [arl, _] = lab.pki.crls();
    let store = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[expired, good],
        &[arl, branch.list_der()],
        Profiles::test().unwrap(),
        TrustOptions::default(),
    )
    .unwrap();
    let outcome = judge(&[branch.leaf_der()], &store, Usage::Institution, lab.now());
    assert_eq!(rule(&outcome), "ok", "{outcome:?}");
}
