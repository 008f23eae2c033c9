//! Every rule of the path and of the CAs on it.

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

type Change = Box<dyn Fn(&mut Template)>;

#[test]
fn a_presented_authority_must_keep_every_rule() {
    let lab = Lab::new();
    let (now, end) = (lab.now(), lab.now() + days(1));
    let cases: Vec<(&str, &str, Change)> = vec![
        (
            "as it should be, but without a list",
            "crl-missing",
            Box::new(|_| {}),
        ),
        (
            "no basicConstraints",
            "not-authority",
            Box::new(|t| drop_extension(t, BASIC)),
        ),
        (
            "cA false",
            "not-authority",
            Box::new(|t| set(t, Extension::new(BASIC, true, vec![0x30, 0]))),
        ),
        (
            "basicConstraints not critical",
            "not-critical",
            Box::new(|t| {
                let mut basic = extension::authority();
                basic.critical = false;
                set(t, basic);
            }),
        ),
        (
            "no keyUsage",
            "key-cert-sign",
            Box::new(|t| drop_extension(t, KEY_USAGE)),
        ),
        (
            "no keyCertSign",
            "key-cert-sign",
            Box::new(|t| set(t, extension::key_usage(&[6]))),
        ),
        (
            "no cRLSign",
            "crl-sign",
            Box::new(|t| set(t, extension::key_usage(&[5]))),
        ),
        (
            "expired",
            "expired",
            Box::new(move |t| t.not_after = now - Duration::from_secs(1)),
        ),
        (
            "not yet valid",
            "not-yet-valid",
            Box::new(move |t| t.not_before = end),
        ),
        (
            "SHA-1",
            "signature-algorithm",
            Box::new(|t| {
                // Its own signature is never reached.
                t.spki = der::sequence([
                    der::sequence([der::oid("1.2.840.10045.2.1"), der::oid("1.3.132.0.35")]),
                    der::bit_string(&[4; 133]),
                ]);
            }),
        ),
        (
            "unknown critical extension",
            "unknown-critical-extension",
            Box::new(|t| {
                t.extensions
                    .push(Extension::new("1.2.392.1", true, vec![5, 0]));
            }),
        ),
        ("version 1", "version", Box::new(|t| t.version = 0)),
        (
            "serial zero",
            "serial-number",
            Box::new(|t| t.serial = vec![0]),
        ),
        (
            "no policies",
            "policy-missing",
            Box::new(|t| drop_extension(t, POLICY)),
        ),
        (
            "anyPolicy",
            "any-policy",
            Box::new(|t| set(t, policies(&["2.5.29.32.0"]))),
        ),
        (
            "another policy",
            "policy-not-accepted",
            Box::new(|t| {
                set(t, policies(&["1.2.392.100495.1.5.1.3.3.1"]));
            }),
        ),
        (
            "wrong authority key",
            "authority-key-identifier",
            Box::new(|t| {
                set(
                    t,
                    extension::authority_key(&[9; 20], &t.issuer.clone(), &[1]),
                );
            }),
        ),
    ];
    for (what, expected, change) in cases {
        let mut branch = Branch::new(&lab, Kind::Institution);
        change(&mut branch.authority);
        if what == "serial zero" {
            let (key, issuer) = (branch.key.key_id(), branch.authority.issuer.clone());
            set(
                &mut branch.leaf,
                extension::authority_key(&key, &issuer, &[0]),
            );
        }
        let outcome = branch.presented(&lab, Usage::Institution);
        let expected = if what == "SHA-1" {
            "signature"
        } else {
            expected
        };
        assert_eq!(rule(&outcome), expected, "{what}: {outcome:?}");
    }
}

#[test]
fn an_authority_with_a_forbidden_algorithm_is_refused_though_the_leaf_is_fine() {
    let lab = Lab::new();
    let mut branch = Branch::new(&lab, Kind::Institution);
    let sha1 = der::sequence([der::oid("1.2.840.10045.4.1")]);
    branch.authority.inner_algorithm = Some(sha1.clone());
    branch.authority.outer_algorithm = Some(sha1);
    // No verification exists for it, so no path is found either; loading it names the reason.
    let refused = TrustStore::from_der(
        &[lab.pki.root_certificate()],
        &[branch.authority_der(&lab)],
        &[],
        Profiles::test().unwrap(),
        TrustOptions::default(),
    );
    assert!(refused.unwrap_err().to_string().contains("ecdsa-with-SHA1"));
    assert_eq!(
        rule(&branch.presented(&lab, Usage::Institution)),
        "signature"
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
