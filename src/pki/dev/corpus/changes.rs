//! Changes of a certificate that several tables make.

use jiff::Timestamp;

use super::{at, policy, set};
use crate::pki::der::{self, tag};
use crate::pki::dev::DevError;
use crate::pki::dev::template::{Extension, Template, extension};

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

/// Valid from and until so many seconds from now.
pub(super) fn lives(
    now: Timestamp,
    from: i64,
    until: i64,
) -> Result<impl Fn(&mut Template) + use<>, DevError> {
    let (from, until) = (at(now, from)?, at(now, until)?);
    Ok(move |t: &mut Template| {
        t.not_before = from;
        t.not_after = until;
    })
}

/// An extension that nobody knows.
pub(super) fn unknown_extension(critical: bool) -> impl Fn(&mut Template) {
    move |t| {
        let unknown = Extension::new("1.2.392.1", critical, vec![tag::NULL, 0]);
        t.extensions.push(unknown);
    }
}

/// keyUsage with these bits.
pub(super) fn key_usage(bits: &'static [u8]) -> impl Fn(&mut Template) {
    move |t| set(t, extension::key_usage(bits))
}

/// extKeyUsage with these purposes.
pub(super) fn uses(list: &'static [&'static str]) -> impl Fn(&mut Template) {
    move |t| set(t, extension::extended_key_usage(list.iter().copied()))
}

/// certificatePolicies of `list`.
pub(super) fn policy_list(list: &[&'static str]) -> Extension {
    extension::policies(list.iter().copied(), policy::CPS)
}

/// certificatePolicies of `list`, in place of those that are there.
pub(super) fn asserts(list: &'static [&'static str]) -> impl Fn(&mut Template) {
    move |t| set(t, policy_list(list))
}
