//! Signature algorithms and keys of the end entity.

use super::*;
use crate::pki::der::{self, tag};

fn algorithm(oid: &'static str, null: bool) -> impl Fn(&mut Template) {
    move |t| {
        let parameters = if null { vec![tag::NULL, 0] } else { Vec::new() };
        let identifier = der::sequence([der::oid(oid), parameters]);
        t.inner_algorithm = Some(identifier.clone());
        t.outer_algorithm = Some(identifier);
    }
}

fn key(algorithm: Vec<u8>, bits: Vec<u8>) -> impl Fn(&mut Template) {
    move |t| t.spki = der::sequence([algorithm.clone(), der::bit_string(&bits)])
}

fn rsa(bits: usize, exponent: &'static [u8]) -> impl Fn(&mut Template) {
    let mut modulus = vec![0xc1; bits / 8 - 1];
    modulus.push(1);
    let public = der::sequence([der::unsigned(&modulus), der::unsigned(exponent)]);
    key(
        der::sequence([der::oid("1.2.840.113549.1.1.1"), vec![tag::NULL, 0]]),
        public,
    )
}

fn curve(oid: &str, octets: usize) -> impl Fn(&mut Template) + use<> {
    let id = der::sequence([der::oid("1.2.840.10045.2.1"), der::oid(oid)]);
    key(id, [vec![4], vec![7; octets]].concat())
}

#[test]
fn signature_algorithms() {
    let cases = [
        (
            "SHA-1 RSA",
            "signature-algorithm",
            "1.2.840.113549.1.1.5",
            true,
        ),
        (
            "MD5 RSA",
            "signature-algorithm",
            "1.2.840.113549.1.1.4",
            true,
        ),
        (
            "SHA-1 ECDSA",
            "signature-algorithm",
            "1.2.840.10045.4.1",
            false,
        ),
        (
            "SHA-512 ECDSA",
            "signature-algorithm",
            "1.2.840.10045.4.3.4",
            false,
        ),
        (
            "PSS without parameters",
            "signature-algorithm",
            "1.2.840.113549.1.1.10",
            false,
        ),
        (
            "ECDSA with parameters",
            "signature-algorithm",
            "1.2.840.10045.4.3.2",
            true,
        ),
        (
            "RSA of an EC issuer",
            "signature",
            "1.2.840.113549.1.1.11",
            true,
        ),
        (
            "SHA-384 that is SHA-256",
            "signature",
            "1.2.840.10045.4.3.3",
            false,
        ),
    ];
    run(cases
        .into_iter()
        .map(|(what, rule, oid, null)| case(what, Kind::Institution, rule, algorithm(oid, null)))
        .collect());
}

#[test]
fn keys() {
    const KIND: Kind = Kind::Institution;
    let three: &[u8] = &[3];
    let usual: &[u8] = &[1, 0, 1];
    run(vec![
        case("RSA 1024", KIND, "key", rsa(1024, usual)),
        case("RSA 2040", KIND, "key", rsa(2040, usual)),
        case("RSA 2048", KIND, "ok", rsa(2048, usual)),
        case("RSA 3072", KIND, "ok", rsa(3072, usual)),
        case("RSA 4096", KIND, "ok", rsa(4096, usual)),
        case("RSA 4104", KIND, "key", rsa(4104, usual)),
        case("exponent 3", KIND, "key", rsa(2048, three)),
        case("even exponent", KIND, "key", rsa(2048, &[1, 0, 2])),
        case("P-384", KIND, "ok", curve("1.3.132.0.34", 96)),
        case("P-521", KIND, "key", curve("1.3.132.0.35", 132)),
        case("P-224", KIND, "key", curve("1.3.132.0.33", 56)),
        case(
            "Ed25519",
            KIND,
            "key",
            key(der::sequence([der::oid("1.3.101.112")]), vec![9; 32]),
        ),
    ]);
}

#[test]
fn every_kind_of_key_works_from_issue_to_identity() {
    let mut lab = Lab::new();
    for (key, remarks) in [
        (KeyAlgorithm::EcdsaP256, 0),
        (KeyAlgorithm::EcdsaP384, 0),
        (KeyAlgorithm::Rsa2048, 1),
        (KeyAlgorithm::Rsa3072, 0),
    ] {
        let request = Lab::request(Kind::Institution, key.name()).key(key);
        let issued = lab.pki.issue(&request).unwrap();
        let certified = lab.judge(&issued.chain, Usage::Institution).unwrap();
        assert_eq!(certified.remarks.len(), remarks, "{key}");
        assert_eq!(issued.identity().unwrap().pin(), certified.spki_sha256);
    }
}
